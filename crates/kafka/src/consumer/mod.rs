//! Reading: a thread that has librdkafka's consumer, and what the receiver's task does with it.

mod events;
mod partition;
mod start;
mod state;
mod thread;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::thread::Builder;
use std::time::Duration;

use posthaste_core::runtime::{blocking, timeout_at};
use posthaste_core::task::{OneShot, lock, remember};
use posthaste_core::{Death, Error, ErrorKind, Message, MessageBuilder, Topic};
use posthaste_engine::{Arrival, Confirmation, Consume, Publish as _, Settled, Verdict};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaResult;

pub(crate) use self::start::Source;

use self::events::Events;
use self::partition::{Place, Ready};
use self::state::{Next, Shared};
use self::thread::Thread;
use crate::client::Client;
use crate::native::{consumer_config, rebalance_timeout};
use crate::publisher::Publisher;
use crate::record::Wants;
use crate::{errors, names};

/// How long a commit that failed for a passing reason waits until it is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// How long a message waits at most that comes again and again.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Reads for one receiver. Where the log does not hold the sender up (`HOLDS`), the receiver reads
/// at its own pace; else it takes in what comes, and its policy says what is dropped.
pub(crate) struct Reader<const HOLDS: bool> {
    client: Arc<Client>,
    consumer: Arc<BaseConsumer<Events>>,
    shared: Arc<Shared>,
    grouped: bool,
    /// Whether what is handed out is settled here at all.
    settles: bool,
}

impl<const HOLDS: bool> Reader<HOLDS> {
    /// Begins to read; what is published from then on is seen.
    pub(crate) async fn open(
        client: &Arc<Client>,
        source: Source,
        group: Option<&str>,
        wants: Wants,
        settles: bool,
    ) -> Result<Self, Error> {
        let mut config = consumer_config(&client.options, group);
        if let Source::Grouped { subscription, from_end, .. } = &source {
            config.set("enable.partition.eof", if *from_end { "true" } else { "false" });
            if subscription.starts_with('^') {
                config.set("topic.blacklist", names::LEFT_ALONE);
            }
        }
        let shared = Arc::new(Shared::default());
        let events = Events {
            shared: Arc::clone(&shared),
            troubles: client.native()?.troubles.clone(),
            request_timeout: client.options.request_timeout,
        };
        let live = Arc::new(OneShot::new());
        let grouped = group.is_some();
        let parts = (Arc::clone(client), Arc::clone(&shared), Arc::clone(&live));
        // It is made where it may block, and by the thread that will have it.
        let consumer = blocking(&**client.runtime(), move || {
            let (client, shared, live) = parts;
            let consumer = BaseConsumer::from_config_and_context(&config, events);
            let consumer =
                Arc::new(consumer.map_err(|error| errors::of("starting a consumer", error))?);
            let held = Arc::clone(&consumer);
            Thread::spawn(client, held, shared, source, wants, live)?;
            Ok::<_, Error>(consumer)
        })
        .await?;
        let this = Self { client: Arc::clone(client), consumer, shared, grouped, settles };
        poll_fn(|cx| live.poll_take(cx)).await?;
        Ok(this)
    }

    /// Hands a message on again. Kafka knows of no such thing, so it comes from here, for as long
    /// as this receiver lives; what comes too often waits longer each time.
    fn again(&self, settled: Settled<Place>, attempt: u32) {
        let pause = match settled.attempt {
            1 => Duration::ZERO,
            often => Duration::from_millis(10 << often.min(9)).min(PAUSE_MAX),
        };
        let at = self.client.runtime().now() + pause;
        let ready = Ready { message: settled.message, attempt, place: settled.token };
        let mut state = lock(&self.shared.state);
        match pause.is_zero() && state.is_ours(&ready.place) {
            true => {
                state.put(ready);
                state.wake_reader();
            }
            false => state.put_again(at, ready),
        }
    }

    /// Sends a rejected message to where such go, if there is such a place.
    async fn bury(&self, settled: &Settled<Place>, why: &str) -> Result<(), Error> {
        let Some(name) = &self.client.options.dead_letter else { return Ok(()) };
        if !self.grouped {
            return Ok(());
        }
        let (queue, now) = (settled.message.topic(), self.client.runtime().unix_time());
        let mut death = Death::new(queue, settled.attempt, now);
        death.add_reason(why);
        let Some(letter) = settled.message.clone().with_death(&death) else { return Ok(()) };
        let letter = addressed(&letter, Topic::new(name)?)?;
        self.client.topic_created(name, &[]).await?;
        publish(&self.client, &letter).await
    }

    /// Notes what is settled. The group hears of it soon, or once somebody waits for that.
    fn settle_places(&self, done: &[Place]) {
        let mut state = lock(&self.shared.state);
        state.settle(done);
        let waits = state.waits;
        let due = state.is_commit_due(self.client.runtime().now());
        drop(state);
        if waits {
            self.shared.room.notify_all();
        }
        if due {
            // What fails is tried again when the clock has the next.
            let _begun = self.commit_aside();
        }
    }

    /// Commits what is due on a thread of its own: librdkafka tells how a commit went to who waits
    /// for it, and to nobody else, and may not do so at all if the group gives its partitions out
    /// meanwhile. A runtime that shuts down would wait for that in its pool.
    fn commit_aside(&self) -> Result<Arc<OneShot<KafkaResult<()>>>, Error> {
        let committed = Arc::new(OneShot::new());
        let told = Arc::clone(&committed);
        let (consumer, shared) = (Arc::clone(&self.consumer), Arc::clone(&self.shared));
        let commit = move || {
            let due = lock(&shared.state).begin_commit();
            told.put(due.map_or(Ok(()), |due| shared.commit(&consumer, &due)));
        };
        Builder::new().name(String::from("posthaste-kafka")).spawn(commit)?;
        Ok(committed)
    }

    /// Has the group stand behind everything that is settled without a gap.
    async fn commit(&self) -> Result<(), Error> {
        let runtime = self.client.runtime();
        // A group may be giving its partitions out anew, and nobody can commit meanwhile.
        let rebalance = rebalance_timeout(&self.client.options);
        let deadline = runtime.now() + self.client.options.request_timeout + rebalance;
        let in_vain = || {
            let text = "the consumer group's coordinator did not confirm a commit in time; what was \
                        settled may be delivered again";
            Error::new(ErrorKind::Unknown, text)
        };
        loop {
            if timeout_at(&**runtime, deadline, self.stands()).await.is_none() {
                return Err(in_vain());
            }
            if !lock(&self.shared.state).has_commits() {
                break;
            }
            let committing = self.commit_aside()?;
            let commit = poll_fn(|cx| committing.poll_take(cx));
            let Some(committed) = timeout_at(&**runtime, deadline, commit).await else {
                return Err(in_vain());
            };
            let Err(error) = committed else { continue };
            if !errors::code(&error).is_some_and(errors::is_passing) {
                return Err(errors::of("committing what was settled", error));
            }
            let pause = runtime.now() + AGAIN;
            let _elapsed = timeout_at(&**runtime, pause, std::future::pending::<()>()).await;
        }
        match lock(&self.shared.state).take_late() {
            0 => Ok(()),
            late => {
                let text = format!(
                    "{late} settlements came after their partitions had gone to another consumer of \
                     the group, which gets those messages again"
                );
                Err(Error::new(ErrorKind::Unknown, text))
            }
        }
    }

    /// Resolves when no commit is on its way and the partitions are this consumer's, whichever
    /// they are.
    async fn stands(&self) {
        poll_fn(|cx| {
            let mut state = lock(&self.shared.state);
            if !state.stands() {
                remember(&mut state.settler, cx);
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl<const HOLDS: bool> Consume for Reader<HOLDS> {
    type Token = Place;

    const HOLDS: bool = HOLDS;

    async fn next(&mut self) -> Result<Option<Arrival<Place>>, Error> {
        poll_fn(|cx| {
            let mut state = lock(&self.shared.state);
            let next = state.next();
            if state.waits && state.has_room() {
                state.waits = false;
                self.shared.room.notify_one();
            }
            match next {
                Next::Message(Ready { message, attempt, place }) => {
                    let token = self.settles.then_some(place);
                    Poll::Ready(Ok(Some(Arrival { message, attempt, token })))
                }
                Next::Interruption(error) => Poll::Ready(Err(error)),
                Next::End(why) => Poll::Ready(why.map(|()| None)),
                Next::Nothing => {
                    remember(&mut state.reader, cx);
                    Poll::Pending
                }
            }
        })
        .await
    }

    async fn settle(&mut self, settled: Vec<Settled<Place>>) -> Result<(), Error> {
        let (mut done, mut failed) = (Vec::new(), None);
        for settled in settled {
            match &settled.verdict {
                Verdict::Ack | Verdict::Taken | Verdict::Expired => done.push(settled.token),
                Verdict::Reject { why } => match self.bury(&settled, &why.clone()).await {
                    Ok(()) => done.push(settled.token),
                    Err(error) => {
                        failed.get_or_insert(error);
                        let attempt = settled.attempt.saturating_add(1);
                        self.again(settled, attempt);
                    }
                },
                Verdict::Retry { .. } | Verdict::Dropped => {
                    failed.get_or_insert_with(no_requeue);
                    let attempt = settled.attempt.saturating_add(1);
                    self.again(settled, attempt);
                }
                Verdict::Release => {
                    failed.get_or_insert_with(no_requeue);
                    let attempt = settled.attempt;
                    self.again(settled, attempt);
                }
                // It was read and not seen, and is not committed.
                Verdict::Unseen => {}
            }
        }
        if self.grouped {
            self.settle_places(&done);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn confirm(&mut self) -> Result<(), Error> {
        match self.grouped {
            true => self.commit().await,
            false => Ok(()),
        }
    }

    async fn stop(&mut self) {
        lock(&self.shared.state).stop();
        self.shared.room.notify_one();
    }

    async fn answer(&mut self, message: Message) {
        // Nobody is there to be told if it cannot be sent; whoever asked has a deadline.
        let _sent = publish(&self.client, &message).await;
    }
}

/// Sends one message and waits until it is confirmed.
async fn publish(client: &Arc<Client>, message: &Message) -> Result<(), Error> {
    match Publisher::new(Arc::clone(client)).publish(message).await? {
        Confirmation::Later(confirmed) => confirmed.await.map(drop),
        Confirmation::Now(_) => Ok(()),
    }
}

/// The same message, to another queue.
fn addressed(message: &Message, queue: Topic) -> Result<Message, Error> {
    let mut draft = Message::builder(queue).to_queue().payload(message.payload().clone());
    for (name, value) in message.headers() {
        draft = draft.header(name, value);
    }
    draft = message.key().into_iter().fold(draft, MessageBuilder::key);
    draft = message.id().into_iter().fold(draft, MessageBuilder::id);
    let mut letter = draft.build()?;
    for death in message.deaths() {
        letter = letter.clone().with_death(&death).unwrap_or(letter);
    }
    Ok(letter)
}

/// The error of everything that would put a message back.
fn no_requeue() -> Error {
    let text = "Kafka does not support redelivery of single messages: this one stays uncommitted, \
                and comes again from this receiver while it lives, else from whoever reads its \
                partition next, where its attempts count anew";
    Error::new(ErrorKind::Unsupported, text)
}
