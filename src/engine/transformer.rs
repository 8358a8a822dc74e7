//! What both engines' transformers take and give.

/// Adam as `torch.optim.Adam` and `AdamW` have it: moments m and v with bias correction, and the step
/// p -= rate * m^ / (sqrt(v^) + eps).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamSettings {
    /// Decay rates of the first and the second moment.
    pub betas: (f32, f32),
    /// Added to the square root of the corrected second moment.
    pub eps: f32,
    /// Weight decay of the tensors that have it ([`crate::model::transformer::TensorSlot::decay`]).
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
