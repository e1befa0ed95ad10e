//! The rows of the benchmark, as data.

use crate::work::{Executor, Transport, Via, Work, bytes};

/// One line of comparison: the same work, done by every contender that can.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Where it stands: `in-process`, `sockets`, `brokers` or `latency`.
    pub(crate) section: &'static str,
    /// What it is called, its section first.
    pub(crate) name: String,
    /// What is done.
    pub(crate) work: Work,
}

impl Row {
    fn new(section: &'static str, name: &str, work: Work) -> Self {
        Self { section, name: format!("{section}/{name}"), work }
    }

    /// Whether one of the filters names it, or there are none.
    pub(crate) fn is_meant(&self, filters: &[String]) -> bool {
        filters.is_empty() || filters.iter().any(|filter| self.name.contains(filter.as_str()))
    }
}

/// Every row.
pub(crate) fn all() -> Vec<Row> {
    let mut rows = in_process();
    rows.extend(sockets());
    rows.extend(brokers());
    rows.extend(latency());
    rows
}

fn in_process() -> Vec<Row> {
    let section = "in-process";
    let mut rows = Vec::new();
    for executor in Executor::ASYNC {
        let on = executor.to_string().replace(' ', "-");
        for producers in [1, 4] {
            let work = Work::Queue { producers, executor };
            rows.push(Row::new(section, &format!("{producers}p1c/{on}"), work));
        }
        let work = Work::FanOut { subscribers: 10, executor };
        rows.push(Row::new(section, &format!("fan-out-1:10/{on}"), work));
    }
    rows
}

fn sockets() -> Vec<Row> {
    let section = "sockets";
    let mut rows = Vec::new();
    for transport in [Transport::Tcp, Transport::Unix] {
        for size in [64, 1 << 10, 64 << 10] {
            let work = Work::Stream { transport, size };
            rows.push(Row::new(section, &format!("{transport}/stream/{}", bytes(size)), work));
        }
        for (in_flight, pinned, name) in
            [(1, true, "1-in-flight-1-core"), (64, false, "64-in-flight")]
        {
            let work = Work::Request { transport, in_flight, pinned };
            rows.push(Row::new(section, &format!("{transport}/request/{name}"), work));
        }
    }
    rows
}

fn brokers() -> Vec<Row> {
    let section = "brokers";
    let row = |name: String, work| Row::new(section, &name, work);
    let mut rows = Vec::new();
    for size in [64, 1 << 10, 64 << 10] {
        let work = Work::PubSub { size, subscribers: 1 };
        rows.push(row(format!("pub-sub-1:1/{}", bytes(size)), work));
    }
    rows.extend([
        row("fan-out-1:10/64B".into(), Work::PubSub { size: 64, subscribers: 10 }),
        row("group-of-4/64B".into(), Work::Group { size: 64, members: 4 }),
        row("queue-acked/64B".into(), Work::Acked { size: 64 }),
        row("queue-acked/1KiB".into(), Work::Acked { size: 1 << 10 }),
        row("queue-durable/1KiB".into(), Work::Durable { size: 1 << 10 }),
        row("request/1-in-flight-1-core".into(), Work::Ask { in_flight: 1, pinned: true }),
        row("request/64-in-flight".into(), Work::Ask { in_flight: 64, pinned: false }),
    ]);
    rows
}

fn latency() -> Vec<Row> {
    let section = "latency";
    let mut rows = Vec::new();
    for (via, name) in [(Via::Direct, "direct"), (Via::Broker, "broker")] {
        for percent in [10, 50, 90] {
            let name = format!("{name}/{percent}%-of-peak");
            rows.push(Row::new(section, &name, Work::Paced { via, percent }));
        }
    }
    rows.push(Row::new(section, "beside-64MiB", Work::Beside { size: 64 << 20 }));
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;
    use crate::peers;

    #[test]
    fn names_tell_rows_and_contenders_apart_and_posthaste_is_in_every_row() {
        let mut names = BTreeSet::new();
        for row in all() {
            assert!(row.name.starts_with(row.section), "{}", row.name);
            assert!(names.insert(row.name.clone()), "{} is there twice", row.name);
            let mut labels = BTreeSet::new();
            for contender in peers::ALL.iter().flat_map(|peer| peer.contenders(&row.work)) {
                let label = contender.label();
                assert!(contender.roles.contains(&contender.counts), "{label}: nobody counts");
                assert!(labels.insert(label.clone()), "{label} is twice in {}", row.name);
            }
            assert!(labels.iter().any(|label| label.starts_with("Posthaste, ")), "{}", row.name);
        }
    }
}
