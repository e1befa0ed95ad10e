//! Large messages that cross a connection while requests do, without a pause.
//!
//! A payload is bounded at 16 MiB unless broker and both ends of the connection are told otherwise.

use anyhow::{Result, ensure};
use posthaste::{
    Ack, BoxReceiver, Bus, Limits, Memory, Message, ReceiverExt, Remote, RemoteOptions, SenderExt,
    SenderOptions, Server, ServerOptions, SharedRuntime, Subscription, Topic,
};

use crate::stage::Meter;

const QUEUE: &str = "bulk";

/// The limits of a connection that carries payloads of `size` bytes.
fn limits(size: usize) -> Result<Limits> {
    let payload = u32::try_from(size)?;
    Ok(Limits { payload, reassembly: payload.saturating_add(1 << 20), ..Limits::default() })
}

/// A broker in this process that takes payloads of `size` bytes, and that others can connect to.
pub(super) async fn embed(runtime: SharedRuntime, size: usize) -> Result<(Bus, Server, String)> {
    let broker = Memory::with_runtime(runtime.clone()).with_payload_limit(size);
    let options = ServerOptions::new().limits(limits(size)?);
    let server = Server::new(runtime.clone(), broker.clone(), options);
    let endpoint = posthaste::endpoint("tcp://127.0.0.1:0")?;
    let transport = posthaste::transport(runtime.clone(), &endpoint)?;
    let here = server.listen(transport, endpoint).await?;
    Ok((Bus::with_runtime(broker, runtime), server, here.to_string()))
}

/// Connects to it.
pub(super) async fn connect(runtime: SharedRuntime, url: &str, size: usize) -> Result<Bus> {
    let endpoint = posthaste::endpoint(url)?;
    let transport = posthaste::transport(runtime.clone(), &endpoint)?;
    let options = RemoteOptions::new().limits(limits(size)?);
    let remote = Remote::connect(runtime.clone(), transport, endpoint, options).await?;
    Ok(Bus::with_runtime(remote, runtime))
}

/// Where large messages arrive.
pub(super) async fn open(bus: &Bus) -> Result<BoxReceiver> {
    Ok(bus.receiver(Subscription::queue(QUEUE)?.ack(Ack::Auto)).await?)
}

/// Takes them, and counts those.
pub(super) async fn take(mut bulk: BoxReceiver, meter: Meter) -> Result<()> {
    loop {
        bulk.next_delivery().await?.ack();
        meter.add(1);
    }
}

/// Sends them, each when the one before has arrived.
pub(super) async fn send(bus: Bus, size: usize) -> Result<()> {
    let mut sender = bus.sender(SenderOptions::new()).await?;
    let message = Message::to_queue(Topic::new(QUEUE)?, vec![7; size]);
    loop {
        let receipt = sender.send(message.clone()).await?;
        ensure!(receipt.returned == 0, "a large message came back");
    }
}
