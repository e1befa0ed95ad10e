//! A queue to be declared, and the settings of one that is.

use posthaste_core::{Queue, QueueSettings, Retention};

use super::*;

const NAME: u8 = 1;
const BINDING: u8 = 2;
const CAPACITY_MESSAGES: u8 = 3;
const CAPACITY_BYTES: u8 = 4;
const OVERFLOW: u8 = 5;
const MAX_ATTEMPTS: u8 = 6;
const BACKOFF: u8 = 7;
const DEAD_LETTER: u8 = 8;
const TTL: u8 = 9;
const DEDUP_WINDOW: u8 = 10;
const CONSUMER_TIMEOUT: u8 = 11;
const EXPIRY: u8 = 12;
const KEYED: u8 = 13;
const DURABLE: u8 = 14;
const RETAIN: u8 = 15;

const AGE: u8 = 1;
const MESSAGES: u8 = 2;
const BYTES: u8 = 3;
const LAST_PER_KEY: u8 = 4;

pub(crate) fn encode(queue: &Queue) -> Vec<u8> {
    let mut record = Vec::new();
    let mut writer = Writer::new(&mut record);
    writer.str(NAME, queue.name.as_str());
    for binding in &queue.bindings {
        writer.str(BINDING, binding.as_str());
    }
    let counts = [
        (CAPACITY_MESSAGES, queue.capacity_messages.map(wide)),
        (CAPACITY_BYTES, queue.capacity_bytes.map(wide)),
        (MAX_ATTEMPTS, queue.max_attempts.map(u64::from)),
        (BACKOFF, queue.backoff.map(micros)),
        (TTL, queue.ttl.map(micros)),
        (DEDUP_WINDOW, queue.dedup_window.map(micros)),
        (CONSUMER_TIMEOUT, queue.consumer_timeout.map(micros)),
        (EXPIRY, queue.expiry.map(micros)),
    ];
    for (tag, count) in counts {
        if let Some(count) = count {
            writer.u64(tag, count);
        }
    }
    if let Some(overflow) = queue.overflow {
        writer.u8(OVERFLOW, overflow.as_u8());
    }
    if let Some(dead_letter) = &queue.dead_letter {
        writer.str(DEAD_LETTER, dead_letter.as_str());
    }
    if let Some(keyed) = queue.keyed {
        writer.bool(KEYED, keyed);
    }
    if let Some(durable) = queue.durable {
        writer.bool(DURABLE, durable);
    }
    write_retention(&mut writer, queue.retain);
    record
}

pub(crate) fn decode(record: &[u8]) -> Decoded<Queue> {
    let mut queue = Queue::new(name::decode(record)?);
    read(record, |field| {
        match field.tag() {
            BINDING => queue.bindings.push(pattern(&field)?),
            CAPACITY_MESSAGES => queue.capacity_messages = Some(size(&field)?.max(1)),
            CAPACITY_BYTES => queue.capacity_bytes = Some(size(&field)?.max(1)),
            OVERFLOW => queue.overflow = Some(policy(&field)?),
            MAX_ATTEMPTS => queue.max_attempts = Some(attempts(&field)?),
            BACKOFF => queue.backoff = Some(time(&field)?),
            DEAD_LETTER => queue.dead_letter = Some(topic(&field)?),
            TTL => queue.ttl = Some(time(&field)?),
            DEDUP_WINDOW => queue.dedup_window = Some(time(&field)?),
            CONSUMER_TIMEOUT => queue.consumer_timeout = Some(time(&field)?),
            EXPIRY => queue.expiry = Some(time(&field)?),
            KEYED => queue.keyed = Some(field.bool().map_err(malformed)?),
            DURABLE => queue.durable = Some(field.bool().map_err(malformed)?),
            RETAIN => queue.retain = Some(retention(field.record())?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(queue)
}

/// Writes the settings that a queue has, each under the tag that it is declared with.
pub(super) fn write_settings(writer: &mut Writer<'_>, settings: &QueueSettings) {
    writer
        .u64(CAPACITY_MESSAGES, wide(settings.capacity_messages))
        .u64(CAPACITY_BYTES, wide(settings.capacity_bytes))
        .u8(OVERFLOW, settings.overflow.as_u8())
        .u64(MAX_ATTEMPTS, settings.max_attempts.into())
        .u64(BACKOFF, micros(settings.backoff))
        .u64(TTL, micros(settings.ttl))
        .u64(DEDUP_WINDOW, micros(settings.dedup_window))
        .u64(CONSUMER_TIMEOUT, micros(settings.consumer_timeout))
        .u64(EXPIRY, micros(settings.expiry))
        .bool(KEYED, settings.keyed)
        .bool(DURABLE, settings.durable);
    if let Some(dead_letter) = &settings.dead_letter {
        writer.str(DEAD_LETTER, dead_letter.as_str());
    }
    write_retention(writer, settings.retain);
}

pub(super) fn read_settings(fields: Fields<'_>) -> Decoded<QueueSettings> {
    let mut settings = QueueSettings::default();
    for field in fields {
        let field = field.map_err(malformed)?;
        match field.tag() {
            CAPACITY_MESSAGES => settings.capacity_messages = size(&field)?,
            CAPACITY_BYTES => settings.capacity_bytes = size(&field)?,
            OVERFLOW => settings.overflow = policy(&field)?,
            MAX_ATTEMPTS => settings.max_attempts = attempts(&field)?,
            BACKOFF => settings.backoff = time(&field)?,
            DEAD_LETTER => settings.dead_letter = Some(topic(&field)?),
            TTL => settings.ttl = time(&field)?,
            DEDUP_WINDOW => settings.dedup_window = time(&field)?,
            CONSUMER_TIMEOUT => settings.consumer_timeout = time(&field)?,
            EXPIRY => settings.expiry = time(&field)?,
            KEYED => settings.keyed = field.bool().map_err(malformed)?,
            DURABLE => settings.durable = field.bool().map_err(malformed)?,
            RETAIN => settings.retain = Some(retention(field.record())?),
            _ => {}
        }
    }
    Ok(settings)
}

fn write_retention(writer: &mut Writer<'_>, retain: Option<Retention>) {
    let Some(retain) = retain else { return };
    writer.record(RETAIN, |writer| {
        let bounds =
            [(AGE, retain.age.map(micros)), (MESSAGES, retain.messages), (BYTES, retain.bytes)];
        for (tag, bound) in bounds {
            if let Some(bound) = bound {
                writer.u64(tag, bound);
            }
        }
        if retain.last_per_key {
            writer.bool(LAST_PER_KEY, true);
        }
    });
}

fn retention(fields: Fields<'_>) -> Decoded<Retention> {
    let mut retain = Retention::new();
    for field in fields {
        let field = field.map_err(malformed)?;
        match field.tag() {
            AGE => retain = retain.age(time(&field)?),
            MESSAGES => retain = retain.messages(number(&field)?),
            BYTES => retain = retain.bytes(number(&field)?),
            LAST_PER_KEY => retain.last_per_key = field.bool().map_err(malformed)?,
            _ => {}
        }
    }
    Ok(retain)
}

fn attempts(field: &Field<'_>) -> Decoded<u32> {
    Ok(u32::try_from(number(field)?).unwrap_or(u32::MAX))
}
