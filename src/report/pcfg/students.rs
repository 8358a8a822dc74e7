//! What students gain: final accuracy by first checkpoint, and probe accuracy by tree level.

use crate::plot::{
    Axis, Color, Dash, Direction, Figure, Interval, Mark, Panel, Series, Shape, TickFormat, arm_color,
    arm_shape,
};
use crate::stats::{Reach, summarize};
use curricle_probe::ngram::Spread;

/// Final accuracies of the students whose first checkpoint was this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Name of the checkpoint, such as "C1 (step 250)".
    pub label: String,
    /// One accuracy per seed.
    pub accuracies: Vec<f64>,
    /// Whether the checkpoint lies inside the teacher's drop.
    pub in_drop: bool,
}

/// An arm to compare with.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceArm {
    /// Name, such as one-shot.
    pub label: String,
    /// One accuracy per seed.
    pub accuracies: Vec<f64>,
}

/// What the first-checkpoint figure shows.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstCheckpoints {
    /// Title of the figure.
    pub title: String,
    /// Choices in order of training.
    pub choices: Vec<Choice>,
    /// Arms without a first checkpoint: one-shot, labels.
    pub arms: Vec<ReferenceArm>,
    /// The accuracy no model can pass, where known.
    pub optimum: Option<f64>,
}

fn median(values: &[f64]) -> Option<f64> {
    Spread::of(values.iter().copied().filter(|v| v.is_finite())).map(|s| s.median)
}

/// Whiskers where there are several seeds: the order-statistic interval for the median.
fn whiskers<'a>(own: impl Iterator<Item = (f64, &'a [f64])>) -> Mark {
    let span = |(at, values): (f64, &[f64])| {
        let finite = values.iter().copied().filter(|v| v.is_finite());
        let s = summarize(&finite.map(Reach::At).collect::<Vec<_>>()).filter(|s| s.runs > 1)?;
        Some(Interval { at, low: s.low.at_least(), high: s.high.at_least(), open: false })
    };
    Mark::Intervals { spans: own.filter_map(span).collect(), along: Direction::Y, width: 1.3 }
}

/// Final accuracy against the choice of the first checkpoint: seeds as small dots, medians as a line; other arms and the
/// optimum as horizontal lines.
pub fn first_checkpoint(data: &FirstCheckpoints) -> Figure {
    let names = data.choices.iter().map(|c| c.label.clone()).collect();
    let y = Axis::linear("final accuracy").format(TickFormat::Percent);
    let mut panel = Panel::new(Axis::categories("first checkpoint of the teacher", names), y);
    for (rank, arm) in data.arms.iter().enumerate() {
        let Some(at) = median(&arm.accuracies) else { continue };
        let rule = Mark::Rule { at, along: Direction::X, width: 1.5, dash: Dash::Dashed };
        panel = panel.with(Series::new(&arm.label, arm_color(rank + 1), rule));
    }
    if let Some(at) = data.optimum {
        let rule = Mark::Rule { at, along: Direction::X, width: 1.4, dash: Dash::Dotted };
        panel = panel.with(Series::new("optimum (exact Bayes)", Color::REFERENCE, rule));
    }
    let x = |i: usize| i as f64;
    let seeds = |inside: bool| {
        let of = |(i, c): (usize, &Choice)| c.accuracies.iter().map(move |&a| [x(i), a]).collect::<Vec<_>>();
        let own = data.choices.iter().enumerate().filter(move |(_, c)| c.in_drop == inside);
        own.flat_map(of).collect::<Vec<[f64; 2]>>()
    };
    let medians: Vec<[f64; 2]> = data
        .choices
        .iter()
        .enumerate()
        .map(|(i, c)| [x(i), median(&c.accuracies).unwrap_or(f64::NAN)])
        .collect();
    let small = |points, filled| Mark::Dots { points, shape: Shape::Circle, radius: 3.0, filled };
    panel = panel
        .with(Series::new("median over seeds", Color::BLUE, Mark::line(medians)))
        .with(Series::unnamed(
            Color::BLUE,
            whiskers(data.choices.iter().enumerate().map(|(i, c)| (x(i), c.accuracies.as_slice()))),
        ))
        .with(
            Series::new("seed, checkpoint inside the drop", Color::BLUE, small(seeds(true), true))
                .opacity(0.6),
        )
        .with(Series::new("seed, checkpoint outside it", Color::BLUE, small(seeds(false), false)));
    Figure::new(&data.title).panel(panel).note(
        "Each student follows the named checkpoint first and the final one afterwards. Dashed: medians of arms without a first \
         checkpoint. Whiskers: order-statistic interval for the median. Checkpoints are evenly spaced, not to scale.",
    )
}

/// Probe accuracies of one arm.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelCurve {
    /// Name in the legend.
    pub label: String,
    /// For every level (from the terminals) one accuracy per seed.
    pub levels: Vec<(usize, Vec<f64>)>,
}

/// Accuracy of a non-terminal probe at every tree level, one line per arm through medians over seeds, seeds as dots;
/// `majority` is the accuracy of always naming the most frequent non-terminal.
pub fn levels(title: &str, curves: &[LevelCurve], majority: &[(usize, f64)]) -> Figure {
    let mut all: Vec<usize> = curves.iter().flat_map(|c| c.levels.iter().map(|l| l.0)).collect();
    all.sort_unstable();
    all.dedup();
    let names = all.iter().map(|l| format!("level {l}")).collect();
    let place = |level: usize| all.iter().position(|&l| l == level).map_or(f64::NAN, |i| i as f64);
    let y = Axis::linear("probe accuracy").format(TickFormat::Percent);
    let mut panel = Panel::new(Axis::categories("tree level (1 is above the terminals)", names), y);
    let dotted = majority.iter().map(|&(level, a)| [place(level), a]).collect();
    let dotted = Mark::Line { points: dotted, width: 1.4, dash: Dash::Dotted };
    panel = panel.with(Series::new("most frequent non-terminal", Color::REFERENCE, dotted));
    for (rank, curve) in curves.iter().enumerate() {
        let color = arm_color(rank);
        let shift = (rank as f64 - (curves.len() - 1) as f64 / 2.0) * 0.3 / curves.len() as f64;
        let seeds = curve.levels.iter().flat_map(|(l, a)| a.iter().map(move |&a| [place(*l) + shift, a]));
        let line: Vec<[f64; 2]> =
            curve.levels.iter().map(|(l, a)| [place(*l) + shift, median(a).unwrap_or(f64::NAN)]).collect();
        let spread = curve.levels.iter().map(|(l, a)| (place(*l) + shift, a.as_slice()));
        panel = panel
            .with(Series::unnamed(color, whiskers(spread)))
            .with(Series::unnamed(color, Mark::dots(seeds.collect(), Shape::Circle, 2.2)).opacity(0.4))
            .with(Series::unnamed(color, Mark::Line { points: line.clone(), width: 1.8, dash: Dash::Solid }))
            .with(Series::new(&curve.label, color, Mark::dots(line, arm_shape(rank), 4.5)));
    }
    Figure::new(title).panel(panel).note(
        "Lines: medians over seeds; small dots: seeds; whiskers: order-statistic interval for the median.",
    )
}
