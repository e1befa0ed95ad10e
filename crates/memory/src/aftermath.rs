//! What is left to do once a lock is released: wake tasks, drop what others gave us, and whatever
//! concerns more than the mailbox whose lock it was.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use posthaste_core::{Event, Message, Topic};

use crate::copies::{Entry, Unanswered};
use crate::home::Home;

/// Collected under a lock, done without it: wakers and messages belong to others, and whether
/// woken or dropped they may run any code, also code that uses this broker.
#[derive(Debug, Default)]
#[must_use = "the wakers have to be woken after the lock is released"]
pub(crate) struct Aftermath {
    // Seldom more than one of each, so the first of each needs no allocation.
    wake: Option<Waker>,
    spent: Option<Waker>,
    gone: Option<Message>,
    more: Option<Box<More>>,
    errands: Option<Box<Errands>>,
}

/// What comes after the first of each.
#[derive(Debug, Default)]
struct More {
    wake: Vec<Waker>,
    spent: Vec<Waker>,
    gone: Vec<Message>,
}

/// What the broker has to do for a mailbox.
#[derive(Debug)]
struct Errands {
    home: Arc<Home>,
    errands: Vec<(u64, Errand)>,
    unanswered: Vec<Unanswered>,
    events: Vec<Event>,
    leftovers: Vec<Leftovers>,
}

/// Something that concerns more than one mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// The clock is to come by then.
    Visit(Instant),
    /// Copies are to be read back that are in the store alone.
    ReadBack,
    /// So are some of those that wait until a time.
    ReadDelayed,
    /// More of a history is to be read back for this consumer.
    ReadOn(u64),
    /// Copies have died and are to go to the dead-letter queue.
    Bury,
    /// It was cut off: nothing leads there any more.
    CutOff,
    /// It is on its way out and may be empty now.
    Retire,
    /// It is a queue that nobody has used for too long.
    Expire,
}

/// Copies that were dropped together. Looked through and dropped without the lock, because they
/// may be many.
#[derive(Debug)]
pub(crate) struct Leftovers {
    pub(crate) copies: Vec<Entry>,
    /// How many more were in the store alone, and of what queue.
    pub(crate) unread: (usize, Topic),
    pub(crate) subscriber: Option<String>,
    pub(crate) reason: &'static str,
}

impl Aftermath {
    /// Wakes the task later.
    pub(crate) fn wake(&mut self, waker: Waker) {
        match &self.wake {
            None => self.wake = Some(waker),
            Some(_) => self.more().wake.push(waker),
        }
    }

    /// Drops a waker that is of no more use later.
    pub(crate) fn discard(&mut self, waker: Option<Waker>) {
        match (waker, &self.spent) {
            (None, _) => {}
            (Some(waker), None) => self.spent = Some(waker),
            (Some(waker), Some(_)) => self.more().spent.push(waker),
        }
    }

    /// Drops a message later.
    pub(crate) fn forget(&mut self, message: Message) {
        match &self.gone {
            None => self.gone = Some(message),
            Some(_) => self.more().gone.push(message),
        }
    }

    /// Keeps `cx`'s waker in `slot`, cloning only when it is another task's.
    pub(crate) fn remember(&mut self, slot: &mut Option<Waker>, cx: &Context<'_>) {
        if slot.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.discard(slot.replace(cx.waker().clone()));
        }
    }

    /// Has the broker do something for `mailbox` later.
    pub(crate) fn errand(&mut self, home: &Arc<Home>, mailbox: u64, errand: Errand) {
        self.errands(home).errands.push((mailbox, errand));
    }

    /// Tells a requester later that there will be no answer.
    pub(crate) fn unanswered(&mut self, home: &Arc<Home>, unanswered: Unanswered) {
        self.errands(home).unanswered.push(unanswered);
    }

    /// Publishes an event later.
    pub(crate) fn event(&mut self, home: &Arc<Home>, event: Event) {
        self.errands(home).events.push(event);
    }

    /// Looks through copies that were dropped, and drops them, later.
    pub(crate) fn leftovers(&mut self, home: &Arc<Home>, leftovers: Leftovers) {
        self.errands(home).leftovers.push(leftovers);
    }

    /// Does it all; no lock may be held.
    #[inline]
    pub(crate) fn run(self) {
        if let Some(first) = self.wake {
            first.wake();
        }
        if let Some(more) = self.more {
            more.wake.into_iter().for_each(Waker::wake);
        }
        if let Some(errands) = self.errands {
            errands.run();
        }
    }

    #[cold]
    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    fn errands(&mut self, home: &Arc<Home>) -> &mut Errands {
        self.errands.get_or_insert_with(|| {
            Box::new(Errands {
                home: Arc::clone(home),
                errands: Vec::new(),
                unanswered: Vec::new(),
                events: Vec::new(),
                leftovers: Vec::new(),
            })
        })
    }
}

impl Errands {
    fn run(self) {
        let visits = self.errands.iter().filter_map(|(mailbox, errand)| match errand {
            Errand::Visit(at) => Some((*mailbox, *at)),
            _ => None,
        });
        visits.for_each(|(mailbox, at)| self.home.schedule.visit(mailbox, at));
        // A broker that is gone has nobody to tell and nothing to do.
        let Some(engine) = self.home.engine() else { return };
        for unanswered in &self.unanswered {
            engine.answer(unanswered);
        }
        for event in &self.events {
            engine.publish(event);
        }
        for leftovers in self.leftovers {
            engine.look_through(leftovers);
        }
        for (mailbox, errand) in self.errands {
            engine.run_errand(mailbox, errand);
        }
    }
}
