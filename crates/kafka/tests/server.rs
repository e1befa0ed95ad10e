//! What holds on a server that speaks Kafka's protocol, beyond the kit: with others who speak it,
//! through rebalances, and when the server goes.

#![allow(
    clippy::disallowed_methods,
    reason = "a program, which spawns on the runtime that it chose"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use posthaste_core::{
    BoxReceiver, Broker, Bus, Error, ErrorKind, Level, Message, Queue, ReceiverExt, SenderExt,
    SenderOptions, SharedRuntime, Subscription, Topic,
};
use posthaste_kafka::{Kafka, KafkaOptions, Position};
use posthaste_servers::harness::{self, Trials, space};
use posthaste_servers::{Proxy, Server};
use posthaste_smol::Smol;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

type Test = Result<(), Error>;

fn main() -> std::process::ExitCode {
    let mut trials = Trials::default();
    trials.needing("kafka", "others_read_what_is_sent", on(others_read_what_is_sent));
    trials.needing("kafka", "what_others_write_is_read", on(what_others_write_is_read));
    trials.needing("kafka", "a_receipt_says_written", on(a_receipt_says_written));
    trials.needing(
        "kafka",
        "a_queue_stands_where_it_was_left",
        on(a_queue_stands_where_it_was_left),
    );
    trials.needing("kafka", "a_gap_comes_again", on(a_gap_comes_again));
    trials.needing("kafka", "consumers_come_and_go_without_loss", on(consumers_come_and_go));
    trials.needing("kafka", "order_is_kept_per_key", on(order_is_kept_per_key));
    trials.needing("kafka", "a_topic_is_read_from_a_position", on(a_topic_is_read_from_a_position));
    trials.needing("kafka", "what_is_rejected_is_a_dead_letter", on(rejected_is_a_dead_letter));
    trials.needing("kafka", "a_retry_is_told_and_not_lost", on(a_retry_is_told_and_not_lost));
    trials.needing("kafka", "requests_are_answered", on(requests_are_answered));
    trials.needing("kafka", "new_topics_are_found", on(new_topics_are_found));
    trials.needing("kafka", "queue_and_topic_of_one_name", on(queue_and_topic_of_one_name));
    trials.needing("kafka", "a_queue_is_deleted", on(a_queue_is_deleted));
    trials.needing("kafka", "what_cannot_be_is_told", on(what_cannot_be_is_told));
    trials.owning("kafka", "connections_may_be_cut_anywhere", connections_may_be_cut_anywhere);
    trials.owning("kafka", "a_server_that_forgets_all", a_server_that_forgets_all);
    trials.owning("kafka", "a_server_that_pauses", |server| a_server_that_pauses(&server));
    trials.plain("nobody_answers", nobody_answers);
    harness::main(trials)
}

/// Runs a test on smol, with the URL of the server and a name that is nobody else's.
fn on<F>(test: fn(SharedRuntime, String, String) -> F) -> impl FnOnce(&Server) + Send + 'static
where
    F: Future<Output = Test> + 'static,
{
    move |server| {
        let url = format!("{}?session_timeout=6s&discovery=250ms", server.url());
        smol::block_on(test(Smol::global().into(), url, space())).expect("no error");
    }
}

fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a topic")
}

fn servers(url: &str) -> &str {
    let rest = url.strip_prefix("kafka://").unwrap_or(url);
    rest.split('?').next().unwrap_or(rest)
}

async fn take(receiver: &mut BoxReceiver, count: usize) -> Result<Vec<String>, Error> {
    let mut taken = Vec::new();
    for _ in 0..count {
        let delivery = receiver.next_delivery().await?;
        taken.push(String::from_utf8_lossy(delivery.payload()).into_owned());
        delivery.ack();
    }
    Ok(taken)
}

async fn send(kafka: &Kafka, queue: &Topic, numbers: std::ops::Range<u32>) -> Test {
    let mut sender = kafka.sender(SenderOptions::new().queue(queue.clone())).await?;
    for number in numbers {
        sender.feed(Message::to_queue(queue.clone(), number.to_string())).await?;
    }
    sender.flush().await?;
    sender.take_returned(posthaste_core::Seq::FIRST).map_or(Ok(()), |returned| Err(returned.error))
}

async fn wait(runtime: &SharedRuntime, time: Duration) {
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + time);
    timer.await;
}

// ---- With others

fn plain_consumer(url: &str, group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers(url)).set("group.id", group);
    config.set("session.timeout.ms", "6000").set("auto.offset.reset", "earliest");
    config.set("enable.auto.commit", "false").create().expect("a consumer")
}

async fn others_read_what_is_sent(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, &url).await?;
    let queue = topic(&name);
    let mut sender = kafka.sender(SenderOptions::new().queue(queue.clone())).await?;
    let message = Message::builder(queue).to_queue().key("k").header("trace", "7").payload("work");
    sender.send(message.build()?).await?;
    let consumer = plain_consumer(&url, &name);
    consumer.subscribe(&[&name]).expect("a subscription");
    let record = loop {
        if let Some(record) = consumer.poll(Duration::from_secs(20)) {
            break record.expect("a record");
        }
    };
    assert_eq!((record.key(), record.payload()), (Some(&b"k"[..]), Some(&b"work"[..])));
    let headers = record.headers().expect("headers");
    let found = headers.iter().find(|header| header.key == "trace").and_then(|this| this.value);
    assert_eq!(found, Some(&b"7"[..]));
    Ok(())
}

async fn what_others_write_is_read(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, &url).await?;
    let queue = topic(&name);
    kafka.declare(Queue::new(queue.clone())).await?;
    let mut subscriber = kafka.receiver(Subscription::topic(&queue)?).await?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers(&url));
    let producer: BaseProducer = config.create().expect("a producer");
    let strange = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("7") })
        .insert(Header { key: "binary", value: Some(&[0xFF_u8, 0][..]) })
        .insert(Header { key: "ph-expires", value: Some("soon") });
    let records = [
        BaseRecord::to(&name).payload(&b"one"[..]).key("k"),
        BaseRecord::to(&name).payload(&[0xFF, 0xFE][..]).key("k").headers(strange),
        BaseRecord::to(&name).key("k"),
    ];
    for record in records {
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(Duration::from_secs(10)).expect("confirmed");
    let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
    for receiver in [&mut consumer, &mut subscriber] {
        let one = receiver.next_delivery().await?;
        assert_eq!((one.message().key(), one.payload().as_ref()), (Some("k"), &b"one"[..]));
        one.ack();
        // A header that cannot be read takes nothing from the payload.
        assert_eq!(take(receiver, 2).await?, ["\u{FFFD}\u{FFFD}", ""]);
    }
    Ok(())
}

// ---- Queues

async fn a_receipt_says_written(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, &url).await?;
    let queue = topic(&name);
    let mut sender = kafka.sender(SenderOptions::new().queue(queue.clone())).await?;
    let receipt = sender.send(Message::to_queue(queue.clone(), "work")).await?;
    assert_eq!((receipt.level, receipt.nodes, receipt.matched), (Level::Written, 1, 1));
    let mut strict = kafka.sender(SenderOptions::new().confirm(Level::Stored)).await?;
    let failed = strict.send(Message::to_queue(queue, "work")).await.expect_err("not stored");
    assert_eq!(failed.kind(), ErrorKind::Unconfirmed);
    Ok(())
}

async fn a_queue_stands_where_it_was_left(
    runtime: SharedRuntime,
    url: String,
    name: String,
) -> Test {
    let kafka = Kafka::connect(runtime.clone(), &url).await?;
    let queue = topic(&name);
    send(&kafka, &queue, 0..6).await?;
    let mut first = kafka.receiver(Subscription::queue(&queue)?).await?;
    assert_eq!(take(&mut first, 4).await?, ["0", "1", "2", "3"]);
    first.settled().await?;
    first.close().await?;
    drop((first, kafka));
    wait(&runtime, Duration::from_secs(1)).await;
    let again = Kafka::connect(runtime, &url).await?;
    let mut second = again.receiver(Subscription::queue(&queue)?).await?;
    assert_eq!(take(&mut second, 2).await?, ["4", "5"]);
    Ok(())
}

/// Handlers finish out of order, and the consumer dies with one of them unfinished.
async fn a_gap_comes_again(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime.clone(), &url).await?;
    let queue = topic(&name);
    send(&kafka, &queue, 0..4).await?;
    let mut first = kafka.receiver(Subscription::queue(&queue)?).await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(first.next_delivery().await?);
    }
    let unfinished = held.remove(1);
    held.into_iter().rev().for_each(posthaste_core::Delivery::ack);
    first.settled().await?;
    let stands = plain_consumer(&url, &name);
    let mut of = rdkafka::TopicPartitionList::new();
    of.add_partition(&name, 0);
    let stands = stands.committed_offsets(of, Duration::from_secs(5)).expect("offsets");
    assert_eq!(stands.elements()[0].offset(), rdkafka::Offset::Offset(1), "before the gap");
    drop(first);
    drop(unfinished);
    wait(&runtime, Duration::from_secs(1)).await;
    let mut second = kafka.receiver(Subscription::queue(&queue)?).await?;
    assert_eq!(take(&mut second, 3).await?, ["1", "2", "3"], "from the gap on");
    Ok(())
}

/// A second consumer joins and leaves again while messages come.
async fn consumers_come_and_go(runtime: SharedRuntime, url: String, name: String) -> Test {
    const MESSAGES: u32 = 3_000;
    let url = format!("{url}&partitions=4");
    let kafka = Kafka::connect(runtime.clone(), &url).await?;
    let other = Kafka::connect(runtime.clone(), &url).await?;
    let queue = topic(&name);
    kafka.declare(Queue::new(queue.clone())).await?;
    let sending = smol::spawn({
        let (kafka, queue, runtime) = (kafka.clone(), queue.clone(), runtime.clone());
        async move {
            let mut sender = kafka.sender(SenderOptions::new()).await?;
            for number in 0..MESSAGES {
                let message = Message::builder(queue.clone()).to_queue().key(number.to_string());
                sender.feed(message.payload(number.to_string()).build()?).await?;
                if number % 100 == 0 {
                    wait(&runtime, Duration::from_millis(300)).await;
                }
            }
            assert_eq!(sender.flush().await?.returned, 0);
            Ok::<_, Error>(())
        }
    });
    let mut seen = BTreeSet::new();
    let mut stays = kafka.receiver(Subscription::queue(&queue)?.prefetch(20)).await?;
    let mut both = true;
    let mut guest = Some(other.receiver(Subscription::queue(&queue)?.prefetch(20)).await?);
    let mut taken = 0;
    while seen.len() < MESSAGES as usize {
        let mut idle = true;
        for receiver in [Some(&mut stays), guest.as_mut()].into_iter().flatten() {
            while let Some(delivery) = receiver.try_recv()? {
                idle = false;
                seen.insert(String::from_utf8_lossy(delivery.payload()).into_owned());
                delivery.ack();
                taken += 1;
            }
        }
        if both && seen.len() > MESSAGES as usize / 2 {
            (both, guest) = (false, None);
        }
        if idle {
            wait(&runtime, Duration::from_millis(2)).await;
        }
    }
    sending.await?;
    assert!(taken < MESSAGES + MESSAGES / 10, "{taken} deliveries of {MESSAGES} messages");
    Ok(())
}

async fn order_is_kept_per_key(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, format!("{url}&partitions=3")).await?;
    let queue = topic(&name);
    let mut sender = kafka.sender(SenderOptions::new().queue(queue.clone())).await?;
    for number in 0..90 {
        let message = Message::builder(queue.clone()).to_queue().key(format!("key {}", number % 7));
        sender.feed(message.payload(number.to_string()).build()?).await?;
    }
    sender.flush().await?;
    let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
    let mut last = std::collections::BTreeMap::<String, i32>::new();
    for _ in 0..90 {
        let delivery = consumer.next_delivery().await?;
        let number: i32 = String::from_utf8_lossy(delivery.payload()).parse().expect("a number");
        let key = delivery.message().key().expect("a key").to_owned();
        assert!(last.insert(key, number).is_none_or(|before| before < number));
        delivery.ack();
    }
    consumer.settled().await
}

async fn rejected_is_a_dead_letter(runtime: SharedRuntime, url: String, name: String) -> Test {
    let dead = topic(&format!("{name}.dead"));
    let kafka = Kafka::connect(runtime, format!("{url}&dead_letter={dead}")).await?;
    let queue = topic(&name);
    send(&kafka, &queue, 0..2).await?;
    let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
    consumer.next_delivery().await?.reject("no such customer");
    assert_eq!(take(&mut consumer, 1).await?, ["1"]);
    consumer.settled().await?;
    let mut letters = kafka.receiver(Subscription::queue(&dead)?).await?;
    let letter = letters.next_delivery().await?;
    let death = letter.message().deaths().next().expect("a history");
    assert_eq!((death.queue, death.attempts), (queue, 1));
    assert_eq!(death.reasons, ["no such customer"]);
    letter.ack();
    letters.settled().await
}

async fn a_retry_is_told_and_not_lost(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, &url).await?;
    let queue = topic(&name);
    send(&kafka, &queue, 0..2).await?;
    let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
    consumer.next_delivery().await?.retry(Duration::ZERO, "not now");
    let told = consumer.settled().await.expect_err("no requeue");
    assert_eq!(told.kind(), ErrorKind::Unsupported);
    assert!(told.to_string().contains("Kafka"), "{told}");
    let mut left = Vec::new();
    for _ in 0..2 {
        let delivery = consumer.next_delivery().await?;
        left.push((String::from_utf8_lossy(delivery.payload()).into_owned(), delivery.attempt()));
        delivery.ack();
    }
    left.sort();
    assert_eq!(left, [("0".into(), 2), ("1".into(), 1)]);
    consumer.settled().await
}

async fn a_queue_is_deleted(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, &url).await?;
    let queue = topic(&name);
    send(&kafka, &queue, 0..2).await?;
    let mut open = kafka.sender(SenderOptions::new()).await?;
    open.send(Message::to_queue(queue.clone(), "2")).await?;
    kafka.delete(&queue).await?;
    let failed = open.send(Message::to_queue(queue.clone(), "3")).await.expect_err("gone");
    assert_eq!(failed.kind(), ErrorKind::NotFound, "{failed}");
    assert_eq!(kafka.delete(&queue).await.expect_err("gone").kind(), ErrorKind::NotFound);
    let mut sender = kafka.sender(SenderOptions::new()).await?;
    let failed = sender.send(Message::to_queue(queue.clone(), "work")).await.expect_err("gone");
    assert_eq!(failed.kind(), ErrorKind::NotFound, "{failed}");
    send(&kafka, &queue, 7..8).await?;
    let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
    assert_eq!(take(&mut consumer, 1).await?, ["7"]);
    Ok(())
}

// ---- Topics

async fn a_topic_is_read_from_a_position(
    runtime: SharedRuntime,
    url: String,
    name: String,
) -> Test {
    let kafka = Kafka::connect(runtime.clone(), &url).await?;
    let news = topic(&name);
    let mut sender = kafka.sender(SenderOptions::new()).await?;
    for number in 0..5 {
        sender.send(Message::new(news.clone(), number.to_string())).await?;
    }
    wait(&runtime, Duration::from_millis(20)).await;
    let now = runtime.unix_time();
    wait(&runtime, Duration::from_millis(20)).await;
    for number in 5..8 {
        sender.send(Message::new(news.clone(), number.to_string())).await?;
    }
    let replay = async |from, count| {
        take(&mut kafka.replay(Subscription::topic(&news)?, from).await?, count).await
    };
    assert_eq!(replay(Position::Beginning, 8).await?.last().map(String::as_str), Some("7"));
    assert_eq!(replay(Position::Offset(6), 2).await?, ["6", "7"]);
    assert_eq!(replay(Position::Time(now), 3).await?, ["5", "6", "7"]);
    let mut live = kafka.replay(Subscription::topic(&news)?, Position::Offset(7)).await?;
    assert_eq!(take(&mut live, 1).await?, ["7"]);
    sender.send(Message::new(news.clone(), "8")).await?;
    assert_eq!(take(&mut live, 1).await?, ["8"], "what comes after what there was");
    let gone = kafka.replay(Subscription::queue(topic(&format!("{name}.no")))?, Position::End);
    assert_eq!(gone.await.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    Ok(())
}

async fn new_topics_are_found(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, &url).await?;
    let mut all = kafka.receiver(Subscription::topic(format!("{name}.*.new").as_str())?).await?;
    let mut sender = kafka.sender(SenderOptions::new()).await?;
    for place in ["eu", "us", "asia"] {
        let topic = topic(&format!("{name}.{place}.new"));
        for number in 0..3 {
            sender.send(Message::new(topic.clone(), format!("{place} {number}"))).await?;
        }
    }
    let mut seen = take(&mut all, 9).await?;
    seen.sort();
    assert_eq!(seen.len(), 9);
    assert_eq!((seen[0].as_str(), seen[8].as_str()), ("asia 0", "us 2"));
    Ok(())
}

async fn queue_and_topic_of_one_name(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime, &url).await?;
    let both = topic(&name);
    kafka.declare(Queue::new(both.clone())).await?;
    let mut subscriber = kafka.receiver(Subscription::topic(&both)?).await?;
    let mut sender = kafka.sender(SenderOptions::new()).await?;
    sender.send(Message::new(both.clone(), "to all")).await?;
    sender.send(Message::to_queue(both.clone(), "to one")).await?;
    sender.send(Message::new(both.clone(), "to all again")).await?;
    let mut consumer = kafka.receiver(Subscription::queue(&both)?).await?;
    assert_eq!(take(&mut subscriber, 2).await?, ["to all", "to all again"]);
    assert_eq!(take(&mut consumer, 1).await?, ["to one"]);
    assert!(consumer.try_recv()?.is_none());
    Ok(())
}

async fn requests_are_answered(runtime: SharedRuntime, url: String, name: String) -> Test {
    let server = Bus::with_runtime(Kafka::connect(runtime.clone(), &url).await?, runtime.clone());
    let client = Bus::with_runtime(Kafka::connect(runtime.clone(), &url).await?, runtime);
    let mut requests = server.subscribe(name.as_str()).await?;
    let serving = smol::spawn(async move {
        for _ in 0..20 {
            let request = requests.next_delivery().await?;
            let twice = format!("{0}{0}", String::from_utf8_lossy(request.payload()));
            let reply = request.message().reply(twice).expect("a request");
            request.ack();
            server.send_message(reply).await?;
        }
        Ok::<_, Error>(())
    });
    for number in 0..20 {
        let reply = client.request(name.as_str(), number.to_string()).await?;
        assert_eq!(reply.payload(), format!("{number}{number}").as_bytes());
    }
    serving.await
}

// ---- Errors

async fn what_cannot_be_is_told(runtime: SharedRuntime, url: String, name: String) -> Test {
    let kafka = Kafka::connect(runtime.clone(), &url).await?;
    let mut sender = kafka.sender(SenderOptions::new()).await?;
    let nowhere = topic(&format!("{name}.nowhere"));
    let failed = sender.send(Message::to_queue(nowhere, "work")).await.expect_err("no queue");
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    let queue = Queue::new(topic(&name)).capacity(10);
    assert_eq!(kafka.declare(queue).await.expect_err("no bound").kind(), ErrorKind::Unsupported);
    let events = kafka.receiver(Subscription::topic("_ph.event.>")?).await;
    assert_eq!(events.err().map(|error| error.kind()), Some(ErrorKind::Unsupported));
    let named = kafka.receiver(Subscription::queue("größe")?).await;
    assert_eq!(named.err().map(|error| error.kind()), Some(ErrorKind::InvalidTopic));
    // This server knows no users.
    let stranger = KafkaOptions::new(servers(&url)).user("me", "secret");
    let stranger = stranger.connect_timeout(Duration::from_secs(2));
    let refused = Kafka::with_options(runtime.clone(), stranger).await.expect_err("a stranger");
    let kinds = [ErrorKind::Refused, ErrorKind::Disconnected, ErrorKind::TimedOut];
    assert!(
        kinds.contains(&refused.kind()) && !refused.to_string().contains("secret"),
        "{refused}"
    );
    let strict = KafkaOptions::new(servers(&url)).create(posthaste_kafka::Create::Nobody);
    let strict = Kafka::with_options(runtime, strict).await?;
    let missing = strict.receiver(Subscription::topic(format!("{name}.no").as_str())?).await;
    assert_eq!(missing.err().map(|error| error.kind()), Some(ErrorKind::NotFound));
    Ok(())
}

/// Every connection, of who sends and of who reads, is cut at points that nobody chose; what was
/// confirmed is there, in its order.
fn connections_may_be_cut_anywhere(mut server: Server) {
    let proxy = Proxy::to(&server.address()).expect("a proxy");
    server.restart_behind(&proxy.address()).expect("the server");
    let through = server.url_through(&proxy.address());
    let url = format!("{through}?session_timeout=6s&discovery=250ms&request_timeout=3s");
    let runtime: SharedRuntime = Smol::global().into();
    smol::block_on(async {
        let (kafka, queue) = (Kafka::connect(runtime.clone(), &url).await?, topic("jobs"));
        let mut sender = kafka.sender(SenderOptions::new().queue(queue.clone())).await?;
        let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
        let sending = async {
            let mut confirmed = BTreeSet::new();
            for number in 0..300_u32 {
                if number % 20 == 7 {
                    proxy.cut_after(u64::from(number * 37 % 1_009));
                }
                match sender.send(Message::to_queue(queue.clone(), number.to_string())).await {
                    Ok(_) => drop(confirmed.insert(number)),
                    // It may have arrived all the same.
                    Err(failed) if failed.kind() == ErrorKind::Unknown => {}
                    Err(failed) => return Err(failed.into()),
                }
            }
            sender.send(Message::to_queue(queue.clone(), END.to_string())).await?;
            Ok(confirmed)
        };
        let reading = async {
            let mut seen = Vec::new();
            loop {
                let number: u32 = take(&mut consumer, 1).await?[0].parse().expect("a number");
                if number == END {
                    return Ok::<_, Error>(seen);
                }
                // What was settled and could not be committed in time comes again.
                if !seen.contains(&number) {
                    seen.push(number);
                }
            }
        };
        let (confirmed, seen) = futures::future::try_join(sending, reading).await?;
        assert!(seen.is_sorted(), "out of order: {seen:?}");
        let lost: Vec<_> = confirmed.iter().filter(|number| !seen.contains(number)).collect();
        assert!(lost.is_empty(), "lost of {}: {lost:?}", confirmed.len());
        Ok::<_, Error>(())
    })
    .expect("no error");
}

/// The last number.
const END: u32 = 1_000;

/// The server holds its topics in memory and loses them; the client says so and goes on. (Nobody
/// reads meanwhile: what this server answers to a fetch from a topic that it lost brings librdkafka
/// 2.12 down, and Kafka neither loses topics so nor answers so.)
fn a_server_that_forgets_all(mut server: Server) {
    let url = format!(
        "{}?session_timeout=6s&discovery=250ms&delivery_timeout=2s&request_timeout=2s",
        server.url()
    );
    let runtime: SharedRuntime = Smol::global().into();
    smol::block_on(async {
        let kafka = Kafka::connect(runtime.clone(), &url).await?;
        let (queue, news) = (topic("jobs"), topic("news"));
        send(&kafka, &queue, 0..3).await?;
        let mut sender = kafka.sender(SenderOptions::new()).await?;
        sender.send(Message::new(news.clone(), "before")).await?;
        server.kill();
        let began = runtime.now();
        let failed = sender.send(Message::to_queue(queue.clone(), "3")).await.expect_err("nobody");
        let kinds = [ErrorKind::Unknown, ErrorKind::Disconnected, ErrorKind::TimedOut];
        assert!(kinds.contains(&failed.kind()), "{failed:?}");
        assert!(runtime.now() < began + Duration::from_secs(10), "it took too long");
        server.restart().expect("the server");
        // What was there is gone with the server, and is made anew.
        let sent = loop {
            match send(&kafka, &queue, 10..12).await {
                Ok(()) => break Ok(()),
                Err(_) if runtime.now() < began + Duration::from_secs(40) => {
                    wait(&runtime, Duration::from_millis(100)).await;
                }
                Err(error) => break Err(error),
            }
        };
        sent?;
        let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
        // One that came back as unknown may have arrived all the same.
        while take(&mut consumer, 1).await? != ["11"] {}
        loop {
            match sender.send(Message::new(news.clone(), "after")).await {
                Ok(_) => break,
                Err(failed) if runtime.now() > began + Duration::from_secs(60) => {
                    return Err(failed.into());
                }
                Err(_) => wait(&runtime, Duration::from_millis(100)).await,
            }
        }
        Ok::<_, Error>(())
    })
    .expect("no error");
}

/// The server stands still for longer than a session lasts; nothing is lost, and who waits goes on.
fn a_server_that_pauses(server: &Server) {
    let url = format!("{}?session_timeout=6s&request_timeout=3s", server.url());
    let runtime: SharedRuntime = Smol::global().into();
    smol::block_on(async {
        let kafka = Kafka::connect(runtime.clone(), &url).await?;
        let queue = topic("jobs");
        send(&kafka, &queue, 0..4).await?;
        let mut consumer = kafka.receiver(Subscription::queue(&queue)?).await?;
        assert_eq!(take(&mut consumer, 2).await?, ["0", "1"]);
        consumer.settled().await?;
        let held = consumer.next_delivery().await?;
        server.pause();
        wait(&runtime, Duration::from_secs(8)).await;
        server.resume();
        // Sent while the server may not have noticed yet that it stood still.
        send(&kafka, &queue, 4..8).await?;
        held.ack();
        let mut seen = BTreeSet::from([String::from("2")]);
        while seen.len() < 6 {
            let delivery = consumer.next_delivery().await?;
            seen.insert(String::from_utf8_lossy(delivery.payload()).into_owned());
            delivery.ack();
        }
        let expected = (2..8).map(|number: u32| number.to_string());
        assert_eq!(seen, expected.collect());
        // What was held may have been settled too late, and that is told.
        match consumer.settled().await {
            Err(error) if error.kind() != ErrorKind::Unknown => Err(error),
            _ => Ok(()),
        }
    })
    .expect("no error");
}

fn nobody_answers() {
    let runtime: SharedRuntime = Smol::global().into();
    let began = runtime.now();
    let url = "kafka://127.0.0.1:1?connect_timeout=1s";
    let error = smol::block_on(Kafka::connect(runtime.clone(), url)).expect_err("nobody");
    assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::TimedOut), "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
    assert!(runtime.now() < began + Duration::from_secs(5), "it took too long");
}
