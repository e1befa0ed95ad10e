//! The order of keys in a keyed queue: of each key one copy is in play, the others wait behind it.

use std::collections::{BTreeMap, BTreeSet};

/// By key, what is in play and what waits.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    by_key: BTreeMap<Box<str>, Line>,
}

#[derive(Debug)]
struct Line {
    first: u64,
    behind: BTreeSet<u64>,
}

impl Keys {
    /// Lines a copy up, and says whether it is in play.
    pub(crate) fn enter(&mut self, key: &str, position: u64) -> bool {
        if let Some(line) = self.by_key.get_mut(key) {
            line.behind.insert(position);
            return false;
        }
        self.by_key.insert(key.into(), Line { first: position, behind: BTreeSet::new() });
        true
    }

    /// A copy is gone; the answer is the one that is in play now, if it was in its way.
    pub(crate) fn leave(&mut self, key: &str, position: u64) -> Option<u64> {
        let line = self.by_key.get_mut(key)?;
        if line.first != position {
            line.behind.remove(&position);
            return None;
        }
        let Some(next) = line.behind.pop_first() else {
            self.by_key.remove(key);
            return None;
        };
        line.first = next;
        Some(next)
    }

    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
    }
}
