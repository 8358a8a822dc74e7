//! Figures as plain data, drawn to SVG; a PNG is that SVG, rasterised with the bundled font.
//!
//! A [`Figure`] is a column of [`Panel`]s under a title, with one legend and notes below them. Every panel has two
//! [`Axis`] (linear, logarithmic or categorical) and a list of [`Series`], each a [`Mark`] in a colour. Figures can be
//! serialised, so an experiment can hand its own figures to the report without the report knowing what they show.
//!
//! ```
//! use curricle_report::plot::{Axis, Color, Figure, Mark, Panel, Series};
//! let measured: Vec<[f64; 2]> = [15.0, 21.0, 29.0, 41.0].iter().map(|&d: &f64| [d, 80.0 * d.powi(3)]).collect();
//! let figure = Figure::new("Samples to recover the support").panel(
//!     Panel::new(Axis::log("input dimension d"), Axis::log("training samples"))
//!         .with(Series::new("labels", Color::BLUE, Mark::line(measured))),
//! );
//! assert!(figure.to_svg().unwrap().contains("input dimension d"));
//! ```

mod axis;
mod draw;
mod font;
mod layout;
mod marks;
mod palette;
mod svg;

pub(crate) use axis::Ticks;
pub use axis::{Axis, Scale, TickFormat};
pub(crate) use layout::axes;
pub use palette::{Color, arm_color, arm_shape};
pub(crate) use palette::{ON_DARK, sequential};

use serde::{Deserialize, Serialize};

/// Why a figure could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The bitmap could not be made.
    #[error("cannot draw the figure \"{figure}\": {reason}")]
    Draw {
        /// Title of the figure.
        figure: String,
        /// Why.
        reason: String,
    },
    /// The figure has no panel, or its size or scale is not a usable number.
    #[error("cannot draw the figure \"{figure}\": {reason}")]
    Shape {
        /// Title of the figure.
        figure: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The bitmap could not be written.
    #[error("cannot write the figure to {path}: {source}")]
    Write {
        /// Where it should have gone.
        path: std::path::PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A drawing: title, panels one below the other, legend, notes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Shown on top, and the accessible name of the SVG.
    pub title: String,
    /// Smaller text under the title, wrapped to the width.
    #[serde(default)]
    pub subtitle: String,
    /// Width in points (1 point is 1 CSS pixel, and `scale` pixels of a PNG).
    #[serde(default = "default_width")]
    pub width: f64,
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
    /// Sentences under the legend, wrapped to the width.
    #[serde(default)]
    pub notes: Vec<String>,
}

fn default_width() -> f64 {
    800.0
}

impl Figure {
    /// An empty figure 800 points wide.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            subtitle: String::new(),
            width: default_width(),
            panels: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Sets the text under the title.
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = text.into();
        self
    }

    /// Adds a panel below the others.
    pub fn panel(mut self, panel: Panel) -> Self {
        self.panels.push(panel);
        self
    }

    /// Adds a sentence under the legend.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }
}

/// One plotting area.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    /// Small heading inside the figure, above the area; empty for none.
    #[serde(default)]
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Height of the plotting area in points, labels not counted.
    #[serde(default = "default_height")]
    pub height: f64,
    /// Drawn in order, later ones on top.
    pub series: Vec<Series>,
}

fn default_height() -> f64 {
    320.0
}

impl Panel {
    /// An empty panel 320 points high.
    pub fn new(x: Axis, y: Axis) -> Self {
        Self { title: String::new(), x, y, height: default_height(), series: Vec::new() }
    }

    /// Sets the heading.
    pub fn title(mut self, text: impl Into<String>) -> Self {
        self.title = text.into();
        self
    }

    /// Sets the height of the plotting area in points.
    pub fn height(mut self, points: f64) -> Self {
        self.height = points;
        self
    }

    /// Adds a series.
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }
}

/// A mark in a colour, with its entry in the legend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Legend entry; series with an equal label share one entry, an empty label has none.
    #[serde(default)]
    pub label: String,
    /// Colour of lines, dots and fills.
    pub color: Color,
    /// Opacity from 0 to 1.
    #[serde(default = "opaque")]
    pub opacity: f64,
    /// What is drawn.
    pub mark: Mark,
}

fn opaque() -> f64 {
    1.0
}

impl Series {
    /// A series with a legend entry.
    pub fn new(label: impl Into<String>, color: Color, mark: Mark) -> Self {
        Self { label: label.into(), color, opacity: 1.0, mark }
    }

    /// A series that the legend does not name.
    pub fn unnamed(color: Color, mark: Mark) -> Self {
        Self::new("", color, mark)
    }

    /// Sets the opacity.
    pub fn opacity(mut self, opacity: f64) -> Self {
        self.opacity = opacity;
        self
    }
}

/// What a series draws. Values that are not finite, or not positive on a logarithmic axis, are left out; a line is
/// broken there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A line through (x, y).
    Line {
        /// Points in drawing order.
        points: Vec<[f64; 2]>,
        /// Stroke width in points.
        width: f64,
        /// Solid, dashed or dotted.
        #[serde(default)]
        dash: Dash,
    },
    /// The area between two curves: (x, low, high). For quantiles over seeds, a noise floor, and the like.
    Band {
        /// Points from left to right.
        points: Vec<[f64; 3]>,
    },
    /// Separate symbols at (x, y).
    Dots {
        /// Positions.
        points: Vec<[f64; 2]>,
        /// Symbol.
        shape: Shape,
        /// Radius in points.
        radius: f64,
        /// Filled, or outline only.
        filled: bool,
    },
    /// Whiskers with end caps; an end left open (a bound that was never reached) is drawn as an arrow.
    Intervals {
        /// Whiskers.
        spans: Vec<Interval>,
        /// Direction in which the interval extends.
        along: Direction,
        /// Stroke width in points.
        width: f64,
    },
    /// Bars from the axis' low end (or zero): (position, value).
    Bars {
        /// Bars.
        bars: Vec<[f64; 2]>,
        /// Thickness in units of the position axis.
        thickness: f64,
        /// Direction in which the bar grows.
        along: Direction,
    },
    /// A line across the panel at one value of the other axis: `along = X` is horizontal, at `at` on the y axis.
    Rule {
        /// Value on the crossing axis.
        at: f64,
        /// Direction of the line.
        along: Direction,
        /// Stroke width in points.
        width: f64,
        /// Solid, dashed or dotted.
        #[serde(default)]
        dash: Dash,
    },
    /// A shaded vertical region between two values of x.
    Region {
        /// Left end.
        from: f64,
        /// Right end.
        to: f64,
    },
    /// Text at (x, y).
    Text {
        /// Position.
        at: [f64; 2],
        /// The text, one line.
        text: String,
        /// Which side of the position the text is on.
        side: Side,
    },
}

impl Mark {
    /// A solid line two points wide.
    pub fn line(points: Vec<[f64; 2]>) -> Self {
        Mark::Line { points, width: 2.0, dash: Dash::Solid }
    }

    /// A dashed line two points wide.
    pub fn dashed(points: Vec<[f64; 2]>) -> Self {
        Mark::Line { points, width: 2.0, dash: Dash::Dashed }
    }

    /// Filled symbols.
    pub fn dots(points: Vec<[f64; 2]>, shape: Shape, radius: f64) -> Self {
        Mark::Dots { points, shape, radius, filled: true }
    }
}

/// How a line is broken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dash {
    /// Unbroken.
    #[default]
    Solid,
    /// Long dashes.
    Dashed,
    /// Short dashes.
    Dotted,
}

/// A symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Shape {
    Circle,
    Square,
    Diamond,
    TriangleUp,
    TriangleDown,
    Cross,
    /// Points right: the value lies somewhere beyond.
    ArrowRight,
    /// Points up: the value lies somewhere beyond.
    ArrowUp,
    /// A short vertical stroke, for a median on a horizontal interval.
    BarVertical,
    /// A short horizontal stroke, for a median on a vertical interval.
    BarHorizontal,
}

/// Horizontal or vertical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Along the x axis.
    X,
    /// Along the y axis.
    Y,
}

/// Which side of its position a text is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Side {
    Left,
    Right,
    Above,
    Below,
}

/// One whisker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Position on the other axis.
    pub at: f64,
    /// Low end.
    pub low: f64,
    /// High end; when `open`, the largest value known to lie below it.
    pub high: f64,
    /// The high end is beyond `high` by an unknown amount.
    #[serde(default)]
    pub open: bool,
}
