//! What of the segments is of use: how many copies have their places in each, and what has to be noted
//! again so that those at the beginning can go.

use std::collections::{BTreeMap, VecDeque};

/// How much more of the log may be of no use than is of use, in segments, before what is of use is
/// noted again at its end.
const WASTE_SEGMENTS: u64 = 3;

/// What a record of a copy takes beside the message, at most as a rule: what is of use is rather
/// taken for more than it is, so that nothing is noted again in vain.
const RECORD_BYTES: u64 = 64;

/// The segments, and what is of use in them.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// By where they begin.
    segments: BTreeMap<u64, Use>,
    /// What segments hold no more once everything before some place is stored, in the order of these
    /// places.
    released: VecDeque<Released>,
    /// Before where nothing is but what single copies need.
    renewed: u64,
    /// The same for when everything before the second place is stored.
    renewing: Option<(u64, u64)>,
    /// The segment that is written to was begun by a process before this one, and had little room then.
    went_on: bool,
}

/// How many copies have their places in a segment, and the bytes of their messages.
#[derive(Debug, Default, Clone, Copy)]
struct Use {
    copies: u64,
    bytes: u64,
}

/// Copies that a segment holds no more.
#[derive(Debug)]
struct Released {
    /// Once everything before here is stored.
    at: u64,
    /// Where the segment begins.
    segment: u64,
    was: Use,
}

/// What has to be noted again so that a segment can go.
#[derive(Debug)]
pub(crate) struct Chore {
    pub(crate) before: u64,
    /// The copies, too.
    pub(crate) relocate: bool,
}

impl Use {
    fn add(&mut self, size: usize) {
        self.copies += 1;
        self.bytes += size as u64 + RECORD_BYTES;
    }
}

impl Uses {
    /// Of segments that begin here; `went_on` if there was little room in the last one already.
    pub(crate) fn of(segments: impl Iterator<Item = u64>, went_on: bool) -> Self {
        let segments = segments.map(|base| (base, Use::default())).collect();
        Self { segments, went_on, ..Self::default() }
    }

    /// Where the segment begins that is written to.
    pub(crate) fn active(&self) -> u64 {
        self.segments.last_key_value().map_or(0, |(base, _)| *base)
    }

    pub(crate) fn begin_segment(&mut self, base: u64) {
        self.segments.insert(base, Use::default());
        self.went_on = false;
    }

    /// The segments before this place are forgotten.
    pub(crate) fn forget_before(&mut self, start: u64) {
        self.segments.retain(|base, _| *base >= start);
    }

    /// A copy has its place there; with it comes the size of its message.
    pub(crate) fn add(&mut self, place: u64, size: usize) {
        if let Some((_, used)) = self.segments.range_mut(..=place).next_back() {
            used.add(size);
        }
    }

    /// Copies have their places there, which mostly lie side by side.
    pub(crate) fn add_all(&mut self, copies: impl Iterator<Item = (u64, usize)>) {
        let (mut from, mut upto, mut sum) = (0, 0, Use::default());
        for (place, size) in copies {
            if !(from..upto).contains(&place) {
                self.add_use(from, std::mem::take(&mut sum));
                from = self.segment(place).unwrap_or(place);
                let next = self.segments.range(from + 1..).next();
                upto = next.map_or(u64::MAX, |(base, _)| *base);
            }
            sum.add(size);
        }
        self.add_use(from, sum);
    }

    fn add_use(&mut self, segment: u64, more: Use) {
        if let Some(used) = self.segments.get_mut(&segment) {
            used.copies += more.copies;
            used.bytes += more.bytes;
        }
    }

    /// Where the segment begins in which a place is.
    fn segment(&self, place: u64) -> Option<u64> {
        self.segments.range(..=place).next_back().map(|(base, _)| *base)
    }

    /// A copy will not have its place there any more once everything before `at` is stored.
    pub(crate) fn release(&mut self, at: u64, place: u64, size: usize) {
        let Some(segment) = self.segment(place) else { return };
        if let Some(last) = self.released.back_mut()
            && (last.at, last.segment) == (at, segment)
        {
            return last.was.add(size);
        }
        let mut was = Use::default();
        was.add(size);
        self.released.push_back(Released { at, segment, was });
    }

    /// What is before a place and not about single copies is noted again, which counts once
    /// everything before `at` is stored.
    pub(crate) fn renewed_before(&mut self, before: u64, at: u64) {
        self.renewing = Some((before, at));
    }

    /// Before where nothing is of use, now that so much is stored.
    pub(crate) fn needed_from(&mut self, stored: u64) -> u64 {
        let done = self.released.partition_point(|released| released.at <= stored);
        for Released { segment, was, .. } in self.released.drain(..done) {
            if let Some(used) = self.segments.get_mut(&segment) {
                used.copies = used.copies.saturating_sub(was.copies);
                used.bytes = used.bytes.saturating_sub(was.bytes);
            }
        }
        if let Some((before, _)) = self.renewing.take_if(|(_, at)| *at <= stored) {
            self.renewed = self.renewed.max(before);
        }
        self.first_used().min(self.renewed)
    }

    /// Where the first segment begins in which a copy has its place, or else the last one.
    fn first_used(&self) -> u64 {
        let mut used = self.segments.iter().filter(|(_, used)| used.copies > 0);
        used.next().map_or(self.active(), |(base, _)| *base)
    }

    /// How many copies have their places anywhere.
    pub(crate) fn copies(&self) -> u64 {
        self.segments.values().map(|used| used.copies).sum()
    }

    /// Where the first segment begins, and the second one, if that is not behind `upto`.
    pub(crate) fn oldest(&self, upto: u64) -> Option<(u64, u64)> {
        let mut bases = self.segments.keys().copied();
        bases.next().zip(bases.next()).filter(|(_, second)| *second <= upto)
    }

    /// What is to be noted again now that the log ends at `end`: where there is little room everything
    /// that can be, else what is in the way of segments that nobody needs, or in the first one if too
    /// much is of no use.
    pub(crate) fn chore(&self, end: u64, cramped: bool, segment_bytes: u64) -> Option<Chore> {
        let start = *self.segments.first_key_value()?.0;
        // What could be noted again was, as a rule, where a process before this one had little room:
        // doing so each time would use that up.
        let all = cramped && !self.went_on;
        let before = if all { self.active() } else { self.first_used() };
        if self.renewing.is_some() {
            return None;
        }
        if before > self.renewed.max(start) {
            return Some(Chore { before, relocate: false });
        }
        let bytes: u64 = self.segments.values().map(|used| used.bytes).sum();
        let waste = (end - start).saturating_sub(bytes);
        let second = *self.segments.range(start + 1..).next()?.0;
        let relocate = !cramped && waste > bytes + WASTE_SEGMENTS * segment_bytes;
        relocate.then_some(Chore { before: second, relocate })
    }
}
