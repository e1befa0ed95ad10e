//! Where a broker keeps what has to outlive its process: the changes of its durable queues, noted
//! one behind the other by somebody else, as `posthaste-log` does on a disk.

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use posthaste_core::{Death, Error, Level, Message, Pattern, QueueSettings, Topic};

use crate::home::later;

mod pages;

pub use pages::{Paged, Pages};

/// Notes changes, in order, and says how safe they are.
///
/// Every change that is noted has its *place*, and later ones have later places. By places the store
/// also says up to where everything has reached a [level](Level): `Held` when it is noted, `Written`,
/// and `Stored`.
///
/// What is before the first place that a copy still needs may be forgotten, and the [`Host`] is asked
/// to note again what else it needs of that.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Notes a change behind all others, and says at which place. Never waits, and takes no lock of a
    /// broker.
    fn note(&self, change: &Change<'_>) -> u64;

    /// Copies are gone: their places are needed no more. With each place comes the size of its
    /// message.
    fn release(&self, copies: &[(u64, usize)]);

    /// Reads copies back, in the order in which they are named. They are [written](Level::Written).
    /// Blocks.
    ///
    /// # Errors
    /// `Internal` if one of them is not what it was, or cannot be read: the text says where.
    fn read(&self, copies: &[Paged]) -> Result<Vec<Kept>, Error>;

    /// How many bytes of messages that wait in queues, what each takes beside its content included,
    /// are to be in memory: what is more is read back when it is needed.
    fn memory_bytes(&self) -> usize;

    /// Whose changes it notes.
    fn attach(&self, host: Weak<dyn Host>);

    /// Up to where changes were noted.
    fn noted(&self) -> u64;

    /// Up to where everything has reached the level.
    fn reached(&self, level: Level) -> u64;

    /// Ready when everything up to `upto` has reached the level.
    ///
    /// # Errors
    /// Why it never will, as far as is known.
    fn poll_reached(
        &self,
        upto: u64,
        level: Level,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>>;

    /// Ready when there is room for another message of so many bytes.
    ///
    /// # Errors
    /// Why there is none.
    fn poll_room(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
}

/// Whose changes a store notes: a broker.
pub trait Host: Send + Sync {
    /// Notes again what is not about single copies and was noted before this place.
    fn renew(&self, before: u64);

    /// Notes the copies again whose places are before this one.
    fn relocate(&self, before: u64);

    /// Notes every queue as it is now, so that what was noted before needs not be gone through to know
    /// it; false if something is just on its way from one queue to another, and not all of them are.
    fn snapshot(&self) -> bool;
}

/// What changes in a durable queue. Times are those of the wall clock, since the Unix epoch.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Change<'a> {
    /// It is there, with these settings.
    Declared {
        /// Its number, which no other queue of the store has ever.
        queue: u64,
        /// Its name.
        name: &'a Topic,
        /// What it is like.
        settings: &'a QueueSettings,
        /// What is copied into it.
        bindings: &'a [Pattern],
        /// The position of the next copy.
        next_position: u64,
    },
    /// It is gone.
    Deleted {
        /// Which.
        queue: u64,
    },
    /// A part of it as it is: some of the copies that are in the store alone. It counts once the
    /// [`Snapshot`](Self::Snapshot) is noted to which it belongs, and nothing is noted of the queue between.
    Part {
        /// Of which queue.
        queue: u64,
        /// Which part, from 0 on.
        nth: u64,
        /// Whether these wait until a time, as `delayed` says there.
        delayed: bool,
        /// The copies, which come behind those of the parts before.
        pages: &'a Pages,
    },
    /// It is like this, whatever was noted of it before; the ids that it has had follow.
    Snapshot {
        /// Which.
        queue: u64,
        /// Its name.
        name: &'a Topic,
        /// What it is like.
        settings: &'a QueueSettings,
        /// What is copied into it.
        bindings: &'a [Pattern],
        /// The position of the next copy.
        next_position: u64,
        /// How many parts of it were noted right before.
        parts: u64,
        /// Copies that wait, and are in none of these: those that are in memory, and those that are in the store alone.
        waiting: [&'a Pages; 2],
        /// The same for copies that only wait until a time and never expire, each with that time in the
        /// place of when it expires.
        delayed: [&'a Pages; 2],
        /// The other copies, in no order.
        others: &'a [Standing],
    },
    /// It has had messages of these ids, and when.
    Ids {
        /// Which.
        queue: u64,
        /// The ids, oldest first.
        ids: &'a [(Arc<str>, Duration)],
    },
    /// A copy came in, or has another place from now on.
    Put {
        /// Into which queue.
        queue: u64,
        /// The copy.
        copy: &'a Kept,
        /// The copy of another queue that this one takes the place of: its queue and its position.
        from: Option<(u64, u64)>,
    },
    /// A copy was handed out once more.
    Handed {
        /// Of which queue.
        queue: u64,
        /// Which copy.
        position: u64,
    },
    /// A copy that was handed out came back, or died and waits to go to the dead-letter queue.
    Back {
        /// To which queue.
        queue: u64,
        /// Which copy.
        position: u64,
        /// How often it counts as handed out.
        attempts: u32,
        /// Until when it waits.
        due: Option<Duration>,
        /// Why its attempts failed.
        death: Option<&'a Death>,
        /// Whether it died.
        dying: bool,
    },
    /// A copy is gone.
    Gone {
        /// From which queue.
        queue: u64,
        /// Which copy.
        position: u64,
        /// Its place, and the size of its message.
        released: (u64, usize),
    },
    /// All copies before a position are gone, but for a few.
    Purged {
        /// Of which queue.
        queue: u64,
        /// Before which position.
        before: u64,
        /// Which are not, in order.
        but: &'a [u64],
    },
}

/// What there is to a copy of a durable queue beside its message. Times are those of the wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it is.
    pub paged: Paged,
    /// Whether it may be in the store alone, as long as nothing happens to it.
    pub may_be_paged: bool,
    /// How often it was handed out.
    pub attempts: u32,
    /// Until when it waits.
    pub due: Option<Duration>,
    /// Why its attempts failed.
    pub death: Option<Death>,
    /// Whether it died, and waits to go to the dead-letter queue.
    pub dying: bool,
    /// Whether it is handed out and not settled.
    pub out: bool,
}

/// A copy of a message in a durable queue. Times are those of the wall clock.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Where in the queue.
    pub position: u64,
    /// Its place in the store.
    pub place: u64,
    /// The message.
    pub message: Message,
    /// When it came; zero if it only has another place from now on.
    pub came: Duration,
    /// How often it was handed out.
    pub attempts: u32,
    /// Until when it waits.
    pub due: Option<Duration>,
    /// When its queue has no more use for it.
    pub expires: Option<Duration>,
    /// When nobody has any use for it.
    pub deadline: Option<Duration>,
    /// Why its attempts failed.
    pub death: Option<Death>,
    /// Whether it died, and waits to go to the dead-letter queue.
    pub dying: bool,
    /// Whether it is handed out and not settled.
    pub out: bool,
}

/// The time of the monotonic clock at which the wall clock shows `wall`, where they show `now` and
/// `unix` now. A time that the monotonic clock has not, because it began later, is now.
#[must_use]
pub fn time_of(wall: Duration, now: Instant, unix: Duration) -> Instant {
    let then = now.checked_sub(unix.saturating_sub(wall)).unwrap_or(now);
    later(then, wall.saturating_sub(unix))
}

/// A queue as it was when the process before this one ended.
#[derive(Debug, Clone)]
pub struct KeptQueue {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: Topic,
    /// What it is like.
    pub settings: QueueSettings,
    /// What is copied into it.
    pub bindings: Vec<Pattern>,
    /// The position of the next copy.
    pub next_position: u64,
    /// What is in it that did not simply come and wait, in order.
    pub copies: Vec<Kept>,
    /// What waits until a time and never expires, each with that time in the place of when it expires.
    pub delayed: Pages,
    /// The rest of what is in it.
    pub pages: Pages,
    /// The ids that it has had, and when, in that order.
    pub ids: Vec<(Arc<str>, Duration)>,
}

/// The store of one queue, as the queue sees it.
#[derive(Debug, Clone)]
pub(crate) struct Keep {
    pub(crate) store: Arc<dyn Store>,
    /// The queue's number there.
    pub(crate) queue: u64,
    /// Where its declaration was noted last.
    pub(crate) declared: u64,
}

impl Keep {
    pub(crate) fn gone(&self, position: u64, released: (u64, usize)) {
        self.store.note(&Change::Gone { queue: self.queue, position, released });
    }

    pub(crate) fn handed(&self, position: u64) {
        self.store.note(&Change::Handed { queue: self.queue, position });
    }

    pub(crate) fn deleted(&self) {
        self.store.note(&Change::Deleted { queue: self.queue });
    }

    pub(crate) fn purged(&self, before: u64, but: &[u64]) {
        self.store.note(&Change::Purged { queue: self.queue, before, but });
    }
}
