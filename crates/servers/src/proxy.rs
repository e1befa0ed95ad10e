//! A proxy that carries bytes between clients and a server, until it is told to cut.

#![allow(clippy::disallowed_methods, reason = "a tool of tests, which has no runtime")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Carries the bytes of TCP connections to another address.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
/// use posthaste_servers::Proxy;
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::to(&server.local_addr()?.to_string())?;
/// let mut client = TcpStream::connect(proxy.address())?;
/// client.write_all(b"hello")?;
/// let mut heard = [0; 5];
/// server.accept()?.0.read_exact(&mut heard)?;
/// assert_eq!(&heard, b"hello");
/// proxy.cut();
/// assert_eq!(client.read(&mut heard)?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    at: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: String,
    ended: AtomicBool,
    refusing: AtomicBool,
    /// How many more bytes are carried, in both directions together, before everything is cut.
    left: AtomicU64,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy to an address, at a port of its own on 127.0.0.1.
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn to(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to: address.to_owned(),
            ended: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
            left: AtomicU64::new(u64::MAX),
            sockets: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { at, shared })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> String {
        self.at.to_string()
    }

    /// Cuts every connection there is now.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection once so many more bytes have been carried, wherever that is.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.cut();
        // Wakes who accepts; should nobody listen any more, nobody has to be woken.
        let _ = TcpStream::connect(self.at);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(client) = client else { continue };
            if self.refusing.load(Ordering::SeqCst) {
                continue;
            }
            // Where the server cannot be reached, the client sees its connection end.
            let _ = self.carry(client);
        }
    }

    fn carry(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let server = TcpStream::connect(&self.to)?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            let kept = socket.try_clone()?;
            self.sockets.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(from, to));
        }
        Ok(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let left = self.left.load(Ordering::SeqCst);
            let carried = usize::try_from(left).unwrap_or(usize::MAX).min(count);
            if left != u64::MAX {
                self.left.fetch_sub(carried as u64, Ordering::SeqCst);
            }
            if to.write_all(&buffer[..carried]).is_err() {
                break;
            }
            if carried < count {
                self.left.store(u64::MAX, Ordering::SeqCst);
                self.cut();
                break;
            }
        }
        // The other side sees the end of this one.
        let _ = to.shutdown(Shutdown::Write);
    }

    fn cut(&self) {
        let sockets = &mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in sockets.drain(..) {
            // One that has ended already is cut.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
