//! A client's receiver: what the broker hands out goes to the client as far as its credit reaches,
//! and what the client settles is settled with the broker.

use std::collections::VecDeque;
use std::num::{NonZeroU64, NonZeroUsize};
use std::task::{Context, Poll};
use std::time::Instant;

use posthaste_core::{
    BoxReceiver, Delivery, DeliveryParts, Error, Kind, Outcome, Receiver, Runtime,
};
use posthaste_wire::{self as wire, Code, Hop, Link, Session, TransferError};

use super::owed::{Owed, Watch};
use crate::codes::code_of;

/// Output that may wait before links stop to add to it: the socket is slower than the broker.
pub(super) const HIGH_WATER: usize = 1 << 20;
/// Deliveries that are asked of the broker at a time.
const BATCH: u64 = 256;
/// Deliveries that one link sends before the others get their turn.
const TURN: usize = 1_024;
/// Questions about settlements that may be open at a time.
const SYNCS: usize = 64;

/// A client's receiver.
pub(super) struct Outbound {
    receiver: BoxReceiver,
    /// What the broker has handed out and is not sent yet.
    staged: VecDeque<Delivery>,
    batch: Vec<Delivery>,
    owed: Owed,
    watch: Watch,
    syncs: VecDeque<u64>,
    sent: Sent,
    /// Whether the client settles.
    settles: bool,
    /// Whether it does so on behalf of an application that asked for automatic settlement.
    auto: bool,
    armed: bool,
    stop: Stop,
}

/// How far the deliveries have come, by the numbers of the last ones.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    /// Encoded into what gathers.
    encoded: u64,
    /// Handed over to be written.
    collected: u64,
    /// Taken by the socket, at least in part.
    written: u64,
    /// Whether the connection knows that something is to be collected.
    listed: bool,
}

/// How far the end of a link's messages is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Not,
    /// The broker ends because the server does. The client is not told that no more comes: it
    /// comes from the server's successor, and the goodbye says so.
    Unsaid,
    /// The client wants no more; the broker is being told.
    Asked,
    /// The client has been told that no more comes.
    Told,
}

/// What a poll came to.
pub(super) enum Progress {
    /// Waiting for the broker, for credit, or for nothing.
    Waiting,
    /// Waiting until what has gathered is written.
    Blocked,
    /// There is more to do at once.
    More,
    /// The broker has ended the subscription for this reason.
    Failed(Error),
}

impl Outbound {
    pub(super) fn new(receiver: BoxReceiver, settles: bool, auto: bool, watch: Watch) -> Self {
        Self {
            receiver,
            staged: VecDeque::new(),
            batch: Vec::new(),
            owed: Owed::new(),
            watch,
            syncs: VecDeque::new(),
            sent: Sent::default(),
            settles,
            auto,
            armed: false,
            stop: Stop::Not,
        }
    }

    /// The client settles a range. What it has settled already, or need not, is skipped.
    pub(super) fn settle(&mut self, first: u64, last: u64, outcome: Outcome<'_>) {
        // Of an automatic consumer the client acknowledges what its application takes.
        let outcome = if self.auto && outcome == Outcome::Ack { Outcome::Taken } else { outcome };
        self.owed.settle(first, last, outcome);
    }

    /// The client's application is still working on a delivery.
    pub(super) fn extend(&mut self, number: u64) {
        self.owed.extend(number);
    }

    /// A request may have been cancelled.
    pub(super) fn look_for_cancelled(&mut self, session: &mut Session, link: Link) {
        self.watch.look(&mut self.owed);
        self.watch.tell(|number| session.cancelled(link, number));
    }

    /// The client asks to be told when its settlements are at the queue's own level.
    pub(super) fn sync(&mut self, token: u64) -> Result<(), &'static str> {
        if self.syncs.len() >= SYNCS {
            return Err("more than 64 SYNC of one link wait for their answer");
        }
        self.syncs.push_back(token);
        Ok(())
    }

    /// The client wants no more.
    pub(super) fn stop(&mut self) {
        self.staged.drain(..).for_each(Delivery::release);
        if matches!(self.stop, Stop::Not | Stop::Unsaid) {
            self.stop = Stop::Asked;
        }
    }

    /// Moves what can be moved.
    pub(super) fn poll(
        &mut self,
        session: &mut Session,
        link: Link,
        runtime: &dyn Runtime,
        going_away: bool,
        cx: &mut Context<'_>,
    ) -> Progress {
        self.watch.tell(|number| session.cancelled(link, number));
        let mut progress = match self.stop {
            Stop::Not => self.poll_send(session, link, runtime, going_away, cx),
            Stop::Unsaid | Stop::Asked | Stop::Told => Progress::Waiting,
        };
        if self.stop == Stop::Asked && self.receiver.poll_close(cx).is_ready() {
            // What went wrong with settlements is the answer to a SYNC.
            session.stopped(link);
            self.stop = Stop::Told;
        }
        if !self.syncs.is_empty()
            && let Poll::Ready(settled) = self.receiver.poll_settled(cx)
        {
            let (code, reason) = match &settled {
                Ok(()) => (Code::Ok, ""),
                Err(error) => (code_of(error.kind()), error.text()),
            };
            for token in self.syncs.drain(..) {
                session.synced(link, token, code, reason);
            }
            // A handle that was ready waits for nothing any more, so it has to be asked again.
            if matches!(progress, Progress::Waiting) && self.armed {
                progress = Progress::More;
            }
        }
        if !matches!(progress, Progress::Waiting) && std::mem::take(&mut self.armed) {
            // It is not going to be asked for a while: others may have what it was woken for.
            self.receiver.disarm();
        }
        progress
    }

    fn poll_send(
        &mut self,
        session: &mut Session,
        link: Link,
        runtime: &dyn Runtime,
        going_away: bool,
        cx: &mut Context<'_>,
    ) -> Progress {
        let mut sent = 0;
        loop {
            while let Some(delivery) = self.staged.pop_front() {
                let full = session.output_len() >= HIGH_WATER;
                if full || !session.room(link) {
                    self.staged.push_front(delivery);
                    return if full { Progress::Blocked } else { self.out_of_room() };
                }
                self.send(session, link, runtime, delivery);
                sent += 1;
            }
            if sent >= TURN {
                return Progress::More;
            }
            if session.output_len() >= HIGH_WATER {
                return Progress::Blocked;
            }
            if !session.room(link) {
                return self.out_of_room();
            }
            let (credit, _) = session.credit(link);
            let limit = usize::try_from(credit.min(BATCH)).unwrap_or(1);
            let limit = NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
            self.armed = false;
            match self.receiver.poll_recv_many(cx, &mut self.batch, limit) {
                Poll::Pending => {
                    self.armed = true;
                    return Progress::Waiting;
                }
                Poll::Ready(Ok(0)) if going_away => {
                    self.stop = Stop::Unsaid;
                    return Progress::Waiting;
                }
                Poll::Ready(Ok(0)) => {
                    session.stopped(link);
                    self.stop = Stop::Told;
                    return Progress::Waiting;
                }
                Poll::Ready(Ok(_)) => self.staged.extend(self.batch.drain(..)),
                Poll::Ready(Err(error)) => return Progress::Failed(error),
            }
        }
    }

    /// Without room the broker is not asked, so its wake-ups are for others.
    fn out_of_room(&mut self) -> Progress {
        if std::mem::take(&mut self.armed) {
            self.receiver.disarm();
        }
        Progress::Waiting
    }

    fn send(
        &mut self,
        session: &mut Session,
        link: Link,
        runtime: &dyn Runtime,
        delivery: Delivery,
    ) {
        let DeliveryParts { message, attempt, missed, lease } = delivery.into_parts();
        let is_request = message.kind() == Kind::Request && lease.is_some();
        let parts = message.into_parts();
        let hop = Hop {
            attributes: parts.attributes,
            correlation: NonZeroU64::new(parts.correlation),
            // Only messages with a deadline pay for a look at the clock.
            deadline: parts.deadline.map(|at| left(at, runtime.now())),
            attempt,
            missed,
        };
        match session.transfer(link, &hop, &parts.head, &parts.payload) {
            Ok(number) => {
                self.sent.encoded = number;
                if self.settles {
                    self.owed.push(lease);
                    if is_request {
                        self.watch.add(&mut self.owed, number);
                    }
                }
            }
            Err(error) => {
                let Some(lease) = lease else { return };
                if let TransferError::TooLarge { .. } = error {
                    let why =
                        format!("it is over the limits of the consumer's connection: {error}");
                    lease.settle(Outcome::Reject { why: &why });
                } else {
                    lease.settle(Outcome::Release);
                }
            }
        }
    }

    /// Whether deliveries have been encoded since the last [`collected`](Self::collected); says so
    /// once.
    pub(super) fn has_gathered(&mut self) -> bool {
        let gathered = self.sent.encoded > self.sent.collected;
        gathered && !std::mem::replace(&mut self.sent.listed, true)
    }

    /// What was encoded is on its way to the socket.
    pub(super) fn collected(&mut self) {
        self.sent.collected = self.sent.encoded;
        self.sent.listed = false;
    }

    /// The socket has taken some of what was collected.
    pub(super) fn written(&mut self) {
        self.sent.written = self.sent.collected;
    }

    /// The client closed the link in good order: it has settled what it had seen.
    pub(super) fn closed(mut self) {
        self.staged.drain(..).for_each(Delivery::release);
        for (_, lease) in self.owed.drain() {
            lease.settle(Outcome::Release);
        }
    }

    /// The connection is gone: nobody can say any more what the client has seen of that which the
    /// socket took; the rest it has not.
    pub(super) fn lost(&mut self) {
        self.staged.drain(..).for_each(Delivery::release);
        let seen = if self.auto { Outcome::Lost } else { Outcome::Dropped };
        for (number, lease) in self.owed.drain() {
            let outcome = if number <= self.sent.written { seen } else { Outcome::Release };
            lease.settle(outcome);
        }
    }
}

fn left(deadline: Instant, now: Instant) -> std::time::Duration {
    deadline.saturating_duration_since(now)
}

/// What the client says became of a delivery.
pub(super) fn outcome_of(
    outcome: wire::Outcome,
    after: Option<std::time::Duration>,
    why: &str,
) -> Outcome<'_> {
    match outcome {
        wire::Outcome::Ack => Outcome::Ack,
        wire::Outcome::Retry => Outcome::Retry { after: after.unwrap_or_default(), why },
        wire::Outcome::Reject => Outcome::Reject { why },
        wire::Outcome::Release => Outcome::Release,
        wire::Outcome::Dropped => Outcome::Dropped,
        wire::Outcome::Taken => Outcome::Taken,
        wire::Outcome::Lost => Outcome::Lost,
    }
}
