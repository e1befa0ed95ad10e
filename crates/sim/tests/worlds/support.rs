//! Programs that nodes run: a broker behind a server, producers, consumers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::Endpoint;
use posthaste_core::{
    BoxFuture, Broker, Delivery, ErrorKind, Level, Message, Queue, ReceiverExt, Sender, SenderExt,
    SenderOptions, Seq, Subscription, Topic,
};
use posthaste_link::{Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_sim::{Census, Node, Recorded, World};

/// What runs on a broker's node in its current life.
type Inside = (Arc<dyn Broker>, Arc<Server>);

/// How a node comes by its broker.
pub(crate) type Open = fn(Node) -> BoxFuture<'static, Arc<dyn Broker>>;

/// A node with a broker behind a server.
pub(crate) struct BrokerNode {
    pub(crate) node: Node,
    inside: Arc<Mutex<Option<Inside>>>,
    /// How many timers may be armed when nobody is connected: that of the broker's clock, if ids are
    /// remembered for a while.
    timers: usize,
}

/// What of a broker's node is there when nobody is connected.
const ALONE: Census = Census { tasks: 3, timers: 0, connections: 0, listeners: 1 };

impl BrokerNode {
    /// A broker in memory.
    pub(crate) async fn start(world: &World, mortal: bool, queues: Vec<Queue>) -> Self {
        let open: Open = |node| {
            Box::pin(
                async move { Arc::new(Memory::with_runtime(node.runtime())) as Arc<dyn Broker> },
            )
        };
        Self::open(world, mortal, queues, open).await
    }

    pub(crate) async fn open(world: &World, mortal: bool, queues: Vec<Queue>, open: Open) -> Self {
        let inside = Arc::new(Mutex::new(None));
        let timers = usize::from(queues.iter().any(|queue| queue.dedup_window.is_some()));
        let node = world.node("broker");
        let node = if mortal { node.mortal() } else { node };
        let filled = Arc::clone(&inside);
        let node = node.start(move |node| {
            let (filled, queues) = (Arc::clone(&filled), queues.clone());
            *filled.lock().unwrap() = None;
            async move {
                let broker = open(node.clone()).await;
                for queue in queues {
                    // On a disk that is full, or fails, that takes a while.
                    while broker.declare(queue.clone()).await.is_err() {
                        pause(&node, 500).await;
                    }
                }
                let options = ServerOptions::new();
                let server = Arc::new(Server::new(node.runtime(), Arc::clone(&broker), options));
                server.listen(node.transport(), there()).await.expect("the port is free");
                *filled.lock().unwrap() = Some((broker, Arc::clone(&server)));
                std::future::pending::<()>().await;
            }
        });
        let broker = Self { node, inside, timers };
        broker.is_there(world).await;
        broker
    }

    /// Waits until it is.
    pub(crate) async fn is_there(&self, world: &World) {
        world.until("the broker is there", async || self.inside.lock().unwrap().is_some()).await;
    }

    /// The broker of the current life.
    pub(crate) fn broker(&self) -> Arc<dyn Broker> {
        self.inside.lock().unwrap().as_ref().expect("it was started").0.clone()
    }

    /// The server of the current life.
    pub(crate) fn server(&self) -> Arc<Server> {
        Arc::clone(&self.inside.lock().unwrap().as_ref().expect("it was started").1)
    }

    /// How many messages a queue holds.
    pub(crate) async fn held(&self, queue: &str) -> u64 {
        let inside = self.inside.lock().unwrap().as_ref().map(|inside| Arc::clone(&inside.0));
        // One that is not there may hold something.
        let Some(broker) = inside else { return 1 };
        broker.queue(&topic(queue)).await.map_or(0, |info| info.messages)
    }

    /// Writes the books into the history.
    pub(crate) async fn audit(&self) {
        let stats = self.broker().stats().await.expect("a broker in this process answers");
        self.node.recorder().books(&stats.ledger);
    }

    /// Waits until nothing is left of those who were connected.
    pub(crate) async fn deserted(&self, world: &World) {
        let alone = async || {
            let census = self.node.census();
            census.timers <= self.timers && Census { timers: 0, ..census } == ALONE
        };
        world.until("nothing is left of the clients", alone).await;
        let stats = self.broker().stats().await.expect("a broker in this process answers");
        assert_eq!(stats.subscriptions, 0, "a subscription is left");
        assert!(stats.queues.iter().all(|queue| queue.consumers == 0), "a consumer is left");
    }
}

pub(crate) fn there() -> Endpoint {
    Endpoint::new("sim", "broker:7000")
}

pub(crate) fn topic(text: &str) -> Topic {
    Topic::new(text).expect("a good topic")
}

/// Connects, however long that takes.
pub(crate) async fn client(node: &Node) -> Arc<Recorded<Remote>> {
    client_at(node, there()).await
}

/// Connects to whoever is there, however long that takes.
pub(crate) async fn client_at(node: &Node, there: Endpoint) -> Arc<Recorded<Remote>> {
    Arc::new(node.record(remote_at(node, there).await))
}

/// Connects to whoever is there, and writes nothing into the history.
pub(crate) async fn remote_at(node: &Node, there: Endpoint) -> Remote {
    loop {
        let (runtime, transport) = (node.runtime(), node.transport());
        let options = RemoteOptions::new();
        match Remote::connect(runtime, transport, there.clone(), options).await {
            Ok(remote) => return remote,
            Err(_) => pause(node, 100).await,
        }
    }
}

/// Does nothing for up to `most` milliseconds.
pub(crate) async fn pause(node: &Node, most: u64) {
    node.sleep(Duration::from_millis(node.random(most + 1))).await;
}

/// How a producer sends.
#[derive(Clone)]
pub(crate) struct Producing {
    pub(crate) queue: &'static str,
    pub(crate) messages: u64,
    /// How long it waits between two messages at most, in milliseconds.
    pub(crate) pause: u64,
    /// Whether a message has an id, is sent again when nobody can say what became of it, and now
    /// and then for no reason at all.
    pub(crate) insists: bool,
    /// Whether it insists on a disk as well.
    pub(crate) stored: bool,
    /// How many keys there are. 0 is none.
    pub(crate) keys: u64,
    /// How long a message is to wait at most, in milliseconds.
    pub(crate) delay: u64,
    /// Of so many messages one is bad. 0 is none.
    pub(crate) bad_one_in: u64,
}

impl Producing {
    pub(crate) fn to(queue: &'static str, messages: u64) -> Self {
        let (insists, stored) = (false, false);
        Self { queue, messages, pause: 50, insists, stored, keys: 0, delay: 0, bad_one_in: 0 }
    }

    fn message(&self, node: &Node, number: u64) -> Message {
        // A name of its own for every message, also of one that is started again.
        let mut name = format!("{}.{number}", node.name());
        if self.bad_one_in > 0 && number.is_multiple_of(self.bad_one_in) {
            name = format!("{BAD}{name}");
        }
        let mut message = Message::builder(topic(self.queue)).to_queue();
        if self.insists {
            message = message.id(name.clone());
        }
        if self.keys > 0 {
            message = message.key(format!("{}", number % self.keys));
        }
        if self.delay > 0 && node.random(3) > 0 {
            message = message.delay(Duration::from_millis(node.random(self.delay)));
        }
        message.payload(name).build().expect("a good message")
    }
}

/// How the payload of a message begins that nobody can do anything with.
const BAD: &str = "bad.";

/// Sends messages into a queue, several in flight, and ends when each has its outcome.
pub(crate) async fn produce(node: Node, how: Producing) {
    let remote = client(&node).await;
    let window = 1 + usize::try_from(node.random(12)).unwrap_or(0);
    let mut options = SenderOptions::new().window(window, 1 << 20);
    if how.stored {
        options = options.confirm(Level::Stored);
    }
    let mut sender = loop {
        match remote.sender(options.clone()).await {
            Ok(sender) => break sender,
            Err(_) => pause(&node, 50).await,
        }
    };
    let mut back = Vec::new();
    for number in 0..how.messages {
        let message = how.message(&node, number);
        if how.insists && node.random(6) == 0 {
            back.push(message.clone());
        }
        back.extend(feed(&node, &mut sender, message).await);
        if node.random(5) == 0 {
            sender.flush().await.expect("a flush of an open sender");
        }
        pause(&node, how.pause).await;
    }
    loop {
        sender.flush().await.expect("a flush of an open sender");
        back.extend(take_back(&mut sender));
        if !how.insists || back.is_empty() {
            break;
        }
        for message in std::mem::take(&mut back) {
            back.extend(feed(&node, &mut sender, message).await);
        }
    }
    sender.close().await.expect("everything has its outcome");
}

/// What has come back and was not asked for yet.
fn take_back(sender: &mut impl Sender) -> Vec<Message> {
    let back = std::iter::from_fn(|| sender.take_returned(Seq::FIRST));
    back.map(|returned| returned.message).collect()
}

/// Has a sender take a message, given up half-way again and again. What has come back meanwhile
/// stands in its way, and is taken out of it; these are the messages that may be sent again.
async fn feed(node: &Node, sender: &mut impl Sender, message: Message) -> Vec<Message> {
    let (mut slot, mut back) = (Some(message), Vec::new());
    loop {
        let patience = Duration::from_millis(1 + node.random(400));
        let sent = within(node, patience, sender.send_from(&mut slot)).await;
        back.extend(take_back(sender));
        match sent {
            Some(Ok(_)) => return back,
            // The window may be full of what had come back.
            Some(Err(error)) if error.kind() == ErrorKind::Full => {}
            Some(Err(error)) => panic!("a remote that reconnects takes it: {error}"),
            None => {}
        }
    }
}

/// How a consumer treats what it is handed.
#[derive(Clone)]
pub(crate) struct Consuming {
    pub(crate) queue: &'static str,
    pub(crate) prefetch: usize,
    /// How many deliveries it holds at a time besides the one that it is at.
    pub(crate) holds: usize,
    /// How long it holds a delivery at most, in milliseconds.
    pub(crate) pause: u64,
    /// Of so many deliveries one is given back, this way or that. 0 is none.
    pub(crate) fails_one_in: u64,
    /// Of so many deliveries it leaves after one, and comes again. 0 is none.
    pub(crate) leaves_one_in: u64,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Consuming {
    pub(crate) fn from(queue: &'static str, prefetch: usize) -> Self {
        let stop = Arc::default();
        Self { queue, prefetch, holds: 0, pause: 30, fails_one_in: 5, leaves_one_in: 30, stop }
    }

    fn wants_more(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Consumes a queue until it is told to stop.
pub(crate) async fn consume(node: Node, how: Consuming) {
    let remote = client(&node).await;
    let jobs = Subscription::queue(how.queue).expect("a good name").prefetch(how.prefetch);
    while how.wants_more() {
        let Ok(mut receiver) = remote.receiver(jobs.clone()).await else {
            pause(&node, 50).await;
            continue;
        };
        let mut held = Vec::new();
        while how.wants_more() {
            // Given up again and again, half-way.
            let patience = Duration::from_millis(node.random(200));
            match within(&node, patience, receiver.next_delivery()).await {
                Some(Ok(delivery)) => held.push(delivery),
                Some(Err(_)) => break,
                None if held.is_empty() => continue,
                None => {}
            }
            if held.len() > how.holds || node.random(3) == 0 {
                let which = usize::try_from(node.random(held.len() as u64)).unwrap_or(0);
                treat(&node, &how, held.swap_remove(which)).await;
            }
            if node.random(4) == 0 {
                let patience = Duration::from_millis(node.random(300));
                let _ = within(&node, patience, receiver.settled()).await;
            }
            if how.leaves_one_in > 0 && node.random(how.leaves_one_in) == 0 {
                break;
            }
        }
    }
}

async fn treat(node: &Node, how: &Consuming, delivery: Delivery) {
    if node.random(3) == 0 {
        pause(node, how.pause).await;
    }
    let bad = delivery.payload().starts_with(BAD.as_bytes()) && how.queue != DEAD;
    if bad || how.fails_one_in > 0 && node.random(how.fails_one_in) == 0 {
        match node.random(if bad { 4 } else { 3 }) {
            0 => delivery.retry(Duration::ZERO, "once more"),
            1 => delivery.release(),
            2 => drop(delivery),
            _ => delivery.reject("bad"),
        }
    } else {
        delivery.ack();
    }
}

/// Where the jobs go that nobody could do.
pub(crate) const DEAD: &str = "jobs.dead";

/// The output of `future`, unless it takes too long.
pub(crate) async fn within<F: Future>(node: &Node, time: Duration, future: F) -> Option<F::Output> {
    let runtime = node.runtime();
    timeout_at(&*runtime, runtime.now() + time, future).await
}
