//! Accepting: a loop that never waits for a peer.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use posthaste_core::runtime::timeout_at;
use posthaste_core::task::ReadySet;
use posthaste_core::transport::{BoxListener, Upgrade};
use posthaste_wire::{Code, Session};

use super::connection::Connection;
use super::{Member, Phase, Shared};
use crate::pump::{Pump, after};

/// How long to wait after the system has refused to accept: it may be out of files for a while.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a peer that is turned away may take to hear why.
const TURN_AWAY: Duration = Duration::from_secs(1);

/// Peers that are told at a time that there is no room.
const TURNED_AWAY: u64 = 64;

/// Accepts until the server closes.
pub(super) async fn accept(
    shared: Arc<Shared>,
    mut listener: BoxListener,
    ready: ReadySet,
    member: Member,
) {
    while let Some(accepted) = while_open(&shared, &ready, listener.accept()).await {
        match accepted {
            Ok(upgrade) => {
                let arrived = shared.runtime.now();
                let task = admit(Arc::clone(&shared), upgrade, arrived);
                shared.runtime.spawn(Box::pin(task));
            }
            // This peer has given up; the next one may be waiting.
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; trying again");
                let until = after(shared.runtime.now(), BACK_OFF);
                let pause = timeout_at(&*shared.runtime, until, std::future::pending::<()>());
                while_open(&shared, &ready, pause).await;
            }
        }
    }
    drop(listener);
    drop(member);
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Resolves with what `future` does, or with `None` once the server takes no more connections.
async fn while_open<F: Future>(shared: &Shared, ready: &ReadySet, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx: &mut Context<'_>| {
        ready.register(cx);
        if shared.phase() > Phase::Open {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Takes one peer from its arrival to its end, in a task of its own.
async fn admit(shared: Arc<Shared>, upgrade: Upgrade, arrived: Instant) {
    let ready = ReadySet::new();
    let runtime = Arc::clone(&shared.runtime);
    let deadline = after(arrived, shared.options.handshake);
    let member = shared.join(&ready, true);
    let connection = match timeout_at(&*runtime, deadline, upgrade).await {
        Some(Ok(connection)) => connection,
        Some(Err(error)) => {
            tracing::debug!(%error, "a peer failed in its transport's handshake");
            return;
        }
        None => {
            tracing::debug!("a peer did not finish its transport's handshake in time");
            return;
        }
    };
    let now = runtime.now();
    let left = deadline.saturating_duration_since(now);
    let config = shared.options.config(left, shared.session);
    let mut session = Session::server(config, now);
    let mut pump = Pump::new(connection, &*runtime);
    let Some(member) = member else {
        // A crowd at the door is not told one by one.
        if shared.turned_away.fetch_add(1, Ordering::Relaxed) < TURNED_AWAY {
            turn_away(&shared, &mut pump, &mut session).await;
        }
        shared.turned_away.fetch_sub(1, Ordering::Relaxed);
        return;
    };
    Connection::new(shared, pump, session, ready, member).await;
}

/// Tells a peer that there is no room for it.
async fn turn_away(shared: &Shared, pump: &mut Pump, session: &mut Session) {
    let (code, reason) = match shared.phase() {
        Phase::Open => {
            let most = shared.options.connections;
            (Code::Limit, format!("the server has {most} connections, as many as it may"))
        }
        _ => (Code::GoingAway, "the server is going away".to_owned()),
    };
    tracing::debug!(peer = %pump.peer(), %reason, "a peer was turned away");
    session.goodbye(code, &reason);
    pump.collect(session);
    let until = after(shared.runtime.now(), TURN_AWAY);
    let written = std::future::poll_fn(|cx| {
        if pump.poll_write(cx)?.is_pending() {
            return Poll::Pending;
        }
        pump.poll_close(cx)
    });
    let _ = timeout_at(&*shared.runtime, until, written).await;
}
