//! What a client owes: what was sent to it and is not settled, by the session's number, and the
//! requests among that which may be cancelled.

use std::collections::VecDeque;
use std::task::Context;

use posthaste_core::task::{Child, ReadySet};
use posthaste_core::{Delivery, DeliveryParts, Kind, Lease, Outcome, Parts};

/// What was sent and is not settled yet.
pub(super) struct Owed {
    /// The number of the first place.
    first: u64,
    places: VecDeque<Place>,
    /// What became of messages that have no lease, for a broker that wants to know.
    accounts: Option<Accounts>,
}

/// What became of messages that the broker handed out settled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Accounts {
    /// How many came to the application.
    pub(super) taken: u64,
    /// How many never will.
    pub(super) lost: u64,
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
    pub(super) is_request: bool,
    /// There is none where the broker has settled it already.
    pub(super) lease: Option<Lease>,
}

impl From<Delivery> for Sent {
    fn from(delivery: Delivery) -> Self {
        let DeliveryParts { message, attempt, missed, lease } = delivery.into_parts();
        let is_request = message.kind() == Kind::Request;
        Self { parts: message.into_parts(), attempt, missed, is_request, lease }
    }
}

impl Sent {
    fn settle(self, outcome: Outcome<'_>, accounts: &mut Option<Accounts>) {
        if let Some(lease) = self.lease {
            lease.settle(outcome);
        } else if let Some(accounts) = accounts {
            match outcome {
                Outcome::Ack | Outcome::Taken => accounts.taken += 1,
                _ => accounts.lost += 1,
            }
        }
    }
}

impl Owed {
    /// Nothing yet; `accounts` if the broker wants to know what becomes of what has no lease.
    pub(super) fn new(accounts: bool) -> Self {
        let accounts = accounts.then(Accounts::default);
        Self { first: 1, places: VecDeque::new(), accounts }
    }

    /// What became of messages without a lease since this was asked last.
    pub(super) fn take_accounts(&mut self) -> Option<Accounts> {
        let accounts = std::mem::take(self.accounts.as_mut()?);
        (accounts.taken > 0 || accounts.lost > 0).then_some(accounts)
    }

    /// The next message; its number.
    pub(super) fn push(&mut self, sent: Sent) -> u64 {
        let number = self.end();
        self.places.push_back(Place::Owed(sent));
        number
    }

    /// Settles a message that was not sent and is not going to be.
    pub(super) fn settle_never_sent(&mut self, sent: Sent, outcome: Outcome<'_>) {
        sent.settle(outcome, &mut self.accounts);
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

    /// The client has everything up to `received`. What is not settled of that and matters to the
    /// broker is told again; what the broker has settled long ago is settled now.
    pub(super) fn received(&mut self, received: u64) -> Vec<u64> {
        let mut open = Vec::new();
        let matters = self.accounts.is_some();
        for (number, place) in (self.first..=received).zip(&mut self.places) {
            match place {
                Place::Owed(sent) if matters || sent.lease.is_some() => open.push(number),
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
        place(&mut self.places, self.first, number)
    }

    /// Settles what is not settled of a range. What is settled is passed over in long steps, which
    /// grow longer with every visit: a client that names the same numbers again and again costs
    /// next to nothing.
    pub(super) fn settle(&mut self, first: u64, last: u64, outcome: Outcome<'_>) {
        let end = self.end().min(last.saturating_add(1));
        if first <= self.first {
            // By far the most usual: the oldest of all.
            while self.first < end
                && let Some(place) = self.places.pop_front()
            {
                self.first += 1;
                if let Place::Owed(sent) = place {
                    sent.settle(outcome, &mut self.accounts);
                }
            }
            return self.trim();
        }
        let begin = first;
        let mut reached = begin;
        while reached < end
            && let Some(place) = place(&mut self.places, self.first, reached)
        {
            match place {
                Place::Settled(next) => reached = *next,
                owed => {
                    reached += 1;
                    if let Place::Owed(sent) = std::mem::replace(owed, Place::Settled(reached)) {
                        sent.settle(outcome, &mut self.accounts);
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
        self.trim();
    }

    fn trim(&mut self) {
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

    /// Settles everything that is left: that up to `last` in one way, what is behind it in another.
    pub(super) fn settle_all(&mut self, last: u64, upto: Outcome<'_>, behind: Outcome<'_>) {
        let end = self.end();
        let first = std::mem::replace(&mut self.first, end);
        for (number, place) in (first..).zip(std::mem::take(&mut self.places)) {
            if let Place::Owed(sent) = place {
                sent.settle(if number <= last { upto } else { behind }, &mut self.accounts);
            }
        }
    }
}

fn place(places: &mut VecDeque<Place>, first: u64, number: u64) -> Option<&mut Place> {
    places.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
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
        let mut owed = Owed::new(false);
        for _ in 0..5 {
            let (head, payload) = (Bytes::new(), Bytes::new());
            let parts = Parts { head, payload, attributes: 0, correlation: 0, deadline: None };
            owed.push(Sent { parts, attempt: 1, missed: 0, is_request: false, lease: None });
        }
        owed.settle(1, 3, Outcome::Ack);
        assert_eq!(owed.after(0).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(owed.after(4).collect::<Vec<_>>(), [5]);
        assert_eq!(owed.after(5).count(), 0);
    }
}
