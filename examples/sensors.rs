//! The Internet of Things: a plant full of sensors, each with a connection of its own to one
//! server; half of them on its Unix socket, half on TCP. A collector keeps the statistics, and an
//! alarm hears one kind of news alone.
//!
//! Run it with `cargo run --example sensors`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]

use std::collections::BTreeMap;

use posthaste::prelude::*;
use posthaste::{Memory, SharedRuntime};
use posthaste_tokio::Tokio;
use tokio::task::JoinSet;

const SENSORS: usize = 16;
const READINGS: usize = 200;
const TOO_HOT: f64 = 96.0;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime: SharedRuntime = Tokio::current().into();
    let folder = tempfile::tempdir()?;
    let socket = format!("unix:{}", folder.path().join("plant.sock").display());
    let broker = Memory::with_runtime(runtime.clone());
    let server = posthaste::serve(runtime.clone(), broker, &socket).await?;
    let tcp = posthaste::endpoint("tcp://127.0.0.1:0")?;
    let tcp = server.listen(posthaste::transport(runtime.clone(), &tcp)?, tcp).await?;

    let control = posthaste::connect(runtime.clone(), &socket).await?;
    let mut readings = control.subscribe("plant.*.temperature").await?;
    let mut alarms = control.subscribe("plant.*.alarm").await?;

    let mut sensors = JoinSet::new();
    for sensor in 0..SENSORS {
        let url = if sensor % 2 == 0 { socket.clone() } else { tcp.to_string() };
        sensors.spawn(measure(sensor, runtime.clone(), url));
    }

    let mut seen = BTreeMap::<Topic, (usize, f64)>::new();
    for _ in 0..SENSORS * READINGS {
        let reading = readings.next_delivery().await?;
        let (count, sum) = seen.entry(reading.message().topic()).or_default();
        // Those of one sensor come in its order.
        let number = reading.message().header("number");
        assert_eq!(number, Some(count.to_string().as_str()));
        *count += 1;
        *sum += std::str::from_utf8(reading.payload())?.parse::<f64>()?;
    }
    let mut expected = 0;
    while let Some(sent) = sensors.join_next().await {
        expected += sent??;
    }
    for _ in 0..expected {
        alarms.next_delivery().await?.ack();
    }
    assert_eq!(seen.len(), SENSORS);
    for (topic, (count, sum)) in seen.iter().take(3) {
        let mean = sum / *count as f64;
        println!("{topic}: {count} readings, {mean:.1} degrees on average");
    }
    println!("... {SENSORS} sensors in all, {expected} alarms");
    Ok(())
}

/// A sensor sends without waiting for each message, and then waits for all at once. Says how many
/// alarms there were.
async fn measure(sensor: usize, runtime: SharedRuntime, url: String) -> Result<u64, Error> {
    let bus = posthaste::connect(runtime, &url).await?;
    let topic = Topic::new(format!("plant.machine-{sensor:02}.temperature"))?;
    let alarm = Topic::new(format!("plant.machine-{sensor:02}.alarm"))?;
    let mut sender = bus.sender(SenderOptions::new()).await?;
    let mut alarms = 0;
    for number in 0..READINGS {
        let celsius = 60.0 + ((number * 37 + sensor * 11) % 400) as f64 / 10.0;
        let reading = Message::builder(topic.clone())
            .header("number", number.to_string())
            .payload(format!("{celsius:.1}"));
        sender.feed(reading.build()?).await?;
        if celsius > TOO_HOT {
            sender.feed(Message::new(alarm.clone(), "too hot")).await?;
            alarms += 1;
        }
    }
    let receipt = sender.flush().await?;
    assert_eq!((receipt.returned, receipt.matched), (0, READINGS as u64 + alarms));
    Ok(alarms)
}
