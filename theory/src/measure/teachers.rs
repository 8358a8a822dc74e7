//! Growing batches: the distribution of recovery batches over trials or teachers.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Bench, Callback, Experiment, Progress, claim};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fit::{Interval, clopper_pearson, median};

/// Settings of the growth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GrowthSpec {
    /// Number of trials (trial `t` uses teacher `t`).
    pub trials: u64,
    /// First batch looked at.
    pub start: u64,
    /// Factor between looks (> 1).
    pub factor: f64,
    /// A trial fails when its criterion does not hold by this batch.
    pub max_batch: u64,
    /// Confidence of the failure interval.
    pub confidence: f64,
}

impl Default for GrowthSpec {
    fn default() -> Self {
        Self { trials: 61, start: 64, factor: 1.2, max_batch: 100_000, confidence: 0.95 }
    }
}

/// Result of [`recovery_batches`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryBatches {
    /// Per trial: first batch on the grid from which the criterion holds at two looks in a row; `None`: not
    /// by `max_batch`.
    pub batches: Vec<Option<u64>>,
    /// Median over all trials; `None` when half or more fail.
    pub median: Option<f64>,
    /// Median over the trials that succeed (survivors only: biased low when many fail).
    pub median_of_successes: Option<f64>,
    /// Number of failures.
    pub failures: u64,
    /// Interval of the failure probability.
    pub failure_interval: Interval,
    /// Settings.
    pub spec: GrowthSpec,
}

/// Finished trials, resumable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecoveryLog {
    fingerprint: String,
    growth: Option<GrowthSpec>,
    batches: Vec<Option<u64>>,
}

/// Lets the batch of each trial grow geometrically until its criterion holds at two looks in a row (one look
/// alone is often luck).
///
/// ```
/// use curricle_theory::measure::*;
/// use curricle_theory::two_phase::{Problem, TeacherSpec};
/// let source = Source::PhaseOne { teacher: TeacherSpec::default(), fixed: None };
/// let experiment = Experiment { problem: Problem::first(29, 4)?, source, neurons: 16, criterion: Criterion::Neurons(0.9), seed: 1, cancel: None };
/// let spec = GrowthSpec { trials: 12, max_batch: 20_000, ..GrowthSpec::default() };
/// let found = recovery_batches(&experiment, spec, &mut RecoveryLog::default(), &quiet)?;
/// assert!(found.failures > 0 && found.failures < 12); // the heavy tail: see `recovery`
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn recovery_batches(
    experiment: &Experiment,
    spec: GrowthSpec,
    log: &mut RecoveryLog,
    progress: Callback<'_>,
) -> Result<RecoveryBatches> {
    check_unit("confidence", spec.confidence)?;
    if spec.trials == 0 || spec.trials > 100_000 {
        return out_of_range("trials", spec.trials, "1..=100000", "61 give a median and a failure fraction");
    }
    if !(spec.factor > 1.0 && spec.factor.is_finite()) {
        return out_of_range("factor", spec.factor, "(1, inf)", "1.2 is usual");
    }
    if spec.start == 0 || spec.start > spec.max_batch || spec.max_batch > 1 << 40 {
        return out_of_range(
            "start..max_batch",
            format!("{}..{}", spec.start, spec.max_batch),
            "1 <= start <= max_batch <= 2^40",
            "raise max_batch",
        );
    }
    let bench = Bench::new(experiment)?;
    claim(&mut log.fingerprint, experiment)?;
    let key = GrowthSpec { trials: 0, ..spec };
    if *log.growth.get_or_insert(key) != key {
        return out_of_range(
            "log",
            "a log of another growth",
            "the same start, factor and max_batch",
            "start a new log",
        );
    }
    let wave = 2 * rayon::current_num_threads() as u64;
    while (log.batches.len() as u64) < spec.trials {
        let start = log.batches.len() as u64;
        let parts: Vec<Result<Option<u64>>> = (start..(start + wave).min(spec.trials))
            .into_par_iter()
            .map(|trial| grow(&bench, &spec, trial))
            .collect();
        for part in parts {
            log.batches.push(part?);
        }
        let report = Progress {
            done: log.batches.len() as u64,
            total: spec.trials,
            batch: log.batches.iter().flatten().copied().max().unwrap_or(0),
            successes: log.batches.iter().flatten().count() as u64,
        };
        if progress(&report).is_break() {
            return Err(TheoryError::Cancelled);
        }
    }
    summarise(log.batches[..spec.trials as usize].to_vec(), spec)
}

fn grow(bench: &Bench<'_>, spec: &GrowthSpec, trial: u64) -> Result<Option<u64>> {
    let nets = bench.networks(trial)?;
    let mut phase = bench.phase(&nets, trial)?;
    let mut target = spec.start as f64;
    let mut held: Option<u64> = None;
    loop {
        let batch = (target.round() as u64).min(spec.max_batch);
        phase.extend(batch.saturating_sub(phase.batch()))?;
        if bench.success(&phase, trial)? {
            if let Some(first) = held {
                return Ok(Some(first));
            }
            held = Some(phase.batch());
        } else {
            held = None;
        }
        if batch >= spec.max_batch {
            return Ok(held);
        }
        target = (target * spec.factor).max(target + 1.0);
    }
}

fn summarise(batches: Vec<Option<u64>>, spec: GrowthSpec) -> Result<RecoveryBatches> {
    let failures = batches.iter().filter(|b| b.is_none()).count() as u64;
    let mut found: Vec<f64> = batches.iter().flatten().map(|&b| b as f64).collect();
    let median_of_successes = (!found.is_empty()).then(|| median(&mut found));
    let mut all: Vec<f64> = batches.iter().map(|b| b.map_or(f64::INFINITY, |b| b as f64)).collect();
    let median = Some(median(&mut all)).filter(|m| m.is_finite());
    let failure_interval = clopper_pearson(failures, batches.len() as u64, spec.confidence)?;
    Ok(RecoveryBatches { batches, median, median_of_successes, failures, failure_interval, spec })
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use std::cell::Cell;

    fn experiment(source: Source, d: usize, criterion: Criterion) -> Experiment {
        Experiment {
            problem: Problem::first(d, 2).unwrap(),
            source,
            neurons: 24,
            criterion,
            seed: 9,
            cancel: None,
        }
    }

    #[test]
    fn cancelled_and_resumed_equals_uninterrupted() {
        let e = experiment(Source::Labels, 13, Criterion::Neurons(0.9));
        let spec = GrowthSpec { trials: 17, ..GrowthSpec::default() };
        let whole = recovery_batches(&e, spec, &mut RecoveryLog::default(), &quiet).unwrap();
        let mut log = RecoveryLog::default();
        let calls = Cell::new(0);
        let stop = |_: &Progress| {
            calls.set(calls.get() + 1);
            if calls.get() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        assert_eq!(recovery_batches(&e, spec, &mut log, &stop), Err(TheoryError::Cancelled));
        let saved = serde_json::to_string(&log).unwrap();
        let mut log: RecoveryLog = serde_json::from_str(&saved).unwrap();
        assert!(!log.batches.is_empty() && log.batches.len() < 17);
        assert_eq!(recovery_batches(&e, spec, &mut log, &quiet).unwrap(), whole);
        let other = Experiment { seed: 10, ..e };
        assert!(
            recovery_batches(&other, spec, &mut log, &quiet).is_err(),
            "a log of another seed must be refused"
        );
    }

    #[test]
    fn fixed_batch_search_brackets_the_median_of_growing_batches() {
        let e = experiment(Source::Labels, 21, Criterion::Neurons(0.9));
        let growth = recovery_batches(
            &e,
            GrowthSpec { trials: 41, factor: 1.1, ..GrowthSpec::default() },
            &mut RecoveryLog::default(),
            &quiet,
        )
        .unwrap();
        let spec = SearchSpec { delta: 0.5, trials: 41, ..SearchSpec::default() };
        let fixed = smallest_batch(&e, spec, &mut BatchLog::default(), &quiet).unwrap();
        let ratio = fixed.batch.unwrap() as f64 / growth.median.unwrap();
        assert!((0.8..2.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn loss_criterion_needs_the_support() {
        let second = SecondPhase { samples: 20_000, radius: 30.0, feature_norm: 8.0 };
        let loss = Criterion::Loss { epsilon: 0.3, second, layer: FirstLayer::PrunedInit };
        let spec =
            SearchSpec { trials: 5, delta: 0.2, start: 4096, resolution: 4.0, ..SearchSpec::default() };
        let e = experiment(Source::Labels, 11, loss);
        let found = smallest_batch(&e, spec, &mut BatchLog::default(), &quiet).unwrap();
        assert!(found.batch.unwrap() >= 30 && found.not_enough > 0, "{found:?}");
    }
}
