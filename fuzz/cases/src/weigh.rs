//! How much memory a piece of work takes, next to what it was given.

use allocation_counter::measure;

/// Does the work; it may take twice the bytes that it `knows` and 64 KiB.
///
/// # Panics
/// If it takes more.
pub(crate) fn weigh<T>(knows: usize, work: impl FnOnce() -> T) -> T {
    let mut done = None;
    let taken = measure(|| done = Some(work())).bytes_max;
    let most = 2 * knows as u64 + (64 << 10);
    assert!(taken <= most, "{taken} bytes of memory for {knows} bytes of input");
    done.expect("measuring does the work")
}
