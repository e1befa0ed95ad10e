//! A client's sender: its messages go into the broker in order, their outcomes go back.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Instant;

use posthaste_core::{BoxSender, Error, ErrorKind, Heads, Level, Message, Parts, Receipt, Seq};
use posthaste_wire::{Link, Payloads, Session, Transfer};

use super::outcomes::Outcomes;

/// Messages that a client may send ahead of the broker. Credit goes back when the broker has taken
/// a message, so this is also what a sender that the broker holds up keeps here.
const WINDOW_MESSAGES: u64 = 16_384;
/// Bytes that a client may send ahead of the broker on a link, at most and at least.
const WINDOW_BYTES_MAX: u64 = 4 << 20;
const WINDOW_BYTES_MIN: u64 = 64 << 10;
/// What the senders of one connection share before their windows become small.
const WINDOW_SHARED: u64 = 64 << 20;

/// Messages without an outcome whose outcomes are kept for a client that comes back, at most and at
/// least, and what the senders of one connection share before these become few.
const KEPT_MAX: u64 = 65_536;
const KEPT_MIN: u64 = 64;
const KEPT_SHARED: u64 = 1 << 18;

/// A client's sender.
pub(super) struct Inbound {
    sender: BoxSender,
    /// What the broker takes next, in order, with the sizes; no runs.
    pending: VecDeque<Message>,
    sizes: VecDeque<u32>,
    /// What comes behind that, as it came: a run that the broker takes as a whole is never taken
    /// apart.
    behind: VecDeque<Message>,
    /// What cannot be read, with its number on the link: it is refused in its turn.
    unreadable: VecDeque<(u64, Unreadable)>,
    heads: Heads,
    numbers: Numbers,
    outcomes: Outcomes,
    /// The session's number of the last message that has come, ever and on this connection.
    arrived: u64,
    received: u64,
    /// How many messages the client may have without an outcome.
    kept: u64,
    /// Whether the broker knows what to do with a message that may have come before.
    heeds_repeats: bool,
    window_bytes: u64,
    /// Credit that is free again and has not gone back.
    owed_messages: u64,
    owed_bytes: u64,
    /// What the last receipt said: a refusal after it tells nothing new.
    level: Level,
    nodes: u32,
    /// The client has closed the link; what is pending still goes out.
    pub(super) closing: bool,
}

/// Why a message cannot be read, and its bytes.
struct Unreadable {
    error: Error,
    bytes: u64,
}

/// How the link's numbers, which count every message, follow from the sender's own, which do not
/// count what it refused.
#[derive(Default)]
struct Numbers {
    /// The link's number of the last message that was taken or refused.
    processed: u64,
    /// The sender's number of the last message that it took.
    taken: u64,
    /// Up to where the sender's have their outcome.
    settled: u64,
    /// From which of the sender's numbers on how much has to be added.
    offsets: VecDeque<(u64, u64)>,
}

impl Numbers {
    fn refused(&mut self) -> u64 {
        self.processed += 1;
        self.processed
    }

    /// The sender took `count` messages, the last of which got this number.
    fn took(&mut self, seq: u64, count: u64) {
        self.processed += count;
        self.taken = seq;
        let offset = self.processed.saturating_sub(seq);
        if self.offsets.back().is_none_or(|(_, last)| *last != offset) {
            self.offsets.push_back((seq.saturating_sub(count - 1), offset));
        }
    }

    fn on_link(&self, seq: u64) -> u64 {
        let begun = self.offsets.iter().rev().find(|(from, _)| *from <= seq);
        seq.saturating_add(begun.map_or(0, |(_, offset)| *offset))
    }

    /// The sender's are settled up to `upto`; up to where the link's are.
    fn settle(&mut self, upto: u64) -> u64 {
        self.settled = self.settled.max(upto.min(self.taken));
        let next = self.settled + 1;
        let done = self.offsets.iter().rposition(|(from, _)| *from <= next).unwrap_or(0);
        self.offsets.drain(..done);
        match self.is_settled() {
            true => self.processed,
            // Whatever was refused right before the next one has its outcome too.
            false => self.on_link(next) - 1,
        }
    }

    fn is_settled(&self) -> bool {
        self.settled >= self.taken
    }
}

impl Inbound {
    /// A sender on a connection that has `others` already.
    pub(super) fn new(sender: BoxSender, others: usize, heeds_repeats: bool) -> Self {
        let sharing = u64::try_from(others + 1).unwrap_or(u64::MAX);
        Self {
            window_bytes: (WINDOW_SHARED / sharing).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX),
            kept: (KEPT_SHARED / sharing).clamp(KEPT_MIN, KEPT_MAX),
            heeds_repeats,
            outcomes: Outcomes::default(),
            arrived: 0,
            received: 0,
            sender,
            pending: VecDeque::new(),
            sizes: VecDeque::new(),
            behind: VecDeque::new(),
            unreadable: VecDeque::new(),
            heads: Heads::default(),
            numbers: Numbers::default(),
            owed_messages: 0,
            owed_bytes: 0,
            level: Level::Sent,
            nodes: 1,
            closing: false,
        }
    }

    /// What the client may send at first, in messages and bytes: less what is still here, and more
    /// for what it sends again, which takes no room.
    pub(super) fn window(&self) -> (u64, u64) {
        let behind = self.behind.iter().map(|message| u64::from(message.count())).sum::<u64>();
        let waiting = behind + wide(self.pending.len() + self.unreadable.len());
        let waiting_bytes = self
            .sizes
            .iter()
            .copied()
            .map(u64::from)
            .chain(self.behind.iter().map(|message| wide(message.size())))
            .chain(self.unreadable.iter().map(|(_, unreadable)| unreadable.bytes))
            .fold(0, u64::saturating_add);
        let again = self.arrived - self.received;
        let again_bytes = if again > 0 { WINDOW_BYTES_MIN } else { 0 };
        (
            WINDOW_MESSAGES.saturating_sub(waiting) + again,
            self.window_bytes.saturating_sub(waiting_bytes) + again_bytes,
        )
    }

    /// How many messages the client may have without an outcome.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// Nobody polls it for a while: a place in line that it has is another's.
    pub(super) fn detach(&mut self) {
        self.sender.disarm();
    }

    /// Goes on over another connection, whose client has heard the first `heard` outcomes; false if
    /// that cannot be.
    pub(super) fn resume(&mut self, heard: u64) -> bool {
        if heard > self.arrived {
            return false;
        }
        self.received = heard;
        self.outcomes.resume(heard);
        (self.owed_messages, self.owed_bytes) = (0, 0);
        self.closing = false;
        true
    }

    /// Whether the next message that comes is one that came on an earlier connection.
    pub(super) fn came_before(&self) -> bool {
        self.received < self.arrived
    }

    /// A message, or a run of them, has come, of which some may have come before. Those are not
    /// needed a second time; how many bytes of credit they give back.
    pub(super) fn arrived_again(&mut self, transfer: Transfer, now: Instant) -> u64 {
        if !self.came_before() {
            self.arrived(transfer, now);
            return 0;
        }
        let mut free_again = 0;
        for transfer in each(transfer) {
            if self.came_before() {
                self.received += 1;
                free_again += transfer.head.len() + transfer.payload.len();
            } else {
                self.arrived(transfer, now);
            }
        }
        u64::try_from(free_again).unwrap_or(u64::MAX)
    }

    /// A message, or a run of them, has come.
    pub(super) fn arrived(&mut self, transfer: Transfer, now: Instant) {
        let deadline = transfer.hop.deadline.and_then(|left| now.checked_add(left));
        let (count, head_len, payload_len) =
            (transfer.count, transfer.head.len(), transfer.payload.len());
        let run = (count > 1).then(|| transfer.payload.clone());
        let message = Message::from_parts_after(parts(transfer, deadline), &mut self.heads);
        let message = message.and_then(|message| self.judge_repeat(message));
        match message {
            Ok(message) if count == 1 && self.behind.is_empty() => {
                self.pending.push_back(message);
                let size = head_len + payload_len;
                self.sizes.push_back(u32::try_from(size).unwrap_or(u32::MAX));
            }
            Ok(message) if self.is_idle() => {
                if let Some(run) = self.send_run(message) {
                    self.behind.push_back(run);
                }
            }
            Ok(message) => self.behind.push_back(message),
            Err(error) => {
                let payloads = match &run {
                    Some(run) => Payloads::of_run(run).map(<[u8]>::len).collect(),
                    None => vec![payload_len],
                };
                for (number, payload) in (self.received + 1..).zip(payloads) {
                    let (error, bytes) = (error.clone(), wide(head_len + payload));
                    self.unreadable.push_back((number, Unreadable { error, bytes }));
                }
            }
        }
        self.received += u64::from(count);
        self.arrived = self.received;
    }

    /// Hands the broker a run as a whole, or hands it back.
    fn send_run(&mut self, run: Message) -> Option<Message> {
        let (count, size) = (u64::from(run.count()), wide(run.size()));
        let mut slot = Some(run);
        let Some(seq) = self.sender.try_send_run(&mut slot) else {
            return slot;
        };
        self.numbers.took(seq.get(), count);
        self.owe(count, size);
        None
    }

    /// Hands the broker what comes next of what lies behind: a run as a whole, or its messages to be
    /// handed over one by one; `false` if there is nothing.
    fn go_on(&mut self) -> bool {
        let Some(next) = self.behind.pop_front() else {
            return false;
        };
        let next = if next.count() > 1 { self.send_run(next) } else { Some(next) };
        for message in next.iter().flat_map(Message::each) {
            self.sizes.push_back(u32::try_from(message.size()).unwrap_or(u32::MAX));
            self.pending.push_back(message);
        }
        true
    }

    /// A broker that would not notice gets nothing that it may have had before.
    fn judge_repeat(&self, message: Message) -> Result<Message, Error> {
        if message.is_repeat() && !self.heeds_repeats {
            let text = "the message may or may not have arrived before, and this broker has no \
                        deduplication that would tell";
            return Err(Error::new(ErrorKind::Unknown, text));
        }
        Ok(message)
    }

    /// Whether the broker has taken or refused everything that came.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.behind.is_empty() && self.unreadable.is_empty()
    }

    /// Whether everything that came has its outcome.
    pub(super) fn is_settled(&self) -> bool {
        self.is_idle() && self.numbers.is_settled()
    }

    /// Moves what can be moved.
    pub(super) fn poll(&mut self, session: &mut Session, link: Link, cx: &mut Context<'_>) {
        while self.poll_pending(cx) || self.poll_outcomes(cx) {}
        self.outcomes.tell(session, link, self.received);
        self.outcomes.forget(self.arrived.saturating_sub(self.kept));
        let half =
            self.owed_messages * 2 >= WINDOW_MESSAGES || self.owed_bytes * 2 >= self.window_bytes;
        if half {
            session.grant(link, self.owed_messages, self.owed_bytes);
            (self.owed_messages, self.owed_bytes) = (0, 0);
        }
    }

    /// Hands messages to the broker; `false` if there are none, or there is no room.
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> bool {
        match self.unreadable.front() {
            Some((number, _)) if *number == self.numbers.processed + 1 => {
                if let Some((_, unreadable)) = self.unreadable.pop_front() {
                    self.owe(1, unreadable.bytes);
                    self.refuse(&unreadable.error);
                }
                true
            }
            _ if self.pending.is_empty() => self.go_on(),
            // Those before it go one by one.
            Some(_) => {
                let mut slot = self.pending.pop_front();
                let sent = self.sender.poll_send(cx, &mut slot).map_ok(|_| ());
                if let Some(message) = slot {
                    self.pending.push_front(message);
                }
                self.note_sent(&sent)
            }
            None => {
                let sent = self.sender.poll_send_many(cx, &mut self.pending);
                self.note_sent(&sent)
            }
        }
    }

    /// Notes how many messages are gone, and what became of the next one; `false` if it waits.
    fn note_sent(&mut self, sent: &Poll<Result<(), Error>>) -> bool {
        let gone = self.sizes.len() - self.pending.len();
        if gone > 0 {
            let bytes = self.sizes.drain(..gone).map(u64::from).sum();
            let count = u64::try_from(gone).unwrap_or(u64::MAX);
            self.numbers.took(self.numbers.taken + count, count);
            self.owe(count, bytes);
        }
        if let Poll::Ready(Err(error)) = sent {
            self.pending.pop_front();
            let bytes = self.sizes.pop_front().map_or(0, u64::from);
            self.owe(1, bytes);
            self.refuse(error);
        }
        sent.is_ready()
    }

    /// Credit is free again.
    fn owe(&mut self, messages: u64, bytes: u64) {
        self.owed_messages += messages;
        self.owed_bytes += bytes;
    }

    fn refuse(&mut self, error: &Error) {
        let number = self.numbers.refused();
        self.outcomes.give_back(number, error);
        if self.numbers.is_settled() {
            self.outcomes.confirm(number, 0, self.level, self.nodes);
        }
    }

    /// Notes outcomes; `true` if there may be more of them.
    fn poll_outcomes(&mut self, cx: &mut Context<'_>) -> bool {
        if self.numbers.is_settled() {
            return false;
        }
        let next = Seq::new(self.numbers.settled + 1);
        match self.sender.poll_flush(cx, next) {
            Poll::Pending => false,
            Poll::Ready(Ok(receipt)) => {
                self.note(&receipt);
                true
            }
            Poll::Ready(Err(error)) => {
                // The sender has come to its end: nothing is known of what it took.
                for seq in self.numbers.settled + 1..=self.numbers.taken {
                    self.outcomes.give_back(self.numbers.on_link(seq), &error);
                }
                let upto = self.numbers.settle(self.numbers.taken);
                self.outcomes.confirm(upto, 0, self.level, self.nodes);
                false
            }
        }
    }

    fn note(&mut self, receipt: &Receipt) {
        if receipt.confirmed > 0 {
            (self.level, self.nodes) = (receipt.level, receipt.nodes);
        }
        if receipt.returned > 0 {
            while let Some(returned) = self.sender.take_returned(Seq::FIRST) {
                let number = self.numbers.on_link(returned.seq.get());
                self.outcomes.give_back(number, &returned.error);
            }
        }
        let upto = self.numbers.settle(receipt.upto.get());
        self.outcomes.confirm(upto, receipt.matched, self.level, self.nodes);
    }
}

/// The messages of a run, one by one.
fn each(transfer: Transfer) -> Vec<Transfer> {
    if transfer.count == 1 {
        return vec![transfer];
    }
    let one = |payload| Transfer {
        payload: transfer.payload.slice_ref(payload),
        count: 1,
        ..transfer.clone()
    };
    Payloads::of_run(&transfer.payload).map(one).collect()
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn parts(transfer: Transfer, deadline: Option<Instant>) -> Parts {
    let Transfer { hop, head, payload, count } = transfer;
    Parts {
        head: head.into(),
        payload,
        attributes: hop.attributes,
        correlation: hop.correlation.map_or(0, std::num::NonZero::get),
        deadline,
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_messages_take_a_number_of_the_link_and_none_of_the_sender() {
        let mut numbers = Numbers::default();
        numbers.took(1, 1); // 1
        numbers.refused(); // 2
        numbers.refused(); // 3
        numbers.took(2, 1); // 4
        numbers.took(3, 1); // 5
        numbers.refused(); // 6
        assert_eq!([1, 2, 3].map(|seq| numbers.on_link(seq)), [1, 4, 5]);
        assert_eq!(numbers.settle(1), 3);
        assert_eq!(numbers.settle(2), 4);
        assert_eq!(numbers.on_link(3), 5);
        assert_eq!(numbers.settle(3), 6);
    }
}
