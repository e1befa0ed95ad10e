//! The traits of Posthaste and the three patterns, for any executor, transport and broker.
//!
//! ```
//! use posthaste_core::{Bus, ReceiverExt};
//! use posthaste_memory::Memory;
//!
//! # fn main() -> Result<(), posthaste_core::Error> {
//! pollster::block_on(async {
//!     let bus = Bus::new(Memory::new());
//!     let mut all = bus.subscribe("home.*.temperature").await?;
//!     let receipt = bus.publish("home.kitchen.temperature", "21.5").await?;
//!     assert_eq!(receipt.matched, 1);
//!     assert_eq!(all.next_delivery().await?.payload(), "21.5");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Applications hold a [`Bus`]. Under it lies a [`Broker`], which opens [`Sender`]s and
//! [`Receiver`]s: the in-process one, one behind a link, or somebody else's engine. A
//! [`Runtime`] and a [`Transport`](transport::Transport) come in by value. This crate names no
//! executor, opens no socket and reads no clock.
//!
//! | to | call |
//! |---|---|
//! | publish to all who subscribe | [`Bus::publish`], [`Bus::subscribe`] |
//! | hand each message to one of many | [`Bus::send`], [`Bus::consume`], [`Consumer`] |
//! | ask and be answered | [`Bus::request`], [`Bus::serve`] |
//! | ask everybody | [`Bus::survey`] |
//! | send many in flight, in order | [`Bus::sender`], then [`SenderExt::feed`] or [`SenderExt::feed_many`], and [`SenderExt::flush`] |
//!
//! # Cancel safety
//!
//! Every future here may be dropped at any point, in a `select!` or by a timeout, and the chapter
//! "Cancel safety" of each method says what that means. In short:
//!
//! - A dropped **receive** takes no message and no wake-up: [`ReceiverExt::recv`] may be called
//!   anew in every turn of a loop. In a `select!` prefer it to the stream.
//! - A dropped **send** is unsent if the message was not taken yet. To keep the message too, send
//!   from a slot of your own with [`SenderExt::send_from`]. Once it was taken it is sent, and its
//!   outcome belongs to the next flush.
//! - A dropped **flush** loses nothing: what was confirmed meanwhile is in the next receipt.
//! - A dropped **request** frees its slot and is cancelled: its handler is dropped. A late reply is
//!   counted and delivered to nobody.
//! - A dropped **delivery** is delivered again; the requester of a dropped [`Request`] is told.
//!
//! Dropping a handle, inside or outside of an executor, never blocks, spawns or panics. What this
//! cannot cover is a future that is neither polled nor dropped: hold none across a long wait.
//!
//! # Laws
//!
//! What a backend promises is written as numbered laws in the documentation of each trait, and
//! the conformance kit has a test by the number of each: **S** on [`Sender`], **R** on
//! [`Receiver`], **B**, **D** and **Q** on [`Broker`], **T** on
//! [`Transport`](transport::Transport), **X** on [`Runtime`]. The patterns of the [`Bus`] rely on
//! these laws and on nothing else, so a backend that keeps them gets every pattern.

/// Futures that wait at a handle give their place there up when they are dropped.
macro_rules! disarm_when_dropped {
    ($handle:ident: $field:ident, [$($future:ident),+]) => {
        $(impl<H: $handle + ?Sized> Drop for $future<'_, H> {
            #[inline]
            fn drop(&mut self) {
                if self.armed {
                    self.$field.disarm();
                }
            }
        })+
    };
}
/// Methods that change one field each, and hand the value on.
macro_rules! setters {
    ($owner:ty: $($(#[$doc:meta])* $name:ident($arg:ident: $of:ty) => $field:ident = $to:expr;)+) => {
        impl $owner {
            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $arg: $of) -> Self {
                self.$field = $to;
                self
            })+
        }
    };
}

/// What a boxed handle does is what the handle in the box does.
macro_rules! forward_to_box {
    ($handle:ident: $($name:ident($($arg:ident: $of:ty),* $(,)?) -> $to:ty;)+) => {
        impl<H: $handle + ?Sized> $handle for Box<H> {
            $(#[inline]
            fn $name(&mut self $(, $arg: $of)*) -> $to {
                (**self).$name($($arg),*)
            })+
        }
    };
}
use {disarm_when_dropped, forward_to_box, setters};

pub mod limits;
#[doc(hidden)]
pub mod sync;
pub mod task;
pub mod transport;

mod broker;
mod bus;
mod capability;
mod delivery;
mod error;
mod event;
mod head;
mod ledger;
mod message;
mod queue;
mod receipt;
mod receiver;
mod retention;
pub mod runtime;
mod sender;
mod subscription;
mod topic;

pub use broker::{Broker, Cancel, SenderOptions};
pub use bus::{Ask, Bus, Consumer, Replies, Reply, ReplyWriter, Request, Responder, Serve, Survey};
pub use capability::{Capabilities, Capability, Support};
pub use delivery::{Delivery, DeliveryParts, Lease, Outcome, Settle};
pub use error::{Error, ErrorKind, SendError};
pub use event::Event;
pub use head::Head;
pub use ledger::{Browsed, DrainReport, Ledger, QueueInfo, Replayed, Sends, Stats};
pub use message::{Death, Heads, Kind, Message, MessageBuilder, Parts, Status};
pub use queue::{Queue, QueueSettings};
pub use receipt::{Level, Receipt, Returned, Seq};
pub use receiver::{BoxReceiver, Receiver, ReceiverExt};
pub use retention::{Retention, Start};
pub use runtime::{BoxFuture, Runtime, SharedRuntime};
pub use sender::{BoxSender, Sender, SenderExt};
pub use subscription::{Ack, Overflow, Source, Subscription};
pub use topic::{Pattern, RESERVED_PREFIX, Topic};

/// The named futures of senders and receivers.
pub mod future {
    pub use crate::bus::{Asking, Surveying};
    pub use crate::receiver::{CloseReceiver, NextDelivery, Recv, RecvMany, Settled};
    pub use crate::sender::{Close, Feed, FeedMany, Flush, IntoSink, Send, SendFrom};
}
