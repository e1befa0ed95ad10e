//! How a delivery's number on the current connection follows from its number in the session, and
//! back.
//!
//! The protocol counts the messages of a link from 1, on every connection anew. A session that goes
//! on over another connection keeps its own numbers: those of deliveries that were not settled when
//! the connection was lost are told first, by messages without a head; what is new follows.

/// The numbers of one link on one connection.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    /// The session's numbers that the connection's numbers 1, 2, 3, ... stand for.
    carried: Vec<u64>,
    /// The session's number of the last message before this connection.
    base: u64,
}

impl Numbering {
    /// Of a connection that goes on after `base`.
    pub(crate) fn after(base: u64, carried: Vec<u64>) -> Self {
        Self { carried, base }
    }

    /// One more number stands for an earlier delivery. They are told in order.
    pub(crate) fn carry(&mut self, number: u64) {
        self.carried.push(number);
    }

    /// The session's number of the connection's.
    pub(crate) fn in_session(&self, on_wire: u64) -> u64 {
        let carried = wide(self.carried.len());
        match on_wire.checked_sub(carried) {
            None | Some(0) => at(on_wire).and_then(|at| self.carried.get(at)).copied().unwrap_or(0),
            Some(new) => self.base.saturating_add(new),
        }
    }

    /// The connection's number of the session's; `None` if it was not told on this connection.
    pub(crate) fn on_wire(&self, in_session: u64) -> Option<u64> {
        match in_session.checked_sub(self.base) {
            None | Some(0) => {
                let at = self.carried.binary_search(&in_session).ok()?;
                Some(wide(at) + 1)
            }
            Some(new) => Some(wide(self.carried.len()) + new),
        }
    }

    /// The session's numbers of a range of the connection's, as ranges of their own.
    pub(crate) fn ranges(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let carried = wide(self.carried.len());
        let old = (first..=last.min(carried)).map(|number| {
            let number = self.in_session(number);
            (number, number)
        });
        let new = (last > carried)
            .then(|| (self.in_session(first.max(carried + 1)), self.in_session(last)));
        old.chain(new)
    }
}

fn at(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_there_and_back() {
        let numbering = Numbering::after(10, vec![3, 7, 8]);
        for (on_wire, in_session) in [(1, 3), (2, 7), (3, 8), (4, 11), (5, 12)] {
            assert_eq!(numbering.in_session(on_wire), in_session);
            assert_eq!(numbering.on_wire(in_session), Some(on_wire));
        }
        assert_eq!(numbering.on_wire(4), None);
        assert_eq!(numbering.on_wire(10), None);
    }

    #[test]
    fn a_range_falls_into_what_was_carried_and_what_is_new() {
        let numbering = Numbering::after(10, vec![3, 7]);
        let ranges = |first, last| numbering.ranges(first, last).collect::<Vec<_>>();
        assert_eq!(ranges(1, 5), [(3, 3), (7, 7), (11, 13)]);
        assert_eq!(ranges(2, 2), [(7, 7)]);
        assert_eq!(ranges(4, 9), [(12, 17)]);
        assert_eq!(Numbering::default().ranges(2, 6).collect::<Vec<_>>(), [(2, 6)]);
    }
}
