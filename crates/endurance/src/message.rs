//! The messages of a run: each has a number that no other has, from which everything in it follows.

use bytes::Bytes;
use posthaste::{Error, Message, Topic};

use crate::load::PUBLISHERS;
use crate::random::Random;

/// The queues that are sent to.
pub(crate) const QUEUES: [&str; 3] = ["endurance.plain", "endurance.known", "endurance.mortal"];
/// Knows ids, so that what is sent again comes once.
pub(crate) const KNOWN: usize = 1;
/// Has a dead-letter queue, which is [`DEAD`].
pub(crate) const MORTAL: usize = 2;
pub(crate) const DEAD: &str = "endurance.dead";

/// The publisher whose messages are large.
pub(crate) const BULKY: usize = PUBLISHERS;

/// The number of a message: of which publisher, and its how manieth, from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    pub(crate) publisher: usize,
    pub(crate) nth: usize,
}

impl Number {
    /// The queue that it is sent to.
    pub(crate) fn queue(self, seed: u64) -> usize {
        let choice = self.random(seed).below(QUEUES.len() as u64);
        usize::try_from(choice).unwrap_or(0)
    }

    /// Whether it has an id by which its queue knows it again.
    pub(crate) fn has_id(self, seed: u64) -> bool {
        self.queue(seed) == KNOWN
    }

    /// The message.
    pub(crate) fn message(self, seed: u64) -> Result<Message, Error> {
        let queue = self.queue(seed);
        let builder = Message::builder(Topic::new(QUEUES[queue])?).to_queue();
        let builder = builder.payload(self.payload(seed));
        match self.has_id(seed) {
            true => builder.id(self.to_string()).build(),
            false => builder.build(),
        }
    }

    /// Its payload: its number, and bytes that follow from it.
    pub(crate) fn payload(self, seed: u64) -> Bytes {
        let mut random = self.random(seed);
        random.next();
        // Most messages are small, a few fill more than a page or more than a frame.
        let length = match random.below(1000) {
            _ if self.publisher == BULKY => (64 << 10) + random.below(64 << 10),
            0 => random.below(300 << 10),
            1..=50 => random.below(8 << 10),
            _ => random.below(256),
        };
        let mut payload = format!("{self} ").into_bytes();
        let end = payload.len() + usize::try_from(length).unwrap_or(0);
        while payload.len() < end {
            payload.extend_from_slice(&random.next().to_le_bytes());
        }
        payload.truncate(end);
        payload.into()
    }

    /// The number of a message that came, if that is what it was when it was sent.
    pub(crate) fn of(seed: u64, payload: &[u8]) -> Option<Self> {
        let text = payload.split(|byte| *byte == b' ').next()?;
        let (publisher, nth) = std::str::from_utf8(text).ok()?.split_once('-')?;
        let number = Self { publisher: publisher.parse().ok()?, nth: nth.parse().ok()? };
        (number.payload(seed) == payload).then_some(number)
    }

    fn random(self, seed: u64) -> Random {
        Random::new(seed, &[0x006d_6573_7361_6765, self.publisher as u64, self.nth as u64])
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.publisher, self.nth)
    }
}
