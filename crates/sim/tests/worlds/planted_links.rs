//! The bugs that are planted in links; see `planted`.

use crate::planted::finds;
use crate::scenarios::{broker_dies, cut_line, gentle, prices, questions, rough, work_queue};
use crate::ways::{calls, lost_session};

#[test]
fn unconfirmed_messages_that_count_as_confirmed_are_found() {
    finds("link.forgets-unconfirmed", &rough(), work_queue);
}

#[test]
fn subscriptions_that_are_not_opened_again_are_found() {
    finds("link.forgets-subscriptions", &rough(), broker_dies);
}

#[test]
fn repeats_that_are_taken_twice_are_found() {
    finds("link.doubles-unconfirmed", &rough(), work_queue);
}

#[test]
fn repeats_in_reverse_are_found() {
    finds("link.resends-in-reverse", &gentle(), cut_line);
}

#[test]
fn partial_frames_that_are_thrown_away_are_found() {
    finds("link.forgets-partial-frames", &gentle(), prices);
}

#[test]
fn answers_to_whichever_call_are_found() {
    finds("link.answers-any-request", &gentle(), calls);
}

#[test]
fn silent_connections_that_go_unnoticed_are_found() {
    finds("link.ignores-heartbeats", &rough(), questions);
}

#[test]
fn lost_sessions_that_nobody_is_told_of_are_found() {
    finds("link.keeps-lost-sessions-silent", &rough(), lost_session);
}

#[test]
fn acks_on_arrival_are_found() {
    finds("link.acks-on-arrival", &rough(), work_queue);
}
