//! What waits in a queue, taken out: dropped, or brought back to where it died.

use std::sync::Arc;

use async_nats::Message as NatsMessage;
use async_nats::jetstream::consumer::pull;
use futures::TryStreamExt;
use posthaste_core::{Error, ErrorKind, Message, Replayed, Topic};

use crate::broker::Link;
use crate::letters::Leased;
use crate::streams::api_error;
use crate::{messages, names};

/// How many are taken out at a time.
const BATCH: u64 = 256;

impl Link {
    /// Drops what waits in a queue, and says how much that was. What comes meanwhile stays, and so
    /// does what is handed out, which is why the stream itself is not purged.
    pub(crate) async fn purge(&self, queue: &Topic) -> Result<u64, Error> {
        let waiting = self.info(queue).await?.state.messages;
        let mut purged = 0;
        while purged < waiting {
            let taken = self.take(queue, (waiting - purged).min(BATCH)).await?;
            let leased: Vec<Leased> = taken.iter().filter_map(Leased::of).collect();
            let Some((last, others)) = leased.split_last() else { break };
            for leased in others {
                self.acknowledge(queue, leased).await;
            }
            self.acknowledge_surely(last).await?;
            purged += leased.len() as u64;
        }
        Ok(purged)
    }

    /// Takes out as many messages as there are, `limit` at most; each goes back to the queue in which
    /// it died last, its attempts beginning anew, or stays.
    pub(crate) async fn replay(
        self: &Arc<Self>,
        queue: &Topic,
        limit: u64,
    ) -> Result<Replayed, Error> {
        let most = self.info(queue).await?.state.messages.min(limit);
        let mut replayed = Replayed::default();
        let mut kept = Vec::new();
        let mut failed = None;
        while failed.is_none() && replayed.moved + replayed.kept < most {
            let left = most - replayed.moved - replayed.kept;
            let taken = match self.take(queue, left.min(BATCH)).await {
                Ok(taken) if taken.is_empty() => break,
                Ok(taken) => taken,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            for letter in taken {
                let Some(leased) = Leased::of(&letter) else { continue };
                match self.bring_back(&letter).await {
                    Ok(()) => {
                        replayed.moved += 1;
                        failed = failed.or(self.acknowledge_surely(&leased).await.err());
                    }
                    Err(why) => {
                        replayed.kept += 1;
                        replayed.why.get_or_insert(why);
                        kept.push(self.counted(queue, leased).await);
                    }
                }
            }
        }
        // Not before the end: what is given back would be the next to be taken.
        self.give_all_back(queue, &kept).await;
        failed.map_or(Ok(replayed), Err)
    }

    /// Takes what waits, as if it was handed out.
    async fn take(&self, queue: &Topic, most: u64) -> Result<Vec<NatsMessage>, Error> {
        let jetstream = self.jetstream();
        let consumer = jetstream
            .get_consumer_from_stream::<pull::Config, _, _>(names::CONSUMER, names::stream(queue)?);
        let consumer = consumer.await.map_err(|error| api_error(&error))?;
        let fetch = consumer.fetch().max_messages(usize::try_from(most).unwrap_or(usize::MAX));
        let taken = fetch.messages().await.map_err(|error| api_error(&error))?;
        let taken: Vec<_> = taken.try_collect().await.map_err(|error| {
            let text = format!("NATS did not hand out what waits in {queue}: {error}");
            Error::new(ErrorKind::Failed, text)
        })?;
        Ok(taken.into_iter().map(|message| message.message).collect())
    }

    /// Back to where it died last, or why not.
    async fn bring_back(self: &Arc<Self>, letter: &NatsMessage) -> Result<(), String> {
        let letter: Message = messages::from_queue(letter, &**self.runtime())
            .map_err(|_| String::from("it cannot be read"))?;
        let died = letter.deaths().last().map(|death| death.queue);
        let home = died.ok_or_else(|| String::from("it is no dead letter"))?;
        let sent = async { self.send_again(&home, &letter).await?.confirmed().await };
        match sent.await {
            Ok(confirmed) if confirmed.matched > 0 => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("its queue {home} is gone"))
            }
            Err(error) if error.kind() != ErrorKind::Full => Err(error.to_string()),
            _ => Err(format!("its queue {home} is full")),
        }
    }
}
