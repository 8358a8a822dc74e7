//! Loss during training.

use super::{phase_sentence, with_drop};
use crate::plot::{Axis, Color, Dash, Direction, Figure, Mark, Panel, Series, Side, TickFormat, arm_color};
use curricle_probe::phases::Phases;

/// A checkpoint to mark.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointMark {
    /// Step of the teacher.
    pub step: f64,
    /// Short name, such as C1.
    pub label: String,
}

/// The loss of one run or the median of several.
#[derive(Debug, Clone, PartialEq)]
pub struct LossCurve {
    /// Name in the legend; empty for a further seed of the curve before.
    pub label: String,
    /// (step, loss).
    pub points: Vec<[f64; 2]>,
}

/// What the loss figure shows.
#[derive(Debug, Clone, PartialEq)]
pub struct LossData {
    /// Title of the figure.
    pub title: String,
    /// Curves; the first named one is the teacher's.
    pub curves: Vec<LossCurve>,
    /// Phases of the teacher's curve.
    pub phases: Option<Phases>,
    /// Checkpoints that students learned from.
    pub checkpoints: Vec<CheckpointMark>,
    /// The loss no model can pass (exact Bayes), where known.
    pub optimum: Option<f64>,
}

/// Loss against steps with the drop shaded, checkpoints marked, and the optimum as a dotted line.
pub fn loss(data: &LossData) -> Figure {
    let x = Axis::linear("training steps");
    let y = Axis::linear("loss (nats per token)").format(TickFormat::Plain);
    let mut panel = with_drop(Panel::new(x, y), data.phases.as_ref());
    if let Some(optimum) = data.optimum {
        let rule = Mark::Rule { at: optimum, along: Direction::X, width: 1.4, dash: Dash::Dotted };
        panel = panel.with(Series::new("optimum (exact Bayes)", Color::REFERENCE, rule));
    }
    panel = super::with_checkpoints(panel, &data.checkpoints);
    let mut rank = 0;
    let mut color = Color::INK;
    for curve in &data.curves {
        if curve.label.is_empty() {
            let thin = Mark::Line { points: curve.points.clone(), width: 0.8, dash: Dash::Solid };
            panel = panel.with(Series::unnamed(color, thin).opacity(0.35));
            continue;
        }
        color = if rank == 0 { Color::INK } else { arm_color(rank - 1) };
        rank += 1;
        panel = panel.with(Series::new(&curve.label, color, Mark::line(curve.points.clone())));
    }
    let highest = data.curves.iter().flat_map(|c| &c.points).map(|p| p[1]).filter(|l| l.is_finite());
    let highest = highest.fold(0.0, f64::max);
    // Names only where they fit.
    if data.checkpoints.len() <= 10 {
        for mark in &data.checkpoints {
            let text = Mark::Text { at: [mark.step, highest], text: mark.label.clone(), side: Side::Right };
            panel = panel.with(Series::unnamed(Color::MUTED, text));
        }
    }
    Figure::new(&data.title).panel(panel).note(phase_sentence(data.phases.as_ref()))
}
