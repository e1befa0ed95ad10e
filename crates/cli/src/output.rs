//! Messages on stdout: as payloads, or as JSON, one object a line.

use std::io::{self, Write};
use std::mem;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use posthaste::{Delivery, Topic};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::exit::Failure;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The payload and a `\n`.
    Payload,
    /// One JSON object a line.
    Json,
}

/// Messages on their way to stdout.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    /// The queue that the messages come from.
    queue: Option<Topic>,
    buffer: Vec<u8>,
}

impl Output {
    pub(crate) fn new(format: Format, queue: Option<Topic>) -> Self {
        Self { format, queue, buffer: Vec::new() }
    }

    /// Adds a message to what is written next.
    pub(crate) fn push(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        match self.format {
            Format::Payload => self.buffer.extend_from_slice(delivery.payload()),
            Format::Json => {
                let record = Record::of(delivery, self.queue.as_ref());
                serde_json::to_writer(&mut self.buffer, &record).map_err(io::Error::from)?;
            }
        }
        self.buffer.push(b'\n');
        Ok(())
    }

    /// Writes everything that was added, and flushes it.
    ///
    /// On a thread of its own, because a reader that takes nothing (a pager) stops the write, and
    /// must not stop the heartbeats of the connection.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        let buffer = mem::take(&mut self.buffer);
        let writing = tokio::task::spawn_blocking(move || write(&buffer).map(|()| buffer));
        self.buffer = writing.await.map_err(io::Error::other)??;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes one line to stdout.
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    write(format!("{line}\n").as_bytes())?;
    Ok(())
}

/// Writes bytes to stdout, and flushes them.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Bytes as text, if they are; of what was `cut` off, up to the last whole character.
pub(crate) fn as_text(bytes: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()
        }
        Err(_) => None,
    }
}

/// Bytes that are no text, as text.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// A text of somebody else's on one line, without what a terminal would take for a command.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// A message as JSON.
#[derive(Debug, Serialize)]
struct Record<'a> {
    topic: &'a str,
    queue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    headers: Headers<'a>,
    key: Option<&'a str>,
    id: Option<&'a str>,
    attempt: u32,
    /// How many messages the subscription lost right before this one.
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
    /// Where in a queue that retains it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

impl<'a> Record<'a> {
    fn of(delivery: &'a Delivery, queue: Option<&'a Topic>) -> Self {
        let message = delivery.message();
        let payload = as_text(message.payload(), false);
        Self {
            topic: std::str::from_utf8(message.topic_bytes()).unwrap_or_default(),
            queue: queue.map(Topic::as_str),
            payload,
            payload_base64: payload.is_none().then(|| base64(message.payload())),
            headers: Headers(message.headers().collect()),
            key: message.key(),
            id: message.id(),
            attempt: delivery.attempt(),
            missed: delivery.missed(),
            offset: delivery.offset(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Headers as an object. The value of a name that occurs several times is an array of all of its
/// values, because no value may get lost.
#[derive(Debug)]
pub(crate) struct Headers<'a>(pub(crate) Vec<(&'a str, &'a str)>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            if self.0[..index].iter().any(|(earlier, _)| earlier == name) {
                continue;
            }
            let same = self.0[index..].iter().filter(|(this, _)| this == name);
            let values: Vec<_> = same.map(|(_, value)| *value).collect();
            match &*values {
                [_] => map.serialize_entry(name, value)?,
                several => map.serialize_entry(name, several)?,
            }
        }
        map.end()
    }
}
