//! Connecting: from a runtime and a URL to a bus.

use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;

use posthaste_core::transport::Endpoint;
use posthaste_core::{BoxFuture, Bus, Capability, Error, ErrorKind, SharedRuntime};
use posthaste_link::{Reconnect, Remote, RemoteOptions};

use crate::engine::Terms;
use crate::url::Transports;

/// Connects to the broker that `url` names; awaiting the answer gives a [`Bus`].
///
/// | URL | broker |
/// |---|---|
/// | `memory:` | a new one in this process; clone the bus to share it |
/// | `tcp://HOST:PORT` | one behind a TCP connection |
/// | `unix:/PATH`, `unix:///PATH` | one behind a Unix socket |
/// | `amqp://USER:PASSWORD@HOST:PORT/VHOST` | RabbitMQ, with the feature `amqp`; see the crate `posthaste-amqp` |
/// | `kafka://HOST:PORT` | a Kafka cluster, with the feature `kafka`; see the crate `posthaste-kafka` |
/// | `nats://HOST:PORT` | a NATS server, with the feature `nats`; see the crate `posthaste-nats` |
/// | `zmtp+tcp://HOST:PORT`, `zmtp+unix:/PATH` | ZeroMQ peers, with the feature `zmtp`; see the crate `posthaste-zmtp` |
/// | `URL,URL,...` | whichever of these can be had; they stand in for each other |
///
/// ```
/// use posthaste::Capability;
/// use posthaste_smol::Smol;
///
/// # fn main() -> Result<(), posthaste::Error> { pollster::block_on(async {
/// let url = std::env::var("BUS").unwrap_or("memory:".into());
/// let bus = posthaste::connect(Smol::global(), &url)
///     .needs(&[Capability::Queues, Capability::ManualAck])
///     .await?;
/// bus.send("jobs", "work").await?;
/// # Ok(()) }) }
/// ```
///
/// # Errors
/// Awaiting it answers `InvalidArgument` for a URL that this build does not know, `Unsupported`
/// for a capability that is needed and lacking, and `Disconnected`, `TimedOut`, `Refused` or
/// `Protocol` if there is no broker to be had at that address in time.
///
/// # Cancel safety
/// Dropping the future abandons the attempt and leaves nothing behind.
pub fn connect(runtime: impl Into<SharedRuntime>, url: impl AsRef<str>) -> Connect {
    Connect {
        runtime: runtime.into(),
        endpoints: crate::endpoints(url.as_ref()),
        needs: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        reconnect: Reconnect::default(),
    }
}

/// A connection to be made: options, and the future that makes it. See [`connect`].
#[must_use = "nothing is connected until this is awaited"]
pub struct Connect {
    runtime: SharedRuntime,
    endpoints: Result<Vec<Endpoint>, Error>,
    needs: Vec<Capability>,
    connect_timeout: Duration,
    reconnect: Reconnect,
}

impl Connect {
    /// How long the first connection may take, attempts that were refused included (5 s unless
    /// told otherwise). A broker in this process takes none.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// What happens when the connection is lost later on: for ever, for a while, or no
    /// reconnection.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = reconnect;
        self
    }

    /// Refuses to connect to a broker that lacks one of these.
    pub fn needs(mut self, capabilities: &[Capability]) -> Self {
        self.needs.extend_from_slice(capabilities);
        self
    }

    async fn run(self) -> Result<Bus, Error> {
        let (mut endpoints, runtime) = (self.endpoints?.into_iter(), self.runtime);
        let first = endpoints
            .next()
            .ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "there is no URL"))?;
        let (connect_timeout, reconnect) = (self.connect_timeout, self.reconnect);
        let bus = match crate::url::in_process(&runtime, &first) {
            Some(broker) => Bus::with_runtime(broker, runtime),
            None if crate::url::is_engine(&first) => {
                let terms = Terms { runtime: runtime.clone(), connect_timeout, reconnect };
                Bus::with_runtime(terms.connect(&first).await?, runtime)
            }
            None => {
                let transport = Transports::new(runtime.clone());
                let options = RemoteOptions::default();
                let options = options.connect_timeout(connect_timeout).reconnect(reconnect);
                let options = endpoints.fold(options, RemoteOptions::fallback);
                let connecting = Remote::connect(runtime.clone(), transport, first, options);
                Bus::with_runtime(connecting.await?, runtime)
            }
        };
        let card = bus.capabilities();
        self.needs.iter().try_for_each(|capability| card.require(*capability))?;
        Ok(bus)
    }
}

impl IntoFuture for Connect {
    type Output = Result<Bus, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An engine's URL may have a password in it.
        let schemes = |all: &Vec<Endpoint>| -> Vec<String> {
            all.iter().map(|endpoint| endpoint.scheme().to_owned()).collect()
        };
        f.debug_struct("Connect")
            .field("schemes", &self.endpoints.as_ref().map(schemes))
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}
