//! What a receiver consumes with: a channel of its own, opened again when it is lost.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicGetOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::{BasicProperties, Channel};
use posthaste_core::{Error, ErrorKind, Message, Pattern};
use posthaste_engine::{Arrival, Consume, Settled, Verdict};

use crate::fault::is_lost;
use crate::kit::sleep;
use crate::link::Live;
use crate::moves::{Move, Moving, Sending};
use crate::options::QueueType;
use crate::outgoing::{Fate, Outgoing};
use crate::plan::{Kind, Plan, Room, begin};
use crate::shared::{Facts, Shared};
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

    /// Goes on with what is moved instead of being handed out. May be given up at any point.
    async fn finish_moving(&mut self) {
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
    fn ack(&mut self, tags: impl IntoIterator<Item = u64>) {
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

    /// Takes nothing in any more, and keeps what has come.
    async fn stop_intake(&mut self) {
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

    /// Moves many, in order, and settles each when its copy is safe.
    async fn move_all(&mut self, all: Vec<Moving>) {
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
    async fn confirm_settled(&mut self) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let prefetch = self.room.prefetch.max(1);
        let asked = open.channel.basic_qos(prefetch, BasicQosOptions::default()).await;
        asked.map_err(|_| {
            let text =
                "the connection was lost before rabbitmq heard what was settled; it may come again";
            Error::new(ErrorKind::Disconnected, text)
        })
    }

    /// A channel keeps settlements back while a quorum queue has not done with [`HELD_BACK`] others,
    /// and forgets them when it is closed. Whatever asks the queue for a message waits for those
    /// others; what comes of it goes back with the rest that nobody saw.
    async fn let_settlements_through(&mut self) {
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
    async fn give_back_the_rest(&mut self) {
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

    /// What is to be done about a verdict.
    fn plan_move(&self, settled: Settled<Token>) -> Todo {
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
enum Todo {
    Done(Token),
    GiveUp(Message, Token),
    Move(Moving),
}

/// Back into its queue, as if it had never been handed out.
fn uncounted(token: &Token) -> Move {
    Move::Again { attempts: token.attempts, why: None, after: Duration::ZERO }
}

/// How much of what goes with a group's last member is looked at.
const LEFT_MAX: usize = 4_096;

/// How many settlements RabbitMQ hands on to a quorum queue without keeping more back: the half of
/// its `quorum_commands_soft_limit`, which is 32 unless its operator says otherwise.
const HELD_BACK: u64 = 16;

const LOST: &str = "its consumer was lost";
const DROPPED: &str = "its consumer dropped it";

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

/// Queues the frame of a call that nobody has to wait for.
fn fire(call: impl Future<Output = lapin::Result<()>>) {
    let mut call = std::pin::pin!(call);
    let polled: Poll<_> = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    // A channel that is lost says so where it is read.
    drop(polled);
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
