//! Taking messages and writing them to stdout: what `sub` and `recv` share.

use std::fs::File;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use posthaste::{
    BoxReceiver, Bus, Capability, Delivery, Error, ErrorKind, Lease, Receiver, ReceiverExt,
    Subscription,
};

use crate::connect;
use crate::duration;
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::signals::Signals;

/// How many messages are written, flushed and acknowledged together at most.
const BATCH: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
/// How long a reader of stdout that takes nothing may hold up the end.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// What `sub` and `recv` have in common on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TakeArgs {
    /// End after so many messages (exit 4 if fewer came)
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End after so long a silence, counted from the start and again at each message
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Print one JSON object a line
    ///
    /// It has topic, queue, payload (or payload_base64), headers, key, id, attempt, missed if the
    /// subscription lost messages right before this one, and offset with --from. The values of a header that is there
    /// several times are an array.
    #[arg(long)]
    pub(crate) json: bool,
    /// Create this file once messages can come
    #[arg(long, value_name = "F")]
    pub(crate) ready_file: Option<PathBuf>,
}

impl TakeArgs {
    pub(crate) fn limit(&self, subscription: Subscription) -> Subscription {
        match self.count {
            Some(count) => subscription.limit(count),
            None => subscription,
        }
    }
}

/// Who settles, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Settling {
    /// Acknowledged once the line was written and flushed
    Manual,
    /// Settled when it is handed out: at most once
    Auto,
    /// Left unsettled: delivered again when this program ends
    Never,
}

/// Why it is over.
enum End {
    /// The number of messages that was asked for.
    Counted,
    /// Nothing came for as long as was asked for.
    Silence(Duration),
    /// A signal asked for it.
    Signal,
    /// It broke.
    Failure(Failure),
}

/// Writes what the subscription delivers until it is over.
pub(crate) async fn take(
    bus: &Bus,
    subscription: Subscription,
    settling: Settling,
    args: &TakeArgs,
    output: Output,
) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let reads = subscription.start.is_some();
    let opened = bus.receiver(subscription).await;
    let replays = bus.capabilities().has(Capability::Replay);
    let receiver = opened.map_err(|error| match replays {
        true => refusal(error, reads),
        false => error.into(),
    })?;
    let mut taker = Taker {
        receiver,
        signals,
        output,
        settling,
        leases: Vec::new(),
        seen: 0,
        unconfirmed: false,
        doubt: None,
    };
    let end = match args.ready_file.as_deref().map_or(Ok(()), announce) {
        Ok(()) => taker.run(args).await,
        Err(failure) => End::Failure(failure),
    };
    let seen = taker.seen;
    let closed = taker.close().await;
    connect::goodbye(bus).await;
    let missing = |why: &str| match args.count {
        Some(count) if seen < count => Err(Failure::new(
            Code::TooLate,
            format!("{seen} of {count} messages came before {why}"),
        )),
        _ => Ok(()),
    };
    match end {
        End::Failure(failure) => Err(failure),
        End::Counted => closed,
        End::Silence(silence) => {
            closed.and(missing(&format!("{} of silence", duration::show(silence))))
        }
        End::Signal => closed.and(missing("the signal to end")),
    }
}

/// Why nothing can be taken, and what to do where that is because what retains is read and not consumed.
fn refusal(error: Error, reads: bool) -> Failure {
    let what = match (error.kind(), reads) {
        (ErrorKind::Conflict, true) => "leave --from out",
        (ErrorKind::Conflict, false) => "read it with --from beginning, or another start",
        _ => return error.into(),
    };
    Failure::new(Code::Failed, format!("{error}: {what}"))
}

/// Creates the file that says that messages can come.
pub(crate) fn announce(ready_file: &Path) -> Result<(), Failure> {
    File::create(ready_file).map(drop).map_err(|error| {
        let text = format!("cannot create {}: {error}", ready_file.display());
        Failure::new(Code::Failed, text)
    })
}

struct Taker {
    receiver: BoxReceiver,
    signals: Signals,
    output: Output,
    settling: Settling,
    /// What is never settled. Only the leases: the messages have been written.
    leases: Vec<Lease>,
    seen: u64,
    /// Something was settled since that was confirmed last.
    unconfirmed: bool,
    /// The first settlement that failed.
    doubt: Option<Error>,
}

impl Taker {
    async fn run(&mut self, args: &TakeArgs) -> End {
        let mut batch = Vec::new();
        while args.count.is_none_or(|count| self.seen < count) {
            // A silence without end never ends.
            let silence = args.timeout.unwrap_or(Duration::MAX);
            let Self { receiver, signals, unconfirmed, doubt, .. } = self;
            let next = poll_fn(|cx| poll_next(receiver, &mut batch, unconfirmed, doubt, cx));
            let next = tokio::select! {
                next = tokio::time::timeout(silence, next) => next,
                () = signals.next() => return End::Signal,
            };
            match next {
                Err(_) => return End::Silence(silence),
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => {
                    let text = "the broker ended the subscription: its queue was removed, or the \
                                broker is going away";
                    return End::Failure(Failure::new(Code::Failed, text));
                }
                Ok(Err(error)) if error.kind() == ErrorKind::SlowConsumer => {
                    let text = format!(
                        "{error}; read faster, allow more with --capacity, or choose another \
                         --overflow"
                    );
                    return End::Failure(Failure::new(Code::Failed, text));
                }
                Ok(Err(error)) => return End::Failure(error.into()),
            }
            if let Err(end) = self.write(&mut batch).await {
                return end;
            }
        }
        End::Counted
    }

    /// Writes a batch, and settles what was written. What was not written stays in the batch,
    /// whose end gives it back.
    async fn write(&mut self, batch: &mut Vec<Delivery>) -> Result<(), End> {
        let pushed = batch.iter().try_for_each(|delivery| self.output.push(delivery));
        pushed.map_err(End::Failure)?;
        let mut writing = std::pin::pin!(self.output.flush());
        let (written, signal) = tokio::select! {
            biased;
            written = &mut writing => (Some(written), false),
            () = self.signals.next() => {
                (tokio::time::timeout(LAST_WRITE, writing).await.ok(), true)
            }
        };
        match written {
            Some(Ok(())) => {}
            Some(Err(failure)) => return Err(End::Failure(failure)),
            None => return Err(End::Signal),
        }
        self.seen += batch.len() as u64;
        self.unconfirmed |= self.settling == Settling::Manual;
        for delivery in batch.drain(..) {
            match self.settling {
                Settling::Manual | Settling::Auto => delivery.ack(),
                Settling::Never => self.leases.extend(delivery.into_parts().lease),
            }
        }
        if signal { Err(End::Signal) } else { Ok(()) }
    }

    /// Gives back what is not settled, and waits until what is settled is confirmed.
    async fn close(mut self) -> Result<(), Failure> {
        // An application has seen these, so they are dropped rather than released: the attempt
        // counts.
        self.leases.clear();
        tokio::select! {
            biased;
            closed = self.receiver.close() => match self.doubt.map_or(closed, Err) {
                // Nothing was settled that could come again.
                Err(error) if error.kind() == ErrorKind::SessionLost
                    && self.settling == Settling::Never => Ok(()),
                closed => closed.map_err(Failure::from),
            },
            () = self.signals.next() => Err(Failure::new(
                Code::Failed,
                "interrupted before the acknowledgements were confirmed",
            )),
        }
    }
}

/// The next messages. While there are none, what was settled is confirmed: a broker that goes away later
/// takes nothing with it. What is lost with a session before that comes again, to this very receiver.
fn poll_next(
    receiver: &mut BoxReceiver,
    batch: &mut Vec<Delivery>,
    unconfirmed: &mut bool,
    doubt: &mut Option<Error>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Error>> {
    let next = receiver.poll_recv_many(cx, batch, BATCH);
    if next.is_ready() || !*unconfirmed {
        return next;
    }
    if let Poll::Ready(settled) = receiver.poll_settled(cx) {
        *unconfirmed = false;
        let lost = settled.err().filter(|error| error.kind() != ErrorKind::SessionLost);
        *doubt = doubt.take().or(lost);
    }
    // Asked again, because whoever is ready waits for nothing any more.
    receiver.poll_recv_many(cx, batch, BATCH)
}
