//! Checks of what queues promise: nothing invented, nothing confirmed lost, nothing doubled, one
//! holder at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use posthaste_core::{Source, Topic};

use super::{Check, my, none_of};
use crate::history::{History, How, Name, What};

/// Whatever is delivered was sent before.
#[must_use]
pub fn no_invention() -> Check {
    my("nothing is invented", |history| {
        let mut sent = BTreeSet::new();
        let mut invented = Vec::new();
        for (_, what) in history.iter() {
            match what {
                What::SendInvoke { id, .. } => {
                    sent.insert(id);
                }
                What::Deliver { id, .. } if !sent.contains(id) => invented.push(Arc::clone(id)),
                _ => {}
            }
        }
        none_of("delivered and never sent", &invented)
    })
}

/// Whatever was confirmed in a queue is handed to somebody who settles it.
#[must_use]
pub fn no_confirmed_loss() -> Check {
    my("nothing that was confirmed in a queue is lost", |history| lost(history, None))
}

/// As [`no_confirmed_loss`], except what was sent before the last crash of a node: a broker in
/// memory takes what it holds with it.
#[must_use]
pub fn no_confirmed_loss_but_by(node: impl Into<String>) -> Check {
    let node = node.into();
    let name = format!("nothing confirmed in a queue is lost, except by a crash of {node}");
    my(name, move |history| lost(history, Some(&node)))
}

fn lost(history: &History, but_by: Option<&str>) -> Result<(), String> {
    let mut in_queue = BTreeSet::new();
    let mut confirmed = BTreeSet::new();
    let mut done = BTreeSet::new();
    for event in history.events() {
        match &event.what {
            What::SendInvoke { id, queue: true, .. } => {
                in_queue.insert(id);
            }
            What::SendOk { id, .. } if in_queue.contains(id) => {
                confirmed.insert(id);
            }
            What::Settle { id, how: How::Ack | How::Reject, .. }
            | What::Deliver { id, source: Source::Queue(_), leased: false, .. } => {
                done.insert(id);
            }
            What::Crash { .. } if but_by == Some(&*event.node) => {
                // A confirm that was on its way is of the life before.
                confirmed.clear();
                in_queue.clear();
            }
            _ => {}
        }
    }
    let lost = confirmed.into_iter().filter(|id| !done.contains(id));
    none_of("confirmed and lost", &lost.map(Arc::clone).collect::<Vec<_>>())
}

/// A message that was sent once is handed out once as attempt 1, once as attempt 2, and so on,
/// unless it was given back as unseen.
#[must_use]
pub fn each_attempt_once() -> Check {
    my("each attempt is handed out once", |history| {
        let mut sends: BTreeMap<&Name, u32> = BTreeMap::new();
        let mut left: BTreeMap<(&Topic, &Name, u32), u32> = BTreeMap::new();
        let mut released: BTreeSet<(&Name, u32)> = BTreeSet::new();
        let mut doubled = Vec::new();
        for (_, what) in history.iter() {
            match what {
                What::SendInvoke { id, .. } => *sends.entry(id).or_default() += 1,
                What::Settle { id, attempt, how: How::Release, .. } => {
                    released.insert((id, *attempt));
                }
                What::Deliver {
                    source: Source::Queue(queue), id, attempt, leased: true, ..
                } => {
                    if released.remove(&(id, *attempt)) {
                        continue;
                    }
                    let seen = left.entry((queue, id, *attempt)).or_default();
                    *seen += 1;
                    if *seen > sends.get(id).copied().unwrap_or(0) {
                        doubled.push(format!("{id} (attempt {attempt})").into());
                    }
                }
                _ => {}
            }
        }
        none_of("handed out more often than sent", &doubled)
    })
}

/// What was acknowledged, and confirmed as such, is never handed out again.
///
/// A consumer whose connection is gone may still be handed what it had received before: that is an
/// earlier attempt, and settling it is in vain. What counts is an attempt after the settled one.
#[must_use]
pub fn settled_stays_settled() -> Check {
    my("what is settled stays settled", |history| {
        let mut waiting: BTreeMap<&Name, Vec<(&Name, u32)>> = BTreeMap::new();
        let mut settled: BTreeMap<&Name, u32> = BTreeMap::new();
        let mut sends = BTreeMap::<&Name, u32>::new();
        let mut again = Vec::new();
        for (_, what) in history.iter() {
            match what {
                What::SendInvoke { id, .. } => *sends.entry(id).or_default() += 1,
                What::Settle { consumer, id, attempt, how: How::Ack } => {
                    waiting.entry(consumer).or_default().push((id, *attempt));
                }
                What::SettleOk { consumer } => {
                    settled.extend(waiting.remove(consumer).unwrap_or_default());
                }
                What::SettleErr { consumer, .. } => {
                    waiting.remove(consumer);
                }
                What::Deliver { source: Source::Queue(_), id, attempt, .. } => {
                    let was = settled.get(id).is_some_and(|settled| attempt > settled);
                    if was && sends.get(id) == Some(&1) {
                        again.push(Arc::clone(id));
                    }
                }
                _ => {}
            }
        }
        none_of("handed out after it was settled", &again)
    })
}

/// Who was handed a message: where in the history, for the how manieth time, and who.
type Handed<'a> = (usize, u32, &'a Name);

/// Nobody is handed what somebody else holds: whoever acknowledges a delivery, and has that
/// confirmed, was the only one who had it meanwhile.
///
/// An earlier attempt that turns up late is what a consumer had received over a connection that it
/// has lost.
#[must_use]
pub fn one_holder_at_a_time() -> Check {
    my("a delivery has one holder at a time", |history| {
        let mut handed: BTreeMap<&Name, Vec<Handed<'_>>> = BTreeMap::new();
        let mut waiting: BTreeMap<&Name, Vec<(usize, &Name)>> = BTreeMap::new();
        let mut sends = BTreeMap::<&Name, u32>::new();
        let mut shared = Vec::new();
        for (at, what) in history.iter() {
            match what {
                What::SendInvoke { id, .. } => *sends.entry(id).or_default() += 1,
                What::Deliver {
                    source: Source::Queue(_),
                    consumer,
                    id,
                    attempt,
                    leased: true,
                    ..
                } => {
                    handed.entry(id).or_default().push((at, *attempt, consumer));
                }
                What::Settle { consumer, id, how: How::Ack, .. } => {
                    waiting.entry(consumer).or_default().push((at, id));
                }
                What::SettleErr { consumer, .. } => {
                    waiting.remove(consumer);
                }
                What::SettleOk { consumer } => {
                    for (acked, id) in waiting.remove(consumer).unwrap_or_default() {
                        let all = handed.get(id).map_or(&[][..], Vec::as_slice);
                        let own = |(at, _, who): &&Handed<'_>| *who == consumer && *at < acked;
                        let Some((own, attempt, _)) = all.iter().rfind(own) else { continue };
                        let other = |(at, other, who): &Handed<'_>| {
                            *who != consumer && other >= attempt && (*own..acked).contains(at)
                        };
                        if all.iter().any(other) && sends.get(id) == Some(&1) {
                            shared.push(Arc::clone(id));
                        }
                    }
                }
                _ => {}
            }
        }
        none_of("held by two at a time", &shared)
    })
}

/// Every send has its outcome, except of a node that crashed after it.
#[must_use]
pub fn every_send_has_an_outcome() -> Check {
    my("every send has an outcome", |history| {
        let mut open: BTreeMap<(&Name, &Name), &str> = BTreeMap::new();
        for event in history.events() {
            match &event.what {
                What::SendInvoke { sender, id, .. } => {
                    open.insert((sender, id), &event.node);
                }
                What::SendOk { sender, id, .. } | What::SendErr { sender, id, .. } => {
                    open.remove(&(sender, id));
                }
                What::Crash { .. } => open.retain(|_, node| *node != &*event.node),
                _ => {}
            }
        }
        let ids: Vec<Name> = open.into_keys().map(|(_, id)| Arc::clone(id)).collect();
        none_of("neither confirmed nor returned", &ids)
    })
}
