//! Redis publish-subscribe, driven by a raw socket with batches made by hand, and by the `redis`
//! crate. What it drops for slow subscribers is unbounded here, so that none is cut off.

mod client;
mod raw;

use std::process::Command;

use anyhow::Result;

use crate::peer::{Api, Contender, Peer, Program, Script};
use crate::server;
use crate::stage::Stage;
use crate::work::{Executor, Work};

/// Where messages are published.
const CHANNEL: &str = "bench";
/// The names of the two ways to drive it.
const RAW: &str = "raw client";
const CLIENT: &str = "redis crate";

/// The peer.
pub(crate) struct Redis;

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn missing(&self) -> Option<String> {
        server::missing(&["redis-server"])
    }

    fn version(&self) -> Option<String> {
        let client = crate::versions::of_crate("redis").unwrap_or_default();
        let server = server::version("redis-server", &["--version"])?;
        Some(format!("{server}, redis crate {client}"))
    }

    fn contenders(&self, work: &Work) -> Vec<Contender> {
        let peer = self.name();
        let ways = [(RAW, Api::Batch, Executor::Threads), (CLIENT, Api::One, Executor::TokioMt)];
        match work {
            Work::PubSub { .. } => ways
                .map(|(variant, api, executor)| Contender::relay(peer, variant, api, executor))
                .into(),
            _ => Vec::new(),
        }
    }

    fn program(&self, script: &Script) -> Result<Option<Program>> {
        if script.role != "broker" {
            return Ok(None);
        }
        let address = server::free_address()?;
        let mut command = Command::new(server::find("redis-server")?);
        command.args(["--bind", "127.0.0.1", "--port"]).arg(server::port_of(&address));
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.args(["--client-output-buffer-limit", "pubsub", "0", "0", "0", "--dir"]);
        command.arg(&script.folder);
        Ok(Some(Program::new(command, address)))
    }

    fn play(&self, stage: &Stage) -> Result<()> {
        match stage.script().variant.as_str() {
            CLIENT => client::play(stage),
            _ => raw::play(stage),
        }
    }
}
