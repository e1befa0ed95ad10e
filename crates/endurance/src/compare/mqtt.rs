//! Mosquitto: QoS 1, for a session that outlives its connection, with persistence.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Client, Peer, is_silence, until};
use crate::Failure;
use crate::broker::Process;

/// After so long a silence nothing more comes.
const SILENCE: Duration = Duration::from_secs(2);
const TOPIC: &str = "endurance";
const SUBSCRIBER: &str = "endurance-subscriber";

pub(super) fn peers() -> Vec<Box<dyn Peer>> {
    vec![Box::new(Mosquitto)]
}

struct Mosquitto;

impl Peer for Mosquitto {
    fn name(&self) -> String {
        "Mosquitto, QoS 1, persistence true".to_owned()
    }

    fn command(&self, data: &Path, run: &Path) -> Result<Command, Failure> {
        let (socket, configuration) = (run.join("socket"), run.join("mosquitto.conf"));
        let _ = fs::remove_file(&socket);
        let text = format!(
            "listener 0 {}\nallow_anonymous true\nuser root\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 10000\n",
            socket.display(),
            data.display()
        );
        fs::write(&configuration, text)?;
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(configuration);
        Ok(command)
    }

    fn connect(&self, run: &Path, server: &mut Process) -> Result<Box<dyn Client>, Failure> {
        let socket = run.join("socket");
        until(server, || Ok(UnixStream::connect(&socket).map(drop)?))?;
        let publisher = Connection::open(&socket, "endurance-publisher", true)?;
        let first = run.join("subscribed");
        let mut subscriber = None;
        if first.exists() {
            subscriber = Some(Connection::open(&socket, SUBSCRIBER, false)?);
        } else {
            // It subscribes once, and is away from then on.
            let mut connection = Connection::open(&socket, SUBSCRIBER, false)?;
            connection.say(0x82, &[&[0, 1], &*text(TOPIC), &[1]].concat())?;
            connection.expect(0x90)?;
            connection.say(0xe0, &[])?;
            fs::write(first, "")?;
        }
        Ok(Box::new(Connected { publisher, subscriber }))
    }
}

struct Connected {
    publisher: Connection,
    subscriber: Option<Connection>,
}

impl Client for Connected {
    fn send(&mut self, number: u32) -> Result<(), Failure> {
        let id = u16::try_from(number + 1)?.to_be_bytes();
        let packet = [&*text(TOPIC), &id, number.to_string().as_bytes()].concat();
        self.publisher.say(0x32, &packet)?;
        self.publisher.expect(0x40)?;
        Ok(())
    }

    fn found(&mut self) -> Result<u32, Failure> {
        let subscriber = self.subscriber.as_mut().ok_or("nobody has subscribed")?;
        let mut found = 0;
        while let Some((kind, packet)) = subscriber.hear()? {
            if kind >> 4 == 3 {
                found += 1;
                let topic = usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                subscriber.say(0x40, &packet[2 + topic..4 + topic])?;
            }
        }
        Ok(found)
    }
}

struct Connection(UnixStream);

impl Connection {
    fn open(socket: &Path, client: &str, clean: bool) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut connection = Self(stream);
        // Protocol 3.1.1, and no keep-alive.
        let flags = if clean { 2 } else { 0 };
        let packet = [&*text("MQTT"), &[4, flags, 0, 0], &*text(client)].concat();
        connection.say(0x10, &packet)?;
        connection.expect(0x20)?;
        Ok(connection)
    }

    fn say(&mut self, kind: u8, packet: &[u8]) -> Result<(), Failure> {
        // Nothing here is longer than one byte of length can say.
        let length = u8::try_from(packet.len())?;
        Ok(self.0.write_all(&[&[kind, length], packet].concat())?)
    }

    /// The next packet; none after a silence.
    fn hear(&mut self) -> Result<Option<(u8, Vec<u8>)>, Failure> {
        let mut head = [0; 2];
        match self.0.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if is_silence(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut packet = vec![0; usize::from(head[1])];
        self.0.read_exact(&mut packet)?;
        Ok(Some((head[0], packet)))
    }

    fn expect(&mut self, kind: u8) -> Result<(), Failure> {
        match self.hear()? {
            Some((heard, _)) if heard == kind => Ok(()),
            other => Err(format!("expected packet {kind:#x}, and got {other:?}").into()),
        }
    }
}

/// A text as it is in a packet.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length, text.as_bytes()].concat()
}
