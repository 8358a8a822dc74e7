//! Targets made of labels and teacher logits.

use crate::model::Loss;
use serde::{Deserialize, Serialize};

/// Weight of the labels in a distillation target.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a number from 0 to 1 or { from = 1.0, to = 0.0, steps = 1000 }")]
pub enum LabelMix {
    /// The same throughout.
    Constant(f32),
    /// Linear from one value to another.
    Ramp(LabelRamp),
}

/// A linear change of the label weight.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRamp {
    /// At step 0.
    pub from: f32,
    /// From `steps` on.
    pub to: f32,
    /// Length.
    pub steps: u64,
}

impl Default for LabelMix {
    fn default() -> Self {
        Self::Constant(0.0)
    }
}

impl LabelMix {
    /// The weight at `step`.
    #[inline]
    pub fn at(&self, step: u64) -> f32 {
        match self {
            Self::Constant(mix) => *mix,
            Self::Ramp(ramp) => {
                let done = (step as f64 / ramp.steps as f64).min(1.0) as f32;
                ramp.from + (ramp.to - ramp.from) * done
            }
        }
    }
}

/// softmax(logits / temperature) of one sample; temperature 0 is the one-hot argmax (the first of equal logits).
///
/// Differences are divided in f64 after the largest logit is taken off, so that a temperature of 1e-20 gives an argmax
/// and not an overflow.
#[inline]
pub fn soften(logits: &[f32], temperature: f64, out: &mut [f32]) {
    let mut best = 0;
    for (c, z) in logits.iter().enumerate() {
        if *z > logits[best] {
            best = c;
        }
    }
    if temperature == 0.0 {
        out.fill(0.0);
        out[best] = 1.0;
        return;
    }
    let peak = f64::from(logits[best]);
    let mut total = 0.0;
    for z in logits {
        total += ((f64::from(*z) - peak) / temperature).exp();
    }
    for (p, z) in out.iter_mut().zip(logits) {
        *p = (((f64::from(*z) - peak) / temperature).exp() / total) as f32;
    }
}

/// Targets of `loss` from labels alone: one-hot rows for cross-entropy, -1 (label 0) or +1 (label 1) for margin losses.
pub fn from_labels<L: Copy + Into<u32>>(loss: Loss, classes: usize, labels: &[L]) -> Vec<f32> {
    match loss {
        Loss::CrossEntropy => {
            let mut targets = vec![0.0; labels.len() * classes];
            for (row, label) in targets.chunks_exact_mut(classes).zip(labels) {
                row[(*label).into() as usize] = 1.0;
            }
            targets
        }
        Loss::Hinge | Loss::Correlation => {
            labels.iter().map(|&l| (l.into() as f32).mul_add(2.0, -1.0)).collect()
        }
    }
}

/// Targets of `loss` from teacher logits [n, C], sample i mixed with its label by the weight `mix(i)`.
///
/// Cross-entropy: mix * one-hot + (1 - mix) * softmax(logits / temperature), which is exactly
/// mix * CE(labels) + (1 - mix) * soft CE because the loss is linear in its target. Margin losses: the teacher's margin
/// divided by the temperature, or its sign at temperature 0; the mix is linear in the target as well, and therefore a mix of
/// losses for the correlation loss only (the spec reader refuses it for hinge).
pub fn from_teacher<L: Copy + Into<u32>>(
    loss: Loss,
    classes: usize,
    labels: &[L],
    logits: &[f32],
    temperature: f64,
    mix: impl Fn(usize) -> f32,
) -> Vec<f32> {
    let mut targets = match loss {
        Loss::CrossEntropy => {
            let mut targets = vec![0.0; logits.len()];
            for (out, z) in targets.chunks_exact_mut(classes).zip(logits.chunks_exact(classes)) {
                soften(z, temperature, out);
            }
            targets
        }
        Loss::Hinge | Loss::Correlation => logits
            .chunks_exact(2)
            .map(|z| {
                let margin = f64::from(z[1]) - f64::from(z[0]);
                if temperature == 0.0 { margin.signum() as f32 } else { (margin / temperature) as f32 }
            })
            .collect(),
    };
    let width = loss.target_width(classes);
    let hard = from_labels(loss, classes, labels);
    for (i, (target, label)) in targets.chunks_exact_mut(width).zip(hard.chunks_exact(width)).enumerate() {
        let mix = mix(i);
        if mix > 0.0 {
            target.iter_mut().zip(label).for_each(|(t, h)| *t = mix * h + (1.0 - mix) * *t);
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softened(logits: &[f32], temperature: f64) -> Vec<f32> {
        let mut out = vec![9.0; logits.len()];
        soften(logits, temperature, &mut out);
        out
    }

    #[test]
    fn temperature_reaches_from_argmax_to_uniform() {
        let logits = [0.1f32, 0.3, -2.0];
        assert_eq!(softened(&logits, 0.0), [0.0, 1.0, 0.0]);
        assert_eq!(softened(&logits, 1e-20), [0.0, 1.0, 0.0]);
        assert_eq!(softened(&[1e30, -1e30, 1e30], 1e-20), [0.5, 0.0, 0.5]);
        assert_eq!(softened(&[0.2, 0.2], 0.0), [1.0, 0.0]);
        let one = softened(&logits, 1.0);
        let total: f32 = logits.iter().map(|z| z.exp()).sum();
        for (p, z) in one.iter().zip(logits) {
            assert!((p - z.exp() / total).abs() < 1e-6);
        }
        assert!(softened(&logits, 1e9).iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-6));
    }

    #[test]
    fn mixing_targets_mixes_losses() {
        let (labels, logits, student) = ([1u8], [0.7f32, -0.4], [0.2f32, 0.9]);
        let value = |target: &[f32]| Loss::CrossEntropy.gradient(&student, target, &mut [0.0; 2]);
        let soft = value(&from_teacher(Loss::CrossEntropy, 2, &labels, &logits, 0.5, |_| 0.0));
        let hard = value(&from_labels(Loss::CrossEntropy, 2, &labels));
        let mixed = value(&from_teacher(Loss::CrossEntropy, 2, &labels, &logits, 0.5, |_| 0.3));
        assert!((mixed - (0.3 * hard + 0.7 * soft)).abs() < 1e-6);
    }

    #[test]
    fn margin_targets_are_the_margin() {
        let logits = [0.5f32, 2.0, 1.0, 0.0];
        assert_eq!(from_teacher(Loss::Correlation, 2, &[0u8, 0], &logits, 1.0, |_| 0.0), [1.5, -1.0]);
        assert_eq!(from_teacher(Loss::Hinge, 2, &[0u8, 0], &logits, 0.0, |_| 0.0), [1.0, -1.0]);
        assert_eq!(from_labels(Loss::Hinge, 2, &[0u8, 1]), [-1.0, 1.0]);
    }
}
