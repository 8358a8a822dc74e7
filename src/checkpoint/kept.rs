//! Models that a run folder keeps: as checkpoints, and with their training state to go on from.

use super::tensors::{Tensor, TensorFile, TensorRef, write_safetensors};
use super::{CheckpointError, Metadata, PREFIX, load_state, save, save_state};
use crate::model::MlpParams;
use crate::model::transformer::{TransformerConfig, TransformerParams};
use serde_json::Value;
use std::path::Path;

/// A model in training as a run folder keeps it.
pub trait Kept: Sized {
    /// Writes a checkpoint: what others need to use the model.
    ///
    /// # Errors
    /// If a parameter is not finite or the file cannot be written; then nothing has changed.
    fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), CheckpointError>;

    /// Writes everything needed to go on, with a state of the caller's.
    ///
    /// # Errors
    /// As [`Self::save`].
    fn save_resume(&self, path: &Path, state: &Value) -> Result<(), CheckpointError>;

    /// Reads what [`Self::save_resume`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read or is of another model.
    fn load_resume(path: &Path) -> Result<(Self, Value), CheckpointError>;
}

impl Kept for MlpParams {
    fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), CheckpointError> {
        save(path, self, metadata)
    }

    fn save_resume(&self, path: &Path, state: &Value) -> Result<(), CheckpointError> {
        save_state(path, self, &[], state)
    }

    fn load_resume(path: &Path) -> Result<(Self, Value), CheckpointError> {
        let (params, _, state) = load_state(path)?;
        Ok((params, state))
    }
}

/// A transformer with its optimiser.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerState {
    /// The parameters.
    pub params: TransformerParams,
    /// Adam's first moments, as long as the parameters.
    pub first_moment: Vec<f32>,
    /// Adam's second moments.
    pub second_moment: Vec<f32>,
    /// Updates made.
    pub updates: u64,
}

impl TransformerState {
    /// A model whose training has not begun.
    pub fn new(params: TransformerParams) -> Self {
        let zeros = vec![0.0; params.values.len()];
        Self { params, first_moment: zeros.clone(), second_moment: zeros, updates: 0 }
    }
}

/// A transformer's checkpoint that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerCheckpoint {
    /// The model.
    pub params: TransformerParams,
    /// Training steps made, where known.
    pub step: Option<u64>,
}

/// A model of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// An MLP.
    Mlp(MlpParams),
    /// A transformer.
    Transformer(TransformerParams),
}

/// A checkpoint of either kind.
#[derive(Debug, Clone, PartialEq)]
pub struct AnyCheckpoint {
    /// The model.
    pub model: Model,
    /// Training steps made, where known.
    pub step: Option<u64>,
}

/// Reads an MLP or a transformer, whichever the file holds.
///
/// # Errors
/// If the file cannot be read or is neither.
pub fn load_any(path: &Path) -> Result<AnyCheckpoint, CheckpointError> {
    if TensorFile::open(path)?.metadata.contains_key(CONFIG) {
        let read = load_transformer(path)?;
        return Ok(AnyCheckpoint { model: Model::Transformer(read.params), step: read.step });
    }
    let read = super::load(path)?;
    Ok(AnyCheckpoint { model: Model::Mlp(read.params), step: read.metadata.step })
}

const CONFIG: &str = "curricle.config";

fn views(params: &TransformerParams) -> Vec<TensorRef<'_>> {
    let slots = params.config.tensors();
    let view = |slot: crate::model::transformer::TensorSlot| TensorRef {
        data: &params.values[slot.range()],
        name: slot.name,
        shape: slot.shape,
    };
    slots.into_iter().map(view).collect()
}

fn map(params: &TransformerParams) -> std::collections::BTreeMap<String, String> {
    let config = params.config.to_hugging_face().to_string();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    [("format", "pt".to_owned()), (CONFIG, config), ("curricle.version", version)]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
}

fn damaged(path: &Path, detail: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_path_buf(), detail: detail.into() }
}

fn config_of(path: &Path, file: &TensorFile) -> Result<TransformerConfig, CheckpointError> {
    let text = file.metadata.get(CONFIG).ok_or_else(|| damaged(path, "it is no transformer of curricle"))?;
    let json: Value = serde_json::from_str(text).map_err(|e| damaged(path, e.to_string()))?;
    TransformerConfig::from_hugging_face(&json).map_err(|e| damaged(path, e.to_string()))
}

fn read_params(
    path: &Path,
    file: &mut TensorFile,
    config: TransformerConfig,
) -> Result<TransformerParams, CheckpointError> {
    let mut values = Vec::with_capacity(config.parameters());
    for slot in config.tensors() {
        let index = file.position(&slot.name);
        let index = index.ok_or_else(|| damaged(path, format!("tensor {} is missing", slot.name)))?;
        let tensor = file.read_finite(index)?;
        if tensor.shape != slot.shape {
            return Err(damaged(
                path,
                format!("{} has the shape {:?}, not {:?}", slot.name, tensor.shape, slot.shape),
            ));
        }
        values.extend(tensor.data);
    }
    TransformerParams::from_values(config, values).map_err(|e| damaged(path, e.to_string()))
}

/// Reads a transformer's checkpoint.
///
/// # Errors
/// If the file cannot be read or is no transformer.
pub fn load_transformer(path: &Path) -> Result<TransformerCheckpoint, CheckpointError> {
    let mut file = TensorFile::open(path)?;
    let config = config_of(path, &file)?;
    let step = file.metadata.get(&format!("{PREFIX}step")).and_then(|s| s.parse().ok());
    Ok(TransformerCheckpoint { params: read_params(path, &mut file, config)?, step })
}

impl Kept for TransformerState {
    fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), CheckpointError> {
        let mut map = map(&self.params);
        map.extend(metadata.other.clone());
        let known = [
            ("step", metadata.step.map(|s| s.to_string())),
            ("experiment", metadata.experiment.clone()),
            ("arm", metadata.arm.clone()),
            ("seed", metadata.seed.map(|s| s.to_string())),
        ];
        map.extend(known.into_iter().filter_map(|(k, v)| Some((format!("{PREFIX}{k}"), v?))));
        write_safetensors(path, &views(&self.params), &map, true)
    }

    fn save_resume(&self, path: &Path, state: &Value) -> Result<(), CheckpointError> {
        if let Some((tensor, at)) = self.params.first_non_finite() {
            return Err(CheckpointError::Tensor {
                path: path.to_path_buf(),
                tensor,
                found: format!("element {at} is not finite"),
                expected: "finite parameters: the run has diverged, resume from an earlier state".into(),
            });
        }
        let mut map = map(&self.params);
        map.insert(format!("{PREFIX}state"), state.to_string());
        map.insert(format!("{PREFIX}updates"), self.updates.to_string());
        let mut tensors = views(&self.params);
        for (name, data) in [("adam.m", &self.first_moment), ("adam.v", &self.second_moment)] {
            tensors.push(TensorRef { name: name.to_owned(), shape: vec![data.len()], data });
        }
        write_safetensors(path, &tensors, &map, false)
    }

    fn load_resume(path: &Path) -> Result<(Self, Value), CheckpointError> {
        let mut file = TensorFile::open(path)?;
        let config = config_of(path, &file)?;
        let state = file.metadata.get(&format!("{PREFIX}state")).and_then(|s| serde_json::from_str(s).ok());
        let updates = file.metadata.get(&format!("{PREFIX}updates")).and_then(|s| s.parse().ok());
        let (Some(state), Some(updates)) = (state, updates) else {
            return Err(damaged(path, "it holds no resumable state"));
        };
        let params = read_params(path, &mut file, config)?;
        let mut moment = |name: &str| -> Result<Vec<f32>, CheckpointError> {
            let index = file.position(name).ok_or_else(|| damaged(path, format!("{name} is missing")))?;
            let Tensor { data, .. } = file.read(index)?;
            if data.len() != params.values.len() {
                return Err(damaged(path, format!("{name} has {} values", data.len())));
            }
            Ok(data)
        };
        let (first_moment, second_moment) = (moment("adam.m")?, moment("adam.v")?);
        Ok((Self { params, first_moment, second_moment, updates }, state))
    }
}
