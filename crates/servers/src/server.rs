//! A server of this process's own.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A real server that runs until this is dropped, with its state in a folder that goes with it.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    name: &'static str,
    url: String,
    /// What it tells its clients instead of its own address.
    behind: Option<String>,
}

/// Why there is no server.
#[derive(Debug, Clone)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

impl Server {
    /// Starts a server of that name (`nats`, `rabbitmq`, `kafka`), and waits until it listens.
    ///
    /// # Errors
    /// Why it could not be: mostly that it is not installed, and how that is done.
    pub fn start(name: &'static str) -> Result<Self, Missing> {
        let folder = tempfile::tempdir().map_err(|error| Missing(error.to_string()))?;
        let mut server = Self { folder, name, url: String::new(), behind: None };
        server.restart()?;
        Ok(server)
    }

    /// Where it is reached, with the name and the password that it knows.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address, without the rest of the URL: `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        let port = std::fs::read_to_string(self.folder.path().join("port")).unwrap_or_default();
        format!("127.0.0.1:{}", port.trim())
    }

    /// The URL with another address in it: a proxy's.
    #[must_use]
    pub fn url_through(&self, address: &str) -> String {
        self.url.replace(&self.address(), address)
    }

    /// Starts it again, on the same port and with the state that it left.
    ///
    /// # Errors
    /// Why it did not come up.
    pub fn restart(&mut self) -> Result<(), Missing> {
        self.url = self.script("start", &[self.name])?;
        Ok(())
    }

    /// Starts it again behind a proxy, whose address it tells its clients from now on, where it
    /// tells them any: Kafka does.
    ///
    /// # Errors
    /// Why it did not come up.
    pub fn restart_behind(&mut self, address: &str) -> Result<(), Missing> {
        self.stop();
        self.behind = Some(address.to_owned());
        self.restart()
    }

    /// Ends it in order.
    pub fn stop(&self) {
        // One that has ended already is no trouble.
        let _ = self.script("stop", &[]);
    }

    /// Ends it at once.
    pub fn kill(&self) {
        let _ = self.script("kill", &[]);
    }

    /// Lets it do nothing, without ending it: its connections stay, and nobody answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        for file in ["rabbit.pid", "pid"] {
            let pid = std::fs::read_to_string(self.folder.path().join(file));
            let pid = pid.ok().and_then(|text| text.trim().parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // A process that has ended hears nothing.
                let _ = kill_process(pid, signal);
                return;
            }
        }
    }

    /// What the script prints.
    fn script(&self, verb: &str, arguments: &[&str]) -> Result<String, Missing> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.ci/servers");
        let mut command = Command::new(script);
        command.arg(verb).args(arguments).arg(self.folder.path());
        command.envs(self.behind.as_ref().map(|address| ("KAFKA_ADVERTISED", address)));
        let output = command.output().map_err(|error| Missing(format!(".ci/servers: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Missing(said.lines().last().unwrap_or("the server did not start").to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
