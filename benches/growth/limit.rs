//! How many files a process may have open.

/// What a process needs beside its connections: standard streams, reactor, listener.
#[cfg(unix)]
const OTHERS: u64 = 64;

/// Lets this process, and those that it starts, have so many connections. `Err` says why not.
#[cfg(unix)]
pub(crate) fn allow(connections: u64) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let needed = connections + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        return Err(format!(
            "needs {needed} open files, and a process may have {maximum} here (ulimit -Hn)"
        ));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|error| format!("needs {needed} open files, which was refused: {error}"))
}

/// Systems of other kinds have no such limit, or one that is found out by running into it.
#[cfg(not(unix))]
pub(crate) fn allow(_connections: u64) -> Result<(), String> {
    Ok(())
}
