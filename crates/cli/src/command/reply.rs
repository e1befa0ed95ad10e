//! `posthaste reply`: answers requests.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use clap::Args;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use posthaste::limits::PAYLOAD_BYTES_MAX;
use posthaste::{Error, Reconnect, Request, Responder};
#[cfg(unix)]
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::args::BrokerArgs;
use crate::connect;
use crate::exit::{Code, Failure};
use crate::signals::Signals;
use crate::take::announce;

/// How many requests are echoed at a time.
const ECHOES: usize = 256;
/// How much of a command's stderr is looked at: its end.
const STDERR_TAIL: usize = 8 << 10;

/// Answer requests; several responders share them
///
/// Responders of one topic share its requests: each goes to one of them. On a signal, what is in
/// hand is still answered. A command whose requester has given up, or whose deadline has passed, is
/// killed.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("answer").required(true).args(["echo", "exec"]))]
pub(crate) struct ReplyArgs {
    /// The topic, or a pattern of topics
    topic: String,
    /// Answer with the request's payload
    #[arg(long)]
    echo: bool,
    /// Answer with what CMD writes to stdout when the shell runs it with the payload as its stdin;
    /// if it fails, with an error: the last line of its stderr
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Share the requests with the responders of this group
    #[arg(long, value_name = "G", default_value = "responders")]
    group: String,
    /// How many commands may run at a time
    #[arg(long, value_name = "N", default_value = "4")]
    concurrency: NonZeroUsize,
    /// Create this file once requests can come
    #[arg(long, value_name = "F")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    broker: BrokerArgs,
}

pub(crate) async fn run(args: ReplyArgs) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let pattern = posthaste::Pattern::new(&args.topic)?;
    let group = posthaste::Topic::new(&args.group)?;
    let bus = connect::connect(&args.broker, Reconnect::Forever).await?;
    let at_a_time = match args.exec {
        Some(_) => args.concurrency.get(),
        None => ECHOES,
    };
    let serve = bus.serve(pattern).group(group).concurrency(at_a_time);
    let responder = serve.open().await?;
    if let Some(ready_file) = &args.ready_file {
        announce(ready_file)?;
    }
    let left = args.count.unwrap_or(u64::MAX);
    let outcome = match &args.exec {
        None => answer_all(responder, signals, at_a_time, left, echo).await,
        Some(command) => {
            let handler = |request| execute(request, command);
            answer_all(responder, signals, at_a_time, left, handler).await
        }
    };
    connect::goodbye(&bus).await;
    outcome
}

/// Answers `left` requests, `at_a_time`, or until a signal; what is in hand is always answered.
async fn answer_all<F: Future<Output = Result<(), Error>>>(
    mut responder: Responder,
    mut signals: Signals,
    at_a_time: usize,
    mut left: u64,
    handler: impl Fn(Request) -> F,
) -> Result<(), Failure> {
    let mut in_hand = FuturesUnordered::new();
    let mut outcome = Ok(());
    while left > 0 {
        tokio::select! {
            request = responder.recv(), if in_hand.len() < at_a_time => match request {
                Ok(Some(request)) => {
                    left -= 1;
                    in_hand.push(handler(request));
                }
                Ok(None) => {
                    let text = "the broker ended the subscription: it is going away";
                    outcome = Err(Failure::new(Code::Failed, text));
                    break;
                }
                Err(error) => {
                    outcome = Err(error.into());
                    break;
                }
            },
            Some(answered) = in_hand.next() => remark(answered),
            () = signals.next() => break,
        }
    }
    // What has come and was not looked at goes to the other responders at once.
    drop(responder);
    while !in_hand.is_empty() {
        tokio::select! {
            Some(answered) = in_hand.next() => remark(answered),
            () = signals.next() => {
                let text = "ended by a second signal while requests were being answered";
                return Err(Failure::new(Code::Failed, text));
            }
        }
    }
    outcome
}

/// One answer that could not be sent is no reason to stop answering.
fn remark(answered: Result<(), Error>) {
    if let Err(error) = answered {
        tracing::warn!(%error, "an answer could not be sent");
    }
}

async fn echo(request: Request) -> Result<(), Error> {
    let payload = request.payload().clone();
    request.reply(payload).await
}

/// Runs the command, for as long as somebody waits for what it writes.
async fn execute(request: Request, command: &str) -> Result<(), Error> {
    let outcome = tokio::select! {
        outcome = output_of(command, request.payload().clone()) => outcome,
        () = request.cancelled() => {
            tracing::info!(topic = %request.topic(), "nobody waits for the answer any more");
            request.drop_unwanted();
            return Ok(());
        }
    };
    match outcome {
        Ok(stdout) => request.reply(stdout).await,
        Err(text) => {
            tracing::info!(%text, "the command failed");
            request.fail(text).await
        }
    }
}

/// What `command` writes to stdout, or one line on why it failed.
async fn output_of(command: &str, stdin: Bytes) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot run {command:?}: {error}");
    let mut child = shell(command).spawn().map_err(cannot)?;
    let group = Group::of(&child);
    let (into, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feeding = async {
        if let Some(mut into) = into {
            // A command need not read its stdin to the end.
            let _ = into.write_all(&stdin).await;
        }
        Ok(())
    };
    let reading = async {
        let Some(out) = out else {
            return Ok(Vec::new());
        };
        read_all(out).await.map_err(cannot)?.ok_or_else(|| {
            format!("{command:?} wrote more than a reply may hold ({PAYLOAD_BYTES_MAX} bytes)")
        })
    };
    let reasoning = async {
        match err {
            Some(err) => read_tail(err).await.map_err(cannot),
            None => Ok(Vec::new()),
        }
    };
    // An error, or a drop of this future, kills the child and what it has started.
    let (status, (), stdout, stderr) = tokio::try_join!(
        async { child.wait().await.map_err(cannot) },
        feeding,
        reading,
        reasoning
    )?;
    group.release();
    if status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&stderr);
    let last = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
    Err(last.map_or_else(|| fate(command, status), str::to_owned))
}

fn shell(command: &str) -> Command {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut shell = Command::new(shell);
    shell
        .args([flag, command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // A Ctrl-C in the terminal ends this program, which then finishes what is in hand: it must
    // not reach the commands in hand as well.
    #[cfg(unix)]
    shell.process_group(0);
    shell
}

/// What a shell has started besides itself, which dies with it.
struct Group {
    #[cfg(unix)]
    leader: Option<Pid>,
}

impl Group {
    /// The process group of a child that leads one.
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { leader: id.and_then(Pid::from_raw) }
    }

    #[cfg(not(unix))]
    fn of(_child: &Child) -> Self {
        Self {}
    }

    /// Lets live what the shell has left behind on purpose.
    #[cfg_attr(not(unix), expect(unused_mut))]
    fn release(mut self) {
        #[cfg(unix)]
        self.leader.take();
    }
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // The child is not reaped while this is here, so the number is still its own.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Everything, or `None` if that is more than a payload may be.
async fn read_all(from: impl AsyncRead + Unpin) -> io::Result<Option<Vec<u8>>> {
    let limit = u64::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u64::MAX);
    let mut all = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut all).await?;
    Ok(Some(all).filter(|all| all.len() <= PAYLOAD_BYTES_MAX))
}

/// The end of what there is to read.
async fn read_tail(mut from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut tail = Vec::new();
    while from.read_buf(&mut tail).await? > 0 {
        if tail.len() > 2 * STDERR_TAIL {
            tail.drain(..tail.len() - STDERR_TAIL);
        }
    }
    Ok(tail)
}

fn fate(command: &str, status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("{command:?} was ended by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("{command:?} exited with {code}"),
        None => format!("{command:?} ended without an exit code"),
    }
}
