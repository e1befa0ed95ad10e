//! NATS through async-nats, as its documentation has it: clients that are cloned, `publish` into
//! the client's own buffer, subscribers as streams. The capacities of client, subscriptions and
//! read buffer are raised, as the documentation of those options says for high rates.

use anyhow::{Context, Result, bail};
use async_nats::{Client, ConnectOptions, Subscriber};
use futures::{StreamExt, stream};

use super::{GROUP, SUBJECT};
use crate::pacer;
use crate::stage::{Meter, Stage};
use crate::window::{Taken, Window};
use crate::work::Work;

/// How many messages wait in the client until they are written, and until they are taken.
const CLIENT_CAPACITY: usize = 65_536;
const SUBSCRIPTION_CAPACITY: usize = 1 << 20;

pub(super) fn play(stage: &Stage) -> Result<()> {
    let stage = stage.clone();
    stage.clone().run(|engine| async move {
        let (payload, work) = (stage.payload(), stage.script().work);
        match (stage.script().role.as_str(), work) {
            ("receiver", work) => {
                let count = work.subscribers();
                for nth in 0..count {
                    let subscriber = subscribe(&stage, work).await?;
                    engine.spawn(take(subscriber, stage.meter(), Taken::none(&stage, nth)?));
                }
                stage.ready("");
                std::future::pending().await
            }
            ("sender", _) => {
                let client = connect(&stage).await?;
                let meter = stage.meter();
                stage.ready("");
                let mut window = Window::open(&stage)?;
                loop {
                    window.take_async(1).await?;
                    client.publish(SUBJECT, payload.clone()).await?;
                    meter.add(1);
                }
            }
            ("server", _) => {
                let client = connect(&stage).await?;
                let mut requests = client.subscribe(SUBJECT).await?;
                client.flush().await?;
                stage.ready("");
                while let Some(request) = requests.next().await {
                    let reply_to = request.reply.context("a request without a reply address")?;
                    client.publish(reply_to, request.payload).await?;
                }
                bail!("the subscription has ended")
            }
            ("client", work) => {
                let client = connect(&stage).await?;
                let meter = stage.meter();
                stage.ready("");
                if stage.script().rate.is_some() {
                    return pacer::ask(&stage, || async {
                        client.request(SUBJECT, payload.clone()).await?;
                        Ok(())
                    })
                    .await;
                }
                let mut answers = stream::repeat(())
                    .map(|()| client.request(SUBJECT, payload.clone()))
                    .buffer_unordered(work.in_flight());
                while let Some(answer) = answers.next().await {
                    answer?;
                    meter.add(1);
                }
                Ok(())
            }
            (role, _) => bail!("there is no {role} for this"),
        }
    })
}

async fn connect(stage: &Stage) -> Result<Client> {
    let options = ConnectOptions::new()
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .read_buffer_capacity(u16::MAX);
    Ok(options.connect(stage.address_of("broker")?).await?)
}

/// A subscription on a connection of its own, which the server knows of.
async fn subscribe(stage: &Stage, work: Work) -> Result<Subscriber> {
    let client = connect(stage).await?;
    let subscriber = match work {
        Work::Group { .. } => client.queue_subscribe(SUBJECT, GROUP.into()).await?,
        _ => client.subscribe(SUBJECT).await?,
    };
    client.flush().await?;
    Ok(subscriber)
}

async fn take(mut subscriber: Subscriber, meter: Meter, mut taken: Taken) -> Result<()> {
    while subscriber.next().await.is_some() {
        taken.add(1)?;
        meter.add(1);
    }
    bail!("the subscription has ended")
}
