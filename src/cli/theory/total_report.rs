//! Totals for people, spreadsheets and plots.

use super::rank_report::figure_files;
use super::session::make_parent;
use super::total::{Answer, ends};
use super::{count, count_or_dash};
use anyhow::{Context, Result};
use curricle_report::plot::{Axis, Figure, Mark, Panel, Series, arm_color, arm_shape};
use curricle_theory::total::{Arm, PointResult};
use curricle_theory::two_phase::FirstLayer;
use std::path::Path;

/// The answer as text.
pub(super) fn text(answer: &Answer) -> String {
    let s = &answer.settings;
    let mut out = format!(
        "samples until hinge loss epsilon; {} trials per point, delta = {}, first layer {}, teachers {}\n",
        s.trials,
        s.delta,
        match s.layer {
            FirstLayer::PrunedInit => "pruned",
            FirstLayer::Gradient => "literal",
        },
        match s.teacher_batch {
            None => "from the population gradient".to_owned(),
            Some(b) => format!("with first-phase batch {b}"),
        }
    );
    out += &format!(
        "{:12} {:>5} {:>3} {:>6} {:>5}  {:>9} {:>9} {:>9} {:>11} {:>8}  {:>11} {:>9}\n",
        "arm",
        "d",
        "k",
        "width",
        "eps",
        "first",
        "second",
        "total",
        "1 - delta",
        "reached",
        "teacher's",
        "lowest"
    );
    for r in &answer.points {
        let p = &r.point;
        out += &format!(
            "{:12} {:>5} {:>3} {:>6} {:>5}  {:>9} {:>9} {:>9} {:>11} {:>8}  {:>11} {:>9}{}\n",
            p.arm.name(),
            p.d,
            p.k,
            p.width,
            p.epsilon,
            count_or_dash(r.student.first),
            count_or_dash(r.student.second),
            count_or_dash(r.student.median),
            count_or_dash(r.student.quantile),
            format!("{}/{}", r.reached, r.trials),
            count_or_dash(r.teacher_second),
            r.lowest_loss.map_or_else(|| "-".to_owned(), |l| format!("{l:.3}")),
            r.rank_one.map_or_else(String::new, |h| format!("  best at any width {h:.3}"))
        );
    }
    for m in &answer.missing {
        out += &format!("{}: not measured: {}\n", m.point.name(), m.reason);
    }
    out += "medians over all trials (a dash: half of them or more did not get there); 1 - delta: the quantile; teacher's: its second phase\n";
    if !answer.exponents.is_empty() {
        out += "\nexponents (log-log slope of medians; t-interval over points; bootstrap over trials; the theorem's)\n";
    }
    for e in &answer.exponents {
        let show = |i: Option<curricle_theory::fit::Interval>| i.map_or_else(|| "-".to_owned(), ends);
        out += &format!(
            "{:12} {:7} in {:10} {:>6.2} {:>15} {:>15}  {:>5}  {:9} ({})\n",
            e.arm.name(),
            e.term,
            e.variable,
            e.fit.slope,
            show(e.fit.slope_interval),
            show(e.bootstrap),
            e.theorem.map_or_else(|| "-".to_owned(), |t| format!("{t}")),
            match e.agrees {
                Some(true) => "agrees",
                Some(false) => "DIFFERS",
                None => "undecided",
            },
            e.fixed
        );
    }
    for c in &answer.confirmations {
        out += &format!(
            "fresh seed {}: {} with {} + {} samples: {} of {} reach epsilon, probability in {}\n",
            c.seed,
            c.point.name(),
            count(c.first as f64),
            count(c.second as f64),
            c.reached,
            c.trials,
            ends(c.interval)
        );
    }
    out += &format!("\n{:.0} s on {}\n", answer.wall_seconds, answer.device);
    out
}

/// One row per point.
pub(super) fn write_csv(answer: &Answer, path: &Path) -> Result<()> {
    make_parent(path)?;
    let mut csv = csv::Writer::from_path(path).with_context(|| format!("cannot write {}", path.display()))?;
    csv.write_record([
        "arm",
        "d",
        "k",
        "width",
        "epsilon",
        "trials",
        "reached",
        "first",
        "second",
        "median",
        "quantile",
        "teacher_second",
        "teacher_loss",
        "lowest_loss",
    ])?;
    let number = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v}"));
    for r in &answer.points {
        let p = &r.point;
        csv.write_record([
            p.arm.name().to_owned(),
            p.d.to_string(),
            p.k.to_string(),
            p.width.to_string(),
            p.epsilon.to_string(),
            r.trials.to_string(),
            r.reached.to_string(),
            number(r.student.first),
            number(r.student.second),
            number(r.student.median),
            number(r.student.quantile),
            number(r.teacher_second),
            number(r.teacher_loss),
            number(r.lowest_loss),
        ])?;
    }
    csv.flush().with_context(|| format!("cannot write {}", path.display()))
}

type Of = fn(&PointResult) -> f64;

/// Totals against d, k, 1/epsilon and width, a figure each where at least two points differ in it alone from
/// the base.
pub(super) fn draw(answer: &Answer, folder: &Path) -> Result<()> {
    let Some(base) = answer.design.points().into_iter().next() else { return Ok(()) };
    let variables: [(&str, &str, Of); 4] = [
        ("d", "input dimension d", |r| r.point.d as f64),
        ("k", "support size k", |r| r.point.k as f64),
        ("epsilon", "1/epsilon", |r| 1.0 / r.point.epsilon),
        ("width", "width", |r| r.point.width as f64),
    ];
    let ratio = |p: &curricle_theory::total::Point| p.width >> p.k.min(20);
    for (stem, label, of) in variables {
        let along = |r: &&PointResult| {
            let p = &r.point;
            let same = [
                p.d == base.d || (p.k % 2 == 1 && p.d == base.d + 1),
                p.k == base.k,
                p.epsilon == base.epsilon,
                ratio(p) == ratio(&base),
            ];
            same.iter().enumerate().all(|(i, s)| *s || ["d", "k", "epsilon", "width"][i] == stem)
        };
        let mut panel = Panel::new(Axis::log(label), Axis::log("samples of the student"));
        let mut most = 0;
        for (i, arm) in Arm::ALL.into_iter().enumerate() {
            let mut mine: Vec<&PointResult> =
                answer.points.iter().filter(|r| r.point.arm == arm).filter(along).collect();
            mine.sort_by(|a, b| of(a).total_cmp(&of(b)));
            most = most.max(mine.len());
            let line = |value: fn(&PointResult) -> Option<f64>| -> Vec<[f64; 2]> {
                mine.iter().map(|r| [of(r), value(r).unwrap_or(f64::NAN)]).collect()
            };
            if mine.iter().all(|r| r.student.median.is_none()) {
                continue;
            }
            let total = line(|r| r.student.median);
            panel = panel
                .with(Series::new(format!("{}, total", arm.name()), arm_color(i), Mark::line(total.clone())))
                .with(Series::unnamed(arm_color(i), Mark::dots(total, arm_shape(i), 4.0)))
                .with(Series::new(
                    format!("{}, first phase", arm.name()),
                    arm_color(i),
                    Mark::dashed(line(|r| r.student.first)),
                ));
        }
        if most > 1 {
            let figure =
                Figure::new(format!("Samples to hinge loss epsilon against {label}")).panel(panel).note(
                    "Medians over trials; a missing point: half of the trials or more did not reach epsilon."
                        .to_owned(),
                );
            figure_files(&figure, folder, &format!("total-{stem}"))?;
        }
    }
    Ok(())
}
