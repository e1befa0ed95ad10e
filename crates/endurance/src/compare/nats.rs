//! NATS JetStream: a stream in files.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Client, Peer, until};
use crate::Failure;
use crate::broker::Process;

pub(super) fn peers(server: &Path) -> Vec<Box<dyn Peer>> {
    let peer = |sync| Box::new(Nats { server: server.to_owned(), sync }) as Box<dyn Peer>;
    vec![peer(None), peer(Some("always"))]
}

struct Nats {
    server: PathBuf,
    /// The `sync_interval`, if not the default.
    sync: Option<&'static str>,
}

impl Peer for Nats {
    fn name(&self) -> String {
        let version = Command::new(&self.server).arg("--version").output();
        let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let version = version.unwrap_or_default();
        let version = version.trim().trim_start_matches("nats-server: ").to_owned();
        match self.sync {
            Some(sync) => format!("NATS JetStream {version}, sync_interval {sync}"),
            None => format!("NATS JetStream {version}"),
        }
    }

    fn command(&self, data: &Path, run: &Path) -> Result<Command, Failure> {
        let (configuration, ports) = (run.join("nats.conf"), run.join("ports"));
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir_all(&ports)?;
        let sync = self.sync.map_or_else(String::new, |sync| format!(", sync_interval: {sync}"));
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: \"{}\"\njetstream {{ store_dir: \"{}\"{sync} }}\n",
            ports.display(),
            data.display()
        );
        fs::write(&configuration, text)?;
        let mut command = Command::new(&self.server);
        command.arg("-c").arg(configuration);
        Ok(command)
    }

    fn connect(&self, run: &Path, server: &mut Process) -> Result<Box<dyn Client>, Failure> {
        let address = until(server, || {
            let file = fs::read_dir(run.join("ports"))?.next().ok_or("no port yet")??;
            let ports: Value = serde_json::from_slice(&fs::read(file.path())?)?;
            let url = ports["nats"][0].as_str().ok_or("no port yet")?.to_owned();
            Ok(url.trim_start_matches("nats://").to_owned())
        })?;
        let stream = TcpStream::connect(address)?;
        let mut client = Connected { stream: BufReader::new(stream) };
        client.say("CONNECT {\"verbose\":false}\r\nSUB endurance.answers 1\r\n")?;
        let stream = "{\"name\":\"endurance\",\"subjects\":[\"endurance\"],\"storage\":\"file\"}";
        // JetStream may not be ready yet, and then nobody answers.
        let created = "$JS.API.STREAM.CREATE.endurance";
        until(server, || match client.ask(created, stream)? {
            Value::Null => Err("nobody answers".into()),
            answer if answer["error"].is_null() => Ok(()),
            answer => Err(answer["error"].to_string().into()),
        })?;
        Ok(Box::new(client))
    }
}

struct Connected {
    stream: BufReader<TcpStream>,
}

impl Connected {
    fn say(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }

    /// The answer to a request; null, if there is nobody to answer.
    fn ask(&mut self, subject: &str, payload: &str) -> Result<Value, Failure> {
        self.say(&format!("PUB {subject} endurance.answers {}\r\n{payload}\r\n", payload.len()))?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the connection was closed".into());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["PING"] => self.say("PONG\r\n")?,
                ["MSG", .., length] => {
                    let mut payload = vec![0; length.parse::<usize>()? + 2];
                    self.stream.read_exact(&mut payload)?;
                    return Ok(serde_json::from_slice(&payload).unwrap_or_default());
                }
                ["-ERR", ..] => return Err(line.trim().to_owned().into()),
                _ => {}
            }
        }
    }
}

impl Client for Connected {
    fn send(&mut self, number: u32) -> Result<(), Failure> {
        let answer = self.ask("endurance", &number.to_string())?;
        match answer["seq"].as_u64() {
            Some(_) => Ok(()),
            None => Err(format!("no confirm: {answer}").into()),
        }
    }

    fn found(&mut self) -> Result<u32, Failure> {
        let answer = self.ask("$JS.API.STREAM.INFO.endurance", "")?;
        let messages = answer["state"]["messages"].as_u64();
        Ok(u32::try_from(messages.ok_or_else(|| format!("no stream: {answer}"))?)?)
    }
}
