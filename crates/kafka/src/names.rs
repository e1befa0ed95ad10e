//! How Posthaste's names are Kafka's: checked, and patterns as regular expressions.

use posthaste_core::{Error, ErrorKind, Pattern, Topic};

/// The longest name of a Kafka topic.
const NAME_BYTES_MAX: usize = 249;

/// Where inboxes have their addresses; what goes there goes through the reply topic.
pub(crate) const INBOX_PREFIX: &str = "_ph.inbox.";

/// The name of the Kafka topic that is this topic or queue.
///
/// # Errors
/// `InvalidTopic` for what Kafka cannot name.
pub(crate) fn kafka_name(topic: &Topic) -> Result<&str, Error> {
    let name = topic.as_str();
    check(name)?;
    Ok(name)
}

/// Whether Kafka can have a topic of that name.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let invalid = |why: String| Err(Error::new(ErrorKind::InvalidTopic, why));
    if name.len() > NAME_BYTES_MAX {
        let length = name.len();
        return invalid(format!(
            "a topic or queue has at most {NAME_BYTES_MAX} bytes on Kafka, this has {length}"
        ));
    }
    if let Some(other) = name.chars().find(|c| !is_plain(*c)) {
        return invalid(format!(
            "{name:?} has {other:?} in it; on Kafka a topic or queue is made of the letters a to z \
             and A to Z, digits, dots, hyphens and underscores"
        ));
    }
    Ok(())
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The pattern as what librdkafka subscribes to: the name, or a regular expression.
pub(crate) fn subscription(pattern: &Pattern) -> Result<String, Error> {
    let words: Vec<_> = pattern.words().collect();
    for word in words.iter().filter(|word| !matches!(**word, "*" | ">")) {
        check(word)?;
    }
    if pattern.is_literal() {
        check(pattern.as_str())?;
        return Ok(pattern.as_str().to_owned());
    }
    let words = words.into_iter().map(|word| match word {
        "*" => String::from("[^.]+"),
        ">" => String::from(".+"),
        // Of what a name is made of only the dot means something else, and that is no part of one.
        word => word.to_owned(),
    });
    Ok(format!("^{}$", words.collect::<Vec<_>>().join("\\.")))
}

/// The topic that a Kafka topic is to a pattern; Kafka's own are none.
pub(crate) fn matching(pattern: &Pattern, name: &str) -> Option<Topic> {
    if name.starts_with("__") && !pattern.is_literal() {
        return None;
    }
    Topic::new(name).ok().filter(|topic| pattern.matches(topic))
}

/// Which topics a group's regular expression leaves alone: Kafka's own and Posthaste's own.
pub(crate) const LEFT_ALONE: &str = "^__.*,^_ph\\..*";

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap()
    }

    fn regex(text: &str) -> String {
        subscription(&Pattern::new(text).unwrap()).unwrap()
    }

    #[test]
    fn names_that_kafka_has_not_are_told() {
        assert_eq!(kafka_name(&topic("orders.eu_1-b.C")).unwrap(), "orders.eu_1-b.C");
        for bad in ["orders.größe", "a/b", "a:b", &"x".repeat(250)] {
            let error = kafka_name(&topic(bad)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTopic, "{bad}");
        }
        assert!(kafka_name(&topic(&"x".repeat(249))).is_ok());
    }

    #[test]
    fn patterns_become_regular_expressions() {
        assert_eq!(regex("orders.new"), "orders.new");
        assert_eq!(regex("orders.*.created"), "^orders\\.[^.]+\\.created$");
        assert_eq!(regex("orders.>"), "^orders\\..+$");
        assert!(subscription(&Pattern::new("größe.>").unwrap()).is_err());
    }

    #[test]
    fn kafkas_own_topics_match_no_wildcard() {
        let all = Pattern::new(">").unwrap();
        assert!(matching(&all, "orders.new").is_some());
        for own in ["__consumer_offsets", "_ph.replies", "a..b", ""] {
            assert!(matching(&all, own).is_none(), "{own}");
        }
    }
}
