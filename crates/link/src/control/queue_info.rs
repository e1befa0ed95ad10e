//! What a queue is and holds: its state, a page of its messages, and what replaying it came to.

use posthaste_core::{Browsed, Message, Parts, QueueSettings, Replayed};

use super::*;

const NAME: u8 = 1;
const MESSAGES: u8 = 2;
const UNSETTLED: u8 = 3;
const BYTES: u8 = 4;
const CONSUMERS: u8 = 5;
const SETTINGS: u8 = 6;
const BINDING: u8 = 7;
const LEDGER: u8 = 8;

pub(crate) fn encode(info: &QueueInfo) -> Vec<u8> {
    let mut record = Vec::new();
    write(&mut Writer::new(&mut record), info);
    record
}

pub(super) fn write(writer: &mut Writer<'_>, info: &QueueInfo) {
    writer
        .str(NAME, info.name.as_str())
        .u64(MESSAGES, info.messages)
        .u64(UNSETTLED, info.unsettled)
        .u64(BYTES, info.bytes)
        .u64(CONSUMERS, info.consumers)
        .record(SETTINGS, |writer| queue::write_settings(writer, &info.settings));
    for binding in &info.bindings {
        writer.str(BINDING, binding.as_str());
    }
    writer.record(LEDGER, |writer| ledger::write(writer, &info.ledger));
}

pub(crate) fn decode(record: &[u8]) -> Decoded<QueueInfo> {
    let mut info = QueueInfo {
        name: name::decode(record)?,
        messages: 0,
        unsettled: 0,
        bytes: 0,
        consumers: 0,
        settings: QueueSettings::default(),
        bindings: Vec::new(),
        ledger: Ledger::default(),
    };
    read(record, |field| {
        match field.tag() {
            MESSAGES => info.messages = number(&field)?,
            UNSETTLED => info.unsettled = number(&field)?,
            BYTES => info.bytes = number(&field)?,
            CONSUMERS => info.consumers = number(&field)?,
            SETTINGS => info.settings = queue::read_settings(field.record())?,
            BINDING => info.bindings.push(pattern(&field)?),
            LEDGER => info.ledger = ledger::decode(field.record())?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(info)
}

/// What a call that goes through a queue asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Through {
    pub(crate) queue: Topic,
    /// The position to begin behind.
    pub(crate) after: Option<u64>,
    pub(crate) limit: u64,
}

impl Through {
    const AFTER: u8 = 2;
    const LIMIT: u8 = 3;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        let mut writer = Writer::new(&mut record);
        writer.str(NAME, self.queue.as_str()).u64(Self::LIMIT, self.limit);
        if let Some(after) = self.after {
            writer.u64(Self::AFTER, after);
        }
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Decoded<Self> {
        let mut this = Self { queue: name::decode(record)?, after: None, limit: 0 };
        read(record, |field| {
            match field.tag() {
                Self::AFTER => this.after = Some(number(&field)?),
                Self::LIMIT => this.limit = number(&field)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }
}

/// Messages of a queue that are only looked at: a page of them.
pub(crate) mod browsed {
    use super::*;

    const MESSAGE: u8 = 1;
    const POSITION: u8 = 1;
    const ATTEMPTS: u8 = 2;
    const UNSETTLED: u8 = 3;
    const PAYLOAD_BYTES: u8 = 4;
    const HEAD: u8 = 5;
    const PAYLOAD: u8 = 6;
    const ATTRIBUTES: u8 = 7;
    const CORRELATION: u8 = 8;

    /// Writes as many as a page holds, and at least one.
    pub(crate) fn encode(messages: Vec<Browsed>) -> Vec<u8> {
        let mut record = Vec::new();
        for browsed in messages {
            if record.len() > PAGE {
                break;
            }
            let parts = browsed.message.into_parts();
            Writer::new(&mut record).record(MESSAGE, |writer| {
                writer
                    .u64(POSITION, browsed.position)
                    .u64(ATTEMPTS, browsed.attempts.into())
                    .bool(UNSETTLED, browsed.unsettled)
                    .u64(PAYLOAD_BYTES, browsed.payload_bytes)
                    .bytes(HEAD, &parts.head)
                    .bytes(PAYLOAD, &parts.payload)
                    .u8(ATTRIBUTES, parts.attributes)
                    .u64(CORRELATION, parts.correlation);
            });
        }
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Decoded<Vec<Browsed>> {
        let mut messages = Vec::new();
        read(record, |field| {
            if field.tag() == MESSAGE {
                messages.push(one(field.record())?);
            }
            Ok(())
        })?;
        Ok(messages)
    }

    fn one(fields: Fields<'_>) -> Decoded<Browsed> {
        let (mut position, mut attempts, mut unsettled, mut payload_bytes) = (0, 0, false, 0);
        let mut parts = Parts {
            head: posthaste_core::Head::default(),
            payload: bytes::Bytes::new(),
            attributes: 0,
            correlation: 0,
            deadline: None,
            count: 1,
        };
        for field in fields {
            let field = field.map_err(malformed)?;
            match field.tag() {
                POSITION => position = number(&field)?,
                ATTEMPTS => attempts = u32::try_from(number(&field)?).unwrap_or(u32::MAX),
                UNSETTLED => unsettled = field.bool().map_err(malformed)?,
                PAYLOAD_BYTES => payload_bytes = number(&field)?,
                HEAD => parts.head = field.bytes().into(),
                PAYLOAD => parts.payload = bytes::Bytes::copy_from_slice(field.bytes()),
                ATTRIBUTES => parts.attributes = byte(&field)?,
                CORRELATION => parts.correlation = number(&field)?,
                _ => {}
            }
        }
        let message = Message::from_parts(parts)?;
        Ok(Browsed { position, attempts, unsettled, payload_bytes, message })
    }
}

/// What replaying a dead-letter queue came to.
pub(crate) mod replayed {
    use super::*;

    const MOVED: u8 = 1;
    const KEPT: u8 = 2;
    const WHY: u8 = 3;

    pub(crate) fn encode(replayed: &Replayed) -> Vec<u8> {
        let mut record = Vec::new();
        let mut writer = Writer::new(&mut record);
        writer.u64(MOVED, replayed.moved).u64(KEPT, replayed.kept);
        if let Some(why) = &replayed.why {
            writer.str(WHY, why);
        }
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Decoded<Replayed> {
        let mut replayed = Replayed::default();
        read(record, |field| {
            match field.tag() {
                MOVED => replayed.moved = number(&field)?,
                KEPT => replayed.kept = number(&field)?,
                WHY => replayed.why = Some(text(&field)?.to_owned()),
                _ => {}
            }
            Ok(())
        })?;
        Ok(replayed)
    }
}

/// How much a queue was relieved of.
pub(crate) mod purged {
    use super::*;

    const COUNT: u8 = 1;

    pub(crate) fn encode(count: u64) -> Vec<u8> {
        let mut record = Vec::new();
        Writer::new(&mut record).u64(COUNT, count);
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Decoded<u64> {
        let mut count = 0;
        read(record, |field| {
            if field.tag() == COUNT {
                count = number(&field)?;
            }
            Ok(())
        })?;
        Ok(count)
    }
}
