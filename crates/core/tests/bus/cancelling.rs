//! Nobody works for a requester that is gone: dropped requests are cancelled, and handlers end with
//! their requests.

use std::time::Duration;

use posthaste_core::{Bus, ErrorKind, Message, Topic};

use crate::clock::Clock;
use crate::mock::Mock;
use crate::requests::{ask, bus};
use crate::serving::Desk;
use crate::tasks::{Task, settle};

const SECOND: Duration = Duration::from_secs(1);

fn timed() -> (Mock, Clock, Bus) {
    let (mock, clock) = (Mock::new().with_deadlines(), Clock::new());
    (mock.clone(), clock.clone(), Bus::with_runtime(mock, clock.runtime()))
}

fn sent(mock: &Mock) -> Vec<u64> {
    mock.sent().iter().map(Message::correlation).collect()
}

fn is_empty(bus: &Bus) -> bool {
    format!("{bus:?}").contains("waiting_requests: 0")
}

#[test]
fn a_request_dropped_before_its_outcome_is_cancelled_if_it_was_sent() {
    let unsent = [Mock::hold_opening, Mock::hold_taking];
    for (hold, count) in unsent
        .map(|hold| (hold, 0))
        .into_iter()
        .chain([(Mock::hold_confirming as fn(&Mock, bool), 1), (|_: &Mock, _: bool| {}, 1)])
    {
        let (mock, bus) = bus();
        hold(&mock, true);
        let mut task = ask(&bus, "a");
        assert_eq!(task.run(), None);
        task.drop_future();
        assert_eq!((mock.cancelled(), mock.sent().len()), (sent(&mock), count));
        assert!(is_empty(&bus));
    }
}

#[test]
fn a_request_with_an_outcome_is_not_cancelled() {
    let (mock, clock, bus) = timed();
    let asking = || Task::new(bus.request("t", "x").within(SECOND));
    // Answered, and read or not.
    let mut tasks = [asking(), asking()];
    settle(&mut tasks);
    for request in mock.sent() {
        mock.inbox().deliver(request.reply("y").unwrap());
    }
    tasks[0].poll();
    drop(tasks);
    // Too late, and told so or not.
    let mut tasks = [asking(), asking()];
    settle(&mut tasks);
    clock.advance(SECOND);
    tasks[0].run();
    drop(tasks);
    // Refused.
    mock.return_next(ErrorKind::Full);
    asking().run();
    assert!(mock.cancelled().is_empty() && is_empty(&bus));
}

#[test]
fn a_request_dropped_after_any_number_of_polls_leaves_nothing_and_is_cancelled_if_unanswered() {
    for polls in 0..8 {
        let (mock, bus) = bus();
        let holds = [Mock::hold_opening, Mock::hold_taking, Mock::hold_confirming];
        holds.iter().for_each(|hold| hold(&mock, true));
        let mut task = ask(&bus, "a");
        for step in 0..polls {
            task.poll();
            match holds.get(step) {
                Some(hold) => hold(&mock, false),
                None if task.is_alive() => mock.answer("a"),
                None => {}
            }
        }
        let (answered, was_sent) = (polls > 4, polls > 2);
        task.drop_future();
        let cancelled = mock.cancelled().len();
        assert_eq!(cancelled, usize::from(was_sent && !answered), "after {polls} polls");
        assert_eq!(mock.sent().len(), usize::from(was_sent));
        assert!(is_empty(&bus), "after {polls} polls");
    }
}

fn timed_request(clock: &Clock, within: Duration) -> Message {
    Message::builder(Topic::new("math.add").unwrap())
        .reply_to(Topic::new("_ph.inbox.9").unwrap(), 77)
        .deadline(clock.runtime().now() + within)
        .build()
        .unwrap()
}

#[test]
fn a_handler_is_dropped_at_its_requests_deadline_and_the_others_go_on() {
    let (mock, clock, bus) = timed();
    let desk = Desk::default();
    let responder = pollster::block_on(bus.serve("math.*").open()).unwrap();
    let mut serving = Task::new(responder.run(desk.handler()));
    for seconds in [3, 1, 2, 1] {
        mock.requests().lend(timed_request(&clock, seconds * SECOND));
    }
    assert!(serving.run().is_none());
    for left in [2, 1, 0] {
        clock.advance(SECOND - Duration::from_nanos(1));
        assert!(serving.run().is_none());
        assert!(desk.running() > left);
        clock.advance(Duration::from_nanos(1));
        assert!(serving.run().is_none());
        assert_eq!(desk.running(), left);
    }
    let expected =
        ["1 reject: expired", "3 reject: expired", "2 reject: expired", "0 reject: expired"];
    assert_eq!(mock.requests().outcomes(), expected);
    // One timer for all of them, nothing is sent, and the next request is served.
    assert_eq!((clock.timers(), mock.sent().len()), (1, 0));
    mock.requests().lend(timed_request(&clock, SECOND));
    assert!(serving.run().is_none());
    assert_eq!(desk.running(), 1);
}

#[test]
fn a_handler_that_ends_in_time_is_not_touched_by_the_deadline_of_another() {
    let (mock, clock, bus) = timed();
    let desk = Desk::default();
    let responder = pollster::block_on(bus.serve("math.*").concurrency(1).open()).unwrap();
    let mut serving = Task::new(responder.run(desk.handler()));
    mock.requests().lend(timed_request(&clock, SECOND));
    assert!(serving.run().is_none());
    desk.answer(Ok("done"));
    assert!(serving.run().is_none());
    // The next has its place, and more time.
    mock.requests().lend(timed_request(&clock, 3 * SECOND));
    assert!(serving.run().is_none());
    clock.advance(2 * SECOND);
    assert!(serving.run().is_none());
    assert_eq!((desk.running(), mock.requests().outcomes()), (1, vec!["0 ack".to_owned()]));
    clock.advance(SECOND);
    assert!(serving.run().is_none());
    assert_eq!(desk.running(), 0);
}

#[test]
fn a_request_taken_by_hand_is_cancelled_by_its_requester_or_its_deadline() {
    let (mock, clock, bus) = timed();
    let mut responder = pollster::block_on(bus.serve("math.*").open()).unwrap();
    for by_deadline in [true, false] {
        let tag = mock.requests().lend(timed_request(&clock, SECOND));
        let request = pollster::block_on(responder.recv()).unwrap().unwrap();
        let mut waiting = Task::new(async move { request.cancelled().await });
        assert!(waiting.run().is_none());
        match by_deadline {
            true => clock.advance(SECOND),
            false => mock.requests().cancel(tag),
        }
        assert!(waiting.run().is_some());
    }
}

#[test]
fn the_earlier_of_two_deadlines_counts_and_none_says_nothing() {
    let (mock, clock, bus) = timed();
    let now = clock.runtime().now();
    let inherited = |seconds: u32| Some(now + seconds * SECOND);
    for (within, until, expected) in [
        (Some(2), inherited(1), 1),
        (Some(1), inherited(2), 1),
        (None, inherited(60), 60),
        (Some(60), None, 60),
        (None, None, 30),
    ] {
        let ask = bus.request("t", "x").deadline(until);
        let ask = match within {
            Some(seconds) => ask.within(seconds * SECOND),
            None => ask,
        };
        Task::new(ask).run();
        let deadline = mock.sent().last().unwrap().deadline();
        assert_eq!(deadline, inherited(expected), "{within:?} {until:?}");
    }
}
