//! A client, a server and a broker in one machine: messages, settlements and handles that come and
//! go, while the line stalls, cuts frames in two, and breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use posthaste_core::runtime::BoxFuture;
use posthaste_core::{
    BoxReceiver, BoxSender, Broker, Delivery, Error, ErrorKind, Message, SenderOptions, Seq,
    SharedRuntime, Subscription, Topic,
};
use posthaste_link::{Limits, Pipe, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;

use crate::choices::Choices;
use crate::drive::config;
use crate::machine::{Flag, Line, Machine};

/// Payloads from none but a name to several fragments.
const SIZES: [usize; 5] = [8, 9, 100, 4_200, 19_000];
/// What the whole machine may take: two ends with their buffers, and what a broker holds.
const MEMORY_MAX: u64 = 48 << 20;
/// How often things happen at most; a message is tried again no more often than that.
const STEPS_MAX: usize = 400;

/// A machine in which every byte of `data` decides what happens next.
///
/// # Panics
/// If a message is lost, doubled, made up, out of order or without an outcome, if something waits
/// for ever, or if it takes too much memory.
pub fn link(data: &[u8]) {
    let taken = allocation_counter::measure(|| {
        let mut choices = Choices::new(data);
        let mut world = World::new(&mut choices);
        for _ in 0..STEPS_MAX {
            if choices.is_over() {
                break;
            }
            world.step(&mut choices);
        }
        world.settle_down();
    });
    assert!(taken.bytes_max <= MEMORY_MAX, "{} bytes of memory", taken.bytes_max);
}

struct World {
    machine: Machine,
    line: Line,
    memory: Memory,
    server: Server,
    remote: Remote,
    senders: Vec<Sending>,
    receivers: Vec<BoxReceiver>,
    /// Receivers that are being opened.
    opening: Vec<BoxFuture<'static, Result<BoxReceiver, Error>>>,
    /// Deliveries that are not settled yet, and the message that each of them is.
    held: Vec<(u64, Delivery)>,
    /// Messages that somebody has taken, in the order in which each came first.
    seen: BTreeSet<u64>,
    /// The last that came first, of each sender, while there is only one receiver.
    last: BTreeMap<u64, u64>,
    in_order: bool,
    /// Whether the line was ever cut, and whether a receiver was dropped since.
    cut: bool,
    dropped_after_a_cut: bool,
    /// What came back: what may have arrived, and what cannot.
    unknown: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// Whether so much time passes that a session may be given up, and how much, if not.
    slow: bool,
    left: Duration,
    flag: Arc<Flag>,
}

struct Sending {
    handle: BoxSender,
    /// The names of the messages that it has taken: number 1 first.
    names: Vec<u64>,
    next: u64,
}

impl World {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mut machine = Machine::new();
        let clock: SharedRuntime = Arc::new(machine.clock.clone());
        let line = Line::new(Pipe::new().capacity(64 << choices.below(11)));
        let memory = Memory::with_runtime(Arc::clone(&clock));
        let limits = Limits { links: 64, ..config().limits };
        let options = ServerOptions::new().limits(limits);
        let server = Server::new(Arc::clone(&clock), memory.clone(), options);
        let here = "pipe:here".parse().expect("it is an endpoint");
        let here = machine.drive("listening", server.listen(line.pipe.clone(), here));
        let options = RemoteOptions::new().limits(limits);
        let here = here.expect("the address is free");
        let connecting = Remote::connect(clock, line.clone(), here, options);
        let remote = machine.drive("connecting", connecting).expect("the server answers");
        let slow = choices.below(4) == 3;
        let mut world = Self {
            machine,
            line,
            memory,
            server,
            remote,
            senders: Vec::new(),
            receivers: Vec::new(),
            opening: Vec::new(),
            held: Vec::new(),
            seen: BTreeSet::new(),
            last: BTreeMap::new(),
            in_order: true,
            cut: false,
            dropped_after_a_cut: false,
            unknown: BTreeSet::new(),
            refused: BTreeSet::new(),
            slow,
            left: Duration::from_secs(4),
            flag: Arc::default(),
        };
        for _ in 0..2 {
            let options = SenderOptions::new().window(1 + choices.below(16), 1 << 20);
            let remote = world.remote.clone();
            let handle = world.machine.drive("a sender", remote.sender(options));
            let handle = handle.expect("the server opens a sender");
            world.senders.push(Sending { handle, names: Vec::new(), next: 0 });
        }
        world
    }

    /// One thing happens. Tasks run in half of all steps, one poll at a time or until they rest.
    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.below(32) {
            0..=9 => drop(self.machine.turn(choices.below(8))),
            10..=15 => self.machine.rest(),
            16..=19 => self.send(choices),
            20 | 21 => self.receive(choices),
            22 | 23 => self.settle(choices),
            24 => self.open_receiver(choices),
            25 => self.drop_receiver(choices),
            26 | 27 => self.line.open(choices.below(2), choices.below(64)),
            28 => self.line.open(choices.below(2), usize::MAX),
            29 => self.pass_time(choices),
            30 => self.take_back(choices),
            _ => {
                self.cut = true;
                self.line.pipe.cut();
            }
        }
        self.poll_opening();
    }

    fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.flag))
    }

    fn send(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(self.senders.len());
        let size = choices.one_of(&SIZES);
        let waker = self.waker();
        let sending = &mut self.senders[at];
        let name = (at as u64) << 32 | sending.next;
        let mut payload = name.to_le_bytes().to_vec();
        payload.resize(size, 7);
        let mut slot = Some(Message::to_queue(queue(), payload));
        match sending.handle.poll_send(&mut Context::from_waker(&waker), &mut slot) {
            Poll::Ready(Ok(seq)) => {
                assert!(slot.is_none());
                sending.next += 1;
                sending.names.push(name);
                assert_eq!(seq.get(), sending.names.len() as u64, "numbered from 1");
            }
            Poll::Ready(Err(error)) => {
                // What a lost session gave back fills the window until it is taken out.
                assert!(self.slow && slot.is_some(), "a send failed: {error}");
                self.take_back(&mut Choices::new(&[at as u8]));
            }
            Poll::Pending => {
                assert!(slot.is_some(), "what waits stays in the slot");
                sending.handle.disarm();
            }
        }
    }

    /// Takes out what has come back.
    fn take_back(&mut self, choices: &mut Choices<'_>) {
        let at = choices.below(self.senders.len());
        let sending = &mut self.senders[at];
        while let Some(returned) = sending.handle.take_returned(Seq::FIRST) {
            let name = sending.names[returned.seq.get() as usize - 1];
            assert_eq!(
                name_of(returned.message.payload()),
                name,
                "it is the message that was sent"
            );
            let kept = match returned.error.kind() {
                ErrorKind::Unknown => &mut self.unknown,
                _ => &mut self.refused,
            };
            assert!(kept.insert(name), "it comes back once");
        }
    }

    fn open_receiver(&mut self, choices: &mut Choices<'_>) {
        if self.receivers.len() + self.opening.len() == 3 {
            return;
        }
        let subscription = Subscription::queue("jobs").expect("it is a name");
        let subscription = match choices.below(4) {
            0 => subscription,
            prefetch => subscription.prefetch(prefetch),
        };
        // What two take at a time has no order, nor has what one leaves to the next, if it could not
        // give it back at once.
        let alone = self.receivers.is_empty() && self.opening.is_empty();
        self.in_order &= alone && !self.dropped_after_a_cut;
        let remote = self.remote.clone();
        self.opening.push(Box::pin(async move { remote.receiver(subscription).await }));
    }

    fn poll_opening(&mut self) {
        let waker = self.waker();
        let mut cx = Context::from_waker(&waker);
        for mut opening in std::mem::take(&mut self.opening) {
            match opening.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(receiver)) => self.receivers.push(receiver),
                // Links whose end the server has not heard of are in the way of further ones.
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::Limit => {}
                // Its link was on its way when the session was given up.
                Poll::Ready(Err(error)) => assert!(self.slow, "no receiver: {error}"),
                Poll::Pending => self.opening.push(opening),
            }
        }
    }

    fn drop_receiver(&mut self, choices: &mut Choices<'_>) {
        self.dropped_after_a_cut |= self.cut;
        if choices.below(2) == 0 && !self.opening.is_empty() {
            let at = choices.below(self.opening.len());
            drop(self.opening.remove(at));
        } else if !self.receivers.is_empty() {
            let at = choices.below(self.receivers.len());
            drop(self.receivers.remove(at));
        }
    }

    fn receive(&mut self, choices: &mut Choices<'_>) {
        if self.receivers.is_empty() {
            return;
        }
        let at = choices.below(self.receivers.len());
        let waker = self.waker();
        let mut cx = Context::from_waker(&waker);
        match self.receivers[at].poll_recv(&mut cx) {
            Poll::Ready(Some(Ok(delivery))) => self.came(delivery),
            Poll::Ready(Some(Err(error))) => {
                assert!(self.slow, "a receiver failed: {error}");
            }
            Poll::Ready(None) => panic!("a receiver ended"),
            Poll::Pending => self.receivers[at].disarm(),
        }
    }

    fn came(&mut self, delivery: Delivery) {
        let name = name_of(delivery.payload());
        let (sender, number) = (name >> 32, name & 0xffff_ffff);
        assert!(number < self.senders[sender as usize].next, "what comes was sent");
        assert!(!self.refused.contains(&name), "what was refused does not come");
        if self.seen.insert(name) && self.in_order {
            let last = self.last.insert(sender, number);
            assert!(last.is_none_or(|last| last < number), "in the order of the sender");
        }
        self.held.push((name, delivery));
    }

    fn settle(&mut self, choices: &mut Choices<'_>) {
        if self.held.is_empty() {
            return;
        }
        let at = choices.below(self.held.len());
        let (_, delivery) = self.held.remove(at);
        match choices.below(4) {
            0 => delivery.retry(Duration::ZERO, "again"),
            1 => delivery.release(),
            2 => drop(delivery),
            _ => delivery.ack(),
        }
    }

    fn pass_time(&mut self, choices: &mut Choices<'_>) {
        let time = Duration::from_millis(500 * choices.below(16) as u64);
        let time = if self.slow { 8 * time } else { time.min(self.left) };
        self.left = self.left.saturating_sub(time);
        self.machine.pass(time);
    }

    /// The line is whole again: now everything comes to a good end.
    fn settle_down(&mut self) {
        for direction in [0, 1] {
            self.line.open(direction, usize::MAX);
        }
        self.machine.rest();
        for (_, delivery) in self.held.drain(..) {
            delivery.release();
        }
        self.opening.clear();
        self.receivers.clear();
        for at in 0..self.senders.len() {
            self.flush(at);
        }
        let sends = self.remote.sends().expect("a remote keeps books");
        assert!(sends.is_balanced() && sends.pending == 0, "{sends:?}");
        let sent: usize = self.senders.iter().map(|sending| sending.names.len()).sum();
        let came_back = self.unknown.len() + self.refused.len();
        assert_eq!((sends.taken, sends.returned), (sent as u64, came_back as u64));
        self.drain(sends.confirmed);
        let shutdown = self.server.shutdown();
        self.machine.drive("the end", shutdown);
    }

    /// Waits until everything that a sender was given has its outcome.
    fn flush(&mut self, at: usize) {
        let upto = Seq::new(self.senders[at].names.len() as u64);
        let handle = &mut self.senders[at].handle;
        let flushing = std::future::poll_fn(|cx| handle.poll_flush(cx, upto));
        let flushed = self.machine.drive("an outcome", flushing);
        assert!(flushed.is_ok(), "a flush failed: {flushed:?}");
        // All that has come back is taken out, whichever sender a choice of nothing would name.
        self.take_back(&mut Choices::new(&[at as u8]));
    }

    /// Takes everything out of the broker, behind the link's back.
    fn drain(&mut self, confirmed: u64) {
        let jobs = Subscription::queue("jobs").expect("it is a name");
        let mut receiver = self.memory.open_receiver(&jobs).expect("there is room");
        let waker = self.waker();
        for _ in 0..1_000 {
            let mut cx = Context::from_waker(&waker);
            let receiver: &mut dyn posthaste_core::Receiver = &mut receiver;
            match receiver.poll_recv(&mut cx) {
                Poll::Ready(Some(Ok(delivery))) => {
                    let name = name_of(delivery.payload());
                    assert!(!self.refused.contains(&name), "what was refused is not there");
                    self.seen.insert(name);
                    delivery.ack();
                }
                Poll::Ready(end) => panic!("the broker ended: {end:?}"),
                Poll::Pending => {
                    let held = self.books().held;
                    if held == 0 {
                        break;
                    }
                    self.machine.pass(Duration::from_secs(1));
                }
            }
        }
        let books = self.books();
        assert!(books.is_balanced() && books.held == 0, "{books}");
        assert!(books.accepted >= confirmed, "what was confirmed is there: {books}");
        let most = confirmed + self.unknown.len() as u64;
        assert!(books.accepted <= most, "nothing is there twice: {books}");
        for sending in &self.senders {
            for name in &sending.names {
                let excused = self.unknown.contains(name) || self.refused.contains(name);
                assert!(excused || self.seen.contains(name), "{name:x} was confirmed and is lost");
            }
        }
    }

    fn books(&mut self) -> posthaste_core::Ledger {
        let memory = self.memory.clone();
        self.machine.drive("the books", memory.stats()).expect("a broker has books").ledger
    }
}

fn queue() -> Topic {
    Topic::new("jobs").expect("it is a name")
}

fn name_of(payload: &[u8]) -> u64 {
    let (name, rest) = payload.split_first_chunk().expect("a payload has its name");
    assert!(rest.iter().all(|byte| *byte == 7), "a payload is whole");
    u64::from_le_bytes(*name)
}
