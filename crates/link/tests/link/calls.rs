//! Queues, books and capabilities, as seen from afar.

use posthaste_core::{
    Broker, Capability, ErrorKind, Pattern, Queue, SenderExt, SenderOptions, Subscription, Support,
};

use crate::support::{World, event, job, on_every_runtime, on_one_runtime, topic};

#[test]
fn a_queue_is_declared_inspected_and_deleted() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let audit = Queue::new(topic("audit")).bind(Pattern::new("orders.>").unwrap());
        remote.declare(audit.capacity(3).capacity_bytes(1_000)).await.unwrap();
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        sender.send(event("orders.eu", "12345")).await.unwrap();
        let there = world.memory.queue(&topic("audit")).await.unwrap();
        let here = remote.queue(&topic("audit")).await.unwrap();
        assert_eq!(here, there);
        assert_eq!((here.messages, here.settings.capacity_messages), (1, 3));
        remote.delete(&topic("audit")).await.unwrap();
        let gone = remote.queue(&topic("audit")).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        assert!(gone.to_string().contains("audit"), "{gone}");
    });
}

#[test]
fn the_books_are_the_brokers_and_the_connections_the_servers() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let (one, _other) = (world.client().await, world.client().await);
        let mut sender = one.sender(SenderOptions::new()).await.unwrap();
        for name in ["b", "a", "c"] {
            sender.send(job(name, "x")).await.unwrap();
        }
        let _live = one.receiver(Subscription::topic("x").unwrap()).await.unwrap();
        let stats = one.stats().await.unwrap();
        let names: Vec<_> = stats.queues.iter().map(|info| info.name.to_string()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!((stats.connections, stats.subscriptions), (2, 1));
        assert_eq!(stats.ledger, world.memory.stats().await.unwrap().ledger);
        assert!(stats.ledger.is_balanced());
    });
}

#[test]
fn more_queues_than_fit_into_a_frame_are_all_told() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        for number in 0..2_000 {
            world.memory.declare(Queue::new(topic(&format!("queue.{number}")))).await.unwrap();
        }
        let stats = remote.stats().await.unwrap();
        assert_eq!(stats.queues.len(), 2_000);
    });
}

#[test]
fn the_card_is_the_backends_and_names_the_way_there() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let card = remote.capabilities();
        assert_eq!(card.backend(), "memory over pipe");
        for capability in Capability::ALL {
            // It is the link that keeps sessions, whatever is behind it.
            let there = match capability {
                Capability::Sessions => Support::Native,
                other => world.memory.capabilities().support(other),
            };
            assert_eq!(card.support(capability), there, "{capability}");
        }
        assert_eq!(card.support(Capability::Durability), Support::Lacking);
    });
}

#[test]
fn what_the_broker_refuses_to_open_is_refused_with_its_own_words() {
    on_one_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let stored = SenderOptions::new().confirm(posthaste_core::Level::Stored);
        let here = remote.sender(stored.clone()).await.err().expect("memory stores nothing");
        let there = world.memory.sender(stored).await.err().expect("memory stores nothing");
        assert_eq!((here.kind(), here.text()), (there.kind(), there.text()));
    });
}
