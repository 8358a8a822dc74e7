//! From results to the plain data of a report.

use super::experiment::Results;
use super::gather::{RunRecord, runs_of};
use super::plan::{Plan, Student, TEACHER};
use super::spec::{DistillSpec, ReferenceSpec};
use crate::claims::Claim;
use crate::measure::{Shown, Subject};
use crate::train::settings::Training;
use curricle_core::math::order::median;
use curricle_report::data;

/// What the report says about how it was made.
pub struct Context<'a> {
    /// Device in words.
    pub device: &'a str,
    /// Command line.
    pub command: &'a str,
    /// Duration of this session.
    pub wall_seconds: f64,
}

/// Everything the report shows.
pub fn report_data(plan: &Plan, results: &Results, claims: &[Claim], context: Context) -> data::ReportData {
    let mut report = data::ReportData::new(&plan.experiment, &plan.scale);
    report.description.clone_from(&plan.description);
    report.device = context.device.to_owned();
    report.version = env!("CARGO_PKG_VERSION").to_owned();
    report.command = context.command.to_owned();
    report.created = now();
    report.wall_seconds = context.wall_seconds;
    report.spec_toml.clone_from(&plan.spec_toml);
    report.chance = plan.chance();
    let headline = plan.headline();
    report.headline_level = headline.to_string();
    report.arms = arms(plan, results);
    report.claims = claims.iter().map(claim).collect();
    report.references = plan.references.iter().map(|r| reference(r, &results.runs, headline)).collect();
    let shown = shown(plan, results);
    report.sections.extend(super::report_grammar::loss_section(plan, results, &shown));
    measurements(Subject::TeacherCheckpoints, plan, results, &shown, &mut report);
    report.sections.extend(super::report_grammar::choices(plan, results));
    measurements(Subject::FinalModels, plan, results, &shown, &mut report);
    report.sections.extend(super::report_grammar::sentence(plan));
    report.sweeps = sweep(plan, &results.runs, headline).into_iter().collect();
    if plan.tuned {
        report.notes.push(
            "Learning rates were tuned: each arm is shown with the rate of the tried ones whose median over seeds of samples to the level is smallest, chosen on the same seeds that are shown.".to_owned(),
        );
    }
    let skipped = results.runs.iter().filter(|r| r.metrics.is_empty()).count();
    if skipped > 0 {
        report.notes.push(format!(
            "{skipped} student runs could not start because their teacher never got where their schedule points; they are missing from the plots and leave claims that need them undecided."
        ));
    }
    report
}

/// Arms shown as curves: all, or the best of a tuning grid.
fn arms(plan: &Plan, results: &Results) -> Vec<data::Arm> {
    let mut arms = Vec::new();
    let cells = if plan.cells.is_empty() { std::slice::from_ref(plan) } else { &plan.cells[..] };
    for cell in cells {
        let Some(training) = &cell.teacher else { continue };
        let runs = results.runs.iter().filter(|r| r.name == cell.teacher_run);
        arms.push(data::Arm {
            name: cell.teacher_run.clone(),
            label: label(training, TEACHER, cell.teacher_at, plan),
            kind: data::ArmKind::Teacher,
            group: String::new(),
            settings: settings(training, None),
            runs: runs.map(|r| curve(r, plan)).collect(),
        });
    }
    let mut seen: Vec<(&str, Option<u64>)> = Vec::new();
    for student in &plan.students {
        let key = (student.arm.as_str(), student.at.map(f64::to_bits));
        if seen.contains(&key) {
            continue;
        }
        seen.push(key);
        let runs = runs_of(&results.runs, &student.arm, student.at, plan.headline());
        let shown =
            runs.first().and_then(|r| plan.students.iter().find(|s| s.name == r.name)).unwrap_or(student);
        arms.push(data::Arm {
            name: shown.name.clone(),
            label: label(&shown.training, &shown.arm, shown.at, plan),
            kind: data::ArmKind::Student,
            group: group(shown, plan),
            settings: settings(&shown.training, shown.distill.as_ref()),
            runs: runs.into_iter().filter(|r| !r.metrics.is_empty()).map(|r| curve(r, plan)).collect(),
        });
    }
    arms
}

fn label(training: &Training, arm: &str, at: Option<f64>, plan: &Plan) -> String {
    let base = if training.label.is_empty() { arm } else { &training.label };
    match (at, &plan.axis) {
        (Some(at), Some(axis)) => format!("{base}, {axis} {at}"),
        _ => base.to_owned(),
    }
}

fn group(student: &Student, plan: &Plan) -> String {
    match (student.at, &plan.axis) {
        (Some(at), Some(axis)) => format!("{axis} {at}"),
        _ => String::new(),
    }
}

fn settings(training: &Training, distill: Option<&DistillSpec>) -> String {
    let model = training.model.label();
    let (rate, batch, steps) = (training.learning_rate, training.batch, training.steps);
    let mut text = format!("{model}, lr {rate}, batch {batch}, {steps} steps");
    if let Some(distill) = distill {
        text += &format!(", {}, tau {}", distill.schedule.label(), distill.target.temperature);
    }
    text
}

fn curve(run: &RunRecord, plan: &Plan) -> data::RunCurve {
    let point = |m: &crate::train::member::Metric| data::CurvePoint {
        samples: m.samples,
        step: m.step,
        accuracy: m.accuracy,
        loss: m.loss.unwrap_or(f64::NAN),
        teacher_step: m.teacher_step,
    };
    data::RunCurve {
        seed: run.seed,
        points: run.metrics.iter().map(point).collect(),
        samples_to: run.samples_to(&plan.evaluation.levels),
        final_accuracy: run.final_accuracy.unwrap_or(f64::NAN),
        steps: run.steps(),
        samples: run.samples_seen(),
        wall_seconds: run.wall_seconds(),
    }
}

/// What measurements are shown with.
fn shown<'a>(plan: &Plan, results: &'a Results) -> Shown<'a> {
    let seed = plan.seeds.first().copied();
    let firsts = seed.map_or(vec![], |seed| super::report_grammar::firsts(plan, results, seed));
    let named = |s: &Student| (s.name.clone(), label(&s.training, &s.arm, None, plan));
    Shown {
        seed,
        teacher_batch: plan.teacher.as_ref().map_or(1, |t| t.batch) as u64,
        students: plan.students.iter().map(named).collect(),
        runs: &results.runs,
        used: &results.used,
        first_checkpoints: firsts.into_iter().map(|(_, step)| step).collect(),
    }
}

fn measurements(
    subject: Subject,
    plan: &Plan,
    results: &Results,
    shown: &Shown<'_>,
    report: &mut data::ReportData,
) {
    for (key, measure) in plan.measures.iter().filter(|(_, m)| m.subject() == subject) {
        measure.report(results.measured.get(key).map_or(&[], Vec::as_slice), shown, report);
    }
}

fn claim(claim: &Claim) -> data::Claim {
    let interval = match claim.interval {
        [Some(low), Some(high)] => Some([low, high]),
        _ => None,
    };
    let open = match claim.interval {
        [Some(low), None] => format!("interval from {low:.3} upwards, open; "),
        [None, Some(high)] => format!("interval up to {high:.3}; "),
        _ => String::new(),
    };
    data::Claim {
        name: claim.name.clone(),
        statement: claim.statement.clone(),
        verdict: claim.verdict,
        value: claim.value,
        interval,
        detail: format!("{open}{}", claim.detail),
    }
}

fn reference(spec: &ReferenceSpec, runs: &[RunRecord], headline: f64) -> data::Reference {
    let mine = runs_of(runs, &spec.arm, None, headline);
    let ours = match spec.level {
        Some(level) => {
            let each: Vec<String> = mine
                .iter()
                .map(|r| match r.first_reaching(level) {
                    Some(samples) => group_digits(samples),
                    None => format!("> {}", group_digits(r.samples_seen())),
                })
                .collect();
            let middle =
                median(mine.iter().map(|r| r.first_reaching(level).map_or(f64::INFINITY, |s| s as f64)));
            match each.len() {
                0 => "not run".to_owned(),
                1 => format!("{} samples", each[0]),
                _ if middle.is_finite() => {
                    format!("median {} samples (seeds: {})", group_digits(middle as u64), each.join("; "))
                }
                _ => format!("median not reached (seeds: {})", each.join("; ")),
            }
        }
        None => {
            let each: Vec<String> =
                mine.iter().filter_map(|r| r.final_accuracy).map(|a| format!("{:.1}%", 100.0 * a)).collect();
            if each.is_empty() { "not run".to_owned() } else { format!("final accuracy {}", each.join("; ")) }
        }
    };
    data::Reference { what: spec.what.clone(), paper: spec.paper.clone(), ours }
}

fn group_digits(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The study's table: for each value of the axis and each arm the best rate with its seeds, and all tried rates. Without an
/// axis a tuning grid is a table with one row.
fn sweep(plan: &Plan, runs: &[RunRecord], level: f64) -> Option<data::SweepTable> {
    if plan.axis.is_none() && !plan.tuned {
        return None;
    }
    let mut axis_values: Vec<Option<f64>> = Vec::new();
    for student in &plan.students {
        if student.at.is_some() && !axis_values.contains(&student.at) {
            axis_values.push(student.at);
        }
    }
    if axis_values.is_empty() {
        axis_values.push(None);
    }
    let mut arms: Vec<&str> = Vec::new();
    for student in &plan.students {
        if !arms.contains(&student.arm.as_str()) {
            arms.push(&student.arm);
        }
    }
    let values = axis_values.iter().map(|&at| {
        let cells = arms.iter().filter_map(|arm| {
            let best = runs_of(runs, arm, at, level);
            let first = best.first()?;
            let all: Vec<&RunRecord> =
                runs.iter().filter(|r| r.arm == *arm && (r.at.is_none() || r.at == at)).collect();
            let mut rates: Vec<f64> = all.iter().map(|r| r.learning_rate).collect();
            rates.sort_unstable_by(f64::total_cmp);
            rates.dedup();
            let tried = rates.into_iter().map(|rate| {
                let at_rate = || all.iter().filter(move |r| r.learning_rate == rate);
                let samples =
                    median(at_rate().map(|r| r.first_reaching(level).map_or(f64::INFINITY, |s| s as f64)));
                data::TriedRate {
                    rate,
                    runs: at_rate().count() as u32,
                    reached: at_rate().filter(|r| r.first_reaching(level).is_some()).count() as u32,
                    median_samples: samples.is_finite().then_some(samples),
                }
            });
            let student = plan.students.iter().find(|s| s.arm == *arm)?;
            Some(data::SweepCell {
                arm: label(&student.training, arm, None, plan),
                best_rate: first.learning_rate,
                seeds: best
                    .iter()
                    .map(|r| data::SeedReach {
                        seed: r.seed,
                        samples: r.first_reaching(level),
                        budget: r.samples_seen(),
                    })
                    .collect(),
                tried: tried.collect(),
            })
        });
        data::SweepValue {
            value: at.map_or_else(|| "all".to_owned(), |v| v.to_string()),
            cells: cells.collect(),
        }
    });
    Some(data::SweepTable {
        axis: plan.axis.clone().unwrap_or_else(|| "learning rate".to_owned()),
        level: level.to_string(),
        values: values.collect(),
    })
}

/// Date and time in UTC, to the second.
fn now() -> String {
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days to year, month, day: civil_from_days of H. Hinnant, "chrono-compatible low-level date algorithms".
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", time / 3600, time / 60 % 60, time % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(["7", "1,000", "12,345,678"], [7, 1000, 12_345_678].map(group_digits));
    }
}
