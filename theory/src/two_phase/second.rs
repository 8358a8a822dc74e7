//! Second phase: averaged projected SGD on the hinge loss, first layer frozen (a convex problem).

use std::sync::atomic::{AtomicBool, Ordering};

use ndarray::Array1;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::evaluate::Evaluator;
use super::samples::{Block, Stream, WORDS, block_count, block_samples, generator, sign_of};
use crate::error::{Result, TheoryError, out_of_range};
use crate::net::ReluNet;

/// Settings of the second phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SecondPhase {
    /// Samples `T_2`, each used once.
    pub samples: u64,
    /// Radius `A` of the ball the second layer (with output bias) is kept in.
    pub radius: f64,
    /// Norm bound `R` of the features; the step is `A / (R sqrt(T_2))`.
    pub feature_norm: f64,
}

/// Trains the second layer of `net` (and its output bias) on fresh labelled samples from zero; returns the
/// network with the averaged iterate.
///
/// Expected loss exceeds that of any comparator of norm at most `A` by at most `A R / sqrt(T_2)` (README,
/// section 5).
pub fn train_second_layer(
    net: &ReluNet,
    problem: &Problem,
    settings: SecondPhase,
    seed: u64,
    trial: u64,
) -> Result<ReluNet> {
    train_second_layer_from(net, problem, Labeller::Truth, settings, (seed, trial), None)
}

/// Who labels the samples of a second phase.
#[derive(Clone, Copy)]
pub enum Labeller<'a> {
    /// The parity itself.
    Truth,
    /// The sign of a network's margin: a teacher at temperature 0 (a margin of 0 counts as +1).
    Sign(&'a ReluNet),
}

/// As [`train_second_layer`], from any labeller; `key` is `(seed, trial)`. Ends with
/// [`TheoryError::Cancelled`] soon after `cancel` is set.
pub fn train_second_layer_from(
    net: &ReluNet,
    problem: &Problem,
    labeller: Labeller<'_>,
    settings: SecondPhase,
    key: (u64, u64),
    cancel: Option<&AtomicBool>,
) -> Result<ReluNet> {
    if let Labeller::Sign(teacher) = labeller {
        teacher.check_dimension(problem.dimension())?;
    }
    let teacher = match labeller {
        Labeller::Truth => None,
        Labeller::Sign(teacher) => Some(Evaluator::new(teacher)),
    };
    net.check_dimension(problem.dimension())?;
    check_settings(&settings)?;
    let evaluator = Evaluator::new(net);
    let m = net.width();
    let step = settings.radius / (settings.feature_norm * (settings.samples as f64).sqrt());
    let mut a = vec![0.0f64; m + 1];
    let mut average = vec![0.0f64; m + 1];
    let mut block = Block::new(problem.dimension());
    let mut seen = 0.0;
    for index in 0..block_count(settings.samples) {
        let samples = block_samples(settings.samples, index);
        if cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(TheoryError::Cancelled);
        }
        block.fill(&mut generator(key.0, key.1, Stream::SecondPhase, index), samples);
        let features = evaluator.features(&block);
        let mut labels = block.parity(problem.support());
        if let Some(teacher) = &teacher {
            labels = [0; WORDS];
            let margins = teacher.values(&block);
            margins.iter().enumerate().for_each(|(s, f)| labels[s / 64] |= u64::from(*f < 0.0) << (s % 64));
        }
        for (s, phi) in features.rows().into_iter().enumerate() {
            let y = f64::from(sign_of(labels[s / 64], s % 64));
            seen += 1.0;
            average.iter_mut().zip(&a).for_each(|(m, a)| *m += (a - *m) / seen);
            let f: f64 = phi.iter().zip(&a).map(|(p, a)| f64::from(*p) * a).sum::<f64>() + a[m];
            if y * f < 1.0 {
                a.iter_mut().zip(phi.iter()).for_each(|(a, p)| *a += step * y * f64::from(*p));
                a[m] += step * y;
                let norm = a.iter().map(|v| v * v).sum::<f64>().sqrt();
                if norm > settings.radius {
                    a.iter_mut().for_each(|v| *v *= settings.radius / norm);
                }
            }
        }
    }
    let bias = average.pop().unwrap_or(0.0);
    ReluNet::new(net.hidden().clone(), net.biases().clone(), Array1::from(average), bias)
}

pub(super) fn check_settings(settings: &SecondPhase) -> Result<()> {
    for (what, value) in [
        ("radius", settings.radius),
        ("feature norm", settings.feature_norm),
        ("samples", settings.samples as f64),
    ] {
        if !(value > 0.0 && value.is_finite()) {
            return out_of_range(
                what,
                value,
                "the positive numbers",
                "`theory bounds` prints A, R and T_2 of a first layer",
            );
        }
    }
    Ok(())
}

/// Hinge loss and error rate of `net` on `samples` fresh labelled samples (a margin of exactly 0 counts as
/// half an error).
pub fn hinge_loss(
    net: &ReluNet,
    problem: &Problem,
    samples: u64,
    seed: u64,
    trial: u64,
) -> Result<(f64, f64)> {
    net.check_dimension(problem.dimension())?;
    if samples == 0 {
        return out_of_range("samples", 0, "1..", "give at least one sample");
    }
    let evaluator = Evaluator::new(net);
    let parts: Vec<(f64, f64)> = (0..block_count(samples))
        .into_par_iter()
        .map(|index| {
            let mut block = Block::new(problem.dimension());
            block.fill(&mut generator(seed, trial, Stream::Test, index), block_samples(samples, index));
            let labels = block.parity(problem.support());
            let margins = evaluator
                .values(&block)
                .into_iter()
                .enumerate()
                .map(|(s, f)| f64::from(f * sign_of(labels[s / 64], s % 64)));
            margins.fold((0.0, 0.0), |(loss, wrong), m| {
                (
                    loss + (1.0 - m).max(0.0),
                    wrong
                        + if m > 0.0 {
                            0.0
                        } else if m == 0.0 {
                            0.5
                        } else {
                            1.0
                        },
                )
            })
        })
        .collect();
    let (loss, wrong) = parts.into_iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
    if !loss.is_finite() {
        return Err(TheoryError::NotFinite {
            what: "the hinge loss",
            instead: "the network diverged; lower the radius",
        });
    }
    Ok((loss / samples as f64, wrong / samples as f64))
}
