//! What both ends of a connection do with a socket: read in large pieces, write what has gathered,
//! and keep one timer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::runtime::BoxTimer;
use posthaste_core::transport::{BoxConnection, Connection, Peer};
use posthaste_core::{Runtime, SharedRuntime};
use posthaste_wire::{Input, Link, Output, Session, Transfer};

use crate::intake::{Consume, Intake};
use crate::planted::Planted;

/// Slices that one write hands to the system at most.
const SLICES: usize = 64;

/// Reads in one turn at the end of a connection: enough for what a socket holds.
pub(crate) const LAST_READS: usize = 64;

/// A socket with its buffers and its timer.
pub(crate) struct Pump {
    connection: BoxConnection,
    intake: Intake,
    output: Output,
    /// Whether the socket has taken any of `output`.
    begun: bool,
    flushing: bool,
    timer: BoxTimer,
    armed: Option<Instant>,
    planted: Planted,
}

impl Pump {
    /// A pump for `connection`.
    pub(crate) fn new(connection: BoxConnection, runtime: &dyn Runtime) -> Self {
        Self {
            connection,
            intake: Intake::new(),
            output: Output::new(),
            begun: false,
            flushing: false,
            timer: runtime.timer(),
            armed: None,
            planted: Planted::ask(runtime),
        }
    }

    /// When the session's time-out is due.
    pub(crate) fn heeding(&self, due: Option<Instant>) -> Option<Instant> {
        due.filter(|_| !self.planted.ignores_heartbeats)
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> Peer {
        self.connection.peer()
    }

    /// Reads once, as much as the buffer takes; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        session_wants: usize,
    ) -> Poll<io::Result<usize>> {
        let into = self.intake.room(session_wants);
        let room = into.len();
        let read = Pin::new(&mut self.connection).poll_read(cx, into);
        if read.is_pending() && self.planted.forgets_partial_frames {
            self.intake.forget_partial();
        }
        let count = ready!(read)?.min(room);
        self.intake.has_read(count, room);
        Poll::Ready(Ok(count))
    }

    /// Reads until the peer has closed its side as well, and forgets what it says.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..LAST_READS {
            self.intake.clear();
            if !matches!(ready!(self.poll_read(cx, 0)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands what was read to the session; `take` gets the messages that it may have.
    pub(crate) fn feed(
        &mut self,
        session: &mut Session,
        now: Instant,
        take: impl FnMut(Link, u64, Transfer) -> Option<Transfer>,
    ) {
        match self.intake.is_short() {
            true => session.handle_progress(now),
            false => self.intake.feed(Feed { session, now, take }),
        }
    }

    /// Takes what has gathered in the session, if everything before is written.
    pub(crate) fn collect(&mut self, session: &mut Session) {
        if self.output.is_empty() && session.wants_output() {
            session.swap_output(&mut self.output);
            self.flushing |= !self.output.is_empty();
            self.begun = false;
        }
    }

    /// Whether something waits to be written or flushed.
    pub(crate) fn wants_write(&self) -> bool {
        self.flushing
    }

    /// Whether the socket has taken any of what was collected last.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Writes and flushes what was collected.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.output.io_slices(&mut slices);
            let written = Pin::new(&mut self.connection).poll_write_vectored(cx, &slices[..filled]);
            let count = ready!(written)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.output.advance(count);
        }
        ready!(Pin::new(&mut self.connection).poll_flush(cx))?;
        self.flushing = false;
        Poll::Ready(Ok(()))
    }

    /// Lets go of the socket; the timer goes on.
    pub(crate) fn hang_up(&mut self) {
        self.connection = Box::new(HungUp);
        self.intake.clear();
        (self.output, self.flushing) = (Output::new(), false);
    }

    /// Closes the writing side.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_close(cx)
    }

    /// Whether `due` has come. The time moves on with everything that is received, so the timer is
    /// set anew only when it fires, or when it would fire too late.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> bool {
        let Some(due) = due else { return false };
        loop {
            if self.armed.is_none_or(|armed| armed > due) {
                self.timer.as_mut().reset(due);
                self.armed = Some(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            // A timer is never early, so the clock has come at least this far.
            if self.armed.take().is_some_and(|fired| fired >= due) {
                return true;
            }
        }
    }

    /// Gives back the memory that an idle connection has no use for.
    pub(crate) fn shrink(&mut self) {
        self.intake.shrink();
        self.output.shrink();
    }
}

/// What was read goes into a session.
struct Feed<'a, F> {
    session: &'a mut Session,
    now: Instant,
    take: F,
}

impl<F: FnMut(Link, u64, Transfer) -> Option<Transfer>> Consume for Feed<'_, F> {
    fn consume(self, unread: &mut impl Input) {
        self.session.handle_input_into(unread, self.now, self.take);
    }
}

/// What is left of a socket that was let go.
struct HungUp;

impl AsyncRead for HungUp {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }
}

impl AsyncWrite for HungUp {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for HungUp {}

/// A number between 0 and `below`, from the runtime's randomness.
pub(crate) fn random_below(runtime: &SharedRuntime, below: u64) -> u64 {
    let mut bytes = [0; 8];
    runtime.fill_random(&mut bytes);
    match below {
        0 => 0,
        below => u64::from_le_bytes(bytes) % below,
    }
}

/// `by` after `now`. What the clock cannot hold is a long time from now.
pub(crate) fn after(now: Instant, by: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(by).or_else(|| now.checked_add(LONG)).unwrap_or(now)
}
