//! A process of a round, as the orchestrator sees it: started, asked, and ended whatever happens.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::control::{ASK_MARK, Mark, Said};
use crate::peer::Script;

/// How long a process may take until it is ready; RabbitMQ takes several seconds.
const START: Duration = Duration::from_secs(60);
/// How long a process may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a process may take to end; one that keeps a server has to end that first.
const STOP: Duration = Duration::from_secs(8);
/// How much of what a process wrote to stderr is shown when it failed.
const TAIL: usize = 400;

/// A role that is being played. Dropping it ends its process.
pub(crate) struct Process {
    role: String,
    child: Child,
    /// Its end tells the process to end.
    input: Option<ChildStdin>,
    said: Receiver<Said>,
    address: String,
    errors: PathBuf,
}

impl Process {
    /// Starts a process of this program that plays a role, and waits until it is ready.
    pub(crate) fn start(script: &Script) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role").arg(serde_json::to_string(script)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let role = script.role.clone();
        let errors = script.folder.join(format!("{role}.stderr"));
        command.stderr(File::create(&errors)?);
        let child = match script.work.pinned() {
            true => on_one_core(|| command.spawn())?,
            false => command.spawn(),
        };
        let mut child = child.with_context(|| format!("the {role} does not start"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let said = listen(output.context("the process has no output")?);
        let mut this = Self { role, child, input, said, address: String::new(), errors };
        match this.answer(START)? {
            Said::Ready(address) => this.address = address,
            _ => bail!("the {} says something else than that it is ready", this.role),
        }
        Ok(this)
    }

    /// Which role this is.
    pub(crate) fn role(&self) -> &str {
        &self.role
    }

    /// Where it can be reached.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where it stands now.
    pub(crate) fn mark(&mut self) -> Result<Mark> {
        if let Some(input) = &mut self.input {
            // If it cannot be told, it is gone, and has said why.
            let _ = writeln!(input, "{ASK_MARK}");
        }
        match self.answer(ANSWER)? {
            Said::Mark(mark) => Ok(mark),
            _ => bail!("the {} does not say where it stands", self.role),
        }
    }

    fn answer(&mut self, within: Duration) -> Result<Said> {
        let role = &self.role;
        match self.said.recv_timeout(within) {
            Ok(Said::Failed(why)) => bail!("the {role} failed: {why}{}", self.last_words()),
            Ok(said) => Ok(said),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the {role} hangs: no answer within {within:?}{}", self.last_words())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the {role} has ended{}", self.last_words())
            }
        }
    }

    /// The end of what it wrote to stderr.
    fn last_words(&self) -> String {
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let errors = errors.trim();
        let from = errors.len().saturating_sub(TAIL);
        match errors.get(from..).unwrap_or(errors) {
            "" => String::new(),
            tail => format!(": {tail}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.input.take();
        let until = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It has ended already, unless it hangs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process says, line by line.
fn listen(output: std::process::ChildStdout) -> Receiver<Said> {
    let (tell, said) = sync_channel(16);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let said = serde_json::from_str(&line)
                .unwrap_or_else(|_| Said::Failed(format!("it says {line:?}")));
            if tell.send(said).is_err() {
                break;
            }
        }
    });
    said
}

/// Starts a process that stays on the first core that may be used, because a process begins where
/// the thread that starts it may run.
fn on_one_core<T>(start: impl FnOnce() -> T) -> Result<T> {
    let allowed = sched_getaffinity(None)?;
    let core = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core));
    let mut one = CpuSet::new();
    one.set(core.context("there is no core to run on")?);
    sched_setaffinity(None, &one)?;
    let started = start();
    sched_setaffinity(None, &allowed)?;
    Ok(started)
}
