//! On what kind of machine something was measured, and when.

use std::fmt;
use std::thread::available_parallelism;
use std::time::SystemTime;

use serde::Serialize;

/// The kind of a machine: what somebody else needs to know of it to compare figures. Not which one
/// it is: it has no name.
///
/// ```
/// use posthaste_measure::Machine;
///
/// let machine = Machine::this();
/// assert!(machine.cores >= 1);
/// println!("measured on {machine}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The model of the processor, or its architecture where the system tells no more.
    pub cpu: String,
    /// How many cores this process may run on.
    pub cores: usize,
    /// Whether it is a virtual machine, where the system tells.
    pub is_virtual: Option<bool>,
    /// The kernel and its version.
    pub kernel: String,
    /// The distribution of the operating system, or its name.
    pub os: String,
}

impl Machine {
    /// The one that this runs on.
    #[must_use]
    pub fn this() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| cpuinfo.as_deref().and_then(|text| field(text, name, ':'));
        let release = read("/etc/os-release");
        let pretty = release.as_deref().and_then(|text| self::field(text, "PRETTY_NAME", '='));
        let cpu = field("model name").unwrap_or(std::env::consts::ARCH).to_owned();
        Self {
            cpu,
            cores: available_parallelism().map_or(1, usize::from),
            is_virtual: field("flags").map(|flags| flags.split(' ').any(|it| it == "hypervisor")),
            kernel: kernel(),
            os: pretty.unwrap_or(std::env::consts::OS).trim_matches('"').to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = if self.cores == 1 { "core" } else { "cores" };
        let of = if self.is_virtual == Some(true) { "virtual, of" } else { "of" };
        let Self { cpu, kernel, os, .. } = self;
        write!(f, "{} {cores} ({of} {cpu}), {kernel}, {os}", self.cores)
    }
}

/// The date in UTC, as `2026-11-28`.
///
/// ```
/// assert_eq!(posthaste_measure::today().len(), "2026-11-28".len());
/// ```
#[must_use]
#[allow(clippy::disallowed_methods, reason = "a record says when it was made")]
pub fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// A file that systems of another kind do not have.
fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The value of the first line that begins with `name`.
fn field<'a>(text: &'a str, name: &str, separator: char) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(separator))
        .find(|(this, _)| this.trim() == name)
        .map(|(_, value)| value.trim())
}

#[cfg(unix)]
fn kernel() -> String {
    let name = rustix::system::uname();
    format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())
}

#[cfg(not(unix))]
fn kernel() -> String {
    std::env::consts::OS.to_owned()
}
