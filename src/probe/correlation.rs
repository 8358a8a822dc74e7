//! Correlations of an output statistic with monomials, sampled or exact.

use super::monomials::{Monomial, Monomials};
use super::planes::Planes;
use super::statistic::argmax;
use super::{ProbeError, Statistic};
use curricle_core::math::fourier::{MAX_DIMENSION as MAX_EXACT_D, butterfly, walsh_hadamard};
use curricle_core::model::LogitModel;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::{BooleanTask, Samples};
use rayon::prelude::*;

/// Most samples a model sees at once; what a probe holds is proportional to this, not to the number of samples.
pub const CHUNK: usize = 1 << 14;

/// Samples per partial sum. Partial sums are computed in parallel and added in order.
const BLOCK: usize = 1 << 11;

/// Which inputs the mean runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Samples 0 .. `samples` of the probe stream under `seed`.
    Random {
        /// How many; at least 2.
        samples: u64,
        /// Seed of the probe stream.
        seed: u64,
    },
    /// All 2^d inputs, d <= 24. Holds 2^d f64.
    Exact,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The number of each sample's logits.
    pub statistic: Statistic,
    /// Its class.
    pub class: usize,
    /// Over which inputs.
    pub sampling: Sampling,
}

/// hat p(T) of one monomial.
#[derive(Debug, Clone, PartialEq)]
pub struct Coefficient {
    /// T.
    pub monomial: Monomial,
    /// Estimate of E[p(x) chi_T(x)], signed, in the units of the statistic.
    pub value: f64,
    /// Standard error of `value`; 0 where exact.
    pub standard_error: f64,
}

/// What [`correlations`] measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlations {
    /// Inputs the means run over: the number of samples, or 2^d.
    pub samples: u64,
    /// Fraction of these inputs on which the largest logit is the label; `None` without a task.
    pub accuracy: Option<f64>,
    /// Mean of the statistic (its coefficient of degree 0).
    pub mean: f64,
    /// Standard deviation of the statistic.
    pub deviation: f64,
    /// Standard error of a coefficient that is truly 0: deviation / sqrt(samples); 0 where exact.
    pub noise_floor: f64,
    /// One per monomial, in the order of [`Monomials::list`].
    pub coefficients: Vec<Coefficient>,
}

/// Correlations E_x[p(x) chi_T(x)] of the statistic p with each monomial, x uniform on {-1,+1}^d.
///
/// Sampled: the mean of (p(x_i) - c) chi_T(x_i), where the constant c is the mean of p over the first [`CHUNK`] samples. Since
/// chi_T has mean 0 the constant leaves the expectation alone (to a relative 1/n), but it removes the noise that the mean of p would
/// otherwise contribute: near chance p is 1/2 plus little, and the error shrinks by a factor of rms(p) / deviation(p).
/// The standard error comes from the sample variance of these terms. Exact: over all 2^d inputs by a Walsh-Hadamard
/// transform.
///
/// Sums are f64; their order, hence every bit of the result, does not depend on the number of threads as long as the model's
/// logits do not. `progress` is told the inputs done so far. With a `task` the accuracy on the same inputs is measured.
///
/// # Errors
/// If d, the classes or the class do not fit, fewer than 2 samples are asked for, d > 24 for exact ones, a logit is not
/// finite, or the model fails.
pub fn correlations(
    model: &dyn LogitModel,
    monomials: &Monomials,
    task: Option<&dyn BooleanTask>,
    request: &Request,
    progress: &mut dyn FnMut(u64),
) -> Result<Correlations, ProbeError> {
    let (d, classes) = (model.d(), model.classes());
    if monomials.d() != d {
        return Err(ProbeError::Dimension { model: d, expected: monomials.d(), what: "set of monomials" });
    }
    if request.class >= classes {
        return Err(ProbeError::Class { class: request.class, classes });
    }
    if let Some(task) = task {
        if task.d() != d {
            return Err(ProbeError::Dimension { model: d, expected: task.d(), what: "task" });
        }
        if task.classes() != classes {
            return Err(ProbeError::Classes { model: classes, task: task.classes() });
        }
    }
    let evaluator = Evaluator { model, task, statistic: request.statistic, class: request.class };
    match request.sampling {
        Sampling::Random { samples, .. } if samples < 2 => Err(ProbeError::TooFewSamples(samples)),
        Sampling::Random { samples, seed } => sampled(&evaluator, monomials, samples, seed, progress),
        Sampling::Exact if d > MAX_EXACT_D => Err(ProbeError::ExactTooLarge { d, limit: MAX_EXACT_D }),
        Sampling::Exact => exact(&evaluator, monomials, progress),
    }
}

/// A model and the number that is taken from its logits.
struct Evaluator<'a> {
    model: &'a dyn LogitModel,
    task: Option<&'a dyn BooleanTask>,
    statistic: Statistic,
    class: usize,
}

impl Evaluator<'_> {
    /// Writes the statistic of each sample to `values`; returns how many samples are classified correctly.
    fn evaluate(&self, samples: &Samples, first: u64, values: &mut [f64]) -> Result<u64, ProbeError> {
        let classes = self.model.classes();
        // Anything the model forgets to write must not pass for a number.
        let mut logits = vec![f32::NAN; samples.len() * classes];
        self.model.logits(samples, &mut logits).map_err(ProbeError::Model)?;
        if let Some(at) = logits.iter().position(|z| !z.is_finite()) {
            let (sample, logit) = (first + (at / classes) as u64, at % classes);
            return Err(ProbeError::NonFinite { sample, logit, value: logits[at] });
        }
        // Only these parts cross threads: a model need not be `Sync`.
        let (task, statistic, class) = (self.task, self.statistic, self.class);
        let rows = logits.par_chunks(BLOCK * classes).zip(values.par_chunks_mut(BLOCK)).enumerate();
        let correct = rows.map(|(block, (logits, values))| {
            let mut correct = 0;
            for (i, (z, value)) in logits.chunks_exact(classes).zip(values).enumerate() {
                *value = statistic.of(z, class);
                if let Some(task) = task {
                    let label = task.label(samples.row(block * BLOCK + i));
                    correct += u64::from(argmax(z) == usize::from(label));
                }
            }
            correct
        });
        Ok(correct.sum())
    }
}

/// Sums over a set of samples of the centred statistic q = p - c: sum of q, of q^2, and of q chi_T for each T.
struct Sums {
    linear: f64,
    square: f64,
    monomials: Vec<f64>,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.linear += other.linear;
        self.square += other.square;
        self.monomials.iter_mut().zip(&other.monomials).for_each(|(s, o)| *s += o);
    }
}

fn sampled(
    evaluator: &Evaluator<'_>,
    monomials: &Monomials,
    count: u64,
    seed: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Correlations, ProbeError> {
    let stream = Stream::new(Purpose::Probe, 0);
    let zero = || Sums { linear: 0.0, square: 0.0, monomials: vec![0.0; monomials.len()] };
    let mut total = zero();
    let mut centre = None;
    let mut correct = 0;
    let mut values = vec![0.0; CHUNK.min(usize::try_from(count).unwrap_or(CHUNK))];
    let mut first = 0;
    while first < count {
        let size = (count - first).min(CHUNK as u64) as usize;
        let values = &mut values[..size];
        let samples = Samples::random(evaluator.model.d(), seed, stream, first, size);
        correct += evaluator.evaluate(&samples, first, values)?;
        let centre = *centre.get_or_insert_with(|| values.iter().sum::<f64>() / size as f64);
        values.iter_mut().for_each(|v| *v -= centre);
        let planes = Planes::new(&samples);
        let blocks = values.par_chunks(BLOCK).enumerate().map(|(block, q)| {
            let mut sums = zero();
            sums.linear = q.iter().sum();
            sums.square = q.iter().map(|v| v * v).sum();
            planes.accumulate(block * BLOCK, q, monomials, &mut sums.monomials);
            sums
        });
        // `collect` keeps the order of the blocks, so the additions below are always the same.
        blocks.collect::<Vec<_>>().iter().for_each(|block| total.add(block));
        first += size as u64;
        progress(first);
    }
    let n = count as f64;
    // The variance of u with sum s and sum of squares q2; rounding may leave it a hair below 0.
    let variance = |s: f64| ((total.square - s * s / n) / (n - 1.0)).max(0.0);
    let deviation = variance(total.linear).sqrt();
    let coefficients = monomials.list().iter().zip(&total.monomials).map(|(monomial, &sum)| Coefficient {
        monomial: monomial.clone(),
        value: sum / n,
        standard_error: (variance(sum) / n).sqrt(),
    });
    Ok(Correlations {
        samples: count,
        accuracy: evaluator.task.map(|_| correct as f64 / n),
        mean: centre.unwrap_or(0.0) + total.linear / n,
        deviation,
        noise_floor: deviation / n.sqrt(),
        coefficients: coefficients.collect(),
    })
}

/// The Walsh-Hadamard transform, in parallel where it is long.
fn transform(values: &mut [f64]) {
    const SEQUENTIAL: usize = 1 << 14;
    if values.len() <= SEQUENTIAL {
        return walsh_hadamard(values);
    }
    let (a, b) = values.split_at_mut(values.len() / 2);
    a.par_chunks_mut(SEQUENTIAL).zip(b.par_chunks_mut(SEQUENTIAL)).for_each(|(a, b)| butterfly(a, b));
    rayon::join(|| transform(a), || transform(b));
}

fn exact(
    evaluator: &Evaluator<'_>,
    monomials: &Monomials,
    progress: &mut dyn FnMut(u64),
) -> Result<Correlations, ProbeError> {
    let d = evaluator.model.d();
    let count = 1usize << d;
    let mut values = vec![0.0; count];
    let mut correct = 0;
    for (chunk, values) in values.chunks_mut(CHUNK).enumerate() {
        let first = chunk * CHUNK;
        // Input number i has x_j = -1 where bit j of i is set, which is how samples are packed.
        let samples = Samples::from_bits(d, (first..first + values.len()).map(|i| i as u32).collect());
        correct += evaluator.evaluate(&samples, first as u64, values)?;
        progress((first + values.len()) as u64);
    }
    let n = count as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    transform(&mut values);
    let coefficients = monomials.list().iter().map(|monomial| {
        let index = monomial.coordinates.iter().fold(0, |bits, j| bits | 1usize << j);
        Coefficient { monomial: monomial.clone(), value: values[index] / n, standard_error: 0.0 }
    });
    Ok(Correlations {
        samples: count as u64,
        accuracy: evaluator.task.map(|_| correct as f64 / n),
        mean,
        deviation: variance.sqrt(),
        noise_floor: 0.0,
        coefficients: coefficients.collect(),
    })
}
