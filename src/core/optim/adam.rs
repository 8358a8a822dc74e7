//! Training steps of a transformer: Adam.

use crate::model::transformer::MicroBatch;

/// Adam as `torch.optim.Adam` and `AdamW` have it: moments m and v with bias correction, and the step
/// p -= rate * m^ / (sqrt(v^) + eps).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamSettings {
    /// Decay rates of the first and the second moment.
    pub betas: (f32, f32),
    /// Added to the square root of the corrected second moment.
    pub eps: f32,
    /// Weight decay of the tensors that have it ([`curricle_core::model::transformer::TensorSlot::decay`]).
    pub weight_decay: f32,
    /// AdamW: p -= rate * weight_decay * p before the step. Otherwise weight_decay * p is added to the gradient.
    pub decoupled: bool,
    /// Largest global gradient norm; a longer gradient is scaled to it (`torch.nn.utils.clip_grad_norm_`).
    pub clip: Option<f32>,
}

impl Default for AdamSettings {
    /// PyTorch's Adam: betas 0.9 and 0.999, eps 1e-8, no decay, no clipping.
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, decoupled: false, clip: None }
    }
}

/// The decimal number a person wrote as this f32: 1 - 0.999 should be 0.001, as it is in Python.
#[inline]
pub fn written(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// What came out of one training step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepOutcome {
    /// Sum of the cross-entropies at all reads of all micro-batches, before the update.
    pub loss_sum: f64,
    /// Number of reads; `loss_sum / reads` is what was minimised.
    pub reads: usize,
    /// Euclidean norm of the gradient of the mean loss over all parameters, before clipping.
    pub gradient_norm: f64,
}

/// One training step of a transformer.
#[derive(Debug, Clone, Copy)]
pub struct TrainStep<'a> {
    /// Its micro-batches; the loss is the mean over the reads of all of them.
    pub micro: &'a [MicroBatch<'a>],
    /// Learning rate.
    pub rate: f32,
    /// Key of the dropout masks; nothing is dropped without.
    pub dropout_seed: Option<u64>,
}
