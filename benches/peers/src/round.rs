//! One round of one contender: fresh processes, a warm-up, and what they do in a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::control::Late;
use crate::peer::{Contender, Script};
use crate::process::Process;
use crate::work::Work;

/// How long it may take until something arrives, and how often that is looked for.
const FLOWS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

/// How long a round is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Before anything is measured.
    pub(crate) warm_up: Duration,
    /// While it is measured.
    pub(crate) measure: Duration,
}

/// What one round measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// How long was measured, at the role that counts.
    pub(crate) seconds: f64,
    /// What that role counted meanwhile.
    pub(crate) count: u64,
    /// What each role counted and used, in the order in which they were started.
    pub(crate) roles: Vec<RoleSample>,
    /// How many requests a second were due, if that was fixed.
    pub(crate) asked_rate: Option<f64>,
    /// How late their answers came.
    pub(crate) late: Option<Late>,
}

/// What one role did in a round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RoleSample {
    pub(crate) role: String,
    pub(crate) count: u64,
    pub(crate) cpu_seconds: f64,
}

impl Sample {
    /// What was counted per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }

    /// CPU seconds per million of what was counted, of the roles that `which` picks.
    pub(crate) fn cpu_per_million(&self, which: impl Fn(&str) -> bool) -> f64 {
        let roles = self.roles.iter().filter(|role| which(&role.role));
        roles.map(|role| role.cpu_seconds).sum::<f64>() / self.count as f64 * 1e6
    }
}

/// Plays one round, at a fixed rate if there is one.
///
/// # Errors
/// Why there is no figure: a process that failed, ended, or hung.
pub(crate) fn play(
    contender: &Contender,
    work: &Work,
    pace: Pace,
    rate: Option<f64>,
) -> Result<Sample> {
    let folder = tempfile::Builder::new().prefix("peers-").tempdir()?;
    let mut cast = Cast(Vec::with_capacity(contender.roles.len()));
    let processes = &mut cast.0;
    let mut addresses = Vec::new();
    for role in contender.roles {
        let script = Script {
            peer: contender.peer.to_owned(),
            variant: contender.variant.to_owned(),
            api: contender.api,
            executor: contender.executor,
            role: (*role).to_owned(),
            work: *work,
            addresses: addresses.clone(),
            rate,
            folder: folder.path().to_owned(),
        };
        let process = Process::start(&script)?;
        addresses.push((script.role, process.address().to_owned()));
        processes.push(process);
    }
    wait_until_it_flows(processes, contender.counts)?;
    std::thread::sleep(pace.warm_up);
    let before = processes.iter_mut().map(Process::mark).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(pace.measure);
    let after = processes.iter_mut().map(Process::mark).collect::<Result<Vec<_>>>()?;

    let roles = processes.iter().map(Process::role).zip(before.iter().zip(&after));
    let counting = roles.clone().find(|(role, _)| *role == contender.counts);
    let (_, (first, last)) = counting.context("nobody counts")?;
    let count = last.count - first.count;
    ensure!(count > 0, "it hangs: nothing arrived in {:?}", pace.measure);
    let seconds = (last.at_ns - first.at_ns) as f64 / 1e9;
    let roles = roles
        .map(|(role, (first, last))| RoleSample {
            role: role.to_owned(),
            count: last.count - first.count,
            cpu_seconds: last.cpu.saturating_sub(first.cpu).as_secs_f64(),
        })
        .collect();
    Ok(Sample { seconds, count, roles, asked_rate: rate, late: last.latency })
}

/// Waits until something has arrived, because some take their time to begin.
fn wait_until_it_flows(processes: &mut [Process], counts: &str) -> Result<()> {
    let counting = processes.iter_mut().find(|process| process.role() == counts);
    let counting = counting.context("nobody counts")?;
    let until = Instant::now() + FLOWS;
    while counting.mark()?.count == 0 {
        ensure!(Instant::now() < until, "it hangs: nothing has arrived after {FLOWS:?}");
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// The processes of a round.
struct Cast(Vec<Process>);

impl Drop for Cast {
    /// Whoever was started last ends first, so that nobody misses what it depends on.
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}
