//! How consumers come and go.

use std::sync::Arc;

use posthaste_core::sync::atomic::Ordering;
use posthaste_core::task::lock;
use posthaste_core::{Error, ErrorKind, Source, Start, Subscription, Topic};

use super::Engine;
use super::registry::Registry;
use crate::aftermath::Aftermath;
use crate::books::reason;
use crate::mailbox::{Mailbox, Role};
use crate::wait::Ticket;

impl Engine {
    /// Opens what a subscription reads from and joins it as `consumer`.
    pub(crate) fn subscribe(
        &self,
        subscription: &Subscription,
        consumer: u64,
    ) -> Result<Arc<Mailbox>, Error> {
        let overflow = subscription.overflow;
        if !matches!(subscription.source, Source::Queue(_)) && !overflow.suits_subscriptions() {
            let text = format!("{overflow} is no policy of subscriptions; choose another one");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        subscription.check_start()?;
        if matches!(subscription.start, Some(Start::Time(_))) && !self.has_clock() {
            return Err(Self::needs_clock("reading from a time on"));
        }
        let mut after = Aftermath::default();
        let mut registry = self.open_registry()?;
        // Joined under the registry's lock, so that a group cannot lose its last member between
        // being found and being joined.
        let mut mailbox = self.source(&mut registry, subscription)?;
        while !mailbox.join(consumer, &mut after) {
            // A group that was cut off and is about to be taken off the routes makes room for a
            // new one; nothing else that is found there is closed.
            if !registry.detach(&mailbox) {
                return Err(Self::draining());
            }
            mailbox = self.source(&mut registry, subscription)?;
        }
        self.reroute(&registry);
        drop(registry);
        after.run();
        Ok(mailbox)
    }

    fn source(
        &self,
        registry: &mut Registry,
        subscription: &Subscription,
    ) -> Result<Arc<Mailbox>, Error> {
        match &subscription.source {
            Source::Queue(name) => {
                let reads = subscription.start.is_some();
                let queue = match registry.queues.get(name) {
                    None if reads => {
                        let text = format!(
                            "there is no queue {name} to read from a start; declare one that \
                             retains first"
                        );
                        return Err(Error::new(ErrorKind::NotFound, text));
                    }
                    _ => registry.open_queue(name)?,
                };
                let text = match (reads, queue.retains()) {
                    (true, false) => {
                        format!(
                            "the queue {name} does not retain, and is consumed, without a start"
                        )
                    }
                    (false, true) => {
                        format!("the queue {name} retains, and is read, from a start")
                    }
                    _ => return Ok(queue),
                };
                Err(Error::new(ErrorKind::Conflict, text))
            }
            Source::Topic(pattern) => {
                let name = Topic::new("_ph.subscription")?;
                let role = match pattern.as_str().starts_with(&self.inbox_prefix) {
                    true => Role::Inbox,
                    false => Role::Subscription,
                };
                registry.open(role, name, subscription, pattern)
            }
            Source::Shared(pattern, group) => {
                let key = (pattern.clone(), group.clone());
                if let Some(mailbox) = registry.groups.get(&key) {
                    return Ok(Arc::clone(mailbox));
                }
                let mailbox = registry.open(Role::Group, group.clone(), subscription, pattern)?;
                registry.groups.insert(key, Arc::clone(&mailbox));
                Ok(mailbox)
            }
        }
    }

    /// A consumer is gone. Subscriptions go with it, groups with their last member.
    pub(crate) fn unsubscribe(
        &self,
        mailbox: &Arc<Mailbox>,
        consumer: u64,
        waiting: Option<Ticket>,
    ) {
        let mut after = Aftermath::default();
        let mut registry = lock(&self.registry);
        let closes = mailbox.part(consumer, waiting, &mut after) && mailbox.role() != Role::Queue;
        if closes && registry.detach(mailbox) {
            self.reroute(&registry);
        }
        drop(registry);
        after.run();
        if closes {
            self.finish(mailbox, reason::UNSUBSCRIBED);
        }
    }

    /// A subscription or a group was too slow: nothing leads there any more.
    pub(super) fn cut_off(&self, mailbox: &Arc<Mailbox>) {
        let mut registry = lock(&self.registry);
        if registry.detach(mailbox) {
            self.reroute(&registry);
        }
        drop(registry);
        self.retire(mailbox);
    }

    /// Closes what nothing leads to any more.
    pub(super) fn finish(&self, mailbox: &Arc<Mailbox>, why: &'static str) {
        mailbox.with(|state, after| state.close(why, after));
        self.retire(mailbox);
    }

    pub(crate) fn next_inbox(&self) -> Result<Topic, Error> {
        let number = self.next_inbox.fetch_add(1, Ordering::Relaxed);
        Topic::new(format!("{}.{number}", self.inbox_prefix))
    }
}
