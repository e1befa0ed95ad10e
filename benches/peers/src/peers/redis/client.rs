//! Redis through the `redis` crate: pipelines of `PUBLISH` on a multiplexed connection, which is
//! how its documentation has many commands sent at once, and subscriptions as streams.

use anyhow::{Result, bail};
use futures::StreamExt;
use redis::Client;
use redis::aio::PubSubStream;

use super::CHANNEL;
use crate::stage::{Meter, Stage};
use crate::window::{Taken, Window};

/// How many bytes of payload a pipeline carries, about, and how many messages at most.
const PIPELINE_BYTES: usize = 256 << 10;
const PIPELINE_MESSAGES: usize = 512;

pub(super) fn play(stage: &Stage) -> Result<()> {
    let stage = stage.clone();
    stage.clone().run(|engine| async move {
        let client = Client::open(format!("redis://{}/", stage.address_of("broker")?))?;
        match stage.script().role.as_str() {
            "receiver" => {
                for nth in 0..stage.script().work.subscribers() {
                    let (mut sink, messages) = client.get_async_pubsub().await?.split();
                    sink.subscribe(CHANNEL).await?;
                    let (meter, taken) = (stage.meter(), Taken::none(&stage, nth)?);
                    engine.spawn(async move {
                        let ended = take(messages, meter, taken).await;
                        // The subscription ends with its sink.
                        drop(sink);
                        ended
                    });
                }
                stage.ready("");
                std::future::pending().await
            }
            "sender" => {
                let payload = stage.payload();
                let count = (PIPELINE_BYTES / payload.len()).clamp(1, PIPELINE_MESSAGES);
                let mut pipeline = redis::pipe();
                for _ in 0..count {
                    pipeline.publish(CHANNEL, &payload[..]).ignore();
                }
                let mut connection = client.get_multiplexed_async_connection().await?;
                let meter = stage.meter();
                stage.ready("");
                let mut window = Window::open(&stage)?;
                loop {
                    window.take_async(count).await?;
                    pipeline.query_async::<()>(&mut connection).await?;
                    meter.add(count);
                }
            }
            role => bail!("there is no {role} for this"),
        }
    })
}

async fn take(mut messages: PubSubStream, meter: Meter, mut taken: Taken) -> Result<()> {
    while let Some(message) = messages.next().await {
        std::hint::black_box(message.get_payload_bytes());
        taken.add(1)?;
        meter.add(1);
    }
    bail!("the subscription has ended")
}
