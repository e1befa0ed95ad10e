//! A survey asks everybody, resolves as soon as it can, and knows how many are missing.

use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, join_all, select};
use posthaste_core::{Bus, Error, ErrorKind, Message, Status, Survey};

use crate::clock::Clock;
use crate::in_process::InProcess;
use crate::mock::Mock;
use crate::tasks::Task;

const SECOND: Duration = Duration::from_secs(1);

fn timed(matched: u64) -> (Mock, Clock, Bus) {
    let (mock, clock) = (Mock::new().with_deadlines().matching(matched), Clock::new());
    (mock.clone(), clock.clone(), Bus::with_runtime(mock, clock.runtime()))
}

/// Answers, failures, missing.
fn counts(survey: Result<Survey, Error>) -> Result<(usize, usize, u64), ErrorKind> {
    let counted = survey.map(|this| (this.answers.len(), this.failed.len(), this.missing));
    counted.map_err(|error| error.kind())
}

fn survey(bus: &Bus) -> Task<Result<(usize, usize, u64), ErrorKind>> {
    let surveying = bus.survey("health", "x").within(SECOND).into_future();
    Task::new(surveying.map(counts))
}

/// What the `index`-th of those who were asked says: an answer, a failure, or that it was lost.
fn say(mock: &Mock, index: usize) {
    let request = mock.request("x").unwrap();
    let said = match index % 3 {
        0 => request.reply("fine"),
        1 => request.status_reply(Status::Failed, "not so fine"),
        _ => request.status_reply(Status::NoResponders, "lost"),
    };
    mock.inbox().deliver(said.unwrap());
}

fn is_empty(bus: &Bus) -> bool {
    format!("{bus:?}").contains("waiting_requests: 0")
}

#[test]
fn a_survey_resolves_with_the_last_answer_failure_or_loss() {
    for asked in 0..8 {
        let (mock, _clock, bus) = timed(asked as u64);
        let mut task = survey(&bus);
        for index in 0..asked {
            assert_eq!(task.run(), None);
            say(&mock, index);
        }
        let expected = (asked.div_ceil(3), (asked + 1) / 3, asked as u64 / 3);
        assert_eq!(task.run(), Some(Ok(expected)), "{asked} were asked");
        assert!(mock.cancelled().is_empty() && is_empty(&bus));
    }
}

#[test]
fn answers_that_come_before_the_receipt_are_counted() {
    let (mock, _clock, bus) = timed(3);
    mock.hold_confirming(true);
    let mut task = survey(&bus);
    assert_eq!(task.run(), None);
    (0..3).for_each(|index| say(&mock, index));
    assert_eq!(task.run(), None);
    mock.hold_confirming(false);
    assert_eq!(task.run(), Some(Ok((1, 1, 1))));
}

#[test]
fn at_the_deadline_those_who_were_silent_are_missing() {
    let (mock, clock, bus) = timed(5);
    let mut task = survey(&bus);
    assert_eq!(task.run(), None);
    (0..2).for_each(|index| say(&mock, index));
    clock.advance(SECOND);
    assert_eq!(task.run(), Some(Ok((1, 1, 3))));
    say(&mock, 0);
    assert_eq!((bus.late_replies(), mock.cancelled().len(), is_empty(&bus)), (1, 0, true));
}

#[test]
fn a_survey_whose_number_nobody_knows_at_the_deadline_is_an_error() {
    let (mock, clock, bus) = timed(5);
    mock.hold_confirming(true);
    let mut task = survey(&bus);
    assert_eq!(task.run(), None);
    clock.advance(SECOND);
    assert_eq!(task.run(), Some(Err(ErrorKind::DeadlineExceeded)));
}

#[test]
fn a_survey_that_was_refused_or_lost_is_an_error() {
    let (mock, _clock, bus) = timed(1);
    mock.return_next(ErrorKind::Full);
    assert_eq!(survey(&bus).run(), Some(Err(ErrorKind::Full)));
    for end in [Ok(()), Err(ErrorKind::Disconnected)] {
        let mut task = survey(&bus);
        assert_eq!(task.run(), None);
        mock.inbox().end(end);
        assert_eq!(task.run(), Some(Err(end.err().unwrap_or(ErrorKind::Closed))));
    }
    let mut task = survey(&bus);
    assert_eq!(task.run(), None);
    mock.inbox().interrupt(ErrorKind::SessionLost);
    assert_eq!(task.run(), Some(Err(ErrorKind::SessionLost)));
    assert!(is_empty(&bus));
}

#[test]
fn answers_are_taken_as_they_come_and_the_rest_says_what_is_missing() {
    let (mock, clock, bus) = timed(4);
    let mut surveying = bus.survey("health", "x").within(SECOND).open();
    assert!(surveying.next().now_or_never().is_none());
    say(&mock, 0);
    assert_eq!(surveying.next().now_or_never().unwrap().unwrap().unwrap().payload(), "fine");
    say(&mock, 1);
    let failed = surveying.next().now_or_never().unwrap().unwrap().unwrap_err();
    assert_eq!((failed.kind(), failed.text()), (ErrorKind::Failed, "not so fine"));
    say(&mock, 0);
    clock.advance(SECOND);
    assert_eq!(counts(surveying.now_or_never().unwrap()), Ok((1, 0, 1)));
}

#[test]
fn a_survey_between_two_answers_holds_up_no_other_request() {
    let (mock, _clock, bus) = timed(9);
    let mut surveying = bus.survey("health", "x").open();
    for _ in 0..3 {
        // Given up in the middle, and after an answer: nobody polls it from here on.
        assert!(surveying.next().now_or_never().is_none());
        say(&mock, 0);
        let mut task = Task::new(bus.request("t", "y"));
        assert!(task.run().is_none());
        mock.answer("y");
        assert!(task.run().is_some());
        assert!(surveying.next().now_or_never().is_some());
    }
}

#[test]
fn a_survey_dropped_after_any_number_of_polls_leaves_nothing_and_is_cancelled_if_unanswered() {
    for polls in 0..8 {
        let (mock, _clock, bus) = timed(2);
        let holds = [Mock::hold_opening, Mock::hold_taking, Mock::hold_confirming];
        holds.iter().for_each(|hold| hold(&mock, true));
        let mut task = survey(&bus);
        for step in 0..polls {
            task.poll();
            match holds.get(step) {
                Some(hold) => hold(&mock, false),
                None if task.is_alive() => say(&mock, 0),
                None => {}
            }
        }
        let unanswered = polls > 2 && task.is_alive();
        assert_eq!(task.is_alive(), polls < 6);
        task.drop_future();
        assert_eq!(mock.cancelled().len(), usize::from(unanswered), "after {polls} polls");
        assert!(is_empty(&bus), "after {polls} polls");
    }
}

#[test]
fn nobody_there_is_an_empty_survey() {
    let bus = InProcess::new();
    let survey = Task::new(bus.survey("health", "")).run().unwrap();
    assert_eq!((counts(survey), bus.late_replies()), (Ok((0, 0, 0)), 0));
    assert!(pollster::block_on(bus.ledger()).unwrap().is_balanced());
}

#[test]
fn everybody_who_serves_alone_is_asked_and_those_who_go_are_missing_at_once() {
    pollster::block_on(async {
        let bus = InProcess::new();
        let open = async || bus.serve("health.*").alone().open().await.unwrap();
        let mut responders = Vec::new();
        for _ in 0..8 {
            responders.push(open().await);
        }
        let (mut takes_and_goes, goes) = (open().await, open().await);
        let serving = responders.into_iter().enumerate().map(|(nth, responder)| {
            responder.run(move |_: Message| async move {
                match nth {
                    0 => Err("broken"),
                    _ => Ok("fine"),
                }
            })
        });
        let surveying = async {
            let mut surveying = bus.survey("health.disk", "").open();
            assert!(surveying.next().await.is_some());
            drop(goes);
            drop(takes_and_goes.recv().await.unwrap());
            surveying.await.unwrap()
        };
        let serving = std::pin::pin!(join_all(serving));
        let surveying = std::pin::pin!(surveying);
        let Either::Right((survey, _serving)) = select(serving, surveying).await else {
            panic!("the responders go on");
        };
        // One answer was taken before.
        assert_eq!((survey.answers.len() + survey.failed.len(), survey.missing), (7, 2));
        assert_eq!(bus.late_replies(), 0);
        assert!(bus.ledger().await.unwrap().is_balanced());
    });
}
