//! What belongs to a session: how a connection comes by it, keeps it when it is lost, and hands it
//! over to the one that the client comes back over.

use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use posthaste_core::transport::Peer;
use posthaste_wire::{Code, Role};

use super::{Connection, Ended, FIRST_WATCH, Opened, Outbound, Phase, Stage, Watch, sender_opened};
use crate::pump::after;
use crate::server::sessions::{Claim, Kept, Links, Name};

/// The session of a connection, and what of it was handed over and is not claimed yet.
pub(super) struct Belongings {
    /// This connection's number.
    number: u64,
    /// The session, if the client has named one and comes back for it.
    name: Option<Name>,
    /// Whether a former connection has still to hand over.
    awaited: bool,
    unclaimed: Links,
    /// Until when the client may claim it.
    until: Option<Instant>,
    /// Whether everything has gone to the connection that the session goes on over.
    gone: bool,
}

impl Belongings {
    pub(super) fn new(number: u64) -> Self {
        let (name, awaited, until, gone) = (None, false, None, false);
        Self { number, name, awaited, unclaimed: Links::new(), until, gone }
    }

    /// Whether there is nothing that nobody has claimed yet, and nothing to come.
    pub(super) fn are_none(&self) -> bool {
        self.unclaimed.is_empty() && !self.awaited
    }

    /// Whether what belongs to the session has still to come.
    pub(super) fn are_awaited(&self) -> bool {
        self.awaited
    }
}

impl Connection {
    /// The client has named its session.
    pub(super) fn begin_session(&mut self, name: Name, peer: &Peer) {
        if name == Name::default() || self.shared.options.session_linger.is_zero() {
            return;
        }
        let claim = self.shared.sessions.claim(name, self.belongings.number, &self.ready, peer);
        if claim == Claim::Refused {
            tracing::warn!(%peer, "a peer names the session of another user; it gets none");
            return;
        }
        self.belongings.name = Some(name);
        self.belongings.awaited = claim == Claim::GoesOn;
    }

    /// What belongs to the session is there.
    pub(super) fn handed_over(&mut self) {
        let Some(name) = self.belongings.name else { return };
        let Some(links) = self.shared.sessions.take(name, self.belongings.number) else { return };
        self.belongings.unclaimed.extend(links);
        self.belongings.awaited = false;
        let linger = self.shared.options.session_linger;
        self.belongings.until = Some(after(self.now(), linger));
        for at in 0..self.links.len() {
            self.begin(at);
        }
    }

    /// Opens a link that waits for that: where it was, if it wants that and is known here.
    pub(super) fn begin(&mut self, at: usize) {
        let Some(task) = self.links.get_mut(at).and_then(Option::as_deref_mut) else {
            return;
        };
        let Stage::Awaiting(role, options) = &mut task.stage else {
            return;
        };
        let (role, options) = (*role, std::mem::take(options));
        let identity = task.identity;
        let kept = self.belongings.unclaimed.remove(&(identity.key, identity.life));
        match (kept, identity.resume_at) {
            (Some(kept), Some(from)) => self.go_on(at, role, &options, kept, from),
            _ => {
                // What it does not want, or has never heard of, is lost.
                self.belongings.unclaimed.retain(|(key, _), _| *key != identity.key);
                self.begin_anew(at, role, &options);
            }
        }
    }

    /// It cannot go on where it was: it begins anew, if that is any use.
    fn begin_anew(&mut self, at: usize, role: Role, options: &[u8]) {
        match self.links.get(at).and_then(Option::as_deref) {
            Some(task) if task.identity.or_nothing => {
                let link = task.link;
                self.links[at] = None;
                let reason = "what the link has left to say is about a session that is over";
                self.session.refuse(link, Code::SessionLost, reason);
            }
            _ => self.open_anew(at, role, options),
        }
    }

    fn go_on(&mut self, at: usize, role: Role, options: &Bytes, kept: Kept, from: u64) {
        let Some(task) = self.links.get_mut(at).and_then(Option::as_deref_mut) else {
            return;
        };
        let link = task.link;
        match (role, kept) {
            (Role::Sender, Kept::Sender(mut inbound)) => {
                if !inbound.resume(from) {
                    return self.begin_anew(at, role, options);
                }
                sender_opened(&mut self.session, task.identity.life, link, &inbound, true);
                self.senders += 1;
                task.stage = Stage::Sender(inbound);
                self.again(link);
            }
            (Role::Receiver, Kept::Receiver(outbound)) => {
                self.receiver_goes_on(at, options, outbound, from);
            }
            _ => self.begin_anew(at, role, options),
        }
    }

    fn receiver_goes_on(&mut self, at: usize, options: &[u8], mut outbound: Outbound, from: u64) {
        let watch = Watch::new(self.ready.clone(), FIRST_WATCH + at);
        let Some(opened) = outbound.resume(from, watch) else {
            drop(outbound);
            return self.begin_anew(at, Role::Receiver, options);
        };
        let Some(task) = self.links.get_mut(at).and_then(Option::as_deref_mut) else {
            return;
        };
        let opened = Opened { life: task.identity.life, ..opened };
        self.session.opened(task.link, &opened.encode());
        if task.stopping {
            outbound.stop();
        }
        task.stage = Stage::Receiver(outbound);
        let link = task.link;
        self.again(link);
    }

    /// What the client has not claimed in time is lost.
    pub(super) fn forget_unclaimed(&mut self, cx: &mut Context<'_>) {
        if self.belongings.unclaimed.is_empty() {
            self.belongings.until = None;
        } else if self.pump.poll_due(cx, self.belongings.until) {
            self.belongings.until = None;
            self.belongings.unclaimed = Links::new();
        }
    }

    /// The connection has ended with `code`: whether its client may come back for what belongs to
    /// it. It may after a loss, not after a word.
    pub(super) fn keep_session(&mut self, code: Code, now: Instant) -> bool {
        let lost = matches!(code, Code::ConnectionLost | Code::Heartbeat);
        let named = self.belongings.name.is_some();
        if !lost || !named || self.told > Phase::Open || !self.member.linger() {
            return false;
        }
        self.pump.hang_up();
        for (at, place) in self.links.iter_mut().enumerate() {
            let Some(task) = place else { continue };
            match &mut task.stage {
                Stage::Receiver(outbound) => outbound.detach(),
                // What the client sent still goes to the broker.
                Stage::Sender(_) => self.run.push(at),
                _ => *place = None,
            }
        }
        let linger = after(now, self.shared.options.session_linger);
        self.ended = Some(Ended { write: None, linger, keeps: true });
        true
    }

    /// The client has come back over another connection, which gets everything.
    pub(super) fn superseded(&mut self) {
        let mut links = self.take_links();
        links.append(&mut self.belongings.unclaimed);
        if let Some(name) = self.belongings.name.take() {
            self.shared.sessions.hand_over(name, self.belongings.number, links);
        }
        self.belongings.gone = true;
    }

    /// Whether there is nothing left to do here, because the session goes on elsewhere.
    pub(super) fn has_handed_over(&self) -> bool {
        self.belongings.gone
    }

    /// The connection ends for good, and so does its session, unless it goes on elsewhere.
    pub(super) fn leave_session(&mut self) {
        self.belongings.unclaimed = Links::new();
        if let Some(name) = self.belongings.name.take() {
            self.shared.sessions.leave(name, self.belongings.number);
        }
    }

    fn take_links(&mut self) -> Links {
        let mut links = Links::new();
        for task in self.links.drain(..).flatten() {
            let kept = match task.stage {
                Stage::Sender(mut inbound) => {
                    inbound.detach();
                    Kept::Sender(inbound)
                }
                Stage::Receiver(mut outbound) => {
                    outbound.detach();
                    Kept::Receiver(outbound)
                }
                _ => continue,
            };
            if task.identity.key != 0 {
                links.insert((task.identity.key, task.identity.life), kept);
            }
        }
        links
    }
}
