//! Bounds against measurements over a grid of (k, d): every line of the plot, its slope, and whether measured points lie where they must.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bounds::{
    Bound, Constants, GradientStatistics, crossover, first_phase_bound, headline_one_shot,
    headline_progressive, information_labels, information_teacher, labels_first_phase,
    phase_one_typical, predicted_batch, statistical_query,
};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fit::{
    FittedConstant, Interval, PowerLaw, bootstrap_slope, fitted_constant, median, power_law,
};
use crate::measure::{
    Callback, Criterion, Experiment, GrowthSpec, RecoveryBatches, RecoveryLog, Source,
    recovery_batches,
};
use crate::recovery::{RecoveryPrediction, SignSumModel};
use crate::two_phase::{Problem, TeacherSpec, phase_one_teacher};

/// What to compare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompareSpec {
    /// Support sizes.
    pub k: Vec<usize>,
    /// Dimensions.
    pub d: Vec<usize>,
    /// Distinct student neurons, in the measurements and as the width in the bounds.
    pub neurons: usize,
    /// Success criterion: this fraction of the neurons ranks the support on top.
    pub fraction: f64,
    /// Failure probability in the bounds.
    pub delta: f64,
    /// Loss in the headline.
    pub epsilon: f64,
    /// Confidence of all intervals.
    pub confidence: f64,
    /// Teacher construction.
    pub teacher: TeacherSpec,
    /// Trials from labels.
    pub label_trials: u64,
    /// Largest batch from labels.
    pub label_max_batch: u64,
    /// Phase-one teachers per point.
    pub teachers: u64,
    /// Largest batch from a teacher.
    pub teacher_max_batch: u64,
    /// Samples to measure each teacher's gradient statistics with.
    pub statistics_samples: u64,
    /// Seed.
    pub seed: u64,
}

impl Default for CompareSpec {
    fn default() -> Self {
        Self {
            k: vec![4],
            d: vec![15, 21, 29, 41, 57],
            neurons: 32,
            fraction: 0.9,
            delta: 0.1,
            epsilon: 0.1,
            confidence: 0.95,
            teacher: TeacherSpec::default(),
            label_trials: 21,
            label_max_batch: 1 << 28,
            teachers: 61,
            teacher_max_batch: 100_000,
            statistics_samples: 1 << 17,
            seed: 1,
        }
    }
}

/// Role of a line in the plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// From trials.
    Measured,
    /// Explicit upper bound.
    Upper,
    /// Lower line.
    Lower,
    /// Order of growth, unit constants.
    Order,
    /// Order of growth, fitted constant.
    Fitted,
    /// Central estimate.
    Prediction,
}

/// One point; `samples` is `None` where the line does not exist, and `note` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Dimension.
    pub d: usize,
    /// Samples.
    pub samples: Option<f64>,
    /// Remark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One line of the plot at one k.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Name.
    pub name: String,
    /// Support size.
    pub k: usize,
    /// Role.
    pub role: Role,
    /// Points, ascending in d.
    pub points: Vec<Point>,
    /// Log-log fit in d where at least two points exist.
    pub fit: Option<PowerLaw>,
    /// Bootstrap interval of the slope over trials or teachers (measured lines).
    pub bootstrap: Option<Interval>,
}

/// Is a measured point between its lower and upper line?
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Measured line.
    pub line: String,
    /// Support size.
    pub k: usize,
    /// Dimension.
    pub d: usize,
    /// Median (of the successes, for teachers).
    pub measured: Option<f64>,
    /// Largest lower line.
    pub lower: f64,
    /// Upper bound (the median over teachers of each one's own).
    pub upper: Option<f64>,
    /// Trials measured and with a bound of their own.
    pub compared: u64,
    /// Of these, how many needed more than their own bound.
    pub above_own_bound: u64,
    /// Measured between the two, and no trial above its own bound; `None` when nothing was measured.
    pub holds: Option<bool>,
}

/// Recovery from phase-one teachers at one (k, d).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoveryPoint {
    /// Support size.
    pub k: usize,
    /// Dimension.
    pub d: usize,
    /// Teachers from which the support was recovered.
    pub recovered: u64,
    /// Teachers.
    pub teachers: u64,
    /// Interval of the failure probability.
    pub failure_interval: Interval,
    /// The sign-sum model's prediction (d odd, mirrored fair teachers).
    pub predicted: Option<RecoveryPrediction>,
}

/// Fitted constants of one k.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fitted {
    /// Support size.
    pub k: usize,
    /// Of `d^(k-1)` in the labels' first phase.
    pub labels: Option<FittedConstant>,
    /// Of `k^3` in the first phase from a phase-one teacher.
    pub phase_one: Option<FittedConstant>,
    /// Headline crossover in d with unit constants.
    pub crossover_unit: Option<usize>,
    /// The same with the fitted first-phase constants (second-phase constants 1).
    pub crossover_fitted: Option<usize>,
}

/// Everything the plot and the report need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Settings.
    pub spec: CompareSpec,
    /// Lines.
    pub lines: Vec<Line>,
    /// Verdicts per measured point.
    pub verdicts: Vec<Verdict>,
    /// Recovery per (k, d).
    pub recovery: Vec<RecoveryPoint>,
    /// Constants per k.
    pub fitted: Vec<Fitted>,
    /// Pairs (k, d) left out, with the reason.
    pub skipped: Vec<String>,
}

/// Finished trials of all measurements, resumable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompareLog {
    logs: BTreeMap<String, RecoveryLog>,
}

/// Runs bounds and measurements over the grid.
///
/// With the defaults (k = 4, d = 15..57) a minute or so on two cores. Pairs without first-order signal or with `k >= d` are listed in `skipped`.
///
/// ```
/// use curricle_theory::{compare::*, measure::quiet};
/// let spec = CompareSpec { k: vec![2], d: vec![9, 15, 25], neurons: 16, label_trials: 5, teachers: 9, statistics_samples: 1 << 14, ..CompareSpec::default() };
/// let comparison = compare(&spec, &mut CompareLog::default(), &quiet)?;
/// let labels = comparison.lines.iter().find(|l| l.name == "measured_labels").unwrap();
/// assert!(labels.points.iter().all(|p| p.samples.is_some()));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn compare(
    spec: &CompareSpec,
    log: &mut CompareLog,
    progress: Callback<'_>,
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
        return out_of_range(
            "grid",
            "empty",
            "at least one k and one d",
            "give --k and --d",
        );
    }
    let mut out = Comparison {
        spec: spec.clone(),
        lines: vec![],
        verdicts: vec![],
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
                out.skipped
                    .push(format!("k = {k}, d = {d}: needs 2 <= k < d"));
                continue;
            }
            match Problem::first(d, k) {
                Ok(problem) => cells.push(cell(spec, problem, log, progress)?),
                Err(e @ TheoryError::NoFirstOrderSignal { .. }) => out.skipped.push(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        if !cells.is_empty() {
            assemble(spec, k, &cells, &mut out)?;
        }
    }
    Ok(out)
}

/// Samples and a note.
type Value = (Option<f64>, Option<String>);

/// Measurements and bounds at one (k, d).
struct Cell {
    problem: Problem,
    labels: RecoveryBatches,
    teachers: RecoveryBatches,
    /// Each teacher's own bound and prediction.
    own: Vec<(Option<f64>, Option<f64>)>,
    predicted: Option<RecoveryPrediction>,
}

fn cell(
    spec: &CompareSpec,
    problem: Problem,
    log: &mut CompareLog,
    progress: Callback<'_>,
) -> Result<Cell> {
    let (d, k) = (problem.dimension(), problem.k());
    let experiment = |source| Experiment {
        problem: problem.clone(),
        source,
        neurons: spec.neurons,
        criterion: Criterion::Neurons(spec.fraction),
        seed: spec.seed,
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
    let slot = log
        .logs
        .entry(format!("phase-one k={k} d={d}"))
        .or_default();
    let source = Source::PhaseOne {
        teacher: spec.teacher.clone(),
        fixed: None,
    };
    let teachers = recovery_batches(
        &experiment(source),
        growth(spec.teachers, 16, spec.teacher_max_batch),
        slot,
        progress,
    )?;
    let own = (0..spec.teachers)
        .into_par_iter()
        .map(|index| own_bound(spec, &problem, index))
        .collect::<Result<_>>()?;
    let model = spec.teacher.plus_probability == 0.5
        && spec.teacher.output == crate::two_phase::OutputSigns::Mirrored
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
    Ok(Cell {
        problem,
        labels,
        teachers,
        own,
        predicted,
    })
}

fn own_bound(
    spec: &CompareSpec,
    problem: &Problem,
    index: u64,
) -> Result<(Option<f64>, Option<f64>)> {
    let net = phase_one_teacher(problem, &spec.teacher, spec.seed, index)?;
    // With odd d and an odd teacher all neurons share one gradient; with even d a few neurons show the spread.
    let statistics =
        GradientStatistics::sampled(&net, problem, 4, spec.statistics_samples, spec.seed ^ index)?;
    Ok((
        optional(first_phase_bound(
            &statistics,
            spec.neurons,
            spec.delta,
            spec.fraction,
        ))?,
        optional(predicted_batch(&statistics, spec.fraction))?,
    ))
}

fn optional(bound: Result<Bound>) -> Result<Option<f64>> {
    match bound {
        Ok(b) => Ok(Some(b.samples)),
        Err(TheoryError::NoGap { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn assemble(spec: &CompareSpec, k: usize, cells: &[Cell], out: &mut Comparison) -> Result<()> {
    let d_of = |c: &Cell| c.problem.dimension();
    let mut line = |name: &str,
                    role: Role,
                    value: &dyn Fn(&Cell) -> Result<Value>,
                    groups: Vec<(f64, Vec<f64>)>|
     -> Result<()> {
        let mut points = Vec::new();
        for c in cells {
            let (samples, note) = value(c)?;
            points.push(Point {
                d: d_of(c),
                samples,
                note,
            });
        }
        let known: Vec<(f64, f64)> = points
            .iter()
            .filter_map(|p| Some((p.d as f64, p.samples.filter(|s| *s > 0.0)?)))
            .collect();
        let fit = if known.len() > 1 {
            Some(power_law(&known, spec.confidence)?)
        } else {
            None
        };
        let bootstrap = if groups.len() > 1 {
            Some(bootstrap_slope(&groups, 1000, spec.confidence, spec.seed)?)
        } else {
            None
        };
        out.lines.push(Line {
            name: name.into(),
            k,
            role,
            points,
            fit,
            bootstrap,
        });
        Ok(())
    };
    let plain = |b: Result<Bound>| b.map(|b| (Some(b.samples), None));
    let groups = |of: &dyn Fn(&Cell) -> &RecoveryBatches| -> Vec<(f64, Vec<f64>)> {
        let found = |c: &Cell| {
            of(c)
                .batches
                .iter()
                .flatten()
                .map(|&b| b as f64)
                .collect::<Vec<_>>()
        };
        cells
            .iter()
            .map(|c| (d_of(c) as f64, found(c)))
            .filter(|g| !g.1.is_empty())
            .collect()
    };
    line(
        "measured_labels",
        Role::Measured,
        &|c| Ok((c.labels.median, failure_note(&c.labels))),
        groups(&|c| &c.labels),
    )?;
    line(
        "measured_phase_one",
        Role::Measured,
        &|c| Ok((c.teachers.median_of_successes, failure_note(&c.teachers))),
        groups(&|c| &c.teachers),
    )?;
    line(
        "information_labels",
        Role::Lower,
        &|c| plain(information_labels(d_of(c), k, spec.delta)),
        vec![],
    )?;
    line(
        "information_teacher",
        Role::Lower,
        &|c| plain(information_teacher(d_of(c), k, spec.delta.min(0.49))),
        vec![],
    )?;
    line(
        "statistical_query",
        Role::Lower,
        &|c| plain(statistical_query(d_of(c), k, spec.neurons, spec.delta)),
        vec![],
    )?;
    line(
        "statistical_query_order",
        Role::Order,
        &|c| Ok((Some((d_of(c) as f64).powi(k as i32 - 1)), None)),
        vec![],
    )?;
    line(
        "bound_labels",
        Role::Upper,
        &|c| {
            plain(labels_first_phase(
                d_of(c),
                k,
                0.5,
                spec.neurons,
                spec.delta,
            ))
        },
        vec![],
    )?;
    line(
        "bound_phase_one",
        Role::Upper,
        &|c| {
            Ok((
                median_own(c, |o| o.0),
                Some("median over the recovered teachers of each one's bound".into()),
            ))
        },
        vec![],
    )?;
    line(
        "predicted_labels",
        Role::Prediction,
        &|c| {
            plain(predicted_batch(
                &GradientStatistics::labels(d_of(c), k, 0.5)?,
                spec.fraction,
            ))
        },
        vec![],
    )?;
    line(
        "predicted_phase_one",
        Role::Prediction,
        &|c| Ok((median_own(c, |o| o.1), None)),
        vec![],
    )?;
    let typical = |c: &Cell| match phase_one_typical(
        d_of(c),
        k,
        spec.teacher.width,
        spec.neurons,
        spec.delta,
    ) {
        Ok(b) => Ok((Some(b.samples), None)),
        Err(e @ TheoryError::NoGap { .. }) => Ok((None, Some(e.to_string()))),
        Err(e) => Err(e),
    };
    if spec.teacher.width.is_multiple_of(2) {
        line("bound_phase_one_typical", Role::Upper, &typical, vec![])?;
    }
    line(
        "headline_one_shot",
        Role::Order,
        &|c| {
            plain(headline_one_shot(
                d_of(c),
                k,
                spec.epsilon,
                Constants::default(),
            ))
        },
        vec![],
    )?;
    line(
        "headline_progressive",
        Role::Order,
        &|c| {
            plain(headline_progressive(
                d_of(c),
                k,
                spec.epsilon,
                Constants::default(),
            ))
        },
        vec![],
    )?;

    let constant = |pairs: Vec<(f64, f64)>| {
        if pairs.is_empty() {
            Ok(None)
        } else {
            fitted_constant(&pairs, spec.confidence).map(Some)
        }
    };
    let labels = constant(
        cells
            .iter()
            .filter_map(|c| Some(((d_of(c) as f64).powi(k as i32 - 1), c.labels.median?)))
            .collect(),
    )?;
    let phase_one = constant(
        cells
            .iter()
            .filter_map(|c| Some(((k as f64).powi(3), c.teachers.median_of_successes?)))
            .collect(),
    )?;
    let mut constants = Constants::default();
    if let Some(c) = &labels {
        constants.labels = c.constant;
        line(
            "fitted_labels",
            Role::Fitted,
            &|x| Ok((Some(c.constant * (d_of(x) as f64).powi(k as i32 - 1)), None)),
            vec![],
        )?;
    }
    if let Some(c) = &phase_one {
        constants.first_phase = c.constant;
        line(
            "fitted_phase_one",
            Role::Fitted,
            &|_| Ok((Some(c.constant * (k as f64).powi(3)), None)),
            vec![],
        )?;
    }
    if labels.is_some() && phase_one.is_some() {
        line(
            "headline_progressive_fitted",
            Role::Fitted,
            &|c| plain(headline_progressive(d_of(c), k, spec.epsilon, constants)),
            vec![],
        )?;
    }
    out.fitted.push(Fitted {
        k,
        labels,
        phase_one,
        crossover_unit: crossover(k, spec.epsilon, Constants::default())?,
        crossover_fitted: crossover(k, spec.epsilon, constants)?,
    });
    for c in cells {
        verdicts(spec, c, out)?;
    }
    Ok(())
}

fn verdicts(spec: &CompareSpec, c: &Cell, out: &mut Comparison) -> Result<()> {
    let (d, k) = (c.problem.dimension(), c.problem.k());
    let upper = labels_first_phase(d, k, 0.5, spec.neurons, spec.delta)?.samples;
    let lower = information_labels(d, k, spec.delta)?
        .samples
        .max(statistical_query(d, k, spec.neurons, spec.delta)?.samples);
    let above = c
        .labels
        .batches
        .iter()
        .filter(|b| b.is_none_or(|b| b as f64 > upper))
        .count() as u64;
    let settled = |measured: Option<f64>, lower: f64, upper: Option<f64>, above: u64| {
        measured.map(|m| m >= lower && upper.is_none_or(|u| m <= u) && above == 0)
    };
    let holds = settled(c.labels.median, lower, Some(upper), above);
    let compared = c.labels.batches.len() as u64;
    out.verdicts.push(Verdict {
        line: "measured_labels".into(),
        k,
        d,
        measured: c.labels.median,
        lower,
        upper: Some(upper),
        compared,
        above_own_bound: above,
        holds,
    });

    let lower = information_teacher(d, k, spec.delta.min(0.49))?.samples;
    let upper = median_own(c, |o| o.0);
    let pairs: Vec<(f64, f64)> = c
        .teachers
        .batches
        .iter()
        .zip(&c.own)
        .filter_map(|(b, o)| Some(((*b)? as f64, o.0?)))
        .collect();
    let above = pairs.iter().filter(|(b, bound)| b > bound).count() as u64;
    let measured = c.teachers.median_of_successes;
    let holds = settled(measured, lower, upper, above);
    out.verdicts.push(Verdict {
        line: "measured_phase_one".into(),
        k,
        d,
        measured,
        lower,
        upper,
        compared: pairs.len() as u64,
        above_own_bound: above,
        holds,
    });
    out.recovery.push(RecoveryPoint {
        k,
        d,
        recovered: c.teachers.batches.len() as u64 - c.teachers.failures,
        teachers: c.teachers.batches.len() as u64,
        failure_interval: c.teachers.failure_interval,
        predicted: c.predicted.clone(),
    });
    Ok(())
}

fn failure_note(r: &RecoveryBatches) -> Option<String> {
    (r.failures > 0).then(|| {
        format!(
            "{} of {} trials not recovered with {} samples",
            r.failures,
            r.batches.len(),
            r.spec.max_batch
        )
    })
}

/// Median of a teacher's own number over the teachers that recovered and have one.
fn median_own(c: &Cell, of: impl Fn(&(Option<f64>, Option<f64>)) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = c
        .teachers
        .batches
        .iter()
        .zip(&c.own)
        .filter_map(|(b, o)| b.and(of(o)))
        .collect();
    (!values.is_empty()).then(|| median(&mut values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::quiet;

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
        let comparison = compare(&spec, &mut CompareLog::default(), &quiet).unwrap();
        assert_eq!(
            comparison.skipped.len(),
            5,
            "k = 3 with odd d, and k >= d: {:?}",
            comparison.skipped
        );
        let slope = |name: &str| {
            comparison
                .lines
                .iter()
                .find(|l| l.name == name)
                .and_then(|l| l.fit.as_ref())
                .unwrap()
                .slope
        };
        assert!(
            (slope("measured_labels") - 3.0).abs() < 0.5,
            "{}",
            slope("measured_labels")
        );
        assert!(
            slope("measured_phase_one").abs() < 1.2,
            "{}",
            slope("measured_phase_one")
        );
        for v in &comparison.verdicts {
            assert_eq!(v.holds, Some(true), "{v:?}");
        }
        let json = serde_json::to_string(&comparison).unwrap();
        assert!(!json.contains("NaN"));
    }
}
