//! What was acknowledged and is not confirmed: what the loss of a session leaves in doubt.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use posthaste_core::{Delivery, Error, ErrorKind, Message};

use crate::forward::BATCH;

/// How many messages that are not in doubt show that what was has come by: more than a source that is
/// killed can have handed out before.
const OTHERS_MAX: usize = 8 * BATCH;

/// Which messages are acknowledged at the source, as far as that is not confirmed.
///
/// A source that is killed at that moment hands out again what it had not stored, and not what it had. So
/// they are remembered by what they are, to count each of them once.
#[derive(Debug, Default)]
pub(crate) struct Unconfirmed {
    /// Acknowledged since that was confirmed last.
    acked: Vec<u64>,
    /// Acknowledged to a session that was lost, and not come again since.
    doubted: BTreeMap<u64, Doubted>,
    /// How many others have come since then.
    others: usize,
    /// How many were known again that may just as well be others that are the same.
    ambiguous: u64,
    /// The first settlement that failed in another way.
    failed: Option<Error>,
}

/// Messages that are the same.
#[derive(Debug, Default)]
struct Doubted {
    left: u64,
    of: u64,
}

impl Unconfirmed {
    /// This is about to be acknowledged; whether it was before, to a session that was lost.
    pub(crate) fn ack(&mut self, delivery: &Delivery) -> bool {
        if !delivery.is_leased() {
            return false;
        }
        let kind = kind(delivery.message());
        self.acked.push(kind);
        if self.doubted.is_empty() {
            return false;
        }
        let Entry::Occupied(mut doubted) = self.doubted.entry(kind) else {
            self.others += 1;
            if self.others > OTHERS_MAX {
                self.forget();
            }
            return false;
        };
        doubted.get_mut().left -= 1;
        self.ambiguous += u64::from(doubted.get().of > 1);
        if doubted.get().left == 0 {
            doubted.remove();
        }
        true
    }

    /// Whether this was acknowledged before, to a session that was lost.
    pub(crate) fn is_doubted(&self, delivery: &Delivery) -> bool {
        self.doubted.contains_key(&kind(delivery.message()))
    }

    /// The source has said what became of everything that was acknowledged so far.
    pub(crate) fn settled(&mut self, settled: Result<(), Error>) {
        match settled {
            Ok(()) => self.acked.clear(),
            Err(error) if error.kind() == ErrorKind::SessionLost => {
                self.others = 0;
                for kind in self.acked.drain(..) {
                    let doubted = self.doubted.entry(kind).or_default();
                    doubted.left += 1;
                    doubted.of += 1;
                }
            }
            Err(error) => {
                self.acked.clear();
                self.failed = self.failed.take().or(Some(error));
            }
        }
    }

    /// How many acknowledgements the source has not spoken of.
    pub(crate) fn acked(&self) -> usize {
        self.acked.len()
    }

    /// Whether something that was acknowledged may come again.
    pub(crate) fn has_doubts(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// How many were known again that may just as well be others that are the same.
    pub(crate) fn ambiguous(&self) -> u64 {
        self.ambiguous
    }

    /// Nothing that was acknowledged comes again.
    pub(crate) fn forget(&mut self) {
        self.doubted.clear();
        self.ambiguous = 0;
    }

    /// The first settlement that failed, but for those that were lost with a session.
    pub(crate) fn failed(&mut self) -> Result<(), Error> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

/// What a message is: another one that is the same, or that same one once more.
fn kind(message: &Message) -> u64 {
    let mut kind = DefaultHasher::new();
    message.topic_bytes().hash(&mut kind);
    (message.id(), message.key()).hash(&mut kind);
    message.headers().for_each(|header| header.hash(&mut kind));
    message.payload().hash(&mut kind);
    kind.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use posthaste_core::{Outcome, Settle, Topic};

    use super::*;

    struct Nobody;

    impl Settle for Nobody {
        fn settle(&self, _tag: u64, _outcome: Outcome<'_>) {}
    }

    fn delivery(payload: &'static str) -> Delivery {
        let message = Message::to_queue(Topic::new("jobs").unwrap(), payload);
        Delivery::leased(message, 1, Arc::new(Nobody), 0)
    }

    fn lost() -> Result<(), Error> {
        Err(Error::new(ErrorKind::SessionLost, "it was killed"))
    }

    #[test]
    fn what_a_lost_session_left_in_doubt_is_known_again_once() {
        let mut unconfirmed = Unconfirmed::default();
        assert!(!unconfirmed.ack(&delivery("confirmed")));
        unconfirmed.settled(Ok(()));
        assert!(!unconfirmed.ack(&delivery("doubted")));
        unconfirmed.settled(lost());
        assert!(!unconfirmed.ack(&delivery("confirmed")));
        assert!(unconfirmed.ack(&delivery("doubted")));
        assert!(!unconfirmed.has_doubts());
        assert!(!unconfirmed.ack(&delivery("doubted")));
        // And so it is after each loss.
        unconfirmed.settled(lost());
        assert!(unconfirmed.is_doubted(&delivery("doubted")));
        assert!(unconfirmed.ack(&delivery("doubted")));
        assert_eq!(unconfirmed.ambiguous(), 1, "there were two of them");
    }

    #[test]
    fn what_does_not_come_again_is_forgotten() {
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.ack(&delivery("doubted"));
        unconfirmed.settled(lost());
        for _ in 0..=OTHERS_MAX {
            assert!(unconfirmed.has_doubts());
            unconfirmed.ack(&delivery("another"));
        }
        assert!(!unconfirmed.ack(&delivery("doubted")));
    }

    #[test]
    fn a_settlement_that_fails_in_another_way_is_said() {
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.ack(&delivery("x"));
        unconfirmed.settled(Err(Error::new(ErrorKind::Unknown, "the disk failed")));
        unconfirmed.settled(lost());
        assert!(!unconfirmed.has_doubts());
        assert_eq!(unconfirmed.failed().unwrap_err().kind(), ErrorKind::Unknown);
    }
}
