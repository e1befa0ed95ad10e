//! Sending: which way each message goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthaste_core::{BoxFuture, Error, ErrorKind, Kind, Level, Message, Status, Topic};
use posthaste_engine::{Confirmation, Confirmed, Publish};

use crate::Alive;
use crate::frames;
use crate::lane::Lane;
use crate::node::{Handed, Mark, Prepared, is_asker, read_inbox};

/// What the task of a sender drives.
pub(crate) struct Publisher {
    alive: Arc<Alive>,
    /// Whether there was somebody to push to, once: from then on the queue holds.
    pushed: bool,
    /// What has to be reached until everything is on its way.
    marks: BTreeMap<u64, Mark>,
}

impl Publisher {
    pub(crate) fn new(alive: Arc<Alive>) -> Self {
        Self { alive, pushed: false, marks: BTreeMap::new() }
    }

    async fn hand_over(&mut self, message: &Message) -> Result<Handed, Error> {
        if message.is_to_queue() {
            return self.push(message).await;
        }
        if message.kind() == Kind::Request {
            return self.ask(message).await;
        }
        let topic = message.topic();
        if is_asker(&topic) {
            return self.answer(message).await;
        }
        if read_inbox(&topic).is_some() {
            return self.hand_to_inbox(message).await;
        }
        self.spread(Lane::Publish, message, None).await
    }

    /// Into an inbox of this node, or of a peer that has told of it.
    async fn hand_to_inbox(&mut self, message: &Message) -> Result<Handed, Error> {
        let node = &self.alive.node;
        if let Some(matched) = node.with(|state| state.put_in_inbox(message)) {
            return Ok(Handed { matched, ..Handed::default() });
        }
        // Where there is nothing to ask there is nobody who has told of an inbox.
        let _nobody = node.ensure(Lane::Ask).await;
        let ticket = frames::ticket(0, 0);
        let prepared = Prepared::new(message, Some(ticket), &*node.runtime);
        let high = node.high_water();
        Ok(node.until(|state| state.poll_inbox(&prepared, &high)).await)
    }

    async fn spread(
        &mut self,
        lane: Lane,
        message: &Message,
        envelope: Option<bytes::Bytes>,
    ) -> Result<Handed, Error> {
        let node = &self.alive.node;
        node.ensure(lane).await?;
        let prepared = Prepared::new(message, envelope, &*node.runtime);
        let high = node.high_water();
        Ok(node.until(|state| state.poll_spread(lane, &prepared, &high)).await)
    }

    async fn push(&mut self, message: &Message) -> Result<Handed, Error> {
        let node = &self.alive.node;
        if !self.pushed {
            node.ensure(Lane::Push).await?;
            self.pushed = true;
        }
        let queue = message.topic();
        if message.kind() == Kind::Request
            && !message.waits()
            && !node.with(|state| state.is_pulled(&queue))
        {
            self.say_nobody(message);
            return Ok(Handed::default());
        }
        let prepared = Prepared::new(message, None, &*node.runtime);
        let high = node.high_water();
        node.until(|state| state.poll_push(&prepared, &high)).await
    }

    async fn ask(&mut self, message: &Message) -> Result<Handed, Error> {
        let address = message.reply_to();
        let Some(inbox) = address.as_ref().and_then(read_inbox) else {
            return Err(no_inbox(address.as_ref()));
        };
        let ticket = frames::ticket(inbox, message.correlation());
        let handed = self.spread(Lane::Ask, message, Some(ticket)).await?;
        if handed.matched == 0 {
            self.say_nobody(message);
        }
        Ok(handed)
    }

    /// Tells who asks that nobody answers.
    fn say_nobody(&self, request: &Message) {
        if let Some(status) = request.status_reply(Status::NoResponders, "") {
            self.alive.node.with(|state| state.put_in_inbox(&status));
        }
    }

    async fn answer(&mut self, message: &Message) -> Result<Handed, Error> {
        let node = &self.alive.node;
        node.with(|state| state.note_answer(&node.id, message));
        let high = node.high_water();
        let poll = |state: &mut crate::node::State| {
            state.poll_answer(&node.id, message, &*node.runtime, &high)
        };
        Ok(node.until(poll).await)
    }
}

impl Publish for Publisher {
    async fn publish(&mut self, message: &Message) -> Result<Confirmation, Error> {
        let Handed { matched, marks } = self.hand_over(message).await?;
        self.marks.extend(marks);
        Ok(Confirmation::Now(Confirmed { matched, level: Level::Sent, nodes: 1 }))
    }

    /// Waits until the operating system has everything, or whoever it was for is gone.
    fn flush(&mut self) -> BoxFuture<'static, Result<(), Error>> {
        let (alive, marks) = (Arc::clone(&self.alive), std::mem::take(&mut self.marks));
        Box::pin(async move {
            alive.node.reached(&marks).await;
            Ok(())
        })
    }
}

fn no_inbox(address: Option<&Topic>) -> Error {
    let text = match address {
        Some(address) => format!("{address} is no inbox of this ZeroMQ node; answers go to one"),
        None => String::from("a request needs an inbox of this ZeroMQ node for its answers"),
    };
    Error::new(ErrorKind::InvalidArgument, text)
}
