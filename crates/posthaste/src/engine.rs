//! Engines that are somebody else's, behind URLs of their own.

use std::sync::Arc;
use std::time::Duration;

use posthaste_core::transport::Endpoint;
use posthaste_core::{Broker, Capabilities, Error, ErrorKind, SharedRuntime};
use posthaste_link::Reconnect;

/// The capability card of every backend that this build knows, as it is without a connection.
///
/// ```
/// use posthaste::Capability;
/// use posthaste_smol::Smol;
///
/// let cards = posthaste::cards(Smol::global());
/// assert!(cards.iter().all(|card| card.has(Capability::Topics)));
/// ```
pub fn cards(runtime: impl Into<SharedRuntime>) -> Vec<Capabilities> {
    let _runtime = runtime.into();
    vec![
        #[cfg(feature = "memory")]
        posthaste_memory::Memory::with_runtime(_runtime).capabilities(),
        #[cfg(feature = "amqp")]
        posthaste_amqp::card(),
        #[cfg(feature = "kafka")]
        posthaste_kafka::card(),
        #[cfg(feature = "nats")]
        posthaste_nats::card(),
        #[cfg(feature = "zmtp")]
        posthaste_zmtp::card(),
    ]
}

/// How to connect to an engine, whichever it is.
#[cfg_attr(
    not(any(feature = "amqp", feature = "kafka", feature = "nats")),
    allow(dead_code, reason = "not every engine asks for all of it")
)]
pub(crate) struct Terms {
    pub(crate) runtime: SharedRuntime,
    pub(crate) connect_timeout: Duration,
    pub(crate) reconnect: Reconnect,
}

impl Terms {
    /// How long a lost connection is tried again; `None` is for ever.
    #[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
    fn patience(&self) -> Option<Duration> {
        match self.reconnect {
            Reconnect::Never => Some(Duration::ZERO),
            Reconnect::For(time) => Some(time),
            Reconnect::Forever => None,
        }
    }

    /// Connects to the engine that an endpoint names.
    pub(crate) async fn connect(self, endpoint: &Endpoint) -> Result<Arc<dyn Broker>, Error> {
        match endpoint.scheme() {
            #[cfg(feature = "kafka")]
            "kafka" => {
                let url = endpoint.to_string();
                let mut options: posthaste_kafka::KafkaOptions = url.parse()?;
                if !url.contains("connect_timeout=") {
                    options = options.connect_timeout(self.connect_timeout);
                }
                if let Some(patience) = self.patience().filter(|time| !time.is_zero())
                    && !url.contains("delivery_timeout=")
                {
                    options = options.delivery_timeout(patience);
                }
                let kafka = posthaste_kafka::Kafka::with_options(self.runtime, options).await?;
                Ok(Arc::new(kafka))
            }
            #[cfg(feature = "amqp")]
            "amqp" => {
                let options = posthaste_amqp::AmqpOptions::new();
                let mut options = options.connect_timeout(self.connect_timeout);
                if let Some(patience) = self.patience() {
                    options = options.patience(patience);
                }
                let url = endpoint.to_string();
                let amqp = posthaste_amqp::Amqp::connect_with(self.runtime, &url, options).await?;
                Ok(Arc::new(amqp))
            }
            #[cfg(feature = "nats")]
            "nats" => {
                let options = posthaste_nats::NatsOptions::new()
                    .connect_timeout(self.connect_timeout)
                    .reconnect(self.patience());
                let url = endpoint.to_string();
                Ok(Arc::new(posthaste_nats::Nats::connect_with(self.runtime, url, options).await?))
            }
            #[cfg(feature = "zmtp")]
            "zmtp+tcp" | "zmtp+unix" => {
                let options = posthaste_zmtp::ZmtpOptions::from_url(&endpoint.to_string())?;
                let options = options.patience(self.connect_timeout);
                Ok(Arc::new(posthaste_zmtp::Zmtp::start(self.runtime, options).await?))
            }
            scheme => {
                let text = format!("this build knows no engine behind {scheme}: URLs");
                Err(Error::new(ErrorKind::InvalidArgument, text))
            }
        }
    }
}
