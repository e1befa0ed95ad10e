//! Messages arrive in order, and every one of them has exactly one outcome.

use posthaste_core::{Broker, Level, ReceiverExt, SenderExt, SenderOptions, Seq, Subscription};

use crate::support::{World, event, job, on_every_runtime, topic};

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
