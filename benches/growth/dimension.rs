//! What the cost of a message may grow with.

use clap::ValueEnum;
use posthaste_measure::{bytes, count};
use serde::{Deserialize, Serialize};

/// What the cost of a message may grow with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dimension {
    /// Patterns that are subscribed to, of which one matches
    Subscriptions,
    /// Subscribers of one topic
    Subscribers,
    /// Messages that wait in a queue
    Depth,
    /// Queues that are there, of which one is used
    Queues,
    /// Connections to a server, of which one is used
    Connections,
    /// Bytes of a payload
    Payload,
}

impl Dimension {
    pub(crate) const ALL: [Self; 6] = [
        Self::Subscriptions,
        Self::Subscribers,
        Self::Depth,
        Self::Queues,
        Self::Connections,
        Self::Payload,
    ];

    /// The sizes to measure, the smallest first.
    pub(crate) fn sizes(self, quick: bool) -> Vec<u64> {
        let powers = |last: u32| (0..=last).map(|power| 10_u64.pow(power)).collect();
        match (self, quick) {
            (Self::Payload, false) => [&[0][..], &powers_of_four(12)].concat(),
            (Self::Payload, true) => vec![0, 64, 65_536],
            (_, true) => powers(2),
            (Self::Depth, false) => powers(7),
            (Self::Subscriptions | Self::Queues, false) => powers(5),
            (Self::Subscribers | Self::Connections, false) => powers(4),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::Subscribers => "subscribers",
            Self::Depth => "depth",
            Self::Queues => "queues",
            Self::Connections => "connections",
            Self::Payload => "payload",
        }
    }

    /// What is counted.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::Subscribers => "subscribers of the topic",
            Self::Depth => "messages in the queue",
            Self::Queues => "queues",
            Self::Connections => "connections",
            Self::Payload => "payload",
        }
    }

    /// What a cost is the cost of.
    pub(crate) fn work(self) -> &'static str {
        match self {
            Self::Subscribers => "delivery",
            _ => "message",
        }
    }

    /// How it is measured, in a few sentences.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Self::Subscriptions => {
                "In process, on one thread. One pattern matches and receives; of the others a third \
                 each begins like the topics and ends otherwise, has a wildcard where the matching \
                 one has it, and has nothing in common with them. \"One topic\" is published to \
                 again and again, which lets the sender remember its route; \"1,000 topics\" take \
                 turns, and each is looked up."
            }
            Self::Subscribers => {
                "In process, on one thread: each of 16 messages is published to all subscribers, \
                 then each subscriber takes its 16."
            }
            Self::Depth => {
                "In process, on one thread: with so many messages in the queue, 64 of 64 bytes are \
                 sent to its end, and 64 are taken from its head and acknowledged. Memory is that \
                 of a message with its payload, which it shares with nobody."
            }
            Self::Queues => {
                "In process, on one thread: 64 messages of 64 bytes are sent to one of the queues, \
                 then taken and acknowledged. The others are empty."
            }
            Self::Connections => {
                "Over TCP; the server is in one process, all clients are in another. One connection \
                 sends messages of 64 bytes to a queue and receives them; the others are \
                 established and idle. Memory is that of the server."
            }
            Self::Payload => {
                "Through a queue, one sender and one receiver. In process nothing is copied; over \
                 sockets the broker is in one process and both clients are in another, and the \
                 cost is that of both processes."
            }
        }
    }

    /// A size, for people.
    pub(crate) fn show(self, size: u64) -> String {
        match self {
            Self::Payload => bytes(size as f64),
            _ => count(size),
        }
    }

    /// What is counted, and how much of it.
    pub(crate) fn at(self, size: u64) -> String {
        format!("{}: {}", self.unit(), self.show(size))
    }
}

/// 1, 4, 16 and so on, up to 4 to the power of `last`.
fn powers_of_four(last: u32) -> Vec<u64> {
    (0..=last).map(|power| 4_u64.pow(power)).collect()
}
