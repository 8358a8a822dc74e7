//! Samples to a level against one setting, tuned per arm.

use super::samples::summary_marks;
use super::{ArmStyle, families, family, level_text};
use crate::data::{ReportData, SweepCell, SweepTable};
use crate::plot::{Axis, Dash, Direction, Figure, Mark, Panel, Series, Shape, arm_color, arm_shape};
use crate::stats::{Reach, summarize};

/// The arms of a table in order of first appearance, each with its style: that of the report's arm of the same label
/// (without its value, where the report has one arm per value), or the next free one.
pub(crate) fn sweep_arms(data: &ReportData, table: &SweepTable) -> Vec<(String, ArmStyle)> {
    let known = families(data);
    let mut free = known.len();
    let mut arms: Vec<(String, ArmStyle)> = Vec::new();
    for cell in table.values.iter().flat_map(|v| &v.cells) {
        if arms.iter().any(|(name, _)| *name == cell.arm) {
            continue;
        }
        let named = data.arms.iter().find(|arm| arm.name == cell.arm).map(|arm| family(arm).0);
        let rank = known.iter().position(|name| *name == cell.arm || Some(*name) == named);
        let rank = rank.unwrap_or_else(|| {
            free += 1;
            free - 1
        });
        let style = ArmStyle { color: arm_color(rank), dash: Dash::Solid, shape: arm_shape(rank) };
        arms.push((cell.arm.clone(), style));
    }
    arms
}

/// A cell's runs as counts and bounds.
pub(crate) fn cell_reaches(cell: &SweepCell) -> Vec<Reach> {
    cell.seeds.iter().map(|s| Reach::new(s.samples, s.budget)).collect()
}

/// One line per arm through its medians, with whiskers and every seed.
pub fn sweep(data: &ReportData, table: &SweepTable) -> Figure {
    let arms = sweep_arms(data, table);
    let names = table.values.iter().map(|v| v.value.clone()).collect();
    let y = Axis::log(format!("samples to {} (log.)", level_text(&table.level)));
    let mut panel = Panel::new(Axis::categories(&table.axis, names), y).height(340.0);
    for (rank, (arm, style)) in arms.iter().enumerate() {
        // Side by side, so that whiskers of different arms do not hide each other.
        let shift = (rank as f64 - (arms.len() - 1) as f64 / 2.0) * 0.6 / arms.len() as f64;
        let cells = table.values.iter().enumerate().flat_map(|(i, value)| {
            value.cells.iter().filter(|c| c.arm == *arm).map(move |c| (i as f64 + shift, cell_reaches(c)))
        });
        let (mut line, mut open, mut reached, mut beyond, mut summaries) =
            (vec![], vec![], vec![], vec![], vec![]);
        for (x, runs) in cells {
            let Some(s) = summarize(&runs) else { continue };
            // The line is broken where the median is only a bound.
            line.push([x, if s.median.is_open() { f64::NAN } else { s.median.at_least() }]);
            if s.median.is_open() {
                open.push([x, s.median.at_least()]);
            }
            for run in &runs {
                if run.is_open() { &mut beyond } else { &mut reached }.push([x - 0.05, run.at_least()]);
            }
            summaries.push((x, s));
        }
        let color = style.color;
        panel = panel
            .with(Series::unnamed(color, Mark::dots(reached, Shape::Circle, 2.2)).opacity(0.4))
            .with(Series::unnamed(color, Mark::dots(beyond, Shape::ArrowUp, 3.0)).opacity(0.4))
            .with(Series::unnamed(color, Mark::Line { points: line.clone(), width: 1.8, dash: style.dash }));
        for (x, s) in summaries {
            let whisker = summary_marks(&s, x, Direction::Y).into_iter();
            let whisker = whisker.filter(|m| matches!(m.mark, Mark::Intervals { .. }));
            panel.series.extend(whisker.map(|m| Series { color, ..m }));
        }
        panel = panel
            .with(Series::new(arm, color, Mark::dots(line, style.shape, 4.5)))
            .with(Series::unnamed(color, Mark::dots(open, Shape::ArrowUp, 6.0)));
    }
    Figure::new(sweep_title(data, table)).panel(panel).note(sweep_caption(table))
}

/// Title of [`sweep`].
pub(crate) fn sweep_title(data: &ReportData, table: &SweepTable) -> String {
    let level = level_text(&table.level);
    format!("{} ({}): samples to {level} by {}", data.experiment, data.scale, table.axis)
}

/// How to read a sweep, and whether its comparison is a tuned one.
pub fn sweep_caption(table: &SweepTable) -> String {
    let untuned = table.values.iter().flat_map(|v| &v.cells).filter(|cell| cell.tried.len() < 2).count();
    let tuning = if untuned == 0 {
        "The learning rate is tuned for every arm and value.".to_owned()
    } else {
        format!("Compare with care: in {untuned} cells only one learning rate was tried.")
    };
    format!(
        "{tuning} Symbols: medians at the best rate; whiskers: order-statistic interval; small dots: seeds; arrows: not \
         reached within the budget. Values are evenly spaced, not to scale."
    )
}
