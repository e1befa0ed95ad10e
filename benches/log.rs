//! What the log costs beside what a disk could do: records of 1 KiB, synced in batches of 1, 16 and 256,
//! and the same bytes written to a file that was written out before, in interleaved rounds. The one file is
//! used over and over; a log needs new ones, so what these cost is measured as well.
//!
//! `cargo bench -p posthaste-benches --bench log`; a folder on the disk that is meant can be given. Keep the
//! machine quiet.
#![allow(clippy::print_stdout, reason = "a benchmark shows what it found")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use posthaste::log::{Log, LogOptions, storage::Folder};
use posthaste_measure::{Clock, Summary, Table, Usage, per_million, rate};

/// Measure the log beside bare writes and syncs
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the files go: the disk that is measured
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// In how many rounds each is measured
    #[arg(long, value_name = "N", default_value = "9")]
    #[arg(value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Only batches of so many records
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// How long each round measures, in milliseconds
    #[arg(long, value_name = "MS", default_value = "700")]
    milliseconds: u64,
    /// Given by cargo; without it this shows that it works, and measures little
    #[arg(long, hide = true)]
    bench: bool,
}

const RECORD: [u8; 1024] = [b'x'; 1024];
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
const BATCHES: [usize; 3] = [1, 16, 256];
/// How large the file is that is written out before, over and over: as a segment of the log.
const FILE_BYTES: u64 = 32 << 20;

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Bytes into a file that was written out before.
    Bare,
    /// The same, and every file is written out, synced and removed within the time that is measured.
    Renewing,
    /// The same into files that grow.
    Growing,
    /// Records into the log, which writes its segments out before it uses them.
    Log,
}

impl How {
    const ALL: [Self; 4] = [Self::Bare, Self::Renewing, Self::Growing, Self::Log];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "write and sync, file written out before",
            Self::Renewing => "the same, and writing it out",
            Self::Growing => "write and sync, growing file",
            Self::Log => "posthaste-log",
        }
    }
}

/// What a round came to.
struct Round {
    per_second: f64,
    cpu_s_per_million: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (rounds, time) = match arguments.bench {
        true => (arguments.rounds, Duration::from_millis(arguments.milliseconds)),
        false => (1, Duration::from_millis(10)),
    };
    let within = arguments.folder.unwrap_or_else(std::env::temp_dir);
    let mut table = Table::new(["batch", "how", "records/s", "spread", "of the limit", "cpu-s/1M"]);
    for batch in BATCHES.into_iter().filter(|it| arguments.batch.is_none_or(|only| only == *it)) {
        let mut measured: [Vec<Round>; 4] = Default::default();
        for _ in 0..rounds {
            for (how, measured) in How::ALL.into_iter().zip(&mut measured) {
                let scratch = tempfile::tempdir_in(&within)?;
                measured.push(round(how, scratch.path(), batch, time)?);
            }
        }
        let rates = |rounds: &[Round]| rounds.iter().map(|it| it.per_second).collect::<Vec<_>>();
        let limit = rates(&measured[0]);
        for (how, rounds) in How::ALL.into_iter().zip(&measured) {
            let cpu: Vec<f64> = rounds.iter().map(|it| it.cpu_s_per_million).collect();
            let summed = Summary::of(&rates(rounds)).zip(Summary::of(&cpu));
            let ratio = Summary::of_ratios(&rates(rounds), &limit);
            let ((rates, cpu), ratio) = summed.zip(ratio).ok_or("a round measured nothing")?;
            table.row([
                batch.to_string(),
                how.name().to_owned(),
                rate(rates.median),
                rates.percent(),
                ratio.times(),
                format!("{:.2}", cpu.median),
            ]);
        }
    }
    println!("{}", table.text());
    Ok(())
}

fn round(how: How, folder: &Path, batch: usize, time: Duration) -> Result<Round, Box<dyn Error>> {
    match how {
        How::Bare => bare(folder, true, false, batch, time),
        How::Renewing => bare(folder, true, true, batch, time),
        How::Growing => bare(folder, false, true, batch, time),
        How::Log => log(folder, batch, time),
    }
}

/// Does `one` batch after another.
fn measure(
    batch: usize,
    time: Duration,
    mut one: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Round, Box<dyn Error>> {
    one()?;
    let (mut records, before, clock) = (0, Usage::now()?, Clock::start());
    while clock.elapsed() < time {
        one()?;
        records += batch as u64;
    }
    let took = clock.elapsed();
    let cpu = Usage::now()?.cpu_since(&before);
    let per_second = records as f64 / took.as_secs_f64();
    Ok(Round { per_second, cpu_s_per_million: per_million(cpu, records) })
}

fn bare(
    folder: &Path,
    prewritten: bool,
    renews: bool,
    batch: usize,
    time: Duration,
) -> Result<Round, Box<dyn Error>> {
    let open = |name: &str| -> Result<File, Box<dyn Error>> {
        let file = File::create(folder.join(name))?;
        if prewritten {
            for at in (0..FILE_BYTES).step_by(ZEROS.len()) {
                file.write_all_at(&ZEROS, at)?;
            }
        }
        file.sync_all()?;
        Ok(file)
    };
    let (mut file, mut at) = (open("file")?, 0);
    let bytes = RECORD.repeat(batch);
    measure(batch, time, || {
        if at + bytes.len() as u64 > FILE_BYTES {
            at = 0;
            if renews {
                fs::remove_file(folder.join("file"))?;
                file = open("file")?;
            }
        }
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        at += bytes.len() as u64;
        Ok(())
    })
}

fn log(folder: &Path, batch: usize, time: Duration) -> Result<Round, Box<dyn Error>> {
    let mut options = LogOptions::default();
    options.segment_bytes = FILE_BYTES;
    let (mut log, _) = Log::open(Folder::open(folder)?, options, |_| {})?;
    measure(batch, time, || {
        for _ in 0..batch {
            log.append(1, &RECORD)?;
        }
        log.sync()?;
        // As a queue that is emptied: it keeps two segments at most.
        log.forget_before(log.end().saturating_sub(FILE_BYTES))?;
        Ok(())
    })
}
