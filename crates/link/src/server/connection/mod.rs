//! One connection: its socket, its session, and everything its client has opened, in one task.

mod resuming;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_core::task::{Child, ReadySet};
use posthaste_core::{BoxFuture, BoxSender, Cancel, Error, Runtime};
use posthaste_wire::{Auth, Code, Event, Link, Role, Session};

use self::resuming::Belongings;
use super::inbound::Inbound;
use super::open::{self, Receiving};
use super::outbound::{Outbound, Progress, outcome_of};
use super::owed::Watch;
use super::sessions::{HANDED_OVER, SUPERSEDED};
use super::{Member, PHASE, Phase, Shared, call};
use crate::codes::code_of;
use crate::control::identity::{self, Identity};
use crate::control::{self, Opened};
use crate::pump::{LAST_READS, Pump, after};

/// Calls that run at a time; more wait.
const CALLS: usize = 64;
/// Bytes of calls that wait.
const CALL_BYTES: usize = 4 << 20;
/// The children that are calls; below are links, by their numbers on the wire.
const FIRST_CALL: usize = 1 << 16;
/// The children that watch for cancelled requests, by the numbers of their links.
const FIRST_WATCH: usize = 1 << 17;
/// Turns of the loop before other tasks get theirs.
const TURNS: usize = 4;
/// How long a goodbye may take to be written.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the broker may take for what a client sent before it left.
const LINGER: Duration = Duration::from_secs(5);

/// One connection, from its first byte to its end.
pub(super) struct Connection {
    shared: Arc<Shared>,
    pump: Pump,
    session: Session,
    ready: ReadySet,
    member: Member,
    belongings: Belongings,
    /// By the links' numbers.
    links: Vec<Option<Box<LinkTask>>>,
    /// How many of them are senders.
    senders: usize,
    calls: Vec<Option<CallTask>>,
    queued: VecDeque<(u32, u16, Bytes)>,
    queued_bytes: usize,
    /// What the client no longer wants an answer to.
    cancels: Vec<Cancel>,
    /// Children that something happened to.
    run: Vec<usize>,
    /// Links that wait until what has gathered is written.
    blocked: Vec<usize>,
    /// Links with deliveries in what gathers, and in what is being written.
    gathered: Vec<usize>,
    writing: Vec<usize>,
    /// Whether confirms have waited for something to go out with.
    waited: bool,
    told: Phase,
    established: bool,
    ended: Option<Ended>,
}

/// How the connection ended, and what may still take how long.
struct Ended {
    /// Until when the goodbye may take; none once it is written, or nobody reads it.
    write: Option<Instant>,
    /// Until when the broker may take.
    linger: Instant,
    /// Whether the client may come back until then, for what belongs to it.
    keeps: bool,
}

struct LinkTask {
    link: Link,
    child: Child,
    /// Its name in the session, and where it wants to go on.
    identity: Identity,
    /// Whether it is among those that are looked at next.
    queued: bool,
    /// Whether it is among those that wait until what has gathered is written.
    blocked: bool,
    /// Whether the client wants no messages any more, said before the link was open.
    stopping: bool,
    stage: Stage,
}

enum Stage {
    /// Until what belongs to the session is handed over.
    Awaiting(Role, Bytes),
    OpeningSender(BoxFuture<'static, Result<BoxSender, Error>>),
    OpeningReceiver(BoxFuture<'static, Result<Receiving, Error>>),
    Sender(Inbound),
    Receiver(Outbound),
}

struct CallTask {
    id: u32,
    child: Child,
    answer: BoxFuture<'static, Result<Vec<u8>, Error>>,
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        pump: Pump,
        session: Session,
        ready: ReadySet,
        member: Member,
    ) -> Self {
        let shared_number = shared.numbers.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            pump,
            session,
            ready,
            belongings: Belongings::new(shared_number),
            member,
            links: Vec::new(),
            senders: 0,
            calls: Vec::new(),
            queued: VecDeque::new(),
            queued_bytes: 0,
            cancels: Vec::new(),
            run: Vec::new(),
            blocked: Vec::new(),
            gathered: Vec::new(),
            writing: Vec::new(),
            waited: false,
            told: Phase::Open,
            established: false,
            ended: None,
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.ready.register(cx);
        // Whether the socket wakes the task when there is more to read.
        let mut pending = false;
        for _ in 0..TURNS {
            let read = !pending && this.read(cx);
            pending = !read;
            let ran = this.run_children();
            if this.has_handed_over() {
                return Poll::Ready(());
            }
            this.run_cancels();
            if this.waits_for_company(cx) {
                return Poll::Pending;
            }
            let wrote = this.write(cx);
            if this.ended.is_some() && this.poll_end(cx) {
                return Poll::Ready(());
            }
            if !(read || ran || wrote || this.poll_timer(cx)) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Connection {
    fn now(&self) -> Instant {
        self.shared.runtime.now()
    }

    /// The server may be going away.
    fn heed_phase(&mut self) {
        let phase = self.shared.phase();
        if phase <= self.told {
            return;
        }
        self.told = phase;
        match phase {
            Phase::Open => {}
            Phase::Draining => {
                // Before the session is established there is nobody to tell.
                let _ = self.session.notice(Code::GoingAway, b"the server is going away");
            }
            Phase::Closed => {
                self.session.goodbye(Code::GoingAway, "the server is going away");
                self.drain_events();
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended.is_some() {
            return false;
        }
        match self.pump.poll_read(cx, self.session.wanted()) {
            Poll::Ready(Ok(0)) => self.session.handle_eof(),
            Poll::Ready(Ok(_)) => self.feed(),
            Poll::Ready(Err(error)) => {
                tracing::debug!(peer = %self.pump.peer(), %error, "the socket failed");
                self.session.handle_eof();
            }
            Poll::Pending => return false,
        }
        self.drain_events();
        true
    }

    /// Whether what is to be written waits while everybody else has a turn, once: a confirm goes out
    /// with the reply that its request leads to, in one write rather than two.
    fn waits_for_company(&mut self, cx: &Context<'_>) -> bool {
        let alone = self.session.wants_company() && !self.pump.wants_write();
        self.waited = alone && !self.waited && self.ended.is_none();
        if self.waited {
            cx.waker().wake_by_ref();
        }
        self.waited
    }

    /// Hands what was read to the session. A message for a sender goes there straight away.
    fn feed(&mut self) {
        let now = self.now();
        let Self { pump, session, links, run, .. } = self;
        pump.feed(session, now, |link, _, transfer| {
            let Some(task) = task(links, link) else { return Some(transfer) };
            match &mut task.stage {
                Stage::Sender(inbound) if !inbound.came_before() => inbound.arrived(transfer, now),
                _ => return Some(transfer),
            }
            if !std::mem::replace(&mut task.queued, true) {
                run.push(usize::from(link.id()));
            }
            None
        });
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.pump.wants_write() && self.session.wants_output() {
            self.pump.collect(&mut self.session);
            for at in &self.gathered {
                if let Some(outbound) = outbound(&mut self.links, *at) {
                    outbound.collected();
                }
            }
            self.writing.append(&mut self.gathered);
            self.drain_events();
            for at in self.blocked.drain(..) {
                if let Some(task) = self.links.get_mut(at).and_then(Option::as_deref_mut) {
                    task.blocked = false;
                }
                self.run.push(at);
            }
        }
        if !self.pump.wants_write() {
            return false;
        }
        let wrote = self.pump.poll_write(cx);
        if self.pump.has_begun() {
            // From the first byte on the client may have seen some of it.
            for at in self.writing.drain(..) {
                if let Some(outbound) = outbound(&mut self.links, at) {
                    outbound.written();
                }
            }
        }
        match wrote {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                tracing::debug!(peer = %self.pump.peer(), %error, "the socket failed");
                // The client may have said goodbye, before it went.
                for _ in 0..LAST_READS {
                    if !self.read(cx) {
                        break;
                    }
                }
                self.session.handle_eof();
                self.drain_events();
                if let Some(ended) = &mut self.ended {
                    ended.write = None;
                }
                false
            }
            Poll::Pending => false,
        }
    }

    /// Whether the session's next time-out had come.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.forget_unclaimed(cx);
        let due = self.pump.heeding(self.session.poll_timeout());
        if !self.pump.poll_due(cx, due) {
            return false;
        }
        self.pump.shrink();
        let now = self.now();
        self.session.handle_timeout(now);
        self.drain_events();
        true
    }

    /// After the end: whether everything is over.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> bool {
        let writing = self.pump.wants_write();
        let Some(ended) = &mut self.ended else {
            return false;
        };
        if let Some(until) = ended.write
            && (!writing || self.pump.poll_due(cx, Some(until)))
        {
            ended.write = None;
            // Best effort: the peer sees the end of the stream either way.
            let _ = self.pump.poll_close(cx);
        }
        let (linger, keeps) = (ended.linger, ended.keeps);
        if ended.write.is_some() {
            return false;
        }
        if keeps {
            let none = self.links.iter().all(Option::is_none) && self.belongings.are_none();
            return none || self.told > Phase::Open || self.pump.poll_due(cx, Some(linger));
        }
        let busy = self.links.iter().flatten().any(|task| match &task.stage {
            Stage::Sender(inbound) => !inbound.is_idle(),
            _ => false,
        });
        !busy || self.told == Phase::Closed || self.pump.poll_due(cx, Some(linger))
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Transfer { link, transfer, .. } => {
                let now = self.now();
                if let Some(Stage::Sender(inbound)) = stage(&mut self.links, link) {
                    let free_again = inbound.arrived_again(transfer, now);
                    self.session.grant(link, 0, free_again);
                    self.again(link);
                }
            }
            Event::Settle { link, first, last, outcome, after, why } => {
                if let Some(Stage::Receiver(outbound)) = stage(&mut self.links, link) {
                    outbound.settle(first, last, outcome_of(outcome, after, &why));
                }
            }
            Event::Extend { link, number } => {
                if let Some(Stage::Receiver(outbound)) = stage(&mut self.links, link) {
                    outbound.extend(number);
                }
            }
            Event::Cancel { body } => match control::cancel::decode(&body) {
                Ok(cancel) => self.cancels.push(cancel),
                Err(error) => self.session.goodbye(code_of(error.kind()), error.text()),
            },
            Event::Credit { link } | Event::Writable { link } => self.again(link),
            Event::Opening { link, role, options } => self.open(link, role, options),
            Event::Close { link } => self.close(link),
            Event::Stop { link } => self.stop(link),
            Event::Sync { link, token } => self.sync(link, token),
            Event::Call { id, method, body } => self.call(id, method, body),
            Event::Established { peer } => {
                let here = self.pump.peer();
                tracing::info!(peer = %here, software = %peer.software.escape_debug(), "connected");
                self.established = true;
                self.shared.established.fetch_add(1, Ordering::Relaxed);
                let claims = peer.auth != 0 || self.shared.options.auth != Auth::None;
                if claims && here.credentials.is_none() {
                    let text = "this transport does not tell who its peers are";
                    self.session.goodbye(Code::Refused, text);
                }
                self.begin_session(peer.session, &here);
            }
            Event::Ended { code, reason, by_peer } => {
                let here = self.pump.peer();
                let reason = reason.escape_debug();
                tracing::info!(peer = %here, %code, %reason, "disconnected");
                self.end(code, by_peer);
            }
            // What only clients are told.
            _ => {}
        }
    }

    /// The session has ended: receivers give back what they have; what a client sent before it
    /// left still goes to the broker.
    fn end(&mut self, code: Code, by_peer: bool) {
        if std::mem::take(&mut self.established) {
            self.shared.established.fetch_sub(1, Ordering::Relaxed);
        }
        let now = self.now();
        self.calls.clear();
        self.queued.clear();
        self.queued_bytes = 0;
        self.blocked.clear();
        if self.keep_session(code, now) {
            return;
        }
        for (at, place) in self.links.iter_mut().enumerate() {
            if let Some(task) = place.take_if(|task| !matches!(task.stage, Stage::Sender(_))) {
                drop(task);
            } else if place.is_some() {
                self.run.push(at);
            }
        }
        // Who has left waits for nothing but the end.
        let write = Some(if by_peer { now } else { after(now, GOODBYE) });
        self.ended = Some(Ended { write, linger: after(now, LINGER), keeps: false });
    }

    /// Has a link looked at in this turn.
    fn again(&mut self, link: Link) {
        let at = usize::from(link.id());
        if let Some(task) = self.links.get_mut(at).and_then(Option::as_deref_mut)
            && task.link == link
            && !std::mem::replace(&mut task.queued, true)
        {
            self.run.push(at);
        }
    }

    fn open(&mut self, link: Link, role: Role, options: Bytes) {
        let identity = match identity::decode(&options) {
            Ok(identity) => identity,
            Err(error) => {
                self.session.refuse(link, code_of(error.kind()), error.text());
                return;
            }
        };
        let at = usize::from(link.id());
        if self.links.len() <= at {
            self.links.resize_with(at + 1, || None);
        }
        let child = self.ready.add(at);
        let (queued, blocked, stopping) = (false, false, false);
        let stage = Stage::Awaiting(role, options);
        let task = LinkTask { link, child, identity, queued, blocked, stopping, stage };
        self.links[at] = Some(Box::new(task));
        if !self.belongings.are_awaited() {
            self.begin(at);
        }
    }

    /// Opens a link anew.
    fn open_anew(&mut self, at: usize, role: Role, options: &[u8]) {
        let stage = match role {
            Role::Sender => control::sender::decode(options).map(|options| {
                let broker = Arc::clone(&self.shared.broker);
                Stage::OpeningSender(Box::pin(async move { broker.sender(options).await }))
            }),
            Role::Receiver => control::receiver::decode(options).map(|wanted| {
                let broker = Arc::clone(&self.shared.broker);
                Stage::OpeningReceiver(Box::pin(open::receiver(broker, wanted)))
            }),
        };
        let life = self.shared.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let Some(task) = self.links.get_mut(at).and_then(Option::as_deref_mut) else {
            return;
        };
        task.identity.life = life;
        let link = task.link;
        match stage {
            Ok(stage) => {
                task.stage = stage;
                self.again(link);
            }
            Err(error) => {
                self.links[at] = None;
                self.session.refuse(link, code_of(error.kind()), error.text());
            }
        }
    }

    fn close(&mut self, link: Link) {
        let at = usize::from(link.id());
        let Some(task) = self.links.get_mut(at).and_then(Option::take) else {
            return;
        };
        let mut task = task;
        if let Stage::Sender(inbound) = &mut task.stage
            && !inbound.is_settled()
        {
            // What was sent is sent, and its outcome is owed: the link goes once that is known.
            inbound.closing = true;
            self.links[at] = Some(task);
            self.again(link);
            return;
        }
        match task.stage {
            Stage::Receiver(outbound) => outbound.closed(),
            Stage::Sender(_) => self.senders -= 1,
            Stage::Awaiting(..) | Stage::OpeningSender(_) | Stage::OpeningReceiver(_) => {}
        }
        self.session.closed(link, Code::Ok, "");
    }

    fn stop(&mut self, link: Link) {
        let task = self.links.get_mut(usize::from(link.id())).and_then(Option::as_deref_mut);
        let Some(task) = task.filter(|task| task.link == link) else {
            return;
        };
        match &mut task.stage {
            Stage::Receiver(outbound) => outbound.stop(),
            _ => task.stopping = true,
        }
        self.again(link);
    }

    fn sync(&mut self, link: Link, token: u64) {
        let Some(Stage::Receiver(outbound)) = stage(&mut self.links, link) else {
            self.session.synced(link, token, Code::Ok, "");
            return;
        };
        match outbound.sync(token) {
            Ok(()) => self.again(link),
            Err(reason) => self.session.goodbye(Code::Limit, reason),
        }
    }

    fn call(&mut self, id: u32, method: u16, body: Bytes) {
        let running = self.calls.iter().flatten().count();
        if running >= CALLS {
            // The session bounds how many there are, and their bytes are bounded here.
            self.queued_bytes += body.len();
            self.queued.push_back((id, method, body));
            if self.queued_bytes > CALL_BYTES {
                let text = "more than 4 MiB of calls wait for their turn";
                self.session.goodbye(Code::Limit, text);
            }
            return;
        }
        let at = self.calls.iter().position(Option::is_none).unwrap_or_else(|| {
            self.calls.push(None);
            self.calls.len() - 1
        });
        let child = self.ready.add(FIRST_CALL + at);
        let answer = call::answer(Arc::clone(&self.shared), method, body);
        self.calls[at] = Some(CallTask { id, child, answer });
        self.run.push(FIRST_CALL + at);
    }

    /// Passes on what is no longer wanted, after what came before it has gone its way.
    fn run_cancels(&mut self) {
        for cancel in self.cancels.drain(..) {
            self.shared.broker.cancel(&cancel);
        }
    }

    /// Polls the children that something happened to, once each.
    fn run_children(&mut self) -> bool {
        self.ready.take_ready(&mut self.run);
        if self.run.is_empty() {
            return false;
        }
        let mut run = std::mem::take(&mut self.run);
        for child in run.drain(..) {
            match child {
                PHASE => self.heed_phase(),
                SUPERSEDED => self.superseded(),
                HANDED_OVER => self.handed_over(),
                link if link < FIRST_CALL => self.run_link(link),
                call if call < FIRST_WATCH => self.run_call(call - FIRST_CALL),
                watch => self.run_watch(watch - FIRST_WATCH),
            }
        }
        // What came up meanwhile is for the next turn; the list's memory is kept.
        run.append(&mut self.run);
        self.run = run;
        // What they had to say may have been more than may wait, which is the session's end.
        self.drain_events();
        true
    }

    fn run_call(&mut self, at: usize) {
        let Some(task) = self.calls.get_mut(at).and_then(Option::as_mut) else {
            return;
        };
        let mut cx = Context::from_waker(task.child.polling());
        let Poll::Ready(answer) = task.answer.as_mut().poll(&mut cx) else {
            return;
        };
        let id = task.id;
        self.calls[at] = None;
        match answer {
            Ok(body) => self.session.result(id, Code::Ok, &body),
            Err(error) => {
                self.session.result(id, code_of(error.kind()), error.text().as_bytes());
            }
        }
        if let Some((id, method, body)) = self.queued.pop_front() {
            self.queued_bytes -= body.len();
            self.call(id, method, body);
        }
    }

    fn run_watch(&mut self, at: usize) {
        // Without a connection nobody is told; the next one looks again.
        if self.ended.is_none()
            && let Some(task) = self.links.get_mut(at).and_then(Option::as_deref_mut)
            && let Stage::Receiver(outbound) = &mut task.stage
        {
            outbound.look_for_cancelled(&mut self.session, task.link);
        }
    }

    fn run_link(&mut self, at: usize) {
        let Some(mut task) = self.links.get_mut(at).and_then(Option::take) else {
            return;
        };
        task.queued = false;
        if self.poll_link(&mut task, at) {
            self.links[at] = Some(task);
        }
    }

    /// Polls one link; `false` if it is over.
    fn poll_link(&mut self, task: &mut LinkTask, at: usize) -> bool {
        let link = task.link;
        let session = &mut self.session;
        let mut cx = Context::from_waker(task.child.polling());
        match &mut task.stage {
            Stage::Awaiting(..) => true,
            Stage::OpeningSender(opening) => match opening.as_mut().poll(&mut cx) {
                Poll::Pending => true,
                Poll::Ready(Err(error)) => {
                    session.refuse(link, code_of(error.kind()), error.text());
                    false
                }
                Poll::Ready(Ok(sender)) => {
                    let inbound = Inbound::new(sender, self.senders, self.shared.heeds_repeats);
                    sender_opened(session, task.identity.life, link, &inbound, false);
                    self.senders += 1;
                    task.stage = Stage::Sender(inbound);
                    true
                }
            },
            Stage::OpeningReceiver(opening) => match opening.as_mut().poll(&mut cx) {
                Poll::Pending => true,
                Poll::Ready(Err(error)) => {
                    session.refuse(link, code_of(error.kind()), error.text());
                    false
                }
                Poll::Ready(Ok(Receiving { mut receiver, address, auto, accounts })) => {
                    let life = task.identity.life;
                    let (offset, told) = (receiver.begins_at(), address.clone());
                    let opened = Opened { address: told, life, offset, ..Opened::of_receiver() };
                    session.opened(link, &opened.encode());
                    let watch = Watch::new(self.ready.clone(), FIRST_WATCH + at);
                    let mut outbound = Outbound::new(receiver, address, auto, accounts, watch);
                    if task.stopping {
                        outbound.stop();
                    }
                    task.stage = Stage::Receiver(outbound);
                    self.run.push(at);
                    true
                }
            },
            Stage::Sender(inbound) => {
                inbound.poll(session, link, &mut cx);
                let over = inbound.closing && inbound.is_settled();
                if over {
                    session.closed(link, Code::Ok, "");
                    self.senders -= 1;
                }
                !over
            }
            // What the broker has to say waits for the client to come back.
            Stage::Receiver(_) if self.ended.is_some() => true,
            Stage::Receiver(outbound) => {
                let runtime: &dyn Runtime = &*self.shared.runtime;
                let going_away = self.shared.phase() > Phase::Open;
                let progress = outbound.poll(session, link, runtime, going_away, &mut cx);
                if outbound.has_gathered() {
                    self.gathered.push(at);
                }
                match progress {
                    Progress::Waiting => true,
                    Progress::Blocked => {
                        if !std::mem::replace(&mut task.blocked, true) {
                            self.blocked.push(at);
                        }
                        true
                    }
                    Progress::More => {
                        self.run.push(at);
                        true
                    }
                    Progress::Failed(error) => {
                        session.closed(link, code_of(error.kind()), error.text());
                        false
                    }
                }
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.established {
            self.shared.established.fetch_sub(1, Ordering::Relaxed);
        }
        self.links.clear();
        self.leave_session();
    }
}

/// Tells a client that its sender is open.
fn sender_opened(session: &mut Session, life: u64, link: Link, inbound: &Inbound, resumed: bool) {
    let opened = Opened { resumed, life, window: Some(inbound.kept()), ..Opened::default() };
    session.opened(link, &opened.encode());
    let (messages, bytes) = inbound.window();
    session.grant(link, messages, bytes);
}

/// The receiver of that number, if it is one.
fn outbound(links: &mut [Option<Box<LinkTask>>], at: usize) -> Option<&mut Outbound> {
    match &mut links.get_mut(at)?.as_deref_mut()?.stage {
        Stage::Receiver(outbound) => Some(outbound),
        _ => None,
    }
}

/// What the session speaks of, unless the number has a new life.
fn task(links: &mut [Option<Box<LinkTask>>], link: Link) -> Option<&mut LinkTask> {
    let task = links.get_mut(usize::from(link.id()))?.as_deref_mut()?;
    (task.link == link).then_some(task)
}

fn stage(links: &mut [Option<Box<LinkTask>>], link: Link) -> Option<&mut Stage> {
    Some(&mut task(links, link)?.stage)
}
