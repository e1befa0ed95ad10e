//! What was found, and what is made up from seeds, goes through every target on any toolchain.
#![allow(clippy::print_stdout, reason = "a failure is to name the case that it is about")]

use std::fs;
use std::path::Path;

use posthaste_fuzz_cases::{TARGETS, seeded};

#[test]
fn every_case_that_was_kept_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, target) in TARGETS {
        let mut cases: Vec<_> =
            fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!cases.is_empty(), "{name} has a corpus");
        cases.sort();
        for case in cases {
            let data = fs::read(&case).unwrap();
            println!("{}", case.display());
            target(&data);
        }
    }
}

#[test]
fn every_target_holds_on_what_a_few_seeds_make_up() {
    for (name, target) in TARGETS {
        for seed in 0..200 {
            println!("{name}, seed {seed}");
            target(&seeded(seed, 1 + usize::try_from(seed).unwrap() * 16));
        }
    }
}
