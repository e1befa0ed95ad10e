//! What is measured: the brokers, and the work of a round.

use std::time::Duration;

use posthaste::{Bus, Reconnect, Runtime, Topic};
use posthaste_tokio::Tokio;

use super::meter::{Clock, Sample};
use super::{Acknowledge, BenchArgs, Pattern, request, stream};
use crate::args::{BrokerArgs, topic};
use crate::connect;
use crate::exit::Failure;

/// How many messages are sent between two looks at the clock.
const BETWEEN_LOOKS: u64 = 32;

/// The work of one round.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) pattern: Pattern,
    pub(super) size: usize,
    pub(super) work: Work,
    pub(super) in_flight: usize,
    pub(super) acknowledge: Acknowledge,
}

/// How much is sent in a round.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Messages(u64),
    Time(Duration),
}

impl Work {
    /// The share of the `nth` of so many senders.
    pub(super) fn share(self, nth: usize, senders: usize) -> Quota {
        let (nth, senders) = (nth as u64, senders as u64);
        match self {
            Self::Messages(all) => Quota {
                left: all / senders + u64::from(nth < all % senders),
                until: None,
                taken: 0,
            },
            Self::Time(time) => Quota { left: u64::MAX, until: Some(time), taken: 0 },
        }
    }
}

/// What one sender has left to send.
#[derive(Debug)]
pub(super) struct Quota {
    left: u64,
    until: Option<Duration>,
    pub(super) taken: u64,
}

impl Quota {
    /// Takes one message, if there is one left.
    pub(super) fn take(&mut self, clock: &Clock) -> bool {
        let late = self.until.is_some_and(|until| {
            self.taken.is_multiple_of(BETWEEN_LOOKS) && clock.elapsed() >= until
        });
        if self.left == 0 || late {
            self.left = 0;
            return false;
        }
        self.left -= 1;
        self.taken += 1;
        true
    }
}

/// A broker that is measured.
pub(super) struct Target {
    pub(super) url: String,
    /// The queue or topic of this run.
    pub(super) address: Topic,
    /// One connection for each sender.
    pub(super) senders: Vec<Bus>,
    /// One connection for each receiver.
    pub(super) receivers: Vec<Bus>,
}

impl Target {
    /// Connects every sender and receiver.
    pub(super) async fn connect(url: &str, args: &BenchArgs) -> Result<Self, Failure> {
        let broker = BrokerArgs { url: url.to_owned(), connect: args.connect.clone() };
        let first = connect::connect(&broker, Reconnect::Never).await?;
        // A broker in this process is only shared by sharing its bus.
        let shared = first.capabilities().backend() == "memory";
        let mut all = vec![first];
        let (senders, receivers) = (usize::from(args.senders), usize::from(args.receivers));
        while all.len() < senders + receivers {
            all.push(match (shared, all.first()) {
                (true, Some(first)) => first.clone(),
                _ => connect::connect(&broker, Reconnect::Never).await?,
            });
        }
        let mut name = [0; 8];
        Tokio::current().fill_random(&mut name);
        Ok(Self {
            url: url.to_owned(),
            address: topic(&format!("bench.{:016x}", u64::from_be_bytes(name)))?,
            receivers: all.split_off(senders),
            senders: all,
        })
    }

    /// Does the work of one round.
    pub(super) async fn run(&self, plan: Plan) -> Result<Sample, Failure> {
        match plan.pattern {
            Pattern::Queue | Pattern::Pubsub => stream::run(self, plan).await,
            Pattern::Request => request::run(self, plan).await,
        }
    }

    /// Leaves nothing behind.
    pub(super) async fn close(&self) {
        if let Some(bus) = self.senders.first() {
            // There is no such queue, unless queues were measured.
            let _ = bus.delete(&self.address).await;
        }
        for bus in self.senders.iter().chain(&self.receivers) {
            connect::goodbye(bus).await;
        }
    }
}
