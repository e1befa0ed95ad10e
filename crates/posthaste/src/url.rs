//! URLs: which broker or listener they name, and which of them this build knows.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use posthaste_core::transport::{BoxConnection, BoxListener, Endpoint, Transport};
use posthaste_core::{Broker, Error, ErrorKind, SharedRuntime};

/// The form of a URL of each scheme that this build knows.
const KNOWN: &[&str] = &[
    #[cfg(feature = "memory")]
    "memory:",
    #[cfg(feature = "tcp")]
    "tcp://HOST:PORT",
    #[cfg(all(unix, feature = "unix"))]
    "unix:/PATH",
    #[cfg(feature = "kafka")]
    "kafka://HOST:PORT",
    #[cfg(feature = "amqp")]
    "amqp://USER:PASSWORD@HOST:PORT/VHOST",
    #[cfg(feature = "nats")]
    "nats://HOST:PORT",
    #[cfg(feature = "zmtp")]
    "zmtp+tcp://HOST:PORT",
    #[cfg(feature = "zmtp")]
    "zmtp+unix:/PATH",
];

/// Reads a URL whose scheme this build knows.
///
/// ```
/// assert_eq!(posthaste::endpoint("unix:///run/app.sock")?.address(), "/run/app.sock");
/// assert!(posthaste::endpoint("carrier-pigeon://coop").is_err());
/// # Ok::<(), posthaste::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` for what is no URL, and for a scheme that this build does not know; the text
/// lists those it knows.
pub fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let endpoint: Endpoint = url.parse()?;
    if !is_known(endpoint.scheme()) {
        return Err(unknown(&endpoint));
    }
    if is_memory(&endpoint) && !endpoint.address().is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{endpoint} names a broker in this process, which has no name: write memory:, and \
                 clone the bus to share it"
            ),
        ));
    }
    Ok(endpoint)
}

/// Reads one URL, or several with commas between them: brokers that stand in for each other. Only a
/// comma that another URL follows separates, because a path may have commas of its own.
///
/// ```
/// let both = posthaste::endpoints("tcp://a:7411,tcp://b:7411")?;
/// assert_eq!(both.len(), 2);
/// assert_eq!(posthaste::endpoints("unix:/run/a,b.sock")?.len(), 1);
/// # Ok::<(), posthaste::Error>(())
/// ```
///
/// # Errors
/// As [`endpoint`], for the first URL that is wrong; `InvalidArgument` for `memory:` among others,
/// because a broker in this process stands in for none.
pub fn endpoints(urls: &str) -> Result<Vec<Endpoint>, Error> {
    let endpoints = split(urls).map(endpoint).collect::<Result<Vec<_>, _>>()?;
    if endpoints.len() > 1 && endpoints.iter().any(is_memory) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "memory: is a broker of its own in this process; name it alone, without others",
        ));
    }
    if endpoints.len() > 1 && endpoints.iter().any(is_engine) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "an engine stands in for no other broker; name it alone, with all of its hosts in one URL",
        ));
    }
    Ok(endpoints)
}

/// The URLs of a list.
fn split(urls: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(urls);
    std::iter::from_fn(move || {
        let text = rest?;
        let comma = text.match_indices(',').map(|(at, _)| at).find(|at| is_url(&text[at + 1..]));
        rest = comma.map(|at| &text[at + 1..]);
        Some(&text[..comma.unwrap_or(text.len())])
    })
}

/// Whether a text begins like a URL: with a scheme that is known here, or with one and two slashes.
fn is_url(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        is_known(scheme)
            || (rest.starts_with("//")
                && !scheme.is_empty()
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
    })
}

/// The byte-stream transport of an endpoint's scheme, over `runtime`.
///
/// ```
/// # use posthaste_smol::Smol;
/// let endpoint = posthaste::endpoint("tcp://127.0.0.1:7411")?;
/// let tcp = posthaste::transport(Smol::global(), &endpoint)?;
/// # drop(tcp);
/// # Ok::<(), posthaste::Error>(())
/// ```
///
/// # Errors
/// `InvalidArgument` for a scheme that this build does not know, and for `memory:`, which carries
/// no bytes.
pub fn transport(
    runtime: impl Into<SharedRuntime>,
    endpoint: &Endpoint,
) -> Result<Arc<dyn Transport>, Error> {
    match (endpoint.scheme(), runtime.into()) {
        #[cfg(feature = "tcp")]
        ("tcp", runtime) => Ok(Arc::new(posthaste_tcp::Tcp::new(runtime))),
        #[cfg(all(unix, feature = "unix"))]
        ("unix", runtime) => Ok(Arc::new(posthaste_unix::Unix::new(runtime))),
        _ if is_memory(endpoint) => Err(Error::new(
            ErrorKind::InvalidArgument,
            "memory: is inside one process; nobody can connect to it",
        )),
        _ if is_engine(endpoint) => Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "{}: is an engine that others connect to as it is; to have it behind a socket of \
                 Posthaste's, serve its broker there",
                endpoint.scheme()
            ),
        )),
        _ => Err(unknown(endpoint)),
    }
}

/// The transport of every scheme that this build knows.
pub(crate) struct Transports {
    runtime: SharedRuntime,
}

impl Transports {
    pub(crate) fn new(runtime: SharedRuntime) -> Self {
        Self { runtime }
    }

    fn of(&self, endpoint: &Endpoint) -> io::Result<Arc<dyn Transport>> {
        let transport = transport(Arc::clone(&self.runtime), endpoint);
        transport.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
    }
}

#[async_trait]
impl Transport for Transports {
    async fn connect(&self, to: &Endpoint) -> io::Result<BoxConnection> {
        self.of(to)?.connect(to).await
    }

    async fn bind(&self, at: &Endpoint) -> io::Result<BoxListener> {
        self.of(at)?.bind(at).await
    }
}

/// Whether another engine than Posthaste's is behind an endpoint.
pub(crate) fn is_engine(endpoint: &Endpoint) -> bool {
    is_known(endpoint.scheme()) && !matches!(endpoint.scheme(), "memory" | "tcp" | "unix")
}

/// A new broker in this process, if that is what the endpoint names.
pub(crate) fn in_process(runtime: &SharedRuntime, endpoint: &Endpoint) -> Option<Arc<dyn Broker>> {
    match (endpoint.scheme(), Arc::clone(runtime)) {
        #[cfg(feature = "memory")]
        ("memory", runtime) => Some(Arc::new(posthaste_memory::Memory::with_runtime(runtime))),
        _ => None,
    }
}

fn is_known(scheme: &str) -> bool {
    KNOWN.iter().filter_map(|form| form.split_once(':')).any(|(known, _)| known == scheme)
}

fn is_memory(endpoint: &Endpoint) -> bool {
    cfg!(feature = "memory") && endpoint.scheme() == "memory"
}

fn unknown(endpoint: &Endpoint) -> Error {
    let text = match KNOWN.split_last() {
        None => "this build knows no URLs; enable a feature such as tcp".to_owned(),
        Some((only, [])) => format!("this build knows {only}"),
        Some((last, others)) => format!("this build knows {} and {last}", others.join(", ")),
    };
    let scheme = endpoint.scheme();
    Error::new(ErrorKind::InvalidArgument, format!("no broker is behind {scheme}: URLs: {text}"))
}
