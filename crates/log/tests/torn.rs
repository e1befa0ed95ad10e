//! Every byte of a log flipped, zeroed and cut: what is damaged is named and never served.

#![allow(clippy::unwrap_used, reason = "a test")]

use posthaste_log::storage::{Simulated, Storage};
use posthaste_log::{Log, LogError, LogOptions};

fn options() -> LogOptions {
    let mut options = LogOptions::default();
    (options.segment_bytes, options.prewritten) = (500, false);
    options
}

type Found = Vec<(u64, u8, Vec<u8>)>;

fn open(disk: &Simulated) -> Result<(Found, bool), LogError> {
    let mut found = Vec::new();
    let (_, recovery) = Log::open(disk.clone(), options(), |record| {
        found.push((record.position, record.kind, record.content.to_vec()));
    })?;
    Ok((found, recovery.torn.is_some()))
}

/// A log of three segments, closed in order, and what is in it.
fn written() -> (Simulated, Found) {
    let disk = Simulated::new();
    let (mut log, _) = Log::open(disk.clone(), options(), |_| {}).unwrap();
    let mut all = Vec::new();
    for number in 0..24_u8 {
        let content = vec![number; usize::from(number) * 3];
        all.push((log.append(1 + number % 3, &content).unwrap(), 1 + number % 3, content));
        if number % 5 == 4 {
            log.sync().unwrap();
        }
    }
    log.close().unwrap();
    (disk, all)
}

#[test]
fn no_change_of_a_byte_is_served_or_skipped() {
    let (disk, all) = written();
    let names = segments(&disk);
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names.iter().chain(&[String::from("anchor")]) {
        let length = disk.content(name).unwrap().len();
        for at in 0..length {
            for change in [
                (|bytes, at| bytes[at] ^= 1) as fn(&mut Vec<u8>, usize),
                |bytes, at| bytes[at] ^= 0xff,
                |bytes, at| bytes[at] = 0,
                |bytes, at| bytes[at..].fill(0),
                Vec::truncate,
            ] {
                let damaged = disk.kill();
                let before = disk.content(name).unwrap();
                damaged.rot(name, |bytes| change(bytes, at)).unwrap();
                let is_same = damaged.content(name).unwrap() == before;
                match open(&damaged) {
                    Ok((found, torn)) => {
                        assert!(is_same, "{name} at {at}: it was not seen");
                        assert_eq!((found, torn), (all.clone(), false));
                    }
                    Err(LogError::Damaged(damage)) => {
                        assert_eq!(&damage.segment, name);
                        // What is zeroed may have been zeros.
                        let after = damaged.content(name).unwrap();
                        let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
                        assert!(damage.offset <= same as u64, "{damage}, not at {same}");
                    }
                    Err(error) => panic!("{name} at {at}: {error}"),
                }
            }
        }
    }
}

/// The files of its segments, in order.
fn segments(disk: &Simulated) -> Vec<String> {
    let mut names = disk.names().unwrap();
    names.retain(|name| name.ends_with(".seg"));
    names.sort_unstable();
    names
}

#[test]
fn a_file_that_is_gone_is_missed() {
    let (disk, _) = written();
    let names = segments(&disk);
    for name in names.iter().chain(&[String::from("anchor")]) {
        let without = disk.kill();
        without.remove(name).unwrap();
        // The first may have been forgotten.
        assert_eq!(open(&without).is_err(), *name != names[0], "{name}");
    }
}

#[test]
fn a_torn_end_is_cut_and_kept_aside() {
    let (disk, mut all) = written();
    let (mut log, _) = Log::open(disk.clone(), options(), |_| {}).unwrap();
    all.push((log.append(9, b"stays").unwrap(), 9, b"stays".to_vec()));
    log.sync().unwrap();
    let torn_at = log.append(9, b"goes").unwrap();
    log.write().unwrap();
    drop(log);
    let name = segments(&disk).pop().unwrap();
    disk.rot(&name, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    let mut found = Vec::new();
    let (log, recovery) = Log::open(disk.clone(), options(), |record| {
        found.push((record.position, record.kind, record.content.to_vec()));
    })
    .unwrap();
    assert_eq!(found, all);
    let torn = recovery.torn.unwrap();
    assert!(torn.damage.position <= torn_at && log.end() == torn.damage.position);
    let kept = disk.content(&torn.kept_as).unwrap();
    assert!(kept.windows(3).any(|bytes| bytes == b"goe"));
    drop(log);
    // Once cut, it is as if it had never been.
    assert_eq!(open(&disk).unwrap(), (all, false));
}
