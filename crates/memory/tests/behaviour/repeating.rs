//! Messages that may have been sent before, under a session that is lost.

use std::time::Duration;

use posthaste_core::{
    Broker, ErrorKind, Message, MessageBuilder, Pattern, Queue, ReceiverExt, SenderExt,
    Subscription,
};

use super::{ledger, now, receiver, sender, topic, with_clock};

const WINDOW: Duration = Duration::from_secs(3600);

fn again(draft: MessageBuilder) -> Message {
    draft.build().unwrap().into_repeat()
}

#[test]
fn one_that_came_before_is_noticed_and_one_that_did_not_is_taken() {
    let (_runtime, memory) = with_clock();
    pollster::block_on(memory.declare(Queue::new(topic("q")).dedup_window(WINDOW))).unwrap();
    let draft = |id| Message::builder(topic("q")).to_queue().id(id);
    let mut sending = sender(&memory);
    pollster::block_on(sending.send(draft("1").build().unwrap())).unwrap();
    pollster::block_on(sending.send(again(draft("1")))).unwrap();
    pollster::block_on(sending.send(again(draft("2")))).unwrap();
    let books = ledger(&memory);
    assert_eq!((books.accepted, books.duplicates), (2, 1));
}

#[test]
fn nobody_sees_that_it_may_have_come_before() {
    let (_runtime, memory) = with_clock();
    pollster::block_on(memory.declare(Queue::new(topic("q")).dedup_window(WINDOW))).unwrap();
    let sent = again(Message::builder(topic("q")).to_queue().id("1"));
    pollster::block_on(sender(&memory).send(sent)).unwrap();
    let mut consumer = receiver(&memory, &Subscription::queue("q").unwrap());
    assert!(!now(&mut consumer, |this| this.ack_into_message().is_repeat()));
}

#[test]
fn where_nobody_would_notice_it_is_refused_as_unknown() {
    let (_runtime, memory) = with_clock();
    for (name, window) in [("plain", Duration::ZERO), ("window", WINDOW)] {
        let bound = Queue::new(topic(name)).bind(Pattern::new(format!("{name}.*")).unwrap());
        pollster::block_on(memory.declare(bound.dedup_window(window))).unwrap();
    }
    let mut subscriber = receiver(&memory, &Subscription::topic("window.seen").unwrap());
    let refused = [
        Message::builder(topic("plain")).to_queue().id("1"),
        Message::builder(topic("window")).to_queue(),
        Message::builder(topic("plain.a")).id("1"),
        // The queue would notice, the subscriber would not.
        Message::builder(topic("window.seen")).id("1"),
        // Those who had it may be gone.
        Message::builder(topic("nobody")).id("1"),
        Message::builder(topic("nobody")).reply_to(topic("answers"), 7),
    ];
    for draft in refused {
        let failed = pollster::block_on(sender(&memory).send(again(draft))).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unknown, "{failed}");
        assert!(failed.to_string().contains("may or may not have arrived"), "{failed}");
    }
    assert!(subscriber.try_recv().unwrap().is_none());
    assert_eq!(ledger(&memory).accepted, 0);
    let taken = again(Message::builder(topic("window.a")).id("1"));
    assert_eq!(pollster::block_on(sender(&memory).send(taken)).unwrap().matched, 1);
}
