//! Consuming a queue: pulls of its own size, acknowledgements in order, and signs of life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_compat::Compat;
use async_nats::{StatusCode, Subscriber};
use futures::StreamExt;
use futures::future::{Either, join_all, select};
use posthaste_core::runtime::BoxTimer;
use posthaste_core::{Ack, Error, ErrorKind, Message, Subscription, Topic};
use posthaste_engine::{Arrival, Consume, Settled, Verdict};
use tokio::sync::watch;

use crate::broker::Link;
use crate::events::Condition;
use crate::letters::Leased;
use crate::messages;
use crate::names;
use crate::streams::Entry;

/// How many are asked for at a time at most.
const PULL_MAX: usize = 512;
/// How long the server keeps a pull.
const PULL_EXPIRES_NS: u64 = 20_000_000_000;

/// A delivery, told from an earlier one of the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    sequence: u64,
    delivered: u64,
}

/// How the messages of a queue come in.
pub(crate) struct Consuming {
    link: Arc<Link>,
    queue: Topic,
    entry: Arc<Entry>,
    /// Where pulls are sent, and where what they bring comes to.
    pulls: String,
    inbox: String,
    subscriber: Subscriber,
    watch: watch::Receiver<Condition>,
    /// How many connections had ended when the pulls were sent.
    ended: u64,
    /// How many may be unsettled here, and how many may come in all.
    prefetch: usize,
    left: u64,
    /// Asked for and not come.
    outstanding: usize,
    /// Come and not settled, by sequence.
    in_hand: BTreeMap<u64, Leased>,
    /// The last that was acknowledged, and how many connections had ended when the first was that
    /// nobody has confirmed yet.
    acknowledged: Option<(Leased, u64)>,
    /// Come, and being looked at.
    current: Option<async_nats::Message>,
    /// Rings when the server has to hear that what is in hand is still being worked on.
    alive: BoxTimer,
}

impl Consuming {
    /// Opens a consumer of a queue, which is declared if it is not there.
    pub(crate) async fn open(
        link: Arc<Link>,
        queue: &Topic,
        subscription: &Subscription,
    ) -> Result<Self, Error> {
        Compat::new(async {
            link.up().await?;
            let entry = link.ensure(queue).await?;
            link.open_consumer(queue).await?;
            let inbox = link.client().new_inbox();
            let mut watch = link.events().watch();
            let ended = watch.borrow_and_update().ended;
            let subscriber = link.client().subscribe(inbox.clone()).await.map_err(|error| {
                Error::new(ErrorKind::Disconnected, format!("NATS did not subscribe: {error}"))
            })?;
            let prefetch = match subscription.ack {
                Ack::Manual => subscription.prefetch.unwrap_or(usize::MAX).max(1),
                Ack::Auto => subscription.capacity_messages,
            };
            let stream = names::stream(queue)?;
            let mut alive = link.runtime().timer();
            alive.as_mut().reset(link.runtime().now() + link.options().ack_wait / 3);
            Ok(Self {
                queue: queue.clone(),
                entry,
                pulls: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", names::CONSUMER),
                inbox,
                subscriber,
                watch,
                ended,
                prefetch,
                left: subscription.limit.unwrap_or(u64::MAX),
                outstanding: 0,
                in_hand: BTreeMap::new(),
                acknowledged: None,
                current: None,
                alive,
                link: Arc::clone(&link),
            })
        })
        .await
    }

    /// Asks for as many as there is room for, unless enough have been asked for.
    async fn pull(&mut self) -> Result<(), Error> {
        let room = self.prefetch.saturating_sub(self.in_hand.len()).min(PULL_MAX);
        let room = room.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let batch = room.saturating_sub(self.outstanding);
        if batch == 0 || self.outstanding > room / 2 {
            return Ok(());
        }
        let request = format!(r#"{{"batch":{batch},"expires":{PULL_EXPIRES_NS}}}"#);
        let (pulls, inbox) = (self.pulls.clone(), self.inbox.clone());
        let asked = self.link.client().publish_with_reply(pulls, inbox, request.into()).await;
        asked.map_err(|error| {
            Error::new(ErrorKind::Disconnected, format!("NATS did not take a pull: {error}"))
        })?;
        self.outstanding += batch;
        Ok(())
    }

    /// Takes in what the server says of a pull; whether the queue is gone.
    async fn hear(&mut self, message: &async_nats::Message, status: StatusCode) -> bool {
        let pending = message.headers.as_ref().and_then(|headers| {
            headers.get("Nats-Pending-Messages")?.as_str().parse::<usize>().ok()
        });
        self.outstanding = self.outstanding.saturating_sub(pending.unwrap_or(usize::MAX));
        let why = message.description.as_deref().unwrap_or_default();
        if status == StatusCode::REQUEST_TERMINATED && why.contains("Deleted") {
            return true;
        }
        // Nobody is there to take pulls: the queue is gone, or the server has just come up.
        if status == StatusCode::NO_RESPONDERS {
            let gone = self.link.info(&self.queue).await;
            if gone.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                return true;
            }
            self.link.pause().await;
        }
        false
    }

    /// What has come, as an arrival; `None` if it is dealt with.
    async fn arrive(&mut self) -> Option<Arrival<Token>> {
        let message = self.current.as_ref()?;
        let leased = match Leased::of(message) {
            Some(leased) => self.link.counted(&self.queue, leased).await,
            None => {
                self.current = None;
                return None;
            }
        };
        let message = self.current.take()?;
        self.outstanding = self.outstanding.saturating_sub(1);
        let read = messages::from_queue(&message, &**self.link.runtime());
        let attempt = leased.attempt();
        let buried = match read {
            Ok(message) if attempt <= self.entry.settings.max_attempts => {
                self.left = self.left.saturating_sub(1);
                let token = Token { sequence: leased.sequence, delivered: leased.delivered };
                self.in_hand.insert(leased.sequence, leased);
                return Some(Arrival { message, attempt, token: Some(token) });
            }
            // Lost too often by consumers that died over it.
            Ok(message) => (Some(message), "its consumers were lost"),
            Err(_) => (None, "it cannot be read"),
        };
        let (link, queue, entry) =
            (Arc::clone(&self.link), self.queue.clone(), Arc::clone(&self.entry));
        // Not to be given up half-way.
        self.link.runtime().spawn(Box::pin(Compat::new(async move {
            match buried {
                (Some(message), why) => {
                    // What could not be buried comes again.
                    let _ = link.bury(&queue, &entry, &message, attempt - 1, why, &leased).await;
                }
                (None, _) => link.tell(&leased, "+TERM").await,
            }
        })));
        None
    }

    /// Tells the server that what is in hand is being worked on.
    async fn show_life(&mut self) {
        let next = self.link.runtime().now() + self.link.options().ack_wait / 3;
        self.alive.as_mut().reset(next);
        for leased in self.in_hand.values() {
            self.link.tell(leased, "+WPI").await;
        }
    }

    async fn look(&mut self) -> Result<Option<Arrival<Token>>, Error> {
        loop {
            if let Some(arrival) = self.arrive().await {
                return Ok(Some(arrival));
            }
            self.pull().await?;
            let event = {
                let message = self.subscriber.next();
                let changed = std::pin::pin!(self.watch.changed());
                let alive = self.alive.as_mut();
                match select(message, select(changed, alive)).await {
                    Either::Left((message, _)) => Event::Message(message),
                    Either::Right((Either::Left((changed, _)), _)) => {
                        Event::Changed(changed.is_ok())
                    }
                    Either::Right((Either::Right(_), _)) => Event::Alive,
                }
            };
            match event {
                Event::Message(None) | Event::Changed(false) => return Ok(None),
                Event::Message(Some(message)) => match message.status {
                    Some(status) if status != StatusCode::OK => {
                        if self.hear(&message, status).await {
                            return Ok(None);
                        }
                    }
                    _ => self.current = Some(message),
                },
                Event::Changed(true) => {
                    let condition = *self.watch.borrow_and_update();
                    if condition.connected && self.ended != condition.ended {
                        // Pulls end with their connection.
                        (self.ended, self.outstanding) = (condition.ended, 0);
                    }
                }
                Event::Alive => self.show_life().await,
            }
        }
    }

    async fn settle_all(&mut self, settled: Vec<Settled<Token>>) -> Result<(), Error> {
        let mut slow = Vec::new();
        for Settled { message, attempt, token, verdict } in settled {
            // One that was delivered again meanwhile is settled by who has it now.
            let leased = match self.in_hand.get(&token.sequence) {
                Some(leased) if leased.delivered == token.delivered => leased.clone(),
                _ => continue,
            };
            self.in_hand.remove(&token.sequence);
            match verdict {
                Verdict::Ack | Verdict::Taken | Verdict::Expired => {
                    self.link.acknowledge(&self.queue, &leased).await;
                    let ended = self.acknowledged.take().map_or(self.ended(), |(_, ended)| ended);
                    self.acknowledged = Some((leased, ended));
                }
                verdict => slow.push((message, attempt, leased, verdict)),
            }
        }
        let (link, queue, entry) = (&self.link, &self.queue, &self.entry);
        let uncounted = slow.iter().filter(|(.., verdict)| !counts(verdict));
        link.note_all_uncounted(queue, uncounted.map(|(_, _, leased, _)| leased)).await;
        let mut failed = None;
        // In order, because what is given back comes again in the order in which that is heard.
        for (message, attempt, leased, verdict) in slow {
            let given = match counts(&verdict) {
                true => link.give_back(queue, entry, &message, attempt, verdict, &leased).await,
                false => {
                    link.refuse(&leased, Duration::ZERO).await;
                    Ok(())
                }
            };
            failed = failed.or(given.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// How many connections have ended.
    fn ended(&self) -> u64 {
        self.watch.borrow().ended
    }
}

/// Whether a delivery that comes again counts as an attempt.
fn counts(verdict: &Verdict) -> bool {
    !matches!(verdict, Verdict::Release | Verdict::Unseen)
}

fn settled_unheard() -> Error {
    let text = "the connection to NATS was lost before it said that it knows of what was settled; \
                some of it may come again";
    Error::new(ErrorKind::Unknown, text)
}

enum Event {
    Message(Option<async_nats::Message>),
    Changed(bool),
    Alive,
}

impl Consume for Consuming {
    type Token = Token;

    async fn next(&mut self) -> Result<Option<Arrival<Token>>, Error> {
        self.look().await
    }

    async fn settle(&mut self, settled: Vec<Settled<Token>>) -> Result<(), Error> {
        self.settle_all(settled).await
    }

    async fn confirm(&mut self) -> Result<(), Error> {
        let Some((last, ended)) = self.acknowledged.take() else { return Ok(()) };
        // They are taken in in order, so what is said of the last holds for all that went the same
        // way.
        self.link.acknowledge_surely(&last).await?;
        match self.ended() == ended {
            true => Ok(()),
            false => Err(settled_unheard()),
        }
    }

    async fn stop(&mut self) {
        let mut unseen: Vec<_> = self.current.take().into_iter().collect();
        // What is on its way comes before the answer, and is not lost when the client drops
        // what it has for a subscription that ends.
        let echo = self.link.round_trip();
        let mut echo = std::pin::pin!(echo);
        while let Either::Left((Some(message), _)) =
            select(self.subscriber.next(), echo.as_mut()).await
        {
            unseen.push(message);
        }
        // A connection that is gone gives everything back by itself.
        if self.subscriber.drain().await.is_ok() {
            while let Some(message) = self.subscriber.next().await {
                unseen.push(message);
            }
        }
        let (link, queue) = (&self.link, &self.queue);
        let leased = unseen.iter().filter_map(Leased::of);
        let leased = join_all(leased.map(|leased| link.counted(queue, leased))).await;
        link.give_all_back(queue, &leased).await;
    }

    async fn keep(&mut self) {
        loop {
            self.alive.as_mut().await;
            self.show_life().await;
        }
    }

    async fn answer(&mut self, message: Message) {
        // Should this fail, the requester waits until its deadline.
        let _ = async {
            self.link.publish(&message).await?;
            self.link.flush().await
        }
        .await;
    }
}
