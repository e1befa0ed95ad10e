//! A server, a client and the runtimes to try them on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::{BoxConnection, Endpoint, Transport};
use posthaste_core::{Broker, Ledger, Message, SharedRuntime, Topic};
use posthaste_link::{Pipe, Remote, RemoteOptions, Server, ServerOptions};
use posthaste_memory::Memory;
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;
use posthaste_wire::{Config, Event, Output, Role, Session, fields};

/// A server of a broker in memory, and where clients find it.
pub(crate) struct World {
    pub(crate) runtime: SharedRuntime,
    pub(crate) pipe: Pipe,
    pub(crate) memory: Memory,
    pub(crate) server: Server,
    pub(crate) here: Endpoint,
}

impl World {
    pub(crate) async fn new(runtime: SharedRuntime) -> Self {
        Self::with(runtime, ServerOptions::new()).await
    }

    /// One whose server keeps no session whose connection is lost.
    pub(crate) async fn forgetful(runtime: SharedRuntime) -> Self {
        Self::with(runtime, ServerOptions::new().session_linger(Duration::ZERO)).await
    }

    pub(crate) async fn with(runtime: SharedRuntime, options: ServerOptions) -> Self {
        let pipe = Pipe::new();
        let memory = Memory::with_runtime(runtime.clone());
        let server = Server::new(runtime.clone(), memory.clone(), options);
        let here = Endpoint::new("pipe", "server");
        let here = server.listen(pipe.clone(), here).await.expect("the address is free");
        Self { runtime, pipe, memory, server, here }
    }

    /// Another server takes the place of this one, which goes; the broker stays.
    pub(crate) async fn restart(&mut self) {
        let (runtime, memory) = (self.runtime.clone(), self.memory.clone());
        self.server = Server::new(runtime, memory, ServerOptions::new());
        while self.server.listen(self.pipe.clone(), self.here.clone()).await.is_err() {
            smol::future::yield_now().await;
        }
    }

    /// The server goes without a word, and none takes its place.
    pub(crate) fn vanish(&mut self) {
        self.pipe.cut();
        let (runtime, memory) = (self.runtime.clone(), self.memory.clone());
        self.server = Server::new(runtime, memory, ServerOptions::new());
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(RemoteOptions::new()).await
    }

    pub(crate) async fn client_with(&self, options: RemoteOptions) -> Client {
        let (runtime, pipe) = (self.runtime.clone(), self.pipe.clone());
        let remote = Remote::connect(runtime, pipe, self.here.clone(), options);
        Client::of(remote.await.expect("the server is there"))
    }

    /// Waits until `fact` holds: a look at every few milliseconds, and a failure after ten seconds.
    pub(crate) async fn until(&self, what: &str, mut fact: impl AsyncFnMut() -> bool) {
        let give_up = self.runtime.now() + Duration::from_secs(10);
        while !fact().await {
            assert!(self.runtime.now() < give_up, "never came true: {what}");
            let next = self.runtime.now() + Duration::from_millis(2);
            timeout_at(&*self.runtime, next, std::future::pending::<()>()).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let stats = pollster::block_on(self.memory.stats()).expect("a broker in memory");
            let (whole, mut parts) =
                (&stats.ledger, stats.queues.iter().map(|queue| &queue.ledger));
            assert!(whole.is_balanced(), "{whole}");
            assert!(parts.all(Ledger::is_balanced), "{:?}", stats.queues);
        }
    }
}

/// A remote whose books have to balance at the end of the test.
pub(crate) struct Client(Remote);

impl Client {
    pub(crate) fn of(remote: Remote) -> Self {
        Self(remote)
    }
}

impl std::ops::Deref for Client {
    type Target = Remote;

    fn deref(&self) -> &Remote {
        &self.0
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let sends = self.0.sends().expect("a remote keeps books");
            assert!(sends.is_balanced(), "{sends:?}");
        }
    }
}

/// Runs a test on a tokio runtime with one thread, on one with two, and on smol; a test that hangs
/// fails after half a minute.
pub(crate) fn on_every_runtime<F: Future<Output = ()>>(test: impl Fn(SharedRuntime) -> F) {
    let limit = Duration::from_secs(30);
    for threads in [1, 2] {
        let mut builder = match threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let tokio = builder.worker_threads(threads).enable_all().build().expect("tokio starts");
        let runtime: SharedRuntime = Tokio::new(tokio.handle().clone()).into();
        tokio.block_on(within(&runtime, limit, test(runtime.clone())));
    }
    let runtime: SharedRuntime = Smol::global().into();
    smol::block_on(within(&runtime, limit, test(runtime.clone())));
}

/// Runs a test on smol alone, where the runtime makes no difference.
pub(crate) fn on_one_runtime<F: Future<Output = ()>>(test: impl FnOnce(SharedRuntime) -> F) {
    let runtime: SharedRuntime = Smol::global().into();
    smol::block_on(within(&runtime, Duration::from_secs(30), test(runtime.clone())));
}

async fn within<F: Future<Output = ()>>(runtime: &SharedRuntime, limit: Duration, test: F) {
    let deadline = runtime.now() + limit;
    let ended = timeout_at(&**runtime, deadline, test).await;
    assert!(ended.is_some(), "the test hangs");
}

pub(crate) fn topic(text: &str) -> Topic {
    Topic::new(text).expect("a good topic")
}

pub(crate) fn event(to: &str, payload: impl Into<bytes::Bytes>) -> Message {
    Message::new(topic(to), payload)
}

pub(crate) fn job(queue: &str, payload: impl Into<bytes::Bytes>) -> Message {
    Message::to_queue(topic(queue), payload)
}

/// A peer that speaks the protocol and does as it is told, good or bad.
pub(crate) struct RawPeer {
    pub(crate) session: Session,
    pub(crate) connection: BoxConnection,
    input: bytes::BytesMut,
    runtime: SharedRuntime,
}

impl RawPeer {
    /// One end of a connection.
    pub(crate) fn new(session: Session, connection: BoxConnection, runtime: SharedRuntime) -> Self {
        Self { session, connection, input: bytes::BytesMut::new(), runtime }
    }

    /// Connects as a client and shakes hands.
    pub(crate) async fn connect(world: &World) -> Self {
        Self::connect_with(world, Config::default()).await
    }

    pub(crate) async fn connect_with(world: &World, config: Config) -> Self {
        let connection = world.pipe.connect(&world.here).await.expect("it listens");
        let runtime = world.runtime.clone();
        let session = Session::client(config, runtime.now());
        let mut client = Self::new(session, connection, runtime);
        client.write().await;
        while !client.session.is_established() {
            client.read().await;
        }
        client
    }

    /// Asks for a queue's messages, as many as are there, and grants credit for them.
    pub(crate) async fn subscribe(&mut self, queue: &str, messages: u64) {
        let mut options = Vec::new();
        fields::Writer::new(&mut options).str(3, queue).u8(5, 1);
        let link = self.session.open(Role::Receiver, &options).expect("a link is free");
        self.session.grant(link, messages, u64::MAX / 2);
        self.write().await;
    }

    /// Reads until the first message has come.
    pub(crate) async fn read_until_a_message_comes(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                if matches!(event, Event::Transfer { .. }) {
                    return;
                }
            }
            assert!(self.read().await, "the server has ended the connection");
        }
    }

    /// Writes what the session wants to say; `false` if the server does not listen any more.
    pub(crate) async fn write(&mut self) -> bool {
        let mut output = Output::new();
        self.session.swap_output(&mut output);
        let bytes = output.to_vec();
        let mut left = &bytes[..];
        while !left.is_empty() {
            let connection = &mut self.connection;
            let count = poll_fn(|cx| Pin::new(&mut *connection).poll_write(cx, left)).await;
            match count {
                Ok(count) => left = &left[count..],
                Err(_) => return false,
            }
        }
        true
    }

    /// Reads once; `false` at the end.
    pub(crate) async fn read(&mut self) -> bool {
        let mut buffer = [0; 4_096];
        let connection = &mut self.connection;
        let count = poll_fn(|cx| Pin::new(&mut *connection).poll_read(cx, &mut buffer)).await;
        let count = count.unwrap_or(0);
        self.input.extend_from_slice(&buffer[..count]);
        self.session.handle_input(&mut self.input, self.runtime.now());
        count > 0
    }
}
