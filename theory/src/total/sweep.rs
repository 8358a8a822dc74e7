//! Points measured one after the other, resumable, and what their trials say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::trial::Bench;
use super::{Arm, Outcome, Point, Settings};
use crate::bounds::{GradientStatistics, predicted_batch};
use crate::error::{Result, TheoryError, out_of_range};
use crate::fit::{Interval, clopper_pearson, median};
use crate::measure::{Callback, Progress};

/// Finished trials of all points, resumable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TotalLog {
    settings: Option<Settings>,
    points: BTreeMap<String, Vec<Outcome>>,
}

/// Quantiles over trials; `None` where too many trials did not get there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Median of the student's first phase.
    pub first: Option<f64>,
    /// Median of its second phase.
    pub second: Option<f64>,
    /// Median of their sum.
    pub median: Option<f64>,
    /// Samples within which a fraction `1 - delta` of the trials, teachers included, reached epsilon.
    pub quantile: Option<f64>,
    /// Median of the sum over the trials that reached epsilon.
    pub median_of_successes: Option<f64>,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointResult {
    /// The point.
    pub point: Point,
    /// Trials.
    pub trials: u64,
    /// Trials whose student reached epsilon.
    pub reached: u64,
    /// Interval of the probability to reach it.
    pub reached_interval: Interval,
    /// Student samples.
    pub student: Totals,
    /// Median samples of the teacher's second phase (apart from the student's).
    pub teacher_second: Option<f64>,
    /// Samples of the teacher's first phase; `None`: the population gradient.
    pub teacher_first: Option<u64>,
    /// Median measured hinge loss of checkpoint two.
    pub teacher_loss: Option<f64>,
    /// Median of the lowest hinge loss that students saw.
    pub lowest_loss: Option<f64>,
    /// Median over trials of the smallest loss that any width could reach on a literal first layer's
    /// direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_one: Option<f64>,
    /// Radius A of the second phase.
    pub radius: f64,
    /// Norm R that its step was scaled by.
    pub feature_norm: f64,
    /// Every trial.
    pub outcomes: Vec<Outcome>,
}

/// Fresh trials at fixed sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The point.
    pub point: Point,
    /// First-phase batch.
    pub first: u64,
    /// Second-phase samples.
    pub second: u64,
    /// Seed, not used for finding the sizes.
    pub seed: u64,
    /// Trials.
    pub trials: u64,
    /// Those that reached epsilon.
    pub reached: u64,
    /// Interval of the probability.
    pub interval: Interval,
}

/// A point that cannot be had, and why.
pub type Missing = (Point, String);

/// Measures the points in order. Points that cannot be had (no signal, no comparator) are returned with the
/// reason.
///
/// Errors: [`TheoryError::Cancelled`] when the callback breaks or `cancel` is set (the log keeps what was
/// finished), a log of other settings.
pub fn measure_points(
    points: &[Point],
    settings: &Settings,
    log: &mut TotalLog,
    progress: Callback<'_>,
    cancel: Option<&Arc<AtomicBool>>,
) -> Result<(Vec<PointResult>, Vec<Missing>)> {
    settings.check()?;
    let key = Settings { trials: 0, ..settings.clone() };
    if *log.settings.get_or_insert_with(|| key.clone()) != key {
        return out_of_range("log", "a log of other settings", "a log of these", "start a new log");
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for point in points {
        let bench =
            match affordable(point, settings).and_then(|()| Bench::new(point, settings, cancel.cloned())) {
                Ok(bench) => bench,
                Err(e @ TheoryError::Linalg(_)) => return Err(e),
                Err(e) => {
                    missing.push((point.clone(), e.to_string()));
                    continue;
                }
            };
        let outcomes = trials(&bench, log.points.entry(point.name()).or_default(), progress)?;
        found.push(summarise(&bench, outcomes)?);
    }
    Ok((found, missing))
}

/// Labels that the normal model predicts to need more than the largest batch are not tried: every trial would
/// run into it.
fn affordable(point: &Point, settings: &Settings) -> Result<()> {
    if point.arm != Arm::Labels {
        return Ok(());
    }
    let statistics = GradientStatistics::labels(point.d, point.k, 0.5)?;
    let predicted = predicted_batch(&statistics, settings.fraction)?.samples;
    if predicted <= settings.max_label_batch as f64 {
        return Ok(());
    }
    out_of_range(
        "the first phase from labels",
        format!("{predicted:.2e} samples (normal prediction)"),
        format!("up to {}", settings.max_label_batch),
        "raise the largest batch from labels, or lower d or k",
    )
}

fn trials(bench: &Bench<'_>, done: &mut Vec<Outcome>, progress: Callback<'_>) -> Result<Vec<Outcome>> {
    let wanted = bench.settings.trials;
    let wave = rayon::current_num_threads() as u64;
    while (done.len() as u64) < wanted {
        let start = done.len() as u64;
        let parts: Vec<Result<Outcome>> = (start..(start + wave).min(wanted))
            .into_par_iter()
            .map(|trial| bench.run(bench.settings.seed, trial))
            .collect();
        for part in parts {
            done.push(part?);
        }
        let reached = done.iter().filter(|o| o.total().is_some()).count() as u64;
        let largest = done.iter().filter_map(Outcome::total).max().unwrap_or(0);
        let now = Progress { done: done.len() as u64, total: wanted, batch: largest, successes: reached };
        if progress(&now).is_break() {
            return Err(TheoryError::Cancelled);
        }
    }
    Ok(done[..wanted as usize].to_vec())
}

fn summarise(bench: &Bench<'_>, outcomes: Vec<Outcome>) -> Result<PointResult> {
    let trials = outcomes.len() as u64;
    let reached = outcomes.iter().filter(|o| o.total().is_some()).count() as u64;
    let known = |of: &dyn Fn(&Outcome) -> Option<f64>| {
        let mut values: Vec<f64> = outcomes.iter().filter_map(of).collect();
        (!values.is_empty()).then(|| median(&mut values))
    };
    let settings = bench.settings;
    let total = |o: &Outcome| o.total();
    Ok(PointResult {
        point: bench.point.clone(),
        trials,
        reached,
        reached_interval: clopper_pearson(reached, trials, settings.confidence)?,
        student: Totals {
            first: quantile(&outcomes, |o| o.first, 0.5),
            second: quantile(&outcomes, |o| o.second, 0.5),
            median: quantile(&outcomes, total, 0.5),
            quantile: quantile(&outcomes, total, 1.0 - settings.delta),
            median_of_successes: known(&|o| o.total().map(|t| t as f64)),
        },
        teacher_second: known(&|o| o.teacher_second.map(|t| t as f64)),
        teacher_first: settings.teacher_batch,
        teacher_loss: known(&|o| o.teacher_loss),
        lowest_loss: known(&|o| o.lowest),
        rank_one: known(&|o| o.rank_one),
        radius: bench.radius,
        feature_norm: bench.feature_norm,
        outcomes,
    })
}

/// Smallest value that at least a fraction `q` of all trials does not exceed; trials without a value count as
/// infinite.
fn quantile(outcomes: &[Outcome], of: impl Fn(&Outcome) -> Option<u64>, q: f64) -> Option<f64> {
    let mut values: Vec<f64> = outcomes.iter().map(|o| of(o).map_or(f64::INFINITY, |v| v as f64)).collect();
    values.sort_by(f64::total_cmp);
    let index = ((q * values.len() as f64 - 1e-9).ceil() as usize).clamp(1, values.len()) - 1;
    Some(values[index]).filter(|v| v.is_finite())
}

/// Runs `trials` fresh trials of a point at fixed sizes: the first and the second phase each at the
/// `1 - delta/2` quantile found (so that by a union both suffice with probability `1 - delta`), from a seed
/// that was not used for finding them. `None`: those quantiles do not exist.
pub fn confirm(
    result: &PointResult,
    settings: &Settings,
    trials: u64,
    seed: u64,
    cancel: Option<&Arc<AtomicBool>>,
) -> Result<Option<Confirmation>> {
    if seed == settings.seed {
        return out_of_range("seed", seed, "a seed that the search did not use", "give another seed");
    }
    let high = 1.0 - settings.delta / 2.0;
    let (first, second) =
        (quantile(&result.outcomes, |o| o.first, high), quantile(&result.outcomes, |o| o.second, high));
    let (Some(first), Some(second)) = (first, second) else {
        return Ok(None);
    };
    let bench = Bench::new(&result.point, settings, cancel.cloned())?;
    let (first, second) = (first as u64, second as u64);
    let outcomes: Vec<bool> = (0..trials)
        .into_par_iter()
        .map(|trial| bench.reaches(first, second, seed, trial))
        .collect::<Result<_>>()?;
    let reached = outcomes.iter().filter(|o| **o).count() as u64;
    let interval = clopper_pearson(reached, trials, settings.confidence)?;
    Ok(Some(Confirmation { point: result.point.clone(), first, second, seed, trials, reached, interval }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::quiet;
    use std::ops::ControlFlow;

    fn settings() -> Settings {
        Settings { trials: 6, max_second: 1 << 17, step: 4.0, ..Settings::default() }
    }

    #[test]
    fn progressive_beats_labels_end_to_end_and_resumes_to_the_same() {
        let point = |arm| Point { d: 21, k: 2, width: 64, epsilon: 0.3, arm };
        let mut settings = settings();
        settings.repair.prune = 0.5;
        let points = [point(Arm::Progressive), point(Arm::Labels)];
        let (whole, missing) =
            measure_points(&points, &settings, &mut TotalLog::default(), &quiet, None).unwrap();
        assert!(missing.is_empty());
        let first = |i: usize| whole[i].student.first.unwrap();
        assert!(first(0) < 4.0 * first(1), "{} {}", first(0), first(1));
        assert!(whole[0].reached >= 4 && whole[0].teacher_loss.unwrap() <= 0.075, "{:?}", whole[0]);
        let mut log = TotalLog::default();
        let stop =
            |p: &Progress| if p.done >= 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        assert_eq!(measure_points(&points, &settings, &mut log, &stop, None), Err(TheoryError::Cancelled));
        let text = serde_json::to_string(&log).unwrap();
        let mut log: TotalLog = serde_json::from_str(&text).unwrap();
        let (resumed, _) = measure_points(&points, &settings, &mut log, &quiet, None).unwrap();
        assert_eq!(resumed, whole);
        let other = Settings { seed: 2, ..settings.clone() };
        assert!(measure_points(&points, &other, &mut log, &quiet, None).is_err());
        assert!(confirm(&whole[0], &settings, 3, settings.seed, None).is_err());
        let fresh = confirm(&whole[1], &settings, 4, 77, None).unwrap().unwrap();
        assert!(fresh.reached >= 2, "{fresh:?}");
    }

    #[test]
    fn a_set_flag_cancels_inside_a_trial() {
        let flag = Arc::new(AtomicBool::new(true));
        let points = [Point { d: 21, k: 4, width: 64, epsilon: 0.3, arm: Arm::Labels }];
        let result = measure_points(&points, &settings(), &mut TotalLog::default(), &quiet, Some(&flag));
        assert_eq!(result, Err(TheoryError::Cancelled));
    }
}
