//! Lines: how something grows with something else.

use super::PlotError;
use super::axis::Axis;
use super::canvas::{BLACK, Canvas, GREY, Role, WIDTH, colour, width_of};
use crate::summary::Summary;

const HEIGHT: i32 = 380;
const TITLE: i32 = 36;
const LEGEND_ROW: i32 = 22;
/// Numbers and label of the axis below.
const FOOT: i32 = 52;
/// Numbers and label of the axis at the left.
const LEFT: i32 = 86;
const MARGIN: i32 = 12;
/// Half of the last number below, which is in the middle of its tick.
const RIGHT: i32 = 36;

/// A chart of lines: a point with a whisker for each value measured, joined within a series.
///
/// ```
/// use posthaste_measure::Summary;
/// use posthaste_measure::plot::{Axis, Lines, svg};
///
/// let across = Axis::new("subscriptions").logarithmic();
/// let points = [(1.0, [0.20, 0.21]), (1e5, [0.24, 0.29])];
/// let chart = Lines::new("Routing", across, Axis::new("µs per message"))
///     .series("TCP", points.map(|(x, rounds)| (x, Summary::of(&rounds).unwrap())));
/// assert!(svg(&[chart.into()], "").unwrap().contains("subscriptions"));
/// ```
#[derive(Debug, Clone)]
pub struct Lines {
    title: String,
    across: Axis,
    upwards: Axis,
    series: Vec<(String, Vec<(f64, Summary)>)>,
}

impl Lines {
    /// An empty chart with these axes.
    #[must_use]
    pub fn new(title: impl Into<String>, across: Axis, upwards: Axis) -> Self {
        Self { title: title.into(), across, upwards, series: Vec::new() }
    }

    /// Adds a line through these points, in their order.
    #[must_use]
    pub fn series(
        mut self,
        name: impl Into<String>,
        points: impl IntoIterator<Item = (f64, Summary)>,
    ) -> Self {
        self.series.push((name.into(), points.into_iter().collect()));
        self
    }

    fn points(&self) -> impl Iterator<Item = &(f64, Summary)> {
        self.series.iter().flat_map(|(_, points)| points)
    }

    /// Where the names of the series stand, in rows below the title.
    fn legend(&self) -> Vec<(i32, i32)> {
        let (mut x, mut row) = (LEFT, 0);
        let place = |(name, _): &(String, Vec<(f64, Summary)>)| {
            let width = 30 + width_of(name) + 18;
            if x > LEFT && x + width > WIDTH - MARGIN {
                (x, row) = (LEFT, row + 1);
            }
            let at = (x, row * LEGEND_ROW);
            x += width;
            at
        };
        self.series.iter().map(place).collect()
    }

    fn head(&self) -> i32 {
        let rows = self.legend().last().map_or(0, |(_, y)| y + LEGEND_ROW);
        TITLE + rows + 8
    }
}

impl Lines {
    pub(super) fn height(&self) -> i32 {
        self.head() + HEIGHT
    }

    pub(super) fn draw(&self, canvas: &Canvas<'_>, top: i32) -> Result<(), PlotError> {
        let across = self.across.scale(self.points().map(|(x, _)| *x));
        let upwards = self.points().flat_map(|(_, y)| [y.lowest, y.median, y.highest]);
        let upwards = self.upwards.scale(upwards);
        let (Some(across), Some(upwards)) = (across, upwards) else {
            return Err(PlotError::nothing());
        };
        let (left, right) = (LEFT, WIDTH - RIGHT);
        let (ceiling, bottom) = (top + self.head(), top + self.height() - FOOT);
        let x = |value| left + (f64::from(right - left) * across.share(value)).round() as i32;
        let y =
            |value| bottom - (f64::from(bottom - ceiling) * upwards.share(value)).round() as i32;

        canvas.text(&self.title, (MARGIN, top + 12), Role::Title, BLACK)?;
        for tick in &across.ticks {
            canvas.guide((x(*tick), ceiling), (x(*tick), bottom + 4))?;
            canvas.text(&self.across.tick(*tick), (x(*tick), bottom + 7), Role::Tick, GREY)?;
        }
        for tick in &upwards.ticks {
            canvas.guide((left - 4, y(*tick)), (right, y(*tick)))?;
            let number = self.upwards.tick(*tick);
            canvas.text(&number, (left - 8, y(*tick)), Role::NameBefore, GREY)?;
        }
        let middle = i32::midpoint(left, right);
        canvas.text(&self.across.label, (middle, bottom + 26), Role::Tick, BLACK)?;
        let middle = i32::midpoint(ceiling, bottom);
        canvas.text(&self.upwards.label, (18, middle), Role::Upwards, BLACK)?;
        canvas.line(vec![(left, ceiling), (left, bottom), (right, bottom)], GREY, 1)?;
        self.draw_legend(canvas, top + TITLE)?;
        for (nth, (_, points)) in self.series.iter().enumerate() {
            let path = points.iter().map(|(across, value)| (x(*across), y(value.median)));
            canvas.line(path.clone().collect(), colour(nth), 2)?;
            for ((_, value), at) in points.iter().zip(path) {
                if value.lowest < value.highest {
                    let ends = [value.lowest, value.highest].map(|end| (at.0, y(end)));
                    canvas.whisker(ends[0], ends[1], colour(nth))?;
                }
                canvas.marker(nth, at)?;
            }
        }
        Ok(())
    }
}

impl Lines {
    fn draw_legend(&self, canvas: &Canvas<'_>, top: i32) -> Result<(), PlotError> {
        for (nth, ((name, _), (x, y))) in self.series.iter().zip(self.legend()).enumerate() {
            let middle = top + y + LEGEND_ROW / 2;
            canvas.line(vec![(x, middle), (x + 22, middle)], colour(nth), 2)?;
            canvas.marker(nth, (x + 11, middle))?;
            canvas.text(name, (x + 30, middle), Role::Name, BLACK)?;
        }
        Ok(())
    }
}
