//! Every scenario in many worlds. `POSTHASTE_SIM_SEEDS=100000` makes it a long sweep.

use crate::scenarios::{broker_dies, gentle, one_line, prices, questions, rough, work_queue};

#[test]
fn a_work_queue_loses_doubles_and_invents_nothing() {
    rough().seeds(0..600).run(work_queue);
}

#[test]
fn a_broker_that_dies_takes_what_it_held_and_nothing_else() {
    rough().seeds(0..500).run(broker_dies);
}

#[test]
fn one_consumer_gets_everything_in_order() {
    gentle().seeds(0..500).run(one_line);
}

#[test]
fn subscribers_get_everything_or_know_what_they_missed() {
    gentle().seeds(0..500).run(prices);
}

#[test]
fn every_question_has_one_outcome() {
    rough().seeds(0..500).run(questions);
}
