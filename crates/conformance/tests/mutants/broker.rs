//! A broker with a fault, and the laws that each fault breaks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_conformance::Law::{self, *};
use posthaste_conformance::{BrokerSubject, Executor, Fixture, run_broker};
use posthaste_core::task::lock;
use posthaste_core::{
    BoxFuture, BoxReceiver, BoxSender, Broker, Browsed, Cancel, Capabilities, DrainReport, Error,
    Pattern, Queue, QueueInfo, Replayed, SenderOptions, Sends, Source, Stats, Subscription, Topic,
};
use posthaste_memory::Memory;

use super::assert_breaks;
use super::common::{Bare, On};
use super::fault::Fault;
use super::handles::{BrokenReceiver, BrokenSender, Crowd, Late};

impl BrokerSubject for On<Bare, Fault> {
    fn open(&self) -> BoxFuture<'_, Result<Fixture, Error>> {
        Box::pin(async { Ok(Fixture::new(Broken::new(self.what))) })
    }
}

/// The in-process broker with a fault.
struct Broken {
    memory: Memory,
    fault: Fault,
    crowd: Arc<Crowd>,
    opening: Mutex<Vec<Option<BoxReceiver>>>,
    consumers: AtomicU64,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self {
            memory: Memory::new(),
            fault,
            crowd: Arc::default(),
            opening: Mutex::default(),
            consumers: AtomicU64::new(0),
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
            (Fault::SubscribesLate, Source::Topic(_)) => {
                return Ok(Box::new(Late::new(self.memory.clone(), subscription)));
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
        self.memory.declare(queue).await
    }

    async fn delete(&self, queue: &Topic) -> Result<(), Error> {
        self.memory.delete(queue).await
    }

    async fn queue(&self, queue: &Topic) -> Result<QueueInfo, Error> {
        self.memory.queue(queue).await
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
        self.memory.browse(queue, after, limit).await
    }

    async fn replay(&self, queue: &Topic, limit: u64) -> Result<Replayed, Error> {
        self.memory.replay(queue, limit).await
    }

    async fn stats(&self) -> Result<Stats, Error> {
        let mut stats = self.memory.stats().await?;
        if self.fault == Fault::MiscountsCopies && stats.ledger.accepted > 0 {
            stats.ledger.accepted += 1;
        }
        Ok(stats)
    }

    async fn drain(&self, within: Duration) -> Result<DrainReport, Error> {
        self.memory.drain(within).await
    }

    fn cancel(&self, request: &Cancel) {
        self.memory.cancel(request);
    }

    fn sends(&self) -> Option<Sends> {
        self.memory.sends()
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
    ($($name:ident: $fault:ident breaks $laws:tt $(and $more:ident)?;)+) => {$(
        #[test]
        fn $name() {
            let subject = On { executor: Bare, what: Fault::$fault };
            assert!(subject.runtime().is_none());
            let laws: &[Law] = &$laws;
            let more = false $(|| stringify!($more) == "more")?;
            assert_breaks(&run_broker(&subject), laws, more);
        }
    )+};
}

mutants! {
    a_broker_that_loses_every_seventh: LosesEverySeventh breaks [S4, R2, B2, B5, D2] and more;
    a_broker_that_reorders_two: ReordersTwo breaks [R1, R2, R3, B2, D2] and more;
    a_broker_that_doubles_one: DoublesOne breaks [S4, S6, R1, R2, B3, B4, B5] and more;
    a_broker_that_confirms_the_refused: ConfirmsTheRefused breaks [S1, S4, S5, D2];
    a_broker_that_empties_the_pending_slot: EmptiesThePendingSlot
        breaks [S1, S3, S6, B4] and more;
    a_broker_that_buffers_without_bound: BuffersWithoutBound breaks [S1, S3, S6, B4] and more;
    a_broker_that_counts_from_zero: CountsFromZero breaks [S2, S3, S4];
    a_broker_that_never_closes: NeverCloses breaks [S1, S5, D1];
    a_broker_that_forgets_outcomes: ForgetsOutcomes breaks [S4];
    a_broker_that_miscounts_matches: MiscountsMatches breaks [S4, B2, B4, B5] and more;
    a_broker_that_claims_to_have_stored: ClaimsToHaveStored breaks [S4, B1];
    a_broker_whose_sender_stays_on_the_list: SenderStaysOnTheList breaks [R5];
    a_broker_that_cuts_payloads: CutsPayloads breaks [S4, D2];
    a_broker_that_loses_headers: LosesHeaders breaks [D2] and more;
    a_broker_that_loses_what_is_given_up: LosesWhatIsGivenUp breaks [R1, R5, Q1] and more;
    a_broker_that_loses_acks: LosesAcks breaks [R3, B3, B5, D1] and more;
    a_broker_that_forgets_attempts: ForgetsAttempts breaks [R3, D1] and more;
    a_broker_that_counts_releases: CountsReleases breaks [R3, D1] and more;
    a_broker_that_delivers_to_everybody: DeliversToEverybody breaks [R5, B3] and more;
    a_broker_whose_receiver_stays_on_the_list: ReceiverStaysOnTheList breaks [R5];
    a_broker_that_keeps_the_wakeup_of_streams: KeepsTheWakeupOfStreams breaks [R5];
    a_broker_that_ends_only_once: EndsOnlyOnce breaks [R4, D1] and more;
    a_broker_that_has_empty_batches: HasEmptyBatches breaks [R6] and more;
    a_broker_that_ignores_prefetch: IgnoresPrefetch breaks [R3] and more;
    a_broker_that_panics_on_other_threads: PanicsOnOtherThreads breaks [D1];
    a_broker_that_subscribes_late: SubscribesLate breaks [R2, B2, B4] and more;
    a_broker_that_leaks_what_is_given_up: LeaksWhatIsGivenUp breaks [B6];
    a_broker_that_ignores_delays: IgnoresDelays breaks [B1];
    a_broker_that_matches_too_much: MatchesTooMuch breaks [B4, D2] and more;
    a_broker_that_miscounts_copies: MiscountsCopies breaks [B5];
    a_broker_that_never_says_nobody: NeverSaysNobody breaks [Q2];
    a_broker_that_mixes_replies: MixesReplies breaks [Q1, Q2] and more;
}
