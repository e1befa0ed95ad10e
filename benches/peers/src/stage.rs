//! Where a role is played: what a process of a round knows, counts and says.

use std::future::Future;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use posthaste_measure::{Latency, Usage};

use crate::control::{ASK_MARK, Mark, Said};
use crate::executor::Engine;
use crate::keeper;
use crate::peer::Script;
use crate::peers;

/// What a role has at hand.
#[derive(Clone)]
pub(crate) struct Stage {
    script: Arc<Script>,
    done: Arc<Done>,
}

/// What this process has done.
#[derive(Default)]
struct Done {
    meters: Mutex<Vec<Meter>>,
    /// Since the last time that somebody asked.
    latency: Mutex<Latency>,
}

impl Stage {
    /// Plays the role of a script until the process is ended from outside.
    pub(crate) fn enter(script: &str) -> ExitCode {
        match Self::play(script) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        }
    }

    fn play(script: &str) -> Result<()> {
        let script: Script = serde_json::from_str(script).context("the script cannot be read")?;
        let peer = peers::find(&script.peer).context("there is no such peer")?;
        if let Some(program) = peer.program(&script)? {
            return keeper::keep(program);
        }
        let stage = Self { script: Arc::new(script), done: Arc::default() };
        let done = Arc::clone(&stage.done);
        std::thread::Builder::new().name("control".into()).spawn(move || listen(&done))?;
        peer.play(&stage)?;
        bail!("the {} came to an end by itself", stage.script.role)
    }

    /// What is to be done.
    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    /// Says that the next role may start, and where this one can be reached.
    pub(crate) fn ready(&self, address: impl Into<String>) {
        say(&Said::Ready(address.into()));
    }

    /// Where a role that was started before can be reached.
    pub(crate) fn address_of(&self, role: &str) -> Result<&str> {
        let mut addresses = self.script.addresses.iter();
        let found = addresses.find(|(this, _)| this == role);
        Ok(&found.with_context(|| format!("no {role} was started before"))?.1)
    }

    /// A counter for one task or thread; all of them together are what this process has done.
    pub(crate) fn meter(&self) -> Meter {
        let meter = Meter::default();
        self.done.meters.lock().unwrap_or_else(PoisonError::into_inner).push(meter.clone());
        meter
    }

    /// Counts answers, and how late they came.
    pub(crate) fn answers(&self) -> Answers {
        Answers { meter: self.meter(), done: Arc::clone(&self.done) }
    }

    /// A payload of the size that the work asks for.
    pub(crate) fn payload(&self) -> Bytes {
        Bytes::from(vec![7; self.script.work.size()])
    }

    /// Runs `task` on the executor of the script, which it is given.
    pub(crate) fn run<F>(&self, task: impl FnOnce(Engine) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Engine::run(self.script.executor, task)
    }
}

/// Counts what one task or thread does.
#[derive(Clone, Default)]
pub(crate) struct Meter(Arc<Line>);

/// On a cache line of its own, which only its task writes.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Meter {
    /// Counts `more`. A load and a store are enough, and cheap, because nobody else writes.
    pub(crate) fn add(&self, more: usize) {
        let count = self.0.0.load(Ordering::Relaxed);
        self.0.0.store(count + more as u64, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

/// Says what went wrong and ends the process.
pub(crate) fn fail(error: &anyhow::Error) -> ! {
    say(&Said::Failed(format!("{error:#}")));
    std::process::exit(1)
}

/// Counts answers, and how late they came.
pub(crate) struct Answers {
    meter: Meter,
    done: Arc<Done>,
}

impl Answers {
    /// Counts one more, which came so late.
    pub(crate) fn record(&mut self, late: Duration) {
        self.done.latency.lock().unwrap_or_else(PoisonError::into_inner).record(late);
        self.meter.add(1);
    }
}

/// Answers the orchestrator, and ends the process when it is gone or wants it to.
fn listen(done: &Done) {
    for line in std::io::stdin().lock().lines() {
        match line.as_deref() {
            Ok(ASK_MARK) => match done.mark() {
                Ok(mark) => say(&Said::Mark(mark)),
                Err(error) => fail(&error),
            },
            _ => break,
        }
    }
    std::process::exit(0);
}

impl Done {
    fn mark(&self) -> Result<Mark> {
        let count = {
            let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
            meters.iter().map(Meter::count).sum()
        };
        let latency = {
            let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *latency)
        };
        let mark = Mark::at(Usage::now()?.cpu, count);
        let latency = (!latency.is_empty()).then(|| latency.quantiles().into());
        Ok(Mark { latency, ..mark })
    }
}

/// Says something to the orchestrator.
pub(crate) fn say(said: &Said) {
    let line = serde_json::to_string(said).unwrap_or_default();
    let mut stdout = std::io::stdout().lock();
    // When nobody listens any more, the end of the input says so as well.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
