//! What a bridge promises, on brokers in process.

use std::collections::BTreeSet;
use std::future::{Future, pending};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_bridge::Bridge;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Bus, Capabilities, DrainReport, Error, ErrorKind, Message,
    Overflow, Queue, QueueInfo, ReceiverExt, SenderOptions, SharedRuntime, Stats, Subscription,
    Topic,
};
use posthaste_memory::Memory;
use posthaste_smol::Smol;

fn bus() -> Bus {
    let runtime: SharedRuntime = Smol::global().into();
    Bus::with_runtime(Memory::with_runtime(runtime.clone()), runtime)
}

fn jobs() -> Topic {
    Topic::new("jobs").unwrap()
}

async fn send(bus: &Bus, number: u64) {
    let message = Message::builder(jobs()).to_queue().id(format!("id-{number}"));
    let message = message.payload(number.to_string()).build().unwrap();
    bus.send_message(message).await.unwrap();
}

/// Takes what is in the queue, oldest first.
async fn take(bus: &Bus) -> Vec<u64> {
    let mut receiver = bus.consume("jobs").await.unwrap();
    let mut numbers = Vec::new();
    while let Some(delivery) = receiver.try_recv().unwrap() {
        numbers.push(std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap());
        delivery.ack();
    }
    numbers
}

#[test]
fn everything_crosses_in_order_and_leaves_the_source() {
    pollster::block_on(async {
        let (old, new) = (bus(), bus());
        for number in 0..3_000 {
            send(&old, number).await;
        }
        let mut bridge = Bridge::queue(&old, &new, jobs()).open().await.unwrap();
        let counts = bridge.run(Some(3_000), None, pending()).await.unwrap();
        assert_eq!((counts.forwarded, counts.matched, counts.again), (3_000, 3_000, 0));
        assert_eq!(take(&new).await, (0..3_000).collect::<Vec<u64>>());
        let ledger = old.ledger().await.unwrap();
        assert_eq!((ledger.acked, ledger.held), (3_000, 0));
    });
}

#[test]
fn a_bridge_given_up_anywhere_loses_and_doubles_nothing() {
    for polls in 0..60 {
        pollster::block_on(async {
            let (old, new) = (bus(), bus());
            for number in 0..40 {
                send(&old, number).await;
            }
            let bridge = || Bridge::queue(&old, &new, jobs());
            {
                let whole = async {
                    let mut bridge = bridge().open().await.unwrap();
                    bridge.run(Some(40), None, pending()).await.unwrap();
                };
                let mut whole = pin!(whole);
                let mut cx = Context::from_waker(Waker::noop());
                for _ in 0..polls {
                    if whole.as_mut().poll(&mut cx) == Poll::Ready(()) {
                        break;
                    }
                }
            }
            // Another one goes on where it was.
            let mut next = bridge().open().await.unwrap();
            next.run(None, Some(Duration::from_millis(1)), pending()).await.unwrap();
            assert_eq!(take(&new).await, (0..40).collect::<Vec<u64>>(), "after {polls} polls");
            assert_eq!(old.ledger().await.unwrap().held, 0);
            assert!(new.ledger().await.unwrap().is_balanced());
        });
    }
}

#[test]
fn what_the_target_never_takes_stays_at_the_source() {
    pollster::block_on(async {
        let (old, new) = (bus(), bus());
        send(&old, 1).await;
        let mut bridge = Bridge::queue(&old, &new, jobs()).open().await.unwrap();
        new.drain(Duration::ZERO).await.unwrap();
        // A target that is closed may be there again, so the bridge goes on until it is told to end.
        let until = async {
            let mut timer = old.runtime().unwrap().timer();
            timer.as_mut().reset(old.runtime().unwrap().now() + Duration::from_millis(200));
            timer.await;
        };
        let counts = bridge.run(None, None, until).await.unwrap();
        assert_eq!(counts.forwarded, 0);
        drop(bridge);
        assert_eq!(take(&old).await, [1]);
    });
}

#[test]
fn a_full_target_holds_the_bridge_up() {
    pollster::block_on(async {
        let (old, new) = (bus(), bus());
        for number in 0..100 {
            send(&old, number).await;
        }
        let small = Queue::new(jobs()).capacity(5).overflow(Overflow::Reject);
        new.declare(small).await.unwrap();
        let mut bridge = Bridge::queue(&old, &new, jobs()).open().await.unwrap();
        let mut seen = BTreeSet::new();
        let taking = async {
            let mut receiver = new.consume("jobs").await.unwrap();
            while seen.len() < 100 {
                let delivery = receiver.next_delivery().await.unwrap();
                seen.insert(
                    std::str::from_utf8(delivery.payload()).unwrap().parse::<u64>().unwrap(),
                );
                delivery.ack();
            }
        };
        bridge.run(None, None, taking).await.unwrap();
        assert_eq!(seen, (0..100).collect());
    });
}

#[test]
fn topics_are_held_while_no_bridge_runs() {
    pollster::block_on(async {
        let (old, new) = (bus(), bus());
        let bridge = || {
            let pattern = "orders.>".parse().unwrap();
            Bridge::topics(&old, &new, pattern, Topic::new("to-new").unwrap())
        };
        drop(bridge().open().await.unwrap());
        old.publish("orders.eu", "1").await.unwrap();
        old.publish("invoices.eu", "2").await.unwrap();
        let mut orders = new.subscribe(">").await.unwrap();
        let counts = bridge().open().await.unwrap().run(Some(1), None, pending()).await.unwrap();
        assert_eq!(counts.matched, 1);
        let delivery = orders.next_delivery().await.unwrap();
        assert_eq!(
            (delivery.message().topic().as_str(), &delivery.payload()[..]),
            ("orders.eu", &b"1"[..])
        );
        assert_eq!(orders.try_recv().unwrap().map(|_| ()), None);
    });
}

#[test]
fn a_bridge_needs_a_clock() {
    pollster::block_on(async {
        let bare = || Bus::new(Memory::new());
        let opened = Bridge::queue(&bare(), &bare(), jobs()).open().await;
        assert_eq!(opened.err().map(|error| error.kind()), Some(ErrorKind::Unsupported));
    });
}

/// A broker whose connection is lost whenever it is asked for a receiver, as often as that says.
struct Away(Memory, AtomicU32);

#[async_trait]
impl Broker for Away {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        self.0.sender(options).await
    }
    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        let left = self.1.load(Ordering::Relaxed);
        if left > 0 {
            self.1.store(left - 1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Disconnected, "it is away"));
        }
        self.0.receiver(subscription).await
    }
    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        self.0.inbox().await
    }
    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        self.0.declare(queue).await
    }
    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        self.0.delete(queue).await
    }
    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.0.queue(queue).await
    }
    async fn stats(&self) -> Result<Stats, Error> {
        self.0.stats().await
    }
    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.0.drain(within).await
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
}

#[test]
fn a_source_that_goes_away_while_it_is_opened_is_asked_again_and_not_for_ever() {
    pollster::block_on(async {
        let open = async |times| {
            let runtime: SharedRuntime = Smol::global().into();
            let away = Away(Memory::with_runtime(runtime.clone()), AtomicU32::new(times));
            let old = Bus::with_runtime(away, runtime);
            Bridge::queue(&old, &bus(), jobs()).open().await.map(drop)
        };
        open(2).await.unwrap();
        assert_eq!(open(1_000).await.unwrap_err().kind(), ErrorKind::Disconnected);
    });
}
