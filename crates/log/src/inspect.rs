//! Looking into the folder of a broker that is stopped: what is in it, and whether all of it is sound.
//! Nothing is changed.

use std::fmt;
use std::time::Duration;

use posthaste_core::Heads;

use crate::change::{self, Read, Snapshot};
use crate::declared::declared;
use crate::error::{Damage, LogError};
use crate::examine::{examine, rest_of};
use crate::planted::Planted;
use crate::record::Record;
use crate::recovery::{Queue, Queues};
use crate::storage::Storage;

/// What a folder has in it.
///
/// ```
/// use posthaste_core::{Broker, Message, SenderExt, SenderOptions, Topic};
/// use posthaste_log::storage::Simulated;
/// use posthaste_log::{Contents, Durable, LogOptions};
/// use posthaste_smol::Smol;
///
/// # smol::block_on(async {
/// let disk = Simulated::new();
/// let (broker, _) = Durable::open(Smol::global(), disk.clone(), LogOptions::default()).await?;
/// let mut sender = broker.sender(SenderOptions::new()).await?;
/// sender.send(Message::to_queue(Topic::new("orders")?, "seven apples")).await?;
/// broker.close().await?;
///
/// let found = Contents::of(&disk, |line| println!("{line}"))?;
/// assert!(found.damage.is_empty());
/// assert_eq!((found.queues.len(), found.queues[0].messages), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Contents {
    /// How many segments there are.
    pub segments: usize,
    /// How many records are in them.
    pub records: u64,
    /// Where the first record is, and where the next one would be.
    pub positions: (u64, u64),
    /// Everything that is damaged. What was there is not known.
    pub damage: Vec<Damage>,
    /// Where the end is torn, if it is: as far as can be told it was being written, and goes when the broker is
    /// started.
    pub torn: Option<Damage>,
    /// The queues, as far as they can be told.
    pub queues: Vec<QueueContents>,
}

/// What a queue has in it.
#[derive(Debug)]
#[non_exhaustive]
pub struct QueueContents {
    /// Its name.
    pub name: String,
    /// How many messages are in it.
    pub messages: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many of them were handed out and not settled.
    pub unsettled: u64,
    /// Where the oldest record is that one of them needs.
    pub needs_from: Option<u64>,
}

/// A record, as it is shown.
#[derive(Debug)]
#[non_exhaustive]
pub struct Line {
    /// Where it is.
    pub position: u64,
    /// What it is: `put`, `handed`, `back`, `gone`, `declared`, `deleted`, `purged`, `snapshot` or `ids`.
    pub kind: &'static str,
    /// The number of the queue that it is about.
    pub queue: u64,
    /// The rest, for people.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, kind, queue, text } = self;
        write!(f, "{position:>12} {kind:<8} queue {queue}{text}")
    }
}

impl Contents {
    /// Goes through all that is there, and shows every record.
    ///
    /// # Errors
    /// `Storage`, if it cannot be read. Damage is none.
    pub fn of(storage: &dyn Storage, mut show: impl FnMut(Line)) -> Result<Self, LogError> {
        let mut queues = Queues::new(Duration::ZERO, Planted::default());
        let (mut damage, mut strange, mut heads) = (Vec::new(), Vec::new(), Heads::default());
        let mut look = |record: Record<'_>| match change::decode(record, &mut heads) {
            Ok(change) => {
                show(line(record.position, &change));
                queues.apply(change);
            }
            Err(error) => strange.push((record.position, error)),
        };
        let mut start = None;
        let found = examine(
            storage,
            true,
            &mut |record| {
                start.get_or_insert(record.position);
                look(record);
            },
            &mut |found| {
                damage.push(found);
                Ok(())
            },
        )?;
        if let Some((_, error)) = strange.into_iter().next() {
            return Err(LogError::Strange(error));
        }
        // Behind what was written there are zeros, unless the power went meanwhile.
        let torn = match (found.torn, found.segments.last()) {
            (Some(torn), Some(last)) => {
                let rest = rest_of(&*last.blob, torn.offset).map_err(LogError::storage(READING))?;
                (!rest.is_empty()).then_some(torn)
            }
            _ => None,
        };
        Ok(Self {
            segments: found.segments.len(),
            records: found.records,
            positions: (start.unwrap_or(found.end), found.end),
            damage,
            torn,
            queues: queues.iter().map(contents).collect(),
        })
    }
}

const READING: &str = "reading the log";

fn contents(queue: &Queue) -> QueueContents {
    QueueContents {
        name: queue.name().map(ToString::to_string).unwrap_or_default(),
        messages: queue.copies().count() as u64,
        bytes: queue.copies().map(|copy| copy.size as u64).sum(),
        unsettled: queue.unsettled() as u64,
        needs_from: queue.copies().map(|copy| copy.place).min(),
    }
}

fn line(position: u64, change: &Read<'_>) -> Line {
    let (kind, queue, text) = match change {
        Read::Declared { queue, name, settings, bindings, .. } => {
            ("declared", queue, format!(": {}", declared(name, settings, bindings)))
        }
        Read::Deleted { queue } => ("deleted", queue, String::new()),
        Read::Part { queue, nth, pages, .. } => {
            ("part", queue, format!(" {nth} of a snapshot: {} messages", pages.len()))
        }
        Read::Snapshot { queue, snapshot } => {
            let Snapshot { name, settings, bindings, parts, .. } = &**snapshot;
            let (queue_is, count) = (declared(name, settings, bindings), snapshot.copies());
            let before = match parts {
                0 => String::new(),
                _ => format!(", and those of the {parts} parts before"),
            };
            ("snapshot", queue, format!(": {queue_is}; {count} messages{before}"))
        }
        Read::Ids { queue, ids } => ("ids", queue, format!(": {} remembered", ids.len())),
        Read::Put { queue, copy, from } => {
            let from = from.map_or_else(String::new, |(queue, position)| {
                format!(", from queue {queue} message {position}")
            });
            let (topic, bytes) = (copy.message.topic(), copy.payload_bytes());
            let text = format!(" message {}: {topic}, {bytes} bytes{from}", copy.position);
            ("put", queue, text)
        }
        Read::Handed { queue, position } => ("handed", queue, format!(" message {position}")),
        Read::Back { queue, position, back } => {
            let died = if back.dying { ", died" } else { "" };
            ("back", queue, format!(" message {position}: attempts {}{died}", back.attempts))
        }
        Read::Gone { queue, position } => ("gone", queue, format!(" message {position}")),
        Read::Purged { queue, before, but } => {
            ("purged", queue, format!(" before message {before}, but {}", but.len()))
        }
    };
    Line { position, kind, queue: *queue, text }
}
