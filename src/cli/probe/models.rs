//! From paths on the command line to transformers.

use crate::checkpoint::tensors::TensorFile;
use crate::cli::Usage;
use crate::engine::cpu::{Transformer, TransformerOptions};
use crate::model::transformer::{TransformerConfig, TransformerParams};
use crate::run::folder;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// One checkpoint to probe.
pub(super) struct Source {
    /// The file with the weights.
    pub weights: PathBuf,
    /// The `config.json` that describes them.
    config: PathBuf,
    /// Training step, where the file's name says it.
    pub step: Option<u64>,
}

/// The checkpoints that `paths` name: run folders with all their checkpoints by step, folders as `save_pretrained` writes them, and
/// files beside (or one folder below) their `config.json`.
pub(super) fn resolve(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if !path.exists() {
            return Err(Usage(format!("{}: no such file or folder", path.display())).into());
        }
        let whole = ["model.safetensors", "pytorch_model.bin"]
            .map(|n| path.join(n))
            .into_iter()
            .find(|p| p.is_file());
        let files = if let Some(weights) = whole {
            vec![(None, weights)]
        } else if path.is_dir() {
            let found = folder::open_read_only(path).and_then(|run| run.require_checkpoints("run"));
            let found = found.map_err(|e| Usage(format!("{e} (nor a folder with model.safetensors)")))?;
            found.into_iter().map(|(step, file)| (Some(step), file)).collect()
        } else {
            vec![(step_in_name(path), path.clone())]
        };
        for (step, weights) in files {
            let near =
                weights.ancestors().skip(1).take(2).map(|f| f.join("config.json")).find(|p| p.is_file());
            let config = near.with_context(|| {
                format!("{}: no config.json beside it says what model this is", weights.display())
            })?;
            sources.push(Source { weights, config, step });
        }
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
    /// Files that cannot be read, a model that is not supported, tensors that are missing or have other shapes.
    pub fn load(&self, threads: usize) -> Result<Transformer> {
        let shown = self.config.display();
        let text = std::fs::read(&self.config).with_context(|| format!("cannot read {shown}"))?;
        let json: serde_json::Value = serde_json::from_slice(&text).with_context(|| shown.to_string())?;
        let config = TransformerConfig::from_hugging_face(&json).with_context(|| shown.to_string())?;
        let params = read(&self.weights, config)?;
        Ok(Transformer::new(&params, TransformerOptions { threads, ..TransformerOptions::default() })?)
    }
}

/// Every tensor of the configuration by its Hugging Face name.
fn read(path: &Path, config: TransformerConfig) -> Result<TransformerParams> {
    let mut file = TensorFile::open(path)?;
    let mut values = Vec::with_capacity(config.parameters());
    for slot in config.tensors() {
        let Some(index) = file.position(&slot.name) else {
            bail!("{}: the tensor {} is missing", path.display(), slot.name);
        };
        let tensor = file.read_finite(index)?;
        if tensor.shape != slot.shape {
            bail!(
                "{}: {} has the shape {:?}, but config.json makes it {:?}",
                path.display(),
                slot.name,
                tensor.shape,
                slot.shape
            );
        }
        values.extend(tensor.data);
    }
    Ok(TransformerParams::from_values(config, values)?)
}
