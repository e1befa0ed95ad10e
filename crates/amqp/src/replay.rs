//! Bringing dead letters back to where they died.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use posthaste_core::{Error, Replayed, Topic};

use crate::consumer::Token;
use crate::fault::fault;
use crate::moves::{Move, Moving};
use crate::outgoing::{Fate, Outgoing};
use crate::plan::Plan;
use crate::shared::Shared;
use crate::topology::not_found;
use crate::wire::{Incoming, short};

impl Shared {
    /// Takes out as many messages as there are, `limit` at most; each goes back to the queue in which
    /// it died last, its attempts beginning anew, or to the end of this one.
    pub(crate) async fn replay(
        self: &Arc<Self>,
        queue: &Topic,
        limit: u64,
    ) -> Result<Replayed, Error> {
        let depth = self.depth(queue).await?.ok_or_else(|| not_found(queue))?;
        let failed = |error: lapin::Error| fault(&format!("replay the queue {queue}"), &error);
        let channel = self.channel().await?;
        let mut outgoing = Outgoing::default();
        let mut replayed = Replayed::default();
        for _ in 0..depth.messages.min(limit) {
            let name = short(queue.as_str())?;
            let got = channel.basic_get(name, BasicGetOptions::default()).await.map_err(failed)?;
            let Some(got) = got else { break };
            let tag = got.delivery.delivery_tag;
            let letter = self.read(queue, got.delivery);
            let (is_moved, is_safe) = match self.bring_back(&letter, &mut outgoing).await {
                Ok(()) => (true, true),
                Err(why) => {
                    replayed.why.get_or_insert(why);
                    let (message, token) = (&letter.message, &letter.token);
                    let attempts = token.attempts;
                    let kept = self.put(message, token, queue, attempts, &mut outgoing).await;
                    (false, matches!(kept, Ok(Fate::Taken)))
                }
            };
            let settled = match is_safe {
                true => channel.basic_ack(tag, BasicAckOptions::default()).await,
                false => {
                    let back = BasicNackOptions { requeue: true, multiple: false };
                    channel.basic_nack(tag, back).await
                }
            };
            settled.map_err(failed)?;
            replayed.moved += u64::from(is_moved);
            replayed.kept += u64::from(!is_moved);
        }
        Ok(replayed)
    }

    fn read(&self, queue: &Topic, delivery: lapin::message::Delivery) -> Moving {
        let incoming = Incoming {
            exchange: delivery.exchange.as_str(),
            key: delivery.routing_key.as_str(),
            properties: &delivery.properties,
            queue,
            inbox: false,
        };
        let payload = Bytes::from(delivery.data);
        let message = incoming.decode(payload, &self.options, &*self.runtime);
        let attempts = incoming.number(crate::wire::ATTEMPTS).unwrap_or(0);
        let token = Token::new(delivery.delivery_tag, attempts, delivery.properties);
        let how = Move::Again { attempts: 0, why: None, after: Duration::ZERO };
        Moving { message, token, how }
    }

    /// Back to where it died last, or why not.
    async fn bring_back(
        self: &Arc<Self>,
        letter: &Moving,
        outgoing: &mut Outgoing,
    ) -> Result<(), String> {
        let died = letter.message.deaths().last().map(|death| death.queue);
        let home = died.ok_or_else(|| String::from("it is no dead letter"))?;
        match self.facts(&home).await {
            Ok(Some(_)) => {}
            Ok(None) => return Err(format!("its queue {home} is gone")),
            Err(error) => return Err(error.to_string()),
        }
        match self.put(&letter.message, &letter.token, &home, 0, outgoing).await {
            Ok(Fate::Taken) => Ok(()),
            Ok(Fate::Refused) => Err(format!("its queue {home} is full")),
            Ok(Fate::Unroutable) => Err(format!("its queue {home} is gone")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A copy into a queue.
    async fn put(
        self: &Arc<Self>,
        message: &posthaste_core::Message,
        token: &Token,
        queue: &Topic,
        attempts: u32,
        outgoing: &mut Outgoing,
    ) -> Result<Fate, Error> {
        let plan = Plan::of(queue.clone());
        let how = Move::Again { attempts, why: None, after: Duration::ZERO };
        let token = Token::new(token.tag, token.attempts, token.properties.clone());
        let moving = Moving { message: message.clone(), token, how };
        let mut sending = moving.send(self, &plan, outgoing).await;
        sending.fate().await.unwrap_or(Ok(Fate::Unroutable))
    }
}
