//! Who stalls costs its own bound and nothing else: memory stays within it, and the others keep
//! their pace, in process and over a socket, under every policy but the one that blocks.
#![expect(clippy::disallowed_methods, reason = "a pace is measured by the machine's own clock")]

use std::time::{Duration, Instant};

use posthaste::prelude::*;
use posthaste::{
    BoxReceiver, BoxSender, Delivery, Memory, Message, Overflow, Queue, SenderOptions, Server,
    SharedRuntime, Subscription, Topic,
};
use posthaste_conformance::Books;
use posthaste_tokio::Tokio;

/// Every policy under which a subscriber that stalls holds up no other.
const POLICIES: [Overflow; 4] =
    [Overflow::DropNewest, Overflow::DropOldest, Overflow::LatestPerKey, Overflow::Disconnect];

/// A server on a socket of its own and the broker behind it, on the thread of the test alone.
struct World {
    runtime: SharedRuntime,
    broker: Memory,
    server: Server,
    _books: Books,
}

impl World {
    async fn new() -> Self {
        let runtime: SharedRuntime = Tokio::current().into();
        let broker = Memory::with_runtime(runtime.clone());
        let books = Books::watch(broker.clone());
        let server = posthaste::serve(runtime.clone(), broker.clone(), "tcp://127.0.0.1:0");
        Self { runtime, server: server.await.unwrap(), broker, _books: books }
    }

    /// A way to the broker: the broker itself, or a connection of its own.
    async fn client(&self, over_socket: bool) -> Bus {
        if over_socket {
            let url = self.server.endpoints()[0].to_string();
            return posthaste::connect(self.runtime.clone(), url).await.unwrap();
        }
        Bus::with_runtime(self.broker.clone(), self.runtime.clone())
    }
}

/// Runs a test to its end on this thread, which does all the work.
fn on_this_thread<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

// ---- memory

/// What a receiver that stalls may hold, in bytes, and the payloads that it is sent.
const BOUND: usize = 1 << 20;
const PAYLOAD: usize = 16 << 10;
/// This many times its bound is sent to it.
const TIMES: usize = 32;
/// What the windows of a connection, buffers and bookkeeping may take beside it.
const OVERHEAD: u64 = 6 << 20;

#[test]
fn a_subscriber_that_stalls_costs_no_more_than_its_bound() {
    for over_socket in [false, true] {
        for policy in POLICIES.into_iter().chain([Overflow::Block]) {
            let most = peak(over_socket, &async |bus: &Bus| {
                let of = Subscription::topic("news").unwrap();
                let of = of.capacity(1_000_000, BOUND).overflow(policy);
                let stalled = bus.receiver(of).await.unwrap();
                flood(bus, |n| {
                    // Keys that never come again, so that the latest of each is every one.
                    let draft = Message::builder("news".try_into().unwrap());
                    draft.key(n.to_string()).payload(vec![7; PAYLOAD]).build().unwrap()
                })
                .await;
                drop(stalled);
            });
            assert_within(most, 2 * BOUND, &format!("{policy}, over a socket: {over_socket}"));
        }
    }
}

#[test]
fn a_queue_that_nobody_consumes_costs_no_more_than_its_bound() {
    for over_socket in [false, true] {
        for policy in Overflow::ALL.into_iter().filter(|policy| policy.suits_queues()) {
            let most = peak(over_socket, &async |bus: &Bus| {
                let name = Topic::new("jobs").unwrap();
                let queue = Queue::new(name.clone()).capacity_bytes(BOUND).overflow(policy);
                bus.declare(queue).await.unwrap();
                flood(bus, |_| Message::to_queue(name.clone(), vec![7; PAYLOAD])).await;
            });
            assert_within(most, BOUND, &format!("{policy}, over a socket: {over_socket}"));
        }
    }
}

fn assert_within(most: u64, bound: usize, what: &str) {
    let bound = bound as u64 + OVERHEAD;
    assert!(most <= bound, "{most} bytes instead of {bound} at most, with {what}");
    let sent = (TIMES * BOUND) as u64;
    assert!(most < sent / 4, "{most} bytes are no bound for {sent}");
}

/// The most bytes that were allocated at a time.
fn peak<F: AsyncFn(&Bus)>(over_socket: bool, test: &F) -> u64 {
    let measured = allocation_counter::measure(|| {
        on_this_thread(async {
            let world = World::new().await;
            test(&world.client(over_socket).await).await;
        });
    });
    measured.bytes_max
}

/// Sends many times the bound, unless there is no more room.
async fn flood(bus: &Bus, make: impl Fn(usize) -> Message) {
    let options = SenderOptions::new().window(64, BOUND);
    let mut sender = bus.sender(options).await.unwrap();
    for nth in 0..TIMES * BOUND / PAYLOAD {
        let mut slot = Some(make(nth));
        // Whoever is made to wait waits for ever here, so that is where it ends.
        let patience = Duration::from_millis(200);
        let sent = tokio::time::timeout(patience, sender.send_from(&mut slot)).await;
        match sent {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == ErrorKind::Full => {}
            Ok(Err(error)) => panic!("{error}"),
            Err(_waited) => return,
        }
        while sender.take_returned(posthaste::Seq::FIRST).is_some() {}
    }
}

// ---- pace

const READERS: usize = 9;
const BURST: usize = 50;
const BURSTS: usize = 8;
const ROUNDS: usize = 15;

/// Subscribers of a topic, all of which read, and perhaps one that does not.
struct Crowd {
    topic: Topic,
    sender: BoxSender,
    readers: Vec<BoxReceiver>,
    _stalled: Option<BoxReceiver>,
}

impl Crowd {
    async fn new(world: &World, over_socket: bool, stalls: Option<Overflow>) -> Self {
        let name = stalls.map_or("calm".to_owned(), |policy| format!("beside.{policy}"));
        let topic = Topic::new(name).unwrap();
        let sending = world.client(over_socket).await;
        let mut readers = Vec::new();
        for _ in 0..READERS + usize::from(stalls.is_none()) {
            let client = world.client(over_socket).await;
            readers.push(client.subscribe(&topic).await.unwrap());
        }
        let stalled = match stalls {
            Some(policy) => {
                let of = Subscription::topic(&topic).unwrap().capacity(64, BOUND).overflow(policy);
                Some(world.client(over_socket).await.receiver(of).await.unwrap())
            }
            None => None,
        };
        let sender = sending.sender(SenderOptions::new()).await.unwrap();
        Self { topic, sender, readers, _stalled: stalled }
    }

    /// Publishes in bursts, each of which all readers take, and returns how long that took.
    async fn round(&mut self) -> Duration {
        let before = Instant::now();
        let mut taken: Vec<Delivery> = Vec::with_capacity(BURST);
        for _ in 0..BURSTS {
            for nth in 0..BURST {
                let message = Message::new(self.topic.clone(), nth.to_string());
                self.sender.feed(message).await.unwrap();
            }
            self.sender.flush().await.unwrap();
            for reader in &mut self.readers {
                while taken.len() < BURST {
                    let left = BURST - taken.len();
                    reader.recv_many(&mut taken, left).await.unwrap();
                }
                taken.clear();
            }
        }
        before.elapsed()
    }
}

#[test]
fn one_that_stalls_among_ten_takes_less_than_a_fifth_of_the_others_pace() {
    for over_socket in [false, true] {
        on_this_thread(async {
            let world = World::new().await;
            for policy in POLICIES {
                let mut calm = Crowd::new(&world, over_socket, None).await;
                let mut beside = Crowd::new(&world, over_socket, Some(policy)).await;
                // A machine that does something else meanwhile may spoil a comparison, not three.
                let mut paces = Vec::new();
                while paces.len() < 3 && !paces.iter().any(|pace| *pace >= 0.8) {
                    paces.push(compare(&mut calm, &mut beside).await);
                }
                let kept = paces.iter().any(|pace| *pace >= 0.8);
                assert!(kept, "paces beside {policy}, over a socket {over_socket}: {paces:?}");
            }
        });
    }
}

/// The pace beside one that stalls, as a part of the calm one's: the medians of rounds in turn.
async fn compare(calm: &mut Crowd, beside: &mut Crowd) -> f64 {
    let (mut calm_times, mut beside_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        calm_times.push(calm.round().await);
        beside_times.push(beside.round().await);
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    median(calm_times) / median(beside_times)
}
