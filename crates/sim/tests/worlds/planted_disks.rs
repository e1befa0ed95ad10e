//! The bugs that are planted in disks, and in brokers that keep their queues there; see `planted`.

use crate::durable::stored;
use crate::planted::finds;
use crate::scenarios::rough;

#[test]
fn a_disk_that_does_not_sync_is_found() {
    finds("disk.skips-data-sync", &rough(), stored);
}

#[test]
fn a_disk_that_does_not_sync_its_directory_is_found() {
    finds("disk.skips-directory-sync", &rough(), stored);
}

#[test]
fn a_confirm_before_the_sync_is_found() {
    finds("log.confirms-before-sync", &rough(), stored);
}

#[test]
fn ids_that_are_forgotten_at_a_restart_are_found() {
    finds("log.forgets-ids", &rough(), stored);
}

#[test]
fn settlements_that_are_forgotten_at_a_restart_are_found() {
    finds("log.forgets-settlements", &rough(), stored);
}
