//! Redis by hand: `PUBLISH` commands in batches of 64 KiB, prepared once, because they are all
//! alike, with `CLIENT REPLY OFF`, which is there for mass insertion; and every message of a read
//! parsed in place, without a copy.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

use super::CHANNEL;
use crate::peers::framed::BATCH_BYTES;
use crate::stage::Stage;
use crate::window::{Taken, Window};

/// How much is read at a time; the largest message has room several times.
const READ_BYTES: usize = 512 << 10;

pub(super) fn play(stage: &Stage) -> Result<()> {
    match stage.script().role.as_str() {
        "receiver" => receive(stage),
        "sender" => send(stage),
        role => bail!("there is no {role} for this"),
    }
}

fn send(stage: &Stage) -> Result<()> {
    let mut stream = TcpStream::connect(stage.address_of("broker")?)?;
    stream.set_nodelay(true)?;
    stream.write_all(&command(&[b"CLIENT", b"REPLY", b"OFF"]))?;
    let meter = stage.meter();
    stage.ready("");
    let one = command(&[b"PUBLISH", CHANNEL.as_bytes(), &stage.payload()]);
    let count = BATCH_BYTES.div_ceil(one.len());
    let batch = one.repeat(count);
    let mut window = Window::open(stage)?;
    loop {
        window.take(count)?;
        stream.write_all(&batch)?;
        meter.add(count);
    }
}

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// So many connections, each on a thread of its own.
fn receive(stage: &Stage) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..stage.script().work.subscribers() {
        let mut stream = TcpStream::connect(stage.address_of("broker")?)?;
        stream.write_all(&command(&[b"SUBSCRIBE", CHANNEL.as_bytes()]))?;
        // The answer is an array of three: a word, the channel, and how many there are.
        let mut answer = Vec::new();
        while !answer.ends_with(b":1\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        streams.push(stream);
    }
    stage.ready("");
    std::thread::scope(|scope| {
        for (nth, stream) in streams.into_iter().enumerate() {
            scope.spawn(move || {
                if let Err(error) = take(stream, stage, nth) {
                    crate::stage::fail(&error);
                }
            });
        }
    });
    Ok(())
}

fn take(mut stream: TcpStream, stage: &Stage, nth: usize) -> Result<()> {
    let (meter, mut taken) = (stage.meter(), Taken::none(stage, nth)?);
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        ensure!(read > 0, "the server has closed the connection");
        filled += read;
        let (mut at, mut count) = (0, 0);
        while let Some((used, payload)) = parse(&buffer[at..filled])? {
            std::hint::black_box(payload);
            at += used;
            count += 1;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        taken.add(count)?;
        meter.add(count);
    }
}

/// The payload of the first message, and how many bytes the message has; `None` if it is not there
/// as a whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, &[u8])>> {
    // An array of three strings: a word, the channel, and the payload.
    let Some((count, mut at)) = number(bytes, b'*')? else {
        return Ok(None);
    };
    ensure!(count == 3, "a message has three parts, this has {count}");
    let mut part = &bytes[..0];
    for _ in 0..count {
        let Some((length, head)) = number(&bytes[at..], b'$')? else {
            return Ok(None);
        };
        let (begin, end) = (at + head, at + head + length);
        if bytes.len() < end + 2 {
            return Ok(None);
        }
        (part, at) = (&bytes[begin..end], end + 2);
    }
    Ok(Some((at, part)))
}

/// The number of a line such as `$64`, and how many bytes the line has.
fn number(bytes: &[u8], kind: u8) -> Result<Option<(usize, usize)>> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[..end])?.trim_end();
    let number = line.strip_prefix(char::from(kind));
    let number = number.with_context(|| format!("the server says {line:?}"))?;
    Ok(Some((number.parse()?, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::{command, parse};

    #[test]
    fn a_message_is_parsed_once_it_is_there_as_a_whole() {
        let bytes = command(&[b"message", b"bench", b"a\r\nb"]);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]).expect("nothing is wrong"), None, "{cut}");
        }
        let parsed = parse(&bytes).expect("nothing is wrong");
        assert_eq!(parsed, Some((bytes.len(), &b"a\r\nb"[..])));
        assert!(parse(b"-ERR unknown\r\n").is_err());
    }
}
