//! Checkpoints of any kind as models that a probe can ask.

use crate::device::Device;
use crate::transformer::{EngineError, Transformer};
use curricle_core::model::LogitModel;
use curricle_core::model::MlpParams;
use curricle_core::model::TransformerState;
use curricle_core::model::transformer::TransformerParams;
use curricle_cpu::{CpuOptions, Mlp};
use curricle_files as files;
use curricle_files::{CheckpointError, Model};
use curricle_gpu::{GpuError, GpuMlp};
use curricle_probe::ParityTransformer;
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
    let read = files::load_any(path)?;
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
    let read = files::load_any(path)?;
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
    let transformer = Transformer::new(&TransformerState::new(params), device, threads);
    let transformer = Box::new(transformer.map_err(OpenError::Engine)?);
    ParityTransformer::new(transformer, d).map_err(OpenError::Engine)
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
