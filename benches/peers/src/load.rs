//! How busy the machine is with other things.

use std::fmt;

use serde::Serialize;

/// The load averages of one, five and fifteen minutes, and how many cores share them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Load {
    averages: [f64; 3],
    cores: usize,
}

impl Load {
    /// As of now; none where the system does not tell.
    pub(crate) fn now() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/loadavg").ok()?;
        let mut numbers = text.split_ascii_whitespace().map(str::parse::<f64>);
        let mut next = || numbers.next()?.ok();
        let averages = [next()?, next()?, next()?];
        Some(Self { averages, cores: std::thread::available_parallelism().ok()?.get() })
    }

    /// Whether so much else runs that rates say little: somebody uses half a core for nothing of
    /// ours, judged by the last minute.
    fn is_high(&self) -> bool {
        self.averages[0] > 0.5
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, five, fifteen] = self.averages;
        write!(f, "load {one:.2}, {five:.2}, {fifteen:.2} on {} cores", self.cores)?;
        if self.is_high() {
            f.write_str(": other programs run, so trust ratios and CPU time rather than rates")?;
        }
        Ok(())
    }
}
