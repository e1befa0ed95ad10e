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
        none_of("handed out more often than sent", &doubled(history, u32::MAX))
    })
}

/// A message with an id is taken once, however often it was sent: each of its attempts is handed
/// out once, unless it was given back as unseen. For queues whose deduplication window is longer
/// than anybody goes on sending again.
#[must_use]
pub fn ids_are_taken_once() -> Check {
    my("each id is taken once", |history| none_of("taken more than once", &doubled(history, 1)))
}

/// The attempts that were handed out more often than their message was sent, or than `most` times.
fn doubled(history: &History, most: u32) -> Vec<Name> {
    let mut sends: BTreeMap<&Name, u32> = BTreeMap::new();
    let mut seen: BTreeMap<(&Topic, &Name, u32), u32> = BTreeMap::new();
    let mut released: BTreeSet<(&Name, u32)> = BTreeSet::new();
    let mut doubled = Vec::new();
    for (_, what) in history.iter() {
        match what {
            What::SendInvoke { id, .. } => *sends.entry(id).or_default() += 1,
            What::Settle { id, attempt, how: How::Release, .. } => {
                released.insert((id, *attempt));
            }
            What::Deliver { source: Source::Queue(queue), id, attempt, leased: true, .. } => {
                if released.remove(&(id, *attempt)) {
                    continue;
                }
                let seen = seen.entry((queue, id, *attempt)).or_default();
                *seen += 1;
                if *seen > sends.get(id).copied().unwrap_or(0).min(most) {
                    doubled.push(format!("{id} (attempt {attempt})").into());
                }
            }
            _ => {}
        }
    }
    doubled
}

/// Nothing is handed out of `queue` for the `attempts + 1`st time: what fails so often is out of
/// the way.
#[must_use]
pub fn at_most(attempts: u32, queue: Topic) -> Check {
    my("nothing is handed out too often", move |history| {
        let mut often = Vec::new();
        for (_, what) in history.iter() {
            if let What::Deliver { source: Source::Queue(of), id, attempt, .. } = what
                && *of == queue
                && *attempt > attempts
            {
                often.push(format!("{id} (attempt {attempt})").into());
            }
        }
        none_of(&format!("handed out of {queue} more than {attempts} times"), &often)
    })
}

/// Whatever was confirmed in `queue` was acknowledged by a consumer of it, or handed to one of
/// `dead`, where its dead letters go.
#[must_use]
pub fn the_dead_are_kept(queue: Topic, dead: Topic) -> Check {
    my("what is not done is a dead letter", move |history| {
        let (mut sent, mut confirmed) = (BTreeSet::new(), BTreeSet::new());
        let mut consumers: BTreeMap<&Name, &Source> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        for (_, what) in history.iter() {
            match what {
                What::SendInvoke { id, to, queue: true, .. } if *to == queue => {
                    sent.insert(id);
                }
                What::SendOk { id, .. } if sent.contains(id) => {
                    confirmed.insert(id);
                }
                What::SubscribeOk { consumer, source } => {
                    consumers.insert(consumer, source);
                }
                What::Deliver { source: Source::Queue(of), id, .. } if *of == dead => {
                    kept.insert(id);
                }
                What::Settle { consumer, id, how: How::Ack, .. }
                    if consumers.get(consumer) == Some(&&Source::Queue(queue.clone())) =>
                {
                    kept.insert(id);
                }
                _ => {}
            }
        }
        let lost = confirmed.into_iter().filter(|id| !kept.contains(id));
        none_of("neither done nor a dead letter", &lost.map(Arc::clone).collect::<Vec<_>>())
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

/// What was acknowledged, and confirmed as such, is never handed out again under its id, however often
/// it is sent, and whoever dies. For queues whose deduplication window is longer than anybody goes on
/// sending again.
///
/// An earlier attempt is what a consumer had received before, if it was there before.
#[must_use]
pub fn settled_ids_stay_settled() -> Check {
    my("what is settled under an id stays settled", |history| {
        let mut since: BTreeMap<&Name, usize> = BTreeMap::new();
        let mut waiting: BTreeMap<&Name, Vec<(&Name, u32)>> = BTreeMap::new();
        let mut settled: BTreeMap<&Name, (usize, u32, &Name)> = BTreeMap::new();
        let mut again = Vec::new();
        for (at, what) in history.iter() {
            match what {
                What::SubscribeInvoke { consumer } => {
                    since.insert(consumer, at);
                }
                What::Settle { consumer, id, attempt, how: How::Ack } => {
                    waiting.entry(consumer).or_default().push((id, *attempt));
                }
                What::SettleOk { consumer } => {
                    for (id, attempt) in waiting.remove(consumer).unwrap_or_default() {
                        settled.entry(id).or_insert((at, attempt, consumer));
                    }
                }
                What::SettleErr { consumer, .. } => {
                    waiting.remove(consumer);
                }
                What::Deliver { source: Source::Queue(_), consumer, id, attempt, .. } => {
                    let Some((done, last, who)) = settled.get(id) else { continue };
                    let came = since.get(consumer).copied().unwrap_or(0);
                    if attempt > last || consumer == *who || came > *done {
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
