//! Which copies of a queue are in its store alone: where each of them is, in a few bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The most copies of a page.
const COPIES: usize = 1_024;
/// The most bytes that the messages of a page have, unless it is a single one.
const BYTES: usize = 1 << 20;
const GONE_WORDS: usize = COPIES / 64;

/// A copy whose message is in the store alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paged {
    /// Where in its queue.
    pub position: u64,
    /// Its place in the store.
    pub place: u64,
    /// The size of its message.
    pub size: usize,
    /// When its queue, or anybody, has no more use for it, by the wall clock in whole microseconds
    /// since the Unix epoch.
    pub expires: Option<Duration>,
    /// How many were dropped right before it.
    pub missed: u32,
}

impl Paged {
    /// A copy that does not expire.
    #[must_use]
    pub fn new(position: u64, place: u64, size: usize) -> Self {
        Self { position, place, size, expires: None, missed: 0 }
    }

    /// The same copy with another time at which it expires.
    #[must_use]
    pub fn with_expiry(self, expires: Option<Duration>) -> Self {
        Self { expires, ..self }
    }
}

/// The copies of a queue whose messages are in the store alone, in the order of their positions.
///
/// Of copies that follow each other in the store, each takes about five bytes. A clone shares these until
/// one of the two is changed.
///
/// ```
/// use posthaste_memory::store::{Paged, Pages};
///
/// let mut pages = Pages::default();
/// for nth in 0..10_000 {
///     pages.push(Paged::new(nth, 1_000 + 140 * nth, 100));
/// }
/// assert_eq!(pages.remove(7).map(|copy| copy.place), Some(1_980));
/// assert_eq!((pages.len(), pages.bytes()), (9_999, 999_900));
/// assert_eq!(pages.after(Some(6)).next().map(|copy| copy.position), Some(8));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Pages {
    pages: VecDeque<Arc<Page>>,
    copies: usize,
    bytes: usize,
    /// What the pages take in memory.
    held: usize,
    /// Before when none of them expires.
    expires: Option<Duration>,
    /// Where the last one was found: its page, by the first position, and how far that was gone
    /// through.
    found: Option<(u64, Cursor)>,
}

/// Some copies that follow each other.
#[derive(Debug, Clone, Default)]
struct Page {
    /// The first position, and the copy that came last; both may be gone.
    first: u64,
    last: Paged,
    /// How many of the first are gone, and before which position none is there.
    leading: usize,
    from: u64,
    /// How many came, how many of them are there, and the bytes of their messages.
    came: usize,
    copies: usize,
    bytes: usize,
    /// Before which place none of them is, and before when none expires.
    lowest: u64,
    expires: Option<Duration>,
    /// Each as what it has more than the one before.
    entries: Vec<u8>,
    /// Which are gone, once one is, by the order in which they came.
    gone: Option<Box<[u64; GONE_WORDS]>>,
}

/// How far a page was gone through.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// The copy before.
    last: Paged,
    /// How many were before, and how many bytes they take.
    nth: usize,
    at: usize,
}

impl Pages {
    /// Puts a copy behind all others, which have lower positions.
    pub fn push(&mut self, copy: Paged) {
        self.copies += 1;
        self.bytes += copy.size;
        self.expires = earlier(self.expires, copy.expires);
        match self.pages.back_mut().filter(|page| page.has_room(copy.size)) {
            Some(page) => {
                let before = page.held();
                let page = Arc::make_mut(page);
                page.push(copy);
                self.held += page.held() - before;
            }
            None => {
                if let Some(full) = self.pages.back_mut().and_then(Arc::get_mut) {
                    full.entries.shrink_to_fit();
                }
                let page = Page::of(copy);
                self.held += page.held();
                self.pages.push_back(page.into());
            }
        }
    }

    /// Puts copies in front of all others, which have higher positions; false if they have not, and nothing
    /// has happened then.
    pub(crate) fn push_front(&mut self, copies: &[Paged]) -> bool {
        let mut before = Self::default();
        before.extend(copies.iter().copied());
        let is_before = before.append(self);
        if is_before {
            *self = before;
        }
        is_before
    }

    /// Puts all copies of another behind these, if they come behind them; else nothing has happened.
    pub fn append(&mut self, others: &mut Self) -> bool {
        if let (Some(last), Some(first)) = (self.pages.back(), others.pages.front())
            && first.first <= last.last.position
        {
            return false;
        }
        let others = std::mem::take(others);
        self.copies += others.copies;
        self.bytes += others.bytes;
        self.held += others.held;
        self.expires = earlier(self.expires, others.expires);
        self.pages.extend(others.pages);
        true
    }

    /// Takes a copy out.
    pub fn remove(&mut self, position: u64) -> Option<Paged> {
        let nth = self.page_of(position)?;
        let page = &self.pages[nth];
        // Most are taken out in order: it goes on where the last one was found.
        let known = self.found.take().filter(|(first, cursor)| {
            *first == page.first && (cursor.nth == 0 || cursor.last.position < position)
        });
        let mut cursor = known.map_or_else(|| page.begin(), |(_, cursor)| cursor);
        let (mut before, mut found) = (cursor, None);
        while let Some(copy) = page.next(&mut cursor) {
            if copy.position >= position {
                found = Some(copy).filter(|copy| copy.position == position);
                break;
            }
            before = cursor;
        }
        let copy = found.filter(|_| !page.is_gone(before.nth))?;
        let held = page.held();
        let page = Arc::make_mut(&mut self.pages[nth]);
        page.take_out(before.nth);
        if page.leading == before.nth {
            page.skip_gone(cursor);
        }
        page.copies -= 1;
        page.bytes -= copy.size;
        self.copies -= 1;
        self.bytes -= copy.size;
        self.found = Some((page.first, cursor));
        self.held += page.held() - held;
        if page.copies == 0 {
            self.held -= page.held();
            self.pages.remove(nth);
        }
        if self.copies == 0 {
            self.expires = None;
        }
        Some(copy)
    }

    /// Takes the copies of the first page out, if these are their positions in front of others.
    pub(crate) fn pop_page(
        &mut self,
        mut positions: impl Iterator<Item = u64>,
    ) -> Option<Vec<Paged>> {
        let page = self.pages.front()?;
        let mut copies: Vec<_> = Vec::with_capacity(page.copies);
        copies.extend(page.iter());
        if !copies.iter().all(|copy| positions.next() == Some(copy.position)) {
            return None;
        }
        self.held -= page.held();
        self.copies -= page.copies;
        self.bytes -= page.bytes;
        self.pages.pop_front();
        if self.copies == 0 {
            self.expires = None;
        }
        Some(copies)
    }

    /// The first copies, whole pages of them, which take at least so many bytes, if there are, where
    /// each takes so many beside its message.
    #[must_use]
    pub fn first(&self, bytes: usize, beside: usize) -> Vec<Paged> {
        let mut sum = 0;
        let enough = |page: &&Page| {
            let goes_on = sum < bytes;
            sum += page.bytes + page.copies * beside;
            goes_on
        };
        self.pages.iter().map(|page| &**page).take_while(enough).flat_map(Page::iter).collect()
    }

    /// The first copy.
    #[must_use]
    pub fn front(&self) -> Option<Paged> {
        let page = self.pages.front()?;
        // Those that are gone before it were gone through when they went.
        let known =
            self.found.filter(|(first, cursor)| *first == page.first && cursor.nth <= page.leading);
        let mut cursor = known.map_or_else(|| page.begin(), |(_, cursor)| cursor);
        loop {
            let nth = cursor.nth;
            let copy = page.next(&mut cursor)?;
            if !page.is_gone(nth) {
                return Some(copy);
            }
        }
    }

    /// The copy that came last, as far as it is known, which may be gone.
    pub(crate) fn back(&self) -> Option<Paged> {
        self.pages.back().map(|page| page.last)
    }

    /// Before which position no copy is; the first one is there as a rule, or soon behind.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.pages.front().map_or(u64::MAX, |page| page.from)
    }

    /// In front of which position others may be put.
    pub(crate) fn first_page(&self) -> u64 {
        self.pages.front().map_or(u64::MAX, |page| page.first)
    }

    /// The copies behind `after`, or all of them.
    pub fn after(&self, after: Option<u64>) -> impl Iterator<Item = Paged> + '_ {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let first = self.pages.partition_point(|page| page.last.position < from);
        let copies = self.pages.range(first..).flat_map(|page| page.iter());
        copies.skip_while(move |copy| copy.position < from)
    }

    /// The first copy that expires at `time` or later, where each expires no earlier than the one before.
    #[must_use]
    pub fn expires_from(&self, time: Duration) -> Option<Paged> {
        let ends_before = |page: &Arc<Page>| page.last.expires.is_none_or(|at| at < time);
        let pages = self.pages.range(self.pages.partition_point(ends_before)..);
        pages.flat_map(|page| page.iter()).find(|copy| copy.expires.is_some_and(|at| at >= time))
    }

    /// Of the first page that has such, the copies whose places are before this one.
    #[must_use]
    pub fn placed_before(&self, place: u64) -> Vec<Paged> {
        let pages = self.pages.iter().filter(|page| page.lowest < place);
        let copies = |page: &Arc<Page>| page.iter().filter(|copy| copy.place < place).collect();
        pages.map(copies).find(|copies: &Vec<_>| !copies.is_empty()).unwrap_or_default()
    }

    /// Gives copies other places, as far as they are there: those of one page, in the order of their
    /// positions.
    pub fn replace(&mut self, copies: &[Paged]) {
        let Some(nth) = copies.first().and_then(|copy| self.page_of(copy.position)) else { return };
        let mut moved = copies.iter().peekable();
        let mut remade: Option<Page> = None;
        for mut copy in self.pages[nth].iter() {
            while moved.next_if(|moved| moved.position < copy.position).is_some() {}
            if let Some(moved) = moved.next_if(|moved| moved.position == copy.position) {
                copy.place = moved.place;
            }
            match &mut remade {
                Some(page) => page.push(copy),
                None => remade = Some(Page::of(copy)),
            }
        }
        self.found = None;
        if let Some(page) = remade {
            self.held = self.held - self.pages[nth].held() + page.held();
            self.pages[nth] = page.into();
        }
    }

    /// Takes out what expires at `now` or before, `most` of it.
    pub fn expire(&mut self, now: Duration, most: usize) -> Vec<Paged> {
        let is_over = |expires: Option<Duration>| expires.is_some_and(|at| at <= now);
        let mut over: Vec<Paged> = Vec::new();
        for page in self.pages.iter_mut().filter(|page| is_over(page.expires)) {
            let mut earliest = None;
            for copy in page.iter() {
                match is_over(copy.expires) && over.len() < most {
                    true => over.push(copy),
                    false => earliest = earlier(earliest, copy.expires),
                }
            }
            Arc::make_mut(page).expires = earliest;
            if over.len() == most {
                break;
            }
        }
        for copy in &over {
            self.remove(copy.position);
        }
        self.expires = self.pages.iter().filter_map(|page| page.expires).min();
        over
    }

    /// The first copies that expire at `by` or before, as many as have so many bytes, where each takes
    /// so many beside its message.
    #[must_use]
    pub(crate) fn expiring(&mut self, by: Duration, bytes: usize, beside: usize) -> Vec<Paged> {
        let is_one = |expires: Option<Duration>| expires.is_some_and(|at| at <= by);
        let (mut found, mut sum): (Vec<Paged>, _) = (Vec::new(), 0);
        for page in self.pages.iter_mut().filter(|page| is_one(page.expires)) {
            let mut earliest = None;
            for copy in page.iter() {
                earliest = earlier(earliest, copy.expires);
                if is_one(copy.expires) && sum < bytes {
                    sum += copy.size + beside;
                    found.push(copy);
                }
            }
            Arc::make_mut(page).expires = earliest;
            if sum >= bytes {
                break;
            }
        }
        self.expires = self.pages.iter().filter_map(|page| page.expires).min();
        found
    }

    /// Before when none of them expires; `None` if none ever does.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        self.expires
    }

    /// How many copies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copies
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copies == 0
    }

    /// How many bytes their messages have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What they take in memory, in bytes.
    ///
    /// ```
    /// use posthaste_memory::store::{Paged, Pages};
    ///
    /// let mut pages = Pages::default();
    /// pages.extend((0..10_000).map(|nth| Paged::new(nth, 1_000 + 140 * nth, 100)));
    /// assert!((30_000..100_000).contains(&pages.held()));
    /// ```
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The copies in parts, in order, each of which is [encoded](Self::encode) in about so many bytes, and
    /// shares what it has in memory with the whole.
    ///
    /// ```
    /// use posthaste_memory::store::{Paged, Pages};
    ///
    /// let (mut pages, mut again) = (Pages::default(), Pages::default());
    /// pages.extend((0..10_000).map(|nth| Paged::new(nth, 1_000 + 140 * nth, 100)));
    /// for mut part in pages.parts(10_000) {
    ///     assert!(part.encoded_len() < 20_000);
    ///     assert!(again.append(&mut part));
    /// }
    /// assert!(again.after(None).eq(pages.after(None)));
    /// ```
    pub fn parts(&self, bytes: usize) -> impl Iterator<Item = Self> + '_ {
        let mut pages = self.pages.iter().peekable();
        std::iter::from_fn(move || {
            let mut part = Self::default();
            let mut length = 0;
            while let Some(page) = pages.next_if(|_| length < bytes.max(1)) {
                length += page.encoded_len();
                part.copies += page.copies;
                part.bytes += page.bytes;
                part.held += page.held();
                part.expires = earlier(part.expires, page.expires);
                part.pages.push_back(Arc::clone(page));
            }
            (!part.pages.is_empty()).then_some(part)
        })
    }

    /// How many bytes [`encode`](Self::encode) appends.
    ///
    /// ```
    /// use posthaste_memory::store::{Paged, Pages};
    ///
    /// let (mut pages, mut bytes) = (Pages::default(), Vec::new());
    /// pages.push(Paged::new(7, 1_000, 100));
    /// pages.encode(&mut bytes);
    /// assert_eq!(bytes.len(), pages.encoded_len());
    /// ```
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let pages = self.pages.iter().map(|page| page.encoded_len());
        length(self.pages.len() as u64) + pages.sum::<usize>()
    }

    /// Appends all copies to bytes, so that [`decode`](Self::decode) finds them again.
    pub fn encode(&self, into: &mut Vec<u8>) {
        number(into, self.pages.len() as u64);
        for page in &self.pages {
            for value in [page.first, page.came as u64, page.entries.len() as u64] {
                number(into, value);
            }
            into.extend_from_slice(&page.entries);
            into.push(u8::from(page.gone.is_some()));
            for word in page.gone.iter().flat_map(|gone| gone.iter()) {
                into.extend_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// Takes the copies off the front of bytes that [`encode`](Self::encode) has put there; `None` if
    /// there are none.
    #[must_use]
    pub fn decode(from: &mut &[u8]) -> Option<Self> {
        let mut pages = Self::default();
        let mut at = 0;
        let mut last = None;
        for _ in 0..read(from, &mut at)? {
            let (first, came, length) =
                (read(from, &mut at)?, read(from, &mut at)?, read(from, &mut at)?);
            let end = at.checked_add(usize::try_from(length).ok()?)?;
            let entries = from.get(at..end)?.to_vec();
            at = end;
            let mut page = Page { first, entries, ..Page::default() };
            if *from.get(at)? == 1 {
                let gone = page.gone.get_or_insert_default();
                for (nth, word) in gone.iter_mut().enumerate() {
                    let word_at = at + 1 + 8 * nth;
                    *word = u64::from_le_bytes(from.get(word_at..word_at + 8)?.try_into().ok()?);
                }
                at += 8 * GONE_WORDS;
            }
            at += 1;
            let came = usize::try_from(came).ok().filter(|came| (1..=COPIES).contains(came))?;
            page.count(came).filter(|()| last.is_none_or(|last| last < page.first))?;
            last = Some(page.last.position);
            pages.copies += page.copies;
            pages.bytes = pages.bytes.checked_add(page.bytes)?;
            pages.expires = earlier(pages.expires, page.expires);
            if page.copies > 0 {
                pages.held += page.held();
                pages.pages.push_back(page.into());
            }
        }
        *from = &from[at..];
        Some(pages)
    }

    /// The page in which a position is, if there is one.
    fn page_of(&self, position: u64) -> Option<usize> {
        let holds = |page: &Arc<Page>| page.first <= position && position <= page.last.position;
        if self.pages.front().is_some_and(holds) {
            return Some(0);
        }
        let nth = self.pages.partition_point(|page| page.last.position < position);
        self.pages.get(nth).filter(|page| holds(page)).map(|_| nth)
    }
}

impl Extend<Paged> for Pages {
    fn extend<T: IntoIterator<Item = Paged>>(&mut self, copies: T) {
        copies.into_iter().for_each(|copy| self.push(copy));
    }
}

impl Page {
    fn of(copy: Paged) -> Self {
        let mut page = Self {
            first: copy.position,
            from: copy.position,
            last: Paged { position: copy.position, place: copy.place, ..Paged::default() },
            lowest: u64::MAX,
            ..Self::default()
        };
        number(&mut page.entries, copy.place);
        page.push(copy);
        page
    }

    fn has_room(&self, size: usize) -> bool {
        self.came < COPIES && self.bytes + size <= BYTES
    }

    /// What it takes in memory.
    fn held(&self) -> usize {
        let gone = self.gone.as_ref().map_or(0, |gone| size_of_val(&**gone));
        size_of::<Self>() + self.entries.len() + gone
    }

    fn encoded_len(&self) -> usize {
        let gone = self.gone.as_ref().map_or(0, |gone| size_of_val(&**gone));
        let values = [self.first, self.came as u64, self.entries.len() as u64];
        values.map(length).iter().sum::<usize>() + self.entries.len() + 1 + gone
    }

    fn push(&mut self, copy: Paged) {
        let Paged { position, place, size, expires, missed } = copy;
        let into = &mut self.entries;
        number(into, position - self.last.position);
        let rare = u64::from(expires.is_some()) | u64::from(missed > 0) << 1;
        number(into, (size as u64) << 2 | rare);
        // Records follow each other, and are somewhat larger than their messages.
        number(into, folded(place, self.last.place.wrapping_add(self.last.size as u64)));
        if let Some(at) = expires {
            number(into, folded(micros(at), self.last.expires.map_or(0, micros)));
        }
        if missed > 0 {
            number(into, missed.into());
        }
        self.last = Paged { expires: expires.or(self.last.expires), ..copy };
        self.lowest = self.lowest.min(place);
        self.expires = earlier(self.expires, expires);
        (self.came, self.copies, self.bytes) = (self.came + 1, self.copies + 1, self.bytes + size);
    }

    /// Goes through the entries, of which there are `came`, to find out what they say; `None` if there
    /// are not.
    fn count(&mut self, came: usize) -> Option<()> {
        let mut cursor = self.begin();
        (self.from, self.lowest) = (self.first, u64::MAX);
        for nth in 0..came {
            let copy = self.next(&mut cursor)?;
            self.last = cursor.last;
            if self.is_gone(nth) {
                if self.leading == nth {
                    (self.leading, self.from) = (nth + 1, copy.position.checked_add(1)?);
                }
                continue;
            }
            self.copies += 1;
            self.bytes = self.bytes.checked_add(copy.size)?;
            self.lowest = self.lowest.min(copy.place);
            self.expires = earlier(self.expires, copy.expires);
        }
        self.came = came;
        (cursor.at == self.entries.len()).then_some(())
    }

    /// Before the first one.
    fn begin(&self) -> Cursor {
        let mut at = 0;
        let place = read(&self.entries, &mut at).unwrap_or(0);
        Cursor { last: Paged::new(self.first, place, 0), nth: 0, at }
    }

    /// The next one of those that came.
    fn next(&self, cursor: &mut Cursor) -> Option<Paged> {
        let mut at = cursor.at;
        let mut next = || read(&self.entries, &mut at);
        let last = cursor.last;
        let position = last.position.checked_add(next()?)?;
        let sized = next()?;
        let place = unfolded(next()?, last.place.wrapping_add(last.size as u64));
        let expires = match sized & 1 {
            0 => None,
            _ => Some(Duration::from_micros(unfolded(next()?, last.expires.map_or(0, micros)))),
        };
        let missed = if sized & 2 == 0 { 0 } else { u32::try_from(next()?).unwrap_or(u32::MAX) };
        let size = usize::try_from(sized >> 2).unwrap_or(usize::MAX);
        let copy = Paged { position, place, size, expires, missed };
        let last = Paged { expires: expires.or(last.expires), ..copy };
        *cursor = Cursor { last, nth: cursor.nth + 1, at };
        Some(copy)
    }

    /// Those that are there.
    fn iter(&self) -> impl Iterator<Item = Paged> + '_ {
        let mut cursor = self.begin();
        std::iter::from_fn(move || {
            let nth = cursor.nth;
            self.next(&mut cursor).map(|copy| (nth, copy))
        })
        .filter(|(nth, _)| !self.is_gone(*nth))
        .map(|(_, copy)| copy)
    }

    fn is_gone(&self, nth: usize) -> bool {
        let word = self.gone.as_ref().and_then(|gone| gone.get(nth / 64));
        word.is_some_and(|word| word >> (nth % 64) & 1 == 1)
    }

    /// All before the cursor are gone, and so may be those at it.
    fn skip_gone(&mut self, mut cursor: Cursor) {
        self.from = cursor.last.position.saturating_add(1);
        self.leading = cursor.nth;
        while let Some(copy) = self.next(&mut cursor) {
            self.from = copy.position;
            if !self.is_gone(cursor.nth - 1) {
                return;
            }
            self.leading = cursor.nth;
        }
    }

    /// Marks one as gone.
    fn take_out(&mut self, nth: usize) {
        self.gone.get_or_insert_default()[nth / 64] |= 1 << (nth % 64);
    }
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How far `value` is from where it was expected, in few bits if that is not far.
fn folded(value: u64, expected: u64) -> u64 {
    let apart = value.wrapping_sub(expected).cast_signed();
    (apart << 1 ^ apart >> 63).cast_unsigned()
}

fn unfolded(folded: u64, expected: u64) -> u64 {
    let apart = folded >> 1 ^ (folded & 1).wrapping_neg();
    expected.wrapping_add(apart)
}

/// LEB128, 7 bits to a byte.
fn number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// How many bytes [`number`] appends.
fn length(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn read(from: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *from.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push { apart: u64, place: u64, size: usize, expires: Option<u64>, missed: u32 },
        Remove(usize),
        RemoveFirst(usize),
        PopPage { from: usize },
        Move { before: u64, to: u64 },
        Expire(u64),
        Look { by: u64, bytes: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let rare =
            (proptest::option::of(0..1_000_u64), prop_oneof![4 => Just(0), 1 => any::<u32>()]);
        let push = (1..4_u64, 0..1_u64 << 40, 0..300_000_usize, rare).prop_map(
            |(apart, place, size, (expires, missed))| Step::Push {
                apart,
                place,
                size,
                expires,
                missed,
            },
        );
        let step = prop_oneof![
            20 => push,
            4 => any::<usize>().prop_map(Step::Remove),
            4 => (0..40_usize).prop_map(Step::RemoveFirst),
            1 => (0..40_usize).prop_map(|from| Step::PopPage { from }),
            1 => (0..1_u64 << 40, 0..1_u64 << 41).prop_map(|(before, to)| Step::Move { before, to }),
            1 => (0..1_000_u64).prop_map(Step::Expire),
            1 => (0..1_000_u64, 1..1_000_000_usize).prop_map(|(by, bytes)| Step::Look { by, bytes }),
        ];
        proptest::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn they_are_a_map_by_position(steps in steps()) {
            let (mut pages, mut model) = (Pages::default(), BTreeMap::new());
            let mut position = 0;
            for step in steps {
                match step {
                    Step::Push { apart, place, size, expires, missed } => {
                        position += apart;
                        let expires = expires.map(Duration::from_micros);
                        let copy = Paged { position, place, size, expires, missed };
                        pages.push(copy);
                        model.insert(position, copy);
                    }
                    Step::Remove(any) => {
                        let position = any as u64 % (position + 2);
                        prop_assert_eq!(pages.remove(position), model.remove(&position));
                    }
                    Step::RemoveFirst(most) => {
                        for _ in 0..most {
                            let first = model.pop_first();
                            let Some((at, copy)) = first else { break };
                            prop_assert!(pages.begin() <= at);
                            prop_assert_eq!(pages.remove(at), Some(copy));
                        }
                    }
                    Step::PopPage { from } => {
                        let positions = model.keys().copied().skip(from.saturating_sub(35));
                        let copies = pages.pop_page(positions);
                        if let Some(copies) = copies {
                            for copy in copies {
                                prop_assert_eq!(model.pop_first(), Some((copy.position, copy)));
                            }
                        } else {
                            prop_assert!(model.is_empty() || from > 35);
                        }
                    }
                    Step::Move { before, to } => {
                        let mut rounds = 0;
                        loop {
                            let mut copies = pages.placed_before(before);
                            if copies.is_empty() {
                                break;
                            }
                            for copy in &mut copies {
                                copy.place = before + to;
                                model.insert(copy.position, *copy);
                            }
                            pages.replace(&copies);
                            rounds += 1;
                            prop_assert!(rounds <= 400);
                        }
                        prop_assert!(model.values().all(|copy| copy.place >= before));
                    }
                    Step::Look { by, bytes } => {
                        let by = Duration::from_micros(by);
                        let is_one = |copy: &&Paged| copy.expires.is_some_and(|at| at <= by);
                        let mut sum = 0;
                        let enough = |copy: &Paged| {
                            let goes_on = sum < bytes;
                            sum += copy.size + 7;
                            goes_on
                        };
                        let expected = model.values().filter(is_one).copied().take_while(enough);
                        let expected: Vec<_> = expected.collect();
                        let all = model.values().filter(is_one).count();
                        prop_assert_eq!(&pages.expiring(by, bytes, 7), &expected);
                        if expected.is_empty() && all == 0 {
                            // Nobody looks again before there may be one.
                            let next = model.values().filter_map(|copy| copy.expires).min();
                            let is_bound = |bound| {
                                bound > by && next.is_none_or(|next| bound <= next)
                            };
                            prop_assert!(pages.expires().is_none_or(is_bound));
                        }
                    }
                    Step::Expire(now) => {
                        let now = Duration::from_micros(now);
                        let over = |copy: &Paged| copy.expires.is_some_and(|at| at <= now);
                        let expected: Vec<_> =
                            model.values().copied().filter(|copy| over(copy)).collect();
                        model.retain(|_, copy| !over(copy));
                        let mut expired = Vec::new();
                        loop {
                            let some = pages.expire(now, 3);
                            prop_assert!(some.len() <= 3);
                            if some.is_empty() {
                                break;
                            }
                            expired.extend(some);
                        }
                        prop_assert_eq!(expired, expected);
                        let next = model.values().filter_map(|copy| copy.expires).min();
                        let bound = pages.expires();
                        prop_assert!(next.is_none_or(|next| bound.is_some_and(|at| at <= next)));
                    }
                }
                prop_assert_eq!(pages.front(), model.values().next().copied());
                prop_assert_eq!(pages.len(), model.len());
                prop_assert_eq!(pages.bytes(), model.values().map(|copy| copy.size).sum::<usize>());
                let held = pages.pages.iter().map(|page| page.held()).sum::<usize>();
                prop_assert_eq!(pages.held(), held);
            }
            prop_assert_eq!(pages.after(None).collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
            let mut bytes = Vec::new();
            pages.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), pages.encoded_len());
            bytes.push(7);
            let mut rest = &bytes[..];
            let mut again = Pages::decode(&mut rest).unwrap();
            prop_assert_eq!(rest, &[7]);
            prop_assert_eq!((again.len(), again.bytes()), (pages.len(), pages.bytes()));
            prop_assert!(again.after(None).eq(pages.after(None)));
            let mut twice = again.clone();
            let appended = twice.append(&mut again);
            prop_assert_eq!(appended, pages.is_empty());
            let (mut joined, whole) = (Pages::default(), pages.clone());
            for mut part in pages.parts(bytes.len() / 3) {
                prop_assert_eq!(part.held(), part.pages.iter().map(|page| page.held()).sum::<usize>());
                prop_assert!(joined.append(&mut part));
            }
            prop_assert!(joined.after(None).eq(model.values().copied()));
            prop_assert_eq!(joined.held(), pages.held());
            // What is shared is not changed with the other one.
            for copy in model.values().step_by(3) {
                prop_assert_eq!(joined.remove(copy.position), Some(*copy));
            }
            joined.push(Paged::new(position + 1, 7, 7));
            prop_assert!(whole.after(None).eq(model.values().copied()));
            let mut more = Pages::default();
            more.push(Paged::new(position + 1, 7, 7));
            prop_assert!(twice.append(&mut more));
            prop_assert_eq!((twice.len(), twice.bytes()), (pages.len() + 1, pages.bytes() + 7));
            let from = position / 2;
            let behind: Vec<_> = model.range(from + 1..).map(|(_, copy)| *copy).collect();
            prop_assert_eq!(pages.after(Some(from)).collect::<Vec<_>>(), behind);
        }
    }

    proptest! {
        #[test]
        fn other_bytes_are_none(mut bytes: Vec<u8>, pushed in 0..50_u64, change: usize, to: u8) {
            let _none_or_some = Pages::decode(&mut &bytes[..]);
            let mut pages = Pages::default();
            pages.extend((0..pushed).map(|nth| Paged::new(nth, 50 * nth, 7)));
            bytes.clear();
            pages.encode(&mut bytes);
            let at = change % bytes.len();
            bytes[at] = to;
            let _none_or_some = Pages::decode(&mut &bytes[..]);
            prop_assert!(Pages::decode(&mut &bytes[..at]).is_none());
        }
    }

    #[test]
    fn ten_million_copies_take_fifty_megabytes() {
        let mut pages = Pages::default();
        // The same for a tenth, with records that are 40 bytes larger than their messages.
        for nth in 0..1_000_000 {
            pages.push(Paged::new(nth, (1 << 40) + 1_064 * nth, 1_024));
        }
        let held: usize = pages.pages.iter().map(|page| page.entries.capacity()).sum();
        let beside = pages.pages.len() * size_of::<Page>();
        assert!(held + beside < 5_300_000, "{held} and {beside} bytes");
        // They are counted as what they take.
        assert!(held + beside >= pages.held() && held + beside < pages.held() + 10_000);
    }

    #[test]
    fn what_comes_in_front_of_others_is_in_order_or_does_not_come() {
        let mut pages = Pages::default();
        pages.extend((5_000..7_000).map(|nth| Paged::new(nth, 100 * nth, 64)));
        pages.remove(5_000);
        let copies = |from, to| (from..to).map(|nth| Paged::new(nth, 100 * nth, 64));
        let before: Vec<_> = copies(2_000, 5_000).collect();
        assert!(!pages.push_front(&copies(4_000, 5_001).collect::<Vec<_>>()));
        assert_eq!(pages.len(), 1_999);
        assert!(pages.push_front(&before));
        assert!(pages.after(None).eq(copies(2_000, 5_000).chain(copies(5_001, 7_000))));
        assert_eq!(pages.front(), before.first().copied());
    }

    #[test]
    fn what_goes_out_in_order_is_found_at_once() {
        let mut pages = Pages::default();
        (0..200_000).for_each(|nth| pages.push(Paged::new(nth, 100 * nth, 64)));
        for nth in 0..200_000 {
            assert_eq!(pages.begin(), nth);
            assert_eq!(pages.remove(nth), Some(Paged::new(nth, 100 * nth, 64)));
            // The page and the place in it are known, so nothing is gone through again.
            let (_, cursor) = pages.found.expect("it is remembered");
            assert_eq!(cursor.nth, usize::try_from(nth).expect("small") % COPIES + 1);
        }
        assert!(pages.is_empty());
    }
}
