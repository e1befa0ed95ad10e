//! What processes use, and on what machine.

use posthaste_measure::{Machine, Usage, per_million, today};

#[cfg(target_os = "linux")]
#[test]
fn work_is_seen_by_the_process_and_from_outside() {
    use std::time::Duration;

    let before = Usage::now().unwrap();
    let mut sum = 0_u64;
    let worked = loop {
        (0..100_000_u64).for_each(|number| sum = sum.wrapping_mul(31).wrapping_add(number));
        let worked = Usage::now().unwrap();
        if worked.cpu_since(&before) >= Duration::from_millis(50) {
            break worked;
        }
    };
    assert_ne!(std::hint::black_box(sum), 1);
    let outside = Usage::of_process(std::process::id()).unwrap();
    // Two ticks of the outside, which rounds user and system time down each.
    assert!(outside.cpu + Duration::from_millis(20) >= worked.cpu, "{outside:?}, {worked:?}");
    assert!(outside.resident_bytes.unwrap() > 100_000);
    assert_eq!(before.cpu_since(&worked), Duration::ZERO);
}

#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_used_is_resident() {
    let before = Usage::now().unwrap().resident_bytes.unwrap();
    let block = std::hint::black_box(vec![1_u8; 64 << 20]);
    let after = Usage::now().unwrap().resident_bytes.unwrap();
    assert!(after > before + (60 << 20), "{before} and {after}");
    drop(block);
}

#[cfg(unix)]
#[test]
fn a_process_that_is_not_there_is_an_error() {
    assert!(Usage::of_process(u32::MAX).is_err());
}

#[test]
fn cpu_time_is_told_for_a_million_messages() {
    let second = std::time::Duration::from_secs(1);
    assert_eq!(per_million(second, 4_000_000), 0.25);
    assert_eq!(per_million(second, 0), 0.0);
}

#[test]
fn a_machine_is_a_kind_without_a_name() {
    let machine = Machine::this();
    let shown = machine.to_string();
    assert!(shown.contains(&machine.cpu) && shown.contains(&machine.kernel), "{shown}");
    let json = serde_json::to_value(&machine).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["cores", "cpu", "is_virtual", "kernel", "os"]);
}

#[test]
fn a_date_is_a_day() {
    let today = today();
    let parts: Vec<u32> = today.split('-').map(|part| part.parse().unwrap()).collect();
    assert!(matches!(&*parts, [2024..=9999, 1..=12, 1..=31]), "{today}");
}
