//! How the kit runs its cases: what it reports, what it leaves out, and that nothing escapes it.

mod common;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use common::virtual_time::VirtualTime;
use common::{Bare, On, OnSmol, OnTokio};
use posthaste_conformance::{
    BROKER_CASES, Books, BrokerSubject, Executor, Fixture, Law, LocalFuture, Need, RUNTIME_CASES,
    TRANSPORT_CASES, Verdict, block_on, cancel, run_broker, run_broker_case,
};
use posthaste_core::{
    BoxFuture, BoxReceiver, BoxSender, Broker, Bus, Capabilities, Capability, DrainReport, Error,
    Queue, QueueInfo, ReceiverExt, SenderOptions, SharedRuntime, Stats, Subscription, Topic,
};
use posthaste_memory::Memory;

#[test]
fn every_law_has_a_case_and_every_case_bears_its_laws_number() {
    let cases = BROKER_CASES.iter().map(|case| (case.law, case.name));
    let cases = cases.chain(TRANSPORT_CASES.iter().map(|case| (case.law, case.name)));
    let cases = cases.chain(RUNTIME_CASES.iter().map(|case| (case.law, case.name)));
    let cases: Vec<_> = cases.collect();
    let shown: BTreeSet<Law> = cases.iter().map(|(law, _)| *law).collect();
    let all: BTreeSet<Law> = Law::ALL.iter().copied().collect();
    assert_eq!(shown, all);
    for (law, name) in &cases {
        let number = format!("{}_", law.to_string().to_lowercase());
        assert!(name.starts_with(&number), "{name} is a case of {law}");
    }
    let names: BTreeSet<&str> = cases.iter().map(|(_, name)| *name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have the same name");
}

#[test]
fn the_guide_lists_every_law_as_it_is() {
    let guide = include_str!("../../../docs/conformance.md");
    let listed = guide.lines().filter(|line| line.starts_with("| ") && line.len() > 6);
    let laws = Law::ALL.iter().map(|law| format!("| {law} | {} |", law.text()));
    assert_eq!(listed.collect::<Vec<_>>(), laws.collect::<Vec<_>>());
}

#[test]
fn a_sound_broker_has_a_clean_report() {
    let report = run_broker(&On { executor: Bare, what: Sound });
    assert!(report.is_conformant(), "{report}");
    assert_eq!(report.verdicts().count(), BROKER_CASES.len());
    assert_eq!(report.card().map(Capabilities::backend), Some("memory"));
    let text = report.to_string();
    assert!(text.contains("redelivery        native"), "{text}");
    assert!(text.contains("S1 s1_pending_leaves_the_slot_full: passed"), "{text}");
    assert!(text.contains("0 failed"), "{text}");
    let sum = report.by_law().values().map(|this| this.passed).sum::<usize>();
    assert_eq!(sum, report.totals().passed);
    let redelivery = report.by_capability()[&Capability::Redelivery];
    assert!(redelivery.passed > 5 && redelivery.failed == 0, "{redelivery}");
    let json = report.to_json();
    assert!(
        json.starts_with(r#"{"backend":"memory","capabilities":{"topics":"native","#),
        "{json}"
    );
    assert!(json.contains(r#""name":"s1_pending_leaves_the_slot_full","verdict":"passed""#));
}

#[test]
fn what_a_broker_lacks_is_not_applicable_by_name() {
    let report = run_broker(&On { executor: Bare, what: Lacking });
    let mut left_out = 0;
    for (row, verdict) in report.verdicts() {
        match verdict {
            Verdict::NotApplicable(Need::Has(capability)) => {
                assert!(*capability != Capability::Topics, "{} needs {capability}", row.name);
                left_out += 1;
            }
            Verdict::Failed(failure) => panic!("{}: {failure}", row.name),
            _ => {}
        }
    }
    assert!(left_out > BROKER_CASES.len() / 2, "{left_out} were left out");
    assert!(report.to_string().contains("needs the capability queues"), "{report}");
}

#[test]
fn a_broker_that_hangs_fails_at_once_without_a_runtime() {
    assert_hangs(&On { executor: Bare, what: Silent });
}

#[test]
fn a_broker_that_hangs_fails_in_time_on_a_runtime() {
    assert_hangs(&Hasty(OnTokio::current()));
    assert_hangs(&Hasty(OnSmol::new()));
}

fn assert_hangs(subject: &impl BrokerSubject) {
    let case = &BROKER_CASES[0];
    let verdict = run_broker_case(subject, case);
    assert!(matches!(&verdict, Verdict::Failed(why) if why.text().contains("hangs")), "{verdict}");
}

#[test]
fn a_panic_of_the_subject_is_a_failure() {
    let verdict = run_broker_case(&On { executor: Bare, what: Panicking }, &BROKER_CASES[0]);
    let told = matches!(&verdict, Verdict::Failed(why) if why.text().contains("nothing works"));
    assert!(told, "{verdict}");
}

#[test]
fn a_future_that_wakes_itself_over_and_over_is_given_up() {
    let restless: LocalFuture<'_, ()> = Box::pin(poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    assert!(!block_on(restless, Duration::ZERO));
    assert!(block_on(Box::pin(std::future::ready(())), Duration::ZERO));
}

#[test]
fn books_out_of_balance_fail_the_test_that_watches_them() {
    let ended_well = |bug| {
        let world = VirtualTime::planted(bug);
        let memory = world.runtime().map_or_else(Memory::new, Memory::with_runtime);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _books = Books::watch(memory.clone());
            world.block_on(Box::pin(async {
                let bus = Bus::new(memory);
                bus.send("jobs", "work").await.unwrap();
                let mut jobs = bus.consume("jobs").await.unwrap();
                jobs.next_delivery().await.unwrap().ack();
            }));
        }))
    };
    assert!(ended_well("").is_ok());
    let panic = ended_well("memory.forgets-acked-count").unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("the books of jobs do not balance"), "{text}");
    assert!(text.contains("accepted: 1"), "{text}");
}

#[test]
fn a_future_is_given_up_after_every_number_of_polls() {
    let given_up = std::cell::RefCell::new(Vec::new());
    let trying = async {
        let four_polls = async |polls: &mut u32| {
            poll_fn(|cx| {
                *polls += 1;
                cx.waker().wake_by_ref();
                if *polls == 4 { Poll::Ready("done") } else { Poll::Pending }
            })
            .await
        };
        let check = async |polls, (), output| {
            given_up.borrow_mut().push((polls, output));
            Ok(())
        };
        let open = async || Ok((0, ()));
        cancel::at_every_poll(open, four_polls, async |()| Ok(()), check).await.unwrap();
    };
    assert!(block_on(Box::pin(trying), Duration::ZERO));
    let dropped = [0, 1, 2, 3].map(|polls| (polls, None));
    let twice: Vec<_> = dropped.into_iter().flat_map(|this| [this, this]).collect();
    assert_eq!(*given_up.borrow(), [twice, vec![(4, Some("done")); 2]].concat());
}

#[test]
fn a_future_whose_wake_up_is_lost_hangs_the_one_who_gives_it_up() {
    let trying = async {
        let lost = async |(): &mut ()| std::future::pending::<()>().await;
        let open = async || Ok(((), ()));
        let check = async |(), (), _: Option<()>| Ok(());
        let _never = cancel::at_every_poll(open, lost, async |()| Ok(()), check).await;
    };
    assert!(!block_on(Box::pin(trying), Duration::ZERO));
}

struct Sound;

impl BrokerSubject for On<Bare, Sound> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(async { Ok(Fixture::new(Memory::new())) })
    }
}

struct Panicking;

impl BrokerSubject for On<Bare, Panicking> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(async { panic!("nothing works") })
    }
}

struct Silent;

impl BrokerSubject for On<Bare, Silent> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(std::future::pending())
    }
}

/// An executor that gives up soon, with a subject that never answers.
struct Hasty<E>(E);

impl<E: Executor> Executor for Hasty<E> {
    fn runtime(&self) -> Option<SharedRuntime> {
        self.0.runtime()
    }

    fn block_on(&self, case: LocalFuture<'_, ()>) {
        self.0.block_on(case);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(20)
    }
}

impl<E: Executor> BrokerSubject for Hasty<E> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(std::future::pending())
    }
}

/// A broker of topics and nothing else, which says so at every other call.
struct Lacking;

impl BrokerSubject for On<Bare, Lacking> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(async { Ok(Fixture::new(TopicsOnly(Memory::new()))) })
    }
}

struct TopicsOnly(Memory);

impl TopicsOnly {
    fn lacks<T>(&self, capability: Capability) -> Result<T, Error> {
        Err(Error::unsupported(capability, "topics-only"))
    }
}

#[async_trait]
impl Broker for TopicsOnly {
    async fn sender(&self, options: SenderOptions) -> Result<BoxSender, Error> {
        self.0.sender(options).await
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        match &subscription.source {
            posthaste_core::Source::Topic(_) => self.0.receiver(subscription).await,
            posthaste_core::Source::Shared(..) => self.lacks(Capability::Groups),
            posthaste_core::Source::Queue(_) => self.lacks(Capability::Queues),
        }
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        self.lacks(Capability::Inboxes)
    }

    async fn declare(&self, _: Queue) -> Result<(), Error> {
        self.lacks(Capability::Queues)
    }

    async fn delete(&self, _: &Topic) -> Result<(), Error> {
        self.lacks(Capability::Queues)
    }

    async fn queue(&self, _: &Topic) -> Result<QueueInfo, Error> {
        self.lacks(Capability::Inspection)
    }

    async fn stats(&self) -> Result<Stats, Error> {
        self.lacks(Capability::Inspection)
    }

    async fn drain(&self, _: Duration) -> Result<DrainReport, Error> {
        self.lacks(Capability::Drain)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new("topics-only").native(&[Capability::Topics])
    }
}

#[test]
fn the_guarantee_table_of_the_documentation_is_whole() {
    let table: Vec<_> = include_str!("../../../docs/semantics.md")
        .lines()
        .skip_while(|line| !line.starts_with("| guarantee |"))
        .take_while(|line| line.starts_with('|'))
        .map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .collect();
    let capabilities: Vec<_> = table.iter().flat_map(|row| row[2].split(", ")).collect();
    for capability in Capability::ALL.map(|this| this.to_string()) {
        assert!(capabilities.contains(&&*capability), "{capability} is in no row");
    }
    let broker_laws = BROKER_CASES.iter().map(|case| case.law.to_string());
    let known: Vec<_> = broker_laws.collect();
    for law in table[2..].iter().flat_map(|row| row[5].split(", ")).filter(|law| *law != "-") {
        let (first, last) = law.split_once('-').unwrap_or((law, law));
        for law in [first, last] {
            assert!(known.iter().any(|this| this == law), "there is no law {law}");
        }
    }
}
