//! Copies that are ready to be handed out: a lane for each priority, each in the order of positions.
//! Of a durable queue some may be in the store alone; those in memory behind them wait for their turn.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::sync::Arc;
use std::time::Duration;

use posthaste_core::Message;

use crate::blocks::{BLOCK, Blocks};
use crate::copies::Entry;
use crate::home::Home;
use crate::store::{Paged, Pages};

/// How many of those that are in the store alone expire at a time; the others right behind.
const EXPIRED_AT_ONCE: usize = 1_024;

/// How many copies in memory are left to the store at a time.
const PAGED_AT_ONCE: usize = 1_024;

/// What a message takes in memory beside its content, by and large.
const OVERHEAD: usize = 256;

/// The lanes, and the bytes in them.
#[derive(Debug)]
pub(crate) struct Lanes {
    home: Arc<Home>,
    plain: Lane,
    /// By priority from 1 on, where there are such; the last one goes first.
    urgent: Option<Box<[Lane; 3]>>,
    /// Those of no priority that are in the store alone.
    pages: Pages,
    /// How many messages there are, those in the store alone included.
    len: usize,
    /// How many of them have a priority.
    in_haste: usize,
    /// How many of them somebody may want back before they are handed out, or wants first.
    special: usize,
    bytes: usize,
}

/// Copies of one priority. Nearly all come in at the end and go out at the front; what comes back
/// to an old place lies beside, so that a place is found quickly wherever it is.
#[derive(Debug, Default)]
struct Lane {
    stayed: Blocks,
    returned: BTreeMap<u64, Entry>,
}

impl Lanes {
    pub(crate) fn new(home: Arc<Home>) -> Self {
        Self {
            home,
            plain: Lane::default(),
            urgent: None,
            pages: Pages::default(),
            len: 0,
            in_haste: 0,
            special: 0,
            bytes: 0,
        }
    }

    /// Puts a copy into its place.
    pub(crate) fn put(&mut self, entry: Entry) {
        self.len += entry.count();
        self.bytes += entry.message.size();
        self.special += usize::from(!entry.is_ordinary());
        match usize::from(entry.message.priority()) {
            // It would be in the way of those that are read back.
            0 if entry.position > self.pages.begin() => self.plain.put_aside(entry),
            0 => self.plain.put(entry, &self.home),
            priority => {
                self.in_haste += 1;
                let urgent = self.urgent.get_or_insert_default();
                urgent[(priority - 1).min(2)].put(entry, &self.home);
            }
        }
    }

    /// Puts an ordinary copy of `size` bytes behind all others.
    #[inline(always)]
    pub(crate) fn push(&mut self, entry: Entry, size: usize) {
        self.len += 1;
        self.bytes += size;
        self.plain.stayed.push(entry, size, &self.home.spares);
    }

    /// The next copy: the oldest of the highest priority. There is none as long as that is in the
    /// store alone.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.len == self.pages.len() || !self.pages.is_empty() && !self.has_next() {
            return None;
        }
        let entry = match &mut self.urgent {
            Some(urgent) if self.in_haste > 0 => {
                urgent.iter_mut().rev().find_map(|lane| lane.pop(&self.home))
            }
            _ => self.plain.pop(&self.home),
        }?;
        self.forget(&entry);
        Some(entry)
    }

    /// Whether of those without a priority one goes out next that is in the store alone.
    fn is_page_next(&self) -> bool {
        self.plain.first_position().is_none_or(|first| self.pages.begin() < first)
    }

    /// The copy that goes out next, if it is in memory.
    pub(crate) fn next_mut(&mut self) -> Option<&mut Entry> {
        if !self.has_next() {
            return None;
        }
        let urgent = self.urgent.iter_mut().flat_map(|urgent| urgent.iter_mut().rev());
        urgent.chain([&mut self.plain]).find_map(Lane::first_mut)
    }

    /// Takes out the copy at `position`.
    pub(crate) fn remove(&mut self, position: u64) -> Option<Entry> {
        let urgent = self.urgent.iter_mut().flat_map(|urgent| urgent.iter_mut());
        let mut lanes = std::iter::once(&mut self.plain).chain(urgent);
        let entry = lanes.find_map(|lane| lane.remove(position, &self.home))?;
        self.forget(&entry);
        Some(entry)
    }

    /// Puts an ordinary message, out of `slot`, into the place of an ordinary copy that nobody has had,
    /// and returns what was there; `None` if it is not there, or would take more room.
    pub(crate) fn replace(&mut self, position: u64, slot: &mut Option<Message>) -> Option<Message> {
        let size = slot.as_ref()?.size();
        let gone = self.plain.stayed.replace(position, slot)?;
        self.bytes = self.bytes - gone.size() + size;
        Some(gone)
    }

    /// Where the copy with the lowest position is that lies behind `after`, of those in memory.
    pub(crate) fn position_after(&self, after: Option<u64>) -> Option<u64> {
        self.lanes().filter_map(|lane| lane.position_after(after)).min()
    }

    // ---- copies that are in the store alone

    /// Counts a copy that stays in the store alone.
    pub(crate) fn page(&mut self, copy: Paged) {
        self.len += 1;
        self.bytes += copy.size;
        self.pages.push(copy);
    }

    /// Counts all copies that are in the store alone, where there were none.
    pub(crate) fn set_pages(&mut self, pages: Pages) {
        self.len += pages.len();
        self.bytes += pages.bytes();
        self.pages = pages;
    }

    /// Leaves the last ordinary copies in memory to the store, a page of them at most, as long as so many
    /// bytes of what is in memory stay there, and shows them to `paged`, which says where they are.
    pub(crate) fn page_last(&mut self, stay: usize, mut paged: impl FnMut(Entry) -> Paged) {
        let mut in_memory = self.in_memory();
        let begin = self.pages.first_page();
        let may = |entry: &Entry| {
            entry.is_ordinary()
                && entry.attempts == 0
                && entry.place != u64::MAX
                && entry.position < begin
        };
        let mut blocks = Vec::new();
        while blocks.len() < PAGED_AT_ONCE / BLOCK {
            let (count, bytes) = self.plain.stayed.last_block();
            in_memory = in_memory.saturating_sub(Self::footprint(count, bytes));
            if in_memory < stay {
                break;
            }
            match self.plain.stayed.pop_block(may, &self.home.spares) {
                Some(block) => blocks.push(block),
                None => break,
            }
        }
        let copies: Vec<_> = blocks.into_iter().rev().flatten().map(&mut paged).collect();
        if copies.is_empty() {
            return;
        }
        let are_first = self.pages.push_front(&copies);
        debug_assert!(are_first, "they are in front of all others");
    }

    /// A copy is in the store alone no more.
    pub(crate) fn unpage(&mut self, position: u64) -> Option<Paged> {
        let copy = self.pages.remove(position)?;
        self.len -= 1;
        self.bytes -= copy.size;
        Some(copy)
    }

    /// The first copies that are in the store alone, a page of them, are so no more, if these are their
    /// positions in front of others.
    pub(crate) fn unpage_all(
        &mut self,
        positions: impl Iterator<Item = u64>,
    ) -> Option<Vec<Paged>> {
        let (len, bytes) = (self.pages.len(), self.pages.bytes());
        let copies = self.pages.pop_page(positions)?;
        self.len -= len - self.pages.len();
        self.bytes -= bytes - self.pages.bytes();
        Some(copies)
    }

    /// Takes out what has outlived its time.
    pub(crate) fn expire_pages(&mut self, now: Duration) -> Vec<Paged> {
        let copies = self.pages.expire(now, EXPIRED_AT_ONCE);
        self.len -= copies.len();
        self.bytes -= copies.iter().map(|copy| copy.size).sum::<usize>();
        copies
    }

    /// Takes out all of them.
    pub(crate) fn take_pages(&mut self) -> Pages {
        self.len -= self.pages.len();
        self.bytes -= self.pages.bytes();
        std::mem::take(&mut self.pages)
    }

    /// The first of them, which take at least so many bytes in memory, if there are.
    pub(crate) fn next_pages(&self, bytes: usize) -> Vec<Paged> {
        self.pages.first(bytes, OVERHEAD)
    }

    /// Those that are in the store alone.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(crate) fn replace_pages(&mut self, copies: &[Paged]) {
        self.pages.replace(copies);
    }

    /// How many bytes the others take in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.bytes - self.pages.bytes() + OVERHEAD * (self.len - self.pages.len())
    }

    /// How many bytes copies take once they are in memory.
    pub(crate) fn footprint(copies: usize, bytes: usize) -> usize {
        bytes.saturating_add(copies.saturating_mul(OVERHEAD))
    }

    /// Moves everything into `blocks`, which are empty, in the order in which it goes out; says how
    /// many messages those are.
    pub(crate) fn take_all(&mut self, blocks: &mut Blocks) -> usize {
        let len = self.len;
        if self.in_haste == 0 && self.plain.returned.is_empty() {
            std::mem::swap(&mut self.plain.stayed, blocks);
            (self.len, self.special, self.bytes) = (0, 0, 0);
        } else {
            self.move_into(blocks, usize::MAX);
        }
        len
    }

    /// Moves the next `most` copies, which are all [ordinary](Self::are_ordinary), into `blocks`,
    /// which are empty, at most a block of them; says how many those are, and their bytes.
    pub(crate) fn take(&mut self, blocks: &mut Blocks, most: usize) -> (usize, usize) {
        if most < BLOCK {
            let before = (self.len, self.bytes);
            self.move_into(blocks, most);
            return (before.0 - self.len, before.1 - self.bytes);
        }
        let (count, bytes) = self.plain.stayed.move_block(blocks, &self.home.spares);
        self.len -= count;
        self.bytes -= bytes;
        (count, bytes)
    }

    fn move_into(&mut self, blocks: &mut Blocks, most: usize) {
        let home = Arc::clone(&self.home);
        let next = std::iter::from_fn(|| self.pop());
        for entry in next.take(most) {
            let size = entry.message.size();
            blocks.push(entry, size, &home.spares);
        }
    }

    /// Whether nobody would miss what the next consumer takes in advance: none of it is urgent,
    /// or a request that may be cancelled, or may be too old then, or came back.
    pub(crate) fn are_ordinary(&self) -> bool {
        self.special == 0 && self.plain.returned.is_empty()
    }

    /// All copies, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.runs(None).flatten()
    }

    /// All copies, in the order of their positions.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Entry> {
        let mut runs: Vec<_> = self.runs(None).map(Iterator::peekable).collect();
        std::iter::from_fn(move || {
            let mut next: Option<(u64, usize)> = None;
            for (nth, run) in runs.iter_mut().enumerate() {
                let first = run.peek().map(|entry| (entry.position, nth));
                next = first.into_iter().chain(next).min();
            }
            runs[next?.1].next()
        })
    }

    /// The copies behind `after`, in runs of which each is in the order of positions.
    pub(crate) fn runs(
        &self,
        after: Option<u64>,
    ) -> impl Iterator<Item = Box<dyn Iterator<Item = &Entry> + '_>> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        self.lanes().flat_map(move |lane| {
            let stayed: Box<dyn Iterator<Item = &Entry>> = Box::new(lane.stayed.range(from));
            [stayed, Box::new(lane.returned.range(from..).map(|(_, entry)| entry))]
        })
    }

    /// Shows all copies; what is changed of them is not their size.
    pub(crate) fn each_mut(&mut self, show: &mut impl FnMut(&mut Entry)) {
        let urgent = self.urgent.iter_mut().flat_map(|urgent| urgent.iter_mut());
        for lane in std::iter::once(&mut self.plain).chain(urgent) {
            lane.stayed.each_mut(show);
            lane.returned.values_mut().for_each(&mut *show);
        }
    }

    /// Takes everything out, in the order in which it goes out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry> {
        std::iter::from_fn(|| self.pop())
    }

    fn lanes(&self) -> impl Iterator<Item = &Lane> {
        std::iter::once(&self.plain).chain(self.urgent.iter().flat_map(|urgent| urgent.iter()))
    }

    fn forget(&mut self, entry: &Entry) {
        self.len -= entry.count();
        self.in_haste -= usize::from(entry.message.priority() > 0);
        self.special -= usize::from(!entry.is_ordinary());
        self.bytes -= entry.message.size();
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is one to be handed out now.
    pub(crate) fn has_next(&self) -> bool {
        self.len > self.pages.len()
            && (self.pages.is_empty() || self.in_haste > 0 || !self.is_page_next())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Lane {
    fn put(&mut self, entry: Entry, home: &Home) {
        if self.stayed.last_position().is_none_or(|last| last < entry.position) {
            let size = entry.message.size();
            self.stayed.push(entry, size, &home.spares);
        } else {
            self.put_aside(entry);
        }
    }

    /// Puts a copy beside those that come in order.
    fn put_aside(&mut self, entry: Entry) {
        self.returned.insert(entry.position, entry);
    }

    fn first_position(&self) -> Option<u64> {
        let returned = self.returned.first_key_value().map(|(position, _)| *position);
        self.stayed.first_position().into_iter().chain(returned).min()
    }

    /// Whether the copy that goes out next is one that came back.
    fn returned_is_first(&self) -> bool {
        let Some((returned, _)) = self.returned.first_key_value() else {
            return false;
        };
        self.stayed.first_position().is_none_or(|stayed| *returned < stayed)
    }

    #[inline]
    fn pop(&mut self, home: &Home) -> Option<Entry> {
        match self.returned_is_first() {
            true => self.returned.pop_first().map(|(_, entry)| entry),
            false => self.stayed.pop(&home.spares),
        }
    }

    fn first_mut(&mut self) -> Option<&mut Entry> {
        match self.returned_is_first() {
            true => self.returned.first_entry().map(OccupiedEntry::into_mut),
            false => self.stayed.first_mut(),
        }
    }

    fn remove(&mut self, position: u64, home: &Home) -> Option<Entry> {
        let returned = self.returned.remove(&position);
        returned.or_else(|| self.stayed.remove(position, &home.spares))
    }

    fn position_after(&self, after: Option<u64>) -> Option<u64> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let stayed = self.stayed.range(from).next().map(|entry| entry.position);
        let returned = self.returned.range(from..).next().map(|(position, _)| *position);
        stayed.into_iter().chain(returned).min()
    }
}
