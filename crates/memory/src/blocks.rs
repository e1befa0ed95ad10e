//! Copies in the order of their positions, in blocks of a few: a queue of any length grows and
//! shrinks without moving what it holds, and a whole block is handed over at once.

use std::collections::VecDeque;

use posthaste_core::Message;
use posthaste_core::sync::Mutex;
use posthaste_core::task::lock;

use crate::copies::Entry;

/// How many places a block has.
pub(crate) const BLOCK: usize = 32;

/// How many empty blocks a broker keeps, for whichever mailbox needs one next: 4 MiB.
const SPARE_MAX: usize = 1_024;

/// Some places, the first of which goes out next.
#[derive(Debug, Default)]
struct Block {
    places: VecDeque<Slot>,
    /// The bytes of the copies in it.
    bytes: usize,
}

/// A place.
#[derive(Debug)]
enum Slot {
    Living(Entry),
    /// A copy that was taken out of the middle.
    Gone(u64),
}

/// All places, first in, first out. The first one of all has a copy.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// What goes out next.
    first: Block,
    /// Behind that, full ones.
    middle: VecDeque<Block>,
    /// Where the next one comes in: a list, which is as quick as it gets to append to.
    last: Vec<Slot>,
    last_bytes: usize,
    /// How many places have no copy any more.
    gone: usize,
}

/// Empty blocks, so that a queue that fills and empties over and over allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Vec<Vec<Slot>>>);

impl Spares {
    fn take(&self) -> Vec<Slot> {
        lock(&self.0).pop().unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    fn give(&self, places: VecDeque<Slot>) {
        if places.capacity() < BLOCK {
            return;
        }
        let mut spares = lock(&self.0);
        if spares.len() < SPARE_MAX {
            spares.push(places.into());
        }
    }
}

impl Slot {
    #[inline]
    fn living(self) -> Option<Entry> {
        match self {
            Self::Living(entry) => Some(entry),
            Self::Gone(_) => None,
        }
    }

    /// Takes the copy out of the place, which stays.
    fn take(&mut self) -> Option<Entry> {
        let position = self.position();
        std::mem::replace(self, Self::Gone(position)).living()
    }

    fn position(&self) -> u64 {
        match self {
            Self::Living(entry) => entry.position,
            Self::Gone(position) => *position,
        }
    }

    fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Living(entry) => Some(entry),
            Self::Gone(_) => None,
        }
    }
}

impl Blocks {
    /// Puts a copy of `size` bytes behind all others, which came before it.
    #[inline(always)]
    pub(crate) fn push(&mut self, entry: Entry, size: usize, spares: &Spares) {
        if self.last.len() == self.last.capacity() {
            self.extend(spares);
        }
        self.last_bytes += size;
        self.last.push(Slot::Living(entry));
    }

    /// Makes a place behind the last one.
    #[cold]
    fn extend(&mut self, spares: &Spares) {
        let len = self.last.len();
        if len < BLOCK {
            return self.last.reserve_exact((2 * len).clamp(2, BLOCK) - len);
        }
        let places = std::mem::replace(&mut self.last, spares.take()).into();
        self.middle.push_back(Block { places, bytes: std::mem::take(&mut self.last_bytes) });
    }

    /// How many places the last block has, and the bytes of the copies in it.
    pub(crate) fn last_block(&self) -> (usize, usize) {
        match self.last.is_empty() {
            false => (self.last.len(), self.last_bytes),
            true => self.middle.back().map_or((0, 0), |block| (block.places.len(), block.bytes)),
        }
    }

    /// Takes the last block out if it is not the first one, and `may` go: its copies, in order.
    pub(crate) fn pop_block(
        &mut self,
        may: impl Fn(&Entry) -> bool,
        spares: &Spares,
    ) -> Option<Vec<Entry>> {
        let may = |slot: &Slot| slot.entry().is_none_or(&may);
        let is_first = self.first.places.is_empty()
            && self.middle.len() < if self.last.is_empty() { 2 } else { 1 };
        let slots: VecDeque<Slot> = match self.last.is_empty() {
            _ if is_first => return None,
            false if !self.last.iter().all(may) => return None,
            false => {
                self.last_bytes = 0;
                std::mem::take(&mut self.last).into()
            }
            true if !self.middle.back()?.places.iter().all(may) => return None,
            true => self.middle.pop_back()?.places,
        };
        let places = slots.len();
        let (mut slots, mut entries) = (slots, Vec::with_capacity(places));
        entries.extend(slots.drain(..).filter_map(Slot::living));
        self.gone -= places - entries.len();
        spares.give(slots);
        Some(entries)
    }

    /// Takes the first copy out.
    #[inline]
    pub(crate) fn pop(&mut self, spares: &Spares) -> Option<Entry> {
        if self.first.places.is_empty() && !self.advance(spares) {
            return None;
        }
        let entry = self.first.pop()?;
        if self.gone > 0 {
            self.trim(spares);
        }
        Some(entry)
    }

    /// How many copies may be taken out by [`pop_at_hand`](Self::pop_at_hand).
    pub(crate) fn at_hand(&self) -> u64 {
        if self.gone > 0 { 0 } else { self.first.places.len() as u64 }
    }

    /// Takes the first copy out of what is at hand; its bytes are not counted any more.
    #[inline(always)]
    pub(crate) fn pop_at_hand(&mut self) -> Option<Entry> {
        self.first.places.pop_front()?.living()
    }

    /// Takes out up to `most` of what is at hand; their bytes are not counted any more.
    #[inline]
    pub(crate) fn drain_at_hand(&mut self, most: usize) -> impl Iterator<Item = Entry> {
        let most = usize::try_from(self.at_hand()).unwrap_or(usize::MAX).min(most);
        self.first.places.drain(..most).filter_map(Slot::living)
    }

    /// Moves the first copies, at most a block of them, into `other`, which is empty; how many
    /// those are, and their bytes.
    pub(crate) fn move_block(&mut self, other: &mut Self, spares: &Spares) -> (usize, usize) {
        if self.first.places.is_empty() && !self.advance(spares) {
            return (0, 0);
        }
        std::mem::swap(&mut self.first, &mut other.first);
        if self.gone > 0 {
            other.gone = other.first.places.iter().filter(|slot| slot.entry().is_none()).count();
            self.gone -= other.gone;
            self.trim(spares);
        }
        (other.first.places.len() - other.gone, other.first.bytes)
    }

    /// Drops the places at the front that have no copy.
    #[cold]
    fn trim(&mut self, spares: &Spares) {
        while self.gone > 0 && (!self.first.places.is_empty() || self.advance(spares)) {
            if let Some(Slot::Living(_)) = self.first.places.front() {
                return;
            }
            self.first.places.pop_front();
            self.gone -= 1;
        }
    }

    /// Makes the next block the first one, which is empty; false if there is nothing behind it.
    #[cold]
    fn advance(&mut self, spares: &Spares) -> bool {
        if let Some(next) = self.middle.pop_front() {
            spares.give(std::mem::replace(&mut self.first, next).places);
            return true;
        }
        let empty = std::mem::take(&mut self.first.places).into();
        self.first.places = std::mem::replace(&mut self.last, empty).into();
        self.first.bytes = std::mem::take(&mut self.last_bytes);
        !self.first.places.is_empty()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.places.is_empty() && self.last.is_empty() && self.middle.is_empty()
    }

    /// The position of the first copy.
    pub(crate) fn first_position(&self) -> Option<u64> {
        let behind = || self.middle.front().and_then(|block| block.places.front());
        let first = self.first.places.front().or_else(behind).or_else(|| self.last.first());
        first.map(Slot::position)
    }

    /// The position of the place that came last.
    pub(crate) fn last_position(&self) -> Option<u64> {
        let before = || self.middle.back().unwrap_or(&self.first).places.back();
        self.last.last().or_else(before).map(Slot::position)
    }

    /// The first copy.
    pub(crate) fn first_mut(&mut self) -> Option<&mut Entry> {
        let middle = self.middle.front_mut().and_then(|block| block.places.front_mut());
        match self.first.places.front_mut().or(middle).or_else(|| self.last.first_mut())? {
            Slot::Living(entry) => Some(entry),
            Slot::Gone(_) => None,
        }
    }

    /// Takes the copy at `position` out.
    pub(crate) fn remove(&mut self, position: u64, spares: &Spares) -> Option<Entry> {
        let (slot, bytes) = self.find(position)?;
        let entry = slot.take()?;
        *bytes -= entry.message.size();
        self.gone += 1;
        self.trim(spares);
        if self.gone > BLOCK && self.gone > self.places() / 2 {
            self.compact();
        }
        Some(entry)
    }

    /// Puts a message that is not larger into the place of the one at `position`, which it returns:
    /// one was missed before it, and nobody has had it.
    pub(crate) fn replace(&mut self, position: u64, by: &mut Option<Message>) -> Option<Message> {
        let (slot, bytes) = self.find(position)?;
        let Slot::Living(entry) = slot else { return None };
        let (size, most) = (by.as_ref()?.size(), entry.message.size());
        if size > most || entry.attempts > 0 {
            return None;
        }
        *bytes -= most - size;
        entry.missed = entry.missed.saturating_add(1);
        Some(std::mem::replace(&mut entry.message, by.take()?))
    }

    /// The place of a position, and the bytes of the copies in its block.
    fn find(&mut self, position: u64) -> Option<(&mut Slot, &mut usize)> {
        let before = |slot: &Slot| slot.position() <= position;
        if self.last.first().is_some_and(before) {
            let at = self.last.binary_search_by_key(&position, Slot::position).ok()?;
            return Some((self.last.get_mut(at)?, &mut self.last_bytes));
        }
        let begins_before = |block: &Block| block.places.front().is_some_and(before);
        let Block { places, bytes } = match self.middle.partition_point(begins_before) {
            0 => &mut self.first,
            behind => self.middle.get_mut(behind - 1)?,
        };
        let at = places.binary_search_by_key(&position, Slot::position).ok()?;
        Some((places.get_mut(at)?, bytes))
    }

    /// Shows all copies; what is changed of them is not their size.
    pub(crate) fn each_mut(&mut self, show: &mut impl FnMut(&mut Entry)) {
        let blocks = std::iter::once(&mut self.first).chain(&mut self.middle);
        let slots = blocks.flat_map(|block| &mut block.places).chain(&mut self.last);
        for slot in slots {
            if let Slot::Living(entry) = slot {
                show(entry);
            }
        }
    }

    fn places(&self) -> usize {
        self.first.places.len() + self.middle.len() * BLOCK + self.last.len()
    }

    /// Drops the places that have no copy.
    fn compact(&mut self) {
        let living = |slot: &Slot| slot.entry().is_some();
        let blocks = self.middle.iter_mut().chain([&mut self.first]);
        blocks.for_each(|block| block.places.retain(living));
        self.last.retain(living);
        self.middle.retain(|block| !block.places.is_empty());
        self.gone = 0;
    }

    /// The copies from position `from` on.
    pub(crate) fn range(&self, from: u64) -> impl Iterator<Item = &Entry> {
        let before = move |slot: &Slot| slot.position() < from;
        let ends_before = |block: &Block| block.places.back().is_none_or(before);
        let middle = self.middle.range(self.middle.partition_point(ends_before)..);
        let blocks = std::iter::once(&self.first)
            .chain(middle)
            .flat_map(move |block| block.places.range(block.places.partition_point(before)..));
        let last = &self.last[self.last.partition_point(before)..];
        blocks.chain(last).filter_map(Slot::entry)
    }
}

impl Block {
    #[inline(always)]
    fn pop(&mut self) -> Option<Entry> {
        let entry = self.places.pop_front()?.living()?;
        self.bytes -= entry.message.size();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use posthaste_core::Topic;

    use super::*;

    fn put(blocks: &mut Blocks, position: u64, spares: &Spares) {
        let topic = Topic::new("a").expect("valid");
        let entry = Entry::new(Message::new(topic, position.to_string()), position, 0);
        let size = entry.message.size();
        blocks.push(entry, size, spares);
    }

    fn bytes(blocks: &Blocks) -> usize {
        blocks.range(0).map(|entry| entry.message.size()).sum()
    }

    fn positions(blocks: &Blocks, from: u64) -> Vec<u64> {
        blocks.range(from).map(|entry| entry.position).collect()
    }

    #[test]
    fn whatever_is_taken_out_the_rest_stays_in_order() {
        for step in [1, 2, 3, 31, 32, 33, 100] {
            let (mut blocks, spares) = (Blocks::default(), Spares::default());
            let mut there = BTreeSet::new();
            for position in 0..300 {
                put(&mut blocks, 2 * position, &spares);
                there.insert(2 * position);
                if position % 7 == 0 {
                    let popped = blocks.pop(&spares).map(|entry| entry.position);
                    assert_eq!(popped, there.pop_first());
                }
            }
            for position in (0..600).step_by(step) {
                let removed = blocks.remove(position, &spares).map(|entry| entry.position);
                assert_eq!(removed, there.take(&position), "{position} of every {step}");
                assert_eq!(blocks.first_mut().map(|entry| entry.position), there.first().copied());
            }
            for from in [0, 1, 63, 64, 65, 599, 600] {
                let expected: Vec<u64> = there.range(from..).copied().collect();
                assert_eq!(positions(&blocks, from), expected, "from {from}, every {step}");
            }
            while !blocks.is_empty() {
                let mut block = Blocks::default();
                let (count, size) = blocks.move_block(&mut block, &spares);
                assert_eq!((count, size), (block.range(0).count(), bytes(&block)));
                while let Some(entry) = block.pop(&spares) {
                    assert_eq!(Some(entry.position), there.pop_first());
                }
                assert!(block.is_empty());
            }
            assert!(there.is_empty() && blocks.first_position().is_none());
        }
    }

    #[test]
    fn the_last_ones_go_block_by_block_as_long_as_they_may() {
        let (mut blocks, spares) = (Blocks::default(), Spares::default());
        (0..200).for_each(|position| put(&mut blocks, position, &spares));
        let mut one = Blocks::default();
        (0..20).for_each(|position| put(&mut one, position, &spares));
        assert!(one.pop_block(|_| true, &spares).is_none(), "nothing is in front of them");
        blocks.pop(&spares);
        blocks.remove(130, &spares).expect("it is there");
        let mut left = 200;
        while let Some(block) = blocks.pop_block(|entry| entry.position != 70, &spares) {
            let popped: Vec<_> = block.iter().map(|entry| entry.position).collect();
            let from = popped[0];
            let expected: Vec<_> = (from..left).filter(|position| *position != 130).collect();
            assert_eq!(popped, expected);
            left = from;
        }
        assert_eq!((left, blocks.gone), (96, 0));
        assert_eq!(positions(&blocks, 0), (1..96).collect::<Vec<_>>());
        (96..300).for_each(|position| put(&mut blocks, position, &spares));
        assert_eq!(positions(&blocks, 0), (1..300).collect::<Vec<_>>());
        assert_eq!(blocks.first.bytes, bytes_of(&blocks.first));
        while blocks.pop(&spares).is_some() {}
        assert!(blocks.is_empty());
    }

    fn bytes_of(block: &Block) -> usize {
        block.places.iter().filter_map(Slot::entry).map(|entry| entry.message.size()).sum()
    }

    #[test]
    fn what_is_taken_out_of_the_middle_leaves_little_behind() {
        let (mut blocks, spares) = (Blocks::default(), Spares::default());
        for position in 0..10_000 {
            put(&mut blocks, position, &spares);
        }
        for position in 1..10_000 {
            blocks.remove(position, &spares).expect("it is there");
        }
        assert!(blocks.places() <= 3 * BLOCK, "{} places for one", blocks.places());
        assert_eq!(positions(&blocks, 0), [0]);
    }
}
