//! Copies on their way to another queue: dead letters, and those that are replayed. A copy stays
//! here until the other queue has taken it, so that none is lost in between.

use std::sync::Arc;
use std::time::Instant;

use posthaste_core::Message;

use super::{Ending, Phase, State};
use crate::aftermath::{Aftermath, Errand};
use crate::aside::Why;
use crate::books::reason;
use crate::copies::{Entry, Letter, Origin};
use crate::mailbox::Mailbox;
use crate::wait::Ticket;

/// What became of a copy that was to move.
pub(crate) enum Moved {
    /// The other queue has it.
    There,
    /// It stays; at this place on the list it waits for room.
    Not(Option<(Arc<Mailbox>, Ticket)>),
}

/// A copy that is taken out to be replayed.
pub(crate) struct Replay {
    pub(crate) position: u64,
    pub(crate) message: Message,
    pub(crate) origin: Origin,
    /// Until when it is to wait, should it stay.
    due: Option<Instant>,
}

/// What may be replayed next.
pub(crate) enum NextReplay {
    Copy(Replay),
    /// It has to be read back first.
    InStore,
    Nothing,
}

impl State {
    // ---- burials

    /// Begins to bury what died, unless that goes on already, and hands over the place on the
    /// list at which the last burial ended.
    pub(crate) fn begin_burial(&mut self) -> Option<Option<(Arc<Mailbox>, Ticket)>> {
        if self.burial.phase != Phase::Idle {
            self.burial.phase = Phase::RunningAgain;
            return None;
        }
        self.burial.phase = Phase::Running;
        let waits_at = self.burial.waits_at.take();
        Some(waits_at.and_then(|(mailbox, ticket)| Some((mailbox.upgrade()?, ticket))))
    }

    /// The next copy to bury; `None` ends the burial.
    pub(crate) fn next_burial(&mut self, after: &mut Aftermath) -> Option<Letter> {
        while let Some(position) = self.burial.dying.pop_front() {
            let Some((entry, Why::Dying)) = self.aside.take(position) else { continue };
            let letter = entry.message.clone();
            let letter = entry.death().and_then(|death| letter.with_death(death));
            match letter.zip(self.settings.queue.dead_letter.clone()) {
                Some((message, to)) => {
                    self.aside.put(entry, Why::Moving);
                    return Some(Letter { position, message, to, origin: self.origin(position) });
                }
                None => self.drop_quietly(entry, reason::DEAD_LETTER_LOOP, after),
            }
        }
        self.burial.phase = Phase::Idle;
        None
    }

    /// A copy was buried, or cannot be now; says whether the burial goes on.
    pub(crate) fn buried(&mut self, position: u64, moved: Moved, after: &mut Aftermath) -> bool {
        let Some((entry, _)) = self.aside.take(position) else {
            return true;
        };
        match moved {
            Moved::There => {
                self.books.dead_lettered += 1;
                self.arrived(entry, after);
                return true;
            }
            Moved::Not(_) if self.is_closed_now() => {
                self.drop_closed(entry, after);
                return true;
            }
            Moved::Not(waits_at) => {
                self.aside.put(entry, Why::Dying);
                self.burial.dying.push_front(position);
                self.burial.waits_at =
                    waits_at.map(|(mailbox, ticket)| (Arc::downgrade(&mailbox), ticket));
            }
        }
        let again = self.burial.phase == Phase::RunningAgain;
        self.burial.phase = if again { Phase::Running } else { Phase::Idle };
        again
    }

    // ---- replays

    /// The next copy behind `behind` and before `end` that is not handed out, if it is in memory.
    pub(crate) fn next_replay(&mut self, behind: Option<u64>, end: u64) -> NextReplay {
        let found = self.take_replay(behind, end);
        match found {
            None if self.lanes.pages().begin() < end => NextReplay::InStore,
            found => found.map_or(NextReplay::Nothing, NextReplay::Copy),
        }
    }

    fn take_replay(&mut self, behind: Option<u64>, end: u64) -> Option<Replay> {
        let delayed = self.aside.behind(behind).find(|(_, why)| matches!(why, Why::Delayed(_)));
        let delayed = delayed.map(|(entry, _)| entry.position);
        let ready = self.lanes.position_after(behind);
        let position = ready.into_iter().chain(delayed).min()?;
        if position > self.lanes.pages().begin() || position >= end {
            return None;
        }
        let due = match self.aside.get(position) {
            Some((_, Why::Delayed(due))) => Some(*due),
            _ => None,
        };
        let entry = self.take_out(position)?;
        let message = entry.message.clone();
        self.aside.put(entry, Why::Moving);
        Some(Replay { position, message, origin: self.origin(position), due })
    }

    /// A copy has moved, or goes back to its place.
    pub(crate) fn replayed(&mut self, replay: &Replay, has_moved: bool, after: &mut Aftermath) {
        let Some((entry, _)) = self.aside.take(replay.position) else {
            return;
        };
        if has_moved {
            self.books.acked += 1;
            self.arrived(entry, after);
        } else if self.is_closed_now() {
            self.drop_closed(entry, after);
        } else {
            self.mind(&entry);
            self.place(entry, replay.due, after);
        }
    }

    fn origin(&self, position: u64) -> Origin {
        self.keep.as_ref().map(|keep| (keep.queue, position))
    }

    fn arrived(&mut self, entry: Entry, after: &mut Aftermath) {
        self.touch();
        self.close_copy(&entry, after);
        after.forget(entry.message);
        self.retire_if_closed(after);
    }

    fn is_closed_now(&self) -> bool {
        matches!(self.ending, Ending::Closed(_))
    }

    fn drop_closed(&mut self, entry: Entry, after: &mut Aftermath) {
        if let Ending::Closed(reason) = self.ending {
            self.drop_quietly(entry, reason, after);
            self.retire_if_closed(after);
        }
    }

    fn retire_if_closed(&mut self, after: &mut Aftermath) {
        if self.is_closed_now() {
            self.errand(Errand::Retire, after);
        }
    }
}
