//! Responders answer each request once; handlers run side by side in one task, so many at most.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::oneshot;
use posthaste_core::task::lock;
use posthaste_core::{Bus, Consumer, ErrorKind, Kind, Message, Responder, Status, Topic};

use crate::clock::Clock;
use crate::mock::Mock;
use crate::requests::bus;
use crate::tasks::Task;

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn request(payload: &str) -> Message {
    Message::builder(topic("math.add"))
        .reply_to(topic("_ph.inbox.9"), 77)
        .header("trace", "1")
        .payload(payload.to_owned())
        .build()
        .unwrap()
}

fn open(bus: &Bus) -> Responder {
    pollster::block_on(bus.serve("math.*").concurrency(2).open()).unwrap()
}

/// Answers that a test gives by hand, in the order in which the handlers began.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Mutex<VecDeque<Answer>>>);

type Answer = oneshot::Sender<Result<String, String>>;

impl Desk {
    pub(crate) fn handler(
        &self,
    ) -> impl FnMut(Message) -> futures::future::BoxFuture<'static, Result<String, String>> + use<>
    {
        let desk = self.clone();
        move |_message| {
            let (answer, answered) = oneshot::channel();
            lock(&desk.0).push_back(answer);
            Box::pin(async move { answered.await.unwrap_or_else(|_| Err("nobody".to_owned())) })
        }
    }

    pub(crate) fn running(&self) -> usize {
        lock(&self.0).iter().filter(|answer| !answer.is_canceled()).count()
    }

    pub(crate) fn answer(&self, answer: Result<&str, &str>) {
        let first = lock(&self.0).pop_front().expect("a handler runs");
        let _ = first.send(answer.map(str::to_owned).map_err(str::to_owned));
    }
}

fn replies(mock: &Mock) -> Vec<(Option<Status>, String)> {
    let text = |message: &Message| String::from_utf8_lossy(message.payload()).into_owned();
    mock.sent().iter().map(|message| (message.status(), text(message))).collect()
}

#[test]
fn a_request_is_replied_to_and_then_acked() {
    let (mock, bus) = bus();
    let mut responder = open(&bus);
    mock.requests().lend(request("20 22"));
    let request = pollster::block_on(responder.recv()).unwrap().unwrap();
    assert_eq!((request.topic().as_str(), request.payload().as_ref()), ("math.add", &b"20 22"[..]));
    assert_eq!((request.header("trace"), request.deadline()), (Some("1"), None));
    mock.hold_confirming(true);
    let mut replying = Task::new(request.reply("42"));
    assert!(replying.run().is_none());
    assert!(mock.requests().outcomes().is_empty());
    mock.hold_confirming(false);
    replying.run().unwrap().unwrap();
    assert_eq!(mock.requests().outcomes(), ["0 ack"]);
    let reply = &mock.sent()[0];
    assert_eq!((reply.kind(), reply.correlation()), (Kind::Reply, 77));
    assert_eq!((reply.topic().as_str(), reply.payload().as_ref()), ("_ph.inbox.9", &b"42"[..]));
}

#[test]
fn a_failed_request_carries_the_responders_own_text() {
    let (mock, bus) = bus();
    let mut responder = open(&bus);
    mock.requests().lend(request("x"));
    let request = pollster::block_on(responder.recv()).unwrap().unwrap();
    pollster::block_on(request.fail("not a number")).unwrap();
    assert_eq!(replies(&mock), [(Some(Status::Failed), "not a number".to_owned())]);
    assert_eq!(mock.requests().outcomes(), ["0 ack"]);
}

#[test]
fn a_message_that_asks_for_no_reply_is_settled_by_its_answer() {
    let (mock, bus) = bus();
    let mut responder = open(&bus);
    let event = || Message::new(topic("math.add"), "x");
    for _ in 0..2 {
        mock.requests().lend(event());
    }
    pollster::block_on(async {
        responder.recv().await.unwrap().unwrap().reply("42").await.unwrap();
        responder.recv().await.unwrap().unwrap().fail("bad").await.unwrap();
    });
    assert_eq!(mock.requests().outcomes(), ["0 ack", "1 reject: bad"]);
    assert!(mock.sent().is_empty());
}

#[test]
fn a_request_dropped_or_unanswerable_is_left_to_the_broker() {
    let (mock, bus) = bus();
    let mut responder = open(&bus);
    for _ in 0..2 {
        mock.requests().lend(request("x"));
    }
    drop(pollster::block_on(responder.recv()).unwrap());
    let request = pollster::block_on(responder.recv()).unwrap().unwrap();
    mock.refuse(ErrorKind::TooLarge);
    let failed = pollster::block_on(request.reply("large")).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::TooLarge);
    assert_eq!(mock.requests().outcomes(), ["0 dropped", "1 dropped"]);
}

#[test]
fn an_expired_request_is_rejected_instead_of_handed_out() {
    let mock = Mock::new();
    let clock = Clock::new();
    let bus = Bus::with_runtime(mock.clone(), clock.runtime());
    let mut responder = open(&bus);
    let now = clock.runtime().now();
    for seconds in [0, 2] {
        let timed = Message::builder(topic("math.add"))
            .reply_to(topic("r"), 1)
            .deadline(now + Duration::from_secs(seconds))
            .build();
        mock.requests().lend(timed.unwrap());
    }
    let request = pollster::block_on(responder.recv()).unwrap().unwrap();
    assert_eq!(request.remaining(), Some(Duration::from_secs(2)));
    clock.advance(Duration::from_secs(1));
    assert_eq!(request.remaining(), Some(Duration::from_secs(1)));
    assert_eq!(mock.requests().outcomes(), ["0 reject: expired"]);
}

#[test]
fn a_dropped_receive_loses_no_request() {
    let (mock, bus) = bus();
    let mut responder = open(&bus);
    drop(futures::FutureExt::now_or_never(responder.recv()));
    mock.requests().lend(request("x"));
    assert!(pollster::block_on(responder.recv()).unwrap().is_some());
}

#[test]
fn a_handlers_concurrency_is_bounded_and_a_free_place_is_taken_at_once() {
    let (mock, bus) = bus();
    let desk = Desk::default();
    let mut serving = Task::new(open(&bus).run(desk.handler()));
    for _ in 0..5 {
        mock.requests().lend(request("x"));
    }
    assert!(serving.run().is_none());
    assert_eq!(desk.running(), 2);
    for left in (0..5_usize).rev() {
        desk.answer(Ok("done"));
        assert!(serving.run().is_none());
        assert_eq!(desk.running(), left.min(2));
    }
    assert_eq!(mock.requests().outcomes().len(), 5);
    // More come after it was idle.
    mock.requests().lend(request("x"));
    assert!(serving.run().is_none());
    assert_eq!(desk.running(), 1);
}

#[test]
fn handlers_finish_in_any_order_and_each_answers_its_own_request() {
    let (mock, bus) = bus();
    let desk = Desk::default();
    let mut serving = Task::new(open(&bus).run(desk.handler()));
    mock.requests().lend(request("first"));
    mock.requests().lend(request("second"));
    assert!(serving.run().is_none());
    let first = lock(&desk.0).pop_front().unwrap();
    desk.answer(Err("no"));
    assert!(serving.run().is_none());
    assert_eq!(mock.requests().outcomes(), ["1 ack"]);
    first.send(Ok("yes".to_owned())).unwrap();
    assert!(serving.run().is_none());
    assert_eq!(mock.requests().outcomes(), ["1 ack", "0 ack"]);
    assert_eq!(replies(&mock), [(Some(Status::Failed), "no".to_owned()), (None, "yes".to_owned())]);
}

#[test]
fn a_reply_that_cannot_be_sent_becomes_an_error_reply() {
    let (mock, bus) = bus();
    let desk = Desk::default();
    let mut serving = Task::new(open(&bus).run(desk.handler()));
    mock.requests().lend(request("x"));
    assert!(serving.run().is_none());
    mock.refuse(ErrorKind::TooLarge);
    desk.answer(Ok("large"));
    assert!(serving.run().is_none());
    assert_eq!(replies(&mock), [(Some(Status::Failed), "scripted".to_owned())]);
    assert_eq!(mock.requests().outcomes(), ["0 ack"]);
}

#[test]
fn a_handler_whose_requester_has_gone_is_dropped() {
    let (mock, bus) = bus();
    let desk = Desk::default();
    let mut serving = Task::new(open(&bus).run(desk.handler()));
    let tag = mock.requests().lend(request("x"));
    assert!(serving.run().is_none());
    mock.requests().cancel(tag);
    assert!(serving.run().is_none());
    assert_eq!((desk.running(), replies(&mock).len()), (0, 0));
    assert_eq!(mock.requests().outcomes(), ["0 ack"]);
}

#[test]
fn serving_ends_with_its_receiver_after_the_last_handler() {
    for end in [Ok(()), Err(ErrorKind::Disconnected)] {
        let (mock, bus) = bus();
        let desk = Desk::default();
        let mut serving = Task::new(open(&bus).run(desk.handler()));
        mock.requests().lend(request("x"));
        mock.requests().end(end);
        assert!(serving.run().is_none());
        desk.answer(Ok("done"));
        assert_eq!(serving.run().unwrap().map_err(|error| error.kind()), end);
        assert_eq!(mock.requests().outcomes(), ["0 ack"]);
    }
}

#[test]
fn dropping_the_serving_future_drops_what_is_unanswered() {
    let (mock, bus) = bus();
    let desk = Desk::default();
    let mut serving = Task::new(open(&bus).run(desk.handler()));
    mock.requests().lend(request("x"));
    assert!(serving.run().is_none());
    serving.drop_future();
    assert_eq!((desk.running(), mock.requests().outcomes()), (0, vec!["0 dropped".to_owned()]));
}

#[test]
fn a_panic_in_a_handler_goes_through_and_drops_the_request() {
    let (mock, bus) = bus();
    let responder = open(&bus);
    mock.requests().lend(request("x"));
    let serving = responder.run(async |message: Message| {
        assert!(message.payload().is_empty(), "a handler's own panic");
        Ok::<_, String>("")
    });
    let mut serving = Task::new(serving);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serving.poll()));
    assert!(panicked.is_err());
    serving.drop_future();
    assert_eq!(mock.requests().outcomes(), ["0 dropped"]);
}

#[test]
fn handlers_that_never_wait_leave_the_executor_time_for_others() {
    let (mock, bus) = bus();
    let mut serving = Task::new(open(&bus).run(async |_| Ok::<_, String>("")));
    for _ in 0..1_000 {
        mock.requests().lend(request("x"));
    }
    serving.poll();
    assert!(serving.is_woken() && mock.requests().outcomes().len() < 1_000);
    assert!(serving.run().is_none());
    assert_eq!(mock.requests().outcomes().len(), 1_000);
}

#[test]
fn a_responder_over_a_queue_binds_it_unless_it_has_the_patterns_name() {
    let (mock, bus) = bus();
    pollster::block_on(async {
        bus.serve("math.*").queue("sums").open().await.unwrap();
        bus.serve("sums").queue("sums").open().await.unwrap();
        bus.serve("math.*").group("g").open().await.unwrap();
    });
    assert_eq!(mock.declared(), [r#"sums [Pattern("math.*")]"#]);
}

#[test]
fn a_consumer_acks_what_succeeds_and_retries_what_fails_for_its_reason() {
    let (mock, bus) = bus();
    let jobs = pollster::block_on(bus.consume("jobs")).unwrap();
    let working = Consumer::new(jobs).run(2, async |job: Message| match job.payload().as_ref() {
        b"good" => Ok(()),
        _ => Err("bad payload"),
    });
    for payload in ["good", "bad"] {
        mock.requests().lend(Message::to_queue(topic("jobs"), payload));
    }
    mock.requests().end(Ok(()));
    Task::new(working).run().unwrap().unwrap();
    assert_eq!(mock.requests().outcomes(), ["0 ack", "1 retry after 0ns: bad payload"]);
}
