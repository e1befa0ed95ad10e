//! A session that goes on over another connection: nothing is lost, nothing is doubled, and what was
//! in hand stays there. And one that does not: what is known by its id goes again.

use std::time::Duration;

use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    Ack, Broker, ErrorKind, Event, Level, Message, Queue, ReceiverExt, SenderExt, SenderOptions,
    Seq, SharedRuntime, Subscription,
};
use posthaste_link::ServerOptions;

use crate::support::{World, event, job, on_every_runtime, topic};

/// A world whose server keeps sessions for a blink.
async fn impatient(runtime: SharedRuntime) -> World {
    let options = ServerOptions::new().session_linger(Duration::from_millis(30));
    World::with(runtime, options).await
}

#[test]
fn what_is_sent_through_cuts_is_confirmed_once_each_and_in_order() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new().window(64, 1 << 20)).await.unwrap();
        for number in 0..600_u32 {
            sender.feed(job("jobs", number.to_string())).await.unwrap();
            if number % 50 == 17 {
                world.pipe.cut();
            }
        }
        let receipt = sender.flush().await.unwrap();
        assert_eq!((receipt.confirmed, receipt.returned, receipt.matched), (600, 0, 600));
        assert_eq!(receipt.level, Level::Held);
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.messages, info.ledger.accepted), (600, 600));
        let mut local = world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        for number in 0..600_u32 {
            let delivery = local.next_delivery().await.unwrap();
            assert_eq!(delivery.payload(), &number.to_string());
            delivery.ack();
        }
    });
}

#[test]
fn refusals_and_confirms_that_were_on_their_way_are_told_again() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let few = Queue::new(topic("few")).capacity(10).overflow(posthaste_core::Overflow::Reject);
        world.memory.declare(few).await.unwrap();
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        let mut returned = 0;
        for round in 0..20 {
            for _ in 0..5 {
                sender.feed(job("few", "x")).await.unwrap();
            }
            if round % 3 == 0 {
                world.pipe.cut();
            }
            let receipt = sender.flush().await.unwrap();
            assert_eq!(receipt.confirmed + receipt.returned, 5);
            returned += receipt.returned;
        }
        assert_eq!(returned, 90);
        while let Some(back) = sender.take_returned(Seq::FIRST) {
            assert_eq!(back.error.kind(), ErrorKind::Full);
            returned -= 1;
        }
        assert_eq!(returned, 0);
        assert_eq!(world.memory.queue(&topic("few")).await.unwrap().messages, 10);
    });
}

#[test]
fn what_is_in_hand_stays_in_hand_and_is_settled_later() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..10 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        let jobs = Subscription::queue("jobs").unwrap().prefetch(4);
        let mut jobs = remote.receiver(jobs).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(jobs.next_delivery().await.unwrap());
        }
        // Settled in the gap, and out of order; what is still held then is settled after it.
        world.pipe.cut();
        held.remove(1).ack();
        world.until("connected", async || remote.stats().await.is_ok()).await;
        world.pipe.cut();
        world.until("connected", async || remote.stats().await.is_ok()).await;
        held.drain(..).for_each(posthaste_core::Delivery::ack);
        for number in 3..10 {
            let delivery = jobs.next_delivery().await.unwrap();
            assert_eq!((delivery.payload(), delivery.attempt()), (&number.to_string().into(), 1));
            delivery.ack();
            world.pipe.cut();
        }
        jobs.settled().await.unwrap();
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.messages, info.ledger.acked), (0, 10));
    });
}

#[test]
fn each_outcome_is_what_the_consumer_said_whatever_happened_meanwhile() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let jobs = Queue::new(topic("jobs")).dead_letter(topic("dead"));
        world.memory.declare(jobs).await.unwrap();
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..4 {
            sender.send(job("jobs", number.to_string())).await.unwrap();
        }
        let mut jobs = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(jobs.next_delivery().await.unwrap());
        }
        world.pipe.cut();
        let mut held = held.into_iter();
        held.next().unwrap().ack();
        held.next().unwrap().reject("no good");
        held.next().unwrap().retry(Duration::ZERO, "once more");
        held.next().unwrap().release();
        let again = jobs.next_delivery().await.unwrap();
        assert_eq!((again.payload(), again.attempt()), (&"2".into(), 2));
        again.ack();
        let unseen = jobs.next_delivery().await.unwrap();
        assert_eq!((unseen.payload(), unseen.attempt()), (&"3".into(), 1));
        unseen.ack();
        jobs.settled().await.unwrap();
        let dead = world.memory.browse(&topic("dead"), None, 10).await.unwrap();
        let reasons: Vec<_> = dead[0].message.deaths().flat_map(|death| death.reasons).collect();
        assert_eq!((dead.len(), reasons), (1, vec!["no good".to_owned()]));
    });
}

#[test]
fn a_subscription_and_an_inbox_miss_nothing() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        let remote = world.client().await;
        let mut news = remote.receiver(Subscription::topic("news.>").unwrap()).await.unwrap();
        let (address, mut inbox) = remote.inbox().await.unwrap();
        for number in 0..300_u32 {
            let text = number.to_string();
            local.send(event("news.now", text.clone())).await.unwrap();
            local.send(event(address.as_str(), text)).await.unwrap();
            if number % 40 == 7 {
                world.pipe.cut();
            }
        }
        for number in 0..300_u32 {
            assert_eq!(news.next_delivery().await.unwrap().payload(), &number.to_string());
            assert_eq!(inbox.next_delivery().await.unwrap().payload(), &number.to_string());
        }
    });
}

#[test]
fn an_automatic_consumer_gets_each_message_once() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..500 {
            local.send(job("jobs", number.to_string())).await.unwrap();
        }
        let remote = world.client().await;
        let jobs = Subscription::queue("jobs").unwrap().ack(Ack::Auto).prefetch(30).limit(500);
        let mut jobs = remote.receiver(jobs).await.unwrap();
        for number in 0..500 {
            assert_eq!(jobs.next_delivery().await.unwrap().payload(), &number.to_string());
            if number % 60 == 31 {
                world.pipe.cut();
            }
        }
        assert!(jobs.recv().await.unwrap().is_none(), "it wanted no more");
        jobs.settled().await.unwrap();
        let ledger = world.memory.stats().await.unwrap().ledger;
        assert_eq!((ledger.auto, ledger.dropped, ledger.held), (500, 0, 0));
    });
}

#[test]
fn who_subscribes_to_events_is_told_what_became_of_the_session() {
    on_every_runtime(async |runtime| {
        let mut world = World::new(runtime).await;
        let remote = world.client().await;
        let mut events =
            remote.receiver(Subscription::topic(Event::PATTERN).unwrap()).await.unwrap();
        world.pipe.cut();
        let told = events.next_delivery().await.unwrap();
        assert_eq!(Event::from_message(told.message()), Some(Event::SessionResumed));
        world.restart().await;
        let told = events.next_delivery().await.unwrap();
        assert_eq!(Event::from_message(told.message()), Some(Event::SessionLost));
    });
}

#[test]
fn of_a_lost_session_what_is_known_by_its_id_goes_again_and_the_rest_is_unknown() {
    on_every_runtime(async |runtime| {
        let mut world = World::new(runtime).await;
        let minute = Duration::from_secs(60);
        world.memory.declare(Queue::new(topic("known")).dedup_window(minute)).await.unwrap();
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        let known = |number: u32| {
            let draft = Message::builder(topic("known")).to_queue().id(number.to_string());
            draft.payload(number.to_string()).build().unwrap()
        };
        for number in 0..100 {
            sender.feed(known(number)).await.unwrap();
            sender.feed(job("unknown", number.to_string())).await.unwrap();
        }
        world.restart().await;
        let receipt = sender.flush().await.unwrap();
        assert_eq!(receipt.confirmed + receipt.returned, 200);
        while let Some(returned) = sender.take_returned(Seq::FIRST) {
            assert_eq!(returned.error.kind(), ErrorKind::Unknown);
            assert_eq!(returned.message.topic().as_str(), "unknown");
            assert!(!returned.message.is_repeat());
        }
        let info = world.memory.queue(&topic("known")).await.unwrap();
        assert_eq!(info.messages, 100, "each is there, and none twice");
        let mut known = world.memory.receiver(Subscription::queue("known").unwrap()).await.unwrap();
        for number in 0..100 {
            let delivery = known.next_delivery().await.unwrap();
            assert_eq!(delivery.payload(), &number.to_string());
            assert!(!delivery.message().is_repeat());
            delivery.ack();
        }
    });
}

#[test]
fn what_has_an_id_but_goes_where_none_is_remembered_is_unknown() {
    on_every_runtime(async |runtime| {
        let mut world = World::new(runtime).await;
        let few = Queue::new(topic("few")).capacity(1);
        world.memory.declare(few).await.unwrap();
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for number in 0..3 {
            let draft = Message::builder(topic("few")).to_queue().id(number.to_string());
            sender.feed(draft.build().unwrap()).await.unwrap();
        }
        let held = async || world.memory.queue(&topic("few")).await.unwrap().messages == 1;
        world.until("one is in", held).await;
        world.restart().await;
        let receipt = sender.flush().await.unwrap();
        let unknown = sender.take_returned(Seq::FIRST).unwrap();
        assert_eq!(unknown.error.kind(), ErrorKind::Unknown, "{receipt:?}");
    });
}

#[test]
fn what_was_in_hand_returns_once_the_session_has_lingered() {
    on_every_runtime(async |runtime| {
        let world = impatient(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        local.send(job("jobs", "x")).await.unwrap();
        let remote = world.client_with(crate::losing::never()).await;
        let mut jobs = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let held = jobs.next_delivery().await.unwrap();
        world.pipe.cut();
        let mut other = world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let again = other.next_delivery().await.unwrap();
        assert_eq!((again.payload(), again.attempt()), (&"x".into(), 2));
        again.ack();
        held.ack();
        let info = world.memory.queue(&topic("jobs")).await.unwrap();
        assert_eq!((info.consumers, info.ledger.acked), (1, 1));
    });
}

#[test]
fn an_orderly_goodbye_leaves_no_session() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime.clone()).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        local.send(job("jobs", "x")).await.unwrap();
        let remote = world.client().await;
        let mut jobs = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let held = jobs.next_delivery().await.unwrap();
        drop((jobs, remote));
        let mut other = world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let soon = runtime.now() + Duration::from_secs(4);
        let again = timeout_at(&*runtime, soon, other.next_delivery()).await;
        assert_eq!(again.expect("long before it would have lingered").unwrap().payload(), "x");
        drop(held);
    });
}

#[test]
fn a_sender_hears_that_the_session_is_gone_although_nobody_answers() {
    on_every_runtime(async |runtime| {
        let mut world = impatient(runtime).await;
        world.memory.declare(Queue::new(topic("full")).capacity(1)).await.unwrap();
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for _ in 0..3 {
            sender.feed(job("full", "x")).await.unwrap();
        }
        // The server goes without a word, and does not come back.
        world.vanish();
        let receipt = sender.flush().await.unwrap();
        assert_eq!(receipt.confirmed + receipt.returned, 3);
        let unknown = sender.take_returned(Seq::FIRST).unwrap();
        assert_eq!(unknown.error.kind(), ErrorKind::Unknown);
    });
}

#[test]
fn what_a_dropped_sender_had_sent_arrives_all_the_same() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        for round in 1..=20_u64 {
            let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
            for _ in 0..10 {
                sender.feed(job("jobs", "x")).await.unwrap();
            }
            drop(sender);
            world.pipe.cut();
            world
                .until("all of it is there", async || {
                    let info = world.memory.queue(&topic("jobs")).await;
                    info.is_ok_and(|info| info.messages == round * 10)
                })
                .await;
        }
        // One whose confirm was lost with the link is unknown; nobody asks for it any more.
        let settled = async || {
            let sends = remote.sends().unwrap();
            sends.taken == 200 && sends.pending == 0
        };
        world.until("each has its outcome", async || settled().await).await;
    });
}

#[test]
fn a_responder_that_is_cut_off_is_none_and_one_that_comes_back_is_one_again() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        let remote = world.client().await;
        let sums = Subscription::shared("sum", "sums").unwrap();
        let mut sums = remote.receiver(sums.ack(Ack::Manual)).await.unwrap();
        let ask = |number: u64| {
            let draft = Message::builder(topic("sum")).reply_to(topic("me"), number);
            draft.build().unwrap()
        };
        assert_eq!(local.send(ask(1)).await.unwrap().matched, 1);
        let held = sums.next_delivery().await.unwrap();
        world.pipe.cut();
        world.until("it is back", async || remote.stats().await.is_ok()).await;
        // Its links come back a moment after the connection.
        let mut asked = async || local.send(ask(2)).await.unwrap().matched == 1;
        world.until("its responder is one again", async || asked().await).await;
        let next = sums.next_delivery().await.unwrap();
        assert_eq!(next.message().correlation(), 2);
        held.ack();
        next.ack();
        sums.settled().await.unwrap();
        // One that does not come back answers nothing, as long as its session lingers.
        let gone = world.client_with(crate::losing::never()).await;
        drop(sums);
        let other = Subscription::shared("other", "others").unwrap();
        let other = gone.receiver(other).await.unwrap();
        world.pipe.cut();
        let none = async || {
            let request = Message::builder(topic("other")).reply_to(topic("me"), 3);
            local.send(request.build().unwrap()).await.unwrap().matched == 0
        };
        let mut none = none;
        world.until("nobody is there to answer", async || none().await).await;
        drop(other);
    });
}

#[test]
fn what_a_receiver_had_not_seen_goes_back_although_it_was_dropped_in_the_gap() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        for number in 0..5 {
            local.send(job("jobs", number.to_string())).await.unwrap();
        }
        let remote = world.client().await;
        let mut jobs = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        let held = jobs.next_delivery().await.unwrap();
        let sent = async || world.memory.queue(&topic("jobs")).await.unwrap().unsettled == 5;
        world.until("all are on their way", async || sent().await).await;
        world.pipe.cut();
        drop(jobs);
        let mut other = world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        for number in 1..5 {
            let delivery = other.next_delivery().await.unwrap();
            assert_eq!(delivery.payload(), &number.to_string());
            assert_eq!(delivery.attempt(), 1, "nobody has seen it");
            delivery.ack();
        }
        held.ack();
        let none = async || world.memory.queue(&topic("jobs")).await.unwrap().messages == 0;
        world.until("what was in hand is settled", async || none().await).await;
    });
}

/// Cuts the connection and goes on a few steps after the server has heard of the next one, while
/// links are being opened again.
async fn cut_and_come_back(world: &World, steps: u64) {
    world.pipe.cut();
    // One that is back at once may not be missed, so this is not waited for without an end.
    let back_at_once = world.runtime.now() + Duration::from_millis(60);
    while world.server.connections() > 0 && world.runtime.now() < back_at_once {
        smol::future::yield_now().await;
    }
    while world.server.connections() == 0 {
        smol::future::yield_now().await;
    }
    for _ in 0..steps {
        smol::future::yield_now().await;
    }
}

#[test]
fn what_was_settled_in_the_gap_is_settled_whenever_the_receiver_is_dropped() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let mut local = world.memory.sender(SenderOptions::new()).await.unwrap();
        let remote = world.client().await;
        for turns in 0..60_u64 {
            local.send(job("jobs", turns.to_string())).await.unwrap();
            let mut jobs = remote.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
            let held = jobs.next_delivery().await.unwrap();
            assert_eq!((held.payload(), held.attempt()), (&turns.to_string().into(), 1));
            cut_and_come_back(&world, turns % 20).await;
            held.ack();
            drop(jobs);
            let settled = async || {
                let info = world.memory.queue(&topic("jobs")).await.unwrap();
                (info.messages, info.ledger.acked) == (0, turns + 1)
            };
            world.until("it is settled", settled).await;
        }
    });
}

#[test]
fn what_was_sent_in_the_gap_arrives_whenever_the_sender_is_dropped() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        let remote = world.client().await;
        for turns in 0..60_u64 {
            let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
            sender.feed(job("jobs", turns.to_string())).await.unwrap();
            cut_and_come_back(&world, turns % 20).await;
            drop(sender);
            let arrived = async || {
                let info = world.memory.queue(&topic("jobs")).await;
                info.is_ok_and(|info| info.messages == turns + 1)
            };
            world.until("it has arrived", arrived).await;
        }
    });
}

#[test]
fn a_second_loss_while_coming_back_changes_nothing() {
    on_every_runtime(async |runtime| {
        let world = World::new(runtime).await;
        world.memory.declare(Queue::new(topic("jobs")).capacity(1)).await.unwrap();
        let remote = world.client().await;
        let mut sender = remote.sender(SenderOptions::new()).await.unwrap();
        for _ in 0..5 {
            sender.feed(job("jobs", "x")).await.unwrap();
        }
        for steps in 0..10 {
            // The second one strikes while the client comes back from the first.
            cut_and_come_back(&world, steps).await;
            world.pipe.cut();
            world.until("connected", async || remote.stats().await.is_ok()).await;
        }
        let mut jobs = world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        for _ in 0..5 {
            jobs.next_delivery().await.unwrap().ack();
        }
        let receipt = sender.flush().await.unwrap();
        assert_eq!((receipt.confirmed, receipt.returned), (5, 0));
    });
}
