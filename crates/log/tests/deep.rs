//! Queues that hold more than there is memory for.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use common::Random;
use posthaste_core::{
    BoxReceiver, Broker, ErrorKind, Message, Overflow, Queue, ReceiverExt, Retention, Runtime,
    SenderExt, SenderOptions, Start, Subscription, Topic,
};
use posthaste_log::storage::{Folder, Simulated, Storage};
use posthaste_log::{Contents, Durable, LogOptions};
use posthaste_smol::Smol;

/// Runs a test on an executor of its own.
fn run<F: Future<Output = ()>>(test: impl FnOnce(Smol) -> F) {
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    smol::block_on(executor.run(test(runtime)));
}

/// Little memory, and small segments.
fn options() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes = 64 << 10;
    options.memory_bytes = 20_000;
    options.snapshot_bytes = 100_000;
    options
}

async fn open(disk: impl Storage, runtime: Smol) -> Durable {
    Durable::open(runtime, disk, options()).await.unwrap().0
}

async fn receiver(broker: &Durable, queue: &Topic) -> BoxReceiver {
    broker.receiver(Subscription::queue(queue).unwrap()).await.unwrap()
}

/// Sends these numbers, each with something behind it.
async fn send(broker: &Durable, queue: &Topic, numbers: std::ops::Range<u64>) {
    let mut random = Random::new(numbers.start);
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    for number in numbers {
        let most = 1 << random.below(13);
        let size = usize::try_from(random.below(most)).unwrap();
        let payload = format!("{number} {}", "x".repeat(size));
        sender.send_from(&mut Some(Message::to_queue(queue.clone(), payload))).await.unwrap();
    }
    sender.flush().await.unwrap();
}

/// Takes these numbers out of a queue, each for the first time, and in order.
async fn take(consumer: &mut BoxReceiver, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        let delivery = consumer.next_delivery().await.unwrap();
        assert_eq!((number(delivery.message()), delivery.attempt()), (expected, 1));
        delivery.ack();
    }
}

fn number(message: &Message) -> u64 {
    let payload = std::str::from_utf8(message.payload()).unwrap();
    payload.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn what_waits_far_behind_comes_in_its_turn() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let broker = open(disk.clone(), runtime.clone()).await;
        let queue = Topic::new("orders").unwrap();
        send(&broker, &queue, 0..3_000).await;
        let mut consumer = receiver(&broker, &queue).await;
        take(&mut consumer, 0..1_000).await;
        // More comes in behind what is not read back yet, and after a restart it is all there.
        send(&broker, &queue, 3_000..4_000).await;
        consumer.settled().await.unwrap();
        let browsed = broker.browse(&queue, Some(2_499), 3).await.unwrap();
        let browsed: Vec<_> = browsed.iter().map(|this| number(&this.message)).collect();
        assert_eq!(browsed, [2_500, 2_501, 2_502]);
        drop(consumer);
        broker.close().await.unwrap();
        let broker = open(disk, runtime).await;
        assert_eq!(broker.queue(&queue).await.unwrap().messages, 3_000);
        let mut consumer = receiver(&broker, &queue).await;
        take(&mut consumer, 1_000..4_000).await;
        consumer.settled().await.unwrap();
        let stats = broker.stats().await.unwrap();
        assert!(stats.ledger.is_balanced(), "{:?}", stats.ledger);
        assert_eq!(stats.ledger.held, 0);
    });
}

#[test]
fn retries_and_priorities_go_before_what_waits_far_behind() {
    run(|runtime| async move {
        let broker = open(Simulated::new(), runtime).await;
        let queue = Topic::new("orders").unwrap();
        send(&broker, &queue, 0..500).await;
        let urgent = Message::builder(queue.clone()).to_queue().priority(3).payload("500 now");
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        sender.send(urgent.build().unwrap()).await.unwrap();
        let mut consumer = receiver(&broker, &queue).await;
        let first = consumer.next_delivery().await.unwrap();
        assert_eq!(number(first.message()), 500);
        let second = consumer.next_delivery().await.unwrap();
        assert_eq!(number(second.message()), 0);
        second.release();
        let mut seen = Vec::new();
        while seen.len() < 500 {
            let delivery = consumer.next_delivery().await.unwrap();
            seen.push(number(delivery.message()));
            delivery.ack();
        }
        // What the consumer had taken already may come before what it gave back.
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..500));
    });
}

#[test]
fn what_is_purged_or_dropped_need_not_be_read() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let broker = open(disk.clone(), runtime.clone()).await;
        let (purged, lossy) = (Topic::new("purged").unwrap(), Topic::new("lossy").unwrap());
        broker
            .declare(Queue::new(lossy.clone()).capacity(100).overflow(Overflow::DropOldest))
            .await
            .unwrap();
        send(&broker, &purged, 0..2_000).await;
        send(&broker, &lossy, 0..2_000).await;
        assert_eq!(broker.purge(&purged).await.unwrap(), 2_000);
        broker.close().await.unwrap();
        let broker = open(disk, runtime).await;
        assert_eq!(broker.queue(&purged).await.unwrap().messages, 0);
        assert_eq!(broker.queue(&lossy).await.unwrap().messages, 100);
        let mut consumer = receiver(&broker, &lossy).await;
        take(&mut consumer, 1_900..2_000).await;
    });
}

#[test]
fn what_is_damaged_stops_its_own_queue_and_says_where() {
    run(|runtime| async move {
        let scratch = tempfile::tempdir().unwrap();
        let broker = open(Folder::open(scratch.path()).unwrap(), runtime).await;
        let (hurt, sound) = (Topic::new("hurt").unwrap(), Topic::new("sound").unwrap());
        send(&broker, &hurt, 0..5_000).await;
        send(&broker, &sound, 0..1_000).await;
        flip(scratch.path(), b"hurt4900 ");
        let mut consumer = receiver(&broker, &hurt).await;
        for expected in 0.. {
            match consumer.next_delivery().await {
                Ok(delivery) => {
                    assert_eq!(number(delivery.message()), expected);
                    // If it is empty, the byte behind it is the next one.
                    assert!(expected <= 4_900, "it goes on behind the damage");
                    delivery.ack();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Internal);
                    let text = error.to_string();
                    assert!(text.contains("is damaged") && text.contains("position"), "{text}");
                    assert!(expected >= 4_900, "it is in the way of what was before: {expected}");
                    break;
                }
            }
        }
        let mut consumer = receiver(&broker, &sound).await;
        take(&mut consumer, 0..1_000).await;
        // What is damaged is given up, and the queue goes on.
        broker.purge(&hurt).await.unwrap();
        send(&broker, &hurt, 7_000..7_500).await;
        let mut consumer = receiver(&broker, &hurt).await;
        take(&mut consumer, 7_000..7_500).await;
    });
}

#[test]
fn all_that_is_damaged_is_found() {
    run(|runtime| async move {
        let scratch = tempfile::tempdir().unwrap();
        let broker = open(Folder::open(scratch.path()).unwrap(), runtime).await;
        let queue = Topic::new("hurt").unwrap();
        send(&broker, &queue, 0..1_000).await;
        broker.close().await.unwrap();
        // Two in one segment, and one far behind.
        for number in [10, 20, 900] {
            flip(scratch.path(), format!("hurt{number} ").as_bytes());
        }
        let folder = Folder::open(scratch.path()).unwrap();
        let mut shown = 0;
        let contents = Contents::of(&folder, |line| shown += u64::from(line.kind == "put"));
        let contents = contents.unwrap();
        assert_eq!(contents.damage.len(), 3, "{:?}", contents.damage);
        assert!(contents.damage.is_sorted_by_key(|damage| damage.position));
        assert_eq!(shown, 997, "the others are whole");
    });
}

/// Changes the byte behind these, wherever they are in a folder.
fn flip(folder: &std::path::Path, behind: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The file that becomes the next segment changes its name meanwhile.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if let Some(at) = bytes.windows(behind.len()).position(|window| window == behind) {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let at = at + behind.len();
            file.write_at(&[bytes[at] ^ 1], at as u64).unwrap();
            return;
        }
    }
    panic!("it is nowhere");
}

#[test]
fn a_durable_queue_holds_what_a_disk_does_unless_it_says_otherwise() {
    run(|runtime| async move {
        let broker = open(Simulated::new(), runtime).await;
        let (durable, transient) = (Topic::new("durable").unwrap(), Topic::new("quick").unwrap());
        broker.declare(Queue::new(durable.clone())).await.unwrap();
        broker.declare(Queue::new(transient.clone()).durable(false)).await.unwrap();
        let bytes = async |queue| broker.queue(queue).await.unwrap().settings.capacity_bytes;
        assert_eq!((bytes(&durable).await, bytes(&transient).await), (16 << 30, 256 << 20));
    });
}

#[test]
fn a_log_is_gone_through_from_the_last_snapshot_on() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let broker = open(disk.clone(), runtime.clone()).await;
        let queue = Topic::new("orders").unwrap();
        send(&broker, &queue, 0..5_000).await;
        broker.close().await.unwrap();
        let (broker, found) = Durable::open(runtime, disk, options()).await.unwrap();
        // What came while the last one was being taken, and what is not worth another, is behind it.
        assert!(found.records < 500, "{} records of 5,000", found.records);
        let mut consumer = receiver(&broker, &queue).await;
        take(&mut consumer, 0..100).await;
    });
}

#[test]
fn what_places_take_is_left_to_the_disk() {
    for restarts in [false, true] {
        run(|runtime| async move {
            let scratch = tempfile::tempdir().unwrap();
            let mut options = options();
            options.memory_bytes = 4 << 20;
            let open = async || {
                let folder = Folder::open(scratch.path()).unwrap();
                Durable::open(runtime.clone(), folder, options.clone()).await.unwrap().0
            };
            let mut broker = open().await;
            let (first, other) = (Topic::new("first").unwrap(), Topic::new("other").unwrap());
            let send = async |broker: &Durable, queue: &Topic, numbers: std::ops::Range<u64>| {
                let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
                for number in numbers {
                    let message = Message::to_queue(queue.clone(), format!("{number} x"));
                    sender.send_from(&mut Some(message)).await.unwrap();
                }
                sender.flush().await.unwrap();
            };
            // The first one takes all the memory, until another has its share of it.
            send(&broker, &first, 0..20_000).await;
            send(&broker, &other, 0..10_000).await;
            send(&broker, &first, 20_000..20_100).await;
            if restarts {
                broker.close().await.unwrap();
                broker = open().await;
            } else {
                // It was in memory.
                flip(scratch.path(), b"first15000 ");
            }
            let mut consumer = receiver(&broker, &other).await;
            take(&mut consumer, 0..10_000).await;
            let mut consumer = receiver(&broker, &first).await;
            if restarts {
                take(&mut consumer, 0..20_100).await;
                return;
            }
            take(&mut consumer, 0..14_000).await;
            let mut next = 14_000;
            while let Ok(delivery) = consumer.next_delivery().await {
                assert_eq!(number(delivery.message()), next);
                delivery.ack();
                next += 1;
            }
            assert_eq!(next, 15_000, "it was still in memory");
        });
    }
}

#[test]
fn a_queue_that_is_noted_in_parts_is_whole_or_as_it_was_before() {
    run(|runtime| async move {
        let queue = Topic::new("orders").unwrap();
        for seed in 0..20 {
            let (disk, mut random) = (Simulated::new(), Random::new(seed));
            let broker = open(disk.clone(), runtime.clone()).await;
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            let (sent, taken) = (10_000 + random.below(10_000), random.below(3_000));
            for number in 0..sent {
                let message = Message::to_queue(queue.clone(), format!("{number} "));
                sender.send_from(&mut Some(message)).await.unwrap();
            }
            sender.flush().await.unwrap();
            let mut consumer = receiver(&broker, &queue).await;
            take(&mut consumer, 0..taken).await;
            consumer.settled().await.unwrap();
            drop(consumer);
            // The power goes while it is written, and each time there is more of it.
            let mut disk = disk.power_cut(&mut || random.below(u64::MAX));
            let mut broker = broker;
            for _ in 0..2 {
                broker.close().await.unwrap();
                broker = open(disk.clone(), runtime.clone()).await;
                assert_eq!(broker.queue(&queue).await.unwrap().messages, sent - taken);
                // What is noted as a whole when it is closed is not all there.
                broker.compact().await.unwrap();
                disk = disk.power_cut(&mut || random.below(u64::MAX));
            }
            broker.close().await.unwrap();
            let contents = Contents::of(&disk, |_| {}).unwrap();
            assert_eq!(contents.damage, []);
            let broker = open(disk, runtime.clone()).await;
            let mut consumer = receiver(&broker, &queue).await;
            take(&mut consumer, taken..sent).await;
        }
    });
}

#[test]
fn what_waits_far_behind_is_there_after_compacting() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let broker = open(disk.clone(), runtime.clone()).await;
        let (stays, goes) = (Topic::new("stays").unwrap(), Topic::new("goes").unwrap());
        for round in 0..20 {
            send(&broker, &stays, 100 * round..100 * round + 100).await;
            send(&broker, &goes, 0..200).await;
        }
        broker.purge(&goes).await.unwrap();
        let segments =
            || disk.names().unwrap().iter().filter(|name| name.ends_with(".seg")).count();
        broker.compact().await.unwrap();
        // Its bytes, what each record has beside them, and the ends of segments.
        let needed = broker.queue(&stays).await.unwrap().bytes + 2_000 * 64;
        let enough = usize::try_from(needed * 10 / 9 / (64 << 10)).unwrap() + 3;
        assert!(segments() <= enough, "{} segments where {enough} do", segments());
        broker.close().await.unwrap();
        let broker = open(disk.clone(), runtime).await;
        let mut consumer = receiver(&broker, &stays).await;
        take(&mut consumer, 0..2_000).await;
    });
}

#[test]
fn a_broker_without_queues_goes_on_and_on() {
    run(|runtime| async move {
        let queue = Topic::new("now.and.then").unwrap();
        for snapshot_bytes in 0..150 {
            let mut options = options();
            options.snapshot_bytes = snapshot_bytes;
            let (broker, _) =
                Durable::open(runtime.clone(), Simulated::new(), options).await.unwrap();
            for _ in 0..5 {
                broker.declare(Queue::new(queue.clone())).await.unwrap();
                broker.delete(&queue).await.unwrap();
            }
        }
    });
}

/// What a reader finds, each at its offset.
async fn follow(broker: &Durable, queue: &Topic, start: Start, numbers: std::ops::Range<u64>) {
    let of = Subscription::queue(queue).unwrap().start(start);
    let mut reader = broker.receiver(of).await.unwrap();
    for expected in numbers {
        let delivery = reader.next_delivery().await.unwrap();
        assert_eq!(delivery.offset(), Some(expected));
        assert_eq!(number(delivery.message()), expected);
    }
}

#[test]
fn a_long_history_is_read_from_wherever_one_begins() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let queue = Topic::new("history").unwrap();
        let broker = open(disk.clone(), runtime.clone()).await;
        broker.declare(Queue::new(queue.clone()).retain(Retention::new())).await.unwrap();
        send(&broker, &queue, 0..2_000).await;
        let then = runtime.unix_time();
        send(&broker, &queue, 2_000..4_000).await;
        for again in 0..2 {
            let broker = match again {
                0 => broker.clone(),
                _ => {
                    broker.compact().await.unwrap();
                    broker.close().await.unwrap();
                    open(disk.clone(), runtime.clone()).await
                }
            };
            let from = |start, first| follow(&broker, &queue, start, first..4_000);
            // They read side by side, each on its own.
            futures::join!(
                from(Start::Beginning, 0),
                from(Start::Offset(1_234), 1_234),
                from(Start::Time(then), 2_000),
            );
            let info = broker.queue(&queue).await.unwrap();
            assert_eq!(info.messages, 4_000);
            assert!(info.ledger.is_balanced(), "{}", info.ledger);
        }
    });
}

#[test]
fn what_a_long_history_lets_go_is_missed_and_not_read() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let queue = Topic::new("history").unwrap();
        let broker = open(disk.clone(), runtime.clone()).await;
        broker.declare(Queue::new(queue.clone()).retain(Retention::new())).await.unwrap();
        send(&broker, &queue, 0..2_000).await;
        let of = Subscription::queue(&queue).unwrap().start(Start::Beginning);
        let mut slow: BoxReceiver = broker.receiver(of).await.unwrap();
        assert_eq!(slow.next_delivery().await.unwrap().offset(), Some(0));
        // All but the last of each key, of which nobody knows any, cannot be had any more.
        let last = Queue::new(queue.clone()).retain(Retention::new().last_per_key());
        assert_eq!(broker.declare(last).await.unwrap_err().kind(), ErrorKind::Conflict);
        let few = Queue::new(queue.clone()).retain(Retention::new().messages(500));
        broker.declare(few).await.unwrap();
        let next = slow.next_delivery().await.unwrap();
        assert_eq!((next.offset(), next.missed()), (Some(1_500), 1_499));
        follow(&broker, &queue, Start::Offset(10), 1_500..2_000).await;
        broker.close().await.unwrap();
        let broker = open(disk, runtime).await;
        follow(&broker, &queue, Start::Beginning, 1_500..2_000).await;
        send(&broker, &queue, 2_000..2_100).await;
        follow(&broker, &queue, Start::Beginning, 1_600..2_100).await;
    });
}

#[test]
fn what_lies_in_memory_behind_it_is_not_in_the_way_of_what_is_read_back() {
    run(|runtime| async move {
        let broker = open(Simulated::new(), runtime).await;
        let queue = Topic::new("orders").unwrap();
        send(&broker, &queue, 0..2_000).await;
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        for number in 2_000..2_200 {
            let late = Message::builder(queue.clone()).to_queue().payload(number.to_string());
            let late = late.delay(Duration::from_millis(1)).build().unwrap();
            sender.send_from(&mut Some(late)).await.unwrap();
        }
        sender.flush().await.unwrap();
        let mut consumer = receiver(&broker, &queue).await;
        let mut seen = Vec::new();
        for _ in 0..2_200 {
            let delivery = consumer.next_delivery().await.unwrap();
            seen.push(number(delivery.message()));
            delivery.ack();
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..2_200));
    });
}

#[test]
fn a_letter_that_comes_during_a_replay_stays_where_it_is() {
    run(|runtime| async move {
        let broker = open(Simulated::new(), runtime).await;
        let (queue, dead) = (Topic::new("orders").unwrap(), Topic::new("dead").unwrap());
        broker.declare(Queue::new(queue.clone()).dead_letter(dead.clone())).await.unwrap();
        send(&broker, &queue, 0..300).await;
        let mut consumer = receiver(&broker, &queue).await;
        for _ in 0..300 {
            consumer.next_delivery().await.unwrap().reject("not wanted");
        }
        consumer.settled().await.unwrap();
        let (replayed, ()) = futures::join!(broker.replay(&dead, 1_000), async {
            // While it waits for what it reads.
            send(&broker, &dead, 300..400).await;
        });
        assert_eq!(replayed.unwrap().moved, 300);
        let mut consumer = receiver(&broker, &dead).await;
        take(&mut consumer, 300..400).await;
    });
}

#[test]
fn what_was_given_back_counts_no_attempt_wherever_the_log_has_it() {
    run(|runtime| async move {
        let mut disk = Simulated::new();
        let queue = Topic::new("orders").unwrap();
        let broker = open(disk.clone(), runtime.clone()).await;
        // More than a segment.
        send(&broker, &queue, 0..300).await;
        let mut consumer = receiver(&broker, &queue).await;
        let delivery = consumer.next_delivery().await.unwrap();
        assert_eq!(delivery.attempt(), 1);
        // Noted again as it is, which is handed out.
        broker.compact().await.unwrap();
        delivery.release();
        consumer.settled().await.unwrap();
        for _ in 0..3 {
            // Killed, so that nothing is noted as a whole.
            disk = disk.kill();
            let broker = open(disk.clone(), runtime.clone()).await;
            // Noted again as what is in the store alone.
            broker.compact().await.unwrap();
            let browsed = broker.browse(&queue, None, 300).await.unwrap();
            assert_eq!(browsed.len(), 300);
            assert!(browsed.iter().all(|this| this.attempts == 0), "{:?}", browsed[0]);
        }
    });
}

#[test]
fn a_request_waits_behind_what_is_of_its_key_on_the_disk() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let mut broker = open(disk.clone(), runtime.clone()).await;
        let queue = Topic::new("orders").unwrap();
        broker.declare(Queue::new(queue.clone()).keyed()).await.unwrap();
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        let draft = |number: u64| {
            let payload = format!("{number} {}", "x".repeat(500));
            Message::builder(queue.clone()).to_queue().key("all").payload(payload)
        };
        for number in 0..500 {
            let request = draft(number).reply_to(queue.clone(), 7).waits();
            let draft = if number % 100 == 99 { request } else { draft(number) };
            sender.send_from(&mut Some(draft.build().unwrap())).await.unwrap();
        }
        sender.flush().await.unwrap();
        for half in [0..250, 250..500] {
            let mut consumer = receiver(&broker, &queue).await;
            take(&mut consumer, half).await;
            consumer.settled().await.unwrap();
            drop(consumer);
            broker.close().await.unwrap();
            broker = open(disk.clone(), runtime.clone()).await;
        }
        assert_eq!(broker.queue(&queue).await.unwrap().messages, 0);
    });
}

#[test]
fn letters_that_stay_take_no_more_memory_than_there_is() {
    run(|runtime| async move {
        let broker = open(Simulated::new(), runtime).await;
        let (queue, dead) = (Topic::new("orders").unwrap(), Topic::new("dead").unwrap());
        let declared = Queue::new(queue.clone()).dead_letter(dead.clone());
        broker.declare(declared).await.unwrap();
        send(&broker, &queue, 0..3_000).await;
        let mut consumer = receiver(&broker, &queue).await;
        for _ in 0..3_000 {
            consumer.next_delivery().await.unwrap().reject("not wanted");
        }
        consumer.settled().await.unwrap();
        drop(consumer);
        // Room for some of them.
        broker.declare(Queue::new(queue.clone()).capacity(100)).await.unwrap();
        let replayed = broker.replay(&dead, 10_000).await.unwrap();
        assert_eq!(replayed.moved, 100);
        assert!((1..2_900).contains(&replayed.kept), "{replayed:?}");
        let why = replayed.why.unwrap();
        assert!(why.contains("full") && why.contains("no more fit in memory"), "{why}");
        // None is lost, and all of them come once there is room.
        assert_eq!(broker.queue(&dead).await.unwrap().messages, 2_900);
        broker.declare(Queue::new(queue.clone()).capacity(3_000)).await.unwrap();
        assert_eq!(broker.replay(&dead, 10_000).await.unwrap().moved, 2_900);
        let mut consumer = receiver(&broker, &queue).await;
        let mut seen = Vec::new();
        for _ in 0..3_000 {
            let delivery = consumer.next_delivery().await.unwrap();
            seen.push(number(delivery.message()));
            delivery.ack();
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..3_000));
    });
}

/// Sends these numbers, each with something behind it, to wait for so long.
async fn send_late(
    broker: &Durable,
    queue: &Topic,
    numbers: std::ops::Range<u64>,
    delay: Duration,
) {
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    for number in numbers {
        let payload = format!("{number} late{number} {}", "x".repeat(300));
        let late = Message::builder(queue.clone()).to_queue().payload(payload).delay(delay);
        sender.send_from(&mut Some(late.build().unwrap())).await.unwrap();
    }
    sender.flush().await.unwrap();
}

#[test]
fn what_waits_for_a_time_comes_at_that_time_wherever_it_is() {
    run(|runtime| async move {
        let disk = Simulated::new();
        let mut broker = open(disk.clone(), runtime.clone()).await;
        let queue = Topic::new("orders").unwrap();
        let hour = Duration::from_secs(3_600);
        let began = runtime.now();
        send_late(&broker, &queue, 0..1_000, hour).await;
        // Those take a while to come in, which is not counted.
        let short = Duration::from_millis(300);
        let before = runtime.now();
        send_late(&broker, &queue, 1_000..2_000, short).await;
        send_late(&broker, &queue, 2_000..2_100, 2 * hour).await;
        for half in 0..2 {
            let mut consumer = receiver(&broker, &queue).await;
            let mut seen = Vec::new();
            for _ in 0..500 {
                let delivery = consumer.next_delivery().await.unwrap();
                assert!(runtime.now() >= before + short, "it came early");
                assert_eq!(delivery.attempt(), 1);
                seen.push(number(delivery.message()));
                delivery.ack();
            }
            consumer.settled().await.unwrap();
            assert!(seen.iter().all(|number| (1_000..2_000).contains(number)), "{seen:?}");
            drop(consumer);
            if half == 0 {
                broker.compact().await.unwrap();
            }
            // Once in order, once as if it had been killed.
            broker.close().await.unwrap();
            broker = open(disk.clone(), runtime.clone()).await;
        }
        assert!(runtime.now() < began + hour, "a machine that is this slow shows nothing");
        let info = broker.queue(&queue).await.unwrap();
        assert_eq!(info.messages, 1_100);
        let browsed = broker.browse(&queue, None, 1_000).await.unwrap();
        assert!(browsed.iter().map(|this| number(&this.message)).eq(0..1_000));
        assert_eq!(broker.purge(&queue).await.unwrap(), 1_100);
        let stats = broker.stats().await.unwrap();
        assert!(stats.ledger.is_balanced(), "{:?}", stats.ledger);
        assert_eq!(stats.ledger.held, 0);
    });
}

#[test]
fn what_waits_for_a_time_far_off_is_on_the_disk_alone() {
    run(|runtime| async move {
        let scratch = tempfile::tempdir().unwrap();
        let broker = open(Folder::open(scratch.path()).unwrap(), runtime).await;
        let (queue, other) = (Topic::new("orders").unwrap(), Topic::new("other").unwrap());
        send_late(&broker, &queue, 0..1_000, Duration::from_secs(3_600)).await;
        // What else comes in is handed out as ever.
        send(&broker, &other, 0..500).await;
        take(&mut receiver(&broker, &other).await, 0..500).await;
        send(&broker, &queue, 1_000..1_500).await;
        take(&mut receiver(&broker, &queue).await, 1_000..1_500).await;
        // Who looks for it finds it there: what is damaged there is damaged.
        flip(scratch.path(), b"late900 ");
        assert!(broker.browse(&queue, Some(799), 100).await.is_ok());
        let error = broker.browse(&queue, Some(849), 100).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("is damaged"), "{error}");
        // The oldest ones make room as ever.
        let lossy = Queue::new(queue.clone()).capacity(700).overflow(Overflow::DropOldest);
        broker.declare(lossy).await.unwrap();
        send(&broker, &queue, 1_500..1_501).await;
        let browsed = broker.browse(&queue, None, 1).await.unwrap();
        assert_eq!(number(&browsed[0].message), 301);
    });
}
