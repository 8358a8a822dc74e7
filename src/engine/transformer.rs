//! What both engines' transformers take and give, and a transformer on either of them.

use super::cpu;
use super::device::Device;
use crate::checkpoint::TransformerState;
use crate::engine::gpu::transformer::{
    GpuTransformer, GpuTransformerOptions, TrainStep, activation_bytes as gpu_activation_bytes,
};
use crate::model::transformer::{TokenBatch, TransformerConfig};

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

/// The decimal number a person wrote as this f32: 1 - 0.999 should be 0.001, as it is in Python.
pub(in crate::engine) fn written(value: f32) -> f64 {
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

/// An error of either engine.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// A transformer on whatever computes.
#[derive(Debug)]
pub enum Transformer {
    /// On the CPU.
    Cpu(Box<cpu::Transformer>),
    /// On a GPU.
    Gpu(Box<GpuTransformer>),
}

impl Transformer {
    /// Takes over parameters and optimiser; on the CPU with so many threads.
    ///
    /// # Errors
    /// If no model can have the configuration, or it does not fit on the device.
    pub fn new(state: &TransformerState, device: &Device, threads: usize) -> Result<Self, EngineError> {
        Self::sharing(state, device, threads, 1)
    }

    /// [`Self::new`] for one of `models` models that share a device: on a GPU each may use its part of the memory for
    /// activations.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn sharing(
        state: &TransformerState,
        device: &Device,
        threads: usize,
        models: usize,
    ) -> Result<Self, EngineError> {
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
            Device::Gpu(context) => {
                let memory = Some(context.memory_budget() / models.max(1) as u64);
                let options = GpuTransformerOptions { memory, ..GpuTransformerOptions::default() };
                let mut model = GpuTransformer::new(context, &state.params, options)?;
                if state.updates > 0 {
                    model.set_optimizer(&state.first_moment, &state.second_moment, state.updates)?;
                }
                Ok(Self::Gpu(Box::new(model)))
            }
        }
    }

    /// Sizes and choices.
    pub fn config(&self) -> &TransformerConfig {
        match self {
            Self::Cpu(model) => model.config(),
            Self::Gpu(model) => model.config(),
        }
    }

    /// Which code computes, for people.
    pub fn path(&self) -> String {
        match self {
            Self::Cpu(model) => {
                let saves = if model.options().savings { ", exact savings" } else { "" };
                format!("OpenBLAS{saves}")
            }
            Self::Gpu(_) => "tiled products, fused attention".to_owned(),
        }
    }

    /// Optimiser steps, each on the mean cross-entropy over all reads of its micro-batches. A GPU is read back once, after the
    /// last one.
    ///
    /// # Errors
    /// If a micro-batch does not fit the model, or the device fails.
    pub fn train_steps(
        &mut self,
        steps: &[TrainStep<'_>],
        adam: &AdamSettings,
    ) -> Result<Vec<StepOutcome>, EngineError> {
        match self {
            Self::Cpu(model) => {
                let one = |s: &TrainStep<'_>| model.train_step(s.micro, s.rate, adam, s.dropout_seed);
                Ok(steps.iter().map(one).collect::<Result<_, _>>()?)
            }
            Self::Gpu(model) => Ok(model.train_steps(steps, adam)?),
        }
    }

    /// Logits at the reads, `[reads, vocab]`, without dropout.
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, EngineError> {
        match self {
            Self::Cpu(model) => Ok(model.logits(batch, reads)?),
            Self::Gpu(model) => Ok(model.logits(batch, reads)?),
        }
    }

    /// Hidden states, `[sequences * length, hidden]`, without dropout: layer 0 is the embeddings, l the output of block l.
    ///
    /// # Errors
    /// If the batch does not fit the model, there is no such layer, or the device fails.
    pub fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, EngineError> {
        match self {
            Self::Cpu(model) => Ok(model.hidden(batch, layer)?),
            Self::Gpu(model) => Ok(model.hidden(batch, layer)?),
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
            Self::Gpu(model) => {
                let (first_moment, second_moment, updates) = model.optimizer()?;
                Ok(TransformerState { params: model.to_params()?, first_moment, second_moment, updates })
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
        Ok(match device {
            Device::Cpu => {
                let options = cpu::TransformerOptions { threads, ..cpu::TransformerOptions::default() };
                cpu::Transformer::activation_bytes(config, options, sequences, length, reads)?
            }
            Device::Gpu(_) => {
                let options = GpuTransformerOptions::default();
                gpu_activation_bytes(config, options, sequences, length, reads)
            }
        })
    }
}
