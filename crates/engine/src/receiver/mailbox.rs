//! What has arrived and is not handed out, what is handed out and not settled, and what is settled
//! and not told.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Waker};

use posthaste_core::task::remember;
use posthaste_core::{
    Ack, Error, ErrorKind, Kind, Message, Outcome, Overflow, SharedRuntime, Source, Status,
    Subscription,
};
use slab::Slab;

use crate::{Arrival, Settled, Verdict};

/// The state of a receiver.
pub(crate) struct Mailbox<T> {
    runtime: SharedRuntime,
    arrivals: VecDeque<Waiting<T>>,
    /// The bytes of what waits.
    bytes: usize,
    leases: Slab<Lease<T>>,
    /// Settled, and to be told to the engine, in order.
    verdicts: Vec<Settled<T>>,
    /// Answers to be given on behalf of applications that gave requests up.
    answers: Vec<Message>,
    /// The task is telling verdicts or giving answers, or has them confirmed.
    telling: bool,
    /// Told, and the engine has not confirmed that it heard.
    unconfirmed: bool,
    rules: Rules,
    /// How many may still be handed out, and how many may still be taken in.
    left: u64,
    wanted: u64,
    /// Told in order: an interruption, or why this is the end.
    errors: VecDeque<Error>,
    /// Nothing comes any more.
    ended: bool,
    /// Nothing is wanted any more.
    pub(super) closed: bool,
    /// The first settlement that could not be done as asked.
    failure: Option<Error>,
    /// Dropped since the last that was taken in.
    missed: u64,
    /// The number of the front of `arrivals`, and where the newest of each key waits.
    first: u64,
    latest: BTreeMap<String, u64>,
    /// The task has stopped taking in.
    stopped: bool,
    /// Who waits for deliveries.
    pub(super) receiver: Option<Waker>,
    /// Who waits for settlements.
    pub(super) settler: Option<Waker>,
    /// Who waits for the end of everything.
    pub(super) drainer: Option<Waker>,
    /// The task, while it has nothing to do but to wait for arrivals.
    pub(super) task: Option<Waker>,
    /// Something has changed for whom a waker waits.
    arrived: bool,
    told: bool,
    due: bool,
}

/// How a mailbox behaves.
struct Rules {
    manual: bool,
    /// Whether this is a live subscription, and no queue.
    live: bool,
    /// Whether what is not taken in waits at the engine.
    holds: bool,
    unsettled_max: usize,
    messages_max: usize,
    bytes_max: usize,
    overflow: Overflow,
}

struct Waiting<T> {
    arrival: Arrival<T>,
    missed: u64,
}

struct Lease<T> {
    message: Message,
    attempt: u32,
    token: Option<T>,
}

/// What is handed out next.
pub(crate) struct Next {
    pub(super) message: Message,
    pub(super) attempt: u32,
    pub(super) tag: Option<u64>,
    pub(super) missed: u64,
}

/// What the task is to do next.
pub(crate) enum Duty<T> {
    /// To tell these to the engine, and to give these answers.
    Tell(Vec<Settled<T>>, Vec<Message>),
    /// To wait until the engine has heard what it was told.
    Confirm,
    /// To take nothing in any more.
    Stop,
    /// To take in what comes, so much of it at a time.
    Take(Room),
    /// To wait.
    Wait,
    /// To end: nothing is left to be done.
    End,
}

/// How much is taken in at a time: the bytes may be overdrawn by one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// How many are taken in at a time at most.
const BATCH: usize = 1_024;

impl<T> Mailbox<T> {
    pub(super) fn new(subscription: &Subscription, holds: bool, runtime: SharedRuntime) -> Self {
        let manual = subscription.ack == Ack::Manual;
        let prefetch = subscription.prefetch.unwrap_or(usize::MAX).max(1);
        let limit = subscription.limit.unwrap_or(u64::MAX);
        let rules = Rules {
            manual,
            live: !matches!(subscription.source, Source::Queue(_)),
            holds,
            unsettled_max: if manual { prefetch } else { usize::MAX },
            messages_max: subscription.capacity_messages,
            bytes_max: subscription.capacity_bytes,
            overflow: subscription.overflow,
        };
        Self {
            runtime,
            arrivals: VecDeque::new(),
            bytes: 0,
            leases: Slab::new(),
            verdicts: Vec::new(),
            answers: Vec::new(),
            telling: false,
            unconfirmed: false,
            rules,
            left: limit,
            wanted: limit,
            errors: VecDeque::new(),
            ended: false,
            closed: limit == 0,
            failure: None,
            missed: 0,
            first: 0,
            latest: BTreeMap::new(),
            stopped: false,
            receiver: None,
            settler: None,
            drainer: None,
            task: None,
            arrived: false,
            told: false,
            due: false,
        }
    }

    // ---- The handle's side

    pub(super) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty() && self.left > 0
    }

    /// The next delivery, the end, or an error; `None` if there is nothing to say now.
    pub(super) fn next(&mut self) -> Option<Result<Option<Next>, Error>> {
        if self.left == 0 {
            return Some(Ok(None));
        }
        while let Some(waiting) = self.pop() {
            let deadline = waiting.arrival.message.deadline();
            if deadline.is_some_and(|deadline| deadline <= self.runtime.now()) {
                let Arrival { message, attempt, token } = waiting.arrival;
                self.conclude(message, attempt, token, Verdict::Expired);
                continue;
            }
            return Some(Ok(Some(self.hand_out(waiting))));
        }
        if let Some(error) = self.errors.pop_front() {
            return Some(Err(error));
        }
        (self.ended || self.closed).then_some(Ok(None))
    }

    /// Takes the oldest out.
    fn pop(&mut self) -> Option<Waiting<T>> {
        // The task waits for room, if there is none.
        self.due |= !self.has_room();
        let waiting = self.arrivals.pop_front()?;
        self.bytes -= waiting.arrival.message.size();
        if !self.latest.is_empty() {
            let key = key_of(&waiting.arrival.message);
            if self.latest.get(&key) == Some(&self.first) {
                self.latest.remove(&key);
            }
        }
        self.first += 1;
        Some(waiting)
    }

    fn hand_out(&mut self, waiting: Waiting<T>) -> Next {
        let Waiting { arrival: Arrival { message, attempt, token }, missed } = waiting;
        self.left -= 1;
        if self.left == 0 {
            self.close();
        }
        if !self.rules.manual {
            if let Some(token) = token {
                self.due = true;
                let message = message.clone();
                self.verdicts.push(Settled { message, attempt, token, verdict: Verdict::Taken });
            }
            return Next { message, attempt, tag: None, missed };
        }
        let tag = self.leases.insert(Lease { message: message.clone(), attempt, token });
        Next { message, attempt, tag: Some(tag as u64), missed }
    }

    /// Whether this is a request whose sender is told if it is given up: one that does not wait for
    /// somebody else to answer it.
    fn is_answered(&self, message: &Message) -> bool {
        message.kind() == Kind::Request && (self.rules.live || !message.waits())
    }

    /// Leaves no waker behind if there was something to say, else one.
    pub(super) fn wait_unless(&mut self, ready: bool, cx: &Context<'_>) {
        match ready {
            true => self.receiver = None,
            false => remember(&mut self.receiver, cx),
        }
    }

    pub(super) fn settle(&mut self, tag: u64, outcome: Outcome<'_>) {
        // The task waits for room, or for nothing to be handed out any more, or for nothing.
        self.due |= self.closed || self.ended || !self.has_room();
        let lease = usize::try_from(tag).ok().and_then(|tag| self.leases.try_remove(tag));
        let Some(Lease { message, attempt, token }) = lease else { return };
        self.told = true;
        let verdict = match outcome {
            Outcome::Ack => Verdict::Ack,
            Outcome::Taken => Verdict::Taken,
            Outcome::Retry { after, why } => Verdict::Retry { after, why: why.to_owned() },
            Outcome::Reject { why } => Verdict::Reject { why: why.to_owned() },
            Outcome::Release => Verdict::Release,
            Outcome::Lost | Outcome::Dropped => Verdict::Dropped,
        };
        self.conclude(message, attempt, token, verdict);
    }

    /// Tells the engine what became of a message, and its requester if nobody answers it any more.
    fn conclude(&mut self, message: Message, attempt: u32, token: Option<T>, mut verdict: Verdict) {
        let is_over = match &verdict {
            Verdict::Ack | Verdict::Taken | Verdict::Expired => false,
            // Work that was begun is not begun again for one who may have gone.
            Verdict::Reject { .. } | Verdict::Dropped => true,
            // Another may have it, where the engine can hand it to one.
            Verdict::Retry { .. } | Verdict::Release | Verdict::Unseen => token.is_none(),
        };
        if is_over
            && self.is_answered(&message)
            && let Some(answer) = message.status_reply(Status::NoResponders, LOST)
        {
            self.answers.push(answer);
            self.due = true;
            verdict = Verdict::Ack;
        }
        if let Some(token) = token {
            self.due = true;
            self.verdicts.push(Settled { message, attempt, token, verdict });
        }
    }

    /// Tells of an arrival that the application will never see.
    fn pass_by(&mut self, arrival: Arrival<T>) {
        let Arrival { message, attempt, token } = arrival;
        self.conclude(message, attempt, token, Verdict::Unseen);
    }

    /// Whether everything that was settled so far has been told, and once closed everything that
    /// was not handed out.
    pub(super) fn is_settled(&self) -> bool {
        let told = self.verdicts.is_empty() && self.answers.is_empty() && !self.telling;
        told && !self.unconfirmed && (self.stopped || !self.closed)
    }

    /// Whether nothing is wanted any more, and the engine has not heard of it.
    pub(super) fn is_leaving(&self) -> bool {
        self.closed && !self.stopped
    }

    /// Somebody waits for settlements, which are confirmed then.
    pub(super) fn wait_settled(&mut self, cx: &Context<'_>) {
        self.due |= self.unconfirmed;
        remember(&mut self.settler, cx);
    }

    /// Whether it is of interest to anybody that the engine has heard what it was told.
    fn wants_confirmation(&self) -> bool {
        self.closed || self.ended || self.settler.is_some() || self.drainer.is_some()
    }

    pub(super) fn take_failure(&mut self) -> Result<(), Error> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Wants nothing more; what was not handed out goes back, and this is how much.
    pub(super) fn close(&mut self) -> u64 {
        self.due = true;
        let unseen = self.arrivals.len() as u64;
        self.closed = true;
        self.bytes = 0;
        self.latest.clear();
        for waiting in std::mem::take(&mut self.arrivals) {
            self.pass_by(waiting.arrival);
        }
        unseen
    }

    /// How many are handed out and not settled.
    pub(super) fn leased(&self) -> u64 {
        self.leases.len() as u64
    }

    // ---- The task's side

    /// What the task is to do next.
    pub(super) fn duty(&mut self) -> Duty<T> {
        self.due = false;
        // First, so that nothing of what is given back comes again to here.
        if (self.closed || self.ended) && !self.stopped {
            return Duty::Stop;
        }
        if !self.verdicts.is_empty() || !self.answers.is_empty() {
            self.telling = true;
            self.unconfirmed |= !self.verdicts.is_empty();
            let (verdicts, answers) = (&mut self.verdicts, &mut self.answers);
            return Duty::Tell(std::mem::take(verdicts), std::mem::take(answers));
        }
        if self.unconfirmed && self.wants_confirmation() {
            self.telling = true;
            self.unconfirmed = false;
            return Duty::Confirm;
        }
        if !self.stopped {
            return match self.has_room() {
                true => Duty::Take(self.room()),
                false => Duty::Wait,
            };
        }
        match self.leases.is_empty() && (self.closed || self.arrivals.is_empty()) {
            true => Duty::End,
            false => Duty::Wait,
        }
    }

    fn has_room(&self) -> bool {
        let room = self.room();
        room.messages > 0 && room.bytes > 0
    }

    fn room(&self) -> Room {
        let rules = &self.rules;
        let wanted = usize::try_from(self.wanted).unwrap_or(usize::MAX).min(BATCH);
        let unsettled = self.arrivals.len() + self.leases.len();
        let messages = wanted.min(rules.unsettled_max.saturating_sub(unsettled));
        match rules.holds {
            false => Room { messages, bytes: rules.bytes_max },
            true => Room {
                messages: messages.min(rules.messages_max.saturating_sub(self.arrivals.len())),
                bytes: rules.bytes_max.saturating_sub(self.bytes),
            },
        }
    }

    /// Whether the task has anything to do but to take in.
    pub(super) fn is_due(&mut self) -> bool {
        std::mem::take(&mut self.due)
    }

    /// Takes an arrival in, or what happens at the bound happens.
    pub(super) fn put(&mut self, arrival: Arrival<T>) {
        if self.closed || self.ended {
            return self.pass_by(arrival);
        }
        let size = arrival.message.size();
        let latest = self.rules.overflow == Overflow::LatestPerKey && !self.rules.holds;
        let Some(arrival) = (if latest { self.replace(arrival) } else { Some(arrival) }) else {
            return;
        };
        let full = !self.arrivals.is_empty()
            && (self.arrivals.len() >= self.rules.messages_max
                || self.bytes + size > self.rules.bytes_max);
        if full && !self.rules.holds && !self.make_room() {
            return self.pass_by(arrival);
        }
        self.wanted = self.wanted.saturating_sub(1);
        self.bytes += size;
        let missed = std::mem::take(&mut self.missed);
        if latest {
            let number = self.first + self.arrivals.len() as u64;
            self.latest.insert(key_of(&arrival.message), number);
        }
        self.arrivals.push_back(Waiting { arrival, missed });
        self.arrived = true;
    }

    /// Puts an arrival in the place of the one of its key that waits; if none does, it is left.
    fn replace(&mut self, arrival: Arrival<T>) -> Option<Arrival<T>> {
        let number = self.latest.get(&key_of(&arrival.message));
        let at = number.and_then(|number| number.checked_sub(self.first));
        let at = at.and_then(|at| usize::try_from(at).ok());
        let Some(waiting) = at.and_then(|at| self.arrivals.get_mut(at)) else {
            return Some(arrival);
        };
        self.bytes = self.bytes - waiting.arrival.message.size() + arrival.message.size();
        waiting.missed += 1;
        let before = std::mem::replace(&mut waiting.arrival, arrival);
        self.pass_by(before);
        None
    }

    /// Drops what the policy says; whether there is room for the arrival then.
    fn make_room(&mut self) -> bool {
        match self.rules.overflow {
            Overflow::DropNewest => {
                self.missed += 1;
                false
            }
            Overflow::DropOldest | Overflow::LatestPerKey => {
                let mut missed = 0;
                if let Some(oldest) = self.pop() {
                    missed = oldest.missed + 1;
                    self.pass_by(oldest.arrival);
                }
                match self.arrivals.front_mut() {
                    Some(next) => next.missed += missed,
                    None => self.missed += missed,
                }
                true
            }
            // The engine cannot hold its senders up, and nothing is lost in silence.
            Overflow::Block | Overflow::Reject | Overflow::Disconnect => {
                let text = format!(
                    "this subscription is full with {} messages and was cut off; take them faster, \
                     or choose a policy that drops",
                    self.arrivals.len()
                );
                self.fail(Error::new(ErrorKind::SlowConsumer, text));
                false
            }
        }
    }

    /// Tells the application of an error; unless a session was lost, this is the end.
    pub(super) fn fail(&mut self, error: Error) {
        self.ended |= error.kind() != ErrorKind::SessionLost;
        self.errors.push_back(error);
        self.arrived = true;
        self.due = true;
    }

    /// The task has stopped taking in.
    pub(super) fn stop(&mut self) {
        (self.stopped, self.told) = (true, true);
    }

    /// Nobody is left who could tell anything.
    pub(super) fn abandon(&mut self) {
        self.end();
        self.stop();
        self.leases.clear();
        self.verdicts.clear();
        self.answers.clear();
        (self.telling, self.unconfirmed) = (false, false);
    }

    /// Nothing comes any more.
    pub(super) fn end(&mut self) {
        (self.ended, self.arrived, self.due) = (true, true, true);
    }

    /// What was to be told has been told.
    pub(super) fn told(&mut self, failed: Option<Error>) {
        self.telling = false;
        self.told = true;
        self.failure = self.failure.take().or(failed);
    }

    /// Who has to be woken for what has changed.
    pub(super) fn due_wakers(&mut self) -> [Option<Waker>; 4] {
        let receiver =
            self.arrived && (!self.arrivals.is_empty() || self.ended || !self.errors.is_empty());
        self.arrived = false;
        let told = std::mem::take(&mut self.told) && self.is_settled();
        [
            if receiver { self.receiver.take() } else { None },
            if told { self.settler.take() } else { None },
            if told { self.drainer.take() } else { None },
            if self.due { self.task.take() } else { None },
        ]
    }
}

/// What a message is the latest of: its key, or its topic if it has none.
fn key_of(message: &Message) -> String {
    match message.key() {
        Some(key) => format!("k{key}"),
        None => format!("t{}", message.topic()),
    }
}

const LOST: &str = "who was to answer gave the request up; ask again";
