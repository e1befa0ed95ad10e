//! A side that leaves with a word is heard, whatever the other side is about to say.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_io::{AsyncRead, AsyncWrite};
use posthaste_core::transport::{
    BoxConnection, BoxListener, Connection, Endpoint, Listener, Transport, Upgrade,
};
use posthaste_core::{Broker, ReceiverExt, SenderExt, SenderOptions, SharedRuntime, Subscription};
use posthaste_link::{Pipe, Reconnect, Remote, RemoteOptions, ServerOptions};
use posthaste_wire::{Code, Config, Event, Session, fields};
use smol::future::zip;

use crate::support::{RawPeer, World, job, on_every_runtime, on_one_runtime, topic};

/// What happens just before the next write, once.
type Moment = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A pipe on which something happens just before a write.
#[derive(Clone)]
struct Interrupted {
    pipe: Pipe,
    moment: Moment,
}

impl Interrupted {
    fn of(pipe: &Pipe) -> Self {
        Self { pipe: pipe.clone(), moment: Moment::default() }
    }

    /// `peer` says goodbye, and is gone, just before the other side writes again.
    fn leaves(&self, mut peer: RawPeer, code: Code, reason: &'static str) {
        *self.moment.lock().unwrap() = Some(Box::new(move || {
            peer.session.goodbye(code, reason);
            assert!(pollster::block_on(peer.write()));
        }));
    }
}

#[async_trait]
impl Transport for Interrupted {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        let inner = self.pipe.connect(to).await?;
        Ok(Box::new(InterruptedConnection { inner, moment: Arc::clone(&self.moment) }))
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        let inner = self.pipe.bind(at).await?;
        Ok(Box::new(InterruptedListener { inner, moment: Arc::clone(&self.moment) }))
    }
}

struct InterruptedListener {
    inner: BoxListener,
    moment: Moment,
}

#[async_trait]
impl Listener for InterruptedListener {
    async fn accept(&mut self) -> io::Result<Upgrade> {
        let (upgrade, moment) = (self.inner.accept().await?, Arc::clone(&self.moment));
        Ok(Box::pin(async move {
            let inner = upgrade.await?;
            Ok(Box::new(InterruptedConnection { inner, moment }) as BoxConnection)
        }))
    }

    fn endpoint(&self) -> Endpoint {
        self.inner.endpoint()
    }
}

struct InterruptedConnection {
    inner: BoxConnection,
    moment: Moment,
}

impl Connection for InterruptedConnection {}

impl AsyncRead for InterruptedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl AsyncWrite for InterruptedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moment = self.moment.lock().unwrap().take();
        if let Some(happens) = moment {
            happens();
        }
        Pin::new(&mut self.inner).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// A server that keeps lost sessions for longer than any test lasts.
fn patient() -> ServerOptions {
    ServerOptions::new().session_linger(Duration::from_secs(3_600))
}

/// Accepts a client, and tells it who is here.
async fn accept(runtime: &SharedRuntime, listener: &mut BoxListener) -> RawPeer {
    let connection = listener.accept().await.unwrap().await.unwrap();
    let session = Session::server(Config::default(), runtime.now());
    let mut peer = RawPeer::new(session, connection, runtime.clone());
    loop {
        while let Some(event) = peer.session.poll_event() {
            if let Event::Call { id, .. } = event {
                let mut card = Vec::new();
                fields::Writer::new(&mut card).str(1, "leaving");
                peer.session.result(id, Code::Ok, &card);
                peer.write().await;
                return peer;
            }
        }
        peer.write().await;
        assert!(peer.read().await, "the client is gone");
    }
}

#[test]
fn what_a_client_had_is_free_when_it_leaves_although_the_server_was_just_writing() {
    on_every_runtime(async |runtime| {
        let mut world = World::with(runtime, patient()).await;
        let way = Interrupted::of(&world.pipe);
        let there = Endpoint::new("pipe", "interrupted");
        world.here = world.server.listen(way.clone(), there).await.unwrap();
        let named = Config { session: [7; 16], ..Config::default() };
        let mut peer = RawPeer::connect_with(&world, named).await;
        peer.subscribe("jobs", 10).await;
        let mut sender = world.memory.sender(SenderOptions::new()).await.unwrap();
        sender.send(job("jobs", "seen")).await.unwrap();
        peer.read_until_a_message_comes().await;
        way.leaves(peer, Code::Ok, "");
        sender.send(job("jobs", "unseen")).await.unwrap();
        let consumers = async || world.memory.queue(&topic("jobs")).await.unwrap().consumers;
        world.until("the client is gone", async || consumers().await == 0).await;
        let mut local = world.memory.receiver(Subscription::queue("jobs").unwrap()).await.unwrap();
        for payload in ["seen", "unseen"] {
            let delivery = local.next_delivery().await.unwrap();
            assert_eq!(delivery.payload(), payload);
            delivery.ack();
        }
    });
}

#[test]
fn a_client_is_told_why_the_server_left_although_it_was_just_writing() {
    on_every_runtime(async |runtime| {
        let pipe = Pipe::new();
        let here = Endpoint::new("pipe", "leaving");
        let mut listener = pipe.bind(&here).await.unwrap();
        let way = Interrupted::of(&pipe);
        let options = RemoteOptions::new().reconnect(Reconnect::Never);
        let connecting = Remote::connect(runtime.clone(), way.clone(), here, options);
        let (remote, peer) = zip(connecting, accept(&runtime, &mut listener)).await;
        let remote = remote.unwrap();
        way.leaves(peer, Code::Refused, "nobody is wanted here any more");
        let error = remote.queue(&topic("jobs")).await.unwrap_err();
        assert!(error.to_string().contains("nobody is wanted here any more"), "{error}");
    });
}

#[test]
fn a_drain_ends_when_the_server_has_let_go() {
    on_every_runtime(async |runtime| {
        let world = World::with(runtime, patient()).await;
        for _ in 0..50 {
            let remote = world.client().await;
            let everything = Subscription::topic(">").unwrap();
            let mut receivers = Vec::new();
            for _ in 0..20 {
                receivers.push(remote.receiver(everything.clone()).await.unwrap());
            }
            remote.drain(Duration::ZERO).await.unwrap();
            assert_eq!(world.memory.stats().await.unwrap().subscriptions, 0);
        }
    });
}

#[test]
fn a_drain_does_not_wait_for_a_server_that_never_lets_go() {
    on_one_runtime(async |runtime| {
        let (pipe, here) = (Pipe::new(), Endpoint::new("pipe", "deaf"));
        let mut listener = pipe.bind(&here).await.unwrap();
        let connecting = Remote::connect(runtime.clone(), pipe.clone(), here, RemoteOptions::new());
        let (remote, _deaf) = zip(connecting, accept(&runtime, &mut listener)).await;
        let begun = runtime.now();
        remote.unwrap().drain(Duration::ZERO).await.unwrap();
        assert!(runtime.now() - begun < Duration::from_secs(5));
    });
}
