//! Changes of durable queues as records of the log, and back.
//!
//! Numbers are LEB128, 7 bits to a byte. Times are whole microseconds of the wall clock, plus one; 0
//! is none. Texts and bytes have their length in front. What a declaration says comes in fields, each
//! a tag and bytes, so that more of them may be added.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use posthaste_core::{
    Death, Error, ErrorKind, Heads, Message, Overflow, Parts, Pattern, QueueSettings, Retention,
    Topic,
};
use posthaste_memory::store::{Change, Kept, Paged, Pages, Standing, time_of};

use crate::record::Record;

/// The kinds of records.
const DECLARED: u8 = 1;
const DELETED: u8 = 2;
const PUT: u8 = 3;
const HANDED: u8 = 4;
const BACK: u8 = 5;
const GONE: u8 = 6;
const PURGED: u8 = 7;
const IDS: u8 = 8;
const SNAPSHOT: u8 = 9;
pub(crate) const PART: u8 = 10;
/// A snapshot that has parts.
const JOINED: u8 = 11;

/// The fields of a declaration.
mod field {
    pub(super) const NAME: u64 = 1;
    pub(super) const BINDING: u64 = 2;
    pub(super) const CAPACITY_MESSAGES: u64 = 3;
    pub(super) const CAPACITY_BYTES: u64 = 4;
    pub(super) const OVERFLOW: u64 = 5;
    pub(super) const MAX_ATTEMPTS: u64 = 6;
    pub(super) const BACKOFF: u64 = 7;
    pub(super) const DEAD_LETTER: u64 = 8;
    pub(super) const TTL: u64 = 9;
    pub(super) const DEDUP_WINDOW: u64 = 10;
    pub(super) const CONSUMER_TIMEOUT: u64 = 11;
    pub(super) const EXPIRY: u64 = 12;
    pub(super) const KEYED: u64 = 13;
    pub(super) const NEXT_POSITION: u64 = 14;
    /// Whether the last of each key stays, and then age, messages and bytes: whether there is such a
    /// bound, and what it is.
    pub(super) const RETAIN: u64 = 15;
}

/// The kind of a change's record.
pub(crate) fn kind(change: &Change<'_>) -> u8 {
    match change {
        Change::Declared { .. } => DECLARED,
        Change::Deleted { .. } => DELETED,
        Change::Put { .. } => PUT,
        Change::Handed { .. } => HANDED,
        Change::Back { .. } => BACK,
        Change::Gone { .. } => GONE,
        Change::Purged { .. } => PURGED,
        Change::Ids { .. } => IDS,
        Change::Part { .. } => PART,
        Change::Snapshot { parts: 0, .. } => SNAPSHOT,
        Change::Snapshot { .. } => JOINED,
        _ => 0,
    }
}

/// Appends the content of a change's record.
pub(crate) fn encode(into: &mut Vec<u8>, change: &Change<'_>) {
    match *change {
        Change::Declared { queue, name, settings, bindings, next_position } => {
            number(into, queue);
            declaration(into, name, settings, bindings, next_position);
        }
        Change::Part { queue, nth, delayed, pages } => {
            part(into, queue, nth, delayed);
            pages.encode(into);
        }
        Change::Snapshot {
            queue,
            name,
            settings,
            bindings,
            next_position,
            parts,
            waiting,
            delayed,
            others,
        } => {
            number(into, queue);
            if parts > 0 {
                number(into, parts);
            }
            let mut declared = Vec::new();
            declaration(&mut declared, name, settings, bindings, next_position);
            number(into, declared.len() as u64);
            into.extend_from_slice(&declared);
            waiting.iter().chain(&delayed).for_each(|pages| pages.encode(into));
            others.iter().for_each(|copy| standing(into, copy));
        }
        Change::Ids { queue, ids } => {
            number(into, queue);
            for (id, came) in ids {
                text(into, id);
                time(into, Some(*came));
            }
        }
        Change::Deleted { queue } => number(into, queue),
        Change::Put { queue, copy, from } => {
            number(into, queue);
            put(into, copy, from);
        }
        Change::Handed { queue, position } | Change::Gone { queue, position, .. } => {
            number(into, queue);
            number(into, position);
        }
        Change::Back { queue, position, attempts, due, death, dying } => {
            number(into, queue);
            number(into, position);
            number(into, attempts.into());
            time(into, due);
            into.push(u8::from(dying));
            history(into, death);
        }
        Change::Purged { queue, before, but } => {
            number(into, queue);
            number(into, before);
            number(into, but.len() as u64);
            but.iter().for_each(|position| number(into, *position));
        }
        _ => {}
    }
}

/// What is in front of the copies of a part.
fn part(into: &mut Vec<u8>, queue: u64, nth: u64, delayed: bool) {
    number(into, queue);
    number(into, nth);
    into.push(u8::from(delayed));
}

/// Some copies of a queue, as they are until they are written: what they have in memory is that of the
/// queue, as long as that does not change.
#[derive(Debug)]
pub(crate) struct Part {
    queue: u64,
    nth: u64,
    delayed: bool,
    pages: Pages,
}

impl Part {
    /// That of a change, if it is one.
    pub(crate) fn of(change: &Change<'_>) -> Option<Self> {
        match *change {
            Change::Part { queue, nth, delayed, pages } => {
                Some(Self { queue, nth, delayed, pages: pages.clone() })
            }
            _ => None,
        }
    }

    /// Which one it is.
    #[cfg(test)]
    pub(crate) fn nth(&self) -> u64 {
        self.nth
    }

    /// How much content the record has.
    pub(crate) fn encoded_len(&self) -> usize {
        let mut before = Vec::new();
        part(&mut before, self.queue, self.nth, self.delayed);
        before.len() + self.pages.encoded_len()
    }

    /// Appends the content of the record.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let Self { queue, nth, delayed, ref pages } = *self;
        encode(into, &Change::Part { queue, nth, delayed, pages });
    }
}

fn standing(into: &mut Vec<u8>, copy: &Standing) {
    let Standing { paged, may_be_paged, attempts, due, death, dying, out } = copy;
    let Paged { position, place, size, expires, missed, .. } = *paged;
    for value in [position, place, size as u64, missed.into(), (*attempts).into()] {
        number(into, value);
    }
    time(into, expires);
    time(into, *due);
    [may_be_paged, dying, out].iter().for_each(|flag| into.push(u8::from(**flag)));
    history(into, death.as_ref());
}

fn history(into: &mut Vec<u8>, death: Option<&Death>) {
    into.push(u8::from(death.is_some()));
    if let Some(death) = death {
        text(into, death.queue.as_str());
        number(into, death.attempts.into());
        time(into, Some(death.at));
        number(into, death.reasons.len() as u64);
        death.reasons.iter().for_each(|reason| text(into, reason));
    }
}

fn declaration(
    into: &mut Vec<u8>,
    name: &Topic,
    settings: &QueueSettings,
    bindings: &[Pattern],
    next_position: u64,
) {
    let mut word = |tag: u64, bytes: &[u8]| {
        number(into, tag);
        number(into, bytes.len() as u64);
        into.extend_from_slice(bytes);
    };
    word(field::NAME, name.as_bytes());
    bindings.iter().for_each(|binding| word(field::BINDING, binding.as_str().as_bytes()));
    if let Some(queue) = &settings.dead_letter {
        word(field::DEAD_LETTER, queue.as_bytes());
    }
    let size = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
    for (tag, value) in [
        (field::CAPACITY_MESSAGES, size(settings.capacity_messages)),
        (field::CAPACITY_BYTES, size(settings.capacity_bytes)),
        (field::OVERFLOW, settings.overflow.as_u8().into()),
        (field::MAX_ATTEMPTS, settings.max_attempts.into()),
        (field::BACKOFF, micros(settings.backoff)),
        (field::TTL, micros(settings.ttl)),
        (field::DEDUP_WINDOW, micros(settings.dedup_window)),
        (field::CONSUMER_TIMEOUT, micros(settings.consumer_timeout)),
        (field::EXPIRY, micros(settings.expiry)),
        (field::KEYED, settings.keyed.into()),
        (field::NEXT_POSITION, next_position),
    ] {
        word(tag, &value.to_le_bytes());
    }
    if let Some(Retention { age, messages, bytes, last_per_key, .. }) = settings.retain {
        let mut value = Vec::new();
        number(&mut value, last_per_key.into());
        for bound in [age.map(micros), messages, bytes] {
            number(&mut value, bound.is_some().into());
            bound.into_iter().for_each(|bound| number(&mut value, bound));
        }
        word(field::RETAIN, &value);
    }
}

fn put(into: &mut Vec<u8>, copy: &Kept, from: Option<(u64, u64)>) {
    let Parts { head, payload, attributes, correlation, count, .. } =
        copy.message.clone().into_parts();
    number(into, copy.position);
    for at in [Some(copy.came), copy.due, copy.expires, copy.deadline] {
        time(into, at);
    }
    into.push(u8::from(from.is_some()));
    if let Some((queue, position)) = from {
        number(into, queue);
        number(into, position);
    }
    number(into, copy.attempts.into());
    into.push(u8::from(copy.dying));
    into.push(u8::from(copy.out));
    history(into, copy.death.as_ref());
    into.push(attributes);
    number(into, correlation);
    number(into, count.into());
    number(into, head.len() as u64);
    into.extend_from_slice(&head);
    into.extend_from_slice(&payload);
}

// ---- reading

/// A change, read.
#[derive(Debug)]
pub(crate) enum Read<'a> {
    Declared {
        queue: u64,
        name: Topic,
        settings: QueueSettings,
        bindings: Vec<Pattern>,
        next_position: u64,
    },
    Part {
        queue: u64,
        nth: u64,
        delayed: bool,
        pages: Pages,
    },
    Snapshot {
        queue: u64,
        snapshot: Box<Snapshot>,
    },
    Ids {
        queue: u64,
        ids: Vec<(Arc<str>, Duration)>,
    },
    Deleted {
        queue: u64,
    },
    Put {
        queue: u64,
        copy: Put<'a>,
        from: Option<(u64, u64)>,
    },
    Handed {
        queue: u64,
        position: u64,
    },
    Back {
        queue: u64,
        position: u64,
        back: Back,
    },
    Gone {
        queue: u64,
        position: u64,
    },
    Purged {
        queue: u64,
        before: u64,
        but: Vec<u64>,
    },
}

/// A queue, whole but for the ids that it has had.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) name: Topic,
    pub(crate) settings: QueueSettings,
    pub(crate) bindings: Vec<Pattern>,
    pub(crate) next_position: u64,
    pub(crate) parts: u64,
    pub(crate) waiting: [Pages; 2],
    pub(crate) delayed: [Pages; 2],
    pub(crate) others: Vec<Standing>,
}

impl Snapshot {
    /// How many copies are in it, beside those of its parts.
    pub(crate) fn copies(&self) -> usize {
        let pages = self.waiting.iter().chain(&self.delayed);
        pages.map(Pages::len).sum::<usize>() + self.others.len()
    }
}

/// A copy that came in.
#[derive(Debug)]
pub(crate) struct Put<'a> {
    pub(crate) position: u64,
    pub(crate) place: u64,
    /// The message without its content.
    pub(crate) message: Message,
    payload: &'a [u8],
    pub(crate) came: Duration,
    pub(crate) attempts: u32,
    pub(crate) due: Option<Duration>,
    pub(crate) expires: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) death: Option<Death>,
    pub(crate) dying: bool,
    pub(crate) out: bool,
}

impl Put<'_> {
    /// The size of its message.
    pub(crate) fn size(&self) -> usize {
        self.message.size() + self.payload.len()
    }

    /// How much content its message has.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// The copy, whole; `heads` knows its head, and its content is copied into what `payloads` has room for.
    ///
    /// # Errors
    /// `Protocol`, if it is larger than any is.
    pub(crate) fn into_kept(
        self,
        clocks: Clocks,
        heads: &mut Heads,
        payloads: &mut Payloads,
    ) -> Result<Kept, Error> {
        let Self { position, place, message, payload, came, attempts, due, expires, .. } = self;
        let Self { deadline, death, dying, out, .. } = self;
        let mut parts = message.into_parts();
        parts.payload = payloads.copy(payload);
        parts.deadline = deadline.map(|at| time_of(at, clocks.now, clocks.unix));
        let message = Message::from_parts_after(parts, heads)?;
        Ok(Kept {
            position,
            place,
            message,
            came,
            attempts,
            due,
            expires,
            deadline,
            death,
            dying,
            out,
        })
    }
}

/// Copies of what messages have in them: small ones share what was allocated for a few of them. Not for many,
/// because all of it is in memory until the last of them is gone.
#[derive(Debug, Default)]
pub(crate) struct Payloads(BytesMut);

impl Payloads {
    fn copy(&mut self, payload: &[u8]) -> Bytes {
        if payload.len() > SHARED / 8 {
            return Bytes::copy_from_slice(payload);
        }
        if self.0.capacity() < payload.len() {
            self.0 = BytesMut::with_capacity(SHARED);
        }
        self.0.extend_from_slice(payload);
        self.0.split().freeze()
    }
}

/// How much is allocated at a time for the contents of small messages.
const SHARED: usize = 4 << 10;

/// How a copy came back.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) attempts: u32,
    pub(crate) due: Option<Duration>,
    pub(crate) death: Option<Death>,
    pub(crate) dying: bool,
}

/// How the clocks stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clocks {
    pub(crate) now: Instant,
    pub(crate) unix: Duration,
}

/// Reads the record of a change; `heads` knows the head of the message in the one before.
///
/// # Errors
/// `Protocol`: it is of a newer version of this program, or of another one.
pub(crate) fn decode<'a>(record: Record<'a>, heads: &mut Heads) -> Result<Read<'a>, Error> {
    let Record { kind, content, position: place } = record;
    let mut from = Reader(content);
    let queue = from.number()?;
    let read = match kind {
        DECLARED => from.declaration(queue)?,
        DELETED => Read::Deleted { queue },
        PUT => from.put(queue, place, heads)?,
        IDS => from.ids(queue)?,
        PART => from.part(queue)?,
        SNAPSHOT => from.snapshot(queue, 0)?,
        JOINED => {
            let parts = from.number()?;
            from.snapshot(queue, parts)?
        }
        HANDED => Read::Handed { queue, position: from.number()? },
        BACK => from.back(queue)?,
        GONE => Read::Gone { queue, position: from.number()? },
        PURGED => {
            let (before, count) = (from.number()?, from.number()?);
            let but = (0..count).map(|_| from.number()).collect::<Result<_, _>>()?;
            Read::Purged { queue, before, but }
        }
        _ => return Err(strange()),
    };
    if from.0.is_empty() { Ok(read) } else { Err(strange()) }
}

pub(crate) fn strange() -> Error {
    let text = "the log has a record that this version does not know; open it with the version that \
                wrote it, or a newer one";
    Error::new(ErrorKind::Protocol, text)
}

/// What is left of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Error> {
        let (first, rest) = self.0.split_first().ok_or_else(strange)?;
        self.0 = rest;
        Ok(*first)
    }

    fn flag(&mut self) -> Result<bool, Error> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(strange()),
        }
    }

    fn number(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(strange())
    }

    fn small(&mut self) -> Result<u32, Error> {
        u32::try_from(self.number()?).map_err(|_| strange())
    }

    fn time(&mut self) -> Result<Option<Duration>, Error> {
        Ok(self.number()?.checked_sub(1).map(Duration::from_micros))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let count = usize::try_from(self.number()?).map_err(|_| strange())?;
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(strange)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| strange())
    }

    fn declaration(&mut self, queue: u64) -> Result<Read<'a>, Error> {
        let (mut name, mut bindings, mut next_position) = (None, Vec::new(), 0);
        let mut settings = QueueSettings::default();
        settings.durable = true;
        while !self.0.is_empty() {
            let (tag, bytes) = (self.number()?, self.bytes()?);
            let text = || std::str::from_utf8(bytes).map_err(|_| strange());
            let value = || bytes.try_into().map(u64::from_le_bytes).map_err(|_| strange());
            let size = || Ok::<_, Error>(usize::try_from(value()?).unwrap_or(usize::MAX));
            let time = || Ok::<_, Error>(Duration::from_micros(value()?));
            match tag {
                field::NAME => name = Some(Topic::new(text()?)?),
                field::BINDING => bindings.push(Pattern::new(text()?)?),
                field::CAPACITY_MESSAGES => settings.capacity_messages = size()?,
                field::CAPACITY_BYTES => settings.capacity_bytes = size()?,
                field::OVERFLOW => {
                    let number = u8::try_from(value()?).map_err(|_| strange())?;
                    settings.overflow = Overflow::from_u8(number).ok_or_else(strange)?;
                }
                field::MAX_ATTEMPTS => {
                    settings.max_attempts = u32::try_from(value()?).map_err(|_| strange())?;
                }
                field::BACKOFF => settings.backoff = time()?,
                field::DEAD_LETTER => settings.dead_letter = Some(Topic::new(text()?)?),
                field::TTL => settings.ttl = time()?,
                field::DEDUP_WINDOW => settings.dedup_window = time()?,
                field::CONSUMER_TIMEOUT => settings.consumer_timeout = time()?,
                field::EXPIRY => settings.expiry = time()?,
                field::KEYED => settings.keyed = value()? == 1,
                field::NEXT_POSITION => next_position = value()?,
                field::RETAIN => settings.retain = Some(Reader(bytes).retention()?),
                _ => return Err(strange()),
            }
        }
        let name = name.ok_or_else(strange)?;
        Ok(Read::Declared { queue, name, settings, bindings, next_position })
    }

    fn retention(mut self) -> Result<Retention, Error> {
        let mut retain = Retention::new();
        retain.last_per_key = self.flag()?;
        if self.flag()? {
            retain = retain.age(Duration::from_micros(self.number()?));
        }
        if self.flag()? {
            retain = retain.messages(self.number()?);
        }
        if self.flag()? {
            retain = retain.bytes(self.number()?);
        }
        if self.0.is_empty() { Ok(retain) } else { Err(strange()) }
    }

    fn part(&mut self, queue: u64) -> Result<Read<'a>, Error> {
        let (nth, delayed) = (self.number()?, self.flag()?);
        let pages = Pages::decode(&mut self.0).ok_or_else(strange)?;
        Ok(Read::Part { queue, nth, delayed, pages })
    }

    fn snapshot(&mut self, queue: u64, parts: u64) -> Result<Read<'a>, Error> {
        let declared = Reader(self.bytes()?).declaration(queue)?;
        let Read::Declared { name, settings, bindings, next_position, .. } = declared else {
            return Err(strange());
        };
        let mut pages = || Pages::decode(&mut self.0).ok_or_else(strange);
        let (waiting, delayed) = ([pages()?, pages()?], [pages()?, pages()?]);
        let mut others = Vec::new();
        while !self.0.is_empty() {
            others.push(self.standing()?);
        }
        let snapshot =
            Snapshot { name, settings, bindings, next_position, parts, waiting, delayed, others };
        Ok(Read::Snapshot { queue, snapshot: Box::new(snapshot) })
    }

    fn standing(&mut self) -> Result<Standing, Error> {
        let (position, place) = (self.number()?, self.number()?);
        let size = usize::try_from(self.number()?).map_err(|_| strange())?;
        let mut paged = Paged::new(position, place, size);
        paged.missed = self.small()?;
        let attempts = self.small()?;
        paged.expires = self.time()?;
        let due = self.time()?;
        let (may_be_paged, dying, out) = (self.flag()?, self.flag()?, self.flag()?);
        Ok(Standing { paged, may_be_paged, attempts, due, death: self.history()?, dying, out })
    }

    fn ids(&mut self, queue: u64) -> Result<Read<'a>, Error> {
        let mut ids = Vec::new();
        while !self.0.is_empty() {
            ids.push((self.text()?.into(), self.time()?.unwrap_or_default()));
        }
        Ok(Read::Ids { queue, ids })
    }

    fn put(&mut self, queue: u64, place: u64, heads: &mut Heads) -> Result<Read<'a>, Error> {
        let position = self.number()?;
        let came = self.time()?.unwrap_or_default();
        let (due, expires, deadline) = (self.time()?, self.time()?, self.time()?);
        let from = match self.flag()? {
            true => Some((self.number()?, self.number()?)),
            false => None,
        };
        let attempts = self.small()?;
        let (dying, out, death) = (self.flag()?, self.flag()?, self.history()?);
        let (attributes, correlation, count) = (self.byte()?, self.number()?, self.small()?);
        let head = self.bytes()?.into();
        let parts =
            Parts { head, payload: Bytes::new(), attributes, correlation, deadline: None, count };
        let message = Message::from_parts_after(parts, heads)?;
        let payload = std::mem::take(&mut self.0);
        let copy = Put {
            position,
            place,
            message,
            payload,
            came,
            attempts,
            due,
            expires,
            deadline,
            death,
            dying,
            out,
        };
        Ok(Read::Put { queue, copy, from })
    }

    fn back(&mut self, queue: u64) -> Result<Read<'a>, Error> {
        let (position, attempts, due) = (self.number()?, self.small()?, self.time()?);
        let (dying, death) = (self.flag()?, self.history()?);
        Ok(Read::Back { queue, position, back: Back { attempts, due, death, dying } })
    }

    fn history(&mut self) -> Result<Option<Death>, Error> {
        if !self.flag()? {
            return Ok(None);
        }
        let queue = Topic::new(self.text()?)?;
        let (attempts, at) = (self.small()?, self.time()?.unwrap_or_default());
        let mut death = Death::new(queue, attempts, at);
        for _ in 0..self.number()? {
            death.add_reason(self.text()?);
        }
        Ok(Some(death))
    }
}

// ---- writing

pub(crate) fn number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn time(into: &mut Vec<u8>, at: Option<Duration>) {
    number(into, at.map_or(0, |at| micros(at).saturating_add(1)));
}

fn text(into: &mut Vec<u8>, text: &str) {
    number(into, text.len() as u64);
    into.extend_from_slice(text.as_bytes());
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
