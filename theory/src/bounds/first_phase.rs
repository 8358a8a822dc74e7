//! Samples for the first phase.

use serde::Serialize;

use super::{Bound, GradientStatistics, Kind, NeuronStatistics};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fourier::phi;
use crate::net::ReluNet;
use crate::recovery::SignSumModel;
use crate::two_phase::Problem;

/// Enough samples for labels or one-shot distillation, `B = 2 (p + Delta/6) log(2dm/delta) / (Delta/2)^2`: with probability at least
/// `1 - delta` *every* neuron of a student of width `m` ranks the support on top.
///
/// `Delta` is the Fourier gap, `p = P(active)`. Order `d^(k-1) log(dm)`. Domain: `2 <= k < d`, `|bias| < 1`, not both odd.
///
/// ```
/// let b = curricle_theory::bounds::labels_first_phase(41, 4, 0.5, 64, 0.1)?;
/// assert!(b.samples > 5.35e6 && b.samples < 1e8 && b.ingredients["p"] == 0.5);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn labels_first_phase(d: usize, k: usize, bias: f64, width: usize, delta: f64) -> Result<Bound> {
    if k >= d {
        return out_of_range(
            "k",
            k,
            format!("1..={}", d.saturating_sub(1)),
            "with k = d there is nothing to find",
        );
    }
    let statistics = GradientStatistics::labels(d, k, bias)?;
    let mut bound = first_phase_bound(&statistics, width, delta, 1.0)?;
    bound.name = "labels_first_phase".into();
    bound.statement = "labels / one-shot: B >= 2 (p + Delta/6) log(2dm/delta) / (Delta/2)^2, Delta = |hat g(k-1)| - |hat g(k+1)|".into();
    bound.ingredients.insert("p".into(), statistics.neurons[0].second_moment);
    bound.ingredients.insert("Delta".into(), statistics.neurons[0].gap());
    Ok(bound)
}

/// Enough samples for any source of supervision, from the statistics of its gradient:
/// `B = 2 (sigma^2 + M gamma/6) log(2dm/delta) / (gamma/2)^2` per neuron, and the `fraction` quantile over the neurons
/// (1.0: every neuron). Errors: [`TheoryError::NoGap`] when that quantile has no positive gap.
pub fn first_phase_bound(
    statistics: &GradientStatistics,
    width: usize,
    delta: f64,
    fraction: f64,
) -> Result<Bound> {
    check_unit("delta", delta)?;
    check_fraction(fraction)?;
    if width == 0 {
        return out_of_range("width", width, "1..", "give the student's width");
    }
    let log = (2.0 * statistics.d as f64 * width as f64 / delta).ln();
    let need = |n: &NeuronStatistics| {
        let gap = n.gap();
        if gap > 0.0 {
            8.0 * (n.second_moment + statistics.sup * gap / 6.0) * log / (gap * gap)
        } else {
            f64::INFINITY
        }
    };
    let mut order: Vec<&NeuronStatistics> = statistics.neurons.iter().collect();
    order.sort_by(|a, b| need(a).total_cmp(&need(b)));
    let chosen = order[quantile_index(order.len(), fraction)];
    if chosen.gap() <= 0.0 {
        return Err(TheoryError::NoGap { gap: chosen.gap() });
    }
    Bound::new(
        "checkpoint_first_phase",
        Kind::Upper,
        "any source: B >= 2 (sigma^2 + M gamma/6) log(2dm/delta) / (gamma/2)^2, gamma = min inside - max outside of the population gradient",
        need(chosen),
        &[
            ("d", statistics.d as f64),
            ("k", statistics.support.len() as f64),
            ("width", width as f64),
            ("delta", delta),
            ("fraction", fraction),
            ("gamma", chosen.gap()),
            ("inside", chosen.inside),
            ("outside", chosen.outside),
            ("sigma_squared", chosen.second_moment),
            ("sup", statistics.sup),
            ("log_term", log),
            ("standard_error", statistics.standard_error),
        ],
    )
}

/// The first-phase bound for a *typical* phase-one teacher of width `teacher_width` (population batch), by the random-sign model: in-support
/// correlations are independent `N(0, s_in^2)`, the others `N(0, s_out^2)`; `gamma` is half the difference of the medians of their smallest and
/// largest absolute values. Order `k * k^2` times logarithms once `d` is large enough; [`TheoryError::NoGap`] below.
pub fn phase_one_typical(
    d: usize,
    k: usize,
    teacher_width: usize,
    student_width: usize,
    delta: f64,
) -> Result<Bound> {
    let model = SignSumModel::new(d, k, teacher_width)?;
    let (inside, outside) = model.typical_extremes();
    let statistics = GradientStatistics {
        d,
        support: (0..k).collect(),
        neurons: vec![NeuronStatistics {
            means: vec![],
            inside: inside / 2.0,
            outside: outside / 2.0,
            second_moment: model.mean_square / 2.0,
        }],
        sup: model.sup,
        standard_error: 0.0,
    };
    let mut bound = first_phase_bound(&statistics, student_width, delta, 1.0)?;
    bound.name = "phase_one_typical".into();
    bound.statement = "phase-one teacher, typical random signs: the checkpoint bound with gamma from the medians of min |hat f(j)| inside and max outside".into();
    bound.ingredients.insert("teacher_width".into(), teacher_width as f64);
    bound.ingredients.insert("sd_inside".into(), model.sd_inside);
    bound.ingredients.insert("sd_outside".into(), model.sd_outside);
    Ok(bound)
}

/// Central estimate of the batch at which `fraction` of the neurons ranks the support on top: coordinates of the empirical gradient are taken
/// as independent normals `N(mu_j, (sigma^2 - mu_j^2)/B)`, whose probability of being in the right order is integrated numerically.
///
/// Not a bound. Accurate when B is large enough for the central limit (tens of samples) and coordinates are nearly uncorrelated.
pub fn predicted_batch(statistics: &GradientStatistics, fraction: f64) -> Result<Bound> {
    check_fraction(fraction)?;
    if statistics.neurons.iter().any(|n| n.means.len() != statistics.d) {
        return Err(TheoryError::Shape {
            what: "means per neuron",
            expected: statistics.d,
            found: statistics.neurons[0].means.len(),
        });
    }
    let mut gaps: Vec<f64> = statistics.neurons.iter().map(NeuronStatistics::gap).collect();
    gaps.sort_by(|a, b| b.total_cmp(a));
    let gap = gaps[quantile_index(gaps.len(), fraction)];
    if gap <= 0.0 {
        return Err(TheoryError::NoGap { gap });
    }
    let target = fraction.min(0.999);
    let success = |batch: f64| ranking_probability(statistics, batch);
    let (mut low, mut high) = (1.0f64, 1.0f64);
    while success(high) < target {
        low = high;
        high *= 8.0;
        if high > 1e18 {
            return Err(TheoryError::NoGap { gap });
        }
    }
    while high / low > 1.02 {
        let middle = (low * high).sqrt();
        if success(middle) < target { low = middle } else { high = middle }
    }
    Bound::new(
        "predicted_first_phase",
        Kind::Prediction,
        "normal model: smallest B at which the expected fraction of neurons with the support on top reaches the target",
        high,
        &[
            ("fraction", fraction),
            ("gamma", gap),
            ("standard_error", statistics.standard_error),
            ("neurons", statistics.neurons.len() as f64),
        ],
    )
}

/// Mean over neurons of `P(min inside > max outside)` under the normal model.
pub(crate) fn ranking_probability(statistics: &GradientStatistics, batch: f64) -> f64 {
    let total: f64 =
        statistics.neurons.iter().map(|n| neuron_probability(n, &statistics.support, batch)).sum();
    total / statistics.neurons.len() as f64
}

fn neuron_probability(neuron: &NeuronStatistics, support: &[usize], batch: f64) -> f64 {
    const STEPS: usize = 48;
    let sd = |mean: f64| ((neuron.second_moment - mean * mean).max(1e-300) / batch).sqrt();
    let below = |mean: f64, t: f64| (phi((t - mean) / sd(mean)) - phi((-t - mean) / sd(mean))).max(0.0);
    let mut inside = vec![false; neuron.means.len()];
    support.iter().for_each(|&j| inside[j] = true);
    let of = |want: bool| neuron.means.iter().zip(&inside).filter(move |(_, i)| **i == want).map(|(m, _)| *m);
    // P(max outside <= t) as a distribution function, integrated against P(all inside > t), over the range where it can change.
    let spread = 9.0 * sd(0.0);
    let bottom = (neuron.outside - spread).max(0.0);
    let step = (neuron.outside + spread - bottom) / STEPS as f64;
    let mut previous = 0.0;
    let mut total = 0.0;
    for i in 1..=STEPS {
        let t = bottom + step * i as f64;
        let distribution: f64 = of(false).map(|m| below(m, t)).product();
        if distribution - previous > 1e-12 {
            let middle = t - step / 2.0;
            total += (distribution - previous) * of(true).map(|m| 1.0 - below(m, middle)).product::<f64>();
        }
        previous = distribution;
    }
    total
}

/// What `theory rank` prints for one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointRank {
    /// Explicit upper bound; `None` when there is no gap.
    pub bound: Option<Bound>,
    /// Central estimate; `None` when there is no gap.
    pub prediction: Option<Bound>,
    /// Gap at the asked quantile of neurons (of the population gradient per unit output weight), over `sqrt(E[f^2 1[active]])`.
    pub relative_gap: f64,
    /// Is the gap at least four standard errors? If not, raise `samples`.
    pub resolved: bool,
    /// Measured statistics.
    pub statistics: GradientStatistics,
}

/// Bound and prediction for any checkpoint, from its measured gradient statistics: rank checkpoints by `prediction` before training a student.
///
/// ```
/// use curricle_theory::{bounds::rank_checkpoint, two_phase::*};
/// let problem = Problem::first(29, 2)?;
/// let net = phase_one_teacher(&problem, &TeacherSpec::default(), 1, 0)?;
/// let rank = rank_checkpoint(&net, &problem, 8, 1 << 15, 64, 0.1, 0.9, 1)?;
/// if let (Some(bound), Some(prediction)) = (&rank.bound, &rank.prediction) {
///     assert!(bound.samples > prediction.samples);
/// }
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
#[allow(clippy::too_many_arguments)]
pub fn rank_checkpoint(
    net: &ReluNet,
    problem: &Problem,
    neurons: usize,
    samples: u64,
    width: usize,
    delta: f64,
    fraction: f64,
    seed: u64,
) -> Result<CheckpointRank> {
    let statistics = GradientStatistics::sampled(net, problem, neurons, samples, seed)?;
    let optional = |b: Result<Bound>| match b {
        Ok(b) => Ok(Some(b)),
        Err(TheoryError::NoGap { .. }) => Ok(None),
        Err(e) => Err(e),
    };
    let bound = optional(first_phase_bound(&statistics, width, delta, fraction))?;
    let prediction = optional(predicted_batch(&statistics, fraction))?;
    let mut gaps: Vec<(f64, f64)> = statistics.neurons.iter().map(|n| (n.gap(), n.second_moment)).collect();
    gaps.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (gap, moment) = gaps[quantile_index(gaps.len(), fraction)];
    let relative_gap = if moment > 0.0 { gap / moment.sqrt() } else { 0.0 };
    Ok(CheckpointRank {
        bound,
        prediction,
        relative_gap,
        resolved: gap.abs() >= 4.0 * statistics.standard_error,
        statistics,
    })
}

fn quantile_index(len: usize, fraction: f64) -> usize {
    ((fraction * len as f64 - 1e-9).ceil() as usize).clamp(1, len) - 1
}

fn check_fraction(fraction: f64) -> Result<()> {
    if fraction > 0.0 && fraction <= 1.0 {
        return Ok(());
    }
    out_of_range("fraction", fraction, "(0, 1]", "0.9 is usual, 1 asks for every neuron")
}
