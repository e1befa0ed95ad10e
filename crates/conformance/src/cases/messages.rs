//! Cases of what a message is: law D2, and properties that arrive as they were sent.

use bytes::Bytes;
use posthaste_core::limits::{HEADERS_MAX, PAYLOAD_BYTES_MAX, TOPIC_BYTES_MAX};
use posthaste_core::{
    Broker, Capability, ErrorKind, Kind, Message, Queue, SenderExt, Subscription, Topic,
};

use crate::Context;
use crate::context::{next, numbered, numbered_to, send_numbers, take_numbers};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::random::Xorshift;

pub(crate) async fn d2_any_bytes_pass_as_a_payload(cx: Context) -> Outcome {
    let topic = cx.topic("blobs")?;
    let mut subscriber = cx.subscriber("blobs").await?;
    let mut sender = cx.sender().await?;
    let every: Vec<u8> = (0..=255).collect();
    let mut random = Xorshift::new(7);
    let mut payloads = vec![Bytes::new(), Bytes::from_static(b"\xFF\xFE\x00"), every.into()];
    for size in [1, 2, 63, 64, 65, 1_000, 4_096, 65_535, 65_536, 65_537, 300_000] {
        let payload: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
        payloads.push(payload.into());
    }
    for payload in payloads {
        sender.send(Message::new(topic.clone(), payload.clone())).await?;
        let delivery = next(&mut subscriber).await?;
        let same = delivery.payload() == &payload;
        check!(same, "a payload of {} bytes came as {}", payload.len(), delivery.payload().len());
    }
    Ok(())
}

pub(crate) async fn d2_the_largest_payload_passes(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut payload = vec![7; PAYLOAD_BYTES_MAX];
    payload[PAYLOAD_BYTES_MAX - 1] = 9;
    let payload = Bytes::from(payload);
    let mut sender = cx.sender().await?;
    sender.send(Message::to_queue(queue.clone(), payload.clone())).await?;
    let mut consumer = cx.consumer(&queue).await?;
    let delivery = next(&mut consumer).await?;
    check!(delivery.payload() == &payload, "the largest payload came as another one");
    delivery.ack();
    Ok(())
}

pub(crate) async fn d2_one_byte_more_is_too_large(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let message = Message::to_queue(queue.clone(), vec![7; PAYLOAD_BYTES_MAX + 1]);
    let mut sender = cx.sender().await?;
    let Err(failed) = sender.send(message.clone()).await else {
        return Err(Failure::new("a payload over the limit was sent"));
    };
    check_eq!(failed.kind(), ErrorKind::TooLarge, "the reason: {}", failed.error());
    check!(failed.into_message() == message, "another message was handed back");
    sender.send(numbered_to(&queue, 1)).await?;
    let mut consumer = cx.consumer(&queue).await?;
    check_eq!(take_numbers(&mut consumer, 1).await?, [1], "what the queue has");
    Ok(())
}

pub(crate) async fn d2_large_and_small_messages_keep_their_order(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let mut sender = cx.sender().await?;
    let sizes: Vec<usize> = (0..24).map(|nth| if nth % 5 == 2 { 400_000 } else { nth }).collect();
    for size in &sizes {
        sender.feed(Message::to_queue(queue.clone(), vec![*size as u8; *size])).await?;
    }
    sender.flush().await?;
    let mut consumer = cx.consumer(&queue).await?;
    let mut found = Vec::new();
    for _ in &sizes {
        let delivery = next(&mut consumer).await?;
        found.push(delivery.payload().len());
        delivery.ack();
    }
    check_eq!(found, sizes, "the sizes of the messages, in order");
    Ok(())
}

pub(crate) async fn d2_properties_arrive_as_they_were_sent(cx: Context) -> Outcome {
    let queue = cx.queue("jobs").await?;
    let topic = cx.topic("orders.eu")?;
    let mut subscriber = cx.subscriber("orders.*").await?;
    let reply_to = cx.topic("answers")?;
    let priority = if cx.has(Capability::Priority) { 3 } else { 0 };
    let whole = |builder: posthaste_core::MessageBuilder| {
        builder
            .header("content-type", "text/plain")
            .header("empty", "")
            .header("twice", "one")
            .header("twice", "two")
            .header("utf-8", "größer → 大")
            .key("customer-7")
            .id("id-1")
            .priority(priority)
            .payload("hello")
            .build()
    };
    let to_topic = whole(Message::builder(topic))?;
    let to_queue = whole(Message::builder(queue.clone()).to_queue())?;
    let request = whole(Message::builder(queue.clone()).to_queue().waits().reply_to(reply_to, 77))?;
    let mut sender = cx.sender().await?;
    for message in [&to_topic, &to_queue, &request] {
        sender.send(message.clone()).await?;
    }
    let delivery = next(&mut subscriber).await?;
    check_same(delivery.message(), &to_topic)?;
    let mut consumer = cx.consumer(&queue).await?;
    for message in [&to_queue, &request] {
        let delivery = next(&mut consumer).await?;
        check_same(delivery.message(), message)?;
        delivery.ack();
    }
    check_eq!(request.kind(), Kind::Request, "the kind of the one with a reply address");
    Ok(())
}

pub(crate) async fn d2_the_most_headers_and_the_longest_topic_pass(cx: Context) -> Outcome {
    let room = TOPIC_BYTES_MAX - cx.topic("t")?.as_str().len();
    let topic = cx.topic(&format!("t{}", "x".repeat(room)))?;
    check_eq!(topic.as_str().len(), TOPIC_BYTES_MAX, "the length of the longest topic");
    let mut builder = Message::builder(topic.clone()).payload("p");
    for nth in 0..HEADERS_MAX {
        builder = builder.header(format!("name-{nth}"), "v".repeat(900));
    }
    let message = builder.build()?;
    let mut subscriber = cx.receiver(Subscription::topic(&topic)?).await?;
    let mut sender = cx.sender().await?;
    sender.send(message.clone()).await?;
    let delivery = next(&mut subscriber).await?;
    check_same(delivery.message(), &message)
}

pub(super) fn check_same(found: &Message, sent: &Message) -> Outcome {
    check_eq!(found.topic(), sent.topic(), "the topic");
    check_eq!(found.is_to_queue(), sent.is_to_queue(), "whether it went to a queue");
    check_eq!(found.kind(), sent.kind(), "the kind");
    let headers = |message: &Message| -> Vec<(String, String)> {
        message.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    check_eq!(headers(found), headers(sent), "the headers");
    check_eq!(found.key(), sent.key(), "the key");
    check_eq!(found.id(), sent.id(), "the message id");
    check_eq!(found.priority(), sent.priority(), "the priority");
    check_eq!(found.reply_to(), sent.reply_to(), "the reply address");
    check_eq!(found.correlation(), sent.correlation(), "the correlation");
    check_eq!(found.waits(), sent.waits(), "whether it waits");
    check_eq!(found.payload(), sent.payload(), "the payload");
    check!(found == sent, "something else of the message differs");
    Ok(())
}

pub(crate) async fn d2_invalid_addresses_are_refused_before_they_travel(cx: Context) -> Outcome {
    let words = vec!["w"; 33].join(".");
    let long = "x".repeat(TOPIC_BYTES_MAX + 1);
    for text in ["", ".", "a.", ".a", "a..b", "a b", "a.\u{7}", "a.*", "a.>", &words, &long] {
        let kind = Topic::new(text).err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::InvalidTopic), "the topic {text:?}");
        let kind = Subscription::queue(text).err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::InvalidTopic), "the queue {text:?}");
    }
    for text in ["a.>.b", ">.a", "", "a. b"] {
        let kind = Subscription::topic(text).err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::InvalidTopic), "the pattern {text:?}");
    }
    // Odd ones that are valid are just as good as others.
    let any_name = cx.has(Capability::AnyName);
    for tail in ["größe", "大", "a-b_c", "*x", "x>", "#", "+", "$SYS", "\u{1F600}"] {
        let topic = cx.topic(tail)?;
        let mut subscriber = match cx.peer().receiver(Subscription::topic(&topic)?).await {
            // Where not any name will do, this is where it is refused.
            Err(error) if error.kind() == ErrorKind::InvalidTopic && !any_name => continue,
            subscriber => subscriber?,
        };
        let mut sender = cx.sender().await?;
        let receipt = sender.send(numbered(&topic, 5)).await?;
        cx.check_matched(receipt.matched, 1, &format!("subscriptions to {topic}"))?;
        check_eq!(take_numbers(&mut subscriber, 1).await?, [5], "what came to {topic}");
    }
    Ok(())
}

pub(crate) async fn d2_a_queue_may_have_any_valid_name(cx: Context) -> Outcome {
    for tail in ["größe.大", "#", "a.b.c.d.e.f.g.h"] {
        let queue = cx.queue_name(tail)?;
        cx.broker().declare(Queue::new(queue.clone())).await?;
        let mut sender = cx.sender().await?;
        send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=2).await?;
        let mut consumer = cx.consumer(&queue).await?;
        check_eq!(take_numbers(&mut consumer, 2).await?, [1, 2], "what came through {queue}");
    }
    Ok(())
}
