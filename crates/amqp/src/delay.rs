//! Messages that wait: queues in which nobody reads, and from which what has waited long enough goes
//! where it was meant to go.
//!
//! All messages in such a queue wait equally long, so that the first is always the next that is due;
//! the queue goes when it has not been used for a while. Waits are rounded up to three digits, which
//! bounds how many queues there are.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use posthaste_core::Error;

use crate::fault::fault;
use crate::shared::Shared;
use crate::wire::{Route, short};

/// How long a queue stays after the last message that may wait in it.
const LINGER: Duration = Duration::from_secs(120);
/// The longest wait: 49 days. RabbitMQ's times are 32 bits of milliseconds.
const LONGEST_MS: u64 = u32::MAX as u64 - 120_000;

/// The way through a queue in which a message waits so long before it goes `route`.
pub(crate) async fn route(
    shared: &Arc<Shared>,
    route: &Route,
    delay: Duration,
) -> Result<Route, Error> {
    let millis = round_up(u64::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX));
    let kind = if route.exchange.as_str().is_empty() { "queue" } else { route.exchange.as_str() };
    let name = short(&format!("_ph.delay.{millis}.{kind}.{}", route.key))?;
    let mut arguments = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    let number = |number: u64| AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
    arguments.insert("x-message-ttl".into(), number(millis));
    let linger = u64::try_from(LINGER.as_millis()).unwrap_or(0);
    arguments.insert("x-expires".into(), number(millis + linger));
    arguments.insert("x-dead-letter-exchange".into(), text(route.exchange.as_str()));
    arguments.insert("x-dead-letter-routing-key".into(), text(route.key.as_str()));
    // Declared for each message: that also tells RabbitMQ that it is in use.
    let channel = shared.channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(name.clone(), options, arguments).await;
    declared.map_err(|error| fault("declare a queue for messages that wait", &error))?;
    shared.give_back(channel);
    Route::queue(name.as_str())
}

/// Up to three digits that are not zero, and no more than there is.
fn round_up(millis: u64) -> u64 {
    let mut step = 1;
    while millis / step >= 1_000 {
        step *= 10;
    }
    // One more, because a millisecond may have begun already.
    (millis.div_ceil(step).saturating_mul(step)).saturating_add(1).min(LONGEST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        for (millis, rounded) in [(0, 1), (1, 2), (999, 1_000), (1_001, 1_011), (123_456, 124_001)]
        {
            assert_eq!(round_up(millis), rounded);
        }
        assert_eq!(round_up(u64::MAX), LONGEST_MS);
    }
}
