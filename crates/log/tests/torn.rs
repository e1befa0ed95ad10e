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

#[test]
fn behind_the_records_of_a_segment_that_is_used_again_nothing_counts() {
    let (disk, all) = reused();
    let names = segments(&disk);
    assert!(names.len() >= 2, "{names:?}");
    for (nth, name) in names.iter().enumerate() {
        let before = disk.content(name).unwrap();
        assert_eq!((before[6], before.len()), (1, 500), "{name}");
        let last = all.iter().rfind(|(position, ..)| {
            let next = names.get(nth + 1).map_or(u64::MAX, |next| base(next));
            (base(name)..next).contains(position)
        });
        let (position, _, content) = last.unwrap();
        let end = 64 + usize::try_from(position - base(name)).unwrap() + 9 + content.len();
        for at in 0..before.len() {
            for change in [
                (|bytes, at| bytes[at] ^= 0xff) as fn(&mut Vec<u8>, usize),
                |bytes, at| bytes[at..].fill(0),
                |bytes, at| bytes[at..].fill(0xff),
                Vec::truncate,
            ] {
                let damaged = disk.kill();
                damaged.rot(name, |bytes| change(bytes, at)).unwrap();
                let after = damaged.content(name).unwrap();
                let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
                match open(&damaged) {
                    Ok((found, torn)) => {
                        assert!(same >= end || after == before, "{name} at {at}: it was not seen");
                        assert_eq!(found, all);
                        // What ends it was written with the last record.
                        assert!(!torn || (end..end + 9).contains(&at), "{name} at {at}, {end}");
                    }
                    Err(LogError::Damaged(damage)) => {
                        assert!(at < end, "{name} at {at}, which nobody needs: {damage}");
                        assert_eq!(&damage.segment, name);
                        assert!(damage.offset <= same as u64, "{damage}, not at {same}");
                    }
                    Err(error) => panic!("{name} at {at}: {error}"),
                }
            }
        }
    }
}

#[test]
fn the_torn_end_of_a_segment_that_is_used_again_is_kept_and_nothing_of_what_it_was() {
    // Another one is appended behind the one that goes, or not, and the one that goes has lost its head or
    // its tail, or both.
    for (follows, lost) in [(false, 30..40), (true, 0..9), (true, 0..40), (true, 30..40)] {
        let (disk, mut log, mut all) = reused_and_open();
        log.sync().unwrap();
        let torn_at = log.append(9, &[b'g'; 40]).unwrap();
        if follows {
            log.append(9, b"goes as well").unwrap();
        }
        log.write().unwrap();
        let torn_end = log.end();
        drop(log);
        let name = segments(&disk).pop().unwrap();
        // A mark may be in front of what was appended.
        assert!(all.last().unwrap().0 < torn_at);
        let offset = 64 + usize::try_from(torn_at - base(&name)).unwrap();
        disk.rot(&name, |bytes| bytes[offset..][lost.clone()].fill(0)).unwrap();
        all.retain(|(position, ..)| *position < torn_at);
        let mut found = Vec::new();
        let (_, recovery) = Log::open(disk.clone(), options(), |record| {
            found.push((record.position, record.kind, record.content.to_vec()));
        })
        .unwrap();
        assert_eq!(found, all);
        let torn = recovery.torn.unwrap();
        assert_eq!(torn.damage.position, torn_at);
        let kept = disk.content(torn.kept_as.as_ref().unwrap()).unwrap();
        assert_eq!(kept.len() as u64, torn_end - torn_at, "{follows} {lost:?}");
        assert_eq!(open(&disk).unwrap(), (all, false));
    }
}

/// A log in which all segments were others before, synced.
fn reused_and_open() -> (Simulated, Log, Found) {
    let (disk, mut all) = (Simulated::new(), Vec::new());
    let mut options = options();
    options.prewritten = true;
    let (mut log, _) = Log::open(disk.clone(), options, |_| {}).unwrap();
    for number in 0..60_u8 {
        let content = vec![number; usize::from(number) % 50];
        all.push((log.append(1, &content).unwrap(), 1, content));
        log.sync().unwrap();
        log.forget_before(log.end().saturating_sub(500)).unwrap();
    }
    all.retain(|(position, ..)| *position >= log.start());
    (disk, log, all)
}

/// The same, closed in order.
fn reused() -> (Simulated, Found) {
    let (disk, mut log, all) = reused_and_open();
    log.close().unwrap();
    (disk, all)
}

/// Where a segment begins.
fn base(name: &str) -> u64 {
    u64::from_str_radix(name.split('-').next().unwrap(), 16).unwrap()
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
    let (open_disk, _open, _) = reused_and_open();
    for (disk, ended) in [(written().0, "closed"), (reused().0, "closed"), (open_disk, "killed")] {
        let names = segments(&disk);
        assert!(names.len() > 1);
        for name in names.iter().chain(&[String::from("anchor")]) {
            let without = disk.kill();
            without.remove(name).unwrap();
            let error = open(&without).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, LogError::Damaged(_)), "{text}");
            let is_between =
                name != "anchor" && ![&names[0], &names[names.len() - 1]].contains(&name);
            let what = match name.as_str() {
                "anchor" => "anchor is missing".to_owned(),
                // The end of the one before may be what is missing.
                segment if is_between => format!("(position {})", base(segment)),
                segment => format!("the segment with position {} is missing", base(segment)),
            };
            assert!(text.ends_with(&what), "{name}, {ended}: {text}");
        }
        let without = disk.kill();
        names.iter().for_each(|name| without.remove(name).unwrap());
        assert!(open(&without).is_err(), "all of it, {ended}");
    }
}

#[test]
fn the_first_segment_alone_is_missed_and_so_is_its_anchor() {
    let disk = Simulated::new();
    let (mut log, _) = Log::open(disk.clone(), options(), |_| {}).unwrap();
    log.append(1, b"it was there").unwrap();
    log.sync().unwrap();
    for name in [segments(&disk).remove(0), "anchor".to_owned()] {
        let without = disk.kill();
        without.remove(&name).unwrap();
        assert!(open(&without).is_err(), "{name}");
    }
    // Before there is an anchor there is nothing to be missed, however often that ends early.
    let disk = Simulated::new();
    for _ in 0..3 {
        drop(Log::open(disk.clone(), options(), |_| {}).unwrap());
        disk.remove("anchor").unwrap();
        assert_eq!(open(&disk.kill()).unwrap(), (Vec::new(), false));
    }
}

#[test]
fn a_newer_version_is_no_damage() {
    for name in ["anchor", ".seg"] {
        let (disk, _) = written();
        let name = disk.names().unwrap().into_iter().find(|this| this.ends_with(name)).unwrap();
        // Both say in this byte which version they are, and have a checksum.
        disk.rot(&name, |bytes| {
            bytes[7] += 1;
            let at = if name == "anchor" { bytes.len() - 4 } else { 24 };
            let sum = crc32c::crc32c(&bytes[..at]);
            bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        })
        .unwrap();
        let error = open(&disk).unwrap_err();
        assert!(matches!(error, LogError::Strange(_)), "{name}: {error}");
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
    let kept = disk.content(torn.kept_as.as_ref().unwrap()).unwrap();
    assert!(kept.windows(3).any(|bytes| bytes == b"goe"));
    drop(log);
    // Once cut, it is as if it had never been.
    assert_eq!(open(&disk).unwrap(), (all, false));
}
