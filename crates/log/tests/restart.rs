//! What a broker finds again after a power cut or a kill, over many seeds: everything that was
//! confirmed, nothing that was settled for good, in order, and never anything else.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::Random;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Error, ErrorKind, Level, Message, MessageBuilder, Queue,
    ReceiverExt, SenderExt, SenderOptions, Seq, Subscription, Topic,
};
use posthaste_log::storage::Simulated;
use posthaste_log::{Durable, LogOptions};
use posthaste_smol::Smol;

/// What has to be true of one queue.
#[derive(Debug, Default)]
struct Books {
    sent: u64,
    /// What was confirmed and not acknowledged.
    safe: BTreeSet<u64>,
    /// What was sent and not confirmed, or acknowledged and not settled: it may be there.
    maybe: BTreeSet<u64>,
    /// What was retried in this life, and what was before something was settled for good.
    seen: BTreeSet<u64>,
    counted: BTreeSet<u64>,
}

async fn open(disk: &Simulated, random: &mut Random, runtime: Smol) -> Durable {
    let mut options = LogOptions::default();
    options.segment_bytes = 512 + random.below(6_000);
    options.prewritten = random.below(2) == 0;
    options.snapshot_bytes = 200 << random.below(8);
    options.memory_bytes = [0, 2_000, 128 << 20][usize::try_from(random.below(3)).unwrap()];
    Durable::open(runtime, disk.clone(), options).await.unwrap().0
}

/// The numbers of the messages in a queue, in order.
async fn held(broker: &Durable, queue: &Topic) -> Vec<u64> {
    let browsed = broker.browse(queue, None, 1_000).await.unwrap();
    browsed.iter().map(|this| number(&this.message)).collect()
}

fn number(message: &Message) -> u64 {
    let payload = std::str::from_utf8(message.payload()).unwrap();
    payload.split(' ').next().unwrap().parse().unwrap()
}

fn message(queue: &Topic, number: u64, random: &mut Random) -> Message {
    draft(queue, number, random).build().unwrap()
}

fn draft(queue: &Topic, number: u64, random: &mut Random) -> MessageBuilder {
    let most = 1 << random.below(11);
    let size = usize::try_from(random.below(most)).unwrap();
    let payload = format!("{number} {}", "x".repeat(size));
    Message::builder(queue.clone()).to_queue().payload(payload).id(format!("id-{number}"))
}

/// A message that may have to wait until a time.
fn maybe_late(queue: &Topic, number: u64, random: &mut Random) -> Message {
    let draft = draft(queue, number, random);
    let draft = match number % 7 {
        3 => draft.delay(NEVER),
        5 => draft.delay(Duration::from_millis(1)),
        _ => draft,
    };
    draft.build().unwrap()
}

/// How long some wait: nobody here gets them.
const NEVER: Duration = Duration::from_secs(3_600);

/// What is in the queue is what may be.
fn check(books: &Books, held: &[u64]) {
    assert!(held.is_sorted(), "the order of {held:?}");
    let held: BTreeSet<u64> = held.iter().copied().collect();
    let lost: Vec<_> = books.safe.difference(&held).collect();
    assert!(lost.is_empty(), "{lost:?} are lost of {books:?}");
    let may: BTreeSet<u64> = books.safe.union(&books.maybe).copied().collect();
    let strange: Vec<_> = held.difference(&may).collect();
    assert!(strange.is_empty(), "{strange:?} should not be there: {books:?}");
}

async fn live(broker: &Durable, queue: &Topic, books: &mut Books, random: &mut Random) {
    let window = Duration::from_secs(600);
    let declared = Queue::new(queue.clone()).dedup_window(window).max_attempts(1_000);
    broker.declare(declared).await.unwrap();
    check(books, &held(broker, queue).await);
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    let subscription = Subscription::queue(queue).unwrap();
    let mut receiver: BoxReceiver = broker.receiver(subscription.clone()).await.unwrap();
    books.seen.clear();
    let (mut taken, mut acked, mut gone) = (Vec::new(), Vec::new(), BTreeSet::new());
    for _ in 0..random.below(60) {
        match random.below(10) {
            0..=4 => {
                // Now and then one that came before, which comes in no second time.
                let again = books.sent > 0 && random.below(8) == 0;
                let number = if again { random.below(books.sent) } else { books.sent };
                let known = books.safe.contains(&number) || !again;
                if again && !known {
                    continue;
                }
                let mut slot = Some(maybe_late(queue, number, random));
                let seq: Seq = sender.send_from(&mut slot).await.unwrap();
                taken.push((seq, number));
                if !again {
                    books.sent += 1;
                    books.maybe.insert(number);
                }
            }
            5 => {
                let receipt = sender.flush().await.unwrap();
                assert_eq!(receipt.returned, 0);
                if receipt.confirmed > 0 {
                    assert_eq!(receipt.level, Level::Stored);
                }
                for (_, number) in taken.drain(..) {
                    if !gone.contains(&number) && books.maybe.remove(&number) {
                        books.safe.insert(number);
                    }
                }
            }
            6 | 7 => {
                let Some(delivery) = futures::FutureExt::now_or_never(receiver.next_delivery())
                else {
                    continue;
                };
                let delivery = delivery.unwrap();
                let number = number(delivery.message());
                assert!(number % 7 != 3, "{number} was to wait");
                if books.seen.contains(&number) || books.counted.contains(&number) {
                    assert!(delivery.attempt() > 1, "{number} was handed out before");
                }
                match random.below(4) {
                    0 => delivery.release(),
                    1 => {
                        books.seen.insert(number);
                        delivery.retry(Duration::ZERO, "again");
                    }
                    _ => {
                        books.safe.remove(&number);
                        books.maybe.insert(number);
                        gone.insert(number);
                        acked.push(number);
                        delivery.ack();
                    }
                }
            }
            8 => {
                receiver.settled().await.unwrap();
                for number in acked.drain(..) {
                    books.maybe.remove(&number);
                }
                books.counted.append(&mut books.seen);
            }
            _ => {
                // What it settled may be forgotten, unless it has waited for that.
                drop(receiver);
                (acked, books.seen) = (Vec::new(), BTreeSet::new());
                receiver = broker.receiver(subscription.clone()).await.unwrap();
            }
        }
    }
}

fn lives(seed: u64) {
    let mut random = Random::new(seed);
    let mut disk = Simulated::new();
    let queues = ["orders", "orders.paid"].map(|name| Topic::new(name).unwrap());
    let mut books = [Books::default(), Books::default()];
    for _ in 0..5 {
        let executor = Arc::new(smol::Executor::new());
        let runtime = Smol::new(Arc::clone(&executor));
        smol::block_on(executor.run(async {
            let broker = open(&disk, &mut random, runtime).await;
            for (queue, books) in queues.iter().zip(&mut books) {
                live(&broker, queue, books, &mut random).await;
            }
            disk = match random.below(3) {
                0 => disk.kill(),
                _ => disk.power_cut(&mut || random.next()),
            };
        }));
    }
}

#[test]
fn what_was_confirmed_is_there_and_what_was_settled_is_not() {
    for seed in 0..300 {
        let lived = std::panic::catch_unwind(|| lives(seed));
        assert!(lived.is_ok(), "seed {seed}");
    }
}

/// Files of a log, which hold what is in its segments.
fn segments(disk: &Simulated) -> usize {
    use posthaste_log::storage::Storage;
    disk.names().unwrap().iter().filter(|name| name.ends_with(".seg")).count()
}

#[test]
fn what_is_needed_is_not_noted_again_and_again() {
    let disk = Simulated::new();
    let queue = Topic::new("orders").unwrap();
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    smol::block_on(executor.run(async {
        let mut options = LogOptions::default();
        options.segment_bytes = 4_096;
        let (broker, _) = Durable::open(runtime, disk.clone(), options).await.unwrap();
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        for _ in 0..2_000 {
            let tiny = Message::to_queue(queue.clone(), "");
            sender.send_from(&mut Some(tiny)).await.unwrap();
            sender.flush().await.unwrap();
        }
        let before = segments(&disk);
        for _ in 0..50 {
            let tiny = Message::to_queue(queue.clone(), "");
            sender.send_from(&mut Some(tiny)).await.unwrap();
            sender.flush().await.unwrap();
        }
        assert!(segments(&disk) <= before + 2, "{before} segments, and {} now", segments(&disk));
    }));
}

#[test]
fn room_is_made_behind_a_message_that_stays() {
    let disk = Simulated::new();
    let (stuck, busy) = (Topic::new("stuck").unwrap(), Topic::new("busy").unwrap());
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    smol::block_on(executor.run(async {
        let mut options = LogOptions::default();
        options.segment_bytes = 4_096;
        let (broker, _) =
            Durable::open(runtime.clone(), disk.clone(), options.clone()).await.unwrap();
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        sender.send(Message::to_queue(stuck.clone(), "it stays")).await.unwrap();
        let subscription = Subscription::queue(&busy).unwrap();
        let mut receiver: BoxReceiver = broker.receiver(subscription).await.unwrap();
        for _ in 0..1_000 {
            sender.send(Message::to_queue(busy.clone(), vec![b'x'; 100])).await.unwrap();
            receiver.next_delivery().await.unwrap().ack();
        }
        receiver.settled().await.unwrap();
        assert!(segments(&disk) < 12, "{} segments for one message", segments(&disk));
        broker.close().await.unwrap();
        let (broker, _) = Durable::open(runtime, disk.clone(), options).await.unwrap();
        let browsed = broker.browse(&stuck, None, 2).await.unwrap();
        assert_eq!(browsed[0].message.payload(), "it stays");
    }));
}

/// Sends, settles, and cuts the power, on a disk that fails at some time: what was said to be stored is.
async fn fail_at(fail: impl FnOnce(&Simulated), runtime: Smol) {
    let disk = Simulated::new();
    let queue = Topic::new("orders").unwrap();
    let mut options = LogOptions::default();
    options.segment_bytes = 4_096;
    let (broker, _) = Durable::open(runtime.clone(), disk.clone(), options.clone()).await.unwrap();
    broker.declare(Queue::new(queue.clone())).await.unwrap();
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    let mut receiver: BoxReceiver =
        broker.receiver(Subscription::queue(&queue).unwrap()).await.unwrap();
    fail(&disk);
    let (mut stored, mut settled, mut failed) = (BTreeSet::new(), BTreeSet::new(), false);
    for number in 0..6 {
        let sent = sender.send(Message::to_queue(queue.clone(), number.to_string())).await;
        match sent {
            Ok(receipt) => {
                assert!(!failed, "it goes on after a failure");
                assert_eq!(receipt.level, Level::Stored);
                stored.insert(number);
            }
            Err(error) => {
                failed = true;
                assert_eq!(error.error().kind(), ErrorKind::Unknown, "{error}");
            }
        }
        let Some(Ok(delivery)) = futures::FutureExt::now_or_never(receiver.next_delivery()) else {
            continue;
        };
        let number = self::number(delivery.message());
        delivery.ack();
        stored.remove(&number);
        match receiver.settled().await {
            Ok(()) => drop(settled.insert(number)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unknown, "{error}"),
        }
    }
    let disk = disk.power_cut(&mut || 0);
    let (broker, _) = Durable::open(runtime, disk, options).await.unwrap();
    let held: BTreeSet<u64> = held(&broker, &queue).await.into_iter().collect();
    assert!(held.is_superset(&stored), "{held:?} of {stored:?}");
    assert!(held.is_disjoint(&settled), "{held:?} and {settled:?}");
}

#[test]
fn nothing_is_said_to_be_stored_after_the_disk_failed() {
    for nth in 0..16 {
        for syncs in [false, true] {
            let executor = Arc::new(smol::Executor::new());
            let runtime = Smol::new(Arc::clone(&executor));
            smol::block_on(executor.run(fail_at(
                |disk| match syncs {
                    true => disk.fail_sync_after(nth),
                    false => disk.fail_write_after(nth),
                },
                runtime,
            )));
        }
    }
}

fn fill_and_empty(limit: u64, snapshot_bytes: u64) {
    let disk = Simulated::new();
    let queue = Topic::new("orders").unwrap();
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    smol::block_on(executor.run(async {
        let mut options = LogOptions::default();
        options.segment_bytes = 4_096;
        options.snapshot_bytes = snapshot_bytes;
        disk.limit(Some(limit));
        let (broker, _) = Durable::open(runtime, disk.clone(), options).await.unwrap();
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        let subscription = Subscription::queue(&queue).unwrap();
        let mut receiver: BoxReceiver = broker.receiver(subscription).await.unwrap();
        let mut next = 0;
        for _ in 0..3 {
            let began = next;
            let error = loop {
                let mut slot = Some(Message::to_queue(queue.clone(), next.to_string()));
                match sender.send_from(&mut slot).await {
                    Ok(_) => drop(sender.flush().await.unwrap()),
                    Err(error) => break error,
                }
                next += 1;
                assert!(next < began + 2_000, "it never gets full");
            };
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            assert!(next > began + 100, "{next} messages make it full");
            for expected in began..next {
                let delivery = receiver.next_delivery().await.unwrap();
                assert_eq!(number(delivery.message()), expected);
                delivery.ack();
            }
            receiver.settled().await.unwrap();
            // It looks for room now and then.
            let mut slot = Some(Message::to_queue(queue.clone(), next.to_string()));
            while let Err(error) = sender.send_from(&mut slot).await {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                smol::future::yield_now().await;
            }
            sender.flush().await.unwrap();
            next += 1;
            let delivery = receiver.next_delivery().await.unwrap();
            assert_eq!(number(delivery.message()), next - 1);
            delivery.ack();
        }
    }));
}

#[test]
fn a_full_disk_refuses_messages_and_goes_on_when_there_is_room() {
    for limit in (9 * 4_096..9 * 4_096 + 120).step_by(3) {
        // So that there is no room now and then for what says where a log is gone through from, either.
        fill_and_empty(limit, 500 + 50 * (limit % 40));
    }
}

/// Sends one message and waits until it is stored.
async fn send(sender: &mut BoxSender, queue: &Topic, number: u64) -> Result<(), Error> {
    let mut slot = Some(Message::to_queue(queue.clone(), number.to_string()));
    sender.send_from(&mut slot).await?;
    sender.flush().await.map(drop)
}

/// Sends it once there is room, which is looked for now and then.
async fn send_in_the_end(sender: &mut BoxSender, queue: &Topic, number: u64) {
    while let Err(error) = send(sender, queue, number).await {
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        smol::future::yield_now().await;
    }
}

#[test]
fn a_full_disk_is_as_full_as_before_when_the_broker_is_opened_again() {
    for (in_order, room) in [(true, 0), (false, 0), (true, 3_000), (false, 3_000)] {
        let mut disk = Simulated::new();
        disk.limit(Some(9 * 4_096));
        let queue = Topic::new("orders").unwrap();
        let executor = Arc::new(smol::Executor::new());
        let runtime = Smol::new(Arc::clone(&executor));
        smol::block_on(executor.run(async {
            let mut options = LogOptions::default();
            options.segment_bytes = 4_096;
            let open = |disk| Durable::open(runtime.clone(), disk, options.clone());
            let (mut broker, _) = open(disk.clone()).await.unwrap();
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            let mut stored = 0;
            while send(&mut sender, &queue, stored).await.is_ok() {
                stored += 1;
            }
            for taken in 0..20 {
                disk.limit(Some(disk.used() + room));
                if in_order {
                    broker.close().await.unwrap();
                } else {
                    disk = disk.kill();
                }
                (broker, _) = open(disk.clone()).await.unwrap();
                let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
                let error = send(&mut sender, &queue, stored).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                assert_eq!(broker.trouble().map(|error| error.kind()), Some(ErrorKind::Full));
                let subscription = Subscription::queue(&queue).unwrap();
                let mut receiver = broker.receiver(subscription).await.unwrap();
                let delivery = receiver.next_delivery().await.unwrap();
                assert_eq!(number(delivery.message()), taken);
                delivery.ack();
                receiver.settled().await.unwrap();
            }
            disk.limit(None);
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            send_in_the_end(&mut sender, &queue, stored).await;
            assert!(broker.trouble().is_none());
            let (broker, _) = open(disk.power_cut(&mut || 0)).await.unwrap();
            assert_eq!(held(&broker, &queue).await, (20..=stored).collect::<Vec<_>>());
        }));
    }
}

#[test]
fn what_finds_no_room_when_it_is_written_is_told_and_written_later() {
    for prewritten in [true, false] {
        let disk = Simulated::new();
        let [queue, other] = ["orders", "others"].map(|name| Topic::new(name).unwrap());
        let executor = Arc::new(smol::Executor::new());
        let runtime = Smol::new(Arc::clone(&executor));
        smol::block_on(executor.run(async {
            let mut options = LogOptions::default();
            (options.segment_bytes, options.prewritten) = (4_096, prewritten);
            let open = |disk| Durable::open(runtime.clone(), disk, options.clone());
            let (broker, _) = open(disk.clone()).await.unwrap();
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            let subscription = Subscription::queue(&queue).unwrap();
            let mut receiver = broker.receiver(subscription).await.unwrap();
            send(&mut sender, &queue, 0).await.unwrap();

            disk.refuse_writes(true);
            // If the broker has taken it, nobody can say that it is not stored in the end; it has not
            // if what it writes by itself had found no room before.
            let error = send(&mut sender, &queue, 1).await.unwrap_err();
            let taken = error.kind() == ErrorKind::Unknown;
            assert!(taken || error.kind() == ErrorKind::Full, "{error}");
            let error = send(&mut sender, &queue, 2).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            receiver.next_delivery().await.unwrap().ack();
            let error = receiver.settled().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
            let error = broker.declare(Queue::new(other.clone())).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");
            let error = broker.purge(&other).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unknown, "{error}");

            disk.refuse_writes(false);
            send_in_the_end(&mut sender, &queue, 2).await;
            receiver.settled().await.unwrap();
            let (broker, _) = open(disk.power_cut(&mut || 0)).await.unwrap();
            assert_eq!(held(&broker, &queue).await, if taken { vec![1, 2] } else { vec![2] });
            broker.queue(&other).await.unwrap();
        }));
    }
}

#[test]
fn a_disk_that_has_no_room_for_a_log_is_told_how_much_that_takes() {
    let disk = Simulated::new();
    disk.limit(Some(20 << 20));
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    let opened = executor.run(Durable::open(runtime, disk.clone(), LogOptions::default()));
    let error = smol::block_on(opened).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("has no room for a log, which takes 64 MiB"), "{text}");
    // It takes none of what there is.
    assert_eq!(disk.used(), 0);
}

#[test]
fn a_dead_letter_is_in_one_queue_whenever_the_power_goes() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let disk = Simulated::new();
        let [queue, dead] = ["orders", "dead"].map(|name| Topic::new(name).unwrap());
        let executor = Arc::new(smol::Executor::new());
        let runtime = Smol::new(Arc::clone(&executor));
        smol::block_on(executor.run(async {
            let broker = open(&disk, &mut random, runtime.clone()).await;
            let declared = Queue::new(queue.clone()).dead_letter(dead.clone());
            broker.declare(declared).await.unwrap();
            broker.declare(Queue::new(dead.clone())).await.unwrap();
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            for number in 0..20 {
                sender.send(message(&queue, number, &mut random)).await.unwrap();
            }
            let subscription = Subscription::queue(&queue).unwrap();
            let mut receiver: BoxReceiver = broker.receiver(subscription).await.unwrap();
            // Three of the messages wait for a time that nobody here waits for.
            for _ in 0..=random.below(17) {
                receiver.next_delivery().await.unwrap().reject("not wanted");
                if random.below(4) == 0 {
                    receiver.settled().await.unwrap();
                }
            }
            let disk = disk.power_cut(&mut || random.next());
            let broker = open(&disk, &mut random, runtime).await;
            let mut found = held(&broker, &queue).await;
            found.extend(held(&broker, &dead).await);
            found.sort_unstable();
            assert_eq!(found, (0..20).collect::<Vec<_>>(), "seed {seed}");
        }));
    }
}

#[test]
fn ids_are_known_after_the_segment_that_had_them_and_a_restart() {
    let disk = Simulated::new();
    let (orders, busy) = (Topic::new("orders").unwrap(), Topic::new("busy").unwrap());
    let executor = Arc::new(smol::Executor::new());
    let runtime = Smol::new(Arc::clone(&executor));
    let with_id = |number: u64| {
        let draft = Message::builder(orders.clone()).to_queue().id(format!("id-{number}"));
        draft.payload(number.to_string()).build().unwrap()
    };
    smol::block_on(executor.run(async {
        let mut options = LogOptions::default();
        options.segment_bytes = 4_096;
        // What is noted again is noted by renewing alone, and not in a snapshot.
        options.snapshot_bytes = u64::MAX;
        let open = || Durable::open(runtime.clone(), disk.clone(), options.clone());
        let (broker, _) = open().await.unwrap();
        let window = Duration::from_secs(3_600);
        broker.declare(Queue::new(orders.clone()).dedup_window(window)).await.unwrap();
        // All is settled, so that nothing but the ids is left of it.
        let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
        let of = |queue: &Topic| Subscription::queue(queue).unwrap();
        let mut receiver = broker.receiver(of(&orders)).await.unwrap();
        for number in 0..20 {
            sender.send(with_id(number)).await.unwrap();
            receiver.next_delivery().await.unwrap().ack();
        }
        receiver.settled().await.unwrap();
        drop((sender, receiver));
        // Twice, so that what was renewed is renewed once more by a broker that has read it back.
        let mut broker = broker;
        for round in 0..2 {
            let before = segment_names(&disk);
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            let mut receiver = broker.receiver(of(&busy)).await.unwrap();
            let mut sent = 0;
            while segment_names(&disk).iter().any(|name| before.contains(name)) {
                sender.send(Message::to_queue(busy.clone(), vec![b'x'; 100])).await.unwrap();
                receiver.next_delivery().await.unwrap().ack();
                receiver.settled().await.unwrap();
                sent += 1;
                assert!(sent < 10_000, "the segments {before:?} never go, in round {round}");
            }
            for number in 0..20 {
                assert_eq!(sender.send(with_id(number)).await.unwrap().confirmed, 1);
            }
            assert_eq!(held(&broker, &orders).await, [0; 0], "they are known in round {round}");
            drop((sender, receiver));
            broker.close().await.unwrap();
            broker = open().await.unwrap().0;
            let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
            for number in 0..=20 + round {
                assert_eq!(sender.send(with_id(number)).await.unwrap().confirmed, 1);
            }
            assert_eq!(held(&broker, &orders).await, [20 + round], "what is new in round {round}");
            let mut receiver = broker.receiver(of(&orders)).await.unwrap();
            receiver.next_delivery().await.unwrap().ack();
            receiver.settled().await.unwrap();
        }
    }));
}

/// The names of the files that hold what is in the segments.
fn segment_names(disk: &Simulated) -> Vec<String> {
    use posthaste_log::storage::Storage;
    let names = disk.names().unwrap().into_iter();
    names.filter(|name| name.ends_with(".seg")).collect()
}
