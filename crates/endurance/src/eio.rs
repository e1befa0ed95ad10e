//! Failing system calls under a broker: what it could not store is not confirmed.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use posthaste::{Error, ErrorKind, Level, ReceiverExt, SenderExt, SenderOptions, Subscription};
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::books::{Books, Sent, Word};
use crate::broker::{Broker, Start};
use crate::cycles::{Options, panicked};
use crate::drain::drain;
use crate::ending::Scratch;
use crate::load::{Publisher, connect, declare, load};
use crate::message::QUEUES;
use crate::power::Outcome;
use crate::random::Random;
use crate::report::Report;
use crate::strace::{Attached, Fault, Trace, lacks_strace, logged, times};

/// An answer that takes longer does not come.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How many starts are made to fail until it is looked what that did.
const CHECKED_EVERY: usize = 4;
/// What may fail while a broker works.
const WORKING: [&str; 2] = ["fdatasync", "pwrite64"];
/// What may fail while it works for longer, when segments of its log come and go.
const WORKING_LONG: [&str; 5] = ["openat", "pwrite64", "fsync", "rename", "unlink"];
/// For how many times of the others it is one of these.
const LONG_EVERY: usize = 10;
/// How long that is at most.
const LONG: Duration = Duration::from_secs(2);
/// What may fail while it starts.
const STARTING: [&str; 8] =
    ["openat", "fdatasync", "fsync", "pwrite64", "pread64", "rename", "ftruncate", "unlink"];

/// Lets the first, the second, ... up to the `cycles`th call of each kind fail that a broker makes
/// while it starts and while it works: what was confirmed is there when it is started anew.
///
/// # Errors
/// What kept the run from being made; what it found is in the report.
pub fn eio(options: &Options) -> Result<Outcome, Failure> {
    if let Some(lacking) = lacks_strace() {
        return Ok(Outcome::Skipped(lacking));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = Scratch::new(&options.scratch)?;
    let run = Run {
        options,
        start: Start::new(&options.posthaste),
        data: folder.path().join("data"),
        log: folder.path().join("strace"),
        books: RefCell::new(Books::new(Report::new("eio", options.seed))),
    };
    let began = Instant::now();
    let mut report = runtime.block_on(run.all());
    report.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Outcome::Ran(Box::new(report)))
}

struct Run<'a> {
    options: &'a Options,
    start: Start,
    data: PathBuf,
    log: PathBuf,
    books: RefCell<Books>,
}

impl Run<'_> {
    async fn all(self) -> Report {
        if let Err(error) = self.cases().await {
            self.fail(error.to_string());
        }
        self.books.into_inner().report
    }

    async fn cases(&self) -> Result<(), Failure> {
        let cycles = usize::try_from(self.options.cycles).unwrap_or(usize::MAX);
        for (nth, fault) in self.faults_of_start(cycles.div_ceil(2))?.into_iter().enumerate() {
            if nth.is_multiple_of(CHECKED_EVERY) {
                let mut broker = self.checked().await?;
                self.fill(&broker).await?;
                broker.kill()?;
            }
            self.starting(fault)?;
            self.books.borrow_mut().report.cycles += 1;
            self.progress("starting", fault);
        }
        for nth in 1..=cycles {
            for call in WORKING {
                let (broker, fault) = (self.checked().await?, Fault { call, nth });
                self.working(broker, fault).await?;
                self.books.borrow_mut().report.cycles += 1;
                self.progress("working", fault);
            }
        }
        for nth in 1..=cycles / LONG_EVERY {
            for call in WORKING_LONG {
                let fault = Fault { call, nth: if call == "pwrite64" { 700 * nth } else { nth } };
                let broker = self.checked().await?;
                self.working_long(broker, fault).await?;
                self.books.borrow_mut().report.cycles += 1;
                self.progress("working for longer", fault);
            }
        }
        self.checked().await?;
        Ok(())
    }

    /// Starts a broker that nothing fails, empties its queues and closes the books.
    async fn checked(&self) -> Result<Broker, Failure> {
        let broker = self.start.run(&self.data)?;
        self.books.borrow_mut().restarted();
        self.books.borrow_mut().report.recovered(broker.recovery);
        drain(&broker.url, &self.books).await?;
        Ok(broker)
    }

    /// Sends a few messages that are confirmed.
    async fn fill(&self, broker: &Broker) -> Result<(), Failure> {
        let bus = connect(&broker.url).await?;
        let random = Random::new(self.options.seed, &[4]);
        let mut publisher = Publisher::open(bus, &self.books, 0, random).await?;
        publisher.send_next(20).await?;
        Ok(publisher.flush().await?)
    }

    /// Which calls are made in a start that a folder has to do with: the first ones of each kind and
    /// the last ones, `most` in all.
    fn faults_of_start(&self, most: usize) -> Result<Vec<Fault>, Failure> {
        // The first start makes the folder; what is wanted is how a later one goes.
        self.start.run(&self.data)?.kill()?;
        let mut start = self.start.clone();
        start.under = logged(&STARTING.join(","), &self.log);
        start.run(&self.data)?.kill()?;
        let mut faults = Vec::new();
        for call in STARTING {
            let mut times = times(&self.log, call, &self.data)?;
            if times.len() > most {
                let last = times.split_off(times.len() - most / 2);
                times.truncate(most - most / 2);
                times.extend(last);
            }
            faults.extend(times.into_iter().map(|nth| Fault { call, nth }));
        }
        Ok(faults)
    }

    /// Starts a broker that a call fails: it starts all the same, or says in a sentence why not.
    fn starting(&self, fault: Fault) -> Result<(), Failure> {
        let _ = std::fs::remove_file(&self.log);
        let mut start = self.start.clone();
        start.under = fault.around(&self.log);
        self.books.borrow_mut().restarted();
        match start.spawn(&self.data)?.outcome()? {
            Ok(mut broker) => {
                let said = broker.kill()?;
                panicked(&mut self.books.borrow_mut().report, &said);
            }
            Err((status, said)) => {
                self.told(&said);
                let clear = said.starts_with("error: ") && said.trim().lines().count() == 1;
                if status.code() != Some(1) || !clear {
                    self.fail(format!("{fault} while starting ended with {status}: {said}"));
                }
            }
        }
        let trace = Trace::read(&self.log)?;
        self.books.borrow_mut().report.faults += u64::from(trace.injected);
        Ok(())
    }

    /// Lets a call of a working broker fail, and looks whether anything is confirmed that was not
    /// stored.
    async fn working(&self, mut broker: Broker, fault: Fault) -> Result<(), Failure> {
        let _ = std::fs::remove_file(&self.log);
        let url = broker.url.clone();
        let bus = connect(&url).await?;
        declare(&bus).await?;
        self.fill(&broker).await?;
        let attached = Attached::new(broker.pid(), fault, &self.log)?;
        self.books.borrow_mut().doubtful = true;
        let times = if fault.nth.is_multiple_of(2) {
            self.one_by_one(&url, 3 * fault.nth + 20).await?
        } else {
            let random = Random::new(self.options.seed, &[5, fault.nth as u64]);
            let mut publisher =
                Publisher::open(connect(&url).await?, &self.books, 0, random).await?;
            let sending = async {
                publisher.send_next(500 * fault.nth).await?;
                publisher.flush().await
            };
            match timeout(ANSWER_MAX, sending).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.told(&format!("{:?}: {error}", error.kind())),
                Err(_) => self.fail(format!("{fault}: many sends were not answered")),
            }
            Vec::new()
        };
        // What failed goes on failing, until it is opened anew.
        let failed = Trace::read(&self.log)?.injected;
        let after = if failed { self.one_by_one(&url, 3).await? } else { Vec::new() };
        if failed {
            self.settling(&url, fault).await?;
        }
        let said = if fault.nth.is_multiple_of(3) {
            let (status, said) = broker.terminate().await?;
            if failed && status.success() {
                self.told(&format!("ended with {status} after a failure: {}", said.trim()));
            }
            said
        } else {
            broker.kill()?
        };
        attached.end()?;
        let trace = Trace::read(&self.log)?;
        let mut books = self.books.borrow_mut();
        books.doubtful = false;
        books.report.faults += u64::from(trace.injected);
        panicked(&mut books.report, &said);
        for (from, to) in times.into_iter().chain(after) {
            if !trace.synced(from, to) {
                books.report.false_confirms += 1;
                books.report.tell(format!("{fault}: confirmed, and nothing was synced"));
            }
        }
        Ok(())
    }

    /// Lets a call of a broker fail that has very much to do, and kills it.
    async fn working_long(&self, mut broker: Broker, fault: Fault) -> Result<(), Failure> {
        let _ = std::fs::remove_file(&self.log);
        let url = broker.url.clone();
        let cycle = 1000 + self.books.borrow().report.cycles;
        let load = load(&url, &self.books, cycle, true).await?;
        let attached = Attached::new(broker.pid(), fault, &self.log)?;
        self.books.borrow_mut().doubtful = true;
        let mut load = std::pin::pin!(load);
        let mut odd = Vec::new();
        let ended = tokio::select! {
            errors = &mut load => {
                odd = errors;
                true
            }
            () = sleep(LONG) => false,
        };
        let said = broker.kill()?;
        if !ended {
            match timeout(ANSWER_MAX, load).await {
                Ok(errors) => odd = errors,
                Err(_) => self.fail(format!("{fault}: somebody still waited, long after the end")),
            }
        }
        for error in odd {
            self.told(&format!("{:?}: {error}", error.kind()));
        }
        attached.end()?;
        let injected = Trace::read(&self.log)?.injected;
        let mut books = self.books.borrow_mut();
        books.doubtful = false;
        books.report.faults += u64::from(injected);
        panicked(&mut books.report, &said);
        Ok(())
    }

    /// Sends messages one by one until one is not confirmed; from when to when each one that was took.
    async fn one_by_one(
        &self,
        url: &str,
        count: usize,
    ) -> Result<Vec<(Duration, Duration)>, Failure> {
        let bus = connect(url).await?;
        let mut sender = bus.sender(SenderOptions::new().confirm(Level::Stored)).await?;
        let mut times = Vec::new();
        for _ in 0..count {
            let number = self.books.borrow_mut().next(1);
            let message = number.message(self.options.seed)?;
            let from = unix_time();
            let sent = match timeout(ANSWER_MAX, sender.send(message)).await {
                Ok(sent) => sent.map_err(|error| error.into_parts().0),
                Err(_) => Err(Error::new(ErrorKind::TimedOut, "a send was not answered")),
            };
            let to = unix_time();
            let confirmed = sent.is_ok();
            let sent = sent.map(drop);
            let outcome = if confirmed { Sent::Confirmed } else { Sent::Unknown };
            self.books.borrow_mut().sent(number, outcome);
            match sent {
                Ok(()) => times.push((from, to)),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    self.fail(error.to_string());
                    break;
                }
                Err(error) => {
                    self.told(&format!("{:?}: {error}", error.kind()));
                    break;
                }
            }
        }
        Ok(times)
    }

    /// Settles what a broker holds that stores nothing any more: nobody is told that it is stored.
    async fn settling(&self, url: &str, fault: Fault) -> Result<(), Failure> {
        let bus = connect(url).await?;
        let held = bus.queue(QUEUES[0]).await?.messages;
        let mut receiver = bus.receiver(Subscription::queue(QUEUES[0])?).await?;
        if held == 0 {
            return Ok(());
        }
        let delivery = match timeout(ANSWER_MAX, receiver.next_delivery()).await {
            Ok(Ok(delivery)) => delivery,
            Ok(Err(error)) => {
                self.told(&format!("consuming: {:?}: {error}", error.kind()));
                return Ok(());
            }
            Err(_) => {
                self.fail(format!("{fault}: nothing is delivered after it"));
                return Ok(());
            }
        };
        let (payload, attempt) = (delivery.payload(), delivery.attempt());
        let came = self.books.borrow_mut().came(Some(0), payload, attempt);
        delivery.ack();
        if let Some(number) = came {
            self.books.borrow_mut().said(number, Word::Acked);
            match timeout(ANSWER_MAX, receiver.settled()).await {
                // Then it has to be so, which the next start shows.
                Ok(Ok(())) => self.books.borrow_mut().stored(&mut vec![(number, Word::Acked)]),
                Ok(Err(error)) => self.told(&format!("settling: {:?}: {error}", error.kind())),
                Err(_) => self.fail(format!("{fault}: a settlement was not answered")),
            }
        }
        Ok(())
    }

    fn fail(&self, finding: String) {
        self.books.borrow_mut().report.fail(finding);
    }

    /// The broker said this.
    fn told(&self, error: &str) {
        let said = error.replace(&*self.data.to_string_lossy(), "DIR");
        *self.books.borrow_mut().report.said.entry(said.trim().to_owned()).or_insert(0) += 1;
    }

    #[expect(clippy::print_stderr, reason = "it was asked for")]
    fn progress(&self, when: &str, fault: Fault) {
        if self.options.verbose {
            let books = self.books.borrow();
            let (faults, broken) = (books.report.faults, books.report.broken());
            eprintln!("{fault} while {when}: faults {faults} broken {broken}");
        }
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_confirm_needs_a_sync_from_beginning_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let log: &Path = &folder.path().join("log");
        let text = "7 100.000000 fdatasync(12) = 0 <0.500000>\n\
                    8 103.000000 <... fdatasync resumed>) = 0 <1.000000>\n\
                    9 105.000000 fdatasync(12) = -1 EIO (Input/output error) (INJECTED) <0.1>\n";
        std::fs::write(log, text).unwrap();
        let trace = Trace::read(log).unwrap();
        let synced = |from: f64, to: f64| {
            trace.synced(Duration::from_secs_f64(from), Duration::from_secs_f64(to))
        };
        assert!(trace.injected);
        assert!(synced(99.9, 100.6) && synced(101.9, 103.1));
        assert!(!synced(100.1, 100.6) && !synced(102.5, 103.1) && !synced(104.0, 106.0));
    }
}
