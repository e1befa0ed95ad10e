//! Sockets with their options, before any reactor has them.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// What is set on every socket of a transport.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) backlog: u16,
    pub(crate) dual_stack: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: Some(Duration::from_secs(60)),
            backlog: 1024,
            dual_stack: false,
        }
    }
}

/// A non-blocking socket that is connecting to `to`.
pub(crate) fn connecting(to: SocketAddr, options: &Options) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    apply(options, &socket)?;
    match socket.connect(&to.into()) {
        Err(error) if !is_under_way(&error) => return Err(error),
        _ => {}
    }
    // Connecting to a free port of this machine may pick that very port as its own, and TCP then
    // connects the socket with itself. A client that waits for its server would be talking to a
    // mirror, and would keep the server from its port.
    if socket.local_addr()?.as_socket() == Some(to) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(socket.into())
}

/// A non-blocking socket that listens at `at`.
pub(crate) fn listening(at: SocketAddr, options: &Options) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    // On Unix this lets a server start again while connections of the one before it linger; two
    // listeners at one address stay forbidden. On Windows it would allow just that.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(i32::from(options.backlog))?;
    Ok(socket.into())
}

/// How many bytes the kernel holds that it has not sent: what is written later does not wait behind
/// more than these. Windows of the network are not bounded by it.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// Sets the options of a connection.
pub(crate) fn apply<'s>(options: &Options, socket: impl Into<SockRef<'s>>) -> io::Result<()> {
    let socket = socket.into();
    socket.set_tcp_nodelay(options.nodelay)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    if let Some(idle) = options.keepalive {
        // Three probes, spread over as much as half the idle time again, decide.
        let idle = idle.clamp(Duration::from_secs(1), Duration::from_secs(32_767));
        let interval = (idle / 6).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
        socket.set_tcp_keepalive(&keepalive.with_retries(3))?;
    }
    Ok(())
}

fn is_under_way(error: &io::Error) -> bool {
    // Unix says that it is in progress, Windows that it would block.
    #[cfg(unix)]
    if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}
