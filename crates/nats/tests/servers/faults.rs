//! Faults of a real server: each ends in a clear error or in a recovery, and the books of what was
//! confirmed and what arrived agree.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use futures::future::join;
use posthaste_core::{
    Bus, ErrorKind, Level, Message, ReceiverExt, SenderExt, SenderOptions, Seq, SharedRuntime,
    Subscription, Topic,
};
use posthaste_nats::{Nats, NatsOptions};
use posthaste_servers::harness::Trials;
use posthaste_servers::{Proxy, Server};
use posthaste_tokio::Tokio;
use tokio::time::timeout;

pub(crate) fn add(trials: &mut Trials) {
    trials.owning("nats", "a_restart_keeps_what_was_confirmed", |server| {
        on_tokio(a_restart_keeps_what_was_confirmed(server));
    });
    trials.owning("nats", "subscriptions_live_on_after_a_restart", |server| {
        on_tokio(subscriptions_live_on_after_a_restart(server));
    });
    trials
        .owning("nats", "a_pause_is_waited_for", |server| on_tokio(a_pause_is_waited_for(server)));
    trials.owning("nats", "a_connection_may_be_cut_anywhere", |server| {
        on_tokio(a_connection_may_be_cut_anywhere(server));
    });
    trials.needing("nats", "wrong_credentials_are_refused", |server| {
        let url = server.url().replace(":posthaste@", ":wrong@");
        on_tokio(wrong_credentials_are_refused(url));
    });
    trials.needing("nats", "a_queue_deleted_under_its_consumer_ends_it", |server| {
        let url = server.url().to_owned();
        on_tokio(a_queue_deleted_under_its_consumer_ends_it(url));
    });
    trials.needing("nats", "what_is_worked_on_for_long_stays_where_it_is", |server| {
        let url = server.url().to_owned();
        on_tokio(what_is_worked_on_for_long_stays_where_it_is(url));
    });
    trials.needing("nats", "levels_are_what_was_reached", |server| {
        let url = server.url().to_owned();
        on_tokio(levels_are_what_was_reached(url));
    });
    trials.plain("nobody_there_is_an_error_in_time", || on_tokio(nobody_there()));
}

pub(crate) fn on_tokio(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(test);
}

pub(crate) async fn bus(url: &str) -> Bus {
    let runtime: SharedRuntime = Tokio::current().into();
    // What a lost consumer had in hand comes again soon.
    let nats = Nats::connect(runtime.clone(), format!("{url}?ack_wait=2")).await.unwrap();
    Bus::with_runtime(nats, runtime)
}

fn jobs() -> Topic {
    Topic::new("jobs").unwrap()
}

/// Sends numbers, many in flight, and says which were confirmed and which may have arrived.
async fn send(bus: &Bus, numbers: std::ops::Range<u64>) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let options = SenderOptions::new().queue(jobs()).window(64, 1 << 20);
    let mut sender = bus.sender(options).await.unwrap();
    let (mut confirmed, mut unknown) = (numbers.clone().collect::<BTreeSet<_>>(), BTreeSet::new());
    for number in numbers {
        let message = Message::to_queue(jobs(), number.to_string());
        sender.feed(message).await.unwrap();
    }
    let receipt = sender.flush().await.unwrap();
    let mut returned = 0;
    while let Some(back) = sender.take_returned(Seq::FIRST) {
        let number = number(&back.message);
        returned += 1;
        confirmed.remove(&number);
        if back.error.kind() == ErrorKind::Unknown {
            unknown.insert(number);
        }
    }
    // Each has exactly one outcome.
    assert_eq!((receipt.confirmed, receipt.returned), (confirmed.len() as u64, returned));
    let sends = bus.broker().sends().unwrap();
    assert!(sends.is_balanced() && sends.pending == 0, "{sends:?}");
    (confirmed, unknown)
}

fn number(message: &Message) -> u64 {
    std::str::from_utf8(message.payload()).unwrap().parse().unwrap()
}

/// Takes and acks until nothing comes for a while; how often each came.
async fn take(bus: &Bus) -> BTreeMap<u64, u32> {
    let mut receiver = bus.consume(jobs()).await.unwrap();
    let mut taken = BTreeMap::new();
    while let Ok(next) = timeout(Duration::from_secs(4), receiver.recv()).await {
        match next {
            Ok(Some(delivery)) => {
                *taken.entry(number(delivery.message())).or_default() += 1;
                delivery.ack();
            }
            Ok(None) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::SessionLost, "{error}"),
        }
    }
    taken
}

/// What was confirmed has arrived, and what arrived was confirmed or may have arrived.
fn check((confirmed, unknown): &(BTreeSet<u64>, BTreeSet<u64>), taken: &BTreeMap<u64, u32>) {
    let lost: Vec<_> = confirmed.iter().filter(|number| !taken.contains_key(number)).collect();
    assert!(lost.is_empty(), "{} confirmed, lost {lost:?}", confirmed.len());
    let phantoms = taken.keys().filter(|n| !confirmed.contains(n) && !unknown.contains(n));
    assert_eq!(phantoms.count(), 0, "what nobody sent has arrived");
}

async fn a_restart_keeps_what_was_confirmed(mut server: Server) {
    let bus = bus(server.url()).await;
    let mut all = (BTreeSet::new(), BTreeSet::new());
    for round in 0..4 {
        let sending = send(&bus, round * 5_000..(round + 1) * 5_000);
        let killing = async {
            // Somewhere in the middle of it.
            wait_for_messages(&bus, round * 5_000 + 500).await;
            server.kill();
            server.restart().unwrap();
        };
        let (sent, ()) = join(sending, killing).await;
        all.0.extend(sent.0);
        all.1.extend(sent.1);
    }
    check(&all, &take(&bus).await);
}

/// Waits until the queue holds so many, or is not to be asked.
async fn wait_for_messages(bus: &Bus, count: u64) {
    for _ in 0..2_000 {
        if bus.queue(jobs()).await.is_ok_and(|info| info.messages >= count) {
            return;
        }
    }
}

async fn subscriptions_live_on_after_a_restart(mut server: Server) {
    let bus = bus(server.url()).await;
    let mut news = bus.subscribe("news.*").await.unwrap();
    let mut consumer = bus.consume(jobs()).await.unwrap();
    server.kill();
    server.restart().unwrap();
    // What was published while nobody was connected is missed, and that is said.
    let lost = news.recv().await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::SessionLost);
    let publishing = async {
        loop {
            bus.publish("news.today", "again").await.unwrap();
            bus.send("jobs", "again").await.unwrap();
            let heard = timeout(Duration::from_millis(200), news.next_delivery()).await;
            if let Ok(heard) = heard {
                break heard.unwrap();
            }
        }
    };
    let heard = timeout(Duration::from_secs(20), publishing).await.unwrap();
    assert_eq!(heard.payload(), "again");
    let job = timeout(Duration::from_secs(20), consumer.next_delivery()).await.unwrap().unwrap();
    assert_eq!(job.payload(), "again");
    job.ack();
    consumer.settled().await.unwrap();
}

async fn a_pause_is_waited_for(server: Server) {
    let bus = bus(server.url()).await;
    let sending = send(&bus, 0..20_000);
    let pausing = async {
        wait_for_messages(&bus, 200).await;
        server.pause();
        // Longer than a heartbeat; nothing is answered meanwhile.
        let silence = timeout(Duration::from_secs(12), pending::<()>());
        assert!(silence.await.is_err());
        server.resume();
    };
    let (sent, ()) = join(sending, pausing).await;
    check(&sent, &take(&bus).await);
}

async fn a_connection_may_be_cut_anywhere(server: Server) {
    let proxy = Proxy::to(&server.address()).unwrap();
    let bus = bus(&server.url_through(&proxy.address())).await;
    let mut all = (BTreeSet::new(), BTreeSet::new());
    // Byte counts that follow from nothing, so that cuts come in the middle of everything.
    for (round, bytes) in [7, 1_013, 20_011, 65_537, 130_003, 17].into_iter().enumerate() {
        let from = round as u64 * 2_000;
        proxy.cut_after(bytes);
        let sent = send(&bus, from..from + 2_000).await;
        all.0.extend(sent.0);
        all.1.extend(sent.1);
    }
    let consuming = take(&bus);
    let cutting = async {
        for bytes in [11, 5_003, 30_011] {
            proxy.cut_after(bytes);
            let pause = timeout(Duration::from_millis(700), pending::<()>());
            assert!(pause.await.is_err());
        }
    };
    let (taken, ()) = join(consuming, cutting).await;
    check(&all, &taken);
    assert_eq!(bus.queue(jobs()).await.unwrap().messages, 0, "everything is acknowledged");
}

async fn wrong_credentials_are_refused(url: String) {
    let refused = Nats::connect(Tokio::current().into(), &url).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(!refused.to_string().contains("wrong"), "{refused}");
}

async fn nobody_there() {
    let options = NatsOptions::new().connect_timeout(Duration::from_millis(300));
    let connecting = Nats::connect_with(Tokio::current().into(), "nats://127.0.0.1:1", options);
    let error = timeout(Duration::from_secs(5), connecting).await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut), "{error:?}");
}

async fn a_queue_deleted_under_its_consumer_ends_it(url: String) {
    let bus = bus(&url).await;
    let queue = Topic::new("deleted.under.its.consumer").unwrap();
    let mut consumer = bus.consume(&queue).await.unwrap();
    bus.send(&queue, "1").await.unwrap();
    let job = consumer.next_delivery().await.unwrap();
    bus.delete(&queue).await.unwrap();
    let end = timeout(Duration::from_secs(10), consumer.recv()).await.unwrap();
    assert!(end.unwrap().is_none());
    job.ack();
    let mut sender = bus.sender(SenderOptions::new()).await.unwrap();
    let gone = sender.send(Message::to_queue(queue, "2")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound, "{}", gone.error());
}

async fn what_is_worked_on_for_long_stays_where_it_is(url: String) {
    let bus = bus(&url).await;
    // One consumer that waits for more meanwhile, and one that may have no more.
    for (name, prefetch) in [("long.work.and.more", 8), ("long.work.alone", 1)] {
        let queue = Topic::new(name).unwrap();
        let of = || Subscription::queue(&queue).unwrap().prefetch(prefetch);
        let mut working = bus.receiver(of()).await.unwrap();
        bus.send(&queue, "long").await.unwrap();
        let job = working.next_delivery().await.unwrap();
        let mut other = bus.receiver(of()).await.unwrap();
        // More than twice as long as a consumer that is lost would keep it.
        let stolen = timeout(Duration::from_secs(5), other.recv()).await;
        assert!(stolen.is_err(), "another consumer of {queue} got it");
        job.ack();
        working.settled().await.unwrap();
        assert_eq!(bus.queue(&queue).await.unwrap().messages, 0);
        bus.delete(&queue).await.unwrap();
    }
}

async fn levels_are_what_was_reached(url: String) {
    let of = |url: String, queue: &'static str, level: Level| async move {
        let bus = bus_at(&url).await;
        let receipt = bus.send(queue, "x").await.unwrap();
        assert_eq!((receipt.level, receipt.nodes), (level, 1), "{url}");
        let mut consumer = bus.receiver(Subscription::queue(queue).unwrap()).await.unwrap();
        consumer.next_delivery().await.unwrap().ack();
        consumer.close().await.unwrap();
        // More than is reached is no receipt.
        let asked = SenderOptions::new().confirm(Level::Stored);
        let mut sender = bus.sender(asked).await.unwrap();
        let message = Message::to_queue(Topic::new(queue).unwrap(), "x");
        let kind = sender.send(message).await.err().map(|failed| failed.kind());
        assert_eq!(kind, (level < Level::Stored).then_some(ErrorKind::Unconfirmed), "{url}");
        bus.delete(queue).await.unwrap();
    };
    of(url.clone(), "levels.file", Level::Written).await;
    of(format!("{url}?storage=memory"), "levels.memory", Level::Held).await;
    of(format!("{url}?sync=always"), "levels.synced", Level::Stored).await;
    let published = bus_at(&url).await.publish("levels.topic", "x").await.unwrap();
    assert_eq!((published.level, published.nodes), (Level::Sent, 0));
}

async fn bus_at(url: &str) -> Bus {
    let runtime: SharedRuntime = Tokio::current().into();
    Bus::with_runtime(Nats::connect(runtime.clone(), url).await.unwrap(), runtime)
}
