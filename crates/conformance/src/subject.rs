//! What is put to the test: an executor, and a broker, a transport or a runtime that is opened
//! fresh for every case.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste_core::task::lock;
use posthaste_core::transport::{Endpoint, Transport};
use posthaste_core::{BoxFuture, Broker, Error, SharedRuntime};

use crate::poll::{self, LocalFuture};

/// Where cases run.
///
/// The default is a bare loop on the calling thread, without any runtime: enough for a broker in
/// process. Everything else blocks on its own executor:
///
/// ```
/// use posthaste_conformance::{Executor, LocalFuture};
/// use posthaste_core::SharedRuntime;
/// use posthaste_tokio::Tokio;
///
/// struct OnTokio(tokio::runtime::Runtime);
///
/// impl Executor for OnTokio {
///     fn runtime(&self) -> Option<SharedRuntime> {
///         Some(Tokio::new(self.0.handle().clone()).into())
///     }
///
///     fn block_on(&self, case: LocalFuture<'_, ()>) {
///         self.0.block_on(case);
///     }
/// }
/// ```
pub trait Executor: Sync {
    /// The runtime of the subject; `None` if it has none, and so no clock.
    fn runtime(&self) -> Option<SharedRuntime> {
        None
    }

    /// Runs `case` to its end on this thread, or drops it when it can no longer end.
    fn block_on(&self, case: LocalFuture<'_, ()>) {
        poll::block_on(case, self.patience());
    }

    /// How long a case may take before it counts as hanging. It is a watchdog and nothing that a
    /// case waits for; zero suits a subject without any other thread, where a future that nothing
    /// has woken hangs for ever.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// A broker put to the test.
///
/// ```
/// use posthaste_conformance::{
///     BROKER_CASES, BrokerSubject, Executor, Fixture, Verdict, run_broker_case,
/// };
/// use posthaste_core::{BoxFuture, Error};
/// use posthaste_memory::Memory;
///
/// struct InProcess;
///
/// impl Executor for InProcess {}
///
/// impl BrokerSubject for InProcess {
///     fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
///         Box::pin(async { Ok(Fixture::new(Memory::new())) })
///     }
/// }
///
/// let first = &BROKER_CASES[0];
/// assert!(matches!(run_broker_case(&InProcess, first), Verdict::Passed));
/// ```
pub trait BrokerSubject: Executor {
    /// Opens a broker for one case. It is empty, unless it is [`Fixture::shared`].
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>>;
}

/// A transport put to the test.
pub trait TransportSubject: Executor {
    /// Opens the transport for one case, with a place to listen at.
    fn open(&self) -> BoxFuture<'_, io::Result<Medium>>;
}

/// A runtime put to the test.
///
/// Its cases end by themselves or by a thread that watches them, never by the clock of the runtime
/// that is tested; [`Executor::runtime`] is not asked. An executor that leaves
/// [`block_on`](Executor::block_on) as it is tests the runtime from outside of it.
///
/// ```
/// use posthaste_conformance::{Executor, RUNTIME_CASES, RuntimeSubject, Verdict};
/// use posthaste_conformance::run_runtime_case;
/// use posthaste_core::SharedRuntime;
/// use posthaste_smol::Smol;
///
/// struct FromOutside;
///
/// impl Executor for FromOutside {}
///
/// impl RuntimeSubject for FromOutside {
///     fn open(&self) -> SharedRuntime {
///         Smol::global().into()
///     }
/// }
///
/// let first = &RUNTIME_CASES[0];
/// assert!(matches!(run_runtime_case(&FromOutside, first), Verdict::Passed));
/// ```
pub trait RuntimeSubject: Executor {
    /// The runtime for one case.
    fn open(&self) -> SharedRuntime;
}

/// A broker for one case, and what has to live as long.
pub struct Fixture {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) peer: Arc<dyn Broker>,
    pub(crate) pushes: bool,
    pub(crate) shared: Option<String>,
    // Behind locks only so that what is kept need not be `Sync`.
    reopen: Mutex<Option<Reopen>>,
    kept: Mutex<Vec<Box<dyn Any + Send>>>,
}

/// Ends a broker and opens it again over what it has kept.
type Reopen = Box<dyn FnOnce() -> BoxFuture<'static, Result<Fixture, Error>> + Send>;

impl Fixture {
    /// A broker in which nothing has happened yet and which nobody else uses.
    pub fn new(broker: impl Broker + 'static) -> Self {
        let broker: Arc<dyn Broker> = Arc::new(broker);
        Self {
            peer: Arc::clone(&broker),
            broker,
            pushes: false,
            shared: None,
            reopen: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// A second client of the same broker. Cases then send through one and receive through the
    /// other.
    #[must_use]
    pub fn peer(mut self, peer: impl Broker + 'static) -> Self {
        self.peer = Arc::new(peer);
        self
    }

    /// Keeps something (a server, a directory) until the case is over.
    #[must_use]
    pub fn keep(self, kept: impl Any + Send) -> Self {
        lock(&self.kept).push(Box::new(kept));
        self
    }

    /// The broker hands messages out ahead of polls, as everything behind a connection does: one
    /// that a consumer has not polled for may still be meant for it alone.
    #[must_use]
    pub fn pushes(mut self) -> Self {
        self.pushes = true;
        self
    }

    /// Others use the broker too: names begin with `space`, which nobody else uses, and the books
    /// of the whole broker are not looked at.
    #[must_use]
    pub fn shared(mut self, space: impl Into<String>) -> Self {
        self.shared = Some(space.into());
        self
    }

    /// How the broker is opened again: `reopen` ends it in order, although there still are handles
    /// of it, and opens one over the same data. Law B19 is shown of a broker with the capability
    /// `durability` in this way, and is not applicable without it but for what receipts and
    /// declarations say.
    ///
    /// What was kept for the first one is kept until the case is over. The second one is to be
    /// opened again, too; that it pushes or is shared need not be said anew.
    ///
    /// ```
    /// use posthaste_conformance::Fixture;
    /// use posthaste_core::{BoxFuture, Error};
    /// use posthaste_log::storage::Simulated;
    /// use posthaste_log::{Durable, LogOptions};
    /// use posthaste_smol::Smol;
    ///
    /// fn open(disk: Simulated) -> BoxFuture<'static, Result<Fixture, Error>> {
    ///     Box::pin(async move {
    ///         let options = LogOptions::default();
    ///         let (broker, _) = Durable::open(Smol::global(), disk.clone(), options).await?;
    ///         Ok(Fixture::new(broker.clone()).reopen(|| {
    ///             Box::pin(async move {
    ///                 broker.close().await?;
    ///                 open(disk).await
    ///             })
    ///         }))
    ///     })
    /// }
    ///
    /// # smol::block_on(async {
    /// let fixture = open(Simulated::new()).await?;
    /// # drop(fixture);
    /// # Ok::<(), Error>(())
    /// # })?;
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn reopen(
        self,
        reopen: impl FnOnce() -> BoxFuture<'static, Result<Self, Error>> + Send + 'static,
    ) -> Self {
        *lock(&self.reopen) = Some(Box::new(reopen));
        self
    }

    pub(crate) fn can_reopen(&self) -> bool {
        lock(&self.reopen).is_some()
    }

    /// The same broker after an end; `None` if nobody says how it is opened again.
    pub(crate) async fn reopened(&self) -> Option<Result<Self, Error>> {
        let reopen = lock(&self.reopen).take()?;
        let reopened = reopen().await;
        Some(reopened.map(|next| Self {
            pushes: next.pushes || self.pushes,
            shared: self.shared.clone(),
            ..next
        }))
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("backend", &self.broker.capabilities().backend())
            .field("pushes", &self.pushes)
            .field("shared", &self.shared)
            .field("can_reopen", &self.can_reopen())
            .field("kept", &lock(&self.kept).len())
            .finish_non_exhaustive()
    }
}

/// A transport for one case, a place to listen at, and what has to live as long.
#[derive(Clone)]
pub struct Medium {
    /// The transport.
    pub transport: Arc<dyn Transport>,
    /// Where to listen; the listener says where that really is.
    pub at: Endpoint,
    _kept: Option<Arc<dyn Any + Send + Sync>>,
}

impl Medium {
    /// A transport that can listen at `at`, which nobody else uses.
    pub fn new(transport: impl Transport + 'static, at: Endpoint) -> Self {
        Self { transport: Arc::new(transport), at, _kept: None }
    }

    /// Keeps something (a directory) until the case is over.
    #[must_use]
    pub fn keep(mut self, kept: impl Any + Send + Sync) -> Self {
        self._kept = Some(Arc::new(kept));
        self
    }
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Medium").field("at", &self.at).finish_non_exhaustive()
    }
}
