//! What the queues were like when the process before this one ended, by what it noted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{Pattern, QueueSettings, Topic};
use posthaste_memory::store::{Kept, KeptQueue};

use crate::change::{Back, Read};

/// The queues by number, as far as the log has been read.
#[derive(Debug, Default)]
pub(crate) struct Queues(BTreeMap<u64, Queue>);

/// One of them. Its declaration may be behind its copies, because it is noted again when what is before
/// is forgotten.
#[derive(Debug, Default)]
struct Queue {
    name: Option<Topic>,
    settings: QueueSettings,
    bindings: Vec<Pattern>,
    next_position: u64,
    copies: BTreeMap<u64, Kept>,
    ids: BTreeMap<Arc<str>, Duration>,
}

impl Queues {
    /// Makes a change. One of a queue or a copy that is gone changes nothing.
    pub(crate) fn apply(&mut self, change: Read) {
        match change {
            Read::Declared { queue, name, settings, bindings, next_position } => {
                let known = self.0.entry(queue).or_default();
                (known.name, known.settings, known.bindings) = (Some(name), settings, bindings);
                known.next_position = known.next_position.max(next_position);
            }
            Read::Ids { queue, ids } => {
                self.0.entry(queue).or_default().ids.extend(ids);
            }
            Read::Deleted { queue } => drop(self.0.remove(&queue)),
            Read::Put { queue, copy, from } => {
                if let Some((queue, position)) = from {
                    self.forget(queue, position);
                }
                self.0.entry(queue).or_default().put(copy);
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
                    if but.is_empty() {
                        // A queue that retains lets its oldest go one by one.
                        while queue.copies.first_key_value().is_some_and(|(at, _)| *at < before) {
                            queue.copies.pop_first();
                        }
                        return;
                    }
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
        // One that has no declaration was deleted while copies of it were handed out.
        let kept = |(number, queue): (u64, Queue)| {
            let Queue { name, settings, bindings, next_position, copies, mut ids } = queue;
            let name = name?;
            let window = settings.dedup_window;
            ids.retain(|_, came| *came + window > unix);
            let mut ids: Vec<_> = ids.into_iter().collect();
            ids.sort_by_key(|(_, came)| *came);
            let copies = copies.into_values().collect();
            Some(KeptQueue { number, name, settings, bindings, next_position, copies, ids })
        };
        self.0.into_iter().filter_map(kept).collect()
    }
}

impl Queue {
    fn put(&mut self, copy: Kept) {
        self.next_position = self.next_position.max(copy.position + 1);
        let window = self.settings.dedup_window;
        let remembers = self.name.is_none() || !window.is_zero();
        if let Some(id) = copy.message.id().filter(|_| remembers && !copy.came.is_zero()) {
            self.ids.insert(id.into(), copy.came);
        }
        self.copies.insert(copy.position, copy);
    }
}
