//! Plots.

use posthaste_measure::Summary;
use posthaste_measure::plot::{Axis, Bars, Lines, svg};

fn once(value: f64) -> Summary {
    Summary::of(&[value]).unwrap()
}

fn count(image: &str, part: &str) -> usize {
    image.matches(part).count()
}

#[test]
fn bars_say_what_they_are_and_what_is_missing() {
    let bars = Bars::new("Rates <fast>", Axis::new("messages per second"))
        .series(["first", "second"])
        .group("TCP", [Summary::of(&[5e6, 6e6, 7e6]), Some(once(3e6))])
        .group("Unix", [Some(once(4e6)), None]);
    let image = svg(&[bars.into()], "measured today").unwrap();
    for text in ["Rates &lt;fast&gt;", "messages per second", "first", "second", "TCP", "Unix"] {
        assert!(image.contains(text), "{text} in {image}");
    }
    assert_eq!(count(&image, "not measured"), 1);
    assert_eq!(count(&image, "measured today"), 1);
    assert!(image.contains("6.00 M") && image.contains("3.00 M"), "{image}");
    assert!(image.starts_with("<svg") && image.trim_end().ends_with("</svg>"));
}

#[test]
fn lines_have_a_legend_and_whiskers() {
    let size = |bytes: f64| (bytes, once(bytes.max(1.0)));
    let lines = Lines::new(
        "Growth",
        Axis::new("payload").bytes().logarithmic(),
        Axis::new("µs").logarithmic(),
    )
    .series("TCP", [0.0, 64.0, 1_048_576.0].map(size))
    .series("Unix", [(64.0, Summary::of(&[1.0, 2.0]).unwrap())]);
    let image = svg(&[lines.clone().into(), lines.into()], "").unwrap();
    assert_eq!(count(&image, "Growth"), 2);
    assert!(image.contains("TCP") && image.contains("1 MiB") && image.contains("0 B"), "{image}");
}

#[test]
fn nothing_is_no_plot() {
    let empty = Bars::new("Rates", Axis::new("1/s")).series(["a"]).group("", [None]);
    assert_eq!(svg(&[empty.into()], "").unwrap_err().to_string(), "there is nothing to plot");
    let empty = Lines::new("Growth", Axis::new("x"), Axis::new("y")).series("a", []);
    assert!(svg(&[empty.into()], "").is_err());
    assert!(svg(&[], "").is_err());
}

#[test]
fn a_long_note_has_several_lines() {
    let bars = Bars::new("Rates", Axis::new("1/s")).series(["a"]).group("", [Some(once(1.0))]);
    let note = "one two three four five six seven eight nine ten ".repeat(5);
    let image = |note: &str| svg(&[bars.clone().into()], note).unwrap();
    let lines = count(&image(&note), "<text") - count(&image(""), "<text");
    assert_eq!(lines, 2);
}
