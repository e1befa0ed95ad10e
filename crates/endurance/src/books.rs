//! The driver's own ledger: what was confirmed, what came, and what was settled; and what of that
//! must not be.

use std::collections::BTreeMap;

use crate::message::{BULKY, MORTAL, Number, QUEUES};
use crate::report::Report;

/// What is known of every message of a run.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) seed: u64,
    pub(crate) report: Report,
    /// By publisher, in the order in which they were sent.
    entries: Vec<Vec<Entry>>,
    /// Everything before is done with: nothing of it may come any more.
    closed: Vec<usize>,
    /// The latest message that came for the first time, by publisher and queue.
    latest: BTreeMap<(usize, usize), usize>,
    /// How often a broker was started.
    life: u32,
    /// Whether what is refused may be there all the same, since it is not known how much was done.
    pub(crate) doubtful: bool,
}

/// What the driver knows of a message.
#[derive(Debug, Clone, Copy)]
struct Entry {
    sent: Sent,
    /// In which life it was sent.
    since: u32,
    /// How often it came.
    deliveries: u32,
    /// Which attempt it was the last time, and in which life that was.
    attempt: u32,
    came_in: u32,
    /// The consumer's last word, and whether that is known to be stored.
    word: Word,
    durably: bool,
}

/// What the publisher was told of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing yet.
    Pending,
    /// It is stored.
    Confirmed,
    /// Nobody can say.
    Unknown,
    /// It was not taken.
    Refused,
}

/// What a consumer said of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nothing: it never came, or is still held.
    None,
    Acked,
    Retried,
    Rejected,
}

impl Books {
    pub(crate) fn new(report: Report) -> Self {
        let publishers = BULKY + 1;
        Self {
            seed: report.seed,
            report,
            entries: vec![Vec::new(); publishers],
            closed: vec![0; publishers],
            latest: BTreeMap::new(),
            life: 0,
            doubtful: false,
        }
    }

    /// A broker was started, on what the one before left.
    pub(crate) fn restarted(&mut self) {
        self.life += 1;
    }

    /// The number of the next message of a publisher, which is about to send it.
    pub(crate) fn next(&mut self, publisher: usize) -> Number {
        let entries = &mut self.entries[publisher];
        entries.push(Entry {
            sent: Sent::Pending,
            since: self.life,
            deliveries: 0,
            attempt: 0,
            came_in: 0,
            word: Word::None,
            durably: false,
        });
        Number { publisher, nth: entries.len() - 1 }
    }

    /// What became of a message, as far as its publisher was told.
    pub(crate) fn sent(&mut self, number: Number, sent: Sent) {
        let entry = &mut self.entries[number.publisher][number.nth];
        // One that was sent again for no reason keeps what was said of it the first time.
        if entry.sent == Sent::Confirmed {
            return;
        }
        if sent == Sent::Confirmed {
            self.report.confirmed += 1;
        }
        entry.sent = match sent {
            Sent::Refused if self.doubtful => Sent::Unknown,
            sent => sent,
        };
    }

    /// Whether the message may be there although its publisher was not told so.
    pub(crate) fn is_unknown(&self, number: Number) -> bool {
        self.entries[number.publisher][number.nth].sent == Sent::Unknown
    }

    /// The messages of a publisher that may be sent again, since their queue knows them by their id
    /// and nobody can say what became of them.
    pub(crate) fn to_repeat(&self, publisher: usize) -> Vec<Number> {
        let entries = self.entries[publisher].iter().enumerate().skip(self.closed[publisher]);
        entries
            .filter(|(_, entry)| matches!(entry.sent, Sent::Unknown | Sent::Pending))
            .map(|(nth, _)| Number { publisher, nth })
            .filter(|number| number.has_id(self.seed))
            .collect()
    }

    /// An earlier message of a publisher that was confirmed and has an id, near the one that is the
    /// `back`th from the end.
    pub(crate) fn confirmed_before(&self, publisher: usize, back: u64) -> Option<Number> {
        let open = self.entries[publisher].len() - self.closed[publisher];
        let back = usize::try_from(back).unwrap_or(0) % open.max(1);
        let end = self.entries[publisher].len() - back;
        let nth = (self.closed[publisher]..end).rev().take(16).find(|nth| {
            self.entries[publisher][*nth].sent == Sent::Confirmed
                && Number { publisher, nth: *nth }.has_id(self.seed)
        })?;
        Some(Number { publisher, nth })
    }

    /// A delivery came from a queue, or from the dead-letter queue. `None` if it is none of ours.
    pub(crate) fn came(
        &mut self,
        queue: Option<usize>,
        payload: &[u8],
        attempt: u32,
    ) -> Option<Number> {
        self.report.deliveries += 1;
        let number = Number::of(self.seed, payload);
        let sent = number.filter(|number| {
            let entries = self.entries.get(number.publisher);
            entries.is_some_and(|entries| number.nth < entries.len())
        });
        let Some(number) = sent else {
            self.report.phantom += 1;
            let begin = String::from_utf8_lossy(&payload[..payload.len().min(40)]).into_owned();
            let from = queue.map_or("the dead-letter queue", |queue| QUEUES[queue]);
            self.report.tell(format!(
                "{from} delivered {} bytes that nobody sent: {begin:?}",
                payload.len()
            ));
            return None;
        };
        self.check(number, queue, attempt);
        let entry = &mut self.entries[number.publisher][number.nth];
        entry.deliveries += 1;
        entry.attempt = attempt;
        entry.came_in = self.life;
        (entry.word, entry.durably) = (Word::None, false);
        Some(number)
    }

    /// Whether this delivery may be.
    fn check(&mut self, number: Number, queue: Option<usize>, attempt: u32) {
        let entry = self.entries[number.publisher][number.nth];
        let from = queue.map_or("the dead-letter queue", |queue| QUEUES[queue]);
        let what = format!("{from} delivered message {number} (attempt {attempt})");
        let life = self.life;
        let same_life = entry.came_in == life;
        let to = number.queue(self.seed);
        if entry.sent == Sent::Refused {
            self.report.phantom += 1;
            self.report.tell(format!("{what}, which had been refused"));
        }
        match queue {
            Some(queue) if queue == to => {}
            None if to == MORTAL && entry.deliveries > 0 => {}
            _ => {
                self.report.phantom += 1;
                self.report.tell(format!("{what}, which was sent to {}", QUEUES[to]));
            }
        }
        if number.nth < self.closed[number.publisher] {
            self.report.redelivered_after_settled += 1;
            self.report.tell(format!("{what} in life {life}, after everything was settled"));
            return;
        }
        let dead = queue.is_none();
        let again = match entry.word {
            Word::Acked => true,
            Word::Rejected => !dead,
            Word::Retried | Word::None => false,
        };
        if again && entry.durably {
            self.report.redelivered_after_settled += 1;
            let how = entry.word;
            self.report.tell(format!("{what} in life {life}, after {how:?} had been stored"));
        } else if same_life && (again || entry.word == Word::None && entry.deliveries > 0) {
            self.report.doubled += 1;
            let how = entry.word;
            self.report.tell(format!("{what} in life {life} again, after {how:?} in the same"));
        }
        if let Some(queue) = queue {
            if entry.deliveries == 0 {
                let latest = self.latest.entry((number.publisher, queue)).or_insert(number.nth);
                if *latest > number.nth {
                    self.report.disordered += 1;
                    self.report.tell(format!("{what} after {}-{latest}", number.publisher));
                }
                *latest = (*latest).max(number.nth);
            }
            let lives = life - entry.since;
            let (least, most) = match entry.word {
                Word::Retried if same_life => (entry.attempt + 1, entry.attempt + 1),
                Word::Retried if entry.durably => (entry.attempt + 1, entry.attempt + 1 + lives),
                _ => (1, entry.deliveries + lives + 1),
            };
            if attempt < least || attempt > most {
                self.report.miscounted += 1;
                self.report.tell(format!(
                    "{what} in life {life}, sent in {}, came {} times; expected {least} to {most}",
                    entry.since, entry.deliveries
                ));
            }
        }
    }

    /// A consumer said something of a delivery.
    pub(crate) fn said(&mut self, number: Number, word: Word) {
        self.entries[number.publisher][number.nth].word = word;
    }

    /// What was said of these messages, if they did not come again since, is known to be stored.
    pub(crate) fn stored(&mut self, numbers: &mut Vec<(Number, Word)>) {
        for (number, word) in numbers.drain(..) {
            let entry = &mut self.entries[number.publisher][number.nth];
            if entry.word == word && !entry.durably {
                entry.durably = true;
                self.report.settled += u64::from(word == Word::Acked);
            }
        }
    }

    /// The queues were emptied, and everything that came was settled for good: what was confirmed and
    /// is not settled by now is lost, and nothing of all this may come any more.
    pub(crate) fn close(&mut self) {
        for (publisher, entries) in self.entries.iter().enumerate() {
            let closed = &mut self.closed[publisher];
            for (nth, entry) in entries.iter().enumerate().skip(*closed) {
                let settled = entry.word == Word::Acked;
                match entry.sent {
                    Sent::Confirmed if !settled => {
                        self.report.lost += 1;
                        let queue = QUEUES[Number { publisher, nth }.queue(self.seed)];
                        self.report.tell(format!(
                            "message {publisher}-{nth} to {queue}, confirmed, sent in life {}, came \
                             {} times (last in life {}, {:?}{}), is gone in life {}",
                            entry.since,
                            entry.deliveries,
                            entry.came_in,
                            entry.word,
                            if entry.durably { ", stored" } else { "" },
                            self.life,
                        ));
                    }
                    Sent::Unknown | Sent::Pending => {
                        self.report.unknown += 1;
                        self.report.vanished += u64::from(entry.deliveries > 0 && !settled);
                    }
                    Sent::Confirmed | Sent::Refused => {}
                }
            }
            *closed = entries.len();
        }
    }

    /// How many messages were confirmed and are not settled.
    pub(crate) fn owed(&self) -> usize {
        let open = self.entries.iter().zip(&self.closed).flat_map(|(all, closed)| &all[*closed..]);
        open.filter(|entry| entry.sent == Sent::Confirmed && entry.word != Word::Acked).count()
    }

    /// Everything that is not closed is forgotten, since the folder it was in is.
    pub(crate) fn renewed(&mut self) {
        for (closed, entries) in self.closed.iter_mut().zip(&self.entries) {
            *closed = entries.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Books in which publisher 0 has sent so many messages that were confirmed.
    fn books(count: usize) -> Books {
        let mut books = Books::new(Report::new("test", 7));
        books.restarted();
        for _ in 0..count {
            let number = books.next(0);
            books.sent(number, Sent::Confirmed);
        }
        books
    }

    fn number(nth: usize) -> Number {
        Number { publisher: 0, nth }
    }

    /// A message comes out of the queue that it was sent to.
    fn comes(books: &mut Books, nth: usize, attempt: u32) {
        let number = number(nth);
        let queue = number.queue(books.seed);
        assert_eq!(books.came(Some(queue), &number.payload(books.seed), attempt), Some(number));
    }

    fn ends(books: &mut Books, nth: usize, word: Word) {
        books.said(number(nth), word);
        books.stored(&mut vec![(number(nth), word)]);
    }

    #[test]
    fn what_came_and_was_settled_is_in_order() {
        let mut books = books(50);
        for nth in 0..50 {
            comes(&mut books, nth, 1);
            ends(&mut books, nth, Word::Acked);
        }
        books.close();
        assert!(books.report.holds(), "{}", books.report);
        assert_eq!((books.report.confirmed, books.report.settled), (50, 50));
    }

    #[test]
    fn what_was_confirmed_and_is_not_there_is_lost() {
        let mut books = books(3);
        comes(&mut books, 0, 1);
        ends(&mut books, 0, Word::Acked);
        comes(&mut books, 1, 1);
        ends(&mut books, 1, Word::Retried);
        books.close();
        assert_eq!(books.report.lost, 2);
    }

    #[test]
    fn what_nobody_sent_is_a_phantom() {
        let mut books = books(1);
        assert_eq!(books.came(Some(0), b"0-7 x", 1), None);
        let mut payload = number(0).payload(books.seed).to_vec();
        payload.push(0);
        assert_eq!(books.came(Some(0), &payload, 1), None);
        let refused = books.next(0);
        books.sent(refused, Sent::Refused);
        comes(&mut books, refused.nth, 1);
        assert_eq!(books.report.phantom, 3);
    }

    #[test]
    fn what_was_settled_comes_no_more() {
        let mut books = books(2);
        comes(&mut books, 0, 1);
        ends(&mut books, 0, Word::Acked);
        books.restarted();
        comes(&mut books, 0, 2);
        assert_eq!(books.report.redelivered_after_settled, 1);
        // A settlement that is not known to be stored may be forgotten in between.
        comes(&mut books, 1, 1);
        books.said(number(1), Word::Acked);
        books.restarted();
        comes(&mut books, 1, 2);
        assert_eq!(books.report.broken(), 1);
    }

    #[test]
    fn what_is_held_or_settled_does_not_come_a_second_time() {
        let mut books = books(2);
        comes(&mut books, 0, 1);
        comes(&mut books, 0, 1);
        comes(&mut books, 1, 1);
        books.said(number(1), Word::Acked);
        comes(&mut books, 1, 2);
        assert_eq!(books.report.doubled, 2);
    }

    #[test]
    fn the_first_deliveries_of_a_queue_are_in_order() {
        let mut books = books(50);
        let queue = number(49).queue(books.seed);
        let before = (0..49).find(|nth| number(*nth).queue(books.seed) == queue);
        comes(&mut books, 49, 1);
        comes(&mut books, before.unwrap(), 1);
        assert_eq!(books.report.disordered, 1);
    }

    #[test]
    fn attempts_are_counted() {
        let mut books = books(3);
        comes(&mut books, 0, 2);
        comes(&mut books, 1, 1);
        books.said(number(1), Word::Retried);
        comes(&mut books, 1, 1);
        comes(&mut books, 2, 1);
        ends(&mut books, 2, Word::Retried);
        books.restarted();
        comes(&mut books, 2, 1);
        assert_eq!(books.report.miscounted, 3);
    }
}
