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
use std::path::{Path, PathBuf};

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
    /// A transformer was wanted.
    #[error("{}: this is an MLP; only transformers have layers with hidden states to read", .0.display())]
    NotATransformer(PathBuf),
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
        Model::Transformer(params) => Box::new(reader(params, d, device, threads)?) as Box<dyn LogitModel>,
    };
    Ok((model, read.step))
}

/// As [`open`] for a transformer whose hidden states are wanted as well.
///
/// # Errors
/// As [`open`], and if it is an MLP.
pub fn open_transformer(
    path: &Path,
    d: Option<usize>,
    device: &Device,
    threads: usize,
) -> Result<(ParityTransformer, Option<u64>), OpenError> {
    let read = checkpoint::load_any(path)?;
    match read.model {
        Model::Mlp(_) => Err(OpenError::NotATransformer(path.to_path_buf())),
        Model::Transformer(params) => Ok((reader(params, d, device, threads)?, read.step)),
    }
}

fn reader(
    params: TransformerParams,
    d: Option<usize>,
    device: &Device,
    threads: usize,
) -> Result<ParityTransformer, OpenError> {
    let d = d.unwrap_or(params.config.positions);
    ParityTransformer::new(params, d, device, threads).map_err(OpenError::Engine)
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

    /// Blocks of the transformer.
    pub fn layers(&self) -> usize {
        self.transformer.config().layers
    }

    /// Width of a hidden state.
    pub fn width(&self) -> usize {
        self.transformer.config().hidden
    }

    /// Hidden states at the last of the d positions, \[n, width\] row-major: layer 0 are the embeddings, l the output of block l
    /// (before the final layer norm).
    ///
    /// # Errors
    /// If there is no such layer, or the device fails.
    pub fn last_states(&self, samples: &Samples, layer: usize) -> Result<Vec<f32>, ModelError> {
        let width = self.width();
        let mut states = Vec::with_capacity(samples.len() * width);
        self.batches(samples, |batch, reads| {
            let hidden = self.transformer.hidden(batch, layer)?;
            for &read in reads {
                states.extend_from_slice(&hidden[read as usize * width..][..width]);
            }
            Ok(())
        })?;
        Ok(states)
    }

    /// Hands samples on in batches, with the last position of each sequence.
    fn batches(
        &self,
        samples: &Samples,
        mut each: impl FnMut(&TokenBatch<'_>, &[u32]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        for tokens in tokens(samples).chunks(BATCH * self.d) {
            let sequences = tokens.len() / self.d;
            let reads: Vec<u32> = (1..=sequences).map(|b| (b * self.d - 1) as u32).collect();
            each(&TokenBatch::new(sequences, self.d, tokens), &reads)?;
        }
        Ok(())
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
        let mut rest = logits;
        self.batches(samples, |batch, reads| {
            let own = self.transformer.logits(batch, reads)?;
            let (out, after) = std::mem::take(&mut rest).split_at_mut(own.len());
            out.copy_from_slice(&own);
            rest = after;
            Ok(())
        })
    }
}
