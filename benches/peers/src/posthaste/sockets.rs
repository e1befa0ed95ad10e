//! Posthaste between two processes, without a broker between them: it is embedded in the one that
//! receives or answers.

use anyhow::{Result, bail};
use posthaste::{
    Ack, Bus, Memory, Message, SenderExt, SenderOptions, Server, SharedRuntime, Subscription, Topic,
};

use super::beside;
use super::in_process::take;
use super::requests::{answer, ask, pace};
use crate::peer::{Api, Contender, Peer, Script};
use crate::socket::unix_path;
use crate::stage::Stage;
use crate::work::{Executor, Transport, Work};

/// One by one and in batches, on every executor.
pub(super) fn contenders(work: &Work) -> Vec<Contender> {
    let name = super::Posthaste.name();
    if let Work::Paced { .. } | Work::Beside { .. } = work {
        let tokio = [Executor::TokioMt, Executor::TokioCt];
        return tokio.map(|executor| Contender::request(name, "", Api::One, executor)).into();
    }
    let mut contenders = Vec::new();
    for executor in Executor::ASYNC {
        match work {
            Work::Stream { .. } => contenders.extend([
                Contender::stream(name, "recv", Api::One, executor),
                Contender::stream(name, "recv_many", Api::Batch, executor),
            ]),
            Work::Request { .. } => {
                contenders.push(Contender::request(name, "", Api::One, executor));
            }
            _ => {}
        }
    }
    contenders
}

pub(super) fn play(stage: &Stage) -> Result<()> {
    let script = stage.script().clone();
    let (meter, payload) = (stage.meter(), stage.payload());
    let stage = stage.clone();
    stage.clone().run(|engine| async move {
        let runtime = engine.shared();
        match script.role.as_str() {
            "receiver" => {
                let (bus, server, url) = embed(runtime, &script).await?;
                let jobs = Subscription::queue("jobs")?.ack(Ack::Auto);
                let jobs = bus.receiver(jobs).await?;
                stage.ready(url);
                take(jobs, script.api, meter).await?;
                drop(server);
            }
            "sender" => {
                let bus = posthaste::connect(runtime, stage.address_of("receiver")?).await?;
                let mut sender = bus.sender(SenderOptions::new()).await?;
                let message = Message::to_queue(Topic::new("jobs")?, payload);
                stage.ready("");
                loop {
                    sender.feed(message.clone()).await?;
                    meter.add(1);
                }
            }
            "server" => {
                let (bus, server, url) = match script.work {
                    Work::Beside { size } => beside::embed(runtime, size).await?,
                    _ => embed(runtime, &script).await?,
                };
                if let Work::Beside { .. } = script.work {
                    engine.spawn(beside::take(beside::open(&bus).await?, meter));
                }
                answer(&bus, || stage.ready(url)).await?;
                drop(server);
            }
            "client" => {
                let url = stage.address_of("server")?;
                let bus = match script.work {
                    Work::Beside { size } => {
                        let bus = beside::connect(runtime, url, size).await?;
                        engine.spawn(beside::send(bus.clone(), size));
                        bus
                    }
                    _ => posthaste::connect(runtime, url).await?,
                };
                stage.ready("");
                match script.rate {
                    Some(_) => pace(&stage, &bus, &payload).await?,
                    None => ask(&bus, &payload, script.work.in_flight(), &meter).await?,
                }
            }
            role => bail!("Posthaste has no {role}"),
        }
        Ok(())
    })
}

/// A broker in this process that others can connect to.
async fn embed(runtime: SharedRuntime, script: &Script) -> Result<(Bus, Server, String)> {
    let url = match script.work.transport() {
        Transport::Tcp => "tcp://127.0.0.1:0".to_owned(),
        Transport::Unix => format!("unix:{}", unix_path(script)),
    };
    let broker = Memory::with_runtime(runtime.clone());
    let server = posthaste::serve(runtime.clone(), broker.clone(), &url).await?;
    let url = server.endpoints()[0].to_string();
    Ok((Bus::with_runtime(broker, runtime), server, url))
}
