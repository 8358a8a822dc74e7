//! What measured points and slopes say about their lines.

use super::assemble::median_own;
use super::{Cell, CompareSpec, Comparison, FEWEST_SURVIVORS, RecoveryPoint, SlopeVerdict, Verdict};
use crate::bounds::{
    GradientStatistics, information_labels, information_teacher, labels_first_phase, one_step_labels,
    predicted_batch, statistical_query,
};
use crate::error::Result;
use crate::fit::{Interval, bootstrap_slope, power_law};
use crate::measure::RecoveryBatches;

/// Adds the verdicts of one cell.
pub(super) fn verdicts(spec: &CompareSpec, c: &Cell, out: &mut Comparison) -> Result<()> {
    let (d, k) = (c.problem.dimension(), c.problem.k());
    let upper = labels_first_phase(d, k, 0.5, spec.neurons, spec.delta)?.samples;
    let lower = information_labels(d, k, spec.delta)?
        .samples
        .max(statistical_query(d, k, spec.neurons, spec.delta)?.samples)
        .max(one_step_labels(d, k, spec.fraction, spec.delta)?.samples);
    let predicted = predicted_batch(&GradientStatistics::labels(d, k, 0.5)?, spec.fraction)?.samples;
    let own = vec![Some(upper); c.labels.batches.len()];
    let of_labels = Judged { line: "measured_labels", lower, upper: Some(upper), predicted: Some(predicted) };
    out.verdicts.push(judge(spec, c, &c.labels, &own, of_labels, true));

    let lower = information_teacher(d, k, spec.delta.min(0.49))?.samples;
    let own: Vec<Option<f64>> = c.own.iter().map(|o| o.0).collect();
    let of_teachers = Judged {
        line: "measured_phase_one",
        lower,
        upper: median_own(c, |o| o.0),
        predicted: median_own(c, |o| o.1),
    };
    out.verdicts.push(judge(spec, c, &c.teachers, &own, of_teachers, false));

    if let Some(one_shot) = &c.one_shot {
        let own = vec![None; one_shot.batches.len()];
        let of_final = Judged { line: "measured_one_shot", lower, upper: None, predicted: None };
        out.verdicts.push(judge(spec, c, one_shot, &own, of_final, false));
    }
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

struct Judged {
    line: &'static str,
    lower: f64,
    upper: Option<f64>,
    predicted: Option<f64>,
}

/// `labels`: the lines are about a probability `1 - delta`, so the quantile is held against them and the
/// median against the central estimate.
fn judge(
    spec: &CompareSpec,
    c: &Cell,
    measured: &RecoveryBatches,
    own: &[Option<f64>],
    of: Judged,
    labels: bool,
) -> Verdict {
    let (mut compared, mut above, mut undecided) = (0, 0, 0);
    for (batch, bound) in measured.batches.iter().zip(own) {
        let Some(bound) = bound else { continue };
        match batch {
            Some(b) if *b as f64 > *bound => above += 1,
            None if measured.spec.max_batch as f64 >= *bound => above += 1,
            None => {
                undecided += 1;
                continue;
            }
            Some(_) => {}
        }
        compared += 1;
    }
    let survivors = measured.batches.len() as u64 - measured.failures;
    let median = if labels { measured.median } else { measured.median_of_successes };
    let quantile = quantile(&measured.batches, 1.0 - spec.delta);
    let ratio = median.zip(of.predicted).map(|(m, p)| m / p);
    let against = if labels { quantile } else { median };
    let central = !labels || ratio.is_some_and(|r| (0.5..=2.0).contains(&r));
    let holds = against
        .filter(|_| survivors >= FEWEST_SURVIVORS)
        .map(|v| v >= of.lower && of.upper.is_none_or(|u| v <= u) && above == 0 && central);
    Verdict {
        line: of.line.into(),
        k: c.problem.k(),
        d: c.problem.dimension(),
        measured: median,
        quantile,
        lower: of.lower,
        upper: of.upper,
        predicted: of.predicted,
        ratio,
        survivors,
        compared,
        above_own_bound: above,
        undecided,
        holds,
    }
}

/// Smallest batch by which a share `q` of all trials succeeded.
fn quantile(batches: &[Option<u64>], q: f64) -> Option<f64> {
    let mut all: Vec<f64> = batches.iter().map(|b| b.map_or(f64::INFINITY, |b| b as f64)).collect();
    all.sort_by(f64::total_cmp);
    let index = ((q * all.len() as f64 - 1e-9).ceil() as usize).clamp(1, all.len()) - 1;
    Some(all[index]).filter(|v| v.is_finite())
}

/// Adds the verdicts on the slopes of one k.
pub(super) fn slopes(spec: &CompareSpec, k: usize, cells: &[Cell], out: &mut Comparison) {
    for (name, prediction, limit) in [
        ("measured_labels", "predicted_labels", k as f64 - 1.0),
        ("measured_phase_one", "predicted_phase_one", 0.0),
    ] {
        let runs = |c: &Cell| match name {
            "measured_labels" => c.labels.clone(),
            _ => c.teachers.clone(),
        };
        let used: Vec<&Cell> = cells
            .iter()
            .filter(|c| runs(c).batches.len() as u64 - runs(c).failures >= FEWEST_SURVIVORS)
            .collect();
        let at = |name: &str, c: &Cell| -> Option<(f64, f64)> {
            let line = out.lines.iter().find(|l| l.k == k && l.name == name)?;
            let point = line.points.iter().find(|p| p.d == c.problem.dimension())?;
            Some((point.d as f64, point.samples?))
        };
        let points: Vec<(f64, f64)> = used.iter().filter_map(|c| at(name, c)).collect();
        let predicted: Vec<(f64, f64)> = used.iter().filter_map(|c| at(prediction, c)).collect();
        let groups: Vec<(f64, Vec<f64>)> = used
            .iter()
            .map(|c| {
                let found = runs(c).batches.iter().flatten().map(|&b| b as f64).collect();
                (c.problem.dimension() as f64, found)
            })
            .collect();
        let fit = power_law(&points, spec.confidence).ok();
        let bootstrap = bootstrap_slope(&groups, 1000, spec.confidence, spec.seed).ok();
        let interval = match (fit.as_ref().and_then(|f| f.slope_interval), bootstrap) {
            (Some(a), Some(b)) => Some(Interval { low: a.low.min(b.low), high: a.high.max(b.high) }),
            (one, other) => one.or(other),
        };
        let expected = power_law(&predicted, spec.confidence).ok().map(|f| f.slope);
        out.slopes.push(SlopeVerdict {
            line: name.into(),
            k,
            slope: fit.map(|f| f.slope),
            interval,
            expected,
            limit,
            dimensions: points.len(),
            holds: slope_holds(points.len(), interval, expected),
        });
    }
}

/// Fewer dimensions than this leave a slope undecided, as does an interval wider than [`WIDEST`].
const FEWEST_DIMENSIONS: usize = 4;
const WIDEST: f64 = 2.0;

fn slope_holds(dimensions: usize, interval: Option<Interval>, expected: Option<f64>) -> Option<bool> {
    let (interval, expected) = (interval?, expected?);
    let tells = dimensions >= FEWEST_DIMENSIONS && interval.high - interval.low <= WIDEST;
    tells.then_some(interval.low <= expected && expected <= interval.high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Criterion, Experiment, GrowthSpec, RecoveryLog, Source, quiet, recovery_batches};
    use crate::two_phase::Problem;

    #[test]
    fn an_interval_that_allows_everything_is_no_pass() {
        let wide = Interval { low: -18.8, high: 19.4 };
        assert_eq!(slope_holds(5, Some(wide), Some(0.0)), None);
        let tight = Interval { low: 2.8, high: 3.2 };
        assert_eq!(slope_holds(5, Some(tight), Some(3.05)), Some(true));
        assert_eq!(slope_holds(5, Some(tight), Some(2.5)), Some(false));
        assert_eq!(slope_holds(3, Some(tight), Some(3.05)), None);
    }

    #[test]
    fn a_teacher_not_recovered_above_its_bound_counts_against_it() {
        let spec = CompareSpec::default();
        let problem = Problem::first(9, 2).unwrap();
        let experiment = Experiment {
            problem: problem.clone(),
            source: Source::Labels,
            neurons: 8,
            criterion: Criterion::Neurons(0.9),
            seed: 1,
            cancel: None,
        };
        let growth = GrowthSpec { trials: 3, max_batch: 1000, ..GrowthSpec::default() };
        let mut runs = recovery_batches(&experiment, growth, &mut RecoveryLog::default(), &quiet).unwrap();
        runs.batches = vec![Some(100), None, None];
        runs.failures = 2;
        let c = Cell {
            problem,
            labels: runs.clone(),
            teachers: runs.clone(),
            one_shot: None,
            own: vec![],
            predicted: None,
        };
        let of = Judged { line: "x", lower: 1.0, upper: None, predicted: None };
        let v = judge(&spec, &c, &runs, &[Some(500.0), Some(500.0), Some(5000.0)], of, false);
        assert_eq!((v.compared, v.above_own_bound, v.undecided, v.holds), (2, 1, 1, None));
    }
}
