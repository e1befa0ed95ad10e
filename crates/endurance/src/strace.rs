//! System calls of a broker that fail on command, and a log of how they went.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;

/// A system call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which one.
    pub(crate) call: &'static str,
    /// Which time in a thread, from 1 on.
    pub(crate) nth: usize,
}

impl Fault {
    /// What makes strace inject it, and log this and when something was synced.
    fn arguments(self, log: &Path) -> Vec<String> {
        let mut arguments = trace(&format!("{},fdatasync", self.call), log);
        arguments.push(format!("--inject={}:error=EIO:when={}", self.call, self.nth));
        arguments
    }

    /// A command under which a broker is started.
    pub(crate) fn around(self, log: &Path) -> Vec<String> {
        // The tracer is a grandchild, so that the child is the broker itself.
        let mut command = vec!["strace".to_owned(), "-D".to_owned()];
        command.extend(self.arguments(log));
        command
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.call, self.nth)
    }
}

/// A command under which a broker is started and its system calls are logged.
pub(crate) fn logged(calls: &str, log: &Path) -> Vec<String> {
    let mut command = vec!["strace".to_owned(), "-D".to_owned()];
    command.extend(trace(calls, log));
    command
}

fn trace(calls: &str, log: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = ["-f", "-qq", "-ttt", "-T"].map(str::to_owned).into();
    arguments.push(format!("--trace={calls}"));
    arguments.extend(["-o".to_owned(), log.to_string_lossy().into_owned()]);
    arguments
}

/// Whether there is a strace that can do this.
pub(crate) fn lacks_strace() -> Option<String> {
    let asked = Command::new("strace").arg("--version").output();
    match asked {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace does not run here: {}", output.status)),
        Err(error) => Some(format!("there is no strace here: {error}")),
    }
}

/// A strace that is attached to a process, until one of them ends.
#[derive(Debug)]
pub(crate) struct Attached {
    strace: Child,
}

impl Attached {
    /// Attaches to a running process, and waits until every thread of it is watched.
    pub(crate) fn new(pid: Pid, fault: Fault, log: &Path) -> Result<Self, Failure> {
        // Not quite quiet: it says when it is attached.
        let arguments = fault.arguments(log).into_iter().filter(|this| this != "-qq");
        let strace = Command::new("strace")
            .args(arguments)
            .arg(format!("--attach={}", pid.as_raw_nonzero()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut this = Self { strace };
        let threads = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()))?.count();
        let mut stderr = this.strace.stderr.take().map(BufReader::new);
        let (mut attached, mut said) = (0, String::new());
        while let Some(stderr) = &mut stderr
            && attached < threads
        {
            let from = said.len();
            if stderr.read_line(&mut said)? == 0 {
                return Err(format!("strace does not attach: {}", said.trim()).into());
            }
            let line = &said[from..];
            // One line for each thread, or one for all of them.
            attached += if line.contains("threads") { threads } else { 1 };
        }
        // What it says later is nobody's concern, but it has to be able to say it.
        this.strace.stderr = stderr.map(BufReader::into_inner);
        Ok(this)
    }

    /// Waits for its end, which comes with that of the process.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.strace.wait()?;
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Ok(None) = self.strace.try_wait() {
            let _ = kill_process(Pid::from_child(&self.strace), Signal::TERM);
            let _ = self.strace.wait();
        }
    }
}

/// What a log says.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Whether a call failed on command.
    pub(crate) injected: bool,
    /// From when to when each sync that was none in vain took, since the Unix epoch.
    syncs: Vec<(Duration, Duration)>,
}

/// How exact the times are that strace prints.
const BLUR: Duration = Duration::from_millis(1);

impl Trace {
    /// Reads a log; nothing, if there is none.
    pub(crate) fn read(log: &Path) -> Result<Self, Failure> {
        let mut trace = Self::default();
        let Ok(text) = fs::read(log) else { return Ok(trace) };
        for line in String::from_utf8_lossy(&text).lines() {
            trace.injected |= line.contains("(INJECTED)");
            if line.contains("fdatasync") && line.contains("= 0 <") {
                trace.syncs.extend(interval(line));
            }
        }
        Ok(trace)
    }

    /// Whether something was synced, from beginning to end, in that time.
    pub(crate) fn synced(&self, from: Duration, to: Duration) -> bool {
        let (from, to) = (from.saturating_sub(BLUR), to + BLUR);
        self.syncs.iter().any(|(began, ended)| *began >= from && *ended <= to)
    }
}

/// From when to when the call of a line took.
fn interval(line: &str) -> Option<(Duration, Duration)> {
    let stamp = Duration::try_from_secs_f64(line.split_whitespace().nth(1)?.parse().ok()?).ok()?;
    let took = line.rsplit_once('<')?.1.trim_end_matches('>');
    let took = Duration::try_from_secs_f64(took.parse().ok()?).ok()?;
    // The stamp of a call that was logged in two pieces is that of its end here.
    match line.contains("resumed>") {
        true => Some((stamp.saturating_sub(took), stamp)),
        false => Some((stamp, stamp + took)),
    }
}

/// Which times of a call in a thread had to do with a folder, out of a log: it is named there, or was
/// before and the call is about a file that is open. What comes before loads the program.
pub(crate) fn times(log: &Path, call: &str, folder: &Path) -> Result<Vec<usize>, Failure> {
    let text = fs::read(log)?;
    let named = folder.to_string_lossy();
    let mut began = false;
    let (mut threads, mut times, mut others) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for line in String::from_utf8_lossy(&text).lines() {
        began |= line.contains(&*named);
        let mut words = line.split_whitespace();
        let (Some(thread), Some(what)) = (words.next(), words.nth(1)) else { continue };
        let Some(arguments) = what.strip_prefix(call).and_then(|rest| rest.strip_prefix('('))
        else {
            continue;
        };
        let nth = threads.entry(thread.to_owned()).or_insert(0_usize);
        *nth += 1;
        let by_descriptor = arguments.starts_with(|byte: char| byte.is_ascii_digit());
        if by_descriptor && began || line.contains(&*named) {
            times.insert(*nth);
        } else {
            others.insert(*nth);
        }
    }
    // What would hit something else in another thread is of no use.
    Ok(times.difference(&others).copied().collect())
}
