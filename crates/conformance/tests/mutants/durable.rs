//! Brokers whose queues outlive them, with a fault, and the cases of law B19 that each fails: a fault
//! that shows when a broker is opened again breaks no other law.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_conformance::{
    BROKER_CASES, BrokerSubject, Executor, Fixture, Law, Need, Verdict, run_broker_case,
};
use posthaste_core::task::lock;
use posthaste_core::{
    Ack, BoxFuture, BoxReceiver, BoxSender, Broker, Browsed, Capabilities, Capability, DrainReport,
    Error, ErrorKind, Level, Message, Queue, QueueInfo, ReceiverExt, Replayed, SenderExt,
    SenderOptions, Sends, SharedRuntime, Stats, Subscription, Topic,
};
use posthaste_log::storage::Simulated;
use posthaste_log::{Durable, LogOptions};

use super::common::On;
use super::common::virtual_time::VirtualTime;
use super::fault::Fault;
use super::handles::{BrokenReceiver, BrokenSender, Crowd};

/// What can be wrong with a broker whose queues outlive it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    Nothing,

    // ---- from the beginning on
    /// A receipt says that everything is stored.
    ClaimsToHaveStored,
    /// Nothing is waited for but what is asked for.
    StoresOnRequest,
    /// A conflict is passed over in silence.
    HidesConflicts,

    // ---- once it is opened again
    /// It is another broker.
    ForgetsQueues,
    /// The first message of each queue is gone.
    LosesOne,
    /// It is there twice.
    DoublesOne,
    /// The last message is the first.
    TurnsQueuesRound,
    /// What stands beside the payload is gone.
    LosesHeaders,
    LosesPriorities,
    LosesKeys,
    /// Every delivery is the first attempt.
    ForgetsAttempts,
    /// Letters have no history.
    ForgetsDeaths,
    /// What was purged or deleted is there again.
    ForgetsPurges,
    ForgetsDeletions,
    /// Queues have other settings.
    ForgetsSettings,
    /// Queues are bound to nothing.
    ForgetsBindings,
    /// Queues are there that are not durable.
    KeepsTheVolatile,
    /// Offsets are given anew.
    ForgetsOffsets,
    /// It is two hours later, or earlier.
    IsLate,
    IsEarly,
}

/// More than the longest time that a case names.
const TWO_HOURS: i64 = 2 * 60 * 60;

impl BrokerSubject for On<VirtualTime, Flaw> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let (world, flaw) = (self.executor.clone(), self.what);
        Box::pin(async move { open(world, flaw, Simulated::new(), None).await })
    }
}

/// Segments that are begun, and filled with nothing beforehand, in no time.
fn small() -> LogOptions {
    let mut options = LogOptions::default();
    options.segment_bytes = 64 << 10;
    options
}

/// Opens a broker, for the first time or after one that said so much of itself.
fn open(
    world: VirtualTime,
    flaw: Flaw,
    disk: Simulated,
    before: Option<Stats>,
) -> BoxFuture<'static, Result<Fixture, Error>> {
    Box::pin(async move {
        let runtime: SharedRuntime = Arc::new(world.clone());
        let (inner, _) = Durable::open(runtime, disk.clone(), small()).await?;
        if let Some(before) = &before {
            twist(&inner, flaw, before).await?;
        }
        let past = Arc::new(Mutex::new(None));
        let broker = Flawed {
            inner: inner.clone(),
            flaw: if before.is_some() { flaw } else { flaw.at_first() },
            disk: disk.clone(),
            past: Arc::clone(&past),
            crowd: Arc::default(),
        };
        Ok(Fixture::new(broker).reopen(move || {
            Box::pin(async move {
                let before = inner.stats().await?;
                inner.close().await?;
                let past = lock(&past).take();
                let disk = match flaw {
                    Flaw::ForgetsQueues => Simulated::new(),
                    _ => past.unwrap_or(disk),
                };
                match flaw {
                    Flaw::IsLate => world.move_wall_clock(TWO_HOURS),
                    Flaw::IsEarly => world.move_wall_clock(-TWO_HOURS),
                    _ => {}
                }
                open(world, flaw, disk, Some(before)).await
            })
        }))
    })
}

impl Flaw {
    /// What of it there is before a broker is opened again.
    fn at_first(self) -> Self {
        match self {
            Self::ForgetsAttempts | Self::ForgetsDeaths => Self::Nothing,
            _ => self,
        }
    }

    /// The flaw of the broker's handles.
    fn of_handles(self) -> Option<Fault> {
        match self {
            Self::ClaimsToHaveStored => Some(Fault::ClaimsToHaveStored),
            Self::ForgetsAttempts => Some(Fault::ForgetsAttempts),
            Self::ForgetsDeaths => Some(Fault::ForgetsDeaths),
            _ => None,
        }
    }
}

/// What becomes of a broker that was opened again.
async fn twist(broker: &Durable, flaw: Flaw, before: &Stats) -> Result<(), Error> {
    for QueueInfo { name, settings, .. } in &before.queues {
        if !settings.durable {
            if flaw == Flaw::KeepsTheVolatile {
                broker.declare(Queue::new(name.clone())).await?;
            }
            continue;
        }
        let Ok(info) = broker.queue(name).await else { continue };
        match flaw {
            Flaw::ForgetsSettings if settings.retain.is_none() => {
                broker.declare(Queue::new(name.clone()).max_attempts(99)).await?;
            }
            Flaw::ForgetsBindings if !info.bindings.is_empty() => {
                broker.delete(name).await?;
                broker.declare(Queue::new(name.clone())).await?;
            }
            Flaw::ForgetsOffsets if settings.retain.is_some() => {
                let messages = broker.browse(name, None, 1_000).await?;
                broker.purge(name).await?;
                send(broker, messages.into_iter().map(|this| this.message)).await?;
            }
            _ if settings.retain.is_none() => rewrite(broker, &info, flaw).await?,
            _ => {}
        }
    }
    Ok(())
}

/// Makes other messages of those in a queue, where nothing but that is lost by it.
async fn rewrite(broker: &Durable, queue: &QueueInfo, flaw: Flaw) -> Result<(), Error> {
    let rewrites = matches!(
        flaw,
        Flaw::LosesOne
            | Flaw::DoublesOne
            | Flaw::TurnsQueuesRound
            | Flaw::LosesHeaders
            | Flaw::LosesPriorities
            | Flaw::LosesKeys
    );
    let shown = broker.browse(&queue.name, None, 1_000).await?;
    let has_past = |this: &Browsed| this.attempts > 0 || this.message.deaths().next().is_some();
    if !rewrites || !queue.settings.dedup_window.is_zero() || shown.iter().any(has_past) {
        return Ok(());
    }
    let of = Subscription::queue(&queue.name)?.ack(Ack::Auto);
    let mut consumer = broker.receiver(of).await?;
    let mut messages = Vec::new();
    while let Some(delivery) = consumer.try_recv()? {
        messages.push(delivery.message().clone());
    }
    consumer.close().await?;
    match flaw {
        Flaw::LosesOne => drop(messages.drain(..messages.len().min(1))),
        Flaw::DoublesOne => messages.extend(messages.first().cloned()),
        Flaw::TurnsQueuesRound => messages.reverse(),
        _ => {}
    }
    let messages: Result<Vec<_>, Error> =
        messages.into_iter().map(|message| without(&message, flaw)).collect();
    send(broker, messages?).await
}

async fn send(broker: &Durable, messages: impl IntoIterator<Item = Message>) -> Result<(), Error> {
    let mut sender = broker.sender(SenderOptions::new()).await?;
    for message in messages {
        sender.feed(message).await?;
    }
    sender.flush().await.map(drop)
}

/// A message without what is lost of it.
fn without(message: &Message, flaw: Flaw) -> Result<Message, Error> {
    let mut draft = Message::builder(message.topic()).to_queue();
    draft = draft.payload(message.payload().clone());
    for (name, value) in message.headers().filter(|_| flaw != Flaw::LosesHeaders) {
        draft = draft.header(name, value);
    }
    if let Some(key) = message.key().filter(|_| flaw != Flaw::LosesKeys) {
        draft = draft.key(key);
    }
    if let Some(id) = message.id() {
        draft = draft.id(id);
    }
    let priority = if flaw == Flaw::LosesPriorities { 0 } else { message.priority() };
    draft.priority(priority).build()
}

/// A broker with a flaw.
struct Flawed {
    inner: Durable,
    flaw: Flaw,
    disk: Simulated,
    /// What is opened the next time, if it is not what there is.
    past: Arc<Mutex<Option<Simulated>>>,
    crowd: Arc<Crowd>,
}

impl Flawed {
    /// What is on the disk now is what will be there.
    fn remember(&self) {
        lock(&self.past).get_or_insert_with(|| self.disk.kill());
    }
}

#[async_trait]
impl Broker for Flawed {
    async fn sender(&self, mut options: SenderOptions) -> Result<BoxSender, Error> {
        match self.flaw {
            Flaw::ClaimsToHaveStored => options.confirm = None,
            Flaw::StoresOnRequest => options.confirm = options.confirm.or(Some(Level::Written)),
            _ => {}
        }
        let inner = self.inner.sender(options).await?;
        Ok(match self.flaw.of_handles() {
            Some(fault) => Box::new(BrokenSender::new(inner, fault)),
            None => inner,
        })
    }

    async fn receiver(&self, subscription: Subscription) -> Result<BoxReceiver, Error> {
        let inner = self.inner.receiver(subscription).await?;
        let crowd = Arc::clone(&self.crowd);
        Ok(match self.flaw.of_handles() {
            Some(fault) => Box::new(BrokenReceiver::new(inner, fault, 0, None, crowd)),
            None => inner,
        })
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        self.inner.inbox().await
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        match self.inner.declare(queue).await {
            Err(error)
                if error.kind() == ErrorKind::Conflict && self.flaw == Flaw::HidesConflicts =>
            {
                Ok(())
            }
            declared => declared,
        }
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        if self.flaw == Flaw::ForgetsDeletions {
            self.remember();
        }
        self.inner.delete(queue).await
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.inner.queue(queue).await
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        if self.flaw == Flaw::ForgetsPurges {
            self.remember();
        }
        self.inner.purge(queue).await
    }

    async fn browse(
        &self,
        queue: &Topic,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        self.inner.browse(queue, after, limit).await
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        self.inner.replay(queue, limit).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        self.inner.stats().await
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.inner.drain(within).await
    }

    fn sends(&self) -> Option<Sends> {
        self.inner.sends()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities().named(format!("{:?}", self.flaw))
    }
}

/// The cases of law B19 that a broker fails, and why.
fn failed(world: VirtualTime, flaw: Flaw) -> BTreeMap<&'static str, String> {
    let subject = On { executor: world, what: flaw };
    let cases = BROKER_CASES.iter().filter(|case| case.law == Law::B19);
    let failed = cases.filter_map(|case| match run_broker_case(&subject, case) {
        Verdict::Passed => None,
        Verdict::Failed(failure) => Some((case.name, failure.to_string())),
        Verdict::NotApplicable(need) => panic!("{} needs {need}", case.name),
    });
    failed.collect()
}

macro_rules! mutants {
    ($($name:ident: $on:expr, $flaw:ident, fails $cases:tt $(and $more:ident)?;)+) => {
        $(#[test]
        fn $name() {
            let cases: BTreeSet<&str> = BTreeSet::from($cases);
            let why = failed($on, Flaw::$flaw);
            let failed: BTreeSet<&str> = why.keys().copied().collect();
            let more = false $(|| stringify!($more) == "more")?;
            let found = if more { failed.is_superset(&cases) } else { failed == cases };
            assert!(found, "it is to fail {cases:?}, and fails {why:#?}");
        })+

        /// The cases that the brokers are to fail.
        const SHOWN: &[&[&str]] = &[$(&$cases),+];
    };
}

mutants! {
    one_without_a_flaw: VirtualTime::new(), Nothing, fails [];
    one_that_claims_to_have_stored: VirtualTime::new(), ClaimsToHaveStored,
        fails ["b19_the_least_safe_copy_counts"];
    one_that_stores_on_request: VirtualTime::new(), StoresOnRequest,
        fails ["b19_a_receipt_says_how_safe_a_message_is"] and more;
    one_that_hides_conflicts: VirtualTime::new(), HidesConflicts,
        fails ["b19_another_durability_is_a_conflict"];
    one_that_forgets_queues: VirtualTime::new(), ForgetsQueues,
        fails [
            "b19_queues_are_there_again_as_they_were_declared",
            "b19_what_was_confirmed_is_there_again_in_order",
        ] and more;
    one_that_loses_one: VirtualTime::new(), LosesOne,
        fails [
            "b19_what_was_confirmed_is_there_again_in_order",
            "b19_what_was_written_is_there_again",
        ] and more;
    one_that_doubles_one: VirtualTime::new(), DoublesOne,
        fails [
            "b19_what_was_confirmed_is_there_again_in_order",
            "b19_what_was_written_is_there_again",
        ] and more;
    one_that_turns_queues_round: VirtualTime::new(), TurnsQueuesRound,
        fails ["b19_what_was_confirmed_is_there_again_in_order"] and more;
    one_that_loses_headers: VirtualTime::new(), LosesHeaders,
        fails ["b19_a_message_is_there_again_as_it_was_sent"];
    one_that_loses_priorities: VirtualTime::new(), LosesPriorities,
        fails ["b19_priorities_are_there_again"];
    one_that_loses_keys: VirtualTime::new(), LosesKeys,
        fails ["b19_a_key_comes_in_order_again", "b19_a_message_is_there_again_as_it_was_sent"];
    one_that_forgets_attempts: VirtualTime::new(), ForgetsAttempts,
        fails [
            "b19_dead_letters_are_there_again_with_their_history",
            "b19_what_was_handed_out_comes_again_one_attempt_higher",
        ];
    one_that_forgets_deaths: VirtualTime::new(), ForgetsDeaths,
        fails ["b19_dead_letters_are_there_again_with_their_history"];
    one_that_forgets_purges: VirtualTime::new(), ForgetsPurges,
        fails ["b19_offsets_go_on", "b19_what_was_deleted_or_purged_stays_away"];
    one_that_forgets_deletions: VirtualTime::new(), ForgetsDeletions,
        fails ["b19_what_was_deleted_or_purged_stays_away"];
    one_that_forgets_settings: VirtualTime::new(), ForgetsSettings,
        fails [
            "b19_dead_letters_are_there_again_with_their_history",
            "b19_queues_are_there_again_as_they_were_declared",
        ];
    one_that_forgets_bindings: VirtualTime::new(), ForgetsBindings,
        fails ["b19_bindings_are_there_again"];
    one_that_keeps_the_volatile: VirtualTime::new(), KeepsTheVolatile,
        fails ["b19_what_is_not_durable_is_gone"];
    one_that_forgets_offsets: VirtualTime::new(), ForgetsOffsets, fails ["b19_offsets_go_on"];
    one_that_is_late: VirtualTime::new(), IsLate,
        fails [
            "b19_a_known_id_is_known_again",
            "b19_a_time_to_live_goes_on",
            "b19_what_is_delayed_comes_at_its_time",
            "b19_what_is_in_backoff_waits_on",
        ];
    one_that_is_early: VirtualTime::new(), IsEarly,
        fails ["b19_a_time_to_live_goes_on", "b19_what_is_delayed_comes_at_its_time"];
    one_that_forgets_ids: VirtualTime::planted("log.forgets-ids"), Nothing,
        fails ["b19_a_known_id_is_known_again"];
    one_that_forgets_settlements: VirtualTime::planted("log.forgets-settlements"), Nothing,
        fails [
            "b19_a_known_id_is_known_again",
            "b19_what_was_confirmed_is_there_again_in_order",
            "b19_what_was_settled_does_not_come_again",
        ];
}

#[test]
fn every_case_has_a_broker_that_fails_it() {
    let shown: BTreeSet<&str> = SHOWN.iter().copied().flatten().copied().collect();
    let cases = BROKER_CASES.iter().filter(|case| case.law == Law::B19).map(|case| case.name);
    assert_eq!(shown, cases.collect());
}

/// A broker whose queues outlive it, of which nobody says how it is opened again.
struct Closed;

impl BrokerSubject for On<VirtualTime, Closed> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let runtime = self.executor.runtime();
        Box::pin(async {
            let runtime = runtime.ok_or_else(|| Error::closed("the runtime"))?;
            let (broker, _) = Durable::open(runtime, Simulated::new(), small()).await?;
            assert!(broker.capabilities().has(Capability::Durability));
            Ok(Fixture::new(broker))
        })
    }
}

#[test]
fn what_needs_a_second_opening_is_left_out_by_name() {
    let subject = On { executor: VirtualTime::new(), what: Closed };
    for case in BROKER_CASES.iter().filter(|case| case.law == Law::B19) {
        let verdict = run_broker_case(&subject, case);
        let left_out = matches!(verdict, Verdict::NotApplicable(Need::Reopening));
        let passed = matches!(verdict, Verdict::Passed);
        let reopens = case.needs.contains(&Need::Reopening);
        assert!(if reopens { left_out } else { passed }, "{}: {verdict}", case.name);
    }
}
