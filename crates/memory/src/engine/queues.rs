//! Managing queues: declaring, deleting, looking into them, and replaying what died.

use std::sync::Arc;

use posthaste_core::task::lock;
use posthaste_core::{
    Browsed, Error, ErrorKind, Message, Queue, QueueInfo, QueueSettings, Replayed, Topic,
};

use super::Engine;
use super::paging::Copies;
use crate::aftermath::Aftermath;
use crate::books::reason;
use crate::copies::{Admission, Entrance, Origin};
use crate::mailbox::Mailbox;
use crate::state::{Content, Looked, NextReplay, State};
use crate::store::{KeptQueue, Paged};

/// The most messages that are shown at a time.
const BROWSE_MAX: usize = 1_000;

impl Engine {
    pub(crate) fn declare(&self, queue: Queue) -> Result<(), Error> {
        let named = QueueSettings::of(&queue)?;
        if let Some(what) = named.needs_clock().filter(|_| !self.has_clock()) {
            return Err(Self::needs_clock(what));
        }
        let mut after = Aftermath::default();
        let mut registry = self.open_registry()?;
        let mailbox = match registry.queues.get(&queue.name) {
            Some(mailbox) => Arc::clone(mailbox),
            None => registry.create_queue(&queue)?,
        };
        let new = mailbox.with_held(&mut after, |state, after| state.update(queue, after))?;
        for binding in new {
            registry.routes.add(&binding, &mailbox);
        }
        self.reroute(&registry);
        drop(registry);
        after.run();
        Ok(())
    }

    /// Puts the queues back that were there before this process. What follows from what is in them
    /// follows once all of them are there: a dead letter may go from one to another.
    pub(crate) fn restore(&self, kept: Vec<KeptQueue>) -> Result<(), Error> {
        let mut after = Aftermath::default();
        let mut registry = lock(&self.registry);
        for queue in kept {
            let mailbox = registry.restore_queue(&queue)?;
            mailbox.with_held(&mut after, |state, after| state.restore(queue, after));
        }
        self.reroute(&registry);
        drop(registry);
        after.run();
        Ok(())
    }

    pub(crate) fn delete(&self, name: &Topic) -> Result<(), Error> {
        let mut after = Aftermath::default();
        let mut registry = lock(&self.registry);
        let mailbox = registry.remove_queue(name).ok_or_else(|| not_found(name))?;
        self.reroute(&registry);
        // Before there is another of that name: a store that notes both has them in this order.
        mailbox.with_held(&mut after, |state, after| state.close(reason::QUEUE_DELETED, after));
        drop(registry);
        after.run();
        self.retire(&mailbox);
        Ok(())
    }

    /// A queue goes that nobody has used for long enough; one that somebody uses now stays.
    pub(super) fn expire(&self, mailbox: &Arc<Mailbox>) {
        let mut after = Aftermath::default();
        let mut registry = lock(&self.registry);
        let gone = mailbox.with_held(&mut after, State::close_if_unused);
        if gone && registry.queues.get(mailbox.name()).is_some_and(|this| this.id() == mailbox.id())
        {
            registry.remove_queue(mailbox.name());
            self.reroute(&registry);
        }
        drop(registry);
        after.run();
        if gone {
            self.retire(mailbox);
        }
    }

    pub(crate) fn queue(&self, name: &Topic) -> Result<QueueInfo, Error> {
        Ok(self.find_queue(name)?.info())
    }

    pub(crate) fn purge(&self, name: &Topic) -> Result<u64, Error> {
        Ok(self.find_queue(name)?.purge())
    }

    pub(crate) async fn browse(
        &self,
        name: &Topic,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        let mailbox = self.find_queue(name)?;
        let look = || mailbox.with(|state, _| state.browse(after, limit.min(BROWSE_MAX)));
        let (looked, read) = self.read(look).await?;
        let mut read = read.into_iter();
        let browsed = looked.into_iter().map(|this| {
            let message = match this.content {
                Content::Here(message) => Some(message),
                Content::InStore(_) => read.next().map(|copy| copy.message),
            };
            let message = message.ok_or_else(|| not_found(name))?;
            Ok(Browsed {
                position: this.position,
                attempts: this.attempts,
                unsettled: this.unsettled,
                payload_bytes: message.payload().len() as u64,
                message: cut(message)?,
            })
        });
        browsed.collect()
    }

    /// Moves one letter at a time, each in the one queue until it is in the other.
    pub(crate) async fn replay(&self, name: &Topic, limit: u64) -> Result<Replayed, Error> {
        let source = self.find_queue(name)?;
        if source.retains() {
            let text = format!("the queue {name} retains, so nothing in it moves; read it instead");
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        let end = source.with(|state, _| state.next_position());
        let mut report = Replayed::default();
        let (mut behind, mut has_read) = (None, false);
        while report.moved < limit {
            let replay = match source.with(|state, _| state.next_replay(behind, end)) {
                NextReplay::Copy(replay) => replay,
                NextReplay::Nothing => break,
                NextReplay::InStore => {
                    // What stays is in memory from then on, and may not take more than there is.
                    let stays = report.kept > 0 || std::mem::replace(&mut has_read, true);
                    if stays && !source.with(|state, _| state.has_room_to_stay()) {
                        let why = report.why.map_or_else(String::new, |why| format!("{why}; "));
                        report.why = Some(format!(
                            "{why}letters behind those that stay were not looked at, because no \
                             more fit in memory"
                        ));
                        break;
                    }
                    self.read_back(&source).await?;
                    continue;
                }
            };
            let why = self.put_back_where_it_died(&replay.message, replay.origin);
            source.with(|state, after| state.replayed(&replay, why.is_none(), after));
            (behind, has_read) = (Some(replay.position), false);
            report.moved += u64::from(why.is_none());
            report.kept += u64::from(why.is_some());
            report.why = report.why.or(why);
        }
        self.wake_drain();
        Ok(report)
    }

    /// Puts a copy of a dead letter into the queue in which it died last; the answer is why not.
    fn put_back_where_it_died(&self, message: &Message, origin: Origin) -> Option<String> {
        let Some(death) = message.deaths().last() else {
            return Some("it is no dead letter".to_owned());
        };
        let Ok(target) = self.find_queue(&death.queue) else {
            return Some(not_found(&death.queue).to_string());
        };
        match target.admit(&mut Some(message.clone()), Entrance::Replay(origin)) {
            Admission::Taken => None,
            Admission::Full(_) => Some(format!("the queue {} is full", death.queue)),
            Admission::Refused(error) => Some(error.to_string()),
            Admission::Gone => Some(not_found(&death.queue).to_string()),
            Admission::Draining => Some(Self::draining().to_string()),
        }
    }

    fn find_queue(&self, name: &Topic) -> Result<Arc<Mailbox>, Error> {
        lock(&self.registry).queues.get(name).cloned().ok_or_else(|| not_found(name))
    }
}

impl Copies for Vec<Looked> {
    fn copies(&self) -> Vec<Paged> {
        let in_store = |this: &Looked| match this.content {
            Content::InStore(copy) => Some(copy),
            Content::Here(_) => None,
        };
        self.iter().filter_map(in_store).collect()
    }
}

/// The message with no more of its payload than is shown.
fn cut(message: Message) -> Result<Message, Error> {
    if message.payload().len() <= Browsed::BROWSED_BYTES {
        return Ok(message);
    }
    let mut parts = message.into_parts();
    // Copied, so that looking at a message keeps no large one in memory.
    parts.payload = bytes::Bytes::copy_from_slice(&parts.payload[..Browsed::BROWSED_BYTES]);
    Message::from_parts(parts)
}

fn not_found(name: &Topic) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no queue {name}"))
}
