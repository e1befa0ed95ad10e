//! `posthaste log`: the folder of a broker that is stopped.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use posthaste::log::{Contents, Line, QueueContents};
use posthaste::{Durable, Folder, LogOptions};
use posthaste_tokio::Tokio;
use serde::Serialize;

use crate::exit::{Code, Failure};
use crate::output::print_line;
use crate::record::json;
use crate::table;

/// Look into the folder of a broker that is stopped
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read everything, and say what is damaged, and where (exit 1)
    ///
    /// A torn end is no damage: as far as the log can tell it was being written when the broker ended,
    /// which cuts it off, and keeps it aside, when it is started.
    Verify {
        /// The folder
        dir: PathBuf,
    },
    /// Print every record, one on a line
    Dump {
        /// The folder
        dir: PathBuf,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
    /// Show the queues that are kept there, and what they take
    Stat {
        /// The folder
        dir: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write what is in the queues anew, and forget everything else
    Compact {
        /// The folder
        dir: PathBuf,
    },
}

pub(crate) async fn run(args: LogArgs) -> Result<(), Failure> {
    match args.verb {
        Verb::Verify { dir } => {
            let found = look(&dir, |_| Ok(()))?;
            for damage in &found.damage {
                print_line(&damage.to_string())?;
            }
            if let Some(torn) = &found.torn {
                print_line(&format!(
                    "the end is torn, and was being written when the broker ended, as far as the \
                     log can tell: {} at byte {} (position {})",
                    torn.segment, torn.offset, torn.position
                ))?;
            }
            let (from, to) = found.positions;
            let (records, segments) = (found.records, found.segments);
            match found.damage.len() {
                0 => print_line(&format!(
                    "sound: {records} records in {segments} segments, positions {from} to {to}"
                )),
                count => {
                    let places = if count == 1 { "place" } else { "places" };
                    let text = format!(
                        "{} is damaged in {count} {places}; what is there was stored and is lost, so \
                         bring the folder back from a copy",
                        dir.display()
                    );
                    Err(Failure::new(Code::Failed, text))
                }
            }
        }
        Verb::Dump { dir, json } => sound(&look(&dir, |line| dump(&line, json))?),
        Verb::Stat { dir, json } => {
            let found = look(&dir, |_| Ok(()))?;
            print_line(&stat(&found, json)?)?;
            sound(&found)
        }
        Verb::Compact { dir } => compact(&dir).await,
    }
}

/// Fails if anything is damaged, whatever else could be told.
fn sound(found: &Contents) -> Result<(), Failure> {
    let Some(first) = found.damage.first() else {
        return Ok(());
    };
    let text = match found.damage.len() - 1 {
        0 => format!("{first}; bring the folder back from a copy"),
        1 => format!("{first}, and damaged in 1 more place; posthaste log verify names both"),
        more => {
            format!("{first}, and damaged in {more} more places; posthaste log verify names all")
        }
    };
    Err(Failure::new(Code::Failed, text))
}

/// The folder, if a broker has been there and is not there now; `what` is to be done with it.
fn folder(
    dir: &Path,
    what: &str,
    open: impl Fn(&Path) -> io::Result<Folder>,
) -> Result<Folder, Failure> {
    let failed = |text: String| Failure::new(Code::Failed, text);
    let refused = |error: io::Error| match error.kind() {
        ErrorKind::ResourceBusy => failed(error.to_string()),
        ErrorKind::NotFound => failed(format!(
            "there is no folder {}; name the --data folder of a broker",
            dir.display()
        )),
        _ => failed(format!("cannot {what} {}: {error}", dir.display())),
    };
    let mut is_kept = false;
    for entry in dir.read_dir().map_err(refused)? {
        is_kept |= is_of_a_broker(&entry.map_err(refused)?.file_name());
    }
    if !is_kept {
        let dir = dir.display();
        return Err(failed(format!(
            "no broker has kept anything in {dir}; name its --data folder"
        )));
    }
    open(dir).map_err(refused)
}

/// Whether a file of that name is there because a broker was: one that was killed right after its start
/// has left no more than a lock.
fn is_of_a_broker(name: &OsStr) -> bool {
    let is_segment = Path::new(name).extension().is_some_and(|this| this == "seg");
    is_segment || name == "anchor" || name == "lock"
}

/// Goes through all that is there; the first line that cannot be shown is the last one.
fn look(
    dir: &Path,
    mut show: impl FnMut(Line) -> Result<(), Failure>,
) -> Result<Contents, Failure> {
    let folder = folder(dir, "read", |dir| Folder::look(dir))?;
    let mut shown = Ok(());
    let found = Contents::of(&folder, |line| {
        if shown.is_ok() {
            shown = show(line);
        }
    });
    shown?;
    found.map_err(|error| Failure::new(Code::Failed, error.to_string()))
}

#[derive(Serialize)]
struct LineRecord<'a> {
    position: u64,
    kind: &'a str,
    queue: u64,
    text: &'a str,
}

fn dump(line: &Line, as_json: bool) -> Result<(), Failure> {
    let Line { position, kind, queue, text, .. } = line;
    let text = match as_json {
        true => json(&LineRecord {
            position: *position,
            kind,
            queue: *queue,
            text: text.trim_start_matches([':', ' ']),
        })?,
        false => line.to_string(),
    };
    print_line(&text)
}

#[derive(Serialize)]
struct StatRecord<'a> {
    segments: usize,
    records: u64,
    from: u64,
    to: u64,
    damaged: usize,
    torn: bool,
    queues: Vec<QueueRecord<'a>>,
}

#[derive(Serialize)]
struct QueueRecord<'a> {
    name: &'a str,
    messages: u64,
    bytes: u64,
    unsettled: u64,
    needs_from: Option<u64>,
}

fn queue_record(queue: &QueueContents) -> QueueRecord<'_> {
    let QueueContents { name, messages, bytes, unsettled, needs_from, .. } = queue;
    QueueRecord {
        name,
        messages: *messages,
        bytes: *bytes,
        unsettled: *unsettled,
        needs_from: *needs_from,
    }
}

fn stat(found: &Contents, as_json: bool) -> Result<String, Failure> {
    let (from, to) = found.positions;
    if as_json {
        return json(&StatRecord {
            segments: found.segments,
            records: found.records,
            from,
            to,
            damaged: found.damage.len(),
            torn: found.torn.is_some(),
            queues: found.queues.iter().map(queue_record).collect(),
        });
    }
    let rows: Vec<Vec<String>> = found
        .queues
        .iter()
        .map(|queue| {
            let needs = queue.needs_from.map_or_else(|| "-".to_owned(), |from| from.to_string());
            vec![
                queue.name.clone(),
                queue.messages.to_string(),
                queue.unsettled.to_string(),
                queue.bytes.to_string(),
                needs,
            ]
        })
        .collect();
    let summary = format!(
        "{} records in {} segments, positions {from} to {to}",
        found.records, found.segments
    );
    let headings = ["name", "messages", "unsettled", "bytes", "needs from"];
    Ok(format!("{}\n{summary}", table::render(&headings, &rows)))
}

async fn compact(dir: &Path) -> Result<(), Failure> {
    let before = look(dir, |_| Ok(()))?;
    if let Some(damage) = before.damage.first() {
        return Err(Failure::new(Code::Failed, damage.to_string()));
    }
    let folder = folder(dir, "write in", |dir| Folder::open(dir))?;
    let (broker, _) = Durable::open(Tokio::current(), folder, LogOptions::default())
        .await
        .map_err(Failure::from)?;
    broker.compact().await?;
    broker.close().await?;
    let (from, to) = before.positions;
    let after = look(dir, |_| Ok(()))?;
    let (begins, ends) = after.positions;
    print_line(&format!("{} bytes of records before, {} now", to - from, ends - begins))
}
