//! What both engines' transformers take and give, and a transformer on either of them.

use super::cpu;
use super::device::Device;
use crate::checkpoint::TransformerState;
use crate::model::transformer::{MicroBatch, TokenBatch, TransformerConfig};

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

/// An error of either engine.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// A transformer on whatever computes.
#[derive(Debug)]
pub enum Transformer {
    /// On the CPU.
    Cpu(Box<cpu::Transformer>),
}

impl Transformer {
    /// Takes over parameters and optimiser; on the CPU with so many threads.
    ///
    /// # Errors
    /// If no model can have the configuration, or it does not fit on the device.
    pub fn new(state: &TransformerState, device: &Device, threads: usize) -> Result<Self, EngineError> {
        match device {
            Device::Cpu => {
                let options = cpu::TransformerOptions { threads, ..cpu::TransformerOptions::default() };
                let mut model = cpu::Transformer::new(&state.params, options)?;
                if state.updates > 0 {
                    let (first, second) = (state.first_moment.clone(), state.second_moment.clone());
                    model.set_optimizer(first, second, state.updates)?;
                }
                Ok(Self::Cpu(Box::new(model)))
            }
            Device::Gpu(_) => Err("transformers do not train on a GPU yet: use --device cpu".into()),
        }
    }

    /// Sizes and choices.
    pub fn config(&self) -> &TransformerConfig {
        match self {
            Self::Cpu(model) => model.config(),
        }
    }

    /// Which code computes, for people.
    pub fn path(&self) -> String {
        match self {
            Self::Cpu(model) => {
                let saves = if model.options().savings { ", exact savings" } else { "" };
                format!("OpenBLAS{saves}")
            }
        }
    }

    /// One optimiser step on the mean cross-entropy over all reads of all micro-batches.
    ///
    /// # Errors
    /// If a micro-batch does not fit the model, or the device fails.
    pub fn train_step(
        &mut self,
        micro: &[MicroBatch<'_>],
        rate: f32,
        adam: &AdamSettings,
        dropout_seed: Option<u64>,
    ) -> Result<StepOutcome, EngineError> {
        match self {
            Self::Cpu(model) => Ok(model.train_step(micro, rate, adam, dropout_seed)?),
        }
    }

    /// Logits at the reads, `[reads, vocab]`, without dropout.
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, EngineError> {
        match self {
            Self::Cpu(model) => Ok(model.logits(batch, reads)?),
        }
    }

    /// Hidden states, `[sequences * length, hidden]`, without dropout: layer 0 is the embeddings, l the output of block l.
    ///
    /// # Errors
    /// If the batch does not fit the model, there is no such layer, or the device fails.
    pub fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, EngineError> {
        match self {
            Self::Cpu(model) => Ok(model.hidden(batch, layer)?),
        }
    }

    /// Parameters and optimiser; [`Self::new`] goes on from it with the same bits.
    ///
    /// # Errors
    /// If the device fails.
    pub fn state(&self) -> Result<TransformerState, EngineError> {
        match self {
            Self::Cpu(model) => {
                let (first_moment, second_moment, updates) = model.optimizer();
                Ok(TransformerState { params: model.to_params(), first_moment, second_moment, updates })
            }
        }
    }

    /// Bytes of activations and gradients on their way that training on batches of [sequences, length, reads] holds at most,
    /// besides parameters, gradient and moments.
    ///
    /// # Errors
    /// If no model can have the configuration.
    pub fn activation_bytes(
        config: &TransformerConfig,
        device: &Device,
        threads: usize,
        [sequences, length, reads]: [usize; 3],
    ) -> Result<u64, EngineError> {
        let options = cpu::TransformerOptions { threads, ..cpu::TransformerOptions::default() };
        match device {
            Device::Cpu | Device::Gpu(_) => {
                Ok(cpu::Transformer::activation_bytes(config, options, sequences, length, reads)?)
            }
        }
    }
}
