//! Samples for the second phase, from a comparator computed on the actual features.

use ndarray::{Array1, Array2, Axis};
use ndarray_linalg::{Eigh, UPLO};
use serde::Serialize;

use super::{Bound, Kind};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::net::ReluNet;
use crate::two_phase::evaluate::Evaluator;
use crate::two_phase::samples::{BLOCK, Block, Stream, generator};
use crate::two_phase::{Neurons, Problem, SecondPhase};

/// Largest number of active coordinates whose sign patterns are enumerated.
const ENUMERATED: usize = 12;

/// Bound of the second phase with its comparator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecondPhaseBound {
    /// `T_2 = (2AR/eps)^2` and its ingredients.
    pub bound: Bound,
    /// Settings that realise it.
    pub settings: SecondPhase,
    /// The comparator: output weights, then the output bias.
    pub comparator: Vec<f64>,
    /// Its hinge loss.
    pub hinge: f64,
    /// Computed on all sign patterns (true) or on fresh samples (false)?
    pub exact: bool,
}

/// The first layer that a student has after selecting S and keeping its initial signs there
/// (`FirstLayer::PrunedInit`), on the k coordinates of S alone: `w_ij = +-1/(2k)`, biases on the grid,
/// mirrored pairs. It does not know d; that is why the explicit second phase is free of d.
///
/// ```
/// let layer = curricle_theory::bounds::pruned_layer(4, 64, 1, 0)?;
/// assert_eq!((layer.dimension(), layer.width()), (4, 64));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn pruned_layer(k: usize, width: usize, seed: u64, draw: u64) -> Result<ReluNet> {
    if k == 0 || !(2..=1 << 20).contains(&width) {
        return out_of_range("width", width, "2..=2^20 with k >= 1", "mirrored neurons come in pairs");
    }
    let pairs = width / 2;
    let neurons = Neurons::draw(pairs, k, k, 0.5, &mut generator(seed, draw, Stream::Neurons, 2));
    let scale = 1.0 / (2.0 * k as f64);
    let w = Array2::from_shape_fn((2 * pairs, k), |(i, j)| {
        scale * f64::from(neurons.signs[[i % pairs, j]]) * if i < pairs { 1.0 } else { -1.0 }
    });
    let b = Array1::from_shape_fn(2 * pairs, |i| neurons.biases[i % pairs]);
    ReluNet::new(w, b, Array1::zeros(2 * pairs), 0.0)
}

/// `T_2` over `draws` first layers given by `layer`: the median, with the quantiles 0.1 and 0.9 and the
/// number of draws without a comparator among the ingredients. A single first layer is one random draw (2.2e6
/// to 2.3e7 over 12 seeds at k = 4, width 64).
///
/// Errors: [`TheoryError::NoComparator`] when half of the draws or more have none.
///
/// ```
/// use curricle_theory::{bounds::{pruned_layer, second_phase_draws}, two_phase::Problem};
/// let line = second_phase_draws(&Problem::first(2, 2)?, 0.2, 5, 1, |draw| pruned_layer(2, 32, 1, draw))?;
/// assert!(line.ingredients["quantile_10"] <= line.samples && line.samples <= line.ingredients["quantile_90"]);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn second_phase_draws(
    problem: &Problem,
    epsilon: f64,
    draws: u64,
    seed: u64,
    layer: impl Fn(u64) -> Result<ReluNet>,
) -> Result<Bound> {
    if draws == 0 || draws > 10_000 {
        return out_of_range("draws", draws, "1..=10000", "9 draws show the spread");
    }
    let mut found: Vec<Bound> = Vec::new();
    let mut lowest = f64::INFINITY;
    for draw in 0..draws {
        match second_phase(&layer(draw)?, problem, epsilon, seed ^ draw) {
            Ok(b) => found.push(b.bound),
            Err(TheoryError::NoComparator { found, .. }) => lowest = lowest.min(found),
            Err(e) => return Err(e),
        }
    }
    if 2 * found.len() as u64 <= draws {
        return Err(TheoryError::NoComparator { target: epsilon / 2.0, found: lowest });
    }
    found.sort_by(|a, b| a.samples.total_cmp(&b.samples));
    let at = |q: f64| found[(q * (found.len() - 1) as f64).round() as usize].samples;
    let mut bound = found[(found.len() - 1) / 2].clone();
    let missing = draws - found.len() as u64;
    for (name, value) in [
        ("quantile_10", at(0.1)),
        ("quantile_90", at(0.9)),
        ("draws", draws as f64),
        ("draws_without_comparator", missing as f64),
    ] {
        bound.ingredients.insert(name.into(), value);
    }
    Ok(bound)
}

/// Samples after which averaged projected SGD on the second layer has *expected* hinge loss at most
/// `epsilon`: `T_2 = (2AR/eps)^2`, where some output layer of norm `A` has loss at most `eps/2` and features
/// (with the constant) have norm at most `R`.
///
/// The comparator is the ridge solution over a ladder of penalties, scaled until its loss is `eps/2`, that
/// with the smallest norm. `R^2 = 1 + sum_i relu(|w_i|_1 + b_i)^2` bounds every input. When at most 12
/// coordinates carry weight the loss is exact over their sign patterns; otherwise the fit uses 8192 samples
/// and the loss 8192 others (then `A` holds up to their sampling error). Errors:
/// [`TheoryError::NoComparator`] when the features cannot express the parity.
pub fn second_phase(net: &ReluNet, problem: &Problem, epsilon: f64, seed: u64) -> Result<SecondPhaseBound> {
    check_unit("epsilon", epsilon)?;
    net.check_dimension(problem.dimension())?;
    let (features, labels, exact) = points(net, problem, seed, 0);
    let ladder = Ridge::new(&features, &labels)?;
    let check = if exact { None } else { Some(points(net, problem, seed, 1)) };
    let (test, truth) = check.as_ref().map_or((&features, &labels), |(f, l, _)| (f, l));
    let mut best: Option<(f64, f64, Array1<f64>)> = None;
    let mut lowest = f64::INFINITY;
    for power in 1..=10 {
        let a = ladder.solve(10f64.powi(-power));
        let margins = test.dot(&a) * truth;
        if margins.iter().any(|v| !v.is_finite()) {
            continue;
        }
        let norm = a.dot(&a).sqrt();
        for step in 0..=240 {
            let scale = 10f64.powf(f64::from(step) / 40.0 - 2.0);
            let hinge =
                margins.iter().map(|v| (1.0 - scale * v).max(0.0)).sum::<f64>() / margins.len() as f64;
            lowest = lowest.min(hinge);
            if hinge <= epsilon / 2.0 {
                if best.as_ref().is_none_or(|b| scale * norm < b.0) {
                    best = Some((scale * norm, hinge, &a * scale));
                }
                break;
            }
        }
    }
    let Some((radius, hinge, comparator)) = best else {
        return Err(TheoryError::NoComparator { target: epsilon / 2.0, found: lowest.min(1.0) });
    };
    let feature_norm = largest_feature_norm(net);
    let samples = (2.0 * radius * feature_norm / epsilon).powi(2);
    let bound = Bound::new(
        "second_phase",
        Kind::OneDraw,
        "second phase: T_2 = (2 A R / eps)^2 samples of averaged projected SGD reach expected hinge loss eps",
        samples,
        &[
            ("A", radius),
            ("R", feature_norm),
            ("epsilon", epsilon),
            ("comparator_hinge", hinge),
            ("width", net.width() as f64),
        ],
    )?;
    let settings = SecondPhase { samples: samples.ceil().min(2f64.powi(62)) as u64, radius, feature_norm };
    Ok(SecondPhaseBound { bound, settings, comparator: comparator.to_vec(), hinge, exact })
}

/// `(1 + sum_i relu(|w_i|_1 + b_i)^2)^(1/2)`, a bound of `|phi(x)|` over the cube.
pub(crate) fn largest_feature_norm(net: &ReluNet) -> f64 {
    let reach = net
        .hidden()
        .axis_iter(Axis(0))
        .zip(net.biases())
        .map(|(w, b)| (w.iter().map(|v| v.abs()).sum::<f64>() + b).max(0.0));
    (1.0 + reach.map(|v| v * v).sum::<f64>()).sqrt()
}

/// Ridge regression for many penalties: one eigendecomposition of the smaller Gram matrix.
struct Ridge {
    /// `F^T` in the dual form (`a = F^T c`), nothing in the primal.
    transposed: Option<Array2<f64>>,
    values: Array1<f64>,
    vectors: Array2<f64>,
    /// The right-hand side in the eigenbasis.
    target: Array1<f64>,
    /// Penalties are relative to the primal Gram matrix's mean diagonal.
    scale: f64,
}

impl Ridge {
    fn new(features: &Array2<f64>, labels: &Array1<f64>) -> Result<Self> {
        let (n, m) = features.dim();
        let scale = features.iter().map(|v| v * v).sum::<f64>() / (n * m) as f64;
        let dual = n < m;
        let gram = match dual {
            true => features.dot(&features.t()) / n as f64,
            false => features.t().dot(features) / n as f64,
        };
        let right = if dual { labels / n as f64 } else { features.t().dot(labels) / n as f64 };
        let (values, vectors) = gram.eigh(UPLO::Lower).map_err(|e| TheoryError::Linalg(e.to_string()))?;
        let target = vectors.t().dot(&right);
        Ok(Self { transposed: dual.then(|| features.t().to_owned()), values, vectors, target, scale })
    }

    fn solve(&self, penalty: f64) -> Array1<f64> {
        let shift = penalty * self.scale;
        let weights =
            Array1::from_shape_fn(self.values.len(), |i| self.target[i] / (self.values[i].max(0.0) + shift));
        let solution = self.vectors.dot(&weights);
        self.transposed.as_ref().map_or_else(|| solution.clone(), |f| f.dot(&solution))
    }
}

/// Features with a constant column, labels, and whether these are all sign patterns.
fn points(net: &ReluNet, problem: &Problem, seed: u64, part: u64) -> (Array2<f64>, Array1<f64>, bool) {
    let evaluator = Evaluator::new(net);
    let d = problem.dimension();
    let carries =
        |j: usize| problem.support().contains(&j) || net.hidden().column(j).iter().any(|&v| v != 0.0);
    let active: Vec<usize> = (0..d).filter(|&j| carries(j)).collect();
    let exact = active.len() <= ENUMERATED;
    let mut blocks = Vec::new();
    if exact {
        let mut block = Block::new(d);
        block.samples = 1 << active.len();
        for (i, &j) in active.iter().enumerate() {
            (0..block.samples)
                .filter(|s| s >> i & 1 == 1)
                .for_each(|s| block.columns[j][s / 64] |= 1 << (s % 64));
        }
        blocks.push(block);
    } else {
        for index in 0..2 {
            let mut block = Block::new(d);
            block.fill(&mut generator(seed, part, Stream::Statistics, 1 << 40 | index), BLOCK);
            blocks.push(block);
        }
    }
    let rows: usize = blocks.iter().map(|b| b.samples).sum();
    let mut features = Array2::ones((rows, net.width() + 1));
    let mut labels = Array1::zeros(rows);
    let mut at = 0;
    for block in &blocks {
        let y = block.parity(problem.support());
        for (s, phi) in evaluator.features(block).rows().into_iter().enumerate() {
            phi.iter().enumerate().for_each(|(i, v)| features[[at, i]] = f64::from(*v));
            labels[at] = 1.0 - 2.0 * (y[s / 64] >> (s % 64) & 1) as f64;
            at += 1;
        }
    }
    (features, labels, exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_ridge_agree_and_wide_layers_are_no_limit() {
        let layer = pruned_layer(3, 40, 1, 0).unwrap();
        let problem = Problem::first(3, 3).unwrap();
        let (features, labels, exact) = points(&layer, &problem, 1, 0);
        assert!(exact && features.nrows() == 8);
        let dual = Ridge::new(&features, &labels).unwrap().solve(0.01);
        // The same by its definition.
        let n = 8.0;
        let mut system = features.t().dot(&features) / n;
        let shift = 0.01 * features.iter().map(|v| v * v).sum::<f64>() / (n * features.ncols() as f64);
        system.diag_mut().iter_mut().for_each(|v| *v += shift);
        let residual = system.dot(&dual) - features.t().dot(&labels) / n;
        assert!(residual.iter().all(|v| v.abs() < 1e-10));
        // Above 4096 neurons the old code refused.
        let wide = pruned_layer(4, 20_000, 1, 0).unwrap();
        let bound = second_phase(&wide, &Problem::first(4, 4).unwrap(), 0.1, 1).unwrap();
        assert!(bound.exact && bound.bound.kind == Kind::OneDraw);
    }
}
