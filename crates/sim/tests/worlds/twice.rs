//! The same seed, the same world, for every scenario: to the last byte.

use std::future::Future;

use posthaste_sim::{Sim, World};

use crate::durable::{buried, steady, stored};
use crate::endings::drains;
use crate::guarantees::{keyed, letters, once, stale, times};
use crate::scenarios::{
    broker_dies, cut_line, gentle, one_line, prices, questions, rough, work_queue,
};
use crate::waiting::impatience;
use crate::ways::{barrier, calls, hops};

/// How many worlds of each scenario are run twice.
const WORLDS: u64 = 40;

#[track_caller]
fn twice<F, Fut>(sim: &Sim, scenario: F)
where
    F: Fn(World) -> Fut,
    Fut: Future<Output = ()>,
{
    for seed in 0..WORLDS {
        let (first, second) = (sim.one(seed, &scenario), sim.one(seed, &scenario));
        let of = |outcome: &posthaste_sim::Outcome| (outcome.hash, outcome.steps, outcome.elapsed);
        assert_eq!(of(&first), of(&second), "seed {seed}");
    }
}

#[test]
fn queues_are_the_same_twice() {
    twice(&rough(), work_queue);
    twice(&rough(), broker_dies);
    twice(&gentle(), one_line);
    twice(&gentle(), cut_line);
}

#[test]
fn guarantees_are_the_same_twice() {
    twice(&rough(), keyed);
    twice(&rough(), once);
    twice(&rough(), letters);
    twice(&rough(), times);
    twice(&rough(), stale);
    twice(&rough(), drains);
}

#[test]
fn topics_and_requests_are_the_same_twice() {
    twice(&gentle(), prices);
    twice(&gentle(), barrier);
    twice(&gentle(), calls);
    twice(&gentle(), impatience);
    twice(&rough(), questions);
    twice(&rough(), hops);
}

#[test]
fn disks_are_the_same_twice() {
    twice(&rough(), stored);
    twice(&steady(), buried);
}
