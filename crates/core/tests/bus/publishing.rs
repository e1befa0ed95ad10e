//! Publishing leases senders and gives back only those that are fit for the next user.

use posthaste_core::{Bus, Error, ErrorKind, Message, SenderOptions, Topic};

use crate::mock::Mock;
use crate::requests::ask;
use crate::tasks::{Task, settle};

fn bus() -> (Mock, Bus) {
    let mock = Mock::new();
    (mock.clone(), Bus::new(mock))
}

fn publish(bus: &Bus) -> Task<Result<u64, ErrorKind>> {
    let bus = bus.clone();
    Task::new(async move {
        let receipt = bus.publish("a.b", "x").await;
        receipt.map(|receipt| receipt.confirmed).map_err(|error| error.kind())
    })
}

#[test]
fn one_sender_serves_one_publish_after_the_other() {
    let (mock, bus) = bus();
    for _ in 0..5 {
        assert_eq!(publish(&bus).run(), Some(Ok(1)));
    }
    assert_eq!((mock.senders_opened(), mock.sent().len()), (1, 5));
}

#[test]
fn publishes_at_the_same_time_have_a_sender_each_and_truthful_receipts() {
    let (mock, bus) = bus();
    mock.hold_confirming(true);
    let mut tasks: Vec<_> = (0..3).map(|_| publish(&bus)).collect();
    for task in &mut tasks {
        assert_eq!(task.run(), None);
    }
    mock.hold_confirming(false);
    for task in &mut tasks {
        assert_eq!(task.run(), Some(Ok(1)));
    }
    assert_eq!(mock.senders_opened(), 3);
}

#[test]
fn at_most_64_idle_senders_are_kept() {
    let (mock, bus) = bus();
    mock.hold_confirming(true);
    let mut tasks: Vec<_> = (0..70).map(|_| publish(&bus)).collect();
    for task in &mut tasks {
        task.poll();
    }
    mock.hold_confirming(false);
    for task in &mut tasks {
        assert_eq!(task.run(), Some(Ok(1)));
    }
    assert_eq!((mock.senders_opened(), mock.senders_alive()), (70, 64));
}

#[test]
fn at_most_64_senders_are_opened_at_a_time() {
    let (mock, bus) = bus();
    mock.hold_senders(true);
    let mut publishing: Vec<_> = (0..200).map(|_| publish(&bus)).collect();
    settle(&mut publishing);
    assert_eq!(mock.senders_asked_for(), 64);
    let mut asking: Vec<_> = (0..200).map(|_| ask(&bus, "x")).collect();
    settle(&mut asking);
    assert_eq!(mock.senders_asked_for(), 128);
    mock.hold_senders(false);
    settle(&mut publishing);
    settle(&mut asking);
    assert!(publishing.iter().all(|task| task.output == Some(Ok(1))));
    assert_eq!(mock.sent().len(), 400);
    assert!(mock.senders_opened() < 400, "what came back was used again");
    drop(asking);
    assert_eq!(mock.senders_alive(), 128);
}

#[test]
fn a_sender_that_comes_back_goes_to_who_has_waited_longest() {
    let (mock, bus) = bus();
    assert_eq!(publish(&bus).run(), Some(Ok(1)));
    mock.hold_confirming(true);
    let mut first = publish(&bus);
    assert_eq!(first.run(), None);
    mock.hold_senders(true);
    let mut opening: Vec<_> = (0..64).map(|_| publish(&bus)).collect();
    settle(&mut opening);
    let mut waiting: Vec<_> = (0..3).map(|_| publish(&bus)).collect();
    settle(&mut waiting);
    waiting[0].drop_future();
    mock.hold_confirming(false);
    assert_eq!(first.run(), Some(Ok(1)));
    assert_eq!(waiting[2].run(), None, "it is not its turn");
    assert_eq!(waiting[1].run(), Some(Ok(1)));
    assert_eq!(waiting[2].run(), Some(Ok(1)));
    assert_eq!((mock.senders_opened(), mock.sent().len()), (1, 4));
}

#[test]
fn who_gives_up_while_it_waits_for_a_sender_passes_its_turn_on() {
    let (mock, bus) = bus();
    mock.hold_senders(true);
    let mut tasks: Vec<_> = (0..70).map(|_| publish(&bus)).collect();
    settle(&mut tasks);
    for dropped in [0, 64, 1] {
        tasks[dropped].drop_future();
    }
    settle(&mut tasks);
    assert_eq!(mock.senders_asked_for(), 66, "two turns were passed on, and one was waited for");
    // One that has a turn and does not know yet gives it back as well.
    tasks[2].drop_future();
    tasks[67].drop_future();
    settle(&mut tasks);
    assert_eq!(mock.senders_asked_for(), 67);
    mock.hold_senders(false);
    settle(&mut tasks);
    assert_eq!((mock.sent().len(), mock.senders_alive()), (65, 64));
}

#[test]
fn a_publish_dropped_before_it_was_taken_is_unsent_and_disarmed_and_its_sender_is_kept() {
    let (mock, bus) = bus();
    mock.hold_taking(true);
    let mut dropped = publish(&bus);
    assert_eq!(dropped.run(), None);
    dropped.drop_future();
    assert_eq!((mock.disarms(), mock.senders_alive()), (1, 1));
    mock.hold_taking(false);
    assert_eq!(publish(&bus).run(), Some(Ok(1)));
    assert_eq!((mock.senders_opened(), mock.sent().len()), (1, 1));
}

#[test]
fn a_publish_dropped_while_it_is_unconfirmed_takes_its_sender_with_it() {
    let (mock, bus) = bus();
    mock.hold_confirming(true);
    let mut dropped = publish(&bus);
    assert_eq!(dropped.run(), None);
    dropped.drop_future();
    assert_eq!((mock.disarms(), mock.senders_alive()), (1, 0));
    mock.hold_confirming(false);
    // The next receipt counts the next message alone.
    assert_eq!(publish(&bus).run(), Some(Ok(1)));
}

#[test]
fn a_sender_that_was_closed_while_idle_is_replaced_and_the_message_goes_out_once() {
    let (mock, bus) = bus();
    assert_eq!(publish(&bus).run(), Some(Ok(1)));
    mock.refuse(ErrorKind::Disconnected);
    assert_eq!(publish(&bus).run(), Some(Ok(1)));
    assert_eq!((mock.senders_opened(), mock.senders_alive(), mock.sent().len()), (2, 1, 2));
}

#[test]
fn a_fresh_sender_that_is_closed_is_an_error_and_is_not_kept() {
    let (mock, bus) = bus();
    mock.refuse(ErrorKind::Closed);
    assert_eq!(publish(&bus).run(), Some(Err(ErrorKind::Closed)));
    assert_eq!(mock.senders_alive(), 0);
}

#[test]
fn a_refusal_keeps_the_sender_and_hands_the_message_back() {
    let (mock, bus) = bus();
    mock.refuse(ErrorKind::TooLarge);
    let message = Message::new(Topic::new("a").unwrap(), "mine");
    let failed = pollster::block_on(bus.send_message(message)).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::TooLarge);
    assert_eq!(failed.into_message().payload(), "mine");
    assert_eq!(mock.senders_alive(), 1);
}

#[test]
fn a_returned_message_is_handed_back_with_its_reason() {
    let (mock, bus) = bus();
    mock.return_next(ErrorKind::Full);
    let message = Message::new(Topic::new("a").unwrap(), "mine");
    let failed = pollster::block_on(bus.send_message(message)).unwrap_err();
    assert_eq!(
        (failed.kind(), failed.message().payload().as_ref()),
        (ErrorKind::Full, &b"mine"[..])
    );
    assert_eq!(mock.senders_alive(), 1);
    mock.return_next(ErrorKind::Unknown);
    assert_eq!(publish(&bus).run(), Some(Err(ErrorKind::Unknown)));
    assert_eq!(mock.senders_alive(), 0);
}

#[test]
fn a_queue_that_is_not_there_is_declared_by_a_sender_of_its_own() {
    let (mock, bus) = bus();
    mock.refuse(ErrorKind::NotFound);
    let receipt = pollster::block_on(bus.send("jobs", "x")).unwrap();
    assert_eq!(receipt.confirmed, 1);
    assert_eq!(mock.senders_opened(), 2);
    assert!(mock.sent()[0].is_to_queue());
    // A topic is never declared.
    mock.refuse(ErrorKind::NotFound);
    assert_eq!(publish(&bus).run(), Some(Err(ErrorKind::NotFound)));
}

#[test]
fn bad_addresses_are_refused_before_anything_is_sent() {
    let (mock, bus) = bus();
    fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }
    pollster::block_on(async {
        assert_eq!(kind(bus.publish("a..b", "x").await), Some(ErrorKind::InvalidTopic));
        assert_eq!(kind(bus.send("a b", "x").await), Some(ErrorKind::InvalidTopic));
        let asked = kind(bus.request("a.*", "x").await);
        assert_eq!(asked, Some(ErrorKind::InvalidTopic));
        let served = kind(bus.serve("").open().await);
        assert_eq!(served, Some(ErrorKind::InvalidTopic));
    });
    assert_eq!((mock.senders_opened(), mock.inboxes_opened()), (0, 0));
}

#[test]
fn the_bus_and_its_futures_can_be_shared_and_spawned() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn spawned<T: Send>(_: &T) {}
    let (_mock, bus) = bus();
    shared(&bus);
    spawned(&bus.publish("a", "x"));
    spawned(&bus.send(String::from("a"), vec![1]));
    spawned(&bus.sender(SenderOptions::new()));
    spawned(&bus.request("a", "x").into_future());
    spawned(&bus.serve("a").open());
    let mut responder = pollster::block_on(bus.serve("a").open()).unwrap();
    spawned(&responder.recv());
    spawned(&responder.run(async |message: Message| Ok::<_, String>(message.into_payload())));
}
