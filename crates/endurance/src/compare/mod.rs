//! The same kill and the same power cut under other brokers, right after their last confirm.
//!
//! Each is spoken to in the simplest way there is: one connection, one message at a time, the next one
//! when the one before was confirmed.

mod mqtt;
mod nats;
mod ours;
mod rabbitmq;
mod redis;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;
use crate::broker::Process;
use crate::cycles::Options;
use crate::ending::Scratch;
use crate::image::Image;

/// How many messages are sent and written out before those that count.
const BEFORE: u32 = 50;
/// How many messages are confirmed right before the cut.
const COUNTED: u32 = 400;
/// How large the disk is.
const DISK: u64 = 512 << 20;
/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);
/// How long it is left alone until it is asked again, and how often what it holds is asked for.
const PAUSE: Duration = Duration::from_millis(20);
const ATTEMPTS_MAX: u32 = 3;

/// A broker to be compared.
trait Peer {
    /// What it is and how it is set up.
    fn name(&self) -> String;

    /// What starts it with its data in `data`, and everything else it needs in `run`.
    fn command(&self, data: &Path, run: &Path) -> Result<Command, Failure>;

    /// Whether it knows its queue after a kill only if it was ended in order once since that was declared.
    fn has_to_settle(&self) -> bool {
        false
    }

    /// Connects, once it listens, and declares what is needed unless it is there.
    fn connect(&self, run: &Path, server: &mut Process) -> Result<Box<dyn Client>, Failure>;
}

/// A connection to a broker.
trait Client {
    /// Sends a message and waits for its confirm.
    fn send(&mut self, number: u32) -> Result<(), Failure>;

    /// How many messages are there.
    fn found(&mut self) -> Result<u32, Failure>;
}

/// What became of a broker's confirmed messages.
#[derive(Debug, Clone, Serialize)]
pub struct Compared {
    /// What it is and how it is set up.
    pub name: String,
    /// How many messages were confirmed in each round.
    pub confirmed: u32,
    /// How many of these were lost when it was killed, round by round.
    pub killed: Vec<u32>,
    /// How many of these were lost when the power went, round by round.
    pub cut: Vec<u32>,
    /// Why there are no numbers, or not all of them.
    pub why: Option<String>,
}

/// Kills brokers, and cuts their power, right after the last of 400 confirms; so often each. With `only`
/// those alone whose names have that in them.
///
/// # Errors
/// What kept the comparison from being made. A broker that is not here, or that fails, is in the table
/// with the reason.
pub fn compare(
    options: &Options,
    nats: &Path,
    only: Option<&str>,
) -> Result<Vec<Compared>, Failure> {
    let mut peers: Vec<Box<dyn Peer>> = vec![Box::new(ours::Ours(options.posthaste.clone()))];
    peers.extend(rabbitmq::peers());
    peers.extend(redis::peers());
    peers.extend(nats::peers(nats));
    peers.extend(mqtt::peers());
    peers.retain(|peer| only.is_none_or(|only| peer.name().contains(only)));
    let mut table = Vec::with_capacity(peers.len());
    for peer in peers {
        let (name, confirmed) = (peer.name(), BEFORE + COUNTED);
        let mut row = Compared { name, confirmed, killed: Vec::new(), cut: Vec::new(), why: None };
        for _ in 0..options.cycles {
            if let Err(error) = round(&*peer, &options.scratch, &mut row) {
                row.why = Some(error.to_string());
                break;
            }
        }
        table.push(row);
    }
    Ok(table)
}

/// The table, in Markdown.
#[must_use]
pub fn table(rows: &[Compared]) -> String {
    let mut text = String::from("| broker | kill -9: lost | power cut: lost |\n|---|---|---|\n");
    for row in rows {
        let cell = |lost: &[u32]| match lost {
            [] => "-".to_owned(),
            _ => {
                let lost: Vec<String> = lost.iter().map(u32::to_string).collect();
                format!("{} of {}", lost.join(", "), row.confirmed)
            }
        };
        let why = row.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        let (killed, cut) = (cell(&row.killed), cell(&row.cut));
        text += &format!("| {}{why} | {killed} | {cut} |\n", row.name);
    }
    text
}

/// One kill and one power cut.
fn round(peer: &dyn Peer, scratch: &Path, row: &mut Compared) -> Result<(), Failure> {
    let folder = Scratch::new(scratch)?;
    let (data, run) = places(folder.path(), folder.path())?;
    let mut server = fill(peer, &data, &run)?;
    server.kill()?;
    row.killed.push(lost(peer, &data, &run)?);

    let folder = Scratch::new(scratch)?;
    let mut image = Image::new(scratch, "ext4", DISK)?;
    let (data, run) = places(&image.files(), folder.path())?;
    let mut server = fill(peer, &data, &run)?;
    server.stop()?;
    let copy = image.copy()?;
    server.kill()?;
    image.replace(&copy)?;
    row.cut.push(lost(peer, &data, &run)?);
    Ok(())
}

/// A folder for data, and one for the rest.
fn places(data: &Path, run: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let (data, run) = (data.join("data"), run.join("run"));
    fs::create_dir_all(&data)?;
    fs::create_dir_all(&run)?;
    Ok((data, run))
}

/// Starts a broker, and has it confirm messages.
fn fill(peer: &dyn Peer, data: &Path, run: &Path) -> Result<Process, Failure> {
    let mut server = Process::spawn(&mut peer.command(data, run)?)?;
    let mut client = peer.connect(run, &mut server)?;
    if peer.has_to_settle() {
        drop(client);
        server.terminate()?;
        server = Process::spawn(&mut peer.command(data, run)?)?;
        client = peer.connect(run, &mut server)?;
    }
    for number in 0..BEFORE {
        client.send(number)?;
    }
    // A disk of its own is written out, so that what is lost is what came behind.
    let synced = Command::new("sync").arg("-f").arg(data).status()?;
    if !synced.success() {
        return Err(format!("sync failed: {synced}").into());
    }
    for number in BEFORE..BEFORE + COUNTED {
        client.send(number)?;
    }
    Ok(server)
}

/// Starts a broker again, and counts what is not there.
fn lost(peer: &dyn Peer, data: &Path, run: &Path) -> Result<u32, Failure> {
    let mut server = Process::spawn(&mut peer.command(data, run)?)?;
    let mut attempts = 0;
    let found = loop {
        // A server may listen before everything is there again, and say so.
        match peer.connect(run, &mut server)?.found() {
            Ok(found) => break found,
            Err(error) if attempts == ATTEMPTS_MAX => return Err(error),
            Err(_) => {
                attempts += 1;
                std::thread::sleep(PAUSE * 50);
            }
        }
    };
    server.kill()?;
    Ok((BEFORE + COUNTED).saturating_sub(found))
}

/// Tries until something can be done that cannot be before a server listens.
fn until<T>(
    server: &mut Process,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let end = Instant::now() + START_MAX;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) if server.has_ended()? => {
                let said = server.said();
                let last = said.lines().last().unwrap_or_default().to_owned();
                return Err(format!("it did not start: {last}").into());
            }
            // The server needs the processor more than whoever asks whether it is there.
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Whether an error says that nothing came in time.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
