//! Which texts are topics and patterns, and which topics a pattern matches.

use posthaste_core::{ErrorKind, Pattern, Topic};

#[test]
fn a_topics_limits_are_exact() {
    let longest = "a".repeat(1_024);
    assert_eq!(Topic::new(&longest).unwrap().as_str(), longest);
    let most_words = vec!["w"; 32].join(".");
    assert_eq!(Topic::new(&most_words).unwrap().words().count(), 32);
    for (text, says) in [
        ("a".repeat(1_025), "at most 1024 bytes, this has 1025"),
        (vec!["w"; 33].join("."), "at most 32 words, this has 33"),
    ] {
        for error in [Topic::new(&text).unwrap_err(), Pattern::new(&text).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InvalidTopic);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

#[test]
fn an_error_says_which_word_breaks_which_rule() {
    for (text, says) in [
        ("", "word 1 of the topic \"\" is empty"),
        ("a.", "word 2 of the topic \"a.\" is empty"),
        (".a", "word 1 of the topic \".a\" is empty"),
        ("a..b", "word 2 of the topic \"a..b\" is empty"),
        ("a.b c", "word 2 of the topic \"a.b c\" has white space"),
        ("a\u{7}.b", "word 1 of the topic"),
        ("a\u{a0}.b", "word 1 of the topic"),
        ("a.*.b", "word 2 of the topic \"a.*.b\" is the wildcard"),
        ("a.>", "word 2 of the topic \"a.>\" is the wildcard"),
    ] {
        let error = Topic::new(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidTopic);
        assert!(error.to_string().starts_with(says), "{error}");
    }
    let error = Pattern::new("a.>.b").unwrap_err();
    assert!(error.to_string().contains("may only come last"), "{error}");
}

#[test]
fn words_that_only_contain_a_wildcard_and_other_scripts_are_words() {
    for text in ["a*.b", "a.b>", "заказы.новые", "订单", "-", "a-b_c/d:e"] {
        assert_eq!(Topic::new(text).unwrap().to_string(), text);
    }
}

#[test]
fn a_pattern_matches_what_its_words_say() {
    let cases = [
        ("a.b", "a.b", true),
        ("a.b", "a.c", false),
        ("a.b", "a", false),
        ("a.b", "a.b.c", false),
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.*", "a.b.c", false),
        ("*.b", "a.b", true),
        ("*.*", "a.b", true),
        ("*.*", "a", false),
        ("*", "a", true),
        ("a.>", "a", false),
        ("a.>", "a.b", true),
        ("a.>", "a.b.c.d", true),
        (">", "a", true),
        (">", "a.b.c", true),
        ("*.>", "a", false),
        ("*.>", "a.b", true),
        ("a.*.>", "a.b", false),
        ("a.*.c", "a.b.c", true),
        ("A", "a", false),
        // Wildcards do not reach the framework's own topics, a named first word does.
        (">", "_ph.inbox.1", false),
        ("*.inbox.1", "_ph.inbox.1", false),
        ("_ph.>", "_ph.inbox.1", true),
        ("_ph.*.1", "_ph.inbox.1", true),
        (">", "_phone.1", true),
    ];
    for (pattern, topic, expected) in cases {
        let matches = Pattern::new(pattern).unwrap().matches(&Topic::new(topic).unwrap());
        assert_eq!(matches, expected, "{pattern} and {topic}");
    }
}

#[test]
fn a_pattern_agrees_with_a_plain_reference_on_every_small_pair() {
    fn reference(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern, topic) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, topic @ ..]) => reference(pattern, topic),
            ([word, pattern @ ..], [this, topic @ ..]) => word == this && reference(pattern, topic),
            _ => false,
        }
    }
    fn texts(words: &[&str]) -> Vec<String> {
        let mut texts: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut last = texts.clone();
        for _ in 0..3 {
            let longer =
                last.iter().flat_map(|text| words.iter().map(move |w| format!("{text}.{w}")));
            last = longer.collect();
            texts.extend(last.iter().cloned());
        }
        texts
    }
    let topics = texts(&["a", "b"]);
    for text in texts(&["a", "b", "*", ">"]) {
        let words: Vec<_> = text.split('.').collect();
        let early = words.iter().rev().skip(1).any(|word| *word == ">");
        let pattern = Pattern::new(&text);
        assert_eq!(pattern.is_err(), early, "{text}");
        let Ok(pattern) = pattern else { continue };
        assert_eq!(pattern.is_literal(), !text.contains(['*', '>']));
        for topic in &topics {
            let expected = reference(&words, &topic.split('.').collect::<Vec<_>>());
            let topic = Topic::new(topic).unwrap();
            assert_eq!(pattern.matches(&topic), expected, "{text} and {topic}");
        }
    }
}

#[test]
fn addresses_come_from_text_and_from_each_other() {
    let topic: Topic = "a.b".parse().unwrap();
    assert_eq!(Topic::try_from(String::from("a.b")).unwrap(), topic);
    assert_eq!(Topic::from(&topic), topic);
    assert_eq!(topic.as_bytes(), b"a.b");
    assert_eq!(format!("{topic:?} {topic}"), r#"Topic("a.b") a.b"#);
    let pattern = Pattern::from(&topic);
    assert!(pattern.matches(&topic) && pattern.is_literal());
    assert_eq!("a.*".parse::<Pattern>().unwrap().to_string(), "a.*");
    assert!(Topic::new("_ph.x").unwrap().is_reserved() && !topic.is_reserved());
}
