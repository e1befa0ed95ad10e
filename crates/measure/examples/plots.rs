//! Writes a plot of each kind into the folder that is given, to look at.
#![allow(clippy::print_stdout, reason = "an example says what it did")]

use std::error::Error;
use std::path::PathBuf;

use posthaste_measure::plot::{Axis, Bars, Lines, svg};
use posthaste_measure::{Machine, Summary, today};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("name a folder")?);
    let note = format!("{}, {}; made-up figures", today(), Machine::this());
    for (name, image) in [("bars.svg", bars(&note)?), ("lines.svg", lines(&note)?)] {
        std::fs::write(folder.join(name), image)?;
        println!("wrote {}", folder.join(name).display());
    }
    Ok(())
}

fn bars(note: &str) -> Result<String, Box<dyn Error>> {
    let rounds = |median: f64| Summary::of(&[0.93 * median, median, median, 1.1 * median]);
    let rates = Bars::new("Point-to-point, one sender, one receiver", Axis::new("messages per s"))
        .series(["Posthaste", "libzmq push/pull", "zeromq crate", "zenoh", "frame limit"])
        .group("64 B over TCP", [14.5e6, 6.7e6, 3.7e6, 3.8e6, 27e6].map(rounds))
        .group("1 KiB over TCP", [4.1e6, 0.99e6, 2.38e6, 1.35e6, 4.4e6].map(rounds))
        .group("64 KiB over TCP", [rounds(66e3), rounds(29.8e3), None, None, rounds(70e3)]);
    let cpu = Bars::new("What that costs", Axis::new("CPU seconds per million messages"))
        .series(["Posthaste", "libzmq push/pull"])
        .group("", [rounds(0.14), rounds(0.28)]);
    Ok(svg(&[rates.into(), cpu.into()], note)?)
}

fn lines(note: &str) -> Result<String, Box<dyn Error>> {
    let rounds = |value: f64| Summary::of(&[0.9 * value, value, 1.2 * value]);
    let line = |base: f64, slope: f64| -> Vec<(f64, Summary)> {
        let counts = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5];
        let points = counts.map(|count: f64| (count, rounds(base + slope * count.log10())));
        points.into_iter().filter_map(|(count, it)| Some((count, it?))).collect()
    };
    let routes = Axis::new("subscriptions").logarithmic();
    let routing = Lines::new("Routing", routes, Axis::new("µs per message"))
        .series("in process", line(0.12, 0.004))
        .series("over TCP", line(0.31, 0.01))
        .series("over a Unix socket", line(0.25, 0.02))
        .series("over TCP, acknowledged", line(0.4, 0.03));
    let sizes = [0.0, 1.0, 64.0, 1024.0, 65_536.0, 1_048_576.0, 16_777_216.0];
    let points = |factor: f64| {
        sizes.into_iter().filter_map(move |size| Some((size, rounds(factor * (0.2 + size / 4e3))?)))
    };
    let payload = Axis::new("payload").bytes().logarithmic();
    let copying = Lines::new("Payload", payload, Axis::new("µs per message").logarithmic())
        .series("TCP", points(1.0))
        .series("Unix", points(0.6));
    Ok(svg(&[routing.into(), copying.into()], note)?)
}
