//! Runs cases: one, or all of them into a report.

use std::any::Any;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use posthaste_core::Capabilities;
use posthaste_core::runtime::timeout_at;
use posthaste_core::task::lock;

use crate::case::{BrokerCase, Need, RuntimeCase, TransportCase, Verdict};
use crate::cases::{BROKER_CASES, RUNTIME_CASES, TRANSPORT_CASES, has_sockets};
use crate::failure::Failure;
use crate::poll::LocalFuture;
use crate::report::{Report, Row};
use crate::subject::{BrokerSubject, Executor, RuntimeSubject, TransportSubject};
use crate::watchdog::Watchdog;
use crate::{Context, Law};

/// Runs every broker case against `subject`.
pub fn run_broker(subject: &(impl BrokerSubject + ?Sized)) -> Report {
    let card = Mutex::new(None);
    let verdicts = BROKER_CASES.iter().map(|case| {
        let verdict = broker_case(subject, case, &card);
        (Row::of(case), verdict)
    });
    let verdicts = verdicts.collect();
    Report::new(lock(&card).take(), verdicts)
}

/// Runs every transport case against `subject`.
pub fn run_transport(subject: &(impl TransportSubject + ?Sized)) -> Report {
    let verdicts =
        TRANSPORT_CASES.iter().map(|case| (Row::of(case), transport_case(subject, case)));
    Report::new(None, verdicts.collect())
}

/// Runs every runtime case against `subject`.
pub fn run_runtime(subject: &(impl RuntimeSubject + ?Sized)) -> Report {
    let verdicts =
        RUNTIME_CASES.iter().map(|case| (Row::of(case), run_runtime_case(subject, case)));
    Report::new(None, verdicts.collect())
}

/// Runs one broker case against `subject`.
pub fn run_broker_case(subject: &(impl BrokerSubject + ?Sized), case: &BrokerCase) -> Verdict {
    broker_case(subject, case, &Mutex::new(None))
}

/// Runs one transport case against `subject`.
pub fn run_transport_case(
    subject: &(impl TransportSubject + ?Sized),
    case: &TransportCase,
) -> Verdict {
    transport_case(subject, case)
}

/// Runs one runtime case against `subject`.
pub fn run_runtime_case(subject: &(impl RuntimeSubject + ?Sized), case: &RuntimeCase) -> Verdict {
    let watchdog = Watchdog::default();
    let watched = watchdog.guard(async {
        let runtime = subject.open();
        if case.needs.contains(&Need::Sockets) && !has_sockets(&*runtime)? {
            return Ok(Verdict::NotApplicable(Need::Sockets));
        }
        (case.run)(runtime).await?;
        Ok(Verdict::Passed)
    });
    let patience = subject.patience();
    // Without patience the executor itself knows when nothing can go on.
    if patience.is_zero() {
        return block_on(subject, watched);
    }
    watchdog.beside(patience, || block_on(subject, watched))
}

/// Runs the broker case of that name as a test: panics if it fails.
///
/// # Panics
/// If the law is broken, or if there is no case of that name.
pub fn assert_broker_case(subject: &(impl BrokerSubject + ?Sized), suite: &str, name: &str) {
    let case = BROKER_CASES.iter().find(|case| case.name == name);
    let verdict = case.map(|case| (case.law, run_broker_case(subject, case)));
    assert_passed(verdict, suite, name);
}

/// Runs the transport case of that name as a test: panics if it fails.
///
/// # Panics
/// If the law is broken, or if there is no case of that name.
pub fn assert_transport_case(subject: &(impl TransportSubject + ?Sized), suite: &str, name: &str) {
    let case = TRANSPORT_CASES.iter().find(|case| case.name == name);
    let verdict = case.map(|case| (case.law, run_transport_case(subject, case)));
    assert_passed(verdict, suite, name);
}

/// Runs the runtime case of that name as a test: panics if it fails.
///
/// # Panics
/// If the law is broken, or if there is no case of that name.
pub fn assert_runtime_case(subject: &(impl RuntimeSubject + ?Sized), suite: &str, name: &str) {
    let case = RUNTIME_CASES.iter().find(|case| case.name == name);
    let verdict = case.map(|case| (case.law, run_runtime_case(subject, case)));
    assert_passed(verdict, suite, name);
}

fn assert_passed(verdict: Option<(Law, Verdict)>, suite: &str, name: &str) {
    match verdict {
        Some((_, Verdict::Passed)) => {}
        // Written past the test runner's capture, so that what did not run is always seen; should
        // there be nowhere to write, nobody is there to be told.
        Some((_, skipped @ Verdict::NotApplicable(_))) => {
            let line = format!("{suite}::{name}: {skipped}\n");
            let _ = io::stderr().write_all(line.as_bytes());
        }
        Some((law, Verdict::Failed(failure))) => {
            let broken = failure.law().unwrap_or(law);
            panic!("{broken} is broken: {failure}\n  {broken} says: {}", broken.text());
        }
        None => panic!("there is no case called {name}"),
    }
}

fn broker_case(
    subject: &(impl BrokerSubject + ?Sized),
    case: &BrokerCase,
    card: &Mutex<Option<Capabilities>>,
) -> Verdict {
    block_on_watched(subject, async {
        let fixture = subject.open().await?;
        let capabilities = fixture.broker.capabilities();
        let missing = case.needs.iter().find(|need| match need {
            Need::Has(capability) => !capabilities.has(*capability),
            Need::Clock => subject.runtime().is_none(),
            Need::Alone => fixture.shared.is_some(),
            Need::Pull => fixture.pushes,
            Need::Reopening => !fixture.can_reopen(),
            Need::Sockets => false,
        });
        *lock(card) = Some(capabilities);
        if let Some(need) = missing {
            return Ok(Verdict::NotApplicable(*need));
        }
        let cx = Context::new(fixture, subject.runtime(), case.name);
        (case.run)(cx.clone()).await?;
        cx.check_aftermath().await?;
        Ok(Verdict::Passed)
    })
}

fn transport_case(subject: &(impl TransportSubject + ?Sized), case: &TransportCase) -> Verdict {
    block_on_watched(subject, async {
        let medium = subject.open().await?;
        (case.run)(medium).await?;
        Ok(Verdict::Passed)
    })
}

/// Runs a case under a watchdog that goes by the subject's clock.
fn block_on_watched(
    executor: &(impl Executor + ?Sized),
    case: impl Future<Output = Result<Verdict, Failure>>,
) -> Verdict {
    block_on(executor, async {
        match executor.runtime() {
            Some(runtime) => {
                let deadline = runtime.now() + executor.patience();
                timeout_at(&*runtime, deadline, case).await
            }
            None => Some(case.await),
        }
    })
}

/// Runs a case that its watchdog ends with `None`; a panic, of the case or of the subject, is a
/// failure as well.
fn block_on(
    executor: &(impl Executor + ?Sized),
    watched: impl Future<Output = Option<Result<Verdict, Failure>>>,
) -> Verdict {
    let verdict = Mutex::new(None);
    let patience = executor.patience();
    let watched: LocalFuture<'_, ()> = Box::pin(async {
        let ended = watched.await;
        *lock(&verdict) = ended;
    });
    let ran = catch_unwind(AssertUnwindSafe(|| executor.block_on(watched)));
    if let Err(panic) = ran {
        return Verdict::Failed(Failure::new(format!("it panicked: {}", text_of(&*panic))));
    }
    match lock(&verdict).take() {
        Some(Ok(verdict)) => verdict,
        Some(Err(failure)) => Verdict::Failed(failure),
        None if patience.is_zero() => {
            Verdict::Failed(Failure::new("it hangs: nothing that happened would ever end it"))
        }
        None => Verdict::Failed(Failure::new(format!("it hangs: {patience:?} did not end it"))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a text")
}
