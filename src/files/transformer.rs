//! Transformer checkpoints: folders of Hugging Face `transformers`, and single files for run folders.
//!
//! A folder holds `config.json` and `model.safetensors`, so that `GPT2LMHeadModel.from_pretrained(folder)` and
//! `BertForMaskedLM.from_pretrained(folder)` take it. A single file is the same `model.safetensors` with the text of
//! `config.json` in its metadata under `curricle.config`.
//!
//! Reading takes both, any folder that `save_pretrained` made (also `pytorch_model.bin`), and a bare file beside its
//! `config.json`. Names may lack the `transformer.` or `bert.` prefix or carry `module.` or `_orig_mod.`; the tied head may
//! be there, and then has to equal the word embeddings. Causal-mask and position buffers, BERT's pooler and its
//! next-sentence head do not enter the logits and are left out. Anything else unexpected, and anything missing, is an error.

mod names;

use super::error::CheckpointError;
use super::tensors::{Format, Tensor, TensorFile, TensorRef, write_safetensors};
use super::{Metadata, PREFIX, atomic};
use curricle_core::model::transformer::{Family, TransformerConfig, TransformerParams};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Names of the weights in a folder, best first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
const CONFIG: &str = "config.json";
/// BERT's second name for the bias of the logits; `transformers` 5 reads it where the head is untied.
const DECODER_BIAS: &str = "cls.predictions.decoder.bias";
const HEAD_BIAS: &str = "cls.predictions.bias";

/// A transformer that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerCheckpoint {
    /// The model.
    pub params: TransformerParams,
    /// Where it comes from, as far as the file says.
    pub metadata: Metadata,
    /// The kind of file.
    pub format: Format,
}

/// The tensors to write, by their Hugging Face names.
fn views(params: &TransformerParams) -> Vec<TensorRef<'_>> {
    let slots = params.config.tensors().into_iter();
    slots
        .map(|slot| TensorRef { data: &params.values[slot.range()], name: slot.name, shape: slot.shape })
        .collect()
}

/// Writes a single-file checkpoint atomically; the same arguments give the same bytes.
///
/// # Errors
/// If a parameter is not finite, the values do not fit the configuration, or the file cannot be written; then nothing has
/// changed.
pub fn save(path: &Path, params: &TransformerParams, metadata: &Metadata) -> Result<(), CheckpointError> {
    whole(path, params)?;
    let mut map = metadata.provenance();
    map.insert(format!("{PREFIX}config"), params.config.to_hugging_face().to_string());
    map.insert("format".into(), "pt".into());
    write_safetensors(path, &views(params), &map, true)
}

/// Writes a Hugging Face folder, which is made if need be: `config.json` and `model.safetensors`.
///
/// # Errors
/// As [`save`]. Each file is the old one or the new one.
pub fn save_folder(
    folder: &Path,
    params: &TransformerParams,
    metadata: &Metadata,
) -> Result<(), CheckpointError> {
    whole(folder, params)?;
    let error = |path: PathBuf| move |source| CheckpointError::Write { path, source };
    std::fs::create_dir_all(folder).map_err(error(folder.to_path_buf()))?;
    let mut tensors = views(params);
    if params.config.family == Family::Bert
        && !params.config.tied
        && let Some(bias) = tensors.iter().find(|t| t.name == HEAD_BIAS).cloned()
    {
        tensors.push(TensorRef { name: DECODER_BIAS.into(), ..bias });
    }
    let mut map = metadata.provenance();
    map.insert("format".into(), "pt".into());
    write_safetensors(&folder.join(WEIGHTS[0]), &tensors, &map, true)?;
    let text = serde_json::to_string_pretty(&params.config.to_hugging_face()).unwrap_or_default() + "\n";
    let path = folder.join(CONFIG);
    atomic::write_text(&path, &text).map_err(error(path))
}

/// Values of another number than the configuration has would make slices fail later.
fn whole(path: &Path, params: &TransformerParams) -> Result<(), CheckpointError> {
    let config = |detail: String| CheckpointError::Config { path: path.to_path_buf(), detail };
    params.config.check().map_err(|e| config(e.to_string()))?;
    let expected = params.config.parameters();
    if params.values.len() != expected {
        let detail = format!("{} values for a configuration of {expected} parameters", params.values.len());
        return Err(config(detail));
    }
    Ok(())
}

/// Whether a path is a transformer's folder or a file that says it holds one; `load` may still refuse it.
pub fn is_transformer(path: &Path) -> bool {
    if path.is_dir() {
        return path.join(CONFIG).is_file();
    }
    TensorFile::open(path).is_ok_and(|file| {
        file.metadata.contains_key(&format!("{PREFIX}config"))
            || file.entries.iter().any(|e| names::reveals_transformer(&e.name))
    })
}

/// Reads a Hugging Face folder, a single-file checkpoint, or a file beside its `config.json`.
///
/// # Errors
/// Every way in which it can be unreadable, damaged, or not the model its configuration describes, naming the file, the
/// tensors, and what was expected.
pub fn load(path: &Path) -> Result<TransformerCheckpoint, CheckpointError> {
    let file_path = if path.is_dir() { weights(path)? } else { path.to_path_buf() };
    let mut file = TensorFile::open(&file_path)?;
    let own = file.metadata.remove(&format!("{PREFIX}config"));
    let (config, from) = match own {
        Some(text) => (parse(path, &text)?, "its own configuration".to_string()),
        None => {
            let beside = file_path.with_file_name(CONFIG);
            let text = std::fs::read_to_string(&beside).map_err(|e| CheckpointError::Config {
                path: file_path.clone(),
                detail: format!(
                    "a transformer needs its configuration, but {} cannot be read: {e}; keep config.json beside the \
                     weights",
                    beside.display()
                ),
            })?;
            (parse(&beside, &text)?, beside.display().to_string())
        }
    };
    let params = names::read(&file_path, &mut file, config, &from)?;
    let damaged = |detail| CheckpointError::Damaged { path: file_path.clone(), detail };
    let metadata = Metadata::from_provenance(file.metadata).map_err(damaged)?;
    Ok(TransformerCheckpoint { params, metadata, format: file.format })
}

/// The file with a folder's weights.
fn weights(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let found = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let sharded = WEIGHTS.iter().any(|name| folder.join(format!("{name}.index.json")).is_file());
        let detail = if sharded {
            "its weights are split over several files: save it with save_pretrained(.., max_shard_size=\"100GB\")".into()
        } else {
            format!("the folder has neither {} nor {}", WEIGHTS[0], WEIGHTS[1])
        };
        CheckpointError::Config { path: folder.to_path_buf(), detail }
    })
}

fn parse(path: &Path, text: &str) -> Result<TransformerConfig, CheckpointError> {
    let config = |detail: String| CheckpointError::Config { path: path.to_path_buf(), detail };
    let json: Value =
        serde_json::from_str(text).map_err(|e| config(format!("the configuration is not JSON: {e}")))?;
    TransformerConfig::from_hugging_face(&json).map_err(|e| config(e.to_string()))
}

/// A model in training as one file: parameters, any other tensors (an optimiser's moments), and a state.
///
/// # Errors
/// As [`save`]; the extra tensors may hold any value, but not the name of a parameter.
pub fn save_state(
    path: &Path,
    params: &TransformerParams,
    extra: &[TensorRef<'_>],
    state: &Value,
) -> Result<(), CheckpointError> {
    whole(path, params)?;
    if let Some((tensor, at)) = params.first_non_finite() {
        return Err(CheckpointError::Tensor {
            path: path.to_path_buf(),
            tensor,
            found: format!("element {at} is not finite"),
            expected: "finite parameters: the run has diverged, resume from an earlier state".into(),
        });
    }
    let mut tensors = views(params);
    let count = tensors.len();
    tensors.extend(extra.iter().cloned());
    let mut map = Metadata::default().provenance();
    map.insert(format!("{PREFIX}config"), params.config.to_hugging_face().to_string());
    map.insert(format!("{PREFIX}state"), state.to_string());
    map.insert(format!("{PREFIX}parameters"), count.to_string());
    write_safetensors(path, &tensors, &map, false)
}

/// Reads what [`save_state`] wrote: parameters, extra tensors in the order given, state.
///
/// # Errors
/// If the file cannot be read or was not written by [`save_state`].
pub fn load_state(path: &Path) -> Result<(TransformerParams, Vec<Tensor>, Value), CheckpointError> {
    let damaged = |detail: &str| CheckpointError::Damaged { path: path.to_path_buf(), detail: detail.into() };
    let mut file = TensorFile::open(path)?;
    let key = |name: &str| format!("{PREFIX}{name}");
    let count = file.metadata.get(&key("parameters")).and_then(|n| n.parse::<usize>().ok());
    let state = file.metadata.get(&key("state")).and_then(|s| serde_json::from_str(s).ok());
    let (Some(count), Some(state), Some(config)) =
        (count.filter(|n| *n <= file.entries.len()), state, file.metadata.get(&key("config")))
    else {
        return Err(damaged("it holds no resumable state of a transformer"));
    };
    let config = parse(path, config)?;
    let mut values = Vec::new();
    let slots = config.tensors();
    if count != slots.len() {
        return Err(damaged("its configuration and its tensors disagree"));
    }
    for (i, slot) in slots.iter().enumerate() {
        if file.entries[i].name != slot.name || file.entries[i].shape != slot.shape {
            return Err(damaged("its configuration and its tensors disagree"));
        }
        values.extend(file.read_finite(i)?.data);
    }
    let extra = (count..file.entries.len()).map(|i| file.read(i)).collect::<Result<Vec<_>, _>>()?;
    Ok((TransformerParams { config, values }, extra, state))
}
