//! The books of a broker, watched: a test that unbalances them fails, whatever else it saw.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use posthaste_core::{Broker, Error, ErrorKind, Ledger, Stats};

/// Watches over the books of a broker: when it is dropped, and nothing has panicked, the ledger of
/// everything and of each queue has to balance, and the client's own books as well.
///
/// A broker in process answers at once, with or without a runtime. One behind a link cannot be
/// asked in a drop: its own books are looked at there all the same, and [`check`](Self::check)
/// asks it for the rest.
///
/// ```
/// use posthaste_conformance::Books;
/// use posthaste_core::{Bus, Error};
/// use posthaste_memory::Memory;
///
/// # fn main() -> Result<(), Error> {
/// let memory = Memory::new();
/// let _books = Books::watch(memory.clone());
/// let bus = Bus::new(memory);
/// pollster::block_on(bus.send("jobs", "work"))?;
/// // At the end of the test the copy in the queue has to be accounted for.
/// # Ok(())
/// # }
/// ```
#[must_use = "books are looked at when this is dropped"]
pub struct Books(Arc<dyn Broker>);

impl Books {
    /// Watches over the books of `broker`.
    pub fn watch(broker: impl Broker + 'static) -> Self {
        Self(Arc::new(broker))
    }

    /// Looks at the books now.
    ///
    /// # Errors
    /// `Internal`, with the whole ledger that does not balance; what [`Broker::stats`] answers.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn check(&self) -> Result<(), Error> {
        self.check_sends()?;
        check_stats(&self.0.stats().await?)
    }

    fn check_sends(&self) -> Result<(), Error> {
        match self.0.sends() {
            Some(sends) if !sends.is_balanced() => {
                let text = format!("the client's books do not balance: {sends:?}");
                Err(Error::new(ErrorKind::Internal, text))
            }
            _ => Ok(()),
        }
    }

    fn check_at_once(&self) -> Result<(), Error> {
        self.check_sends()?;
        match self.0.stats().as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(stats)) => check_stats(&stats),
            // One that cannot be asked any more, or not here.
            Poll::Ready(Err(_)) | Poll::Pending => Ok(()),
        }
    }
}

fn check_stats(stats: &Stats) -> Result<(), Error> {
    for queue in &stats.queues {
        check_ledger(queue.name.as_str(), &queue.ledger)?;
    }
    check_ledger("the broker", &stats.ledger)
}

fn check_ledger(whose: &str, ledger: &Ledger) -> Result<(), Error> {
    if ledger.is_balanced() {
        return Ok(());
    }
    let text = format!("the books of {whose} do not balance: {ledger:#?}");
    Err(Error::new(ErrorKind::Internal, text))
}

impl Drop for Books {
    /// # Panics
    /// If the books do not balance, unless the thread is panicking already.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Err(error) = self.check_at_once() {
            panic!("{error}");
        }
    }
}

impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Books").field(&self.0.capabilities().backend()).finish()
    }
}
