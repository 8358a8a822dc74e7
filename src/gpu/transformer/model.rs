//! A GPT-2 or BERT on a GPU.

use super::adam::{PARTIAL, decay_bits};
use super::buffers::{Kind, bytes};
use super::recorder::Step;
use super::state::{RESULTS, State, sizes};
use crate::GpuError;
use crate::queue::{Pacer, Pipeline};
use crate::sample::SharedContext;
use curricle_core::model::transformer::{Layout, TransformerConfig, TransformerParams};
use futures_util::lock::Mutex;

/// How a [`GpuTransformer`] computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuTransformerOptions {
    /// Compute the last block's queries and MLP only where logits are read: the same numbers up to rounding, for less work.
    pub exact_savings: bool,
    /// Bytes activations may take; larger batches are cut into micro-batches. The device's own budget if not given.
    pub memory: Option<u64>,
}

impl Default for GpuTransformerOptions {
    fn default() -> Self {
        Self { exact_savings: true, memory: None }
    }
}

/// A transformer with its gradient and its Adam moments on a device.
pub struct GpuTransformer {
    pub(super) context: SharedContext,
    pub(super) options: GpuTransformerOptions,
    pub(super) config: TransformerConfig,
    pub(super) layout: Layout,
    pub(super) params: wgpu::Buffer,
    /// Zero between calls.
    pub(super) grads: wgpu::Buffer,
    pub(super) moments: wgpu::Buffer,
    pub(super) decays: wgpu::Buffer,
    pub(super) partial: wgpu::Buffer,
    pub(super) results: wgpu::Buffer,
    pub(super) step: wgpu::Buffer,
    pub(super) spare: wgpu::Buffer,
    pub(super) updates: u64,
    pub(super) state: Mutex<State>,
}

impl std::fmt::Debug for GpuTransformer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuTransformer")
            .field("context", &self.context)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl GpuTransformer {
    /// Copies the parameters to the device; Adam starts from zero.
    ///
    /// # Errors
    /// If the configuration is impossible, a head is wider than 128, or the model does not fit on the device.
    pub fn new(
        context: &SharedContext,
        params: &TransformerParams,
        options: GpuTransformerOptions,
    ) -> Result<Self, GpuError> {
        let config = params.config.clone();
        config.check().map_err(|e| GpuError::Refused(e.to_string()))?;
        let size = config.parameters();
        if params.values.len() != size {
            return Err(GpuError::Refused(format!(
                "{} values, but the configuration has {size} parameters",
                params.values.len()
            )));
        }
        if config.head_dim() > super::attention::WIDEST {
            return Err(GpuError::Refused(format!(
                "heads of width {}: the GPU engine has kernels up to {}; use more heads or --device cpu",
                config.head_dim(),
                super::attention::WIDEST
            )));
        }
        if size as u64 >= 1 << 31 {
            let (what, adapter) = ("the model".to_owned(), context.name());
            let needed = 4 * size as u64;
            return Err(GpuError::TooLarge { what, adapter, needed, allowed: 8 << 30 });
        }
        let storage = |what: &str, n: usize| context.storage(what, n as u64);
        Ok(Self {
            layout: Layout::new(&config),
            params: context.upload("parameters", &params.values)?,
            grads: storage("gradient", size)?,
            moments: storage("Adam moments", 2 * size)?,
            decays: context.upload("weight decay", &decay_bits(&config))?,
            partial: storage("partial sums", PARTIAL)?,
            results: storage("results", 4 * RESULTS)?,
            step: context.uniform(&Step::default())?,
            spare: storage("nothing", 4)?,
            updates: 0,
            state: Mutex::new(State {
                plans: Vec::new(),
                adam: None,
                // Units are millions of operations: about 0.1 s on a software adapter.
                pacer: Pacer::starting_with(500.0),
                pipeline: Pipeline::default(),
            }),
            context: context.clone(),
            options,
            config,
        })
    }

    /// Sizes and choices.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The device.
    pub fn context(&self) -> &SharedContext {
        &self.context
    }

    /// The parameters.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn to_params_async(&self) -> Result<TransformerParams, GpuError> {
        let values = self.context.read(&self.params, 0, self.layout.parameters).await?;
        Ok(TransformerParams { config: self.config.clone(), values })
    }

    /// Adam's first and second moments, and its number of updates.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn optimizer_async(&self) -> Result<(Vec<f32>, Vec<f32>, u64), GpuError> {
        let both: Vec<[f32; 2]> = self.context.read(&self.moments, 0, self.layout.parameters).await?;
        let (first, second) = both.iter().map(|[m, v]| (*m, *v)).unzip();
        Ok((first, second, self.updates))
    }

    /// Sets what [`Self::optimizer_async`] gave.
    ///
    /// # Errors
    /// If there are not as many moments as parameters.
    pub fn set_optimizer(&mut self, first: &[f32], second: &[f32], updates: u64) -> Result<(), GpuError> {
        let size = self.layout.parameters;
        if first.len() != size || second.len() != size {
            return Err(GpuError::Refused(format!(
                "{} and {} Adam moments for {size} parameters",
                first.len(),
                second.len()
            )));
        }
        let both: Vec<[f32; 2]> = first.iter().zip(second).map(|(m, v)| [*m, *v]).collect();
        self.context.write(&self.moments, 0, &both);
        self.updates = updates;
        Ok(())
    }

    /// Bytes of activations a training step with such micro-batches takes on this device, after cutting them if need be.
    pub fn activation_bytes(&self, sequences: usize, length: usize, reads: usize) -> u64 {
        let all = activation_bytes(&self.config, self.options, sequences, length, reads);
        all.min(self.budget())
    }
}

/// Bytes of activations one micro-batch takes in training with dropout, uncut.
pub fn activation_bytes(
    config: &TransformerConfig,
    options: GpuTransformerOptions,
    sequences: usize,
    length: usize,
    reads: usize,
) -> u64 {
    let kind = Kind::Train { dropout: true };
    bytes(config, &sizes(options.exact_savings, sequences, length, reads, kind)).0
}
