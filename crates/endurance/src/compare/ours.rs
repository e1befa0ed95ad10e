//! Posthaste.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use posthaste::{BoxSender, Bus, Level, Message, Queue, SenderExt, SenderOptions, Topic};
use tokio::runtime::{Builder, Runtime};

use super::{Client, Peer, until};
use crate::Failure;
use crate::broker::Process;
use crate::load::connect;

const QUEUE: &str = "endurance";

pub(super) struct Ours(pub(super) PathBuf);

impl Peer for Ours {
    fn name(&self) -> String {
        "Posthaste".to_owned()
    }

    fn command(&self, data: &Path, run: &Path) -> Result<Command, Failure> {
        let _ = fs::remove_file(run.join("socket"));
        let mut command = Command::new(&self.0);
        command.arg("serve").arg(url(run)).arg("--data").arg(data);
        Ok(command)
    }

    fn connect(&self, run: &Path, server: &mut Process) -> Result<Box<dyn Client>, Failure> {
        // It is there when it accepts, and before that a connection is refused.
        until(server, || {
            Ok(std::os::unix::net::UnixStream::connect(run.join("socket")).map(drop)?)
        })?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (bus, sender) = runtime.block_on(async {
            let bus = connect(&url(run)).await?;
            bus.declare(Queue::new(Topic::new(QUEUE)?).durable(true)).await?;
            let sender = bus.sender(SenderOptions::new().confirm(Level::Stored)).await?;
            Ok::<_, posthaste::Error>((bus, sender))
        })?;
        Ok(Box::new(Connected { bus, sender, runtime }))
    }
}

fn url(run: &Path) -> String {
    format!("unix:{}", run.join("socket").display())
}

struct Connected {
    bus: Bus,
    sender: BoxSender,
    /// Last, since the others live in it.
    runtime: Runtime,
}

impl Client for Connected {
    fn send(&mut self, number: u32) -> Result<(), Failure> {
        let message = Message::to_queue(Topic::new(QUEUE)?, number.to_string());
        self.runtime.block_on(self.sender.send(message))?;
        Ok(())
    }

    fn found(&mut self) -> Result<u32, Failure> {
        let info = self.runtime.block_on(self.bus.queue(QUEUE))?;
        Ok(u32::try_from(info.messages)?)
    }
}
