//! A client's receiver: what the broker hands out goes to the client as far as its credit reaches,
//! and what the client settles is settled with the broker.

use std::collections::VecDeque;
use std::num::{NonZeroU64, NonZeroUsize};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use posthaste_core::{
    BoxReceiver, Delivery, Error, ErrorKind, Message, Outcome, Parts, Receiver, Runtime, Topic,
};
use posthaste_wire::{self as wire, Code, Hop, Link, Session, TransferError};

use super::owed::{Accounts, Owed, Sent, Watch};
use crate::codes::code_of;
use crate::control::Opened;
use crate::numbering::Numbering;

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
    /// What the broker has handed out and is not sent yet, because there was no room for it.
    staged: VecDeque<Sent>,
    batch: Vec<Delivery>,
    owed: Owed,
    numbering: Numbering,
    /// Earlier deliveries that are told again, and then such that are sent again, before anything
    /// that is new.
    to_tell: VecDeque<u64>,
    to_resend: VecDeque<u64>,
    /// How many messages this connection has carried.
    on_wire: u64,
    /// Where the client takes the next message of a reader to be, on this connection.
    next_offset: Option<u64>,
    watch: Watch,
    syncs: VecDeque<u64>,
    sent: Progressed,
    /// The address of an inbox.
    address: Option<Topic>,
    /// Whether the client settles on behalf of an application that asked for automatic settlement.
    auto: bool,
    armed: bool,
    stop: Stop,
}

/// How far the deliveries have come, by the session's numbers of the last ones.
#[derive(Debug, Clone, Copy, Default)]
struct Progressed {
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
    pub(super) fn new(
        receiver: BoxReceiver,
        address: Option<Topic>,
        auto: bool,
        accounts: bool,
        watch: Watch,
    ) -> Self {
        Self {
            receiver,
            staged: VecDeque::new(),
            batch: Vec::new(),
            owed: Owed::new(accounts),
            numbering: Numbering::default(),
            to_tell: VecDeque::new(),
            to_resend: VecDeque::new(),
            on_wire: 0,
            next_offset: None,
            watch,
            syncs: VecDeque::new(),
            sent: Progressed::default(),
            address,
            auto,
            armed: false,
            stop: Stop::Not,
        }
    }

    /// The client settles a range. What it has settled already, or need not, is skipped.
    pub(super) fn settle(&mut self, first: u64, last: u64, outcome: Outcome<'_>) {
        // Of an automatic consumer the client acknowledges what its application takes.
        let outcome = if self.auto && outcome == Outcome::Ack { Outcome::Taken } else { outcome };
        for (first, last) in self.numbering.ranges(first, last) {
            self.owed.settle(first, last, outcome);
        }
        self.account();
    }

    /// Tells the broker what became of what it handed out settled.
    fn account(&mut self) {
        let Some(Accounts { taken, written_off }) = self.owed.take_accounts() else { return };
        if taken > 0 {
            self.receiver.account(taken);
        }
        for (parts, outcome) in written_off {
            // It was a message when the broker handed it out.
            if let Ok(message) = Message::from_parts(parts) {
                self.receiver.write_off(message, outcome);
            }
        }
    }

    /// Gives back what has not been sent.
    fn unstage(&mut self) {
        for sent in self.staged.drain(..) {
            self.owed.settle_never_sent(sent, Outcome::Release);
        }
    }

    /// The client's application is still working on a delivery.
    pub(super) fn extend(&mut self, on_wire: u64) {
        self.owed.extend(self.numbering.in_session(on_wire));
    }

    /// A request may have been cancelled.
    pub(super) fn look_for_cancelled(&mut self, session: &mut Session, link: Link) {
        self.watch.look(&mut self.owed);
        self.tell_cancelled(session, link);
    }

    fn tell_cancelled(&mut self, session: &mut Session, link: Link) {
        let (numbering, carried) = (&self.numbering, self.on_wire);
        self.watch.tell(|number| match numbering.on_wire(number) {
            // It is going to be told again first, or sent again.
            Some(on_wire) if on_wire > carried => false,
            Some(on_wire) => session.cancelled(link, on_wire),
            None => true,
        });
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
        self.unstage();
        for number in self.to_resend.drain(..) {
            self.owed.settle(number, number, Outcome::Release);
        }
        self.account();
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
        let mut progress = match self.stop {
            Stop::Not => self.poll_send(session, link, runtime, going_away, cx),
            // What the client has in hand it has to be told of all the same: it answers to that.
            Stop::Unsaid | Stop::Asked | Stop::Told => {
                self.catch_up(session, link, runtime).unwrap_or(Progress::Waiting)
            }
        };
        self.tell_cancelled(session, link);
        if self.to_tell.is_empty()
            && self.stop == Stop::Asked
            && self.receiver.poll_close(cx).is_ready()
        {
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
        if let Some(progress) = self.catch_up(session, link, runtime) {
            return progress;
        }
        let mut sent = 0;
        loop {
            if session.output_len() >= HIGH_WATER {
                return Progress::Blocked;
            }
            while let Some(next) = self.staged.pop_front() {
                if let Err(held_up) = self.send(session, link, runtime, next) {
                    return held_up;
                }
                sent += 1;
            }
            if sent >= TURN {
                return Progress::More;
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
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Progress::Failed(error),
            }
            if let Err(held_up) = self.send_batch(session, link, runtime) {
                return held_up;
            }
        }
    }

    /// Sends what the broker has just handed out; what there is no room for is kept for later.
    fn send_batch(
        &mut self,
        session: &mut Session,
        link: Link,
        runtime: &dyn Runtime,
    ) -> Result<(), Progress> {
        let mut batch = std::mem::take(&mut self.batch);
        let mut outcome = Ok(());
        for delivery in batch.drain(..) {
            let sent = Sent::from(delivery);
            if outcome.is_ok() {
                outcome = self.send(session, link, runtime, sent);
            } else {
                self.staged.push_back(sent);
            }
        }
        // Its memory is kept.
        self.batch = batch;
        outcome
    }

    /// Without room the broker is not asked, so its wake-ups are for others.
    fn out_of_room(&mut self) -> Progress {
        if std::mem::take(&mut self.armed) {
            self.receiver.disarm();
        }
        Progress::Waiting
    }

    /// Sends a message or a run, or keeps what is left of it and says why it cannot go now.
    fn send(
        &mut self,
        session: &mut Session,
        link: Link,
        runtime: &dyn Runtime,
        mut sent: Sent,
    ) -> Result<(), Progress> {
        while sent.count() > 1 {
            let Parts { attributes, head, payload, .. } = &sent.parts;
            match session.transfer_run(link, *attributes, head, payload) {
                Ok((count, _)) if u64::from(count) == sent.count() => {
                    self.is_sent(sent);
                    return Ok(());
                }
                Ok((count, len)) => {
                    let first = sent.split_first(count, len);
                    self.is_sent(first);
                }
                Err(error) => return self.not_sent(sent, &error),
            }
        }
        match transfer(session, link, &sent, &mut self.next_offset, runtime) {
            Ok(_) => {
                self.is_sent(sent);
                Ok(())
            }
            Err(error) => self.not_sent(sent, &error),
        }
    }

    fn is_sent(&mut self, sent: Sent) {
        self.on_wire += sent.count();
        let is_request = sent.is_request && sent.lease.is_some();
        let number = self.owed.push(sent);
        self.sent.encoded = number;
        if is_request {
            self.watch.add(&mut self.owed, number);
        }
    }

    fn not_sent(&mut self, sent: Sent, error: &TransferError) -> Result<(), Progress> {
        if let TransferError::TooLarge { .. } = error {
            let why = too_large(error);
            self.owed.settle_never_sent(sent, Outcome::Reject { why: &why });
            self.account();
            return Ok(());
        }
        self.staged.push_front(sent);
        Err(self.held_up(error))
    }

    /// Tells what the client has, and sends again what it did not get, before anything new; says why
    /// not all of it, if it is not.
    fn catch_up(
        &mut self,
        session: &mut Session,
        link: Link,
        runtime: &dyn Runtime,
    ) -> Option<Progress> {
        while let Some(number) = self.to_tell.pop_front() {
            let hop = Hop { correlation: NonZeroU64::new(number), ..Hop::default() };
            match session.transfer(link, &hop, &[], &Bytes::new()) {
                Ok(on_wire) => self.on_wire = on_wire,
                Err(error) => {
                    self.to_tell.push_front(number);
                    return Some(self.held_up(&error));
                }
            }
        }
        while let Some(number) = self.to_resend.pop_front() {
            // It cannot be settled: the client has never heard of it.
            let Some(sent) = self.owed.get(number) else { continue };
            match transfer(session, link, sent, &mut self.next_offset, runtime) {
                Ok(on_wire) => {
                    self.on_wire = on_wire;
                    self.sent.encoded = number;
                }
                Err(error @ TransferError::TooLarge { .. }) => {
                    let error = Error::new(ErrorKind::TooLarge, too_large(&error));
                    return Some(Progress::Failed(error));
                }
                Err(error) => {
                    self.to_resend.push_front(number);
                    return Some(self.held_up(&error));
                }
            }
        }
        None
    }

    fn held_up(&mut self, error: &TransferError) -> Progress {
        match error {
            TransferError::Full => Progress::Blocked,
            _ => self.out_of_room(),
        }
    }

    /// The connection is gone; the client may come back over another one.
    pub(super) fn detach(&mut self) {
        self.syncs.clear();
        if std::mem::take(&mut self.armed) {
            self.receiver.disarm();
        }
        self.receiver.park(true);
    }

    /// Goes on over another connection, whose client has received everything up to `received`; what
    /// the client is told, unless that cannot be.
    pub(super) fn resume(&mut self, received: u64, mut watch: Watch) -> Option<Opened> {
        if received > self.owed.last() {
            return None;
        }
        let open = self.owed.received(received);
        // What it has not received cannot be settled, unless it has stopped or tells lies.
        self.to_resend = self.owed.after(received).collect();
        self.to_tell = open.iter().copied().collect();
        let carried = u64::try_from(open.len()).unwrap_or(u64::MAX);
        self.numbering = Numbering::after(received, open);
        self.on_wire = 0;
        self.next_offset = None;
        self.sent =
            Progressed { encoded: received, collected: received, written: received, listed: false };
        std::mem::swap(&mut self.watch, &mut watch);
        self.watch.go_on(watch, &mut self.owed);
        if self.stop == Stop::Told {
            self.stop = Stop::Asked;
        }
        self.receiver.park(false);
        let address = self.address.clone();
        Some(Opened { address, resumed: true, carried, ..Opened::of_receiver() })
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
        self.unstage();
        self.owed.settle_all(u64::MAX, Outcome::Release, Outcome::Release);
        self.account();
    }

    /// The session is gone: nobody can say any more what the client has seen of that which the
    /// socket took; the rest it has not.
    fn lost(&mut self) {
        self.unstage();
        let seen = if self.auto { Outcome::Lost } else { Outcome::Dropped };
        self.owed.settle_all(self.sent.written, seen, Outcome::Release);
        self.account();
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.lost();
    }
}

/// Sends one message, and says where it is unless the client knows; its number on the connection.
fn transfer(
    session: &mut Session,
    link: Link,
    sent: &Sent,
    next_offset: &mut Option<u64>,
    runtime: &dyn Runtime,
) -> Result<u64, TransferError> {
    let Sent { parts, attempt, missed, offset, .. } = sent;
    let Parts { head, payload, attributes, correlation, deadline, .. } = parts;
    let hop = Hop {
        attributes: *attributes,
        correlation: NonZeroU64::new(*correlation),
        // Only messages with a deadline pay for a look at the clock.
        deadline: deadline.map(|at| left(at, runtime.now())),
        attempt: *attempt,
        missed: *missed,
    };
    if let Some(at) = *offset
        && *next_offset != *offset
        && session.room(link)
    {
        session.offset(link, at);
        *next_offset = *offset;
    }
    let number = session.transfer(link, &hop, head, payload)?;
    *next_offset = offset.map(|at| at.wrapping_add(1));
    Ok(number)
}

fn left(deadline: Instant, now: Instant) -> std::time::Duration {
    deadline.saturating_duration_since(now)
}

fn too_large(error: &TransferError) -> String {
    format!("it is over the limits of the consumer's connection: {error}")
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
