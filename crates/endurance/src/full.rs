//! Filling the disk of a broker, and making room by consuming.

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, Instant};

use posthaste::{Error, ErrorKind};
use tokio::time::timeout;

use crate::Failure;
use crate::books::Books;
use crate::broker::{Broker, Start};
use crate::cycles::{Options, panicked};
use crate::drain::drain;
use crate::ending::Scratch;
use crate::image::Mounted;
use crate::load::{Publisher, connect, declare};
use crate::message::BULKY;
use crate::power::Outcome;
use crate::random::Random;
use crate::report::Report;

/// How long filling the disk, and emptying it, may take.
const STEP_MAX: Duration = Duration::from_secs(30);
/// More would be no small disk.
const MESSAGES_MAX: usize = 1_000_000;

/// Fills a disk of so many bytes until messages are refused, takes everything out of the queues, and
/// goes on, over and over: nothing that was confirmed is lost, and what is refused is refused with a
/// reason. In two cycles of three the broker ends while the disk is full, killed or in order, and is
/// started again there.
///
/// # Errors
/// What kept the run from being made; what it found is in the report.
pub fn full(options: &Options, bytes: u64) -> Result<Outcome, Failure> {
    let folder = Scratch::new(&options.scratch)?;
    // Unmounted before the folder is removed.
    let disk = match Mounted::memory(folder.path(), bytes) {
        Ok(disk) => disk,
        Err(error) => return Ok(Outcome::Skipped(format!("no disk can be mounted here: {error}"))),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let books = RefCell::new(Books::new(Report::new("full", options.seed)));
    let began = Instant::now();
    let data = folder.path().join("data");
    let start = Start::new(&options.posthaste);
    if let Err(error) = runtime.block_on(async {
        let mut broker = started(&start, &data, &books)?;
        for cycle in 0..options.cycles {
            fill(&broker, &books, cycle).await?;
            if let Some(in_order) =
                [Some(false), Some(true), None][usize::try_from(cycle % 3).unwrap_or(0)]
            {
                match in_order {
                    true => end(&mut broker, &books).await?,
                    false => panicked(&mut books.borrow_mut().report, &broker.kill()?),
                }
                // Others have taken whatever room there was meanwhile.
                let others = fill_up(folder.path())?;
                broker = started(&start, &data, &books)?;
                still_full(&broker, &books, cycle).await?;
                drop(others);
            }
            empty(&broker, &books).await?;
            books.borrow_mut().report.cycles += 1;
        }
        end(&mut broker, &books).await?;
        let mut broker = started(&start, &data, &books)?;
        empty(&broker, &books).await?;
        end(&mut broker, &books).await
    }) {
        books.borrow_mut().report.fail(error.to_string());
    }
    drop(disk);
    let mut report = books.into_inner().report;
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Outcome::Ran(Box::new(report)))
}

fn started(
    start: &Start,
    data: &std::path::Path,
    books: &RefCell<Books>,
) -> Result<Broker, Failure> {
    let broker = start.run(data)?;
    let mut books = books.borrow_mut();
    books.restarted();
    books.report.recovered(broker.recovery);
    Ok(broker)
}

/// Sends until there is no more room.
async fn fill(broker: &Broker, books: &RefCell<Books>, cycle: u64) -> Result<(), Failure> {
    let bus = connect(&broker.url).await?;
    declare(&bus).await?;
    let mut publisher = Publisher::open(bus, books, BULKY, Random::new(0, &[6, cycle])).await?;
    let Ok(sent) = timeout(STEP_MAX, publisher.send_next(MESSAGES_MAX)).await else {
        return Err(format!("in cycle {cycle} a message is neither stored nor refused").into());
    };
    match sent {
        Ok(()) => return Err("the disk does not become full".into()),
        Err(error) => refused(&error, books),
    }
    match timeout(STEP_MAX, publisher.flush()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            refused(&error, books);
            Ok(())
        }
        Err(_) => {
            let text = format!("in cycle {cycle} what went before the refused one has no outcome");
            Err(text.into())
        }
    }
}

/// Takes the room that is left on a disk, until the file is dropped.
fn fill_up(folder: &std::path::Path) -> Result<tempfile::NamedTempFile, Failure> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    // By single bytes in the end, so that no block is left.
    for size in [1 << 20, 4 << 10, 1] {
        let piece = vec![7; size];
        while file.write_all(&piece).is_ok() {}
    }
    Ok(file)
}

/// Sends to a broker that was started on a full disk: it is full still.
async fn still_full(broker: &Broker, books: &RefCell<Books>, cycle: u64) -> Result<(), Failure> {
    let bus = connect(&broker.url).await?;
    let mut publisher = Publisher::open(bus, books, BULKY, Random::new(0, &[7, cycle])).await?;
    match timeout(STEP_MAX, publisher.send_next(1)).await {
        Ok(Ok(())) => match timeout(STEP_MAX, publisher.flush()).await {
            Ok(Ok(())) => Err("a broker that is started on a full disk finds room there".into()),
            Ok(Err(error)) => {
                refused(&error, books);
                Ok(())
            }
            Err(_) => Err("on a full disk a message is neither stored nor refused".into()),
        },
        Ok(Err(error)) => {
            refused(&error, books);
            Ok(())
        }
        Err(_) => Err("on a full disk a message is neither stored nor refused".into()),
    }
}

/// There is one reason for which a message may have been refused.
fn refused(error: &Error, books: &RefCell<Books>) {
    let report = &mut books.borrow_mut().report;
    *report.said.entry(format!("{:?}: {error}", error.kind())).or_insert(0) += 1;
    if error.kind() != ErrorKind::Full {
        report.fail(format!("refused, but not because the disk is full: {error}"));
    }
}

/// Takes everything out of the queues.
async fn empty(broker: &Broker, books: &RefCell<Books>) -> Result<(), Failure> {
    match timeout(STEP_MAX, drain(&broker.url, books)).await {
        Ok(drained) => Ok(drained?),
        Err(_) => Err("the queues on a full disk cannot be emptied".into()),
    }
}

async fn end(broker: &mut Broker, books: &RefCell<Books>) -> Result<(), Failure> {
    let (status, said) = broker.terminate().await?;
    let report = &mut books.borrow_mut().report;
    panicked(report, &said);
    if !status.success() {
        report.fail(format!("an orderly end was none ({status}): {}", said.trim()));
    }
    Ok(())
}
