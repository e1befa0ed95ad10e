//! The traits and the patterns of Posthaste.

pub mod limits;
pub mod task;
pub mod transport;

mod broker;
mod bus;
mod capability;
mod delivery;
mod error;
mod ledger;
mod message;
mod receipt;
mod receiver;
pub mod runtime;
mod sender;
mod topic;

pub use broker::{Ack, Broker, Overflow, Queue, SenderOptions, Source, Subscription};
pub use bus::{Ask, Bus, Consumer, Reply, Request, Responder, Serve};
pub use capability::{Capabilities, Capability, Support};
pub use delivery::{Delivery, Outcome, Settle};
pub use error::{Error, ErrorKind, SendError};
pub use ledger::{DrainReport, Ledger, QueueInfo, Stats};
pub use message::{Kind, Message, MessageBuilder, Parts, Status};
pub use receipt::{Level, Receipt, Returned, Seq};
pub use receiver::{BoxReceiver, Receiver, ReceiverExt};
pub use runtime::{BoxFuture, Runtime, SharedRuntime};
pub use sender::{BoxSender, Sender, SenderExt};
pub use topic::{Pattern, RESERVED_PREFIX, Topic};

/// The named futures of senders and receivers.
pub mod future {
    pub use crate::bus::Asking;
    pub use crate::receiver::{CloseReceiver, Recv, RecvMany, Settled};
    pub use crate::sender::{Close, Feed, Flush, IntoSink, Send, SendFrom};
}
