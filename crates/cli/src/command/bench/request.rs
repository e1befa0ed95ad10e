//! Request-reply: there and back.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use posthaste::{Bus, Error, Message, Responder, Topic};
use tokio::task::JoinSet;

use super::load::{Plan, Quota, Target};
use super::meter::{Clock, Sample, histogram};
use super::stream::joined;
use crate::exit::Failure;

/// Asks, and waits until everything was answered.
pub(super) async fn run(target: &Target, plan: Plan) -> Result<Sample, Failure> {
    let requesters = target.senders.len();
    let mut answering = JoinSet::new();
    for bus in &target.receivers {
        let serve = bus
            .serve(&target.address)
            .group(&target.address)
            .concurrency(plan.in_flight.saturating_mul(requesters));
        answering.spawn(answer(serve.open().await?));
    }
    let clock = Clock::start();
    let mut asking = JoinSet::new();
    for (nth, bus) in target.senders.iter().enumerate() {
        let quota = plan.work.share(nth, requesters);
        let payload = Bytes::from(vec![0; plan.size]);
        let address = target.address.clone();
        asking.spawn(ask(bus.clone(), address, payload, plan.in_flight, quota, clock));
    }
    let (mut sent, mut latency) = (0, histogram());
    while let Some(one) = asking.join_next().await {
        let (asked, latencies) = joined(one)?;
        sent += asked;
        // Every histogram has the same bounds.
        let _ = latency.add(&latencies);
    }
    let elapsed = clock.elapsed();
    // The responders wait for requests that no longer come.
    answering.shutdown().await;
    Ok(Sample { sent, received: sent, elapsed, latency })
}

async fn answer(responder: Responder) -> Result<(), Error> {
    let echo = async |request: Message| Ok::<_, Infallible>(request.into_payload());
    responder.run(echo).await
}

/// Keeps `in_flight` requests unanswered until the quota is used up.
async fn ask(
    bus: Bus,
    address: Topic,
    payload: Bytes,
    in_flight: usize,
    mut quota: Quota,
    clock: Clock,
) -> Result<(u64, Histogram<u64>), Error> {
    let mut latency = histogram();
    let mut unanswered = FuturesUnordered::new();
    loop {
        while unanswered.len() < in_flight && quota.take(&clock) {
            let ask = bus.request(&address, payload.clone());
            unanswered.push(async move {
                let began = clock.stamp();
                ask.await.map(|_reply| clock.stamp().saturating_sub(began))
            });
        }
        match unanswered.next().await {
            Some(took) => latency.saturating_record(took?),
            None => return Ok((quota.taken, latency)),
        }
    }
}
