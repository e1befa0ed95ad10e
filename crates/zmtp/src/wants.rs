//! What is wanted of a publisher, and how it is said on the wire.
//!
//! A ZeroMQ subscription is a prefix of bytes. Between Posthaste peers it is a NUL byte, which no
//! topic begins with, and then the whole pattern, so that what is counted and sent is what matches;
//! behind another NUL byte stands the group. On a lane of queues it is the name of the queue.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use posthaste_core::{Error, ErrorKind, Pattern, Topic};

/// The most different subscriptions of one connection.
const WANTS_MAX: usize = 10_000;
/// The longest one: a pattern, a group and two bytes.
const WANT_BYTES_MAX: usize = 2 * posthaste_core::limits::TOPIC_BYTES_MAX + 2;

/// A subscription of a Posthaste peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Want {
    pub(crate) pattern: Pattern,
    pub(crate) group: Option<Topic>,
}

impl Want {
    /// As Posthaste peers say it to each other.
    pub(crate) fn exact(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_slice(self.pattern.as_str().as_bytes());
        if let Some(group) = &self.group {
            bytes.put_u8(0);
            bytes.put_slice(group.as_bytes());
        }
        bytes.freeze()
    }

    /// As every ZeroMQ peer understands it: everything before the first wildcard.
    pub(crate) fn prefix(&self) -> Bytes {
        let text = self.pattern.as_str();
        let words = self.pattern.words().take_while(|word| *word != "*" && *word != ">");
        let literal: usize = words.map(|word| word.len() + 1).sum();
        Bytes::copy_from_slice(&text.as_bytes()[..literal.min(text.len())])
    }

    /// Reads what a Posthaste peer says.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.strip_prefix(&[0])?).ok()?;
        let (pattern, group) = match text.split_once('\0') {
            Some((pattern, group)) => (pattern, Some(Topic::new(group).ok()?)),
            None => (text, None),
        };
        Some(Self { pattern: Pattern::new(pattern).ok()?, group })
    }
}

/// Everything that one peer wants.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    /// Prefixes, and how often each was asked for.
    prefixes: BTreeMap<Bytes, u64>,
    /// What a Posthaste peer asked for.
    exact: BTreeMap<Want, u64>,
}

/// What of a peer's wants a message meets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// How many subscriptions.
    pub(crate) copies: u64,
    /// Which groups.
    pub(crate) groups: Vec<Want>,
}

impl Wants {
    /// The peer wants this once more.
    pub(crate) fn add(&mut self, body: Bytes, posthaste: bool) -> Result<(), Error> {
        if body.len() > WANT_BYTES_MAX {
            let text = format!("a peer subscribed to a prefix of more than {WANT_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        match Want::parse(&body).filter(|_| posthaste) {
            Some(want) => *self.exact.entry(want).or_default() += 1,
            None => *self.prefixes.entry(body).or_default() += 1,
        }
        if self.prefixes.len() + self.exact.len() > WANTS_MAX {
            let text = format!("a peer subscribed to more than {WANTS_MAX} things");
            return Err(Error::new(ErrorKind::Limit, text));
        }
        Ok(())
    }

    /// The peer takes one such wish back.
    pub(crate) fn remove(&mut self, body: &Bytes, posthaste: bool) {
        match Want::parse(body).filter(|_| posthaste) {
            Some(want) => count_down(&mut self.exact, &want),
            None => count_down(&mut self.prefixes, body),
        }
    }

    /// What of this a message to a topic meets.
    pub(crate) fn met(&self, topic: &Topic) -> Met {
        let mut met = Met::default();
        let bytes = topic.as_bytes();
        if self.prefixes.keys().any(|prefix| bytes.starts_with(prefix)) {
            met.copies += 1;
        }
        for (want, count) in &self.exact {
            if want.pattern.matches(topic) {
                match want.group {
                    None => met.copies += count,
                    Some(_) => met.groups.push(want.clone()),
                }
            }
        }
        met
    }

    /// Whether it takes messages of this queue.
    pub(crate) fn has_queue(&self, queue: &Topic) -> bool {
        self.exact.keys().any(|want| want.pattern.as_str() == queue.as_str())
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(pattern: &str, group: Option<&str>) -> Want {
        let group = group.map(|group| Topic::new(group).unwrap());
        Want { pattern: Pattern::new(pattern).unwrap(), group }
    }

    #[test]
    fn a_prefix_is_everything_before_the_first_wildcard() {
        for (pattern, prefix) in
            [("a.b", "a.b"), ("a.*.c", "a."), ("a.>", "a."), (">", ""), ("*.b", "")]
        {
            assert_eq!(want(pattern, None).prefix(), prefix, "{pattern}");
        }
    }

    #[test]
    fn what_a_posthaste_peer_wants_is_read_as_it_was_said() {
        for this in [want("a.*.>", None), want("a", Some("g.1"))] {
            assert_eq!(Want::parse(&this.exact()), Some(this));
        }
    }

    #[test]
    fn foreign_peers_get_what_begins_as_they_said_and_once() {
        let mut wants = Wants::default();
        for prefix in ["a", "a.", ""] {
            wants.add(prefix.into(), false).unwrap();
        }
        let topic = Topic::new("a.b").unwrap();
        assert_eq!(wants.met(&topic).copies, 1);
        wants.remove(&"".into(), false);
        assert_eq!(wants.met(&Topic::new("b").unwrap()), Met::default());
        // A NUL byte is a byte as any other, from somebody else.
        wants.add(want("b", None).exact(), false).unwrap();
        assert_eq!(wants.met(&Topic::new("b").unwrap()), Met::default());
    }

    #[test]
    fn posthaste_peers_get_what_matches_and_it_is_counted() {
        let mut wants = Wants::default();
        for this in
            [want("a.*", None), want("a.*", None), want("a.b", None), want("a.>", Some("g"))]
        {
            wants.add(this.exact(), true).unwrap();
        }
        let met = wants.met(&Topic::new("a.b").unwrap());
        assert_eq!((met.copies, met.groups), (3, vec![want("a.>", Some("g"))]));
        wants.remove(&want("a.*", None).exact(), true);
        assert_eq!(wants.met(&Topic::new("a.c").unwrap()).copies, 1);
    }
}
