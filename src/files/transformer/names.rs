//! Which tensor of a file is which parameter.

use super::super::error::CheckpointError;
use super::super::tensors::TensorFile;
use super::{DECODER_BIAS, HEAD_BIAS};
use curricle_core::model::transformer::{Family, TensorSlot, TransformerConfig, TransformerParams};
use std::collections::BTreeMap;
use std::path::Path;

/// Prefixes that wrappers put before every name.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];
/// Endings of buffers that some versions save, and beginnings of heads that do not enter the logits.
const BUFFERS: [&str; 4] =
    [".attn.bias", ".attn.masked_bias", "embeddings.position_ids", "embeddings.token_type_ids"];
const OTHER_HEADS: [&str; 2] = ["bert.pooler.", "cls.seq_relationship."];

/// Parts of names that only transformers have.
pub fn reveals_transformer(name: &str) -> bool {
    [".attn.c_attn.", ".attention.self.query.", "wte.weight", "word_embeddings.weight"]
        .iter()
        .any(|part| name.contains(part))
}

/// The name a tensor would have in a file of today's `transformers`.
fn canonical(name: &str, family: Family) -> String {
    let mut name = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    let base = match family {
        Family::Gpt2 => "transformer.",
        Family::Bert => "bert.",
    };
    let inside = match family {
        Family::Gpt2 => ["wte.", "wpe.", "h.", "ln_f."].iter().any(|p| name.starts_with(p)),
        Family::Bert => ["embeddings.", "encoder.", "pooler."].iter().any(|p| name.starts_with(p)),
    };
    let name = if inside { format!("{base}{name}") } else { name.to_string() };
    // The names of TensorFlow's layer norms, in old files.
    match name
        .strip_suffix(".gamma")
        .map(|n| (n, "weight"))
        .or(name.strip_suffix(".beta").map(|n| (n, "bias")))
    {
        Some((norm, part)) => format!("{norm}.{part}"),
        None => name,
    }
}

/// Reads the parameters of `config` (which came from `from`) from a file.
pub fn read(
    path: &Path,
    file: &mut TensorFile,
    config: TransformerConfig,
    from: &str,
) -> Result<TransformerParams, CheckpointError> {
    let slots = config.tensors();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for (i, entry) in file.entries.iter().enumerate() {
        if let Some(other) = found.insert(canonical(&entry.name, config.family), i) {
            return Err(CheckpointError::Tensor {
                path: path.to_path_buf(),
                tensor: entry.name.clone(),
                found: format!("the same parameter as \"{}\"", file.entries[other].name),
                expected: "every parameter once".into(),
            });
        }
    }
    let copies = second_names(&config, &mut found);
    // Grows with what the file really has: a configuration alone must not reserve memory.
    let mut values = Vec::new();
    let mut missing = Vec::new();
    for slot in &slots {
        match found.remove(&slot.name) {
            Some(i) => values.extend(tensor(path, file, i, slot, &config, from)?),
            None => missing.push(format!("\"{}\" {:?}", slot.name, slot.shape)),
        }
    }
    let harmless = |name: &String| {
        BUFFERS.iter().any(|end| name.ends_with(end))
            || OTHER_HEADS.iter().any(|start| name.starts_with(start))
    };
    let unexpected: Vec<String> =
        found.iter().filter(|(name, _)| !harmless(name)).map(|(_, i)| file.entries[*i].to_string()).collect();
    if !missing.is_empty() || !unexpected.is_empty() {
        let list = |what: &str, names: &[String]| match names {
            [] => String::new(),
            names => {
                let more = names.len().saturating_sub(6);
                let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("; {what}: {}{rest}", names[..names.len() - more].join(", "))
            }
        };
        let (missing, unexpected) = (list("missing", &missing), list("unexpected", &unexpected));
        return Err(CheckpointError::Config {
            path: path.to_path_buf(),
            detail: format!("its tensors are not those of {from} ({config}){missing}{unexpected}"),
        });
    }
    for (i, slot) in copies {
        let copy = tensor(path, file, i, &slot, &config, from)?;
        if copy[..] != values[slot.range()] {
            return Err(CheckpointError::Tensor {
                path: path.to_path_buf(),
                tensor: file.entries[i].name.clone(),
                found: format!("values that differ from \"{}\"", slot.name),
                expected: format!(
                    "equal ones, because {from} ties them; set \"tie_word_embeddings\": false if they are separate"
                ),
            });
        }
    }
    Ok(TransformerParams { config, values })
}

/// Takes the second names of tied parameters out of `found`: entries with the slots they have to equal. Where the head is not
/// tied, BERT's decoder bias is the bias of the logits.
fn second_names(config: &TransformerConfig, found: &mut BTreeMap<String, usize>) -> Vec<(usize, TensorSlot)> {
    let slots = config.tensors();
    let head = match config.family {
        Family::Gpt2 => "lm_head.weight",
        Family::Bert => "cls.predictions.decoder.weight",
    };
    let mut copies = Vec::new();
    if config.tied
        && let (Some(i), Some(words)) = (found.remove(head), slots.first())
    {
        copies.push((i, words.clone()));
    }
    if config.family == Family::Bert
        && let Some(i) = found.remove(DECODER_BIAS)
    {
        match slots
            .iter()
            .find(|s| s.name == HEAD_BIAS)
            .filter(|_| config.tied && found.contains_key(HEAD_BIAS))
        {
            Some(bias) => copies.push((i, bias.clone())),
            None => {
                found.insert(HEAD_BIAS.into(), i);
            }
        }
    }
    copies
}

/// One tensor's values, if its shape is the slot's.
fn tensor(
    path: &Path,
    file: &mut TensorFile,
    i: usize,
    slot: &TensorSlot,
    config: &TransformerConfig,
    from: &str,
) -> Result<Vec<f32>, CheckpointError> {
    let entry = &file.entries[i];
    if entry.shape != slot.shape {
        return Err(CheckpointError::Tensor {
            path: path.to_path_buf(),
            tensor: entry.name.clone(),
            found: format!("shape {:?}", entry.shape),
            expected: format!("{:?} by {from} ({config})", slot.shape),
        });
    }
    Ok(file.read_finite(i)?.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_ages_become_todays() {
        let gpt2 = |name| canonical(name, Family::Gpt2);
        assert_eq!(gpt2("h.0.attn.c_attn.weight"), "transformer.h.0.attn.c_attn.weight");
        assert_eq!(gpt2("module._orig_mod.transformer.wte.weight"), "transformer.wte.weight");
        assert_eq!(gpt2("lm_head.weight"), "lm_head.weight");
        let bert = |name| canonical(name, Family::Bert);
        assert_eq!(bert("embeddings.LayerNorm.gamma"), "bert.embeddings.LayerNorm.weight");
        assert_eq!(
            bert("cls.predictions.transform.LayerNorm.beta"),
            "cls.predictions.transform.LayerNorm.bias"
        );
        assert!(!reveals_transformer("0.weight") && reveals_transformer("h.0.attn.c_attn.weight"));
    }
}
