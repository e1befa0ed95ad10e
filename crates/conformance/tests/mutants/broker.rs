//! A broker with a fault, and the laws that each fault breaks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_conformance::Law::{self, *};
use posthaste_conformance::{BrokerSubject, Executor, Fixture, run_broker};
use posthaste_core::task::lock;
use posthaste_core::{
    BoxFuture, BoxReceiver, BoxSender, Broker, Browsed, Cancel, Capabilities, DrainReport, Error,
    ErrorKind, Overflow, Pattern, Queue, QueueInfo, QueueSettings, Replayed, Retention,
    SenderOptions, Sends, Source, Start, Stats, Subscription, Topic,
};
use posthaste_memory::Memory;

use super::assert_breaks;
use super::common::virtual_time::VirtualTime;
use super::common::{Bare, On};
use super::fault::Fault;
use super::handles::{BrokenReceiver, BrokenSender, Crowd, Late};

impl<E: Executor> BrokerSubject for On<E, Fault> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let memory = self.executor.runtime().map_or_else(Memory::new, Memory::with_runtime);
        Box::pin(async { Ok(Fixture::new(Broken::new(memory, self.what))) })
    }
}

/// The in-process broker with a bug that its runtime has planted.
struct Sown;

impl BrokerSubject for On<VirtualTime, Sown> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        let memory = self.executor.runtime().map_or_else(Memory::new, Memory::with_runtime);
        Box::pin(async { Ok(Fixture::new(memory)) })
    }
}

/// The in-process broker with a fault.
struct Broken {
    memory: Memory,
    fault: Fault,
    crowd: Arc<Crowd>,
    opening: Mutex<Vec<Option<BoxReceiver>>>,
    consumers: AtomicU64,
    /// The settings that queues were told, of which the fault knows better.
    told: Mutex<BTreeMap<Topic, QueueSettings>>,
}

impl Broken {
    fn new(memory: Memory, fault: Fault) -> Self {
        Self {
            memory,
            fault,
            crowd: Arc::default(),
            opening: Mutex::default(),
            consumers: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }

    /// What becomes of a declaration.
    fn twist(&self, mut queue: Queue) -> Queue {
        match self.fault {
            Fault::TriesOnceMore => {
                queue.max_attempts = queue.max_attempts.map(|most| most.saturating_add(1));
            }
            Fault::IgnoresTimesToLive => queue.ttl = None,
            Fault::IgnoresBackoff => queue.backoff = None,
            Fault::IgnoresIds => queue.dedup_window = None,
            Fault::IgnoresKeys => queue.keyed = None,
            Fault::NeverTakesBack => queue.consumer_timeout = None,
            Fault::RetainsForEver => queue.retain = queue.retain.map(|_| Retention::new()),
            Fault::DropsTheNewestOnly if queue.overflow == Some(Overflow::DropOldest) => {
                queue.overflow = Some(Overflow::DropNewest);
            }
            _ => {}
        }
        queue
    }

    /// What a queue says of itself: what it was told, whatever it does.
    fn pretend(&self, mut info: QueueInfo) -> QueueInfo {
        if let Some(told) = lock(&self.told).get(&info.name) {
            info.settings = told.clone();
        }
        info
    }

    /// What becomes of an error.
    fn say(&self, error: Error) -> Error {
        match self.fault {
            // Who needs the name of the field finds it.
            Fault::SaysNothing if error.kind() != ErrorKind::Conflict => {
                Error::new(error.kind(), "error")
            }
            _ => error,
        }
    }

    fn wrap(&self, inner: BoxReceiver, source: &Source) -> BoxReceiver {
        let queue = match source {
            Source::Queue(name) => Some(name.clone()),
            _ => None,
        };
        let number = self.consumers.fetch_add(1, Ordering::Relaxed);
        let crowd = Arc::clone(&self.crowd);
        Box::new(BrokenReceiver::new(inner, self.fault, number, queue, crowd))
    }
}

#[async_trait]
impl Broker for Broken {
    async fn sender(&self, mut options: SenderOptions) -> Result<BoxSender, Error> {
        if self.fault == Fault::ClaimsToHaveStored {
            // Whoever claims to have stored takes the order to store, too.
            options.confirm = None;
        }
        Ok(Box::new(BrokenSender::new(self.memory.sender(options).await?, self.fault)))
    }

    async fn receiver(&self, mut subscription: Subscription) -> Result<BoxReceiver, Error> {
        let source = subscription.source.clone();
        match (self.fault, &source) {
            (Fault::IgnoresPrefetch, _) => subscription.prefetch = None,
            (Fault::MatchesTooMuch, Source::Topic(pattern)) => {
                let wide = Pattern::new(pattern.as_str().replace('*', ">"));
                if let Ok(wide) = wide {
                    subscription.source = Source::Topic(wide);
                }
            }
            (Fault::BeginsAtTheBeginning, _) if subscription.start == Some(Start::New) => {
                subscription.start = Some(Start::Beginning);
            }
            (Fault::SubscribesLate, Source::Topic(_)) => {
                return Ok(Box::new(Late::new(self.memory.clone(), subscription)));
            }
            (Fault::BlocksForSubscribers, Source::Topic(_)) if subscription.overflow.is_lossy() => {
                subscription.overflow = Overflow::Block;
            }
            _ => {}
        }
        let inner = self.memory.receiver(subscription).await?;
        if self.fault != Fault::LeaksWhatIsGivenUp {
            return Ok(self.wrap(inner, &source));
        }
        let at = {
            let mut opening = lock(&self.opening);
            opening.push(Some(inner));
            opening.len() - 1
        };
        // Given up here, it stays where it is.
        yield_once().await;
        let inner = lock(&self.opening)[at].take();
        Ok(self.wrap(inner.ok_or_else(|| Error::closed("the receiver"))?, &source))
    }

    async fn inbox(&self) -> Result<(Topic, BoxReceiver), Error> {
        let (address, inner) = self.memory.inbox().await?;
        let source = Source::Topic(Pattern::from(&address));
        Ok((address, self.wrap(inner, &source)))
    }

    async fn declare(&self, queue: Queue) -> Result<(), Error> {
        let told = {
            let told = lock(&self.told);
            match told.get(&queue.name).cloned() {
                Some(mut settings) => settings.update(&queue).map(|()| settings),
                None => QueueSettings::of(&queue),
            }
        };
        let told = match told {
            Err(error)
                if error.kind() == ErrorKind::Conflict && self.fault == Fault::HidesConflicts =>
            {
                return Ok(());
            }
            told => told?,
        };
        let name = queue.name.clone();
        self.memory.declare(self.twist(queue)).await?;
        lock(&self.told).insert(name, told);
        Ok(())
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        lock(&self.told).remove(queue);
        self.memory.delete(queue).await.map_err(|error| self.say(error))
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        let info = self.memory.queue(queue).await;
        info.map(|info| self.pretend(info)).map_err(|error| self.say(error))
    }

    async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        self.memory.purge(queue).await
    }

    async fn browse(
        &self,
        queue: &Topic,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Browsed>, Error> {
        let large = limit == usize::MAX && self.fault == Fault::PanicsAtLargeNumbers;
        assert!(!large, "nobody asks for so many");
        let shown = self.memory.browse(queue, after, limit).await?;
        if self.fault == Fault::BrowsesAway && after.is_none() && shown.len() == 1 {
            self.memory.purge(queue).await?;
        }
        Ok(shown)
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        self.memory.replay(queue, limit).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        let mut stats = self.memory.stats().await?;
        if self.fault == Fault::MiscountsCopies && stats.ledger.accepted > 0 {
            stats.ledger.accepted += 1;
        }
        stats.queues = stats.queues.into_iter().map(|info| self.pretend(info)).collect();
        Ok(stats)
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.memory.drain(within).await
    }

    fn cancel(&self, request: &Cancel) {
        if self.fault != Fault::IgnoresCancels {
            self.memory.cancel(request);
        }
    }

    fn sends(&self) -> Option<Sends> {
        let mut sends = self.memory.sends()?;
        if self.fault == Fault::CountsTakenTwice {
            sends.taken *= 2;
        }
        Some(sends)
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities().named(format!("{:?}", self.fault))
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

macro_rules! mutants {
    ($($on:expr => { $($name:ident: $fault:expr, breaks $laws:tt $(and $more:ident)?;)+ })+) => {$($(
        #[test]
        fn $name() {
            let subject = On { executor: $on, what: $fault };
            let laws: &[Law] = &$laws;
            let more = false $(|| stringify!($more) == "more")?;
            assert_breaks(&run_broker(&subject), laws, more);
        }
    )+)+};
}

mutants! {
    Bare => {
        a_broker_that_loses_every_seventh: Fault::LosesEverySeventh,
            breaks [S4, R2, B2, B5, D2] and more;
        a_broker_that_reorders_two: Fault::ReordersTwo, breaks [R1, R2, R3, B2, D2] and more;
        a_broker_that_doubles_one: Fault::DoublesOne, breaks [S4, S6, R1, R2, B3, B4, B5] and more;
        a_broker_that_confirms_the_refused: Fault::ConfirmsTheRefused,
            breaks [S1, S4, S5, D2] and more;
        a_broker_that_empties_the_pending_slot: Fault::EmptiesThePendingSlot,
            breaks [S1, S3, S6, B4] and more;
        a_broker_that_drops_the_batch_that_waits: Fault::DropsTheBatchThatWaits,
            breaks [S1, S3, S6, B4];
        a_broker_that_sends_batches_backwards: Fault::SendsBatchesBackwards,
            breaks [S1, S2, S3, S4, S5, S6, B4];
        a_broker_that_buffers_without_bound: Fault::BuffersWithoutBound,
            breaks [S1, S3, S6, B4] and more;
        a_broker_that_counts_from_zero: Fault::CountsFromZero, breaks [S2, S3, S4];
        a_broker_that_never_closes: Fault::NeverCloses, breaks [S1, S5, D1];
        a_broker_that_forgets_outcomes: Fault::ForgetsOutcomes, breaks [S4];
        a_broker_that_miscounts_matches: Fault::MiscountsMatches, breaks [S4, B2, B4, B5] and more;
        a_broker_that_claims_to_have_stored: Fault::ClaimsToHaveStored, breaks [S4, B1];
        a_broker_whose_sender_stays_on_the_list: Fault::SenderStaysOnTheList, breaks [R5];
        a_broker_that_cuts_payloads: Fault::CutsPayloads, breaks [S4, D2];
        a_broker_that_loses_headers: Fault::LosesHeaders, breaks [D2] and more;
        a_broker_that_loses_what_is_given_up: Fault::LosesWhatIsGivenUp,
            breaks [R1, R5, Q1] and more;
        a_broker_that_loses_acks: Fault::LosesAcks, breaks [R3, B3, B5, D1] and more;
        a_broker_that_forgets_attempts: Fault::ForgetsAttempts, breaks [R3, D1] and more;
        a_broker_that_counts_releases: Fault::CountsReleases, breaks [R3, D1] and more;
        a_broker_that_delivers_to_everybody: Fault::DeliversToEverybody, breaks [R5, B3] and more;
        a_broker_whose_receiver_stays_on_the_list: Fault::ReceiverStaysOnTheList, breaks [R5];
        a_broker_that_keeps_the_wakeup_of_streams: Fault::KeepsTheWakeupOfStreams, breaks [R5];
        a_broker_that_ends_only_once: Fault::EndsOnlyOnce, breaks [R4, D1] and more;
        a_broker_that_has_empty_batches: Fault::HasEmptyBatches, breaks [R6] and more;
        a_broker_that_ignores_prefetch: Fault::IgnoresPrefetch, breaks [R3] and more;
        a_broker_that_panics_on_other_threads: Fault::PanicsOnOtherThreads, breaks [D1];
        a_broker_that_subscribes_late: Fault::SubscribesLate, breaks [R2, B2, B4] and more;
        a_broker_that_leaks_what_is_given_up: Fault::LeaksWhatIsGivenUp, breaks [B6];
        a_broker_that_ignores_delays: Fault::IgnoresDelays, breaks [B1];
        a_broker_that_matches_too_much: Fault::MatchesTooMuch, breaks [B4, D2] and more;
        a_broker_that_miscounts_copies: Fault::MiscountsCopies, breaks [B5];
        a_broker_that_never_says_nobody: Fault::NeverSaysNobody, breaks [B18, Q2, Q4, Q5];
        a_broker_that_mixes_replies: Fault::MixesReplies, breaks [Q1, Q2] and more;
    }
    VirtualTime::new() => {
        a_broker_that_hides_conflicts: Fault::HidesConflicts, breaks [B7, B18];
        a_broker_that_tries_once_more: Fault::TriesOnceMore, breaks [B8];
        a_broker_that_forgets_deaths: Fault::ForgetsDeaths, breaks [B8, B17];
        a_broker_that_ignores_times_to_live: Fault::IgnoresTimesToLive, breaks [B9];
        a_broker_that_forgets_delays: Fault::ForgetsDelays, breaks [B10];
        a_broker_that_ignores_backoff: Fault::IgnoresBackoff, breaks [B10];
        a_broker_that_ignores_priorities: Fault::IgnoresPriorities, breaks [B11, D2];
        a_broker_that_ignores_ids: Fault::IgnoresIds, breaks [B12];
        a_broker_that_ignores_keys: Fault::IgnoresKeys, breaks [B11, B13];
        a_broker_that_never_takes_back: Fault::NeverTakesBack, breaks [R7];
        a_broker_that_drops_the_newest_only: Fault::DropsTheNewestOnly, breaks [B14, B16];
        a_broker_that_blocks_for_subscribers: Fault::BlocksForSubscribers,
            breaks [B14, B15] and more;
        a_broker_that_ends_in_silence: Fault::EndsInSilence, breaks [R8];
        a_broker_that_tells_no_events: Fault::TellsNoEvents, breaks [B16];
        a_broker_that_browses_away: Fault::BrowsesAway, breaks [B17];
        a_broker_that_ignores_cancels: Fault::IgnoresCancels, breaks [Q3, Q5];
        a_broker_that_counts_taken_twice: Fault::CountsTakenTwice, breaks [S7];
        a_broker_that_answers_once: Fault::AnswersOnce, breaks [Q1, Q4, Q5];
        a_broker_that_retains_for_ever: Fault::RetainsForEver, breaks [B18];
        a_broker_that_forgets_offsets: Fault::ForgetsOffsets, breaks [B18];
        a_broker_that_hides_gaps: Fault::HidesGaps, breaks [B18];
        a_broker_that_begins_at_the_beginning: Fault::BeginsAtTheBeginning, breaks [B18];
        a_broker_that_says_nothing: Fault::SaysNothing, breaks [D3];
        a_broker_that_panics_at_large_numbers: Fault::PanicsAtLargeNumbers, breaks [D4];
    }
    VirtualTime::planted("memory.forgets-acked-count") => {
        a_bug_in_the_count_of_what_was_acked: Sown, breaks [B5] and more;
    }
    VirtualTime::planted("memory.loses-retried") => {
        a_bug_that_loses_what_is_retried: Sown, breaks [R3, B5] and more;
    }
    VirtualTime::planted("memory.requeues-at-the-tail") => {
        a_bug_that_puts_what_comes_back_last: Sown, breaks [B11] and more;
    }
    VirtualTime::planted("memory.acks-at-hand-out") => {
        a_bug_that_acks_too_early: Sown, breaks [R3] and more;
    }
    VirtualTime::planted("memory.swallows-wake-ups") => {
        a_bug_that_swallows_wake_ups: Sown, breaks [R5];
    }
    VirtualTime::planted("memory.forgets-ids") => {
        a_bug_that_forgets_ids: Sown, breaks [B12];
    }
    VirtualTime::planted("memory.ignores-keys") => {
        a_bug_that_ignores_keys: Sown, breaks [B13];
    }
}
