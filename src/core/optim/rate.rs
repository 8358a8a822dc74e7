//! Learning-rate schedules, as in `transformers.get_*_schedule`.

use serde::{Deserialize, Serialize};

/// How the learning rate changes over training.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RateSchedule {
    /// The same rate throughout.
    #[default]
    Constant,
    /// Linear warmup from 0, then the same rate.
    ConstantWithWarmup {
        /// Fraction of all steps spent on the warmup.
        warmup: f64,
    },
    /// Linear warmup from 0, then linear decay to 0.
    Linear {
        /// Fraction of all steps spent on the warmup.
        #[serde(default)]
        warmup: f64,
    },
    /// Linear warmup from 0, then half a cosine to 0.
    Cosine {
        /// Fraction of all steps spent on the warmup.
        #[serde(default)]
        warmup: f64,
    },
}

impl RateSchedule {
    /// The rate of step `step` (from 0) of `total`.
    #[inline]
    pub fn rate(self, peak: f64, step: u64, total: u64) -> f32 {
        let (warmup, decay): (f64, fn(f64) -> f64) = match self {
            Self::Constant => return peak as f32,
            Self::ConstantWithWarmup { warmup } => (warmup, |_| 1.0),
            Self::Linear { warmup } => (warmup, |p| 1.0 - p),
            Self::Cosine { warmup } => (warmup, |p| 0.5 * (1.0 + (std::f64::consts::PI * p).cos())),
        };
        let warm = (warmup * total as f64).ceil();
        let step = step as f64;
        let factor = if step < warm {
            step / warm
        } else {
            decay((step - warm) / (total as f64 - warm).max(1.0)).max(0.0)
        };
        (peak * factor) as f32
    }

    /// Fraction of warmup.
    #[inline]
    pub fn warmup(self) -> f64 {
        match self {
            Self::Constant => 0.0,
            Self::ConstantWithWarmup { warmup } | Self::Linear { warmup } | Self::Cosine { warmup } => warmup,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_transformers() {
        // transformers.get_cosine_schedule_with_warmup(optimizer, 10, 100), lr 1; get_linear_.. likewise.
        let cosine = RateSchedule::Cosine { warmup: 0.1 };
        let linear = RateSchedule::Linear { warmup: 0.1 };
        let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-6, "{a} {b}");
        close(cosine.rate(1.0, 0, 100), 0.0);
        close(cosine.rate(1.0, 5, 100), 0.5);
        close(cosine.rate(1.0, 10, 100), 1.0);
        close(cosine.rate(1.0, 55, 100), 0.5);
        close(cosine.rate(1.0, 99, 100), 0.000_304_6);
        close(linear.rate(2.0, 55, 100), 1.0);
        close(RateSchedule::Constant.rate(0.3, 55, 100), 0.3);
        close(RateSchedule::Linear { warmup: 0.0 }.rate(1.0, 0, 1), 1.0);
    }
}
