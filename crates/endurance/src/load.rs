//! The load: publishers and consumers that go on until the broker is gone, and enter into the books
//! what they are told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::time::Duration;

use futures::future::join_all;
use posthaste::{
    Bus, Delivery, Error, ErrorKind, Level, Queue, Receipt, ReceiverExt, Reconnect, Sender,
    SenderExt, SenderOptions, Seq, Subscription, Topic,
};
use posthaste_tokio::Tokio;

use crate::books::{Books, Sent, Word};
use crate::message::{BULKY, DEAD, KNOWN, MORTAL, Number, QUEUES};
use crate::random::Random;

/// How many publishers there are.
pub(crate) const PUBLISHERS: usize = 4;
/// How many of a publisher's messages wait for their outcome.
const IN_FLIGHT: usize = 64;
/// How many large messages are sent in a cycle, if any are: enough for a few segments of the log.
const BULK: usize = 1500;
/// How many deliveries a consumer holds without ever settling them.
const LEFT_MAX: usize = 200;
/// No message is tried so often in a run.
const ATTEMPTS_MAX: u32 = 1_000_000;

/// Connects, for as long as the broker lives.
pub(crate) async fn connect(url: &str) -> Result<Bus, Error> {
    posthaste::connect(Tokio::current(), url).reconnect(Reconnect::Never).await
}

/// Declares the queues.
pub(crate) async fn declare(bus: &Bus) -> Result<(), Error> {
    bus.declare(Queue::new(Topic::new(DEAD)?).durable(true)).await?;
    for (nth, name) in QUEUES.iter().enumerate() {
        let mut queue = Queue::new(Topic::new(*name)?).durable(true).max_attempts(ATTEMPTS_MAX);
        if nth == KNOWN {
            queue = queue.dedup_window(Duration::from_secs(3600));
        }
        if nth == MORTAL {
            queue = queue.dead_letter(Topic::new(DEAD)?);
        }
        bus.declare(queue).await?;
    }
    Ok(())
}

/// The load on a broker, connected, with large messages among the others or without. It resolves when all connections are lost, and answers what is
/// no loss of a connection.
pub(crate) async fn load<'a>(
    url: &str,
    books: &'a RefCell<Books>,
    cycle: u64,
    bulky: bool,
) -> Result<impl Future<Output = Vec<Error>> + use<'a>, Error> {
    let seed = books.borrow().seed;
    declare(&connect(url).await?).await?;
    let mut publishers = Vec::with_capacity(PUBLISHERS + 1);
    for nth in (0..PUBLISHERS).chain(bulky.then_some(BULKY)) {
        let random = Random::new(seed, &[1, cycle, nth as u64]);
        publishers.push(Publisher::open(connect(url).await?, books, nth, random).await?);
    }
    let mut consumers = Vec::with_capacity(QUEUES.len());
    for nth in 0..QUEUES.len() {
        let random = Random::new(seed, &[2, cycle, nth as u64]);
        consumers.push((connect(url).await?, nth, random));
    }
    Ok(async move {
        let publishing = join_all(publishers.into_iter().map(Publisher::run));
        let consuming = join_all(
            consumers.into_iter().map(|(bus, nth, random)| consume(bus, books, nth, random)),
        );
        let (published, consumed) = futures::join!(publishing, consuming);
        published.into_iter().chain(consumed).filter_map(Result::err).filter(is_odd).collect()
    })
}

/// Whether this is no mere loss of the connection.
fn is_odd(error: &Error) -> bool {
    use ErrorKind::{Closed, Disconnected, SessionLost, Unknown};
    !matches!(error.kind(), Disconnected | Closed | SessionLost | Unknown)
}

/// Sends messages, each to one of the queues, a window of them at a time.
pub(crate) struct Publisher<'a> {
    _bus: Bus,
    sender: posthaste::BoxSender,
    books: &'a RefCell<Books>,
    nth: usize,
    random: Random,
    /// What has no outcome yet.
    in_flight: VecDeque<(Seq, Number)>,
}

impl<'a> Publisher<'a> {
    pub(crate) async fn open(
        bus: Bus,
        books: &'a RefCell<Books>,
        nth: usize,
        random: Random,
    ) -> Result<Self, Error> {
        let options = SenderOptions::new().window(IN_FLIGHT, 8 << 20).confirm(Level::Stored);
        let sender = bus.sender(options).await?;
        Ok(Self { _bus: bus, sender, books, nth, random, in_flight: VecDeque::new() })
    }

    /// Sends until the connection is lost.
    async fn run(mut self) -> Result<(), Error> {
        // First what went before, so that the order stays what it was.
        let sent = match self.repeat().await {
            Ok(()) if self.nth == BULKY => self.send_next(BULK).await,
            Ok(()) => self.send_on().await,
            Err(error) => Err(error),
        };
        let rest = self.flush().await;
        sent.and(rest)
    }

    async fn send_on(&mut self) -> Result<(), Error> {
        loop {
            while self.in_flight.len() < IN_FLIGHT {
                let number = self.books.borrow_mut().next(self.nth);
                self.send(number).await?;
            }
            if self.random.chance(30) {
                let back = self.random.below(1000);
                let before = self.books.borrow().confirmed_before(self.nth, back);
                if let Some(number) = before {
                    self.books.borrow_mut().report.repeated += 1;
                    self.send(number).await?;
                }
            }
            let Some((oldest, _)) = self.in_flight.front().copied() else { continue };
            self.outcomes(oldest).await?;
        }
    }

    /// Sends again what nobody can say the outcome of, where the queue knows it by its id.
    pub(crate) async fn repeat(&mut self) -> Result<(), Error> {
        let numbers = self.books.borrow().to_repeat(self.nth);
        for number in numbers {
            self.books.borrow_mut().report.repeated += 1;
            self.send(number).await?;
        }
        self.flush().await
    }

    /// Sends so many messages more, a window of them at a time.
    pub(crate) async fn send_next(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            let number = self.books.borrow_mut().next(self.nth);
            self.send(number).await?;
            if self.in_flight.len() >= IN_FLIGHT
                && let Some((oldest, _)) = self.in_flight.front().copied()
            {
                self.outcomes(oldest).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, number: Number) -> Result<(), Error> {
        let seed = self.books.borrow().seed;
        let mut slot = Some(number.message(seed)?);
        match self.sender.send_from(&mut slot).await {
            Ok(seq) => self.in_flight.push_back((seq, number)),
            Err(error) => {
                // One that may be there from the time before is no less there now.
                let mut books = self.books.borrow_mut();
                let kept = books.is_unknown(number);
                books.sent(number, if kept { Sent::Unknown } else { Sent::Refused });
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until nothing is in flight any more.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        match self.in_flight.back().copied() {
            Some((last, _)) => self.outcomes(last).await,
            None => Ok(()),
        }
    }

    /// Waits until everything up to `upto` has its outcome, and enters that into the books.
    async fn outcomes(&mut self, upto: Seq) -> Result<(), Error> {
        let receipt = poll_fn(|cx| self.sender.poll_flush(cx, upto)).await;
        let mut books = self.books.borrow_mut();
        let receipt = match receipt {
            Ok(receipt) => receipt,
            Err(error) => {
                for (_, number) in self.in_flight.drain(..) {
                    books.sent(number, Sent::Unknown);
                }
                return Err(error);
            }
        };
        let mut returned = 0;
        let mut why = None;
        while let Some(back) = self.sender.take_returned(Seq::FIRST) {
            returned += 1;
            let at = self.in_flight.iter().position(|(seq, _)| *seq == back.seq);
            let Some((_, number)) = at.and_then(|at| self.in_flight.remove(at)) else {
                books.report.unbalanced += 1;
                books.report.tell(format!("message {} came back twice", back.seq));
                continue;
            };
            let unknown = back.error.kind() == ErrorKind::Unknown || books.is_unknown(number);
            books.sent(number, if unknown { Sent::Unknown } else { Sent::Refused });
            why = Some(back.error);
        }
        let mut confirmed = 0;
        while let Some((_, number)) =
            self.in_flight.front().filter(|(seq, _)| *seq <= receipt.upto).copied()
        {
            self.in_flight.pop_front();
            confirmed += 1;
            books.sent(number, Sent::Confirmed);
        }
        check(&mut books, &receipt, confirmed, returned);
        match why {
            // Nobody can say, since the connection is gone: as is to be expected.
            Some(error) if error.kind() != ErrorKind::Unknown => Err(error),
            _ => Ok(()),
        }
    }
}

/// A receipt says what its messages say one by one.
fn check(books: &mut Books, receipt: &Receipt, confirmed: u64, returned: u64) {
    if receipt.confirmed != confirmed || receipt.returned != returned {
        books.report.unbalanced += 1;
        books
            .report
            .tell(format!("{receipt:?}, but {confirmed} were confirmed and {returned} came back"));
    }
    if confirmed > 0 && receipt.level != Level::Stored {
        books.report.unbalanced += 1;
        books.report.tell(format!("asked for stored, and got {receipt:?}"));
    }
}

/// Takes what comes out of a queue, and settles most of it, this way or that.
async fn consume(
    bus: Bus,
    books: &RefCell<Books>,
    queue: usize,
    mut random: Random,
) -> Result<(), Error> {
    let mut receiver = bus.receiver(Subscription::queue(QUEUES[queue])?).await?;
    let (mut batch, mut left) = (Vec::new(), Vec::new());
    let mut unstored = Vec::new();
    loop {
        if receiver.recv_many(&mut batch, 32).await? == 0 {
            return Ok(());
        }
        for delivery in batch.drain(..) {
            let (payload, attempt) = (delivery.payload(), delivery.attempt());
            let Some(number) = books.borrow_mut().came(Some(queue), payload, attempt) else {
                continue;
            };
            if let Some(word) = settle(delivery, queue, &mut random, &mut left) {
                books.borrow_mut().said(number, word);
                unstored.push((number, word));
            }
        }
        if random.chance(300) {
            receiver.settled().await?;
            books.borrow_mut().stored(&mut unstored);
        }
    }
}

/// Settles a delivery, or leaves it.
fn settle(
    delivery: Delivery,
    queue: usize,
    random: &mut Random,
    left: &mut Vec<Delivery>,
) -> Option<Word> {
    match random.below(100) {
        0..15 => {
            let after = [0, 0, 5, 40][usize::try_from(random.below(4)).unwrap_or(0)];
            delivery.retry(Duration::from_millis(after), "on purpose");
            Some(Word::Retried)
        }
        15..20 if left.len() < LEFT_MAX => {
            left.push(delivery);
            None
        }
        20..24 if queue == MORTAL => {
            delivery.reject("on purpose");
            Some(Word::Rejected)
        }
        _ => {
            delivery.ack();
            Some(Word::Acked)
        }
    }
}
