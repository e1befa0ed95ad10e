//! What a connection knows about a sender: its messages until they have their outcome, what of
//! them has to be sent again, and its books.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::task::{Context, Waker};
use std::time::Instant;

use bytes::Bytes;
use posthaste_core::task::remember;
use posthaste_core::{
    Error, ErrorKind, Kind, Level, Message, Receipt, Returned, SenderOptions, Sends, Seq,
};
use posthaste_wire::{self as wire, Hop, TransferError};

use super::unconfirmed::{Kept, Sum, Unconfirmed};
use crate::control;

/// What a connection knows about a sender.
pub(crate) struct SenderState {
    options: SenderOptions,
    /// The number of the last message that was taken.
    taken: u64,
    /// How many of these were confirmed, and how many returned.
    confirmed: u64,
    returned: u64,
    /// How many numbers of the link have their outcome, on the current connection and in all of
    /// the session.
    passed: u64,
    passed_in_session: u64,
    /// One for each number of the current link after `passed`, in order.
    unconfirmed: Unconfirmed,
    /// How many of these have been sent on the current connection.
    sent: usize,
    /// Whether the last of them is what the link carried last.
    in_line: bool,
    /// How many messages the server lets be without an outcome.
    window: usize,
    /// How many messages there are without an outcome, and their bytes.
    pending: usize,
    pending_bytes: usize,
    /// What has come back and was not asked for yet, and its bytes. It counts against the window:
    /// a sender that never asks must not fill the memory.
    back: VecDeque<Returned>,
    back_bytes: usize,
    receipt: Receipt,
    waiting: Option<Waker>,
    /// Whether a send waits, for room.
    wants_room: bool,
    /// Up to where a flush waits.
    target: Option<u64>,
    /// Nobody asks for the outcomes any more.
    abandoned: bool,
}

impl SenderState {
    pub(super) fn new(options: SenderOptions) -> Self {
        Self {
            options,
            taken: 0,
            confirmed: 0,
            returned: 0,
            passed: 0,
            passed_in_session: 0,
            unconfirmed: Unconfirmed::default(),
            sent: 0,
            in_line: false,
            window: usize::MAX,
            pending: 0,
            pending_bytes: 0,
            back: VecDeque::new(),
            back_bytes: 0,
            receipt: Receipt::empty(Seq::new(0)),
            waiting: None,
            wants_room: false,
            target: None,
            abandoned: false,
        }
    }

    pub(crate) fn options(&self) -> Vec<u8> {
        control::sender::encode(&self.options)
    }

    pub(super) fn take_waker(&mut self) -> Option<Waker> {
        self.wants_room = false;
        self.target = None;
        self.waiting.take()
    }

    /// What became of everything so far; what has no outcome is counted where it lies.
    pub(super) fn sends(&self) -> Sends {
        let pending = self.unconfirmed.messages();
        Sends {
            taken: self.taken,
            confirmed: self.confirmed,
            returned: self.returned,
            pending: u64::try_from(pending).unwrap_or(u64::MAX),
        }
    }

    /// Up to where every message has its outcome.
    pub(super) fn settled(&self) -> u64 {
        self.unconfirmed.first().map_or(self.taken, |oldest| oldest - 1)
    }

    /// Whether everything that was taken has its outcome.
    pub(super) fn is_settled(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    /// The link is open, on a connection where it has sent nothing yet.
    pub(super) fn opened(&mut self, window: Option<u64>) {
        self.window =
            window.map_or(usize::MAX, |window| usize::try_from(window).unwrap_or(usize::MAX));
    }

    /// How many outcomes have come in the session: where it goes on.
    pub(super) fn resume_at(&self) -> u64 {
        self.passed_in_session
    }

    /// Whether something waits to be sent again.
    pub(super) fn is_resending(&self) -> bool {
        self.sent < self.unconfirmed.len()
    }

    /// A planted bug: what has no outcome counts as confirmed.
    pub(super) fn pretend_confirmed(&mut self) {
        for at in 0..self.unconfirmed.len() {
            if let Some((_, message)) = self.unconfirmed.take(at) {
                self.forget(&message);
                self.confirmed += 1;
                self.receipt.confirm(1, 1, Level::Held, 1);
            }
        }
    }

    /// A planted bug: what is to be sent again turns around.
    pub(super) fn turn_around(&mut self) {
        self.in_line = false;
        self.unconfirmed.turn_around();
    }

    /// Sends again what the current connection has not carried, as far as it takes it now.
    ///
    /// Every number keeps its place. What has come back already is not sent a second time: an empty
    /// message stands for it, which the server, who returned it, knows to skip. More than a window
    /// of them is not under way at a time: the server keeps no more outcomes than that.
    pub(super) fn resend(&mut self, session: &mut wire::Session, link: wire::Link, now: Instant) {
        while self.sent < self.window
            && let Some(Kept { like, payload }) = self.unconfirmed.get(self.sent)
        {
            let sent = match payload {
                Some(payload) => {
                    session.transfer(link, &hop(like, Some(now)), like.on_wire().0, payload)
                }
                None => session.transfer(link, &Hop::default(), &[], &Bytes::new()),
            };
            match sent {
                Ok(_) => self.sent += 1,
                Err(TransferError::TooLarge { limit, .. }) => {
                    let text = format!(
                        "the connection was made anew to a server that takes at most {limit} bytes"
                    );
                    self.hand_back_at(self.sent, &Error::new(ErrorKind::TooLarge, text));
                }
                // All else passes, and is told.
                Err(_) => return,
            }
        }
    }

    /// There may be room where there was none.
    pub(super) fn room_came(&mut self) -> Option<Waker> {
        if self.wants_room { self.take_waker() } else { None }
    }

    /// Some messages have got their outcome.
    pub(super) fn outcome_came(&mut self) -> Option<Waker> {
        let flushed = self.target.is_some_and(|target| self.settled() >= target);
        if self.wants_room || flushed { self.take_waker() } else { None }
    }

    /// Keeps the waker of a send.
    pub(super) fn wait_for_room(&mut self, cx: &Context<'_>) {
        self.wants_room = true;
        remember(&mut self.waiting, cx);
    }

    /// Whether everything up to `upto`, or all there is, has its outcome; else keeps the waker.
    pub(super) fn is_settled_upto(&mut self, upto: u64, cx: &Context<'_>) -> bool {
        let target = upto.min(self.taken);
        if self.settled() >= target {
            self.disarm();
            return true;
        }
        self.target = Some(target);
        remember(&mut self.waiting, cx);
        false
    }

    pub(super) fn disarm(&mut self) {
        self.waiting = None;
        self.wants_room = false;
        self.target = None;
    }

    /// Whether the window has room for a message of that size.
    pub(super) fn has_window(&self, size: usize) -> bool {
        self.has_room_beside(self.back.len(), self.back_bytes, size)
    }

    /// Whether it would have, if what has come back were taken.
    pub(super) fn is_full_of_returned(&self, size: usize) -> bool {
        !self.has_window(size) && self.has_room_beside(0, 0, size)
    }

    fn has_room_beside(&self, back: usize, back_bytes: usize, size: usize) -> bool {
        let messages = self.pending + back;
        let bytes = self.pending_bytes.saturating_add(back_bytes).saturating_add(size);
        messages < self.options.window_messages
            && self.unconfirmed.len() < self.window
            && (bytes <= self.options.window_bytes || messages == 0)
    }

    /// How many have come back and wait to be taken.
    pub(super) fn came_back(&self) -> usize {
        self.back.len()
    }

    /// A message has gone out; its number.
    #[inline]
    pub(super) fn took(&mut self, message: Message) -> u64 {
        self.taken += 1;
        self.pending += 1;
        self.pending_bytes += message.size();
        self.unconfirmed.push(self.taken, message);
        self.sent += 1;
        self.in_line = true;
        self.taken
    }

    /// Whether the message is like the one that the link carried last, and there is room for it.
    #[inline]
    pub(super) fn goes_on(&self, message: &Message) -> bool {
        self.in_line
            && self.waiting.is_none()
            && self.has_window(message.size())
            && self.unconfirmed.ends_like(message)
    }

    /// Such a message has gone out; its number.
    #[inline]
    pub(super) fn took_like_last(&mut self, message: Message) -> u64 {
        self.taken += 1;
        self.pending += 1;
        self.pending_bytes += message.size();
        self.unconfirmed.extend(message.into_payload());
        self.sent += 1;
        self.taken
    }

    fn forget(&mut self, message: &Message) {
        self.pending -= 1;
        self.pending_bytes -= message.size();
    }

    /// The server has confirmed everything up to `upto` that it has not returned.
    pub(super) fn confirmed(&mut self, upto: u64, matched: u64, level: u8, nodes: u32) {
        let more = usize::try_from(upto.saturating_sub(self.passed)).unwrap_or(usize::MAX);
        let numbers = more.min(self.unconfirmed.len());
        let Sum { messages, bytes } = self.unconfirmed.forget(numbers);
        self.pending -= messages;
        self.pending_bytes -= bytes;
        self.sent = self.sent.saturating_sub(numbers);
        let wide = |count| u64::try_from(count).unwrap_or(u64::MAX);
        let (numbers, count) = (wide(numbers), wide(messages));
        self.passed += numbers;
        self.passed_in_session += numbers;
        self.confirmed += count;
        self.receipt.upto = Seq::new(self.settled());
        if count > 0 {
            self.receipt.confirm(count, matched, Level::from_u8(level), nodes);
        }
    }

    /// The server has handed one message back; the confirm that covers it is still to come.
    pub(super) fn returned(&mut self, number: u64, error: &Error) {
        let at = number.checked_sub(self.passed + 1).and_then(|at| usize::try_from(at).ok());
        if let Some(at) = at {
            self.hand_back_at(at, error);
        }
    }

    fn hand_back_at(&mut self, at: usize, error: &Error) {
        if let Some((seq, message)) = self.unconfirmed.take(at) {
            self.hand_back(seq, message, error.clone());
        }
    }

    fn hand_back(&mut self, seq: u64, message: Message, error: Error) {
        self.forget(&message);
        self.returned += 1;
        self.receipt.returned += 1;
        if self.abandoned {
            return;
        }
        let message = message.without_repeat();
        self.back_bytes += message.size();
        self.back.push_back(Returned { seq: Seq::new(seq), message, error });
    }

    /// The oldest that has come back, from number `from` on.
    pub(super) fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        let at = self.back.iter().position(|returned| returned.seq >= from)?;
        let returned = self.back.remove(at)?;
        self.back_bytes -= returned.message.size();
        Some(returned)
    }

    /// The connection is gone. What is unconfirmed waits to be sent again, on the next one.
    pub(super) fn disconnected(&mut self) {
        self.in_line = false;
        self.passed = 0;
        self.sent = 0;
    }

    /// The session is gone: what nobody can say the fate of comes back as unknown. An event with an
    /// id waits to be sent again, marked as what it is: where it went it is known by its id.
    pub(super) fn lost(&mut self) {
        self.give_up(|message| message.id().is_some() && message.kind() == Kind::Event);
    }

    /// The link is gone for good: everything comes back as unknown.
    pub(super) fn ended(&mut self) {
        self.give_up(|_| false);
    }

    fn give_up(&mut self, goes_again: impl Fn(&Message) -> bool) {
        (self.passed, self.passed_in_session, self.sent, self.in_line) = (0, 0, 0, false);
        for (seq, message) in self.unconfirmed.take_all() {
            let Some(message) = message else { continue };
            if goes_again(&message) {
                self.unconfirmed.push(seq, message.into_repeat());
            } else {
                let text = "the connection was lost before the confirm came; \
                            the message may or may not have arrived";
                self.hand_back(seq, message, Error::new(ErrorKind::Unknown, text));
            }
        }
        self.receipt.upto = Seq::new(self.settled());
    }

    /// Nobody asks for the outcomes any more; they are still counted.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
        (self.back, self.back_bytes) = (VecDeque::new(), 0);
        self.disarm();
    }

    pub(super) fn take_receipt(&mut self) -> Receipt {
        let upto = Seq::new(self.settled());
        std::mem::replace(&mut self.receipt, Receipt::empty(upto))
    }
}

/// What belongs to this hop of a message.
#[inline]
pub(super) fn hop(message: &Message, now: Option<Instant>) -> Hop {
    let deadline =
        message.deadline().zip(now).map(|(deadline, now)| deadline.saturating_duration_since(now));
    Hop {
        attributes: message.on_wire().1,
        correlation: NonZeroU64::new(message.correlation()),
        deadline,
        ..Hop::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use posthaste_core::Topic;
    use posthaste_wire::{Config, Event, Output, Role, Session};

    use super::*;

    /// Hands over everything that one end of a connection has to say.
    fn carry(from: &mut Session, to: &mut Session, now: Instant) {
        let mut output = Output::new();
        from.swap_output(&mut output);
        to.handle_input(&mut BytesMut::from(&output.to_vec()[..]), now);
    }

    /// A client's session with a sender that is open and has credit.
    fn connected(now: Instant) -> (Session, wire::Link) {
        let mut client = Session::client(Config::default(), now);
        let mut server = Session::server(Config::default(), now);
        carry(&mut client, &mut server, now);
        carry(&mut server, &mut client, now);
        let link = client.open(Role::Sender, &[]).expect("it is established");
        carry(&mut client, &mut server, now);
        while let Some(event) = server.poll_event() {
            if let Event::Opening { link, .. } = event {
                server.opened(link, &[]);
                server.grant(link, 100, 1 << 20);
            }
        }
        carry(&mut server, &mut client, now);
        (client, link)
    }

    fn sender(window: usize, taken: usize) -> SenderState {
        let mut sender = SenderState::new(SenderOptions::new().window(window, 1 << 20));
        let topic = Topic::new("a").expect("a good topic");
        for _ in 0..taken {
            sender.took(Message::new(topic.clone(), "x"));
        }
        sender
    }

    #[test]
    fn what_has_come_back_takes_one_place_in_the_window() {
        let mut sender = sender(3, 2);
        sender.returned(2, &Error::closed("it"));
        assert!(sender.has_window(10), "one is pending and one is back");
        assert!(sender.take_returned(Seq::FIRST).is_some());
        assert!(sender.has_window(10));
    }

    #[test]
    fn only_what_the_link_carried_last_is_gone_on_from() {
        let message = |topic: &str| Message::new(Topic::new(topic).expect("a good topic"), "y");
        let mut sender = sender(100, 1);
        assert!(sender.goes_on(&message("a")) && !sender.goes_on(&message("b")));
        // On a new connection nothing has been carried yet, and what is sent again may end with a
        // stand-in for what has come back.
        sender.disconnected();
        assert!(!sender.goes_on(&message("a")));
        sender.took(message("a"));
        assert!(sender.goes_on(&message("a")));
        sender.lost();
        assert!(!sender.goes_on(&message("a")));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test has no runtime to ask")]
    fn no_more_than_a_window_goes_again_before_the_first_outcomes_come() {
        let now = Instant::now();
        let (mut session, link) = connected(now);
        let mut sender = sender(100, 10);
        sender.disconnected();
        sender.opened(Some(4));
        sender.resend(&mut session, link, now);
        assert_eq!((sender.sent, sender.is_resending()), (4, true));
        sender.confirmed(3, 3, 1, 1);
        sender.resend(&mut session, link, now);
        assert_eq!((sender.sent, sender.is_resending()), (4, true));
        sender.confirmed(7, 4, 1, 1);
        sender.resend(&mut session, link, now);
        assert_eq!((sender.sent, sender.is_resending()), (3, false));
    }
}
