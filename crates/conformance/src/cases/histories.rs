//! Cases of law B18 (and one of B12): queues that retain what was read, and those who read them.

use std::time::Duration;

use posthaste_core::{
    Ack, BoxReceiver, Broker, Delivery, ErrorKind, Message, Queue, Receiver, ReceiverExt,
    Retention, SenderExt, Start, Subscription, Topic,
};

use crate::Context;
use crate::context::{
    check_balance, check_sentence, next, number_of, numbered, numbered_to, send_numbers,
    take_numbers,
};
use crate::failure::{Failure, Outcome, check, check_eq};
use crate::poll::Probe;
use crate::random::Xorshift;

/// Soon enough for a test, and late enough to be told from at once.
const SOON: Duration = Duration::from_millis(30);

/// Long after any case has ended.
const LATER: Duration = Duration::from_secs(3_600);

async fn retaining(cx: &Context, retain: Retention) -> Result<Topic, Failure> {
    cx.queue_with("history", |queue| queue.retain(retain)).await
}

async fn reader(cx: &Context, queue: &Topic, start: Start) -> Result<BoxReceiver, Failure> {
    cx.receiver(Subscription::queue(queue)?.start(start)).await
}

/// What a reader says of a message: its number, where it is, and how many are missing before it.
type Found = (u64, u64, u64);

fn found(delivery: &Delivery) -> Result<Found, Failure> {
    let offset = delivery.offset();
    let offset = offset.ok_or_else(|| Failure::new("a message that is read has no offset"))?;
    check_eq!(delivery.attempt(), 1, "the attempt of a message that is read");
    check!(!delivery.is_leased(), "a message that is read owes an outcome");
    Ok((number_of(delivery)?, offset, delivery.missed()))
}

async fn read(reader: &mut (impl Receiver + ?Sized), count: usize) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(found(&next(reader).await?)?);
    }
    Ok(all)
}

/// Reads until the message of that number.
async fn read_to(reader: &mut (impl Receiver + ?Sized), last: u64) -> Result<Vec<Found>, Failure> {
    let mut all: Vec<Found> = Vec::new();
    while all.last().is_none_or(|(number, ..)| *number < last) {
        all.push(found(&next(reader).await?)?);
    }
    Ok(all)
}

fn numbers(all: &[Found]) -> Vec<u64> {
    all.iter().map(|(number, ..)| *number).collect()
}

/// Checks that what is missing between two messages is what both say.
fn check_gaps(all: &[Found], what: &str) -> Outcome {
    for pair in all.windows(2) {
        let [(_, before, _), (number, offset, missed)] = pair else { continue };
        check!(offset > before, "{what}: offset {offset} comes behind {before}");
        check_eq!(*missed, offset - before - 1, "{what}: messages missing before {number}");
    }
    Ok(())
}

async fn check_nothing(cx: &Context, reader: &mut BoxReceiver, what: &str) -> Outcome {
    cx.quiet().await?;
    let more = reader.try_recv()?;
    check!(more.is_none(), "{what}: {more:?} came");
    Ok(())
}

pub(crate) async fn b18_every_reader_gets_everything_in_order(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    let mut first = reader(&cx, &queue, Start::Beginning).await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=20).await?;
    let mut second = reader(&cx, &queue, Start::Beginning).await?;
    let one = read(&mut first, 20).await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 21..=30).await?;
    let mut third = reader(&cx, &queue, Start::Beginning).await?;
    let one = [one, read(&mut first, 10).await?].concat();
    let (other, last) = (read(&mut second, 30).await?, read(&mut third, 30).await?);
    check_eq!(numbers(&one), (1..=30).collect::<Vec<_>>(), "what the first reader got");
    check_gaps(&one, "the first reader")?;
    check_eq!(one[0].2, 0, "messages missing before the first");
    check_eq!(other, one, "what the second reader got, as the first");
    check_eq!(last, one, "what the third reader got, as the first");
    let info = cx.info(&queue).await?;
    check_eq!((info.messages, info.unsettled), (30, 0), "messages, and those unsettled");
    check_eq!((info.ledger.held, info.ledger.auto), (30, 0), "copies held, and settled by reading");
    check_balance(&info.ledger, "a queue that retains")
}

pub(crate) async fn b18_one_that_stops_goes_on_at_its_offset(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=40).await?;
    let whole = read(&mut reader(&cx, &queue, Start::Beginning).await?, 40).await?;
    let (mut random, mut start, mut pieces) = (Xorshift::new(18), Start::Beginning, Vec::new());
    while pieces.len() < 40 {
        let count = (random.below(9) + 1).min(40 - pieces.len());
        let mut reader = reader(&cx, &queue, start).await?;
        pieces.extend(read(&mut reader, count).await?);
        start = Start::Offset(pieces[pieces.len() - 1].1 + 1);
    }
    check_eq!(pieces, whole, "what was read in pieces");
    // One that is at the end waits for what comes, and so does one that is beyond it.
    let end = whole[39].1 + 1;
    let mut at_the_end = reader(&cx, &queue, Start::Offset(end)).await?;
    let mut beyond = reader(&cx, &queue, Start::Offset(end + 1_000)).await?;
    check_nothing(&cx, &mut at_the_end, "at the end").await?;
    check_nothing(&cx, &mut beyond, "beyond the end").await?;
    sender.send(numbered_to(&queue, 41)).await?;
    check_eq!(read(&mut at_the_end, 1).await?, [(41, end, 0)], "what came to one at the end");
    check_eq!(read(&mut beyond, 1).await?, [(41, end, 0)], "what came to one beyond it");
    Ok(())
}

pub(crate) async fn b18_one_for_what_is_new_sees_nothing_from_before(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=5).await?;
    let mut reader = reader(&cx, &queue, Start::New).await?;
    check_nothing(&cx, &mut reader, "from before").await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 6..=8).await?;
    let new = read(&mut reader, 3).await?;
    check_eq!(numbers(&new), [6, 7, 8], "what is new");
    check_eq!(new[0].2, 0, "messages missing before the first");
    check_gaps(&new, "what is new")
}

pub(crate) async fn b18_a_time_begins_with_what_came_then(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    cx.wait(SOON).await?;
    let then = cx.runtime()?.unix_time();
    cx.wait(SOON).await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 4..=6).await?;
    for (time, expected) in [(Duration::ZERO, 1), (then, 4)] {
        let mut reader = reader(&cx, &queue, Start::Time(time)).await?;
        let all = read_to(&mut reader, 6).await?;
        check_eq!(numbers(&all), (expected..=6).collect::<Vec<_>>(), "what came since {time:?}");
        check_eq!(all[0].2, 0, "messages missing before the first");
    }
    let mut later = reader(&cx, &queue, Start::Time(then + LATER)).await?;
    let mut soon = reader(&cx, &queue, Start::Time(cx.runtime()?.unix_time() + SOON)).await?;
    sender.send(numbered_to(&queue, 7)).await?;
    cx.wait(2 * SOON).await?;
    sender.send(numbered_to(&queue, 8)).await?;
    let (number, _, missed) = found(&next(&mut soon).await?)?;
    // A slow machine may not have sent the first one before its time.
    check!(number == 8 || number == 7, "what came at its time is {number}");
    check_eq!(missed, 0, "messages missing before what came at its time");
    check_nothing(&cx, &mut later, "before its time").await
}

pub(crate) async fn b18_a_bound_in_messages_lets_the_oldest_go(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new().messages(5)).await?;
    let mut sender = cx.sender().await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let first = read(&mut reader(&cx, &queue, Start::Beginning).await?, 1).await?[0].1;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 2..=12).await?;
    let all = read(&mut reader(&cx, &queue, Start::Beginning).await?, 5).await?;
    check_eq!(numbers(&all), [8, 9, 10, 11, 12], "what is left");
    check_eq!(all[0], (8, first + 7, 0), "the oldest, where it is, and what is missing before it");
    let again = read(&mut reader(&cx, &queue, Start::Offset(first)).await?, 1).await?;
    check_eq!(again, [(8, first + 7, 7)], "what an offset that is gone begins with");
    let info = cx.info(&queue).await?;
    check_eq!((info.messages, info.ledger.expired), (5, 7), "messages left, and copies let go");
    check_balance(&info.ledger, "a queue that retains")?;
    // Bounds may be changed; whether there is one may not.
    let fewer = Queue::new(queue.clone()).retain(Retention::new().messages(2));
    cx.broker().declare(fewer).await?;
    let all = read(&mut reader(&cx, &queue, Start::Beginning).await?, 2).await?;
    check_eq!(numbers(&all), [11, 12], "what is left of fewer");
    check_eq!(cx.info(&queue).await?.ledger.expired, 10, "copies let go");
    Ok(())
}

pub(crate) async fn b18_a_bound_in_bytes_lets_the_oldest_go(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new().bytes(4_000)).await?;
    let mut sender = cx.sender().await?;
    let large = |number: u64| {
        let payload = format!("{number:01000}");
        Message::to_queue(queue.clone(), payload)
    };
    send_numbers(&mut sender, large, 1..=9).await?;
    let info = cx.info(&queue).await?;
    check!(info.bytes <= 4_000, "{} bytes are left", info.bytes);
    check!((1..=3).contains(&info.messages), "{} messages are left", info.messages);
    check_eq!(info.ledger.expired, 9 - info.messages, "copies let go");
    let all = read_to(&mut reader(&cx, &queue, Start::Beginning).await?, 9).await?;
    check_eq!(all.len() as u64, info.messages, "messages that are there to read");
    // The newest stays however large it is.
    let largest = Message::to_queue(queue.clone(), format!("{:09000}", 10));
    sender.send(largest).await?;
    let all = read(&mut reader(&cx, &queue, Start::Beginning).await?, 1).await?;
    check_eq!(numbers(&all), [10], "what is left beside what is too large");
    Ok(())
}

pub(crate) async fn b18_an_age_lets_go_what_nobody_reads(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new().age(SOON)).await?;
    let mut sender = cx.sender().await?;
    let mut reader_of_all = reader(&cx, &queue, Start::Beginning).await?;
    let runtime = cx.runtime()?;
    let before = runtime.now();
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=3).await?;
    cx.until_queue(&queue, "all are let go", |info| info.messages == 0 && info.ledger.expired == 3)
        .await?;
    let lived = runtime.now() - before;
    check!(lived >= SOON, "messages that stay for {SOON:?} were gone after {lived:?}");
    // An age of zero is none.
    let for_ever = Queue::new(queue.clone()).retain(Retention::new().age(Duration::ZERO));
    cx.broker().declare(for_ever).await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 4..=5).await?;
    cx.wait(2 * SOON).await?;
    check_eq!(cx.info(&queue).await?.messages, 2, "messages that stay for ever");
    let all = read_to(&mut reader_of_all, 5).await?;
    check_gaps(&all, "the reader from the beginning")?;
    let told = all.iter().map(|(.., missed)| 1 + missed).sum::<u64>();
    check_eq!(told, 5, "messages that it read or was told of");
    Ok(())
}

pub(crate) async fn b18_the_last_of_each_key_stays(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new().last_per_key()).await?;
    let mut sender = cx.sender().await?;
    let keyed = |key: &str, number: u64| {
        Message::builder(queue.clone()).to_queue().key(key).payload(number.to_string()).build()
    };
    let keys = ["a", "b", "a", "c", "a", "b", "a"];
    for (number, key) in (1..).zip(keys) {
        sender.send(keyed(key, number)?).await?;
    }
    let mut reader = reader(&cx, &queue, Start::Beginning).await?;
    let all = read(&mut reader, 3).await?;
    check_eq!(numbers(&all), [4, 6, 7], "the last of each key");
    check_eq!(all[0].2, 0, "messages missing before the first");
    check_gaps(&all, "the last of each key")?;
    sender.send(keyed("c", 8)?).await?;
    check_eq!(numbers(&read(&mut reader, 1).await?), [8], "what comes then");
    let info = cx.info(&queue).await?;
    check_eq!(info.messages, 3, "messages, one for each key");
    let replaced = info.ledger.dropped_by.get("replaced").copied();
    check_eq!(replaced, Some(5), "copies that newer ones have replaced");
    check_balance(&info.ledger, "a queue that retains")
}

pub(crate) async fn b18_one_that_is_overtaken_hears_how_much_it_missed(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new().messages(4)).await?;
    let mut sender = cx.sender().await?;
    let slow = Subscription::queue(&queue)?.start(Start::Beginning).prefetch(1);
    let mut slow = cx.receiver(slow).await?;
    sender.send(numbered_to(&queue, 1)).await?;
    let mut all = read(&mut slow, 1).await?;
    for round in 1..=5 {
        let (from, to) = (round * 100 - 98, round * 100);
        send_numbers(&mut sender, |n| numbered_to(&queue, n), from..=to).await?;
        sender.send(numbered_to(&queue, to + 1)).await?;
        all.extend(read_to(&mut slow, to + 1).await?);
    }
    check_gaps(&all, "the slow reader")?;
    for (number, offset, _) in &all {
        check_eq!(offset - all[0].1, number - 1, "where number {number} is");
    }
    let (read, missed) = (all.len() as u64, all.iter().map(|(.., missed)| missed).sum::<u64>());
    check_eq!(read + missed, 501, "messages that it read or was told of");
    check!(missed > 400, "a reader that was overtaken five times missed {missed}");
    Ok(())
}

pub(crate) async fn b18_all_who_wait_are_woken(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    let mut one = reader(&cx, &queue, Start::Beginning).await?;
    let mut other = reader(&cx, &queue, Start::New).await?;
    let (probe, other_probe) = (Probe::new(), Probe::new());
    check!(probe.with(|cx| one.poll_recv(cx)).is_pending(), "one has nothing to wait for");
    check!(other_probe.with(|cx| other.poll_recv(cx)).is_pending(), "the other has not");
    sender.send(numbered_to(&queue, 1)).await?;
    probe.woken().await;
    other_probe.woken().await;
    let (one, other) = (read(&mut one, 1).await?, read(&mut other, 1).await?);
    check_eq!(numbers(&one), [1], "what one got");
    check_eq!(other, one, "what the other got");
    Ok(())
}

pub(crate) async fn b18_receives_given_up_lose_nothing(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    let mut reader = reader(&cx, &queue, Start::Beginning).await?;
    let (mut random, mut all) = (Xorshift::new(81), Vec::new());
    for number in 1..=60 {
        for _ in 0..random.below(3) {
            // Given up after one poll, it takes nothing and leaves nothing behind.
            if let Some(delivery) = reader.try_recv()? {
                all.push(found(&delivery)?);
            }
        }
        sender.send(numbered_to(&queue, number)).await?;
    }
    if all.len() < 60 {
        all.extend(read_to(&mut reader, 60).await?);
    }
    check_eq!(numbers(&all), (1..=60).collect::<Vec<_>>(), "what was read");
    check_gaps(&all, "the reader")
}

pub(crate) async fn b18_a_limit_ends_a_reader(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=9).await?;
    let of = Subscription::queue(&queue)?.start(Start::Beginning).limit(4);
    let mut reader = cx.receiver(of).await?;
    check_eq!(numbers(&read(&mut reader, 4).await?), [1, 2, 3, 4], "what it got");
    check!(reader.recv().await?.is_none(), "more came than it wanted");
    check_eq!(cx.info(&queue).await?.messages, 9, "messages that are still there");
    Ok(())
}

pub(crate) async fn b18_what_makes_no_sense_is_refused(cx: Context) -> Outcome {
    let retained = retaining(&cx, Retention::new().messages(9)).await?;
    let plain = cx.queue("plain").await?;
    let declare = async |queue: Queue| cx.broker().declare(queue).await;
    let named = || Queue::new(retained.clone());
    let peer = cx.peer();
    let of = |queue: &Topic| Subscription::queue(queue);
    let read = |queue: &Topic| Ok::<_, Failure>(of(queue)?.start(Start::Beginning));
    let absent = cx.topic("absent")?;
    let answers = [
        ("retaining, in a plain queue", ErrorKind::Conflict, {
            declare(Queue::new(plain.clone()).retain(Retention::new())).await
        }),
        ("a capacity", ErrorKind::InvalidArgument, declare(named().capacity(9)).await),
        ("attempts", ErrorKind::InvalidArgument, declare(named().max_attempts(3)).await),
        ("a dead-letter queue", ErrorKind::InvalidArgument, {
            declare(named().dead_letter(plain.clone())).await
        }),
        ("consuming it", ErrorKind::Conflict, peer.receiver(of(&retained)?).await.map(drop)),
        ("reading a plain one", ErrorKind::Conflict, peer.receiver(read(&plain)?).await.map(drop)),
        ("reading what is not there", ErrorKind::NotFound, {
            peer.receiver(read(&absent)?).await.map(drop)
        }),
        ("settling what is read", ErrorKind::InvalidArgument, {
            peer.receiver(read(&retained)?.ack(Ack::Manual)).await.map(drop)
        }),
        ("a topic's start", ErrorKind::InvalidArgument, {
            let topic = Subscription::topic(cx.pattern("news")?)?.start(Start::New);
            peer.receiver(topic).await.map(drop)
        }),
    ];
    for (what, expected, answer) in answers {
        let Err(error) = answer else {
            return Err(Failure::new(format!("{what} is no error")));
        };
        check_eq!(error.kind(), expected, "the error of {what}");
        check_sentence(&error, what)?;
        let names = what != "retaining, in a plain queue" || error.text().contains("retain");
        check!(names, "the conflict does not name the field: {error}");
    }
    let settings = cx.info(&retained).await?.settings;
    check_eq!(settings.retain, Some(Retention::new().messages(9)), "what it says it retains");
    check_eq!(cx.info(&plain).await?.settings.retain, None, "what a plain one says");
    Ok(())
}

pub(crate) async fn b18_purging_and_browsing_are_as_ever(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let mut sender = cx.sender().await?;
    send_numbers(&mut sender, |n| numbered_to(&queue, n), 1..=6).await?;
    let mut reader = reader(&cx, &queue, Start::Beginning).await?;
    let all = read(&mut reader, 6).await?;
    let shown = cx.broker().browse(&queue, Some(all[1].1), 3).await?;
    let shown: Vec<_> = shown.iter().map(|this| this.position).collect();
    let offsets: Vec<_> = all[2..5].iter().map(|(_, offset, _)| *offset).collect();
    check_eq!(shown, offsets, "the positions that browsing shows");
    check_eq!(cx.broker().purge(&queue).await?, 6, "messages that were purged");
    let info = cx.info(&queue).await?;
    let purged = info.ledger.dropped_by.get("purged").copied();
    check_eq!((info.messages, purged), (0, Some(6)), "messages left, and copies purged");
    sender.send(numbered_to(&queue, 7)).await?;
    let next = read(&mut reader, 1).await?;
    check_eq!(next, [(7, all[5].1 + 1, 0)], "what comes to a reader that had read all");
    Ok(())
}

pub(crate) async fn b18_a_topics_messages_are_retained(cx: Context) -> Outcome {
    let pattern = cx.pattern("orders.>")?;
    let queue =
        cx.queue_with("history", |queue| queue.bind(pattern).retain(Retention::new())).await?;
    let topics = [cx.topic("orders.eu")?, cx.topic("orders.us.west")?];
    let mut sender = cx.sender().await?;
    let mut live = cx.subscriber("orders.>").await?;
    send_numbers(&mut sender, |n| numbered(&topics[usize::from(n % 2 == 0)], n), 1..=8).await?;
    let mut reader = reader(&cx, &queue, Start::Beginning).await?;
    for number in 1..=8 {
        let (then, now) = (next(&mut reader).await?, next(&mut live).await?);
        check_eq!(number_of(&then)?, number, "what came later");
        check_eq!(then.message().topic(), now.message().topic(), "the topic, as it came at once");
    }
    Ok(())
}

pub(crate) async fn b18_a_request_finds_nobody_in_it(cx: Context) -> Outcome {
    let queue = retaining(&cx, Retention::new()).await?;
    let _reader = reader(&cx, &queue, Start::Beginning).await?;
    let bus = cx.bus();
    for ask in [bus.request(&queue, "?").to_queue(), bus.request(&queue, "?").to_queue().waits()] {
        let kind = ask.await.err().map(|error| error.kind());
        check_eq!(kind, Some(ErrorKind::NoResponders), "the answer to a request");
    }
    check_eq!(cx.info(&queue).await?.messages, 0, "messages that are retained");
    Ok(())
}

pub(crate) async fn b12_a_known_id_is_not_retained_again(cx: Context) -> Outcome {
    let queue = cx
        .queue_with("history", |queue| queue.retain(Retention::new()).dedup_window(LATER))
        .await?;
    let mut sender = cx.sender().await?;
    for number in [1, 2, 1, 3, 2] {
        let message = Message::builder(queue.clone()).to_queue().id(format!("id-{number}"));
        sender.send(message.payload(number.to_string()).build()?).await?;
    }
    let mut reader = reader(&cx, &queue, Start::Beginning).await?;
    check_eq!(take_numbers(&mut reader, 3).await?, [1, 2, 3], "what is retained");
    check_eq!(cx.info(&queue).await?.ledger.duplicates, 2, "duplicates");
    Ok(())
}
