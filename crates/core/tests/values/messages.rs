//! A message carries what it was given, over a link too, and is refused at its limits.

use bytes::Bytes;
use posthaste_core::limits::PAYLOAD_BYTES_MAX;
use posthaste_core::{ErrorKind, Kind, Message, MessageBuilder, Parts, Status, Topic};

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn builder() -> MessageBuilder {
    Message::builder(topic("orders.eu"))
}

fn full() -> Message {
    builder()
        .payload("body")
        .header("b", "1")
        .header("a", "")
        .header("b", "2")
        .id("id-1")
        .key("key-1")
        .priority(3)
        .reply_to(topic("_ph.inbox.1"), 99)
        .waits()
        .to_queue()
        .build()
        .unwrap()
}

#[test]
fn every_property_is_there_again() {
    let message = full();
    assert_eq!((message.topic(), message.topic_bytes()), (topic("orders.eu"), &b"orders.eu"[..]));
    assert_eq!((message.key(), message.id()), (Some("key-1"), Some("id-1")));
    assert_eq!(message.headers().collect::<Vec<_>>(), [("b", "1"), ("a", ""), ("b", "2")]);
    assert_eq!((message.header("b"), message.header("c")), (Some("1"), None));
    assert_eq!((message.kind(), message.correlation()), (Kind::Request, 99));
    assert_eq!(message.reply_to(), Some(topic("_ph.inbox.1")));
    assert_eq!((message.priority(), message.is_to_queue(), message.waits()), (3, true, true));
    assert_eq!((message.status(), message.deadline()), (None, None));
    assert_eq!(message.payload(), "body");
    assert!(message.size() > "orders.eu".len() + "body".len());
}

#[test]
fn a_plain_message_has_no_properties() {
    let message = Message::new(topic("a"), Bytes::new());
    assert_eq!((message.key(), message.id(), message.reply_to()), (None, None, None));
    assert_eq!((message.headers().count(), message.kind()), (0, Kind::Event));
    assert_eq!((message.priority(), message.is_to_queue(), message.waits()), (0, false, false));
    assert_eq!((message.size(), message.correlation()), (3, 0));
    assert!(Message::to_queue(topic("a"), "x").is_to_queue());
    assert_eq!(builder().build().unwrap(), Message::new(topic("orders.eu"), Bytes::new()));
}

#[test]
fn a_message_survives_being_taken_apart_and_put_together() {
    for message in [full(), Message::new(topic("a"), vec![0xff, 0xfe]), full().reply("x").unwrap()]
    {
        assert_eq!(Message::from_parts(message.clone().into_parts()).unwrap(), message);
    }
}

#[test]
fn a_clone_and_a_plain_send_share_their_buffers_unless_they_are_small() {
    let topic = topic("orders.eu.west.of.the.river.created");
    let payload = Bytes::from(vec![1; 100]);
    let message = Message::new(topic.clone(), payload.clone());
    assert_eq!(message.payload().as_ptr(), payload.as_ptr());
    assert_eq!(message.clone().topic_bytes().as_ptr(), topic.as_bytes().as_ptr());
    assert_eq!(message.topic().as_bytes().as_ptr(), topic.as_bytes().as_ptr());
    let request = Message::builder(topic.clone()).reply_to(topic, 1).build().unwrap();
    let head = request.clone().into_parts().head;
    let reply_topic = request.reply("x").unwrap().topic();
    assert!(head.as_ptr_range().contains(&reply_topic.as_bytes().as_ptr()));
    // A small one lies in the message itself.
    let message = Message::new(self::topic("orders.eu"), payload);
    let place = std::ptr::from_ref(&message).addr();
    let place = place..place + size_of::<Message>();
    assert!(place.contains(&message.topic_bytes().as_ptr().addr()));
}

#[test]
fn a_reply_goes_back_with_its_correlation() {
    let request = full();
    let reply = request.reply("42").unwrap();
    assert_eq!((reply.kind(), reply.correlation()), (Kind::Reply, 99));
    assert_eq!((reply.topic(), reply.is_to_queue()), (topic("_ph.inbox.1"), false));
    for status in [Status::Failed, Status::NoResponders] {
        let reply = request.status_reply(status, "why").unwrap();
        assert_eq!((reply.kind(), reply.status()), (Kind::Status, Some(status)));
        assert_eq!((reply.topic(), reply.correlation()), (topic("_ph.inbox.1"), 99));
        assert_eq!(reply.payload(), "why");
        assert_eq!(Message::from_parts(reply.clone().into_parts()).unwrap(), reply);
    }
    let event = builder().build().unwrap();
    assert!(event.reply("x").is_none() && event.status_reply(Status::Failed, "x").is_none());
}

#[test]
fn every_limit_holds_at_its_boundary() {
    let refused = |builder: MessageBuilder| builder.build().map_err(|error| error.kind()).err();
    let many = |count: usize| (0..count).fold(builder(), |b, n| b.header(format!("h{n}"), "v"));
    let (large, text) = (Some(ErrorKind::TooLarge), |length| "x".repeat(length));
    // Zeroed memory that nobody looks at costs nothing.
    assert_eq!(refused(builder().payload(vec![0; 1 << 30])), None);
    assert_eq!(refused(builder().payload(vec![0; (1 << 30) + 1])), large);
    let message = builder().payload(vec![0; 16 << 20]).build().unwrap();
    assert!(message.check_size(PAYLOAD_BYTES_MAX).is_ok());
    let refused_by_size = message.check_size(PAYLOAD_BYTES_MAX - 1).unwrap_err();
    assert_eq!(Some(refused_by_size.kind()), large);
    assert_eq!(refused(many(64)), None);
    assert_eq!(refused(many(65)), large);
    assert_eq!(refused(builder().header("n", text((64 << 10) - 1))), None);
    assert_eq!(refused(builder().header("n", text(64 << 10))), large);
    assert_eq!(refused(builder().key(text(1_024)).id(text(1_024))), None);
    assert_eq!(refused(builder().key(text(1_025))), large);
    assert_eq!(refused(builder().id(text(1_025))), large);
    let invalid = Some(ErrorKind::InvalidArgument);
    assert_eq!(refused(builder().priority(4)), invalid);
    for name in ["", "a b", "a\n"] {
        assert_eq!(refused(builder().header(name, "v")), invalid);
    }
}

fn parts(head: impl Into<Bytes>) -> Parts {
    let mut parts = Message::new(topic("a"), Bytes::new()).into_parts();
    parts.head = head.into().into();
    parts
}

#[test]
fn a_head_that_breaks_a_rule_is_refused() {
    let with = |properties: &[u8]| [b"\x01\0a", properties].concat();
    let cases: [(Vec<u8>, &str); 13] = [
        (vec![], "cut short"),
        (vec![1], "cut short"),
        (b"\x05\0ab".to_vec(), "longer than its head"),
        (b"\x01\0\xff".to_vec(), "UTF-8"),
        (b"\0\0".to_vec(), "is empty"),
        (with(b"\x01\x01\0\0"), "longer than its head"),
        (with(b"\x01\x02\0\0\0k"), "longer than its head"),
        (with(b"\x02\x01\0\0\0i\x01\x01\0\0\0k"), "out of order"),
        (with(b"\x01\x01\0\0\0k\x01\x01\0\0\0k"), "out of order"),
        (with(b"\x01\x01\0\0\0\xff"), "UTF-8"),
        (with(b"\x03\x03\0\0\0\x02\0a"), "contradicts"),
        (with(b"\x04\x03\0\0\0\x05\0n"), "header is cut short"),
        (with(b"\x09\0\0\0\0"), "unknown property"),
    ];
    for (head, says) in cases {
        let error = Message::from_parts(parts(head.clone())).unwrap_err();
        assert!(error.to_string().contains(says), "{head:?}: {error}");
    }
    let mut unknown = parts(b"\x01\0a".to_vec());
    unknown.attributes = 0b1000_0000;
    assert_eq!(Message::from_parts(unknown).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn a_head_that_was_cut_or_changed_anywhere_is_refused_or_read_without_a_panic() {
    let head = full().into_parts().head;
    for length in 0..head.len() {
        let _ = Message::from_parts(parts(head[..length].to_vec())).map(|cut| exercise(&cut));
        for change in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = head.to_vec();
            changed[length] ^= change;
            let _ = Message::from_parts(parts(changed)).map(|changed| exercise(&changed));
        }
    }
}

fn exercise(message: &Message) {
    let _ = (message.key(), message.id(), message.status(), message.topic().words().count());
    let _ = (message.headers().count(), message.reply("x"), format!("{message:?}"));
}

#[test]
fn debugging_a_message_shows_no_content() {
    assert_eq!(
        format!("{:?}", builder().payload("secret").header("token", "s3").build().unwrap()),
        r#"Message { topic: "orders.eu", kind: Event, payload_bytes: 6, .. }"#
    );
}

#[test]
fn that_a_message_may_have_been_sent_before_travels_until_it_is_settled() {
    let message = builder().id("7").build().unwrap();
    assert!(!message.is_repeat());
    let repeat = Message::from_parts(message.clone().into_repeat().into_parts()).unwrap();
    assert!(repeat.is_repeat());
    assert_eq!(repeat.without_repeat(), message);
}
