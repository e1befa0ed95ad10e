//! Requests and answers, wherever the broker is.

use anyhow::Result;
use bytes::Bytes;
use futures::{StreamExt, stream};
use posthaste::{Bus, Message, Topic};

use crate::pacer;
use crate::stage::{Meter, Stage};

/// Answers for ever, each request with what it brought.
pub(super) async fn answer(bus: &Bus, ready: impl FnOnce()) -> Result<()> {
    let echo = bus.serve("echo").open().await?;
    ready();
    echo.run(async |request: Message| Ok::<_, posthaste::Error>(request.into_payload())).await?;
    Ok(())
}

/// Asks for ever, at the rate of the script.
pub(super) async fn pace(stage: &Stage, bus: &Bus, payload: &Bytes) -> Result<()> {
    let topic = Topic::new("echo")?;
    pacer::ask(stage, || async {
        bus.request(&topic, payload.clone()).await?;
        Ok(())
    })
    .await
}

/// Asks for ever, with so many requests unanswered at a time.
pub(super) async fn ask(bus: &Bus, payload: &Bytes, in_flight: usize, meter: &Meter) -> Result<()> {
    let topic = Topic::new("echo")?;
    if in_flight == 1 {
        loop {
            bus.request(&topic, payload.clone()).await?;
            meter.add(1);
        }
    }
    let mut answers = stream::repeat(())
        .map(|()| bus.request(&topic, payload.clone()).into_future())
        .buffer_unordered(in_flight);
    while let Some(answer) = answers.next().await {
        answer?;
        meter.add(1);
    }
    Ok(())
}
