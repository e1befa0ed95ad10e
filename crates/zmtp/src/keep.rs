//! The tasks that make connections, again and again, and that accept them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::{BoxListener, Endpoint, Transport};
use posthaste_core::{Error, ErrorKind};
use posthaste_tcp::Tcp;
use posthaste_unix::Unix;

use crate::drive;
use crate::greet::Whence;
use crate::lane::Lane;
use crate::node::{DialState, Node};

/// The shortest and the longest wait before another attempt.
const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(2);

/// The transport of an endpoint.
///
/// # Errors
/// `InvalidArgument` for another scheme.
pub(crate) fn transport(node: &Node, endpoint: &Endpoint) -> Result<Arc<dyn Transport>, Error> {
    match endpoint.scheme() {
        "tcp" => Ok(Arc::new(Tcp::new(Arc::clone(&node.runtime)))),
        "unix" => Ok(Arc::new(Unix::new(Arc::clone(&node.runtime)))),
        _ => {
            let text =
                format!("{endpoint} is no place for ZeroMQ; write tcp://HOST:PORT or unix:/PATH");
            Err(Error::new(ErrorKind::InvalidArgument, text))
        }
    }
}

impl Node {
    /// Starts the task that keeps a connection.
    pub(crate) fn start_dial(self: &Arc<Self>, at: usize, lane: Lane, endpoint: Endpoint) {
        let node = Arc::clone(self);
        self.runtime.spawn(Box::pin(async move { keep(&node, at, lane, &endpoint).await }));
    }

    /// Starts the task that accepts connections.
    pub(crate) fn start_listener(self: &Arc<Self>, lanes: Vec<Lane>, listener: BoxListener) {
        let node = Arc::clone(self);
        self.runtime.spawn(Box::pin(async move { accept(&node, &lanes, listener).await }));
    }

    /// A wait of random length, up to twice as long after each attempt that failed.
    async fn pause(&self, attempts: u32) {
        let most = SOONEST.saturating_mul(1 << attempts.min(10)).min(LATEST);
        let mut random = [0; 4];
        self.runtime.fill_random(&mut random);
        let part = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        let wait = SOONEST.max(most.mul_f64(part));
        let deadline = self.runtime.now() + wait;
        let _closed = timeout_at(&*self.runtime, deadline, self.closed()).await;
    }
}

async fn keep(node: &Arc<Node>, at: usize, lane: Lane, endpoint: &Endpoint) {
    let mut attempts = 0;
    while !node.with(|state| state.closed) {
        let before = node.runtime.now();
        let error = match connect(node, endpoint).await {
            Ok(connection) => drive::run(node, connection, Whence::Dialled { lane, at }).await,
            Err(error) => error,
        };
        // One that held begins anew.
        let held = node.runtime.now().saturating_duration_since(before) > LATEST;
        attempts = if held { 0 } else { attempts + 1 };
        node.with(|state| {
            if let Some(dial) = state.dials.get_mut(at) {
                dial.state = DialState::Down(error);
            }
            state.notify();
        });
        node.pause(attempts).await;
    }
}

async fn connect(
    node: &Arc<Node>,
    endpoint: &Endpoint,
) -> Result<posthaste_core::transport::BoxConnection, Error> {
    let transport = transport(node, endpoint)?;
    let deadline = node.runtime.now() + node.options.handshake;
    let connecting = std::pin::pin!(transport.connect(endpoint));
    let closed = std::pin::pin!(node.closed());
    let attempt = select(connecting, closed);
    match timeout_at(&*node.runtime, deadline, attempt).await {
        Some(Either::Left((Ok(connection), _))) => Ok(connection),
        Some(Either::Left((Err(error), _))) => {
            let invalid = error.kind() == std::io::ErrorKind::InvalidInput;
            let kind = if invalid { ErrorKind::InvalidArgument } else { ErrorKind::Disconnected };
            Err(Error::new(kind, error.to_string()).caused_by(error))
        }
        Some(Either::Right(_)) => Err(Error::closed("the ZeroMQ node")),
        None => {
            let text = format!("{endpoint} does not answer; look whether the host is right");
            Err(Error::new(ErrorKind::Disconnected, text))
        }
    }
}

async fn accept(node: &Arc<Node>, lanes: &[Lane], mut listener: BoxListener) {
    let mut failures = 0;
    loop {
        let accepted = {
            let accepting = std::pin::pin!(listener.accept());
            match select(accepting, std::pin::pin!(node.closed())).await {
                Either::Left((accepted, _)) => accepted,
                Either::Right(_) => return,
            }
        };
        let Ok(upgrade) = accepted else {
            // Out of file descriptors, say: it may pass.
            failures += 1;
            node.pause(failures).await;
            continue;
        };
        failures = 0;
        let most = node.options.connections;
        let welcome = node.with(|state| {
            let welcome = state.connections < most;
            state.connections += usize::from(welcome);
            welcome
        });
        if !welcome {
            continue;
        }
        let (whence, guest) = (Whence::Accepted(lanes.to_vec()), Guest(Arc::clone(node)));
        node.runtime.spawn(Box::pin(async move {
            let node = &guest.0;
            let deadline = node.runtime.now() + node.options.handshake;
            if let Some(Ok(connection)) = timeout_at(&*node.runtime, deadline, upgrade).await {
                drive::run(node, connection, whence).await;
            }
        }));
    }
}

/// A connection that was accepted, and counts.
struct Guest(Arc<Node>);

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.with(|state| state.connections = state.connections.saturating_sub(1));
    }
}
