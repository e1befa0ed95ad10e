//! Where a sender's messages go, as far as it knows.

use std::sync::Arc;

use posthaste_core::{Error, Kind, Level, Message, Topic};

use crate::engine::Engine;
use crate::mailbox::{Mailbox, Role};

/// The last look-up. Most senders send to one topic, so most messages need no other.
#[derive(Debug, Default)]
pub(crate) struct Route {
    topic: Option<Topic>,
    to_queue: bool,
    generation: u64,
    targets: Vec<Arc<Mailbox>>,
    /// Whether one of the targets is durable, and how safe a message is with all of them.
    is_durable: bool,
    level: Option<Level>,
    /// Those of the targets that somebody asks at, where it matters.
    busy: Vec<Arc<Mailbox>>,
    /// A [plain](Message::is_plain) message that went to the targets: there is nothing to find out
    /// about others like it.
    model: Option<Message>,
}

impl Route {
    /// Where the message goes, if one like it went there and nothing has changed since.
    #[inline(always)]
    pub(crate) fn of_model(&self, message: &Message, engine: &Engine) -> Option<&[Arc<Mailbox>]> {
        match &self.model {
            Some(model) if message.is_like(model) && self.generation == engine.generation() => {
                Some(&self.targets)
            }
            _ => None,
        }
    }

    /// A message went where the last look-up said; what is like it may go there too.
    pub(crate) fn set_model(&mut self, message: Option<Message>) {
        self.model = message;
    }

    pub(crate) fn has_model(&self, message: &Message) -> bool {
        self.model.as_ref().is_some_and(|model| message.is_like(model))
    }

    /// Finds out where the message goes.
    pub(crate) fn look_up(&mut self, engine: &Engine, message: &Message) -> Result<(), Error> {
        let to_queue = message.is_to_queue();
        // A queue that was not there is looked for again: this message may declare it.
        if self.generation == engine.generation()
            && !(to_queue && self.targets.is_empty())
            && self.leads(message)
        {
            return Ok(());
        }
        // A look-up that fails leaves no answer to an older one behind.
        self.forget();
        let topic = message.topic();
        // A request does not conjure up a queue in which nobody would find it.
        let declare = message.kind() != Kind::Request || message.waits();
        let queue = to_queue.then_some(&topic);
        self.generation = engine.route(message.topic_bytes(), queue, declare, &mut self.targets)?;
        self.to_queue = to_queue;
        self.topic = Some(topic);
        self.is_durable = self.targets.iter().any(|this| this.is_durable());
        let mut queues = self.targets.iter().filter(|this| this.role() == Role::Queue);
        let is_stored = self.is_durable && queues.all(|queue| queue.is_durable());
        self.level = is_stored.then_some(Level::Stored);
        Ok(())
    }

    /// Whether the last look-up was for a message that goes where this one does.
    #[inline]
    pub(crate) fn leads(&self, message: &Message) -> bool {
        self.to_queue == message.is_to_queue()
            && self.topic.as_ref().is_some_and(|topic| message.topic_bytes() == topic.as_bytes())
    }

    /// The next message is looked up anew.
    pub(crate) fn forget(&mut self) {
        (self.topic, self.model) = (None, None);
    }

    /// Whether something of the message has to reach a store.
    pub(crate) fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// How safe a message becomes in all queues that it goes to.
    pub(crate) fn level(&self) -> Level {
        self.level.unwrap_or(Level::Held)
    }

    pub(crate) fn targets(&self) -> &[Arc<Mailbox>] {
        &self.targets
    }

    /// The targets that take the message. A request that does not wait is for live responders: no
    /// queue takes it at which nobody asks, and nothing at all if nobody asks anywhere.
    pub(crate) fn willing(&mut self, impatient: bool) -> &[Arc<Mailbox>] {
        if !impatient || self.targets.iter().all(|this| this.has_takers()) {
            return &self.targets;
        }
        self.busy.clear();
        if self.targets.iter().any(|this| this.has_takers()) {
            let waits = |this: &&Arc<Mailbox>| this.role() == Role::Queue && !this.has_takers();
            self.busy.extend(self.targets.iter().filter(|this| !waits(this)).cloned());
        }
        &self.busy
    }
}
