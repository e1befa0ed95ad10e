//! A queue with a great deal behind it, beside an empty one: it is no slower, takes no more memory than
//! it may, and is there at once after a kill.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use posthaste::{
    Bus, Level, Message, Queue, ReceiverExt, SenderExt, SenderOptions, Subscription, Topic,
};
use serde::Serialize;

use crate::Failure;
use crate::broker::{Broker, Start};
use crate::cycles::Options;
use crate::ending::Scratch;
use crate::load::connect;

/// How deep, and how it is compared.
#[derive(Debug, Clone)]
pub struct Depth {
    /// How many messages wait in the deep queue.
    pub messages: u64,
    /// How many bytes each has.
    pub size: usize,
    /// How many go through each queue in a round.
    pub round: u64,
    /// How many rounds there are.
    pub rounds: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Deep {
    /// How many messages waited, and the bytes of each.
    pub messages: u64,
    /// The bytes of each.
    pub size: usize,
    /// How many a second were sent and stored while the queue was filled.
    pub filled_per_s: u64,
    /// How many a second went through the empty queue, and through the deep one, in each round.
    pub rounds: Vec<[u64; 2]>,
    /// The median of how much faster the deep queue was.
    pub ratio: f64,
    /// The most memory that the broker had, in MiB: when the queue was filled, and at the end.
    pub resident_mib: [u64; 2],
    /// How large the folder was when the broker was killed, in MiB.
    pub folder_mib: u64,
    /// How long it took after the kill until it listened, in ms, and the memory that it had then, in MiB.
    pub recovery_ms: u64,
    /// The memory that it had then, in MiB.
    pub recovered_mib: u64,
}

/// How many of the messages may be unconfirmed, or unsettled, at a time.
const IN_FLIGHT: usize = 1_024;
const EMPTY: &str = "endurance.empty";
const DEEP: &str = "endurance.deep";

/// Fills a queue, sends and consumes through an empty one and through that one in turns, and kills the
/// broker. All that comes out is what went in, in order.
///
/// # Errors
/// What kept the run from being made, or what came out instead.
pub fn deep(options: &Options, depth: &Depth) -> Result<Deep, Failure> {
    let folder = Scratch::new(&options.scratch)?;
    let data = folder.path().join("data");
    let start = Start::new(&options.posthaste);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut broker = start.run(&data)?;
        let bus = connect(&broker.url).await?;
        let (mut empty, mut deep) = (Flow::open(&bus, EMPTY).await?, Flow::open(&bus, DEEP).await?);
        let capacity = usize::try_from(depth.messages + 2 * depth.round)?;
        bus.declare(Queue::new(deep.queue.clone()).capacity(capacity)).await?;
        let filled = Instant::now();
        deep.send(depth.messages, depth.size).await?;
        let filled_per_s = per_second(depth.messages, filled.elapsed());
        let when_filled = peak(&broker)?;
        let mut rounds = Vec::with_capacity(depth.rounds);
        for _ in 0..depth.rounds {
            let mut speeds = [0; 2];
            for (speed, flow) in speeds.iter_mut().zip([&mut empty, &mut deep]) {
                let began = Instant::now();
                flow.pass(depth.round, depth.size).await?;
                *speed = per_second(depth.round, began.elapsed());
            }
            rounds.push(speeds);
        }
        let resident_mib = [when_filled, peak(&broker)?];
        let folder_mib = size_of_folder(&data)? >> 20;
        broker.kill()?;
        let broker = start.run(&data)?;
        let recovered_mib = peak(&broker)?;
        let bus = connect(&broker.url).await?;
        let held = bus.queue(DEEP).await?.messages;
        if held != depth.messages {
            return Err(format!("{held} of {} messages after the kill", depth.messages).into());
        }
        deep.reopen(&bus).await?;
        deep.take(depth.round.min(depth.messages)).await?;
        Ok(Deep {
            messages: depth.messages,
            size: depth.size,
            filled_per_s,
            ratio: median(rounds.iter().map(|[empty, deep]| *deep as f64 / *empty as f64)),
            rounds,
            resident_mib,
            folder_mib,
            recovery_ms: u64::try_from(broker.recovery.as_millis())?,
            recovered_mib,
        })
    })
}

/// Messages through a queue, numbered.
struct Flow {
    queue: Topic,
    sender: posthaste::BoxSender,
    receiver: posthaste::BoxReceiver,
    sent: u64,
    taken: u64,
}

impl Flow {
    async fn open(bus: &Bus, queue: &str) -> Result<Self, Failure> {
        let queue = Topic::new(queue)?;
        let options = SenderOptions::new().window(IN_FLIGHT, 64 << 20).confirm(Level::Stored);
        let sender = bus.sender(options.queue(queue.clone())).await?;
        let receiver = receiver(bus, &queue).await?;
        Ok(Self { queue, sender, receiver, sent: 0, taken: 0 })
    }

    /// Goes on with another connection to the broker.
    async fn reopen(&mut self, bus: &Bus) -> Result<(), Failure> {
        self.receiver = receiver(bus, &self.queue).await?;
        Ok(())
    }

    async fn send(&mut self, count: u64, size: usize) -> Result<(), Failure> {
        let Self { queue, sender, sent, .. } = self;
        send(queue, sender, sent, count, size).await
    }

    async fn take(&mut self, count: u64) -> Result<(), Failure> {
        take(&mut self.receiver, &mut self.taken, count).await
    }

    /// Sends so many, and consumes as many meanwhile.
    async fn pass(&mut self, count: u64, size: usize) -> Result<(), Failure> {
        let Self { queue, sender, receiver, sent, taken } = self;
        futures::try_join!(send(queue, sender, sent, count, size), take(receiver, taken, count),)?;
        Ok(())
    }
}

async fn receiver(bus: &Bus, queue: &Topic) -> Result<posthaste::BoxReceiver, Failure> {
    Ok(bus.receiver(Subscription::queue(queue)?.prefetch(IN_FLIGHT)).await?)
}

async fn send(
    queue: &Topic,
    sender: &mut posthaste::BoxSender,
    sent: &mut u64,
    count: u64,
    size: usize,
) -> Result<(), Failure> {
    for number in *sent..*sent + count {
        let mut payload = number.to_le_bytes().to_vec();
        payload.resize(size.max(8), b'x');
        sender.send_from(&mut Some(Message::to_queue(queue.clone(), payload))).await?;
    }
    *sent += count;
    sender.flush().await?;
    Ok(())
}

async fn take(
    receiver: &mut posthaste::BoxReceiver,
    taken: &mut u64,
    count: u64,
) -> Result<(), Failure> {
    let (mut batch, end) = (Vec::new(), *taken + count);
    while *taken < end {
        let most = usize::try_from(end - *taken)?.min(IN_FLIGHT);
        if receiver.recv_many(&mut batch, most).await? == 0 {
            return Err("the queue has ended".into());
        }
        for delivery in batch.drain(..) {
            let number = delivery.payload().first_chunk().map(|number| u64::from_le_bytes(*number));
            // Attempts of a consumer that was lost are in order, too.
            if number != Some(*taken) {
                return Err(format!("message {number:?} came in the place of {taken}").into());
            }
            delivery.ack();
            *taken += 1;
        }
    }
    receiver.settled().await?;
    Ok(())
}

fn per_second(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The most memory that a broker has had, in MiB.
fn peak(broker: &Broker) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("the system does not say how much memory the broker has")?.parse::<u64>()? >> 10)
}

fn size_of_folder(folder: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

impl fmt::Display for Deep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, size, filled_per_s, rounds, ratio, .. } = self;
        let [filled, end] = self.resident_mib;
        writeln!(f, "{messages} messages of {size} bytes: filled at {filled_per_s}/s")?;
        for [empty, deep] in rounds {
            writeln!(f, "empty {empty}/s, deep {deep}/s")?;
        }
        writeln!(f, "ratio {ratio:.2}; resident at most {filled} MiB, {end} MiB at the end")?;
        let (folder, took, again) = (self.folder_mib, self.recovery_ms, self.recovered_mib);
        write!(f, "folder {folder} MiB; after a kill it listened in {took} ms, with {again} MiB")
    }
}
