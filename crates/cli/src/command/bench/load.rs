//! What is measured: the brokers, and the work of a round.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use posthaste::limits::QUEUE_BYTES;
use posthaste::{Bus, Queue, Reconnect, Runtime, Topic};
use posthaste_measure::Clock;
use posthaste_tokio::Tokio;
use tokio::sync::Notify;

use super::sample::Sample;
use super::{Acknowledge, BenchArgs, Pattern, request, stream};
use crate::args::{BrokerArgs, topic};
use crate::connect;
use crate::durable::refusal;
use crate::exit::{Code, Failure};

/// With this many in flight, the clock is read for one message in so many: reading it for each
/// would be a part of what is measured. With payloads this large it would not.
const MANY_IN_FLIGHT: usize = 64;
const LARGE: usize = 64 << 10;
const BETWEEN_LOOKS: u64 = 16;
/// How long nothing may arrive while something is still to come.
const STALLED: Duration = Duration::from_secs(30);

/// The work of one round.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) pattern: Pattern,
    pub(super) size: usize,
    pub(super) work: Work,
    pub(super) in_flight: usize,
    pub(super) acknowledge: Acknowledge,
    pub(super) durable: bool,
    /// How many receive each message.
    pub(super) copies: u64,
}

/// How much is sent in a round.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    Messages(u64),
    Time(Duration),
}

impl Plan {
    /// The share of the `nth` of so many senders.
    pub(super) fn share(&self, nth: usize, senders: usize) -> Quota {
        let (nth, senders) = (nth as u64, senders as u64);
        let (left, until) = match self.work {
            Work::Messages(all) => (all / senders + u64::from(nth < all % senders), None),
            Work::Time(time) => (u64::MAX, Some(time)),
        };
        let every = match self.in_flight >= MANY_IN_FLIGHT && self.size < LARGE {
            true => BETWEEN_LOOKS,
            false => 1,
        };
        Quota { left, until, every, taken: 0 }
    }

    /// How much of the work is done, from 0 to 1.
    pub(super) fn done(&self, received: u64, elapsed: Duration) -> f64 {
        match self.work {
            Work::Messages(all) => received as f64 / all.saturating_mul(self.copies) as f64,
            Work::Time(time) => elapsed.as_secs_f64() / time.as_secs_f64(),
        }
    }
}

/// What one sender has left to send.
#[derive(Debug)]
pub(super) struct Quota {
    left: u64,
    until: Option<Duration>,
    /// One in so many is timed, the first one among them.
    every: u64,
    pub(super) taken: u64,
}

/// What a sender does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send a message.
    Plain,
    /// Send a message of which the latency is measured, from this time on the clock.
    Timed(u64),
    /// Nothing: all was sent.
    Over,
}

impl Quota {
    /// Takes one message, if there is one left; each sender has one at least.
    pub(super) fn take(&mut self, clock: &Clock) -> Turn {
        let is_timed = self.taken.is_multiple_of(self.every);
        let now = if is_timed { clock.nanos() } else { 0 };
        let late = is_timed
            && self.taken > 0
            && self.until.is_some_and(|until| Duration::from_nanos(now) >= until);
        if self.left == 0 || late {
            self.left = 0;
            return Turn::Over;
        }
        self.left -= 1;
        self.taken += 1;
        if is_timed { Turn::Timed(now) } else { Turn::Plain }
    }
}

/// How many messages have been received in a round.
#[derive(Debug)]
pub(super) struct Arrived {
    count: AtomicU64,
    /// How many there will be, once that is known.
    expected: AtomicU64,
    all: Notify,
}

impl Default for Arrived {
    fn default() -> Self {
        let (count, expected) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Self { count, expected, all: Notify::new() }
    }
}

impl Arrived {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, count: u64) {
        // One of the two sides sees what the other has written.
        let count = self.count.fetch_add(count, Ordering::SeqCst) + count;
        if count >= self.expected.load(Ordering::SeqCst) {
            self.all.notify_one();
        }
    }

    /// Waits until so many have arrived; only the last one wakes the waiting task.
    pub(super) async fn wait_for(&self, expected: u64) -> Result<(), Failure> {
        self.expected.store(expected, Ordering::SeqCst);
        loop {
            let before = self.count.load(Ordering::SeqCst);
            if before >= expected {
                return Ok(());
            }
            let late = tokio::time::timeout(STALLED, self.all.notified()).await.is_err();
            if late && self.count() == before {
                let text = format!("{before} of {expected} messages arrived, and then no more");
                return Err(Failure::new(Code::Failed, text));
            }
        }
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

/// How often a queue is deleted until it stays so.
const DELETES_MAX: usize = 16;

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

    /// Declares the queue, where queues are measured.
    pub(super) async fn prepare(&self, args: &BenchArgs) -> Result<(), Failure> {
        if let (Pattern::Queue, Some(bus)) = (args.pattern, self.senders.first()) {
            // Room for one payload at least, however large.
            let bytes = QUEUE_BYTES.max(args.size.saturating_mul(2));
            let mut queue = Queue::new(self.address.clone()).capacity(args.capacity);
            queue.durable = args.durable.then_some(true);
            let declared = bus.declare(queue.capacity_bytes(bytes)).await;
            declared.map_err(|error| refusal(error, args.durable))?;
        }
        Ok(())
    }

    /// Does the work of one round.
    pub(super) async fn run(&self, plan: &Plan, arrived: &Arc<Arrived>) -> Result<Sample, Failure> {
        let outcome = match plan.pattern {
            Pattern::Queue | Pattern::Pubsub => stream::run(self, plan, arrived).await,
            Pattern::Request => request::run(self, plan, arrived).await,
        };
        // Side by side, a failure says where it was.
        outcome.map_err(|failure| {
            Failure::new(Code::Failed, format!("{}: {}", self.url, failure.sentence()))
        })
    }

    /// Leaves nothing behind.
    pub(super) async fn close(&self) {
        let Some((first, others)) = self.senders.split_first() else { return };
        for bus in others.iter().chain(&self.receivers) {
            connect::goodbye(bus).await;
        }
        // There is no such queue, unless queues were measured. After an interruption what a sender had
        // on its way may declare it once more.
        for _ in 0..DELETES_MAX {
            if first.delete(&self.address).await.is_err() {
                break;
            }
        }
        connect::goodbye(first).await;
    }
}
