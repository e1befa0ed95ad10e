//! What a message costs over TCP and Unix sockets, beside plain bytes on the same sockets and the
//! same executor in the same run.
//!
//! `cargo bench --bench socket`. All ends live in one process here, so compare rows, not rates:
//! "bytes" moves the same payload in 64 KiB writes and is the limit; "embedded" has the broker at
//! the receiver, "broker" between the two; "bounce" is a bare round trip of 64 bytes.
#![allow(missing_docs, reason = "criterion's macro makes an undocumented function")]

mod machine;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use futures::future::join;
use futures::stream;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use posthaste::transport::BoxConnection;
use posthaste::{
    Ack, Bus, Error, ErrorKind, Memory, Message, Queue, ReceiverExt, SenderExt, SenderOptions,
    Server, SharedRuntime, Subscription, Topic,
};
use tempfile::TempDir;

use machine::{Machine, Task, group};

/// How many payload bytes one measured round of a size moves, and how many messages at most.
const ROUND_BYTES: usize = 8 << 20;
const ROUND_MESSAGES: usize = 10_000;
/// How many requests one measured round asks.
const REQUESTS: usize = 500;
const CHUNK: usize = 64 << 10;
const QUESTION: &[u8; 64] = &[7; 64];

/// How the two sides of a benchmark meet.
const SCHEMES: [&str; 2] = ["tcp", "unix"];

/// A server with the broker inside, and two clients.
struct Office {
    home: Bus,
    sender: Bus,
    receiver: Bus,
    _server: Server,
    _folder: TempDir,
}

impl Office {
    async fn open(runtime: SharedRuntime, scheme: &str) -> Result<Self, Error> {
        let (url, folder) = address(scheme)?;
        let broker = Memory::with_runtime(runtime.clone());
        let server = posthaste::serve(runtime.clone(), broker.clone(), &url).await?;
        let url = server.endpoints()[0].to_string();
        Ok(Self {
            home: Bus::with_runtime(broker, runtime.clone()),
            sender: posthaste::connect(runtime.clone(), &url).await?,
            receiver: posthaste::connect(runtime, &url).await?,
            _server: server,
            _folder: folder,
        })
    }

    /// `count` messages through a queue, to the receiver that `at` opens.
    async fn queue_round(&self, at: &Bus, size: usize, count: usize) -> Result<Vec<Task>, Error> {
        let queue = Topic::new("jobs")?;
        self.home.declare(Queue::new(queue.clone()).capacity(4_096)).await?;
        let jobs = Subscription::queue(&queue)?.ack(Ack::Auto).limit(count as u64);
        let mut jobs = at.receiver(jobs).await?;
        let mut sender = self.sender.sender(SenderOptions::new()).await?;
        let message = Message::to_queue(queue, Bytes::from(vec![7; size]));
        let sending = async move {
            for _ in 0..count {
                sender.feed(message.clone()).await?;
            }
            sender.flush().await?;
            Ok(())
        };
        let receiving = async move {
            let mut batch = Vec::with_capacity(256);
            while jobs.recv_many(&mut batch, 256).await? > 0 {
                batch.clear();
            }
            Ok(())
        };
        Ok(vec![Box::pin(sending), Box::pin(receiving)])
    }

    /// [`REQUESTS`] questions of the sender to a responder at the receiver.
    async fn request_round(&self, in_flight: usize) -> Result<Vec<Task>, Error> {
        let echo = self.receiver.serve("echo").open().await?;
        let (asked_all, over) = async_channel::bounded::<()>(1);
        let answering = async move {
            let answering =
                echo.run(async |request: Message| Ok::<_, Error>(request.into_payload()));
            let (answering, over) = (std::pin::pin!(answering), std::pin::pin!(over.recv()));
            futures::future::select(answering, over).await;
            Ok(())
        };
        let bus = self.sender.clone();
        let asking = async move {
            let topic = Topic::new("echo")?;
            let mut answers = stream::iter(0..REQUESTS)
                .map(|_| bus.request(&topic, &QUESTION[..]).into_future())
                .buffer_unordered(in_flight);
            while let Some(answer) = answers.next().await {
                answer?;
            }
            drop(asked_all);
            Ok(())
        };
        Ok(vec![Box::pin(answering), Box::pin(asking)])
    }
}

fn throughput(c: &mut Criterion) {
    for (name, size, machines) in
        [("64 B", 64, Machine::all()), ("64 KiB", 64 << 10, vec![Machine::tokio_threads()])]
    {
        let count = ROUND_MESSAGES.min(ROUND_BYTES / size);
        for scheme in SCHEMES {
            let mut group = group(c, &format!("{scheme} queue {name}"), count as u64);
            for machine in &machines {
                let bytes = || byte_round(machine.runtime(), scheme, size * count);
                machine.bench(&mut group, "bytes", bytes);
                let office = open(machine, scheme);
                let embedded = || office.queue_round(&office.home, size, count);
                machine.bench(&mut group, "embedded", embedded);
                let between = || office.queue_round(&office.receiver, size, count);
                machine.bench(&mut group, "broker", between);
            }
        }
    }
}

fn requests(c: &mut Criterion) {
    for scheme in SCHEMES {
        let mut group = group(c, &format!("{scheme} request"), REQUESTS as u64);
        for machine in Machine::all() {
            let bounce = || bounce_round(machine.runtime(), scheme);
            machine.bench(&mut group, "bounce", bounce);
            let office = open(&machine, scheme);
            machine.bench(&mut group, "1 in flight", || office.request_round(1));
            machine.bench(&mut group, "64 in flight", || office.request_round(64));
        }
    }
}

fn open(machine: &Machine, scheme: &str) -> Office {
    let office = Office::open(machine.runtime(), scheme);
    machine.block_on(office).expect("the server and its clients start")
}

/// A place to listen that nothing else uses, and the folder that it may be in.
fn address(scheme: &str) -> Result<(String, TempDir), Error> {
    let folder = TempDir::new().map_err(lost)?;
    let url = match scheme {
        "unix" => format!("unix:{}", folder.path().join("bench.sock").display()),
        scheme => format!("{scheme}://127.0.0.1:0"),
    };
    Ok((url, folder))
}

/// The limit: `total` bytes in one direction, written and read in large pieces.
async fn byte_round(
    runtime: SharedRuntime,
    scheme: &str,
    total: usize,
) -> Result<Vec<Task>, Error> {
    let (mut near, mut far) = connection(runtime, scheme).await?;
    let writing = async move {
        let chunk = vec![7; CHUNK];
        for _ in 0..total.div_ceil(CHUNK) {
            near.write_all(&chunk).await.map_err(lost)?;
        }
        near.close().await.map_err(lost)
    };
    let reading = async move {
        let mut chunk = vec![0; CHUNK];
        while far.read(&mut chunk).await.map_err(lost)? > 0 {}
        Ok(())
    };
    Ok(vec![Box::pin(writing), Box::pin(reading)])
}

/// The limit: [`REQUESTS`] times there and back, one at a time.
async fn bounce_round(runtime: SharedRuntime, scheme: &str) -> Result<Vec<Task>, Error> {
    let (mut near, mut far) = connection(runtime, scheme).await?;
    let asking = async move {
        let mut answer = *QUESTION;
        for _ in 0..REQUESTS {
            near.write_all(QUESTION).await.map_err(lost)?;
            near.read_exact(&mut answer).await.map_err(lost)?;
        }
        Ok(())
    };
    let answering = async move {
        let mut question = *QUESTION;
        for _ in 0..REQUESTS {
            far.read_exact(&mut question).await.map_err(lost)?;
            far.write_all(&question).await.map_err(lost)?;
        }
        Ok(())
    };
    Ok(vec![Box::pin(asking), Box::pin(answering)])
}

/// Both ends of a connection without any protocol on it.
async fn connection(
    runtime: SharedRuntime,
    scheme: &str,
) -> Result<(BoxConnection, BoxConnection), Error> {
    let (url, _folder) = address(scheme)?;
    let endpoint = posthaste::endpoint(&url)?;
    let transport = posthaste::transport(runtime, &endpoint)?;
    let mut listener = transport.bind(&endpoint).await.map_err(lost)?;
    let real = listener.endpoint();
    let accepting = async { listener.accept().await?.await };
    let (near, far) = join(transport.connect(&real), accepting).await;
    Ok((near.map_err(lost)?, far.map_err(lost)?))
}

fn lost(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Disconnected, error.to_string()).caused_by(error)
}

criterion_group! {
    name = socket;
    config = machine::criterion();
    targets = throughput, requests
}
criterion_main!(socket);
