//! The task of one connection: writes what waits for the peer, and takes in what it sends.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use posthaste_core::runtime::{BoxTimer, timeout_at};
use posthaste_core::transport::BoxConnection;
use posthaste_core::{Error, ErrorKind};

use crate::codec::{Event, Multipart, Session};
use crate::greet::{READ_BYTES, Whence, greet, lost};
use crate::lane::Lane;
use crate::node::{Known, Node, Out, Queued};

/// How much is encoded at a time.
const WRITE_BYTES: usize = 64 << 10;
/// How often one poll goes round before it lets other tasks go on.
const ROUNDS: usize = 32;

/// Greets the peer and drives the connection until it ends; why it did.
pub(crate) async fn run(node: &Arc<Node>, mut connection: BoxConnection, whence: Whence) -> Error {
    let (session, known) = match greet(node, &mut connection, &whence).await {
        Ok(greeted) => greeted,
        Err(error) => return error,
    };
    let attached = Attached { node, id: node.with(|state| state.attach(known)) };
    let mut drive = Drive::new(node, attached.id, known, connection, session);
    let end = poll_fn(|cx| drive.poll(cx)).await;
    let Drive { mut connection, .. } = drive;
    // The peer sees an end, not a reset.
    let deadline = node.runtime.now() + node.options.handshake;
    let _gone = timeout_at(&*node.runtime, deadline, connection.close()).await;
    drop(attached);
    end
}

/// A peer that is known to its node; dropping this takes it off, whatever ended its task.
struct Attached<'a> {
    node: &'a Node,
    id: u64,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        self.node.with(|state| state.detach(self.id));
    }
}

struct Drive<'a> {
    node: &'a Node,
    id: u64,
    known: Known,
    connection: BoxConnection,
    session: Session,
    writing: BytesMut,
    /// How much of what the peer was given is in `writing`.
    given: u64,
    unflushed: bool,
    reading: Vec<u8>,
    /// What came in and found no room.
    held: Option<Multipart>,
    timer: BoxTimer,
    /// When the peer was heard last, and whether it has been asked since.
    heard: Instant,
    asked: bool,
    /// Since when nothing could be written.
    stalled: Option<Instant>,
    armed: Option<Instant>,
}

impl<'a> Drive<'a> {
    fn new(
        node: &'a Node,
        id: u64,
        known: Known,
        connection: BoxConnection,
        session: Session,
    ) -> Self {
        Self {
            node,
            id,
            known,
            connection,
            session,
            writing: BytesMut::new(),
            given: 0,
            unflushed: false,
            reading: vec![0; READ_BYTES],
            held: None,
            timer: node.runtime.timer(),
            heard: node.runtime.now(),
            asked: false,
            stalled: None,
            armed: None,
        }
    }

    /// Ready when the connection has ended, with the reason.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match self.try_poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                Poll::Ready(Error::new(ErrorKind::Disconnected, "the ZeroMQ peer has hung up"))
            }
            Poll::Ready(Err(error)) => Poll::Ready(error),
        }
    }

    /// Ready and fine when one of the sides has closed.
    fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Before anything is looked at, so that whatever comes from now on wakes this task.
        let is_closed = self.node.with(|state| {
            if let Some(peer) = state.peer(self.id) {
                peer.waker = Some(cx.waker().clone());
            }
            state.closed
        });
        for _ in 0..ROUNDS {
            let wrote = self.write(cx)?;
            if is_closed {
                // What is left is written, and nothing is read any more.
                let idle = self.writing.is_empty() && !self.unflushed && !wrote;
                if idle {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.linger(cx))?;
                continue;
            }
            let read = ready_or_false(self.read(cx))?;
            match read {
                Read::End => return Poll::Ready(Ok(())),
                Read::Something => continue,
                Read::Nothing if wrote => continue,
                Read::Nothing => {}
            }
            if self.watch(cx)? {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the last of it may still be written.
    fn linger(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let since = *self.stalled.get_or_insert_with(|| self.node.runtime.now());
        let until = since + self.node.options.handshake;
        if self.armed != Some(until) {
            self.armed = Some(until);
            self.timer.as_mut().reset(until);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            let text = "the last messages were not written before the node was closed";
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, text)));
        }
        if self.writing.is_empty() && !self.unflushed { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    // ---- Out

    /// Writes as much as the connection takes; whether that was anything.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut wrote = false;
        loop {
            if self.writing.is_empty() && !self.encode() {
                break;
            }
            match Pin::new(&mut self.connection).poll_write(cx, &self.writing) {
                Poll::Ready(Ok(0)) => {
                    return Err(Error::new(
                        ErrorKind::Disconnected,
                        "the ZeroMQ peer takes nothing",
                    ));
                }
                Poll::Ready(Ok(count)) => {
                    self.writing.advance(count);
                    (wrote, self.unflushed, self.stalled) = (true, true, None);
                }
                Poll::Ready(Err(error)) => return Err(lost(error)),
                Poll::Pending => {
                    self.stalled.get_or_insert_with(|| self.node.runtime.now());
                    return Ok(wrote);
                }
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.connection).poll_flush(cx)
        {
            flushed.map_err(lost)?;
            self.unflushed = false;
            let given = std::mem::take(&mut self.given);
            self.node.with(|state| state.wrote(self.id, given));
        }
        Ok(wrote)
    }

    /// Takes the next of what waits for the peer; whether there is anything.
    fn encode(&mut self) -> bool {
        let (session, given) = (&mut self.session, &mut self.given);
        self.node.with(|state| {
            let mut was_full = false;
            if let Some(peer) = state.peer(self.id) {
                was_full = !peer.has_room(&self.node.high_water());
                while session.output_bytes() < WRITE_BYTES
                    && let Some(out) = peer.take()
                {
                    *given += 1;
                    put(session, &out);
                }
            }
            if was_full {
                state.drained(self.known.lane);
            }
        });
        self.writing = self.session.take_output();
        !self.writing.is_empty()
    }

    // ---- In

    /// Reads as much as there is and finds room.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Read, Error>> {
        if let Some(held) = self.held.take() {
            self.take_in(held);
            if self.held.is_some() {
                return Poll::Pending;
            }
        }
        if self.events()? {
            return Poll::Ready(Ok(Read::Something));
        }
        if self.held.is_some() {
            return Poll::Pending;
        }
        let count = ready!(Pin::new(&mut self.connection).poll_read(cx, &mut self.reading));
        let count = count.map_err(lost)?;
        if count == 0 {
            return Poll::Ready(Ok(Read::End));
        }
        (self.heard, self.asked) = (self.node.runtime.now(), false);
        self.session.receive(&self.reading[..count]);
        Poll::Ready(Ok(Read::Something))
    }

    /// Takes in what has been read; whether that was anything.
    fn events(&mut self) -> Result<bool, Error> {
        let mut any = false;
        while self.held.is_none()
            && let Some(event) = self.session.poll_event()?
        {
            any = true;
            match event {
                Event::Message(frames) => self.message(frames)?,
                Event::Subscribe(body) => {
                    self.node.with(|state| state.wants(self.id, body, true))?;
                }
                Event::Cancel(body) => {
                    self.node.with(|state| state.wants(self.id, body, false))?;
                }
                Event::Ping(context) => self.pong(context)?,
                Event::Pong(context) => {
                    if let Ok(ping) = <[u8; 8]>::try_from(&context[..]) {
                        let ping = u64::from_be_bytes(ping);
                        self.node.with(|state| state.ponged(self.id, ping));
                    }
                }
                Event::Peer(_) | Event::Established => {}
            }
        }
        Ok(any)
    }

    /// Answers a heartbeat behind everything that was given before, because the peer may ask to
    /// know that. One who asks on and on without reading the answers is cut off.
    fn pong(&mut self, context: Bytes) -> Result<(), Error> {
        let fine = self.node.with(|state| match state.peer(self.id) {
            Some(peer) => peer.give_answer(context),
            None => true,
        });
        match fine {
            true => Ok(()),
            false => {
                let text = "a peer was cut off because it reads no answers to its heartbeats";
                Err(Error::new(ErrorKind::SlowConsumer, text))
            }
        }
    }

    fn message(&mut self, mut frames: Multipart) -> Result<(), Error> {
        if self.known.lane != Lane::Publish {
            self.take_in(frames);
            return Ok(());
        }
        // How ZMTP 3.0 subscribes; anything else that a subscriber sends is for nobody.
        if let (1, Some(mut body)) = (frames.len(), frames.pop())
            && let Some(mark @ (0 | 1)) = body.first().copied()
        {
            body.advance(1);
            self.node.with(|state| state.wants(self.id, body, mark == 1))?;
        }
        Ok(())
    }

    fn take_in(&mut self, frames: Multipart) {
        self.held = self.node.with(|state| state.take_in(self.node, self.id, frames)).err();
    }

    // ---- Time

    /// Waits for what is due next; whether there is nothing to do now.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let options = &self.node.options;
        let now = self.node.runtime.now();
        let mut due: Option<Instant> = None;
        if self.known.lane == Lane::Publish
            && let Some(since) = self.stalled
        {
            let limit = since + options.stall_limit;
            if now >= limit {
                let text = "a subscriber was cut off because it reads nothing";
                return Err(Error::new(ErrorKind::SlowConsumer, text));
            }
            due = Some(limit);
        }
        // Who holds something back has not looked whether there was an answer.
        if self.known.lane.has_heartbeats() && self.known.has_commands && self.held.is_none() {
            let ask = self.heard + options.heartbeat;
            let give_up = ask + options.heartbeat * 2;
            if self.asked && now >= give_up {
                let text = "the ZeroMQ peer does not answer any more";
                return Err(Error::new(ErrorKind::Disconnected, text));
            }
            if !self.asked && now >= ask {
                self.asked = true;
                self.session.ping(0, &Bytes::new());
                return Ok(false);
            }
            let next = if self.asked { give_up } else { ask };
            due = Some(due.map_or(next, |due| due.min(next)));
        }
        let Some(due) = due else { return Ok(true) };
        if self.armed != Some(due) {
            self.armed = Some(due);
            self.timer.as_mut().reset(due);
        }
        let fired = self.timer.as_mut().poll(cx).is_ready();
        if fired {
            self.armed = None;
        }
        Ok(!fired)
    }
}

enum Read {
    Nothing,
    Something,
    End,
}

fn ready_or_false(read: Poll<Result<Read, Error>>) -> Result<Read, Error> {
    match read {
        Poll::Ready(read) => read,
        Poll::Pending => Ok(Read::Nothing),
    }
}

fn put(session: &mut Session, out: &Out) {
    match out {
        Out::Message(frames) | Out::Queued(_, Queued { frames, .. }) => session.send(frames),
        Out::Pong(context) => session.pong(context),
        Out::Subscribe(body) => session.subscribe(body),
        Out::Cancel(body) => session.cancel(body),
        Out::Ping(number) => {
            session.ping(0, &Bytes::copy_from_slice(&number.to_be_bytes()));
        }
    }
}
