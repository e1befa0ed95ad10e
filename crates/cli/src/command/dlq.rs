//! `posthaste dlq`: what is in a dead-letter queue, why, and the way back.

use clap::{Args, Subcommand};
use posthaste::{Browsed, Bus, Death, Reconnect, Topic};
use serde::Serialize;

use crate::args::{BrokerArgs, topic};
use crate::exit::{Code, Failure, note};
use crate::output::{Headers, as_text, base64, print_line, printable};
use crate::record::json;
use crate::{connect, table, timestamp};

/// How many letters are asked for at a time.
const PAGE: usize = 256;

/// Look at dead letters, and send them back to where they died
#[derive(Debug, Args)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the dead letters in a queue, oldest first (--json: an array)
    Ls {
        /// The dead-letter queue
        queue: String,
        /// List the first N at most
        #[arg(long, value_name = "N")]
        count: Option<usize>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Show dead letters with the history of their deaths (--json: one object a line)
    Show {
        /// The dead-letter queue
        queue: String,
        /// The one at this position, or with this message id; all of them without
        #[arg(value_name = "POSITION|ID")]
        which: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        broker: BrokerArgs,
    },
    /// Move dead letters back to the queues in which they died, and print `replayed N kept M`
    Replay {
        /// The dead-letter queue
        queue: String,
        /// Replay the first N at most
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        #[command(flatten)]
        broker: BrokerArgs,
    },
}

pub(crate) async fn run(args: DlqArgs) -> Result<(), Failure> {
    match args.verb {
        Verb::Ls { queue, count, json: as_json, broker } => {
            let (bus, queue) = connect(&broker, &queue).await?;
            let mut pages = Pages::of(&bus, queue);
            let mut letters = Vec::new();
            let count = count.unwrap_or(usize::MAX);
            while letters.len() < count
                && let Some(page) = pages.next(count - letters.len()).await?
            {
                letters.extend(page.iter().map(Summary::of));
            }
            match as_json {
                true => print_line(&json(&letters)?)?,
                false => print_line(&rows(&letters))?,
            }
            connect::goodbye(&bus).await;
        }
        Verb::Show { queue, which, json: as_json, broker } => {
            let (bus, queue) = connect(&broker, &queue).await?;
            let mut pages = Pages::of(&bus, queue.clone());
            let mut shown = 0_u64;
            while let Some(page) = pages.next(usize::MAX).await? {
                for letter in page.iter().filter(|this| is_meant(this, which.as_deref())) {
                    if !as_json && shown > 0 {
                        print_line("")?;
                    }
                    print_line(&match as_json {
                        true => json(&Record::of(letter))?,
                        false => lines(letter),
                    })?;
                    shown += 1;
                }
            }
            connect::goodbye(&bus).await;
            if let Some(which) = which.filter(|_| shown == 0) {
                let text =
                    format!("the queue {queue} has no message at position or with id {which}");
                return Err(Failure::new(Code::Failed, text));
            }
        }
        Verb::Replay { queue, count, broker } => {
            let (bus, queue) = connect(&broker, &queue).await?;
            let replayed = bus.broker().replay(&queue, count.unwrap_or(u64::MAX)).await?;
            print_line(&format!("replayed {} kept {}", replayed.moved, replayed.kept))?;
            if let Some(why) = replayed.why {
                note(&format!("kept: {}", printable(&why)));
            }
            connect::goodbye(&bus).await;
        }
    }
    Ok(())
}

async fn connect(broker: &BrokerArgs, queue: &str) -> Result<(Bus, Topic), Failure> {
    let queue = topic(queue)?;
    Ok((connect::connect(broker, Reconnect::Never).await?, queue))
}

/// The messages of a queue, page by page.
struct Pages<'a> {
    bus: &'a Bus,
    queue: Topic,
    /// The position of the last message so far.
    after: Option<u64>,
}

impl<'a> Pages<'a> {
    fn of(bus: &'a Bus, queue: Topic) -> Self {
        Self { bus, queue, after: None }
    }

    /// The next messages, `limit` at most; `None` is the end.
    async fn next(&mut self, limit: usize) -> Result<Option<Vec<Browsed>>, Failure> {
        let page = self.bus.broker().browse(&self.queue, self.after, limit.min(PAGE)).await?;
        self.after = page.last().map_or(self.after, |last| Some(last.position));
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}

fn is_meant(letter: &Browsed, which: Option<&str>) -> bool {
    which.is_none_or(|which| {
        letter.message.id() == Some(which) || which.parse() == Ok(letter.position)
    })
}

/// A dead letter at a glance.
#[derive(Debug, Serialize)]
struct Summary {
    position: u64,
    id: Option<String>,
    key: Option<String>,
    /// The queue in which it died last.
    died_in: Option<String>,
    /// How often it was handed out there.
    attempts: Option<u32>,
    /// Why the last of its attempts failed.
    reason: Option<String>,
    /// When it died.
    at: Option<String>,
}

impl Summary {
    fn of(letter: &Browsed) -> Self {
        let death = letter.message.deaths().last();
        let death = death.as_ref();
        Self {
            position: letter.position,
            id: letter.message.id().map(str::to_owned),
            key: letter.message.key().map(str::to_owned),
            died_in: death.map(|death| death.queue.to_string()),
            attempts: death.map(|death| death.attempts),
            reason: death.and_then(|death| death.reasons.last().cloned()),
            at: death.map(|death| timestamp::show(death.at)),
        }
    }
}

fn rows(letters: &[Summary]) -> String {
    let headings = ["position", "id", "key", "died in", "attempts", "reason", "at"];
    let cell = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
    let rows: Vec<_> = letters
        .iter()
        .map(|letter| {
            vec![
                letter.position.to_string(),
                cell(&letter.id),
                cell(&letter.key),
                cell(&letter.died_in),
                cell(&letter.attempts.map(|attempts| attempts.to_string())),
                cell(&letter.reason),
                cell(&letter.at),
            ]
        })
        .collect();
    table::render(&headings, &rows)
}

/// Everything about a dead letter.
#[derive(Debug, Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    summary: Summary,
    topic: String,
    headers: Headers<'a>,
    /// Whether it is handed out to a consumer of the dead-letter queue now.
    unsettled: bool,
    payload_bytes: u64,
    /// The beginning of the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    deaths: Vec<DeathRecord>,
}

#[derive(Debug, Serialize)]
struct DeathRecord {
    queue: String,
    attempts: u32,
    at: String,
    reasons: Vec<String>,
}

impl<'a> Record<'a> {
    fn of(letter: &'a Browsed) -> Self {
        let message = &letter.message;
        let text = preview(letter);
        Self {
            summary: Summary::of(letter),
            topic: message.topic().to_string(),
            headers: Headers(message.headers().collect()),
            unsettled: letter.unsettled,
            payload_bytes: letter.payload_bytes,
            payload: text,
            payload_base64: text.is_none().then(|| base64(message.payload())),
            deaths: message.deaths().map(DeathRecord::of).collect(),
        }
    }
}

impl DeathRecord {
    fn of(death: Death) -> Self {
        Self {
            queue: death.queue.to_string(),
            attempts: death.attempts,
            at: timestamp::show(death.at),
            reasons: death.reasons,
        }
    }
}

/// What there is of the payload, if that is text.
fn preview(letter: &Browsed) -> Option<&str> {
    let shown = letter.message.payload();
    as_text(shown, (shown.len() as u64) < letter.payload_bytes)
}

fn lines(letter: &Browsed) -> String {
    let message = &letter.message;
    let shown = message.payload();
    let mut size = format!("{} bytes", letter.payload_bytes);
    if (shown.len() as u64) < letter.payload_bytes {
        size += &format!(", of which these are the first {}", shown.len());
    }
    let payload = preview(letter).map(str::to_owned).unwrap_or_else(|| {
        size += ", in base64";
        base64(shown)
    });
    let mut lines = vec![
        ("position", letter.position.to_string()),
        ("topic", message.topic().to_string()),
        ("id", message.id().unwrap_or("-").to_owned()),
        ("key", message.key().unwrap_or("-").to_owned()),
    ];
    lines.extend(message.headers().map(|(name, value)| ("header", format!("{name}={value}"))));
    if letter.unsettled {
        lines.push(("handed out", "now".to_owned()));
    }
    for death in message.deaths() {
        let Death { queue, attempts, at, reasons, .. } = death;
        let times = if attempts == 1 { "attempt" } else { "attempts" };
        let at = timestamp::show(at);
        lines.push(("died", format!("in {queue} after {attempts} {times}, {at}")));
        lines.extend(reasons.into_iter().map(|reason| ("", reason)));
    }
    lines.extend([("payload", size), ("", payload)]);
    let lines = lines
        .iter()
        .map(|(name, value)| format!("{name:<10}  {}", printable(value)).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}
