//! A request's deadline is kept by the bus's one timer, and told to brokers that understand it.

use std::time::Duration;

use posthaste_core::{Bus, Error, ErrorKind};

use crate::clock::Clock;
use crate::mock::Mock;
use crate::requests::bus;
use crate::tasks::{Task, settle};

const SECOND: Duration = Duration::from_secs(1);

fn timed(mock: Mock) -> (Mock, Clock, Bus) {
    let clock = Clock::new();
    let bus = Bus::with_runtime(mock.clone(), clock.runtime());
    (mock, clock, bus)
}

fn within(bus: &Bus, payload: &'static str, time: Duration) -> Task<Result<(), ErrorKind>> {
    let asking = bus.request("t", payload).within(time).into_future();
    Task::new(async move { asking.await.map(|_| ()).map_err(|error| error.kind()) })
}

#[test]
fn requests_expire_in_the_order_of_their_deadlines_by_one_timer() {
    let (mock, clock, bus) = timed(Mock::new());
    let mut tasks = [3, 1, 2].map(|seconds| within(&bus, "x", seconds * SECOND));
    settle(&mut tasks);
    for index in [1, 2, 0] {
        clock.advance(SECOND - Duration::from_nanos(1));
        settle(&mut tasks);
        assert_eq!(tasks[index].output, None);
        clock.advance(Duration::from_nanos(1));
        settle(&mut tasks);
        assert_eq!(tasks[index].output, Some(Err(ErrorKind::DeadlineExceeded)));
    }
    assert_eq!((clock.timers(), mock.sent().len()), (1, 3));
}

#[test]
fn an_expired_request_frees_its_slot_and_its_reply_is_late() {
    let (mock, clock, bus) = timed(Mock::new());
    let mut task = Task::new(bus.request("t", "x").within(SECOND));
    task.run();
    clock.advance(SECOND);
    let error: Error = task.run().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no reply came from t before the deadline");
    assert!(error.is_retryable());
    mock.answer("x");
    assert_eq!(bus.late_replies(), 1);
    assert!(format!("{bus:?}").contains("waiting_requests: 0"));
}

#[test]
fn without_a_word_a_request_waits_for_30_seconds() {
    let (_mock, clock, bus) = timed(Mock::new());
    let mut task = Task::new(bus.request("t", "x"));
    task.run();
    clock.advance(SECOND * 30 - Duration::from_nanos(1));
    assert!(task.run().is_none());
    clock.advance(Duration::from_nanos(1));
    let error = task.run().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[test]
fn the_deadline_covers_the_opening_of_the_inbox_and_the_send() {
    for hold in [Mock::hold_opening, Mock::hold_taking, Mock::hold_confirming] {
        let (mock, clock, bus) = timed(Mock::new());
        hold(&mock, true);
        let mut task = within(&bus, "x", SECOND);
        assert_eq!(task.run(), None);
        clock.advance(SECOND);
        assert_eq!(task.run(), Some(Err(ErrorKind::DeadlineExceeded)));
    }
}

#[test]
fn a_deadline_that_has_passed_sends_nothing() {
    let (mock, clock, bus) = timed(Mock::new());
    let now = clock.runtime().now();
    let asked = Task::new(bus.request("t", "x").deadline(now)).run();
    assert_eq!(asked.unwrap().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(within(&bus, "x", Duration::ZERO).run(), Some(Err(ErrorKind::DeadlineExceeded)));
    assert_eq!((mock.sent().len(), mock.inboxes_opened()), (0, 0));
}

#[test]
fn a_reply_in_time_beats_a_deadline_that_is_not_polled_for() {
    let (mock, clock, bus) = timed(Mock::new());
    let mut tasks = [within(&bus, "x", SECOND), within(&bus, "y", 5 * SECOND)];
    settle(&mut tasks);
    mock.answer("x");
    settle(&mut tasks);
    assert_eq!(tasks[0].output, Some(Ok(())));
    // The timer was armed for the request that is gone; the other keeps its own time.
    clock.advance(2 * SECOND);
    settle(&mut tasks);
    assert_eq!(tasks[1].output, None);
    clock.advance(3 * SECOND);
    settle(&mut tasks);
    assert_eq!(tasks[1].output, Some(Err(ErrorKind::DeadlineExceeded)));
}

#[test]
fn a_dropped_request_passes_the_timer_on() {
    let (_mock, clock, bus) = timed(Mock::new());
    for dropped in 0..2 {
        let mut tasks = [within(&bus, "x", SECOND), within(&bus, "y", SECOND)];
        settle(&mut tasks);
        clock.advance(SECOND);
        tasks[dropped].drop_future();
        settle(&mut tasks);
        assert_eq!(tasks[1 - dropped].output, Some(Err(ErrorKind::DeadlineExceeded)));
    }
}

#[test]
fn only_a_broker_that_understands_deadlines_is_told() {
    for (mock, told) in [(Mock::new(), false), (Mock::new().with_deadlines(), true)] {
        let (mock, clock, bus) = timed(mock);
        within(&bus, "x", SECOND).run();
        let deadline = mock.request("x").unwrap().deadline();
        assert_eq!(deadline, told.then(|| clock.runtime().now() + SECOND));
    }
}

#[test]
fn a_bus_without_a_clock_refuses_deadlines_and_says_what_to_do() {
    let (mock, bus) = bus();
    let origin = Clock::new().runtime().now();
    for ask in [bus.request("t", "x").within(SECOND), bus.request("t", "x").deadline(origin)] {
        let error = Task::new(ask).run().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.to_string(), "a request's deadline needs a clock: give the bus a runtime");
    }
    assert!(mock.sent().is_empty());
}

#[test]
fn of_many_requests_those_that_nobody_answers_expire_in_time_whatever_became_of_the_others() {
    const NAMES: [&str; 4] = ["answered", "dropped", "expires", "answered too"];
    let (mock, clock, bus) = timed(Mock::new());
    let (mut times, mut tasks) = (Vec::new(), Vec::new());
    for number in 0..400_u32 {
        // In no order, and several at the same time.
        let seconds = 1 + number * 7 % 100;
        let name = NAMES[number as usize % 4];
        let mut task = within(&bus, name, seconds * SECOND);
        task.poll();
        match name {
            "expires" => {
                times.push(seconds);
                tasks.push(task);
            }
            "dropped" => task.drop_future(),
            _ => {
                mock.answer(name);
                settle(&mut tasks);
                assert_eq!(task.run(), Some(Ok(())));
            }
        }
    }
    assert!(format!("{bus:?}").contains("waiting_requests: 100"));
    for second in 1..=100 {
        for (moment, expired) in
            [(SECOND - Duration::from_nanos(1), second - 1), (Duration::from_nanos(1), second)]
        {
            clock.advance(moment);
            settle(&mut tasks);
            for (task, at) in tasks.iter().zip(&times) {
                let expected = (*at <= expired).then_some(Err(ErrorKind::DeadlineExceeded));
                assert_eq!(task.output, expected, "second {second}");
            }
        }
    }
    assert_eq!(clock.timers(), 1);
    assert!(format!("{bus:?}").contains("waiting_requests: 0"));
}
