//! Settings of queues that RabbitMQ does not know: they wait as the one message in a queue beside
//! the queue, so that every consumer has them, whoever declared them.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use posthaste_core::limits::QUEUE_ATTEMPTS;
use posthaste_core::{Error, ErrorKind, Queue, QueueSettings, Topic};

use crate::fault::fault;
use crate::kit::sleep;
use crate::outgoing::Fate;
use crate::shared::Shared;
use crate::wire::{Incoming, Route, short};

/// What consumers do with what was not settled well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Care {
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Duration,
    pub(crate) dead_letter: Option<Topic>,
}

impl Default for Care {
    fn default() -> Self {
        Self { max_attempts: QUEUE_ATTEMPTS, backoff: Duration::ZERO, dead_letter: None }
    }
}

const BESIDE: &str = "_ph.settings.";
const ATTEMPTS: &str = "ph-max-attempts";
const BACKOFF: &str = "ph-backoff-ms";
const DEAD_LETTER: &str = "ph-dead-letter";

/// How often, and how long in between, the settings are looked for that another one looks at.
const LOOKS: usize = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Care {
    /// How long a message waits that was handed out `attempts` times.
    pub(crate) fn backoff_after(&self, attempts: u32) -> Duration {
        let mut settings = QueueSettings::default();
        settings.backoff = self.backoff;
        settings.backoff_after(attempts)
    }

    fn update(&mut self, queue: &Queue) {
        self.max_attempts = queue.max_attempts.unwrap_or(self.max_attempts).max(1);
        self.backoff = queue.backoff.unwrap_or(self.backoff);
        self.dead_letter = queue.dead_letter.clone().or_else(|| self.dead_letter.take());
    }

    fn encode(&self) -> FieldTable {
        let mut headers = FieldTable::default();
        let mut put = |name: &str, value: String| {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        };
        put(ATTEMPTS, self.max_attempts.to_string());
        put(BACKOFF, self.backoff.as_millis().min(u128::from(u64::MAX)).to_string());
        if let Some(queue) = &self.dead_letter {
            put(DEAD_LETTER, queue.to_string());
        }
        headers
    }

    fn decode(incoming: &Incoming<'_>) -> Self {
        let backoff = incoming.header(BACKOFF).and_then(|text| text.parse().ok());
        let dead_letter = incoming.header(DEAD_LETTER);
        Self {
            max_attempts: incoming.number(ATTEMPTS).unwrap_or(QUEUE_ATTEMPTS).max(1),
            backoff: Duration::from_millis(backoff.unwrap_or(0)),
            dead_letter: dead_letter.and_then(|name| Topic::new(name).ok()),
        }
    }
}

fn beside(queue: &Topic) -> String {
    format!("{BESIDE}{queue}")
}

impl Shared {
    /// The settings of a queue.
    pub(crate) async fn care(&self, queue: &Topic) -> Result<Care, Error> {
        let Ok(name) = short(&beside(queue)) else {
            // None can have been noted under a name that is too long.
            return Ok(Care::default());
        };
        let channel = self.channel().await?;
        for _ in 0..LOOKS {
            let got = channel.basic_get(name.clone(), BasicGetOptions::default()).await;
            match got.map_err(|error| fault(&format!("read the settings of {queue}"), &error)) {
                Ok(Some(got)) => {
                    let care = Care::decode(&Incoming {
                        exchange: "",
                        key: name.as_str(),
                        properties: &got.delivery.properties,
                        queue,
                        inbox: false,
                    });
                    let back = BasicNackOptions { requeue: true, multiple: false };
                    let given = channel.basic_nack(got.delivery.delivery_tag, back).await;
                    given.map_err(|error| fault("give the settings back", &error))?;
                    self.give_back(channel);
                    return Ok(care);
                }
                // Another one looks at them just now.
                Ok(None) => sleep(&self.runtime, LOOK_AGAIN).await,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Care::default()),
                Err(error) => return Err(error),
            }
        }
        let text = format!("the settings of the queue {queue} cannot be read; declare it again");
        Err(Error::new(ErrorKind::TimedOut, text))
    }

    /// Notes what a declaration names of them.
    pub(crate) async fn note_settings(&self, queue: &Queue) -> Result<(), Error> {
        if queue.max_attempts.is_none() && queue.backoff.is_none() && queue.dead_letter.is_none() {
            return Ok(());
        }
        let name = beside(&queue.name);
        let mut care = self.care(&queue.name).await?;
        care.update(queue);
        let mut arguments = FieldTable::default();
        // The newest is the only one.
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(short(&name)?, options, arguments).await;
        declared.map_err(|error| fault("keep the settings of a queue", &error))?;
        let route = Route::queue(&name)?;
        let properties =
            BasicProperties::default().with_delivery_mode(2).with_headers(care.encode());
        let mut errands = self.errands.lock().await;
        let sent =
            errands.send(self, &route, &bytes::Bytes::new(), |_| Ok(properties.clone())).await?;
        drop(errands);
        match sent.await? {
            Fate::Taken => Ok(()),
            Fate::Refused | Fate::Unroutable => {
                let text =
                    format!("the settings of {} were not taken; declare it again", queue.name);
                Err(Error::new(ErrorKind::Disconnected, text))
            }
        }
    }

    /// Forgets them with their queue.
    pub(crate) async fn forget_settings(&self, queue: &Topic) -> Result<(), Error> {
        let Ok(name) = short(&beside(queue)) else { return Ok(()) };
        let channel = self.channel().await?;
        let deleted = channel.queue_delete(name, QueueDeleteOptions::default()).await;
        deleted.map_err(|error| fault("delete the settings of a queue", &error)).map(|_| ())
    }
}
