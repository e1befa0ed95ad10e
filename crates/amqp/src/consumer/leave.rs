//! Leaving: what nobody saw goes back, who waits for an answer is told, and what was settled is heard.

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicGetOptions};
use posthaste_engine::Arrival;

use super::Consumer;
use super::settle::uncounted;
use crate::moves::Moving;
use crate::options::QueueType;
use crate::plan::Kind;
use crate::shared::Facts;
use crate::wire::short;

impl Consumer {
    /// Takes nothing in any more, and keeps what has come.
    pub(super) async fn stop_intake(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.left.extend(self.ready.drain(..));
        if self.full {
            return;
        }
        let last = self.take_what_would_go().await;
        let Some(open) = &mut self.open else { return };
        let tag = open.consumer.tag();
        if open.channel.basic_cancel(tag, BasicCancelOptions::default()).await.is_err() {
            return;
        }
        while let Some(Ok(delivery)) = open.consumer.next().await {
            self.left.push(delivery);
        }
        // In the order of their tags, because many may be acknowledged at once.
        self.left.extend(last);
    }

    /// The queue of a group goes with its last member; those who wait for answers to what is in it
    /// are told, so it is taken out, and nothing more comes into it.
    async fn take_what_would_go(&mut self) -> Vec<Delivery> {
        let mut taken = Vec::new();
        let Some(open) = self.open.as_ref().filter(|_| self.plan.kind == Kind::Group) else {
            return taken;
        };
        let (plan, channel) = (&self.plan, &open.channel);
        let Ok(name) = short(plan.queue.as_str()) else { return taken };
        // On a channel that is lost nothing can be done, and nothing has to be.
        if plan.members(channel).await != 1 || plan.unbind(&self.shared, channel).await.is_err() {
            return taken;
        }
        // One that joined meanwhile binds again after it consumes: either it does, or it is seen.
        if plan.members(channel).await != 1 {
            let _gone = plan.bind(&self.shared, channel).await;
            return taken;
        }
        while taken.len() < LEFT_MAX
            && let Ok(Some(got)) = channel.basic_get(name.clone(), BasicGetOptions::default()).await
        {
            taken.push(got.delivery);
        }
        taken
    }

    /// A channel keeps settlements back while a quorum queue has not done with [`HELD_BACK`] others,
    /// and forgets them when it is closed. Whatever asks the queue for a message waits for those
    /// others; what comes of it goes back with the rest that nobody saw.
    pub(super) async fn let_settlements_through(&mut self) {
        let Some(open) = self.open.as_ref().filter(|_| self.settlements > HELD_BACK) else {
            return;
        };
        let facts = self.shared.facts(&self.plan.queue).await;
        let is_quorum = |facts: Facts| facts.kind == Some(QueueType::Quorum);
        let Ok(name) = short(self.plan.queue.as_str()) else { return };
        if !facts.is_ok_and(|facts| facts.is_some_and(is_quorum)) {
            return;
        }
        self.settlements = 0;
        let got = open.channel.basic_get(name, BasicGetOptions::default()).await;
        if let Ok(Some(got)) = got {
            self.left.push(got.delivery);
            self.give_back_the_rest().await;
        }
        // The channel has heard of it when it answers the next question; one that is lost has
        // forgotten them already.
        let _heard = self.confirm_settled().await;
    }

    /// Gives back what had come when nothing was wanted any more.
    pub(super) async fn give_back_the_rest(&mut self) {
        let mut moves: Vec<Moving> = Vec::new();
        moves.extend(self.moving.take().map(|(moving, _)| moving));
        for delivery in std::mem::take(&mut self.left) {
            let (tag, taken) = (delivery.delivery_tag, self.taken);
            let arrival = self.look(delivery);
            self.taken = taken;
            match arrival {
                Some(Arrival { message, token: Some(token), .. }) if self.plan.kind.is_shared() => {
                    let how = uncounted(&token);
                    moves.push(Moving { message, token, how });
                }
                Some(Arrival { message, .. }) => {
                    self.ack([tag]);
                    self.shared.give_up(&message).await;
                }
                None => moves.extend(self.moving.take().map(|(moving, _)| moving)),
            }
        }
        self.move_all(moves).await;
    }
}

/// How much of what goes with a group's last member is looked at.
const LEFT_MAX: usize = 4_096;

/// How many settlements RabbitMQ hands on to a quorum queue without keeping more back: the half of
/// its `quorum_commands_soft_limit`, which is 32 unless its operator says otherwise.
const HELD_BACK: u64 = 16;
