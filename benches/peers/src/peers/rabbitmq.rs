//! RabbitMQ with queues that live in memory, or, where the work says so, with durable ones and persistent
//! messages, through lapin: publishes that are not waited for one
//! by one, consumers as streams with a prefetch, and with acknowledgements both confirms in a
//! window and acks for many at once, as RabbitMQ's documentation recommends for throughput.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};

use crate::peer::{Api, Contender, Peer, Program, Script};
use crate::server;
use crate::stage::{Meter, Stage};
use crate::work::{self, Executor, Work};

/// Debian's place for what its wrapper, which changes the user, would call.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const EXCHANGE: &str = "bench";
const QUEUE: &str = "jobs";
/// How many deliveries may be unacknowledged, how many one ack is for, and how many messages may
/// be unconfirmed.
const PREFETCH: u16 = 2_048;
const ACK_EVERY: usize = 64;
const UNCONFIRMED: usize = 2_048;
/// The delivery mode of messages that are written to the disk.
const PERSISTENT: u8 = 2;

/// The peer.
pub(crate) struct RabbitMq;

impl Peer for RabbitMq {
    fn name(&self) -> &'static str {
        "RabbitMQ"
    }

    fn missing(&self) -> Option<String> {
        server::missing(&[SERVER, "epmd"])
    }

    fn version(&self) -> Option<String> {
        let client = crate::versions::of_crate("lapin").unwrap_or_default();
        let server = std::fs::read_dir("/usr/lib/rabbitmq/lib").ok()?.next()?.ok()?.file_name();
        Some(format!("{}, lapin {client}", server.to_string_lossy()))
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let (peer, executor) = (self.name(), Executor::TokioMt);
        let api = match work {
            Work::PubSub { .. } | Work::Group { .. } => Api::One,
            Work::Acked { .. } | Work::Durable { .. } => Api::Acked,
            _ => return Vec::new(),
        };
        // Erlang finds its nodes through a daemon, which it would start and leave behind.
        let roles = &["epmd", "broker", "receiver", "sender"];
        vec![Contender { roles, ..Contender::relay(peer, "lapin", api, executor) }]
    }

    fn program(&self, script: &Script) -> Result<Option<Program>> {
        match script.role.as_str() {
            "epmd" => {
                let address = server::free_address()?;
                let mut command = Command::new(server::find("epmd")?);
                command.args(["-address", "127.0.0.1", "-port", server::port_of(&address)]);
                Ok(Some(Program::new(command, address)))
            }
            "broker" => broker(script).map(Some),
            _ => Ok(None),
        }
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        let stage = stage.clone();
        stage.clone().run(|engine| async move {
            match stage.script().role.as_str() {
                "receiver" => {
                    for _ in 0..stage.script().work.subscribers() {
                        let client = Client::connect(&stage).await?;
                        let consumer = client.consume(&stage).await?;
                        let acked = stage.script().api == Api::Acked;
                        engine.spawn(take(client, consumer, acked, stage.meter()));
                    }
                    stage.ready("");
                    std::future::pending().await
                }
                "sender" => send(&stage).await,
                role => bail!("there is no {role} for this"),
            }
        })
    }
}

/// The server, with everything of it in the folder of the round.
fn broker(script: &Script) -> Result<Program> {
    let folder = script.folder.as_path();
    let epmd = script.addresses.iter().find(|(role, _)| role == "epmd").context("no epmd")?;
    let (amqp, nodes) = (server::free_address()?, server::free_address()?);
    let port = server::port_of(&amqp);
    std::fs::create_dir_all(folder.join("home"))?;
    std::fs::write(folder.join("enabled_plugins"), "[].\n")?;
    std::fs::write(folder.join("rabbitmq.conf"), "disk_free_limit.absolute = 50MB\n")?;
    let pid_file = folder.join("rabbitmq.pid");
    let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
    let mut command = Command::new(SERVER);
    command
        .env("RABBITMQ_NODENAME", format!("peers{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port)
        .env("RABBITMQ_DIST_PORT", server::port_of(&nodes))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", server::port_of(&epmd.1))
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback)
        .env("RABBITMQ_PID_FILE", &pid_file);
    for (variable, path) in [
        ("HOME", "home"),
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
    ] {
        command.env(variable, Path::join(folder, path));
    }
    Ok(Program::new(command, amqp).with_pid_file(pid_file))
}

/// A channel, and its connection, which closes when it is dropped.
struct Client {
    channel: Channel,
    _connection: Connection,
}

impl Client {
    /// A connection of its own, on which the exchange is known.
    async fn connect(stage: &Stage) -> Result<Self> {
        let url = format!("amqp://guest:guest@{}/%2f", stage.address_of("broker")?);
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let kind = ExchangeKind::Fanout;
        let (options, arguments) = (ExchangeDeclareOptions::default(), FieldTable::default());
        channel.exchange_declare(EXCHANGE.into(), kind, options, arguments).await?;
        Ok(Self { channel, _connection: connection })
    }

    /// A consumer of a queue of its own, for a subscriber, or of one for all, for a group.
    async fn consume(&self, stage: &Stage) -> Result<Consumer> {
        let Self { channel, .. } = self;
        let subscribes = matches!(stage.script().work, Work::PubSub { .. });
        let name = if subscribes { "" } else { QUEUE };
        let durable = matches!(stage.script().work, Work::Durable { .. });
        let options = QueueDeclareOptions { exclusive: subscribes, durable, ..Default::default() };
        let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
        let name = || queue.name().clone();
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(name(), EXCHANGE.into(), "".into(), options, arguments).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let no_ack = stage.script().api != Api::Acked;
        let options = BasicConsumeOptions { no_ack, ..Default::default() };
        let arguments = FieldTable::default();
        Ok(channel.basic_consume(name(), "".into(), options, arguments).await?)
    }
}

async fn take(client: Client, mut consumer: Consumer, acked: bool, meter: Meter) -> Result<()> {
    let mut unacked = 0;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        unacked += 1;
        if acked && unacked == ACK_EVERY {
            let options = BasicAckOptions { multiple: true };
            client.channel.basic_ack(delivery.delivery_tag, options).await?;
            unacked = 0;
        }
        meter.add(1);
    }
    bail!("the consumer has ended")
}

async fn send(stage: &Stage) -> Result<()> {
    let client = Client::connect(stage).await?;
    let channel = &client.channel;
    let confirmed = stage.script().api == Api::Acked;
    let (unconfirmed_max, properties) = match stage.script().work {
        Work::Durable { .. } => {
            (work::UNCONFIRMED, BasicProperties::default().with_delivery_mode(PERSISTENT))
        }
        _ => (UNCONFIRMED, BasicProperties::default()),
    };
    if confirmed {
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
    }
    let (meter, payload) = (stage.meter(), stage.payload());
    stage.ready("");
    let mut unconfirmed = VecDeque::with_capacity(unconfirmed_max);
    loop {
        let options = BasicPublishOptions::default();
        let confirm = channel
            .basic_publish(EXCHANGE.into(), "".into(), options, &payload, properties.clone())
            .await?;
        if confirmed {
            unconfirmed.push_back(confirm);
            if unconfirmed.len() == unconfirmed_max
                && let Some(oldest) = unconfirmed.pop_front()
            {
                oldest.await?;
            }
        }
        meter.add(1);
    }
}
