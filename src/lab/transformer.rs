//! A transformer on either engine.

use crate::device::Device;
use curricle_core::model::transformer::{TokenBatch, TransformerConfig};
use curricle_core::model::{ModelError, SequenceModel, TransformerState};
use curricle_core::optim::{AdamSettings, StepOutcome, TrainStep};
use curricle_cpu as cpu;
use curricle_gpu::transformer::{
    GpuTransformer, GpuTransformerOptions, activation_bytes as gpu_activation_bytes,
};

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

impl SequenceModel for Transformer {
    fn config(&self) -> &TransformerConfig {
        Transformer::config(self)
    }

    fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, ModelError> {
        Transformer::logits(self, batch, reads)
    }

    fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, ModelError> {
        Transformer::hidden(self, batch, layer)
    }
}
