//! Messages arrive in order, and every one of them has exactly one outcome.

use posthaste_core::{
    Ack, Broker, Level, Message, Queue, ReceiverExt, SenderExt, SenderOptions, Seq, Subscription,
};
use posthaste_wire::{Event, Hop, Role};

use crate::support::{RawPeer, World, event, job, on_every_runtime, topic};

#[test]
fn a_message_goes_through_and_is_confirmed() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut orders = remote.receiver(Subscription::topic("orders.>").unwrap()).await.unwrap();
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        let receipt = sender.send(event("orders.eu", "42")).await.unwrap();
        assert_eq!((receipt.confirmed, receipt.matched, receipt.upto), (1, 1, Seq::FIRST));
        assert_eq!((receipt.level, receipt.nodes), (Level::Held, 1));
        let delivery = orders.next_delivery().await.unwrap();
        assert_eq!(delivery.payload(), "42");
        assert_eq!(delivery.message().topic(), topic("orders.eu"));
    });
}

#[test]
fn many_messages_arrive_in_order_and_are_all_counted() {
    on_every_runtime(async |runtime| {
        const COUNT: u64 = 50_000;
        let world = World::new(runtime).await;
        let (one, other) = (world.client().await, world.client().await);
        let mut jobs = other.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let mut sender = one.sender(SenderOptions::new()).await.unwrap();
        let sending = async {
            for number in 0..COUNT {
                sender.feed(job("jobs", number.to_le_bytes().to_vec())).await.unwrap();
            }
            sender.flush().await.unwrap()
        };
        let receiving = async {
            let mut batch = Vec::new();
            let mut expected = 0_u64;
            while expected < COUNT {
                jobs.recv_many(&mut batch, 100).await.unwrap();
                for delivery in batch.drain(..) {
                    assert_eq!(delivery.payload()[..], expected.to_le_bytes());
                    assert_eq!(delivery.attempt(), 1);
                    delivery.ack();
                    expected += 1;
                }
            }
            jobs.settled().await.unwrap();
        };
        let (receipt, ()) = smol::future::zip(sending, receiving).await;
        assert_eq!((receipt.upto.get(), receipt.returned), (COUNT, 0));
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.messages, info.ledger.acked), (0, COUNT));
    });
}

#[test]
fn runs_go_on_in_order_with_what_comes_between_them_however_little_room_there_is() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        world.memory.declare(Queue::new(topic("jobs")).capacity(5)).await.unwrap();
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto);
        let mut jobs = world.memory.receiver(jobs).await.unwrap();
        let mut client = RawPeer::connect(&world).await;
        let link = client.session.open(Role::Sender, &[]).expect("a link is free");
        client.write().await;
        while !client.session.room(link) {
            assert!(client.read().await, "the server has ended the connection");
        }
        // Numbers 1 to 8, three that cannot be read, one alone behind them, and four more.
        let (good, hop) = (job("jobs", ""), Hop::default());
        let (head, attributes) = good.on_wire();
        let plain = Hop { attributes, ..hop };
        let urgent = Message::builder(topic("jobs")).to_queue().priority(3).build().unwrap();
        let urgent = Hop { attributes: urgent.on_wire().1, ..hop };
        let say = |client: &mut RawPeer, hop: &Hop, head: &[u8], number: u8| {
            client.session.transfer(link, hop, head, &vec![number].into()).expect("credit");
        };
        (1..=8).for_each(|number| say(&mut client, &plain, head, number));
        (9..=11).for_each(|number| say(&mut client, &plain, b"\xff\xffjobs", number));
        say(&mut client, &urgent, head, 12);
        (13..=16).for_each(|number| say(&mut client, &plain, head, number));
        client.write().await;
        let mut received = Vec::new();
        while received.len() < 13 {
            let delivery = jobs.next_delivery().await.unwrap();
            received.push(delivery.payload()[0]);
        }
        let expected: Vec<u8> = (1..=8).chain(12..=16).collect();
        assert_eq!(sorted(&received), expected, "each of them once");
        let plain: Vec<u8> = received.into_iter().filter(|number| *number != 12).collect();
        assert_eq!(plain, sorted(&plain), "those of one priority in order");
        let (mut returned, mut confirmed) = (Vec::new(), 0);
        while confirmed < 16 {
            while let Some(event) = client.session.poll_event() {
                match event {
                    Event::Returned { seq, .. } => returned.push(seq),
                    Event::Confirm { upto, .. } => confirmed = upto,
                    _ => {}
                }
            }
            if confirmed < 16 {
                assert!(client.read().await, "the server has ended the connection");
            }
        }
        assert_eq!(returned, [9, 10, 11]);
        let ledger = world.memory.stats().await.unwrap().ledger;
        assert_eq!((ledger.accepted, ledger.held), (13, 0));
    });
}

fn sorted(numbers: &[u8]) -> Vec<u8> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers
}
