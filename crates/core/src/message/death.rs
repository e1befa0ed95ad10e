//! How a message died: one entry of a dead letter's history, and its place in the head.

use std::time::Duration;

use bytes::BufMut;

use crate::Topic;
use crate::limits::{DEATH_REASON_BYTES, DEATH_REASONS};

/// One death of a message: in which queue, after how many attempts, and why each of them failed.
///
/// ```
/// use std::time::Duration;
/// use posthaste_core::{Death, Message, Topic};
///
/// let queue = Topic::new("jobs")?;
/// let mut death = Death::new(queue.clone(), 2, Duration::from_secs(1_800_000_000));
/// death.add_reason("no such customer");
/// let letter = Message::to_queue(queue, "work").with_death(&death).expect("it died but once");
/// assert_eq!(letter.deaths().collect::<Vec<_>>(), [death]);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// The queue in which the message died.
    pub queue: Topic,
    /// How often it was handed out there.
    pub attempts: u32,
    /// When it died, as the time since the Unix epoch, in whole milliseconds.
    pub at: Duration,
    /// Why the attempts failed, oldest first; at most the last [`DEATH_REASONS`] are kept.
    pub reasons: Vec<String>,
}

impl Death {
    /// A death without reasons.
    #[must_use]
    pub fn new(queue: Topic, attempts: u32, at: Duration) -> Self {
        let at = Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        Self { queue, attempts, at, reasons: Vec::new() }
    }

    /// Adds why an attempt failed, cut at [`DEATH_REASON_BYTES`].
    pub fn add_reason(&mut self, why: &str) {
        let end =
            (0..=DEATH_REASON_BYTES.min(why.len())).rev().find(|at| why.is_char_boundary(*at));
        if self.reasons.len() >= DEATH_REASONS {
            self.reasons.remove(0);
        }
        self.reasons.push(why[..end.unwrap_or(0)].to_owned());
    }

    /// `u32` attempts, `u64` milliseconds, the queue and the reasons as `u16` length and text.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        value.put_u32_le(self.attempts);
        value.put_u64_le(u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX));
        for text in [self.queue.as_str()].into_iter().chain(self.reasons.iter().map(String::as_str))
        {
            value.put_u16_le(u16::try_from(text.len()).unwrap_or(u16::MAX));
            value.put_slice(text.as_bytes());
        }
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (attempts, rest) = value.split_first_chunk()?;
        let (millis, mut rest) = rest.split_first_chunk()?;
        let queue = Topic::new(split_text(&mut rest)?).ok()?;
        let at = Duration::from_millis(u64::from_le_bytes(*millis));
        let mut death = Self::new(queue, u32::from_le_bytes(*attempts), at);
        while !rest.is_empty() {
            let reason = split_text(&mut rest)?;
            if death.reasons.len() >= DEATH_REASONS || reason.len() > DEATH_REASON_BYTES {
                return None;
            }
            death.reasons.push(reason.to_owned());
        }
        Some(death)
    }
}

fn split_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first_chunk()?;
    let (text, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}
