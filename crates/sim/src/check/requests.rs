//! Checks of request-reply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Check, my, none_of};
use crate::history::{Name, What};

/// Every request has one outcome, by its deadline and what a node may stand still; a reply is for
/// the request that it answers; what is asked once is done at most once.
#[must_use]
pub fn requests_have_one_outcome(late: Duration) -> Check {
    my("every request has one outcome, in time, and is done at most once", move |history| {
        let mut open: BTreeMap<&Name, (Duration, &str)> = BTreeMap::new();
        let (mut asked, mut done) = (BTreeSet::new(), BTreeSet::new());
        let (mut wrong, mut slow, mut twice) = (Vec::new(), Vec::new(), Vec::new());
        for event in history.events() {
            match &event.what {
                What::Request { id, deadline } => {
                    asked.insert(id);
                    open.insert(id, (*deadline, &event.node));
                }
                What::Reply { id, .. } | What::NoReply { id, .. } => {
                    match open.remove(id) {
                        Some((deadline, _)) if event.at > deadline + late => {
                            slow.push(Arc::clone(id));
                        }
                        Some(_) => {}
                        None => twice.push(Arc::clone(id)),
                    }
                    if let What::Reply { answers, .. } = &event.what
                        && answers != id
                    {
                        wrong.push(format!("{id} by the answer to {answers}").into());
                    }
                }
                What::Execute { id } if !done.insert(id) => twice.push(Arc::clone(id)),
                What::Execute { id } if !asked.contains(id) => wrong.push(Arc::clone(id)),
                What::Crash { .. } => open.retain(|_, (_, node)| *node != &*event.node),
                _ => {}
            }
        }
        let left: Vec<Name> = open.into_keys().map(Arc::clone).collect();
        none_of("answered wrongly", &wrong)?;
        none_of("answered, or done, twice", &twice)?;
        none_of("without an outcome in time", &slow)?;
        none_of("without an outcome", &left)
    })
}
