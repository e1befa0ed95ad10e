//! Who takes from a mailbox.

use std::task::Waker;

/// The consumers of a mailbox, in the order of their numbers: mostly one, or a few.
#[derive(Debug, Default)]
pub(crate) struct Consumers(Vec<Consumer>);

#[derive(Debug)]
pub(crate) struct Consumer {
    number: u64,
    pub(crate) unsettled: usize,
    /// The consumer waits for a settlement of its own, because its prefetch is used up.
    pub(crate) stalled: Option<Waker>,
    /// Nobody asks for it, but somebody may again.
    pub(crate) parked: bool,
}

impl Consumers {
    pub(crate) fn insert(&mut self, number: u64) {
        if let Err(place) = self.place(number) {
            let consumer = Consumer { number, unsettled: 0, stalled: None, parked: false };
            self.0.insert(place, consumer);
        }
    }

    pub(crate) fn remove(&mut self, number: u64) -> Option<Consumer> {
        self.place(number).ok().map(|place| self.0.remove(place))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Consumer> {
        let place = self.place(number).ok()?;
        self.0.get_mut(place)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Consumer> {
        self.0.iter_mut()
    }

    /// Whether one waits for a settlement of its own.
    #[inline]
    pub(crate) fn is_anybody_stalled(&self) -> bool {
        self.0.iter().any(|consumer| consumer.stalled.is_some())
    }

    /// How many of them are not parked.
    pub(crate) fn takers(&self) -> usize {
        self.0.iter().filter(|consumer| !consumer.parked).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    fn place(&self, number: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |consumer| consumer.number)
    }
}
