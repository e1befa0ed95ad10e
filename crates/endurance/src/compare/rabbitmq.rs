//! RabbitMQ: durable queues, persistent messages, and publisher confirms.

use std::cell::OnceCell;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Client, Peer, until};
use crate::Failure;
use crate::broker::Process;

/// What starts a node and becomes it.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const QUEUE: &str = "endurance";
/// An answer that takes longer does not come.
const ANSWER_MAX: Duration = Duration::from_secs(15);

pub(super) fn peers() -> Vec<Box<dyn Peer>> {
    let peer = |kind| Box::new(RabbitMq { kind, names: OnceCell::new() }) as Box<dyn Peer>;
    vec![peer("classic"), peer("quorum")]
}

struct RabbitMq {
    /// The type of the queue.
    kind: &'static str,
    names: OnceCell<Names>,
}

/// The ports of a node, and the process that knows them, without which none starts.
struct Names {
    _epmd: Process,
    node: u16,
    distribution: u16,
    epmd: u16,
}

impl Names {
    fn new() -> Result<Self, Failure> {
        let (node, distribution, epmd) = (free_port()?, free_port()?, free_port()?);
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &epmd.to_string()]);
        let mut process = Process::spawn(&mut command)?;
        until(&mut process, || Ok(TcpStream::connect(("127.0.0.1", epmd)).map(drop)?))?;
        Ok(Self { _epmd: process, node, distribution, epmd })
    }
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl RabbitMq {
    fn names(&self) -> Result<&Names, Failure> {
        match self.names.get() {
            Some(names) => Ok(names),
            None => {
                let names = Names::new()?;
                Ok(self.names.get_or_init(|| names))
            }
        }
    }
}

impl Peer for RabbitMq {
    fn name(&self) -> String {
        format!("RabbitMQ, {} queue", self.kind)
    }

    fn command(&self, data: &Path, run: &Path) -> Result<Command, Failure> {
        let names = self.names()?;
        fs::write(run.join("enabled_plugins"), "[].")?;
        fs::write(run.join("rabbitmq.conf"), "disk_free_limit.absolute = 50MB\n")?;
        let mut command = Command::new(SERVER);
        command
            .current_dir(run)
            // As if under systemd, where the script becomes the node: else that is a child of the
            // script, and outlives it.
            .env("NOTIFY_SOCKET", run.join("notify"))
            .env("HOME", run)
            .env("ERL_EPMD_PORT", names.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("endurance{}@localhost", names.node))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", names.node.to_string())
            .env("RABBITMQ_DIST_PORT", names.distribution.to_string())
            .env("RABBITMQ_PID_FILE", run.join("pid"))
            .env("RABBITMQ_MNESIA_BASE", data)
            .env("RABBITMQ_LOG_BASE", run.join("log"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", run.join("rabbitmq"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", run.join("enabled_plugins"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 1:1",
            );
        Ok(command)
    }

    /// A node writes down which members of quorum queues it has when it ends, or three minutes later (3.10.8:
    /// `names.dets`). One that is killed before that knows the queue and has no member of it: nobody is its
    /// leader then, ever, though everything that was confirmed is in its log.
    fn has_to_settle(&self) -> bool {
        self.kind == "quorum"
    }

    fn connect(&self, _run: &Path, server: &mut Process) -> Result<Box<dyn Client>, Failure> {
        let port = self.names()?.node;
        // It listens before all of its queues are there.
        until(server, || Ok(Box::new(Connected::open(port, self.kind)?) as _))
    }
}

struct Connected {
    stream: BufReader<TcpStream>,
}

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

impl Connected {
    fn open(port: u16, kind: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let mut this = Self { stream: BufReader::new(stream) };
        this.stream.get_mut().write_all(b"AMQP\0\0\x09\x01")?;
        this.expect(10, 10)?;
        let login = b"\0guest\0guest";
        let start = [&[0; 4], &*short("PLAIN"), &long(login), &*short("en_US")].concat();
        this.method(0, 10, 11, &start)?;
        let tune = this.expect(10, 30)?;
        // The limits are as they were offered, and there is no heartbeat.
        let tuned = [tune.get(..6).ok_or("half a tune")?, &[0, 0]].concat();
        this.method(0, 10, 31, &tuned)?;
        this.method(0, 10, 40, &[&*short("/"), &[0, 0]].concat())?;
        this.expect(10, 41)?;
        this.method(1, 20, 10, &[0])?;
        this.expect(20, 11)?;
        let queue_type = [&*short("x-queue-type"), b"S", &*long(kind.as_bytes())].concat();
        let durable = 2;
        let declare = [&[0, 0], &*short(QUEUE), &[durable], &*long(&queue_type)].concat();
        this.method(1, 50, 10, &declare)?;
        this.expect(50, 11)?;
        this.method(1, 85, 10, &[0])?;
        this.expect(85, 11)?;
        Ok(this)
    }

    fn frame(&mut self, kind: u8, channel: u16, content: &[u8]) -> Result<(), Failure> {
        let (channel, length) =
            (channel.to_be_bytes(), u32::try_from(content.len())?.to_be_bytes());
        let frame = [&[kind], &channel[..], &length, content, &[0xce]].concat();
        Ok(self.stream.get_mut().write_all(&frame)?)
    }

    fn method(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        rest: &[u8],
    ) -> Result<(), Failure> {
        let content = [&class.to_be_bytes()[..], &method.to_be_bytes(), rest].concat();
        self.frame(METHOD, channel, &content)
    }

    /// The next frame: its kind, and what is in it.
    fn hear(&mut self) -> Result<(u8, Vec<u8>), Failure> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut content = vec![0; usize::try_from(length)? + 1];
        self.stream.read_exact(&mut content)?;
        content.pop();
        Ok((head[0], content))
    }

    /// The next method: its class and number, and the rest.
    fn next(&mut self) -> Result<(u16, u16, Vec<u8>), Failure> {
        loop {
            let (kind, content) = self.hear()?;
            if kind == METHOD && content.len() >= 4 {
                let class = u16::from_be_bytes([content[0], content[1]]);
                let method = u16::from_be_bytes([content[2], content[3]]);
                return Ok((class, method, content[4..].to_vec()));
            }
        }
    }

    fn expect(&mut self, class: u16, method: u16) -> Result<Vec<u8>, Failure> {
        let heard = self.next()?;
        if (heard.0, heard.1) == (class, method) {
            return Ok(heard.2);
        }
        let text = String::from_utf8_lossy(&heard.2).into_owned();
        Err(format!("expected method {class}.{method}, and got {}.{}: {text}", heard.0, heard.1)
            .into())
    }
}

impl Client for Connected {
    fn send(&mut self, number: u32) -> Result<(), Failure> {
        let payload = number.to_string();
        self.method(1, 60, 40, &[&[0, 0, 0], &*short(QUEUE), &[0]].concat())?;
        // There is one property: the delivery mode, which is persistent.
        let length = (payload.len() as u64).to_be_bytes();
        self.frame(HEADER, 1, &[&[0, 60, 0, 0], &length[..], &[0x10, 0, 2]].concat())?;
        self.frame(BODY, 1, payload.as_bytes())?;
        self.expect(60, 80)?;
        Ok(())
    }

    fn found(&mut self) -> Result<u32, Failure> {
        let mut found = 0;
        loop {
            self.method(1, 60, 70, &[&[0, 0], &*short(QUEUE), &[0]].concat())?;
            match self.next()? {
                (60, 71, _) => found += 1,
                (60, 72, _) => return Ok(found),
                (class, method, _) => {
                    return Err(format!("instead of a message came {class}.{method}").into());
                }
            }
        }
    }
}

/// A text of up to 255 bytes.
fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[length], text.as_bytes()].concat()
}

/// A text, or a table.
fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length, bytes].concat()
}
