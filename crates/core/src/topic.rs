//! Addresses: topics and queue names, and the patterns that match topics.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use bytes::{BufMut, BytesMut};

use crate::limits::{TOPIC_BYTES_MAX, TOPIC_WORDS_MAX};
use crate::{Error, ErrorKind, Head};

/// Topics that begin with this are the framework's own.
pub const RESERVED_PREFIX: &str = "_ph.";

/// The bytes of the length that stands before a topic's text.
const PREFIX: usize = 2;

/// A validated topic or queue name: dot-separated words such as `orders.eu.created`.
///
/// UTF-8, compared by bytes; no empty word, no white space or control characters, no word that is
/// `*` or `>`, at most 1,024 bytes and 32 words. Cloning copies a few bytes, or counts a reference
/// where there are more, and a message with no properties begins as the topic does, so a topic made
/// once costs nothing per message.
///
/// ```
/// use posthaste_core::Topic;
///
/// let topic = Topic::new("orders.eu.created")?;
/// assert_eq!(topic.words().collect::<Vec<_>>(), ["orders", "eu", "created"]);
/// assert!(Topic::new("orders.*").is_err());
/// # Ok::<(), posthaste_core::Error>(())
/// ```
// The message head's own beginning, already checked: `u16` length, then the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Topic(pub(crate) Head);

impl Topic {
    /// Checks and keeps `text` as a topic.
    ///
    /// # Errors
    /// `InvalidTopic`, with a text that says which word breaks which rule.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let text = text.as_ref();
        validate(text, false)?;
        let mut buffer = BytesMut::with_capacity(PREFIX + text.len());
        // `validate` has bounded the length far below `u16::MAX`.
        buffer.put_u16_le(u16::try_from(text.len()).unwrap_or(u16::MAX));
        buffer.put_slice(text.as_bytes());
        Ok(Self(buffer.freeze().into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The text as bytes, which is what routing compares.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.get(PREFIX..).unwrap_or_default()
    }

    /// The words between the dots.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.as_str().split('.')
    }

    /// Whether the topic is one of the framework's own.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_bytes().starts_with(RESERVED_PREFIX.as_bytes())
    }
}

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Ord for Topic {
    /// By the bytes of the text, not of the length before it.
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?})", self.as_str())
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for Topic {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Topic {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Topic {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<&Topic> for Topic {
    fn from(topic: &Topic) -> Self {
        topic.clone()
    }
}

/// A set of topics: words, `*` for exactly one word, a final `>` for one or more.
///
/// A pattern whose first word is a wildcard does not match the framework's own topics.
///
/// ```
/// use posthaste_core::{Pattern, Topic};
///
/// let pattern = Pattern::new("orders.*.created")?;
/// assert!(pattern.matches(&Topic::new("orders.eu.created")?));
/// assert!(!pattern.matches(&Topic::new("orders.eu.west.created")?));
/// assert!(Pattern::new("orders.>")?.matches(&Topic::new("orders.eu.west.created")?));
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Checks and keeps `text` as a pattern.
    ///
    /// # Errors
    /// `InvalidTopic`, with a text that says which word breaks which rule.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let text = text.as_ref();
        validate(text, true)?;
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The words between the dots, wildcards included.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether the pattern names exactly one topic.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.words().any(|word| word == "*" || word == ">")
    }

    /// Whether `topic` is in the set.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut words = topic.words();
        for (index, pattern) in self.words().enumerate() {
            let Some(word) = words.next() else {
                return false;
            };
            let wild = pattern == "*" || pattern == ">";
            if wild && index == 0 && topic.is_reserved() {
                return false;
            }
            if pattern == ">" {
                return true;
            }
            if !wild && pattern != word {
                return false;
            }
        }
        words.next().is_none()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.as_str())
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Pattern {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<&Topic> for Pattern {
    /// The pattern that matches this topic alone.
    fn from(topic: &Topic) -> Self {
        Self(topic.as_str().into())
    }
}

/// The rules of `docs/semantics.md`, "Addresses", for topics and, with wildcards, for patterns.
fn validate(text: &str, wildcards: bool) -> Result<(), Error> {
    if is_plain(text.as_bytes()) {
        return Ok(());
    }
    let what = if wildcards { "pattern" } else { "topic" };
    let invalid = |why: String| Err(Error::new(ErrorKind::InvalidTopic, why));
    if text.len() > TOPIC_BYTES_MAX {
        let length = text.len();
        return invalid(format!("a {what} has at most {TOPIC_BYTES_MAX} bytes, this has {length}"));
    }
    let count = text.split('.').count();
    if count > TOPIC_WORDS_MAX {
        return invalid(format!("a {what} has at most {TOPIC_WORDS_MAX} words, this has {count}"));
    }
    for (index, word) in text.split('.').enumerate() {
        let nth = index + 1;
        if word.is_empty() {
            return invalid(format!("word {nth} of the {what} {text:?} is empty"));
        }
        if word.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return invalid(format!(
                "word {nth} of the {what} {text:?} has white space or a control character in it"
            ));
        }
        match word {
            "*" | ">" if !wildcards => {
                return invalid(format!(
                    "word {nth} of the topic {text:?} is the wildcard {word:?}; only patterns have wildcards"
                ));
            }
            ">" if nth != count => {
                return invalid(format!(
                    "word {nth} of the pattern {text:?} is \">\", which may only come last"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether these bytes are a topic of visible ASCII characters without a wildcard in it, as nearly
/// all are: one look at each byte tells. It may say no to what is a good topic, never yes to one
/// that is none.
fn is_plain(bytes: &[u8]) -> bool {
    let (mut words, mut length) = (1, 0);
    for byte in bytes {
        match byte {
            b'.' if length > 0 => (words, length) = (words + 1, 0),
            b'*' | b'>' | b'.' => return false,
            b'!'..=b'~' => length += 1,
            _ => return false,
        }
    }
    length > 0 && words <= TOPIC_WORDS_MAX && bytes.len() <= TOPIC_BYTES_MAX
}

/// Checks the text of a topic that came from elsewhere as bytes.
pub(crate) fn validate_bytes(bytes: &[u8]) -> Result<(), Error> {
    if is_plain(bytes) {
        return Ok(());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => validate(text, false),
        Err(error) => {
            Err(Error::new(ErrorKind::InvalidTopic, "a topic has to be UTF-8").caused_by(error))
        }
    }
}
