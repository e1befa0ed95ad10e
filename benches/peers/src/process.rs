//! A process of a round, as the orchestrator sees it: started, asked, and ended whatever happens.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use posthaste_measure::Usage;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::control::{ASK_MARK, Mark, Said};
use crate::peer::{Program, Script};

/// How long a process may take until it is ready; RabbitMQ takes several seconds.
const START: Duration = Duration::from_secs(60);
/// How long a process may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a server may take to end once it was told to.
const STOP: Duration = Duration::from_secs(5);
/// How much of what a process wrote to stderr is shown when it failed.
const TAIL: usize = 400;

/// A role that is being played. Dropping it ends its process.
pub(crate) struct Process {
    role: String,
    child: Child,
    /// The process that does the work: the child, or one that the child started.
    server: u32,
    address: String,
    errors: PathBuf,
    talk: Option<Talk>,
}

/// The line to a process that is one of ours.
struct Talk {
    input: ChildStdin,
    said: Receiver<Said>,
}

impl Process {
    /// Starts a process of this program that plays a role, and waits until it is ready.
    pub(crate) fn role(script: &Script) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("role").arg(serde_json::to_string(script)?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut this = Self::spawn(command, script)?;
        let input = this.child.stdin.take().context("the process has no input")?;
        let output = this.child.stdout.take().context("the process has no output")?;
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
        this.talk = Some(Talk { input, said });
        match this.answer(START)? {
            Said::Ready(address) => this.address = address,
            _ => bail!("the {} says something else than that it is ready", this.role),
        }
        Ok(this)
    }

    /// Starts a server that is a program of its own, and waits until it accepts connections.
    pub(crate) fn program(program: Program, script: &Script) -> Result<Self> {
        let mut command = program.command;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut this = Self::spawn(command, script)?;
        this.address = program.address;
        let until = Instant::now() + START;
        while TcpStream::connect(&this.address).is_err() || !this.knows_server(&program.pid_file) {
            if let Some(status) = this.child.try_wait()? {
                bail!("the {} ended ({status}){}", this.role, this.last_words());
            }
            if Instant::now() > until {
                bail!("the {} does not listen after {START:?}", this.role);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(this)
    }

    fn spawn(mut command: Command, script: &Script) -> Result<Self> {
        let role = script.role.clone();
        let errors = script.folder.join(format!("{role}.stderr"));
        command.stderr(File::create(&errors)?);
        let child = match script.work.pinned() {
            true => on_one_core(|| command.spawn())?,
            false => command.spawn(),
        };
        let child = child.with_context(|| format!("the {role} does not start"))?;
        let (server, address) = (child.id(), String::new());
        Ok(Self { role, child, server, address, errors, talk: None })
    }

    /// Whether it is known which process does the work; the file that says so may still be empty.
    fn knows_server(&mut self, pid_file: &Option<PathBuf>) -> bool {
        let Some(path) = pid_file else {
            return true;
        };
        let pid = std::fs::read_to_string(path).ok().and_then(|pid| pid.trim().parse().ok());
        self.server = pid.unwrap_or(self.server);
        pid.is_some()
    }

    /// Which role this is.
    pub(crate) fn name(&self) -> &str {
        &self.role
    }

    /// Where it can be reached.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Where it stands now.
    pub(crate) fn mark(&mut self) -> Result<Mark> {
        let Some(talk) = &mut self.talk else {
            let used = Usage::of_process(self.server)?;
            return Ok(Mark::at(used.cpu, 0));
        };
        // If it cannot be told, it is gone, and has said why.
        let _ = writeln!(talk.input, "{ASK_MARK}");
        match self.answer(ANSWER)? {
            Said::Mark(mark) => Ok(mark),
            _ => bail!("the {} does not say where it stands", self.role),
        }
    }

    fn answer(&mut self, within: Duration) -> Result<Said> {
        let talk = self.talk.as_ref().context("there is nobody to ask")?;
        match talk.said.recv_timeout(within) {
            Ok(Said::Failed(why)) => bail!("the {} failed: {why}", self.role),
            Ok(said) => Ok(said),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the {} hangs: no answer within {within:?}{}", self.role, self.last_words())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                bail!("the {} ended ({status}){}", self.role, self.last_words())
            }
        }
    }

    /// The end of what it wrote to stderr.
    fn last_words(&self) -> String {
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        let errors = errors.trim();
        let from = errors.len().saturating_sub(TAIL);
        match errors.get(from..).or(Some(errors)) {
            Some("") | None => String::new(),
            Some(tail) => format!(": {tail}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.talk.take().is_none() {
            self.terminate();
        }
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Gives a server the time to end what it started itself.
    fn terminate(&mut self) {
        let pid = i32::try_from(self.server).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else {
            return;
        };
        let told = kill_process(pid, Signal::TERM);
        let until = Instant::now() + STOP;
        while told.is_ok() && Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // It may have ended just now.
        let _ = kill_process(pid, Signal::KILL);
    }
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
