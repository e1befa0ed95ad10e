//! Posthaste through a broker in a process of its own, as `posthaste serve` is one.

use anyhow::{Result, bail};
use posthaste::{
    Ack, Bus, Durable, Folder, Level, LogOptions, Memory, Message, SenderExt, SenderOptions,
    Subscription, Topic,
};

use super::in_process::take;
use super::requests::{answer, ask, pace};
use crate::peer::{Api, Contender, Peer};
use crate::stage::Stage;
use crate::work::{Executor, UNCONFIRMED, Work};

/// One by one and in batches, with everybody on tokio, as the daemon is.
pub(super) fn contenders(work: &Work) -> Vec<Contender> {
    let (name, executor) = (super::Posthaste.name(), Executor::TokioMt);
    match work {
        Work::PubSub { .. } | Work::Group { .. } => vec![
            Contender::relay(name, "recv", Api::One, executor),
            Contender::relay(name, "recv_many", Api::Batch, executor),
        ],
        Work::Acked { .. } => vec![Contender::relay(name, "recv_many, ack", Api::Acked, executor)],
        Work::Durable { .. } => vec![
            Contender::relay(name, "recv_many, ack", Api::Acked, executor),
            Contender::relay(name, "recv_many, ack", Api::Acked, Executor::TokioCt),
        ],
        Work::Ask { .. } | Work::Paced { .. } => vec![
            Contender::ask(name, "", Api::One, executor),
            Contender::ask(name, "", Api::One, Executor::TokioCt),
        ],
        _ => Vec::new(),
    }
}

pub(super) fn play(stage: &Stage) -> Result<()> {
    let stage = stage.clone();
    stage.clone().run(|engine| async move {
        let runtime = engine.shared();
        let role = stage.script().role.as_str();
        if role == "broker" {
            let listen = "tcp://127.0.0.1:0";
            let server = match stage.script().work {
                Work::Durable { .. } => {
                    let folder = Folder::open(stage.script().folder.join("data"))?;
                    let opening = Durable::open(runtime.clone(), folder, LogOptions::default());
                    posthaste::serve(runtime, opening.await?.0, listen).await?
                }
                _ => {
                    let broker = Memory::with_runtime(runtime.clone());
                    posthaste::serve(runtime, broker, listen).await?
                }
            };
            stage.ready(server.endpoints()[0].to_string());
            return std::future::pending().await;
        }
        let broker = stage.address_of("broker")?;
        let connect = || posthaste::connect(runtime.clone(), broker).into_future();
        match role {
            "receiver" => {
                for _ in 0..stage.script().work.subscribers() {
                    let bus: Bus = connect().await?;
                    let receiver = bus.receiver(subscription(&stage.script().work)?).await?;
                    engine.spawn(take(receiver, stage.script().api, stage.meter()));
                }
                stage.ready("");
                std::future::pending().await
            }
            "sender" => {
                let bus = connect().await?;
                let mut options = SenderOptions::new();
                if let Work::Durable { .. } = stage.script().work {
                    options = options.window(UNCONFIRMED, 16 << 20).confirm(Level::Stored);
                }
                let mut sender = bus.sender(options).await?;
                let (meter, payload) = (stage.meter(), stage.payload());
                let message = match stage.script().work {
                    Work::Acked { .. } | Work::Durable { .. } => {
                        Message::to_queue(Topic::new("jobs")?, payload)
                    }
                    _ => Message::new(Topic::new("bench")?, payload),
                };
                stage.ready("");
                loop {
                    sender.feed(message.clone()).await?;
                    meter.add(1);
                }
            }
            "server" => answer(&connect().await?, || stage.ready("")).await,
            "client" => {
                let bus = connect().await?;
                stage.ready("");
                let (meter, payload) = (stage.meter(), stage.payload());
                match stage.script().rate {
                    Some(_) => pace(&stage, &bus, &payload).await,
                    None => ask(&bus, &payload, stage.script().work.in_flight(), &meter).await,
                }
            }
            role => bail!("Posthaste has no {role} for this"),
        }
    })
}

fn subscription(work: &Work) -> Result<Subscription> {
    Ok(match work {
        Work::Group { .. } => Subscription::shared("bench", "group")?,
        Work::Acked { .. } | Work::Durable { .. } => Subscription::queue("jobs")?.ack(Ack::Manual),
        _ => Subscription::topic("bench")?,
    })
}
