//! What is RabbitMQ's own: levels, conflicts, bounds, priorities, attempts, and programs of another
//! kind on the same queues.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use posthaste_amqp::{Amqp, AmqpOptions, QueueType};
use posthaste_core::runtime::timeout_at;
use posthaste_core::{
    BoxReceiver, Broker, Bus, Delivery, ErrorKind, Level, Message, Overflow, Pattern, Queue,
    ReceiverExt, SenderExt, SenderOptions, SharedRuntime, Subscription, Topic,
};
use posthaste_servers::Proxy;
use posthaste_servers::harness::{self, Trials, space};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;

/// What a test has: a runtime, the server's URL, and names of its own.
struct World {
    runtime: SharedRuntime,
    url: String,
    space: String,
}

impl World {
    fn topic(&self, tail: &str) -> Topic {
        Topic::new(format!("{}.{tail}", self.space)).unwrap()
    }

    /// Host and port.
    fn address(&self) -> &str {
        self.url.split('@').nth(1).and_then(|rest| rest.split('/').next()).unwrap()
    }

    async fn broker(&self) -> Amqp {
        Amqp::connect(self.runtime.clone(), &self.url).await.unwrap()
    }

    async fn quorum(&self) -> Amqp {
        let options = AmqpOptions::new().queue_type(QueueType::Quorum);
        Amqp::connect_with(self.runtime.clone(), &self.url, options).await.unwrap()
    }

    async fn next(&self, receiver: &mut BoxReceiver) -> Delivery {
        let soon = self.runtime.now() + Duration::from_secs(20);
        let got = timeout_at(&*self.runtime, soon, receiver.recv()).await;
        got.expect("nothing came").unwrap().expect("it has ended")
    }

    async fn wait(&self, time: Duration) {
        let deadline = self.runtime.now() + time;
        timeout_at(&*self.runtime, deadline, std::future::pending::<()>()).await;
    }
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.payload()).unwrap()
}

async fn receipts_name_the_level_that_is_reached(world: World) {
    let (broker, quorum) = (world.broker().await, world.quorum().await);
    let (classic, replicated) = (world.topic("classic"), world.topic("quorum"));
    broker.declare(Queue::new(classic.clone())).await.unwrap();
    quorum.declare(Queue::new(replicated.clone())).await.unwrap();
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    let receipt = sender.send(Message::to_queue(classic.clone(), "1")).await.unwrap();
    assert_eq!((receipt.matched, receipt.level, receipt.nodes), (1, Level::Stored, 1));
    // Of a quorum queue that was just made no more is claimed than a crash would leave.
    let receipt = sender.send(Message::to_queue(replicated.clone(), "1")).await.unwrap();
    assert_eq!(receipt.level, Level::Held);
    world.wait(Duration::from_millis(2_100)).await;
    let receipt = sender.send(Message::to_queue(replicated.clone(), "1")).await.unwrap();
    assert_eq!((receipt.level, receipt.nodes), (Level::Stored, 1));
    // To a topic, queues that nobody here knows may have a copy; to nobody it is held by nobody.
    let news = world.topic("news");
    assert_eq!(sender.send(Message::new(news.clone(), "1")).await.unwrap().matched, 0);
    let _subscriber = broker.receiver(Subscription::topic(&news).unwrap()).await.unwrap();
    let receipt = sender.send(Message::new(news.clone(), "1")).await.unwrap();
    assert_eq!((receipt.matched, receipt.level), (1, Level::Held));
    let mut strict = broker.sender(SenderOptions::new().confirm(Level::Stored)).await.unwrap();
    strict.send(Message::to_queue(classic.clone(), "2")).await.unwrap();
    let failed = strict.send(Message::new(news, "2")).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unconfirmed, "{failed}");
    // A queue that does not outlive the server keeps nothing.
    let transient = world.topic("transient");
    let url = world.url.clone();
    let plain = on_tokio(async move {
        Connection::connect(&url, ConnectionProperties::default()).await.unwrap()
    })
    .await;
    declare(&plain, &transient, QueueDeclareOptions::default(), FieldTable::default()).await;
    let receipt = sender.send(Message::to_queue(transient.clone(), "1")).await.unwrap();
    assert_eq!(receipt.level, Level::Held);
    for queue in [classic, replicated, transient] {
        broker.delete(&queue).await.unwrap();
    }
}

async fn declaring_again_keeps_or_conflicts(world: World) {
    let broker = world.broker().await;
    let name = world.topic("jobs");
    let queue = || Queue::new(name.clone());
    let minute = Duration::from_secs(60);
    broker.declare(queue().ttl(minute).capacity(5).overflow(Overflow::Reject)).await.unwrap();
    for again in [queue(), queue().ttl(minute), queue().capacity(5).overflow(Overflow::Reject)] {
        broker.declare(again.clone()).await.unwrap_or_else(|error| panic!("{again:?}: {error}"));
    }
    let other = world.broker().await;
    let settings = other.queue(&name).await.unwrap().settings;
    assert_eq!((settings.ttl, settings.capacity_messages), (minute, 5));
    assert_eq!((settings.overflow, settings.durable), (Overflow::Reject, true));
    for (contradiction, field) in [
        (queue().ttl(minute * 2), "ttl"),
        (queue().capacity(6).overflow(Overflow::Reject), "capacity_messages"),
        (queue().capacity(5).overflow(Overflow::DropOldest), "overflow"),
    ] {
        let error = other.declare(contradiction).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.text().contains(field), "{error}");
    }
    broker.delete(&name).await.unwrap();
}

async fn a_full_queue_rejects_or_drops_its_oldest(world: World) {
    let broker = world.broker().await;
    let (strict, lossy) = (world.topic("strict"), world.topic("lossy"));
    broker
        .declare(Queue::new(strict.clone()).capacity(2).overflow(Overflow::Reject))
        .await
        .unwrap();
    broker
        .declare(Queue::new(lossy.clone()).capacity(2).overflow(Overflow::DropOldest))
        .await
        .unwrap();
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    let mut refused = 0;
    for number in 1..=5 {
        sender.send(Message::to_queue(lossy.clone(), number.to_string())).await.unwrap();
        if let Err(failed) = sender.send(Message::to_queue(strict.clone(), "x")).await {
            assert_eq!(failed.kind(), ErrorKind::Full, "{failed}");
            refused += 1;
        }
    }
    assert_eq!(refused, 3);
    let mut consumer = broker.receiver(Subscription::queue(&lossy).unwrap()).await.unwrap();
    for number in ["4", "5"] {
        let delivery = world.next(&mut consumer).await;
        assert_eq!(text(&delivery), number);
        delivery.ack();
    }
    broker.delete(&strict).await.unwrap();
    broker.delete(&lossy).await.unwrap();
}

/// A consumer that is lost with what it had: each time is an attempt, and after the last the message
/// dies with its history, wherever its settings were declared.
async fn a_lost_consumer_is_an_attempt(world: World, quorum: bool) {
    let (queue, dead) = (world.topic("jobs"), world.topic("dead"));
    let admin = if quorum { world.quorum().await } else { world.broker().await };
    admin
        .declare(Queue::new(queue.clone()).max_attempts(4).dead_letter(dead.clone()))
        .await
        .unwrap();
    let mut sender = admin.sender(SenderOptions::new()).await.unwrap();
    sender.send(Message::to_queue(queue.clone(), "work")).await.unwrap();
    for attempt in [1, 2, 4] {
        // Another client, which knows nothing of the declaration and ends without a word.
        let proxy = Proxy::to(world.address()).unwrap();
        let url = world.url.replace(world.address(), &proxy.address());
        let lost = Amqp::connect(world.runtime.clone(), &url).await.unwrap();
        let mut consumer = lost.receiver(Subscription::queue(&queue).unwrap()).await.unwrap();
        let delivery = world.next(&mut consumer).await;
        assert_eq!(delivery.attempt(), attempt);
        if attempt == 2 {
            delivery.retry(Duration::ZERO, "not yet");
            consumer.settled().await.unwrap();
            let again = world.next(&mut consumer).await;
            assert_eq!(again.attempt(), 3);
            lose(again, consumer, &proxy, &admin, &queue, &world).await;
        } else {
            lose(delivery, consumer, &proxy, &admin, &queue, &world).await;
        }
    }
    let _consumer = admin.receiver(Subscription::queue(&queue).unwrap()).await.unwrap();
    let mut letters = admin.receiver(Subscription::queue(&dead).unwrap()).await.unwrap();
    let letter = world.next(&mut letters).await;
    let deaths: Vec<_> = letter.message().deaths().collect();
    assert_eq!(deaths.len(), 1);
    assert_eq!((&deaths[0].queue, deaths[0].attempts), (&queue, 4));
    assert!(deaths[0].reasons.iter().any(|why| why == "not yet"), "{:?}", deaths[0].reasons);
    letter.ack();
    letters.settled().await.unwrap();
    admin.delete(&queue).await.unwrap();
    admin.delete(&dead).await.unwrap();
}

/// Ends a client while it holds a delivery: what is held is never settled.
async fn lose(
    held: Delivery,
    consumer: BoxReceiver,
    proxy: &Proxy,
    admin: &Amqp,
    queue: &Topic,
    world: &World,
) {
    std::mem::forget(held);
    proxy.refuse(true);
    proxy.cut();
    drop(consumer);
    while admin.queue(queue).await.unwrap().messages == 0 {
        world.wait(Duration::from_millis(10)).await;
    }
}

async fn lost_consumers_count_in_classic_queues(world: World) {
    a_lost_consumer_is_an_attempt(world, false).await;
}

async fn lost_consumers_count_in_quorum_queues(world: World) {
    a_lost_consumer_is_an_attempt(world, true).await;
}

async fn what_a_queue_cannot_do_is_said(world: World) {
    let (broker, quorum) = (world.broker().await, world.quorum().await);
    let name = world.topic("jobs");
    quorum.declare(Queue::new(name.clone())).await.unwrap();
    // The classic client has priorities; this queue of another kind has none.
    let urgent = Message::builder(name.clone()).to_queue().priority(3).build().unwrap();
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    let failed = sender.send(urgent.clone()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unsupported, "{failed}");
    let mut sender = quorum.sender(SenderOptions::new()).await.unwrap();
    let failed = sender.send(urgent).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unsupported, "{failed}");
    for lacking in [
        Queue::new(world.topic("other")).capacity(5),
        Queue::new(world.topic("other")).keyed(),
        Queue::new(world.topic("other")).dedup_window(Duration::from_secs(1)),
    ] {
        let error = broker.declare(lacking).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let missing = broker.queue(&world.topic("other")).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "nothing was declared: {missing}");
    broker.delete(&name).await.unwrap();
}

async fn dead_letters_are_replayed(world: World) {
    let broker = world.broker().await;
    let (queue, dead) = (world.topic("jobs"), world.topic("dead"));
    broker.declare(Queue::new(queue.clone()).dead_letter(dead.clone())).await.unwrap();
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    let mut consumer = broker.receiver(Subscription::queue(&queue).unwrap()).await.unwrap();
    for number in 1..=3 {
        sender.send(Message::to_queue(queue.clone(), number.to_string())).await.unwrap();
        world.next(&mut consumer).await.reject("no good");
    }
    sender.send(Message::to_queue(dead.clone(), "no letter")).await.unwrap();
    consumer.settled().await.unwrap();
    drop(consumer);
    let replayed = broker.replay(&dead, 10).await.unwrap();
    assert_eq!((replayed.moved, replayed.kept), (3, 1), "{:?}", replayed.why);
    let mut consumer = broker.receiver(Subscription::queue(&queue).unwrap()).await.unwrap();
    for number in ["1", "2", "3"] {
        let delivery = world.next(&mut consumer).await;
        assert_eq!((text(&delivery), delivery.attempt()), (number, 1));
        assert_eq!(delivery.message().deaths().count(), 1, "its history stays");
        delivery.ack();
    }
    consumer.settled().await.unwrap();
    assert_eq!(broker.queue(&dead).await.unwrap().messages, 1);
    broker.delete(&queue).await.unwrap();
    broker.delete(&dead).await.unwrap();
}

// ---- Programs of another kind

/// lapin's own default runtime is tokio's; a plain peer has one of its own.
async fn on_tokio<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    static PLAIN: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    let plain = PLAIN.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    });
    plain.spawn(future).await.unwrap()
}

fn short(topic: &Topic) -> ShortString {
    topic.as_str().into()
}

async fn declare(
    plain: &Connection,
    queue: &Topic,
    options: QueueDeclareOptions,
    with: FieldTable,
) {
    let channel = plain.create_channel().await.unwrap();
    channel.queue_declare(short(queue), options, with).await.unwrap();
}

async fn a_plain_peer_shares_queues_and_topics(world: World) {
    let broker = world.broker().await;
    let bus = Bus::with_runtime(broker.clone(), world.runtime.clone());
    let (queue, bound) = (world.topic("jobs"), world.topic("bound"));
    let url = world.url.clone();
    let plain = on_tokio(async move {
        Connection::connect(&url, ConnectionProperties::default()).await.unwrap()
    })
    .await;
    // Its queue, declared as it likes, with nothing of ours.
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    declare(&plain, &queue, durable, FieldTable::default()).await;
    let channel = plain.create_channel().await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("count".into(), AMQPValue::LongInt(3));
    let properties = BasicProperties::default().with_headers(headers).with_message_id("m1".into());
    let options = BasicPublishOptions::default();
    let sent = channel.basic_publish("".into(), short(&queue), options, b"from lapin", properties);
    sent.await.unwrap();
    let mut consumer = broker.receiver(Subscription::queue(&queue).unwrap()).await.unwrap();
    let delivery = world.next(&mut consumer).await;
    assert_eq!((text(&delivery), delivery.attempt()), ("from lapin", 1));
    assert_eq!(
        (delivery.message().header("count"), delivery.message().id()),
        (Some("3"), Some("m1"))
    );
    delivery.ack();
    consumer.close().await.unwrap();
    drop(consumer);
    // What we send is a message like any other to it.
    let message =
        Message::builder(queue.clone()).to_queue().header("trace", "7").payload("from us");
    let receipt = bus.send_message(message.build().unwrap()).await.unwrap();
    assert_eq!((receipt.matched, receipt.level), (1, Level::Stored));
    let mut consuming = channel
        .basic_consume(
            short(&queue),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let got = consuming.next().await.unwrap().unwrap();
    assert_eq!((got.data.as_slice(), got.routing_key.as_str()), (&b"from us"[..], queue.as_str()));
    let trace = got.properties.headers().as_ref().and_then(|headers| headers.inner().get("trace"));
    assert_eq!(trace, Some(&AMQPValue::LongString("7".into())));
    channel.basic_ack(got.delivery_tag, BasicAckOptions::default()).await.unwrap();
    // It publishes to our exchange, and our subscribers and bound queues have it.
    let mut subscriber =
        bus.subscribe(Pattern::new(format!("{}.>", world.space)).unwrap()).await.unwrap();
    let binding = Pattern::new(format!("{}.news.*", world.space)).unwrap();
    bus.declare(Queue::new(bound.clone()).bind(binding)).await.unwrap();
    let news = world.topic("news.today");
    let properties = BasicProperties::default();
    let sent =
        channel.basic_publish("posthaste".into(), short(&news), options, b"news", properties);
    sent.await.unwrap();
    let delivery = world.next(&mut subscriber).await;
    assert_eq!((text(&delivery), delivery.message().topic()), ("news", news.clone()));
    let mut consumer = bus.consume(&bound).await.unwrap();
    let delivery = world.next(&mut consumer).await;
    assert_eq!((text(&delivery), delivery.message().topic()), ("news", news));
    delivery.ack();
    consumer.settled().await.unwrap();
    bus.delete(&queue).await.unwrap();
    bus.delete(&bound).await.unwrap();
}

async fn a_plain_peer_asks_and_answers(world: World) {
    let bus = Bus::with_runtime(world.broker().await, world.runtime.clone());
    let (service, desk) = (world.topic("service"), world.topic("desk"));
    let url = world.url.clone();
    let plain = on_tokio(async move {
        Connection::connect(&url, ConnectionProperties::default()).await.unwrap()
    })
    .await;
    let channel = plain.create_channel().await.unwrap();
    // It asks, by direct reply-to and with a correlation id of its own making.
    let mut responder = bus.serve(&service).open().await.unwrap();
    let no_ack = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let direct = "amq.rabbitmq.reply-to";
    let mut answers = channel
        .basic_consume(direct.into(), "".into(), no_ack, FieldTable::default())
        .await
        .unwrap();
    let properties = BasicProperties::default()
        .with_reply_to(direct.into())
        .with_correlation_id("mine #1".into());
    let options = BasicPublishOptions::default();
    let asked =
        channel.basic_publish("posthaste".into(), short(&service), options, b"ping", properties);
    asked.await.unwrap();
    let request = responder.recv().await.unwrap().unwrap();
    assert_eq!(request.payload(), "ping");
    request.reply("pong").await.unwrap();
    let answer = answers.next().await.unwrap().unwrap();
    assert_eq!(answer.data, b"pong");
    let correlation = answer.properties.correlation_id().as_ref().map(ShortString::as_str);
    assert_eq!(correlation, Some("mine #1"));
    // It answers, by nothing more than the two properties that everybody knows.
    let transient = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    declare(&plain, &desk, transient, FieldTable::default()).await;
    let mut requests = channel
        .basic_consume(short(&desk), "".into(), no_ack, FieldTable::default())
        .await
        .unwrap();
    let answering = async {
        let request = requests.next().await.unwrap().unwrap();
        let reply_to = request.properties.reply_to().clone().unwrap();
        let correlation = request.properties.correlation_id().clone().unwrap();
        let properties = BasicProperties::default().with_correlation_id(correlation);
        channel
            .basic_publish("".into(), reply_to, options, &request.data, properties)
            .await
            .unwrap();
    };
    // Nobody but the server knows who consumes an exclusive queue: the request has to wait in it.
    let asking = async { bus.request(&desk, "echo").to_queue().waits().await.unwrap() };
    let (reply, ()) = futures::join!(asking, answering);
    assert_eq!(reply.payload(), "echo");
}

/// However its requests and its leaving meet: what is in its queue is answered before the queue goes,
/// and what comes later finds nobody.
async fn a_responder_that_leaves_tells_everyone(world: World) {
    let asking = Bus::with_runtime(world.broker().await, world.runtime.clone());
    let serving = Bus::with_runtime(world.broker().await, world.runtime.clone());
    for round in 0..40 {
        let service = world.topic(&format!("service.{round}"));
        let mut responder = serving.serve(&service).open().await.unwrap();
        let asked = futures::future::join_all((0..24_u32).map(|number| {
            let request = asking.request(&service, "please").within(Duration::from_secs(20));
            let turns = number * (round % 8) * 4;
            async move {
                for _ in 0..turns {
                    turn().await;
                }
                request.await.map(|reply| reply.payload().clone()).unwrap_err()
            }
        }));
        let leaving = async {
            let held = responder.recv().await.unwrap().unwrap();
            drop(responder);
            drop(held);
        };
        let (asked, ()) = futures::join!(asked, leaving);
        for error in asked {
            let told = matches!(error.kind(), ErrorKind::NoResponders | ErrorKind::Failed);
            assert!(told, "round {round}: {error}");
        }
    }
}

/// A quorum queue hears of many single acknowledgements in its own time, also from one who leaves.
async fn what_a_quorum_consumer_settled_never_returns(world: World) {
    const EACH: usize = 150;
    let broker = world.quorum().await;
    let name = world.topic("jobs");
    broker.declare(Queue::new(name.clone())).await.unwrap();
    let mut sender = broker.sender(SenderOptions::new()).await.unwrap();
    for round in 0..12 {
        for number in 0..EACH {
            sender
                .feed(Message::to_queue(name.clone(), format!("{round}/{number}")))
                .await
                .unwrap();
        }
        sender.flush().await.unwrap();
        // One has them all handed to it, sees none and leaves.
        drop(broker.receiver(Subscription::queue(name.clone()).unwrap()).await.unwrap());
        let mut found = BTreeSet::new();
        let all = Subscription::queue(name.clone()).unwrap().prefetch(2 * EACH);
        let mut receiver = broker.receiver(all).await.unwrap();
        let mut held = Vec::new();
        while found.len() < EACH {
            let delivery = world.next(&mut receiver).await;
            assert!(found.insert(text(&delivery).to_owned()), "{} came again", text(&delivery));
            held.push(delivery);
        }
        for delivery in held {
            delivery.ack();
            turn().await;
        }
        receiver.settled().await.unwrap();
        drop(receiver);
    }
}

/// Lets others go on once.
async fn turn() {
    let mut is_later = false;
    std::future::poll_fn(|cx| match std::mem::replace(&mut is_later, true) {
        true => std::task::Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        }
    })
    .await;
}

fn main() -> ExitCode {
    type Case = fn(World) -> Pin<Box<dyn Future<Output = ()>>>;
    let cases: [(&str, Case); 11] = [
        ("receipts_name_the_level_that_is_reached", |world| {
            Box::pin(receipts_name_the_level_that_is_reached(world))
        }),
        ("declaring_again_keeps_or_conflicts", |world| {
            Box::pin(declaring_again_keeps_or_conflicts(world))
        }),
        ("a_full_queue_rejects_or_drops_its_oldest", |world| {
            Box::pin(a_full_queue_rejects_or_drops_its_oldest(world))
        }),
        ("lost_consumers_count_in_classic_queues", |world| {
            Box::pin(lost_consumers_count_in_classic_queues(world))
        }),
        ("lost_consumers_count_in_quorum_queues", |world| {
            Box::pin(lost_consumers_count_in_quorum_queues(world))
        }),
        ("what_a_queue_cannot_do_is_said", |world| Box::pin(what_a_queue_cannot_do_is_said(world))),
        ("dead_letters_are_replayed", |world| Box::pin(dead_letters_are_replayed(world))),
        ("a_plain_peer_shares_queues_and_topics", |world| {
            Box::pin(a_plain_peer_shares_queues_and_topics(world))
        }),
        ("a_plain_peer_asks_and_answers", |world| Box::pin(a_plain_peer_asks_and_answers(world))),
        ("a_responder_that_leaves_tells_everyone", |world| {
            Box::pin(a_responder_that_leaves_tells_everyone(world))
        }),
        ("what_a_quorum_consumer_settled_never_returns", |world| {
            Box::pin(what_a_quorum_consumer_settled_never_returns(world))
        }),
    ];
    let mut trials = Trials::default();
    for (name, case) in cases {
        trials.needing("rabbitmq", format!("{name}_on_smol"), move |server| {
            let (runtime, url) = (Smol::global().into(), server.url().to_owned());
            smol::block_on(case(World { runtime, url, space: space() }));
        });
        trials.needing("rabbitmq", format!("{name}_on_tokio"), move |server| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (tokio, url) = (runtime.unwrap(), server.url().to_owned());
            let runtime = Tokio::new(tokio.handle().clone()).into();
            tokio.block_on(case(World { runtime, url, space: space() }));
        });
    }
    harness::main(trials)
}
