//! Which tensors of a file make an MLP, and in what order.

use super::error::CheckpointError;
use super::tensors::{Entry, Tensor, TensorFile, TensorRef};
use curricle_core::model::mlp::{Layer, MlpParams};
use ndarray::{Array1, Array2};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

/// Top-level keys under which training scripts nest the weights.
const WEIGHTS: [&str; 3] = ["model_state_dict", "state_dict", "model"];
/// Beginnings of top-level keys that hold a trainer's state, which can contain tensors of any shape.
const TRAINER: [&str; 6] = ["optim", "sched", "lr_sched", "scaler", "rng", "random"];
/// Parts of names that only transformers have.
const TRANSFORMER: [&str; 9] = [
    "attn",
    "attention",
    "transformer",
    "word_embeddings",
    "position_embeddings",
    "lm_head",
    "wte",
    "wpe",
    "encoder.layer",
];

/// One linear layer of a file: positions in `TensorFile::entries`.
#[derive(Debug, Clone, PartialEq)]
struct Linear {
    /// What its tensors' names have before "weight" and "bias".
    name: String,
    weight: usize,
    bias: Option<usize>,
    fan_in: usize,
    fan_out: usize,
}

/// The parameters, and notes on what was assumed.
pub(super) fn read(path: &Path, file: &mut TensorFile) -> Result<(MlpParams, Vec<String>), CheckpointError> {
    let mut notes = Vec::new();
    let mut layers = Vec::new();
    for linear in linears(path, &file.entries)? {
        let weight = file.read_finite(linear.weight)?.data;
        let bias = match linear.bias {
            Some(bias) => file.read_finite(bias)?.data,
            None => {
                notes.push(format!("layer \"{}\" has no bias: zeros taken", linear.name));
                vec![0.0; linear.fan_out]
            }
        };
        let weight = Array2::from_shape_vec([linear.fan_out, linear.fan_in], weight)
            .expect("the reader checked the number of values");
        layers.push(Layer { weight, bias: Array1::from_vec(bias) });
    }
    Ok((MlpParams { layers }, notes))
}

/// Parameters from tensors with our own names, as [`views`] makes them; `None` if a name or shape is not ours.
pub(super) fn from_tensors(tensors: Vec<Tensor>) -> Option<MlpParams> {
    let mut tensors = tensors.into_iter();
    let mut layers: Vec<Layer> = Vec::new();
    while let Some(weight) = tensors.next() {
        let bias = tensors.next()?;
        let l = 2 * layers.len();
        let [fan_out, fan_in] = weight.shape[..] else { return None };
        let chained = layers.last().is_none_or(|before| before.weight.nrows() == fan_in);
        if weight.name != format!("{l}.weight")
            || bias.name != format!("{l}.bias")
            || bias.shape != [fan_out]
            || !chained
        {
            return None;
        }
        let weight = Array2::from_shape_vec([fan_out, fan_in], weight.data).ok()?;
        layers.push(Layer { weight, bias: Array1::from_vec(bias.data) });
    }
    (layers.len() >= 2).then_some(MlpParams { layers })
}

/// The tensors to write, by the names of `nn.Sequential(Linear, ReLU, .., Linear)`. The arrays are row-major:
/// see [`row_major`].
pub(super) fn views(params: &MlpParams) -> Vec<TensorRef<'_>> {
    let layers = params.layers.iter().enumerate();
    layers
        .flat_map(|(l, Layer { weight, bias })| {
            let data = (weight.as_slice(), bias.as_slice());
            let (Some(weights), Some(biases)) = data else { unreachable!("the arrays are row-major") };
            [
                TensorRef {
                    name: format!("{}.weight", 2 * l),
                    shape: weight.shape().to_vec(),
                    data: weights,
                },
                TensorRef { name: format!("{}.bias", 2 * l), shape: bias.shape().to_vec(), data: biases },
            ]
        })
        .collect()
}

/// The same parameters in row-major arrays; a copy only where one is not (a transposed view made one, say).
pub(super) fn row_major(params: &MlpParams) -> Cow<'_, MlpParams> {
    if params.layers.iter().all(|l| l.weight.is_standard_layout() && l.bias.is_standard_layout()) {
        return Cow::Borrowed(params);
    }
    let copy = |l: &Layer| Layer {
        weight: l.weight.as_standard_layout().into_owned(),
        bias: l.bias.as_standard_layout().into_owned(),
    };
    Cow::Owned(MlpParams { layers: params.layers.iter().map(copy).collect() })
}

/// The file's linear layers from input to output.
fn linears(path: &Path, entries: &[Entry]) -> Result<Vec<Linear>, CheckpointError> {
    let layout = |detail: String| CheckpointError::Layout {
        path: path.to_path_buf(),
        detail,
        tensors: entries.iter().map(ToString::to_string).collect(),
    };
    // A bare "weight" could be anything; a name such as "h.0.attn.c_attn.weight" could not.
    let revealing = |e: &&Entry| TRANSFORMER.iter().any(|part| e.name.to_lowercase().contains(part));
    if let Some(entry) = entries.iter().find(revealing) {
        let tensor = entry.name.clone();
        return Err(CheckpointError::Transformer { path: path.to_path_buf(), tensor });
    }
    let members = model_members(entries).map_err(&layout)?;
    let linears = pairs(path, entries, &members, &layout)?;
    let ordered = chain(&linears).map_err(&layout)?;
    if ordered.len() < 2 {
        return Err(layout("an MLP needs a hidden layer, so at least two linear layers".into()));
    }
    if ordered[ordered.len() - 1].fan_out < 2 {
        let detail = "the last layer has one output, but two or more logits are needed";
        return Err(layout(detail.into()));
    }
    Ok(ordered)
}

/// The entries that belong to the model and not to the rest of a training checkpoint.
fn model_members(entries: &[Entry]) -> Result<Vec<usize>, String> {
    let top = |i: &usize| entries[*i].name.split_once('.').map(|(top, _)| top);
    let trainer = |i: &usize| {
        let first = entries[*i].name.split('.').next().unwrap_or_default().to_lowercase();
        TRAINER.iter().any(|t| first.starts_with(t))
    };
    let kept: Vec<usize> = (0..entries.len()).filter(|i| !trainer(i)).collect();
    let containers: Vec<&str> =
        WEIGHTS.into_iter().filter(|key| kept.iter().any(|i| top(i) == Some(key))).collect();
    let [container] = containers[..] else {
        return match containers[..] {
            [] => Ok(kept),
            _ => Err(format!(
                "weights lie under {}: which ones are meant? Save one state_dict by itself",
                containers.join(" and ")
            )),
        };
    };
    let (inside, outside): (Vec<usize>, Vec<usize>) = kept.iter().partition(|i| top(i) == Some(container));
    match outside.into_iter().find(|i| entries[*i].shape.len() == 2) {
        Some(other) => Err(format!(
            "weights lie under \"{container}\", but \"{}\" beside it is a matrix too: save the wanted state_dict \
             by itself",
            entries[other].name
        )),
        None => Ok(inside),
    }
}

/// Layer name and whether it is a weight, from a name such as "net.0.weight" or "W1".
fn part_of(name: &str) -> Option<(String, bool)> {
    let (prefix, last) = name.rsplit_once('.').map_or(("", name), |(prefix, last)| (prefix, last));
    let kind = last.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_weight = match kind {
        "weight" | "W" | "w" => true,
        "bias" | "B" | "b" => false,
        _ => return None,
    };
    let layer: Vec<&str> = [prefix, &last[kind.len()..]].into_iter().filter(|s| !s.is_empty()).collect();
    Some((layer.join("."), is_weight))
}

/// Pairs every weight with its bias and checks their shapes.
fn pairs(
    path: &Path,
    entries: &[Entry],
    members: &[usize],
    layout: &impl Fn(String) -> CheckpointError,
) -> Result<Vec<Linear>, CheckpointError> {
    let wrong = |entry: &Entry, expected: String| CheckpointError::Tensor {
        path: path.to_path_buf(),
        tensor: entry.name.clone(),
        found: format!("shape {:?}", entry.shape),
        expected,
    };
    let mut found: BTreeMap<String, (Option<usize>, Option<usize>)> = BTreeMap::new();
    for &i in members {
        let name = &entries[i].name;
        let Some((layer, is_weight)) = part_of(name) else {
            return Err(layout(format!(
                "\"{name}\" is no weight or bias of a linear layer, so this is not a plain ReLU MLP"
            )));
        };
        let pair = found.entry(layer).or_default();
        let slot = if is_weight { &mut pair.0 } else { &mut pair.1 };
        if slot.replace(i).is_some() {
            return Err(layout(format!("\"{name}\" names the same part of a layer as another tensor")));
        }
    }
    let mut linears = Vec::new();
    for (name, (weight, bias)) in found {
        let Some(weight) = weight else {
            let bias = bias.map_or("", |b| &entries[b].name);
            return Err(layout(format!("\"{bias}\" has no weight beside it")));
        };
        let [fan_out, fan_in] = entries[weight].shape[..] else {
            let expected = "[outputs, inputs] of a linear layer (normalisation, embedding and convolution layers \
                            are not part of a plain MLP)";
            return Err(wrong(&entries[weight], expected.into()));
        };
        if fan_in == 0 || fan_out == 0 {
            return Err(wrong(&entries[weight], "at least one input and one output".into()));
        }
        if let Some(bias) = bias
            && entries[bias].shape != [fan_out]
        {
            let hint = if entries[bias].shape == [fan_in] { " (is the weight transposed?)" } else { "" };
            let expected = format!(
                "[{fan_out}], one per row of \"{}\" {:?}{hint}",
                entries[weight].name,
                [fan_out, fan_in]
            );
            return Err(wrong(&entries[bias], expected));
        }
        linears.push(Linear { name, weight, bias, fan_in, fan_out });
    }
    Ok(linears)
}

/// The only order in which outputs meet inputs. Layers whose names differ in numbers alone keep the numbers' order.
fn chain(linears: &[Linear]) -> Result<Vec<Linear>, String> {
    // Names with the numbers taken out, each with its layers in the order of the numbers.
    let mut families: BTreeMap<String, Vec<(Vec<u64>, usize)>> = BTreeMap::new();
    for (i, linear) in linears.iter().enumerate() {
        let (pattern, numbers) = pattern(&linear.name);
        families.entry(pattern).or_default().push((numbers, i));
    }
    let mut rows = Vec::new();
    for mut family in families.into_values() {
        family.sort();
        if family.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err("two layers have the same number".into());
        }
        rows.push(family.into_iter().map(|(_, i)| i).collect());
    }
    let mut search = Search {
        linears,
        next: vec![0; rows.len()],
        rows,
        order: Vec::new(),
        found: Vec::new(),
        left: 100_000,
    };
    search.run();
    match (search.found.len(), search.left) {
        (1, 1..) => Ok(search.found[0].iter().map(|&i| linears[i].clone()).collect()),
        (0, 1..) => {
            Err("the layers do not chain: each one's inputs must equal the outputs of the one before \
                         (weights are [outputs, inputs])"
                .into())
        }
        _ => Err("the layers chain in more than one order: name them in order, as nn.Sequential does \
                  (0.weight, 2.weight, ..)"
            .into()),
    }
}

/// Depth-first search for at most two orders.
struct Search<'a> {
    linears: &'a [Linear],
    /// Each family's layers in order.
    rows: Vec<Vec<usize>>,
    /// How many of each family are placed.
    next: Vec<usize>,
    order: Vec<usize>,
    found: Vec<Vec<usize>>,
    /// Steps left, so that no file can keep it busy; none left counts as ambiguous.
    left: usize,
}

impl Search<'_> {
    fn run(&mut self) {
        if self.order.len() == self.linears.len() {
            self.found.push(self.order.clone());
            return;
        }
        for row in 0..self.rows.len() {
            let Some(&candidate) = self.rows[row].get(self.next[row]) else { continue };
            let meets = |&last: &usize| self.linears[last].fan_out == self.linears[candidate].fan_in;
            if !self.order.last().is_none_or(meets) {
                continue;
            }
            if self.left == 0 || self.found.len() > 1 {
                return;
            }
            self.left -= 1;
            self.next[row] += 1;
            self.order.push(candidate);
            self.run();
            self.order.pop();
            self.next[row] -= 1;
        }
    }
}

/// A name with every number replaced by '#', and the numbers.
fn pattern(name: &str) -> (String, Vec<u64>) {
    let (mut text, mut numbers) = (String::new(), Vec::new());
    let mut rest = name;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - start);
        text.push_str(&rest[..start]);
        match rest[start..start + digits].parse() {
            Ok(number) => {
                text.push('#');
                numbers.push(number);
            }
            // Too long for a number: part of the text.
            Err(_) => text.push_str(&rest[start..start + digits]),
        }
        rest = &rest[start + digits..];
    }
    text.push_str(rest);
    (text, numbers)
}
