//! What is done between a connection that was lost and the next one, and what a second loss, another
//! server, or giving up make of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::{BoxConnection, BoxListener, Endpoint, Transport};
use posthaste_core::{
    Ack, Broker, Cancel, ErrorKind, Event, Message, Queue, ReceiverExt, SenderExt, SenderOptions,
    Seq, SharedRuntime, Subscription,
};
use posthaste_link::{Pipe, Reconnect, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_wire::{self as wire, Code, Config, Session, fields};
use smol::future::zip;

use crate::support::{Client, RawPeer, World, job, on_every_runtime, topic};

/// A way to a server that can be shut: then connecting fails, and what goes on is cut.
#[derive(Clone)]
struct Gate {
    pipe: Pipe,
    /// How often somebody found it shut, and one more; 0 while it is open.
    shut: Arc<AtomicU64>,
}

impl Gate {
    fn of(pipe: &Pipe) -> Self {
        Self { pipe: pipe.clone(), shut: Arc::default() }
    }

    /// Cuts what goes on, and waits until the client has noticed.
    async fn shut(&self, world: &World) {
        self.shut.store(1, Ordering::SeqCst);
        self.pipe.cut();
        let noticed = async || self.shut.load(Ordering::SeqCst) > 1;
        world.until("somebody finds the gate shut", noticed).await;
    }

    fn open(&self) {
        self.shut.store(0, Ordering::SeqCst);
    }
}

#[async_trait]
impl Transport for Gate {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let shut = self.shut.load(Ordering::SeqCst);
        if shut > 0 {
            let _ = self.shut.compare_exchange(shut, shut + 1, Ordering::SeqCst, Ordering::SeqCst);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.pipe.connect(to).await
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        self.pipe.bind(at).await
    }
}

async fn through(gate: &Gate, world: &World, options: RemoteOptions) -> Client {
    let (runtime, here) = (world.runtime.clone(), world.here.clone());
    Client::of(Remote::connect(runtime, gate.clone(), here, options).await.unwrap())
}

/// A world whose server keeps sessions for a blink, and has a queue that holds one message.
async fn impatient(runtime: SharedRuntime) -> World {
    let options = ServerOptions::new().session_linger(Duration::from_millis(30));
    let world = World::with(runtime, options).await;
    world.memory.declare(Queue::new(topic("full")).capacity(1)).await.unwrap();
    world
}

fn known(queue: &str, number: u64) -> Message {
    let draft = Message::builder(topic(queue)).to_queue().id(number.to_string());
    draft.payload(number.to_string()).build().unwrap()
}

#[test]
fn what_was_to_go_again_comes_back_when_the_connection_is_given_up() {
    on_every_runtime(async |runtime| {
        let mut world = impatient(runtime).await;
        let options = RemoteOptions::new().reconnect(Reconnect::For(Duration::from_millis(300)));
        let remote = world.client_with(options).await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..3 {
            sender.feed(known("full", number)).await.unwrap();
        }
        world.vanish();
        let receipt = sender.flush().await.unwrap();
        assert_eq!(receipt.confirmed + receipt.returned, 3);
        let unknown = sender.take_returned(Seq::FIRST).unwrap();
        assert_eq!(unknown.error.kind(), ErrorKind::Unknown);
    });
}

#[test]
fn what_was_to_go_again_has_its_outcome_although_its_sender_is_dropped() {
    on_every_runtime(async |runtime| {
        let world = impatient(runtime).await;
        let gate = Gate::of(&world.pipe);
        let remote = through(&gate, &world, RemoteOptions::new()).await;
        let mut events =
            remote.receiver(Subscription::topic(Event::PATTERN).unwrap()).await.unwrap();
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..3 {
            sender.feed(known("full", number)).await.unwrap();
        }
        gate.shut(&world).await;
        let told = events.next_delivery().await.unwrap();
        assert_eq!(Event::from_message(told.message()), Some(Event::SessionLost));
        drop(sender);
        let sends = remote.sends().unwrap();
        assert_eq!((sends.taken, sends.pending), (3, 0));
    });
}

#[test]
fn a_limit_holds_over_a_lost_session_and_what_was_not_handed_out_does_not_count() {
    on_every_runtime(async |runtime| {
        let mut world = World::new(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..12 {
            local.send(job("jobs", number.to_string())).await.unwrap();
        }
        let remote = world.client().await;
        let mut events =
            remote.receiver(Subscription::topic(Event::PATTERN).unwrap()).await.unwrap();
        let jobs = Subscription::queue("jobs").unwrap().limit(10);
        let mut jobs = remote.receiver(jobs).await.unwrap();
        let sent = async || world.memory.queue(&topic("jobs")).await.unwrap().unsettled == 10;
        world.until("all are on their way", async || sent().await).await;
        // An answer comes behind everything that was sent before.
        remote.stats().await.unwrap();
        for _ in 0..3 {
            jobs.next_delivery().await.unwrap().ack();
        }
        jobs.settled().await.unwrap();
        // Another server takes the place of this one, without a word.
        world.pipe.cut();
        world.restart().await;
        let told = events.next_delivery().await.unwrap();
        assert_eq!(Event::from_message(told.message()), Some(Event::SessionLost));
        for _ in 3..10 {
            jobs.next_delivery().await.unwrap().ack();
        }
        assert!(jobs.recv().await.unwrap().is_none(), "it wanted no more");
        jobs.settled().await.unwrap();
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.messages, info.ledger.acked), (2, 10));
    });
}

#[test]
fn a_drain_in_the_gap_waits_until_what_was_settled_there_is_told() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        local.send(job("jobs", "kept")).await.unwrap();
        local.send(job("dropped", "kept")).await.unwrap();
        let gate = Gate::of(&world.pipe);
        let remote = through(&gate, &world, RemoteOptions::new()).await;
        let mut kept = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let mut dropped = remote.receiver(Subscription::queue("dropped").unwrap()).await.unwrap();
        let held = [kept.next_delivery().await.unwrap(), dropped.next_delivery().await.unwrap()];
        gate.shut(&world).await;
        held.into_iter().for_each(posthaste_core::Delivery::ack);
        drop(dropped);
        let mut drain = std::pin::pin!(remote.drain(Duration::from_secs(10)));
        assert!(smol::future::poll_once(drain.as_mut()).await.is_none());
        gate.open();
        drain.await.unwrap();
        for queue in ["jobs", "dropped"] {
            let settled = async || {
                let info = world.memory.queue(&topic(queue)).await.unwrap();
                (info.messages, info.ledger.acked) == (0, 1)
            };
            world.until("it is settled, and not delivered again", settled).await;
        }
    });
}

#[test]
fn each_loss_of_a_session_is_told() {
    on_every_runtime(async |runtime| {
        let mut world = World::new(runtime).await;
        let remote = world.client().await;
        let mut events =
            remote.receiver(Subscription::topic(Event::PATTERN).unwrap()).await.unwrap();
        // Once by the next server, which knows nothing of it, and once because nobody keeps it.
        world.pipe.cut();
        world.restart().await;
        let told = events.next_delivery().await.unwrap();
        assert_eq!(Event::from_message(told.message()), Some(Event::SessionLost));
        world.restart().await;
        let told = events.next_delivery().await.unwrap();
        assert_eq!(Event::from_message(told.message()), Some(Event::SessionLost));
    });
}

fn ask(number: u64) -> Message {
    Message::builder(topic("sum")).reply_to(topic("me"), number).build().unwrap()
}

#[test]
fn a_request_that_is_cancelled_in_the_gap_is_cancelled_afterwards() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let gate = Gate::of(&world.pipe);
        let remote = through(&gate, &world, RemoteOptions::new()).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        let sums = Subscription::shared("sum", "sums").unwrap().ack(Ack::Manual);
        let mut sums = remote.receiver(sums).await.unwrap();
        let mut held = Vec::new();
        for number in 1..=2 {
            local.send(ask(number)).await.unwrap();
            held.push(sums.next_delivery().await.unwrap());
        }
        gate.shut(&world).await;
        let gone = async || world.server.connections() == 0;
        world.until("the server has noticed", gone).await;
        world.memory.cancel(&Cancel::of(&ask(1)).unwrap());
        gate.open();
        held[0].cancelled().await;
        world.memory.cancel(&Cancel::of(&ask(2)).unwrap());
        held[1].cancelled().await;
        held.into_iter().for_each(posthaste_core::Delivery::ack);
        sums.settled().await.unwrap();
    });
}

#[test]
fn a_session_goes_on_only_at_the_server_that_it_was_at_last() {
    on_every_runtime(async |runtime| {
        let one = World::new(runtime.clone()).await;
        let pipe = Pipe::new();
        let memory = Memory::with_runtime(runtime.clone());
        let two = Server::new(runtime.clone(), memory.clone(), ServerOptions::new());
        let there = two.listen(pipe.clone(), Endpoint::new("pipe", "two")).await.unwrap();
        let ways = Ways { one: Gate::of(&one.pipe), two: Gate::of(&pipe) };
        let options = RemoteOptions::new().fallback(there);
        let (way, here) = (ways.clone(), one.here.clone());
        let remote = Client::of(Remote::connect(runtime, way, here, options).await.unwrap());
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..10 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        ways.one.shut(&one).await;
        memory.declare(Queue::new(topic("jobs")).capacity(4)).await.unwrap();
        for number in 10..14 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        for number in 14..17 {
            sender.feed(job("jobs", number.to_string())).await.unwrap();
        }
        ways.one.open();
        ways.two.shut(&one).await;
        let receipt = sender.flush().await.unwrap();
        assert_eq!((receipt.confirmed, receipt.returned), (0, 3), "they are not at this server");
        while let Some(returned) = sender.take_returned(Seq::FIRST) {
            assert_eq!(returned.error.kind(), ErrorKind::Unknown);
        }
        sender.send(job("jobs", "17")).await.unwrap();
        assert_eq!(one.memory.queue(&topic("jobs")).await.unwrap().messages, 11);
    });
}

/// Ways to two servers.
#[derive(Clone)]
struct Ways {
    one: Gate,
    two: Gate,
}

#[async_trait]
impl Transport for Ways {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let way = if to.address() == "two" { &self.two } else { &self.one };
        way.connect(to).await
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        self.one.bind(at).await
    }
}

#[test]
fn a_drain_ends_once_the_next_server_knows_nothing_of_the_session() {
    on_every_runtime(async |runtime| {
        let mut world = World::new(runtime.clone()).await;
        world.memory.declare(Queue::new(topic("full")).capacity(1)).await.unwrap();
        let gate = Gate::of(&world.pipe);
        let remote = through(&gate, &world, RemoteOptions::new()).await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for _ in 0..3 {
            sender.feed(job("full", "x")).await.unwrap();
        }
        gate.shut(&world).await;
        let mut drain = std::pin::pin!(remote.drain(Duration::from_secs(60)));
        assert!(smol::future::poll_once(drain.as_mut()).await.is_none());
        world.restart().await;
        gate.open();
        let soon = runtime.now() + Duration::from_secs(4);
        let ended = timeout_at(&*runtime, soon, drain).await;
        ended.expect("long before its time is over").unwrap();
        let sends = remote.sends().unwrap();
        assert_eq!((sends.taken, sends.pending), (3, 0));
    });
}

#[test]
fn a_server_that_tells_more_again_than_there_was_is_not_believed() {
    on_every_runtime(async |runtime| {
        let pipe = Pipe::new();
        let here = Endpoint::new("pipe", "liar");
        let mut listener = pipe.bind(&here).await.unwrap();
        let options = RemoteOptions::new();
        let client = Remote::connect(runtime.clone(), pipe.clone(), here, options);
        let known = async {
            let mut server = accept(&runtime, &mut listener).await;
            answer(&mut server, false, 0).await;
            server
        };
        let (client, mut server) = zip(client, known).await;
        let client = client.unwrap();
        let news = client.receiver(Subscription::topic("a").unwrap());
        let (news, ()) = zip(news, answer(&mut server, false, 0)).await;
        let mut news = news.unwrap();
        drop(server);
        let again = async {
            let mut server = accept(&runtime, &mut listener).await;
            answer(&mut server, true, u64::MAX).await;
            server
        };
        let (received, _server) = zip(news.recv(), again).await;
        assert_eq!(received.unwrap_err().kind(), ErrorKind::Protocol);
    });
}

/// Accepts a client as a server that says nothing by itself.
async fn accept(runtime: &SharedRuntime, listener: &mut BoxListener) -> RawPeer {
    let connection = listener.accept().await.unwrap().await.unwrap();
    let config = Config { linger: Duration::from_secs(5), ..Config::default() };
    let session = Session::server(config, runtime.now());
    RawPeer::new(session, connection, runtime.clone())
}

/// Answers the next call, or opens the next link in this way.
async fn answer(server: &mut RawPeer, resumed: bool, carried: u64) {
    loop {
        while let Some(event) = server.session.poll_event() {
            let mut record = Vec::new();
            let mut fields = fields::Writer::new(&mut record);
            match event {
                wire::Event::Call { id, .. } => {
                    fields.str(1, "liar");
                    server.session.result(id, Code::Ok, &record);
                }
                wire::Event::Opening { link, .. } => {
                    fields.bool(1, true).bool(3, resumed).u64(4, carried);
                    server.session.opened(link, &record);
                }
                _ => continue,
            }
            server.write().await;
            return;
        }
        server.write().await;
        assert!(server.read().await, "the client is gone");
    }
}
