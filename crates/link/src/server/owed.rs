//! What a client owes: what was sent to it and is not settled, by the session's number, and the
//! requests among that which may be cancelled.

use std::collections::VecDeque;
use std::task::Context;

use bytes::Buf;
use posthaste_core::task::{Child, ReadySet};
use posthaste_core::{Delivery, DeliveryParts, Kind, Lease, Message, Outcome, Parts};
use posthaste_wire::Payloads;

/// So many settled places are kept before they are looked through.
const SETTLED_MIN: usize = 64;

/// What was sent and is not settled yet.
pub(super) struct Owed {
    /// In the order of their numbers, which may leave some out: those are settled.
    places: VecDeque<Place>,
    /// How many of the places are settled.
    settled: usize,
    /// The number of the next message.
    next: u64,
    /// What became of messages that have no lease, for a broker that wants to know.
    accounts: Option<Accounts>,
}

/// What became of messages that the broker handed out settled.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// How many came to the application.
    pub(super) taken: u64,
    /// Those that never will, and why.
    pub(super) written_off: Vec<(Parts, Outcome<'static>)>,
}

/// A message, or a run of them, that was sent.
struct Place {
    /// The number of the first.
    first: u64,
    what: What,
}

enum What {
    Owed(Sent),
    /// It is settled, and so is everything before this number.
    Settled(u64),
}

/// A message, or a run of them, that was sent, kept because the client may not get it.
pub(super) struct Sent {
    pub(super) parts: Parts,
    pub(super) attempt: u32,
    pub(super) missed: u64,
    /// Where in the queue that is read it is.
    pub(super) offset: Option<u64>,
    pub(super) is_request: bool,
    /// There is none where the broker has settled it already.
    pub(super) lease: Option<Lease>,
}

impl From<Delivery> for Sent {
    fn from(delivery: Delivery) -> Self {
        let DeliveryParts { message, attempt, missed, offset, lease } = delivery.into_parts();
        let is_request = message.kind() == Kind::Request;
        Self { parts: message.into_parts(), attempt, missed, offset, is_request, lease }
    }
}

impl Sent {
    /// How many messages it is.
    pub(super) fn count(&self) -> u64 {
        u64::from(self.parts.count)
    }

    fn settle(self, outcome: Outcome<'_>, accounts: &mut Option<Accounts>) {
        if let Some(lease) = self.lease {
            lease.settle(outcome);
        } else if let Some(accounts) = accounts {
            accounts.add(self.parts, outcome);
        }
    }

    /// Takes the first messages off a run, of which more are left.
    pub(super) fn take_first(&mut self, count: u64) -> Self {
        let mut payloads = Payloads::of_run(&self.parts.payload);
        let taken = payloads.by_ref().zip(0..count).count();
        let len = self.parts.payload.len() - payloads.as_bytes().len();
        self.split_first(u32::try_from(taken).unwrap_or(u32::MAX), len)
    }

    /// Splits the first messages, whose payloads take up `len` bytes, off a run.
    pub(super) fn split_first(&mut self, count: u32, len: usize) -> Self {
        let mut parts = self.parts.clone();
        parts.payload.truncate(len);
        parts.count = count;
        self.parts.payload.advance(len);
        self.parts.count -= count;
        self.make_one_of_the_last();
        let Self { attempt, missed, offset, is_request, .. } = *self;
        let mut first = Self { parts, attempt, missed, offset, is_request, lease: None };
        first.make_one_of_the_last();
        first
    }

    /// What is left of a run when there is but one message in it is that message.
    fn make_one_of_the_last(&mut self) {
        if self.parts.count == 1 {
            self.parts.payload.advance(Message::RUN_PREFIX.min(self.parts.payload.len()));
        }
    }

    /// The messages of a run, one by one.
    fn each(self) -> Vec<Self> {
        let Self { parts, attempt, missed, offset, is_request, lease: _ } = self;
        let one = |piece| {
            let parts =
                Parts { payload: parts.payload.slice_ref(piece), count: 1, ..parts.clone() };
            Self { parts, attempt, missed, offset, is_request, lease: None }
        };
        Payloads::of_run(&parts.payload).map(one).collect()
    }
}

impl Accounts {
    fn add(&mut self, parts: Parts, outcome: Outcome<'_>) {
        let outcome = match outcome {
            Outcome::Ack | Outcome::Taken => {
                self.taken += u64::from(parts.count);
                return;
            }
            Outcome::Release => Outcome::Release,
            Outcome::Reject { .. } => Outcome::Reject { why: "" },
            _ => Outcome::Lost,
        };
        self.written_off.push((parts, outcome));
    }
}

impl Owed {
    /// Nothing yet; `accounts` if the broker wants to know what becomes of what has no lease.
    pub(super) fn new(accounts: bool) -> Self {
        let accounts = accounts.then(Accounts::default);
        Self { places: VecDeque::new(), settled: 0, next: 1, accounts }
    }

    /// What became of messages without a lease since this was asked last.
    pub(super) fn take_accounts(&mut self) -> Option<Accounts> {
        let accounts = std::mem::take(self.accounts.as_mut()?);
        (accounts.taken > 0 || !accounts.written_off.is_empty()).then_some(accounts)
    }

    /// The next message or run; the number of its last.
    pub(super) fn push(&mut self, sent: Sent) -> u64 {
        let first = self.next;
        self.next += sent.count();
        self.places.push_back(Place { first, what: What::Owed(sent) });
        self.last()
    }

    /// Settles a message that was not sent and is not going to be.
    pub(super) fn settle_never_sent(&mut self, sent: Sent, outcome: Outcome<'_>) {
        sent.settle(outcome, &mut self.accounts);
    }

    /// The number of the last message that was sent.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// The oldest number that is not settled.
    fn oldest(&self) -> u64 {
        self.places.front().map_or(self.next, |place| place.first)
    }

    /// A message that was sent and is not settled, unless it is part of a run.
    pub(super) fn get(&mut self, number: u64) -> Option<&Sent> {
        let place = self.places.get(self.find(number).ok()?)?;
        match &place.what {
            What::Owed(sent) => Some(sent),
            What::Settled(_) => None,
        }
    }

    /// The place that begins with a number, or where it would be.
    fn find(&self, number: u64) -> Result<usize, usize> {
        self.places.binary_search_by_key(&number, |place| place.first)
    }

    /// The client has everything up to `received`. What is not settled of that and matters to the
    /// broker is told again; what the broker has settled long ago is settled now. From then on there
    /// are no runs among what is owed.
    pub(super) fn received(&mut self, received: u64) -> Vec<u64> {
        self.take_apart_all();
        let mut open = Vec::new();
        let matters = self.accounts.is_some();
        for place in self.places.iter_mut().take_while(|place| place.first <= received) {
            match &place.what {
                What::Owed(sent) if matters || sent.lease.is_some() => open.push(place.first),
                What::Owed(_) => {
                    place.what = What::Settled(place.first + 1);
                    self.settled += 1;
                }
                What::Settled(_) => {}
            }
        }
        open
    }

    /// The numbers after `received` of what is not settled.
    pub(super) fn after(&self, received: u64) -> impl Iterator<Item = u64> {
        let owed =
            move |place: &&Place| place.first > received && matches!(place.what, What::Owed(_));
        self.places.iter().filter(owed).map(|place| place.first)
    }

    /// Settles what is not settled of a range. What is settled is passed over in long steps, which
    /// grow longer with every visit: a client that names the same numbers again and again costs
    /// next to nothing.
    pub(super) fn settle(&mut self, first: u64, last: u64, outcome: Outcome<'_>) {
        let last = last.min(self.last());
        if first <= self.oldest() {
            // By far the most usual: the oldest of all.
            return self.settle_oldest(last, outcome);
        }
        let mut at = match self.find(first) {
            Ok(at) => at,
            // It may be in the middle of a run.
            Err(at) => {
                self.take_apart(at.saturating_sub(1), first);
                self.find(first).unwrap_or_else(|at| at)
            }
        };
        let mut reached = first;
        while let Some(place) = self.places.get_mut(at).filter(|place| place.first <= last) {
            match &mut place.what {
                What::Settled(until) => {
                    reached = reached.max(*until);
                    at = self.find(reached).unwrap_or_else(|at| at);
                }
                What::Owed(sent) if sent.count() > last - place.first + 1 => {
                    let number = place.first;
                    self.take_apart(at, number);
                }
                What::Owed(sent) => {
                    reached = place.first + sent.count();
                    let owed = std::mem::replace(&mut place.what, What::Settled(reached));
                    if let What::Owed(sent) = owed {
                        sent.settle(outcome, &mut self.accounts);
                    }
                    self.settled += 1;
                    at += 1;
                }
            }
        }
        // Whoever comes here again goes on where this has come to.
        let mut at = self.find(first).unwrap_or_else(|at| at);
        while let Some(Place { what: What::Settled(until), .. }) =
            self.places.get_mut(at).filter(|place| place.first < reached)
        {
            let next = std::mem::replace(until, reached);
            at = self.find(next).unwrap_or_else(|at| at);
        }
        self.trim();
    }

    /// Settles everything up to `last`.
    fn settle_oldest(&mut self, last: u64, outcome: Outcome<'_>) {
        while let Some(place) = self.places.front_mut().filter(|place| place.first <= last) {
            if let What::Owed(sent) = &mut place.what {
                let within = last - place.first + 1;
                if sent.count() > within {
                    place.first += within;
                    sent.take_first(within).settle(outcome, &mut self.accounts);
                    return;
                }
            }
            match self.places.pop_front().map(|place| place.what) {
                Some(What::Owed(sent)) => sent.settle(outcome, &mut self.accounts),
                _ => self.settled -= 1,
            }
        }
        self.trim();
    }

    /// Forgets settled places: those in front, and all of them once they are many.
    fn trim(&mut self) {
        while let Some(What::Settled(_)) = self.places.front().map(|place| &place.what) {
            self.places.pop_front();
            self.settled -= 1;
        }
        if self.settled > self.places.len() / 2 + SETTLED_MIN {
            self.places.retain(|place| matches!(place.what, What::Owed(_)));
            self.settled = 0;
        }
    }

    /// Puts the messages of the run at `at` in its place, if `number` is one of them.
    fn take_apart(&mut self, at: usize, number: u64) {
        let is_run = |place: &Place| match &place.what {
            What::Owed(sent) => sent.count() > 1 && number < place.first + sent.count(),
            What::Settled(_) => false,
        };
        if !self.places.get(at).is_some_and(is_run) {
            return;
        }
        let mut behind = self.places.split_off(at);
        if let Some(run) = behind.pop_front() {
            self.places.extend(run.each());
        }
        self.places.append(&mut behind);
    }

    fn take_apart_all(&mut self) {
        if self.accounts.is_some() {
            let places = std::mem::take(&mut self.places);
            self.places = places.into_iter().flat_map(Place::each).collect();
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
        self.settle_oldest(last.min(self.last()), upto);
        self.settle_oldest(self.last(), behind);
    }
}

impl Place {
    /// The messages of a run, each at a place of its own.
    fn each(self) -> Vec<Self> {
        match self.what {
            What::Owed(sent) if sent.count() > 1 => {
                let place = |(first, one)| Self { first, what: What::Owed(one) };
                (self.first..).zip(sent.each()).map(place).collect()
            }
            _ => vec![self],
        }
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
        let settled_before = owed.oldest();
        while self.requests.front().is_some_and(|number| *number < settled_before) {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_settled_and_gone_is_not_sent_again_however_little_the_client_says_it_has() {
        let mut owed = Owed::new(false);
        for _ in 0..5 {
            let (head, payload) = (Bytes::new(), Bytes::new());
            let parts = Parts {
                head: head.into(),
                payload,
                attributes: 0,
                correlation: 0,
                deadline: None,
                count: 1,
            };
            owed.push(Sent {
                parts,
                attempt: 1,
                missed: 0,
                offset: None,
                is_request: false,
                lease: None,
            });
        }
        owed.settle(1, 3, Outcome::Ack);
        assert_eq!(owed.after(0).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(owed.after(4).collect::<Vec<_>>(), [5]);
        assert_eq!(owed.after(5).count(), 0);
    }
}
