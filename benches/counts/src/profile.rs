//! Where the instructions of a message are, from the profiles that callgrind writes.
//!
//! A profile is lines of text: `fn=` begins a function, `fl=`, `fi=` and `fe=` say which file the
//! lines after them are in (code that was inlined keeps its file), a line of two numbers is a
//! source line and its instructions, and `cfn=`, `calls=` and a line of two numbers are a call and
//! what it cost with everything it called.

use std::collections::BTreeMap;

use crate::scenarios::Scenario;

use crate::{Problem, callgrind};

/// What was counted, by function, by source line and by who allocates.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    functions: BTreeMap<String, [i64; 3]>,
    lines: BTreeMap<String, [i64; 1]>,
    allocating: BTreeMap<String, [i64; 1]>,
}

/// What a message adds to a function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// Instructions in the function itself and in what is inlined into it.
    pub(crate) own: f64,
    /// Instructions in the function and all that it calls.
    pub(crate) inclusive: f64,
    pub(crate) calls: f64,
}

/// What a message adds, everywhere.
#[derive(Debug)]
pub(crate) struct PerMessage {
    pub(crate) functions: Vec<Function>,
    /// Instructions of each source line.
    pub(crate) lines: Vec<(String, f64)>,
    /// How often each function calls the allocator.
    pub(crate) allocating: Vec<(String, f64)>,
}

/// The difference of the profiles of a short and a long run, per message.
pub(crate) fn of(scenario: &Scenario) -> Result<PerMessage, Problem> {
    let messages = scenario.messages();
    let few = Profile::read(&callgrind::profile(scenario, messages)?)?;
    let more = Profile::read(&callgrind::profile(scenario, 3 * messages)?)?;
    let messages = 2 * messages;
    let functions = per_message(more.functions, few.functions, messages);
    let functions = functions.into_iter().map(|(name, [own, inclusive, calls])| Function {
        name,
        own,
        inclusive,
        calls,
    });
    let sorted = |more, few| {
        let counts = per_message(more, few, messages).into_iter();
        let mut counts: Vec<_> = counts.map(|(name, [count])| (name, count)).collect();
        counts.sort_by(|a, b| b.1.total_cmp(&a.1));
        counts
    };
    Ok(PerMessage {
        functions: functions.collect(),
        lines: sorted(more.lines, few.lines),
        allocating: sorted(more.allocating, few.allocating),
    })
}

fn per_message<const N: usize>(
    mut more: BTreeMap<String, [i64; N]>,
    few: BTreeMap<String, [i64; N]>,
    messages: u64,
) -> Vec<(String, [f64; N])> {
    for (name, counts) in few {
        let more = more.entry(name).or_insert([0; N]);
        for (more, few) in more.iter_mut().zip(counts) {
            *more -= few;
        }
    }
    let per_message = |count| count as f64 / messages as f64;
    more.into_iter().map(|(name, counts)| (name, counts.map(per_message))).collect()
}

impl Profile {
    /// Reads a profile whose names and positions are not compressed.
    fn read(text: &str) -> Result<Self, Problem> {
        let mut profile = Self::default();
        let (mut function, mut file, mut called) = ("", "", "");
        let mut calls = None;
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                match key {
                    "fn" => function = value,
                    "fl" | "fi" | "fe" => file = value,
                    "cfn" => called = value,
                    "calls" => calls = value.split(' ').next().map(str::parse).transpose()?,
                    _ => {}
                }
            } else if let Some((at, cost)) = line.split_once(' ')
                && let (Ok(at), Ok(cost)) = (at.parse::<u64>(), cost.parse())
            {
                match calls.take() {
                    Some(calls) => profile.called(function, called, calls, cost),
                    None => profile.spent(function, &format!("{file}:{at}"), cost),
                }
            }
        }
        Ok(profile)
    }

    /// `function` called another.
    fn called(&mut self, function: &str, called: &str, calls: i64, cost: i64) {
        if let Some(outermost) = outermost(function) {
            self.functions.entry(outermost.to_owned()).or_default()[1] += cost;
        }
        self.functions.entry(name(called).to_owned()).or_default()[2] += calls;
        if matches!(name(called), "malloc" | "calloc" | "realloc" | "posix_memalign") {
            self.allocating.entry(name(function).to_owned()).or_default()[0] += calls;
        }
    }

    /// `function` did something itself.
    fn spent(&mut self, function: &str, line: &str, cost: i64) {
        let counts = self.functions.entry(name(function).to_owned()).or_default();
        counts[0] += cost;
        if outermost(function).is_some() {
            counts[1] += cost;
        }
        self.lines.entry(line.to_owned()).or_default()[0] += cost;
    }
}

/// The name of a function without the depth of recursion, which callgrind appends as `'2`.
fn name(function: &str) -> &str {
    match function.rsplit_once('\'') {
        Some((name, depth)) if depth.parse::<u32>().is_ok() => name,
        _ => function,
    }
}

/// The same of the outermost call alone, whose costs include those of the inner ones.
fn outermost(function: &str) -> Option<&str> {
    Some(function).filter(|function| name(function) == *function)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir
fl=src/a.rs
fn=outer
3 10
cfi=src/b.rs
cfn=inner
calls=2 7
4 30
fn=inner
fi=core/inlined.rs
7 12
fe=src/b.rs
8 8
cfn=inner'2
calls=1 7
9 5
cfn=malloc
calls=4 1
9 5
fn=inner'2
7 5
totals: 50
";

    #[test]
    fn costs_calls_and_allocations_are_read() {
        let profile = Profile::read(PROFILE).unwrap();
        assert_eq!(profile.functions["outer"], [10, 40, 0]);
        assert_eq!(profile.functions["inner"], [25, 30, 3]);
        assert_eq!(profile.lines["core/inlined.rs:7"], [12]);
        assert_eq!(profile.allocating["inner"], [4]);
    }

    #[test]
    fn what_happens_once_is_in_no_message() {
        let of = |count| BTreeMap::from([("once".to_owned(), [7]), ("each".to_owned(), [count])]);
        let counts = per_message(of(30), of(10), 20);
        assert_eq!(counts, [("each".to_owned(), [1.0]), ("once".to_owned(), [0.0])]);
    }
}
