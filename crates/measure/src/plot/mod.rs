//! Plots as SVG: bars and lines, as wide as a page of documentation.
//!
//! Texts stay texts, so no fonts are needed to make a plot and a browser can search it. Colours are
//! those of Okabe and Ito, which people with any kind of colour vision can tell apart.
//!
//! ```
//! use posthaste_measure::Summary;
//! use posthaste_measure::plot::{Axis, Bars, svg};
//!
//! let rates = Bars::new("Point-to-point, 64 B", Axis::new("messages per second"))
//!     .series(["Posthaste", "libzmq"])
//!     .group("TCP", [Summary::of(&[14.5e6, 15e6, 17e6]), Summary::of(&[6.6e6, 6.7e6])])
//!     .group("Unix", [Summary::of(&[16e6]), None]);
//! let image = svg(&[rates.into()], "Medians of three rounds, whiskers from the lowest to the highest")?;
//! assert!(image.starts_with("<svg") && image.contains("Posthaste"));
//! # Ok::<(), posthaste_measure::plot::PlotError>(())
//! ```

mod axis;
mod bars;
mod canvas;
mod lines;

use std::fmt;

pub use self::axis::Axis;
pub use self::bars::Bars;
use self::canvas::{Canvas, GREY, Role, WIDTH};
pub use self::lines::Lines;

/// The height of a line of the note below all charts, and how many characters fit into one.
const NOTE_LINE: i32 = 16;
const NOTE_CHARS: usize = 130;

/// A chart of either kind.
#[derive(Debug, Clone)]
pub enum Chart {
    /// A few things that are compared.
    Bars(Bars),
    /// How something grows.
    Lines(Lines),
}

impl From<Bars> for Chart {
    fn from(bars: Bars) -> Self {
        Self::Bars(bars)
    }
}

impl From<Lines> for Chart {
    fn from(lines: Lines) -> Self {
        Self::Lines(lines)
    }
}

impl Chart {
    /// How high it is, in pixels.
    fn height(&self) -> i32 {
        match self {
            Self::Bars(bars) => bars.height(),
            Self::Lines(lines) => lines.height(),
        }
    }

    /// Draws it, from `top` downwards.
    fn draw(&self, canvas: &Canvas<'_>, top: i32) -> Result<(), PlotError> {
        match self {
            Self::Bars(bars) => bars.draw(canvas, top),
            Self::Lines(lines) => lines.draw(canvas, top),
        }
    }
}

/// Draws charts below each other, with a note in small print at the end (which may be empty): an
/// SVG document.
///
/// # Errors
///
/// A chart has nothing to show, or is too large to draw.
pub fn svg(charts: &[Chart], note: &str) -> Result<String, PlotError> {
    let note = lines_of(note);
    let charts_height = charts.iter().map(Chart::height).sum::<i32>();
    let height = charts_height + NOTE_LINE * i32::try_from(note.len()).unwrap_or(0) + 8;
    let height = u32::try_from(height).ok().filter(|_| charts_height > 0);
    let mut image = String::new();
    let canvas = Canvas::new(&mut image, height.ok_or_else(PlotError::nothing)?)?;
    let mut top = 0;
    for chart in charts {
        chart.draw(&canvas, top)?;
        top += chart.height();
    }
    for line in note {
        canvas.text(&line, (WIDTH - 12, top + NOTE_LINE / 2), Role::Note, GREY)?;
        top += NOTE_LINE;
    }
    canvas.finish()?;
    Ok(image)
}

/// A text in lines that fit.
fn lines_of(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < NOTE_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Why there is no plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlotError(String);

impl PlotError {
    fn nothing() -> Self {
        Self("there is nothing to plot".to_owned())
    }
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlotError {}
