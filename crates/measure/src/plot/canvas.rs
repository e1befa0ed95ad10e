//! What charts are drawn on: colours, fonts, and a pen.

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, Drawable, PathElement, PointCollection, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE,
};

use super::PlotError;

/// As wide as the text of a README on the usual sites.
pub(super) const WIDTH: i32 = 840;

pub(super) const BLACK: RGBColor = RGBColor(34, 34, 34);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
const PALE: RGBColor = RGBColor(222, 222, 222);

/// The palette of Okabe and Ito, without the yellow that is hard to see on white.
const SERIES: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
];

/// The colour of a series.
pub(super) fn colour(nth: usize) -> RGBColor {
    SERIES[nth % SERIES.len()]
}

pub(super) type Point = (i32, i32);

/// What a text is for, which tells how it looks and on which side of its point it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Below its point, from the left.
    Title,
    /// Beside its point, to the right of it.
    Name,
    Heading,
    /// Beside its point, to the left of it.
    NameBefore,
    Note,
    /// Below its point, in the middle.
    Tick,
    /// Beside its point, upwards.
    Upwards,
}

/// An image that is being drawn, in pixels from the left upper corner.
pub(super) struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl<'a> Canvas<'a> {
    pub(super) fn new(image: &'a mut String, height: u32) -> Result<Self, PlotError> {
        let backend = SVGBackend::with_string(image, (WIDTH.unsigned_abs(), height));
        let area = backend.into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        Ok(Self(area))
    }

    /// Ends the document.
    pub(super) fn finish(self) -> Result<(), PlotError> {
        self.0.present().map_err(failed)
    }

    pub(super) fn text(
        &self,
        text: &str,
        at: Point,
        role: Role,
        colour: RGBColor,
    ) -> Result<(), PlotError> {
        let (size, style) = match role {
            Role::Title => (16.0, FontStyle::Bold),
            Role::Heading => (13.0, FontStyle::Bold),
            Role::Note => (11.0, FontStyle::Normal),
            _ => (13.0, FontStyle::Normal),
        };
        let (across, down) = match role {
            Role::Title => (HPos::Left, VPos::Top),
            Role::Name | Role::Heading => (HPos::Left, VPos::Center),
            Role::NameBefore | Role::Note => (HPos::Right, VPos::Center),
            Role::Tick => (HPos::Center, VPos::Top),
            Role::Upwards => (HPos::Center, VPos::Center),
        };
        // The backend divides by this factor.
        let mut font = ("sans-serif", size * 1.24).into_font().style(style);
        if role == Role::Upwards {
            font = font.transform(FontTransform::Rotate270);
        }
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(across, down));
        self.0.draw_text(text, &style, at).map_err(failed)
    }

    pub(super) fn line(
        &self,
        points: Vec<Point>,
        colour: RGBColor,
        width: u32,
    ) -> Result<(), PlotError> {
        self.put(&PathElement::new(points, colour.stroke_width(width)))
    }

    /// A line that leads the eye from a tick.
    pub(super) fn guide(&self, from: Point, to: Point) -> Result<(), PlotError> {
        self.line(vec![from, to], PALE, 1)
    }

    /// From the lowest to the highest value, with a stroke across at both ends.
    pub(super) fn whisker(
        &self,
        from: Point,
        to: Point,
        colour: RGBColor,
    ) -> Result<(), PlotError> {
        let (dx, dy) = if from.1 == to.1 { (0, 3) } else { (3, 0) };
        self.line(vec![from, to], colour, 1)?;
        for (x, y) in [from, to] {
            self.line(vec![(x - dx, y - dy), (x + dx, y + dy)], colour, 1)?;
        }
        Ok(())
    }

    pub(super) fn block(&self, from: Point, to: Point, colour: RGBColor) -> Result<(), PlotError> {
        self.put(&Rectangle::new([from, to], colour.filled()))
    }

    /// The marker of a series: shapes differ, too, so that nobody depends on colours.
    pub(super) fn marker(&self, nth: usize, at: Point) -> Result<(), PlotError> {
        let (x, y) = at;
        let style: ShapeStyle = colour(nth).filled();
        let polygon = |points: Vec<Point>| self.put(&Polygon::new(points, style));
        match nth % 4 {
            0 => self.put(&Circle::new(at, 4, style)),
            1 => self.block((x - 4, y - 4), (x + 4, y + 4), colour(nth)),
            2 => polygon(vec![(x, y - 5), (x + 5, y + 4), (x - 5, y + 4)]),
            _ => polygon(vec![(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)]),
        }
    }

    fn put<E>(&self, element: &E) -> Result<(), PlotError>
    where
        for<'b> &'b E: PointCollection<'b, Point>,
        E: Drawable<SVGBackend<'a>>,
    {
        self.0.draw(element).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(format!("the plot could not be drawn: {error}"))
}

/// About how wide a text is.
pub(super) fn width_of(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX).saturating_mul(15) / 2
}
