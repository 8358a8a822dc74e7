//! The result in one sentence, from the numbers.

use super::data::{Arm, ArmKind, ReportData, SweepCell, SweepTable, SweepValue, Verdict};
use super::figures::{cell_reaches, level_text, reaches};
use super::format;
use super::stats::{Reach, summarize};

/// What the report found, in one or two sentences: how many samples the best student needed against the one that learns
/// from labels, or by how much final accuracies differ, or what came of the claims. Empty for a report without any.
pub fn result(data: &ReportData) -> String {
    let table = data.sweeps.iter().find(|t| t.values.len() > 1);
    let found = match table {
        Some(table) => by_value(data, table),
        None => samples(data).or_else(|| accuracies(data)),
    };
    found.unwrap_or_else(|| verdicts(data))
}

/// Whether a student learns from labels alone: it followed no teacher at any evaluation.
pub(crate) fn learns_from_labels(arm: &Arm) -> bool {
    let mut points = arm.runs.iter().flat_map(|run| &run.points).peekable();
    arm.kind == ArmKind::Student && points.peek().is_some() && points.all(|p| p.teacher_step.is_none())
}

fn students(data: &ReportData) -> impl Iterator<Item = &Arm> {
    data.arms.iter().filter(|arm| arm.kind == ArmKind::Student)
}

/// How many times fewer samples, as a ratio of medians; a bound where the larger one is one.
fn factor(few: Reach, many: Reach) -> String {
    let times = format::significant(many.at_least() / few.at_least(), 2);
    if many.is_open() { format!("at least {times} times fewer") } else { format!("{times} times fewer") }
}

fn samples(data: &ReportData) -> Option<String> {
    let level = &data.headline_level;
    let medians = || students(data).filter_map(|arm| Some((arm, summarize(&reaches(arm, level))?)));
    let known = medians().filter(|(_, s)| !s.median.is_open());
    let to = level_text(level);
    let (best, few) = known.min_by(|a, b| a.1.median.at_least().total_cmp(&b.1.median.at_least()))?;
    let Some((labels, many)) = medians().find(|(arm, _)| learns_from_labels(arm)) else {
        return Some(format!(
            "{} needs fewest samples to {to}: {} ({}).",
            best.label,
            few.median,
            seeds(few.runs)
        ));
    };
    if best.name == labels.name {
        return Some(format!(
            "No student of a teacher needs fewer samples to {to} than {}: {} ({}).",
            labels.label,
            few.median,
            seeds(few.runs)
        ));
    }
    let spread = paired(best, labels, level).map_or(String::new(), |text| format!("; seed by seed {text}"));
    Some(format!(
        "{} needs {} samples to {to}, {} {}: {} ({}{spread}).",
        best.label,
        few.median,
        labels.label,
        many.median,
        factor(few.median, many.median),
        seeds(few.runs)
    ))
}

/// The interval for the median over seeds of the factor between two arms. None where a seed gives no bound below.
fn paired(few: &Arm, many: &Arm, level: &str) -> Option<String> {
    let reach = |arm: &Arm, seed: u64| {
        let run = arm.runs.iter().find(|run| run.seed == seed)?;
        Some(Reach::new(*run.samples_to.get(level)?, run.samples))
    };
    let mut factors = Vec::new();
    for run in &few.runs {
        let (Some(a), Some(b)) = (reach(few, run.seed), reach(many, run.seed)) else { continue };
        let ratio = b.at_least() / a.at_least();
        factors.push(match (a.is_open(), b.is_open()) {
            (true, _) => return None,
            (_, true) => Reach::Beyond(ratio),
            _ => Reach::At(ratio),
        });
    }
    let s = summarize(&factors).filter(|s| s.runs > 1)?;
    let end = |r: Reach| format::significant(r.at_least(), 2);
    let high = if s.high.is_open() { "or more".to_owned() } else { format!("to {}", end(s.high)) };
    Some(format!("{} {high} times, coverage {}", end(s.low), format::percent(s.coverage)))
}

fn seeds(n: usize) -> String {
    if n == 1 { "1 seed".to_owned() } else { format!("medians of {n} seeds") }
}

/// Final accuracies, where no level tells the arms apart.
fn accuracies(data: &ReportData) -> Option<String> {
    let median = |arm: &Arm| {
        let finals = arm.runs.iter().map(|run| run.final_accuracy).filter(|a| a.is_finite());
        Some(summarize(&finals.map(Reach::At).collect::<Vec<_>>())?.median.at_least())
    };
    let ranked = || students(data).filter_map(|arm| Some((arm, median(arm)?)));
    let (best, top) = ranked().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let of = seeds(best.runs.len());
    let labels = ranked().find(|(arm, _)| learns_from_labels(arm) && arm.name != best.name);
    let other = labels
        .or_else(|| ranked().filter(|(arm, _)| arm.name != best.name).min_by(|a, b| a.1.total_cmp(&b.1)));
    let against =
        other.map_or(String::new(), |(arm, low)| format!(", {} at {}", arm.label, format::percent(low)));
    Some(format!("{} ends at {} accuracy{against} ({of}).", best.label, format::percent(top)))
}

/// At every value of a sweep, the best arm against the one that learns from labels.
fn by_value(data: &ReportData, table: &SweepTable) -> Option<String> {
    // Arms of a sweep are named after the arm and the value; cells after the arm.
    let from_labels = |cell: &&SweepCell| {
        data.arms.iter().any(|arm| arm.label.starts_with(&cell.arm) && learns_from_labels(arm))
    };
    let of = |cell: &SweepCell| summarize(&cell_reaches(cell)).map(|s| s.median);
    let mut baseline = None;
    let mut found: Vec<(Option<&str>, String)> = Vec::new();
    for value in &table.values {
        let labels = value.cells.iter().find(from_labels)?;
        baseline = Some(labels.arm.as_str());
        let known = value.cells.iter().filter_map(|c| Some((c, of(c).filter(|m| !m.is_open())?)));
        let best = known.min_by(|a, b| a.1.at_least().total_cmp(&b.1.at_least()));
        found.push(match (best, of(labels)) {
            (Some((best, _)), _) if best.arm == labels.arm => (None, "none fewer".to_owned()),
            (Some((best, few)), Some(many)) => (Some(&best.arm), factor(few, many)),
            _ => (None, "not reached".to_owned()),
        });
    }
    let first = found.first()?.0;
    let shared = first.filter(|_| found.iter().all(|(arm, _)| *arm == first));
    let part = |(value, (arm, times)): (&SweepValue, &(Option<&str>, String))| match arm {
        Some(arm) if shared.is_none() => format!("{}: {arm}, {times}", value.value),
        _ => format!("{}: {times}", value.value),
    };
    let parts = table.values.iter().zip(&found).map(part).collect::<Vec<_>>().join("; ");
    let (to, axis, labels) = (level_text(&table.level), &table.axis, baseline?);
    Some(match shared {
        Some(best) => {
            format!("{best} needs fewest samples to {to} at every {axis}, against {labels} {parts}.")
        }
        None => format!("Fewest samples to {to} by {axis}, against {labels}: {parts}."),
    })
}

fn verdicts(data: &ReportData) -> String {
    let n = data.claims.len();
    let of = |verdict| data.claims.iter().filter(|c| c.verdict == verdict).count();
    let (held, failed) = (of(Verdict::Pass), of(Verdict::Fail));
    match n {
        0 => String::new(),
        _ if held == n => format!("All {n} claims hold."),
        _ => format!("{held} of {n} claims hold, {failed} do not, {} are open.", n - held - failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{CurvePoint, RunCurve};

    fn arm(name: &str, teacher: bool, reached: &[Option<u64>]) -> Arm {
        let run = |(i, to): (usize, &Option<u64>)| RunCurve {
            seed: i as u64,
            points: vec![CurvePoint {
                samples: 10,
                step: 1,
                accuracy: 0.5,
                loss: 0.7,
                teacher_step: teacher.then_some(3),
            }],
            samples_to: [("0.99".to_owned(), *to)].into(),
            final_accuracy: 0.5,
            steps: 1,
            samples: 1000,
            wall_seconds: 1.0,
        };
        Arm {
            name: name.to_owned(),
            label: name.to_owned(),
            kind: ArmKind::Student,
            group: String::new(),
            settings: String::new(),
            runs: reached.iter().enumerate().map(run).collect(),
        }
    }

    fn said(arms: Vec<Arm>) -> String {
        let mut data = ReportData::new("x", "quick");
        data.arms = arms;
        result(&data)
    }

    #[test]
    fn the_best_student_is_held_against_labels() {
        let labels = arm("labels", false, &[Some(400), Some(500), Some(600)]);
        let middle = arm("middle", true, &[Some(100), Some(100), Some(200)]);
        assert_eq!(
            said(vec![labels.clone(), middle.clone()]),
            "middle needs 100 samples to 99%, labels 500: 5 times fewer (medians of 3 seeds; seed by seed 3 to 5 times, \
             coverage 75.0%)."
        );
        let slow = arm("slow", true, &[Some(900), Some(900), Some(900)]);
        assert!(
            said(vec![labels, slow])
                .starts_with("No student of a teacher needs fewer samples to 99% than labels")
        );
        let never = arm("labels", false, &[None, None, Some(600)]);
        let text = said(vec![never, middle]);
        assert!(
            text.contains("labels > 1k: at least 10 times fewer") && text.contains("3 or more times"),
            "{text}"
        );
    }

    #[test]
    fn a_study_is_told_value_by_value() {
        let cell = |name: &str, samples: u64| SweepCell {
            arm: name.to_owned(),
            best_rate: 0.1,
            seeds: vec![crate::data::SeedReach { seed: 1, samples: Some(samples), budget: 1000 }],
            tried: vec![],
        };
        let value = |value: &str, cells: Vec<SweepCell>| SweepValue { value: value.to_owned(), cells };
        let mut data = ReportData::new("x", "quick");
        data.arms = vec![arm("labels, width 5", false, &[Some(100)])];
        let five = value("5", vec![cell("labels", 100), cell("middle", 50)]);
        let ten = value("10", vec![cell("labels", 300), cell("middle", 100)]);
        let table = |values| SweepTable { axis: "width".to_owned(), level: "0.99".to_owned(), values };
        data.sweeps = vec![table(vec![five.clone(), ten])];
        assert_eq!(
            result(&data),
            "middle needs fewest samples to 99% at every width, against labels 5: 2 times fewer; 10: 3 times fewer."
        );
        data.sweeps = vec![table(vec![five, value("10", vec![cell("labels", 30), cell("middle", 100)])])];
        assert_eq!(
            result(&data),
            "Fewest samples to 99% by width, against labels: 5: middle, 2 times fewer; 10: none fewer."
        );
    }

    #[test]
    fn without_a_level_reached_final_accuracies_speak_and_without_arms_the_claims() {
        let text = said(vec![arm("labels", false, &[None]), arm("middle", true, &[None])]);
        assert_eq!(text, "middle ends at 50.0% accuracy, labels at 50.0% (1 seed).");
        assert_eq!(said(vec![]), "");
    }
}
