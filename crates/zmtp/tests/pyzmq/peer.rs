//! A socket of libzmq in a Python process.

#![allow(clippy::disallowed_methods, reason = "a thread reads what the process says")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use async_channel::{Receiver, bounded};
use bytes::Bytes;
use serde_json::{Value, json};

/// How long something may take that has to come.
const PATIENCE_MS: u64 = 15_000;

/// The Python that has pyzmq, as `.ci/servers install zeromq` makes it.
pub(crate) fn python() -> Result<PathBuf, String> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let installed = std::env::var_os("POSTHASTE_SERVERS").map(PathBuf::from);
    let installed = installed.unwrap_or_else(|| here.join("../../target/servers"));
    let python = installed.join("python/bin/python3");
    match python.exists() {
        true => Ok(python),
        false => Err(String::from("pyzmq is not installed; .ci/servers install zeromq does that")),
    }
}

/// A socket; it ends with its value.
pub(crate) struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    said: Receiver<String>,
    at: String,
}

impl Peer {
    /// Starts it, and waits until it is bound or connecting.
    pub(crate) async fn start(socket: &str, side: &str, at: &str, settings: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer.py");
        let settings = if settings.is_empty() { "{}" } else { settings };
        let mut child = Command::new(python().unwrap())
            .args([script, socket, side, at, settings])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, said) = bounded(16);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if say.send_blocking(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let mut peer = Self { child, input, said, at: String::new() };
        peer.at = peer.hear().await["at"].as_str().unwrap().to_owned();
        peer
    }

    /// Where it is bound, or what it connects to.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    async fn hear(&self) -> Value {
        let line = self.said.recv().await.expect("the Python process has ended");
        serde_json::from_str(&line).unwrap()
    }

    async fn tell(&mut self, command: Value) -> Value {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{command}").unwrap();
        self.hear().await
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, frames: &[&[u8]]) {
        let frames: Vec<String> = frames.iter().map(|frame| hex(frame)).collect();
        self.tell(json!({ "send": frames })).await;
    }

    /// Receives the message that has to come.
    pub(crate) async fn recv(&mut self) -> Vec<Bytes> {
        self.recv_within(PATIENCE_MS).await.expect("nothing came to the Python process")
    }

    /// Receives a message if one comes in time.
    pub(crate) async fn recv_within(&mut self, millis: u64) -> Option<Vec<Bytes>> {
        let said = self.tell(json!({ "recv": millis })).await;
        let frames = said.get("frames")?.as_array()?;
        Some(frames.iter().map(|frame| unhex(frame.as_str().unwrap())).collect())
    }

    /// Subscribes a `SUB` socket to more.
    pub(crate) async fn subscribe(&mut self, prefix: &[u8]) {
        self.tell(json!({ "subscribe": hex(prefix) })).await;
    }

    /// Takes such a subscription back.
    pub(crate) async fn unsubscribe(&mut self, prefix: &[u8]) {
        self.tell(json!({ "unsubscribe": hex(prefix) })).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input ends it; what it has to send has two seconds.
        self.input = None;
        let _ended = self.child.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}
