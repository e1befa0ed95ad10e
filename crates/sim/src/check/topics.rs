//! Checks of publish-subscribe.

use std::collections::{BTreeMap, BTreeSet};

use posthaste_core::{Pattern, Source, Topic};

use super::{Check, my};
use crate::history::{Name, What};

/// What a subscriber knows of one message.
struct Published<'a> {
    to: &'a Topic,
    invoked: usize,
    ended: usize,
    confirmed: bool,
}

/// What a subscription got.
struct Subscriber<'a> {
    asked: usize,
    since: usize,
    pattern: &'a Pattern,
    delivered: BTreeSet<&'a Name>,
    doubled: u64,
    missed: u64,
    last: usize,
}

/// Every subscriber gets, once, every message that was sent after its subscription was live and
/// confirmed, or is told that it has missed it. For subscribers whose connections hold, and who
/// have seen the last message.
#[must_use]
pub fn subscribers_miss_nothing_unsaid() -> Check {
    my("subscribers get everything, or know how much they missed", |history| {
        let mut published: BTreeMap<&Name, Published<'_>> = BTreeMap::new();
        let mut asked: BTreeMap<&Name, usize> = BTreeMap::new();
        let mut subscribers: BTreeMap<&Name, Subscriber<'_>> = BTreeMap::new();
        for (at, what) in history.iter() {
            match what {
                What::SendInvoke { id, to, queue: false, .. } => {
                    let ended = usize::MAX;
                    published.insert(id, Published { to, invoked: at, ended, confirmed: false });
                }
                What::SendOk { id, .. } | What::SendErr { id, .. } => {
                    if let Some(message) = published.get_mut(id) {
                        message.ended = at;
                        message.confirmed = matches!(what, What::SendOk { .. });
                    }
                }
                What::SubscribeInvoke { consumer } => {
                    asked.insert(consumer, at);
                }
                What::SubscribeOk { consumer, source: Source::Topic(pattern) } => {
                    let delivered = BTreeSet::new();
                    let asked = asked.get(consumer).copied().unwrap_or(at);
                    subscribers.insert(
                        consumer,
                        Subscriber {
                            asked,
                            since: at,
                            pattern,
                            delivered,
                            doubled: 0,
                            missed: 0,
                            last: 0,
                        },
                    );
                }
                What::Deliver { consumer, id, missed, .. } => {
                    if let Some(subscriber) = subscribers.get_mut(consumer) {
                        subscriber.missed += missed;
                        subscriber.doubled += u64::from(!subscriber.delivered.insert(id));
                        subscriber.last = published.get(id).map_or(at, |message| message.invoked);
                    }
                }
                _ => {}
            }
        }
        subscribers.iter().try_for_each(|(consumer, this)| account(consumer, this, &published))
    })
}

fn account(
    consumer: &Name,
    this: &Subscriber<'_>,
    published: &BTreeMap<&Name, Published<'_>>,
) -> Result<(), String> {
    if this.doubled > 0 {
        return Err(format!("{consumer} got {} messages twice", this.doubled));
    }
    let own = || published.values().filter(|message| this.pattern.matches(message.to));
    // Sent and confirmed between the subscription and the last delivery: these it has to account
    // for. Those that were under way at the one end or the other it may.
    let surely = own()
        .filter(|it| it.confirmed && it.invoked > this.since && it.ended < this.last)
        .count() as u64;
    let at_most = own().filter(|it| it.ended > this.asked).count() as u64;
    let accounted = this.delivered.len() as u64 + this.missed;
    if accounted < surely {
        let got = this.delivered.len();
        let missed = this.missed;
        return Err(format!(
            "{surely} messages were confirmed while {consumer} was subscribed; it got {got} and \
             was told of {missed} that it missed"
        ));
    }
    if accounted > at_most {
        return Err(format!(
            "{consumer} was handed, or told that it missed, {accounted} messages of {at_most}"
        ));
    }
    Ok(())
}
