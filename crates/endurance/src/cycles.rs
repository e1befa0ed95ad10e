//! A broker under load that is cut off at any moment and started again, over and over.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::books::Books;
use crate::broker::{Broker, HANGS, Start};
use crate::drain::drain;
use crate::ground::Ground;
use crate::load::load;
use crate::random::Random;
use crate::report::Report;

/// How long a load goes on at most, in microseconds.
const LOAD_US_MAX: u64 = 200_000;
/// How often large messages are among the others, in 1000 cycles, and how much longer the load goes on
/// then.
const BULKY_IN_1000: u64 = 200;
const BULKY_TIMES: u32 = 6;
/// How long the first start that is cut off goes on at most; a later one as long as the last that was
/// not.
const START_MAX: Duration = Duration::from_millis(50);

/// What a run is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `posthaste` command.
    pub posthaste: PathBuf,
    /// How often the broker is cut off.
    pub cycles: u64,
    /// From what everything random follows.
    pub seed: u64,
    /// After how many cycles it goes on with an empty folder.
    pub renew: u64,
    /// Where the data is put.
    pub scratch: PathBuf,
    /// Whether loss is to be found: then a broker that does not start has lost everything, and the run
    /// goes on.
    pub expect_loss: bool,
    /// Whether progress is told on stderr.
    pub verbose: bool,
}

impl Options {
    /// Twenty cycles of a command, in the system's folder for such things.
    #[must_use]
    pub fn new(posthaste: impl AsRef<Path>) -> Self {
        Self {
            posthaste: posthaste.as_ref().to_owned(),
            cycles: 20,
            seed: 1,
            renew: 100,
            scratch: std::env::temp_dir(),
            expect_loss: false,
            verbose: false,
        }
    }
}

/// Runs the cycles on a ground.
pub(crate) fn run(
    mode: &'static str,
    options: &Options,
    ground: Ground,
) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = Run {
        options,
        start: Start::new(&options.posthaste),
        ground,
        recovery: START_MAX,
        bulky: false,
        told: 0,
        books: RefCell::new(Books::new(Report::new(mode, options.seed))),
    };
    let began = Instant::now();
    let mut report = runtime.block_on(run.all());
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

struct Run<'a> {
    options: &'a Options,
    start: Start,
    ground: Ground,
    /// How long the last start took.
    recovery: Duration,
    /// Whether large messages were among the last load.
    bulky: bool,
    /// How many findings were told.
    told: usize,
    books: RefCell<Books>,
}

impl Run<'_> {
    async fn all(mut self) -> Report {
        if let Err(error) = self.cycles().await {
            self.books.borrow_mut().report.fail(error.to_string());
        }
        self.books.into_inner().report
    }

    async fn cycles(&mut self) -> Result<(), Failure> {
        for cycle in 0..self.options.cycles {
            let mut random = Random::new(self.options.seed, &[3, cycle]);
            if cycle > 0 && cycle % self.options.renew == 0 {
                self.drained().await?;
                self.ground.renew()?;
                self.books.borrow_mut().renewed();
            } else if cycle > 0 && random.chance(500) {
                self.drained().await?;
            }
            if random.chance(150) {
                self.cut_starting(&mut random).await?;
            }
            self.cut_loaded(cycle, &mut random).await?;
            self.books.borrow_mut().report.cycles += 1;
            if self.options.verbose {
                self.progress(cycle);
            }
        }
        self.drained().await
    }

    /// Starts the broker.
    fn started(&mut self) -> Result<Broker, Failure> {
        self.books.borrow_mut().restarted();
        let broker = match self.start.run(&self.ground.data()) {
            Err(error) if self.options.expect_loss => {
                let mut books = self.books.borrow_mut();
                books.report.fail(error.to_string());
                books.close();
                self.ground.renew()?;
                self.start.run(&self.ground.data())?
            }
            broker => broker?,
        };
        self.recovery = broker.recovery;
        self.books.borrow_mut().report.recovered(broker.recovery);
        Ok(broker)
    }

    /// Starts a broker, and cuts it off before it is ready.
    async fn cut_starting(&mut self, random: &mut Random) -> Result<(), Failure> {
        self.books.borrow_mut().restarted();
        let starting = self.start.spawn(&self.ground.data())?;
        let most = u64::try_from(self.recovery.as_micros()).unwrap_or(u64::MAX);
        sleep(Duration::from_micros(random.below(most))).await;
        self.ground.cut_starting(starting)?;
        self.books.borrow_mut().report.cut_starting += 1;
        Ok(())
    }

    /// Starts a broker, and cuts it off while it has much to do.
    async fn cut_loaded(&mut self, cycle: u64, random: &mut Random) -> Result<(), Failure> {
        let mut broker = self.started()?;
        let url = broker.url.clone();
        let mut instant = Duration::from_micros(random.below(LOAD_US_MAX));
        self.bulky = random.chance(BULKY_IN_1000);
        if self.bulky {
            instant *= BULKY_TIMES;
        }
        let load = timeout(HANGS, load(&url, &self.books, cycle, self.bulky)).await??;
        let mut load = std::pin::pin!(load);
        let mut odd = Vec::new();
        let mut ended = false;
        tokio::select! {
            biased;
            errors = &mut load => {
                ended = true;
                odd = errors;
                let text = format!("the load ended in cycle {cycle}, before the broker was cut off");
                self.books.borrow_mut().report.fail(text);
            }
            () = sleep(instant) => {}
        }
        let cutting = self.ground.cut(&mut broker);
        let said = if ended {
            cutting.await?
        } else {
            // What was confirmed before the cut is still on its way to the driver.
            let (said, errors) = futures::join!(cutting, timeout(HANGS, load));
            match errors {
                Ok(errors) => odd = errors,
                Err(_) => {
                    let text =
                        format!("somebody still waited in cycle {cycle}, long after the cut");
                    self.books.borrow_mut().report.fail(text);
                }
            }
            said?
        };
        let mut books = self.books.borrow_mut();
        for error in odd {
            books.report.fail(format!("an error in cycle {cycle}: {:?}: {error}", error.kind()));
        }
        panicked(&mut books.report, &said);
        Ok(())
    }

    /// Starts a broker, takes everything out of its queues, and ends it in order.
    async fn drained(&mut self) -> Result<(), Failure> {
        let mut broker = self.started()?;
        drain(&broker.url, &self.books).await?;
        let (status, said) = broker.terminate().await?;
        let report = &mut self.books.borrow_mut().report;
        if !status.success() {
            report.fail(format!("an orderly end was none ({status}): {}", said.trim()));
        }
        panicked(report, &said);
        Ok(())
    }

    #[expect(clippy::print_stderr, reason = "it was asked for")]
    fn progress(&mut self, cycle: u64) {
        let books = self.books.borrow();
        let report = &books.report;
        let large = if self.bulky { " (large messages)" } else { "" };
        eprintln!(
            "cycle {cycle}{large}: confirmed {} owed {} deliveries {} broken {} recovery {} ms",
            report.confirmed,
            books.owed(),
            report.deliveries,
            report.broken(),
            self.recovery.as_millis(),
        );
        for finding in &report.findings[self.told.min(report.findings.len())..] {
            eprintln!("  ! {finding}");
        }
        self.told = report.findings.len();
    }
}

/// A broker that panicked says so.
pub(crate) fn panicked(report: &mut Report, said: &str) {
    if let Some(at) = said.find("panicked at") {
        report.fail(said[at..].chars().take(400).collect::<String>());
    }
}
