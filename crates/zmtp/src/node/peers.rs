//! Peers: they come, say what they want, and go.

use posthaste_core::Error;
use posthaste_core::ErrorKind;

use super::peer::{Known, Out, Peer};
use super::{DialState, Lane, State};

impl State {
    /// A peer has introduced itself.
    pub(crate) fn attach(&mut self, known: Known) -> u64 {
        let id = self.number();
        let mut peer = Peer::new(known);
        for mailbox in self.boxes.values().filter(|mailbox| mailbox.members > 0) {
            if let Some(ask) = mailbox.what.asks(known.lane, known.posthaste) {
                peer.give(Out::Subscribe(ask));
            }
        }
        if let Some(dial) = known.dial.and_then(|dial| self.dials.get_mut(dial)) {
            // What it wants is known when it answers this.
            let synced = peer.ping();
            dial.state = DialState::Up { peer: id, synced };
        }
        self.peers.insert(id, peer);
        if known.lane == Lane::Push {
            self.pump_all();
        }
        self.notify();
        id
    }

    /// A peer is gone.
    pub(crate) fn detach(&mut self, id: u64) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        for mailbox in self.boxes.values_mut() {
            mailbox.since.remove(&id);
        }
        for ((_, correlation), reply_to) in peer.take_asked() {
            self.say_lost(correlation, &reply_to);
        }
        let mut unsent = Vec::new();
        while let Some(out) = peer.take() {
            if let Out::Queued(queue, queued) = out {
                unsent.push((queue, queued));
            }
        }
        for (queue, queued) in unsent.into_iter().rev() {
            self.pipes.entry(queue).or_default().put_back(queued);
        }
        self.pump_all();
        self.notify();
    }

    pub(crate) fn peer(&mut self, id: u64) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Whether every peer of a lane is Posthaste, too.
    pub(crate) fn is_posthaste(&self, lane: Lane) -> bool {
        self.on(lane).all(|peer| peer.known.posthaste)
    }

    fn on(&self, lane: Lane) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(move |peer| peer.known.lane == lane)
    }

    /// There is room for what goes out on a lane where there was none.
    pub(crate) fn drained(&mut self, lane: Lane) {
        if lane == Lane::Push {
            self.pump_all();
        }
        self.notify();
    }

    /// What a peer was given has been written.
    pub(crate) fn wrote(&mut self, id: u64, count: u64) {
        if count > 0
            && let Some(peer) = self.peers.get_mut(&id)
        {
            peer.written += count;
            self.notify();
        }
    }

    /// A peer has answered a heartbeat.
    pub(crate) fn ponged(&mut self, id: u64, ping: u64) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.ponged = peer.ponged.max(ping);
            self.notify();
        }
    }

    /// A peer says what it wants, or does not want any more.
    pub(crate) fn wants(&mut self, id: u64, body: bytes::Bytes, wanted: bool) -> Result<(), Error> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        if !peer.known.lane.is_asked_for(peer.known.posthaste) {
            let text = "a peer subscribed where nothing is published";
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        match wanted {
            true => peer.wants.add(body, peer.known.posthaste)?,
            false => peer.wants.remove(&body, peer.known.posthaste),
        }
        if peer.known.lane == Lane::Push {
            self.pump_all();
        }
        self.notify();
        Ok(())
    }
}
