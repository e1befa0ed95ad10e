//! What a session makes of the peer's frames: the rules of who may send what, and when.

use bytes::Bytes;

use super::{CALLS_MAX, Phase, Session, Side, find, numbered};
use crate::code::Code;
use crate::config::Config;
use crate::event::Event;
use crate::frame::{Frame, Piece, Run, Violation};
use crate::hello::Hello;
use crate::link::{Credit, Incoming, Link, Role, Stage, State, charge};
use crate::transfer::{Hop, Transfer};

const NOT_HELLO: Violation = Violation::protocol("the first frame is not HELLO or WELCOME");
const TWICE: Violation = Violation::protocol("HELLO or WELCOME comes a second time");
const WRONG_SIDE: Violation =
    Violation::protocol("a frame comes from the side that never sends it");
const NO_LINK: Violation = Violation::protocol("a frame is about a link that is not open");
const WRONG_ROLE: Violation = Violation::protocol("a frame does not suit the role of its link");
const NOT_WHOLE: Violation =
    Violation::protocol("a message comes before the fragmented one of its link is whole");
const AFTER_STOPPED: Violation = Violation::protocol("a message comes after STOPPED");
const NO_FIRST: Violation = Violation::protocol("a FRAGMENT comes without the TRANSFER it goes on");
const WRONG_TOTAL: Violation =
    Violation::protocol("fragments do not add up to the length that was stated");
const LESS: Violation = Violation::protocol("CREDIT takes back what was granted before");
const NOT_SENT: Violation = Violation::protocol("a range covers messages that were not sent");
const CONFIRMED: Violation =
    Violation::protocol("CONFIRM or RETURN is about messages that were confirmed before");
const AGAIN: Violation = Violation::protocol("STOP or STOPPED comes a second time");
const IN_USE: Violation = Violation::protocol("OPEN names a link that is in use");
const LINKS: Violation = Violation::new(Code::Limit, "OPEN exceeds the limit of links");
const SPARSE: Violation = Violation::protocol("OPEN skips link numbers that are free");
const HEAD: Violation = Violation::new(Code::TooLarge, "a head is over its limit");
const PAYLOAD: Violation = Violation::new(Code::TooLarge, "a payload is over its limit");
const BUDGET: Violation =
    Violation::new(Code::Limit, "fragmented messages exceed the reassembly budget");
const CALLS: Violation = Violation::new(Code::Limit, "more than 1,024 calls are outstanding");
const SAME_CALL: Violation = Violation::protocol("CALL names a call that is outstanding");
const NO_CALL: Violation = Violation::protocol("RESULT answers no call");

impl Session {
    /// Acts on one frame; `block` is the memory that it was decoded from.
    #[inline]
    pub(super) fn receive(&mut self, block: &Bytes, frame: Frame<'_>) -> Result<(), Violation> {
        if self.phase == Phase::Hello {
            return self.on_handshake(frame);
        }
        match frame {
            Frame::Fragment { link, more, piece } => self.on_fragment(link, more, piece),
            Frame::Credit { link, messages, bytes } => {
                self.on_credit(link, Credit { messages, bytes })
            }
            Frame::Ping { token } => {
                self.control(Frame::Pong { token });
                Ok(())
            }
            Frame::Pong { .. } | Frame::Unknown { .. } => Ok(()),
            Frame::Goodbye { code, reason } => {
                self.end(code, reason, true);
                Ok(())
            }
            Frame::Hello { .. } | Frame::Welcome { .. } => Err(TWICE),
            _ => match self.side {
                Side::Client => self.on_server_frame(block, frame),
                Side::Server => self.on_client_frame(block, frame),
            },
        }
    }

    fn on_handshake(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        let fields = match (self.side, frame) {
            (_, Frame::Goodbye { code, reason }) => {
                self.end(code, reason, true);
                return Ok(());
            }
            (Side::Client, Frame::Welcome { fields }) | (Side::Server, Frame::Hello { fields }) => {
                fields
            }
            _ => return Err(NOT_HELLO),
        };
        let peer = Hello::decode(fields)?;
        if !peer.speaks_ours() {
            let (min, max) = peer.versions;
            let what = format!("versions {min} to {max} were offered; version 1 is spoken");
            return Err(Violation::detailed(Code::Version, what));
        }
        if self.side == Side::Server {
            self.check_auth(&peer)?;
            self.preface();
            let welcome = Hello::encode(&self.config);
            self.control(Frame::Welcome { fields: &welcome });
        }
        self.limits = self.config.limits.meet(peer.limits);
        self.heartbeat = self.config.heartbeat.min(peer.heartbeat).max(Config::HEARTBEAT_MIN);
        self.phase = Phase::Established;
        self.events.push_back(Event::Established { peer });
        Ok(())
    }

    fn check_auth(&self, peer: &Hello) -> Result<(), Violation> {
        match peer.satisfies(self.config.auth) {
            Some(true) => Ok(()),
            Some(false) => {
                let what = format!("authentication is needed: {:?}", self.config.auth);
                Err(Violation::detailed(Code::Refused, what))
            }
            None => {
                let what = format!("authentication method {} is not supported", peer.auth);
                Err(Violation::detailed(Code::Unsupported, what))
            }
        }
    }

    /// Takes a TRANSFER of an established session.
    #[inline]
    pub(super) fn on_transfer(
        &mut self,
        block: &Bytes,
        piece: Piece<'_>,
        take: &mut impl FnMut(Link, u64, Transfer) -> Option<Transfer>,
    ) -> Result<(), Violation> {
        let Piece { link: id, hop, total, head, payload } = piece;
        let limits = self.limits;
        let Some(state) = receiving(&mut self.links, self.side, id)? else {
            return Ok(());
        };
        within(head.len(), limits.head, HEAD)?;
        if total.is_some() {
            return self.on_first_piece(piece);
        }
        within(payload.len(), limits.payload, PAYLOAD)?;
        let seq = state.take(charge(head.len(), payload.len()))?;
        let link = Link { id, life: state.life };
        let (head, payload) = (block.slice_ref(head), block.slice_ref(payload));
        let transfer = Transfer { hop, head, payload, count: 1 };
        self.hand_over(link, seq, transfer, take);
        Ok(())
    }

    /// Takes a RUN of an established session.
    #[inline]
    pub(super) fn on_run(
        &mut self,
        block: &Bytes,
        run: Run<'_>,
        take: &mut impl FnMut(Link, u64, Transfer) -> Option<Transfer>,
    ) -> Result<(), Violation> {
        let Run { link: id, attributes, head, payloads } = run;
        let limits = self.limits;
        let Some(state) = receiving(&mut self.links, self.side, id)? else {
            return Ok(());
        };
        within(head.len(), limits.head, HEAD)?;
        within(payloads.longest(), limits.payload, PAYLOAD)?;
        let hop = Hop { attributes, ..Hop::default() };
        let link = Link { id, life: state.life };
        if self.config.runs {
            let seq = state.take_run(head.len(), payloads)?;
            let (head, payload) = (block.slice_ref(head), block.slice_ref(payloads.as_bytes()));
            let transfer = Transfer { hop, head, payload, count: payloads.messages() };
            self.hand_over(link, seq, transfer, take);
            return Ok(());
        }
        let head = block.slice_ref(head);
        for payload in payloads {
            let Some(state) = find(&mut self.links, link) else {
                return Ok(());
            };
            let seq = state.take(charge(head.len(), payload.len()))?;
            let (head, payload) = (head.clone(), block.slice_ref(payload));
            self.hand_over(link, seq, Transfer { hop, head, payload, count: 1 }, take);
        }
        Ok(())
    }

    /// Events are told in order, so what comes behind one becomes one.
    #[inline]
    fn hand_over(
        &mut self,
        link: Link,
        seq: u64,
        transfer: Transfer,
        take: &mut impl FnMut(Link, u64, Transfer) -> Option<Transfer>,
    ) {
        let left = if self.events.is_empty() { take(link, seq, transfer) } else { Some(transfer) };
        if let Some(transfer) = left {
            self.events.push_back(Event::Transfer { link, seq, transfer });
        }
    }

    /// Takes a TRANSFER of which more is to come, on a link that may bring one.
    fn on_first_piece(&mut self, piece: Piece<'_>) -> Result<(), Violation> {
        let Piece { link: id, hop, total, head, payload } = piece;
        let whole = usize::try_from(total.unwrap_or(0)).map_err(|_| PAYLOAD)?;
        within(whole, self.limits.payload, PAYLOAD)?;
        let cost = charge(head.len(), whole);
        let Some(state) = numbered(&mut self.links, id) else {
            return Ok(());
        };
        let seq = state.take(cost)?;
        self.assembling = self.assembling.saturating_add(cost);
        if self.assembling > u64::from(self.limits.reassembly) {
            return Err(BUDGET);
        }
        // The head is copied: a slice would keep the whole block alive for as long as the rest of
        // the message takes to come, and that is not in the budget.
        let head = Bytes::copy_from_slice(head);
        let mut incoming = Incoming { seq, hop, head, payload: Vec::new(), total: whole };
        incoming.push(payload);
        state.incoming = Some(Box::new(incoming));
        Ok(())
    }

    fn on_fragment(&mut self, id: u16, more: bool, piece: &[u8]) -> Result<(), Violation> {
        let Some(state) = listening(&mut self.links, self.side, id)? else {
            return Ok(());
        };
        if state.role == self.side.sends() {
            return Err(WRONG_ROLE);
        }
        let Some(incoming) = state.incoming.as_mut() else {
            let crossed = self.side == Side::Client && state.stage == Stage::Closing;
            return if crossed { Ok(()) } else { Err(NO_FIRST) };
        };
        let left = incoming.total.saturating_sub(incoming.payload.len());
        let adds_up = if more { piece.len() < left } else { piece.len() == left };
        if !adds_up {
            return Err(WRONG_TOTAL);
        }
        incoming.push(piece);
        if more {
            return Ok(());
        }
        let link = Link { id, life: state.life };
        if let Some(whole) = state.incoming.take() {
            self.assembling = self.assembling.saturating_sub(whole.charge());
            let Incoming { seq, hop, head, payload, .. } = *whole;
            let transfer = Transfer { hop, head, payload: payload.into(), count: 1 };
            self.events.push_back(Event::Transfer { link, seq, transfer });
        }
        Ok(())
    }

    fn on_credit(&mut self, id: u16, granted: Credit) -> Result<(), Violation> {
        let Some(state) = listening(&mut self.links, self.side, id)? else {
            return Ok(());
        };
        if state.role != self.side.sends() {
            return Err(WRONG_ROLE);
        }
        if granted.messages < state.granted.messages || granted.bytes < state.granted.bytes {
            return Err(LESS);
        }
        state.granted = granted;
        if !state.announced && state.stage != Stage::Closing {
            state.announced = true;
            let link = Link { id, life: state.life };
            self.events.push_back(Event::Credit { link });
        }
        Ok(())
    }

    /// Server: a frame that only clients send.
    fn on_client_frame(&mut self, block: &Bytes, frame: Frame<'_>) -> Result<(), Violation> {
        let event = match frame {
            Frame::Open { link, role, options } => return self.on_open(block, link, role, options),
            Frame::Call { id, method, body } => {
                if self.calls.len() >= CALLS_MAX {
                    return Err(CALLS);
                }
                if !self.calls.insert(id) {
                    return Err(SAME_CALL);
                }
                Event::Call { id, method, body: block.slice_ref(body) }
            }
            Frame::Close { link: id } => {
                let Some(state) = listening(&mut self.links, self.side, id)? else {
                    return Ok(()); // It crossed this side's CLOSED, which is the answer.
                };
                let link = Link { id, life: state.life };
                self.release(id, Stage::Closing);
                Event::Close { link }
            }
            Frame::Stop { link: id } => {
                let Some(state) = self.receiver(id)? else {
                    return Ok(());
                };
                if std::mem::replace(&mut state.stopping, true) {
                    return Err(AGAIN);
                }
                Event::Stop { link: Link { id, life: state.life } }
            }
            Frame::Settle { link: id, outcome, first, last, after, why } => {
                let Some(state) = self.receiver(id)? else {
                    return Ok(());
                };
                if first == 0 || first > last || last > state.used.messages {
                    return Err(NOT_SENT);
                }
                let link = Link { id, life: state.life };
                Event::Settle { link, first, last, outcome, after, why: why.to_owned() }
            }
            Frame::Extend { link: id, number } => {
                let Some(state) = self.receiver(id)? else {
                    return Ok(());
                };
                if number == 0 || number > state.used.messages {
                    return Err(NOT_SENT);
                }
                Event::Extend { link: Link { id, life: state.life }, number }
            }
            Frame::Cancel { body } => Event::Cancel { body: block.slice_ref(body) },
            Frame::Sync { link: id, token } => {
                let Some(state) = self.receiver(id)? else {
                    return Ok(());
                };
                if state.stage == Stage::Opening {
                    return Err(NO_LINK);
                }
                Event::Sync { link: Link { id, life: state.life }, token }
            }
            _ => return Err(WRONG_SIDE),
        };
        self.events.push_back(event);
        Ok(())
    }

    /// Server: the link is one on which this side sends; `None` if the frame is to be discarded.
    fn receiver(&mut self, id: u16) -> Result<Option<&mut State>, Violation> {
        let state = listening(&mut self.links, self.side, id)?;
        match state {
            Some(state) if state.role != Role::Receiver => Err(WRONG_ROLE),
            other => Ok(other),
        }
    }

    fn on_open(
        &mut self,
        block: &Bytes,
        id: u16,
        role: Role,
        options: &[u8],
    ) -> Result<(), Violation> {
        if id > self.limits.links {
            return Err(LINKS);
        }
        if usize::from(id) == self.links.len().saturating_add(1) {
            self.links.push(State::free());
        }
        let state = numbered(&mut self.links, id).ok_or(SPARSE)?;
        if !matches!(state.stage, Stage::Free | Stage::Gone) {
            return Err(IN_USE);
        }
        state.begin(role);
        let link = Link { id, life: state.life };
        let options = block.slice_ref(options);
        self.events.push_back(Event::Opening { link, role, options });
        Ok(())
    }

    /// Client: a frame that only servers send.
    fn on_server_frame(&mut self, block: &Bytes, frame: Frame<'_>) -> Result<(), Violation> {
        let event = match frame {
            Frame::Opened { link: id, info } => {
                let state = numbered(&mut self.links, id).ok_or(NO_LINK)?;
                match state.stage {
                    Stage::Opening => state.stage = Stage::Open,
                    Stage::Closing if !state.opened => {
                        state.opened = true; // It crossed CLOSE, whose answer is still to come.
                        return Ok(());
                    }
                    _ => return Err(NO_LINK),
                }
                state.opened = true;
                Event::Opened { link: Link { id, life: state.life }, info: block.slice_ref(info) }
            }
            Frame::Refused { link: id, code, reason } => {
                let state = numbered(&mut self.links, id).ok_or(NO_LINK)?;
                let link = Link { id, life: state.life };
                let reason = reason.to_owned();
                let event = match state.stage {
                    Stage::Opening => Event::Refused { link, code, reason },
                    // After CLOSE there is exactly one `Closed`, whatever crossed it.
                    Stage::Closing if !state.opened => Event::Closed { link, code, reason },
                    _ => return Err(NO_LINK),
                };
                self.release(id, Stage::Free);
                self.free.insert(id);
                event
            }
            Frame::Closed { link: id, code, reason } => {
                let link = self.handle(id)?;
                self.release(id, Stage::Free);
                self.free.insert(id);
                Event::Closed { link, code, reason: reason.to_owned() }
            }
            Frame::Stopped { link: id } => {
                let link = self.handle(id)?;
                let Some(state) = find(&mut self.links, link) else {
                    return Ok(());
                };
                if state.role != Role::Receiver {
                    return Err(WRONG_ROLE);
                }
                if std::mem::replace(&mut state.stopped, true) {
                    return Err(AGAIN);
                }
                if state.incoming.is_some() {
                    return Err(WRONG_TOTAL);
                }
                Event::Stopped { link }
            }
            Frame::Confirm { link: id, upto, matched, level, nodes } => {
                let link = self.covered(id, upto)?;
                if let Some(state) = find(&mut self.links, link) {
                    state.confirmed = upto;
                }
                Event::Confirm { link, upto, matched, level, nodes }
            }
            Frame::Return { link: id, seq, code, level, reason } => {
                let link = self.covered(id, seq)?;
                Event::Returned { link, seq, code, level, reason: reason.to_owned() }
            }
            Frame::Synced { link: id, token, code, reason } => {
                let link = self.handle(id)?;
                Event::Synced { link, token, code, reason: reason.to_owned() }
            }
            Frame::Cancelled { link: id, number } => {
                let link = self.handle(id)?;
                let Some(state) = find(&mut self.links, link) else {
                    return Ok(());
                };
                if state.role != Role::Receiver {
                    return Err(WRONG_ROLE);
                }
                if state.stage == Stage::Closing {
                    return Ok(()); // Nobody can be told any more.
                }
                if number == 0 || number > state.used.messages {
                    return Err(NOT_SENT);
                }
                Event::Cancelled { link, number }
            }
            Frame::Offset { link: id, offset } => {
                let link = self.handle(id)?;
                let Some(state) = find(&mut self.links, link) else {
                    return Ok(());
                };
                if state.role != Role::Receiver {
                    return Err(WRONG_ROLE);
                }
                if state.incoming.is_some() {
                    return Err(NOT_WHOLE);
                }
                if state.stage == Stage::Closing {
                    return Ok(()); // No message is told any more.
                }
                Event::Offset { link, offset }
            }
            Frame::Result { id, code, body } => {
                if !self.calls.remove(&id) {
                    return Err(NO_CALL);
                }
                Event::Result { id, code, body: block.slice_ref(body) }
            }
            Frame::Notice { code, body } => Event::Notice { code, body: block.slice_ref(body) },
            _ => return Err(WRONG_SIDE),
        };
        self.events.push_back(event);
        Ok(())
    }

    /// Client: the handle of a link that the server may speak about.
    fn handle(&mut self, id: u16) -> Result<Link, Violation> {
        let state = listening(&mut self.links, self.side, id)?.ok_or(NO_LINK)?;
        Ok(Link { id, life: state.life })
    }

    /// Client: the handle of a sending link, of which `seq` was sent and is not confirmed.
    fn covered(&mut self, id: u16, seq: u64) -> Result<Link, Violation> {
        let state = listening(&mut self.links, self.side, id)?.ok_or(NO_LINK)?;
        if state.role != Role::Sender {
            return Err(WRONG_ROLE);
        }
        if seq > state.used.messages {
            return Err(NOT_SENT);
        }
        if seq <= state.confirmed {
            return Err(CONFIRMED);
        }
        Ok(Link { id, life: state.life })
    }
}

/// The link that a message has come on; `None` if it is to be discarded.
#[inline]
fn receiving(links: &mut [State], side: Side, id: u16) -> Result<Option<&mut State>, Violation> {
    let Some(state) = listening(links, side, id)? else {
        return Ok(None);
    };
    if state.role == side.sends() {
        return Err(WRONG_ROLE);
    }
    if side == Side::Client && state.stage == Stage::Closing {
        return Ok(None); // It crossed this side's CLOSE: whoever sent it still has it.
    }
    if state.stopped {
        return Err(AFTER_STOPPED);
    }
    if state.incoming.is_some() {
        return Err(NOT_WHOLE);
    }
    Ok(Some(state))
}

#[inline]
fn within(len: usize, limit: u32, violation: Violation) -> Result<(), Violation> {
    if len > usize::try_from(limit).unwrap_or(usize::MAX) { Err(violation) } else { Ok(()) }
}

/// The link that a frame of the peer is about; `None` if the frame is to be discarded because it
/// was on its way when this side refused or closed the link.
#[inline]
fn listening(links: &mut [State], side: Side, id: u16) -> Result<Option<&mut State>, Violation> {
    let state = numbered(links, id).ok_or(NO_LINK)?;
    match (side, state.stage) {
        (_, Stage::Open) | (Side::Server, Stage::Opening) => Ok(Some(state)),
        (Side::Client, Stage::Closing) => Ok(Some(state)),
        (Side::Server, Stage::Gone) => Ok(None),
        _ => Err(NO_LINK),
    }
}
