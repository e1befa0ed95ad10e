//! The one task of a remote: it connects, moves bytes between the socket and the session, and
//! connects again.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::{BoxConnection, Endpoint, Transport};
use posthaste_core::{Error, ErrorKind};
use posthaste_wire::{Code, Session};

use super::Reconnect;
use super::state::{End, Phase, Shared, State, Wakeups};
use crate::codes::{self, error_of};
use crate::pump::{LAST_READS, Pump, after, random_below};

/// The shortest and the longest time to wait at most before connecting again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long one attempt to connect again may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long what is still to be written may take once nobody holds the remote any more.
const CLOSE: Duration = Duration::from_secs(5);
/// How long a goodbye may take to be written and heeded.
const LINGER: Duration = Duration::from_secs(1);
/// Turns of the loop before other tasks get theirs.
const TURNS: usize = 4;

/// Drives a remote until it is closed or the connection is lost for good.
pub(crate) async fn drive(shared: Arc<Shared>, transport: Box<dyn Transport>, session: [u8; 16]) {
    let runtime = &shared.runtime;
    let mut give_up = runtime.now().checked_add(shared.options.connect_timeout);
    let mut attempts = 0;
    // Which of the servers is tried, and how many in a row were of no use.
    let (mut server, mut useless) = (0, 0);
    // Until when the server keeps the session of the connection that was lost.
    let mut kept = None;
    while !shared.lock().closing {
        let started = runtime.now();
        let within = give_up.map_or(ATTEMPT, |at| at.saturating_duration_since(started));
        let within = share(&shared, within, give_up.is_some());
        let config = shared.options.config(session, within);
        let there = shared.endpoint(server);
        let deadline = after(started, within);
        let failed = match dial(&shared, &*transport, there, deadline, &mut kept).await {
            Ok(connection) => {
                let end = run(&shared, connection, Session::client(config, runtime.now())).await;
                if end.established {
                    (attempts, useless) = (0, 0);
                    // A connection that ended with a word ended the session with it.
                    let linger = match end.code {
                        Code::ConnectionLost | Code::Heartbeat => shared.lock().linger,
                        _ => Duration::ZERO,
                    };
                    kept = Some(after(runtime.now(), linger));
                    give_up = match shared.options.reconnect {
                        Reconnect::Never => Some(started),
                        Reconnect::For(within) => runtime.now().checked_add(within),
                        Reconnect::Forever => None,
                    };
                }
                // The session is where it was, so that is where to look first.
                server += usize::from(!end.established);
                Failure::of(&end, there)
            }
            Err(failed) => {
                server += 1;
                failed
            }
        };
        useless = if failed.fatal { useless + 1 } else { 0 };
        let fatal = useless >= shared.servers();
        lost(&shared, &failed.error);
        let pause = pause(&shared, attempts);
        attempts += 1;
        let next = after(runtime.now(), pause);
        if fatal || give_up.is_some_and(|at| at <= next) {
            shared.end(&failed.error);
            break;
        }
        tracing::debug!(error = %failed.error, ?pause, "connecting again");
        until_closing(&shared, next, &mut kept, std::future::pending::<()>()).await;
    }
    let mut wakers = Wakeups::default();
    {
        let mut state = shared.lock();
        state.gone = true;
        state.driver = None;
        let why = match &state.phase {
            Phase::Down(why) => why.clone(),
            _ => Error::closed("the connection"),
        };
        state.go_down(&why, &mut wakers);
    }
    wakers.fire();
}

/// Why there is no connection, and whether trying again is of no use.
struct Failure {
    error: Error,
    fatal: bool,
}

impl Failure {
    fn of(end: &End, there: &Endpoint) -> Self {
        let error = error_of(end.code, &end.reason);
        let error = Error::new(error.kind(), format!("{there}: {}", error.text()));
        // A server that goes away, is full, or falls silent may be there again in a moment.
        let passing = matches!(
            end.code,
            Code::Ok
                | Code::ConnectionLost
                | Code::GoingAway
                | Code::Heartbeat
                | Code::Timeout
                | Code::Closed
        );
        Self { error, fatal: !passing }
    }
}

async fn dial(
    shared: &Shared,
    transport: &dyn Transport,
    there: &Endpoint,
    deadline: Instant,
    kept: &mut Option<Instant>,
) -> Result<BoxConnection, Failure> {
    let connect = transport.connect(there);
    match until_closing(shared, deadline, kept, connect).await {
        Some(Ok(connection)) => Ok(connection),
        Some(Err(error)) => {
            use std::io::ErrorKind as Io;
            let fatal = matches!(
                error.kind(),
                Io::InvalidInput | Io::InvalidData | Io::Unsupported | Io::PermissionDenied
            );
            let error = codes::at_endpoint(error, "connect to", there);
            Err(Failure { error, fatal })
        }
        None => {
            let text = format!("cannot connect to {there} in time");
            Err(Failure { error: Error::new(ErrorKind::TimedOut, text), fatal: false })
        }
    }
}

/// Resolves with what `future` does, or with `None` at `deadline` or when the remote is closed. When
/// the server no longer keeps the session meanwhile, everybody is told.
async fn until_closing<F: Future>(
    shared: &Shared,
    deadline: Instant,
    kept: &mut Option<Instant>,
    future: F,
) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let closing = std::future::poll_fn(|cx| {
        {
            let mut state = shared.lock();
            if state.closing {
                return Poll::Ready(None);
            }
            state.driver = Some(cx.waker().clone());
        }
        future.as_mut().poll(cx).map(Some)
    });
    let mut closing = std::pin::pin!(closing);
    if let Some(until) = kept.filter(|until| *until <= deadline) {
        if let Some(done) = timeout_at(&*shared.runtime, until, closing.as_mut()).await {
            return done;
        }
        *kept = None;
        let mut wakers = Wakeups::default();
        shared.lock().expire(&mut wakers);
        wakers.fire();
    }
    timeout_at(&*shared.runtime, deadline, closing).await.flatten()
}

/// How long one attempt may take: where there is an end to it, none may take the others' time.
fn share(shared: &Shared, within: Duration, ends: bool) -> Duration {
    let servers = u32::try_from(shared.servers()).unwrap_or(u32::MAX);
    match ends {
        true => within / servers,
        false => within,
    }
}

/// Full jitter: anything up to a bound that doubles, so that clients do not come back in step.
fn pause(shared: &Shared, attempts: u32) -> Duration {
    let most = PAUSE_MIN.saturating_mul(1 << attempts.min(8)).min(PAUSE_MAX);
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(random_below(&shared.runtime, most))
}

fn lost(shared: &Shared, why: &Error) {
    let mut wakers = Wakeups::default();
    {
        let mut state = shared.lock();
        if !matches!(state.phase, Phase::Down(_)) {
            state.disconnected(why, &mut wakers);
        }
    }
    wakers.fire();
}

/// Drives one connection to its end.
async fn run(shared: &Shared, connection: BoxConnection, session: Session) -> End {
    {
        let mut state = shared.lock();
        state.session = session;
        state.end = None;
    }
    let mut run = Run {
        shared,
        pump: Pump::new(connection, &*shared.runtime),
        wakers: Wakeups::default(),
        wanted: 0,
        broken: false,
        closing: None,
        ended: None,
    };
    let (end, until) = std::future::poll_fn(|cx| run.poll(cx)).await;
    // Best effort: the peer sees the end of the stream either way.
    let _ = std::future::poll_fn(|cx| Poll::Ready(run.pump.poll_close(cx))).await;
    if run.closing.is_some() {
        run.wait_for_the_server(until).await;
    }
    end
}

/// One connection while it lasts.
struct Run<'a> {
    shared: &'a Shared,
    pump: Pump,
    wakers: Wakeups,
    /// How much of a partial frame is missing.
    wanted: usize,
    /// The socket has failed.
    broken: bool,
    /// Until when what is still to be written may take, once the remote is closed.
    closing: Option<Instant>,
    /// How it ended, and until when the goodbye may take.
    ended: Option<(End, Instant)>,
}

impl Run<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(End, Instant)> {
        // Whether the socket wakes the task when there is more to read.
        let mut pending = false;
        for _ in 0..TURNS {
            let wrote = self.write(cx);
            let read = !pending && self.ended.is_none() && self.read(cx);
            pending = !read;
            if wrote || read {
                continue;
            }
            if let Poll::Ready(ended) = self.poll_end(cx) {
                return Poll::Ready(ended);
            }
            if self.park(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what has gathered and writes as much as the socket takes.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.pump.wants_write() {
            let mut state = self.shared.lock();
            state.parked = false;
            if state.session.wants_output() {
                let now = self.shared.runtime.now();
                state.collect(&mut self.pump, now, &mut self.wakers);
            }
            self.note_end(&mut state.end.take());
            drop(state);
            self.wakers.fire();
        }
        if !self.pump.wants_write() {
            return false;
        }
        match self.pump.poll_write(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(error)) => {
                // The server may have said why, before it went.
                for _ in 0..LAST_READS {
                    if self.ended.is_some() || !self.read(cx) {
                        break;
                    }
                }
                self.broken(&error);
                false
            }
            Poll::Pending => false,
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        match self.pump.poll_read(cx, self.wanted) {
            Poll::Ready(Ok(0)) => {
                self.input(|_, state, _| state.session.handle_eof());
                true
            }
            Poll::Ready(Ok(_)) => {
                self.input(|run, state, now| state.feed(&mut run.pump, now, &mut run.wakers));
                true
            }
            Poll::Ready(Err(error)) => {
                self.broken(&error);
                true
            }
            Poll::Pending => false,
        }
    }

    fn input(&mut self, feed: impl FnOnce(&mut Self, &mut State, Instant)) {
        let shared = self.shared;
        let now = shared.runtime.now();
        let mut state = shared.lock();
        feed(self, &mut state, now);
        state.drain_events(now, &mut self.wakers);
        self.note_end(&mut state.end.take());
        self.wanted = state.session.wanted();
        drop(state);
        // One wake-up for all that a read has brought.
        self.wakers.fire();
    }

    /// The socket failed.
    fn broken(&mut self, error: &std::io::Error) {
        tracing::debug!(%error, "the socket failed");
        self.broken = true;
        self.input(|_, state, _| state.session.handle_eof());
    }

    fn note_end(&mut self, end: &mut Option<End>) {
        if let Some(end) = end.take() {
            let until = after(self.shared.runtime.now(), LINGER);
            self.ended = Some((end, until));
        }
    }

    /// Ready when the end is there and the goodbye is written, or may take no longer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<(End, Instant)> {
        let Some((_, until)) = &self.ended else {
            return Poll::Pending;
        };
        let until = *until;
        let writing = self.pump.wants_write() && !self.broken;
        if writing && !self.pump.poll_due(cx, Some(until)) {
            return Poll::Pending;
        }
        match self.ended.take() {
            Some(ended) => Poll::Ready(ended),
            None => Poll::Pending,
        }
    }

    /// Goes to sleep, unless something has come up meanwhile.
    fn park(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended.is_none() {
            let due = self.pump.heeding(self.shared.lock().session.poll_timeout());
            if self.pump.poll_due(cx, due) {
                self.pump.shrink();
                self.input(|_, state, now| state.session.handle_timeout(now));
                return false;
            }
        }
        let blocked = self.pump.wants_write();
        let mut state = self.shared.lock();
        if state.session.is_ended() && self.ended.is_none() {
            drop(state);
            // A command ended it; what that has to say is an event.
            self.input(|_, _, _| {});
            return false;
        }
        if !blocked && state.session.wants_output() && self.ended.is_none() {
            return false;
        }
        if state.closing && self.ended.is_none() {
            drop(state);
            return !self.say_goodbye(cx, blocked);
        }
        if !state.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.driver = Some(cx.waker().clone());
        }
        // While the socket takes nothing, new output is no reason to wake up.
        state.parked = !blocked;
        true
    }

    /// Says goodbye once everything is written, or once that has taken too long.
    fn say_goodbye(&mut self, cx: &mut Context<'_>, blocked: bool) -> bool {
        let now = self.shared.runtime.now();
        let until = *self.closing.get_or_insert(after(now, CLOSE));
        if blocked && now < until && !self.pump.poll_due(cx, Some(until)) {
            return false;
        }
        self.input(|_, state, _| state.session.goodbye(Code::Ok, ""));
        true
    }

    /// After the goodbye: waits until the server has let go of what was held here, and says so by
    /// closing its side. What it still had to say is read, because a socket that is closed with
    /// something unread in it may take back what was written to it, the goodbye included.
    async fn wait_for_the_server(&mut self, until: Instant) {
        let left = std::future::poll_fn(|cx| self.pump.poll_left(cx));
        timeout_at(&*self.shared.runtime, until, left).await;
    }
}
