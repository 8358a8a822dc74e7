//! Models that a run folder keeps: as checkpoints, and with their training state to go on from.

use super::tensors::{Tensor, TensorRef};
use super::{CheckpointError, Metadata, load_state, save, save_state, transformer};
use curricle_core::model::MlpParams;
use curricle_core::model::TransformerState;
use curricle_core::model::transformer::TransformerParams;
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
    if transformer::is_transformer(path) {
        let read = transformer::load(path)?;
        return Ok(AnyCheckpoint { model: Model::Transformer(read.params), step: read.metadata.step });
    }
    let read = super::load(path)?;
    Ok(AnyCheckpoint { model: Model::Mlp(read.params), step: read.metadata.step })
}

impl Kept for TransformerState {
    fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), CheckpointError> {
        transformer::save(path, &self.params, metadata)
    }

    fn save_resume(&self, path: &Path, state: &Value) -> Result<(), CheckpointError> {
        let moments = [("adam.m", &self.first_moment), ("adam.v", &self.second_moment)];
        let extra: Vec<TensorRef> = moments
            .iter()
            .map(|(name, data)| TensorRef { name: (*name).to_owned(), shape: vec![data.len()], data })
            .collect();
        transformer::save_state(path, &self.params, &extra, &with_updates(state, self.updates))
    }

    fn load_resume(path: &Path) -> Result<(Self, Value), CheckpointError> {
        let (params, extra, mut state) = transformer::load_state(path)?;
        let damaged =
            |detail: &str| CheckpointError::Damaged { path: path.to_path_buf(), detail: detail.into() };
        let updates = state.as_object_mut().and_then(|map| map.remove(UPDATES)).and_then(|n| n.as_u64());
        let updates = updates.ok_or_else(|| damaged("its number of updates is missing"))?;
        let moments: [Tensor; 2] =
            extra.try_into().map_err(|_| damaged("it does not hold the two moments of Adam"))?;
        let [first_moment, second_moment] = moments.map(|tensor| tensor.data);
        if [&first_moment, &second_moment].iter().any(|m| m.len() != params.values.len()) {
            return Err(damaged("its moments are not as long as its parameters"));
        }
        Ok((Self { params, first_moment, second_moment, updates }, state))
    }
}

/// Key of the number of updates in the state.
const UPDATES: &str = "adam_updates";

fn with_updates(state: &Value, updates: u64) -> Value {
    let mut state = state.clone();
    if let Some(map) = state.as_object_mut() {
        map.insert(UPDATES.to_owned(), updates.into());
    }
    state
}
