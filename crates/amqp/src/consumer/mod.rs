//! What a receiver consumes with: a channel of its own, opened again when it is lost.

mod leave;
mod settle;

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicCancelOptions;
use lapin::{BasicProperties, Channel};
use posthaste_core::{Error, ErrorKind, Message, Pattern};
use posthaste_engine::{Arrival, Consume, Settled, Verdict};

use self::settle::{LOST, Todo};
use crate::fault::is_lost;
use crate::kit::sleep;
use crate::link::Live;
use crate::moves::{Move, Moving, Sending};
use crate::outgoing::Outgoing;
use crate::plan::{Kind, Plan, Room, begin};
use crate::shared::Shared;
use crate::wire::{self, Incoming, short};

/// How often a group's queue may go while a member joins.
const ROUNDS: usize = 100;

/// How long is waited before a queue is asked for again that somebody holds, or that is going.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Consumer {
    shared: Arc<Shared>,
    plan: Plan,
    open: Option<Open>,
    outgoing: Outgoing,
    /// Which channel this is, counted from the first.
    generation: u64,
    /// What this channel has delivered and was not settled.
    unsettled: BTreeSet<u64>,
    /// How many times this channel has settled.
    settlements: u64,
    /// How many came out of `next`.
    taken: u64,
    /// What had come when the server was told to send no more than there may be.
    ready: VecDeque<Delivery>,
    room: Room,
    /// One that is moved instead of being handed out.
    moving: Option<(Moving, Option<Sending>)>,
    /// What had come when nothing was wanted any more.
    left: Vec<Delivery>,
    stopped: bool,
    ended: bool,
    /// Everything that a limited receiver may have has come.
    full: bool,
}

struct Open {
    channel: Channel,
    consumer: lapin::Consumer,
    live: Arc<Live>,
}

/// What it takes to settle a delivery.
#[derive(Debug)]
pub(crate) struct Token {
    generation: u64,
    pub(crate) tag: u64,
    /// How many attempts were counted before this one.
    pub(crate) attempts: u32,
    pub(crate) properties: BasicProperties,
}

impl Token {
    /// Of a delivery that no consumer was sent.
    pub(crate) fn new(tag: u64, attempts: u32, properties: BasicProperties) -> Self {
        Self { generation: 0, tag, attempts, properties }
    }
}

impl Consumer {
    pub(crate) async fn open(shared: &Arc<Shared>, plan: Plan) -> Result<Self, Error> {
        let mut consumer = Self {
            shared: Arc::clone(shared),
            plan,
            open: None,
            outgoing: Outgoing::default(),
            generation: 0,
            unsettled: BTreeSet::new(),
            settlements: 0,
            taken: 0,
            ready: VecDeque::new(),
            room: Room::default(),
            moving: None,
            left: Vec::new(),
            stopped: false,
            ended: false,
            full: false,
        };
        let live = shared.inward.live().await?;
        consumer.open_on(live).await?;
        Ok(consumer)
    }

    pub(crate) fn is_lossy(&self) -> bool {
        self.plan.lossy
    }

    async fn open_on(&mut self, live: Arc<Live>) -> Result<(), Error> {
        let (mut rounds, room) = (0, Room::after(self.taken, &self.plan));
        let (channel, consumer) = loop {
            match self.plan.consume(&self.shared, &live, room.prefetch.max(1)).await {
                Ok(opened) => break opened,
                // The last member of the group has left just now, and the queue with it.
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && self.plan.kind == Kind::Group
                        && rounds < ROUNDS =>
                {
                    rounds += 1;
                }
                Err(error) => return Err(error),
            }
        };
        self.generation += 1;
        self.unsettled.clear();
        self.settlements = 0;
        self.ready.clear();
        self.room = room;
        self.open = Some(Open { channel, consumer, live });
        Ok(())
    }

    /// Opens it again on another channel; `false` if there is nothing left to be opened.
    async fn reopen(&mut self) -> Result<bool, Error> {
        loop {
            let live = self.shared.inward.live_again().await?;
            match self.open_on(live).await {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                // The server has not noticed yet that the connection before is gone.
                Err(error) if error.kind() == ErrorKind::Conflict || is_lost(&error) => {
                    sleep(&self.shared.runtime, ASK_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_well(&self) -> bool {
        let is_well = |open: &Open| open.channel.status().connected() && open.live.is_connected();
        self.open.as_ref().is_some_and(is_well)
    }

    /// Makes an arrival of a delivery, unless it goes somewhere else.
    fn look(&mut self, delivery: Delivery) -> Option<Arrival<Token>> {
        let Delivery {
            delivery_tag: tag,
            exchange,
            routing_key,
            redelivered,
            properties,
            data,
            ..
        } = delivery;
        self.unsettled.insert(tag);
        let incoming = Incoming {
            exchange: exchange.as_str(),
            key: routing_key.as_str(),
            properties: &properties,
            queue: &self.plan.queue,
            inbox: self.plan.kind == Kind::Inbox,
        };
        let runtime = &*self.shared.runtime;
        let message = incoming.decode(Bytes::from(data), &self.shared.options, runtime);
        let counted = incoming.number(wire::ATTEMPTS).unwrap_or(0);
        let returns = incoming.number("x-delivery-count");
        let is_dying = incoming.header(wire::DYING).is_some();
        let is_late = message.deadline().is_some_and(|deadline| deadline <= runtime.now());
        let is_mine =
            self.plan.pattern.as_ref().is_none_or(|pattern| pattern.matches(&message.topic()));
        if is_late || !is_mine {
            self.ack([tag]);
            return None;
        }
        let attempts = counted.saturating_add(returns.unwrap_or(0));
        let token = Token { generation: self.generation, tag, attempts, properties };
        if self.plan.kind.is_shared() {
            // A classic queue does not count: a consumer had it and was lost, which is an attempt.
            let is_uncounted = redelivered && returns.is_none();
            let attempts = attempts.saturating_add(u32::from(is_uncounted));
            let how = if is_dying || attempts >= self.plan.care.max_attempts {
                let why = if is_dying { None } else { Some(String::from(LOST)) };
                Some(Move::Bury { attempts, why })
            } else if is_uncounted {
                Some(Move::Again { attempts, why: Some(String::from(LOST)), after: Duration::ZERO })
            } else {
                None
            };
            if let Some(how) = how {
                self.moving = Some((Moving { message, token, how }, None));
                return None;
            }
        }
        let token = match self.plan.lossy {
            true => {
                self.ack([tag]);
                None
            }
            false => Some(token),
        };
        self.taken += 1;
        Some(Arrival { message, attempt: attempts.saturating_add(1), token })
    }

    /// Has the server send no more than a limited receiver may have when so many are settled.
    async fn limit_room(&mut self, settled: u64) {
        if self.plan.limit == u64::MAX || self.stopped {
            return;
        }
        if self.room.is_exceeded(settled, self.plan.limit)
            && let Some(open) = &mut self.open
        {
            let tag = open.consumer.tag();
            if open.channel.basic_cancel(tag, BasicCancelOptions::default()).await.is_err() {
                return;
            }
            while let Some(Ok(delivery)) = open.consumer.next().await {
                self.ready.push_back(delivery);
            }
            let there = self.taken + u64::try_from(self.ready.len()).unwrap_or(u64::MAX);
            self.room = Room::after(there, &self.plan);
            if self.room.prefetch == 0 {
                self.full = true;
                return;
            }
            let Ok(queue) = short(self.plan.queue.as_str()) else { return };
            // A channel that is lost says so where it is read.
            if let Ok(consumer) = begin(&open.channel, &queue, self.room.prefetch).await {
                open.consumer = consumer;
            }
        } else {
            self.room.settled += settled;
        }
    }
}

impl Consume for Consumer {
    type Token = Token;

    async fn next(&mut self) -> Result<Option<Arrival<Token>>, Error> {
        loop {
            self.finish_moving().await;
            if self.ended || self.stopped {
                return Ok(None);
            }
            let Some(open) = &mut self.open else {
                match self.reopen().await? {
                    false => self.ended = true,
                    // What came in between is known to nobody, or went to other members.
                    true if self.plan.kind != Kind::Queue => return Err(session_lost(&self.plan)),
                    true => {}
                }
                continue;
            };
            if self.ready.is_empty() && self.full {
                return std::future::pending().await;
            }
            let next = match self.ready.pop_front() {
                Some(delivery) => Some(Ok(delivery)),
                None => open.consumer.next().await,
            };
            match next {
                Some(Ok(delivery)) => {
                    if let Some(arrival) = self.look(delivery) {
                        return Ok(Some(arrival));
                    }
                }
                // The server cancels consumers of a queue that is deleted, and says no more.
                None if self.is_well() => self.ended = true,
                None | Some(Err(_)) => self.open = None,
            }
        }
    }

    async fn settle(&mut self, settled: Vec<Settled<Token>>) -> Result<(), Error> {
        // What is given back must not come here again, nor may more come than is wanted.
        let is_last = settled.iter().any(|settled| settled.verdict == Verdict::Unseen);
        if is_last || self.taken >= self.plan.limit {
            self.stop_intake().await;
        }
        self.limit_room(u64::try_from(settled.len()).unwrap_or(u64::MAX)).await;
        let (mut done, mut moves) = (Vec::new(), Vec::new());
        let mut late = 0;
        for settled in settled {
            if settled.token.generation != self.generation || !self.is_well() {
                // The broker has taken it back with its channel, and delivers it again.
                late += u64::from(settled.verdict == Verdict::Ack);
                continue;
            }
            match self.plan_move(settled) {
                Todo::Done(token) => done.push(token.tag),
                Todo::Move(moving) => moves.push(moving),
                Todo::GiveUp(message, token) => {
                    done.push(token.tag);
                    self.shared.give_up(&message).await;
                }
            }
        }
        self.ack(done);
        self.move_all(moves).await;
        match late {
            0 => self.confirm_settled().await,
            late => Err(too_late(late)),
        }
    }

    async fn confirm(&mut self) -> Result<(), Error> {
        // While it is open, the channel lets them through in its own time.
        if self.stopped {
            self.let_settlements_through().await;
        }
        self.confirm_settled().await
    }

    async fn stop(&mut self) {
        self.stop_intake().await;
        self.give_back_the_rest().await;
        self.let_settlements_through().await;
    }

    async fn answer(&mut self, message: Message) {
        // One who asked and cannot be reached is past helping.
        let _told = self.shared.tell(&message).await;
    }
}

/// A consumer whose receiver drops what finds no room.
pub(crate) struct Lossy(pub(crate) Consumer);

impl Consume for Lossy {
    type Token = Token;

    const HOLDS: bool = false;

    fn next(&mut self) -> impl Future<Output = Result<Option<Arrival<Token>>, Error>> + Send {
        self.0.next()
    }

    fn settle(
        &mut self,
        settled: Vec<Settled<Token>>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        self.0.settle(settled)
    }

    fn confirm(&mut self) -> impl Future<Output = Result<(), Error>> + Send {
        self.0.confirm()
    }

    fn stop(&mut self) -> impl Future<Output = ()> + Send {
        self.0.stop()
    }

    fn answer(&mut self, message: Message) -> impl Future<Output = ()> + Send {
        self.0.answer(message)
    }
}

fn session_lost(plan: &Plan) -> Error {
    let what = plan.pattern.as_ref().map_or("the inbox", Pattern::as_str);
    let text = format!(
        "the connection to rabbitmq was lost and made anew; messages to {what} may have been missed"
    );
    Error::new(ErrorKind::SessionLost, text)
}

fn too_late(count: u64) -> Error {
    let text = format!(
        "the connection was lost before {count} acknowledgements were sent; the messages come again"
    );
    Error::new(ErrorKind::Disconnected, text)
}
