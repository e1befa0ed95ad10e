//! Allocations of this process, which it prints at its end for the one that started it.

use std::alloc::System;
use std::fmt;
use std::str::FromStr;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

use crate::Problem;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a process allocated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Allocated {
    /// How often it allocated, or made larger or smaller what it had.
    pub(crate) allocations: i64,
    /// How many bytes that were; of what was made larger, those by which it was.
    pub(crate) bytes: i64,
}

impl Allocated {
    /// By this process, so far.
    pub(crate) fn so_far() -> Result<Self, Problem> {
        let stats = ALLOCATOR.stats();
        Ok(Self {
            allocations: (stats.allocations + stats.reallocations).try_into()?,
            bytes: stats.bytes_allocated.try_into()?,
        })
    }
}

impl fmt::Display for Allocated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} allocations, {} bytes", self.allocations, self.bytes)
    }
}

impl FromStr for Allocated {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let parse = || {
            let (allocations, bytes) = text.trim().split_once(" allocations, ")?;
            let bytes = bytes.strip_suffix(" bytes")?;
            Some(Self { allocations: allocations.parse().ok()?, bytes: bytes.parse().ok()? })
        };
        parse().ok_or_else(|| format!("the scenario's process printed {text:?}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::Allocated;

    #[test]
    fn what_is_printed_reads_back() {
        let allocated = Allocated { allocations: 12, bytes: 3_456 };
        assert_eq!(format!("{allocated}\n").parse::<Allocated>().unwrap(), allocated);
        assert!("nothing".parse::<Allocated>().is_err());
    }

    #[test]
    fn allocations_of_this_process_are_counted() {
        let before = Allocated::so_far().unwrap();
        drop(std::hint::black_box(vec![0_u8; 1 << 20]));
        let after = Allocated::so_far().unwrap();
        assert!(after.allocations > before.allocations);
        assert!(after.bytes >= before.bytes + (1 << 20));
    }
}
