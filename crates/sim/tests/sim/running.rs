//! Time, tasks and the life of nodes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use posthaste_core::runtime::{blocking, timeout_at};
use posthaste_sim::{Faults, Sim};

#[test]
fn five_idle_minutes_take_no_time() {
    #[expect(clippy::disallowed_methods, reason = "the claim is about real time")]
    let began = Instant::now();
    let report = Sim::new().seeds(0..10).patience(Duration::from_secs(900)).run(async |world| {
        let before = world.runtime().now();
        world.sleep(Duration::from_secs(300)).await;
        let gone = world.runtime().now() - before;
        assert!(gone >= Duration::from_secs(300) && gone < Duration::from_secs(301));
    });
    assert!(report.elapsed >= Duration::from_secs(3_000));
    assert!(began.elapsed() < Duration::from_secs(5), "virtual minutes cost real ones");
}

#[test]
fn the_seed_decides_who_goes_first() {
    let orders = std::sync::Mutex::new(std::collections::BTreeSet::new());
    Sim::new().seeds(0..50).run(async |world| {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let node = world.node("node");
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let order = Arc::clone(&order);
                node.spawn(async move { order.lock().unwrap().push(number) })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        orders.lock().unwrap().insert(order.lock().unwrap().clone());
    });
    assert!(orders.into_inner().unwrap().len() > 15, "50 seeds find few of 24 orders");
}

#[test]
fn a_killed_node_loses_its_tasks_and_timers_and_starts_anew() {
    Sim::new().seeds(0..20).run(async |world| {
        let lives = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&lives);
        let node = world.node("node").start(move |node| {
            let lives = Arc::clone(&counted);
            async move {
                lives.fetch_add(1, Ordering::Relaxed);
                let inner = node.clone();
                node.runtime().spawn(Box::pin(async move {
                    inner.sleep(Duration::from_secs(3_600)).await;
                }));
                node.sleep(Duration::from_secs(60)).await;
            }
        });
        let lost = node.spawn(std::future::pending::<()>());
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!((node.census().tasks, node.census().timers), (3, 2));
        let old = node.runtime();
        node.kill();
        assert_eq!((node.census().tasks, node.census().timers), (0, 0));
        assert_eq!(lost.await, None);
        node.restart();
        old.spawn(Box::pin(async { panic!("a task of a dead node runs") }));
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!((node.census().tasks, node.census().timers), (2, 2));
        node.finished().await;
        assert_eq!(lives.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_node_that_stands_still_does_nothing_until_it_goes_on() {
    Sim::new().seeds(0..20).run(async |world| {
        let node = world.node("node");
        node.pause();
        let inner = node.clone();
        let task = node.spawn(async move { inner.runtime().now() });
        let before = world.runtime().now();
        let waits =
            async { timeout_at(&*world.runtime(), before, std::future::pending::<()>()).await };
        assert!(waits.await.is_none());
        world.sleep(Duration::from_secs(2)).await;
        node.resume();
        assert!(task.await.unwrap() >= before + Duration::from_secs(2));
    });
}

#[test]
fn wall_clocks_jump_and_monotonic_ones_do_not() {
    Sim::new().seeds(0..20).faults(Faults::none().clock_jumps(8)).run(async |world| {
        let node = world.node("node");
        let (wall, steady) = (node.runtime().unix_time(), node.runtime().now());
        node.jump_clock(-3_000_000);
        assert!(node.runtime().unix_time() < wall);
        assert!(node.runtime().now() >= steady);
        let before = node.runtime().now();
        world.healed().await;
        assert!(node.runtime().now() > before);
    });
}

#[test]
fn blocking_work_runs_and_randomness_follows_from_the_seed() {
    let draw = |seed| {
        let drawn = std::sync::Mutex::new([0; 16]);
        Sim::new().one(seed, async |world| {
            let runtime = world.node("node").runtime();
            assert_eq!(blocking(&*runtime, || 3 + 4).await, 7);
            runtime.fill_random(&mut *drawn.lock().unwrap());
        });
        drawn.into_inner().unwrap()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
