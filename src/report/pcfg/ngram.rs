//! M_robust and M_close along a teacher's training.

use super::{CheckpointMark, with_drop};
use crate::plot::{Axis, Color, Dash, Direction, Figure, Mark, Panel, Series, TickFormat, arm_color};
use curricle_probe::ngram::{NgramSummary, Spread};
use curricle_probe::phases::Phases;

/// The measures of one checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct NgramPoint {
    /// Training step.
    pub step: f64,
    /// One entry per n.
    pub summaries: Vec<NgramSummary>,
}

/// What the n-gram figure shows.
#[derive(Debug, Clone, PartialEq)]
pub struct NgramTimeline {
    /// Title of the figure.
    pub title: String,
    /// Checkpoints in order.
    pub points: Vec<NgramPoint>,
    /// The optimum's own values.
    pub reference: Vec<NgramSummary>,
    /// Phases of the loss.
    pub phases: Option<Phases>,
    /// Checkpoints that students learned from.
    pub checkpoints: Vec<CheckpointMark>,
}

/// Values below are drawn here: a logarithmic axis has no zero.
const FLOOR: f64 = 1e-6;

/// Two panels: M_robust on a logarithmic axis, and M_close. Lines are medians over sentences and positions, bands quartiles;
/// dotted lines are the medians of the optimum.
pub fn ngrams(data: &NgramTimeline) -> Figure {
    let robust = panel(data, "M_robust: hiding the n-gram too", true, |s| s.robust, false);
    let close = panel(data, "M_close: hiding everything else", false, |s| s.close, true);
    Figure::new(&data.title).panel(robust).panel(close).note(peak_sentence(data)).note(
        "Lines: medians over sentences and positions of the L1 distance between predicted distributions; bands: quartiles; dotted: \
         the exact optimum. Values below 1e-6 are drawn at 1e-6 in the upper panel.",
    )
}

fn panel(
    data: &NgramTimeline,
    title: &str,
    log: bool,
    of: impl Fn(&NgramSummary) -> Spread,
    last: bool,
) -> Panel {
    let label = "L1 distance";
    let y = if log { Axis::log(format!("{label} (logarithmic)")) } else { Axis::linear(label) };
    let x = Axis::linear(if last { "training steps of the teacher" } else { "" });
    let shown = |value: f64| if log { value.max(FLOOR) } else { value };
    let panel = Panel::new(x, y.format(TickFormat::Plain)).height(210.0).title(title);
    let mut panel = super::with_checkpoints(with_drop(panel, data.phases.as_ref()), &data.checkpoints);
    for (rank, n) in sizes(data).into_iter().enumerate() {
        let color = arm_color(rank);
        let own: Vec<(f64, Spread)> = data
            .points
            .iter()
            .filter_map(|p| Some((p.step, of(p.summaries.iter().find(|s| s.n == n)?))))
            .collect();
        let band = own.iter().map(|(x, s)| [*x, shown(s.q25), shown(s.q75)]).collect();
        let line = own.iter().map(|(x, s)| [*x, shown(s.median)]).collect();
        panel = panel
            .with(Series::unnamed(color, Mark::Band { points: band }).opacity(0.18))
            .with(Series::new(format!("n = {n}"), color, Mark::line(line)));
        if let Some(reference) = data.reference.iter().find(|s| s.n == n) {
            let at = shown(of(reference).median);
            let rule = Mark::Rule { at, along: Direction::X, width: 1.2, dash: Dash::Dotted };
            panel = panel.with(Series::unnamed(color, rule).opacity(0.8));
        }
    }
    if !data.reference.is_empty() {
        // One entry for all dotted lines.
        let none = Mark::Line { points: Vec::new(), width: 1.2, dash: Dash::Dotted };
        panel = panel.with(Series::new("optimum (exact Bayes)", Color::REFERENCE, none));
    }
    panel
}

fn sizes(data: &NgramTimeline) -> Vec<usize> {
    let mut sizes: Vec<usize> = data.points.iter().flat_map(|p| p.summaries.iter().map(|s| s.n)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Says, from the numbers, where M_robust peaks and how far it falls.
fn peak_sentence(data: &NgramTimeline) -> String {
    use crate::format::{count, significant};
    let n = if sizes(data).contains(&3) { 3 } else { sizes(data).first().copied().unwrap_or(3) };
    let medians = || {
        data.points
            .iter()
            .filter_map(move |p| Some((p.step, p.summaries.iter().find(|s| s.n == n)?.robust.median)))
    };
    let (Some(peak), Some(last)) = (medians().max_by(|a, b| a.1.total_cmp(&b.1)), medians().next_back())
    else {
        return "No checkpoint was measured.".to_owned();
    };
    let place = match &data.phases {
        Some(p) if p.in_drop(peak.0) => ", inside the drop of the loss",
        Some(p) if peak.0 < p.drop_start => ", before the drop of the loss",
        Some(_) => ", after the drop of the loss",
        None => "",
    };
    let fall = match peak.1 / last.1 {
        ratio if ratio.is_finite() => format!("{} times", significant(ratio, 2)),
        _ => "to nothing".to_owned(),
    };
    format!(
        "The median of M_robust for {n}-grams peaks at {} at step {}{place}; by the last checkpoint it has fallen {fall}.",
        significant(peak.1, 3),
        count(peak.0)
    )
}
