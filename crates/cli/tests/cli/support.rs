//! Brokers and commands as child processes.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes that long, unless it hangs.
const HANGS: Duration = Duration::from_secs(30);

/// The command, to be given arguments.
pub(crate) fn posthaste() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command
        .env_remove("POSTHASTE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the command to its end.
pub(crate) fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    Running::of(posthaste().args(args)).end()
}

/// Waits until `fact` holds.
pub(crate) fn wait_for<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(began.elapsed() < HANGS, "waited in vain for {what}");
        thread::yield_now();
    }
}

/// A broker on one URL, whose books have to balance when it is dropped.
pub(crate) struct Broker {
    /// `None` once it has been told to end, or has.
    process: Option<Running>,
    told_to_end: Cell<bool>,
    pub(crate) url: String,
    pub(crate) folder: Option<TempDir>,
}

impl Broker {
    /// On any free TCP port.
    pub(crate) fn tcp() -> Self {
        Self::start(&["tcp://127.0.0.1:0"])
    }

    /// On a Unix socket in a folder of its own.
    pub(crate) fn unix() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("unix:{}", folder.path().join("ph.sock").display());
        let mut broker = Self::start(&[&url]);
        broker.folder = Some(folder);
        broker
    }

    /// With these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut process = Running::of(posthaste().arg("serve").args(args));
        let line = process.line();
        let url = line.strip_prefix("listening ").expect("a listening line");
        Self {
            url: url.to_owned(),
            process: Some(process),
            told_to_end: Cell::new(false),
            folder: None,
        }
    }

    /// A command against this broker.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = posthaste();
        command.args(args).env("POSTHASTE_URL", &self.url);
        command
    }

    /// Starts a command against this broker.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        Running::of(&mut self.command(args))
    }

    /// Starts a command that says when it is ready, and waits for that.
    pub(crate) fn spawn_ready(&self, args: &[&str]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let mut command = self.command(args);
        let mut running = Running::of(command.arg("--ready-file").arg(&ready));
        wait_for("the ready file", || {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none() || ready.exists(), "ended before it was ready: {ended:?}");
            ready.exists().then_some(())
        });
        running
    }

    /// Runs a command against this broker to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.spawn(args).end()
    }

    /// Runs a command against this broker to its end, with something on its stdin.
    pub(crate) fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ended {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(stdin).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        Running::of(self.command(args).stdin(file)).end()
    }

    /// What `stat` says.
    pub(crate) fn stat(&self) -> Value {
        self.run(&["stat", "--json"]).done().json()
    }

    /// The messages in a queue.
    pub(crate) fn messages(&self, queue: &str) -> Value {
        self.run(&["queue", "info", queue, "--json"]).done().json()["messages"].clone()
    }

    /// Kills the broker, which has no time to tidy up.
    pub(crate) fn kill(mut self) -> (String, Option<TempDir>) {
        self.check_books();
        self.process.take().unwrap().kill();
        (self.url.clone(), self.folder.take())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let ends_it = matches!(signal, Signal::TERM | Signal::INT);
        if ends_it && !self.told_to_end.replace(true) {
            self.check_books();
        }
        self.process.as_ref().unwrap().signal(signal);
    }

    /// A broker that is going to end is asked for its books once more.
    fn check_books(&self) {
        let stat = self.stat();
        let mut books = vec![&stat["ledger"]["balanced"]];
        books.extend(stat["queues"].as_array().unwrap().iter().map(|q| &q["ledger"]["balanced"]));
        assert!(books.iter().all(|this| **this == true), "the books do not balance: {stat}");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        self.process.take().unwrap().end()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.process.is_some() && !thread::panicking() {
            self.check_books();
        }
    }
}

/// A process that is killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout }
    }

    /// The next line of its stdout; empty at its end.
    pub(crate) fn line(&mut self) -> String {
        let pid = Pid::from_child(&self.child);
        let stdout = self.stdout.as_mut().unwrap();
        let mut line = String::new();
        let is_here = stdout.buffer().contains(&b'\n');
        let mut read = || stdout.read_line(&mut line).unwrap();
        if is_here {
            read()
        } else {
            watch(pid, read)
        };
        line.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("a piped stdin")
    }

    /// Closes the pipe from its stdout.
    pub(crate) fn stop_reading(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Waits for its end, and takes what it printed since the last line that was read.
    pub(crate) fn end(mut self) -> Ended {
        let (out, err) = (self.stdout.take(), self.child.stderr.take());
        let pid = Pid::from_child(&self.child);
        let (stdout, stderr) = watch(pid, || {
            let errors = thread::spawn(move || read(err));
            let stdout = read(out);
            let stderr = String::from_utf8(errors.join().unwrap()).unwrap();
            wait_until_dead(pid);
            (stdout, stderr)
        });
        Ended { code: self.child.wait().unwrap().code(), stdout, stderr }
    }
}

/// Waits for something of a process, and kills it if that takes too long. The process must not be
/// reaped meanwhile, so that the number is its own.
fn watch<T>(pid: Pid, wait: impl FnOnce() -> T) -> T {
    let (done, watched) = sync_channel::<()>(1);
    let watchdog = thread::spawn(move || {
        let hangs = watched.recv_timeout(HANGS).is_err();
        if hangs {
            let _ = kill_process(pid, Signal::KILL);
        }
        hangs
    });
    let value = wait();
    let _ = done.send(());
    assert!(!watchdog.join().unwrap(), "the command hung");
    value
}

/// Waits without reaping.
fn wait_until_dead(pid: Pid) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
}

fn read(from: Option<impl Read>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(mut from) = from {
        from.read_to_end(&mut all).unwrap();
    }
    all
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    /// It ended with this code; a failure is one sentence.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stderr: {}", self.stderr);
        if code != 0 {
            let sentence = self.stderr.strip_prefix("error: ");
            let sentence = sentence.unwrap_or_else(|| panic!("no error: {:?}", self.stderr));
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
        self
    }

    /// It ended well, and had nothing to complain about.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        let ended = self.with(0);
        assert_eq!(ended.stderr, "");
        ended
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

/// A file in a folder that goes with it.
pub(crate) fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, path)
}

pub(crate) fn touch(path: &Path) {
    File::create(path).unwrap();
}
