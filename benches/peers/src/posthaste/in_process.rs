//! Posthaste within one process: a queue, and a topic with several subscribers, on `memory:`.

use anyhow::{Result, bail};
use posthaste::{
    Ack, BoxReceiver, Bus, Message, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription,
    Topic,
};

use crate::executor::Engine;
use crate::in_process::{LETTER, contender};
use crate::peer::{Api, Contender, Peer};
use crate::stage::{Meter, Stage};
use crate::work::{BATCH, CAPACITY, Work};

/// Taken one by one, in batches, and in batches whose deliveries are acknowledged.
pub(super) fn contenders(work: &Work) -> Vec<Contender> {
    let name = super::Posthaste.name();
    match *work {
        Work::Queue { executor, .. } => vec![
            contender(name, "recv", Api::One, executor),
            contender(name, "recv_many", Api::Batch, executor),
            contender(name, "recv_many, ack", Api::Acked, executor),
        ],
        Work::FanOut { executor, .. } => vec![
            contender(name, "recv", Api::One, executor),
            contender(name, "recv_many", Api::Batch, executor),
        ],
        _ => Vec::new(),
    }
}

pub(super) fn play(stage: &Stage) -> Result<()> {
    let script = stage.script().clone();
    let meters: Vec<_> = (0..script.work.subscribers()).map(|_| stage.meter()).collect();
    stage.ready("");
    stage.run(|engine| async move {
        let bus = posthaste::connect(engine.shared(), "memory:").await?;
        match script.work {
            Work::Queue { producers, .. } => {
                queue(&engine, &bus, producers, script.api, meters).await?;
            }
            Work::FanOut { .. } => topic(&engine, &bus, script.api, meters).await?,
            _ => bail!("this is not done in one process"),
        }
        std::future::pending().await
    })
}

async fn queue(
    engine: &Engine,
    bus: &Bus,
    producers: usize,
    api: Api,
    meters: Vec<Meter>,
) -> Result<()> {
    let queue = Topic::new("jobs")?;
    bus.declare(Queue::new(queue.clone()).capacity(CAPACITY)).await?;
    let ack = if api == Api::Acked { Ack::Manual } else { Ack::Auto };
    for meter in meters {
        let jobs = bus.receiver(Subscription::queue(&queue)?.ack(ack)).await?;
        engine.spawn(take(jobs, api, meter));
    }
    for _ in 0..producers {
        engine.spawn(feed(bus.clone(), Message::to_queue(queue.clone(), LETTER.to_vec())));
    }
    Ok(())
}

async fn topic(engine: &Engine, bus: &Bus, api: Api, meters: Vec<Meter>) -> Result<()> {
    for meter in meters {
        let readings = Subscription::topic("home.*")?.capacity(CAPACITY, 1 << 20);
        engine.spawn(take(bus.receiver(readings).await?, api, meter));
    }
    engine.spawn(feed(bus.clone(), Message::new(Topic::new("home.kitchen")?, LETTER.to_vec())));
    Ok(())
}

async fn feed(bus: Bus, message: Message) -> Result<()> {
    let mut sender = bus.sender(SenderOptions::new()).await?;
    loop {
        sender.feed(message.clone()).await?;
    }
}

/// Takes deliveries in the way that a contender takes them, for ever.
pub(super) async fn take(mut receiver: BoxReceiver, api: Api, meter: Meter) -> Result<()> {
    if api == Api::One {
        loop {
            receiver.next_delivery().await?.ack();
            meter.add(1);
        }
    }
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let count = receiver.recv_many(&mut batch, BATCH).await?;
        anyhow::ensure!(count > 0, "the broker ended the receiver");
        for delivery in batch.drain(..) {
            delivery.ack();
        }
        meter.add(count);
    }
}
