//! Redis: a stream, with the append-only file.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use super::{Client, Peer, until};
use crate::Failure;
use crate::broker::Process;

pub(super) fn peers() -> Vec<Box<dyn Peer>> {
    vec![Box::new(Redis("everysec")), Box::new(Redis("always"))]
}

/// With this `appendfsync`.
struct Redis(&'static str);

impl Peer for Redis {
    fn name(&self) -> String {
        format!("Redis stream, appendfsync {}", self.0)
    }

    fn command(&self, data: &Path, run: &Path) -> Result<Command, Failure> {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", self.0]);
        command.arg("--dir").arg(data).arg("--unixsocket").arg(run.join("socket"));
        Ok(command)
    }

    fn connect(&self, run: &Path, server: &mut Process) -> Result<Box<dyn Client>, Failure> {
        until(server, || {
            let stream = UnixStream::connect(run.join("socket"))?;
            let mut client = Connected { stream: BufReader::new(stream) };
            // It answers before it has read its file, but with an error.
            client.ask(&["PING"])?;
            Ok(Box::new(client) as _)
        })
    }
}

struct Connected {
    stream: BufReader<UnixStream>,
}

impl Connected {
    /// The first line of the answer to a command.
    fn ask(&mut self, words: &[&str]) -> Result<String, Failure> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.stream.get_mut().write_all(command.as_bytes())?;
        let answer = self.line()?;
        match answer.strip_prefix('-') {
            Some(error) => Err(error.to_owned().into()),
            None => Ok(answer),
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the connection was closed".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Client for Connected {
    fn send(&mut self, number: u32) -> Result<(), Failure> {
        // What was added comes as its length, and then its id.
        self.ask(&["XADD", "endurance", "*", "number", &number.to_string()])?;
        self.line()?;
        Ok(())
    }

    fn found(&mut self) -> Result<u32, Failure> {
        let answer = self.ask(&["XLEN", "endurance"])?;
        Ok(answer.trim_start_matches(':').parse()?)
    }
}
