//! What the queues were like when the process before this one ended, by what it noted.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use posthaste_core::{Pattern, QueueSettings, Topic};
use posthaste_memory::store::{Kept, KeptQueue};

use crate::change::{Back, Read};

/// The queues by number, as far as the log has been read.
#[derive(Debug, Default)]
pub(crate) struct Queues(BTreeMap<u64, Queue>);

#[derive(Debug)]
struct Queue {
    name: Topic,
    settings: QueueSettings,
    bindings: Vec<Pattern>,
    next_position: u64,
    copies: BTreeMap<u64, Kept>,
    ids: VecDeque<(String, Duration)>,
}

impl Queues {
    /// Makes a change. One of a queue or a copy that is gone changes nothing.
    pub(crate) fn apply(&mut self, change: Read) {
        match change {
            Read::Declared { queue, name, settings, bindings } => match self.0.get_mut(&queue) {
                Some(known) => (known.settings, known.bindings) = (settings, bindings),
                None => {
                    let (copies, ids) = (BTreeMap::new(), VecDeque::new());
                    let new = Queue { name, settings, bindings, next_position: 0, copies, ids };
                    self.0.insert(queue, new);
                }
            },
            Read::Deleted { queue } => drop(self.0.remove(&queue)),
            Read::Put { queue, copy, from } => {
                if let Some((queue, position)) = from {
                    self.forget(queue, position);
                }
                if let Some(queue) = self.0.get_mut(&queue) {
                    queue.put(copy);
                }
            }
            Read::Handed { queue, position } => {
                if let Some(copy) = self.copy(queue, position) {
                    copy.attempts = copy.attempts.saturating_add(1);
                    copy.out = true;
                }
            }
            Read::Back { queue, position, back: Back { attempts, due, death, dying } } => {
                if let Some(copy) = self.copy(queue, position) {
                    (copy.attempts, copy.due, copy.out) = (attempts, due, false);
                    copy.death = death.or(copy.death.take());
                    copy.dying = dying;
                }
            }
            Read::Gone { queue, position } => self.forget(queue, position),
            Read::Purged { queue, before, but } => {
                if let Some(queue) = self.0.get_mut(&queue) {
                    queue.copies.retain(|position, _| {
                        *position >= before || but.binary_search(position).is_ok()
                    });
                }
            }
        }
    }

    fn copy(&mut self, queue: u64, position: u64) -> Option<&mut Kept> {
        self.0.get_mut(&queue)?.copies.get_mut(&position)
    }

    fn forget(&mut self, queue: u64, position: u64) {
        if let Some(queue) = self.0.get_mut(&queue) {
            queue.copies.remove(&position);
        }
    }

    /// The queues at the end; `unix` is the time now.
    pub(crate) fn into_kept(self, unix: Duration) -> Vec<KeptQueue> {
        let kept = |(number, queue): (u64, Queue)| {
            let Queue { name, settings, bindings, next_position, copies, mut ids } = queue;
            let window = settings.dedup_window;
            ids.retain(|(_, came)| *came + window > unix);
            let (copies, ids) = (copies.into_values().collect(), ids.into());
            KeptQueue { number, name, settings, bindings, next_position, copies, ids }
        };
        self.0.into_iter().map(kept).collect()
    }
}

impl Queue {
    fn put(&mut self, copy: Kept) {
        self.next_position = self.next_position.max(copy.position + 1);
        let window = self.settings.dedup_window;
        if let Some(id) = copy.message.id().filter(|_| !window.is_zero()) {
            while self.ids.front().is_some_and(|(_, came)| *came + window <= copy.came) {
                self.ids.pop_front();
            }
            self.ids.push_back((id.to_owned(), copy.came));
        }
        self.copies.insert(copy.position, copy);
    }
}
