//! What is there after a power cut, over many seeds: everything that was synced, nothing that was not
//! appended, in order, and never anything else.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Random;
use posthaste_log::storage::{Simulated, Storage};
use posthaste_log::{Log, LogError, LogOptions};

fn options(random: &mut Random) -> LogOptions {
    let mut options = LogOptions::default();
    let most = 256 << random.below(6);
    options.segment_bytes = 512 + random.below(most);
    options.prewritten = random.below(4) > 0;
    options
}

type Found = Vec<(u64, Vec<u8>)>;

fn open(disk: &Simulated, options: LogOptions) -> Result<(Log, Found), LogError> {
    open_torn(disk, options).map(|(log, found, _)| (log, found))
}

/// The same, and whether the end was torn.
fn open_torn(disk: &Simulated, options: LogOptions) -> Result<(Log, Found, bool), LogError> {
    let mut found = Vec::new();
    let show = |record: posthaste_log::Record<'_>| {
        found.push((record.position, record.content.to_vec()));
    };
    let (log, recovery) = Log::open(disk.clone(), options, show)?;
    assert_eq!(recovery.records, found.len() as u64);
    Ok((log, found, recovery.torn.is_some()))
}

/// Whether the last segment is in the file of one that was forgotten.
fn is_reused(disk: &Simulated) -> bool {
    let names = disk.names().unwrap();
    let last = names.iter().filter(|name| name.ends_with(".seg")).max().unwrap();
    disk.content(last).unwrap()[6] == 1
}

/// What a disk does beside losing power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bad {
    Nothing,
    /// Its syncs do nothing.
    Lies,
    /// It has hardly a byte left, from before most lives on.
    Full,
}

/// How many lives there were of a kind.
#[derive(Debug, Default)]
struct Lives {
    /// They ended in a segment that was another one before; of these the end was torn.
    reused: u32,
    torn: u32,
    /// They went on in the segment in which the one before ended.
    went_on: u32,
}

/// The last segment.
fn last(disk: &Simulated) -> Option<String> {
    disk.names().unwrap().into_iter().filter(|name| name.ends_with(".seg")).max()
}

/// Whether something was done, which it is not where there is no room.
fn done<T>(result: Result<T, LogError>, bad: Bad) -> Option<T> {
    match result {
        Err(error) if bad == Bad::Full && error.is_full() => None,
        result => Some(result.unwrap()),
    }
}

/// One life after the other on the same disk; what does not hold is the error.
fn live(seed: u64, bad: Bad) -> Result<Lives, String> {
    let mut random = Random::new(seed);
    let mut disk = Simulated::new();
    // What must be there, and what may be there behind it.
    let (mut safe, mut maybe): (Found, Found) = (Vec::new(), Vec::new());
    let (mut is_whole, mut was_reused, mut lives) = (true, false, Lives::default());
    for life in 0..4 {
        match bad {
            Bad::Nothing => {}
            Bad::Lies => disk.lie(),
            Bad::Full => {
                let room = random.below(100) * random.below(2);
                let is_full = life > 0 && random.below(4) > 0;
                disk.limit(is_full.then(|| disk.used() + room));
            }
        }
        let before = last(&disk);
        let opened = open_torn(&disk, options(&mut random));
        let (mut log, found, is_torn) = opened.map_err(|error| format!("life {life}: {error}"))?;
        if is_whole && is_torn {
            return Err(format!("life {life}: torn, and all was written"));
        }
        lives.reused += u32::from(was_reused);
        lives.torn += u32::from(was_reused && is_torn);
        lives.went_on += u32::from(before.is_some() && before == last(&disk));
        if found.len() < safe.len() {
            return Err(format!("life {life}: {} of {} are there", found.len(), safe.len()));
        }
        let all: Found = safe.iter().chain(&maybe).cloned().collect();
        if all.get(..found.len()) != Some(&found[..]) {
            return Err(format!("life {life}: something else is there"));
        }
        (safe, maybe) = (found, Vec::new());
        let dies_in = random.below(120);
        for _ in 0..dies_in {
            match random.below(9) {
                0 => drop(done(log.sync(), bad)),
                1 => drop(done(log.write(), bad)),
                2 => drop(done(log.mark(), bad)),
                3 => {
                    let all = log.end() - log.start() + 1;
                    log.forget_before(log.start() + random.below(all)).unwrap();
                    safe.retain(|(position, _)| *position >= log.start());
                    maybe.retain(|(position, _)| *position >= log.start());
                }
                _ => {
                    let most = 1 << random.below(12);
                    let size = random.below(most);
                    let content: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
                    if let Some(position) = done(log.append(1, &content), bad) {
                        maybe.push((position, content));
                    }
                }
            }
            // What could not be written is not there, and a segment that is full is synced before the next
            // one begins.
            maybe.retain(|(position, _)| *position < log.end());
            let synced = maybe.iter().take_while(|(position, _)| *position < log.stored()).count();
            safe.extend(maybe.drain(..synced));
            if let Some((position, content)) = safe.last().or(maybe.last()) {
                assert_eq!(log.read(*position).unwrap(), Some((1, content.clone())));
            }
        }
        is_whole = log.stored() == log.end() && bad != Bad::Lies;
        drop(log);
        was_reused = is_reused(&disk);
        disk = match random.below(4) {
            0 => {
                is_whole = true;
                disk.kill()
            }
            _ => disk.power_cut(&mut || random.next()),
        };
    }
    Ok(lives)
}

#[test]
fn what_was_synced_is_there_after_every_power_cut() {
    let (mut reused, mut torn) = (0, 0);
    for seed in 0..10_000 {
        let lives = live(seed, Bad::Nothing).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        (reused, torn) = (reused + lives.reused, torn + lives.torn);
    }
    assert!(reused > 4_000, "{reused} lives ended in a segment that was another one before");
    assert!(torn > 50 && torn < reused / 2, "{torn} of {reused} were torn");
}

#[test]
fn a_log_on_a_full_disk_is_opened_with_all_that_was_synced_after_every_power_cut() {
    let mut went_on = 0;
    for seed in 0..5_000 {
        let lives = live(seed, Bad::Full).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        went_on += lives.went_on;
    }
    assert!(went_on > 4_000, "{went_on} lives went on where the one before ended");
}

#[test]
fn a_segment_that_is_forgotten_becomes_the_next_one_and_no_other_is_kept() {
    let disk = Simulated::new();
    let mut options = LogOptions::default();
    options.segment_bytes = 1_000;
    let (mut log, _) = open(&disk, options.clone()).unwrap();
    let files = |disk: &Simulated| disk.names().unwrap().len();
    for number in 0..200_u8 {
        log.append(1, &[number; 90]).unwrap();
        log.sync().unwrap();
        log.forget_before(log.end().saturating_sub(1_500)).unwrap();
        assert!(files(&disk) <= 5, "{:?}", disk.names());
        assert!(is_reused(&disk) || number < 40, "{number}");
    }
    drop(log);
    // Where none is made beforehand none is kept, and its room is given back.
    options.prewritten = false;
    let disk = disk.power_cut(&mut || 0);
    let (mut log, found, is_torn) = open_torn(&disk, options).unwrap();
    assert_eq!((found.last().unwrap().1.as_slice(), is_torn), ([199; 90].as_slice(), false));
    log.append(1, b"more").unwrap();
    log.sync().unwrap();
    log.forget_before(log.end()).unwrap();
    // The anchor, the room for the next one, and the segment.
    assert_eq!(files(&disk), 3, "{:?}", disk.names());
}

#[test]
fn a_disk_that_does_not_sync_is_caught_losing() {
    let caught = (0..1_000).filter(|seed| live(*seed, Bad::Lies).is_err()).count();
    assert!(caught > 500, "only {caught} of 1,000");
}

#[test]
fn a_sync_that_fails_is_the_end_until_it_is_opened_again() {
    for syncs in 0..40 {
        let disk = Simulated::new();
        let mut options = LogOptions::default();
        options.segment_bytes = 1_000;
        let Ok((mut log, _)) = open(&disk, options.clone()) else { panic!("a healthy disk") };
        disk.fail_sync_after(syncs);
        let mut safe = Vec::new();
        let mut number = 0_u32;
        let failed = loop {
            let content = number.to_le_bytes().repeat(30);
            number += 1;
            let synced = log.append(1, &content).and_then(|position| {
                log.sync()?;
                Ok(position)
            });
            match synced {
                Ok(position) => safe.push((position, content)),
                Err(error) => break error,
            }
        };
        assert!(matches!(failed, LogError::Storage { .. }), "{failed}");
        drop(log);
        let (mut log, found) = open(&disk.power_cut(&mut || 0), options).unwrap();
        assert_eq!(found.get(..safe.len()), Some(&safe[..]), "after {syncs} syncs");
        log.append(1, b"goes on").unwrap();
        log.sync().unwrap();
    }
}

#[test]
fn segments_take_what_they_hold_however_often_the_power_fails() {
    let mut options = LogOptions::default();
    options.segment_bytes = 4_000;
    let mut disk = Simulated::new();
    for _ in 0..20 {
        let (mut log, _) = open(&disk, options.clone()).unwrap();
        log.append(1, b"x").unwrap();
        log.sync().unwrap();
        // That the one before was cut was not synced.
        disk = disk.power_cut(&mut || 0);
    }
    let (_log, found) = open(&disk, options).unwrap();
    assert_eq!(found.len(), 20);
    assert!(disk.used() < 12_000, "{} bytes", disk.used());
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_room() {
    for prewritten in [true, false] {
        let disk = Simulated::new();
        disk.limit(Some(10_036));
        let mut options = LogOptions::default();
        (options.segment_bytes, options.prewritten) = (2_000, prewritten);
        let (mut log, _) = open(&disk, options.clone()).unwrap();
        let mut safe = Vec::new();
        let mut append = |log: &mut Log, number: u32| {
            let content = number.to_le_bytes().repeat(25);
            let position = log.append(1, &content)?;
            log.sync()?;
            safe.push((position, content));
            Ok::<_, LogError>(())
        };
        let mut number = 0;
        let full = loop {
            if let Err(error) = append(&mut log, number) {
                break error;
            }
            number += 1;
        };
        assert!(full.is_full(), "{full}");
        assert!(append(&mut log, number).unwrap_err().is_full());
        disk.limit(Some(20_000));
        for number in number..number + 20 {
            append(&mut log, number).unwrap();
        }
        log.close().unwrap();
        let (_, found) = open(&disk.power_cut(&mut || 0), options).unwrap();
        assert_eq!(found, safe);
    }
}

#[test]
fn what_is_forgotten_is_gone_and_nothing_else() {
    let disk = Simulated::new();
    let mut options = LogOptions::default();
    options.segment_bytes = 1_000;
    let (mut log, _) = open(&disk, options.clone()).unwrap();
    let positions: Vec<u64> = (0..100_u8).map(|n| log.append(1, &[n; 90]).unwrap()).collect();
    log.sync().unwrap();
    assert!(log.forget_before(positions[60]).unwrap() > 4);
    assert!(log.start() <= positions[60] && log.start() > positions[40]);
    let left: Vec<u64> = positions.iter().copied().filter(|at| *at >= log.start()).collect();
    assert_eq!(log.read(positions[0]).unwrap(), None);
    drop(log);
    let (log, found) = open(&disk.power_cut(&mut || 0), options).unwrap();
    assert_eq!(found.iter().map(|(position, _)| *position).collect::<Vec<_>>(), left);
    assert!(log.read(positions[99]).unwrap().is_some());
}

#[test]
fn what_could_not_be_synced_is_written_again_before_it_counts() {
    for fails_at_once in [true, false] {
        let disk = Simulated::new();
        let (mut log, _) = open(&disk, LogOptions::default()).unwrap();
        log.append(1, b"written, and never synced").unwrap();
        log.write().unwrap();
        disk.fail_sync_after(0);
        if fails_at_once {
            log.sync().unwrap_err();
        } else {
            // The process is killed, and the next one cannot sync what it finds.
            open(&disk, LogOptions::default()).unwrap_err();
        }
        drop(log);
        // The system still shows it to whoever reads it, and syncs are in order again.
        let (_, found) = open(&disk, LogOptions::default()).unwrap();
        assert_eq!(found.len(), 1);
        let (_, after) = open(&disk.power_cut(&mut || 0), LogOptions::default()).unwrap();
        assert_eq!(after, found);
    }
}
