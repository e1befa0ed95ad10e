//! Sessions: whose they are, and how what belongs to one goes from the connection that was lost to
//! the one that it goes on over.
//!
//! While a session has no connection, the task of the last one keeps its links: what the client sent
//! still goes to the broker, and what was handed out waits. A connection whose client names the
//! session asks that task for them, also when it has not noticed yet that its own connection is
//! dead. Whoever is asked, hands over and ends.

use std::collections::{BTreeMap, BTreeSet};

use posthaste_core::sync::Mutex;
use posthaste_core::task::{ReadySet, lock};
use posthaste_core::transport::Peer;

use super::inbound::Inbound;
use super::outbound::Outbound;

/// The number under which a task is told that its session goes on over another connection.
pub(super) const SUPERSEDED: usize = usize::MAX - 1;
/// The number under which a task is told that its session's links are there to be taken.
pub(super) const HANDED_OVER: usize = usize::MAX - 2;

/// The name of a session.
pub(super) type Name = [u8; 16];

/// The links of a session, by their keys and lives.
pub(super) type Links = BTreeMap<(u64, u64), Kept>;

/// A link that goes on without its connection. When it is dropped, nobody came back for it.
pub(super) enum Kept {
    Sender(Inbound),
    Receiver(Outbound),
}

/// Every session of a server that is not over.
#[derive(Default)]
pub(super) struct Sessions(Mutex<BTreeMap<Name, Record>>);

struct Record {
    /// The connection whose session it is.
    owner: u64,
    ready: ReadySet,
    /// Who was at the other end: nobody else may go on with it.
    uid: Option<u32>,
    /// Earlier connections that have still to hand over.
    formers: BTreeSet<u64>,
    handed_over: Links,
}

/// What a claim came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The session begins.
    New,
    /// It goes on once the former connection has handed over.
    GoesOn,
    /// It is somebody else's.
    Refused,
}

impl Sessions {
    /// A connection's client has named its session.
    pub(super) fn claim(&self, name: Name, owner: u64, ready: &ReadySet, peer: &Peer) -> Claim {
        let uid = peer.credentials.as_ref().map(|credentials| credentials.uid);
        let mut sessions = lock(&self.0);
        let Some(record) = sessions.get_mut(&name) else {
            let (ready, formers) = (ready.clone(), BTreeSet::new());
            let record = Record { owner, ready, uid, formers, handed_over: Links::new() };
            sessions.insert(name, record);
            return Claim::New;
        };
        if record.uid != uid {
            return Claim::Refused;
        }
        record.formers.insert(std::mem::replace(&mut record.owner, owner));
        let former = std::mem::replace(&mut record.ready, ready.clone());
        drop(sessions);
        former.mark(SUPERSEDED);
        Claim::GoesOn
    }

    /// A connection that was superseded hands over what it has.
    pub(super) fn hand_over(&self, name: Name, former: u64, links: Links) {
        let mut sessions = lock(&self.0);
        let record = sessions.get_mut(&name);
        let Some(record) = record.filter(|record| record.formers.contains(&former)) else {
            drop(sessions);
            drop(links);
            return;
        };
        record.formers.remove(&former);
        record.handed_over.extend(links);
        if record.formers.is_empty() {
            let ready = record.ready.clone();
            drop(sessions);
            ready.mark(HANDED_OVER);
        }
    }

    /// What was handed over to a connection, once everything is.
    pub(super) fn take(&self, name: Name, owner: u64) -> Option<Links> {
        let mut sessions = lock(&self.0);
        let record = sessions.get_mut(&name)?;
        (record.owner == owner && record.formers.is_empty())
            .then(|| std::mem::take(&mut record.handed_over))
    }

    /// A connection ends, and its session with it, unless that goes on over another.
    pub(super) fn leave(&self, name: Name, owner: u64) {
        let mut sessions = lock(&self.0);
        if sessions.get(&name).is_some_and(|record| record.owner == owner) {
            let over = sessions.remove(&name);
            drop(sessions);
            drop(over);
        } else {
            drop(sessions);
            self.hand_over(name, owner, Links::new());
        }
    }
}
