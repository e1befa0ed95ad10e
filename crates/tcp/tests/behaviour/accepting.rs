//! Accepting over TCP: nobody is lost, nobody holds up another, options are set.

use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use std::{future::Future, io};

use crate::support::{endpoint, on_every_runtime, pair, refusal, skipped};
use futures::{AsyncReadExt, AsyncWriteExt};
use posthaste_core::runtime::{
    BoxAcceptor, BoxFuture, BoxTimer, BoxWork, Runtime, SharedRuntime, StdListener, StdSocket,
};
use posthaste_core::transport::{BoxConnection, Connection, Transport};
use posthaste_tcp::Tcp;

#[test]
fn a_dropped_accept_loses_no_connection() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        {
            let accept = pin!(listener.accept());
            assert!(accept.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let to = listener.endpoint();
        let (client, server) = futures::join!(tcp.connect(&to), listener.accept());
        client.unwrap().write_all(b"x").await.unwrap();
        server.unwrap().await.unwrap().read_exact(&mut [0]).await.unwrap();
    });
}

#[test]
fn many_connections_are_each_accepted_once() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let to = listener.endpoint();
        let clients = futures::future::join_all((0..50).map(|_| tcp.connect(&to)));
        let servers = async {
            let mut servers = Vec::new();
            for _ in 0..50 {
                servers.push(listener.accept().await.unwrap().await.unwrap());
            }
            servers
        };
        let (clients, servers) = futures::join!(clients, servers);
        assert!(clients.iter().all(Result::is_ok));
        let mut peers: Vec<_> = servers.iter().map(|server| server.peer().address).collect();
        peers.sort();
        peers.dedup();
        assert_eq!(peers.len(), 50);
        let next = pin!(listener.accept());
        assert!(next.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
}

#[test]
fn a_connection_that_is_not_upgraded_holds_up_no_other() {
    on_every_runtime(async |runtime| {
        let tcp = Tcp::new(runtime);
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let to = listener.endpoint();
        let (first, stalled) = futures::join!(tcp.connect(&to), listener.accept());
        let (_client, _server) = pair(&tcp, &mut *listener).await;
        let mut first = first.unwrap();
        first.write_all(b"late").await.unwrap();
        stalled.unwrap().await.unwrap().read_exact(&mut [0; 4]).await.unwrap();
    });
}

#[test]
fn options_are_set_on_both_ends() {
    on_every_runtime(async |runtime| {
        let spy = Spy::over(runtime);
        let tcp = Tcp::new(SharedRuntime::clone(&spy.shared()));
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let _pair = pair(&tcp, &mut *listener).await;
        let idle = Duration::from_secs(60);
        assert_eq!(spy.seen(), [(true, Some(idle)), (true, Some(idle))]);

        let tcp = tcp.nodelay(false).keepalive(Some(Duration::from_millis(1)));
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let _pair = pair(&tcp, &mut *listener).await;
        let idle = Duration::from_secs(1);
        assert_eq!(spy.seen(), [(false, Some(idle)), (false, Some(idle))]);

        let tcp = tcp.keepalive(None);
        let mut listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let _pair = pair(&tcp, &mut *listener).await;
        assert_eq!(spy.seen(), [(false, None), (false, None)]);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_connect_never_ends_up_at_itself() {
    // The kernel goes through the free ports in turn, so that a client that keeps trying a free
    // one meets it in the end. Half of the ports are for connects, which the first try tells.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = Tcp::new(posthaste_tokio::Tokio::current());
        let listener = tcp.bind(&endpoint("tcp://127.0.0.1:0")).await.unwrap();
        let probe = TcpStream::connect(listener.endpoint().address()).unwrap();
        let own = probe.local_addr().unwrap();
        drop((probe, listener));
        let free = SocketAddr::from(([127, 0, 0, 1], own.port() - 2));
        if std::net::TcpListener::bind(free).is_err() {
            skipped("the port next to one's own is taken");
            return;
        }
        let to = endpoint(&format!("tcp://{free}"));
        for _ in 0..40_000 {
            let error = refusal(tcp.connect(&to).await);
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        }
    });
}

/// What was seen of a socket: whether small writes leave at once, and its keepalive time.
type Seen = (bool, Option<Duration>);

/// A runtime that looks at every socket before it hands it on.
#[derive(Clone)]
struct Spy {
    inner: SharedRuntime,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Spy {
    fn over(inner: SharedRuntime) -> Self {
        Self { inner, seen: Arc::default() }
    }

    fn shared(&self) -> SharedRuntime {
        Arc::new(self.clone())
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn look(&self, socket: &StdSocket) {
        let StdSocket::Tcp(socket) = socket else { panic!("{socket:?} is no TCP socket") };
        let socket = socket2::SockRef::from(socket);
        // So that what is written later does not wait behind megabytes in the kernel.
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 256 << 10);
        let keepalive = socket.keepalive().unwrap().then(|| socket.tcp_keepalive_time().unwrap());
        self.seen.lock().unwrap().push((socket.tcp_nodelay().unwrap(), keepalive));
    }
}

impl Runtime for Spy {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.inner.spawn(task);
    }

    fn spawn_blocking(&self, work: BoxWork) {
        self.inner.spawn_blocking(work);
    }

    fn timer(&self) -> BoxTimer {
        self.inner.timer()
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn unix_time(&self) -> Duration {
        self.inner.unix_time()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.inner.fill_random(bytes);
    }

    fn register(&self, socket: StdSocket) -> io::Result<BoxConnection> {
        self.look(&socket);
        self.inner.register(socket)
    }

    fn register_connecting(
        &self,
        socket: StdSocket,
    ) -> BoxFuture<'static, io::Result<BoxConnection>> {
        self.look(&socket);
        self.inner.register_connecting(socket)
    }

    fn register_listener(&self, listener: StdListener) -> io::Result<BoxAcceptor> {
        self.inner.register_listener(listener)
    }
}
