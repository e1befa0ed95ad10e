//! Any sequence of operations does what a simple model of a broker says, and the books balance at
//! every step.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use posthaste_core::{
    Ack, Broker, Delivery, ErrorKind, Ledger, Message, Overflow, Pattern, Queue, Receiver,
    SenderExt, SenderOptions, Subscription, Topic,
};
use posthaste_memory::{MemoryReceiver, MemorySender};
use proptest::prelude::*;
use proptest::sample::Index;

use common::Memory;

const QUEUES: [&str; 2] = ["q.one", "q.two"];
const TOPICS: [&str; 3] = ["a", "a.b", "c"];
const PATTERNS: [&str; 4] = ["a", "a.*", "*", ">"];
const GROUPS: [&str; 2] = ["g", "h"];

#[derive(Debug, Clone)]
enum Op {
    Declare(usize, Option<usize>, Option<usize>),
    Delete(usize),
    Subscribe(From, How),
    Send(To),
    Receive(Index, usize),
    Settle(Index, Outcome),
    DropReceiver(Index),
    RenewSender,
}

#[derive(Debug, Clone, Copy)]
enum From {
    Topic(usize),
    Shared(usize, usize),
    Queue(usize),
}

#[derive(Debug, Clone, Copy)]
enum To {
    Topic(usize),
    Queue(usize),
}

#[derive(Debug, Clone, Copy)]
struct How {
    manual: bool,
    lossy: bool,
    capacity: usize,
    prefetch: Option<usize>,
    limit: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Ack,
    Retry,
    Reject,
    Release,
    Drop,
}

fn op() -> impl Strategy<Value = Op> {
    let (queue, pattern) = (0..QUEUES.len(), 0..PATTERNS.len());
    let small = || prop::option::of(1..4_usize);
    let from = prop_oneof![
        pattern.clone().prop_map(From::Topic),
        (pattern.clone(), 0..GROUPS.len())
            .prop_map(|(pattern, group)| From::Shared(pattern, group)),
        queue.clone().prop_map(From::Queue),
    ];
    let how = (any::<bool>(), any::<bool>(), 1..4_usize, small(), prop::option::of(0..5_u64));
    let how = how.prop_map(|(manual, lossy, capacity, prefetch, limit)| How {
        manual,
        lossy,
        capacity,
        prefetch,
        limit,
    });
    let to = prop_oneof![(0..TOPICS.len()).prop_map(To::Topic), queue.clone().prop_map(To::Queue),];
    let outcome = prop_oneof![
        Just(Outcome::Ack),
        Just(Outcome::Retry),
        Just(Outcome::Reject),
        Just(Outcome::Release),
        Just(Outcome::Drop),
    ];
    prop_oneof![
        2 => (queue.clone(), small(), prop::option::of(pattern))
            .prop_map(|(queue, capacity, binding)| Op::Declare(queue, capacity, binding)),
        1 => queue.prop_map(Op::Delete),
        4 => (from, how).prop_map(|(from, how)| Op::Subscribe(from, how)),
        10 => to.prop_map(Op::Send),
        8 => (any::<Index>(), 1..4_usize).prop_map(|(at, limit)| Op::Receive(at, limit)),
        6 => (any::<Index>(), outcome).prop_map(|(at, outcome)| Op::Settle(at, outcome)),
        2 => any::<Index>().prop_map(Op::DropReceiver),
        1 => Just(Op::RenewSender),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_sequence_of_operations_does_what_the_model_says(
        ops in prop::collection::vec(op(), 1..80)
    ) {
        let mut world = World::new();
        for op in &ops {
            world.step(op)?;
            world.check()?;
        }
        world.end()?;
    }
}

// ---- the model

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copied {
    number: u64,
    position: u64,
    attempts: u32,
    missed: u64,
}

/// A queue, a group or a subscription: a list, bounds and books.
#[derive(Debug, Default)]
struct Place {
    patterns: Vec<Pattern>,
    capacity: usize,
    lossy: bool,
    waiting: Vec<Copied>,
    /// What an automatic subscription swapped out: its own already, room for others.
    batch: Vec<Copied>,
    leased: u64,
    missed: u64,
    next_position: u64,
    consumers: BTreeSet<usize>,
    closed: Option<&'static str>,
    accepted: u64,
    acked: u64,
    auto: u64,
    dropped: BTreeMap<String, u64>,
}

impl Place {
    fn is_full(&self) -> bool {
        self.waiting.len() + usize::try_from(self.leased).unwrap() >= self.capacity
    }

    fn push(&mut self, number: u64) {
        self.accepted += 1;
        if self.is_full() {
            assert!(self.lossy, "the model asked before");
            self.missed += 1;
            return self.drop_copies("full", 1);
        }
        self.waiting.push(Copied {
            number,
            position: self.next_position,
            attempts: 0,
            missed: std::mem::take(&mut self.missed),
        });
        self.next_position += 1;
    }

    fn drop_copies(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason.to_owned()).or_default() += count;
        }
    }

    fn close(&mut self, reason: &'static str) {
        self.closed = Some(reason);
        let left = self.waiting.len() + self.batch.len();
        self.drop_copies(reason, left as u64);
        self.waiting.clear();
        self.batch.clear();
    }

    fn settle(&mut self, mut copy: Copied, outcome: Outcome) {
        self.leased -= 1;
        match (outcome, self.closed) {
            (Outcome::Ack, _) => self.acked += 1,
            (Outcome::Reject, _) => self.drop_copies("rejected", 1),
            (_, Some(reason)) => self.drop_copies(reason, 1),
            (outcome, None) => {
                copy.attempts -= u32::from(matches!(outcome, Outcome::Release));
                self.waiting.push(copy);
                self.waiting.sort_by_key(|copy| copy.position);
            }
        }
    }

    fn held(&self) -> u64 {
        (self.waiting.len() + self.batch.len()) as u64 + self.leased
    }

    fn ledger(&self) -> Ledger {
        Ledger {
            accepted: self.accepted,
            acked: self.acked,
            auto: self.auto,
            dropped: self.dropped.values().sum(),
            dropped_by: self.dropped.clone(),
            held: self.held(),
            ..Ledger::default()
        }
    }
}

// ---- the model beside the broker

struct Consumer {
    receiver: MemoryReceiver,
    place: usize,
    manual: bool,
    exclusive: bool,
    prefetch: usize,
    left: u64,
    unsettled: usize,
}

struct Lent {
    delivery: Delivery,
    copy: Copied,
    place: usize,
    consumer: usize,
}

struct World {
    memory: Memory,
    sender: MemorySender,
    places: Vec<Place>,
    queues: BTreeMap<usize, usize>,
    groups: BTreeMap<(usize, usize), usize>,
    /// By number; a consumer that was dropped leaves `None`.
    consumers: Vec<Option<Consumer>>,
    lent: Vec<Lent>,
    sent: u64,
    unmatched: u64,
}

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn number(message: &Message) -> u64 {
    u64::from_be_bytes(message.payload().as_ref().try_into().unwrap())
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

type Checked = Result<(), TestCaseError>;

impl World {
    fn new() -> Self {
        let memory = Memory::new();
        Self {
            sender: memory.open_sender(SenderOptions::new()).unwrap(),
            memory,
            places: Vec::new(),
            queues: BTreeMap::new(),
            groups: BTreeMap::new(),
            consumers: Vec::new(),
            lent: Vec::new(),
            sent: 0,
            unmatched: 0,
        }
    }

    fn step(&mut self, op: &Op) -> Checked {
        let live: Vec<usize> =
            (0..self.consumers.len()).filter(|at| self.consumers[*at].is_some()).collect();
        match *op {
            Op::Declare(queue, capacity, binding) => self.declare(queue, capacity, binding),
            Op::Delete(queue) => self.delete(queue)?,
            Op::Subscribe(from, how) => self.subscribe(from, how),
            Op::Send(to) => self.send(to)?,
            Op::Receive(at, limit) if !live.is_empty() => self.receive(*at.get(&live), limit)?,
            Op::DropReceiver(at) if !live.is_empty() => self.drop_receiver(*at.get(&live)),
            Op::Settle(at, outcome) if !self.lent.is_empty() => {
                self.settle(at.index(self.lent.len()), outcome);
            }
            Op::RenewSender => {
                self.sender = self.memory.open_sender(SenderOptions::new()).unwrap();
            }
            Op::Receive(..) | Op::DropReceiver(_) | Op::Settle(..) => {}
        }
        Ok(())
    }

    fn queue(&mut self, queue: usize) -> usize {
        if let Some(place) = self.queues.get(&queue) {
            return *place;
        }
        self.places.push(Place { capacity: 1_000_000, ..Place::default() });
        self.queues.insert(queue, self.places.len() - 1);
        self.places.len() - 1
    }

    fn declare(&mut self, queue: usize, capacity: Option<usize>, binding: Option<usize>) {
        let mut declared = Queue::new(topic(QUEUES[queue]));
        let at = self.queue(queue);
        let place = &mut self.places[at];
        if let Some(capacity) = capacity {
            declared = declared.capacity(capacity);
            place.capacity = capacity;
        }
        if let Some(binding) = binding {
            let pattern = Pattern::new(PATTERNS[binding]).unwrap();
            declared = declared.bind(pattern.clone());
            if !place.patterns.contains(&pattern) {
                place.patterns.push(pattern);
            }
        }
        pollster::block_on(self.memory.declare(declared)).unwrap();
    }

    fn delete(&mut self, queue: usize) -> Checked {
        let deleted = pollster::block_on(self.memory.delete(&topic(QUEUES[queue])));
        match self.queues.remove(&queue) {
            Some(at) => {
                prop_assert!(deleted.is_ok());
                self.places[at].close("queue_deleted");
            }
            None => prop_assert_eq!(deleted.unwrap_err().kind(), ErrorKind::NotFound),
        }
        Ok(())
    }

    fn subscribe(&mut self, from: From, how: How) {
        let subscription = match from {
            From::Topic(pattern) => Subscription::topic(PATTERNS[pattern]),
            From::Shared(pattern, group) => Subscription::shared(PATTERNS[pattern], GROUPS[group]),
            From::Queue(queue) => Subscription::queue(QUEUES[queue]),
        };
        let mut subscription = subscription
            .unwrap()
            .ack(if how.manual { Ack::Manual } else { Ack::Auto })
            .capacity(how.capacity, 1 << 20);
        if how.lossy {
            subscription = subscription.overflow(Overflow::DropNewest);
        }
        (subscription.prefetch, subscription.limit) = (how.prefetch, how.limit);
        let receiver = self.memory.open_receiver(&subscription).unwrap();

        let open = |places: &mut Vec<Place>, pattern: usize| {
            places.push(Place {
                patterns: vec![Pattern::new(PATTERNS[pattern]).unwrap()],
                capacity: how.capacity,
                lossy: how.lossy,
                ..Place::default()
            });
            places.len() - 1
        };
        let place = match from {
            From::Topic(pattern) => open(&mut self.places, pattern),
            From::Shared(pattern, group) => *self
                .groups
                .entry((pattern, group))
                .or_insert_with(|| open(&mut self.places, pattern)),
            From::Queue(queue) => self.queue(queue),
        };
        self.places[place].consumers.insert(self.consumers.len());
        self.consumers.push(Some(Consumer {
            receiver,
            place,
            manual: how.manual,
            exclusive: matches!(from, From::Topic(_)),
            prefetch: how.prefetch.unwrap_or(usize::MAX),
            left: how.limit.unwrap_or(u64::MAX),
            unsettled: 0,
        }));
    }

    fn send(&mut self, to: To) -> Checked {
        self.sent += 1;
        let payload = self.sent.to_be_bytes().to_vec();
        let (message, targets) = match to {
            To::Queue(queue) => {
                let target = self.queue(queue);
                (Message::to_queue(topic(QUEUES[queue]), payload), vec![target])
            }
            To::Topic(at) => {
                let to = topic(TOPICS[at]);
                let matches = |place: &Place| {
                    place.closed.is_none() && place.patterns.iter().any(|this| this.matches(&to))
                };
                let targets = (0..self.places.len()).filter(|at| matches(&self.places[*at]));
                (Message::new(to.clone(), payload), targets.collect())
            }
        };
        let full = |at: &usize| self.places[*at].is_full() && !self.places[*at].lossy;
        if targets.iter().any(full) {
            let refused = self.sender.try_send(message).unwrap_err();
            prop_assert_eq!(refused.kind(), ErrorKind::Full);
            return Ok(());
        }
        prop_assert!(self.sender.try_send(message).is_ok());
        let receipt = pollster::block_on(self.sender.flush()).unwrap();
        prop_assert_eq!((receipt.confirmed, receipt.matched), (1, targets.len() as u64));
        self.unmatched += u64::from(targets.is_empty());
        for at in targets {
            self.places[at].push(self.sent);
        }
        Ok(())
    }

    fn receive(&mut self, at: usize, limit: usize) -> Checked {
        let Some(consumer) = &mut self.consumers[at] else {
            return Ok(());
        };
        let place = &mut self.places[consumer.place];
        let mut got = Vec::new();
        let limit = NonZeroUsize::new(limit).unwrap();
        let polled = consumer.receiver.poll_recv_many(&mut noop(), &mut got, limit);
        consumer.receiver.disarm();

        if consumer.left == 0 || place.closed.is_some() {
            prop_assert!(matches!(polled, Poll::Ready(Ok(0))), "it has ended");
            self.part(at);
            return Ok(());
        }
        let mut most = limit.get().min(usize::try_from(consumer.left).unwrap_or(usize::MAX));
        let source = if consumer.manual {
            most = most.min(consumer.prefetch.saturating_sub(consumer.unsettled));
            &mut place.waiting
        } else if consumer.exclusive {
            if place.batch.is_empty() {
                std::mem::swap(&mut place.batch, &mut place.waiting);
            }
            &mut place.batch
        } else {
            &mut place.waiting
        };
        let expected: Vec<Copied> = source.drain(..most.min(source.len())).collect();
        match polled {
            Poll::Pending => prop_assert!(expected.is_empty(), "{expected:?} should be there"),
            Poll::Ready(count) => prop_assert_eq!(count.unwrap(), expected.len().max(1)),
        }
        prop_assert_eq!(got.len(), expected.len());
        consumer.left -= got.len() as u64;
        for (delivery, mut copy) in got.into_iter().zip(expected) {
            copy.attempts += 1;
            prop_assert_eq!(number(delivery.message()), copy.number);
            prop_assert_eq!((delivery.attempt(), delivery.missed()), (copy.attempts, copy.missed));
            prop_assert_eq!(delivery.is_leased(), consumer.manual);
            if consumer.manual {
                place.leased += 1;
                consumer.unsettled += 1;
                self.lent.push(Lent { delivery, copy, place: consumer.place, consumer: at });
            } else {
                place.auto += 1;
            }
        }
        if consumer.left == 0 {
            self.part(at);
        }
        Ok(())
    }

    fn settle(&mut self, at: usize, outcome: Outcome) {
        let Lent { delivery, copy, place, consumer } = self.lent.swap_remove(at);
        match outcome {
            Outcome::Ack => delivery.ack(),
            Outcome::Retry => delivery.retry(Duration::ZERO, "again"),
            Outcome::Reject => delivery.reject("never"),
            Outcome::Release => delivery.release(),
            Outcome::Drop => drop(delivery),
        }
        self.places[place].settle(copy, outcome);
        if let Some(consumer) = &mut self.consumers[consumer] {
            consumer.unsettled -= 1;
        }
    }

    fn drop_receiver(&mut self, at: usize) {
        self.part(at);
        self.consumers[at] = None;
    }

    /// A consumer takes no more.
    fn part(&mut self, at: usize) {
        let Some(consumer) = &self.consumers[at] else {
            return;
        };
        let place = &mut self.places[consumer.place];
        place.consumers.remove(&at);
        let is_queue = !consumer.exclusive && !self.groups.values().any(|at| *at == consumer.place);
        if place.consumers.is_empty() && place.closed.is_none() && !is_queue {
            place.close("unsubscribed");
            self.groups.retain(|_, at| *at != consumer.place);
        }
    }

    /// The books and the queues are what the model says.
    fn check(&self) -> Checked {
        let stats = pollster::block_on(self.memory.stats()).unwrap();
        prop_assert!(stats.ledger.is_balanced(), "{}", stats.ledger);
        let mut expected = Ledger { unmatched: self.unmatched, ..Ledger::default() };
        for place in &self.places {
            expected.add(&place.ledger());
        }
        prop_assert_eq!(&stats.ledger, &expected);

        let live = self.places.iter().enumerate().filter(|(at, place)| {
            place.closed.is_none() && !self.queues.values().any(|queue| queue == at)
        });
        prop_assert_eq!(stats.subscriptions, live.count() as u64);
        prop_assert_eq!(stats.queues.len(), self.queues.len());
        for (info, (name, at)) in stats.queues.iter().zip(&self.queues) {
            let place = &self.places[*at];
            prop_assert_eq!(info.name.as_str(), QUEUES[*name]);
            prop_assert_eq!((info.messages, info.unsettled), (place.held(), place.leased));
            prop_assert_eq!(info.consumers, place.consumers.len() as u64);
            prop_assert_eq!(info.settings.capacity_messages, place.capacity);
            prop_assert_eq!(&info.bindings, &place.patterns);
            prop_assert_eq!(&info.ledger, &place.ledger());
            prop_assert_eq!(info.bytes == 0, info.messages == 0);
        }
        Ok(())
    }

    /// Everything that was lent comes back, and everything is deleted: nothing is held.
    fn end(mut self) -> Checked {
        while !self.lent.is_empty() {
            self.settle(0, Outcome::Ack);
        }
        for at in 0..self.consumers.len() {
            self.drop_receiver(at);
        }
        for queue in 0..QUEUES.len() {
            self.delete(queue)?;
        }
        self.check()?;
        let held = pollster::block_on(self.memory.stats()).unwrap().ledger.held;
        prop_assert_eq!(held, 0);
        Ok(())
    }
}
