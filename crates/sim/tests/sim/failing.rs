//! What a failure says, and what counts as one.

use std::time::Duration;

use posthaste_sim::{Sim, check};

#[test]
fn a_panic_is_a_failure_with_its_seed_its_words_and_a_way_to_see_it_again() {
    let failure = Sim::new().seeds(3..50).search(async |world| {
        world.recorder().note("thrown", world.seed().to_string());
        assert!(world.random(10) != 0, "a nought was thrown");
    });
    let failure = failure.unwrap_err();
    assert_eq!(failure.what, "a nought was thrown");
    let text = failure.to_string();
    assert!(text.contains(&format!("POSTHASTE_SIM_SEED={} cargo test failing::", failure.seed)));
    assert!(text.contains(&format!("thrown: {}", failure.seed)), "{text}");
}

#[test]
fn the_first_seed_that_fails_is_the_one_that_is_shown_however_many_threads() {
    let first = |threads| {
        let sim = Sim::new().seeds(0..200).threads(threads);
        sim.search(async |world| assert!(world.random(20) != 0)).unwrap_err()
    };
    let (one, three) = (first(1), first(3));
    assert_eq!((one.seed, one.hash), (three.seed, three.hash));
}

#[test]
fn a_check_that_does_not_hold_is_a_failure_by_its_name() {
    let failure = Sim::new().seeds(0..1).search(async |world| {
        world.recorder().note("paid", "order 7");
        world.recorder().note("paid", "order 7");
        world.check(check::my("paid once", |history| match history.notes("paid").count() {
            0 | 1 => Ok(()),
            _ => Err("order 7 was paid twice".to_owned()),
        }));
    });
    let failure = failure.unwrap_err();
    assert_eq!((&*failure.check, &*failure.what), ("paid once", "order 7 was paid twice"));
}

#[test]
fn a_scenario_that_waits_for_nothing_or_spins_or_takes_too_long_is_a_failure() {
    let sim = Sim::new().seeds(0..1).heal_after(Duration::ZERO).patience(Duration::from_secs(9));
    let hangs = sim.search(async |_| std::future::pending::<()>().await).unwrap_err();
    assert!(hangs.what.contains("nothing is ready"), "{hangs}");
    let slow = sim.search(async |world| world.sleep(Duration::from_secs(10)).await).unwrap_err();
    assert!(slow.what.contains("long ago"), "{slow}");
    let spins = sim.search(async |_| {
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            std::task::Poll::<()>::Pending
        })
        .await;
    });
    assert!(spins.unwrap_err().what.contains("long ago"));
}
