//! What came over a receiving link, by the session's numbers, until it is known that the server has
//! heard what became of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use posthaste_wire::Outcome;

/// So many settlements are told before the server is asked whether it has heard them.
const TOLD_MAX: u64 = 4_096;

/// Every delivery of a receiver that the server may still wait for.
///
/// A settlement that was told may be lost with the connection, so it is kept until the server has
/// answered a later SYNC, and told again when the session goes on over another connection.
#[derive(Debug, Default)]
pub(super) struct Tray {
    /// The number of the first place; 0 before there is any.
    first: u64,
    places: VecDeque<Place>,
    open: u64,
    /// Settlements since the last SYNC that was sent.
    told: u64,
    /// Under which SYNC, of two in turn, settlements fall.
    round: bool,
    /// What is said beside an outcome, for the few where something is.
    beside: BTreeMap<u64, Beside>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is not settled.
    Open,
    /// It is settled, and the SYNC of this round will say whether the server knows.
    Told(Outcome, bool),
    /// The server knows.
    Known,
}

/// What is said beside an outcome.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    pub(super) after: Option<Duration>,
    pub(super) why: String,
}

/// What became of a delivery that the server tells of again.
pub(super) enum Recalled {
    /// It is still in hand.
    Open,
    /// It was settled.
    Settled(Outcome, Beside),
}

impl Tray {
    /// So many more have come, the first of them of this number.
    pub(super) fn arrived(&mut self, number: u64, count: u32) {
        if self.places.is_empty() {
            self.first = number;
        }
        self.places.extend((0..count).map(|_| Place::Open));
        self.open += u64::from(count);
    }

    /// How many are not settled.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Whether the server may wait for something that is here.
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many are here, those included that the server knows of and that others hold up.
    pub(super) fn len(&self) -> u64 {
        wide(self.places.len())
    }

    /// Whether so much was settled that the server should be asked what it knows.
    pub(super) fn is_long(&self) -> bool {
        self.told >= TOLD_MAX
    }

    /// Settles one; false if it is not open.
    pub(super) fn settle(
        &mut self,
        number: u64,
        outcome: Outcome,
        after: Option<Duration>,
        why: &str,
    ) -> bool {
        let round = self.round;
        let Some(place) = self.place(number).filter(|place| **place == Place::Open) else {
            return false;
        };
        *place = Place::Told(outcome, round);
        self.open -= 1;
        self.told += 1;
        if after.is_some() || !why.is_empty() {
            self.beside.insert(number, Beside { after, why: why.to_owned() });
        }
        true
    }

    /// Settles all that are open of a range.
    pub(super) fn settle_range(&mut self, first: u64, last: u64, outcome: Outcome) {
        for number in first..=last {
            self.settle(number, outcome, None, "");
        }
    }

    /// A SYNC is sent: what is settled from now on falls under the next one.
    pub(super) fn ask(&mut self) {
        self.round = !self.round;
        self.told = 0;
    }

    /// The SYNC is answered: the server knows everything that was settled before it.
    pub(super) fn answered(&mut self) {
        let (asked, first) = (!self.round, self.first);
        for (at, place) in self.places.iter_mut().enumerate() {
            if matches!(place, Place::Told(_, round) if *round == asked) {
                *place = Place::Known;
                self.beside.remove(&(first + wide(at)));
            }
        }
        while self.places.front() == Some(&Place::Known) {
            self.places.pop_front();
            self.first += 1;
        }
    }

    /// The connection is lost, and an answer with it: the next SYNC asks about everything.
    pub(super) fn unanswered(&mut self) {
        let round = self.round;
        for place in &mut self.places {
            if let Place::Told(_, of) = place {
                *of = round;
            }
        }
    }

    /// What became of one that the server still waits for.
    pub(super) fn recall(&mut self, number: u64) -> Recalled {
        match self.place(number).copied() {
            Some(Place::Open) => Recalled::Open,
            Some(Place::Told(outcome, _)) => {
                let beside = self.beside.get(&number).cloned().unwrap_or_default();
                Recalled::Settled(outcome, beside)
            }
            // The server has said that it knows this one; whatever it means, nobody has it in hand.
            Some(Place::Known) | None => Recalled::Settled(Outcome::Dropped, Beside::default()),
        }
    }

    fn place(&mut self, number: u64) -> Option<&mut Place> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.places.get_mut(at)
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: u64) -> Tray {
        let mut tray = Tray::default();
        (1..=count).for_each(|number| tray.arrived(number, 1));
        tray
    }

    fn is_settled(tray: &mut Tray, number: u64, as_what: Outcome) -> bool {
        matches!(tray.recall(number), Recalled::Settled(outcome, _) if outcome == as_what)
    }

    #[test]
    fn what_was_settled_is_kept_until_the_server_knows() {
        let mut tray = filled(3);
        assert!(tray.settle(2, Outcome::Retry, Some(Duration::from_secs(1)), "not now"));
        assert!(!tray.settle(2, Outcome::Ack, None, ""));
        tray.ask();
        assert!(tray.settle(1, Outcome::Ack, None, ""));
        match tray.recall(2) {
            Recalled::Settled(Outcome::Retry, beside) => {
                assert_eq!(beside.after, Some(Duration::from_secs(1)));
                assert_eq!(beside.why, "not now");
            }
            _ => panic!("it was settled"),
        }
        tray.answered();
        assert!(tray.beside.is_empty());
        assert!(is_settled(&mut tray, 1, Outcome::Ack));
        assert!(matches!(tray.recall(3), Recalled::Open));
        tray.ask();
        tray.answered();
        assert_eq!((tray.first, tray.places.len(), tray.open()), (3, 1, 1));
    }

    #[test]
    fn an_answer_that_was_lost_is_asked_for_again_with_all_that_came_since() {
        let mut tray = filled(2);
        tray.settle(1, Outcome::Ack, None, "");
        tray.ask();
        tray.settle(2, Outcome::Ack, None, "");
        tray.unanswered();
        assert!(is_settled(&mut tray, 1, Outcome::Ack));
        tray.ask();
        tray.answered();
        assert!(tray.is_empty());
    }

    #[test]
    fn many_settlements_are_a_reason_to_ask() {
        let mut tray = filled(TOLD_MAX);
        tray.settle_range(1, TOLD_MAX, Outcome::Ack);
        assert!(tray.is_long());
        tray.ask();
        assert!(!tray.is_long());
    }
}
