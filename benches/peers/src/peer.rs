//! What a peer is: how it takes part in a row, and how it plays its roles.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::stage::Stage;
use crate::work::{Executor, Work};

/// Something that is measured: a library, or a server with its clients.
///
/// To add one, write a file like those in `peers/` and enter it in [`crate::peers::ALL`].
pub(crate) trait Peer: Sync {
    /// The name under which it is listed.
    fn name(&self) -> &'static str;

    /// What is not there that it needs, in a sentence that says how to get it.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Its version, if it has one.
    fn version(&self) -> Option<String> {
        crate::versions::of_crate(self.name())
    }

    /// The ways in which it does this work; none if it cannot.
    fn contenders(&self, work: &Work) -> Vec<Contender>;

    /// The program that plays this role, for servers that are programs of their own.
    ///
    /// # Errors
    /// Why it cannot be prepared.
    fn program(&self, _script: &Script) -> Result<Option<Program>> {
        Ok(None)
    }

    /// Plays a role, in a process of its own, until that process is ended.
    ///
    /// # Errors
    /// What went wrong; the round then counts as failed.
    fn play(&self, stage: &Stage) -> Result<()>;
}

/// One way in which a peer does the work of a row.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    /// Which peer it is.
    pub(crate) peer: &'static str,
    /// Which of its ways this is, if there are several.
    pub(crate) variant: &'static str,
    /// How messages are taken.
    pub(crate) api: Api,
    /// What runs the tasks of its processes.
    pub(crate) executor: Executor,
    /// Its processes, in the order in which they are started.
    pub(crate) roles: &'static [&'static str],
    /// Which of the roles counts what the figure is about.
    pub(crate) counts: &'static str,
}

impl Contender {
    /// A receiver that listens and counts, and a sender that connects to it.
    pub(crate) fn stream(
        peer: &'static str,
        variant: &'static str,
        api: Api,
        executor: Executor,
    ) -> Self {
        let roles = &["receiver", "sender"];
        Self { peer, variant, api, executor, roles, counts: "receiver" }
    }

    /// A server that listens and answers, and a client that connects, asks and counts.
    pub(crate) fn request(
        peer: &'static str,
        variant: &'static str,
        api: Api,
        executor: Executor,
    ) -> Self {
        Self { peer, variant, api, executor, roles: &["server", "client"], counts: "client" }
    }

    /// A broker, a receiver that counts, and a sender.
    pub(crate) fn relay(
        peer: &'static str,
        variant: &'static str,
        api: Api,
        executor: Executor,
    ) -> Self {
        let roles = &["broker", "receiver", "sender"];
        Self { peer, variant, api, executor, roles, counts: "receiver" }
    }

    /// A broker, a server that answers, and a client that asks and counts.
    pub(crate) fn ask(
        peer: &'static str,
        variant: &'static str,
        api: Api,
        executor: Executor,
    ) -> Self {
        let roles = &["broker", "server", "client"];
        Self { peer, variant, api, executor, roles, counts: "client" }
    }

    /// The name in tables.
    pub(crate) fn label(&self) -> String {
        format!("{}, {}", self.peer, self.way())
    }

    /// The name without the peer's.
    pub(crate) fn way(&self) -> String {
        match self.variant {
            "" => self.executor.to_string(),
            variant => format!("{variant}, {}", self.executor),
        }
    }
}

/// How a contender takes messages; only like is compared with like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    /// One at a time.
    One,
    /// All that are there, up to a bound.
    Batch,
    /// All that are there, each acknowledged.
    Acked,
    /// Bytes without any messaging: what bounds the others.
    Limit,
}

impl Api {
    /// The word in tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Batch => "batch",
            Self::Acked => "acked",
            Self::Limit => "limit",
        }
    }
}

/// What one process has to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) peer: String,
    pub(crate) variant: String,
    pub(crate) api: Api,
    pub(crate) executor: Executor,
    pub(crate) role: String,
    pub(crate) work: Work,
    /// Where the roles that were started before can be reached.
    pub(crate) addresses: Vec<(String, String)>,
    /// How many requests a second there are, if that is fixed.
    pub(crate) rate: Option<f64>,
    /// A folder for sockets and state, of this round alone.
    pub(crate) folder: PathBuf,
}

/// A server that is a program of its own.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) command: Command,
    /// A loopback address at which it accepts connections once it is ready.
    pub(crate) address: String,
    /// Where it writes its process id, if it is not the process that is started.
    pub(crate) pid_file: Option<PathBuf>,
}

impl Program {
    /// A program that is itself the server.
    pub(crate) fn new(command: Command, address: String) -> Self {
        Self { command, address, pid_file: None }
    }

    /// The server is the process whose id is in this file.
    pub(crate) fn with_pid_file(mut self, path: PathBuf) -> Self {
        self.pid_file = Some(path);
        self
    }
}
