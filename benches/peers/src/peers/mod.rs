//! The peers, each in a file of its own.

mod async_broadcast;
mod async_channel;
mod flume;
mod framed;
mod kanal;
mod libzmq;
mod nats;
mod rabbitmq;
mod raw;
mod redis;
mod tarpc;
mod tokio_broadcast;
mod tokio_mpsc;
mod zenoh;
mod zeromq;

use crate::peer::Peer;
use crate::posthaste::Posthaste;

/// Everything that is measured, in the order of the tables.
pub(crate) static ALL: &[&dyn Peer] = &[
    &Posthaste,
    &kanal::Kanal,
    &flume::Flume,
    &async_channel::AsyncChannel,
    &tokio_mpsc::TokioMpsc,
    &async_broadcast::AsyncBroadcast,
    &tokio_broadcast::TokioBroadcast,
    &raw::Raw,
    &framed::Framed,
    &libzmq::Libzmq,
    &zeromq::ZmqRs,
    &zenoh::Zenoh,
    &tarpc::Tarpc,
    &nats::Nats,
    &redis::Redis,
    &rabbitmq::RabbitMq,
];

/// The peer of that name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Peer> {
    ALL.iter().copied().find(|peer| peer.name() == name)
}
