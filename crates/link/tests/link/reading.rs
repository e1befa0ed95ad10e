//! Readers of a queue that retains, over connections that are lost: whatever becomes of the session,
//! each goes on behind what it has, without loss and without doubles.

use posthaste_core::{
    Ack, Broker, Capability, ErrorKind, Queue, Receiver, ReceiverExt, Retention, SenderExt,
    SenderOptions, SharedRuntime, Start, Subscription,
};
use posthaste_link::{Server, ServerOptions};

use crate::scripted::Scripted;
use crate::support::{World, job, on_every_runtime, on_one_runtime, topic};

const MESSAGES: u64 = 600;

async fn declare(world: &World, retain: Retention) {
    world.memory.declare(Queue::new(topic("history")).retain(retain)).await.unwrap();
}

async fn send(world: &World, numbers: impl Iterator<Item = u64>) {
    let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
    for number in numbers {
        sender.feed(job("history", number.to_string())).await.unwrap();
    }
    sender.flush().await.unwrap();
}

fn from(start: Start) -> Subscription {
    Subscription::queue("history").unwrap().start(start)
}

/// Reads one: its number, where it is, and how many are missing before it.
async fn read(reader: &mut (impl Receiver + ?Sized)) -> (u64, u64, u64) {
    let delivery = reader.next_delivery().await.unwrap();
    assert_eq!((delivery.attempt(), delivery.is_leased()), (1, false));
    let number = std::str::from_utf8(delivery.payload()).unwrap().parse().unwrap();
    (number, delivery.offset().unwrap(), delivery.missed())
}

async fn reads_all_through_cuts(world: &World, prefetch: usize) {
    declare(world, Retention::new()).await;
    send(world, 0..MESSAGES / 2).await;
    let remote = world.client().await;
    let of = from(Start::Beginning).prefetch(prefetch);
    let mut reader = remote.receiver(of).await.unwrap();
    assert_eq!(reader.begins_at(), Some(0));
    for number in 0..MESSAGES {
        if number % 90 == 17 {
            world.pipe.cut();
        }
        if number == MESSAGES / 4 {
            send(world, MESSAGES / 2..MESSAGES).await;
        }
        assert_eq!(read(&mut reader).await, (number, number, 0));
    }
    let info = world.memory.queue(&topic("history")).await.unwrap();
    assert_eq!((info.messages, info.ledger.auto, info.ledger.dropped), (MESSAGES, 0, 0));
}

#[test]
fn a_reader_goes_on_with_its_session() {
    on_every_runtime(async |runtime| {
        for prefetch in [1, 7, 1_024] {
            reads_all_through_cuts(&World::new(runtime.clone()).await, prefetch).await;
        }
    });
}

#[test]
fn a_reader_goes_on_although_its_session_is_lost() {
    on_every_runtime(async |runtime| {
        for prefetch in [1, 7, 1_024] {
            reads_all_through_cuts(&World::forgetful(runtime.clone()).await, prefetch).await;
        }
    });
}

#[test]
fn one_for_what_is_new_misses_nothing_of_it_however_early_the_connection_is_lost() {
    on_every_runtime(async |runtime: SharedRuntime| {
        for world in [World::new(runtime.clone()).await, World::forgetful(runtime).await] {
            declare(&world, Retention::new()).await;
            send(&world, 0..5).await;
            let remote = world.client().await;
            let mut reader = remote.receiver(from(Start::New)).await.unwrap();
            assert_eq!(reader.begins_at(), Some(5));
            world.pipe.cut();
            send(&world, 5..25).await;
            for number in 5..25 {
                assert_eq!(read(&mut reader).await, (number, number, 0));
            }
        }
    });
}

#[test]
fn what_retention_let_go_meanwhile_is_told_exactly() {
    on_every_runtime(async |runtime| {
        let world = World::forgetful(runtime).await;
        declare(&world, Retention::new().messages(10)).await;
        let remote = world.client().await;
        let mut reader = remote.receiver(from(Start::Beginning).prefetch(2)).await.unwrap();
        let (mut next, mut told) = (0, 0);
        for round in 1..=20 {
            send(&world, (round - 1) * 50..round * 50).await;
            if round % 3 == 0 {
                world.pipe.cut();
            }
            while next < round * 50 {
                let (number, offset, missed) = read(&mut reader).await;
                assert_eq!((number, offset), (next + missed, next + missed));
                (next, told) = (number + 1, told + missed);
            }
        }
        assert!(told > 500, "a slow reader was told of {told}");
    });
}

#[test]
fn gaps_that_newer_messages_left_come_over_as_they_are() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        declare(&world, Retention::new().last_per_key()).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..300_u64 {
            let draft = posthaste_core::Message::builder(topic("history")).to_queue();
            // Of every third the key comes again.
            let key = if number % 3 == 0 { "again".to_owned() } else { number.to_string() };
            let message = draft.key(key).payload(number.to_string()).build().unwrap();
            sender.feed(message).await.unwrap();
        }
        sender.flush().await.unwrap();
        let remote = world.client().await;
        let mut reader = remote.receiver(from(Start::Offset(0)).prefetch(8)).await.unwrap();
        let mut next = 0;
        for number in (0..300).filter(|number| number % 3 > 0 || *number == 297) {
            if number % 50 == 1 {
                world.pipe.cut();
            }
            assert_eq!(read(&mut reader).await, (number, number, number - next));
            next = number + 1;
        }
    });
}

#[test]
fn a_large_message_in_pieces_does_not_shift_the_offsets() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        declare(&world, Retention::new()).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..20_usize {
            let size = if number % 5 == 2 { 700_000 } else { 10 };
            sender.feed(job("history", vec![b'x'; size])).await.unwrap();
        }
        sender.flush().await.unwrap();
        let remote = world.client().await;
        let mut reader = remote.receiver(from(Start::Offset(1))).await.unwrap();
        for offset in 1..20 {
            let delivery = reader.next_delivery().await.unwrap();
            assert_eq!((delivery.offset(), delivery.missed()), (Some(offset), 0));
            if offset == 7 {
                world.pipe.cut();
            }
        }
    });
}

#[test]
fn a_broker_that_lacks_it_is_not_asked() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let (here, scripted) =
            (posthaste_core::transport::Endpoint::new("pipe", "scripted"), Scripted::default());
        let server = Server::new(runtime, scripted, ServerOptions::new());
        let here = server.listen(world.pipe.clone(), here).await.unwrap();
        let remote = posthaste_link::Remote::connect(
            world.runtime.clone(),
            world.pipe.clone(),
            here,
            posthaste_link::RemoteOptions::new(),
        );
        let remote = remote.await.unwrap();
        assert!(!remote.capabilities().has(Capability::Replay));
        let queue = Queue::new(topic("history")).retain(Retention::new());
        let refused = [
            remote.declare(queue).await.err(),
            remote.receiver(from(Start::New)).await.err(),
            remote.receiver(from(Start::New).ack(Ack::Manual)).await.err(),
        ];
        for error in refused {
            let error = error.expect("it is refused");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.text().contains("replay"), "{error}");
        }
    });
}
