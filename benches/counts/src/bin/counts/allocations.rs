//! Allocations, counted by an allocator in this very program.

use std::thread;

use allocation_counter::AllocationInfo;
use posthaste_counts::Scenario;

use crate::Problem;

/// How often each message allocates, and how many bytes.
pub(crate) fn allocations(scenario: &Scenario) -> Result<(f64, f64), Problem> {
    let messages = scenario.messages();
    let few = of_run(scenario, messages)?;
    let more = of_run(scenario, 3 * messages)?;
    let per_message = |few: u64, more: u64| (more as f64 - few as f64) / (2 * messages) as f64;
    Ok((
        per_message(few.count_total, more.count_total),
        per_message(few.bytes_total, more.bytes_total),
    ))
}

/// All of a run, on a thread of its own, so that nothing is left from the run before.
fn of_run(scenario: &Scenario, messages: u64) -> Result<AllocationInfo, Problem> {
    let mut outcome = Ok(());
    let info = thread::scope(|scope| {
        let measured =
            scope.spawn(|| allocation_counter::measure(|| outcome = scenario.run(messages)));
        measured.join()
    });
    outcome?;
    info.map_err(|_| format!("the scenario {:?} panicked", scenario.name()).into())
}
