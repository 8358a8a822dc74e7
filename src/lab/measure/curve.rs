//! A section with one figure of curves: all that most measurements need to be shown.

use curricle_report::data::Section;
use curricle_report::plot::{Axis, Figure, Mark, Panel, Series, Shape, arm_color};

/// A curve with its entry in the legend.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Legend entry.
    pub label: String,
    /// (x, y), from left to right.
    pub points: Vec<[f64; 2]>,
}

/// A section with a paragraph and a figure of these curves, each in a colour of its own.
pub fn curve_section(title: &str, text: &str, x: &str, y: &str, curves: &[Curve]) -> Section {
    let mut panel = Panel::new(Axis::linear(x), Axis::linear(y));
    for (rank, curve) in curves.iter().enumerate() {
        let color = arm_color(rank);
        panel = panel
            .with(Series::new(&curve.label, color, Mark::line(curve.points.clone())))
            .with(Series::unnamed(color, Mark::dots(curve.points.clone(), Shape::Circle, 2.5)));
    }
    Section {
        title: title.to_owned(),
        text: if text.is_empty() { vec![] } else { vec![text.to_owned()] },
        figures: vec![Figure::new(title).panel(panel)],
        tables: vec![],
        preformatted: vec![],
    }
}
