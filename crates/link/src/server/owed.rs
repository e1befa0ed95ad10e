//! What a client owes: what was sent to it and is not settled, by the session's number, and the
//! requests among that which may be cancelled.

use std::collections::VecDeque;
use std::task::Context;

use posthaste_core::task::{Child, ReadySet};
use posthaste_core::{Lease, Outcome, Parts};

/// What was sent and is not settled yet.
pub(super) struct Owed {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Place>,
}

/// What became of one message that was sent.
enum Place {
    Owed(Sent),
    /// It is settled, and so is everything before this number.
    Settled(u64),
}

/// A message that was sent, kept because the client may not get it.
pub(super) struct Sent {
    pub(super) parts: Parts,
    pub(super) attempt: u32,
    pub(super) missed: u64,
    /// There is none where the broker has settled it already.
    pub(super) lease: Option<Lease>,
}

impl Sent {
    fn settle(self, outcome: Outcome<'_>) {
        if let Some(lease) = self.lease {
            lease.settle(outcome);
        }
    }
}

impl Owed {
    pub(super) fn new() -> Self {
        Self { first: 1, places: VecDeque::new() }
    }

    /// The next message; its number.
    pub(super) fn push(&mut self, sent: Sent) -> u64 {
        let number = self.end();
        self.places.push_back(Place::Owed(sent));
        number
    }

    /// The number of the next message.
    fn end(&self) -> u64 {
        self.first + wide(self.places.len())
    }

    /// The number of the last message that was sent.
    pub(super) fn last(&self) -> u64 {
        self.end() - 1
    }

    /// A message that was sent and is not settled.
    pub(super) fn get(&mut self, number: u64) -> Option<&Sent> {
        match self.place(number)? {
            Place::Owed(sent) => Some(sent),
            Place::Settled(_) => None,
        }
    }

    /// The client has everything up to `received`. What is leased of that and not settled is told
    /// again; what the broker has settled long ago is settled now.
    pub(super) fn received(&mut self, received: u64) -> Vec<u64> {
        let mut open = Vec::new();
        for (number, place) in (self.first..=received).zip(&mut self.places) {
            match place {
                Place::Owed(sent) if sent.lease.is_some() => open.push(number),
                Place::Owed(_) => *place = Place::Settled(number + 1),
                Place::Settled(_) => {}
            }
        }
        open
    }

    /// The numbers after `received` of what may not be settled.
    pub(super) fn after(&self, received: u64) -> impl Iterator<Item = u64> + use<> {
        (received + 1).max(self.first)..self.end()
    }

    fn place(&mut self, number: u64) -> Option<&mut Place> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.places.get_mut(at)
    }

    /// Settles what is not settled of a range. What is settled is passed over in long steps, which
    /// grow longer with every visit: a client that names the same numbers again and again costs
    /// next to nothing.
    pub(super) fn settle(&mut self, first: u64, last: u64, outcome: Outcome<'_>) {
        let begin = first.max(self.first);
        let end = self.end().min(last.saturating_add(1));
        let mut reached = begin;
        while reached < end
            && let Some(place) = self.place(reached)
        {
            match place {
                Place::Settled(next) => reached = *next,
                leased => {
                    reached += 1;
                    if let Place::Owed(sent) = std::mem::replace(leased, Place::Settled(reached)) {
                        sent.settle(outcome);
                    }
                }
            }
        }
        let mut number = begin;
        while number < end
            && let Some(Place::Settled(next)) = self.place(number)
        {
            number = std::mem::replace(next, reached);
        }
        while let Some(Place::Settled(_)) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
    }

    /// One message is still being worked on.
    pub(super) fn extend(&mut self, number: u64) {
        if let Some(Sent { lease: Some(lease), .. }) = self.get(number) {
            lease.extend();
        }
    }

    /// What is left, with the numbers.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, Lease)> {
        let end = self.end();
        let first = std::mem::replace(&mut self.first, end);
        (first..).zip(std::mem::take(&mut self.places)).filter_map(|(number, place)| match place {
            Place::Owed(sent) => Some((number, sent.lease?)),
            Place::Settled(_) => None,
        })
    }
}

/// The requests among what was sent, for as long as they may be cancelled.
///
/// They have one waker together, apart from the link's own: it is rare that one is cancelled, and
/// all of them are looked at when that happens, but then alone.
pub(super) struct Watch {
    ready: ReadySet,
    number: usize,
    /// There is none before the first request.
    child: Option<Child>,
    /// Requests that were sent, in order; those that are settled go when something is added.
    requests: VecDeque<u64>,
    /// Cancelled, and the client is to be told.
    cancelled: Vec<u64>,
    /// Cancelled, and the client was told on this connection; kept until they are settled.
    told: Vec<u64>,
}

impl Watch {
    /// A watch that marks `number` in `ready` when a request may have been cancelled.
    pub(super) fn new(ready: ReadySet, number: usize) -> Self {
        let (requests, cancelled, told) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { ready, number, child: None, requests, cancelled, told }
    }

    /// Goes on watching the requests of `before`, which watched them for another connection. What
    /// that told may be lost with it, so it is told again.
    pub(super) fn go_on(&mut self, before: Self, owed: &mut Owed) {
        self.cancelled = before.cancelled;
        for number in before.requests.into_iter().chain(before.told) {
            self.add(owed, number);
        }
    }

    /// Watches a request that was just sent.
    pub(super) fn add(&mut self, owed: &mut Owed, number: u64) {
        while self.requests.front().is_some_and(|oldest| *oldest < owed.first) {
            self.requests.pop_front();
        }
        let child = self.child.get_or_insert_with(|| self.ready.add(self.number));
        let mut cx = Context::from_waker(child.polling());
        if is_cancelled(owed, number, &mut cx) == Some(true) {
            self.cancelled.push(number);
        } else {
            self.requests.push_back(number);
        }
    }

    /// Looks which requests have been cancelled.
    pub(super) fn look(&mut self, owed: &mut Owed) {
        let Some(child) = &self.child else { return };
        let mut cx = Context::from_waker(child.polling());
        self.told.retain(|number| owed.get(*number).is_some());
        let cancelled = &mut self.cancelled;
        self.requests.retain(|number| match is_cancelled(owed, *number, &mut cx) {
            Some(false) => true,
            Some(true) => {
                cancelled.push(*number);
                false
            }
            None => false,
        });
    }

    /// Has `tell` say what was cancelled; what it cannot say now is kept for the next time.
    pub(super) fn tell(&mut self, mut tell: impl FnMut(u64) -> bool) {
        if !self.cancelled.is_empty() {
            self.told.extend(self.cancelled.extract_if(.., |number| tell(*number)));
        }
    }
}

/// Whether a request is cancelled; `None` if it is settled.
fn is_cancelled(owed: &mut Owed, number: u64, cx: &mut Context<'_>) -> Option<bool> {
    let lease = owed.get(number)?.lease.as_ref()?;
    Some(lease.poll_cancelled(cx).is_ready())
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_settled_and_gone_is_not_sent_again_however_little_the_client_says_it_has() {
        let mut owed = Owed::new();
        for _ in 0..5 {
            let (head, payload) = (Bytes::new(), Bytes::new());
            let parts = Parts { head, payload, attributes: 0, correlation: 0, deadline: None };
            owed.push(Sent { parts, attempt: 1, missed: 0, lease: None });
        }
        owed.settle(1, 3, Outcome::Ack);
        assert_eq!(owed.after(0).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(owed.after(4).collect::<Vec<_>>(), [5]);
        assert_eq!(owed.after(5).count(), 0);
    }
}
