//! What a student learns from: targets made of labels and teacher logits.

use crate::keys::{KeyError, require};
use crate::model::Loss;
use serde::{Deserialize, Serialize};

/// What a student learns from its teacher's logits, as one value: the spec says it, runs record it, and every engine makes its
/// targets from it. What a target can be told is added here (and to the kernel `target.wgsl`, which a test holds to
/// [`Target::of_teacher`] on every adapter).
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, Serialize)]
pub struct Target {
    /// Teacher logits are divided by it; 0 is the argmax.
    #[serde(default)]
    pub temperature: f64,
    /// Weight of the labels.
    #[serde(default)]
    pub label_mix: LabelMix,
}

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
    /// The weights between which it stays.
    fn ends(&self) -> [f32; 2] {
        match self {
            Self::Constant(mix) => [*mix; 2],
            Self::Ramp(ramp) => [ramp.from, ramp.to],
        }
    }

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

impl Target {
    /// Checks the values for a student that minimises `loss`; `key` is where they are written, such as `arms.two.distill`.
    ///
    /// # Errors
    /// The key, what is wrong and what is allowed.
    pub fn check(&self, key: &str, loss: Loss) -> Result<(), KeyError> {
        let Self { temperature, label_mix } = self;
        require(
            temperature.is_finite() && *temperature >= 0.0,
            &format!("{key}.temperature"),
            format!("{temperature} is not a number from 0 on"),
        )?;
        let at = format!("{key}.label_mix");
        if let LabelMix::Ramp(ramp) = label_mix {
            require(ramp.steps > 0, &format!("{at}.steps"), "must be at least 1")?;
        }
        let ends = label_mix.ends();
        require(ends.iter().all(|m| (0.0..=1.0).contains(m)), &at, "must be from 0 to 1")?;
        require(
            loss != Loss::Hinge || ends.iter().all(|m| *m == 0.0),
            &at,
            "the hinge loss is not linear in its target, so labels cannot be mixed in",
        )
    }

    /// Targets of `loss` from teacher logits [n, C]; sample i belongs to step `step(i)`.
    ///
    /// Cross-entropy: mix * one-hot + (1 - mix) * softmax(logits / temperature), which is exactly
    /// mix * CE(labels) + (1 - mix) * soft CE because the loss is linear in its target. Margin losses: the teacher's margin
    /// divided by the temperature, or its sign at temperature 0; the mix is linear in the target as well, and therefore a mix of
    /// losses for the correlation loss only ([`Self::check`] refuses it for hinge).
    pub fn of_teacher<L: Copy + Into<u32>>(
        &self,
        loss: Loss,
        classes: usize,
        labels: &[L],
        logits: &[f32],
        step: impl Fn(usize) -> u64,
    ) -> Vec<f32> {
        let Self { temperature, label_mix } = *self;
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
        for (i, (target, label)) in targets.chunks_exact_mut(width).zip(hard.chunks_exact(width)).enumerate()
        {
            let mix = label_mix.at(step(i));
            if mix > 0.0 {
                target.iter_mut().zip(label).for_each(|(t, h)| *t = mix * h + (1.0 - mix) * *t);
            }
        }
        targets
    }

    /// Equal for equal targets only: a key for maps of targets that are made once.
    pub fn bits(&self) -> [u64; 4] {
        let [from, to] = self.label_mix.ends().map(|m| u64::from(m.to_bits()));
        let steps = match self.label_mix {
            LabelMix::Constant(_) => 0,
            LabelMix::Ramp(ramp) => ramp.steps,
        };
        [self.temperature.to_bits(), from, to, steps]
    }
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
        let of = |mix| {
            let target = Target { temperature: 0.5, label_mix: LabelMix::Constant(mix) };
            value(&target.of_teacher(Loss::CrossEntropy, 2, &labels, &logits, |_| 0))
        };
        let hard = value(&from_labels(Loss::CrossEntropy, 2, &labels));
        assert!((of(0.3) - (0.3 * hard + 0.7 * of(0.0))).abs() < 1e-6);
    }

    #[test]
    fn a_ramp_mixes_each_sample_with_the_weight_of_its_step() {
        let label_mix = LabelMix::Ramp(LabelRamp { from: 1.0, to: 0.0, steps: 4 });
        let target = Target { temperature: 0.0, label_mix };
        // Two samples per step from step 3 on; the teacher says 0 where the label says 1.
        let logits = [1.0f32, 0.0].repeat(4);
        let targets = target.of_teacher(Loss::CrossEntropy, 2, &[1u8; 4], &logits, |i| 3 + i as u64 / 2);
        assert_eq!(targets, [0.75, 0.25, 0.75, 0.25, 1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn margin_targets_are_the_margin() {
        let logits = [0.5f32, 2.0, 1.0, 0.0];
        let of = |loss, temperature| {
            let target = Target { temperature, ..Target::default() };
            target.of_teacher(loss, 2, &[0u8, 0], &logits, |_| 0)
        };
        assert_eq!(of(Loss::Correlation, 1.0), [1.5, -1.0]);
        assert_eq!(of(Loss::Hinge, 0.0), [1.0, -1.0]);
        assert_eq!(from_labels(Loss::Hinge, 2, &[0u8, 1]), [-1.0, 1.0]);
    }

    #[test]
    fn impossible_targets_are_refused_by_key() {
        let ramp = |from, to, steps| LabelMix::Ramp(LabelRamp { from, to, steps });
        for (temperature, label_mix, loss, key) in [
            (-1.0, LabelMix::default(), Loss::CrossEntropy, "d.temperature"),
            (f64::NAN, LabelMix::default(), Loss::CrossEntropy, "d.temperature"),
            (1.0, LabelMix::Constant(1.5), Loss::CrossEntropy, "d.label_mix"),
            (1.0, ramp(0.5, -0.1, 10), Loss::CrossEntropy, "d.label_mix"),
            (1.0, ramp(0.5, 0.0, 0), Loss::CrossEntropy, "d.label_mix.steps"),
            (1.0, LabelMix::Constant(0.5), Loss::Hinge, "d.label_mix"),
        ] {
            match (Target { temperature, label_mix }).check("d", loss) {
                Err(KeyError::Value { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{key}: {other:?}"),
            }
        }
        let half = Target { temperature: 1e-20, label_mix: LabelMix::Constant(0.5) };
        assert_eq!(half.check("d", Loss::Correlation), Ok(()));
        assert_eq!(Target::default().check("d", Loss::Hinge), Ok(()));
    }

    #[test]
    fn equal_bits_are_equal_targets() {
        let constant = |mix| Target { temperature: 0.5, label_mix: LabelMix::Constant(mix) };
        let ramp = |to, steps| Target {
            temperature: 0.5,
            label_mix: LabelMix::Ramp(LabelRamp { from: 0.5, to, steps }),
        };
        let all = [constant(0.5), constant(0.0), ramp(0.5, 1), ramp(0.0, 1), ramp(0.0, 2), Target::default()];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(a.bits() == b.bits(), i == j);
            }
        }
    }
}
