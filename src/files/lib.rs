//! Checkpoint files: safetensors in and out, PyTorch `.pt`/`.pth` in.
//!
//! An MLP is written as safetensors with the names of `nn.Sequential(Linear, ReLU, .., Linear)`, so PyTorch takes it:
//! ```python
//! state = safetensors.torch.load_file("step-000000001000.safetensors")
//! model.load_state_dict(state)
//! ```
//! Reading takes more: any set of `weight [outputs, inputs]` and `bias [outputs]` tensors that chain in exactly one way,
//! under any common prefix (`module.`, `_orig_mod.`, `net.`) or under `model_state_dict`, `state_dict` or `model`,
//! or as a list of one dictionary per layer; layers whose names differ only in numbers keep the numbers' order. A layer
//! without bias gets zeros, and the metadata says so. The hidden activation is not in such files: it is taken to be
//! ReLU. f64, f16 and bf16 become f32; every value must be finite. Transformers are the business of [`transformer`].
#![deny(missing_docs)]

pub mod atomic;
mod entry;
mod error;
mod kept;
mod mlp;
mod named;
mod pickle;
mod pytorch;
pub mod tensors;
pub mod transformer;

pub use error::CheckpointError;
pub use kept::{AnyCheckpoint, Kept, Model, load_any};
pub use named::Tensors;
pub use tensors::Format;

use curricle_core::model::mlp::{MlpParams, MlpShape};
use std::collections::BTreeMap;
use std::path::Path;
use tensors::{Tensor, TensorFile, TensorRef, write_safetensors};

/// Prefix of our own keys in a safetensors header.
const PREFIX: &str = "curricle.";

/// Where a checkpoint comes from. In the file it is a string map: `format = "pt"`, `curricle.step` and so on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Training steps made.
    pub step: Option<u64>,
    /// Name of the experiment.
    pub experiment: Option<String>,
    /// Name of the arm.
    pub arm: Option<String>,
    /// Seed of the run.
    pub seed: Option<u64>,
    /// Everything else, by the key in the file; keys may not repeat those above. `curricle.version` is the version that
    /// wrote the file, `curricle.notes` what an import had to assume.
    pub other: BTreeMap<String, String>,
}

impl Metadata {
    /// The string map of the file, for parameters of `shape`.
    fn to_map(&self, shape: &MlpShape) -> BTreeMap<String, String> {
        let mut map = self.provenance();
        let hidden: Vec<String> = shape.hidden.iter().map(ToString::to_string).collect();
        for (key, value) in
            [("d", shape.d.to_string()), ("hidden", hidden.join(",")), ("classes", shape.classes.to_string())]
        {
            map.insert(format!("{PREFIX}{key}"), value);
        }
        map
    }

    /// The part of the string map that does not depend on the model.
    fn provenance(&self) -> BTreeMap<String, String> {
        let mut map = self.other.clone();
        let known = [
            ("step", self.step.map(|s| s.to_string())),
            ("experiment", self.experiment.clone()),
            ("arm", self.arm.clone()),
            ("seed", self.seed.map(|s| s.to_string())),
            ("version", Some(env!("CARGO_PKG_VERSION").to_string())),
        ];
        for (key, value) in known {
            match value {
                Some(value) => map.insert(format!("{PREFIX}{key}"), value),
                None => map.remove(&format!("{PREFIX}{key}")),
            };
        }
        map.insert("format".into(), "pt".into());
        map
    }

    /// The inverse; `Err` names a key whose value is not what it should be.
    fn from_map(mut map: BTreeMap<String, String>, shape: &MlpShape) -> Result<Self, String> {
        let wanted = Self::default().to_map(shape);
        for key in ["d", "hidden", "classes"].map(|key| format!("{PREFIX}{key}")) {
            let found = map.remove(&key);
            if found.as_ref().is_some_and(|value| *value != wanted[&key]) {
                return Err(format!(
                    "its metadata says {key} = {}, its tensors {}",
                    found.unwrap_or_default(),
                    wanted[&key]
                ));
            }
        }
        Self::from_provenance(map)
    }

    /// The inverse of [`Self::provenance`]; `Err` names a key whose value is not what it should be.
    fn from_provenance(mut map: BTreeMap<String, String>) -> Result<Self, String> {
        map.remove("format");
        let mut take = |key: &str| map.remove(&format!("{PREFIX}{key}"));
        let number = |key: &str, value: Option<String>| {
            let parse = |v: String| {
                v.parse::<u64>().map_err(|_| format!("its metadata says {PREFIX}{key} = {v:?}, not a number"))
            };
            value.map(parse).transpose()
        };
        Ok(Self {
            step: number("step", take("step"))?,
            experiment: take("experiment"),
            arm: take("arm"),
            seed: number("seed", take("seed"))?,
            other: map,
        })
    }
}

/// A checkpoint that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The model.
    pub params: MlpParams,
    /// Where it comes from, as far as the file says.
    pub metadata: Metadata,
    /// The kind of file.
    pub format: Format,
}

/// Writes a checkpoint atomically: the file at `path` is the old one or the new one, whole. f32 bits are kept, and
/// the same arguments give the same bytes.
///
/// # Errors
/// If a parameter is not finite or the file cannot be written; then nothing has changed.
pub fn save(path: &Path, params: &MlpParams, metadata: &Metadata) -> Result<(), CheckpointError> {
    let params = mlp::row_major(params);
    write_safetensors(path, &mlp::views(&params), &metadata.to_map(&params.shape()), true)
}

/// Reads an MLP from a safetensors or PyTorch file; see the module's page for what is accepted.
///
/// # Errors
/// Every way in which the file can be unreadable, damaged or not one plain MLP, naming the file, the tensor, what was
/// expected and what to do.
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let mut file = TensorFile::open(path)?;
    let (params, notes) = mlp::read(path, &mut file)?;
    let damaged = |detail| CheckpointError::Damaged { path: path.to_path_buf(), detail };
    let mut metadata = Metadata::from_map(file.metadata, &params.shape()).map_err(damaged)?;
    if !notes.is_empty() {
        metadata.other.insert(format!("{PREFIX}notes"), notes.join("; "));
    }
    Ok(Checkpoint { params, metadata, format: file.format })
}

/// The training step a checkpoint of any model says it is from.
///
/// # Errors
/// If the file cannot be read.
pub fn step_of(path: &Path) -> Result<Option<u64>, CheckpointError> {
    let file = TensorFile::open(path)?;
    Ok(file.metadata.get(&format!("{PREFIX}step")).and_then(|s| s.parse().ok()))
}

/// Checks that a checkpoint fits a task: `d` inputs, `classes` logits and, where given, these hidden widths.
///
/// # Errors
/// Naming the checkpoint's shape and the needed one.
pub fn expect_shape(
    params: &MlpParams,
    path: &Path,
    d: usize,
    classes: usize,
    hidden: Option<&[usize]>,
) -> Result<(), CheckpointError> {
    let shape = params.shape();
    let error = |found: String, expected: String, hint| {
        Err(CheckpointError::Shape { path: path.to_path_buf(), found, expected, hint })
    };
    if shape.d != d {
        let expected = format!("the task has d = {d}");
        return error(
            format!("{} inputs", shape.d),
            expected,
            "give a checkpoint of this task or change task.d",
        );
    }
    if shape.classes != classes {
        let expected = format!("the task has {classes} labels");
        return error(format!("{} logits", shape.classes), expected, "give a checkpoint of this task");
    }
    match hidden {
        Some(hidden) if *hidden != shape.hidden => error(
            format!("hidden widths {:?}", shape.hidden),
            format!("the model has {hidden:?}"),
            "give a checkpoint of this model or change its widths",
        ),
        _ => Ok(()),
    }
}

/// A model in training as one file: parameters, any other tensors (an optimiser's moments), and a state.
///
/// # Errors
/// As [`save`]; the extra tensors may hold any value, but not the name of a parameter.
pub fn save_state(
    path: &Path,
    params: &MlpParams,
    extra: &[TensorRef<'_>],
    state: &serde_json::Value,
) -> Result<(), CheckpointError> {
    if let Some((tensor, at)) = params.first_non_finite() {
        return Err(CheckpointError::Tensor {
            path: path.to_path_buf(),
            tensor,
            found: format!("element {at} is not finite"),
            expected: "finite parameters: the run has diverged, resume from an earlier state".into(),
        });
    }
    let params = mlp::row_major(params);
    let mut tensors = mlp::views(&params);
    let count = tensors.len();
    tensors.extend(extra.iter().cloned());
    let mut map = Metadata::default().to_map(&params.shape());
    map.insert(format!("{PREFIX}state"), state.to_string());
    map.insert(format!("{PREFIX}parameters"), count.to_string());
    write_safetensors(path, &tensors, &map, false)
}

/// Reads what [`save_state`] wrote: parameters, extra tensors in the order given, state.
///
/// # Errors
/// If the file cannot be read or was not written by [`save_state`].
pub fn load_state(path: &Path) -> Result<(MlpParams, Vec<Tensor>, serde_json::Value), CheckpointError> {
    let damaged = |detail: &str| CheckpointError::Damaged { path: path.to_path_buf(), detail: detail.into() };
    let mut file = TensorFile::open(path)?;
    let count = file.metadata.get(&format!("{PREFIX}parameters")).and_then(|n| n.parse::<usize>().ok());
    let state = file.metadata.get(&format!("{PREFIX}state")).and_then(|s| serde_json::from_str(s).ok());
    let (Some(count), Some(state)) = (count.filter(|n| *n <= file.entries.len()), state) else {
        return Err(damaged("it holds no resumable state"));
    };
    let parameters = (0..count).map(|i| file.read_finite(i)).collect::<Result<Vec<_>, _>>()?;
    let extra = (count..file.entries.len()).map(|i| file.read(i)).collect::<Result<Vec<_>, _>>()?;
    let params =
        mlp::from_tensors(parameters).ok_or_else(|| damaged("its parameters are not those of an MLP"))?;
    Ok((params, extra, state))
}
