//! Several pieces of work at a time, whose outcomes are dealt with in their order.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::Problem;

/// Does `work` on each of `items`, `jobs` at a time, and `deal`s with the outcomes in their order.
/// The first error of `deal` ends it, once what has begun is done.
pub(crate) fn in_turn<T: Sync, O: Send>(
    jobs: NonZeroUsize,
    items: &[T],
    work: impl Fn(&T) -> O + Sync,
    mut deal: impl FnMut(&T, O) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let next = AtomicUsize::new(0);
    let (done, outcomes) = mpsc::sync_channel(items.len());
    thread::scope(|scope| {
        for _ in 0..jobs.get().min(items.len()) {
            let (done, next, work) = (done.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((nth, item)) = take(next, items) {
                    // Nobody listens any more after an error.
                    if done.send((nth, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut waiting = BTreeMap::new();
        let mut turn = 0;
        let dealt = outcomes.iter().try_for_each(|(nth, outcome)| {
            waiting.insert(nth, outcome);
            while let Some(outcome) = waiting.remove(&turn) {
                deal(&items[turn], outcome)?;
                turn += 1;
            }
            Ok(())
        });
        drop(outcomes);
        dealt
    })
}

fn take<'a, T>(next: &AtomicUsize, items: &'a [T]) -> Option<(usize, &'a T)> {
    let nth = next.fetch_add(1, Ordering::Relaxed);
    items.get(nth).map(|item| (nth, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn outcomes_come_in_order() {
        let items: Vec<u32> = (0..100).collect();
        let mut seen = Vec::new();
        let dealt = in_turn(
            TWO,
            &items,
            |item| item * 2,
            |item, double| {
                seen.push((*item, double));
                Ok(())
            },
        );
        dealt.unwrap();
        assert_eq!(seen, items.iter().map(|item| (*item, item * 2)).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_ends_it() {
        let items: Vec<u32> = (0..100).collect();
        let mut dealt = 0;
        let failed = in_turn(
            TWO,
            &items,
            |item| *item,
            |_, item| {
                dealt += 1;
                if item == 3 { Err("enough".into()) } else { Ok(()) }
            },
        );
        assert_eq!((failed.unwrap_err().to_string().as_str(), dealt), ("enough", 4));
    }
}
