//! The commands, one module each, and the runtime that each of them runs on.

mod bench;
mod bridge;
mod caps;
mod completions;
mod conformance;
mod dlq;
mod log;
mod publish;
mod queue;
mod recv;
mod reply;
mod request;
mod send;
mod serve;
mod stat;
mod subscribe;

use std::future::Future;
use std::io;

use clap::Subcommand;
use tokio::runtime::Builder;

use crate::exit::{Code, Failure, install_panic_hook};

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::ServeArgs),
    Pub(publish::PubArgs),
    Sub(subscribe::SubArgs),
    Send(send::SendArgs),
    Recv(recv::RecvArgs),
    Request(request::RequestArgs),
    Reply(reply::ReplyArgs),
    Queue(queue::QueueArgs),
    Dlq(dlq::DlqArgs),
    Log(log::LogArgs),
    Stat(stat::StatArgs),
    Bench(bench::BenchArgs),
    Bridge(bridge::BridgeArgs),
    Conformance(conformance::ConformanceArgs),
    Caps(caps::CapsArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs a command to its end.
pub(crate) fn run(command: Command) -> Code {
    let outcome = match command {
        Command::Serve(args) => on_threads(serve::run(args)),
        Command::Pub(args) => on_this_thread(publish::run(args)),
        Command::Sub(args) => on_this_thread(subscribe::run(args)),
        Command::Send(args) => on_this_thread(send::run(args)),
        Command::Recv(args) => on_this_thread(recv::run(args)),
        Command::Request(args) => on_this_thread(request::run(args)),
        Command::Reply(args) => on_this_thread(reply::run(args)),
        Command::Queue(args) => on_this_thread(queue::run(args)),
        Command::Dlq(args) => on_this_thread(dlq::run(args)),
        Command::Log(args) => on_this_thread(log::run(args)),
        Command::Stat(args) => on_this_thread(stat::run(args)),
        Command::Bench(args) => on_threads(bench::run(args)),
        Command::Bridge(args) => on_this_thread(bridge::run(args)),
        Command::Conformance(args) => conformance::run(args),
        Command::Caps(args) => on_this_thread(caps::run(args)),
        Command::Completions(args) => completions::run(&args),
    };
    match outcome {
        Ok(()) => Code::Done,
        Err(failure) => failure.report(),
    }
}

/// A client has one connection and mostly waits: one thread spares it the wake-ups of another.
/// A panic is its end.
fn on_this_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    install_panic_hook(|| Code::Failed.exit());
    run_on(&mut Builder::new_current_thread(), work)
}

/// A broker has many connections, and the measuring of one has both of its ends: they use every
/// core, and at least two threads, so that one busy connection does not hold up the others. A
/// panic ends its own connection alone, unless it is the command's own.
fn on_threads(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    install_panic_hook(|| {
        if std::thread::current().name() == Some("main") {
            Code::Failed.exit();
        }
    });
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    run_on(Builder::new_multi_thread().worker_threads(threads), work)
}

fn run_on(
    builder: &mut Builder,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::new(Code::Failed, format!("cannot start: {error}"));
    let runtime = builder.enable_all().build().map_err(cannot)?;
    let outcome = runtime.block_on(work);
    // Threads that read a terminal or write to a full pipe end with the process.
    runtime.shutdown_background();
    outcome
}
