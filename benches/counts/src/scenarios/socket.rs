//! Scenarios over TCP and Unix sockets: both ends, and the broker, on the one thread.

use bytes::Bytes;
use posthaste::{
    Bus, Error, Memory, Message, Queue, SenderOptions, Server, SharedRuntime, Subscription, Topic,
};
use tempfile::TempDir;

use super::exchange::{Taking, ask, feed, lost, take};
use super::executor::{Task, run};
use super::in_process::ack;

/// How many messages queue and subscription hold.
pub(super) const CAPACITY: usize = 4_096;

/// How much of one sender may be on its way. More than this does not fit into a socket's first
/// buffers, and how fast the kernel makes them larger depends on the clock.
const WINDOW_BYTES: usize = 192 << 10;

/// How the two ends meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Tcp,
    Unix,
}

/// Where the receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broker {
    /// In the process that the broker is embedded in.
    Embedded,
    /// At the end of a connection of its own.
    Between,
}

/// A server with the broker inside, and a client.
struct Office {
    runtime: SharedRuntime,
    home: Bus,
    client: Bus,
    server: Server,
    _folder: TempDir,
}

impl Office {
    async fn open(runtime: SharedRuntime, socket: Socket) -> Result<Self, Error> {
        let (url, folder) = address(socket)?;
        let broker = Memory::with_runtime(runtime.clone());
        let server = posthaste::serve(runtime.clone(), broker.clone(), &url).await?;
        let url = server.endpoints()[0].to_string();
        Ok(Self {
            home: Bus::with_runtime(broker, runtime.clone()),
            client: posthaste::connect(runtime.clone(), &url).await?,
            runtime,
            server,
            _folder: folder,
        })
    }

    /// The bus of whoever receives or answers.
    async fn receiver(&self, broker: Broker) -> Result<Bus, Error> {
        match broker {
            Broker::Embedded => Ok(self.home.clone()),
            Broker::Between => {
                let url = self.server.endpoints()[0].to_string();
                posthaste::connect(self.runtime.clone(), url).await
            }
        }
    }
}

/// `count` messages of `size` bytes through a queue.
pub(super) async fn queue(
    runtime: SharedRuntime,
    count: u64,
    (socket, broker): (Socket, Broker),
    size: usize,
    taking: Taking,
) -> Result<(), Error> {
    let office = Office::open(runtime.clone(), socket).await?;
    let queue = Topic::new("jobs")?;
    office.home.declare(Queue::new(queue.clone()).capacity(CAPACITY)).await?;
    let receiving = office.receiver(broker).await?;
    let jobs = receiving.receiver(Subscription::queue(&queue)?.ack(ack(taking))).await?;
    let sender = office.client.sender(window()).await?;
    let message = Message::to_queue(queue, Bytes::from(vec![7; size]));
    let tasks: Vec<Task> =
        vec![Box::pin(take(jobs, count, taking)), Box::pin(feed(sender, message, count))];
    run(&runtime, tasks).await
}

/// `count` messages of `size` bytes to a topic with one subscriber.
pub(super) async fn topic(
    runtime: SharedRuntime,
    count: u64,
    (socket, broker): (Socket, Broker),
    size: usize,
) -> Result<(), Error> {
    let office = Office::open(runtime.clone(), socket).await?;
    let receiving = office.receiver(broker).await?;
    let readings = Subscription::topic("home.*")?.capacity(CAPACITY, 16 << 20);
    let readings = receiving.receiver(readings).await?;
    let sender = office.client.sender(window()).await?;
    let message = Message::new(Topic::new("home.kitchen")?, Bytes::from(vec![7; size]));
    let tasks: Vec<Task> = vec![
        Box::pin(take(readings, count, Taking::Batches)),
        Box::pin(feed(sender, message, count)),
    ];
    run(&runtime, tasks).await
}

/// Requests of the client to an echo.
pub(super) async fn request(
    runtime: SharedRuntime,
    count: u64,
    (socket, broker): (Socket, Broker),
    in_flight: usize,
) -> Result<(), Error> {
    let office = Office::open(runtime.clone(), socket).await?;
    let answering = office.receiver(broker).await?;
    let tasks = ask(office.client.clone(), &answering, count, in_flight).await?;
    run(&runtime, tasks).await
}

fn window() -> SenderOptions {
    let options = SenderOptions::new();
    let messages = options.window_messages;
    options.window(messages, WINDOW_BYTES)
}

/// A place to listen that nothing else uses, and the folder that it may be in.
fn address(socket: Socket) -> Result<(String, TempDir), Error> {
    let folder = TempDir::new().map_err(lost)?;
    let url = match socket {
        Socket::Unix => format!("unix:{}", folder.path().join("counts.sock").display()),
        Socket::Tcp => "tcp://127.0.0.1:0".to_owned(),
    };
    Ok((url, folder))
}
