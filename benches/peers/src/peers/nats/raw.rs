//! NATS by hand: `PUB` frames in batches of 64 KiB, prepared once, because they are all alike; and
//! every `MSG` of a read parsed in place, without a copy.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};

use super::{GROUP, SUBJECT};
use crate::pacer::Pacer;
use crate::peers::framed::BATCH_BYTES;
use crate::stage::Stage;
use crate::window::{Taken, Window};
use crate::work::Work;

/// Where answers go.
const INBOX: &str = "inbox";
/// How much is read at a time; the largest message has room several times.
const READ_BYTES: usize = 512 << 10;

pub(super) fn play(stage: &Stage) -> Result<()> {
    let payload = stage.payload();
    match (stage.script().role.as_str(), stage.script().work) {
        ("receiver", Work::PubSub { subscribers, .. }) => {
            receive(stage, &format!("SUB {SUBJECT} 1\r\n"), subscribers)
        }
        ("receiver", Work::Group { members, .. }) => {
            receive(stage, &format!("SUB {SUBJECT} {GROUP} 1\r\n"), members)
        }
        ("sender", _) => {
            let mut connection = Connection::open(stage, "")?;
            let meter = stage.meter();
            stage.ready("");
            let one = publication(SUBJECT, "", &payload);
            let count = BATCH_BYTES.div_ceil(one.len());
            let batch = one.repeat(count);
            let mut window = Window::open(stage)?;
            loop {
                window.take(count)?;
                connection.stream.write_all(&batch)?;
                meter.add(count);
            }
        }
        ("server", _) => {
            let mut connection = Connection::open(stage, &format!("SUB {SUBJECT} 1\r\n"))?;
            stage.ready("");
            let mut answers = Vec::new();
            loop {
                connection.messages(|reply_to, payload| {
                    answers.extend(publication(reply_to, "", payload));
                })?;
                connection.stream.write_all(&answers)?;
                answers.clear();
            }
        }
        ("client", work) => {
            let mut connection = Connection::open(stage, &format!("SUB {INBOX} 1\r\n"))?;
            stage.ready("");
            let meter = stage.meter();
            let one = publication(SUBJECT, INBOX, &payload);
            if stage.script().rate.is_some() {
                return connection.pace(stage, &one);
            }
            connection.stream.write_all(&one.repeat(work.in_flight()))?;
            loop {
                let answered = connection.messages(|_, _| ())?;
                meter.add(answered);
                connection.stream.write_all(&one.repeat(answered))?;
            }
        }
        (role, _) => bail!("there is no {role} for this"),
    }
}

/// So many connections, each on a thread of its own.
fn receive(stage: &Stage, subscribe: &str, connections: usize) -> Result<()> {
    let connections: Vec<_> =
        (0..connections).map(|_| Connection::open(stage, subscribe)).collect::<Result<_>>()?;
    stage.ready("");
    std::thread::scope(|scope| {
        for (nth, connection) in connections.into_iter().enumerate() {
            scope.spawn(move || {
                if let Err(error) = connection.count(stage, nth) {
                    crate::stage::fail(&error);
                }
            });
        }
    });
    Ok(())
}

pub(super) fn publication(subject: &str, reply_to: &str, payload: &[u8]) -> Vec<u8> {
    let gap = if reply_to.is_empty() { "" } else { " " };
    let mut frame = format!("PUB {subject} {reply_to}{gap}{}\r\n", payload.len()).into_bytes();
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\r\n");
    frame
}

pub(super) struct Connection {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    /// What is in the buffer and not yet parsed.
    filled: usize,
}

impl Connection {
    /// Connects, says what it wants, and waits until the server has taken note of it.
    pub(super) fn open(stage: &Stage, wants: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(stage.address_of("broker")?)?;
        stream.set_nodelay(true)?;
        let hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"raw\"}\r\n";
        stream.write_all(format!("{hello}{wants}PING\r\n").as_bytes())?;
        let mut said = Vec::new();
        while !said.ends_with(b"PONG\r\n") {
            let mut some = [0; 4_096];
            let read = stream.read(&mut some)?;
            ensure!(read > 0, "the server says {:?}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&some[..read]);
        }
        Ok(Self { stream, buffer: vec![0; READ_BYTES], filled: 0 })
    }

    fn count(mut self, stage: &Stage, nth: usize) -> Result<()> {
        let (meter, mut taken) = (stage.meter(), Taken::none(stage, nth)?);
        loop {
            let count = self.messages(|_, _| ())?;
            taken.add(count)?;
            meter.add(count);
        }
    }

    /// Asks at a fixed rate. One server answers in the order in which it was asked.
    fn pace(mut self, stage: &Stage, request: &[u8]) -> Result<()> {
        let mut answers = stage.answers();
        let mut pacer = Pacer::start(stage)?;
        let mut unanswered = VecDeque::new();
        loop {
            let due = pacer.take(unanswered.len());
            let count = usize::try_from(due.end - due.start)?;
            self.stream.write_all(&request.repeat(count))?;
            unanswered.extend(due.map(|nth| pacer.due(nth)));
            pacer.arm()?;
            let answered = PollFd::new(&self.stream, PollFlags::IN);
            let mut ready = [answered, PollFd::from_borrowed_fd(pacer.timer(), PollFlags::IN)];
            let asks = if Pacer::is_full(unanswered.len()) { 1 } else { 2 };
            poll(&mut ready[..asks], None)?;
            if ready[0].revents().is_empty() {
                continue;
            }
            for _ in 0..self.messages(|_, _| ())? {
                let due = unanswered.pop_front().context("an answer that nobody asked for")?;
                answers.record(pacer.since(due));
            }
        }
    }

    /// Reads once, and shows every message that is there as a whole; says how many there were.
    pub(super) fn messages(&mut self, mut show: impl FnMut(&str, &[u8])) -> Result<usize> {
        let read = self.stream.read(&mut self.buffer[self.filled..])?;
        ensure!(read > 0, "the server has closed the connection");
        self.filled += read;
        let (mut at, mut count) = (0, 0);
        let mut pong = false;
        while let Some((used, frame)) = parse(&self.buffer[at..self.filled])? {
            at += used;
            match frame {
                Frame::Message { reply_to, payload } => {
                    show(reply_to, payload);
                    count += 1;
                }
                Frame::Ping => pong = true,
                Frame::Other => {}
            }
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        if pong {
            self.stream.write_all(b"PONG\r\n")?;
        }
        Ok(count)
    }
}

/// What the server says.
enum Frame<'a> {
    Message { reply_to: &'a str, payload: &'a [u8] },
    Ping,
    Other,
}

/// The first frame, and how many bytes it has; `None` if it is not there as a whole.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Frame<'_>)>> {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let line = std::str::from_utf8(&bytes[..end])?.trim_end();
    let after = end + 1;
    let Some(fields) = line.strip_prefix("MSG ") else {
        ensure!(!line.starts_with("-ERR"), "the server says {line}");
        let frame = if line == "PING" { Frame::Ping } else { Frame::Other };
        return Ok(Some((after, frame)));
    };
    // A subject, an identity, perhaps where to reply to, and a size.
    let (rest, size) = fields.rsplit_once(' ').context("a message without a size")?;
    let reply_to = rest.split(' ').nth(2).unwrap_or_default();
    let end = after + size.parse::<usize>()?;
    let whole = end + 2;
    if bytes.len() < whole {
        return Ok(None);
    }
    Ok(Some((whole, Frame::Message { reply_to, payload: &bytes[after..end] })))
}

#[cfg(test)]
mod tests {
    use super::{Frame, parse, publication};

    #[test]
    fn a_message_is_parsed_once_it_is_there_as_a_whole() {
        let bytes = b"MSG bench 1 inbox 5\r\na\r\nb!\r\nPING\r\n";
        for cut in 0..28 {
            assert!(parse(&bytes[..cut]).expect("nothing is wrong").is_none(), "{cut}");
        }
        let (used, frame) = parse(bytes).expect("nothing is wrong").expect("it is there");
        assert_eq!(used, 28);
        let Frame::Message { reply_to, payload } = frame else { panic!("it is a message") };
        assert_eq!((reply_to, payload), ("inbox", &b"a\r\nb!"[..]));
        assert!(matches!(parse(&bytes[used..]), Ok(Some((6, Frame::Ping)))));
        let alone = parse(b"MSG bench 1 0\r\n\r\n").expect("nothing is wrong");
        assert!(matches!(alone, Some((17, Frame::Message { reply_to: "", payload: [] }))));
        assert!(parse(b"-ERR 'Slow Consumer'\r\n").is_err());
    }

    #[test]
    fn a_publication_names_where_to_reply_to_if_there_is_such_a_place() {
        assert_eq!(publication("a", "", b"xy"), b"PUB a 2\r\nxy\r\n");
        assert_eq!(publication("a", "b", b""), b"PUB a b 0\r\n\r\n");
    }
}
