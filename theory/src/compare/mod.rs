//! Bounds against measurements over a grid of (k, d): every line of the plot, its slope, and whether measured
//! points lie where they must.

mod assemble;
mod model;
mod verdicts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use model::{
    CompareSpec, Comparison, FEWEST_SURVIVORS, Fitted, Line, Point, RecoveryPoint, Role, SlopeVerdict,
    Verdict,
};

use crate::bounds::{
    Bound, GradientStatistics, first_phase_bound, predicted_batch, pruned_layer, second_phase_draws,
};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::gradient::fourier_gap;
use crate::measure::{
    Callback, Criterion, Experiment, GrowthSpec, RecoveryBatches, RecoveryLog, Source, recovery_batches,
};
use crate::recovery::{RecoveryPrediction, SignSumModel};
use crate::total::TUNED_STEP;
use crate::two_phase::{OutputSigns, Problem, SecondPhase, phase_one_teacher};
use assemble::assemble;

/// Finished trials of all measurements, resumable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompareLog {
    logs: BTreeMap<String, RecoveryLog>,
}

/// Runs bounds and measurements over the grid.
///
/// With the defaults (k = 4, d = 15..57) a minute or so on two cores. Pairs without first-order signal or
/// with `k >= d` are listed in `skipped`.
///
/// ```
/// use curricle_theory::{compare::*, measure::quiet};
/// let spec = CompareSpec { k: vec![2], d: vec![9, 15, 25], neurons: 16, label_trials: 5, teachers: 9, statistics_samples: 1 << 14, ..CompareSpec::default() };
/// let comparison = compare(&spec, &mut CompareLog::default(), &quiet, None)?;
/// let labels = comparison.lines.iter().find(|l| l.name == "measured_labels").unwrap();
/// assert!(labels.points.iter().all(|p| p.samples.is_some()));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn compare(
    spec: &CompareSpec,
    log: &mut CompareLog,
    progress: Callback<'_>,
    cancel: Option<&Arc<AtomicBool>>,
) -> Result<Comparison> {
    for (what, value) in [
        ("delta", spec.delta),
        ("epsilon", spec.epsilon),
        ("confidence", spec.confidence),
        ("fraction", spec.fraction),
    ] {
        check_unit(what, value)?;
    }
    if spec.k.is_empty() || spec.d.is_empty() {
        return out_of_range("grid", "empty", "at least one k and one d", "give --k and --d");
    }
    let mut out = Comparison {
        spec: spec.clone(),
        lines: vec![],
        verdicts: vec![],
        slopes: vec![],
        recovery: vec![],
        fitted: vec![],
        skipped: vec![],
    };
    let mut dimensions = spec.d.clone();
    dimensions.sort_unstable();
    dimensions.dedup();
    for &k in &spec.k {
        let mut cells = Vec::new();
        for &d in &dimensions {
            if k >= d || k < 2 {
                out.skipped.push(format!("k = {k}, d = {d}: needs 2 <= k < d"));
                continue;
            }
            // Before anything is measured: a point without a gap has no bound and no prediction.
            match usable(d, k) {
                Ok(()) => cells.push(cell(spec, Problem::first(d, k)?, log, progress, cancel)?),
                Err(e @ (TheoryError::NoFirstOrderSignal { .. } | TheoryError::NoGap { .. })) => {
                    out.skipped.push(format!("k = {k}, d = {d}: {e}"));
                }
                Err(e) => return Err(e),
            }
        }
        if !cells.is_empty() {
            assemble(spec, k, &cells, &mut out)?;
        }
    }
    Ok(out)
}

/// Measurements and bounds at one (k, d).
struct Cell {
    problem: Problem,
    labels: RecoveryBatches,
    teachers: RecoveryBatches,
    /// One-shot from final teachers.
    one_shot: Option<RecoveryBatches>,
    /// Each teacher's own bound and prediction.
    own: Vec<(Option<f64>, Option<f64>)>,
    predicted: Option<RecoveryPrediction>,
}

/// Do labels have a positive gap at these sizes?
pub fn usable(d: usize, k: usize) -> Result<()> {
    let gap = fourier_gap(d, k, 0.5)?.gap;
    if gap > 0.0 {
        return Ok(());
    }
    Err(TheoryError::NoGap {
        of: "labels",
        gap,
        instead: "levels k-1 and k+1 are equally large at these sizes; raise d",
    })
}

fn cell(
    spec: &CompareSpec,
    problem: Problem,
    log: &mut CompareLog,
    progress: Callback<'_>,
    cancel: Option<&Arc<AtomicBool>>,
) -> Result<Cell> {
    let (d, k) = (problem.dimension(), problem.k());
    let experiment = |source| Experiment {
        problem: problem.clone(),
        source,
        neurons: spec.neurons,
        criterion: Criterion::Neurons(spec.fraction),
        seed: spec.seed,
        cancel: cancel.cloned(),
    };
    let growth = |trials, start, max_batch| GrowthSpec {
        trials,
        start: std::cmp::min(start, max_batch),
        max_batch,
        confidence: spec.confidence,
        ..GrowthSpec::default()
    };
    let slot = log.logs.entry(format!("labels k={k} d={d}")).or_default();
    let labels = recovery_batches(
        &experiment(Source::Labels),
        growth(spec.label_trials, 256, spec.label_max_batch),
        slot,
        progress,
    )?;
    let slot = log.logs.entry(format!("phase-one k={k} d={d}")).or_default();
    let source = Source::PhaseOne { teacher: spec.teacher.clone(), fixed: None };
    let teachers = recovery_batches(
        &experiment(source),
        growth(spec.teachers, 16, spec.teacher_max_batch),
        slot,
        progress,
    )?;
    let mut one_shot = None;
    if spec.final_teachers > 0
        && let Some(second) = final_second_phase(spec, &problem)?
    {
        let slot = log.logs.entry(format!("one-shot k={k} d={d}")).or_default();
        let source = Source::Final { teacher: spec.teacher.clone(), second, fixed: None };
        let growth = growth(spec.final_teachers, 256, spec.final_max_batch);
        one_shot = Some(recovery_batches(&experiment(source), growth, slot, progress)?);
    }
    let own = (0..spec.teachers)
        .into_par_iter()
        .map(|index| own_bound(spec, &problem, index))
        .collect::<Result<_>>()?;
    let model = spec.teacher.plus_probability == 0.5
        && spec.teacher.output == OutputSigns::Mirrored
        && d % 2 == 1
        && !spec.teacher.centred;
    let predicted = match model {
        true => Some(SignSumModel::new(d, k, spec.teacher.width)?.predict(
            spec.teacher_max_batch,
            spec.fraction,
            spec.teacher.batch,
            1000,
            spec.seed,
        )?),
        false => None,
    };
    Ok(Cell { problem, labels, teachers, one_shot, own, predicted })
}

/// Second phase of the final teachers: radius and norm of the median pruned layer of their width, and as many
/// samples as a tuned step needs (module `total` measures them). `None` when that width has no comparator.
fn final_second_phase(spec: &CompareSpec, problem: &Problem) -> Result<Option<SecondPhase>> {
    const SAMPLES: u64 = 1 << 16;
    let k = problem.k();
    let small = Problem::first(k, k)?;
    let layer = |draw| pruned_layer(k, spec.teacher.width, spec.seed, draw);
    match second_phase_draws(&small, spec.epsilon, 9, spec.seed, layer) {
        Ok(b) => Ok(Some(SecondPhase {
            samples: SAMPLES,
            radius: b.ingredients["A"],
            feature_norm: b.ingredients["R"] / TUNED_STEP,
        })),
        Err(TheoryError::NoComparator { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn own_bound(spec: &CompareSpec, problem: &Problem, index: u64) -> Result<(Option<f64>, Option<f64>)> {
    let net = phase_one_teacher(problem, &spec.teacher, spec.seed, index)?;
    // With odd d and an odd teacher all neurons share one gradient; with even d a few neurons show the
    // spread.
    let statistics =
        GradientStatistics::sampled(&net, problem, 4, spec.statistics_samples, spec.seed ^ index)?;
    Ok((
        optional(first_phase_bound(&statistics, spec.neurons, spec.delta, spec.fraction))?,
        optional(predicted_batch(&statistics, spec.fraction))?,
    ))
}

fn optional(bound: Result<Bound>) -> Result<Option<f64>> {
    match bound {
        Ok(b) => Ok(Some(b.samples)),
        Err(TheoryError::NoGap { .. } | TheoryError::TeachersFail { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::quiet;

    #[test]
    fn points_without_a_gap_are_skipped_before_anything_is_measured() {
        // d = 7, k = 4 and d = 3, k = 2: levels k-1 and k+1 are equal; the old code failed after measuring.
        let spec = CompareSpec { k: vec![4, 2], d: vec![3, 7], ..CompareSpec::default() };
        let labels_only = CompareSpec { k: vec![4], d: vec![7], ..spec.clone() };
        let found = compare(&labels_only, &mut CompareLog::default(), &quiet, None).unwrap();
        assert!(found.lines.is_empty() && found.skipped.len() == 1, "{:?}", found.skipped);
        assert!(usable(3, 2).is_err() && usable(7, 2).is_ok() && usable(9, 3).is_err());
    }

    #[test]
    fn slopes_and_verdicts_of_a_small_grid() {
        let spec = CompareSpec {
            k: vec![3, 4],
            d: vec![15, 21, 29, 3],
            label_trials: 9,
            teachers: 24,
            statistics_samples: 1 << 16,
            ..CompareSpec::default()
        };
        let comparison = compare(&spec, &mut CompareLog::default(), &quiet, None).unwrap();
        assert_eq!(comparison.skipped.len(), 5, "k = 3 with odd d, and k >= d: {:?}", comparison.skipped);
        let slope = |name: &str| {
            comparison.lines.iter().find(|l| l.name == name).and_then(|l| l.fit.as_ref()).unwrap().slope
        };
        assert!((slope("measured_labels") - 3.0).abs() < 0.5, "{}", slope("measured_labels"));
        assert!(slope("measured_phase_one").abs() < 1.2, "{}", slope("measured_phase_one"));
        for v in comparison.verdicts.iter().filter(|v| v.line != "measured_one_shot") {
            assert_ne!(v.holds, Some(false), "{v:?}");
        }
        assert!(comparison.verdicts.iter().any(|v| v.line == "measured_labels" && v.holds == Some(true)));
        // Three dimensions decide no slope.
        assert!(comparison.slopes.iter().all(|s| s.holds.is_none() && s.expected.is_some()));
        let json = serde_json::to_string(&comparison).unwrap();
        assert!(!json.contains("NaN"));
    }
}
