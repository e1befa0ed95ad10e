//! Every bug that is planted is found, within a thousand seeds, by the check that it names; and
//! the same world without it is clean.
//!
//! A search stops at the first world that goes wrong, so what a bug costs here is how rare it is.

use std::future::Future;

use posthaste_sim::{Sim, World, planted};

use crate::endings::drains;
use crate::guarantees::{keyed, letters, once, times};
use crate::scenarios::{cut_line, gentle, one_line, questions, rough, work_queue};
use crate::waiting::impatience;

/// How many worlds a planted bug may take.
const WORLDS: u64 = 1_000;

/// Looks for a planted bug. Which seeds are looked at is nobody's choice but this function's.
#[track_caller]
pub(crate) fn finds<F, Fut>(bug: &str, sim: &Sim, scenario: F)
where
    F: Fn(World) -> Fut,
    Fut: Future<Output = ()>,
{
    let known = planted::find(bug).expect("a bug that is known");
    finds_by(bug, sim, scenario, &[known.found_by]);
}

/// The same, where any of some checks may find it.
#[track_caller]
pub(crate) fn finds_by<F, Fut>(bug: &str, sim: &Sim, scenario: F, checks: &[&str])
where
    F: Fn(World) -> Fut,
    Fut: Future<Output = ()>,
{
    let known = planted::find(bug).expect("a bug that is known");
    let hunted = sim.clone().plant(bug);
    let found = (0..WORLDS).find_map(|seed| hunted.one(seed, &scenario).failure);
    let failure = found.unwrap_or_else(|| panic!("{bug} was not found in {WORLDS} worlds"));
    let found_by = &*failure.check;
    assert!(checks.contains(&found_by), "{bug} was found by another check:\n{failure}");
    let clean = sim.one(failure.seed, &scenario);
    assert!(clean.failure.is_none(), "not only with {bug}:\n{}", clean.failure.unwrap());
    #[expect(clippy::print_stdout, reason = "the table in docs/simulation.md is made of it")]
    {
        let class = known.class.unwrap_or("-");
        println!("| {class} | `{bug}` | {} | {} | {} |", known.does, found_by, failure.seed);
    }
}

#[test]
fn books_that_forget_an_ack_are_found() {
    finds("memory.forgets-acked-count", &rough(), work_queue);
}

#[test]
fn a_retry_that_counts_as_done_is_found() {
    finds("memory.loses-retried", &rough(), work_queue);
}

#[test]
fn a_window_that_remembers_nothing_is_found() {
    finds("memory.forgets-ids", &rough(), once);
}

#[test]
fn a_retry_that_goes_to_the_end_is_found() {
    finds("memory.requeues-at-the-tail", &gentle(), one_line);
}

#[test]
fn a_keyed_queue_that_ignores_its_keys_is_found() {
    finds("memory.ignores-keys", &rough(), keyed);
}

#[test]
fn a_reply_to_whoever_waits_longest_is_found() {
    finds("bus.answers-any-request", &rough(), questions);
}

#[test]
fn a_late_reply_to_the_next_request_is_found() {
    finds("bus.forgets-generations", &rough(), questions);
}

#[test]
fn senders_that_are_not_woken_are_found() {
    finds("memory.forgets-blocked", &gentle(), cut_line);
}

#[test]
fn a_wake_up_that_is_swallowed_is_found() {
    finds("memory.swallows-wake-ups", &gentle(), impatience);
}

#[test]
fn a_queue_without_a_bound_is_found() {
    finds("memory.ignores-capacity", &rough(), work_queue);
}

#[test]
fn a_request_without_a_deadline_is_found() {
    finds("bus.ignores-deadlines", &rough(), questions);
}

#[test]
fn a_poison_message_that_goes_round_for_ever_is_found() {
    finds("memory.never-gives-up", &rough(), letters);
}

#[test]
fn a_drain_that_waits_for_nothing_is_found() {
    finds("memory.drains-at-once", &rough(), drains);
}

#[test]
fn durations_on_the_wall_clock_are_found() {
    finds("memory.trusts-wall-clock", &rough(), times);
}

#[test]
fn an_ack_at_the_hand_out_is_found() {
    finds("memory.acks-at-hand-out", &rough(), work_queue);
}

#[test]
fn ten_classes_of_failure_at_least_are_planted() {
    let classes: std::collections::BTreeSet<_> =
        planted::ALL.iter().filter_map(|bug| bug.class).collect();
    assert!(classes.len() >= 10, "{classes:?}");
}
