//! Writes SVG: paths, circles and text with positions in points, nothing else.

use super::font::FAMILY;
use super::{Color, Dash};
use crate::escape::escape;
use std::fmt::Write;

pub(super) type Point = [f64; 2];

/// How a shape is filled and outlined.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    pub(super) fill: Option<Color>,
    /// Colour and width of the outline.
    pub(super) stroke: Option<(Color, f64)>,
    pub(super) dash: Dash,
    pub(super) opacity: f64,
}

impl Paint {
    pub(super) fn fill(color: Color) -> Self {
        Self { fill: Some(color), stroke: None, dash: Dash::Solid, opacity: 1.0 }
    }

    pub(super) fn stroke(color: Color, width: f64) -> Self {
        Self { fill: None, stroke: Some((color, width)), dash: Dash::Solid, opacity: 1.0 }
    }

    pub(super) fn dash(self, dash: Dash) -> Self {
        Self { dash, ..self }
    }

    pub(super) fn opacity(self, opacity: f64) -> Self {
        Self { opacity, ..self }
    }
}

/// Which part of a text is at its position.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A document in the making.
pub(super) struct Svg(String);

impl Svg {
    /// A white page with an accessible name.
    pub(super) fn new([width, height]: [f64; 2], title: &str) -> Self {
        let title = escape(title);
        let mut svg = Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{title}\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"{FAMILY}\">\n<title>{title}</title>\n"
        ));
        svg.rectangle([0.0, 0.0], [width, height], Paint::fill(Color::PAPER));
        svg
    }

    /// A line through the points, or the polygon they enclose.
    pub(super) fn path(&mut self, points: &[Point], closed: bool, paint: Paint) {
        if points.len() < 2 {
            return;
        }
        self.0 += "<path d=\"M";
        for (i, &[x, y]) in points.iter().enumerate() {
            self.0 += if i == 0 { "" } else { " " };
            self.number(x);
            self.0.push(' ');
            self.number(y);
        }
        self.0 += if closed { "Z\"" } else { "\"" };
        self.paint(paint);
        self.0 += "/>\n";
    }

    pub(super) fn line(&mut self, from: Point, to: Point, paint: Paint) {
        self.path(&[from, to], false, paint);
    }

    /// The rectangle between two opposite corners.
    pub(super) fn rectangle(&mut self, a: Point, b: Point, paint: Paint) {
        self.path(&[a, [b[0], a[1]], b, [a[0], b[1]]], true, paint);
    }

    pub(super) fn circle(&mut self, [x, y]: Point, radius: f64, paint: Paint) {
        for (name, value) in [("<circle cx=\"", x), ("\" cy=\"", y), ("\" r=\"", radius)] {
            self.0 += name;
            self.number(value);
        }
        self.0.push('"');
        self.paint(paint);
        self.0 += "/>\n";
    }

    /// A text whose capitals are centred on `y`; `upwards` turns it to read from bottom to top.
    pub(super) fn text(
        &mut self,
        text: &str,
        at: Point,
        size: f64,
        anchor: Anchor,
        color: Color,
        upwards: bool,
    ) {
        // Half the height of a capital letter in DejaVu Sans.
        let drop = 0.365 * size;
        let [x, y] = if upwards { [at[0] + drop, at[1]] } else { [at[0], at[1] + drop] };
        self.0 += "<text x=\"";
        self.number(x);
        self.0 += "\" y=\"";
        self.number(y);
        let _ = write!(self.0, "\" font-size=\"{size}\" fill=\"{color}\"");
        if upwards {
            let _ = write!(self.0, " transform=\"rotate(-90 {x:.1} {y:.1})\"");
        }
        self.0 += match anchor {
            Anchor::Start => ">",
            Anchor::Middle => " text-anchor=\"middle\">",
            Anchor::End => " text-anchor=\"end\">",
        };
        self.0 += &escape(text);
        self.0 += "</text>\n";
    }

    /// A horizontal text of medium size on lines: a rim of paper keeps it readable.
    pub(super) fn rimmed_text(&mut self, text: &str, at: Point, size: f64, anchor: Anchor, color: Color) {
        let start = self.0.len();
        self.text(text, at, size, anchor, color, false);
        let rim = format!(
            "<text stroke=\"{}\" stroke-width=\"2.5\" paint-order=\"stroke\" stroke-linejoin=\"round\"",
            Color::PAPER
        );
        self.0.replace_range(start..start + "<text".len(), &rim);
    }

    pub(super) fn finish(mut self) -> String {
        self.0 += "</svg>\n";
        self.0
    }

    /// A tenth of a point is a fifth of a pixel in our bitmaps.
    fn number(&mut self, value: f64) {
        let start = self.0.len();
        let _ = write!(self.0, "{value:.1}");
        if self.0[start..].ends_with(".0") {
            self.0.truncate(self.0.len() - 2);
        }
    }

    fn paint(&mut self, paint: Paint) {
        match paint.fill {
            Some(color) => drop(write!(self.0, " fill=\"{color}\"")),
            None => self.0 += " fill=\"none\"",
        }
        if let Some((color, width)) = paint.stroke {
            let _ = write!(self.0, " stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"");
        }
        self.0 += match paint.dash {
            Dash::Solid => "",
            Dash::Dashed => " stroke-dasharray=\"7 4\"",
            Dash::Dotted => " stroke-dasharray=\"2 3\"",
        };
        if paint.opacity < 1.0 {
            let _ = write!(self.0, " opacity=\"{}\"", paint.opacity.max(0.0));
        }
    }
}
