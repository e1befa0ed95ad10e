//! Faults on a real RabbitMQ: it restarts, is killed, is silent, is cut off, refuses, or deletes a
//! queue under its consumer. Each ends with a ledger of the client's that has to balance.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stdout, reason = "a test shows its ledger")]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste_amqp::{Amqp, AmqpOptions, QueueType};
use posthaste_core::runtime::{blocking, timeout_at};
use posthaste_core::task::lock;
use posthaste_core::{
    Broker, ErrorKind, Message, Queue, ReceiverExt, SenderExt, SenderOptions, SharedRuntime,
    Subscription, Topic,
};
use posthaste_servers::harness::{self, Trials};
use posthaste_servers::{Proxy, Server};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

/// Longer than any recovery takes.
const LONG: Duration = Duration::from_secs(90);

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

async fn wait(runtime: &SharedRuntime, time: Duration) {
    let deadline = runtime.now() + time;
    timeout_at(&**runtime, deadline, std::future::pending::<()>()).await;
}

async fn within<T>(runtime: &SharedRuntime, what: &str, future: impl Future<Output = T>) -> T {
    let done = timeout_at(&**runtime, runtime.now() + LONG, future).await;
    done.unwrap_or_else(|| panic!("this took too long: {what}"))
}

/// How many go through before anything fails.
const BEFORE: usize = 100;

/// What became of every number, as the client knows it.
#[derive(Debug, Default)]
struct Ledger {
    sent: u64,
    confirmed: BTreeSet<u64>,
    /// Nobody knows whether these arrived.
    unknown: BTreeSet<u64>,
    /// These did not.
    refused: BTreeMap<u64, ErrorKind>,
    received: BTreeMap<u64, u32>,
}

impl Ledger {
    fn check(&self) {
        let ended = self.confirmed.len() + self.unknown.len() + self.refused.len();
        assert_eq!(ended as u64, self.sent, "each message has one outcome");
        for number in &self.confirmed {
            assert!(self.received.contains_key(number), "{number} was confirmed and never came");
        }
        for number in self.received.keys() {
            let is_sent = self.confirmed.contains(number) || self.unknown.contains(number);
            assert!(is_sent, "{number} came and was not sent");
        }
        println!(
            "sent {} = confirmed {} + unknown {} + refused {}; received {}, {} of them again",
            self.sent,
            self.confirmed.len(),
            self.unknown.len(),
            self.refused.len(),
            self.received.len(),
            self.received.values().filter(|times| **times > 1).count(),
        );
    }
}

/// Sends numbers until `fault` is over and some more have gone through, receives them all, and
/// balances the books.
async fn stream(
    runtime: &SharedRuntime,
    broker: &Amqp,
    queue: &Topic,
    fault: impl Future<Output = ()>,
) -> Ledger {
    let ledger = Mutex::new(Ledger::default());
    let (over, sent_all) = (AtomicBool::new(false), AtomicBool::new(false));
    let after = AtomicU64::new(0);
    let sending = async {
        let options = SenderOptions::new().queue(queue.clone()).window(64, 1 << 20);
        let mut sender = broker.sender(options).await.unwrap();
        let mut number = 0;
        while !over.load(Ordering::SeqCst) || after.load(Ordering::SeqCst) < 5 {
            let first = number + 1;
            for _ in 0..20 {
                number += 1;
                let message = Message::to_queue(queue.clone(), number.to_string());
                within(runtime, "a send", sender.feed(message)).await.unwrap();
            }
            let receipt = within(runtime, "a flush", sender.flush()).await.unwrap();
            {
                let mut ledger = lock(&ledger);
                ledger.sent = number;
                ledger.confirmed.extend(first..=number);
                while let Some(returned) = sender.take_returned(posthaste_core::Seq::FIRST) {
                    let number = number_of(&returned.message);
                    ledger.confirmed.remove(&number);
                    match returned.error.kind() {
                        ErrorKind::Unknown => drop(ledger.unknown.insert(number)),
                        kind => drop(ledger.refused.insert(number, kind)),
                    }
                }
                if over.load(Ordering::SeqCst) && receipt.returned == 0 {
                    after.fetch_add(1, Ordering::SeqCst);
                }
            }
            wait(runtime, Duration::from_millis(2)).await;
        }
        sent_all.store(true, Ordering::SeqCst);
    };
    let receiving = async {
        let of = Subscription::queue(queue).unwrap().prefetch(50);
        let mut consumer = broker.receiver(of).await.unwrap();
        loop {
            let soon = runtime.now() + Duration::from_millis(100);
            if let Some(got) = timeout_at(&**runtime, soon, consumer.recv()).await {
                let delivery = got.unwrap().expect("the queue is still there");
                *lock(&ledger).received.entry(number_of(delivery.message())).or_default() += 1;
                delivery.ack();
            }
            let ledger = lock(&ledger);
            let has_all =
                ledger.confirmed.iter().all(|number| ledger.received.contains_key(number));
            if has_all && sent_all.load(Ordering::SeqCst) {
                break;
            }
        }
        // A late settlement of a channel that is gone is an error, and no harm.
        let _told = consumer.settled().await;
        consumer
    };
    let failing = async {
        // In the middle of it, however long it takes to begin.
        while lock(&ledger).confirmed.len() < BEFORE {
            wait(runtime, Duration::from_millis(10)).await;
        }
        fault.await;
        over.store(true, Ordering::SeqCst);
    };
    let (mut consumer, (), ()) =
        within(runtime, "the stream", async { futures::join!(receiving, sending, failing) }).await;
    let mut ledger = ledger.into_inner().unwrap();
    // What was taken back from a lost connection comes again; in the end nothing is left.
    within(runtime, "an empty queue", async {
        loop {
            let soon = runtime.now() + Duration::from_millis(200);
            match timeout_at(&**runtime, soon, consumer.recv()).await {
                Some(got) => {
                    let delivery = got.unwrap().expect("the queue is still there");
                    *ledger.received.entry(number_of(delivery.message())).or_default() += 1;
                    delivery.ack();
                }
                None if broker.queue(queue).await.unwrap().messages == 0 => break,
                None => {}
            }
        }
        consumer.settled().await.unwrap();
    })
    .await;
    drop(consumer);
    ledger.check();
    let sends = broker.sends().unwrap();
    assert!(sends.is_balanced() && sends.pending == 0, "{sends:?}");
    wait(runtime, Duration::from_millis(200)).await;
    assert_eq!(broker.queue(queue).await.unwrap().messages, 0, "everything is acknowledged");
    ledger
}

fn number_of(message: &Message) -> u64 {
    std::str::from_utf8(message.payload()).unwrap().parse().unwrap()
}

fn options(queue_type: QueueType) -> AmqpOptions {
    AmqpOptions::new()
        .queue_type(queue_type)
        .heartbeat(Duration::from_secs(1))
        .connect_timeout(Duration::from_secs(3))
        .patience(Duration::from_secs(60))
}

type Shared = Arc<Mutex<Server>>;

async fn on_server(runtime: &SharedRuntime, server: &Shared, act: fn(&mut Server)) {
    let server = Arc::clone(server);
    blocking(&**runtime, move || act(&mut lock(&server))).await;
}

async fn restarts(
    runtime: SharedRuntime,
    server: Shared,
    queue_type: QueueType,
    stop: fn(&mut Server),
) {
    let url = lock(&server).url().to_owned();
    let broker = Amqp::connect_with(runtime.clone(), &url, options(queue_type)).await.unwrap();
    let news = topic("news.today");
    let mut subscriber = broker.receiver(Subscription::topic("news.*").unwrap()).await.unwrap();
    let (inbox, mut replies) = broker.inbox().await.unwrap();
    // Which quorum queues there are is on its disk a moment after one was made.
    broker.declare(Queue::new(topic("jobs"))).await.unwrap();
    wait(&runtime, Duration::from_secs(3)).await;
    let fault = async {
        on_server(&runtime, &server, stop).await;
        on_server(&runtime, &server, |server| server.restart().unwrap()).await;
    };
    let ledger = stream(&runtime, &broker, &topic("jobs"), fault).await;
    assert!(ledger.confirmed.len() > BEFORE, "{ledger:?}");
    // Subscriptions and inboxes say that something may be missing, and live again.
    for (receiver, to) in [(&mut subscriber, &news), (&mut replies, &inbox)] {
        let lost = within(&runtime, "being told", receiver.recv()).await.map(|_| ()).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::SessionLost, "{lost}");
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        let receipt = sender.send(Message::new(to.clone(), "again")).await.unwrap();
        assert_eq!(receipt.matched, 1);
        let got = within(&runtime, "a message", receiver.recv()).await.unwrap().unwrap();
        assert_eq!(got.payload(), "again");
    }
}

async fn restarted_in_order(runtime: SharedRuntime, server: Shared) {
    restarts(runtime, server, QueueType::Classic, |server| server.stop()).await;
}

async fn killed(runtime: SharedRuntime, server: Shared) {
    restarts(runtime, server, QueueType::Classic, |server| server.kill()).await;
}

async fn killed_with_quorum_queues(runtime: SharedRuntime, server: Shared) {
    restarts(runtime, server, QueueType::Quorum, |server| server.kill()).await;
}

async fn silent_past_its_heartbeat(runtime: SharedRuntime, server: Shared) {
    let url = lock(&server).url().to_owned();
    let broker =
        Amqp::connect_with(runtime.clone(), &url, options(QueueType::Classic)).await.unwrap();
    let fault = async {
        on_server(&runtime, &server, |server| server.pause()).await;
        wait(&runtime, Duration::from_secs(6)).await;
        on_server(&runtime, &server, |server| server.resume()).await;
    };
    let ledger = stream(&runtime, &broker, &topic("jobs"), fault).await;
    assert!(!ledger.unknown.is_empty() || ledger.sent > 0, "{ledger:?}");
}

async fn cut_at_random(runtime: SharedRuntime, server: Shared) {
    let proxy = Arc::new(Proxy::to(&lock(&server).address()).unwrap());
    let url = lock(&server).url_through(&proxy.address());
    let broker =
        Amqp::connect_with(runtime.clone(), &url, options(QueueType::Classic)).await.unwrap();
    let fault = async {
        for _ in 0..25 {
            let mut random = [0; 2];
            runtime.fill_random(&mut random);
            proxy.cut_after(u64::from(u16::from_le_bytes(random)) % 20_000);
            wait(&runtime, Duration::from_millis(150)).await;
        }
        proxy.cut_after(u64::MAX);
        proxy.cut();
    };
    let ledger = stream(&runtime, &broker, &topic("jobs"), fault).await;
    assert!(ledger.sent > 100, "{ledger:?}");
}

async fn refusing(runtime: SharedRuntime, server: Shared) {
    let url = lock(&server).url().to_owned();
    let wrong = url.replace("guest:guest@", "guest:sesame@");
    assert_ne!(wrong, url);
    let refused = Amqp::connect(runtime.clone(), &wrong).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(!format!("{refused} {refused:?}").contains("sesame"), "{refused}");
    let authority = url.split("//").nth(1).unwrap().split('/').next().unwrap();
    let nowhere = format!("amqp://{authority}/nowhere");
    let refused = Amqp::connect(runtime.clone(), &nowhere).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.text().contains("nowhere"), "{refused}");
    let nobody = Amqp::connect(runtime, "amqp://127.0.0.1:1").await.map(|_| ()).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Disconnected, "{nobody}");
}

async fn deleting_under_a_consumer(runtime: SharedRuntime, server: Shared) {
    let url = lock(&server).url().to_owned();
    let queue = topic("jobs");
    let broker = Amqp::connect(runtime.clone(), &url).await.unwrap();
    let mut consumer = broker.receiver(Subscription::queue(&queue).unwrap()).await.unwrap();
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    sender.send(Message::to_queue(queue.clone(), "1")).await.unwrap();
    let held = within(&runtime, "a delivery", consumer.recv()).await.unwrap().unwrap();
    let (ended, deleted) = futures::join!(
        within(&runtime, "the end", consumer.recv()),
        within(&runtime, "deleting", broker.delete(&queue)),
    );
    deleted.unwrap();
    assert!(ended.unwrap().is_none());
    held.ack();
    assert!(consumer.recv().await.unwrap().is_none(), "the end stays");
    let lost = sender.send(Message::to_queue(queue, "2")).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::NotFound, "{lost}");
}

fn main() -> ExitCode {
    type Case = fn(SharedRuntime, Shared) -> Pin<Box<dyn Future<Output = ()>>>;
    let cases: [(&str, Case); 7] = [
        ("a_server_that_restarts_loses_nothing", |rt, s| Box::pin(restarted_in_order(rt, s))),
        ("a_server_that_is_killed_loses_nothing", |rt, s| Box::pin(killed(rt, s))),
        ("nor_do_its_quorum_queues", |rt, s| Box::pin(killed_with_quorum_queues(rt, s))),
        ("one_that_is_silent_is_left", |rt, s| Box::pin(silent_past_its_heartbeat(rt, s))),
        ("connections_may_be_cut_anywhere", |rt, s| Box::pin(cut_at_random(rt, s))),
        ("who_is_refused_is_told", |rt, s| Box::pin(refusing(rt, s))),
        ("a_deleted_queue_is_the_end", |rt, s| Box::pin(deleting_under_a_consumer(rt, s))),
    ];
    let mut trials = Trials::default();
    for (name, case) in cases {
        trials.owning("rabbitmq", format!("{name}_on_smol"), move |server| {
            smol::block_on(case(Smol::global().into(), Arc::new(Mutex::new(server))));
        });
        trials.owning("rabbitmq", format!("{name}_on_tokio"), move |server| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            let handle = Tokio::new(runtime.handle().clone());
            runtime.block_on(case(handle.into(), Arc::new(Mutex::new(server))));
        });
    }
    harness::main(trials)
}
