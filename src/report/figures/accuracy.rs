//! Accuracy against training samples.

use super::{LineName, arm_styles, identical, line_names};
use crate::curves::median_curve;
use crate::data::{ArmKind, ReportData, RunCurve};
use crate::plot::{Axis, Color, Dash, Direction, Figure, Mark, Panel, Series, Shape, Side, TickFormat};

/// Accuracy of every arm: each seed thin, the median over seeds thick, teachers dashed, chance dotted, and the
/// checkpoints that students learned from on the teacher's curves.
pub fn accuracy(data: &ReportData, log: bool) -> Figure {
    let points = || data.arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.points);
    let lowest =
        points().map(|p| p.accuracy).filter(|a| a.is_finite()).chain([data.chance]).fold(1.0, f64::min);
    let x = if log { Axis::log("training samples (logarithmic)") } else { Axis::linear("training samples") };
    let y = Axis::linear("accuracy").range((lowest - 0.03).max(0.0), 1.02).format(TickFormat::Percent);
    let mut panel = Panel::new(x, y).height(340.0);
    if data.chance.is_finite() {
        let chance = Mark::Rule { at: data.chance, along: Direction::X, width: 1.2, dash: Dash::Dotted };
        let label = format!("chance ({})", crate::format::percent(data.chance));
        panel = panel.with(Series::new(label, Color::REFERENCE, chance));
    }
    let styles = arm_styles(data);
    let several = data.arms.iter().any(|arm| arm.runs.len() > 1);
    for (arm, style) in data.arms.iter().zip(&styles).filter(|(arm, _)| arm.runs.len() > 1) {
        for run in &arm.runs {
            let line = Mark::Line { points: curve(run), width: 0.8, dash: Dash::Solid };
            panel = panel.with(Series::unnamed(style.color, line).opacity(0.28));
        }
    }
    for ((arm, style), same) in data.arms.iter().zip(&styles).zip(identical(data)) {
        let line = Mark::Line { points: median_curve(arm), width: 2.2, dash: style.dash };
        let label =
            same.map_or_else(|| arm.label.clone(), |same| format!("{} (identical to {same})", arm.label));
        panel = panel.with(Series::new(label, style.color, line));
    }
    for LineName { arm, at, text } in line_names(data) {
        let text = Mark::Text { at, text, side: Side::Right };
        panel = panel.with(Series::unnamed(styles[arm].color, text));
    }
    let used = used_checkpoints(data);
    if !used.is_empty() {
        let dots = Mark::Dots { points: used, shape: Shape::Diamond, radius: 3.5, filled: false };
        panel = panel.with(Series::new("checkpoint a student learned from", Color::INK, dots));
    }
    let mut figure = Figure::new(format!("{} ({}): accuracy during training", data.experiment, data.scale));
    figure = figure.panel(panel);
    if several {
        figure = figure.note(
            "Thick: median over seeds; thin: each seed. A run that stopped early keeps its last value in the \
             median; of an even number the lower middle one is drawn.",
        );
    }
    figure
}

fn curve(run: &RunCurve) -> Vec<[f64; 2]> {
    run.points.iter().map(|p| [p.samples as f64, p.accuracy]).collect()
}

/// Where the used checkpoints lie on the curve of the teacher with the same seed.
fn used_checkpoints(data: &ReportData) -> Vec<[f64; 2]> {
    let mut dots = Vec::new();
    for timeline in &data.timelines {
        let teachers = data.arms.iter().filter(|arm| arm.kind == ArmKind::Teacher);
        let Some(run) = teachers.flat_map(|arm| &arm.runs).find(|run| run.seed == timeline.seed) else {
            continue;
        };
        for used in &timeline.used {
            dots.extend(accuracy_at(run, used.samples).map(|accuracy| [used.samples as f64, accuracy]));
        }
    }
    dots
}

/// Accuracy on a run's curve, by linear interpolation.
fn accuracy_at(run: &RunCurve, samples: u64) -> Option<f64> {
    let after = run.points.partition_point(|p| p.samples < samples);
    let b = run.points.get(after)?;
    let Some(a) = after.checked_sub(1).map(|i| &run.points[i]).filter(|_| b.samples > samples) else {
        return Some(b.accuracy);
    };
    let part = (samples - a.samples) as f64 / (b.samples - a.samples) as f64;
    Some(a.accuracy + part * (b.accuracy - a.accuracy))
}
