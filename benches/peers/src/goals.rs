//! What Posthaste sets out to reach against its peers, and whether a run reached it.

use posthaste_measure::short;
use serde::Serialize;

use crate::peer::{Api, Peer};
use crate::posthaste::Posthaste;
use crate::run::{ContenderResult, Results, RowResult};
use crate::work::Executor;

/// A goal.
struct Goal {
    row: String,
    kind: Kind,
    wanted: f64,
}

/// What a goal is about. Ours are Posthaste's contenders that take messages in a way, on an
/// executor if one is named; the fastest of them counts.
#[derive(Clone, Copy)]
enum Kind {
    /// How many times as fast ours is as theirs, at least.
    Times { ours: Api, on: Option<Executor>, theirs: &'static str },
    /// CPU seconds per million, at most, of those roles.
    Cpu { ours: Api, roles: &'static [&'static str] },
    /// CPU seconds per million against theirs, at most.
    CpuTimes { ours: Api, theirs: &'static str },
    /// The 99th percentile in microseconds, at most.
    Late,
}

/// What became of a goal.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) row: String,
    pub(crate) goal: String,
    /// As measured; none if something that it takes was not.
    pub(crate) reached: Option<f64>,
    pub(crate) holds: Option<bool>,
}

/// Every goal about a row that was measured.
pub(crate) fn outcomes(results: &Results) -> Vec<Outcome> {
    let of = |goal: Goal| {
        let row = results.rows.iter().find(|row| row.row.name == goal.row)?;
        Some(goal.outcome(row))
    };
    all().into_iter().filter_map(of).collect()
}

fn all() -> Vec<Goal> {
    let mut goals = Vec::new();
    let mut goal = |row: String, kind, wanted| goals.push(Goal { row, kind, wanted });
    let times = |ours, theirs| Kind::Times { ours, on: None, theirs };
    for executor in Executor::ASYNC {
        let on = executor.to_string().replace(' ', "-");
        for shape in ["1p1c", "4p1c"] {
            let row = format!("in-process/{shape}/{on}");
            goal(row.clone(), times(Api::One, "async-channel"), 3.0);
            goal(row.clone(), times(Api::One, "kanal"), 1.2);
            goal(row, times(Api::Acked, "Posthaste, recv_many"), 0.5);
        }
    }
    for (row, framed, libzmq) in [
        ("tcp/stream/64B", Some(0.55), Some(2.5)),
        ("tcp/stream/1KiB", Some(0.85), None),
        ("tcp/stream/64KiB", Some(0.9), None),
        ("unix/stream/64B", None, Some(3.0)),
        ("unix/stream/64KiB", Some(0.9), None),
    ] {
        let row = format!("sockets/{row}");
        for on in [Executor::TokioMt, Executor::TokioCt] {
            let theirs = if on == Executor::TokioMt { FRAMED_MT } else { FRAMED_CT };
            let kind = Kind::Times { ours: Api::Batch, on: Some(on), theirs };
            framed.into_iter().for_each(|wanted| goal(row.clone(), kind, wanted));
        }
        libzmq.into_iter().for_each(|wanted| goal(row.clone(), times(Api::One, "libzmq"), wanted));
        goal(row, times(Api::One, "zmq.rs"), 1.0);
    }
    let row = "sockets/tcp/stream/64B";
    let both = &["receiver", "sender"];
    goal(row.into(), Kind::CpuTimes { ours: Api::One, theirs: "libzmq" }, 0.5);
    goal(row.into(), Kind::Cpu { ours: Api::One, roles: both }, 0.14);
    for transport in ["tcp", "unix"] {
        let row = format!("sockets/{transport}/request/1-in-flight-1-core");
        for (on, theirs) in [
            (Executor::TokioCt, "raw socket, tokio ct"),
            (Executor::Smol, "raw socket, smol"),
            (Executor::TokioMt, "raw socket, tokio mt"),
        ] {
            let kind = Kind::Times { ours: Api::One, on: Some(on), theirs };
            goal(row.clone(), kind, 1.0 / 1.15);
        }
        goal(row, times(Api::One, "zmq.rs"), 1.0);
    }
    let row = "sockets/tcp/request/64-in-flight";
    goal(row.into(), times(Api::One, "libzmq"), 1.7);
    goal(row.into(), Kind::Cpu { ours: Api::One, roles: &["server", "client"] }, 1.0);
    for (row, faster, broker) in [
        ("pub-sub-1:1/64B", Some(1.5), 0.12),
        ("pub-sub-1:1/1KiB", None, 0.8),
        ("pub-sub-1:1/64KiB", None, 30.0),
        ("fan-out-1:10/64B", Some(1.5), 0.08),
        ("group-of-4/64B", Some(1.5), 0.08),
    ] {
        let row = format!("brokers/{row}");
        let raw = "nats-server, raw client";
        faster.into_iter().for_each(|wanted| goal(row.clone(), times(Api::Batch, raw), wanted));
        goal(row, Kind::Cpu { ours: Api::Batch, roles: &["broker"] }, broker);
    }
    let row = "brokers/pub-sub-1:1/64B";
    goal(row.into(), Kind::Cpu { ours: Api::Batch, roles: both }, 0.15);
    let row = "brokers/queue-durable/1KiB";
    goal(row.into(), times(Api::Acked, "nats-server, JetStream"), 2.0);
    goal(row.into(), times(Api::Acked, "RabbitMQ"), 10.0);
    goals.push(Goal { row: "latency/beside-64MiB".into(), kind: Kind::Late, wanted: 5e3 });
    goals
}

const FRAMED_MT: &str = "framed socket, tokio mt";
const FRAMED_CT: &str = "framed socket, tokio ct";

impl Goal {
    fn outcome(&self, row: &RowResult) -> Outcome {
        let reached = self.reached(row);
        let at_least = matches!(self.kind, Kind::Times { .. });
        let holds =
            |reached| if at_least { reached >= self.wanted } else { reached <= self.wanted };
        Outcome { row: row.row.name.clone(), goal: self.text(), reached, holds: reached.map(holds) }
    }

    fn reached(&self, row: &RowResult) -> Option<f64> {
        let unit = row.row.work.unit();
        let median = |summary: Option<posthaste_measure::Summary>| Some(summary?.median);
        match self.kind {
            Kind::Times { ours, on, theirs } => {
                let (ours, theirs) = (ours_of(row, ours, on)?, theirs_of(row, theirs)?);
                median(ours.speed_over(theirs, unit))
            }
            Kind::Cpu { ours, roles } => {
                median(ours_of(row, ours, None)?.cpu(|role| roles.contains(&role)))
            }
            Kind::CpuTimes { ours, theirs } => {
                let (ours, theirs) = (ours_of(row, ours, None)?, theirs_of(row, theirs)?);
                Some(ours.cpu(|_| true)?.median / theirs.cpu(|_| true)?.median)
            }
            Kind::Late => median(ours_of(row, Api::One, None)?.value(unit)),
        }
    }

    fn text(&self) -> String {
        let wanted = short(self.wanted);
        match &self.kind {
            Kind::Times { ours, on, theirs } => {
                let on = on.map(|on| format!(" on {on}")).unwrap_or_default();
                format!("taking {}{on}: at least {wanted} times as fast as {theirs}", ours.word())
            }
            Kind::Cpu { roles, .. } => {
                format!("{}: at most {wanted} cpu-s/1M", roles.join(" and "))
            }
            Kind::CpuTimes { theirs, .. } => {
                format!("at most {wanted} of the CPU time of {theirs}")
            }
            Kind::Late => format!("p99 at most {wanted} us"),
        }
    }
}

/// The fastest of Posthaste's contenders that are meant.
fn ours_of(row: &RowResult, api: Api, on: Option<Executor>) -> Option<&ContenderResult> {
    let ours = row.contenders.iter().filter(|result| {
        let contender = &result.contender;
        contender.peer == Posthaste.name()
            && contender.api == api
            && on.is_none_or(|on| contender.executor == on)
    });
    row.fastest(ours)
}

/// The fastest of those whose name begins so.
fn theirs_of<'a>(row: &'a RowResult, name: &str) -> Option<&'a ContenderResult> {
    row.fastest(row.contenders.iter().filter(|result| result.contender.label().starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::{Kind, all};
    use crate::peer::Contender;
    use crate::peers;
    use crate::rows;

    #[test]
    fn every_goal_is_about_a_row_and_contenders_that_exist() {
        let rows = rows::all();
        for goal in all() {
            let row = rows.iter().find(|row| row.name == goal.row);
            let row = row.unwrap_or_else(|| panic!("{} is no row", goal.row));
            let contenders: Vec<_> =
                peers::ALL.iter().flat_map(|peer| peer.contenders(&row.work)).collect();
            if let Kind::Times { theirs, .. } | Kind::CpuTimes { theirs, .. } = goal.kind {
                let mut labels = contenders.iter().map(Contender::label);
                assert!(labels.any(|it| it.starts_with(theirs)), "{theirs}: not in {}", goal.row);
            }
            if let Kind::Cpu { roles, .. } = goal.kind {
                let ours = contenders.iter().find(|contender| contender.peer == "Posthaste");
                let known = ours.map(|ours| ours.roles).unwrap_or_default();
                assert!(roles.iter().all(|role| known.contains(role)), "{roles:?}: {}", goal.row);
            }
        }
    }
}
