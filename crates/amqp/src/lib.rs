//! RabbitMQ as a Posthaste broker.

mod broker;
mod consumer;
mod delay;
mod fault;
mod greeting;
mod kit;
mod link;
mod moves;
mod options;
mod outgoing;
mod publisher;
mod replay;
mod settings;
mod shared;
mod topology;
mod wire;

pub use broker::Amqp;
pub use options::{AmqpOptions, QueueType};
