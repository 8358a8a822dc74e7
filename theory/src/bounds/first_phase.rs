//! Samples for the first phase.

use serde::Serialize;

use super::{Bound, GradientStatistics, Kind, NeuronStatistics};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fourier::phi;
use crate::net::ReluNet;
use crate::two_phase::Problem;

/// Enough samples for labels or one-shot distillation, `B = 2 (p + Delta/6) log(2dm/delta) / (Delta/2)^2`:
/// with probability at least `1 - delta` *every* neuron of a student of width `m` ranks the support on top.
///
/// `Delta` is the Fourier gap, `p = P(active)` for the more active sign of the bias: with even d a tie
/// activates neurons with `b >= 0` only, and the bound is for every neuron. Order `d^(k-1) log(dm)`. Domain:
/// `1 <= k < d`, `|bias| < 1`, not both odd (unless k = 1).
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
    let statistics = GradientStatistics::labels(d, k, bias.abs())?;
    let mut bound = first_phase_bound(&statistics, width, delta, 1.0).map_err(|e| match e {
        TheoryError::NoGap { gap, .. } => TheoryError::NoGap {
            of: "labels",
            gap,
            instead: "levels k-1 and k+1 are equally large at these sizes; raise d",
        },
        e => e,
    })?;
    bound.name = "labels_first_phase".into();
    bound.statement = "labels / one-shot: B >= 2 (p + Delta/6) log(2dm/delta) / (Delta/2)^2, Delta = |hat g(k-1)| - |hat g(k+1)|".into();
    bound.ingredients.insert("p".into(), statistics.neurons[0].second_moment);
    bound.ingredients.insert("Delta".into(), statistics.neurons[0].gap());
    Ok(bound)
}

/// Enough samples for any source of supervision, from the statistics of its gradient:
/// `B = 2 (sigma^2 + M gamma/6) log(2dm/delta) / (gamma/2)^2` per neuron, and the `fraction` quantile over
/// the neurons (1.0: every neuron). Errors: [`TheoryError::NoGap`] when that quantile has no positive gap.
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
        return Err(TheoryError::NoGap { of: "this checkpoint", gap: chosen.gap(), instead: POOL });
    }
    let plain = need(chosen);
    let truncated = statistics.eighth.and_then(|e| truncated_need(chosen, e, log, delta, plain));
    Bound::new(
        "checkpoint_first_phase",
        Kind::Upper,
        "any source: B >= 2 (sigma^2 + M gamma/6) log(2dm/delta) / (gamma/2)^2, gamma = min inside - max outside of the population gradient; \
         M is the supremum, or what B samples hardly exceed by the eighth moment, whichever asks for fewer",
        truncated.map_or(plain, |t| t.0),
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
            ("sup", truncated.map_or(statistics.sup, |t| t.1)),
            ("log_term", log),
            ("standard_error", statistics.standard_error),
        ],
    )
}

const POOL: &str = "pool several checkpoints or teacher seeds, or use another checkpoint";

/// Truncated Bernstein: with probability `1 - B E|y|^8/tau^8` no sample exceeds `tau`, and there the samples
/// equal those cut at `tau`, whose mean is off by at most `beta = E|y|^8/tau^7`. Half of delta goes to either
/// event, `t = gamma/2 - beta` is left for Bernstein's deviation:
/// `B >= 2 (sigma^2 + tau t/3) log(4dm/delta) / t^2`. Smallest B that satisfies it, and its `tau`; none when
/// it is no better than `plain`.
fn truncated_need(
    neuron: &NeuronStatistics,
    eighth: f64,
    log: f64,
    delta: f64,
    plain: f64,
) -> Option<(f64, f64)> {
    let cut = |batch: f64| (2.0 * batch * eighth / delta).powf(0.125);
    let holds = |batch: f64| {
        let tau = cut(batch);
        let t = neuron.gap() / 2.0 - eighth / tau.powi(7);
        let log = log + std::f64::consts::LN_2;
        t > 0.0 && batch >= 2.0 * (neuron.second_moment + tau * t / 3.0) * log / (t * t)
    };
    if eighth.is_nan() || eighth <= 0.0 || !plain.is_finite() || !holds(plain) {
        return None;
    }
    let (mut low, mut high) = (1.0f64, plain);
    while high / low > 1.001 {
        let middle = low.sqrt() * high.sqrt();
        if holds(middle) { high = middle } else { low = middle }
    }
    Some((high, cut(high)))
}

/// Central estimate of the batch at which `fraction` of the neurons ranks the support on top: coordinates of
/// the empirical gradient are taken as independent normals `N(mu_j, (sigma^2 - mu_j^2)/B)`, whose probability
/// of being in the right order is integrated numerically.
///
/// Not a bound. Accurate when B is large enough for the central limit (tens of samples) and coordinates are
/// nearly uncorrelated.
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
        return Err(TheoryError::NoGap { of: "this source", gap, instead: POOL });
    }
    let target = fraction.min(0.999);
    let success = |batch: f64| ranking_probability(statistics, batch);
    let (mut low, mut high) = (1.0f64, 1.0f64);
    while success(high) < target {
        low = high;
        high *= 8.0;
        if high > 1e300 {
            return out_of_range(
                "the predicted batch",
                "above 1e300",
                "up to 1e300",
                "the gap is positive but too small to write the batch down",
            );
        }
    }
    while high / low > 1.02 {
        let middle = low.sqrt() * high.sqrt();
        if success(middle) < target { low = middle } else { high = middle }
    }
    Bound::new(
        "predicted_first_phase",
        Kind::Heuristic,
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
    // P(max outside <= t) as a distribution function, integrated against P(all inside > t), over the range
    // where it can change.
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
    /// Gap at the asked quantile of neurons (of the population gradient per unit output weight), over
    /// `sqrt(E[f^2 1[active]])`.
    pub relative_gap: f64,
    /// Is the gap at least four standard errors? If not, raise `samples`.
    pub resolved: bool,
    /// Measured statistics.
    pub statistics: GradientStatistics,
}

/// Bound and prediction for any checkpoint, from its measured gradient statistics: rank checkpoints by
/// `prediction` before training a student.
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
