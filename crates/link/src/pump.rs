//! What both ends of a connection do with a socket: read in large pieces, write what has gathered,
//! and keep one timer.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::runtime::BoxTimer;
use posthaste_core::transport::{BoxConnection, Connection, Peer};
use posthaste_core::{Runtime, SharedRuntime};
use posthaste_wire::{Link, Output, Session, Transfer};

use crate::planted::Planted;

/// The buffer of a connection on which little happens.
const CHUNK_MIN: usize = 4 << 10;
/// The buffer of a busy connection: large enough that a system call is cheap per message, small
/// enough that what was read is still in the cache when it is looked at.
const CHUNK_MAX: usize = 128 << 10;
/// The buffer of a connection with large messages: one that is cut by its end has to be copied, so
/// there should be several in it.
const CHUNK_LARGE: usize = 512 << 10;
/// What counts as a large message, by the bytes that its frame still needs.
const LARGE: usize = 16 << 10;
/// Buffers that are kept, once they are used up, for when nothing of what was read is in use any
/// more: memory that is fresh from the system costs more than the bytes that are read into it.
const SPENT_MAX: usize = 6;
/// Smaller buffers are not kept: what they cost is little.
const SPENT_MIN: usize = 32 << 10;
/// Slices that one write hands to the system at most.
const SLICES: usize = 64;

/// A socket with its buffers and its timer.
pub(crate) struct Pump {
    connection: BoxConnection,
    /// Initialised throughout; the first `filled` bytes are unread input. Messages are slices of
    /// it, so it is never written again, only used up.
    input: BytesMut,
    filled: usize,
    chunk: usize,
    /// Buffers that were used up, the oldest first.
    spent: VecDeque<BytesMut>,
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
            input: BytesMut::new(),
            filled: 0,
            chunk: CHUNK_MIN,
            spent: VecDeque::new(),
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
        let mut room = self.input.len() - self.filled;
        if room < (self.chunk / 8).max(session_wants.min(self.chunk)) {
            self.replace_input(session_wants);
            room = self.input.len() - self.filled;
        }
        let into = &mut self.input[self.filled..];
        let read = Pin::new(&mut self.connection).poll_read(cx, into);
        if read.is_pending() && self.planted.forgets_partial_frames {
            self.filled = 0;
        }
        let count = ready!(read)?;
        let count = count.min(room);
        self.filled += count;
        if count == room {
            let most = if session_wants >= LARGE { CHUNK_LARGE } else { CHUNK_MAX };
            self.chunk = (self.chunk * 2).min(most);
        }
        Poll::Ready(Ok(count))
    }

    /// Takes a fresh buffer, with the partial frame at its beginning. It is not larger than what
    /// has really come suggests, whatever length the peer claims.
    fn replace_input(&mut self, session_wants: usize) {
        let room = self.chunk.max(session_wants.min(self.filled));
        let mut fresh = self.empty_buffer(self.filled + room);
        fresh[..self.filled].copy_from_slice(&self.input[..self.filled]);
        let mut spent = std::mem::replace(&mut self.input, fresh);
        if self.chunk >= SPENT_MIN {
            if self.spent.len() == SPENT_MAX {
                self.spent.pop_front();
            }
            spent.clear();
            self.spent.push_back(spent);
        }
    }

    /// A buffer of that length: one that was used up, if nothing of it is in use any more.
    fn empty_buffer(&mut self, len: usize) -> BytesMut {
        let free = self.spent.iter_mut().position(|spent| spent.try_reclaim(len));
        match free.and_then(|at| self.spent.remove(at)) {
            Some(mut buffer) => {
                buffer.resize(len, 0);
                buffer
            }
            None => BytesMut::zeroed(len),
        }
    }

    /// Hands what was read to the session; `take` gets the messages that it may have.
    pub(crate) fn feed(
        &mut self,
        session: &mut Session,
        now: Instant,
        take: impl FnMut(Link, u64, Transfer) -> Option<Transfer>,
    ) {
        let mut unread = self.input.split_to(self.filled);
        session.handle_input_into(&mut unread, now, take);
        self.filled = unread.len();
        // Both halves are parts of one buffer, next to each other: joining them copies nothing.
        unread.unsplit(std::mem::take(&mut self.input));
        self.input = unread;
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
        (self.input, self.filled) = (BytesMut::new(), 0);
        self.spent = VecDeque::new();
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
        if self.filled == 0 {
            self.input = BytesMut::new();
            self.chunk = CHUNK_MIN;
        }
        self.spent = VecDeque::new();
        self.output.shrink();
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
