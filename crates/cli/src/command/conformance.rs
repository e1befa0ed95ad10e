//! `posthaste conformance`: holds a running broker to the laws.

use std::fmt::Write;
use std::io;
use std::mem;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use posthaste::{BoxFuture, Bus, Error, RESERVED_PREFIX, Reconnect, Runtime, SharedRuntime};
use posthaste_conformance::{
    BROKER_CASES, BrokerSubject, Executor, Fixture, LocalFuture, run_broker,
};
use posthaste_tokio::Tokio;

use crate::args::{BrokerArgs, TargetArgs};
use crate::connect;
use crate::exit::{Code, Failure};
use crate::output::print_line;

/// Hold a running broker to the laws of the conformance kit
///
/// Prints the capability card and how each case ended, and exits with 1 if one failed. Others may
/// use the broker meanwhile: everything happens under names that nobody else uses, and what is
/// left is removed. With memory: each case has a broker of its own.
#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print one JSON object: backend, capabilities, results, passed, failed, not_applicable, laws,
    /// cases
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: ConformanceArgs) -> Result<(), Failure> {
    let subject = Subject::new(args.target.into_broker())?;
    // Why there is no broker to be had is known before every case fails for it.
    subject.tokio.block_on(subject.connect())?;
    // A panic is the failure of its case, and in the report.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let report = run_broker(&subject);
    panic::set_hook(hook);
    subject.progress.finish_and_clear();
    subject.tokio.block_on(subject.clean_up());
    print_line(&match args.json {
        true => report.to_json(),
        false => report.to_string(),
    })?;
    let broken = report.broken_laws();
    if broken.is_empty() {
        return Ok(());
    }
    let laws: Vec<_> = broken.iter().map(ToString::to_string).collect();
    Err(Failure::new(Code::Failed, format!("broken laws: {}", laws.join(", "))))
}

/// A broker that runs somewhere, and is connected to anew for each case.
struct Subject {
    tokio: tokio::runtime::Runtime,
    broker: BrokerArgs,
    /// What the names of this run begin with.
    space: String,
    opened: AtomicU64,
    /// The connections of the case that runs.
    connected: Mutex<Vec<Bus>>,
    progress: ProgressBar,
}

impl Subject {
    fn new(broker: BrokerArgs) -> Result<Self, Failure> {
        let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let cannot =
            |error: io::Error| Failure::new(Code::Failed, format!("cannot start: {error}"));
        let tokio = tokio.map_err(cannot)?;
        let mut random = [0; 8];
        Tokio::new(tokio.handle().clone()).fill_random(&mut random);
        // Those who subscribe to everything do not see what begins like that.
        let mut space = format!("{RESERVED_PREFIX}conformance.");
        for byte in random {
            // Writing to a string does not fail.
            let _ = write!(space, "{byte:02x}");
        }
        let progress = ProgressBar::new(BROKER_CASES.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} case {pos} of {len}") {
            progress.set_style(style);
        }
        Ok(Self {
            tokio,
            broker,
            space,
            opened: AtomicU64::new(0),
            connected: Mutex::default(),
            progress,
        })
    }

    async fn connect(&self) -> Result<Bus, Failure> {
        connect::connect(&self.broker, Reconnect::Never).await
    }

    /// Waits until the broker has seen the last case leave.
    async fn leave(&self) {
        let connected = mem::take(&mut *self.connected.lock());
        for bus in connected {
            connect::goodbye(&bus).await;
        }
    }

    /// Removes what the cases have left.
    async fn clean_up(&self) {
        self.leave().await;
        let Ok(bus) = self.connect().await else { return };
        let queues = bus.stats().await.map(|stats| stats.queues).unwrap_or_default();
        for queue in queues.iter().filter(|this| this.name.as_str().starts_with(&self.space)) {
            // One that is gone meanwhile need not be removed.
            let _ = bus.delete(&queue.name).await;
        }
        connect::goodbye(&bus).await;
    }
}

impl Executor for Subject {
    fn runtime(&self) -> Option<SharedRuntime> {
        Some(Tokio::new(self.tokio.handle().clone()).into())
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.tokio.block_on(case);
    }
}

impl BrokerSubject for Subject {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(async {
            self.progress.inc(1);
            self.leave().await;
            let connecting = || {
                posthaste::connect(Tokio::current(), &self.broker.url)
                    .connect_timeout(self.broker.connect.connect_timeout)
            };
            let one = connecting().await?;
            if self.broker.url == "memory:" {
                return Ok(Fixture::new(one.broker().clone()));
            }
            let other = connecting().await?;
            let number = self.opened.fetch_add(1, Ordering::Relaxed);
            *self.connected.lock() = vec![one.clone(), other.clone()];
            Ok(Fixture::new(one.broker().clone())
                .peer(other.broker().clone())
                .pushes()
                .shared(format!("{}.{number}", self.space)))
        })
    }
}
