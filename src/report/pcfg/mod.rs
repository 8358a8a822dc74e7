//! Figures and sections of the experiments on grammars: loss and its phases, n-gram robustness along training, final
//! accuracy by first checkpoint, what probes find at each level, and a sentence with its tree.
//!
//! Everything takes plain data and gives [`Figure`]s or [`Section`]s; nothing here reads files or trains.

mod loss;
mod ngram;
mod students;
mod tree;

pub use loss::{CheckpointMark, LossCurve, LossData, loss};
pub use ngram::{NgramPoint, NgramTimeline, ngrams};
pub use students::{Choice, FirstCheckpoints, LevelCurve, ReferenceArm, first_checkpoint, levels};
pub use tree::{tree_figure, tree_section};

use super::data::Section;
use super::plot::{Color, Dash, Direction, Figure, Mark, Panel, Series};
use curricle_probe::phases::Phases;

/// The loss's drop as a shaded region of a panel.
fn with_drop(panel: Panel, phases: Option<&Phases>) -> Panel {
    let Some(p) = phases else { return panel };
    let region = Mark::Region { from: p.drop_start, to: p.drop_end };
    panel.with(Series::new("drop of the loss", Color::REGION, region).opacity(0.28))
}

/// A vertical dashed line at each checkpoint.
fn with_checkpoints(mut panel: Panel, checkpoints: &[CheckpointMark]) -> Panel {
    for mark in checkpoints {
        let rule = Mark::Rule { at: mark.step, along: Direction::Y, width: 1.0, dash: Dash::Dashed };
        panel = panel.with(Series::new("checkpoint a student learned from", Color::GREEN, rule).opacity(0.7));
    }
    panel
}

/// What a person should read off the phases.
fn phase_sentence(phases: Option<&Phases>) -> String {
    use super::format::{count, significant};
    match phases {
        None => "No drop of the loss was detected.".to_owned(),
        Some(p) => {
            let shape = if p.three_phases {
                "Three phases: a plateau, a drop and slow improvement after it."
            } else {
                "The curve does not have three clear phases (plateau, drop, slow improvement)."
            };
            format!(
                "{shape} From a loss of {} the drop begins at step {}, is half done at {} and ends at {}; the final loss is {}.",
                significant(p.plateau_loss, 3),
                count(p.drop_start),
                count(p.drop_middle),
                count(p.drop_end),
                significant(p.final_loss, 3)
            )
        }
    }
}

/// A section with one paragraph per sentence and these figures.
pub fn section(title: &str, text: Vec<String>, figures: Vec<Figure>) -> Section {
    Section { title: title.to_owned(), text, figures, tables: Vec::new(), preformatted: Vec::new() }
}

#[cfg(test)]
mod tests;
