//! Posthaste's runtime as the one that lapin asks for, and the socket that it gets from it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::{Task, TaskImpl, simple_block_on};
use futures::stream::{self, Stream};
use futures::{AsyncRead, AsyncWrite};
use posthaste_core::SharedRuntime;
use posthaste_core::runtime::BoxTimer;
use posthaste_core::task::{OneShot, lock, remember};
use posthaste_core::transport::BoxConnection;

use crate::greeting::Greeting;

/// A runtime of Posthaste as lapin's.
#[derive(Clone)]
pub(crate) struct Kit(pub(crate) SharedRuntime);

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit").finish_non_exhaustive()
    }
}

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = Job<T>;

    /// Runs on the thread that lapin starts for each connection, never on one of the runtime's.
    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        simple_block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Job<T>> {
        let job = Job(Arc::new(OneShot::new()));
        let done = Arc::clone(&job.0);
        self.0.spawn(Box::pin(async move { done.put(future.await) }));
        job.into()
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Job<T>> {
        let job = Job(Arc::new(OneShot::new()));
        let done = Arc::clone(&job.0);
        self.0.spawn_blocking(Box::new(move || done.put(work())));
        job.into()
    }
}

/// A task, which runs whether or not anybody waits for it.
pub(crate) struct Job<T>(Arc<OneShot<T>>);

impl<T: Send + 'static> TaskImpl for Job<T> {}

impl<T> Future for Job<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.poll_take(cx)
    }
}

impl Reactor for Kit {
    type TcpStream = Socket;
    type Sleep = Sleep;

    /// Sockets come from a transport of Posthaste; nothing else is registered.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Socket, _>(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn sleep(&self, time: Duration) -> Sleep {
        let mut timer = self.0.timer();
        timer.as_mut().reset(self.0.now() + time);
        Sleep(timer)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        let first = self.0.now();
        stream::unfold((self.clone(), first), move |(kit, due)| async move {
            let mut timer = kit.0.timer();
            timer.as_mut().reset(due);
            timer.await;
            Some((due, (kit, due + time)))
        })
    }

    fn tcp_connect_addr(
        &self,
        _to: SocketAddr,
    ) -> impl Future<Output = io::Result<Socket>> + Send + 'static {
        std::future::ready(Err(io::Error::from(io::ErrorKind::Unsupported)))
    }
}

/// A timer that is armed once.
pub(crate) struct Sleep(BoxTimer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// Waits that long.
pub(crate) async fn sleep(runtime: &SharedRuntime, time: Duration) {
    let mut timer = runtime.timer();
    timer.as_mut().reset(runtime.now() + time);
    timer.await;
}

/// The socket of a connection: one that can be cut from this side, and that notes what the server
/// says of itself at first, which lapin keeps from its users.
pub(crate) struct Socket {
    inner: BoxConnection,
    line: Line,
    greeting: Option<Greeting>,
}

/// What the owner of a connection shares with its socket.
#[derive(Clone, Default)]
pub(crate) struct Line(Arc<Mutex<LineState>>);

#[derive(Default)]
struct LineState {
    cut: bool,
    readers: Option<Waker>,
    writers: Option<Waker>,
    version: Option<String>,
}

impl Line {
    /// Ends the connection without a word: what waits for its socket fails.
    pub(crate) fn cut(&self) {
        let mut state = lock(&self.0);
        state.cut = true;
        let wakers = [state.readers.take(), state.writers.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// The version that the server named.
    pub(crate) fn version(&self) -> Option<String> {
        lock(&self.0).version.clone()
    }

    fn check(&self, cx: &Context<'_>, reads: bool) -> io::Result<()> {
        let mut state = lock(&self.0);
        if state.cut {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        remember(if reads { &mut state.readers } else { &mut state.writers }, cx);
        Ok(())
    }
}

impl Socket {
    pub(crate) fn new(inner: BoxConnection, line: Line) -> Self {
        Self { inner, line, greeting: Some(Greeting::default()) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &mut *self;
        socket.line.check(cx, true)?;
        let read = Pin::new(&mut socket.inner).poll_read(cx, into);
        if let (Poll::Ready(Ok(count)), Some(greeting)) = (&read, &mut socket.greeting)
            && greeting.add(into.get(..*count).unwrap_or_default())
        {
            lock(&socket.line.0).version = greeting.version();
            socket.greeting = None;
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.check(cx, false)?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check(cx, false)?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Lets every other future of the same task have its turn, once.
pub(crate) async fn one_turn() {
    let mut turned = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut turned, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
