//! An executor that Posthaste has never heard of: the thread pool of the `futures` crate, with
//! async-io as its reactor. Everything it needs is the `Runtime` below.
//!
//! Run it with `cargo run --example third_executor`.
#![allow(clippy::print_stdout, reason = "an example tells its story")]
#![allow(clippy::disallowed_methods, reason = "a runtime is what may ask for the time")]

use std::io::{ErrorKind, Result as IoResult};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use async_io::Async;
use futures::executor::{ThreadPool, block_on};
use posthaste::runtime::{Acceptor, BoxAcceptor, BoxTimer, BoxWork, StdListener, StdSocket, Timer};
use posthaste::transport::{BoxConnection, Peer, WithPeer};
use posthaste::{BoxFuture, Memory, ReceiverExt, Runtime, SharedRuntime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime: SharedRuntime = Arc::new(Third { tasks: pool(2)?, blocking: pool(4)? });
    let broker = Memory::with_runtime(runtime.clone());
    block_on(async {
        let server = posthaste::serve(runtime.clone(), broker, "tcp://127.0.0.1:0").await?;
        let url = server.endpoints()[0].to_string();
        println!("serving {url}");

        let bus = posthaste::connect(runtime, &url).await?;
        let mut news = bus.subscribe("news.>").await?;
        let receipt = bus.publish("news.executors", "a third one").await?;
        assert_eq!(receipt.matched, 1);
        println!("received {:?}", news.next_delivery().await?.payload());

        let asking = bus.request("anybody", "there?").within(Duration::from_secs(5));
        assert_eq!(asking.await.unwrap_err().kind(), posthaste::ErrorKind::NoResponders);
        println!("nobody answers: its timers and its clock are in use as well");
        Ok(())
    })
}

fn pool(threads: usize) -> IoResult<ThreadPool> {
    ThreadPool::builder().pool_size(threads).create()
}

struct Third {
    tasks: ThreadPool,
    blocking: ThreadPool,
}

impl Runtime for Third {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tasks.spawn_ok(task);
    }

    fn spawn_blocking(&self, work: BoxWork) {
        self.blocking.spawn_ok(async { work() });
    }

    fn timer(&self) -> BoxTimer {
        Box::pin(Alarm(async_io::Timer::never()))
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system has randomness");
    }

    fn register(&self, socket: StdSocket) -> IoResult<BoxConnection> {
        match socket {
            StdSocket::Tcp(socket) => Ok(connection(Async::new(socket)?)),
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn register_connecting(&self, to: StdSocket) -> BoxFuture<'static, IoResult<BoxConnection>> {
        Box::pin(async move {
            let StdSocket::Tcp(socket) = to else {
                return Err(ErrorKind::Unsupported.into());
            };
            let socket = Async::new(socket)?;
            socket.writable().await?;
            match socket.get_ref().take_error()? {
                None => Ok(connection(socket)),
                Some(error) => Err(error),
            }
        })
    }

    fn register_listener(&self, listener: StdListener) -> IoResult<BoxAcceptor> {
        match listener {
            StdListener::Tcp(listener) => Ok(Box::new(Door(Async::new(listener)?))),
            _ => Err(ErrorKind::Unsupported.into()),
        }
    }
}

fn connection(socket: Async<TcpStream>) -> BoxConnection {
    // Any byte stream will do. This one of async-net knows how to close one direction alone.
    Box::new(WithPeer::new(async_net::TcpStream::from(socket), Peer::unknown()))
}

struct Alarm(async_io::Timer);

impl Timer for Alarm {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.0.set_at(deadline);
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

struct Door(Async<TcpListener>);

impl Acceptor for Door {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<IoResult<StdSocket>> {
        loop {
            match self.0.get_ref().accept() {
                Ok((socket, _)) => return Poll::Ready(Ok(StdSocket::Tcp(socket))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.0.poll_readable(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
