//! The commands of a client.

use std::time::Duration;

use super::{CALLS_MAX, CommandError, Session, Side, Tail, find, numbered};
use crate::frame::Frame;
use crate::link::{Link, Outcome, Role, Stage, State, Then};

impl Session {
    /// Client: asks for a link on which this side plays `role`. It is answered by
    /// [`Event::Opened`](crate::Event::Opened) or [`Event::Refused`](crate::Event::Refused).
    ///
    /// # Errors
    /// If the session is not established, all links are in use, or the options are too large.
    pub fn open(&mut self, role: Role, options: &[u8]) -> Result<Link, CommandError> {
        if !self.established_as(Side::Client) {
            return Err(CommandError::Closed);
        }
        self.fits(options.len())?;
        let id = match self.free.pop_first() {
            Some(id) => id,
            None => self.new_number().ok_or(CommandError::Limit)?,
        };
        let state = numbered(&mut self.links, id).ok_or(CommandError::Limit)?;
        state.begin(role);
        let link = Link { id, life: state.life };
        self.control(Frame::Open { link: id, role, options });
        Ok(link)
    }

    /// Client: asks to close a link. Exactly one [`Event::Closed`](crate::Event::Closed) follows.
    ///
    /// A fragmented message that is under way goes out first. Messages that come in meanwhile are
    /// not told any more; confirms and returns are.
    pub fn close(&mut self, link: Link) {
        let Some(state) = self.mine(link, None) else {
            return;
        };
        if state.outgoing.is_some() {
            state.then = Some(Then::Close);
            return;
        }
        self.release(link.id, Stage::Closing);
        self.control(Frame::Close { link: link.id });
    }

    /// Client: asks for no more messages on a receiving link; settling them goes on.
    pub fn stop(&mut self, link: Link) {
        if let Some(state) = self.mine(link, Some(Role::Receiver))
            && !std::mem::replace(&mut state.stopping, true)
        {
            self.control(Frame::Stop { link: link.id });
        }
    }

    /// Client: settles the messages `first` to `last` of a receiving link, all of which have come.
    ///
    /// A range with nothing but its outcome that begins where the one before ended, with nothing
    /// written in between, makes that one longer instead of taking a frame of its own.
    pub fn settle(
        &mut self,
        link: Link,
        first: u64,
        last: u64,
        outcome: Outcome,
        after: Option<Duration>,
        why: &str,
    ) {
        let Some(state) = self.mine(link, Some(Role::Receiver)) else {
            return;
        };
        if first == 0 || first > last || last > state.used.messages {
            return;
        }
        let plain = after.is_none() && why.is_empty();
        if plain && self.join_tail(link, first, last, outcome) {
            return;
        }
        self.control(Frame::Settle { link: link.id, outcome, first, last, after, why });
        let end = self.out.buffer().len();
        self.tail = plain.then_some(Tail { link, outcome, last, end });
    }

    /// Client: says that a delivery of a receiving link is still being worked on.
    pub fn extend(&mut self, link: Link, number: u64) {
        let state = self.mine(link, Some(Role::Receiver));
        if state.is_some_and(|state| (1..=state.used.messages).contains(&number)) {
            self.control(Frame::Extend { link: link.id, number });
        }
    }

    /// Client: asks to be told when every settlement of the link so far is at its queue's own
    /// level. It is answered by [`Event::Synced`](crate::Event::Synced) with the same `token`.
    pub fn sync(&mut self, link: Link, token: u64) {
        let state = self.mine(link, Some(Role::Receiver));
        if state.is_some_and(|state| state.stage == Stage::Open) {
            self.control(Frame::Sync { link: link.id, token });
        }
    }

    /// Client: calls `method`. It is answered by [`Event::Result`](crate::Event::Result) with the
    /// same `id`, which the caller chooses and does not use again before.
    ///
    /// # Errors
    /// If the session is not established, 1,024 calls (or one with this `id`) are outstanding, or
    /// the body is too large.
    pub fn call(&mut self, id: u32, method: u16, body: &[u8]) -> Result<(), CommandError> {
        if !self.established_as(Side::Client) {
            return Err(CommandError::Closed);
        }
        self.fits(body.len())?;
        if self.calls.len() >= CALLS_MAX || !self.calls.insert(id) {
            return Err(CommandError::Limit);
        }
        self.control(Frame::Call { id, method, body });
        Ok(())
    }

    /// Client: says that it waits no more for something that it asked for by a message. Nothing
    /// answers, and nothing is amiss if this is lost.
    ///
    /// # Errors
    /// If the session is not established or the body is too large.
    pub fn cancel(&mut self, body: &[u8]) -> Result<(), CommandError> {
        if !self.established_as(Side::Client) {
            return Err(CommandError::Closed);
        }
        self.fits(body.len())?;
        self.control(Frame::Cancel { body });
        Ok(())
    }

    /// The next number that has never been used.
    fn new_number(&mut self) -> Option<u16> {
        let id = u16::try_from(self.links.len().saturating_add(1)).ok()?;
        if id > self.limits.links {
            return None;
        }
        self.links.push(State::free());
        Some(id)
    }

    /// The state of a link that a client may give commands about.
    fn mine(&mut self, link: Link, role: Option<Role>) -> Option<&mut State> {
        if self.side != Side::Client {
            return None;
        }
        find(&mut self.links, link)
            .filter(|state| matches!(state.stage, Stage::Opening | Stage::Open))
            .filter(|state| role.is_none_or(|role| role == state.role))
    }

    /// Makes the SETTLE that ends the output longer, if this range continues it.
    fn join_tail(&mut self, link: Link, first: u64, last: u64, outcome: Outcome) -> bool {
        let Some(tail) = &mut self.tail else {
            return false;
        };
        let buffer = self.out.buffer();
        let continues = tail.link == link
            && tail.outcome == outcome
            && tail.last.checked_add(1) == Some(first)
            && tail.end == buffer.len();
        let Some(place) = buffer.last_chunk_mut::<8>().filter(|_| continues) else {
            return false;
        };
        *place = last.to_le_bytes();
        tail.last = last;
        true
    }
}
