//! Emptying the queues, and what the broker's own ledger says then.

use std::cell::RefCell;
use std::time::Duration;

use posthaste::{Bus, Error, ReceiverExt, Subscription};

use crate::books::{Books, Word};
use crate::load::{Publisher, connect, declare};
use crate::message::{BULKY, DEAD, QUEUES};
use crate::random::Random;

/// How long a queue that holds something may deliver nothing.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Sends again what may be sent again, takes everything out of the queues, and closes the books.
pub(crate) async fn drain(url: &str, books: &RefCell<Books>) -> Result<(), Error> {
    let bus = connect(url).await?;
    declare(&bus).await?;
    balance(&bus, books).await?;
    for nth in 0..=BULKY {
        let random = Random::new(0, &[]);
        Publisher::open(connect(url).await?, books, nth, random).await?.repeat().await?;
    }
    for (nth, name) in QUEUES.iter().enumerate() {
        empty(url, books, Some(nth), name).await?;
    }
    empty(url, books, None, DEAD).await?;
    let stats = balance(&bus, books).await?;
    let mut books = books.borrow_mut();
    if stats.ledger.held != 0 {
        books.report.unbalanced += 1;
        books.report.tell(format!("emptied queues still hold something: {}", stats.ledger));
    }
    books.close();
    Ok(())
}

/// Takes everything out of a queue.
async fn empty(
    url: &str,
    books: &RefCell<Books>,
    nth: Option<usize>,
    name: &str,
) -> Result<(), Error> {
    let bus = connect(url).await?;
    let mut receiver = bus.receiver(Subscription::queue(name)?).await?;
    let (mut batch, mut unstored) = (Vec::new(), Vec::new());
    loop {
        let info = bus.queue(name).await?;
        if info.messages == 0 {
            break;
        }
        // Everything that came is settled, so there is more to come.
        let more = tokio::time::timeout(SILENCE_MAX, receiver.recv_many(&mut batch, 1024));
        match more.await {
            Ok(count) => drop(count?),
            Err(_) => {
                let text = format!("{name} holds {} and delivers nothing", info.messages);
                books.borrow_mut().report.fail(text);
                break;
            }
        }
        for delivery in batch.drain(..) {
            let (payload, attempt) = (delivery.payload(), delivery.attempt());
            let came = books.borrow_mut().came(nth, payload, attempt);
            delivery.ack();
            if let Some(number) = came {
                books.borrow_mut().said(number, Word::Acked);
                unstored.push((number, Word::Acked));
            }
        }
        receiver.settled().await?;
        books.borrow_mut().stored(&mut unstored);
    }
    receiver.close().await
}

/// The broker's books balance, in all and for each queue.
async fn balance(bus: &Bus, books: &RefCell<Books>) -> Result<posthaste::Stats, Error> {
    let stats = bus.stats().await?;
    let mut report = books.borrow_mut();
    let report = &mut report.report;
    if !stats.ledger.is_balanced() {
        report.unbalanced += 1;
        report.tell(format!("the ledger does not balance: {}", stats.ledger));
    }
    for queue in &stats.queues {
        if !queue.ledger.is_balanced() || queue.ledger.held != queue.messages {
            report.unbalanced += 1;
            report.tell(format!(
                "the ledger of {} does not balance: {}, messages {}",
                queue.name, queue.ledger, queue.messages
            ));
        }
    }
    Ok(stats)
}
