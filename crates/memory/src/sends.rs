//! The books of the senders: how many messages they took, each counted by its own sender.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthaste_core::Sends;
use posthaste_core::sync::Mutex;
use posthaste_core::sync::atomic::{AtomicU64, Ordering};
use posthaste_core::task::lock;

/// What all senders took.
#[derive(Debug, Default)]
pub(crate) struct SendBooks(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By address, which tells them apart.
    live: BTreeMap<usize, Arc<AtomicU64>>,
    /// What senders took that are gone.
    gone: u64,
}

impl SendBooks {
    /// A count for a new sender, which alone writes it.
    pub(crate) fn join(&self) -> Arc<AtomicU64> {
        let count = Arc::new(AtomicU64::new(0));
        lock(&self.0).live.insert(address(&count), Arc::clone(&count));
        count
    }

    /// A sender is gone.
    pub(crate) fn leave(&self, count: &Arc<AtomicU64>) {
        let mut counts = lock(&self.0);
        if counts.live.remove(&address(count)).is_some() {
            counts.gone += count.load(Ordering::Relaxed);
        }
    }

    /// What is taken is confirmed at once.
    pub(crate) fn sum(&self) -> Sends {
        let counts = lock(&self.0);
        let live: u64 = counts.live.values().map(|count| count.load(Ordering::Relaxed)).sum();
        let taken = counts.gone + live;
        Sends { taken, confirmed: taken, returned: 0, pending: 0 }
    }
}

fn address(count: &Arc<AtomicU64>) -> usize {
    Arc::as_ptr(count).addr()
}
