//! Moving a message: a copy of it goes where it is to be, confirmed, before the original is settled.
//!
//! So a retry is counted and its reason kept, where RabbitMQ itself does neither, and a dead letter
//! has its history.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use posthaste_core::limits::{DEATH_REASON_BYTES, DEATH_REASONS};
use posthaste_core::{Death, Error, Message, Topic};
use posthaste_engine::properties::{self, Rules};

use crate::consumer::Token;
use crate::delay;
use crate::outgoing::{Fate, Outgoing, Sent};
use crate::plan::Plan;
use crate::shared::Shared;
use crate::wire::{self, Route, sent_to, short};

/// A message that is moved.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) message: Message,
    pub(crate) token: Token,
    pub(crate) how: Move,
}

/// Where a message goes.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    /// To the end of its queue, after a while.
    Again { attempts: u32, why: Option<String>, after: Duration },
    /// To the dead-letter queue, if there is one.
    Bury { attempts: u32, why: Option<String> },
}

/// A copy on its way.
pub(crate) enum Sending {
    /// There is nowhere to go.
    Nowhere,
    Failed(Error),
    Sent(Sent),
}

impl Sending {
    /// What became of the copy; `None` if there was nowhere to go.
    pub(crate) async fn fate(&mut self) -> Option<Result<Fate, Error>> {
        match self {
            Self::Nowhere => None,
            Self::Failed(error) => Some(Err(error.clone())),
            Self::Sent(sent) => Some(sent.as_mut().await),
        }
    }
}

/// How long a dead letter waits at its source for room where it is to go.
const WAIT_TO_DIE: Duration = Duration::from_secs(1);

impl Moving {
    /// Sends the copy.
    pub(crate) async fn send(
        &self,
        shared: &std::sync::Arc<Shared>,
        plan: &Plan,
        outgoing: &mut Outgoing,
    ) -> Sending {
        let sent = match &self.how {
            Move::Again { attempts, why, after } => {
                self.send_again(shared, plan, outgoing, *attempts, why.as_deref(), *after).await
            }
            Move::Bury { attempts, why } => {
                let death = self.death(shared, plan, *attempts, why.as_deref());
                let Some((letter, dead)) = self.letter(plan, &death) else {
                    return Sending::Nowhere;
                };
                self.send_letter(shared, outgoing, &letter, dead).await
            }
        };
        sent.map_or_else(Sending::Failed, Sending::Sent)
    }

    async fn send_again(
        &self,
        shared: &std::sync::Arc<Shared>,
        plan: &Plan,
        outgoing: &mut Outgoing,
        attempts: u32,
        why: Option<&str>,
        after: Duration,
    ) -> Result<Sent, Error> {
        let mut route = Route::queue(plan.queue.as_str())?;
        if !after.is_zero() {
            route = delay::route(shared, &route, after).await?;
        }
        let copy = |number| {
            let mut headers = self.headers(number)?;
            headers.insert(wire::ATTEMPTS.into(), AMQPValue::LongLongInt(attempts.into()));
            if let Some(why) = why {
                headers.insert(wire::WHY.into(), reasons(&self.reasons(Some(why))));
            }
            self.properties(shared, headers)
        };
        outgoing.send(shared, &route, self.message.payload(), copy).await
    }

    /// Its dead-letter queue takes nothing now: it goes back to its own queue, to die later.
    pub(crate) async fn wait_to_die(
        &self,
        shared: &std::sync::Arc<Shared>,
        plan: &Plan,
        outgoing: &mut Outgoing,
    ) -> Result<Fate, Error> {
        let Move::Bury { attempts, why } = &self.how else { return Ok(Fate::Unroutable) };
        let route = delay::route(shared, &Route::queue(plan.queue.as_str())?, WAIT_TO_DIE).await?;
        let copy = |number| {
            let mut headers = self.headers(number)?;
            headers.insert(wire::DYING.into(), AMQPValue::Boolean(true));
            headers.insert(wire::ATTEMPTS.into(), AMQPValue::LongLongInt((*attempts).into()));
            headers.insert(wire::WHY.into(), reasons(&self.reasons(why.as_deref())));
            self.properties(shared, headers)
        };
        outgoing.send(shared, &route, self.message.payload(), copy).await?.await
    }

    fn death(&self, shared: &Shared, plan: &Plan, attempts: u32, why: Option<&str>) -> Death {
        let mut death = Death::new(plan.queue.clone(), attempts, shared.runtime.unix_time());
        for reason in self.reasons(why) {
            death.add_reason(&reason);
        }
        death
    }

    /// The dead letter, and where it goes: never where it has died before.
    fn letter<'a>(&self, plan: &'a Plan, death: &Death) -> Option<(Message, &'a Topic)> {
        let dead = plan.care.dead_letter.as_ref()?;
        let was_there =
            *dead == plan.queue || self.message.deaths().any(|death| death.queue == *dead);
        let letter = self.message.clone().with_death(death)?;
        (!was_there).then_some((letter, dead))
    }

    async fn send_letter(
        &self,
        shared: &std::sync::Arc<Shared>,
        outgoing: &mut Outgoing,
        letter: &Message,
        dead: &Topic,
    ) -> Result<Sent, Error> {
        if shared.facts(dead).await?.is_none() {
            shared.declare_default(dead).await?;
        }
        let route = Route::queue(dead.as_str())?;
        let runtime = &*shared.runtime;
        let history: Vec<_> = properties::encode(letter, &Rules::ANY, runtime)
            .into_iter()
            .filter(|(name, _)| name.starts_with("ph-death-"))
            .collect();
        let copy = |number| {
            let mut headers = self.headers(number)?;
            for (name, value) in &history {
                headers.insert(short(name)?, AMQPValue::LongString(value.as_str().into()));
            }
            self.properties(shared, headers)
        };
        outgoing.send(shared, &route, letter.payload(), copy).await
    }

    /// The headers of the original, but for what was said of this copy alone.
    fn headers(&self, number: u64) -> Result<FieldTable, Error> {
        let mut headers = FieldTable::default();
        for (name, value) in self.token.properties.headers().iter().flat_map(FieldTable::inner) {
            let text = name.as_str();
            let of_this_copy =
                matches!(text, wire::ATTEMPTS | wire::WHY | wire::DYING | wire::NUMBER)
                    || matches!(text, "x-delivery-count" | "x-death")
                    || text.starts_with("x-first-death-")
                    || text.starts_with("x-last-death-");
            if !of_this_copy {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers.insert(wire::SENT_TO.into(), AMQPValue::LongString(sent_to(&self.message).into()));
        headers.insert(wire::NUMBER.into(), AMQPValue::LongLongInt(number.cast_signed()));
        Ok(headers)
    }

    fn properties(&self, shared: &Shared, headers: FieldTable) -> Result<BasicProperties, Error> {
        let original = &self.token.properties;
        let mut copy = original.clone().with_headers(headers);
        if original.delivery_mode().is_none() {
            copy = copy.with_delivery_mode(2);
        }
        if let Some(deadline) = self.message.deadline() {
            let left = deadline.saturating_duration_since(shared.runtime.now()).as_millis();
            copy = copy.with_expiration(short(&left.clamp(1, u128::from(u32::MAX)).to_string())?);
        }
        Ok(copy)
    }

    /// Why its attempts failed so far, and why this one did.
    fn reasons(&self, why: Option<&str>) -> Vec<String> {
        let headers = self.token.properties.headers().as_ref();
        let before = match headers.and_then(|headers| headers.inner().get(wire::WHY)) {
            Some(AMQPValue::FieldArray(reasons)) => reasons.as_slice(),
            _ => &[],
        };
        let before = before.iter().filter_map(|reason| match reason {
            AMQPValue::LongString(reason) => {
                Some(String::from_utf8_lossy(reason.as_bytes()).into_owned())
            }
            _ => None,
        });
        let mut all: Vec<String> = before.chain(why.map(cut)).collect();
        all.drain(..all.len().saturating_sub(DEATH_REASONS));
        all
    }
}

/// As much of a reason as is kept.
fn cut(why: &str) -> String {
    let end = (0..=DEATH_REASON_BYTES.min(why.len())).rev().find(|at| why.is_char_boundary(*at));
    why[..end.unwrap_or(0)].to_owned()
}

fn reasons(reasons: &[String]) -> AMQPValue {
    let mut array = FieldArray::default();
    for reason in reasons {
        array.push(AMQPValue::LongString(reason.as_str().into()));
    }
    AMQPValue::FieldArray(array)
}
