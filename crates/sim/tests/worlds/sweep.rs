//! Every scenario in many worlds. `POSTHASTE_SIM_SEEDS=100000` makes it a long sweep.

use crate::durable::{buried, steady, stored};
use crate::endings::drains;
use crate::guarantees::{keyed, letters, once, stale, times};
use crate::scenarios::{
    broker_dies, cut_line, gentle, one_line, prices, questions, rough, work_queue,
};
use crate::waiting::impatience;
use crate::ways::{barrier, calls, hops};

#[test]
fn a_work_queue_loses_doubles_and_invents_nothing() {
    rough().seeds(0..400).run(work_queue);
}

#[test]
fn a_broker_that_dies_takes_what_it_held_and_nothing_else() {
    rough().seeds(0..300).run(broker_dies);
}

#[test]
fn one_consumer_gets_everything_in_order() {
    gentle().seeds(0..200).run(one_line);
}

#[test]
fn connections_that_are_cut_change_no_order() {
    gentle().seeds(0..250).run(cut_line);
}

#[test]
fn subscribers_get_everything_or_know_what_they_missed() {
    gentle().seeds(0..250).run(prices);
}

#[test]
fn every_question_has_one_outcome() {
    rough().seeds(0..250).run(questions);
}

#[test]
fn every_question_that_goes_through_a_gateway_has_one_outcome() {
    rough().seeds(0..200).run(hops);
}

#[test]
fn a_keyed_queue_keeps_the_order_of_each_key_with_many_consumers() {
    rough().seeds(0..250).run(keyed);
}

#[test]
fn what_is_sent_again_and_again_is_taken_once() {
    rough().seeds(0..250).run(once);
}

#[test]
fn what_nobody_can_do_ends_as_a_dead_letter() {
    rough().seeds(0..250).run(letters);
}

#[test]
fn what_is_to_wait_waits_whatever_the_wall_clock_says() {
    rough().seeds(0..200).run(times);
}

#[test]
fn what_is_not_done_was_too_old_and_booked_as_that() {
    rough().seeds(0..150).run(stale);
}

#[test]
fn drains_end_in_time_and_wait_for_what_is_handed_out() {
    rough().seeds(0..200).run(drains);
}

#[test]
fn a_subscription_hears_of_everything_from_its_first_moment_on() {
    gentle().seeds(0..150).run(barrier);
}

#[test]
fn calls_beside_each_other_get_their_own_answers() {
    gentle().seeds(0..100).run(calls);
}

#[test]
fn a_wake_up_is_never_lost_with_who_gives_up() {
    gentle().seeds(0..200).run(impatience);
}

#[test]
fn what_is_stored_outlives_kills_and_power_cuts_and_what_is_settled_is_gone() {
    rough().seeds(0..300).run(stored);
}

#[test]
fn a_dead_letter_on_a_disk_is_in_one_queue_whoever_dies() {
    steady().seeds(0..200).run(buried);
}
