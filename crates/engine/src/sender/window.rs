//! The messages of a sender between being taken and having their outcome.

use std::collections::VecDeque;
use std::task::Waker;

use posthaste_core::{Error, ErrorKind, Level, Message, Receipt, Returned, SenderOptions, Seq};

use crate::Confirmed;

/// What a sender has taken, in order, bounded in messages and bytes.
pub(crate) struct Window {
    /// The messages from `first` on that are not decided, or that wait for an earlier one.
    places: VecDeque<Place>,
    /// The number of the front of `places`.
    first: u64,
    /// How many of `places`, from the front, were handed to the client.
    handed: usize,
    bytes: usize,
    messages_max: usize,
    bytes_max: usize,
    confirm: Option<Level>,
    receipt: Receipt,
    returned: VecDeque<Returned>,
    /// The sender is gone, or takes nothing any more.
    pub(super) closed: bool,
    /// The client takes nothing any more.
    pub(super) draining: bool,
    /// Why the task ended before its time.
    failed: Option<Error>,
    /// Who waits for room.
    pub(super) sender: Option<Waker>,
    /// Who waits for the outcomes of everything up to `awaited`.
    pub(super) flusher: Option<Waker>,
    pub(super) awaited: Seq,
    /// Who waits for the end of everything.
    pub(super) drainer: Option<Waker>,
    /// The task, while it waits for messages.
    pub(super) task: Option<Waker>,
    /// Outcomes came in since wakers were looked at.
    decided: bool,
}

struct Place {
    message: Message,
    size: usize,
    outcome: Option<Result<Confirmed, Error>>,
}

impl Window {
    pub(super) fn new(options: &SenderOptions) -> Self {
        Self {
            places: VecDeque::new(),
            first: Seq::FIRST.get(),
            handed: 0,
            bytes: 0,
            messages_max: options.window_messages,
            bytes_max: options.window_bytes,
            confirm: options.confirm,
            receipt: Receipt::empty(Seq::default()),
            returned: VecDeque::new(),
            closed: false,
            draining: false,
            failed: None,
            sender: None,
            flusher: None,
            awaited: Seq::default(),
            drainer: None,
            task: None,
            decided: false,
        }
    }

    /// Why nothing is taken any more, if the task has ended.
    pub(super) fn failure(&self) -> Option<Error> {
        let closed = || self.draining.then(|| Error::closed("the client, which drains,"));
        self.failed.clone().or_else(closed)
    }

    /// Whether a message of this size finds room; a larger one does when nothing else waits.
    pub(super) fn has_room(&self, size: usize) -> bool {
        let fits = self.bytes.saturating_add(size) <= self.bytes_max;
        self.places.is_empty() || (self.places.len() < self.messages_max && fits)
    }

    pub(super) fn take(&mut self, message: Message, size: usize) -> Seq {
        self.places.push_back(Place { message, size, outcome: None });
        self.bytes += size;
        Seq::new(self.first + self.places.len() as u64 - 1)
    }

    /// The next messages that the client has not been handed, with the number of the first.
    pub(super) fn next_batch(&mut self, into: &mut Vec<Message>) -> u64 {
        let from = self.first + self.handed as u64;
        into.extend(self.places.range(self.handed..).map(|place| place.message.clone()));
        self.handed = self.places.len();
        from
    }

    /// Whether everything up to `upto`, of what was taken, has its outcome.
    pub(super) fn is_decided(&self, upto: Seq) -> bool {
        self.places.is_empty() || upto.get() < self.first
    }

    /// Notes what became of one message, and how many have been confirmed and returned by that.
    pub(super) fn decide(&mut self, seq: u64, outcome: Result<Confirmed, Error>) -> (u64, u64) {
        let at = seq.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(place) = at.and_then(|at| self.places.get_mut(at))
            && place.outcome.is_none()
        {
            place.outcome = Some(self.confirm.map_or(outcome.clone(), |level| {
                outcome.and_then(|confirmed| reached(confirmed, level))
            }));
        }
        self.settle_front()
    }

    /// Whatever has no outcome yet is not known to have arrived.
    pub(super) fn fail(&mut self, error: &Error) -> (u64, u64) {
        for (at, place) in self.places.iter_mut().enumerate() {
            let unsent = at >= self.handed;
            let kind = if unsent { error.kind() } else { ErrorKind::Unknown };
            let outcome = || Err(Error::new(kind, error.to_string()));
            place.outcome.get_or_insert_with(outcome);
        }
        self.failed = Some(error.clone());
        self.settle_front()
    }

    fn settle_front(&mut self) -> (u64, u64) {
        let (mut confirmed, mut returned) = (0, 0);
        while self.places.front().is_some_and(|place| place.outcome.is_some())
            && let Some(place) = self.places.pop_front()
        {
            let seq = Seq::new(self.first);
            self.first += 1;
            self.handed = self.handed.saturating_sub(1);
            self.bytes -= place.size;
            self.receipt.upto = seq;
            match place.outcome {
                Some(Ok(Confirmed { matched, level, nodes })) => {
                    self.receipt.confirm(1, matched, level, nodes);
                    confirmed += 1;
                }
                Some(Err(error)) => {
                    self.receipt.returned += 1;
                    self.returned.push_back(Returned { seq, message: place.message, error });
                    returned += 1;
                }
                None => {}
            }
        }
        self.decided |= confirmed + returned > 0;
        (confirmed, returned)
    }

    pub(super) fn take_receipt(&mut self) -> Receipt {
        let upto = self.receipt.upto;
        std::mem::replace(&mut self.receipt, Receipt::empty(upto))
    }

    pub(super) fn take_returned(&mut self, from: Seq) -> Option<Returned> {
        let at = self.returned.iter().position(|this| this.seq >= from)?;
        self.returned.remove(at)
    }

    /// Whether the task has something to do.
    pub(super) fn is_due(&self) -> bool {
        self.handed < self.places.len() || self.closed
    }

    /// Whether there is so much room that whoever waits for some is woken: an eighth, because one
    /// message at a time costs a wake for each.
    fn has_room_again(&self) -> bool {
        self.places.len() <= self.messages_max - self.messages_max.div_ceil(8)
            && self.bytes <= self.bytes_max - self.bytes_max / 8
    }

    /// Who has to be woken for what has changed.
    pub(super) fn due_wakers(&mut self) -> [Option<Waker>; 4] {
        let task = self.is_due().then(|| self.task.take()).flatten();
        if !std::mem::take(&mut self.decided) {
            return [task, None, None, None];
        }
        let decided = self.is_decided(self.awaited);
        let may_send = self.has_room_again() || self.failed.is_some() || self.draining;
        [
            task,
            if may_send { self.sender.take() } else { None },
            if decided { self.flusher.take() } else { None },
            self.drainer.take(),
        ]
    }
}

/// The confirmation, if it reaches the level that was asked for.
fn reached(confirmed: Confirmed, level: Level) -> Result<Confirmed, Error> {
    if confirmed.level >= level {
        return Ok(confirmed);
    }
    let text = format!("the level {level} was asked for and {} was reached", confirmed.level);
    Err(Error::new(ErrorKind::Unconfirmed, text))
}
