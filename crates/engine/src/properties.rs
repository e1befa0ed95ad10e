//! What a message has beside its topic and its payload, as the headers of an engine.
//!
//! A header of the application goes under its own name, so that programs of another kind read and
//! write it as theirs. What Posthaste needs besides goes under names that begin with `ph-`:
//!
//! | header | content |
//! |---|---|
//! | `ph-key`, `ph-id` | the key and the message id |
//! | `ph-reply-to`, `ph-correlation` | where the answer goes, and which request it is |
//! | `ph-kind` | `reply` or `status`; with an address for answers it is a request, else an event |
//! | `ph-status` | `no-responders` or `failed` |
//! | `ph-waits` | the request waits for somebody to answer it |
//! | `ph-expires` | the deadline, in milliseconds of Unix time |
//! | `ph-priority`, `ph-delay` | 0 to 3, and microseconds |
//! | `ph-death-N` | the Nth death of a dead letter: queue, attempts, milliseconds of Unix time, reasons |
//! | `ph-header-N` | a header of the application, `name=value`, that cannot go under its own name |
//! | `ph-order` | the places of the headers that go under their own names, which engines forget |
//!
//! Engines that have one of these themselves leave it out here ([`Rules::native`]) and give it back
//! in [`Native`]. Names, values and reasons are escaped with `%XX` where an engine cannot carry a
//! character.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use posthaste_core::{
    Death, Error, ErrorKind, Kind, Message, MessageBuilder, Runtime, Status, Topic,
};

/// What an engine can carry, and what it has of its own.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether a header of the application may go under this name.
    pub name: fn(&str) -> bool,
    /// Whether a value may have this character.
    pub value: fn(char) -> bool,
    /// Whether several headers may have the same name.
    pub repeats: bool,
    /// What the engine carries itself.
    pub native: &'static [Property],
}

impl Rules {
    /// Those of engines whose names and values are any text.
    pub const ANY: Self = Self { name: |_| true, value: |_| true, repeats: true, native: &[] };

    /// Those of engines whose headers look like HTTP's: names are tokens, values are printable ASCII.
    pub const HTTP: Self = Self {
        name: |name| !name.is_empty() && name.bytes().all(is_token),
        value: |c| matches!(c, ' '..='~'),
        repeats: false,
        native: &[],
    };

    /// With properties that the engine carries itself.
    #[must_use]
    pub const fn native(mut self, native: &'static [Property]) -> Self {
        self.native = native;
        self
    }
}

/// A property that an engine may carry itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Property {
    /// The key.
    Key,
    /// The message id.
    Id,
    /// Where the answer goes.
    ReplyTo,
    /// Which request it is.
    Correlation,
    /// The priority.
    Priority,
}

/// What the engine carried itself.
#[derive(Debug, Clone, Default)]
pub struct Native {
    /// The key.
    pub key: Option<String>,
    /// The message id.
    pub id: Option<String>,
    /// Where the answer goes.
    pub reply_to: Option<Topic>,
    /// Which request it is; 0 if it is none.
    pub correlation: u64,
    /// The priority.
    pub priority: u8,
}

impl Native {
    fn is_nothing(&self) -> bool {
        let texts = self.key.is_none() && self.id.is_none() && self.reply_to.is_none();
        texts && self.correlation == 0 && self.priority == 0
    }
}

/// A header: a name and a value.
pub type Header = (Cow<'static, str>, String);

const OURS: &str = "ph-";
const KEY: &str = "ph-key";
const ID: &str = "ph-id";
const REPLY_TO: &str = "ph-reply-to";
const CORRELATION: &str = "ph-correlation";
const KIND: &str = "ph-kind";
const STATUS: &str = "ph-status";
const WAITS: &str = "ph-waits";
const EXPIRES: &str = "ph-expires";
const PRIORITY: &str = "ph-priority";
const DELAY: &str = "ph-delay";
const DEATH: &str = "ph-death-";
const HEADER: &str = "ph-header-";
const ORDER: &str = "ph-order";

/// The headers of a message; none if it has nothing but a topic and a payload.
///
/// ```
/// use posthaste_core::{Message, Topic};
/// use posthaste_engine::properties::{self, Rules};
/// # let runtime = posthaste_smol::Smol::global();
///
/// let topic = Topic::new("orders.new")?;
/// let message = Message::builder(topic.clone()).header("origin", "till 4").key("k7").build()?;
/// let headers = properties::encode(&message, &Rules::ANY, &runtime);
/// assert!(headers.contains(&("ph-key".into(), "k7".into())));
/// assert!(headers.contains(&("origin".into(), "till 4".into())));
///
/// let draft = Message::builder(topic);
/// let headers = headers.iter().map(|(name, value)| (&**name, &**value));
/// let again = properties::decode(draft, headers, Default::default(), &runtime)?;
/// assert_eq!(again, message);
/// # Ok::<(), posthaste_core::Error>(())
/// ```
pub fn encode(message: &Message, rules: &Rules, runtime: &dyn Runtime) -> Vec<Header> {
    let is_event = message.kind() == Kind::Event && message.correlation() == 0;
    if message.is_plain() && is_event && !message.waits() {
        return Vec::new();
    }
    let mut headers = Vec::new();
    let mut put = |name: &'static str, value: String| headers.push((Cow::Borrowed(name), value));
    let carried = |property| rules.native.contains(&property);
    if let Some(key) = message.key().filter(|_| !carried(Property::Key)) {
        put(KEY, escape(key, rules.value));
    }
    if let Some(id) = message.id().filter(|_| !carried(Property::Id)) {
        put(ID, escape(id, rules.value));
    }
    if let Some(reply_to) = message.reply_to().filter(|_| !carried(Property::ReplyTo)) {
        put(REPLY_TO, escape(reply_to.as_str(), rules.value));
    }
    if message.correlation() != 0 && !carried(Property::Correlation) {
        put(CORRELATION, message.correlation().to_string());
    }
    match message.kind() {
        Kind::Reply => put(KIND, String::from("reply")),
        Kind::Status => put(KIND, String::from("status")),
        _ => {}
    }
    if let Some(status) = message.status() {
        let no_responders = status == Status::NoResponders;
        put(STATUS, String::from(if no_responders { "no-responders" } else { "failed" }));
    }
    if message.waits() {
        put(WAITS, String::from("1"));
    }
    if let Some(deadline) = message.deadline() {
        let left = deadline.saturating_duration_since(runtime.now());
        put(EXPIRES, (runtime.unix_time().saturating_add(left)).as_millis().to_string());
    }
    if message.priority() > 0 && !carried(Property::Priority) {
        put(PRIORITY, message.priority().to_string());
    }
    if !message.delay().is_zero() {
        put(DELAY, message.delay().as_micros().to_string());
    }
    for (at, death) in message.deaths().enumerate() {
        headers.push((format!("{DEATH}{at}").into(), encode_death(&death)));
    }
    encode_headers(message, rules, &mut headers);
    headers
}

/// The headers of the application: under their own names where that can be, and in what order.
fn encode_headers(message: &Message, rules: &Rules, into: &mut Vec<Header>) {
    let mut own: Vec<(&str, usize)> = Vec::new();
    for (at, (name, value)) in message.headers().enumerate() {
        let first = rules.repeats || !own.iter().any(|(this, _)| *this == name);
        let fits = first
            && !is_ours(name)
            && (rules.name)(name)
            && value.trim() == value
            && value.chars().all(rules.value);
        if fits {
            own.push((name, at));
            into.push((Cow::Owned(name.to_owned()), value.to_owned()));
        } else {
            let name = escape(name, |c| c != '=' && (rules.value)(c));
            let value = escape(value, rules.value);
            into.push((format!("{HEADER}{at}").into(), format!("{name}={value}")));
        }
    }
    own.sort_by_key(|(name, _)| *name);
    if own.iter().enumerate().any(|(place, (_, at))| place != *at) {
        let places: Vec<_> = own.iter().map(|(_, at)| at.to_string()).collect();
        into.push((Cow::Borrowed(ORDER), places.join("+")));
    }
}

/// Puts a message together from a draft of it, its headers, and what the engine carried itself.
/// Headers that begin with `ph-` and are none of the above are left out.
///
/// # Errors
/// `Protocol` if a header of Posthaste's own makes no sense; `TooLarge` if there is too much.
pub fn decode<'a>(
    draft: MessageBuilder,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    native: Native,
    runtime: &dyn Runtime,
) -> Result<Message, Error> {
    let mut headers = headers.into_iter().peekable();
    if headers.peek().is_none() && native.is_nothing() {
        return draft.build();
    }
    let Native { key, id, reply_to, correlation, priority } = native;
    let mut read = Read { key, id, reply_to, correlation, priority, ..Read::default() };
    for (name, value) in headers {
        if !is_ours(name) {
            // Others may name headers as Posthaste does not.
            if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                continue;
            }
            read.own.push((name, value));
        } else if read.header(name, value).is_none() {
            let text = format!("the header {name} of a message that came in cannot be read");
            return Err(Error::new(ErrorKind::Protocol, text));
        }
    }
    read.finish(draft, runtime)
}

/// What has been read so far.
#[derive(Default)]
struct Read<'a> {
    key: Option<String>,
    id: Option<String>,
    reply_to: Option<Topic>,
    correlation: u64,
    kind: Option<Kind>,
    status: Option<Status>,
    waits: bool,
    expires: Option<Duration>,
    priority: u8,
    delay: Duration,
    deaths: Vec<(usize, Death)>,
    headers: Vec<(usize, String, String)>,
    own: Vec<(&'a str, &'a str)>,
    order: Vec<usize>,
}

impl Read<'_> {
    /// Reads one of ours.
    fn header(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            KEY => self.key = Some(unescape(value)?),
            ID => self.id = Some(unescape(value)?),
            REPLY_TO => self.reply_to = Some(Topic::new(unescape(value)?).ok()?),
            CORRELATION => self.correlation = value.parse().ok()?,
            KIND => {
                self.kind = Some(match value {
                    "reply" => Kind::Reply,
                    "status" => Kind::Status,
                    _ => return None,
                });
            }
            STATUS => {
                self.status = Some(match value {
                    "no-responders" => Status::NoResponders,
                    _ => Status::Failed,
                });
            }
            WAITS => self.waits = true,
            EXPIRES => self.expires = Some(Duration::from_millis(value.parse().ok()?)),
            PRIORITY => self.priority = value.parse().ok()?,
            DELAY => self.delay = Duration::from_micros(value.parse().ok()?),
            ORDER => {
                self.order = value.split('+').map(|at| at.parse().ok()).collect::<Option<_>>()?;
            }
            _ => {
                if let Some(at) = name.strip_prefix(DEATH) {
                    self.deaths.push((at.parse().ok()?, decode_death(value)?));
                } else if let Some(at) = name.strip_prefix(HEADER) {
                    let (name, value) = value.split_once('=')?;
                    self.headers.push((at.parse().ok()?, unescape(name)?, unescape(value)?));
                }
            }
        }
        Some(())
    }

    fn finish(
        mut self,
        mut draft: MessageBuilder,
        runtime: &dyn Runtime,
    ) -> Result<Message, Error> {
        self.own.sort_by_key(|(name, _)| *name);
        let known = self.order.len() == self.own.len();
        for (place, (name, value)) in self.own.iter().enumerate() {
            let at = if known { self.order[place] } else { place };
            self.headers.push((at, (*name).to_owned(), (*value).to_owned()));
        }
        self.headers.sort_by_key(|(at, ..)| *at);
        for (_, name, value) in self.headers {
            draft = draft.header(name, value);
        }
        if let Some(key) = self.key {
            draft = draft.key(key);
        }
        if let Some(id) = self.id {
            draft = draft.id(id);
        }
        if self.waits {
            draft = draft.waits();
        }
        if let Some(expires) = self.expires {
            let left = expires.saturating_sub(runtime.unix_time());
            // One that no clock reaches is none.
            draft = match runtime.now().checked_add(left) {
                Some(deadline) => draft.deadline(deadline),
                None => draft,
            };
        }
        draft = draft.priority(self.priority).delay(self.delay);
        draft = match (self.kind, self.reply_to) {
            (None, Some(reply_to)) => draft.reply_to(reply_to, self.correlation),
            (None, None) => draft,
            (Some(_), _) => draft.answers(self.correlation),
        };
        let mut message = draft.build()?;
        if let Some(status) = self.status.filter(|_| self.kind == Some(Kind::Status)) {
            message = into_status(&message, status)?;
        }
        self.deaths.sort_by_key(|(at, _)| *at);
        for (_, death) in &self.deaths {
            message = message.with_death(death).ok_or_else(|| {
                Error::new(ErrorKind::Protocol, "a message that came in has died too often")
            })?;
        }
        Ok(message)
    }
}

/// The status that a requester is told.
fn into_status(message: &Message, status: Status) -> Result<Message, Error> {
    let (topic, correlation) = (message.topic(), message.correlation());
    let request = Message::builder(topic.clone()).reply_to(topic, correlation).build()?;
    request
        .status_reply(status, Bytes::clone(message.payload()))
        .ok_or_else(|| Error::new(ErrorKind::Protocol, "a status that came in answers no request"))
}

fn is_ours(name: &str) -> bool {
    name.as_bytes().get(..OURS.len()).is_some_and(|this| this.eq_ignore_ascii_case(OURS.as_bytes()))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte)
}

/// `queue attempts at reason reason ...`, each reason escaped.
fn encode_death(death: &Death) -> String {
    let plain = |c: char| matches!(c, '!'..='~') && c != ',';
    let queue = escape(death.queue.as_str(), plain);
    let mut text = format!("{queue},{},{}", death.attempts, death.at.as_millis());
    for reason in &death.reasons {
        text.push(',');
        text.push_str(&escape(reason, plain));
    }
    text
}

fn decode_death(text: &str) -> Option<Death> {
    let mut fields = text.split(',');
    let queue = Topic::new(unescape(fields.next()?)?).ok()?;
    let attempts = fields.next()?.parse().ok()?;
    let at = Duration::from_millis(fields.next()?.parse().ok()?);
    let mut death = Death::new(queue, attempts, at);
    for reason in fields {
        death.add_reason(&unescape(reason)?);
    }
    Some(death)
}

/// Writes `%XX` for every byte of what may not stand as it is, for spaces and for `%` itself.
fn escape(text: &str, may: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !matches!(c, '%' | ' ') && may(c) {
            escaped.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            escaped.push('%');
            escaped.push(char::from(DIGITS[usize::from(byte >> 4)]));
            escaped.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_smol::Smol;
    use proptest::prelude::*;

    fn through(message: &Message, rules: &Rules) -> Message {
        let runtime = Smol::global();
        let mut headers = encode(message, rules, &runtime);
        // Engines forget the order of names.
        headers.sort_by(|one, other| other.0.cmp(&one.0));
        let draft = Message::builder(message.topic()).payload(message.payload().clone());
        let draft = if message.is_to_queue() { draft.to_queue() } else { draft };
        let headers = headers.iter().map(|(name, value)| (&**name, &**value));
        decode(draft, headers, Native::default(), &runtime).unwrap()
    }

    fn messages() -> impl Strategy<Value = Message> {
        let header = ("[^\\s\\p{Cc}]{1,12}|[a-z-]{1,6}|ph-[a-z]{0,3}", ".{0,20}|[ -~]{0,20}");
        let headers = prop::collection::vec(header, 0..8);
        let deaths = prop::collection::vec(("[a-z.]{1,3}x", 0..99_u32, "\\PC{0,9}"), 0..3);
        let of = (headers, prop::option::of(".{0,9}"), prop::option::of("\\PC{1,9}"), deaths);
        (of, 0..4_u8, 0..3_u64, any::<bool>(), 0..4_u8).prop_map(
            |((headers, key, id, deaths), priority, delay, waits, kind)| {
                let topic = || Topic::new("to.here").unwrap();
                let mut draft = Message::builder(topic()).payload("p").priority(priority);
                draft = draft.delay(Duration::from_micros(delay));
                for (name, value) in headers {
                    draft = draft.header(name, value);
                }
                draft = key.into_iter().fold(draft, MessageBuilder::key);
                draft = id.into_iter().fold(draft, MessageBuilder::id);
                draft = if waits { draft.waits() } else { draft };
                draft = match kind {
                    1 => draft.reply_to(topic(), 7),
                    2 => draft.answers(u64::MAX),
                    3 => draft.to_queue(),
                    _ => draft,
                };
                let message = draft.build().unwrap();
                deaths.into_iter().fold(message, |message, (queue, attempts, reason)| {
                    let Ok(queue) = Topic::new(queue) else { return message };
                    let mut death = Death::new(queue, attempts, Duration::from_millis(5));
                    death.add_reason(&reason);
                    message.clone().with_death(&death).unwrap_or(message)
                })
            },
        )
    }

    proptest! {
        #[test]
        fn properties_come_through_as_they_were(message in messages()) {
            prop_assert_eq!(&through(&message, &Rules::ANY), &message);
            prop_assert_eq!(&through(&message, &Rules::HTTP), &message);
        }

        #[test]
        fn headers_of_http_are_tokens_and_printable(message in messages()) {
            for (name, value) in encode(&message, &Rules::HTTP, &Smol::global()) {
                prop_assert!((Rules::HTTP.name)(&name), "{name:?}");
                prop_assert!(value.chars().all(Rules::HTTP.value), "{value:?}");
            }
        }

        #[test]
        fn whatever_comes_in_is_a_message_or_an_error(
            headers in prop::collection::vec(("ph-[a-z]{2,11}(-[0-9])?|[a-z]*", "\\PC*"), 0..9),
        ) {
            let headers = headers.iter().map(|(name, value)| (&**name, &**value));
            let draft = Message::builder(Topic::new("to.here").unwrap());
            let _ = decode(draft, headers, Native::default(), &Smol::global());
        }
    }

    #[test]
    fn a_status_comes_through() {
        let topic = Topic::new("me.and.you").unwrap();
        let request = Message::builder(topic.clone()).reply_to(topic, 9).build().unwrap();
        for status in [Status::NoResponders, Status::Failed] {
            let status = request.status_reply(status, "why").unwrap();
            assert_eq!(through(&status, &Rules::HTTP), status);
        }
    }

    #[test]
    fn a_deadline_comes_through_by_the_wall_clock() {
        let deadline = Smol::global().now() + Duration::from_secs(60);
        let draft = Message::builder(Topic::new("t").unwrap()).deadline(deadline);
        let again = through(&draft.build().unwrap(), &Rules::ANY).deadline().unwrap();
        let apart = again.max(deadline) - again.min(deadline);
        assert!(apart < Duration::from_secs(5), "{apart:?} apart");
    }

    #[test]
    fn plain_headers_go_under_their_own_names() {
        let message = Message::builder(Topic::new("t").unwrap()).header("Trace", "1 2").build();
        let headers = encode(&message.unwrap(), &Rules::ANY, &Smol::global());
        assert_eq!(headers, [("Trace".into(), String::from("1 2"))]);
    }
}
