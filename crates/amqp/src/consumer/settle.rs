//! Settling: acknowledging, giving back, and moving what is to be counted first.

use std::collections::BTreeSet;
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicNackOptions, BasicQosOptions};
use posthaste_core::{Error, ErrorKind, Message};
use posthaste_engine::{Settled, Verdict};

use super::{Consumer, Token};
use crate::moves::{Move, Moving};
use crate::outgoing::Fate;

impl Consumer {
    /// Goes on with what is moved instead of being handed out. May be given up at any point.
    pub(super) async fn finish_moving(&mut self) {
        while let Some((moving, sending)) = &mut self.moving {
            if moving.token.generation != self.generation {
                self.moving = None;
                return;
            }
            match sending {
                None => {
                    let sent = moving.send(&self.shared, &self.plan, &mut self.outgoing).await;
                    *sending = Some(sent);
                }
                Some(sending) => {
                    let fate = sending.fate().await;
                    if let Some((moving, _)) = self.moving.take() {
                        let done = self.moved(moving, fate).await;
                        self.ack(done);
                    }
                }
            }
        }
    }

    /// Settles what was moved: its copy is where it was to go, or it was to go nowhere. What is to
    /// be acknowledged comes back.
    async fn moved(&mut self, moving: Moving, fate: Option<Result<Fate, Error>>) -> Option<u64> {
        let tag = moving.token.tag;
        match fate {
            None => self.drop_one(tag),
            Some(Ok(Fate::Taken)) => return Some(tag),
            // Its queue is gone, and so is this copy.
            Some(Ok(Fate::Unroutable)) if matches!(moving.how, Move::Again { .. }) => {
                self.shared.give_up(&moving.message).await;
                return Some(tag);
            }
            Some(Ok(_)) if matches!(moving.how, Move::Bury { .. }) => {
                match moving.wait_to_die(&self.shared, &self.plan, &mut self.outgoing).await {
                    Ok(Fate::Taken) => return Some(tag),
                    _ => self.requeue(tag),
                }
            }
            // Whoever gets it next counts one more attempt; but nothing is lost.
            Some(_) => self.requeue(tag),
        }
        None
    }

    /// Acknowledges deliveries of this channel: as many at once as there are no others before.
    pub(super) fn ack(&mut self, tags: impl IntoIterator<Item = u64>) {
        let Some(open) = &self.open else { return };
        let mut tags: BTreeSet<u64> =
            tags.into_iter().filter(|tag| self.unsettled.contains(tag)).collect();
        let mut upto = None;
        while let Some(first) = self.unsettled.first().copied().filter(|first| tags.contains(first))
        {
            self.unsettled.remove(&first);
            tags.remove(&first);
            upto = Some(first);
        }
        self.settlements += u64::from(upto.is_some()) + tags.len() as u64;
        if let Some(upto) = upto {
            fire(open.channel.basic_ack(upto, BasicAckOptions { multiple: true }));
        }
        for tag in tags {
            self.unsettled.remove(&tag);
            fire(open.channel.basic_ack(tag, BasicAckOptions { multiple: false }));
        }
    }

    fn requeue(&mut self, tag: u64) {
        self.nack(tag, true);
    }

    /// Never again; a queue that was declared with a dead-letter exchange by others uses it.
    fn drop_one(&mut self, tag: u64) {
        self.nack(tag, false);
    }

    fn nack(&mut self, tag: u64, requeue: bool) {
        if let Some(open) = self.open.as_ref().filter(|_| self.unsettled.remove(&tag)) {
            self.settlements += 1;
            fire(open.channel.basic_nack(tag, BasicNackOptions { requeue, multiple: false }));
        }
    }

    /// Moves many, in order, and settles each when its copy is safe.
    pub(super) async fn move_all(&mut self, all: Vec<Moving>) {
        let mut sendings = Vec::with_capacity(all.len());
        for moving in all {
            if moving.token.generation == self.generation {
                let sending = moving.send(&self.shared, &self.plan, &mut self.outgoing).await;
                sendings.push((moving, sending));
            }
        }
        let mut done = Vec::with_capacity(sendings.len());
        for (moving, mut sending) in sendings {
            let fate = sending.fate().await;
            done.extend(self.moved(moving, fate).await);
        }
        self.ack(done);
    }

    /// Waits until the server has heard what was settled: AMQP confirms no acknowledgements, but it
    /// answers in order.
    pub(super) async fn confirm_settled(&mut self) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let prefetch = self.room.prefetch.max(1);
        let asked = open.channel.basic_qos(prefetch, BasicQosOptions::default()).await;
        asked.map_err(|_| {
            let text =
                "the connection was lost before rabbitmq heard what was settled; it may come again";
            Error::new(ErrorKind::Disconnected, text)
        })
    }

    /// What is to be done about a verdict.
    pub(super) fn plan_move(&self, settled: Settled<Token>) -> Todo {
        let Settled { message, attempt, token, verdict } = settled;
        let counts = |why: String, after: Duration| {
            if attempt >= self.plan.care.max_attempts {
                return Move::Bury { attempts: attempt, why: Some(why) };
            }
            Move::Again { attempts: attempt, why: Some(why), after }
        };
        let backoff = self.plan.care.backoff_after(attempt);
        let how = match verdict {
            Verdict::Ack | Verdict::Taken | Verdict::Expired => return Todo::Done(token),
            // Nobody else can have what a subscription alone has.
            Verdict::Unseen if !self.plan.kind.is_shared() => {
                return Todo::GiveUp(message, token);
            }
            Verdict::Retry { after, why } if after.is_zero() => counts(why, backoff),
            Verdict::Retry { after, why } => counts(why, after),
            Verdict::Dropped => counts(String::from(DROPPED), backoff),
            Verdict::Reject { why } => Move::Bury { attempts: attempt, why: Some(why) },
            Verdict::Release | Verdict::Unseen => uncounted(&token),
        };
        Todo::Move(Moving { message, token, how })
    }
}

/// What is to be done with a settled delivery.
pub(super) enum Todo {
    Done(Token),
    GiveUp(Message, Token),
    Move(Moving),
}

/// Back into its queue, as if it had never been handed out.
pub(super) fn uncounted(token: &Token) -> Move {
    Move::Again { attempts: token.attempts, why: None, after: Duration::ZERO }
}

pub(super) const LOST: &str = "its consumer was lost";
const DROPPED: &str = "its consumer dropped it";

/// Queues the frame of a call that nobody has to wait for.
fn fire(call: impl Future<Output = lapin::Result<()>>) {
    let mut call = std::pin::pin!(call);
    let polled: Poll<_> = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    // A channel that is lost says so where it is read.
    drop(polled);
}
