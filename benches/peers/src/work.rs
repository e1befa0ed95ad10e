//! What is measured: the work of a row, and the executors and transports that it is done with.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many messages of a sender may be unconfirmed at a time, on their way to a disk.
pub(crate) const UNCONFIRMED: usize = 1_024;

/// How many messages a queue, channel or subscription holds in process.
pub(crate) const CAPACITY: usize = 1_024;

/// How many messages are taken at a time by those who take many.
pub(crate) const BATCH: usize = 256;

/// The work of a row, which every contender of the row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// In one process: so many producers, one consumer, 64 B messages, bounded at [`CAPACITY`].
    Queue { producers: usize, executor: Executor },
    /// In one process: each 64 B message to so many subscribers, bounded at [`CAPACITY`].
    FanOut { subscribers: usize, executor: Executor },
    /// From one process to another over a socket.
    Stream { transport: Transport, size: usize },
    /// 64 B there and back between two processes; `pinned` to one core together.
    Request { transport: Transport, in_flight: usize, pinned: bool },
    /// Through a broker over TCP: each message to every subscriber, each with its own connection.
    PubSub { size: usize, subscribers: usize },
    /// Through a broker over TCP: each message to one member of a group.
    Group { size: usize, members: usize },
    /// Through a queue of a broker over TCP: sends confirmed, deliveries acknowledged.
    Acked { size: usize },
    /// The same through a queue on disk: sends confirmed as safe as the broker makes them, up to
    /// [`UNCONFIRMED`] unconfirmed.
    Durable { size: usize },
    /// 64 B there and back through a broker over TCP; `pinned` to one core together.
    Ask { in_flight: usize, pinned: bool },
    /// 64 B there and back over TCP, at so many percent of the contender's own peak.
    Paced { via: Via, percent: u8 },
    /// 64 B there and back over TCP, 1,000 a second, while the same connection carries messages of
    /// this size, each when the one before has arrived.
    Beside { size: usize },
}

/// Which way requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Via {
    /// Straight to who answers.
    Direct,
    /// Through a broker.
    Broker,
}

impl Work {
    /// How many producers there are.
    pub(crate) fn producers(&self) -> usize {
        match self {
            Self::Queue { producers, .. } => *producers,
            _ => 1,
        }
    }

    /// How many subscribers, or consumers, there are.
    pub(crate) fn subscribers(&self) -> usize {
        match self {
            Self::FanOut { subscribers, .. } | Self::PubSub { subscribers, .. } => *subscribers,
            Self::Group { members, .. } => *members,
            _ => 1,
        }
    }

    /// The bytes of a payload.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Stream { size, .. }
            | Self::PubSub { size, .. }
            | Self::Group { size, .. }
            | Self::Acked { size }
            | Self::Durable { size } => *size,
            _ => 64,
        }
    }

    /// What carries the bytes.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Stream { transport, .. } | Self::Request { transport, .. } => *transport,
            _ => Transport::Tcp,
        }
    }

    /// How many requests may be unanswered at a time.
    pub(crate) fn in_flight(&self) -> usize {
        match self {
            Self::Request { in_flight, .. } | Self::Ask { in_flight, .. } => *in_flight,
            _ => 1,
        }
    }

    /// Whether all its processes run on one core.
    pub(crate) fn pinned(&self) -> bool {
        matches!(self, Self::Request { pinned: true, .. } | Self::Ask { pinned: true, .. })
    }

    /// The work whose rate is the peak of this one's, if its rate depends on that.
    pub(crate) fn peak(&self) -> Option<Self> {
        let (in_flight, pinned) = (64, false);
        match self {
            Self::Paced { via: Via::Direct, .. } => {
                Some(Self::Request { transport: Transport::Tcp, in_flight, pinned })
            }
            Self::Paced { via: Via::Broker, .. } => Some(Self::Ask { in_flight, pinned }),
            _ => None,
        }
    }

    /// How many requests a second there are, given the peak, if that is fixed.
    pub(crate) fn rate(&self, peak: Option<f64>) -> Option<f64> {
        match self {
            Self::Paced { percent, .. } => Some(peak? * f64::from(*percent) / 100.0),
            Self::Beside { .. } => Some(1_000.0),
            _ => None,
        }
    }

    /// What a figure of it counts.
    pub(crate) fn unit(&self) -> Unit {
        match self {
            Self::Request { in_flight: 1, .. } | Self::Ask { in_flight: 1, .. } => Unit::RoundTrip,
            Self::Paced { .. } | Self::Beside { .. } => Unit::Late,
            _ => Unit::Rate,
        }
    }
}

/// What the figure of a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Messages, deliveries or replies a second: more is better.
    Rate,
    /// Microseconds of a round trip, on the mean: less is better.
    RoundTrip,
    /// Microseconds from when a request was due to its answer, 99th percentile: less is better.
    Late,
}

/// What runs the tasks of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Executor {
    /// Tokio with two workers.
    TokioMt,
    /// Tokio on the calling thread.
    TokioCt,
    /// Smol's executor on the calling thread.
    Smol,
    /// None: threads that block.
    Threads,
}

impl Executor {
    /// Those that every runtime-agnostic peer runs on.
    pub(crate) const ASYNC: [Self; 3] = [Self::TokioMt, Self::TokioCt, Self::Smol];
    /// All.
    pub(crate) const ALL: [Self; 4] = [Self::TokioMt, Self::TokioCt, Self::Smol, Self::Threads];
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TokioMt => "tokio mt",
            Self::TokioCt => "tokio ct",
            Self::Smol => "smol",
            Self::Threads => "threads",
        })
    }
}

/// What carries the bytes between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// Loopback TCP.
    Tcp,
    /// A Unix socket.
    Unix,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
        })
    }
}

/// A size in the unit that reads best.
pub(crate) fn bytes(size: usize) -> String {
    match size {
        0..1_024 => format!("{size}B"),
        1_024..1_048_576 => format!("{}KiB", size >> 10),
        _ => format!("{}MiB", size >> 20),
    }
}
