//! Curves as SVG: light background, legend beside the axes, the same colour for the same thing in every plot.

use anyhow::Context as _;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, Color as _, DashedLineSeries, DrawingArea,
    IntoDrawingArea as _, IntoFont as _, LineSeries, PathElement, RGBColor, Rectangle, SVGBackend,
    ShapeStyle, Text, TextStyle, WHITE,
};

/// Pixels of a plot, and of its legend.
const SIZE: (u32, u32) = (960, 460);
const LEGEND: u32 = 230;
const FONT: &str = "sans-serif";
/// Heights of text, pixels.
const TITLE: u32 = 20;
const SMALL: u32 = 15;
const INK: RGBColor = RGBColor(0x33, 0x33, 0x33);
const GRID: RGBColor = RGBColor(0xe4, 0xe4, 0xe4);
/// Free space above the highest point and beside the outermost ones, of the range.
const HEADROOM: f64 = 0.06;
/// Marks on an axis that has no values of its own, about.
const TICKS: f64 = 8.0;

/// What curves are drawn in: the palette of Okabe and Ito, which the colour-blind can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// First.
    Blue,
    /// Second.
    Vermilion,
    /// Third.
    Green,
    /// Fourth.
    Purple,
    /// For what curves are held against.
    Grey,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// With filled points.
    Solid,
    /// With hollow ones.
    Dashed,
}

/// A curve.
#[derive(Debug, Clone)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// Of line and points.
    pub colour: Colour,
    /// Tells curves of one colour apart.
    pub line: Line,
    /// By x.
    pub points: Vec<(f64, f64)>,
}

/// What an axis shows.
#[derive(Debug, Clone)]
pub struct Axis {
    /// What, and its unit.
    pub label: &'static str,
    /// Each decade as long as another.
    pub logarithmic: bool,
    /// A mark for every value there is, instead of round numbers.
    pub marks_values: bool,
    /// A value, for people.
    pub format: fn(f64) -> String,
}

/// A picture of some curves.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Of its file, without the ending.
    pub name: String,
    /// Above it.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// In the order of the legend.
    pub series: Vec<Series>,
}

type Coordinates = Cartesian2d<Ruler, Ruler>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl Colour {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Blue => RGBColor(0x00, 0x72, 0xb2),
            Self::Vermilion => RGBColor(0xd5, 0x5e, 0x00),
            Self::Green => RGBColor(0x00, 0x9e, 0x73),
            Self::Purple => RGBColor(0xaa, 0x44, 0x99),
            Self::Grey => RGBColor(0x99, 0x99, 0x99),
        }
    }
}

/// An axis with its ends and marks.
#[derive(Debug, Clone)]
struct Ruler {
    logarithmic: bool,
    format: fn(f64) -> String,
    from: f64,
    to: f64,
    marks: Vec<f64>,
}

impl Ruler {
    /// How far along a value lies, in units of the axis.
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            value.log10()
        } else {
            value
        }
    }
}

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[allow(clippy::cast_possible_truncation)] // pixels of a picture
    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let (from, to) = (self.place(self.from), self.place(self.to));
        let along = (self.place(*value) - from) / (to - from);
        first + (f64::from(last - first) * along).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No lines between the marks.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.marks.clone()
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        (self.format)(*value)
    }
}

impl Axis {
    /// For these values; upward axes begin at zero where they can.
    fn ruler(&self, values: impl Iterator<Item = f64>, from_zero: bool) -> Ruler {
        let mut ruler = Ruler {
            logarithmic: self.logarithmic,
            format: self.format,
            from: 0.0,
            to: 1.0,
            marks: Vec::new(),
        };
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup_by(|next, before| next.to_bits() == before.to_bits());
        let (Some(least), Some(greatest)) = (values.first(), values.last()) else {
            return ruler;
        };
        let from_zero = from_zero && !self.logarithmic;
        let (low, high) = (ruler.place(*least), ruler.place(*greatest));
        let low = if from_zero { 0.0 } else { low };
        let room = if high > low { high - low } else { 1.0 } * HEADROOM;
        let low = if from_zero { low } else { low - room };
        let value = |place: f64| {
            if self.logarithmic {
                10_f64.powf(place)
            } else {
                place
            }
        };
        (ruler.from, ruler.to) = (value(low), value(high + room));
        ruler.marks = if self.marks_values {
            values
        } else if self.logarithmic {
            decades(ruler.from, ruler.to)
        } else {
            round_numbers(ruler.from, ruler.to)
        };
        ruler
    }
}

/// 1, 2 and 5 times the powers of ten.
fn decades(from: f64, to: f64) -> Vec<f64> {
    let mut marks = Vec::new();
    let mut power = 10_f64.powf(from.log10().floor());
    while power <= to {
        marks.extend([1.0, 2.0, 5.0].map(|digit| power * digit));
        power *= 10.0;
    }
    marks.retain(|mark| (from..=to).contains(mark));
    marks
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn round_numbers(from: f64, to: f64) -> Vec<f64> {
    let wide = (to - from) / TICKS;
    let power = 10_f64.powf(wide.log10().floor());
    let digit = wide / power;
    let steps = [1.0, 2.0, 5.0, 10.0];
    let step = power
        * steps
            .into_iter()
            .find(|step| *step >= digit)
            .unwrap_or(10.0);
    let mut marks = Vec::new();
    let mut number = (from / step).ceil();
    while number * step <= to {
        marks.push(number * step);
        number += 1.0;
    }
    marks
}

impl Plot {
    /// The name of its file.
    pub fn file_name(&self) -> String {
        format!("{}.svg", self.name)
    }

    /// The picture.
    ///
    /// # Errors
    /// Something cannot be drawn.
    pub fn svg(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        self.draw(&mut text)
            .with_context(|| format!("cannot draw {}", self.name))?;
        Ok(text)
    }

    fn draw(&self, text: &mut String) -> anyhow::Result<()> {
        let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (whole, legend) = area.split_horizontally(SIZE.0 - LEGEND);
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = self.x.ruler(points().map(|point| point.0), false);
        let y = self.y.ruler(points().map(|point| point.1), true);
        let marks = (x.marks.len(), y.marks.len());
        let mut chart = ChartBuilder::on(&whole)
            .caption(&self.title, style(TITLE))
            .margin(12)
            .x_label_area_size(50)
            .y_label_area_size(66)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .x_labels(marks.0)
            .y_labels(marks.1)
            .bold_line_style(GRID)
            .axis_style(INK)
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            .axis_desc_style(style(SMALL))
            .label_style(style(SMALL))
            .draw()?;
        for series in &self.series {
            curve(&mut chart, series)?;
        }
        for (series, row) in self.series.iter().zip(0..) {
            legend_entry(&legend, series, row)?;
        }
        area.present()?;
        Ok(())
    }
}

fn curve<'a>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Coordinates>,
    series: &Series,
) -> anyhow::Result<()> {
    let points = series.points.clone();
    let stroke = ShapeStyle::from(series.colour.rgb()).stroke_width(2);
    match series.line {
        Line::Solid => chart.draw_series(LineSeries::new(points, stroke))?,
        Line::Dashed => chart.draw_series(DashedLineSeries::new(points, 7, 5, stroke))?,
    };
    for fill in fills(series) {
        chart.draw_series(
            series
                .points
                .iter()
                .map(|point| Circle::new(*point, 4, fill)),
        )?;
    }
    Ok(())
}

/// Filled, or white with a border.
fn fills(series: &Series) -> Vec<ShapeStyle> {
    let colour = series.colour.rgb();
    match series.line {
        Line::Solid => vec![colour.filled()],
        Line::Dashed => vec![WHITE.filled(), colour.stroke_width(2)],
    }
}

fn style(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

fn legend_entry<'a>(area: &Area<'a>, series: &Series, row: i32) -> anyhow::Result<()> {
    let (left, middle, right) = (4, 20, 36);
    let y = 56 + row * 24;
    let stroke = ShapeStyle::from(series.colour.rgb()).stroke_width(2);
    area.draw(&PathElement::new([(left, y), (right, y)], stroke))?;
    if series.line == Line::Dashed {
        for gap in [left + 7, right - 12] {
            area.draw(&Rectangle::new(
                [(gap, y - 2), (gap + 5, y + 2)],
                WHITE.filled(),
            ))?;
        }
    }
    for fill in fills(series) {
        area.draw(&Circle::new((middle, y), 4, fill))?;
    }
    area.draw(&Text::new(
        series.name.clone(),
        (right + 8, y - 7),
        style(SMALL),
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f64], wanted: &[f64]) -> bool {
        found.len() == wanted.len()
            && found
                .iter()
                .zip(wanted)
                .all(|(found, wanted)| (found - wanted).abs() < 1e-9)
    }

    #[test]
    fn marks_are_round_numbers() {
        assert!(near(
            &round_numbers(0.0, 61.0),
            &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
        ));
        assert!(near(
            &round_numbers(0.0, 3.1),
            &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
        ));
        assert!(near(&decades(3.2, 126.0), &[5.0, 10.0, 20.0, 50.0, 100.0]));
    }

    #[test]
    fn a_decade_is_as_long_as_another() {
        let axis = Axis {
            label: "connections",
            logarithmic: true,
            marks_values: true,
            format: |value| format!("{value:.0}"),
        };
        let ruler = axis.ruler([1e6, 1e4, 1e5, 1e4].into_iter(), false);
        assert!(near(&ruler.marks, &[1e4, 1e5, 1e6]), "{ruler:?}");
        let places = [1e4, 1e5, 1e6].map(|value| ruler.map(&value, (0, 1120)));
        assert_eq!(places, [60, 560, 1060]);
        let straight = Axis {
            logarithmic: false,
            ..axis
        };
        let ruler = straight.ruler([2.0, 50.0].into_iter(), true);
        assert_eq!(ruler.map(&0.0, (440, 0)), 440);
        assert_eq!(straight.ruler(std::iter::empty(), true).range(), 0.0..1.0);
    }
}
