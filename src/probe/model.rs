//! Checkpoints of any kind as models that a probe can ask.

use super::{LogitModel, ModelError};
use crate::checkpoint::{self, CheckpointError, Model, TransformerState};
use crate::engine::cpu::{CpuOptions, Mlp};
use crate::engine::device::Device;
use crate::engine::gpu::{GpuError, GpuMlp};
use crate::engine::transformer::{EngineError, Transformer};
use crate::model::MlpParams;
use crate::model::transformer::{TokenBatch, TransformerParams};
use crate::task::Samples;
use crate::task::sequence::tokens;
use std::path::Path;

/// Why a checkpoint cannot be probed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The model.
    #[error(transparent)]
    Engine(EngineError),
}

/// A checkpoint that reads sign vectors, on whatever computes, and the training step it says it is from.
///
/// An MLP reads x itself. A transformer reads the tokens (1 - x) / 2 and answers at the last position; `d` is then the number of its
/// inputs (default: as many as it has positions).
///
/// # Errors
/// If the file cannot be read or the model does not fit on the device.
pub fn open(
    path: &Path,
    d: Option<usize>,
    device: &Device,
    threads: usize,
) -> Result<(Box<dyn LogitModel>, Option<u64>), OpenError> {
    let read = checkpoint::load_any(path)?;
    let model = match read.model {
        Model::Mlp(params) => on_device(&params, device, threads)?,
        Model::Transformer(params) => {
            let d = d.unwrap_or(params.config.positions);
            let reader = ParityTransformer::new(params, d, device, threads).map_err(OpenError::Engine)?;
            Box::new(reader) as Box<dyn LogitModel>
        }
    };
    Ok((model, read.step))
}

/// An MLP on whatever computes; on the CPU with so many threads.
///
/// # Errors
/// If it does not fit on the device.
pub fn on_device(
    params: &MlpParams,
    device: &Device,
    threads: usize,
) -> Result<Box<dyn LogitModel>, GpuError> {
    Ok(match device {
        Device::Cpu => Box::new(Mlp::new(params, CpuOptions { threads, ..CpuOptions::default() })),
        Device::Gpu(context) => Box::new(GpuMlp::new(context, params)?),
    })
}

/// A transformer that reads sign vectors.
pub struct ParityTransformer {
    transformer: Transformer,
    d: usize,
}

/// Sequences per forward pass.
const BATCH: usize = 128;

impl ParityTransformer {
    /// A transformer that reads d signs as tokens.
    ///
    /// # Errors
    /// If it does not fit on the device.
    pub fn new(
        params: TransformerParams,
        d: usize,
        device: &Device,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let positions = params.config.positions;
        if d > positions {
            return Err(
                format!("d = {d} inputs are more than the transformer's {positions} positions").into()
            );
        }
        let transformer = Transformer::new(&TransformerState::new(params), device, threads)?;
        Ok(Self { transformer, d })
    }
}

impl LogitModel for ParityTransformer {
    fn d(&self) -> usize {
        self.d
    }

    fn classes(&self) -> usize {
        self.transformer.config().vocab
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        let tokens = tokens(samples);
        let classes = self.classes();
        for (tokens, out) in tokens.chunks(BATCH * self.d).zip(logits.chunks_mut(BATCH * classes)) {
            let sequences = tokens.len() / self.d;
            let reads: Vec<u32> = (1..=sequences).map(|b| (b * self.d - 1) as u32).collect();
            let batch = TokenBatch::new(sequences, self.d, tokens);
            out.copy_from_slice(&self.transformer.logits(&batch, &reads)?);
        }
        Ok(())
    }
}
