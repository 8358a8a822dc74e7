//! From paths on the command line to transformers.

use crate::checkpoint::{TransformerState, transformer};
use crate::cli::Usage;
use crate::engine::device::Device;
use crate::engine::transformer::Transformer;
use crate::run::folder;
use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};

/// One checkpoint to probe.
pub(super) struct Source {
    /// The file or folder with the weights.
    pub weights: PathBuf,
    /// Training step, where the file's name says it.
    pub step: Option<u64>,
}

/// The checkpoints that `paths` name: run folders with all their checkpoints by step, folders as `save_pretrained` writes them, and
/// files.
pub(super) fn resolve(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(Usage(format!("{}: no such file or folder", path.display())).into());
        }
        if path.is_dir() && !transformer::is_transformer(path) {
            let found = folder::open_read_only(path).and_then(|run| run.require_checkpoints("run"));
            let found = found.map_err(|e| Usage(format!("{e} (nor a folder with config.json)")))?;
            sources
                .extend(found.into_iter().map(|(step, weights)| Source { weights, step: Some(step) }));
        } else {
            sources.push(Source { weights: path.clone(), step: step_in_name(path) });
        }
    }
    Ok(sources)
}

/// The step of `step-000000001000.safetensors`.
fn step_in_name(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

impl Source {
    /// Loads the model onto a device.
    ///
    /// # Errors
    /// Files that cannot be read, a model that is not supported or does not fit.
    pub fn load(&self, device: &Device, threads: usize) -> Result<Transformer> {
        let read = transformer::load(&self.weights)?;
        let state = TransformerState::new(read.params);
        Transformer::new(&state, device, threads).map_err(|e| anyhow!("{}: {e}", self.weights.display()))
    }
}
