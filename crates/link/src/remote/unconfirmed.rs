//! The messages of a sender that have no outcome yet, in the order of the link's numbers.

use std::collections::VecDeque;

use bytes::Bytes;
use posthaste_core::{Message, Parts};

/// What waits for its outcome, or has a number that waits for a confirm.
///
/// Most messages differ from the one before in their payloads alone, so that only these are kept
/// of each: a window of small messages stays within the processor's cache.
#[derive(Default)]
pub(super) struct Unconfirmed {
    /// One for each number: the message's payload, unless the message has come back.
    payloads: VecDeque<Option<Bytes>>,
    /// What messages with consecutive numbers have in common, in order.
    batches: VecDeque<Batch>,
    /// How many numbers were taken off the front.
    gone: u64,
}

/// Messages that are alike but for their payloads.
struct Batch {
    /// The place of the first one, counted from the beginning.
    place: u64,
    /// The sender's own number of the first one.
    seq: u64,
    /// As many there are.
    len: u64,
    /// One of them without its payload.
    like: Message,
}

/// A message without an outcome.
pub(super) struct Kept<'a> {
    /// Everything but the payload.
    pub(super) like: &'a Message,
    /// The payload, unless the message has come back.
    pub(super) payload: Option<&'a Bytes>,
}

/// How many messages were taken off, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Unconfirmed {
    pub(super) fn len(&self) -> usize {
        self.payloads.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// The sender's number of the first one.
    pub(super) fn first(&self) -> Option<u64> {
        let batch = self.batches.front()?;
        Some(batch.seq + (self.gone - batch.place))
    }

    /// How many have not come back.
    pub(super) fn messages(&self) -> usize {
        self.payloads.iter().flatten().count()
    }

    /// Adds a message with the sender's number `seq`.
    #[inline]
    pub(super) fn push(&mut self, seq: u64, message: Message) {
        match self.batches.back_mut() {
            Some(last) if last.goes_on(seq, &message) => last.len += 1,
            _ => self.begin(seq, message.without_payload()),
        }
        self.payloads.push_back(Some(message.into_payload()));
    }

    /// Whether a message differs in its payload alone from the last one, which is as simple as
    /// most.
    #[inline]
    pub(super) fn ends_like(&self, message: &Message) -> bool {
        let plain = |like: &Message| like.correlation() == 0 && like.deadline().is_none();
        let like =
            |last: &Batch| message.is_like(&last.like) && plain(message) && plain(&last.like);
        self.batches.back().is_some_and(like)
    }

    /// Adds a message that [is like the last one](Self::ends_like) and has the next number.
    #[inline]
    pub(super) fn extend(&mut self, payload: Bytes) {
        if let Some(last) = self.batches.back_mut() {
            last.len += 1;
            self.payloads.push_back(Some(payload));
        }
    }

    fn begin(&mut self, seq: u64, like: Message) {
        let place = self.gone + wide(self.payloads.len());
        self.batches.push_back(Batch { place, seq, len: 1, like });
    }

    /// The message at `at`, counted from the first one.
    pub(super) fn get(&self, at: usize) -> Option<Kept<'_>> {
        let payload = self.payloads.get(at)?.as_ref();
        let batch = self.batches.get(self.batch_of(at))?;
        Some(Kept { like: &batch.like, payload })
    }

    /// Takes the message at `at` out, with its number, which stays; `None` if it has come back.
    pub(super) fn take(&mut self, at: usize) -> Option<(u64, Message)> {
        let payload = self.payloads.get_mut(at)?.take()?;
        let batch = self.batches.get(self.batch_of(at))?;
        let seq = batch.seq + (self.gone + wide(at) - batch.place);
        Some((seq, with_payload(batch.like.clone(), payload)?))
    }

    /// Forgets the first `count`, and says what of them had not come back.
    pub(super) fn forget(&mut self, count: usize) -> Sum {
        let mut sum = Sum::default();
        let mut left = count.min(self.payloads.len());
        while left > 0
            && let Some(batch) = self.batches.front()
        {
            let there = batch.place + batch.len - self.gone;
            let now = left.min(usize::try_from(there).unwrap_or(usize::MAX));
            let payloads = self.payloads.drain(..now).flatten();
            let (messages, bytes) = payloads
                .fold((0, 0), |(messages, bytes), payload| (messages + 1, bytes + payload.len()));
            sum.messages += messages;
            sum.bytes += bytes + messages * batch.like.size();
            self.gone += wide(now);
            left -= now;
            if wide(now) == there {
                self.batches.pop_front();
            }
        }
        sum
    }

    /// Takes everything out: each number with its message, unless that has come back.
    pub(super) fn take_all(&mut self) -> Vec<(u64, Option<Message>)> {
        let whole = |(seq, like, payload): (u64, _, Option<Bytes>)| {
            (seq, payload.and_then(|payload| with_payload(like, payload)))
        };
        self.take_apart().into_iter().map(whole).collect()
    }

    /// A planted bug: what is to be sent again turns around.
    pub(super) fn turn_around(&mut self) {
        for (seq, like, payload) in self.take_apart().into_iter().rev() {
            self.begin(seq, like);
            self.payloads.push_back(payload);
        }
    }

    /// Takes everything out: numbers, messages without their payloads, and payloads.
    fn take_apart(&mut self) -> Vec<(u64, Message, Option<Bytes>)> {
        let mut payloads = std::mem::take(&mut self.payloads).into_iter();
        let mut all = Vec::with_capacity(payloads.len());
        for batch in std::mem::take(&mut self.batches) {
            let from = self.gone.saturating_sub(batch.place);
            for (seq, payload) in (batch.seq + from..batch.seq + batch.len).zip(&mut payloads) {
                all.push((seq, batch.like.clone(), payload));
            }
        }
        self.gone = 0;
        all
    }

    fn batch_of(&self, at: usize) -> usize {
        let place = self.gone + wide(at);
        self.batches.partition_point(|batch| batch.place <= place).saturating_sub(1)
    }
}

impl Batch {
    /// Whether a message with the number `seq` goes on where it ends.
    #[inline]
    fn goes_on(&self, seq: u64, message: &Message) -> bool {
        seq == self.seq + self.len
            && message.is_like(&self.like)
            && message.correlation() == self.like.correlation()
    }
}

/// The message with its payload.
fn with_payload(like: Message, payload: Bytes) -> Option<Message> {
    // What was whole once is so again.
    Message::from_parts(Parts { payload, ..like.into_parts() }).ok()
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use posthaste_core::Topic;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A message like others with this head, behind a gap in the sender's numbers or not.
        Push {
            head: u8,
            gap: bool,
        },
        Take(usize),
        Forget(usize),
        TurnAround,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..2_u8, prop::bool::weighted(0.1)).prop_map(|(head, gap)| Step::Push { head, gap }),
            2 => (0..20_usize).prop_map(Step::Take),
            3 => (0..8_usize).prop_map(Step::Forget),
            1 => Just(Step::TurnAround),
        ]
    }

    fn message(head: u8, seq: u64) -> Message {
        let topic = Topic::new(["a", "b"][usize::from(head)]).expect("a good topic");
        Message::new(topic, seq.to_string())
    }

    proptest! {
        #[test]
        fn each_number_has_its_own_message_whatever_they_have_in_common(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let (mut kept, mut seq) = (Unconfirmed::default(), 0);
            // What is to be there, plainly: each number, and its message unless that has come back.
            let mut expected: VecDeque<(u64, Option<Message>)> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push { head, gap } => {
                        seq += 1 + u64::from(gap);
                        kept.push(seq, message(head, seq));
                        expected.push_back((seq, Some(message(head, seq))));
                    }
                    Step::Take(at) => {
                        let there = expected.get_mut(at);
                        let there = there.and_then(|(seq, message)| Some((*seq, message.take()?)));
                        prop_assert_eq!(shown(kept.take(at)), shown(there));
                    }
                    Step::Forget(count) => {
                        let gone = expected.drain(..count.min(expected.len()));
                        let gone: Vec<_> = gone.filter_map(|(_, message)| message).collect();
                        let bytes = gone.iter().map(Message::size).sum();
                        prop_assert_eq!(kept.forget(count), Sum { messages: gone.len(), bytes });
                    }
                    Step::TurnAround => {
                        kept.turn_around();
                        expected.make_contiguous().reverse();
                    }
                }
                let messages = expected.iter().filter(|(_, message)| message.is_some()).count();
                prop_assert_eq!((kept.len(), kept.messages()), (expected.len(), messages));
                prop_assert_eq!(kept.is_empty(), expected.is_empty());
                prop_assert_eq!(kept.first(), expected.front().map(|(seq, _)| *seq));
                for (at, (_, message)) in expected.iter().enumerate() {
                    let Kept { like, payload } = kept.get(at).expect("it is there");
                    prop_assert_eq!(payload, message.as_ref().map(Message::payload));
                    if let Some(message) = message {
                        prop_assert!(message.is_like(like));
                    }
                }
            }
            let all = kept.take_all().into_iter().map(|(seq, message)| (seq, shown(message)));
            let expected = expected.into_iter().map(|(seq, message)| (seq, shown(message)));
            prop_assert_eq!(all.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        }
    }

    fn shown<T: std::fmt::Debug>(this: T) -> String {
        format!("{this:?}")
    }
}
