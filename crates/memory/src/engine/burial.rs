//! Dead letters: how copies that died get to the dead-letter queue, or wait for room there.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use posthaste_core::Topic;
use posthaste_core::task::lock;

use super::Engine;
use crate::copies::{Admission, Entrance, Letter};
use crate::mailbox::Mailbox;
use crate::state::{Moved, State};

impl Engine {
    /// Moves what died in `source` to its dead-letter queue, first in, first out, for as long as
    /// there is room. Where there is none the first one waits, and its burial begins again when
    /// room was made.
    pub(crate) fn bury(&self, source: &Arc<Mailbox>) {
        let Some(waited) = source.with(|state, _| state.begin_burial()) else {
            return;
        };
        let engine = self.home.weak_engine();
        let waker = Waker::from(Arc::new(Digger { engine, source: Arc::downgrade(source) }));
        let mut goes_on = true;
        while goes_on && let Some(letter) = source.with(State::next_burial) {
            let position = letter.position;
            let moved = self.put_into_grave(letter, &waker);
            goes_on = source.with(|state, after| state.buried(position, moved, after));
        }
        if let Some((target, ticket)) = waited {
            target.leave_blocked(ticket);
        }
    }

    fn put_into_grave(&self, letter: Letter, waker: &Waker) -> Moved {
        let mut slot = Some(letter.message);
        while let Some(target) = self.open_dead_letters(&letter.to) {
            match target.admit(&mut slot, Entrance::Burial(waker, letter.origin)) {
                Admission::Taken => return Moved::There,
                Admission::Full(ticket) => {
                    return Moved::Not(ticket.map(|ticket| (target, ticket)));
                }
                Admission::Refused(_) | Admission::Draining => return Moved::Not(None),
                // It was deleted meanwhile; there may be another of that name.
                Admission::Gone => {}
            }
        }
        Moved::Not(None)
    }

    /// The queue for dead letters, which is declared if it is not there.
    fn open_dead_letters(&self, name: &Topic) -> Option<Arc<Mailbox>> {
        let mut registry = lock(&self.registry);
        if let Some(queue) = registry.queues.get(name) {
            return Some(Arc::clone(queue));
        }
        if self.is_draining() {
            return None;
        }
        let queue = registry.open_queue(name).ok();
        self.reroute(&registry);
        queue
    }
}

/// Buries on when there is room again.
struct Digger {
    engine: Weak<Engine>,
    source: Weak<Mailbox>,
}

impl Wake for Digger {
    fn wake(self: Arc<Self>) {
        if let (Some(engine), Some(source)) = (self.engine.upgrade(), self.source.upgrade()) {
            engine.bury(&source);
        }
    }
}
