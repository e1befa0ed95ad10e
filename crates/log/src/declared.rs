//! What a queue was declared with, for people.

use std::time::Duration;

use posthaste_core::limits::DURABLE_QUEUE_BYTES;
use posthaste_core::{Pattern, QueueSettings, Topic};

/// The name of a queue and those of its settings that are not the default, each as `queue declare` has it.
pub(crate) fn declared(name: &Topic, settings: &QueueSettings, bindings: &[Pattern]) -> String {
    let mut text = name.to_string();
    for (setting, value) in others(settings) {
        text.push_str(", ");
        text.push_str(setting);
        if !value.is_empty() {
            text.push(' ');
            text.push_str(&value);
        }
    }
    for binding in bindings {
        text.push_str(", bind ");
        text.push_str(binding.as_str());
    }
    text
}

fn others(settings: &QueueSettings) -> impl Iterator<Item = (&'static str, String)> {
    let default = QueueSettings::default();
    let bytes = usize::try_from(DURABLE_QUEUE_BYTES).unwrap_or(usize::MAX);
    let time = |time: Duration| (!time.is_zero()).then(|| format!("{time:?}"));
    let retain = settings.retain;
    [
        ("capacity", unless(&settings.capacity_messages, &default.capacity_messages)),
        ("capacity-bytes", unless(&settings.capacity_bytes, &bytes)),
        ("overflow", unless(&settings.overflow, &default.overflow)),
        ("max-attempts", unless(&settings.max_attempts, &default.max_attempts)),
        ("backoff", time(settings.backoff)),
        ("dead-letter", settings.dead_letter.as_ref().map(ToString::to_string)),
        ("ttl", time(settings.ttl)),
        ("dedup-window", time(settings.dedup_window)),
        ("consumer-timeout", time(settings.consumer_timeout)),
        ("expiry", time(settings.expiry)),
        ("keyed", settings.keyed.then(String::new)),
        ("retain", retain.map(|_| String::new())),
        ("retain-age", retain.and_then(|retain| retain.age).and_then(time)),
        ("retain-messages", retain.and_then(|retain| retain.messages).map(|most| most.to_string())),
        ("retain-bytes", retain.and_then(|retain| retain.bytes).map(|most| most.to_string())),
        ("retain-last", retain.filter(|retain| retain.last_per_key).map(|_| String::new())),
    ]
    .into_iter()
    .filter_map(|(setting, value)| Some((setting, value?)))
}

fn unless<T: PartialEq + ToString>(value: &T, default: &T) -> Option<String> {
    (value != default).then(|| value.to_string())
}
