//! What was sent, confirmed, delivered, settled and suffered, in order: what checks look at.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::{Error, ErrorKind, Ledger, Level, Message, Source, Topic};

use crate::state::Shared;

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, in virtual time since the beginning.
    pub at: Duration,
    /// On which node.
    pub node: Arc<str>,
    /// What.
    pub what: What,
}

/// What a handle or a message is called in a history.
pub type Name = Arc<str>;

/// What happened.
///
/// A message goes by its id, or, if it has none, by its payload: scenarios give every message one
/// of its own.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum What {
    /// A sender was given a message.
    SendInvoke {
        /// The sender.
        sender: Name,
        /// The message.
        id: Name,
        /// Where it goes.
        to: Topic,
        /// Whether that is a queue.
        queue: bool,
        /// Its key, for order.
        key: Option<Name>,
        /// How long it is to wait before it is delivered.
        delay: Duration,
    },
    /// A message was confirmed.
    SendOk {
        /// The sender.
        sender: Name,
        /// The message.
        id: Name,
        /// How safe it is, at least.
        level: Level,
    },
    /// A message came back.
    SendErr {
        /// The sender.
        sender: Name,
        /// The message.
        id: Name,
        /// Why.
        kind: ErrorKind,
    },
    /// Somebody wants to receive.
    SubscribeInvoke {
        /// The receiver.
        consumer: Name,
    },
    /// A subscription is live.
    SubscribeOk {
        /// The receiver.
        consumer: Name,
        /// What it receives.
        source: Source,
    },
    /// A message was handed to the application.
    Deliver {
        /// The receiver.
        consumer: Name,
        /// What it receives.
        source: Source,
        /// The message.
        id: Name,
        /// How often it has been handed out, this time included.
        attempt: u32,
        /// How many were missed right before it.
        missed: u64,
        /// Whether the application has to settle it.
        leased: bool,
    },
    /// The application settled a delivery.
    Settle {
        /// The receiver.
        consumer: Name,
        /// The message.
        id: Name,
        /// Which delivery of it.
        attempt: u32,
        /// How.
        how: How,
    },
    /// Everything that a receiver has settled so far is confirmed.
    SettleOk {
        /// The receiver.
        consumer: Name,
    },
    /// Some settlement of a receiver since the last confirmation was in vain.
    SettleErr {
        /// The receiver.
        consumer: Name,
        /// Why.
        kind: ErrorKind,
    },
    /// Something was asked.
    Request {
        /// The question.
        id: Name,
        /// Until when it has to have an outcome.
        deadline: Duration,
    },
    /// A question was answered.
    Reply {
        /// The question.
        id: Name,
        /// The question that the answer says it is for.
        answers: Name,
    },
    /// A question has got no answer and never will.
    NoReply {
        /// The question.
        id: Name,
        /// Why.
        kind: ErrorKind,
    },
    /// A responder begins to do what was asked.
    Execute {
        /// The question.
        id: Name,
    },
    /// A number that has a bound.
    HighWater {
        /// What it counts.
        what: Name,
        /// The number.
        value: u64,
        /// Its bound.
        limit: u64,
    },
    /// The books of a broker.
    Books {
        /// The books.
        ledger: Ledger,
    },
    /// The node died.
    Crash {
        /// Whether its machine died with it, so that nobody was told.
        silent: bool,
    },
    /// The node was started again.
    Restart,
    /// Something was done to the world.
    Fault(String),
    /// Nothing strikes any more.
    Healed,
    /// Whatever a scenario wants to remember.
    Note {
        /// What kind of thing.
        topic: Name,
        /// Which one.
        id: Name,
    },
}

/// How a delivery was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum How {
    /// Done.
    Ack,
    /// To be delivered again.
    Retry,
    /// Never to be delivered again.
    Reject,
    /// Given back unseen.
    Release,
    /// Dropped without a word.
    Dropped,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SendInvoke { sender, id, to, queue, .. } => {
                let place = if *queue { "queue" } else { "topic" };
                write!(f, "{sender} sends {id} to {place} {to}")
            }
            Self::SendOk { sender, id, level } => {
                write!(f, "{sender} has {id} confirmed ({level})")
            }
            Self::SendErr { sender, id, kind } => write!(f, "{sender} gets {id} back ({kind:?})"),
            Self::SubscribeInvoke { consumer } => write!(f, "{consumer} asks to receive"),
            Self::SubscribeOk { consumer, source } => {
                write!(f, "{consumer} receives from {source:?}")
            }
            Self::Deliver { consumer, id, attempt, missed, .. } => {
                write!(f, "{consumer} is handed {id}, attempt {attempt}")?;
                if *missed > 0 { write!(f, ", {missed} missed before") } else { Ok(()) }
            }
            Self::Settle { consumer, id, attempt, how } => {
                write!(f, "{consumer} settles {id}, attempt {attempt}: {how:?}")
            }
            Self::SettleOk { consumer } => write!(f, "{consumer} has its settlements confirmed"),
            Self::SettleErr { consumer, kind } => {
                write!(f, "{consumer} has settled in vain ({kind:?})")
            }
            Self::Request { id, .. } => write!(f, "asks {id}"),
            Self::Reply { id, answers } if id == answers => write!(f, "is answered {id}"),
            Self::Reply { id, answers } => write!(f, "asked {id} and is answered {answers}"),
            Self::NoReply { id, kind } => write!(f, "gets no answer to {id} ({kind:?})"),
            Self::Execute { id } => write!(f, "does what {id} asks"),
            Self::HighWater { what, value, limit } => write!(f, "{what}: {value} of {limit}"),
            Self::Books { ledger } => write!(f, "books: {ledger}"),
            Self::Crash { silent: false } => f.write_str("*** is killed"),
            Self::Crash { silent: true } => f.write_str("*** loses its power"),
            Self::Restart => f.write_str("*** is started again"),
            Self::Fault(text) => write!(f, "*** {text}"),
            Self::Healed => f.write_str("*** nothing strikes any more"),
            Self::Note { topic, id } => write!(f, "{topic}: {id}"),
        }
    }
}

/// Everything that has happened in a world, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History {
    events: Vec<Event>,
}

impl History {
    /// A history of `events`, oldest first: from a simulation, or recorded elsewhere.
    #[must_use]
    pub fn new(events: Vec<Event>) -> Self {
        Self { events }
    }

    /// The events, oldest first.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What happened, oldest first, with its place in the order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &What)> {
        self.events.iter().map(|event| &event.what).enumerate()
    }

    /// The notes of a kind, oldest first: what an application says of itself.
    pub fn notes<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a str> {
        self.events.iter().filter_map(move |event| match &event.what {
            What::Note { topic: kind, id } if &**kind == topic => Some(&**id),
            _ => None,
        })
    }
}

/// Writes into a world's history in the name of a node.
#[derive(Clone)]
pub struct Recorder {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: usize,
}

impl Recorder {
    /// Something has happened.
    pub fn record(&self, what: What) {
        self.shared.with(|state, _| state.record(self.node, what));
    }

    /// Remembers something of a kind, for checks of your own.
    pub fn note(&self, topic: &str, id: impl AsRef<str>) {
        self.record(What::Note { topic: topic.into(), id: id.as_ref().into() });
    }

    /// A responder begins to do what `id` asks.
    pub fn execute(&self, id: impl AsRef<str>) {
        self.record(What::Execute { id: id.as_ref().into() });
    }

    /// A number that has a bound.
    pub fn high_water(&self, what: &str, value: u64, limit: u64) {
        self.record(What::HighWater { what: what.into(), value, limit });
    }

    /// The books of a broker.
    pub fn books(&self, ledger: &Ledger) {
        self.record(What::Books { ledger: ledger.clone() });
    }

    /// Asks: `asking` is a request that is called `id` and has its outcome `within` this time.
    /// `answers` says which question a reply is for.
    pub async fn ask<T>(
        &self,
        id: &str,
        within: Duration,
        asking: impl Future<Output = Result<T, Error>>,
        answers: impl FnOnce(&T) -> String,
    ) -> Result<T, Error> {
        let id: Name = id.into();
        let deadline = self.shared.with(|state, _| state.now) + within;
        self.record(What::Request { id: Arc::clone(&id), deadline });
        let outcome = asking.await;
        self.record(match &outcome {
            Ok(reply) => What::Reply { id, answers: answers(reply).into() },
            Err(error) => What::NoReply { id, kind: error.kind() },
        });
        outcome
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.shared.with(|state, _| state.next_number())
    }

    pub(crate) fn node_name(&self) -> Name {
        self.shared.with(|state, _| Arc::clone(&state.nodes[self.node].name))
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What a message is called in a history.
pub(crate) fn name_of(message: &Message) -> Name {
    const LETTERS: usize = 80;
    match message.id() {
        Some(id) => id.into(),
        None => {
            let text = String::from_utf8_lossy(message.payload());
            text.chars().take(LETTERS).collect::<String>().into()
        }
    }
}
