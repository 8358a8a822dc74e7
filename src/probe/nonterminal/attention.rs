//! The multi-head position-attention probe (Allen-Zhu and Li 2023): 16 linear maps, mixed over positions by learned
//! position weights, trained with Adam.

use super::heads::{Heads, Sentence};
use super::{Examples, LevelAccuracy, accuracies};
use crate::sequence::SequenceProbeError;
use curricle_core::optim::rate::RateSchedule;
use curricle_core::rng::{self, Purpose, Stream};
use ndarray::{Array1, Array2, Array3};

/// Sizes and training of the probe. The defaults are those of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionProbe {
    /// Heads.
    pub heads: usize,
    /// Width K of each head's position matrix \[positions, K\].
    pub width: usize,
    /// Peak learning rate of Adam (betas 0.9 and 0.999, eps 1e-8), after a warmup of 6% of the steps, then a cosine to 0.
    pub rate: f64,
    /// Sentences per step.
    pub batch: usize,
    /// Passes over the training sentences.
    pub epochs: usize,
    /// Seed of the first weights and of the order of the sentences.
    pub seed: u64,
}

impl Default for AttentionProbe {
    fn default() -> Self {
        Self { heads: 16, width: 256, rate: 1e-2, batch: 64, epochs: 4, seed: 0 }
    }
}

/// Share of the steps spent on the warmup.
const WARMUP: f64 = 0.06;

impl AttentionProbe {
    /// Trains on some sentences and gives the accuracy per level on others. `progress` is told the step, all steps and the loss.
    ///
    /// # Errors
    /// Without sentences on either side, or settings of 0.
    pub fn run(
        &self,
        train: &Examples,
        test: &Examples,
        progress: &mut dyn FnMut(usize, usize, f32),
    ) -> Result<Vec<LevelAccuracy>, SequenceProbeError> {
        train.check(test)?;
        if self.heads == 0 || self.width == 0 || self.batch == 0 || self.epochs == 0 {
            let text = "heads, width, batch and epochs of the probe must be at least 1";
            return Err(SequenceProbeError::Data(text.to_owned()));
        }
        let mut heads = self.first_weights(train, train.longest().max(test.longest()));
        let blocks = train.classes.blocks();
        let count = train.examples.len();
        let total = self.epochs * count.div_ceil(self.batch);
        let mut adam = Adam::new(&heads);
        let schedule = RateSchedule::Cosine { warmup: WARMUP };
        let mut step = 0;
        for epoch in 0..self.epochs {
            let stream = Stream::new(Purpose::Probe, 0xFF_0001);
            let order = rng::distinct(self.seed, stream, (epoch * count) as u64, count, count);
            for chunk in order.chunks(self.batch) {
                let batch: Vec<Sentence<'_, f32>> = chunk
                    .iter()
                    .map(|&i| (train.examples[i].hidden.view(), &train.examples[i].labels[..]))
                    .collect();
                let (loss, gradient) = heads.gradient(&batch, &blocks);
                if !loss.is_finite() {
                    let text =
                        format!("the probe's loss is not finite at step {step}: lower its learning rate");
                    return Err(SequenceProbeError::Data(text));
                }
                adam.step(&mut heads, &gradient, schedule.rate(self.rate, step as u64, total as u64));
                step += 1;
                progress(step, total, loss);
            }
        }
        let score = |i: usize| {
            let example = &test.examples[i];
            heads.scores(&[(example.hidden.view(), &example.labels[..])]).remove(0)
        };
        Ok(accuracies(test, score))
    }

    /// Normal weights. Maps have the scale of a linear layer shared by all heads; position vectors have the squared norm
    /// ln(positions), so that at first a position gives about as much weight to itself as to all others.
    fn first_weights(&self, train: &Examples, longest: usize) -> Heads<f32> {
        let (d, outputs) = (train.width(), train.classes.outputs());
        let norm = ((longest.max(2) as f64).ln() / self.width as f64).sqrt();
        let positions = normals(self.seed, 0xFF_0002, self.heads * longest * self.width, norm);
        let maps =
            normals(self.seed, 0xFF_0003, d * self.heads * outputs, 1.0 / ((d * self.heads) as f64).sqrt());
        Heads {
            positions: Array3::from_shape_vec((self.heads, longest, self.width), positions).expect("counted"),
            maps: Array2::from_shape_vec((d, self.heads * outputs), maps).expect("counted"),
            bias: Array1::zeros(outputs),
        }
    }
}

/// Normal numbers by Box and Muller, four per block.
fn normals(seed: u64, sub: u32, count: usize, deviation: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 3);
    for block in 0..count.div_ceil(4) as u64 {
        let words = rng::bits(seed, Stream::new(Purpose::Probe, sub), block, 0);
        for pair in words.chunks_exact(2) {
            let radius = (-2.0 * ((f64::from(pair[0]) + 1.0) / 4_294_967_296.0).ln()).sqrt() * deviation;
            let (sin, cos) = (std::f64::consts::TAU * f64::from(pair[1]) / 4_294_967_296.0).sin_cos();
            values.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
    }
    values.truncate(count);
    values
}

/// Adam with PyTorch's defaults.
struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Adam {
    fn new(heads: &Heads<f32>) -> Self {
        let count = heads.values().count();
        Self { first: vec![0.0; count], second: vec![0.0; count], steps: 0 }
    }

    fn step(&mut self, heads: &mut Heads<f32>, gradient: &Heads<f32>, rate: f32) {
        self.steps += 1;
        let (b1, b2) = (0.9f32, 0.999f32);
        let (c1, c2) = (1.0 - b1.powi(self.steps), 1.0 - b2.powi(self.steps));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((w, &g), (m, v)) in heads.values_mut().zip(gradient.values()).zip(moments) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *w -= rate * (*m / c1) / ((*v / c2).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nonterminal::ridge::ridge;
    use crate::nonterminal::{Classes, Example};

    /// Sentences of three segments of eight tokens (the last one may be cut off). Half of the tokens show the class of their
    /// segment, the others a random one: neighbours have to be asked.
    fn noisy(first: u64, count: u64) -> Examples {
        let classes = Classes { levels: vec![(2, vec![Some(0), Some(1), Some(2)])] };
        let example = |index: u64| {
            let draw =
                |i: usize| rng::below(9, Stream::new(Purpose::Probe, 7), 100 * index + i as u64, 6) as usize;
            let length = 24 - draw(60);
            let labels: Vec<usize> = (0..length).map(|t| draw(t / 8) % 3).collect();
            let shown = |t: usize| if draw(10 + t) < 3 { labels[t] } else { draw(10 + t) % 3 };
            let code = |(t, c)| if shown(t) == c { 1.0 } else { 0.0 };
            Example { hidden: Array2::from_shape_fn((length, 3), code), labels: vec![labels] }
        };
        Examples { classes, examples: (first..first + count).map(example).collect() }
    }

    #[test]
    fn mixing_positions_beats_a_linear_map_of_one() {
        let (train, test) = (noisy(0, 512), noisy(512, 100));
        let probe = AttentionProbe { heads: 16, width: 16, batch: 16, ..AttentionProbe::default() };
        let (mut first, mut last) = (None, 0.0);
        let result = probe
            .run(&train, &test, &mut |step, total, loss| {
                assert!(step <= total && total == 128);
                first.get_or_insert(loss);
                last = loss;
            })
            .unwrap();
        assert!(last < 0.6 * first.unwrap(), "{first:?} {last}");
        let alone = ridge(&train, &test, 1e-6).unwrap();
        assert!((alone[0].accuracy - 2.0 / 3.0).abs() < 0.05, "{alone:?}");
        assert!(result[0].accuracy > 0.8, "{result:?} {alone:?}");
        let again = probe.run(&train, &test, &mut |_, _, _| {}).unwrap();
        assert_eq!(result, again);
        let none = AttentionProbe { epochs: 0, ..probe };
        assert!(none.run(&train, &test, &mut |_, _, _| {}).is_err());
    }
}
