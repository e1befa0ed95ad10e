//! Request-reply: there and back.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use posthaste::{Bus, Error, Message, Responder, Topic};
use posthaste_measure::{Clock, Latency};
use tokio::task::JoinSet;

use super::load::{Arrived, Plan, Quota, Target, Turn};
use super::sample::{Sample, Stopwatch};
use super::stream::joined;
use crate::exit::Failure;

/// Asks, and waits until everything was answered.
pub(super) async fn run(
    target: &Target,
    plan: &Plan,
    arrived: &Arc<Arrived>,
) -> Result<Sample, Failure> {
    let requesters = target.senders.len();
    let mut answering = JoinSet::new();
    for bus in &target.receivers {
        let serve = bus
            .serve(&target.address)
            .group(&target.address)
            .concurrency(plan.in_flight.saturating_mul(requesters));
        answering.spawn(answer(serve.open().await?));
    }
    let stopwatch = Stopwatch::start();
    let mut asking = JoinSet::new();
    for (nth, bus) in target.senders.iter().enumerate() {
        let requester = Requester {
            bus: bus.clone(),
            address: target.address.clone(),
            payload: Bytes::from(vec![0; plan.size]),
            clock: stopwatch.clock,
            arrived: Arc::clone(arrived),
            book: Mutex::new(Book { quota: plan.share(nth, requesters), latency: Latency::new() }),
        };
        asking.spawn(requester.ask(plan.in_flight));
    }
    let (mut sent, mut latency) = (0, Latency::new());
    while let Some(one) = asking.join_next().await {
        let book = joined(one)?;
        sent += book.quota.taken;
        latency.add(&book.latency);
    }
    let ended = stopwatch.clock.elapsed();
    let sample = stopwatch.stop(ended, sent, sent, latency);
    // The responders wait for requests that no longer come.
    answering.shutdown().await;
    Ok(sample)
}

async fn answer(responder: Responder) -> Result<(), Error> {
    let echo = async |request: Message| Ok::<_, Infallible>(request.into_payload());
    responder.run(echo).await
}

/// One that asks.
struct Requester {
    bus: Bus,
    address: Topic,
    payload: Bytes,
    clock: Clock,
    arrived: Arc<Arrived>,
    /// Shared by the requests in flight, which take turns within one task.
    book: Mutex<Book>,
}

/// What is left to ask, and how long the answers took.
struct Book {
    quota: Quota,
    latency: Latency,
}

impl Requester {
    /// Keeps `in_flight` requests unanswered until the quota is used up.
    async fn ask(self, in_flight: usize) -> Result<Book, Error> {
        let lanes: FuturesUnordered<_> = (0..in_flight).map(|_| self.lane()).collect();
        lanes.try_collect::<()>().await?;
        Ok(self.book.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks again as soon as the answer is there.
    async fn lane(&self) -> Result<(), Error> {
        loop {
            let turn = self.with(|book| book.quota.take(&self.clock));
            if turn == Turn::Over {
                return Ok(());
            }
            self.bus.request(&self.address, self.payload.clone()).await?;
            self.arrived.add(1);
            if let Turn::Timed(asked) = turn {
                let took = self.clock.nanos().saturating_sub(asked);
                self.with(|book| book.latency.record_nanos(took));
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        // A panic ends the whole measurement, so what it left behind is never looked at.
        change(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
