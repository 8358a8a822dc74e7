//! A ranking for people: a table and two figures.

use super::rank::{Answer, LIMIT, Ranked, Verdict};
use super::{count, count_or_dash};
use anyhow::{Context, Result};
use curricle_files::atomic;
use curricle_report::plot::{Axis, Color, Figure, Mark, Panel, Series, Shape};
use std::io::Write;
use std::path::Path;

/// The answer as text.
pub(super) fn text(answer: &Answer) -> String {
    let mut out = format!(
        "{}: d = {}, k = {}, {:?} margin; samples for {}% of a student's neurons to rank the support on top\n",
        answer.run,
        answer.d,
        answer.k,
        answer.settings.margin,
        100.0 * answer.settings.fraction
    );
    out += &format!(
        "{:>4} {:>8} {:>9} {:>10} {:>10} {:>9}  {:>10} {:>8}\n",
        "rank", "step", "accuracy", "predicted", "bound", "gap", "measured", "ratio"
    );
    for r in &answer.ranking {
        let measured = r.measured.as_ref();
        let median = measured.map_or(String::new(), |m| match m.median {
            Some(v) => count(v),
            None => format!("> {}", count(m.max_batch as f64)),
        });
        out += &format!(
            "{:>4} {:>8} {:>9} {:>10} {:>10} {:>9}  {median:>10} {:>8}  {}\n",
            r.rank.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            r.step,
            r.accuracy.map_or_else(|| "?".to_owned(), |a| format!("{:.1}%", 100.0 * a)),
            count_or_dash(r.predicted),
            count_or_dash(r.bound),
            format!("{:+.4}{}", r.relative_gap, if r.resolved { "" } else { "?" }),
            measured.and_then(|m| m.ratio).map_or_else(String::new, |v| format!("{v:.2}")),
            measured.and_then(|m| m.verdict).map_or("", words)
        );
    }
    let labels = &answer.labels;
    out += &format!(
        "{:>4} {:>8} {:>9} {:>10} {:>10}  at least {}{}\n",
        "",
        "labels",
        "",
        count_or_dash(labels.predicted),
        count_or_dash(labels.bound),
        count_or_dash(labels.lower),
        labels.reason.as_ref().map_or_else(String::new, |r| format!("  ({r})"))
    );
    if answer.ranking.iter().any(|r| !r.resolved) {
        out += "?: the gap is below four standard errors; raise --samples\n";
    }
    for u in &answer.unions {
        let m = &u.measured;
        out += &format!(
            "union of steps {:?}: {} ({} of {} recover by {})\n",
            u.steps,
            count_or_dash(m.median),
            m.successes,
            m.trials,
            count(m.max_batch as f64)
        );
    }
    if let Some(f) = &answer.factor {
        out += &format!(
            "\nwithin a factor of {}: {} of {} with both numbers (overshoots {}, undershoots {}){}\n",
            f.limit,
            f.within,
            f.within + f.overshoots + f.undershoots,
            f.overshoots,
            f.undershoots,
            f.ratios.map_or_else(String::new, |[low, high]| format!(
                "; measured / predicted from {low:.2} to {high:.2}"
            ))
        );
        out += &format!(
            "no batch suffices: {} as predicted, {} recovered nevertheless; {} undecided\n",
            f.none_as_predicted, f.unexpected_successes, f.undecided
        );
    }
    out
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Within => "within",
        Verdict::Overshoot => "OVERSHOOT",
        Verdict::Undershoot => "UNDERSHOOT",
        Verdict::NoneAsPredicted => "none, as predicted",
        Verdict::UnexpectedSuccess => "UNEXPECTED SUCCESS",
        Verdict::Undecided => "undecided",
    }
}

/// Writes the figures beside rank.json.
pub(super) fn draw(answer: &Answer, folder: &Path) -> Result<()> {
    let mut by_step: Vec<&Ranked> = answer.ranking.iter().collect();
    by_step.sort_by_key(|r| r.step);
    figure_files(&timeline(answer, &by_step), folder, "rank")?;
    if by_step.iter().any(|r| r.measured.as_ref().is_some_and(|m| m.ratio.is_some())) {
        figure_files(&scatter(answer, &by_step), folder, "rank-scatter")?;
    }
    Ok(())
}

/// An SVG and a PNG.
pub(super) fn figure_files(figure: &Figure, folder: &Path, stem: &str) -> Result<()> {
    let put = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        atomic::write(&path, |w| w.write_all(bytes))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    put(format!("{stem}.svg"), figure.to_svg()?.as_bytes())?;
    put(format!("{stem}.png"), &figure.to_png(1.5)?)
}

fn timeline(answer: &Answer, by_step: &[&Ranked]) -> Figure {
    let line = |of: &dyn Fn(&Ranked) -> Option<f64>| -> Vec<[f64; 2]> {
        by_step.iter().map(|r| [r.step as f64, of(r).unwrap_or(f64::NAN)]).collect()
    };
    let measured = line(&|r| r.measured.as_ref()?.median);
    let failed: Vec<[f64; 2]> = by_step
        .iter()
        .filter_map(|r| {
            let m = r.measured.as_ref()?;
            m.median.is_none().then_some([r.step as f64, m.max_batch as f64])
        })
        .collect();
    let predicted = line(&|r| r.predicted);
    let mut panel = Panel::new(Axis::linear("teacher step"), Axis::log("samples (logarithmic)"))
        .title("What a student's first phase needs from a checkpoint")
        .with(Series::new("explicit bound", Color::REFERENCE, Mark::dashed(line(&|r| r.bound))))
        .with(Series::new("predicted", Color::BLUE, Mark::line(predicted.clone())))
        .with(Series::unnamed(Color::BLUE, Mark::dots(predicted, Shape::Square, 2.5)));
    if !by_step.iter().all(|r| r.measured.is_none()) {
        panel = panel
            .with(Series::new("measured", Color::VERMILION, Mark::dots(measured, Shape::Circle, 4.0)))
            .with(Series::new(
                "not recovered by the largest batch",
                Color::VERMILION,
                Mark::dots(failed, Shape::ArrowUp, 5.0),
            ));
    }
    let accuracy = line(&|r| r.accuracy);
    let below = Panel::new(Axis::linear("teacher step"), Axis::linear("teacher accuracy").range(0.45, 1.02))
        .height(130.0)
        .with(Series::unnamed(Color::INK, Mark::line(accuracy)));
    Figure::new(format!("Ranking of a teacher's checkpoints (d = {}, k = {})", answer.d, answer.k))
        .panel(panel)
        .panel(below)
        .note(format!(
            "Smallest batch from which {}% of a student's neurons rank the support on top; a gap in a line: no batch suffices from there.",
            100.0 * answer.settings.fraction
        ))
}

fn scatter(answer: &Answer, by_step: &[&Ranked]) -> Figure {
    let points: Vec<[f64; 2]> =
        by_step.iter().filter_map(|r| Some([r.predicted?, r.measured.as_ref()?.median?])).collect();
    let low = points.iter().flatten().copied().fold(f64::INFINITY, f64::min) / 2.0;
    let high = points.iter().flatten().copied().fold(0.0, f64::max) * 2.0;
    let band = vec![[low, low / LIMIT, low * LIMIT], [high, high / LIMIT, high * LIMIT]];
    let panel = Panel::new(Axis::log("predicted samples"), Axis::log("measured samples"))
        .with(Series::new(format!("within a factor of {LIMIT}"), Color::GRID, Mark::Band { points: band }))
        .with(Series::new("equal", Color::REFERENCE, Mark::dashed(vec![[low, low], [high, high]])))
        .with(Series::new("a checkpoint", Color::VERMILION, Mark::dots(points, Shape::Circle, 4.0)));
    Figure::new(format!("Predicted and measured samples per checkpoint (d = {}, k = {})", answer.d, answer.k))
        .panel(panel)
}
