//! The commands of a server.

use super::{CommandError, Session, Side, find};
use crate::code::Code;
use crate::frame::Frame;
use crate::link::{Confirm, Link, Role, Stage, State, Then};

impl Session {
    /// Server: opens the link that was asked for, with `info` for the client.
    ///
    /// If the client has asked to close it meanwhile, this does nothing: answer with `closed`.
    /// What does not fit into a frame is not sent; the link is refused instead.
    pub fn opened(&mut self, link: Link, info: &[u8]) {
        if let Err(error) = self.fits(info.len()) {
            self.refuse(link, Code::TooLarge, &error.to_string());
            return;
        }
        let Some(state) = self.theirs(link, None, &[Stage::Opening]) else {
            return;
        };
        state.stage = Stage::Open;
        self.control(Frame::Opened { link: link.id, info });
        self.mark(link.id);
    }

    /// Server: refuses the link that was asked for; its handle is dead.
    pub fn refuse(&mut self, link: Link, code: Code, reason: &str) {
        if self.theirs(link, None, &[Stage::Opening]).is_some() {
            self.release(link.id, Stage::Gone);
            self.control(Frame::Refused { link: link.id, code, reason });
        } else if self.theirs(link, None, &[Stage::Closing]).is_some() {
            self.closed(link, code, reason);
        }
    }

    /// Server: every message of a sending link up to `upto` has its outcome. `matched` counts the
    /// receivers of those that are newly covered, `level` and `nodes` hold for all of them.
    ///
    /// Confirms of the same level and nodes become one frame, which is written with the next swap.
    pub fn confirm(&mut self, link: Link, upto: u64, matched: u64, level: u8, nodes: u32) {
        let stages = [Stage::Open, Stage::Closing];
        let Some(state) = self.theirs(link, Some(Role::Sender), &stages) else {
            return;
        };
        if upto <= state.confirmed || upto > state.used.messages {
            return;
        }
        match &mut state.confirm {
            Some(confirm) if (confirm.level, confirm.nodes) == (level, nodes) => {
                confirm.matched = confirm.matched.saturating_add(matched);
                state.confirmed = upto;
            }
            _ => {
                self.flush_confirm(link.id);
                let Some(state) = find(&mut self.links, link) else {
                    return;
                };
                state.confirm = Some(Confirm { matched, level, nodes });
                state.confirmed = upto;
                self.mark(link.id);
            }
        }
    }

    /// Server: hands one message of a sending link back. Say it before the confirm that covers it.
    pub fn return_(&mut self, link: Link, seq: u64, code: Code, level: u8, reason: &str) {
        let stages = [Stage::Open, Stage::Closing];
        let Some(state) = self.theirs(link, Some(Role::Sender), &stages) else {
            return;
        };
        if seq > state.confirmed && seq <= state.used.messages {
            self.control(Frame::Return { link: link.id, seq, code, level, reason });
        }
    }

    /// Server: answers [`Event::Sync`](crate::Event::Sync).
    pub fn synced(&mut self, link: Link, token: u64, code: Code, reason: &str) {
        let stages = [Stage::Open, Stage::Closing];
        if self.theirs(link, Some(Role::Receiver), &stages).is_some() {
            self.control(Frame::Synced { link: link.id, token, code, reason });
        }
    }

    /// Server: tells the client that nobody waits any more for what is to come of a delivery of a
    /// receiving link. `false` if its message is still under way: say it again once that is out.
    pub fn cancelled(&mut self, link: Link, number: u64) -> bool {
        let Some(state) = self.theirs(link, Some(Role::Receiver), &[Stage::Open]) else {
            return true;
        };
        let last = state.used.messages;
        if number == last && state.outgoing.is_some() {
            return false;
        }
        if (1..=last).contains(&number) {
            self.control(Frame::Cancelled { link: link.id, number });
        }
        true
    }

    /// Server: tells the client where in the queue that is read the next message of a receiving link
    /// is; those behind it follow each other until this is said again. Say it when there is
    /// [`room`](Self::room) for that message: while a fragmented one is under way nothing is told.
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
    /// # let link = client.open(Role::Receiver, b"options").expect("a link is free");
    /// # client.grant(link, 10, 1_000);
    /// # server.handle_input(&mut said(&mut client), now);
    /// # while let Some(event) = server.poll_event() {
    /// #     if let Event::Opening { link, .. } = event {
    /// #         server.opened(link, b"info");
    /// #     }
    /// # }
    /// # client.handle_input(&mut said(&mut server), now);
    /// # server.handle_input(&mut said(&mut client), now);
    /// # while client.poll_event().is_some() {}
    /// // On a link that is open and has credit,
    /// if server.room(link) {
    ///     server.offset(link, 1_000);
    ///     server.transfer(link, &Hop::default(), b"head", &Bytes::from("body"))?;
    /// }
    /// client.handle_input(&mut said(&mut server), now);
    /// assert_eq!(client.poll_event(), Some(Event::Offset { link, offset: 1_000 }));
    /// assert!(matches!(client.poll_event(), Some(Event::Transfer { seq: 1, .. })));
    /// # Ok::<(), posthaste_wire::TransferError>(())
    /// ```
    pub fn offset(&mut self, link: Link, offset: u64) {
        let goes = self
            .theirs(link, Some(Role::Receiver), &[Stage::Open])
            .is_some_and(|state| state.outgoing.is_none() && !state.stopped);
        if goes {
            self.control(Frame::Offset { link: link.id, offset });
        }
    }

    /// Server: sends no more on a receiving link, as asked by [`Event::Stop`](crate::Event::Stop)
    /// or of its own accord. A fragmented message that is under way goes out first.
    pub fn stopped(&mut self, link: Link) {
        let Some(state) = self.theirs(link, Some(Role::Receiver), &[Stage::Open]) else {
            return;
        };
        if state.outgoing.is_some() {
            state.then = Some(Then::Stopped);
        } else if !std::mem::replace(&mut state.stopped, true) {
            self.control(Frame::Stopped { link: link.id });
        }
    }

    /// Server: closes a link, as asked by [`Event::Close`](crate::Event::Close) or of its own
    /// accord; its handle is dead. A confirm that waits is told before. A fragmented message that
    /// is under way is abandoned.
    pub fn closed(&mut self, link: Link, code: Code, reason: &str) {
        let Some(state) = self.theirs(link, None, &[Stage::Opening, Stage::Open, Stage::Closing])
        else {
            return;
        };
        let next = match state.stage {
            Stage::Opening => return self.refuse(link, code, reason),
            // The client knows: nothing of it can still be on its way.
            Stage::Closing => Stage::Free,
            _ => Stage::Gone,
        };
        self.flush_confirm(link.id);
        self.release(link.id, next);
        self.control(Frame::Closed { link: link.id, code, reason });
    }

    /// Server: answers [`Event::Call`](crate::Event::Call). What does not fit into a frame is not
    /// sent; the answer is [`Code::TooLarge`] instead.
    pub fn result(&mut self, id: u32, code: Code, body: &[u8]) {
        if !self.established_as(Side::Server) || !self.calls.remove(&id) {
            return;
        }
        match self.fits(body.len()) {
            Ok(()) => self.control(Frame::Result { id, code, body }),
            Err(_) => self.control(Frame::Result { id, code: Code::TooLarge, body: &[] }),
        }
    }

    /// Server: tells the client something that it did not ask for.
    ///
    /// # Errors
    /// If the session is not established or the body is too large.
    pub fn notice(&mut self, code: Code, body: &[u8]) -> Result<(), CommandError> {
        if !self.established_as(Side::Server) {
            return Err(CommandError::Closed);
        }
        self.fits(body.len())?;
        self.control(Frame::Notice { code, body });
        Ok(())
    }

    /// The state of a link that a server may give commands about.
    fn theirs(&mut self, link: Link, role: Option<Role>, stages: &[Stage]) -> Option<&mut State> {
        if self.side != Side::Server {
            return None;
        }
        find(&mut self.links, link)
            .filter(|state| stages.contains(&state.stage))
            .filter(|state| role.is_none_or(|role| role == state.role))
    }
}
