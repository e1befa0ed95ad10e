//! Bars: a few things that are compared, in groups.

use super::PlotError;
use super::axis::Axis;
use super::canvas::{BLACK, Canvas, GREY, Role, WIDTH, colour, width_of};
use crate::number::short;
use crate::summary::Summary;

const ROW: i32 = 20;
const HEADING: i32 = 24;
const TITLE: i32 = 36;
/// Numbers and label of the axis.
const FOOT: i32 = 52;
/// What the number after the longest bar needs.
const VALUE: i32 = 76;
const MARGIN: i32 = 12;
/// A name that is longer is cut off.
const NAME_CHARS: usize = 36;

/// A chart of horizontal bars, each as long as a median, with a whisker from the lowest to the
/// highest value.
///
/// Every group has a bar for each series, in the series' colour, with its name before it and its
/// median behind it. A series that was not measured in a group says so.
#[derive(Debug, Clone)]
pub struct Bars {
    title: String,
    axis: Axis,
    series: Vec<String>,
    groups: Vec<(String, Vec<Option<Summary>>)>,
}

impl Bars {
    /// An empty chart. The axis is along the bars.
    #[must_use]
    pub fn new(title: impl Into<String>, axis: Axis) -> Self {
        Self { title: title.into(), axis, series: Vec::new(), groups: Vec::new() }
    }

    /// Names the series.
    #[must_use]
    pub fn series(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.series = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a group: a bar for each series, in their order. A name may be empty.
    #[must_use]
    pub fn group(
        mut self,
        name: impl Into<String>,
        bars: impl IntoIterator<Item = Option<Summary>>,
    ) -> Self {
        self.groups.push((name.into(), bars.into_iter().collect()));
        self
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let bars = self.groups.iter().flat_map(|(_, bars)| bars.iter().flatten());
        bars.flat_map(|bar| [bar.median, bar.highest])
    }

    fn bars_height(&self) -> i32 {
        let rows = i32::try_from(self.series.len()).unwrap_or(i32::MAX).saturating_mul(ROW);
        self.groups.iter().fold(0, |height: i32, (name, _)| {
            height.saturating_add(rows).saturating_add(heading_height(name))
        })
    }
}

fn heading_height(name: &str) -> i32 {
    if name.is_empty() { 4 } else { HEADING }
}

impl Bars {
    pub(super) fn height(&self) -> i32 {
        self.bars_height().saturating_add(TITLE + FOOT)
    }

    pub(super) fn draw(&self, canvas: &Canvas<'_>, top: i32) -> Result<(), PlotError> {
        let scale = self.axis.scale(self.values()).ok_or_else(PlotError::nothing)?;
        let names: Vec<_> = self.series.iter().map(|name| cut(name)).collect();
        let widest = names.iter().map(|name| width_of(name)).max().unwrap_or(0);
        let (left, right) = (MARGIN + widest + 8, WIDTH - MARGIN - VALUE);
        let x = |value: f64| left + (f64::from(right - left) * scale.share(value)).round() as i32;
        let bottom = top + TITLE + self.bars_height();

        canvas.text(&self.title, (MARGIN, top + 12), Role::Title, BLACK)?;
        for tick in &scale.ticks {
            canvas.guide((x(*tick), top + TITLE), (x(*tick), bottom + 4))?;
            canvas.text(&self.axis.tick(*tick), (x(*tick), bottom + 7), Role::Tick, GREY)?;
        }
        let middle = i32::midpoint(left, right);
        canvas.text(&self.axis.label, (middle, bottom + 26), Role::Tick, BLACK)?;
        let mut y = top + TITLE;
        for (group, bars) in &self.groups {
            let heading = heading_height(group);
            canvas.text(group, (left + 5, y + heading / 2), Role::Heading, BLACK)?;
            y += heading;
            for (nth, name) in names.iter().enumerate() {
                let centre = y + ROW / 2;
                canvas.text(name, (left - 8, centre), Role::NameBefore, BLACK)?;
                match bars.get(nth).copied().flatten() {
                    Some(bar) => draw_bar(canvas, nth, &bar, centre, x)?,
                    None => {
                        canvas.text("not measured", (left + 6, centre), Role::Name, GREY)?;
                    }
                }
                y += ROW;
            }
        }
        canvas.line(vec![(left, top + TITLE), (left, bottom)], GREY, 1)
    }
}

fn draw_bar(
    canvas: &Canvas<'_>,
    nth: usize,
    bar: &Summary,
    centre: i32,
    x: impl Fn(f64) -> i32,
) -> Result<(), PlotError> {
    let half = ROW / 2 - 3;
    canvas.block((x(0.0), centre - half), (x(bar.median), centre + half), colour(nth))?;
    if bar.lowest < bar.highest {
        canvas.whisker((x(bar.lowest), centre), (x(bar.highest), centre), BLACK)?;
    }
    canvas.text(&short(bar.median), (x(bar.highest) + 8, centre), Role::Name, BLACK)
}

fn cut(name: &str) -> String {
    match name.chars().count() > NAME_CHARS {
        true => name.chars().take(NAME_CHARS - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}
