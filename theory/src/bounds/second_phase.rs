//! Samples for the second phase, from a comparator computed on the actual features.

use ndarray::{Array1, Array2, Axis};
use ndarray_linalg::SolveC;
use serde::Serialize;

use super::{Bound, Kind};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::net::ReluNet;
use crate::two_phase::evaluate::Evaluator;
use crate::two_phase::samples::{BLOCK, Block, Stream, generator};
use crate::two_phase::{Problem, SecondPhase};

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

/// Samples after which averaged projected SGD on the second layer has *expected* hinge loss at most `epsilon`: `T_2 = (2AR/eps)^2`, where some
/// output layer of norm `A` has loss at most `eps/2` and features (with the constant) have norm at most `R`.
///
/// The comparator is the ridge solution over a ladder of penalties, scaled until its loss is `eps/2`, that with the smallest norm.
/// `R^2 = 1 + sum_i relu(|w_i|_1 + b_i)^2` bounds every input. When at most 12 coordinates carry weight the loss is exact over their
/// sign patterns; otherwise the fit uses 8192 samples and the loss 8192 others (then `A` holds up to their sampling error).
/// Errors: [`TheoryError::NoComparator`] when the features cannot express the parity.
pub fn second_phase(net: &ReluNet, problem: &Problem, epsilon: f64, seed: u64) -> Result<SecondPhaseBound> {
    check_unit("epsilon", epsilon)?;
    net.check_dimension(problem.dimension())?;
    if net.width() > 4096 {
        return out_of_range(
            "width",
            net.width(),
            "1..=4096",
            "the comparator solves a dense system of that size; measure the loss instead",
        );
    }
    let (features, labels, exact) = points(net, problem, seed, 0);
    let n = features.nrows() as f64;
    let m = features.ncols();
    let gram = features.t().dot(&features) / n;
    let target = features.t().dot(&labels) / n;
    let trace = gram.diag().sum() / m as f64;
    let check = if exact { None } else { Some(points(net, problem, seed, 1)) };
    let (test, truth) = check.as_ref().map_or((&features, &labels), |(f, l, _)| (f, l));
    let mut best: Option<(f64, f64, Array1<f64>)> = None;
    let mut lowest = f64::INFINITY;
    for power in 1..=10 {
        let mut system = gram.clone();
        system.diag_mut().iter_mut().for_each(|v| *v += trace * 10f64.powi(-power));
        let Ok(a) = system.solvec(&target) else {
            continue;
        };
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
    let reach = net
        .hidden()
        .axis_iter(Axis(0))
        .zip(net.biases())
        .map(|(w, b)| (w.iter().map(|v| v.abs()).sum::<f64>() + b).max(0.0));
    let feature_norm = (1.0 + reach.map(|v| v * v).sum::<f64>()).sqrt();
    let samples = (2.0 * radius * feature_norm / epsilon).powi(2);
    let bound = Bound::new(
        "second_phase",
        Kind::Upper,
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
