//! Payloads from the command line and from stdin.

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use bytes::{Bytes, BytesMut};
use posthaste::limits::PAYLOAD_BYTES_MAX;
use tokio::io::{AsyncReadExt, Stdin};

use crate::exit::{Code, Failure};

/// How much of stdin is read at a time.
const CHUNK: usize = 256 << 10;

/// The one payload of a command: its argument, or all of stdin, which on a terminal is empty.
pub(crate) async fn payload(argument: Option<OsString>) -> Result<Bytes, Failure> {
    if let Some(argument) = argument {
        // On Unix these are the very bytes of the argument.
        return Ok(Bytes::from(argument.into_encoded_bytes()));
    }
    if io::stdin().is_terminal() {
        return Ok(Bytes::new());
    }
    let mut all = Vec::new();
    let limit = u64::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u64::MAX);
    // One byte more than fits, to tell a payload that is too large from the largest one.
    let mut stdin = tokio::io::stdin().take(limit.saturating_add(1));
    stdin.read_to_end(&mut all).await.map_err(|error| unreadable(&error))?;
    if all.len() > PAYLOAD_BYTES_MAX {
        return Err(too_long("stdin"));
    }
    Ok(Bytes::from(all))
}

/// The lines of stdin, one payload each, read as they are needed.
///
/// Only the `\n` that ends a line is removed; a last line without one counts. Lines are slices of
/// what was read, so they cost no copy.
#[derive(Debug)]
pub(crate) struct Lines {
    stdin: Stdin,
    buffer: BytesMut,
    /// How much of the buffer is known to have no end of a line in it.
    searched: usize,
    number: u64,
    ended: bool,
}

impl Lines {
    pub(crate) fn of_stdin() -> Self {
        Self {
            stdin: tokio::io::stdin(),
            buffer: BytesMut::with_capacity(CHUNK),
            searched: 0,
            number: 0,
            ended: false,
        }
    }

    /// A line that has been read already.
    pub(crate) fn next_buffered(&mut self) -> Result<Option<Bytes>, Failure> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let at = memchr::memchr(b'\n', unsearched).map(|at| self.searched + at);
        self.searched = at.unwrap_or(self.buffer.len());
        if self.searched > PAYLOAD_BYTES_MAX {
            return Err(too_long(&format!("line {} of stdin", self.number + 1)));
        }
        let Some(at) = at else { return Ok(None) };
        let mut line = self.buffer.split_to(at + 1);
        line.truncate(at);
        self.searched = 0;
        self.number += 1;
        Ok(Some(line.freeze()))
    }

    /// The next line, or `None` at the end. Cancel safe: what was read is kept.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(line) = self.next_buffered()? {
                return Ok(Some(line));
            }
            if self.ended {
                let last = self.buffer.split().freeze();
                self.searched = 0;
                return Ok(Some(last).filter(|line| !line.is_empty()));
            }
            self.buffer.reserve(CHUNK);
            let read = self.stdin.read_buf(&mut self.buffer).await;
            self.ended = read.map_err(|error| unreadable(&error))? == 0;
        }
    }
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot read stdin: {error}"))
}

fn too_long(what: &str) -> Failure {
    let text = format!(
        "{what} is longer than a payload may be ({PAYLOAD_BYTES_MAX} bytes); send it in pieces"
    );
    Failure::new(Code::Failed, text)
}
