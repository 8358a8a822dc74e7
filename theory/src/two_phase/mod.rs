//! Algorithm 1 run for real: one big-batch gradient step on the first layer from the symmetric
//! initialisation, then convex hinge SGD on the second layer.
//!
//! A trial is a pure function of `(seed, trial)`: neurons and samples come from generators keyed by it, and
//! the sums are integers (labels) or added in a fixed order (networks), so results do not depend on the
//! number of threads.
//!
//! Neuron `i` and its mirror image see the same samples and get opposite gradients, so only one of each pair
//! is simulated in the first phase.

pub(crate) mod evaluate;
mod kernel;
pub(crate) mod samples;
mod second;
mod teacher;
mod trainer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array1, Array2, Axis, s};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use second::{Labeller, SecondPhase, hinge_loss, train_second_layer, train_second_layer_from};
pub use teacher::{OutputSigns, TeacherSpec, final_teacher, phase_one_teacher};
pub use trainer::{SecondTrainer, Trained};

use crate::error::{Result, TheoryError, check_support, out_of_range};
use crate::net::ReluNet;
use crate::product::product;
use crate::threshold::largest_count;
use evaluate::Evaluator;
use kernel::{NeuronSums, SignNeuron};
use samples::{Block, Stream, WORDS, block_count, block_samples, generator};

/// Blocks of labels between two looks at the cancel flag: 4 million samples.
const LABEL_WAVE: u64 = 1024;

/// Largest dimension of the simulation.
pub const MAX_DIMENSION: usize = 4096;

/// The sparse parity problem `y = prod_{j in S} x_j`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    d: usize,
    support: Vec<usize>,
}

impl Problem {
    /// Any support. Errors: no distinct coordinates below `d`; `d > 4096`. Odd k with odd d is a problem like
    /// any other for checkpoints; that labels carry no first-order signal there is for their sources to say
    /// ([`crate::gradient::fourier_gap`]).
    pub fn new(d: usize, support: Vec<usize>) -> Result<Self> {
        check_support(&support, d)?;
        if d > MAX_DIMENSION {
            return out_of_range(
                "d",
                d,
                format!("1..={MAX_DIMENSION}"),
                "the simulation's batches grow like d^(k-1); use `theory bounds` instead",
            );
        }
        Ok(Self { d, support })
    }

    /// Support `{0, .., k-1}`; by symmetry as good as any other.
    pub fn first(d: usize, k: usize) -> Result<Self> {
        if k > d || k == 0 {
            return Err(TheoryError::SupportSize { k, d });
        }
        Self::new(d, (0..k).collect())
    }

    /// Dimension.
    pub fn dimension(&self) -> usize {
        self.d
    }

    /// Support.
    pub fn support(&self) -> &[usize] {
        &self.support
    }

    /// Support size.
    pub fn k(&self) -> usize {
        self.support.len()
    }
}

/// What the student's first phase learns from.
#[derive(Clone, Copy)]
pub enum Supervision<'a> {
    /// The labels (hinge loss); one-shot distillation from a perfect teacher is the same.
    Labels,
    /// The logit margin of a network (correlation loss).
    Net(&'a ReluNet),
    /// Several checkpoints or teacher seeds: the batch is split evenly, one gradient step from the same
    /// initialisation is taken for each, and coordinates are ranked by the root of the summed squares (a
    /// *sum* of gradients would only be another random sign sum, see `recovery`).
    Pool(&'a [ReluNet]),
    /// Any function of `x` (as `+-1.0`); slow, one call per sample.
    Function(&'a (dyn Fn(&[f64]) -> f64 + Sync)),
}

/// Student neurons at initialisation: signs uniform, biases uniform on the grid of [`bias_grid`].
#[derive(Debug, Clone, PartialEq)]
pub struct Neurons {
    /// `[m, d]`, entries -1 or +1.
    pub signs: Array2<i8>,
    /// In (-1, 1).
    pub biases: Vec<f64>,
}

/// `4k` biases at the centres of equal cells of (-1, 1): `-1 + (l + 1/2)/(2k)`. After the first phase
/// `<w, x>` has `k+1` values `1/k` apart on the support, so there is a knot on either side of each.
pub fn bias_grid(k: usize) -> Vec<f64> {
    (0..4 * k).map(|l| -1.0 + (l as f64 + 0.5) / (2 * k) as f64).collect()
}

impl Neurons {
    pub(crate) fn draw(m: usize, d: usize, k: usize, plus: f64, rng: &mut impl Rng) -> Self {
        let grid = bias_grid(k);
        let signs = if plus == 0.5 {
            Array2::from_shape_simple_fn((m, d), || 1 - 2 * (rng.next_u64() >> 63) as i8)
        } else {
            Array2::from_shape_simple_fn((m, d), || if unit(rng) < plus { 1 } else { -1 })
        };
        let biases = (0..m).map(|_| grid[(rng.next_u64() % grid.len() as u64) as usize]).collect();
        Self { signs, biases }
    }

    fn packed(&self) -> Vec<SignNeuron> {
        let d = self.signs.ncols();
        let rows = self.signs.rows().into_iter().zip(&self.biases);
        rows.map(|(row, &b)| SignNeuron {
            flips: row.iter().map(|&s| if s < 0 { !0 } else { 0 }).collect(),
            allowed: largest_count(d, b),
        })
        .collect()
    }
}

fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The first phase of one student, whose batch can grow.
pub struct FirstPhase<'a> {
    problem: &'a Problem,
    supervision: Supervision<'a>,
    evaluators: Vec<Evaluator>,
    neurons: Neurons,
    packed: Vec<SignNeuron>,
    seed: u64,
    trial: u64,
    stream: Stream,
    next_block: u64,
    /// Per source: `sum_s y_s x_sj 1[active]`, `[m, d]`.
    sums: Vec<Array2<f64>>,
    /// Per source: `sum_s y_s^2 1[active]`, per neuron (networks and functions only).
    squares: Vec<Array1<f64>>,
    /// Of the first source: `sum_s y_s^8` over all samples.
    eighth: f64,
    counts: Vec<u64>,
    cancel: Option<Arc<AtomicBool>>,
}

/// Which coordinates the student ranks on top, against the support.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Fraction of neurons whose k largest `|gradient|` are exactly the support.
    pub neurons: f64,
    /// Each neuron votes for its k largest; the support gets strictly the most votes.
    pub vote: bool,
    /// The k largest sums over neurons of the squared gradient are the support.
    pub pooled: bool,
}

impl<'a> FirstPhase<'a> {
    /// Draws `neurons` distinct neurons; no sample yet.
    ///
    /// ```
    /// use curricle_theory::two_phase::{FirstPhase, Problem, Supervision};
    /// let problem = Problem::first(11, 2)?;
    /// let mut phase = FirstPhase::new(&problem, Supervision::Labels, 8, 1, 0)?;
    /// phase.extend(20_000)?;
    /// assert!(phase.ranking().vote);
    /// # Ok::<(), curricle_theory::TheoryError>(())
    /// ```
    pub fn new(
        problem: &'a Problem,
        supervision: Supervision<'a>,
        neurons: usize,
        seed: u64,
        trial: u64,
    ) -> Result<Self> {
        let mut rng = generator(seed, trial, Stream::Neurons, 0);
        check_neurons(neurons)?;
        let drawn = Neurons::draw(neurons, problem.d, problem.k(), 0.5, &mut rng);
        Self::with_neurons(problem, supervision, drawn, seed, trial, Stream::Batch)
    }

    pub(crate) fn with_neurons(
        problem: &'a Problem,
        supervision: Supervision<'a>,
        neurons: Neurons,
        seed: u64,
        trial: u64,
        stream: Stream,
    ) -> Result<Self> {
        let nets: &[ReluNet] = match &supervision {
            Supervision::Net(net) => std::slice::from_ref(*net),
            Supervision::Pool(nets) => nets,
            Supervision::Labels | Supervision::Function(_) => &[],
        };
        if matches!(supervision, Supervision::Pool([])) {
            return Err(TheoryError::Shape { what: "pooled checkpoints", expected: 1, found: 0 });
        }
        nets.iter().try_for_each(|n| n.check_dimension(problem.d))?;
        let evaluators: Vec<_> = nets.iter().map(Evaluator::new).collect();
        let sources = evaluators.len().max(1);
        let packed = neurons.packed();
        let sums = vec![Array2::zeros(neurons.signs.dim()); sources];
        let squares = vec![Array1::zeros(neurons.signs.nrows()); sources];
        Ok(Self {
            problem,
            supervision,
            evaluators,
            packed,
            neurons,
            seed,
            trial,
            stream,
            next_block: 0,
            sums,
            squares,
            eighth: 0.0,
            counts: vec![0; sources],
            cancel: None,
        })
    }

    /// Adds `samples` fresh samples to the batch (split evenly over the sources of a pool, rounded up).
    pub fn extend(&mut self, samples: u64) -> Result<()> {
        if samples > 1 << 40 {
            return out_of_range(
                "batch",
                samples,
                "up to 2^40",
                "no machine finishes that; use `theory bounds`",
            );
        }
        let sources = self.sums.len() as u64;
        for source in 0..self.sums.len() {
            let share = samples.div_ceil(sources);
            let blocks = block_count(share);
            let first = self.next_block;
            if matches!(self.supervision, Supervision::Labels) {
                // Integer sums below 2^53 are exact in f64, so the waves change no bit.
                for wave in (0..blocks).step_by(LABEL_WAVE as usize) {
                    self.check_cancelled()?;
                    let total = self.label_blocks(first, share, wave..(wave + LABEL_WAVE).min(blocks));
                    self.sums[source].zip_mut_with(&total, |s, &t| *s += t as f64);
                }
            } else {
                // Waves bound the memory; within a wave the order of addition is fixed.
                for wave in (0..blocks).step_by(64) {
                    self.check_cancelled()?;
                    let parts: Vec<Result<(Array2<f32>, f64)>> = (wave..(wave + 64).min(blocks))
                        .into_par_iter()
                        .map(|i| self.value_block(source, first + i, block_samples(share, i)))
                        .collect();
                    for part in parts {
                        let (part, eighth) = part?;
                        if source == 0 {
                            self.eighth += eighth;
                        }
                        let (sums, squares) = part.view().split_at(Axis(1), self.problem.d);
                        self.sums[source].zip_mut_with(&sums, |s, &p| *s += f64::from(p));
                        self.squares[source].zip_mut_with(&squares.column(0), |s, &p| *s += f64::from(p));
                    }
                }
            }
            self.next_block += blocks;
            self.counts[source] += share;
        }
        Ok(())
    }

    fn draw(&self, index: u64, samples: usize) -> Block {
        let mut block = Block::new(self.problem.d);
        block.fill(&mut generator(self.seed, self.trial, self.stream, index), samples);
        block
    }

    fn label_blocks(&self, first: u64, share: u64, wave: std::ops::Range<u64>) -> Array2<i64> {
        let zero = || Array2::<i64>::zeros(self.neurons.signs.dim());
        (wave.start as usize..wave.end as usize)
            .into_par_iter()
            .with_min_len(4)
            .fold(zero, |mut sums, i| {
                let i = i as u64;
                let block = self.draw(first + i, block_samples(share, i));
                let valid = block.valid();
                let y = block.parity(&self.problem.support);
                let agree: Vec<[u64; WORDS]> =
                    block.columns.iter().map(|c| std::array::from_fn(|w| c[w] ^ y[w])).collect();
                for (neuron, mut row) in self.packed.iter().zip(sums.rows_mut()) {
                    let sums = row.as_slice_mut().unwrap_or(&mut []);
                    kernel::signed_sums(&block, &valid, &agree, neuron, NeuronSums { active: &mut 0, sums });
                }
                sums
            })
            .reduce(zero, |a, b| a + b)
    }

    fn value_block(&self, source: usize, index: u64, samples: usize) -> Result<(Array2<f32>, f64)> {
        let block = self.draw(index, samples);
        let all: Vec<usize> = (0..self.problem.d).collect();
        let mut x = Array2::<f32>::zeros((samples, self.problem.d + 1));
        x.slice_mut(s![.., ..self.problem.d]).assign(&block.unpack(&all));
        let values: Vec<f32> = match self.supervision {
            Supervision::Function(f) => {
                let point = |r: ndarray::ArrayView1<f32>| {
                    r.iter().take(self.problem.d).map(|&v| f64::from(v)).collect::<Vec<_>>()
                };
                x.rows().into_iter().map(|r| f(&point(r)) as f32).collect()
            }
            _ => self.evaluators[source].values(&block),
        };
        if values.iter().any(|v| !v.is_finite()) {
            return Err(TheoryError::NotFinite {
                what: "an output of the supervising network",
                instead: "rescale it or choose another checkpoint",
            });
        }
        let eighth = values.iter().map(|v| f64::from(*v).powi(8)).sum();
        for (mut row, v) in x.rows_mut().into_iter().zip(values) {
            // The last column becomes the squared value.
            row[self.problem.d] = v;
            row *= v;
        }
        Ok((product(&self.activity(&block), &x), eighth))
    }

    /// A batch that is being added ends with [`TheoryError::Cancelled`] soon after the flag is set; the phase
    /// is then of no further use.
    pub fn cancel_with(mut self, flag: Option<Arc<AtomicBool>>) -> Self {
        self.cancel = flag;
        self
    }

    fn check_cancelled(&self) -> Result<()> {
        match &self.cancel {
            Some(flag) if flag.load(Ordering::Relaxed) => Err(TheoryError::Cancelled),
            _ => Ok(()),
        }
    }

    /// `[m, samples]` of 0 and 1.
    fn activity(&self, block: &Block) -> Array2<f32> {
        let valid = block.valid();
        let mut activity = Array2::<f32>::zeros((self.packed.len(), block.samples));
        for (neuron, mut row) in self.packed.iter().zip(activity.rows_mut()) {
            let bits = kernel::active(block, &valid, neuron);
            row.iter_mut().enumerate().for_each(|(s, v)| *v = (bits[s / 64] >> (s % 64) & 1) as f32);
        }
        activity
    }

    /// Samples drawn so far.
    pub fn batch(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The neurons at initialisation.
    pub fn neurons(&self) -> &Neurons {
        &self.neurons
    }

    /// `-dL/dw_ij` per unit output weight (mean over the batch), of the first source.
    pub fn gradient(&self) -> Array2<f64> {
        &self.sums[0] / self.counts[0].max(1) as f64
    }

    /// `E[y^2 1[active]]` per neuron, of the first source; `P(active)` is not tracked for labels, where this
    /// is `None`.
    pub(crate) fn second_moments(&self) -> Option<Array1<f64>> {
        let labels = matches!(self.supervision, Supervision::Labels);
        (!labels).then(|| &self.squares[0] / self.counts[0].max(1) as f64)
    }

    /// `E[y^8]` of the first source; not tracked for labels.
    pub(crate) fn eighth_moment(&self) -> Option<f64> {
        let labels = matches!(self.supervision, Supervision::Labels);
        (!labels).then(|| self.eighth / self.counts[0].max(1) as f64)
    }

    /// Ranking score: `|gradient|`, or the root of the sum of squares over a pool.
    pub fn scores(&self) -> Array2<f64> {
        let mut total = Array2::<f64>::zeros(self.neurons.signs.dim());
        for (sums, &count) in self.sums.iter().zip(&self.counts) {
            total.zip_mut_with(sums, |t, &s| *t += (s / count.max(1) as f64).powi(2));
        }
        total.mapv(f64::sqrt)
    }

    /// Compares the ranking by [`scores`](Self::scores) with the support.
    pub fn ranking(&self) -> Ranking {
        rank(&self.scores(), &self.problem.support)
    }

    /// The first layer after the step, in mirrored pairs: rows `i` and `i + m` are opposite. See
    /// [`FirstLayer`].
    pub fn first_layer(&self, rule: FirstLayer) -> (Array2<f64>, Array1<f64>) {
        let (m, d) = self.neurons.signs.dim();
        let k = self.problem.k();
        let gradient = self.gradient();
        let scores = self.scores();
        let mut w = Array2::zeros((2 * m, d));
        for i in 0..m {
            let top = top_k(scores.row(i).as_slice().unwrap_or(&[]), k);
            let mean = top.iter().map(|&j| gradient[[i, j]].abs()).sum::<f64>() / k as f64;
            let scale = 1.0 / (2.0 * k as f64);
            for j in 0..d {
                let v = match rule {
                    FirstLayer::Gradient if mean > 0.0 => gradient[[i, j]] / mean * scale,
                    FirstLayer::PrunedInit if top.contains(&j) => {
                        f64::from(self.neurons.signs[[i, j]]) * scale
                    }
                    _ => 0.0,
                };
                w[[i, j]] = v;
                w[[i + m, j]] = -v;
            }
        }
        let b = Array1::from_shape_fn(2 * m, |i| self.neurons.biases[i % m]);
        (w, b)
    }
}

/// What becomes of the first layer after the first phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FirstLayer {
    /// The gradient itself, each neuron scaled so that its k largest entries average `1/(2k)` (Algorithm 1).
    Gradient,
    /// The k largest entries keep the signs of their initialisation, `+-1/(2k)`, the others become 0. Under
    /// an odd teacher and odd d all gradients are multiples of *one* vector (README, section 4), so
    /// `Gradient` leaves a first layer of rank one; this rule keeps the diversity the second phase's width
    /// argument needs.
    PrunedInit,
}

fn check_neurons(neurons: usize) -> Result<()> {
    if neurons == 0 || neurons > 1 << 20 {
        return out_of_range(
            "neurons",
            neurons,
            "1..=2^20",
            "32 to 64 are enough to estimate the fraction that recovers the support",
        );
    }
    Ok(())
}

/// Ties go to the higher index: the support is usually the first coordinates, and a tie must not count as
/// having found it.
fn top_k(scores: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).rev().collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(k);
    order
}

fn separated(scores: &[f64], inside: &[bool]) -> bool {
    let of = |want: bool| scores.iter().zip(inside).filter(move |(_, i)| **i == want).map(|(s, _)| *s);
    of(true).fold(f64::INFINITY, f64::min) > of(false).fold(f64::NEG_INFINITY, f64::max)
}

/// Adds one neuron's k votes; coordinates tied for the last places share them.
fn vote(scores: &[f64], k: usize, votes: &mut [f64]) {
    let top = top_k(scores, k);
    let Some(last) = top.last().map(|&j| scores[j]) else {
        return;
    };
    let above = scores.iter().filter(|s| **s > last).count();
    let tied = scores.iter().filter(|s| **s == last).count();
    let share = (k - above) as f64 / tied.max(1) as f64;
    for (v, s) in votes.iter_mut().zip(scores) {
        *v += if *s > last {
            1.0
        } else if *s == last {
            share
        } else {
            0.0
        };
    }
}

fn rank(scores: &Array2<f64>, support: &[usize]) -> Ranking {
    let (m, d) = scores.dim();
    let mut inside = vec![false; d];
    support.iter().for_each(|&j| inside[j] = true);
    let mut votes = vec![0.0; d];
    let mut pooled = vec![0.0; d];
    let mut right = 0usize;
    for row in scores.rows() {
        let row = row.to_vec();
        right += usize::from(separated(&row, &inside));
        vote(&row, support.len(), &mut votes);
        pooled.iter_mut().zip(&row).for_each(|(p, s)| *p += s * s);
    }
    Ranking {
        neurons: right as f64 / m as f64,
        vote: separated(&votes, &inside),
        pooled: separated(&pooled, &inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_do_not_find_the_support() {
        let ties = Array2::from_elem((3, 6), 0.5);
        let found = rank(&ties, &[0, 1]);
        assert_eq!((found.neurons, found.vote, found.pooled), (0.0, false, false));
        let mut votes = vec![0.0; 4];
        vote(&[3.0, 1.0, 1.0, 0.0], 2, &mut votes);
        assert_eq!(votes, [1.0, 0.5, 0.5, 0.0]);
        // A single sample, from which nothing can be learned.
        let problem = Problem::first(15, 2).unwrap();
        let mut phase = FirstPhase::new(&problem, Supervision::Labels, 32, 1, 0).unwrap();
        phase.extend(1).unwrap();
        assert!(!phase.ranking().vote);
    }
}
