//! Disks: what outlives whom, and that work which waits for one holds up nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use posthaste_core::runtime::blocking;
use posthaste_log::storage::Storage;
use posthaste_sim::{Faults, Node, Sim, World};

/// Writes a file of two atoms, in blocking work: the first is synced.
async fn write(node: &Node) {
    let disk = node.disk();
    let runtime = node.runtime();
    let wrote = blocking(&*runtime, move || {
        let file = disk.create("file")?;
        file.write_at(0, &[1; 512])?;
        file.sync_data()?;
        disk.sync_dir()?;
        file.write_at(512, &[2; 512])
    });
    wrote.await.unwrap();
}

fn content(node: &Node) -> Vec<u8> {
    let mut bytes = vec![0; 2_000];
    let file = node.disk().open("file").unwrap();
    let read = file.read_at(0, &mut bytes).unwrap();
    bytes.truncate(read);
    bytes
}

#[test]
fn what_is_written_outlives_a_kill_and_only_what_is_synced_a_loss_of_power() {
    let whole = [[1; 512], [2; 512]].concat();
    let left = std::sync::Mutex::new(BTreeSet::new());
    Sim::new().seeds(0..60).run(async |world| {
        let node = world.node("node");
        write(&node).await;
        node.kill();
        node.restart();
        assert_eq!(content(&node), whole);
        node.power_off();
        node.restart();
        let found = content(&node);
        assert_eq!(found[..512], [1; 512]);
        left.lock().unwrap().insert(found);
    });
    let cut = whole[..512].to_vec();
    let empty = [[1; 512], [0; 512]].concat();
    assert_eq!(left.into_inner().unwrap(), BTreeSet::from([cut, empty, whole]));
}

#[test]
fn others_go_on_while_work_waits_for_a_disk() {
    let slow = Faults::none().sync_latency_max(Duration::from_secs(5));
    let most = AtomicU32::new(0);
    Sim::new().seeds(0..20).faults(slow).run(async |world| {
        let node = world.node("node");
        let _ = node.disk();
        let (steps, here) = (Arc::new(AtomicU32::new(0)), node.clone());
        let counted = Arc::clone(&steps);
        drop(node.spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                here.sleep(Duration::from_millis(10)).await;
            }
        }));
        write(&node).await;
        most.fetch_max(steps.load(Ordering::Relaxed), Ordering::Relaxed);
    });
    assert!(most.into_inner() > 100, "nobody went on");
}

#[test]
fn a_node_that_dies_while_its_disk_works_does_the_rest_of_that_no_more() {
    let slow = Faults::none().sync_latency_max(Duration::from_millis(50));
    let sim = Sim::new().faults(slow);
    let scenario = async |world: World| {
        let node = world.node("node");
        let (disk, here) = (node.disk(), node.clone());
        let done = Arc::new(AtomicU32::new(0));
        let steps = Arc::clone(&done);
        drop(node.spawn(async move {
            let runtime = here.runtime();
            let refused = blocking(&*runtime, move || {
                for number in 0.. {
                    match disk.create(&number.to_string()).and_then(|file| file.sync_data()) {
                        Ok(()) => drop(steps.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => return error,
                    }
                }
                unreachable!("nobody has so many files")
            });
            drop(refused.await);
            panic!("a program goes on after its death");
        }));
        world.sleep(Duration::from_secs(1)).await;
        node.kill();
        let before = done.load(Ordering::Relaxed);
        assert!(before > 10, "{before} files");
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(done.load(Ordering::Relaxed), before);
        node.restart();
        // One more may have been made whose sync was under way.
        let names = node.disk().names().unwrap().len();
        assert!(names == before as usize || names == before as usize + 1, "{names} of {before}");
    };
    for seed in 0..20 {
        let (first, second) = (sim.one(seed, scenario), sim.one(seed, scenario));
        assert!(first.failure.is_none(), "{}", first.failure.unwrap());
        assert_eq!(first.hash, second.hash);
    }
}

#[test]
fn a_full_disk_takes_nothing_until_it_has_room() {
    Sim::new().seeds(0..20).run(async |world| {
        let node = world.node("node");
        let disk = node.disk();
        let file = disk.create("file").unwrap();
        node.fill_disk();
        let error = file.write_at(0, &[0; 10_000]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        node.free_disk();
        file.write_at(0, &[0; 10_000]).unwrap();
    });
}

#[test]
fn a_node_whose_disk_fails_is_killed_and_started_again() {
    Sim::new().seeds(0..20).run(async |world| {
        let lives = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&lives);
        let node = world.node("node").mortal().start(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        });
        let file = node.disk().create("file").unwrap();
        file.sync_data().unwrap();
        node.fail_sync();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        world.until("it is started again", async || lives.load(Ordering::Relaxed) == 2).await;
    });
}

#[test]
fn disks_are_full_and_fail_until_the_world_heals() {
    let faults = Faults::none().full_disks(8).failed_syncs(8);
    let (full, failed) = (AtomicU32::new(0), AtomicU32::new(0));
    Sim::new().seeds(0..40).faults(faults).run(async |world| {
        let node = world.node("node").mortal();
        let _ = node.disk();
        let end = world.elapsed() + Duration::from_secs(30);
        while world.elapsed() < end {
            let tried = node.disk().create("file").and_then(|file| {
                file.write_at(0, &[0; 10_000])?;
                file.sync_data()
            });
            match tried {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    full.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
            }
            let _ = node.disk().remove("file");
            world.sleep(Duration::from_millis(200)).await;
        }
        let file = node.disk().create("last").unwrap();
        file.write_at(0, &[0; 10_000]).unwrap();
        file.sync_data().unwrap();
    });
    let (full, failed) = (full.into_inner(), failed.into_inner());
    assert!(full > 100 && failed > 20, "{full} times full, {failed} syncs failed");
}
