//! Keeps a server that is a program of its own: starts it, speaks for it, and ends it, also when
//! the orchestrator is gone.

use std::io::BufRead;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use posthaste_measure::Usage;
use rustix::process::{Pid, Signal, kill_process};

use crate::control::{ASK_MARK, Mark, Said};
use crate::peer::Program;
use crate::stage::say;

/// How long a server may take until it is ready; RabbitMQ takes several seconds.
const START: Duration = Duration::from_secs(50);
/// How long a server may take to end once it was told to.
const STOP: Duration = Duration::from_secs(5);
/// How often a server is looked at while it starts or ends.
const LOOK: Duration = Duration::from_millis(10);

/// Runs a server until nobody wants it any more.
pub(crate) fn keep(program: Program) -> Result<()> {
    let Program { mut command, address, pid_file } = program;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut server = Server { pid: child.id(), child };
    server.wait_until_it_listens(&address, pid_file.as_deref())?;
    say(&Said::Ready(address));
    for line in std::io::stdin().lock().lines() {
        if line? != ASK_MARK {
            break;
        }
        server.ensure_it_runs()?;
        say(&Said::Mark(Mark::at(Usage::of_process(server.pid)?.cpu, 0)));
    }
    drop(server);
    std::process::exit(0)
}

/// A server that runs. Dropping it ends it.
struct Server {
    child: Child,
    /// The process that does the work: the child, or one that the child started.
    pid: u32,
}

impl Server {
    fn wait_until_it_listens(&mut self, address: &str, pid_file: Option<&Path>) -> Result<()> {
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() || !self.is_known(pid_file) {
            self.ensure_it_runs()?;
            ensure!(Instant::now() < until, "it does not listen after {START:?}");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Whether it is known which process does the work; the file that says so may still be empty.
    fn is_known(&mut self, pid_file: Option<&Path>) -> bool {
        let Some(path) = pid_file else {
            return true;
        };
        let pid = std::fs::read_to_string(path).ok().and_then(|pid| pid.trim().parse().ok());
        self.pid = pid.unwrap_or(self.pid);
        pid.is_some()
    }

    fn ensure_it_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it has ended ({status})"),
            None => Ok(()),
        }
    }
}

impl Drop for Server {
    /// Gives it the time to end what it started itself.
    fn drop(&mut self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let told = pid.map(|pid| kill_process(pid, Signal::TERM));
        let until = Instant::now() + STOP;
        while told == Some(Ok(())) && Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        // Either may have ended just now.
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
