//! What happens to a delivery in the end: acknowledged, given back, or buried as a dead letter; and
//! which deliveries do not count.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind};
use bytes::Bytes;
use futures::future::join_all;
use posthaste_core::{Death, Error, ErrorKind, Message, Topic};
use posthaste_engine::Verdict;

use crate::broker::Link;
use crate::names;
use crate::streams::{Entry, api_error};

/// What JetStream says of a delivery in its reply subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leased {
    ack: Subject,
    pub(crate) sequence: u64,
    pub(crate) delivered: u64,
    /// How many of these deliveries do not count.
    uncounted: u64,
}

impl Leased {
    /// Reads `$JS.ACK[.domain.account].stream.consumer.delivered.sequence....`.
    pub(crate) fn of(message: &async_nats::Message) -> Option<Self> {
        let ack = message.reply.as_ref()?;
        let mut words = ack.strip_prefix("$JS.ACK.")?.split('.');
        let skipped = if ack.split('.').count() >= 11 { 4 } else { 2 };
        let delivered = words.nth(skipped)?.parse().ok()?;
        let sequence = words.next()?.parse().ok()?;
        Some(Self { ack: ack.clone(), sequence, delivered, uncounted: 0 })
    }

    pub(crate) fn attempt(&self) -> u32 {
        let counted = self.delivered.saturating_sub(self.uncounted).max(1);
        u32::try_from(counted).unwrap_or(u32::MAX)
    }
}

impl Link {
    /// Tells the server something of a delivery.
    pub(crate) async fn tell(&self, leased: &Leased, what: impl Into<Bytes>) {
        // A connection that is lost is noticed elsewhere; what is not told is delivered again.
        let _ = self.client().publish(leased.ack.clone(), what.into()).await;
    }

    /// Acknowledges, and waits until the server knows.
    async fn tell_surely(&self, leased: &Leased, what: &'static str) -> Result<(), Error> {
        self.up().await?;
        let told = self.client().request(leased.ack.clone(), what.into()).await;
        told.map(drop).map_err(|error| {
            let text = format!("NATS did not say that it knows of a settlement: {error}");
            Error::new(ErrorKind::Unknown, text)
        })
    }

    pub(crate) async fn acknowledge(&self, queue: &Topic, leased: &Leased) {
        self.tell(leased, "+ACK").await;
        self.forget_uncounted(queue, leased).await;
    }

    /// Acknowledges, also once more, and waits until the server knows.
    pub(crate) async fn acknowledge_surely(&self, leased: &Leased) -> Result<(), Error> {
        self.tell_surely(leased, "+ACK").await
    }

    /// Gives a delivery back, or buries it.
    pub(crate) async fn give_back(
        self: &Arc<Self>,
        queue: &Topic,
        entry: &Entry,
        message: &Message,
        attempt: u32,
        verdict: Verdict,
        leased: &Leased,
    ) -> Result<(), Error> {
        let (after, why) = match verdict {
            Verdict::Reject { why } => {
                return self.bury(queue, entry, message, attempt, &why, leased).await;
            }
            Verdict::Retry { after, why } => (after, why),
            _ => (Duration::ZERO, String::from("dropped")),
        };
        if attempt >= entry.settings.max_attempts {
            return self.bury(queue, entry, message, attempt, &why, leased).await;
        }
        self.refuse(leased, after.max(entry.settings.backoff_after(attempt))).await;
        Ok(())
    }

    /// Gives a delivery back, to be delivered again after a while.
    pub(crate) async fn refuse(&self, leased: &Leased, after: Duration) {
        // Longer than anything lives.
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX).min(1 << 62);
        match nanos {
            0 => self.tell(leased, "-NAK").await,
            nanos => self.tell(leased, format!(r#"-NAK {{"delay":{nanos}}}"#)).await,
        }
    }

    /// Gives deliveries back that nobody saw, in their order.
    pub(crate) async fn give_all_back(&self, queue: &Topic, leased: &[Leased]) {
        self.note_all_uncounted(queue, leased).await;
        for leased in leased {
            self.refuse(leased, Duration::ZERO).await;
        }
    }

    /// Puts a message where dead letters go, and then takes it from where it died. Where it cannot
    /// go there now it waits where it is.
    pub(crate) async fn bury(
        self: &Arc<Self>,
        queue: &Topic,
        entry: &Entry,
        message: &Message,
        attempts: u32,
        why: &str,
        leased: &Leased,
    ) -> Result<(), Error> {
        let letter = entry.settings.dead_letter.as_ref().filter(|to| {
            // Never where it died before.
            *to != queue && message.deaths().all(|death| death.queue != **to)
        });
        let letter = letter.and_then(|to| {
            let mut death = Death::new(queue.clone(), attempts, self.runtime().unix_time());
            death.add_reason(why);
            Some((to, message.clone().with_death(&death)?))
        });
        let Some((to, letter)) = letter else {
            self.tell_surely(leased, "+TERM").await?;
            self.forget_uncounted(queue, leased).await;
            return Ok(());
        };
        let sent = async {
            self.ensure(to).await?;
            self.send_into(to, &letter).await?.confirmed().await
        };
        match sent.await {
            Ok(_) => {
                self.acknowledge_surely(leased).await?;
                self.forget_uncounted(queue, leased).await;
                Ok(())
            }
            Err(_) => {
                let _ = self.note_uncounted(queue, leased).await;
                self.refuse(leased, FULL_AGAIN).await;
                Ok(())
            }
        }
    }

    // ---- What does not count

    /// Looks up how many deliveries of a message do not count.
    pub(crate) async fn counted(&self, queue: &Topic, mut leased: Leased) -> Leased {
        // One that is delivered for the first time has none.
        if leased.delivered > 1
            && let Ok(stream) = names::uncounted_stream(queue)
        {
            let subject = names::uncounted_subject(&stream, leased.sequence);
            // Should there be no answer, the deliveries count: better too many than too few.
            let noted = self.ask(|| self.uncounted(&stream, &subject)).await;
            leased.uncounted = noted.unwrap_or(0);
        }
        leased
    }

    /// What is noted, if anything is.
    async fn uncounted(&self, stream: &str, subject: &str) -> Result<u64, Error> {
        let notes = self.jetstream().get_stream_no_info(stream).await;
        let notes = notes.map_err(|error| api_error(&error))?;
        match notes.get_last_raw_message_by_subject(subject).await {
            Ok(note) => {
                let count = std::str::from_utf8(&note.payload).ok().and_then(|n| n.parse().ok());
                Ok(count.unwrap_or(0))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(api_error(&error)),
        }
    }

    /// Notes that deliveries do not count, which are to be given back.
    pub(crate) async fn note_all_uncounted(
        &self,
        queue: &Topic,
        leased: impl IntoIterator<Item = &Leased>,
    ) {
        let notes = leased.into_iter().map(|leased| self.note_uncounted(queue, leased));
        // Should a note not be taken, the delivery counts: better too many than too few.
        let _ = join_all(notes).await;
    }

    async fn note_uncounted(&self, queue: &Topic, leased: &Leased) -> Result<(), Error> {
        let stream = names::uncounted_stream(queue)?;
        let subject = names::uncounted_subject(&stream, leased.sequence);
        let count = (leased.uncounted + 1).to_string();
        let jetstream = self.jetstream();
        for _ in 0..2 {
            let noted = jetstream.publish(subject.clone(), count.clone().into()).await;
            let noted = match noted {
                Ok(noted) => noted.await.map(drop),
                Err(error) => Err(error),
            };
            match noted {
                Ok(()) => return Ok(()),
                Err(error)
                    if error.kind()
                        == async_nats::jetstream::context::PublishErrorKind::StreamNotFound =>
                {
                    let config = Config {
                        name: stream.clone(),
                        subjects: vec![format!("_ph.uncounted.{stream}.*")],
                        max_messages_per_subject: 1,
                        num_replicas: self.options().replicas,
                        allow_direct: true,
                        ..Config::default()
                    };
                    jetstream.create_stream(config).await.map_err(|error| api_error(&error))?;
                }
                Err(error) => return Err(api_error(&error)),
            }
        }
        Err(Error::new(ErrorKind::Failed, "NATS did not take a note on a delivery"))
    }

    async fn forget_uncounted(&self, queue: &Topic, leased: &Leased) {
        if leased.uncounted == 0 {
            return;
        }
        if let Ok(stream) = names::uncounted_stream(queue)
            && let Ok(notes) = self.jetstream().get_stream_no_info(&stream).await
        {
            // A note that is left over is of no message and does no harm.
            let subject = names::uncounted_subject(&stream, leased.sequence);
            let _ = notes.purge().filter(subject).await;
        }
    }
}

/// How long a letter waits that found no room.
const FULL_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(reply: &str) -> async_nats::Message {
        async_nats::Message {
            subject: "s".into(),
            reply: Some(reply.into()),
            payload: Bytes::new(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn a_delivery_says_how_often_it_came() {
        let old = Leased::of(&delivery("$JS.ACK.PH_jobs.posthaste.3.41.7.1700000000.5")).unwrap();
        assert_eq!((old.delivered, old.sequence, old.attempt()), (3, 41, 3));
        let new = "$JS.ACK.domain.hash.PH_jobs.posthaste.2.41.7.1700000000.5.token";
        let new = Leased::of(&delivery(new)).unwrap();
        assert_eq!((new.delivered, new.sequence), (2, 41));
        assert_eq!(Leased::of(&delivery("_INBOX.1.2")), None);
        assert_eq!(Leased { uncounted: 2, ..old }.attempt(), 1);
    }
}
