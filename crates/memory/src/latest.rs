//! The newest waiting copy of each key, for those who want only that.

use std::collections::BTreeMap;

use posthaste_core::Message;

/// Positions of waiting copies, by key, or by topic where there is no key.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    by_key: BTreeMap<Box<str>, u64>,
    by_topic: BTreeMap<Box<[u8]>, u64>,
}

impl Latest {
    /// Where the copy waits that `message` takes the place of.
    pub(crate) fn predecessor(&self, message: &Message) -> Option<u64> {
        match message.key() {
            Some(key) => self.by_key.get(key),
            None => self.by_topic.get(message.topic_bytes()),
        }
        .copied()
    }

    /// A copy waits now; the newest of its key is what counts.
    pub(crate) fn insert(&mut self, message: &Message, position: u64) {
        let newest = match message.key() {
            Some(key) => self.by_key.entry(key.into()).or_default(),
            None => self.by_topic.entry(message.topic_bytes().into()).or_default(),
        };
        *newest = position.max(*newest);
    }

    /// A copy waits no longer.
    pub(crate) fn remove(&mut self, message: &Message, position: u64) {
        if self.predecessor(message) != Some(position) {
            return;
        }
        match message.key() {
            Some(key) => self.by_key.remove(key),
            None => self.by_topic.remove(message.topic_bytes()),
        };
    }

    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
        self.by_topic.clear();
    }
}
