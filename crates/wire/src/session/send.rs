//! Messages and credit on their way out: straight into the shared output.

use bytes::Bytes;

use super::{Session, Side, find, numbered};
use crate::config::Limits;
use crate::event::Event;
use crate::frame::{Frame, Header, Lead, OpenRun, flag, kind, run};
use crate::link::{Link, Outgoing, Role, Stage, State, Then, charge};
use crate::output::{Output, SPLICE_MIN};
use crate::transfer::{Hop, TransferError};

/// Fragments are added to an output until it holds this many bytes.
const GATHER: usize = 256 << 10;

/// The most that one fragment brings, so that small frames need not wait for large ones.
const PIECE: usize = 64 << 10;

impl Session {
    /// Sends a message, and returns its number on the link, from 1.
    ///
    /// It is encoded into the output at once; a large payload is not copied but referred to. One
    /// that does not fit into a frame goes out in fragments, one with each round of the links that
    /// have such a message, whenever the output is swapped. Small messages that follow each other on
    /// a link and differ in their payloads alone are one frame, a RUN, without waiting for it.
    ///
    /// # Errors
    /// If the link cannot take it now or ever; then nothing has happened.
    pub fn transfer(
        &mut self,
        link: Link,
        hop: &Hop,
        head: &[u8],
        payload: &Bytes,
    ) -> Result<u64, TransferError> {
        if let Some(seq) = self.join(link, hop, head, payload) {
            return Ok(seq);
        }
        let limits = self.limits;
        let sends = self.side.sends();
        let full = self.out.len() >= self.config.gather;
        let state = find(&mut self.links, link)
            .filter(|state| may_send(state, sends))
            .ok_or(TransferError::Closed)?;
        within(head.len(), limits.head)?;
        within(payload.len(), limits.payload)?;
        if state.outgoing.is_some() {
            return Err(TransferError::Busy);
        }
        if !state.has_credit() {
            return Err(TransferError::NoCredit);
        }
        if full {
            if !std::mem::replace(&mut state.owed, true) {
                self.owed.push(link);
            }
            return Err(TransferError::Full);
        }
        let cost = charge(head.len(), payload.len());
        let seq = state.count(cost);
        if cost.saturating_add(u64::from(Limits::TRANSFER_FIXED)) <= u64::from(limits.frame) {
            self.encode(link, hop, head, payload);
        } else {
            state.outgoing = Some(Box::new(Outgoing {
                hop: *hop,
                head: Bytes::copy_from_slice(head),
                payload: payload.clone(),
                at: 0,
                started: false,
                begun: false,
            }));
            self.waiting.push_back(link.id);
        }
        Ok(seq)
    }

    /// Sends the first messages of a run, as many as go now: how many these are, and their bytes of
    /// `payloads`, which are to be as [`Payloads`](crate::Payloads) reads them. Call it until all
    /// are gone. They are one frame of their own; one message alone is sent as by
    /// [`transfer`](Self::transfer).
    ///
    /// ```
    /// use bytes::Bytes;
    /// use posthaste_wire::{Config, Event, Output, Payloads, Role, Session};
    ///
    /// # use bytes::BytesMut;
    /// # let now = std::time::Instant::now();
    /// # let mut client = Session::client(Config::default(), now);
    /// # fn said(session: &mut Session) -> BytesMut {
    /// #     let mut output = Output::new();
    /// #     session.swap_output(&mut output);
    /// #     BytesMut::from(&output.to_vec()[..])
    /// # }
    /// // A server that asks for runs as they are,
    /// let mut server = Session::server(Config { runs: true, ..Config::default() }, now);
    /// # server.handle_input(&mut said(&mut client), now);
    /// # client.handle_input(&mut said(&mut server), now);
    /// # let link = client.open(Role::Sender, b"options").expect("a link is free");
    /// # server.handle_input(&mut said(&mut client), now);
    /// # while let Some(event) = server.poll_event() {
    /// #     if let Event::Opening { link, .. } = event {
    /// #         server.opened(link, b"info");
    /// #         server.grant(link, 10, 1_000);
    /// #     }
    /// # }
    /// # client.handle_input(&mut said(&mut server), now);
    /// // and a client with a link that is open and has credit.
    /// let payloads = Bytes::from_static(b"\x02\0\0\0hi\x05\0\0\0there");
    /// assert_eq!(client.transfer_run(link, 0, b"head", &payloads), Ok((2, payloads.len())));
    /// server.handle_input(&mut said(&mut client), now);
    /// let Some(Event::Transfer { seq: 1, transfer, .. }) = server.poll_event() else {
    ///     panic!("the first of them has number 1")
    /// };
    /// assert_eq!(transfer.count, 2);
    /// let each: Vec<_> = Payloads::of_run(&transfer.payload).collect();
    /// assert_eq!(each, [&b"hi"[..], b"there"]);
    /// ```
    ///
    /// # Errors
    /// If the link cannot take even one of them now or ever; then nothing has happened.
    pub fn transfer_run(
        &mut self,
        link: Link,
        attributes: u8,
        head: &[u8],
        payloads: &Bytes,
    ) -> Result<(u32, usize), TransferError> {
        let frame = usize::try_from(self.limits.frame).unwrap_or(usize::MAX);
        let most = frame.saturating_sub(usize::try_from(Limits::TRANSFER_FIXED).unwrap_or(0));
        let hop = Hop { attributes, ..Hop::default() };
        let full = self.out.len() >= self.config.gather;
        let (mut count, mut len) = (0_u32, 0_usize);
        let limit = usize::try_from(self.limits.payload).unwrap_or(usize::MAX);
        if let Some(state) = find(&mut self.links, link)
            && may_send(state, self.side.sends())
            && state.outgoing.is_none()
            && !full
        {
            let mut used = state.used;
            let mut rest = &payloads[..];
            while let Some((payload, behind)) = run::split(rest) {
                let next = payloads.len().saturating_sub(behind.len());
                let fits = head.len().saturating_add(next) <= most && payload.len() <= limit;
                if !fits
                    || used.messages >= state.granted.messages
                    || used.bytes >= state.granted.bytes
                {
                    break;
                }
                used.messages = used.messages.saturating_add(1);
                used.bytes = used.bytes.saturating_add(charge(head.len(), payload.len()));
                (count, len, rest) = (count.saturating_add(1), next, behind);
            }
            if count > 1 && head.len() <= usize::try_from(self.limits.head).unwrap_or(usize::MAX) {
                state.used = used;
                run::encode_lead(self.out.buffer(), link.id, attributes, head, len);
                self.out.push_payload(&payloads.slice(..len));
                self.run = None;
                return Ok((count, len));
            }
        }
        // One alone is no run, and what is wrong is said in the words for one.
        let Some((first, behind)) = run::split(payloads) else {
            return Ok((0, payloads.len()));
        };
        let first = payloads.slice_ref(first);
        self.transfer(link, &hop, head, &first)?;
        Ok((1, payloads.len().saturating_sub(behind.len())))
    }

    /// Sends a message that differs from the last one of the link in its payload alone, if it can
    /// be added to what the output ends with; its number. Else nothing has happened, and
    /// [`transfer`](Self::transfer) finds out why.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use posthaste_wire::{Config, Event, Hop, Output, Role, Session};
    ///
    /// # use bytes::BytesMut;
    /// # let now = std::time::Instant::now();
    /// # let mut client = Session::client(Config::default(), now);
    /// # let mut server = Session::server(Config::default(), now);
    /// # fn said(session: &mut Session) -> BytesMut {
    /// #     let mut output = Output::new();
    /// #     session.swap_output(&mut output);
    /// #     BytesMut::from(&output.to_vec()[..])
    /// # }
    /// # server.handle_input(&mut said(&mut client), now);
    /// # client.handle_input(&mut said(&mut server), now);
    /// # let link = client.open(Role::Sender, b"options").expect("a link is free");
    /// # server.handle_input(&mut said(&mut client), now);
    /// # while let Some(event) = server.poll_event() {
    /// #     if let Event::Opening { link, .. } = event {
    /// #         server.opened(link, b"info");
    /// #         server.grant(link, 10, 1_000);
    /// #     }
    /// # }
    /// # client.handle_input(&mut said(&mut server), now);
    /// // On a link that is open and has credit, there is nothing to go on from at first.
    /// assert_eq!(client.transfer_like_last(link, &Bytes::from("1")), None);
    /// client.transfer(link, &Hop::default(), b"head", &Bytes::from("1"))?;
    /// assert_eq!(client.transfer_like_last(link, &Bytes::from("2")), Some(2));
    /// # Ok::<(), posthaste_wire::TransferError>(())
    /// ```
    #[inline]
    pub fn transfer_like_last(&mut self, link: Link, payload: &Bytes) -> Option<u64> {
        let run = self.run.as_mut().filter(|run| run.link == link)?;
        let wide = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let len = payload.len();
        if len >= SPLICE_MIN
            || len > wide(self.limits.payload)
            || self.out.len() >= self.config.gather
        {
            return None;
        }
        let state = find(&mut self.links, link)?;
        let goes = may_send(state, self.side.sends()) && state.outgoing.is_none();
        let most = wide(self.limits.frame).min(PIECE);
        if !goes || !state.has_credit() || !run.extend(self.out.buffer(), most, payload) {
            return None;
        }
        Some(state.count(charge(run.head_len(), len)))
    }

    /// The same for a message that may be like the last one.
    #[inline]
    fn join(&mut self, link: Link, hop: &Hop, head: &[u8], payload: &Bytes) -> Option<u64> {
        let run = self.run.as_ref()?;
        if hop.is_plain() && run.is_like(self.out.buffer(), hop.attributes, head) {
            return self.transfer_like_last(link, payload);
        }
        None
    }

    /// Appends a message that fits into a frame, to which others like it may be added.
    fn encode(&mut self, link: Link, hop: &Hop, head: &[u8], payload: &Bytes) {
        let start = self.out.buffer().len();
        let lead = Lead { link: link.id, hop, total: None, head, piece_len: payload.len() };
        lead.encode(self.out.buffer());
        self.out.push_payload(payload);
        let plain = hop.is_plain() && payload.len() < SPLICE_MIN;
        let end = self.out.buffer().len();
        self.run = plain.then(|| OpenRun::new(link, hop.attributes, head.len(), start, end));
    }

    /// Whether a transfer on this link would be taken now, if it is within the limits.
    #[must_use]
    pub fn room(&self, link: Link) -> bool {
        self.out.len() < self.config.gather
            && self.state(link).is_some_and(|state| {
                may_send(state, self.side.sends()) && state.outgoing.is_none() && state.has_credit()
            })
    }

    /// The messages and bytes that the peer still grants on this link, before any is overdrawn.
    #[must_use]
    pub fn credit(&self, link: Link) -> (u64, u64) {
        self.state(link).filter(|state| state.role == self.side.sends()).map_or((0, 0), |state| {
            (
                state.granted.messages.saturating_sub(state.used.messages),
                state.granted.bytes.saturating_sub(state.used.bytes),
            )
        })
    }

    /// Grants the peer this many more messages and bytes on a link on which it sends.
    ///
    /// It is written with the next swap, together with whatever else is granted until then. Before
    /// the link is open it is kept until then.
    pub fn grant(&mut self, link: Link, messages_more: u64, bytes_more: u64) {
        let sends = self.side.sends();
        let Some(state) = find(&mut self.links, link) else {
            return;
        };
        if state.role == sends || !matches!(state.stage, Stage::Opening | Stage::Open) {
            return;
        }
        state.granted.messages = state.granted.messages.saturating_add(messages_more);
        state.granted.bytes = state.granted.bytes.saturating_add(bytes_more);
        self.mark(link.id);
    }

    /// Bytes that have gathered to be written, without the fragments that a swap adds.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.out.len()
    }

    /// Whether a swap would yield anything.
    #[must_use]
    pub fn wants_output(&self) -> bool {
        !self.out.is_empty()
            || !self.dirty.is_empty()
            || !self.waiting.is_empty()
            || !self.fragmenting.is_empty()
    }

    /// Whether all that a swap would yield are confirms and credit, which gain from company: what
    /// comes of the messages that they are about often follows at once.
    ///
    /// ```
    /// use posthaste_wire::{Config, Event, Output, Role, Session};
    ///
    /// # use bytes::BytesMut;
    /// # let now = std::time::Instant::now();
    /// # let mut client = Session::client(Config::default(), now);
    /// # let mut server = Session::server(Config::default(), now);
    /// # fn said(session: &mut Session) -> BytesMut {
    /// #     let mut output = Output::new();
    /// #     session.swap_output(&mut output);
    /// #     BytesMut::from(&output.to_vec()[..])
    /// # }
    /// # server.handle_input(&mut said(&mut client), now);
    /// # client.handle_input(&mut said(&mut server), now);
    /// # client.open(Role::Sender, b"options").expect("a link is free");
    /// # server.handle_input(&mut said(&mut client), now);
    /// # server.poll_event();
    /// # let Some(Event::Opening { link, .. }) = server.poll_event() else { panic!() };
    /// # server.opened(link, b"info");
    /// # client.handle_input(&mut said(&mut server), now);
    /// server.grant(link, 10, 1_000);
    /// assert!(server.wants_company(), "credit alone may wait a little");
    /// server.closed(link, posthaste_wire::Code::Ok, "");
    /// assert!(!server.wants_company(), "the end of the link may not");
    /// assert!(server.wants_output());
    /// ```
    #[must_use]
    pub fn wants_company(&self) -> bool {
        self.out.is_empty()
            && !self.dirty.is_empty()
            && self.waiting.is_empty()
            && self.fragmenting.is_empty()
    }

    /// Hands over the output that has gathered and takes `empty` to gather the next in.
    ///
    /// Credit, confirms and fragments are added first, so there may be events to poll afterwards.
    /// If `empty` is not empty, nothing happens: what is in it has to be written before.
    pub fn swap_output(&mut self, empty: &mut Output) {
        if !empty.is_empty() {
            return;
        }
        self.flush_links();
        self.add_fragments();
        std::mem::swap(&mut self.out, empty);
        self.control = 0;
        self.tail = None;
        self.run = None;
        for link in self.owed.drain(..) {
            if let Some(state) = find(&mut self.links, link) {
                state.owed = false;
                self.events.push_back(Event::Writable { link });
            }
        }
    }

    /// Remembers that the link has credit or a confirm to write.
    pub(super) fn mark(&mut self, id: u16) {
        if let Some(state) = numbered(&mut self.links, id)
            && !std::mem::replace(&mut state.dirty, true)
        {
            self.dirty.push(id);
        }
    }

    /// Writes all credit and all confirms that wait.
    pub(super) fn flush_links(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            if let Some(state) = numbered(&mut self.links, id) {
                state.dirty = false;
            }
            self.flush_confirm(id);
            self.flush_credit(id);
        }
        // The list's memory is kept, unless the session has ended over what was written.
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    /// Writes the confirm of a link that waits.
    pub(super) fn flush_confirm(&mut self, id: u16) {
        let Some(state) = numbered(&mut self.links, id) else {
            return;
        };
        let Some(confirm) = state.confirm.take() else {
            return;
        };
        let upto = state.confirmed;
        let (matched, level, nodes) = (confirm.matched, confirm.level, confirm.nodes);
        self.control(Frame::Confirm { link: id, upto, matched, level, nodes });
    }

    fn flush_credit(&mut self, id: u16) {
        let client = self.side == Side::Client;
        let Some(state) = numbered(&mut self.links, id) else {
            return;
        };
        let open = state.stage == Stage::Open || client && state.stage == Stage::Opening;
        if !open || state.granted == state.stated || state.role == self.side.sends() {
            return;
        }
        state.stated = state.granted;
        let (messages, bytes) = (state.granted.messages, state.granted.bytes);
        self.control(Frame::Credit { link: id, messages, bytes });
    }

    /// Adds one fragment per link, round after round, until the output is large enough.
    fn add_fragments(&mut self) {
        self.start_waiting();
        while let Some(id) = self.fragmenting.pop_front() {
            if self.add_fragment(id) {
                self.fragmenting.push_back(id);
            } else {
                self.start_waiting();
            }
            if self.out.len() >= GATHER {
                break;
            }
        }
    }

    /// Moves messages that wait into the round, as long as the peer has memory for them. They are
    /// taken in order, so that a large one is not overtaken for ever.
    fn start_waiting(&mut self) {
        while let Some(&id) = self.waiting.front() {
            let outgoing = numbered(&mut self.links, id).and_then(|state| state.outgoing.as_mut());
            if let Some(outgoing) = outgoing {
                let underway = self.underway.saturating_add(outgoing.charge());
                if underway > u64::from(self.limits.reassembly) {
                    break;
                }
                self.underway = underway;
                outgoing.started = true;
                self.fragmenting.push_back(id);
            }
            self.waiting.pop_front();
        }
    }

    /// Adds the next fragment of a link's message and says whether there are more.
    fn add_fragment(&mut self, id: u16) -> bool {
        let Some(state) = numbered(&mut self.links, id) else {
            return false;
        };
        let Some(mut message) = state.outgoing.take() else {
            return false;
        };
        let most = usize::try_from(self.limits.frame).unwrap_or(usize::MAX).min(PIECE);
        let total = message.payload.len();
        let left = total.saturating_sub(message.at);
        if !std::mem::replace(&mut message.begun, true) {
            let fixed = usize::try_from(Limits::TRANSFER_FIXED).unwrap_or(usize::MAX);
            let room = most.saturating_sub(fixed).saturating_sub(message.head.len());
            // The message does not fit into a frame, so this is never all of it.
            let len = room.min(left);
            let stated = u32::try_from(total).unwrap_or(u32::MAX);
            let (hop, head) = (&message.hop, &message.head[..]);
            let lead = Lead { link: id, hop, total: Some(stated), head, piece_len: len };
            lead.encode(self.out.buffer());
            self.out.push_payload(&message.payload.slice(..len));
            message.at = len;
        } else {
            let len = most.min(left);
            let end = message.at.saturating_add(len);
            let flags = if end < total { flag::MORE } else { 0 };
            let body_len = u32::try_from(len).unwrap_or(u32::MAX);
            let header = Header { body_len, kind: kind::FRAGMENT, flags, link: id };
            self.out.buffer().extend_from_slice(&header.encode());
            self.out.push_payload(&message.payload.slice(message.at..end));
            message.at = end;
        }
        if message.at < total {
            state.outgoing = Some(message);
            return true;
        }
        self.underway = self.underway.saturating_sub(message.charge());
        let link = Link { id, life: state.life };
        let then = state.then.take();
        self.events.push_back(Event::Writable { link });
        match then {
            Some(Then::Close) => self.close(link),
            Some(Then::Stopped) => self.stopped(link),
            None => {}
        }
        false
    }

    fn state(&self, link: Link) -> Option<&State> {
        let state = self.links.get(usize::from(link.id).checked_sub(1)?)?;
        (state.life == link.life).then_some(state)
    }
}

fn may_send(state: &State, sends: Role) -> bool {
    state.stage == Stage::Open && state.role == sends && !state.stopped && state.then.is_none()
}

fn within(len: usize, limit: u32) -> Result<(), TransferError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if len > limit { Err(TransferError::TooLarge { len, limit }) } else { Ok(()) }
}
