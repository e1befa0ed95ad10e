//! The bugs that are planted in disks, and in brokers that keep their queues there; see `planted`.

use posthaste_sim::planted::DISKS;

use crate::durable::stored;
use crate::planted::finds_by;
use crate::scenarios::rough;

/// What a power cut takes is chance, and so is which of the checks notices it first.
#[track_caller]
fn finds(bug: &str) {
    let checks: Vec<_> = DISKS.iter().map(|bug| bug.found_by).collect();
    finds_by(bug, &rough(), stored, &checks);
}

#[test]
fn a_disk_that_does_not_sync_is_found() {
    finds("disk.skips-data-sync");
}

#[test]
fn a_disk_that_does_not_sync_its_directory_is_found() {
    finds("disk.skips-directory-sync");
}

#[test]
fn a_confirm_before_the_sync_is_found() {
    finds("log.confirms-before-sync");
}

#[test]
fn ids_that_are_forgotten_at_a_restart_are_found() {
    finds("log.forgets-ids");
}

#[test]
fn settlements_that_are_forgotten_at_a_restart_are_found() {
    finds("log.forgets-settlements");
}
