//! Copies that are ready to be handed out: a lane for each priority, each in the order of positions.

use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::sync::Arc;

use posthaste_core::Message;

use crate::blocks::{BLOCK, Blocks};
use crate::copies::Entry;
use crate::home::Home;

/// The lanes, and the bytes in them.
#[derive(Debug)]
pub(crate) struct Lanes {
    home: Arc<Home>,
    plain: Lane,
    /// By priority from 1 on, where there are such; the last one goes first.
    urgent: Option<Box<[Lane; 3]>>,
    /// How many messages there are.
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

    /// The next copy: the oldest of the highest priority.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.len == 0 {
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

    /// The copy that goes out next.
    pub(crate) fn next_mut(&mut self) -> Option<&mut Entry> {
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

    /// Where the copy with the lowest position is that lies behind `after`.
    pub(crate) fn position_after(&self, after: Option<u64>) -> Option<u64> {
        self.lanes().filter_map(|lane| lane.position_after(after)).min()
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

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
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
            self.returned.insert(entry.position, entry);
        }
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
