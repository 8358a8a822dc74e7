//! The second phase of one first layer with many sample counts, by the cheapest exact form.
//!
//! When at most [`MOST`] coordinates carry weight, features take `2^r` values `phi_p`, the iterate stays in
//! their span, `a = sum_p c_p phi_p`, and SGD runs on the `2^r` outputs `F = K c` with `K` the Gram matrix:
//! one step costs `2^r` additions instead of three passes over the width, and the loss is exact. Otherwise it
//! is [`train_second_layer_from`] and a loss on fresh samples.

use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::{Array1, Array2};

use super::Problem;
use super::evaluate::Evaluator;
use super::samples::{Block, Stream, block_count, block_samples, generator};
use super::second::{Labeller, SecondPhase, check_settings, hinge_loss, train_second_layer_from};
use crate::error::{Result, TheoryError};
use crate::net::ReluNet;

/// Most coordinates whose patterns are enumerated.
const MOST: usize = 9;
/// Fresh samples a loss is measured on where it is not exact.
const TEST: u64 = 1 << 14;

/// A trained second layer.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The network with the averaged second layer.
    pub net: ReluNet,
    /// Its hinge loss on true labels (exact, or on fresh samples).
    pub loss: f64,
    /// Its error rate; a margin of 0 counts half.
    pub error: f64,
}

/// Trains the second layer on top of one first layer.
pub struct SecondTrainer<'a> {
    layer: &'a ReluNet,
    problem: &'a Problem,
    labeller: Labeller<'a>,
    patterns: Option<Patterns>,
}

struct Patterns {
    active: Vec<usize>,
    features: Array2<f64>,
    gram: Array2<f64>,
    truth: Vec<f64>,
    /// Labels per pattern; `None`: the teacher sees coordinates outside, ask it per sample.
    labels: Option<Vec<f64>>,
}

impl<'a> SecondTrainer<'a> {
    /// Prepares the trainer. Errors: dimensions that disagree.
    pub fn new(layer: &'a ReluNet, problem: &'a Problem, labeller: Labeller<'a>) -> Result<Self> {
        layer.check_dimension(problem.dimension())?;
        if let Labeller::Sign(teacher) = labeller {
            teacher.check_dimension(problem.dimension())?;
        }
        let active = carrying(layer, problem.support());
        let patterns = (active.len() <= MOST).then(|| Patterns::new(layer, problem, labeller, active));
        Ok(Self { layer, problem, labeller, patterns })
    }

    /// Averaged projected SGD from zero, as [`train_second_layer`](super::train_second_layer).
    ///
    /// ```
    /// use curricle_theory::{bounds::pruned_layer, two_phase::{Labeller, Problem, SecondPhase, SecondTrainer}};
    /// let (layer, problem) = (pruned_layer(2, 32, 1, 0)?, Problem::first(2, 2)?);
    /// let trainer = SecondTrainer::new(&layer, &problem, Labeller::Truth)?;
    /// let settings = SecondPhase { samples: 4000, radius: 8.0, feature_norm: 2.0 };
    /// assert!(trainer.train(settings, (1, 0), None)?.loss < 0.2);
    /// # Ok::<(), curricle_theory::TheoryError>(())
    /// ```
    pub fn train(
        &self,
        settings: SecondPhase,
        key: (u64, u64),
        cancel: Option<&AtomicBool>,
    ) -> Result<Trained> {
        let Some(patterns) = &self.patterns else {
            let net =
                train_second_layer_from(self.layer, self.problem, self.labeller, settings, key, cancel)?;
            let (loss, error) = hinge_loss(&net, self.problem, TEST, key.0, key.1)?;
            return Ok(Trained { net, loss, error });
        };
        check_settings(&settings)?;
        let average = patterns.descend(self.problem.dimension(), self.labeller, settings, key, cancel)?;
        let n = average.len() as f64;
        let margins = patterns.gram.dot(&average);
        let (mut loss, mut error) = (0.0, 0.0);
        for (f, y) in margins.iter().zip(&patterns.truth) {
            loss += (1.0 - y * f).max(0.0) / n;
            // Rounding decides nothing: a margin that is 0 but for it counts half.
            error += if (y * f).abs() < 1e-9 { 0.5 } else { f64::from(u8::from(y * f < 0.0)) } / n;
        }
        let mut a = patterns.features.t().dot(&average).to_vec();
        let bias = a.pop().unwrap_or(0.0);
        let net =
            ReluNet::new(self.layer.hidden().clone(), self.layer.biases().clone(), Array1::from(a), bias)?;
        Ok(Trained { net, loss, error })
    }
}

/// Coordinates that carry weight, and the support.
fn carrying(layer: &ReluNet, support: &[usize]) -> Vec<usize> {
    let used = |j: usize| support.contains(&j) || layer.hidden().column(j).iter().any(|&v| v != 0.0);
    (0..layer.dimension()).filter(|&j| used(j)).collect()
}

impl Patterns {
    fn new(layer: &ReluNet, problem: &Problem, labeller: Labeller<'_>, active: Vec<usize>) -> Self {
        let n = 1usize << active.len();
        let sign = |p: usize, i: usize| if p >> i & 1 == 1 { -1.0 } else { 1.0 };
        let x = Array2::from_shape_fn((n, active.len()), |(p, i)| sign(p, i));
        let columns = layer.hidden().select(ndarray::Axis(1), &active);
        let mut features = Array2::ones((n, layer.width() + 1));
        let z = x.dot(&columns.t());
        for ((p, i), v) in z.indexed_iter() {
            features[[p, i]] = (v + layer.biases()[i]).max(0.0);
        }
        let gram = features.dot(&features.t());
        let truth: Vec<f64> = (0..n)
            .map(|p| {
                let inside = active.iter().enumerate().filter(|(_, j)| problem.support().contains(j));
                inside.map(|(i, _)| sign(p, i)).product()
            })
            .collect();
        let labels = match labeller {
            Labeller::Truth => Some(truth.clone()),
            Labeller::Sign(teacher) => {
                let seen = carrying(teacher, &[]).iter().all(|j| active.contains(j));
                seen.then(|| {
                    let mut point = vec![1.0; layer.dimension()];
                    (0..n)
                        .map(|p| {
                            active.iter().enumerate().for_each(|(i, &j)| point[j] = sign(p, i));
                            // The dimension was checked.
                            if teacher.evaluate(&point).is_ok_and(|f| f < 0.0) { -1.0 } else { 1.0 }
                        })
                        .collect()
                })
            }
        };
        Self { active, features, gram, truth, labels }
    }

    /// Averaged coefficients.
    fn descend(
        &self,
        d: usize,
        labeller: Labeller<'_>,
        settings: SecondPhase,
        key: (u64, u64),
        cancel: Option<&AtomicBool>,
    ) -> Result<Array1<f64>> {
        let n = self.gram.nrows();
        let step = settings.radius / (settings.feature_norm * (settings.samples as f64).sqrt());
        let teacher = match (labeller, &self.labels) {
            (Labeller::Sign(teacher), None) => Some(Evaluator::new(teacher)),
            _ => None,
        };
        let mut c = vec![0.0f64; n];
        let mut outputs = vec![0.0f64; n];
        let mut square = 0.0f64;
        // average = c_T - (1/T) sum_s s * (change at s), so a sample without a change costs nothing.
        let mut weighted = vec![0.0f64; n];
        let mut seen = 0.0f64;
        let mut block = Block::new(d);
        for index in 0..block_count(settings.samples) {
            if cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                return Err(TheoryError::Cancelled);
            }
            let samples = block_samples(settings.samples, index);
            block.fill(&mut generator(key.0, key.1, Stream::SecondPhase, index), samples);
            let margins = teacher.as_ref().map(|t| t.values(&block));
            for s in 0..samples {
                let bit = |j: usize| (block.columns[j][s / 64] >> (s % 64) & 1) as usize;
                let p = self.active.iter().enumerate().map(|(i, &j)| bit(j) << i).sum::<usize>();
                let y = match (&self.labels, &margins) {
                    (Some(labels), _) => labels[p],
                    (None, Some(margins)) if margins[s] < 0.0 => -1.0,
                    _ => 1.0,
                };
                seen += 1.0;
                if y * outputs[p] >= 1.0 {
                    continue;
                }
                let row = self.gram.row(p);
                square += step * step * row[p] + 2.0 * step * y * outputs[p];
                c[p] += step * y;
                weighted[p] += seen * step * y;
                outputs.iter_mut().zip(row).for_each(|(f, k)| *f += step * y * k);
                if square > settings.radius * settings.radius {
                    let shrink = settings.radius / square.sqrt();
                    square = settings.radius * settings.radius;
                    for (c, w) in c.iter_mut().zip(&mut weighted) {
                        *w += seen * (shrink - 1.0) * *c;
                        *c *= shrink;
                    }
                    outputs.iter_mut().for_each(|f| *f *= shrink);
                }
            }
        }
        // The average runs over the iterates before each sample.
        Ok(c.iter().zip(&weighted).map(|(c, w)| c - w / seen.max(1.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::pruned_layer;

    #[test]
    fn patterns_and_samples_train_the_same_network() {
        let layer = pruned_layer(3, 24, 4, 0).unwrap();
        let problem = Problem::first(3, 3).unwrap();
        // A radius small enough that the projection acts.
        for radius in [2.0, 30.0] {
            let settings = SecondPhase { samples: 3000, radius, feature_norm: 1.0 };
            let trainer = SecondTrainer::new(&layer, &problem, Labeller::Truth).unwrap();
            let fast = trainer.train(settings, (1, 2), None).unwrap();
            let slow =
                train_second_layer_from(&layer, &problem, Labeller::Truth, settings, (1, 2), None).unwrap();
            let difference = (fast.net.output() - slow.output()).mapv(f64::abs).sum();
            assert!(difference < 1e-4 * radius, "radius {radius}: {difference}");
            let (loss, error) = hinge_loss(&slow, &problem, 1 << 16, 9, 9).unwrap();
            assert!((loss - fast.loss).abs() < 0.02 && (error - fast.error).abs() < 0.01);
        }
    }

    #[test]
    fn a_teacher_labels_by_its_sign() {
        let layer = pruned_layer(2, 16, 4, 0).unwrap();
        let problem = Problem::first(2, 2).unwrap();
        let settings = SecondPhase { samples: 4000, radius: 8.0, feature_norm: 1.0 };
        let truth = SecondTrainer::new(&layer, &problem, Labeller::Truth).unwrap();
        let teacher = truth.train(settings, (1, 2), None).unwrap();
        assert_eq!(teacher.error, 0.0);
        let student = SecondTrainer::new(&layer, &problem, Labeller::Sign(&teacher.net)).unwrap();
        let same = student.train(settings, (1, 2), None).unwrap();
        assert_eq!(same.net, teacher.net, "a teacher without errors is as good as labels");
    }
}
