//! The short ways of checking what came over a link let nothing through that the long ones refuse,
//! and refuse nothing that those take.

use bytes::Bytes;
use posthaste_core::limits::{TOPIC_BYTES_MAX, TOPIC_WORDS_MAX};
use posthaste_core::{ErrorKind, Head, Heads, Message, Parts, Pattern, Topic};
use proptest::collection::vec;
use proptest::prelude::*;

/// The rules of `docs/semantics.md`, "Addresses", as they stand there.
fn is_topic(text: &str) -> bool {
    let words: Vec<&str> = text.split('.').collect();
    let good = |word: &&str| {
        !matches!(*word, "" | "*" | ">")
            && !word.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    text.len() <= TOPIC_BYTES_MAX && words.len() <= TOPIC_WORDS_MAX && words.iter().all(good)
}

fn parts(head: impl Into<Bytes>) -> Parts {
    let (head, payload) = (head.into().into(), Bytes::from_static(b"payload"));
    Parts { head, payload, attributes: 0, correlation: 0, deadline: None, count: 1 }
}

/// A head without properties.
fn head(topic: &[u8]) -> Vec<u8> {
    let len = u16::try_from(topic.len()).expect("no topic here is as long");
    [&len.to_le_bytes(), topic].concat()
}

/// Compares everything that checks topics with the rules.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let good = std::str::from_utf8(bytes).is_ok_and(is_topic);
    let message = Message::from_parts(parts(head(bytes)));
    prop_assert_eq!(message.is_ok(), good, "{:?} in a head", bytes.escape_ascii().to_string());
    if let Err(error) = message {
        prop_assert_eq!(error.kind(), ErrorKind::InvalidTopic);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        prop_assert_eq!(Topic::new(text).is_ok(), good, "{:?} as a topic", text);
        // A pattern may be more, never less.
        prop_assert!(!good || Pattern::new(text).is_ok(), "{:?} as a pattern", text);
    }
    Ok(())
}

/// Texts that are topics but for a little, now and then.
fn nearly_a_topic() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        12 => "[a-z]{1,4}".prop_map(String::into_bytes),
        4 => "[!-~]{0,3}".prop_map(String::into_bytes),
        2 => "\\PC{1,2}".prop_map(String::into_bytes),
        1 => prop::sample::select(vec!["*", ">", "", "a*", ">a", " ", "\u{7f}", "\u{a0}", "\u{85}"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..3),
    ];
    vec(word, 1..36).prop_map(|words| words.join(&b'.'))
}

proptest! {
    #[test]
    fn any_bytes_are_a_topic_if_and_only_if_the_rules_say_so(bytes in vec(any::<u8>(), 0..40)) {
        check(&bytes)?;
    }

    #[test]
    fn what_looks_like_a_topic_is_one_if_and_only_if_the_rules_say_so(bytes in nearly_a_topic()) {
        check(&bytes)?;
    }

    #[test]
    fn a_topic_is_as_long_as_it_may_be_and_no_longer(
        words in 1..40_usize,
        len in 1_000..1_050_usize,
        plain: bool,
    ) {
        let letter = if plain { "a" } else { "\u{e9}" };
        let mut text = vec!["w"; words].join(".");
        while text.len() < len {
            text.push_str(letter);
        }
        check(text.as_bytes())?;
    }

    #[test]
    fn a_head_is_judged_alike_whatever_came_before(
        picks in vec((0..HEADS.len(), 0..4_usize), 0..60),
    ) {
        let mut heads = Heads::default();
        for (pick, times) in picks {
            // Most links carry one head many times, so that is how they come here.
            for _ in 0..=times {
                let alone = Message::from_parts(parts(HEADS[pick]()));
                let after = Message::from_parts_after(parts(HEADS[pick]()), &mut heads);
                match (alone, after) {
                    (Ok(alone), Ok(after)) => prop_assert_eq!(after, alone),
                    (Err(alone), Err(after)) => {
                        prop_assert_eq!(after.kind(), alone.kind());
                        prop_assert_eq!(after.to_string(), alone.to_string());
                    }
                    (alone, after) => prop_assert!(false, "{alone:?} alone, {after:?} after"),
                }
            }
        }
    }
}

/// Heads that are good, and heads that are not, many of them alike but for one byte.
const HEADS: [fn() -> Vec<u8>; 13] = [
    || head(b"orders.eu"),
    || head(b"orders.us"),
    || head(b"orders.e "),
    || head(b"orders.eu.a"),
    || head(b"orders.eu")[..8].to_vec(),
    Vec::new,
    || vec![9],
    || vec![0, 0],
    || head("заказы".as_bytes()),
    // Too long to be kept, good and bad.
    || head(&[b'a'; 300]),
    || head(&[b' '; 300]),
    // With a key.
    || [head(b"orders.eu"), b"\x01\x03\0\0\0key".to_vec()].concat(),
    || [head(b"orders.eu"), b"\x01\x04\0\0\0key".to_vec()].concat(),
];

#[test]
fn an_empty_head_is_refused_first_and_later() {
    let refused = |heads: &mut Heads| {
        let error = Message::from_parts_after(parts(Bytes::new()), heads).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("cut short"), "{error}");
    };
    let mut heads = Heads::default();
    refused(&mut heads);
    refused(&mut heads);
    Message::from_parts_after(parts(head(b"a")), &mut heads).unwrap();
    refused(&mut heads);
    // After one that is too long to be kept none is known.
    Message::from_parts_after(parts(head(&[b'a'; 300])), &mut heads).unwrap();
    refused(&mut heads);
    assert_eq!(Message::from_parts(parts(Bytes::new())).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn a_message_that_is_wrong_in_something_else_is_refused_after_a_good_one_with_its_head() {
    let mut heads = Heads::default();
    Message::from_parts_after(parts(head(b"a")), &mut heads).unwrap();
    let odd = Parts { attributes: 0x80, ..parts(head(b"a")) };
    assert_eq!(
        Message::from_parts_after(odd.clone(), &mut heads).unwrap_err().kind(),
        Message::from_parts(odd).unwrap_err().kind()
    );
    let payload = Bytes::from(vec![0; posthaste_core::limits::PAYLOAD_BYTES_CEILING + 1]);
    let large = Parts { payload, ..parts(head(b"a")) };
    let refused = Message::from_parts_after(large, &mut heads).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
}

#[test]
fn a_head_is_the_same_whether_it_lies_in_place_or_is_shared() {
    for length in [1, 2, 28, 29, 30, 31, 32, 33, 300] {
        let topic = Topic::new("t".repeat(length)).unwrap();
        let long = format!("{}.{}", "x".repeat(40), "y".repeat(length));
        let reply_to = Topic::new(long).unwrap();
        let message = Message::new(topic.clone(), "payload");
        assert_eq!((message.topic(), message.size()), (topic.clone(), 2 + length + 7));
        assert!(message.is_plain());
        let request = Message::builder(topic.clone()).reply_to(reply_to.clone(), 9).key("k");
        let request = request.priority(2).build().unwrap();
        assert_eq!((request.topic(), request.reply_to()), (topic.clone(), Some(reply_to.clone())));
        assert_eq!((request.key(), request.priority(), request.correlation()), (Some("k"), 2, 9));
        assert!(!request.is_plain());
        let answer = request.reply("yes").unwrap();
        assert_eq!((answer.topic(), answer.correlation()), (reply_to, 9));
        for message in [message, request, answer] {
            let parts = message.clone().into_parts();
            let shared = Head::from(Bytes::copy_from_slice(&parts.head));
            assert_eq!(shared, parts.head);
            let again = Message::from_parts(Parts { head: shared, ..parts }).unwrap();
            assert_eq!(again, message);
            assert_eq!(again.clone().into_repeat().without_repeat(), message);
            assert_ne!(again.into_repeat(), message);
        }
        let other = Topic::new("u".repeat(length)).unwrap();
        assert_ne!(topic, other);
        assert!(topic < other && topic.as_bytes() != other.as_bytes());
    }
}
