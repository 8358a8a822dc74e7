//! Losses as functions of the logits and a per-sample target. Every kernel of every engine is held against these.

/// What a training step minimises, averaged over the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// -sum_c q_c log softmax(z)_c against a target distribution q of C numbers. Labels are one-hot targets; label
    /// mixing is a mixed target, because the loss is linear in q.
    #[default]
    CrossEntropy,
    /// max(0, 1 - t f) for the margin f = z_1 - z_0 and one target t, a label in {-1, +1} or a teacher's margin.
    Hinge,
    /// -t f for the margin f = z_1 - z_0 and one target t (the theory's correlation loss).
    Correlation,
}

impl Loss {
    /// Numbers of target per sample: C for cross-entropy, 1 for the losses of the margin.
    #[inline]
    pub fn target_width(self, classes: usize) -> usize {
        match self {
            Self::CrossEntropy => classes,
            Self::Hinge | Self::Correlation => 1,
        }
    }

    /// Loss of one sample; writes dL/dz to `gradient`.
    ///
    /// `logits` and `gradient` have C entries, `target` has [`Self::target_width`] entries. The margin losses need C = 2.
    #[inline(always)]
    pub fn gradient(self, logits: &[f32], target: &[f32], gradient: &mut [f32]) -> f32 {
        match self {
            Self::CrossEntropy => {
                let peak = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut total = 0.0;
                for (g, z) in gradient.iter_mut().zip(logits) {
                    *g = (z - peak).exp();
                    total += *g;
                }
                let log_total = total.ln() + peak;
                let mut loss = 0.0;
                for ((g, z), q) in gradient.iter_mut().zip(logits).zip(target) {
                    *g = *g / total - q;
                    loss += q * (log_total - z);
                }
                loss
            }
            Self::Hinge => {
                let slack = 1.0 - target[0] * (logits[1] - logits[0]);
                let slope = if slack > 0.0 { -target[0] } else { 0.0 };
                gradient[0] = -slope;
                gradient[1] = slope;
                // A NaN margin must stay visible, so no max().
                if slack <= 0.0 { 0.0 } else { slack }
            }
            Self::Correlation => {
                gradient[0] = target[0];
                gradient[1] = -target[0];
                -target[0] * (logits[1] - logits[0])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_the_derivatives() {
        for (loss, target) in [
            (Loss::CrossEntropy, vec![0.2f32, 0.8]),
            (Loss::CrossEntropy, vec![1.0, 0.0]),
            (Loss::Hinge, vec![1.0]),
            (Loss::Hinge, vec![-0.7]),
            (Loss::Correlation, vec![0.3]),
        ] {
            let logits = [0.4f32, -0.3];
            let mut gradient = [0.0; 2];
            loss.gradient(&logits, &target, &mut gradient);
            for c in 0..2 {
                let at = |h: f32| {
                    let mut moved = logits;
                    moved[c] += h;
                    f64::from(loss.gradient(&moved, &target, &mut [0.0; 2]))
                };
                let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!(
                    (numeric - f64::from(gradient[c])).abs() < 1e-4,
                    "{loss:?} {c}: {numeric} {gradient:?}"
                );
            }
        }
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let mut gradient = [0.0; 3];
        let loss = Loss::CrossEntropy.gradient(&[1e30, 0.0, -1e30], &[1.0, 0.0, 0.0], &mut gradient);
        assert_eq!((loss, gradient), (0.0, [0.0; 3]));
    }
}
