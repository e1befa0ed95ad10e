//! Links open, are refused, close and are used again, whatever crosses on the way.

use bytes::{Bytes, BytesMut};
use posthaste_wire::{Code, Config, Event, Frame, Hop, Limits, Outcome, Role, TransferError};

use crate::support::{Pair, config, ended, events, feed, output, send};

fn closed(link: posthaste_wire::Link, code: Code, reason: &str) -> Event {
    Event::Closed { link, code, reason: reason.to_owned() }
}

#[test]
fn opening_tells_the_server_what_is_asked_and_the_client_what_is_given() {
    let mut pair = Pair::new();
    let link = pair.client.open(Role::Receiver, b"what").unwrap();
    pair.pump();
    let [Event::Opening { link: at_server, role, options }] = &events(&mut pair.server)[..] else {
        panic!()
    };
    assert_eq!((*role, &options[..]), (Role::Receiver, &b"what"[..]));
    pair.server.opened(*at_server, b"this");
    pair.pump();
    let info = Bytes::from_static(b"this");
    assert_eq!(events(&mut pair.client), [Event::Opened { link, info }]);
}

#[test]
fn a_refused_link_says_why_and_its_number_is_free() {
    let mut pair = Pair::new();
    let link = pair.client.open(Role::Sender, b"").unwrap();
    pair.pump();
    let [Event::Opening { link: at_server, .. }] = events(&mut pair.server)[..] else { panic!() };
    pair.server.refuse(at_server, Code::NotFound, "no such queue");
    pair.pump();
    let reason = "no such queue".to_owned();
    assert_eq!(events(&mut pair.client), [Event::Refused { link, code: Code::NotFound, reason }]);
    let (again, _) = pair.open(Role::Sender);
    assert_eq!(again.id(), link.id());
    assert_ne!(again, link, "the handle of the refused one is another");
}

#[test]
fn the_lowest_free_number_is_used() {
    let mut pair = Pair::new();
    let links = [(); 3].map(|()| pair.open(Role::Sender));
    assert_eq!(links.map(|(client, _)| client.id()), [1, 2, 3]);
    for (client, server) in [links[1], links[0]] {
        pair.client.close(client);
        pair.pump();
        pair.server.closed(server, Code::Ok, "");
        pair.pump();
        events(&mut pair.client);
        events(&mut pair.server);
    }
    assert_eq!(pair.open(Role::Receiver).0.id(), 1);
    assert_eq!(pair.open(Role::Receiver).0.id(), 2);
    assert_eq!(pair.open(Role::Receiver).0.id(), 4);
}

#[test]
fn a_number_is_not_used_again_before_closed_has_come() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.open(Role::Sender);
    pair.client.close(link);
    pair.pump();
    assert_eq!(events(&mut pair.server), [Event::Close { link: at_server }]);
    assert_eq!(pair.client.open(Role::Sender, b"").unwrap().id(), 2);
    pair.server.closed(at_server, Code::Ok, "");
    pair.pump();
    assert_eq!(events(&mut pair.client), [closed(link, Code::Ok, "")]);
    assert_eq!(pair.client.open(Role::Sender, b"").unwrap().id(), 1);
}

#[test]
fn a_handle_of_a_closed_link_has_no_say_over_the_next_one() {
    let mut pair = Pair::new();
    let (old, old_at_server) = pair.receiver();
    send(&mut pair.server, old_at_server, b"x");
    pair.client.close(old);
    pair.pump();
    pair.server.closed(old_at_server, Code::Ok, "");
    pair.pump();
    let (_, new_at_server) = (events(&mut pair.client), events(&mut pair.server));
    drop(new_at_server);
    let (new, new_at_server) = pair.receiver();
    assert_eq!(new.id(), old.id());
    send(&mut pair.server, new_at_server, b"y");
    pair.pump();
    events(&mut pair.client);

    pair.client.settle(old, 1, 1, Outcome::Ack, None, "");
    pair.client.close(old);
    pair.client.stop(old);
    pair.client.sync(old, 1);
    pair.client.grant(old, 5, 5);
    pair.server.closed(old_at_server, Code::Ok, "");
    pair.server.stopped(old_at_server);
    assert_eq!(
        pair.server.transfer(old_at_server, &Hop::default(), b"", &Bytes::new()),
        Err(TransferError::Closed)
    );
    assert!(!pair.client.wants_output() && !pair.server.wants_output());
}

#[test]
fn close_and_an_unasked_closed_that_cross_are_one_end() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    send(&mut pair.client, link, b"on its way");
    pair.client.close(link);
    pair.server.closed(at_server, Code::SlowConsumer, "cut off");
    let (to_server, to_client) = (output(&mut pair.client), output(&mut pair.server));
    pair.server.handle_input(&mut BytesMut::from(&to_server[..]), pair.now);
    pair.client.handle_input(&mut BytesMut::from(&to_client[..]), pair.now);
    assert_eq!(events(&mut pair.server), [], "what was on its way is discarded");
    assert_eq!(events(&mut pair.client), [closed(link, Code::SlowConsumer, "cut off")]);
    assert!(!pair.server.wants_output() && !pair.client.wants_output(), "CLOSED is the answer");

    let (again, _) = pair.sender();
    assert_eq!(again.id(), link.id());
    send(&mut pair.client, again, b"new life");
    pair.pump();
    assert_eq!(crate::support::transfers(&events(&mut pair.server)), [(1, 8)]);
}

#[test]
fn everything_that_was_on_its_way_to_a_link_that_the_server_closed_is_discarded() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    send(&mut pair.server, at_server, b"x");
    pair.pump();
    events(&mut pair.client);
    pair.server.closed(at_server, Code::NotFound, "deleted");
    pair.client.settle(link, 1, 1, Outcome::Retry, None, "");
    pair.client.sync(link, 9);
    pair.client.grant(link, 1, 1);
    pair.client.stop(link);
    pair.flush_client();
    assert_eq!(events(&mut pair.server), []);
    pair.pump();
    assert_eq!(events(&mut pair.client), [closed(link, Code::NotFound, "deleted")]);
    assert!(pair.client.is_established() && pair.server.is_established());
}

#[test]
fn opening_can_be_given_up_before_it_is_answered() {
    // The server has not answered yet, and now must answer by CLOSED.
    let mut pair = Pair::new();
    let link = pair.client.open(Role::Sender, b"").unwrap();
    pair.client.close(link);
    pair.pump();
    let told = events(&mut pair.server);
    let [Event::Opening { link: at_server, .. }, Event::Close { .. }] = told[..] else { panic!() };
    pair.server.opened(at_server, b"");
    assert!(!pair.server.wants_output(), "it is too late for that");
    pair.server.closed(at_server, Code::Ok, "");
    pair.pump();
    assert_eq!(events(&mut pair.client), [closed(link, Code::Ok, "")]);
}

#[test]
fn an_answer_that_crosses_the_giving_up_leads_to_one_closed_as_well() {
    for refuse in [true, false] {
        let mut pair = Pair::new();
        let link = pair.client.open(Role::Sender, b"").unwrap();
        pair.pump();
        let told = events(&mut pair.server);
        let [Event::Opening { link: at_server, .. }] = told[..] else { panic!() };
        if refuse {
            pair.server.refuse(at_server, Code::Full, "");
        } else {
            pair.server.opened(at_server, b"");
        }
        pair.client.close(link);
        let to_server = output(&mut pair.client);
        pair.flush_server();
        pair.server.handle_input(&mut BytesMut::from(&to_server[..]), pair.now);
        pair.server.closed(at_server, Code::Ok, "");
        pair.pump();
        let code = if refuse { Code::Full } else { Code::Ok };
        assert_eq!(events(&mut pair.client), [closed(link, code, "")]);
        assert!(pair.client.is_established() && pair.server.is_established());
        assert_eq!(pair.open_after_close(link).id(), link.id());
    }
}

impl Pair {
    /// Opens a link after another has closed, whose events at the server are of no interest.
    fn open_after_close(&mut self, _closed: posthaste_wire::Link) -> posthaste_wire::Link {
        events(&mut self.server);
        self.open(Role::Sender).0
    }
}

#[test]
fn a_client_that_closes_a_receiver_hears_of_no_more_messages_on_it() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    pair.client.close(link);
    send(&mut pair.server, at_server, b"crosses");
    pair.flush_server();
    assert_eq!(events(&mut pair.client), []);
    pair.flush_client();
    assert_eq!(
        pair.server.transfer(at_server, &Hop::default(), b"", &Bytes::new()),
        Err(TransferError::Closed)
    );
}

#[test]
fn a_sender_that_closes_still_hears_its_outcomes() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    send(&mut pair.client, link, b"1");
    send(&mut pair.client, link, b"2");
    pair.client.close(link);
    pair.pump();
    pair.server.return_(at_server, 1, Code::Full, 0, "full");
    pair.server.confirm(at_server, 2, 1, 1, 1);
    pair.server.closed(at_server, Code::Ok, "");
    pair.pump();
    let told = events(&mut pair.client);
    assert!(
        matches!(
            told[..],
            [Event::Returned { seq: 1, .. }, Event::Confirm { upto: 2, .. }, Event::Closed { .. }]
        ),
        "{told:?}"
    );
}

#[test]
fn a_confirm_that_waits_is_told_before_its_link_closes_also_unasked() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    send(&mut pair.client, link, b"1");
    pair.pump();
    pair.server.confirm(at_server, 1, 1, 1, 1);
    pair.server.closed(at_server, Code::GoingAway, "");
    pair.pump();
    assert!(matches!(
        events(&mut pair.client)[..],
        [Event::Confirm { upto: 1, .. }, Event::Closed { .. }]
    ));
}

#[test]
fn stop_ends_the_messages_and_leaves_the_settling() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.receiver();
    send(&mut pair.server, at_server, b"1");
    pair.client.stop(link);
    pair.client.stop(link);
    pair.pump();
    assert_eq!(events(&mut pair.server), [Event::Stop { link: at_server }]);
    send(&mut pair.server, at_server, b"2");
    pair.server.stopped(at_server);
    assert_eq!(
        pair.server.transfer(at_server, &Hop::default(), b"", &Bytes::new()),
        Err(TransferError::Closed)
    );
    pair.pump();
    let told = events(&mut pair.client);
    assert_eq!(crate::support::transfers(&told), [(1, 1), (2, 1)]);
    assert_eq!(told.last(), Some(&Event::Stopped { link }));
    pair.client.settle(link, 1, 2, Outcome::Release, None, "");
    pair.pump();
    assert!(matches!(events(&mut pair.server)[..], [Event::Settle { first: 1, last: 2, .. }]));
}

#[test]
fn a_message_after_stopped_is_a_violation() {
    let mut pair = Pair::new();
    pair.receiver();
    let transfer =
        Frame::Transfer { link: 1, hop: Hop::default(), total: None, head: b"", payload: b"" };
    let now = pair.now;
    feed(&mut pair.client, now, &[Frame::Stopped { link: 1 }, transfer]);
    assert_eq!(ended(&events(&mut pair.client)).0, Code::Protocol);
}

#[test]
fn a_client_opens_no_more_links_than_the_limit() {
    let limits = Limits { links: 2, ..Limits::default() };
    let mut pair = Pair::with(config(), Config { limits, ..config() });
    pair.open(Role::Sender);
    pair.open(Role::Receiver);
    let refused = pair.client.open(Role::Sender, b"");
    assert_eq!(refused, Err(posthaste_wire::CommandError::Limit));
}

#[test]
fn a_server_cuts_off_who_opens_what_may_not_be_opened() {
    let open = |link| Frame::Open { link, role: Role::Sender, options: b"" };
    let limits = Limits { links: 3, ..Limits::default() };
    for (frames, code) in [
        (&[open(2)][..], Code::Protocol),
        (&[open(1), open(1)][..], Code::Protocol),
        (&[open(1), open(2), open(3), open(4)][..], Code::Limit),
    ] {
        let mut pair = Pair::with(config(), Config { limits, ..config() });
        let now = pair.now;
        feed(&mut pair.server, now, frames);
        assert_eq!(ended(&events(&mut pair.server)).0, code, "{frames:?}");
    }
}

#[test]
fn commands_of_the_other_side_do_nothing() {
    let mut pair = Pair::new();
    let (link, at_server) = pair.sender();
    send(&mut pair.client, link, b"x");
    pair.pump();
    pair.client.opened(link, b"");
    pair.client.refuse(link, Code::Ok, "");
    pair.client.confirm(link, 1, 1, 1, 1);
    pair.client.return_(link, 1, Code::Ok, 0, "");
    pair.client.closed(link, Code::Ok, "");
    pair.client.result(1, Code::Ok, b"");
    pair.server.close(at_server);
    pair.server.stop(at_server);
    pair.server.settle(at_server, 1, 1, Outcome::Ack, None, "");
    pair.server.sync(at_server, 1);
    assert!(pair.server.open(Role::Sender, b"").is_err());
    assert!(!pair.client.wants_output() && !pair.server.wants_output());
}

#[test]
fn what_does_not_fit_into_a_frame_is_refused_in_words() {
    let mut pair = Pair::new();
    let huge = vec![0; 256 << 10];
    let too_large = |result| matches!(result, Err(posthaste_wire::CommandError::TooLarge { .. }));
    assert!(too_large(pair.client.open(Role::Sender, &huge).map(drop)));
    assert!(too_large(pair.client.call(1, 1, &huge)));
    assert!(too_large(pair.server.notice(Code::Ok, &huge)));
    let link = pair.client.open(Role::Sender, b"").unwrap();
    pair.client.call(1, 1, b"").unwrap();
    pair.pump();
    let told = events(&mut pair.server);
    let [Event::Opening { link: at_server, .. }, Event::Call { id, .. }] = told[..] else {
        panic!("{told:?}")
    };
    pair.server.opened(at_server, &huge);
    pair.server.result(id, Code::Ok, &huge);
    pair.pump();
    let told = events(&mut pair.client);
    let [Event::Refused { link: refused, code: Code::TooLarge, .. }, Event::Result { code, .. }] =
        told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((refused, code), (link, Code::TooLarge));
}
