//! Queues and books, as JSON for programs and as text for people.

use std::collections::BTreeMap;
use std::time::Duration;

use posthaste::{Ledger, Pattern, QueueInfo, Retention, Topic};
use serde::Serialize;

use crate::exit::{Code, Failure};
use crate::{duration, table};

/// Turns a value into one line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot write JSON: {error}")))
}

/// A queue as JSON. Times are in milliseconds; 0 is off.
#[derive(Debug, Serialize)]
pub(crate) struct QueueRecord<'a> {
    name: &'a str,
    messages: u64,
    unsettled: u64,
    bytes: u64,
    consumers: u64,
    durable: bool,
    keyed: bool,
    capacity: usize,
    capacity_bytes: usize,
    overflow: String,
    max_attempts: u32,
    backoff_ms: u64,
    dead_letter: Option<&'a str>,
    ttl_ms: u64,
    dedup_window_ms: u64,
    consumer_timeout_ms: u64,
    expiry_ms: u64,
    retain: Option<Retained>,
    bindings: Vec<&'a str>,
    ledger: Books<'a>,
}

impl<'a> QueueRecord<'a> {
    pub(crate) fn of(info: &'a QueueInfo) -> Self {
        let settings = &info.settings;
        Self {
            name: info.name.as_str(),
            messages: info.messages,
            unsettled: info.unsettled,
            bytes: info.bytes,
            consumers: info.consumers,
            durable: settings.durable,
            keyed: settings.keyed,
            capacity: settings.capacity_messages,
            capacity_bytes: settings.capacity_bytes,
            overflow: settings.overflow.to_string(),
            max_attempts: settings.max_attempts,
            backoff_ms: millis(settings.backoff),
            dead_letter: settings.dead_letter.as_ref().map(Topic::as_str),
            ttl_ms: millis(settings.ttl),
            dedup_window_ms: millis(settings.dedup_window),
            consumer_timeout_ms: millis(settings.consumer_timeout),
            expiry_ms: millis(settings.expiry),
            retain: settings.retain.map(Retained::of),
            bindings: info.bindings.iter().map(Pattern::as_str).collect(),
            ledger: Books::of(&info.ledger),
        }
    }
}

/// What a queue retains as JSON; `null` is no bound.
#[derive(Debug, Serialize)]
struct Retained {
    age_ms: Option<u64>,
    messages: Option<u64>,
    bytes: Option<u64>,
    last_per_key: bool,
}

impl Retained {
    fn of(retain: Retention) -> Self {
        Self {
            age_ms: retain.age.map(millis),
            messages: retain.messages,
            bytes: retain.bytes,
            last_per_key: retain.last_per_key,
        }
    }
}

/// What a queue retains, for people.
fn retained(retain: Retention) -> String {
    let bounds = [
        retain.last_per_key.then(|| "the last of each key".to_owned()),
        retain.messages.map(|most| format!("{most} messages")),
        retain.bytes.map(|most| format!("{most} bytes")),
        retain.age.map(|age| format!("for {}", duration::show(age))),
    ];
    let bounds: Vec<_> = bounds.into_iter().flatten().collect();
    if bounds.is_empty() { "for ever".to_owned() } else { bounds.join(", ") }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A ledger as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Books<'a> {
    accepted: u64,
    acked: u64,
    auto: u64,
    dead_lettered: u64,
    expired: u64,
    dropped: u64,
    held: u64,
    dropped_by: &'a BTreeMap<String, u64>,
    unmatched: u64,
    returned: u64,
    duplicates: u64,
    balanced: bool,
}

impl<'a> Books<'a> {
    pub(crate) fn of(ledger: &'a Ledger) -> Self {
        Self {
            accepted: ledger.accepted,
            acked: ledger.acked,
            auto: ledger.auto,
            dead_lettered: ledger.dead_lettered,
            expired: ledger.expired,
            dropped: ledger.dropped,
            held: ledger.held,
            dropped_by: &ledger.dropped_by,
            unmatched: ledger.unmatched,
            returned: ledger.returned,
            duplicates: ledger.duplicates,
            balanced: ledger.is_balanced(),
        }
    }
}

/// The queues, one a row.
pub(crate) fn queue_rows(queues: &[QueueInfo]) -> String {
    let headings = ["name", "messages", "unsettled", "bytes", "consumers", "durable"];
    let rows: Vec<_> = queues
        .iter()
        .map(|info| {
            vec![
                info.name.to_string(),
                info.messages.to_string(),
                info.unsettled.to_string(),
                info.bytes.to_string(),
                info.consumers.to_string(),
                yes_or_no(info.settings.durable).to_owned(),
            ]
        })
        .collect();
    table::render(&headings, &rows)
}

/// A queue and everything about it, one thing a line.
pub(crate) fn queue_lines(info: &QueueInfo) -> String {
    let settings = &info.settings;
    let bindings: Vec<_> = info.bindings.iter().map(Pattern::as_str).collect();
    let dead_letter = settings.dead_letter.as_ref().map(|queue| format!("to {queue}"));
    // What is retained is bounded by retention alone.
    let capacity = |bound| if settings.retain.is_some() { usize::MAX } else { bound };
    let lines = [
        ("name", info.name.to_string()),
        ("messages", of(info.messages, capacity(settings.capacity_messages))),
        ("unsettled", info.unsettled.to_string()),
        ("bytes", of(info.bytes, capacity(settings.capacity_bytes))),
        ("consumers", info.consumers.to_string()),
        ("durable", yes_or_no(settings.durable).to_owned()),
        ("keyed", yes_or_no(settings.keyed).to_owned()),
        ("overflow", settings.overflow.to_string()),
        ("max attempts", settings.max_attempts.to_string()),
        ("backoff", time_or(settings.backoff, "none")),
        ("dead letters", dead_letter.unwrap_or_else(|| "dropped".to_owned())),
        ("time to live", time_or(settings.ttl, "for ever")),
        ("deduplication", time_or(settings.dedup_window, "none")),
        ("consumer timeout", time_or(settings.consumer_timeout, "none")),
        ("expiry", time_or(settings.expiry, "never")),
        ("retains", settings.retain.map(retained).unwrap_or_default()),
        ("bindings", bindings.join(" ")),
        ("dropped by", reasons(&info.ledger)),
        ("duplicates", info.ledger.duplicates.to_string()),
        ("ledger", info.ledger.to_string()),
    ];
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| format!("{name:<16}  {value}")).collect::<Vec<_>>().join("\n")
}

/// Why copies were dropped, and how many for each reason.
pub(crate) fn reasons(ledger: &Ledger) -> String {
    let reasons = ledger.dropped_by.iter().map(|(why, count)| format!("{why} {count}"));
    reasons.collect::<Vec<_>>().join(", ")
}

fn time_or(time: Duration, off: &str) -> String {
    if time.is_zero() { off.to_owned() } else { duration::show(time) }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// How much there is of how much there may be, where that is bounded.
fn of(count: u64, capacity: usize) -> String {
    match capacity {
        usize::MAX => count.to_string(),
        capacity => format!("{count} of {capacity}"),
    }
}
