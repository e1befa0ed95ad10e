//! What a session tells its driver.

use std::time::Duration;

use bytes::Bytes;

use crate::code::Code;
use crate::hello::Hello;
use crate::link::{Link, Outcome, Role};
use crate::transfer::Transfer;

/// Something that the peer did, or that has become possible.
///
/// Texts and opaque bytes come from outside as they are: show them, do not trust them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The handshake is complete; what holds is in [`Session::limits`](crate::Session::limits).
    Established {
        /// What the peer stated.
        peer: Hello,
    },
    /// Server: the client asks for a link. Answer with `opened` or `refuse`.
    Opening {
        /// The new link.
        link: Link,
        /// Who sends on it.
        role: Role,
        /// What the client asks for, opaque to the protocol.
        options: Bytes,
    },
    /// Client: the link is open.
    Opened {
        /// Which link.
        link: Link,
        /// What the server says about it, opaque to the protocol.
        info: Bytes,
    },
    /// Client: the link was not opened; its handle is dead.
    Refused {
        /// Which link.
        link: Link,
        /// Why.
        code: Code,
        /// Why, for people.
        reason: String,
    },
    /// A message has arrived whole.
    Transfer {
        /// On which link.
        link: Link,
        /// The seq-th message of the link, from 1.
        seq: u64,
        /// The message.
        transfer: Transfer,
    },
    /// The peer granted credit. At most one such event per link waits to be polled.
    Credit {
        /// For which link.
        link: Link,
    },
    /// A transfer that was refused as `Busy` or `Full` may be tried again: the fragmented message
    /// is out, or what had gathered has been taken.
    Writable {
        /// On which link.
        link: Link,
    },
    /// Client: every message up to `upto` has its outcome, except those that were returned before.
    Confirm {
        /// On which link.
        link: Link,
        /// The last message that is covered.
        upto: u64,
        /// How many receivers the messages that are newly covered matched, together.
        matched: u64,
        /// The level that all of them reached, opaque to the protocol.
        level: u8,
        /// On how many nodes.
        nodes: u32,
    },
    /// Client: one message is handed back. This comes before the `Confirm` that covers it.
    Returned {
        /// On which link.
        link: Link,
        /// Which message.
        seq: u64,
        /// Why.
        code: Code,
        /// The level that it reached nevertheless.
        level: u8,
        /// Why, for people.
        reason: String,
    },
    /// Server: the client settles a range of deliveries, all of which had been sent to it.
    Settle {
        /// On which link.
        link: Link,
        /// The first delivery of the range.
        first: u64,
        /// The last delivery of the range.
        last: u64,
        /// What became of them.
        outcome: Outcome,
        /// Not before this long from now.
        after: Option<Duration>,
        /// Why, for people; empty if nothing was said.
        why: String,
    },
    /// Server: answer with `synced` once every settlement of the link so far is at its level.
    Sync {
        /// On which link.
        link: Link,
        /// To be repeated in the answer.
        token: u64,
    },
    /// Client: the answer to `sync`.
    Synced {
        /// On which link.
        link: Link,
        /// What `sync` was given.
        token: u64,
        /// [`Code::Ok`], or why not.
        code: Code,
        /// Why not, for people.
        reason: String,
    },
    /// Server: a delivery, which had been sent, is still being worked on.
    Extend {
        /// On which link.
        link: Link,
        /// Which delivery.
        number: u64,
    },
    /// Client: where in the queue that is read the next message of the link is. Those behind it follow
    /// each other until this comes again.
    Offset {
        /// On which link.
        link: Link,
        /// Where that is.
        offset: u64,
    },
    /// Client: nobody waits any more for what is to come of a delivery.
    Cancelled {
        /// On which link.
        link: Link,
        /// Which delivery.
        number: u64,
    },
    /// Server: send no more on this link; answer with `stopped`.
    Stop {
        /// Which link.
        link: Link,
    },
    /// Client: no message comes on this link any more; settling goes on.
    Stopped {
        /// Which link.
        link: Link,
    },
    /// Server: the client asks to close the link; answer with `closed`.
    Close {
        /// Which link.
        link: Link,
    },
    /// Client: the link is closed, as asked or by the server; its handle is dead.
    Closed {
        /// Which link.
        link: Link,
        /// [`Code::Ok`] if as asked.
        code: Code,
        /// Why, for people.
        reason: String,
    },
    /// Server: a call; answer with `result`.
    Call {
        /// To be repeated in the answer.
        id: u32,
        /// What is called, opaque to the protocol.
        method: u16,
        /// Its arguments, opaque to the protocol.
        body: Bytes,
    },
    /// Client: the answer to a call.
    Result {
        /// What `call` was given.
        id: u32,
        /// [`Code::Ok`], or why not.
        code: Code,
        /// What it returns, or why not; opaque to the protocol.
        body: Bytes,
    },
    /// Client: the server says something that was not asked for.
    Notice {
        /// What about.
        code: Code,
        /// More about it, opaque to the protocol.
        body: Bytes,
    },
    /// Server: the client waits no more for something that it asked for by a message.
    Cancel {
        /// For what, opaque to the protocol.
        body: Bytes,
    },
    /// The session has ended; nothing comes after this. What is left in the output (a goodbye, as
    /// a rule) should still be written before the connection is closed.
    Ended {
        /// Why.
        code: Code,
        /// Why, for people.
        reason: String,
        /// Whether the peer said so.
        by_peer: bool,
    },
}
