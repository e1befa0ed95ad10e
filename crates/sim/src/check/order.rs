//! Checks of order: per sender, per confirm, per key, and of what comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{Source, Topic};

use super::{Check, my, none_of};
use crate::history::{History, How, Name, What};

/// Where things of a message stand in the history.
#[derive(Debug, Default)]
struct Life<'a> {
    sender: Option<&'a Name>,
    invoked: usize,
    confirmed: Option<usize>,
}

/// The lives of all messages, and in which order each queue handed its messages out for the first
/// time, as far as they were confirmed: one of unknown fate may come at any time.
fn first_deliveries(
    history: &History,
) -> (BTreeMap<&Name, Life<'_>>, BTreeMap<&Topic, Vec<&Name>>) {
    let mut lives: BTreeMap<&Name, Life<'_>> = BTreeMap::new();
    let mut firsts: BTreeMap<&Topic, Vec<&Name>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (at, what) in history.iter() {
        match what {
            What::SendInvoke { sender, id, .. } => {
                let life = lives.entry(id).or_default();
                (life.sender, life.invoked, life.confirmed) = (Some(sender), at, None);
            }
            What::SendOk { id, .. } => lives.entry(id).or_default().confirmed = Some(at),
            What::Deliver { source: Source::Queue(queue), id, .. } if seen.insert((queue, id)) => {
                firsts.entry(queue).or_default().push(id);
            }
            _ => {}
        }
    }
    for ids in firsts.values_mut() {
        ids.retain(|id| lives.get(id).is_some_and(|life| life.confirmed.is_some()));
    }
    (lives, firsts)
}

/// What one sender sends into a queue is handed out in that order for the first time. For queues
/// with one consumer.
#[must_use]
pub fn fifo_per_sender() -> Check {
    my("first deliveries are in the order of their sender", |history| {
        let (lives, firsts) = first_deliveries(history);
        let mut late = Vec::new();
        for ids in firsts.values() {
            let mut last: BTreeMap<&Name, usize> = BTreeMap::new();
            for id in ids {
                let Some(life) = lives.get(id) else { continue };
                let Some(sender) = life.sender else { continue };
                let before = last.insert(sender, life.invoked);
                if before.is_some_and(|before| before > life.invoked) {
                    late.push(Arc::clone(id));
                }
            }
        }
        none_of("delivered after a later message of the same sender", &late)
    })
}

/// What was confirmed before another message was sent is handed out before it. For queues with one
/// consumer.
#[must_use]
pub fn confirms_are_ordered() -> Check {
    my("what was confirmed first is delivered first", |history| {
        let (lives, firsts) = first_deliveries(history);
        let mut early = Vec::new();
        for ids in firsts.values() {
            // From the back: the earliest confirm among those that were delivered later.
            let mut confirmed = usize::MAX;
            for id in ids.iter().rev() {
                let Some(life) = lives.get(id) else { continue };
                if confirmed < life.invoked {
                    early.push(Arc::clone(id));
                }
                confirmed = confirmed.min(life.confirmed.unwrap_or(usize::MAX));
            }
        }
        none_of("delivered before one that was confirmed before it was sent", &early)
    })
}

/// In a keyed queue the messages of a key are handed out one at a time, in the order of their
/// sender: none while the one before is held. For any number of consumers.
#[must_use]
pub fn keys_are_in_order() -> Check {
    my("the messages of a key come one by one", |history| {
        let mut keys: BTreeMap<&Name, &Name> = BTreeMap::new();
        let mut held: BTreeMap<(&Topic, &Name), (&Name, &Name)> = BTreeMap::new();
        let mut beside = Vec::new();
        for (_, what) in history.iter() {
            match what {
                What::SendInvoke { id, key: Some(key), .. } => {
                    keys.insert(id, key);
                }
                What::Deliver {
                    source: Source::Queue(queue), consumer, id, leased: true, ..
                } => {
                    let Some(key) = keys.get(id) else { continue };
                    let before = held.insert((queue, key), (id, consumer));
                    // Another consumer may hold one that it has lost without knowing.
                    if before.is_some_and(|(other, who)| other != id && who == consumer) {
                        beside.push(Arc::clone(id));
                    }
                }
                What::Settle { id, .. } => held.retain(|_, (other, _)| *other != id),
                _ => {}
            }
        }
        none_of("handed out while another of its key was held", &beside)?;
        let (lives, firsts) = first_deliveries(history);
        let mut late = Vec::new();
        for ids in firsts.values() {
            let mut last: BTreeMap<(&Name, &Name), usize> = BTreeMap::new();
            for id in ids {
                let Some(life) = lives.get(id) else { continue };
                let Some((sender, key)) = life.sender.zip(keys.get(id)) else { continue };
                let before = last.insert((sender, key), life.invoked);
                if before.is_some_and(|before| before > life.invoked) {
                    late.push(Arc::clone(id));
                }
            }
        }
        none_of("handed out after a later message of the same key", &late)
    })
}

/// What is to be delivered after a while is not delivered before.
#[must_use]
pub fn nothing_comes_early() -> Check {
    my("nothing comes before its time", |history| {
        let mut due: BTreeMap<&Name, Duration> = BTreeMap::new();
        let mut early = Vec::new();
        for event in history.events() {
            match &event.what {
                What::SendInvoke { id, delay, .. } => {
                    due.entry(id).or_insert(event.at + *delay);
                }
                What::Deliver { id, .. } if due.get(id).is_some_and(|due| event.at < *due) => {
                    early.push(Arc::clone(id));
                }
                _ => {}
            }
        }
        none_of("delivered before its delay was over", &early)
    })
}

/// What a consumer gives back to a queue comes again before anything that was sent later, except
/// for the `others` that may have been on their way already (the prefetch). For queues with one
/// consumer.
#[must_use]
pub fn retried_come_back_first(others: usize) -> Check {
    my("what is retried comes back at its old place", move |history| {
        let mut retried: BTreeMap<&Name, usize> = BTreeMap::new();
        let mut late = Vec::new();
        for (_, what) in history.iter() {
            match what {
                What::Settle { id, how: How::Retry | How::Dropped | How::Release, .. } => {
                    retried.insert(id, 0);
                }
                What::Deliver { source: Source::Queue(_), id, attempt, .. } => {
                    if retried.remove(id).is_some_and(|between| between > others) {
                        late.push(Arc::clone(id));
                    }
                    // Only what had never been seen has to stand behind.
                    if *attempt == 1 {
                        retried.values_mut().for_each(|between| *between += 1);
                    }
                }
                _ => {}
            }
        }
        none_of("came back behind messages that were sent later", &late)
    })
}
