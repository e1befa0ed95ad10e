//! Messages as frames, and frames as messages; see the table of the [crate](crate).

use bytes::Bytes;
use posthaste_core::{Error, Message, Pattern, Runtime, Topic};
use posthaste_engine::properties::{self, Native, Property, Rules};

use crate::codec::Multipart;
use crate::wants::Want;

/// What the envelope of a request carries itself.
const RULES: Rules = Rules::HTTP;
const RULES_OF_REQUESTS: Rules = Rules::HTTP.native(&[Property::ReplyTo, Property::Correlation]);
/// The group that a copy is for: the pattern, a space, and the group.
const GROUP: &str = "ph-group";
/// The line of what goes to an inbox and is not the answer to a request: what it is, other lines
/// say.
pub(crate) const AS_IT_IS: &str = "ph-as-it-is: 1\n";
/// The line that says that a queue was deleted.
const DELETED: &str = "ph-deleted: 1\n";
/// How many frames an envelope has at most, and how many bytes together.
const ENVELOPE_FRAMES_MAX: usize = 8;
const ENVELOPE_BYTES_MAX: usize = 384;

/// The lines of a message's properties; empty if it has none.
pub(crate) fn lines(message: &Message, in_envelope: bool, runtime: &dyn Runtime) -> String {
    let rules = if in_envelope { &RULES_OF_REQUESTS } else { &RULES };
    let mut lines = String::new();
    for (name, value) in properties::encode(message, rules, runtime) {
        put_line(&mut lines, &name, &value);
    }
    lines
}

/// The same with the groups that a copy is for.
pub(crate) fn with_groups(lines: &str, groups: &[Want]) -> String {
    let mut lines = lines.to_owned();
    for want in groups {
        if let Some(group) = &want.group {
            // Patterns have no white space, so that a space ends one.
            put_line(&mut lines, GROUP, &format!("{} {group}", want.pattern));
        }
    }
    lines
}

fn put_line(lines: &mut String, name: &str, value: &str) {
    lines.push_str(name);
    lines.push_str(": ");
    lines.push_str(value);
    lines.push('\n');
}

/// `[head?, properties?, payload]`, without what is empty.
pub(crate) fn body(head: Option<Bytes>, lines: String, payload: &Bytes) -> Multipart {
    let mut frames = Multipart::new();
    frames.extend(head);
    if !lines.is_empty() {
        frames.push(lines.into());
    }
    frames.push(payload.clone());
    frames
}

/// What tells Posthaste peers that a queue was deleted.
pub(crate) fn deletion(queue: &Topic) -> Multipart {
    body(Some(topic_frame(queue)), DELETED.to_owned(), &Bytes::new())
}

/// A topic's text as a frame.
pub(crate) fn topic_frame(topic: &Topic) -> Bytes {
    Bytes::copy_from_slice(topic.as_bytes())
}

/// What came in: an address if it has one, properties, and a payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) topic: Option<Topic>,
    lines: Bytes,
    pub(crate) payload: Bytes,
}

impl Body {
    /// Reads `[topic, properties?, payload]`. A single frame is a payload alone, or with
    /// `spaced` a topic and a payload with a space between them.
    pub(crate) fn addressed(frames: &[Bytes], spaced: bool) -> Option<Self> {
        let (topic, rest) = match frames {
            [only] if spaced => {
                let end = only.iter().position(|byte| *byte == b' ').unwrap_or(only.len());
                let payload = only.slice((end + 1).min(only.len())..);
                let topic = Some(parse_topic(&only[..end])?);
                return Some(Self { topic, lines: Bytes::new(), payload });
            }
            [_] => (None, frames),
            [topic, rest @ ..] => (Some(parse_topic(topic)?), rest),
            [] => return None,
        };
        let (lines, payload) = split_lines(rest)?;
        Some(Self { topic, lines, payload })
    }

    /// Reads `[properties?, payload]`. Of two frames, a first that is no properties is the topic
    /// that somebody gave the answer.
    pub(crate) fn bare(frames: &[Bytes]) -> Option<Self> {
        let (lines, payload) = match (split_lines(frames), frames) {
            (Some(parts), _) => parts,
            (None, [_, payload]) => (Bytes::new(), payload.clone()),
            _ => return None,
        };
        Some(Self { topic: None, lines, payload })
    }

    /// Whether this says that the queue was deleted.
    pub(crate) fn is_deletion(&self) -> bool {
        self.lines == DELETED
    }

    /// The groups that a copy is for.
    pub(crate) fn groups(&self) -> Vec<Want> {
        let groups = read_lines(&self.lines).filter(|(name, _)| *name == GROUP);
        groups
            .filter_map(|(_, value)| {
                let (pattern, group) = value.split_once(' ')?;
                let group = Some(Topic::new(group).ok()?);
                Some(Want { pattern: Pattern::new(pattern).ok()?, group })
            })
            .collect()
    }

    /// The message, to this topic or into this queue.
    pub(crate) fn message(
        &self,
        topic: Topic,
        to_queue: bool,
        native: Native,
        runtime: &dyn Runtime,
    ) -> Result<Message, Error> {
        let draft = Message::builder(topic).payload(self.payload.clone());
        let draft = if to_queue { draft.to_queue() } else { draft };
        let lines = read_lines(&self.lines).filter(|(name, _)| *name != GROUP);
        properties::decode(draft, lines, native, runtime)
    }

    /// The answer of this correlation that came to the inbox of that address. What says nothing of
    /// its kind is a reply.
    pub(crate) fn answer(
        &self,
        inbox: Topic,
        correlation: u64,
        runtime: &dyn Runtime,
    ) -> Result<Message, Error> {
        let mut names = read_lines(&self.lines).map(|(name, _)| name);
        if names.any(|name| name == "ph-as-it-is") {
            return self.message(inbox, false, Native::default(), runtime);
        }
        let has_kind = read_lines(&self.lines).any(|(name, _)| name == "ph-kind");
        let kind = (!has_kind).then_some(("ph-kind", "reply"));
        let draft = Message::builder(inbox).payload(self.payload.clone());
        let lines = read_lines(&self.lines).filter(|(name, _)| *name != GROUP).chain(kind);
        properties::decode(draft, lines, Native { correlation, ..Native::default() }, runtime)
    }
}

fn parse_topic(frame: &[u8]) -> Option<Topic> {
    Topic::new(std::str::from_utf8(frame).ok()?).ok()
}

fn split_lines(frames: &[Bytes]) -> Option<(Bytes, Bytes)> {
    match frames {
        [payload] => Some((Bytes::new(), payload.clone())),
        [lines, payload] if are_lines(lines) => Some((lines.clone(), payload.clone())),
        _ => None,
    }
}

/// Whether this is `name: value` in each of its lines, and nothing else.
fn are_lines(frame: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(frame) else { return false };
    text.ends_with('\n')
        && text.lines().all(|line| line.split_once(": ").is_some_and(|(name, _)| !name.is_empty()))
}

fn read_lines(lines: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let text = std::str::from_utf8(lines).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once(": "))
}

/// Where an answer goes, beside the connection: the frames before the empty one, as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) frames: Vec<Bytes>,
    /// Whether there was an empty frame behind them.
    pub(crate) delimited: bool,
}

impl Envelope {
    /// Takes the envelope off a request; the rest is its body. Without an empty frame all of it is.
    pub(crate) fn split(frames: &[Bytes]) -> Option<(Self, Multipart)> {
        let delimiter = frames.iter().take(ENVELOPE_FRAMES_MAX + 1).position(Bytes::is_empty);
        // The last frame is the payload, which may be empty.
        let Some(at) = delimiter.filter(|at| at + 1 < frames.len()) else {
            return Some((Self { frames: Vec::new(), delimited: false }, frames.to_vec()));
        };
        let (frames, body) = (frames[..at].to_vec(), frames[at + 1..].to_vec());
        let bytes: usize = frames.iter().map(|frame| 1 + frame.len()).sum();
        let short = frames.iter().all(|frame| frame.len() <= usize::from(u8::MAX));
        (short && bytes <= ENVELOPE_BYTES_MAX).then_some((Self { frames, delimited: true }, body))
    }

    /// Puts it in front of an answer.
    pub(crate) fn wrap(self, body: Multipart) -> Multipart {
        let mut frames = self.frames;
        if self.delimited {
            frames.push(Bytes::new());
        }
        frames.extend(body);
        frames
    }

    /// As a word of a topic: `d` or `r`, then each frame as its length and its bytes, in hex.
    pub(crate) fn to_word(&self) -> String {
        let mut word = String::from(if self.delimited { "d" } else { "r" });
        for frame in &self.frames {
            let length = u8::try_from(frame.len()).unwrap_or(u8::MAX);
            for byte in [length].iter().chain(&frame[..usize::from(length)]) {
                word.push_str(&format!("{byte:02x}"));
            }
        }
        word
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        let (kind, hex) = word.split_at_checked(1)?;
        let bytes = unhex(hex)?;
        let (mut rest, mut frames) = (&bytes[..], Vec::new());
        while let Some((length, after)) = rest.split_first() {
            let (frame, after) = after.split_at_checked(usize::from(*length))?;
            frames.push(Bytes::copy_from_slice(frame));
            rest = after;
        }
        Some(Self { frames, delimited: kind == "d" })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    digits.chunks_exact(2).map(pair).collect()
}

/// The frame by which an answer finds its way back to an inbox of this node.
pub(crate) fn ticket(inbox: u64, correlation: u64) -> Bytes {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&inbox.to_be_bytes());
    bytes[8..].copy_from_slice(&correlation.to_be_bytes());
    Bytes::copy_from_slice(&bytes)
}

/// Reads the ticket of an answer; what is behind it is the body.
pub(crate) fn read_ticket(frames: &[Bytes]) -> Option<(u64, u64, &[Bytes])> {
    let (ticket, rest) = frames.split_first()?;
    let (inbox, correlation) = ticket.split_first_chunk::<8>()?;
    let correlation: [u8; 8] = correlation.try_into().ok()?;
    let body = match rest {
        [empty, body @ ..] if empty.is_empty() && !body.is_empty() => body,
        body => body,
    };
    Some((u64::from_be_bytes(*inbox), u64::from_be_bytes(correlation), body))
}
