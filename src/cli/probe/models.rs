//! From paths on the command line to transformers.

use crate::checkpoint::transformer;
use crate::cli::Usage;
use crate::engine::cpu::{Transformer, TransformerOptions};
use crate::run::folder;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// One checkpoint to probe.
pub(super) struct Source {
    /// A checkpoint file, or a folder as `save_pretrained` writes it.
    pub path: PathBuf,
    /// Training step, where the run or the file's name says it.
    pub step: Option<u64>,
}

/// The checkpoints that `paths` name: run folders with all their checkpoints by step, Hugging Face folders, and files.
pub(super) fn resolve(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(Usage(format!("{}: no such file or folder", path.display())).into());
        }
        if path.is_file() || transformer::is_transformer(path) {
            sources.push(Source { path: path.clone(), step: step_in_name(path) });
            continue;
        }
        let found = folder::open_read_only(path).and_then(|run| run.require_checkpoints("run"));
        let found = found.map_err(|e| Usage(format!("{e} (nor a folder with config.json and model.safetensors)")))?;
        sources.extend(found.into_iter().map(|(step, path)| Source { path, step: Some(step) }));
    }
    Ok(sources)
}

/// The step of `step-000000001000.safetensors`.
fn step_in_name(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

impl Source {
    /// Loads the model onto the CPU engine.
    ///
    /// # Errors
    /// Files that cannot be read or do not hold a whole transformer.
    pub fn load(&self, threads: usize) -> Result<Transformer> {
        let params = transformer::load(&self.path)?.params;
        let options = TransformerOptions { threads, ..TransformerOptions::default() };
        Transformer::new(&params, options).with_context(|| self.path.display().to_string())
    }
}
