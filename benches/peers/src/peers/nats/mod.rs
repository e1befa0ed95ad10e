//! nats-server, driven by a raw socket with batches made by hand, which no client library can beat,
//! and by async-nats.

mod client;
mod jetstream;
mod raw;

use std::process::Command;

use anyhow::Result;

use crate::peer::{Api, Contender, Peer, Program, Script};
use crate::server;
use crate::stage::Stage;
use crate::work::{Executor, Via, Work};

/// Where messages are published, and where requests go.
const SUBJECT: &str = "bench";
/// The group that shares messages.
const GROUP: &str = "group";
/// The names of the two ways to drive it.
const RAW: &str = "raw client";
const CLIENT: &str = "async-nats";
/// The same for streams in files: with the defaults, and synced before each confirm.
const STREAM: &str = "JetStream file";
const SYNCED: &str = "JetStream file, sync always";

/// The peer.
pub(crate) struct Nats;

impl Peer for Nats {
    fn name(&self) -> &'static str {
        "nats-server"
    }

    fn missing(&self) -> Option<String> {
        server::missing(&["nats-server"])
    }

    fn version(&self) -> Option<String> {
        let client = crate::versions::of_crate("async-nats").unwrap_or_default();
        let server = server::version("nats-server", &["--version"])?;
        Some(format!("{server}, async-nats {client}"))
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let peer = self.name();
        let ways = [(RAW, Api::Batch, Executor::Threads), (CLIENT, Api::One, Executor::TokioMt)];
        match work {
            Work::PubSub { .. } | Work::Group { .. } => ways
                .map(|(variant, api, executor)| Contender::relay(peer, variant, api, executor))
                .into(),
            Work::Ask { .. } | Work::Paced { via: Via::Broker, .. } => ways
                .map(|(variant, _, executor)| Contender::ask(peer, variant, Api::One, executor))
                .into(),
            Work::Durable { .. } => [STREAM, SYNCED]
                .map(|way| Contender::relay(peer, way, Api::Acked, Executor::Threads))
                .into(),
            _ => Vec::new(),
        }
    }

    fn program(&self, script: &Script) -> Result<Option<Program>> {
        if script.role != "broker" {
            return Ok(None);
        }
        let address = server::free_address()?;
        let mut command = Command::new(server::find("nats-server")?);
        command.args(["--addr", "127.0.0.1", "--port"]).arg(server::port_of(&address));
        if let Work::Durable { .. } = script.work {
            let sync = if script.variant == SYNCED { ", sync_interval: always" } else { "" };
            let (folder, file) = (script.folder.join("js"), script.folder.join("nats.conf"));
            let settings = format!("jetstream {{ store_dir: \"{}\"{sync} }}\n", folder.display());
            std::fs::write(&file, settings)?;
            command.arg("-c").arg(file);
        }
        Ok(Some(Program::new(command, address)))
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        match stage.script().variant.as_str() {
            CLIENT => client::play(stage),
            STREAM | SYNCED => jetstream::play(stage),
            _ => raw::play(stage),
        }
    }
}
