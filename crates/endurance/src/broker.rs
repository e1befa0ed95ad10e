//! The broker as a child process: started, stopped in the middle of what it does, and killed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid,
};

use crate::Failure;
use crate::ending::there;

/// Nothing here takes that long, unless it hangs.
pub(crate) const HANGS: Duration = Duration::from_secs(60);

/// How a broker is started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The command.
    pub(crate) posthaste: PathBuf,
    /// A command that runs it, and the arguments of that, if it is not to be run alone.
    pub(crate) under: Vec<String>,
}

impl Start {
    pub(crate) fn new(posthaste: &Path) -> Self {
        Self { posthaste: posthaste.to_owned(), under: Vec::new() }
    }

    /// Starts a broker on a folder, without waiting for it.
    pub(crate) fn spawn(&self, data: &Path) -> Result<Starting, Failure> {
        let mut command = match self.under.split_first() {
            Some((under, arguments)) => {
                let mut command = Command::new(under);
                command.args(arguments).arg(&self.posthaste);
                command
            }
            None => Command::new(&self.posthaste),
        };
        command
            .args(["serve", "tcp://127.0.0.1:0", "--data"])
            .arg(data)
            .env_remove("POSTHASTE_URL")
            .stdout(Stdio::piped());
        let began = Instant::now();
        let mut process = Process::start(&mut command)?;
        let stdout = process.child.stdout.take();
        Ok(Starting { process, stdout, began })
    }

    /// Starts a broker on a folder, and waits until it listens.
    pub(crate) fn run(&self, data: &Path) -> Result<Broker, Failure> {
        self.spawn(data)?.listening()
    }
}

/// A broker that may not listen yet.
#[derive(Debug)]
pub(crate) struct Starting {
    process: Process,
    stdout: Option<ChildStdout>,
    began: Instant,
}

impl Starting {
    /// Waits until it listens.
    pub(crate) fn listening(self) -> Result<Broker, Failure> {
        self.outcome()?.map_err(|(status, said)| {
            format!("the broker did not start ({status}): {}", said.trim()).into()
        })
    }

    /// Waits until it listens, or has ended with something to say.
    pub(crate) fn outcome(mut self) -> Result<Result<Broker, (ExitStatus, String)>, Failure> {
        let line = self.stdout.as_mut().map_or(Ok(String::new()), |out| read_line(out, HANGS))?;
        let recovery = self.began.elapsed();
        if let Some(url) = line.strip_prefix("listening ") {
            let (process, stdout) = (self.process, self.stdout);
            let url = url.to_owned();
            return Ok(Ok(Broker { process, _stdout: stdout, url, recovery }));
        }
        // Its end is near, unless it hangs.
        let status = self.process.end(HANGS)?;
        Ok(Err((status, self.process.said())))
    }

    /// Stops it where it is, unless it has ended.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.process.stop()
    }

    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.process.kill()?;
        Ok(())
    }
}

/// A broker that listens.
#[derive(Debug)]
pub(crate) struct Broker {
    process: Process,
    /// Kept open, so that a line more does not end it.
    _stdout: Option<ChildStdout>,
    /// Where it listens.
    pub(crate) url: String,
    /// How long it took until it did.
    pub(crate) recovery: Duration,
}

impl Broker {
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Stops it where it is; once this returns, none of its threads runs.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.process.stop()
    }

    /// Kills it, and says what it had to say.
    pub(crate) fn kill(&mut self) -> Result<String, Failure> {
        self.process.kill()?;
        Ok(self.process.said())
    }

    /// Asks it to end, waits for that, and says what it had to say. Connections to it go on meanwhile:
    /// it ends sooner when they do.
    pub(crate) async fn terminate(&mut self) -> Result<(ExitStatus, String), Failure> {
        let ended = self.process.descriptor()?;
        kill_process(self.process.pid(), Signal::TERM)?;
        // One that hangs is killed below.
        tokio::task::spawn_blocking(move || readable(&ended, HANGS)).await??;
        let status = self.process.end(Duration::ZERO)?;
        Ok((status, self.process.said()))
    }
}

/// A child process, which is killed and reaped when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stderr: File,
    reaped: Option<ExitStatus>,
}

impl Process {
    /// Starts one of which nobody reads what it says, unless it fails.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, Failure> {
        Self::start(command.stdout(Stdio::null()))
    }

    fn start(command: &mut Command) -> Result<Self, Failure> {
        let stderr = tempfile::tempfile()?;
        let command = command.stdin(Stdio::null()).stderr(stderr.try_clone()?);
        let child = there().start(command);
        let child = child.map_err(|error| {
            let name = command.get_program().to_string_lossy();
            match error.kind() {
                io::ErrorKind::NotFound => format!("there is no {name} here"),
                _ => format!("cannot run {name}: {error}"),
            }
        })?;
        Ok(Self { child, stderr, reaped: None })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        if self.reaped.is_none() {
            self.reaped = self.child.try_wait()?;
            if self.reaped.is_some() {
                there().ended(&self.child);
            }
        }
        Ok(self.reaped.is_some())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn stop(&self) -> Result<(), Failure> {
        kill_process(self.pid(), Signal::STOP)?;
        let facts = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid()), facts)?;
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        if self.reaped.is_none() {
            self.child.kill()?;
            self.reaped = Some(self.child.wait()?);
            there().ended(&self.child);
        }
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus, Failure> {
        kill_process(self.pid(), Signal::TERM)?;
        self.end(HANGS)
    }

    /// What becomes readable when it has ended.
    fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(pidfd_open(self.pid(), PidfdFlags::empty())?)
    }

    /// Waits for its end.
    fn end(&mut self, within: Duration) -> Result<ExitStatus, Failure> {
        if !readable(&self.descriptor()?, within)? {
            self.kill()?;
            return Err("the broker did not end, and was killed".into());
        }
        let status = self.child.wait()?;
        self.reaped = Some(status);
        there().ended(&self.child);
        Ok(status)
    }

    /// What it wrote to its stderr.
    pub(crate) fn said(&mut self) -> String {
        let mut said = Vec::new();
        let read = io::Seek::rewind(&mut self.stderr)
            .and_then(|()| self.stderr.read_to_end(&mut said).map(drop));
        match read {
            Ok(()) => String::from_utf8_lossy(&said).into_owned(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Whether there is something to be read in time.
pub(crate) fn readable(from: &impl AsFd, within: Duration) -> io::Result<bool> {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&timeout)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The first line, or what there is of it at the end.
fn read_line(from: &mut ChildStdout, within: Duration) -> Result<String, Failure> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        if !readable(from, within)? {
            return Err(format!("the broker said nothing for {within:?}").into());
        }
        let mut byte = [0];
        if from.read(&mut byte)? == 0 {
            break;
        }
        line.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
