//! The clients of a server in another process: told what to do line by line on stdin.

use std::error::Error;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures::future::try_join;
use futures::{StreamExt, TryStreamExt, stream};
use posthaste::{
    Ack, Bus, Message, Queue, ReceiverExt, Reconnect, SenderExt, SenderOptions, Subscription, Topic,
};
use posthaste_measure::{Clock, Usage};
use posthaste_tokio::Tokio;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

/// How many connections are made at a time.
const CONNECTING: usize = 64;
const BATCH: usize = 1_024;

/// Where to connect to, and what to send.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArguments {
    url: String,
    /// Bytes of a payload.
    size: usize,
}

/// What a client is told to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Make so many connections, and leave them alone.
    Idle(u64),
    /// Send so many messages, and receive them.
    Move(u64),
}

/// What a task came to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Done {
    /// From the first send to the last receipt.
    pub(crate) took: Duration,
    /// CPU time of the clients' process.
    pub(crate) cpu: Duration,
}

/// The clients, seen from the process that started them. They end with it.
pub(crate) struct Clients {
    child: Child,
    tasks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Clients {
    /// Starts the process of the clients.
    pub(crate) fn start(url: &str, size: usize) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["client", url, &size.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (tasks, answers) = pipes.ok_or("a process without pipes")?;
        Ok(Self { child, tasks, answers: BufReader::new(answers) })
    }

    /// Has something done, and waits for it.
    pub(crate) fn run(&mut self, task: Task) -> Result<Done, Box<dyn Error>> {
        writeln!(self.tasks, "{}", serde_json::to_string(&task)?)?;
        self.tasks.flush()?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the clients ended early".into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // What it may still have to say does not matter any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does what stdin says until it ends.
pub(crate) fn run(arguments: &ClientArguments) -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut idle, mut traffic) = (Vec::new(), None);
    for line in stdin().lock().lines() {
        let (clock, before) = (Clock::start(), Usage::now()?);
        runtime.block_on(async {
            match serde_json::from_str(&line?)? {
                Task::Idle(connections) => idle.extend(connect(&arguments.url, connections).await?),
                Task::Move(messages) => {
                    let traffic = match &mut traffic {
                        Some(traffic) => traffic,
                        none => none.insert(Traffic::open(arguments).await?),
                    };
                    traffic.go(messages).await?;
                }
            }
            Ok::<(), Box<dyn Error>>(())
        })?;
        let done = Done { took: clock.elapsed(), cpu: Usage::now()?.cpu_since(&before) };
        let mut stdout = stdout().lock();
        writeln!(stdout, "{}", serde_json::to_string(&done)?)?;
        stdout.flush()?;
    }
    Ok(())
}

async fn connect(url: &str, connections: u64) -> Result<Vec<Bus>, Box<dyn Error>> {
    let connecting = stream::iter(0..connections)
        .map(|_| async {
            posthaste::connect(Tokio::current(), url).reconnect(Reconnect::Never).await
        })
        .buffer_unordered(CONNECTING);
    Ok(connecting.try_collect().await?)
}

/// One connection that sends to a queue and receives from it.
struct Traffic {
    bus: Bus,
    message: Message,
}

impl Traffic {
    async fn open(arguments: &ClientArguments) -> Result<Self, Box<dyn Error>> {
        let bus = posthaste::connect(Tokio::current(), &arguments.url);
        let bus = bus.reconnect(Reconnect::Never).await?;
        let queue = Topic::new("jobs")?;
        bus.declare(Queue::new(queue.clone()).capacity(4 * BATCH)).await?;
        let message = Message::to_queue(queue, Bytes::from(vec![7; arguments.size]));
        Ok(Self { bus, message })
    }

    async fn go(&mut self, messages: u64) -> Result<(), Box<dyn Error>> {
        // At least four of the largest on their way.
        let window = (8 << 20).max(4 * self.message.size());
        let options = SenderOptions::new().window(BATCH, window);
        let mut sender = self.bus.sender(options).await?;
        let jobs = Subscription::queue(self.message.topic())?.ack(Ack::Auto).limit(messages);
        let mut jobs = self.bus.receiver(jobs).await?;
        let sending = async {
            for _ in 0..messages {
                let mut slot = Some(self.message.clone());
                sender.send_from(&mut slot).await?;
            }
            sender.flush().await
        };
        let receiving = async {
            let (mut batch, mut came) = (Vec::with_capacity(BATCH), 0);
            loop {
                match jobs.recv_many(&mut batch, BATCH).await? {
                    0 => return Ok(came),
                    more => came += more as u64,
                }
                batch.clear();
            }
        };
        let (_receipt, came) = try_join(sending, receiving).await?;
        if came != messages {
            return Err(format!("{came} of {messages} messages came").into());
        }
        Ok(())
    }
}
