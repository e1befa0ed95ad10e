//! What becomes of a copy that was handed out.

use std::task::{Context, Poll};
use std::time::Duration;

use posthaste_core::{Death, Message, Outcome};

use super::{Ending, State};
use crate::aftermath::{Aftermath, Errand};
use crate::agenda::Due;
use crate::aside::Why;
use crate::books::reason;
use crate::copies::Entry;
use crate::home::later;
use crate::leases::Lease;
use crate::mailbox::Role;

impl State {
    /// Settles a lease whose copy is done with, if nobody waits for that and nothing comes of it
    /// but that the copy is gone; else nothing has happened.
    #[inline]
    pub(crate) fn settle_plainly(&mut self, tag: u64, outcome: Outcome<'_>) -> Option<Message> {
        let plain = matches!(outcome, Outcome::Ack | Outcome::Taken)
            && self.usual
            && self.blocked.is_empty()
            && self.stalled.is_none()
            && self.leases.get_mut(tag).is_some_and(|lease| lease.is_plain());
        if !plain || self.consumers.is_anybody_stalled() {
            return None;
        }
        let lease = self.leases.remove(tag)?;
        if let Some(consumer) = self.consumers.get_mut(lease.consumer) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
        }
        match outcome {
            Outcome::Taken => self.books.auto += 1,
            _ => self.books.acked += u64::from(!self.home.planted.forgets_acked_count),
        }
        Some(lease.entry.message)
    }

    /// Settles a lease; one that is gone already is left alone.
    pub(crate) fn settle(&mut self, tag: u64, outcome: Outcome<'_>, after: &mut Aftermath) {
        let Some(mut lease) = self.leases.remove(tag) else {
            return;
        };
        if let Some(rare) = lease.take_rare() {
            if let Some(due) = rare.due {
                self.agenda.remove(due, Due::TimedOut(tag));
            }
            after.discard(rare.waker);
        }
        if let Some(consumer) = self.consumers.get_mut(lease.consumer) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
            if let Some(waker) = consumer.stalled.take() {
                after.wake(waker);
            }
        }
        self.touch();
        self.close_lease(lease, outcome, after);
        if self.leases.len() == 0 && self.ending != Ending::Open {
            self.errand(Errand::Retire, after);
        }
    }

    /// The consumer's time for a delivery begins anew.
    pub(crate) fn extend(&mut self, tag: u64) {
        if let Some(due) = self.leases.get_mut(tag).and_then(Lease::take_due) {
            self.agenda.remove(due, Due::TimedOut(tag));
            self.begin_time(tag);
        }
    }

    /// Ready when nobody wants the answer to a delivery any more.
    pub(crate) fn poll_cancelled(
        &mut self,
        tag: u64,
        cx: &Context<'_>,
        after: &mut Aftermath,
    ) -> Poll<()> {
        match self.leases.get_mut(tag) {
            Some(lease) if lease.cancelled => Poll::Ready(()),
            Some(lease) => {
                after.remember(&mut lease.rare().waker, cx);
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    /// Ends a lease: the copy is gone, or waits again.
    fn close_lease(&mut self, lease: Lease, outcome: Outcome<'_>, after: &mut Aftermath) {
        let Lease { entry, cancelled, .. } = lease;
        match outcome {
            Outcome::Ack => {
                self.books.acked += u64::from(!self.home.planted.forgets_acked_count);
                self.close_copy(&entry, after);
                after.forget(entry.message);
            }
            Outcome::Taken => {
                self.books.auto += 1;
                self.close_copy(&entry, after);
                after.forget(entry.message);
            }
            Outcome::Lost => self.drop_copy(entry, reason::CONNECTION_LOST, after),
            Outcome::Reject { why } => self.die(entry, why, reason::REJECTED, after),
            _ if cancelled => self.drop_quietly(entry, reason::CANCELLED, after),
            Outcome::Dropped if entry.is_request() => {
                // At most once: nobody knows how far the responder got.
                self.drop_copy(entry, reason::RESPONDER_LOST, after);
            }
            Outcome::Release => self.give_back(entry, None, after),
            Outcome::Retry { after: delay, why } => {
                self.give_back(entry, Some((delay, why)), after);
            }
            Outcome::Dropped => {
                self.give_back(entry, Some((Duration::ZERO, "dropped unsettled")), after);
            }
        }
    }

    /// The consumer has taken too long: the copy goes to another.
    pub(super) fn time_out(&mut self, tag: u64, after: &mut Aftermath) {
        if let Some(lease) = self.leases.get_mut(tag)
            && !lease.entry.is_request()
        {
            let why = "the consumer took too long";
            self.settle(tag, Outcome::Retry { after: Duration::ZERO, why }, after);
        } else {
            self.settle(tag, Outcome::Dropped, after);
        }
    }

    /// A copy waits again; `failed` is after which delay, and why, if the attempt counts.
    pub(super) fn give_back(
        &mut self,
        mut entry: Entry,
        failed: Option<(Duration, &str)>,
        after: &mut Aftermath,
    ) {
        if let Ending::Closed(reason) = self.ending {
            return self.drop_copy(entry, reason, after);
        }
        if self.is_orphan(&entry) {
            return self.drop_copy(entry, reason::RESPONDER_LOST, after);
        }
        let mut due = None;
        match failed {
            None => entry.attempts = entry.attempts.saturating_sub(1),
            Some((_, why)) if self.has_failed_enough(&entry) => {
                return self.die(entry, why, reason::MAX_ATTEMPTS, after);
            }
            Some((delay, why)) => {
                if self.home.planted.loses_retried {
                    self.books.acked += 1;
                    return self.close_copy(&entry, after);
                }
                self.note_reason(&mut entry, why);
                let backoff = self.settings.queue.backoff_after(entry.attempts);
                let delay = if delay.is_zero() { backoff } else { delay };
                if !delay.is_zero() {
                    due = self.home.now().map(|now| later(now, delay));
                }
            }
        }
        if self.home.planted.requeues_at_the_tail && self.keys.is_none() {
            entry.position = self.next_position;
            self.next_position += 1;
        }
        self.note_back(&entry, due, false);
        self.mind(&entry);
        self.place(entry, due, after);
    }

    fn has_failed_enough(&self, entry: &Entry) -> bool {
        let most = self.settings.queue.max_attempts;
        entry.attempts >= most && !self.home.planted.never_gives_up
    }

    /// A request that waits in a queue for nobody, although it did not say that it waits. (Groups
    /// and subscriptions are gone with their last consumer.)
    pub(super) fn is_orphan(&self, entry: &Entry) -> bool {
        self.role == Role::Queue
            && self.consumers.is_empty()
            && entry.is_request()
            && !entry.message.waits()
    }

    /// Keeps why an attempt failed, for the history of a dead letter.
    fn note_reason(&self, entry: &mut Entry, why: &str) {
        if self.settings.queue.dead_letter.is_some() {
            let first = || Death::new(self.name.clone(), 0, Duration::ZERO);
            entry.death_mut().get_or_insert_with(first).add_reason(why);
        }
    }

    /// A copy will not be handed out again: it goes to the dead-letter queue, if there is one
    /// where it has not died yet.
    fn die(&mut self, mut entry: Entry, why: &str, reason: &'static str, after: &mut Aftermath) {
        // Who rejects a request has seen it, and says so itself.
        let tell = reason != reason::REJECTED;
        if tell && entry.is_request() {
            after.unanswered(&self.home, entry.to_unanswered());
        }
        let to = match self.ending {
            Ending::Closed(_) => None,
            Ending::Open | Ending::Draining => self.settings.queue.dead_letter.as_ref(),
        };
        let Some(to) = to else {
            return self.drop_quietly(entry, reason, after);
        };
        if entry.message.deaths().any(|death| death.queue == *to) {
            return self.drop_quietly(entry, reason::DEAD_LETTER_LOOP, after);
        }
        self.note_reason(&mut entry, why);
        let attempts = entry.attempts;
        if let Some(death) = entry.death_mut() {
            death.attempts = attempts;
            death.at = self.home.unix_time();
        }
        self.note_back(&entry, None, true);
        self.let_key_go_on(&entry, after);
        self.burial.dying.push_back(entry.position);
        self.aside.put(entry, Why::Dying);
        self.errand(Errand::Bury, after);
    }
}
