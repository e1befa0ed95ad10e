//! A request is answered by its own reply, once, or told why there is none.

use posthaste_core::{Bus, Error, ErrorKind, Message, Status, Topic};

use crate::mock::Mock;
use crate::tasks::{Task, settle};

type Answer = Result<String, ErrorKind>;

pub(crate) fn bus() -> (Mock, Bus) {
    let mock = Mock::new();
    (mock.clone(), Bus::new(mock))
}

pub(crate) fn ask(bus: &Bus, payload: &'static str) -> Task<Answer> {
    let asking = bus.request("math.add", payload).into_future();
    Task::new(async move {
        match asking.await {
            Ok(reply) => Ok(String::from_utf8_lossy(reply.payload()).into_owned()),
            Err(error) => Err(error.kind()),
        }
    })
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn every_order_of_replies_reaches_the_right_requesters() {
    let mut orders = 0;
    for code in 0..256_usize {
        let order: Vec<usize> = (0..4).map(|place| code >> (2 * place) & 3).collect();
        if (0..4).any(|index| !order.contains(&index)) {
            continue;
        }
        orders += 1;
        let (mock, bus) = bus();
        let mut tasks = NAMES.map(|name| ask(&bus, name));
        settle(&mut tasks);
        for index in order {
            mock.answer(NAMES[index]);
            settle(&mut tasks);
            assert_eq!(tasks[index].output, Some(Ok(NAMES[index].to_owned())));
        }
        assert_eq!((mock.inboxes_opened(), bus.late_replies()), (1, 0));
    }
    assert_eq!(orders, 24);
}

#[test]
fn replies_that_come_together_are_taken_in_one_turn() {
    let (mock, bus) = bus();
    let mut tasks = NAMES.map(|name| ask(&bus, name));
    settle(&mut tasks);
    let polls = mock.inbox().polls();
    NAMES.iter().for_each(|name| mock.answer(name));
    // One request was woken to take the turn; the others only once their replies were there.
    assert_eq!(tasks.iter().filter(|task| task.is_woken()).count(), 1);
    settle(&mut tasks);
    assert_eq!(mock.inbox().polls(), polls + 2);
    assert!(tasks.iter().all(|task| task.output.is_some()));
}

#[test]
fn a_request_carries_what_it_was_given() {
    let (mock, bus) = bus();
    let asking = bus.request("jobs", "x").header("trace", "7").key("k").id("i").to_queue().waits();
    assert!(format!("{asking:?}").contains("jobs"));
    Task::new(asking).run();
    let sent = mock.request("x").unwrap();
    assert_eq!(sent.header("trace"), Some("7"));
    assert_eq!((sent.key(), sent.id()), (Some("k"), Some("i")));
    assert!(sent.is_to_queue() && sent.waits());
    assert_ne!(sent.correlation(), 0);
    assert_eq!(sent.reply_to().unwrap().as_str(), "_ph.inbox.1");
}

#[test]
fn a_status_becomes_the_error_of_its_kind() {
    let cases = [
        (Status::NoResponders, "", ErrorKind::NoResponders, "nobody answers requests to math.add"),
        (Status::NoResponders, "gone", ErrorKind::NoResponders, "gone"),
        (Status::Failed, "divided by zero", ErrorKind::Failed, "divided by zero"),
        (Status::Failed, "", ErrorKind::Failed, "the responder of math.add failed"),
    ];
    for (status, text, kind, shown) in cases {
        let (mock, bus) = bus();
        let mut task = Task::new(bus.request("math.add", "x"));
        assert!(task.run().is_none());
        let status = mock.request("x").unwrap().status_reply(status, text).unwrap();
        mock.inbox().deliver(status);
        let error: Error = task.run().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.text()), (kind, shown));
    }
}

#[test]
fn a_reply_can_come_before_the_confirm() {
    let (mock, bus) = bus();
    mock.hold_confirming(true);
    let mut task = ask(&bus, "a");
    assert_eq!(task.run(), None);
    mock.answer("a");
    assert_eq!(task.run(), Some(Ok("a".to_owned())));
    // Its sender is free for the next request, which is not misled by the older message.
    assert_eq!((mock.disarms(), mock.senders_alive()), (1, 1));
    mock.hold_confirming(false);
    let mut next = ask(&bus, "b");
    assert_eq!(next.run(), None);
    mock.answer("b");
    assert_eq!(next.run(), Some(Ok("b".to_owned())));
    assert_eq!(mock.senders_opened(), 1);
}

#[test]
fn a_request_that_comes_back_is_an_error_at_once() {
    let (mock, bus) = bus();
    mock.return_next(ErrorKind::Full);
    assert_eq!(ask(&bus, "a").run(), Some(Err(ErrorKind::Full)));
    mock.refuse(ErrorKind::TooLarge);
    assert_eq!(ask(&bus, "b").run(), Some(Err(ErrorKind::TooLarge)));
    assert!(format!("{bus:?}").contains("waiting_requests: 0"));
}

#[test]
fn a_request_whose_sender_was_closed_while_idle_goes_out_by_another() {
    let (mock, bus) = bus();
    let mut first = ask(&bus, "a");
    first.run();
    mock.answer("a");
    first.run();
    mock.refuse(ErrorKind::Closed);
    let mut second = ask(&bus, "b");
    assert_eq!(second.run(), None);
    mock.answer("b");
    assert_eq!(second.run(), Some(Ok("b".to_owned())));
    assert_eq!(mock.senders_opened(), 2);
}

#[test]
fn late_and_unknown_replies_are_counted_and_delivered_to_nobody() {
    let (mock, bus) = bus();
    let mut dropped = ask(&bus, "a");
    dropped.run();
    dropped.drop_future();
    // Its slot is used again, by a request of another generation.
    let mut next = ask(&bus, "b");
    assert_eq!(next.run(), None);
    mock.answer("a");
    assert_eq!(next.run(), None);
    assert_eq!(bus.late_replies(), 1);
    // An answer that nobody asked for, one without a correlation, and a second one.
    let stranger = Message::builder(Topic::new("t").unwrap())
        .reply_to(Topic::new("r").unwrap(), 0xffff_ffff)
        .build()
        .unwrap();
    mock.inbox().deliver(stranger.reply("x").unwrap());
    mock.inbox().deliver(Message::new(Topic::new("t").unwrap(), "x"));
    mock.answer("b");
    mock.answer("b");
    assert_eq!(next.run(), Some(Ok("b".to_owned())));
    assert_eq!(bus.late_replies(), 4);
}

#[test]
fn an_answered_request_that_is_dropped_unpolled_counts_its_reply_as_late() {
    let (mock, bus) = bus();
    let mut tasks = [ask(&bus, "a"), ask(&bus, "b")];
    settle(&mut tasks);
    mock.answer("a");
    tasks[1].poll();
    assert_eq!((bus.late_replies(), tasks[0].is_woken()), (0, true));
    tasks[0].drop_future();
    assert_eq!(bus.late_replies(), 1);
}

#[test]
fn a_lost_inbox_fails_everyone_who_waits_and_the_next_request_opens_another() {
    for end in [Ok(()), Err(ErrorKind::Disconnected)] {
        let (mock, bus) = bus();
        let mut tasks = NAMES.map(|name| ask(&bus, name));
        settle(&mut tasks);
        mock.inbox().end(end);
        settle(&mut tasks);
        let kind = end.err().unwrap_or(ErrorKind::Closed);
        for task in &tasks {
            assert_eq!(task.output, Some(Err(kind)));
        }
        let mut next = ask(&bus, "next");
        assert_eq!(next.run(), None);
        assert_eq!(mock.inboxes_opened(), 2);
        mock.answer("next");
        assert_eq!(next.run(), Some(Ok("next".to_owned())));
    }
}

#[test]
fn requests_share_one_opening_of_the_inbox_and_its_failure() {
    let (mock, bus) = bus();
    mock.hold_opening(true);
    mock.refuse_inbox(ErrorKind::Refused);
    let mut tasks = NAMES.map(|name| ask(&bus, name));
    settle(&mut tasks);
    mock.hold_opening(false);
    settle(&mut tasks);
    for task in &tasks {
        assert_eq!(task.output, Some(Err(ErrorKind::Refused)));
    }
    assert!(mock.sent().is_empty());
    let mut tasks = NAMES.map(|name| ask(&bus, name));
    settle(&mut tasks);
    assert_eq!((mock.inboxes_opened(), mock.sent().len()), (1, 4));
}

#[test]
fn at_most_65_536_requests_wait_and_a_free_slot_serves_again() {
    let (mock, bus) = bus();
    mock.hold_taking(true);
    mock.hold_opening(true);
    let mut tasks: Vec<_> = (0..65_536).map(|_| ask(&bus, "a")).collect();
    tasks.iter_mut().for_each(|task| {
        task.poll();
    });
    assert_eq!(ask(&bus, "b").run(), Some(Err(ErrorKind::Limit)));
    tasks.pop();
    assert_eq!(ask(&bus, "b").run(), None);
}

#[test]
fn a_request_says_what_it_is_whatever_the_one_before_it_was() {
    let (mock, bus) = bus();
    let topics = ["a", "a", "a.b", "a", "ab", "a.topic.too.long.to.lie.in.place", "a"];
    let mut tasks = Vec::new();
    for (number, topic) in topics.into_iter().cycle().take(28).enumerate() {
        let ask = bus.request(topic, "x");
        tasks.push(Task::new(match number % 3 {
            0 => ask.header("number", number.to_string()).key("k"),
            _ => ask,
        }));
    }
    settle(&mut tasks);
    let sent = mock.sent();
    let inbox = sent[0].reply_to().expect("a request");
    assert_eq!(sent.len(), 28);
    for (number, message) in sent.iter().enumerate() {
        assert_eq!(message.topic().as_str(), topics[number % 7]);
        assert_eq!(message.reply_to(), Some(inbox.clone()));
        let rich = number % 3 == 0;
        assert_eq!(message.key(), rich.then_some("k"));
        let header = message.header("number").map(str::parse);
        assert_eq!(header, rich.then_some(Ok(number)));
    }
}
