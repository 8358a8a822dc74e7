//! Sampled correlations with monomials.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TheoryError, check_support, out_of_range};
use crate::net::ReluNet;
use crate::two_phase::evaluate::Evaluator;
use crate::two_phase::samples::{BLOCK, Block, Stream, block_count, block_samples, generator};

/// Which output is correlated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// The logit margin.
    Margin,
    /// `1/(1 + exp(-margin))`, the paper's choice.
    Probability,
}

/// An estimate of `E[f chi_T]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Correlation {
    /// The set `T`.
    pub set: Vec<usize>,
    /// Sample mean of `f chi_T`.
    pub estimate: f64,
    /// Standard error.
    pub standard_error: f64,
}

/// Correlations with all monomials of degree `1..=max_degree` in the given coordinates, on shared samples (so
/// their errors are correlated).
///
/// Limits: at most 200,000 monomials and `2^32` samples. Pure function of the arguments.
pub fn sampled_correlations(
    net: &ReluNet,
    coordinates: &[usize],
    max_degree: usize,
    output: Output,
    samples: u64,
    seed: u64,
) -> Result<Vec<Correlation>> {
    check_support(coordinates, net.dimension())?;
    if !(2..=1 << 32).contains(&samples) {
        return out_of_range(
            "samples",
            samples,
            "2..=2^32",
            "100,000 samples give a standard error of about 0.003 sd",
        );
    }
    let sets = subsets(coordinates, max_degree)?;
    let evaluator = Evaluator::new(net);
    let blocks: Vec<(Vec<f64>, f64)> = (0..block_count(samples))
        .into_par_iter()
        .map(|index| {
            let mut block = Block::new(net.dimension());
            block.fill(&mut generator(seed, 0, Stream::Statistics, index), block_samples(samples, index));
            let mut values = evaluator.values(&block);
            if output == Output::Probability {
                values.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
            }
            let square = values.iter().map(|v| f64::from(*v).powi(2)).sum();
            values.resize(BLOCK, 0.0);
            (sets.iter().map(|set| signed_sum(&values, &block.parity(set))).collect(), square)
        })
        .collect();
    let mut totals = vec![0.0; sets.len()];
    let mut square = 0.0;
    for (sums, s) in blocks {
        totals.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        square += s;
    }
    let n = samples as f64;
    sets.into_iter()
        .zip(totals)
        .map(|(set, total)| {
            let estimate = total / n;
            let standard_error = ((square / n - estimate * estimate).max(0.0) / (n - 1.0)).sqrt();
            if !(estimate.is_finite() && standard_error.is_finite()) {
                return Err(TheoryError::NotFinite {
                    what: "a correlation",
                    instead: "the outputs overflow f32; rescale the network",
                });
            }
            Ok(Correlation { set, estimate, standard_error })
        })
        .collect()
}

fn signed_sum(values: &[f32], bits: &[u64]) -> f64 {
    let mut total = 0.0;
    for (word, values) in bits.iter().zip(values.chunks_exact(64)) {
        let signed = values
            .iter()
            .enumerate()
            .map(|(s, v)| f32::from_bits(v.to_bits() ^ ((word >> s & 1) as u32) << 31));
        total += f64::from(signed.sum::<f32>());
    }
    total
}

fn subsets(coordinates: &[usize], max_degree: usize) -> Result<Vec<Vec<usize>>> {
    const LIMIT: usize = 200_000;
    let mut all = Vec::new();
    let mut layer: Vec<(usize, Vec<usize>)> = vec![(0, vec![])];
    for _ in 0..max_degree.min(coordinates.len()) {
        let mut next = Vec::new();
        for (start, set) in &layer {
            for (i, &j) in coordinates.iter().enumerate().skip(*start) {
                let mut bigger = set.clone();
                bigger.push(j);
                next.push((i + 1, bigger));
            }
            if all.len() + next.len() > LIMIT {
                return out_of_range(
                    "monomials",
                    format!("over {LIMIT}"),
                    format!("1..={LIMIT}"),
                    "give fewer coordinates or a lower degree",
                );
            }
        }
        all.extend(next.iter().map(|(_, set)| set.clone()));
        layer = next;
    }
    if all.is_empty() {
        return out_of_range(
            "max_degree",
            max_degree,
            "1..",
            "degree 0 is the mean; ask for degree 1 or more",
        );
    }
    Ok(all)
}
