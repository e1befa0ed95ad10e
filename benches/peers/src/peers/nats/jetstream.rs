//! A stream of JetStream's in files, by hand as `raw` is: publications are confirmed by their replies, many
//! in flight; a push consumer gets the messages, and one acknowledgement for all of a read takes those
//! before it along.

use std::io::{Error, ErrorKind, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::SUBJECT;
use super::raw::{Connection, publication};
use crate::stage::Stage;
use crate::work::UNCONFIRMED;

/// Where confirms, answers of the server and messages go.
const INBOX: &str = "inbox";
const DELIVER: &str = "deliver";
/// How many messages may be unacknowledged.
const UNACKED: usize = 16_384;
/// How long the server may take until its streams can be used.
const START: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_millis(200);

pub(super) fn play(stage: &Stage) -> Result<()> {
    match stage.script().role.as_str() {
        "receiver" => receive(stage),
        "sender" => send(stage),
        role => bail!("there is no {role} for this"),
    }
}

fn receive(stage: &Stage) -> Result<()> {
    let mut asks = Connection::open(stage, &format!("SUB {INBOX} 1\r\n"))?;
    let stream =
        format!("{{\"name\":\"{SUBJECT}\",\"subjects\":[\"{SUBJECT}\"],\"storage\":\"file\"}}");
    ask(&mut asks, &format!("$JS.API.STREAM.CREATE.{SUBJECT}"), &stream)?;
    let mut connection = Connection::open(stage, &format!("SUB {DELIVER} 1\r\n"))?;
    let consumer = format!(
        "{{\"stream_name\":\"{SUBJECT}\",\"config\":{{\"durable_name\":\"all\",\
         \"deliver_subject\":\"{DELIVER}\",\"ack_policy\":\"all\",\"max_ack_pending\":{UNACKED}}}}}"
    );
    ask(&mut asks, &format!("$JS.API.CONSUMER.DURABLE.CREATE.{SUBJECT}.all"), &consumer)?;
    let meter = stage.meter();
    stage.ready("");
    let mut last = String::new();
    loop {
        let count = connection.messages(|reply_to, _| reply_to.clone_into(&mut last))?;
        if count > 0 {
            connection.stream.write_all(&publication(&last, "", b"+ACK"))?;
            meter.add(count);
        }
    }
}

/// Asks the server until it does what it is asked: its streams are there a while after it listens.
fn ask(connection: &mut Connection, subject: &str, request: &str) -> Result<()> {
    let until = Instant::now() + START;
    loop {
        connection.stream.set_read_timeout(Some(ANSWER))?;
        connection.stream.write_all(&publication(subject, INBOX, request.as_bytes()))?;
        let mut answer = String::new();
        let heard = connection.messages(|_, payload| {
            answer = String::from_utf8_lossy(payload).into_owned();
        });
        // Whoever asks too early gets no answer.
        let late = |error: &anyhow::Error| {
            error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        if let Err(error) = heard
            && !late(&error)
        {
            return Err(error);
        }
        if !answer.is_empty() && !answer.contains("\"error\"") {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{subject}: {answer}");
    }
}

fn send(stage: &Stage) -> Result<()> {
    let mut connection = Connection::open(stage, &format!("SUB {INBOX} 1\r\n"))?;
    let meter = stage.meter();
    let one = publication(SUBJECT, INBOX, &stage.payload());
    stage.ready("");
    connection.stream.write_all(&one.repeat(UNCONFIRMED))?;
    loop {
        let mut refused = None;
        let confirmed = connection.messages(|_, payload| {
            if payload.windows(7).any(|part| part == b"\"error\"") {
                refused = Some(String::from_utf8_lossy(payload).into_owned());
            }
        })?;
        if let Some(refused) = refused {
            bail!("the server says {refused}");
        }
        meter.add(confirmed);
        connection.stream.write_all(&one.repeat(confirmed))?;
    }
}
