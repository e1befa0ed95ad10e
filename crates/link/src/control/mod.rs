//! What links and calls carry beside messages: the options and arguments of the core's types, as
//! tagged fields, in both directions.
//!
//! Everything that comes in is checked here, once; fields that are not known are skipped, which is
//! how these records grow.

pub(crate) mod identity;
pub(crate) mod queue;
pub(crate) mod queue_info;

use std::time::Duration;

use posthaste_core::{
    Ack, Capabilities, Capability, Error, ErrorKind, Ledger, Level, Overflow, Pattern, QueueInfo,
    SenderOptions, Source, Start, Stats, Subscription, Support, Topic,
};
use posthaste_wire::fields::{Field, FieldError, Fields, Writer};

/// The calls that a server answers.
pub(crate) mod method {
    /// Declares a queue.
    pub(crate) const DECLARE: u16 = 1;
    /// Deletes a queue.
    pub(crate) const DELETE: u16 = 2;
    /// Tells what a queue is and holds.
    pub(crate) const QUEUE: u16 = 3;
    /// Tells the ledger and a page of queues.
    pub(crate) const STATS: u16 = 4;
    /// Tells the backend's card.
    pub(crate) const CAPABILITIES: u16 = 5;
    /// Drops what a queue holds.
    pub(crate) const PURGE: u16 = 6;
    /// Shows a page of a queue's messages.
    pub(crate) const BROWSE: u16 = 7;
    /// Moves dead letters back to where they died.
    pub(crate) const REPLAY: u16 = 8;
}

/// Bytes of queues after which a page of them ends: it has to fit into the smallest frame that is
/// common, with room for one queue more.
const PAGE: usize = 96 << 10;

type Decoded<T> = Result<T, Error>;

/// Reads `record` as each of the records that a peer may send, for the fuzzer: what can be read
/// and is written again is the same.
#[doc(hidden)]
pub fn read_as_everything(record: &[u8]) {
    let _ = sender::decode(record).map(|this| sender::decode(&sender::encode(&this)));
    if let Ok(Wanted::Subscription(this)) = receiver::decode(record) {
        let limit = this.limit;
        let again = receiver::decode(&receiver::encode(&Wanted::Subscription(this), limit));
        assert!(again.is_ok());
    }
    if let Ok(this) = Opened::decode(record) {
        assert_eq!(Opened::decode(&this.encode()).ok(), Some(this));
    }
    if let Ok(this) = queue::decode(record) {
        assert!(queue::decode(&queue::encode(&this)).is_ok());
    }
    if let Ok(this) = queue_info::decode(record) {
        assert_eq!(queue_info::decode(&queue_info::encode(&this)).ok(), Some(this));
    }
    if let Ok(this) = capabilities::decode(record) {
        assert_eq!(capabilities::decode(&capabilities::encode(&this)).ok(), Some(this));
    }
    if let Ok(this) = cancel::decode(record) {
        assert_eq!(cancel::decode(&cancel::encode(&this)).ok(), Some(this));
    }
    if let Ok(this) = identity::decode(record) {
        let mut again = Vec::new();
        identity::encode(this, &mut again);
        assert_eq!(identity::decode(&again).ok(), Some(this));
    }
    let _ = name::decode_maybe(record);
    let _ = stats::decode(record, &mut Stats::default());
}

fn malformed(error: FieldError) -> Error {
    Error::new(ErrorKind::Protocol, format!("the peer sent a record that cannot be read: {error}"))
}

fn lacks(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the peer sent a record without {what}"))
}

fn unknown(what: &str, number: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} {number} is not known here"))
}

/// Reads the fields of `record` one by one.
fn read(record: &[u8], mut field: impl FnMut(Field<'_>) -> Decoded<()>) -> Decoded<()> {
    Fields::new(record).try_for_each(|this| field(this.map_err(malformed)?))
}

fn number(field: &Field<'_>) -> Decoded<u64> {
    field.u64().map_err(malformed)
}

fn byte(field: &Field<'_>) -> Decoded<u8> {
    field.u8().map_err(malformed)
}

fn size(field: &Field<'_>) -> Decoded<usize> {
    Ok(usize::try_from(number(field)?).unwrap_or(usize::MAX))
}

fn text<'a>(field: &Field<'a>) -> Decoded<&'a str> {
    field.str().map_err(malformed)
}

fn topic(field: &Field<'_>) -> Decoded<Topic> {
    Topic::new(text(field)?)
}

fn pattern(field: &Field<'_>) -> Decoded<Pattern> {
    Pattern::new(text(field)?)
}

fn time(field: &Field<'_>) -> Decoded<Duration> {
    number(field).map(Duration::from_micros)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn policy(field: &Field<'_>) -> Decoded<Overflow> {
    let number = byte(field)?;
    Overflow::from_u8(number).ok_or_else(|| unknown("overflow policy", number))
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The options of a sending link.
pub(crate) mod sender {
    use super::*;

    const QUEUE: u8 = 1;
    const CONFIRM: u8 = 2;

    /// Writes what the server has to know; the window is the client's own business.
    pub(crate) fn encode(options: &SenderOptions) -> Vec<u8> {
        let mut record = Vec::new();
        let mut writer = Writer::new(&mut record);
        if let Some(queue) = &options.queue {
            writer.str(QUEUE, queue.as_str());
        }
        if let Some(level) = options.confirm {
            writer.u8(CONFIRM, level.as_u8());
        }
        record
    }

    /// Reads the options; the window is this side's default.
    pub(crate) fn decode(record: &[u8]) -> Decoded<SenderOptions> {
        let mut options = SenderOptions::new();
        read(record, |field| {
            match field.tag() {
                QUEUE => options.queue = Some(topic(&field)?),
                CONFIRM => {
                    let number = byte(&field)?;
                    if number > Level::Stored.as_u8() {
                        return Err(unknown("confirm level", number));
                    }
                    options.confirm = Some(Level::from_u8(number));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(options)
    }
}

/// What a receiving link receives.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// A subscription.
    Subscription(Subscription),
    /// An inbox, at the address that it had before the connection was lost, if it had one.
    Inbox(Option<Topic>),
}

/// The options of a receiving link.
pub(crate) mod receiver {
    use super::*;

    const TOPIC: u8 = 1;
    const GROUP: u8 = 2;
    const QUEUE: u8 = 3;
    const INBOX: u8 = 4;
    const ACK: u8 = 5;
    const PREFETCH: u8 = 6;
    const LIMIT: u8 = 7;
    const CAPACITY_MESSAGES: u8 = 8;
    const CAPACITY_BYTES: u8 = 9;
    const OVERFLOW: u8 = 10;
    const STALL_LIMIT: u8 = 11;
    const START: u8 = 12;
    const START_AT: u8 = 13;

    /// Writes what is wanted; `limit` is what is left of the subscription's own.
    pub(crate) fn encode(wanted: &Wanted, limit: Option<u64>) -> Vec<u8> {
        let mut record = Vec::new();
        let mut writer = Writer::new(&mut record);
        let subscription = match wanted {
            Wanted::Inbox(address) => {
                writer.str(INBOX, address.as_ref().map_or("", Topic::as_str));
                return record;
            }
            Wanted::Subscription(subscription) => subscription,
        };
        match &subscription.source {
            Source::Topic(pattern) => writer.str(TOPIC, pattern.as_str()),
            Source::Shared(pattern, group) => {
                writer.str(TOPIC, pattern.as_str()).str(GROUP, group.as_str())
            }
            Source::Queue(queue) => writer.str(QUEUE, queue.as_str()),
        };
        let (ack, overflow) = (subscription.ack, subscription.overflow);
        writer
            .u8(ACK, u8::from(ack == Ack::Manual))
            .u64(CAPACITY_MESSAGES, wide(subscription.capacity_messages))
            .u64(CAPACITY_BYTES, wide(subscription.capacity_bytes))
            .u8(OVERFLOW, overflow.as_u8())
            .u64(STALL_LIMIT, micros(subscription.stall_limit));
        if let Some(prefetch) = subscription.prefetch {
            writer.u64(PREFETCH, wide(prefetch));
        }
        if let Some(limit) = limit {
            writer.u64(LIMIT, limit);
        }
        match subscription.start {
            Some(Start::Beginning) => writer.u8(START, 0),
            Some(Start::Offset(offset)) => writer.u8(START, 1).u64(START_AT, offset),
            Some(Start::Time(time)) => writer.u8(START, 2).u64(START_AT, micros(time)),
            Some(_) => writer.u8(START, 3),
            None => &mut writer,
        };
        record
    }

    /// Reads what is wanted.
    pub(crate) fn decode(record: &[u8]) -> Decoded<Wanted> {
        let (mut pattern_of, mut group, mut queue, mut inbox) = (None, None, None, None);
        read(record, |field| {
            match field.tag() {
                TOPIC => pattern_of = Some(pattern(&field)?),
                GROUP => group = Some(topic(&field)?),
                QUEUE => queue = Some(topic(&field)?),
                INBOX if field.bytes().is_empty() => inbox = Some(None),
                INBOX => inbox = Some(Some(topic(&field)?)),
                _ => {}
            }
            Ok(())
        })?;
        let mut subscription = match (pattern_of, group, queue, inbox) {
            (None, None, None, Some(address)) => return inbox_at(address),
            (Some(pattern), None, None, None) => Subscription::topic(pattern)?,
            (Some(pattern), Some(group), None, None) => Subscription::shared(pattern, group)?,
            (None, None, Some(queue), None) => Subscription::queue(queue)?,
            _ => return Err(lacks("exactly one source of messages")),
        };
        (subscription.prefetch, subscription.limit) = (None, None);
        let (mut start, mut at) = (None, None);
        read(record, |field| {
            match field.tag() {
                START => start = Some(byte(&field)?),
                START_AT => at = Some(number(&field)?),
                _ => settings(&mut subscription, &field)?,
            }
            Ok(())
        })?;
        let at = || at.ok_or_else(|| lacks("where a reader begins"));
        subscription.start = match start {
            None => None,
            Some(0) => Some(Start::Beginning),
            Some(1) => Some(Start::Offset(at()?)),
            Some(2) => Some(Start::Time(Duration::from_micros(at()?))),
            Some(3) => Some(Start::New),
            Some(other) => return Err(unknown("start", other)),
        };
        Ok(Wanted::Subscription(subscription))
    }

    /// An address that is asked for has to be one that inboxes have: others are for everyone.
    fn inbox_at(address: Option<Topic>) -> Decoded<Wanted> {
        if let Some(address) = &address
            && !address.is_reserved()
        {
            let text = format!("an inbox may not have the address {address}");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        Ok(Wanted::Inbox(address))
    }

    fn settings(subscription: &mut Subscription, field: &Field<'_>) -> Decoded<()> {
        match field.tag() {
            ACK => {
                subscription.ack = match byte(field)? {
                    0 => Ack::Auto,
                    1 => Ack::Manual,
                    other => return Err(unknown("acknowledgement mode", other)),
                }
            }
            PREFETCH => subscription.prefetch = Some(size(field)?.max(1)),
            LIMIT => subscription.limit = Some(number(field)?),
            CAPACITY_MESSAGES => subscription.capacity_messages = size(field)?.max(1),
            CAPACITY_BYTES => subscription.capacity_bytes = size(field)?.max(1),
            OVERFLOW => subscription.overflow = policy(field)?,
            STALL_LIMIT => subscription.stall_limit = time(field)?,
            _ => {}
        }
        Ok(())
    }
}

/// What a server says about a link that it has opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Whether the client has to settle what it gets, also where the application need not.
    pub(crate) settles: bool,
    /// The address of an inbox.
    pub(crate) address: Option<Topic>,
    /// Whether it goes on where it was when the connection before was lost.
    pub(crate) resumed: bool,
    /// A receiver that goes on: how many deliveries from before are told again first.
    pub(crate) carried: u64,
    /// A sender: how many messages may be without an outcome at a time.
    pub(crate) window: Option<u64>,
    /// The life of the link that it is to name when it wants to go on.
    pub(crate) life: u64,
    /// At which offset a reader begins.
    pub(crate) offset: Option<u64>,
}

impl Opened {
    const SETTLES: u8 = 1;
    const ADDRESS: u8 = 2;
    const RESUMED: u8 = 3;
    const CARRIED: u8 = 4;
    const WINDOW: u8 = 5;
    const LIFE: u8 = 6;
    const OFFSET: u8 = 7;

    /// A receiver of which the client says what became of each message.
    pub(crate) fn of_receiver() -> Self {
        Self { settles: true, ..Self::default() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut record = Vec::new();
        let mut writer = Writer::new(&mut record);
        writer.bool(Self::SETTLES, self.settles);
        if let Some(address) = &self.address {
            writer.str(Self::ADDRESS, address.as_str());
        }
        if self.resumed {
            writer.bool(Self::RESUMED, true);
        }
        if self.carried > 0 {
            writer.u64(Self::CARRIED, self.carried);
        }
        if let Some(window) = self.window {
            writer.u64(Self::WINDOW, window);
        }
        if self.life > 0 {
            writer.u64(Self::LIFE, self.life);
        }
        if let Some(offset) = self.offset {
            writer.u64(Self::OFFSET, offset);
        }
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Decoded<Self> {
        let mut opened = Self::default();
        read(record, |field| {
            match field.tag() {
                Self::SETTLES => opened.settles = field.bool().map_err(malformed)?,
                Self::ADDRESS => opened.address = Some(topic(&field)?),
                Self::RESUMED => opened.resumed = field.bool().map_err(malformed)?,
                Self::CARRIED => opened.carried = number(&field)?,
                Self::WINDOW => opened.window = Some(number(&field)?),
                Self::LIFE => opened.life = number(&field)?,
                Self::OFFSET => opened.offset = Some(number(&field)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(opened)
    }
}

/// The name of a queue, as the argument of a call.
pub(crate) mod name {
    use super::*;

    const NAME: u8 = 1;

    pub(crate) fn encode(name: &Topic) -> Vec<u8> {
        let mut record = Vec::new();
        Writer::new(&mut record).str(NAME, name.as_str());
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Decoded<Topic> {
        decode_maybe(record)?.ok_or_else(|| lacks("a queue's name"))
    }

    /// The name after which a page of queues begins; none for the first page.
    pub(crate) fn decode_maybe(record: &[u8]) -> Decoded<Option<Topic>> {
        let mut name = None;
        read(record, |field| {
            if field.tag() == NAME {
                name = Some(topic(&field)?);
            }
            Ok(())
        })?;
        Ok(name)
    }
}

/// A request that is no longer wanted.
pub(crate) mod cancel {
    use super::*;
    use posthaste_core::Cancel;

    const TARGET: u8 = 1;
    const TO_QUEUE: u8 = 2;
    const REPLY_TO: u8 = 3;
    const CORRELATION: u8 = 4;

    pub(crate) fn encode(cancel: &Cancel) -> Vec<u8> {
        let mut record = Vec::new();
        Writer::new(&mut record)
            .str(TARGET, cancel.target.as_str())
            .bool(TO_QUEUE, cancel.to_queue)
            .str(REPLY_TO, cancel.reply_to.as_str())
            .u64(CORRELATION, cancel.correlation);
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Decoded<Cancel> {
        let (mut target, mut to_queue, mut reply_to, mut correlation) = (None, false, None, None);
        read(record, |field| {
            match field.tag() {
                TARGET => target = Some(topic(&field)?),
                TO_QUEUE => to_queue = field.bool().map_err(malformed)?,
                REPLY_TO => reply_to = Some(topic(&field)?),
                CORRELATION => correlation = Some(number(&field)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(Cancel {
            target: target.ok_or_else(|| lacks("where a request went"))?,
            to_queue,
            reply_to: reply_to.ok_or_else(|| lacks("a reply address"))?,
            correlation: correlation.ok_or_else(|| lacks("a correlation"))?,
        })
    }
}

/// The books.
mod ledger {
    use super::*;

    const REASON: u8 = 1;
    /// The counts follow each other from here, in the order of the ledger's fields.
    const ACCEPTED: u8 = 10;
    const REASON_NAME: u8 = 1;
    const REASON_COUNT: u8 = 2;

    pub(super) fn write(writer: &mut Writer<'_>, ledger: &Ledger) {
        let counts = [
            ledger.accepted,
            ledger.acked,
            ledger.auto,
            ledger.dead_lettered,
            ledger.expired,
            ledger.dropped,
            ledger.held,
            ledger.unmatched,
            ledger.returned,
            ledger.duplicates,
        ];
        for (tag, count) in (ACCEPTED..).zip(counts) {
            writer.u64(tag, count);
        }
        for (reason, count) in &ledger.dropped_by {
            writer.record(REASON, |writer| {
                writer.str(REASON_NAME, reason).u64(REASON_COUNT, *count);
            });
        }
    }

    pub(super) fn decode(fields: Fields<'_>) -> Decoded<Ledger> {
        let mut ledger = Ledger::default();
        for field in fields {
            let field = field.map_err(malformed)?;
            let count = match field.tag() {
                ACCEPTED => &mut ledger.accepted,
                11 => &mut ledger.acked,
                12 => &mut ledger.auto,
                13 => &mut ledger.dead_lettered,
                14 => &mut ledger.expired,
                15 => &mut ledger.dropped,
                16 => &mut ledger.held,
                17 => &mut ledger.unmatched,
                18 => &mut ledger.returned,
                19 => &mut ledger.duplicates,
                REASON => {
                    let (name, count) = reason(&field)?;
                    ledger.dropped_by.insert(name, count);
                    continue;
                }
                _ => continue,
            };
            *count = number(&field)?;
        }
        Ok(ledger)
    }

    fn reason(field: &Field<'_>) -> Decoded<(String, u64)> {
        let (mut name, mut count) = (String::new(), 0);
        for field in field.record() {
            let field = field.map_err(malformed)?;
            match field.tag() {
                REASON_NAME => text(&field)?.clone_into(&mut name),
                REASON_COUNT => count = number(&field)?,
                _ => {}
            }
        }
        Ok((name, count))
    }
}

/// The broker at a glance, in pages: a broker may have more queues than fit into a frame.
pub(crate) mod stats {
    use super::*;

    const LEDGER: u8 = 1;
    const CONNECTIONS: u8 = 2;
    const SUBSCRIPTIONS: u8 = 3;
    const QUEUE: u8 = 4;
    const MORE: u8 = 5;

    /// Writes the totals and the queues whose names come after `after`, as many as a page holds.
    pub(crate) fn encode(stats: &mut Stats, after: Option<&Topic>) -> Vec<u8> {
        let mut record = Vec::new();
        stats.queues.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        Writer::new(&mut record)
            .record(LEDGER, |writer| ledger::write(writer, &stats.ledger))
            .u64(CONNECTIONS, stats.connections)
            .u64(SUBSCRIPTIONS, stats.subscriptions);
        let after = after.map_or("", Topic::as_str);
        let queues = stats.queues.iter().filter(|info| info.name.as_str() > after);
        for info in queues {
            if record.len() > PAGE {
                Writer::new(&mut record).bool(MORE, true);
                break;
            }
            Writer::new(&mut record).record(QUEUE, |writer| queue_info::write(writer, info));
        }
        record
    }

    /// Reads a page, adds its queues to `stats`, and says whether there are more.
    pub(crate) fn decode(record: &[u8], stats: &mut Stats) -> Decoded<bool> {
        let mut more = false;
        read(record, |field| {
            match field.tag() {
                LEDGER => stats.ledger = ledger::decode(field.record())?,
                CONNECTIONS => stats.connections = number(&field)?,
                SUBSCRIPTIONS => stats.subscriptions = number(&field)?,
                QUEUE => stats.queues.push(queue_info::decode(field.bytes())?),
                MORE => more = field.bool().map_err(malformed)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(more)
    }
}

/// A backend's card.
pub(crate) mod capabilities {
    use super::*;

    const BACKEND: u8 = 1;
    const NATIVE: u8 = 2;
    const EMULATED: u8 = 3;

    pub(crate) fn encode(card: &Capabilities) -> Vec<u8> {
        let mut record = Vec::new();
        let mut writer = Writer::new(&mut record);
        writer.str(BACKEND, card.backend());
        for (capability, support) in card.iter() {
            match support {
                Support::Native => writer.u8(NATIVE, capability.as_u8()),
                Support::Emulated => writer.u8(EMULATED, capability.as_u8()),
                Support::Lacking => continue,
            };
        }
        record
    }

    /// Reads a card; capabilities that are younger than this side are skipped.
    pub(crate) fn decode(record: &[u8]) -> Decoded<Capabilities> {
        let (mut backend, mut native, mut emulated) = ("", Vec::new(), Vec::new());
        for field in Fields::new(record) {
            let field = field.map_err(malformed)?;
            match field.tag() {
                BACKEND => backend = text(&field)?,
                NATIVE => native.extend(Capability::from_u8(byte(&field)?)),
                EMULATED => emulated.extend(Capability::from_u8(byte(&field)?)),
                _ => {}
            }
        }
        Ok(Capabilities::new(backend).native(&native).emulated(&emulated))
    }
}
