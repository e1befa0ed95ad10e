//! What a process has used.

use std::io;
use std::time::Duration;

use serde::Serialize;

/// CPU time and memory of a process.
///
/// Rates of two brokers that saturate a machine may be alike while one of them leaves half of it to
/// the application: CPU time per million messages tells that, and varies less from run to run than
/// rates do.
///
/// ```
/// # #[cfg(unix)]
/// # fn main() -> std::io::Result<()> {
/// use posthaste_measure::{Usage, per_million};
///
/// let before = Usage::now()?;
/// let sum: u64 = (0..1_000).sum();
/// let used = Usage::now()?.cpu_since(&before);
/// println!("{sum}: {:.3} CPU seconds per million additions", per_million(used, 1_000));
/// # Ok(())
/// # }
/// # #[cfg(not(unix))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// CPU time since the process began, in user and system mode, of all of its threads.
    pub cpu: Duration,
    /// Memory that is resident, where the system tells (Linux does).
    pub resident_bytes: Option<u64>,
}

impl Usage {
    /// What this process has used up to now; CPU time to the nanosecond, or as the system has it.
    ///
    /// # Errors
    ///
    /// Where the system does not tell.
    #[cfg(unix)]
    pub fn now() -> io::Result<Self> {
        use rustix::time::{ClockId, clock_gettime};

        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(time).map_err(io::Error::other)?;
        let resident_bytes = match cfg!(target_os = "linux") {
            true => Some(resident(std::process::id())?),
            false => None,
        };
        Ok(Self { cpu, resident_bytes })
    }

    /// What this process has used up to now.
    ///
    /// # Errors
    ///
    /// This system does not tell.
    #[cfg(not(unix))]
    pub fn now() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// What another process has used up to now; CPU time to the tick, which is 10 ms as a rule.
    ///
    /// # Errors
    ///
    /// There is no such process, or this is not Linux.
    #[cfg(unix)]
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = ticks(&stat).ok_or_else(|| unreadable(pid))?;
        let per_second = rustix::param::clock_ticks_per_second();
        let cpu = Duration::from_secs_f64(ticks as f64 / per_second as f64);
        Ok(Self { cpu, resident_bytes: Some(resident(pid)?) })
    }

    /// What another process has used up to now.
    ///
    /// # Errors
    ///
    /// This system does not tell.
    #[cfg(not(unix))]
    pub fn of_process(_pid: u32) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// CPU time since an earlier look at the same process.
    #[must_use]
    pub fn cpu_since(&self, earlier: &Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

/// CPU seconds for a million messages, if so many took so much; 0 if there were none.
///
/// ```
/// use std::time::Duration;
///
/// let used = Duration::from_millis(40);
/// assert_eq!(posthaste_measure::per_million(used, 200_000), 0.2);
/// ```
#[must_use]
pub fn per_million(cpu: Duration, messages: u64) -> f64 {
    match messages {
        0 => 0.0,
        messages => cpu.as_secs_f64() * 1e6 / messages as f64,
    }
}

/// Ticks in user and in system mode, of `/proc/PID/stat`.
#[cfg(unix)]
fn ticks(stat: &str) -> Option<u64> {
    // The name of the program, in parentheses, may contain anything, also spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    ticks()?.checked_add(ticks()?)
}

/// Bytes of `/proc/PID/statm`.
#[cfg(unix)]
fn resident(pid: u32) -> io::Result<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| unreadable(pid))?;
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}

#[cfg(unix)]
fn unreadable(pid: u32) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what /proc says of process {pid} is new"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::ticks;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 17 25 0 0 20 0 1 0 9 1 2";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("42 (a) S 1 42 42 0 -1 4194560 1 2 3 4 17"), None);
        assert_eq!(ticks(""), None);
    }
}
