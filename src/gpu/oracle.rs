//! What the self-test compares with.

use curricle_core::model::transformer::{TokenBatch, TransformerParams};
use curricle_core::model::{MlpParams, ModelError};
use curricle_core::optim::{AdamSettings, Steps, TrainStep};
use curricle_core::task::Samples;

/// Another engine, which the kernels are compared with.
pub trait Oracle {
    /// Logits of an MLP, \[n, C\].
    fn mlp_logits(&self, params: &MlpParams, samples: &Samples) -> Vec<f32>;

    /// An MLP after training steps.
    fn mlp_trained(&self, params: &MlpParams, steps: &Steps<'_>) -> MlpParams;

    /// Logits of a transformer at the reads, \[reads, vocab\].
    ///
    /// # Errors
    /// If the batch does not fit the model.
    fn transformer_logits(
        &self,
        params: &TransformerParams,
        batch: &TokenBatch<'_>,
        reads: &[u32],
    ) -> Result<Vec<f32>, ModelError>;

    /// A transformer after training steps.
    ///
    /// # Errors
    /// If a batch does not fit the model.
    fn transformer_trained(
        &self,
        params: &TransformerParams,
        steps: &[TrainStep<'_>],
        adam: &AdamSettings,
    ) -> Result<TransformerParams, ModelError>;
}

/// Mean square error over mean square value, and the largest error. Infinite if lengths differ, if anything is not a number, and
/// if nothing but zeros was expected: a device that reads back zeros must not pass.
pub fn distance(got: &[f32], want: &[f32]) -> (f64, f64) {
    let (mut error, mut power, mut most) = (0.0f64, 0.0f64, 0.0f64);
    for (g, w) in got.iter().zip(want) {
        let e = f64::from(*g) - f64::from(*w);
        error += e * e;
        power += f64::from(*w).powi(2);
        // A NaN must not pass for a small error.
        most = if e.is_nan() { f64::INFINITY } else { most.max(e.abs()) };
    }
    if got.len() != want.len() || most.is_infinite() || power == 0.0 {
        return (f64::INFINITY, f64::INFINITY);
    }
    (error / power, most)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn nothing_passes_for_zeros() {
        let refused = (f64::INFINITY, f64::INFINITY);
        assert_eq!(distance(&[0.0; 3], &[0.0; 3]), refused);
        assert_eq!(distance(&[], &[]), refused);
        assert_eq!(distance(&[1.0], &[1.0, 2.0]), refused);
        assert_eq!(distance(&[f32::NAN], &[1.0]), refused);
        assert_eq!(distance(&[0.0; 2], &[3.0, 4.0]), (1.0, 4.0));
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 4.0]), (0.0, 0.0));
    }
}
