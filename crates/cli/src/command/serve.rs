//! `posthaste serve`: runs a broker.

use std::error::Error as _;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use posthaste::log::{Flaw, LogError};
use posthaste::runtime::blocking;
use posthaste::transport::Endpoint;
use posthaste::{
    Broker, Durable, Error, ErrorKind, Folder, LogOptions, Memory, Reconnect, Server,
    ServerOptions, SharedRuntime,
};
use posthaste_tokio::Tokio;

use crate::args::{BrokerArgs, ConnectArgs, DEFAULT_URL, parse_url};
use crate::connect;
use crate::duration;
use crate::exit::{Code, Failure, note};
use crate::output::print_line;
use crate::signals::Signals;

/// Run a broker at every URL given
///
/// Prints one line `listening URL` for each URL once connections are accepted there. Runs until
/// SIGTERM or SIGINT, then drains and exits with 0; a second signal ends it at once.
#[derive(Debug, Args)]
#[command(
    after_help = "The broker keeps its messages in memory, and they end with it; with --data its \
    queues are kept on disk, and are there again when it is started anew. With --backend it keeps \
    none: it is a gateway to another engine, with that engine's guarantees."
)]
pub(crate) struct ServeArgs {
    /// Where to listen: tcp://HOST:PORT (0 is any free port) or unix:/PATH
    #[arg(value_name = "URL", default_value = DEFAULT_URL, value_parser = parse_url)]
    urls: Vec<String>,
    /// Serve another engine instead: nats://HOST:PORT, or whatever URL this build knows
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    backend: Option<String>,
    /// Keep queues in this folder, which is made if it is not there; they are durable then unless
    /// they are declared otherwise
    #[arg(long, value_name = "DIR", conflicts_with = "backend")]
    data: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
    /// How long to wait at the end for what was handed out to be settled
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = duration::parse)]
    drain: Duration,
    /// Listen on an address that other machines can reach, although anyone there may then read
    /// and write everything: nothing is encrypted and nobody has to prove who they are
    #[arg(long)]
    insecure_listen: bool,
}

pub(crate) async fn run(args: ServeArgs) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let runtime: SharedRuntime = Tokio::current().into();
    let mut endpoints = Vec::with_capacity(args.urls.len());
    for url in &args.urls {
        let endpoint = endpoint(url)?;
        if !args.insecure_listen {
            refuse_strangers(&runtime, &endpoint).await?;
        }
        endpoints.push(endpoint);
    }
    if args.data.as_ref().is_some_and(|data| !data.exists()) {
        try_listening(&runtime, &endpoints).await?;
    }
    let broker = backend(&runtime, &args).await?;
    let options = ServerOptions::new().software(concat!("posthaste/", env!("CARGO_PKG_VERSION")));
    let server = Server::new(runtime.clone(), broker, options);
    let mut listening = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let transport = posthaste::transport(runtime.clone(), &endpoint).map_err(usage)?;
        listening.push(server.listen(transport, endpoint).await.map_err(usage)?);
    }
    for endpoint in listening {
        // Whoever started the broker may have stopped reading; that is no reason not to serve.
        let _ = print_line(&format!("listening {endpoint}"));
    }
    signals.next().await;
    tokio::select! {
        drained = server.drain(args.drain) => {
            let report = drained?;
            tracing::info!(%report, "drained");
            let lost = report.held + report.abandoned;
            if lost > 0 && args.backend.is_none() && args.data.is_none() {
                let are = if lost == 1 { "message was" } else { "messages were" };
                note(&format!("{lost} {are} not consumed and ended with this broker"));
            }
            Ok(())
        }
        () = signals.next() => {
            Err(Failure::new(Code::Failed, "ended by a second signal before it was drained"))
        }
    }
}

/// Finds out whether one can listen there, so that no folder is made for a broker that cannot. Whoever
/// connects meanwhile connects again.
async fn try_listening(runtime: &SharedRuntime, endpoints: &[Endpoint]) -> Result<(), Failure> {
    let mut listeners = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let transport = posthaste::transport(runtime.clone(), endpoint).map_err(usage)?;
        let listener = transport.bind(endpoint).await.map_err(|error| {
            let text = match error.to_string() {
                text if text.contains(endpoint.address()) => text,
                text => format!("cannot listen at {endpoint}: {text}"),
            };
            usage(Error::new(Error::from(error).kind(), text))
        })?;
        listeners.push(listener);
    }
    Ok(())
}

/// What is served: a broker of its own, or the one that is named.
async fn backend(runtime: &SharedRuntime, args: &ServeArgs) -> Result<Arc<dyn Broker>, Failure> {
    if let Some(data) = &args.data {
        return Ok(Arc::new(durable(runtime, data.clone()).await?));
    }
    let Some(url) = &args.backend else {
        return Ok(Arc::new(Memory::with_runtime(runtime.clone())));
    };
    let broker = BrokerArgs { url: url.clone(), connect: args.connect.clone() };
    let bus = connect::connect(&broker, Reconnect::Forever).await?;
    Ok(Arc::clone(bus.broker()))
}

/// A broker that keeps its queues in a folder.
async fn durable(runtime: &SharedRuntime, data: PathBuf) -> Result<Durable, Failure> {
    let shown = data.display().to_string();
    let folder = blocking(&**runtime, move || Folder::open(data)).await.map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::ResourceBusy => error.to_string(),
            io::ErrorKind::PermissionDenied => format!(
                "cannot keep anything in {shown}: {error}; let this user write there, or choose another \
                 folder"
            ),
            // What the system says says nothing of what to do.
            _ if error.raw_os_error().is_some() => {
                format!("cannot keep anything in {shown}: {error}; choose another folder")
            }
            _ => format!("cannot keep anything in {shown}: {error}"),
        };
        Failure::new(Code::Failed, text)
    })?;
    let opened = Durable::open(runtime.clone(), folder, LogOptions::default()).await;
    let (broker, recovery) = opened.map_err(|error| {
        let mut text = format!("cannot open the queues in {shown}: {error}");
        let why = error.source().and_then(|why| why.downcast_ref());
        if let Some(LogError::Damaged(damage)) = why
            && damage.flaw != Flaw::Newer
        {
            text.push_str(
                "; posthaste log verify names all that is damaged: bring the folder back from a copy, or \
                 choose another one",
            );
        }
        Failure::new(Code::Failed, text)
    })?;
    tracing::info!(records = recovery.records, "opened {shown}");
    if let Some(torn) = recovery.torn {
        let kept_as = torn.kept_as.as_deref().unwrap_or("no file, since the disk is full");
        tracing::warn!(
            "the end of the log was torn, as what is written when a broker is killed; it is in {kept_as}"
        );
    }
    runtime.spawn(Box::pin(watch(runtime.clone(), broker.clone())));
    Ok(broker)
}

/// How often is looked whether the disk is full, and how long it takes until that is said again.
const LOOK: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Says when the disk is full, when it has room again, and when it has failed.
async fn watch(runtime: SharedRuntime, broker: Durable) {
    let (mut told, mut again) = (false, runtime.now());
    loop {
        let mut timer = runtime.timer();
        timer.as_mut().reset(runtime.now() + LOOK);
        timer.await;
        match broker.trouble() {
            None if std::mem::take(&mut told) => note("the disk of the broker has room again"),
            None => {}
            Some(error) if error.kind() == ErrorKind::Full => {
                let now = runtime.now();
                let is_due = !told && now >= again;
                if is_due {
                    (told, again) = (true, now + SAY_AGAIN);
                    note(error.text());
                }
            }
            Some(error) if error.kind() == ErrorKind::Closed => return,
            Some(error) => return note(error.text()),
        }
    }
}

/// The endpoint of a URL that others can connect to, in a form that is the same from everywhere.
fn endpoint(url: &str) -> Result<Endpoint, Failure> {
    let endpoint = posthaste::endpoint(url).map_err(usage)?;
    if endpoint.scheme() != "unix" || endpoint.address().is_empty() {
        return Ok(endpoint);
    }
    let path = std::path::absolute(endpoint.address()).map_err(|error| {
        let text = format!("cannot make {} an absolute path: {error}", endpoint.address());
        Failure::new(Code::Usage, text)
    })?;
    Ok(Endpoint::new("unix", path.to_string_lossy()))
}

/// A URL that cannot be meant is wrong usage; anything else is a failure.
fn usage(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::InvalidArgument => Failure::new(Code::Usage, error.to_string()),
        _ => error.into(),
    }
}

/// Refuses to listen where other machines can connect.
async fn refuse_strangers(runtime: &SharedRuntime, endpoint: &Endpoint) -> Result<(), Failure> {
    if endpoint.scheme() != "tcp" {
        return Ok(());
    }
    let address = endpoint.address().to_owned();
    let found =
        blocking(&**runtime, move || address.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    // What cannot be looked up cannot be listened at either; that failure has a better text.
    let Ok(addresses) = found.await else {
        return Ok(());
    };
    let is_local = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    if addresses.iter().all(is_local) {
        return Ok(());
    }
    let text = format!(
        "{endpoint} can be reached from other machines, and neither encryption nor authentication \
         protects it; listen on 127.0.0.1 or a Unix socket, or add --insecure-listen"
    );
    Err(Failure::new(Code::Failed, text))
}
