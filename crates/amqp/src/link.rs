//! A connection that comes back: whoever needs it connects it again.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_rs::Runtime;
use futures::lock::Mutex;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, ExchangeKind};
use posthaste_core::runtime::timeout_at;
use posthaste_core::transport::{Endpoint, Transport};
use posthaste_core::{Error, ErrorKind, SharedRuntime};
use posthaste_tcp::Tcp;

use crate::fault::{fault, is_lost};
use crate::kit::{Kit, Line, Socket, sleep};
use crate::options::{Address, AmqpOptions};

/// The shortest and the longest wait before another attempt to connect.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// How long it is waited for a channel.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How many channel numbers are tried.
const TRIES: usize = 64;

/// A connection to the server, made when it is needed and made again when it is lost.
pub(crate) struct Link {
    runtime: SharedRuntime,
    address: Address,
    options: AmqpOptions,
    /// What it is for, as the server's tools show it.
    name: &'static str,
    /// After how many channels another connection takes the place of one.
    channels_max: u32,
    slot: Mutex<Slot>,
    connections: AtomicU64,
    closed: AtomicBool,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    /// Attempts that failed since the last one that did not.
    failures: u32,
}

/// A connection that was made.
pub(crate) struct Live {
    pub(crate) connection: Connection,
    /// Which connection of its link this is.
    pub(crate) epoch: u64,
    /// The server's version: major and minor; zeros if it does not say.
    pub(crate) version: (u32, u32),
    /// How many channels were opened.
    opened: AtomicU32,
    /// It answers nothing any more.
    is_silent: AtomicBool,
    runtime: SharedRuntime,
    patience: Duration,
    line: Line,
}

impl Live {
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected() && !self.is_silent.load(Ordering::Relaxed)
    }

    /// Opens a channel. lapin never again opens one with the number of a channel that the server
    /// closed, so a few numbers may have to be tried.
    pub(crate) async fn channel(&self) -> Result<Channel, Error> {
        let mut tries = 0;
        loop {
            self.opened.fetch_add(1, Ordering::Relaxed);
            match self.create_channel().await? {
                Ok(channel) => return Ok(channel),
                Err(error)
                    if error.is_amqp_soft_error() && self.is_connected() && tries < TRIES =>
                {
                    tries += 1;
                }
                Err(error) => return Err(fault("open a channel", &error)),
            }
        }
    }
}

impl Live {
    /// lapin says nothing at all if it is asked while it ends, so it is not waited for longer than
    /// for a connection.
    async fn create_channel(&self) -> Result<lapin::Result<Channel>, Error> {
        let deadline = self.runtime.now() + self.patience;
        let created = timeout_at(&*self.runtime, deadline, self.connection.create_channel()).await;
        created.ok_or_else(|| {
            self.line.cut();
            self.is_silent.store(true, Ordering::Relaxed);
            let text = "rabbitmq did not open a channel in time; the connection is made anew";
            Error::new(ErrorKind::Disconnected, text)
        })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // One that is well closes itself in order; what is left of one that is not ends here.
        if !self.is_connected() {
            self.line.cut();
        }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(
        runtime: SharedRuntime,
        address: Address,
        options: AmqpOptions,
        name: &'static str,
    ) -> Self {
        Self {
            runtime,
            address,
            options,
            name,
            channels_max: u32::MAX,
            slot: Mutex::default(),
            connections: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// The same, whose connection is replaced after so many channels.
    pub(crate) fn renewed_after(mut self, channels: u32) -> Self {
        self.channels_max = channels;
        self
    }

    /// The connection, within the patience of a call.
    ///
    /// # Errors
    /// `Refused` at once; `Disconnected` once the patience is at its end.
    pub(crate) async fn live(&self) -> Result<Arc<Live>, Error> {
        self.live_within(Some(self.options.patience)).await
    }

    /// The connection, however long that takes.
    pub(crate) async fn live_again(&self) -> Result<Arc<Live>, Error> {
        self.live_within(None).await
    }

    /// The connection, at the first attempt.
    pub(crate) async fn live_now(&self) -> Result<Arc<Live>, Error> {
        self.live_within(Some(Duration::ZERO)).await
    }

    async fn live_within(&self, patience: Option<Duration>) -> Result<Arc<Live>, Error> {
        let until = patience.map(|time| self.runtime.now() + time);
        let mut slot = self.slot.lock().await;
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(Error::closed("the broker"));
            }
            if let Some(live) = slot.live.as_ref().filter(|live| self.is_good(live)) {
                return Ok(Arc::clone(live));
            }
            slot.live = None;
            if slot.failures > 0 {
                sleep(&self.runtime, self.wait(slot.failures)).await;
            }
            match self.connect().await {
                Ok(live) => {
                    slot.failures = 0;
                    return Ok(Arc::clone(slot.live.insert(Arc::new(live))));
                }
                Err(error) => {
                    slot.failures = slot.failures.saturating_add(1);
                    let is_late = until.is_some_and(|until| self.runtime.now() >= until);
                    if !is_lost(&error) || is_late {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn is_good(&self, live: &Live) -> bool {
        live.is_connected() && live.opened.load(Ordering::Relaxed) < self.channels_max
    }

    /// Full jitter: anything between the shortest wait and one that doubles.
    fn wait(&self, failures: u32) -> Duration {
        let longest = AGAIN_MIN.saturating_mul(1 << failures.min(10)).min(AGAIN_MAX);
        let mut random = [0; 4];
        self.runtime.fill_random(&mut random);
        let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        AGAIN_MIN + (longest - AGAIN_MIN).mul_f64(share)
    }

    async fn connect(&self) -> Result<Live, Error> {
        let line = Line::default();
        // What is given up half-way must not leave lapin's thread behind, waiting.
        let mut guard = CutUnlessDone(Some(line.clone()));
        let deadline = self.runtime.now() + self.options.connect_timeout;
        let connecting = async {
            let connection = self.open(line.clone()).await?;
            self.declare_exchanges(&connection).await?;
            Ok(connection)
        };
        let place = format!("connect to {}:{}", self.address.host, self.address.port);
        let connection = match timeout_at(&*self.runtime, deadline, connecting).await {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => return Err(refused(fault(&place, &error), &self.address)),
            None => {
                let text = format!(
                    "rabbitmq at {}:{} did not answer within {:?}; see that it runs and can be reached",
                    self.address.host, self.address.port, self.options.connect_timeout
                );
                return Err(Error::new(ErrorKind::TimedOut, text));
            }
        };
        guard.0 = None;
        let epoch = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let version = parse_version(&line.version().unwrap_or_default());
        Ok(Live {
            connection,
            epoch,
            version,
            opened: AtomicU32::new(0),
            is_silent: AtomicBool::new(false),
            runtime: self.runtime.clone(),
            patience: self.options.connect_timeout.min(SILENCE_MAX),
            line,
        })
    }

    async fn open(&self, line: Line) -> lapin::Result<Connection> {
        let heartbeat = self.options.heartbeat.as_secs().min(u64::from(u16::MAX));
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.address.user.clone(),
                    password: self.address.password.clone(),
                },
                host: self.address.host.clone(),
                port: self.address.port,
            },
            vhost: self.address.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(u16::try_from(heartbeat).unwrap_or(u16::MAX)),
                ..AMQPQueryString::default()
            },
        };
        let endpoint = self.address.endpoint();
        let (runtime, time) = (self.runtime.clone(), self.options.connect_timeout);
        let dial = async move |_: AMQPUri, _: Runtime<Kit>| {
            let to: Endpoint = endpoint.parse().map_err(std::io::Error::other)?;
            let (tcp, deadline) = (Tcp::new(runtime.clone()), runtime.now() + time);
            let socket = timeout_at(&*runtime, deadline, tcp.connect(&to)).await;
            let socket = socket.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()))?;
            Ok(AsyncTcpStream::Plain(Socket::new(socket, line.clone())))
        };
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("posthaste {}", self.name).into());
        Connection::connector(uri, Runtime::new(Kit(self.runtime.clone())), dial, properties).await
    }

    /// The exchanges that topics go through are there, whoever made them.
    async fn declare_exchanges(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        for name in [self.options.exchange.clone(), self.options.reserved_exchange()] {
            // The length was checked with the options.
            let name = ShortString::try_new(name).unwrap_or_default();
            let arguments = FieldTable::default();
            channel.exchange_declare(name, ExchangeKind::Topic, options, arguments).await?;
        }
        Ok(())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("to", &self.address)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

struct CutUnlessDone(Option<Line>);

impl Drop for CutUnlessDone {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.cut();
        }
    }
}

/// Who was refused is told so in words that help.
fn refused(error: Error, address: &Address) -> Error {
    if error.kind() != ErrorKind::Refused {
        return error;
    }
    let text = format!(
        "rabbitmq at {}:{} refused the user or the virtual host {:?}; check the name, the password \
         and the permissions",
        address.host, address.port, address.vhost
    );
    Error::new(ErrorKind::Refused, text)
}

fn parse_version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
