//! Samples to a level, every seed.

use super::{arm_styles, level_text};
use crate::data::{Arm, ReportData};
use crate::plot::{Axis, Direction, Figure, Interval, Mark, Panel, Series, Shape};
use crate::stats::{Reach, Summary, summarize};

/// The runs of an arm as counts and bounds; runs that were not measured at this level are left out.
pub(crate) fn reaches(arm: &Arm, level: &str) -> Vec<Reach> {
    arm.runs.iter().filter_map(|run| Some(Reach::new(*run.samples_to.get(level)?, run.samples))).collect()
}

/// One row per arm: each seed a dot, the median over its interval; a run that never reached the level is an arrow at
/// the samples it had.
pub fn samples_to(data: &ReportData) -> Figure {
    let level = &data.headline_level;
    let styles = arm_styles(data);
    let rows: Vec<_> = data
        .arms
        .iter()
        .zip(&styles)
        .map(|(arm, style)| (arm, style, reaches(arm, level)))
        .filter(|(_, _, runs)| !runs.is_empty())
        .collect();
    let names = rows
        .iter()
        .map(|(arm, _, runs)| {
            format!("{} ({}/{})", arm.label, runs.iter().filter(|r| !r.is_open()).count(), runs.len())
        })
        .collect();
    let x = Axis::log(format!("training samples to {} accuracy (logarithmic)", level_text(level)));
    let mut panel = Panel::new(x, Axis::categories("", names)).height(40.0 + 46.0 * rows.len() as f64);
    let mut coverages = Vec::new();
    for (row, (_, style, runs)) in rows.iter().enumerate() {
        let row = row as f64;
        // Seeds are spread over the upper part of the row so that equal counts stay countable.
        let lane = |i: usize| row - 0.3 + 0.4 * (i as f64 + 0.5) / runs.len() as f64;
        let at = |open: bool| -> Vec<[f64; 2]> {
            let chosen = runs.iter().enumerate().filter(|(_, r)| r.is_open() == open);
            chosen.map(|(i, r)| [r.at_least(), lane(i)]).collect()
        };
        panel = panel
            .with(Series::unnamed(style.color, Mark::dots(at(false), style.shape, 3.5)).opacity(0.75))
            .with(Series::unnamed(style.color, Mark::dots(at(true), Shape::ArrowRight, 4.5)).opacity(0.75));
        let Some(s) = summarize(runs) else { continue };
        coverages.push((s.runs, s.coverage));
        for series in summary_marks(&s, row + 0.28, Direction::X) {
            panel = panel.with(Series { color: style.color, ..series });
        }
    }
    let title = format!("{} ({}): samples to {}", data.experiment, data.scale, level_text(level));
    Figure::new(title).panel(panel).note(format!(
        "Dots: each seed. Arrows: runs that ended there without reaching {}; they count as needing more, and are never \
         dropped (in brackets: reached / runs). Thick stroke: median. Whiskers: order-statistic interval for the \
         median{}",
        level_text(level),
        coverage_text(&mut coverages)
    ))
}

/// Whiskers and median of a summary at a position; an open median is an arrow.
pub(super) fn summary_marks(s: &Summary, at: f64, along: Direction) -> Vec<Series> {
    use crate::plot::Color;
    let mut marks = Vec::new();
    if s.runs > 1 {
        let interval =
            Interval { at, low: s.low.at_least(), high: s.high.at_least(), open: s.high.is_open() };
        marks.push(Mark::Intervals { spans: vec![interval], along, width: 1.6 });
    }
    let position = |value: f64| if along == Direction::X { vec![[value, at]] } else { vec![[at, value]] };
    let shape = match (s.median.is_open(), along) {
        (false, Direction::X) => Shape::BarVertical,
        (false, Direction::Y) => Shape::BarHorizontal,
        (true, Direction::X) => Shape::ArrowRight,
        (true, Direction::Y) => Shape::ArrowUp,
    };
    marks.push(Mark::dots(position(s.median.at_least()), shape, 7.0));
    marks.into_iter().map(|mark| Series::unnamed(Color::INK, mark)).collect()
}

/// "(coverage 97.9% for 10 seeds, 75.0% for 3)".
fn coverage_text(coverages: &mut Vec<(usize, f64)>) -> String {
    coverages.retain(|(n, _)| *n > 1);
    coverages.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    coverages.dedup_by_key(|(n, _)| *n);
    let parts: Vec<String> =
        coverages.iter().map(|(n, c)| format!("{} with {n} seeds", crate::format::percent(*c))).collect();
    if parts.is_empty() { ".".to_owned() } else { format!(" (coverage {}).", parts.join(", ")) }
}
