//! Tests that need a server, as `cargo test` runs and reports them.
//!
//! A test target with `harness = false` gathers its trials and gives them to [`main`]:
//!
//! ```no_run
//! use posthaste_servers::harness::{self, Trials};
//!
//! fn main() -> std::process::ExitCode {
//!     let mut trials = Trials::default();
//!     trials.needing("nats", "a_server_is_there", |server| {
//!         assert!(server.url().starts_with("nats://"));
//!     });
//!     harness::main(trials)
//! }
//! ```

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use posthaste_conformance::{
    BROKER_CASES, BrokerSubject, Executor, Fixture, LocalFuture, Verdict, run_broker_case,
};
use posthaste_core::{BoxFuture, Error, Runtime, SharedRuntime};
use posthaste_smol::Smol;

use crate::executors::{OnSmol, OnTokio};
use crate::{Missing, Server};

/// The tests of a target.
#[derive(Default)]
pub struct Trials {
    trials: Vec<Trial>,
    servers: Arc<Servers>,
    left_out: Vec<(&'static str, &'static str, &'static str)>,
    patience: Option<Duration>,
    threads: Option<usize>,
}

impl std::fmt::Debug for Trials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trials").field("count", &self.trials.len()).finish_non_exhaustive()
    }
}

/// The servers that the tests of a target share; one of each name.
#[derive(Default)]
struct Servers(Mutex<BTreeMap<&'static str, Result<Arc<Server>, Missing>>>);

impl Servers {
    fn get(&self, name: &'static str) -> Result<Arc<Server>, Missing> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(name).or_insert_with(|| Server::start(name).map(Arc::new)).clone()
    }
}

impl Trials {
    /// A test that needs nothing.
    pub fn plain(&mut self, name: impl Into<String>, test: impl FnOnce() + Send + 'static) {
        self.trials.push(Trial::test(name, || caught(test)));
    }

    /// A test with a server that it shares with others: what it does there begins with a
    /// [`space`] of its own.
    pub fn needing(
        &mut self,
        server: &'static str,
        name: impl Into<String>,
        test: impl FnOnce(&Server) + Send + 'static,
    ) {
        let servers = Arc::clone(&self.servers);
        self.push(name, move || servers.get(server), move |server| done(|| test(&server)));
    }

    /// A test with a server of its own, which it may stop, kill and pause.
    pub fn owning(
        &mut self,
        server: &'static str,
        name: impl Into<String>,
        test: impl FnOnce(Server) + Send + 'static,
    ) {
        self.push(name, move || Server::start(server), move |server| done(|| test(server)));
    }

    /// Leaves a case of the kit out of a suite that is added later, because of what the server does
    /// and the engine would not; it is reported as ignored with this reason.
    pub fn leave_out(&mut self, suite: &'static str, case: &'static str, why: &'static str) {
        self.left_out.push((suite, case, why));
    }

    /// How long a case of the kit may take from now on, where a minute and a half is too short.
    pub fn patience(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// Every case of the kit, on tokio with one thread and with two, and on smol, with the broker
    /// that `open` opens; a case that is not applicable is reported as ignored.
    pub fn kit<O>(&mut self, server: &'static str, suite: &str, open: O)
    where
        O: Fn(SharedRuntime, String) -> BoxFuture<'static, Result<Fixture, Error>>,
        O: Clone + Send + Sync + 'static,
    {
        self.kit_on(server, (suite, "tokio_threads"), OnTokio::threads, open.clone());
        self.kit_singly(server, suite, open);
    }

    /// The same on executors of one thread alone, for servers that are too slow for more.
    pub fn kit_singly<O>(&mut self, server: &'static str, suite: &str, open: O)
    where
        O: Fn(SharedRuntime, String) -> BoxFuture<'static, Result<Fixture, Error>>,
        O: Clone + Send + Sync + 'static,
    {
        self.kit_on(server, (suite, "tokio"), OnTokio::current, open.clone());
        self.kit_on(server, (suite, "smol"), OnSmol::default, open);
    }

    fn kit_on<E, O>(
        &mut self,
        server: &'static str,
        (suite, on): (&str, &str),
        executor: fn() -> E,
        open: O,
    ) where
        E: Executor + 'static,
        O: Fn(SharedRuntime, String) -> BoxFuture<'static, Result<Fixture, Error>>,
        O: Clone + Send + Sync + 'static,
    {
        self.threads = Some(THREADS);
        for case in BROKER_CASES {
            let name = format!("{suite}_on_{on}::{}", case.name);
            let left_out = self.left_out.iter().find(|this| (this.0, this.1) == (suite, case.name));
            if let Some((.., why)) = left_out {
                let why = *why;
                let trial = move || Ok(Completion::ignored_with(why));
                self.trials.push(Trial::ignorable_test(name, trial));
                continue;
            }
            let (servers, open) = (Arc::clone(&self.servers), open.clone());
            let patience = self.patience;
            let of = move |server: Arc<Server>| {
                let url = server.url().to_owned();
                let subject = Subject { executor: executor(), open, url, patience };
                match run_broker_case(&subject, case) {
                    Verdict::Passed => Ok(Completion::Completed),
                    skipped @ Verdict::NotApplicable(_) => Ok(Completion::ignored_with(skipped)),
                    Verdict::Failed(failure) => {
                        let law = failure.law().unwrap_or(case.law);
                        Err(format!("{law} is broken: {failure}\n  {law} says: {}", law.text())
                            .into())
                    }
                }
            };
            self.push(name, move || servers.get(server), of);
        }
    }

    fn push<S>(
        &mut self,
        name: impl Into<String>,
        server: impl FnOnce() -> Result<S, Missing> + Send + 'static,
        test: impl FnOnce(S) -> Result<Completion, Failed> + Send + 'static,
    ) {
        self.trials.push(Trial::ignorable_test(name, move || match server() {
            Ok(server) => test(server),
            // On a build server nothing may be left out.
            Err(missing) if std::env::var_os("CI").is_some() => Err(missing.to_string().into()),
            Err(missing) => Ok(Completion::ignored_with(missing)),
        }));
    }
}

/// How many tests run at a time, unless it is said, where cases of the kit are among them: those wait
/// for their server more than they work.
const THREADS: usize = 4;

/// Runs the tests, ends the servers, and says how it went.
pub fn main(trials: Trials) -> ExitCode {
    let Trials { trials, servers, threads, .. } = trials;
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(threads);
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(servers);
    conclusion.exit_code()
}

/// Names that nobody else uses, in this process or in any other.
#[must_use]
pub fn space() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 8];
    Smol::global().fill_random(&mut random);
    let random = u64::from_le_bytes(random);
    format!("kit{:x}.{random:x}.{count}", std::process::id())
}

fn done(test: impl FnOnce()) -> Result<Completion, Failed> {
    caught(test).map(|()| Completion::Completed)
}

/// A panic is how a test fails.
fn caught(test: impl FnOnce()) -> Result<(), Failed> {
    catch_unwind(AssertUnwindSafe(test)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it panicked").into()
    })
}

/// What is put to the test: a broker over the server, opened by a function.
struct Subject<E, O> {
    executor: E,
    open: O,
    url: String,
    patience: Option<Duration>,
}

impl<E: Executor, O: Sync> Executor for Subject<E, O> {
    fn runtime(&self) -> Option<SharedRuntime> {
        self.executor.runtime()
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.executor.block_on(case);
    }

    // A server shares the machine with its clients.
    fn patience(&self) -> Duration {
        self.patience.unwrap_or(Duration::from_secs(90))
    }
}

impl<E, O> BrokerSubject for Subject<E, O>
where
    E: Executor,
    O: Fn(SharedRuntime, String) -> BoxFuture<'static, Result<Fixture, Error>> + Sync,
{
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let runtime = self.executor.runtime();
        Box::pin(async {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            Ok((self.open)(runtime, self.url.clone()).await?.pushes().shared(space()))
        })
    }
}
