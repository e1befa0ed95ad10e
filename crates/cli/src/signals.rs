//! The signals that ask a program to end.

use std::io;

use crate::exit::{Code, Failure};

/// SIGINT and SIGTERM, which from now on no longer kill the process.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(|error| deaf(&error))?,
            terminate: signal(SignalKind::terminate()).map_err(|error| deaf(&error))?,
        })
    }

    /// Resolves with the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Starts to listen.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self {})
    }

    /// Resolves with the next signal. Cancel safe.
    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
fn deaf(error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot listen for signals: {error}"))
}
