//! A session that is lost fails the requests in flight, unless they may be carried out twice.

use posthaste_core::{Bus, ErrorKind};

use crate::mock::Mock;
use crate::requests::{ask, bus};
use crate::tasks::Task;

type Answer = Result<String, ErrorKind>;

fn ask_idempotent(bus: &Bus) -> Task<Answer> {
    let asking = bus.request("math.add", "a").idempotent().into_future();
    Task::new(async move {
        match asking.await {
            Ok(reply) => Ok(String::from_utf8_lossy(reply.payload()).into_owned()),
            Err(error) => Err(error.kind()),
        }
    })
}

#[test]
fn a_lost_session_fails_what_was_sent_and_the_inbox_goes_on() {
    let (mock, bus) = bus();
    let mut sent = ask(&bus, "a");
    assert_eq!(sent.run(), None);
    mock.hold_taking(true);
    let mut unsent = ask(&bus, "b");
    assert_eq!(unsent.run(), None);
    mock.inbox().interrupt(ErrorKind::SessionLost);
    assert_eq!(unsent.run(), None);
    assert_eq!(sent.run(), Some(Err(ErrorKind::SessionLost)));
    mock.hold_taking(false);
    assert_eq!(unsent.run(), None);
    mock.answer("b");
    assert_eq!(unsent.run(), Some(Ok("b".to_owned())));
    assert_eq!(mock.inboxes_opened(), 1);
}

#[test]
fn an_idempotent_request_is_sent_again_under_its_correlation() {
    let (mock, bus) = bus();
    let mut task = ask_idempotent(&bus);
    assert_eq!(task.run(), None);
    for times in 2..5 {
        mock.inbox().interrupt(ErrorKind::SessionLost);
        assert_eq!(task.run(), None);
        assert_eq!(mock.sent().len(), times);
    }
    let sent = mock.sent();
    assert!(sent.iter().all(|message| *message == sent[0]));
    mock.answer("a");
    assert_eq!(task.run(), Some(Ok("a".to_owned())));
}

#[test]
fn what_comes_back_uncertain_is_sent_again_only_if_it_is_idempotent() {
    for kind in [ErrorKind::Unknown, ErrorKind::Disconnected, ErrorKind::SessionLost] {
        let (mock, bus) = bus();
        mock.return_next(kind);
        assert_eq!(ask(&bus, "a").run(), Some(Err(kind)));
        mock.return_next(kind);
        let mut task = ask_idempotent(&bus);
        assert_eq!((task.run(), mock.sent().len()), (None, 3));
        mock.answer("a");
        assert_eq!(task.run(), Some(Ok("a".to_owned())));
    }
}

#[test]
fn a_refusal_is_final_for_idempotent_requests_too() {
    let (mock, bus) = bus();
    mock.return_next(ErrorKind::Full);
    assert_eq!(ask_idempotent(&bus).run(), Some(Err(ErrorKind::Full)));
    assert_eq!(mock.sent().len(), 1);
}

#[test]
fn an_idempotent_request_is_not_sent_again_for_ever() {
    let (mock, bus) = bus();
    (0..40).for_each(|_| mock.return_next(ErrorKind::Unknown));
    assert_eq!(ask_idempotent(&bus).run(), Some(Err(ErrorKind::Unknown)));
    assert_eq!(mock.sent().len(), 17);
    let tidy: fn(&Mock) -> usize = Mock::senders_alive;
    assert!(tidy(&mock) <= 1 && format!("{bus:?}").contains("waiting_requests: 0"));
}
