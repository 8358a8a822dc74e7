//! Where every tensor lies in the flat vector.

use super::config::{Family, TransformerConfig};
use std::ops::Range;

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TensorInit {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
        /// A row that is zero instead (BERT's padding token).
        zero_row: Option<u32>,
    },
}

/// One tensor of the flat vector.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorSlot {
    /// Hugging Face name.
    pub name: String,
    /// Hugging Face shape, outermost first.
    pub shape: Vec<usize>,
    /// Index of its first element in the flat vector.
    pub offset: usize,
    /// Whether weight decay applies (Hugging Face's rule: not to biases and layer norms).
    pub decay: bool,
    /// How it starts.
    pub init: TensorInit,
}

impl TensorSlot {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its elements in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// A linear map's elements in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// Weight: GPT-2 `[inputs, outputs]` (Conv1D), BERT `[outputs, inputs]`.
    pub weight: Range<usize>,
    /// Bias `[outputs]`.
    pub bias: Range<usize>,
    /// Input width.
    pub inputs: usize,
    /// Output width.
    pub outputs: usize,
}

/// A layer norm's elements in the flat vector, `[hidden]` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Norm {
    /// Scale.
    pub weight: Range<usize>,
    /// Shift.
    pub bias: Range<usize>,
}

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerLayout {
    /// GPT-2: before attention (`ln_1`). BERT: after attention (`attention.output.LayerNorm`).
    pub norm1: Norm,
    /// Queries, keys and values at once, 3 x hidden outputs in this order.
    pub qkv: Linear,
    /// Projection of the heads' outputs.
    pub projection: Linear,
    /// GPT-2: before the MLP (`ln_2`). BERT: after the MLP (`output.LayerNorm`).
    pub norm2: Norm,
    /// First linear map of the MLP.
    pub up: Linear,
    /// Second linear map of the MLP.
    pub down: Linear,
}

/// Offsets of every tensor by role, for the engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Word embeddings `[vocab, hidden]`.
    pub words: Range<usize>,
    /// Position embeddings `[positions, hidden]`.
    pub positions: Range<usize>,
    /// BERT: token-type embeddings `[types, hidden]`; empty for GPT-2.
    pub types: Range<usize>,
    /// BERT: layer norm of the embeddings.
    pub embedding_norm: Option<Norm>,
    /// Blocks from input to output.
    pub layers: Vec<LayerLayout>,
    /// GPT-2: `ln_f`. BERT: the head's layer norm, after its dense layer and activation.
    pub final_norm: Norm,
    /// BERT: the head's dense layer.
    pub transform: Option<Linear>,
    /// Matrix that gives the logits, `[vocab, hidden]` in both families; the word embeddings if tied.
    pub head: Range<usize>,
    /// BERT: bias of the logits `[vocab]`.
    pub head_bias: Option<Range<usize>>,
    /// Number of parameters.
    pub parameters: usize,
}

/// Appends slots one behind the other.
#[derive(Default)]
struct Builder {
    slots: Vec<TensorSlot>,
    end: usize,
}

impl Builder {
    fn push(&mut self, name: String, shape: &[usize], decay: bool, init: TensorInit) -> Range<usize> {
        let slot = TensorSlot { name, shape: shape.to_vec(), offset: self.end, decay, init };
        let range = slot.range();
        self.end = range.end;
        self.slots.push(slot);
        range
    }

    fn normal(&mut self, name: impl Into<String>, shape: &[usize], std: f64) -> Range<usize> {
        self.push(name.into(), shape, true, TensorInit::Normal { std, zero_row: None })
    }

    fn bias(&mut self, name: impl Into<String>, len: usize) -> Range<usize> {
        self.push(name.into(), &[len], false, TensorInit::Zeros)
    }

    fn norm(&mut self, name: &str, len: usize) -> Norm {
        Norm {
            weight: self.push(format!("{name}.weight"), &[len], false, TensorInit::Ones),
            bias: self.bias(format!("{name}.bias"), len),
        }
    }

    /// GPT-2's Conv1D, `[inputs, outputs]`.
    fn conv1d(&mut self, name: &str, [inputs, outputs]: [usize; 2], std: f64) -> Linear {
        let weight = self.normal(format!("{name}.weight"), &[inputs, outputs], std);
        Linear { weight, bias: self.bias(format!("{name}.bias"), outputs), inputs, outputs }
    }

    /// PyTorch's Linear, `[outputs, inputs]`.
    fn linear(&mut self, name: &str, [inputs, outputs]: [usize; 2], std: f64) -> Linear {
        let weight = self.normal(format!("{name}.weight"), &[outputs, inputs], std);
        Linear { weight, bias: self.bias(format!("{name}.bias"), outputs), inputs, outputs }
    }
}

impl TransformerConfig {
    /// Every tensor in the order of the flat vector, with its Hugging Face name and shape. Call [`Self::check`] first.
    pub fn tensors(&self) -> Vec<TensorSlot> {
        Layout::slots(self)
    }

    /// Number of parameters; a tied head counts once.
    pub fn parameters(&self) -> usize {
        self.tensors().last().map_or(0, |slot| slot.offset + slot.len())
    }
}

impl Layout {
    /// The layout of a model. Call [`TransformerConfig::check`] first.
    pub fn new(config: &TransformerConfig) -> Self {
        Self::build(config).0
    }

    pub(super) fn slots(config: &TransformerConfig) -> Vec<TensorSlot> {
        Self::build(config).1
    }

    fn build(config: &TransformerConfig) -> (Self, Vec<TensorSlot>) {
        let mut builder = Builder::default();
        let layout = match config.family {
            Family::Gpt2 => gpt2(config, &mut builder),
            Family::Bert => bert(config, &mut builder),
        };
        (Self { parameters: builder.end, ..layout }, builder.slots)
    }
}

fn gpt2(config: &TransformerConfig, b: &mut Builder) -> Layout {
    let TransformerConfig { vocab, hidden, inner, init_std: std, .. } = *config;
    // Both projections into the residual stream, by the GPT-2 paper's scheme.
    let residual = std / (2.0 * config.layers as f64).sqrt();
    let words = b.normal("transformer.wte.weight", &[vocab, hidden], std);
    let positions = b.normal("transformer.wpe.weight", &[config.positions, hidden], std);
    let layers = (0..config.layers).map(|l| {
        let name = |part: &str| format!("transformer.h.{l}.{part}");
        LayerLayout {
            norm1: b.norm(&name("ln_1"), hidden),
            qkv: b.conv1d(&name("attn.c_attn"), [hidden, 3 * hidden], std),
            projection: b.conv1d(&name("attn.c_proj"), [hidden, hidden], residual),
            norm2: b.norm(&name("ln_2"), hidden),
            up: b.conv1d(&name("mlp.c_fc"), [hidden, inner], std),
            down: b.conv1d(&name("mlp.c_proj"), [inner, hidden], residual),
        }
    });
    let layers = layers.collect();
    let final_norm = b.norm("transformer.ln_f", hidden);
    let head = if config.tied { words.clone() } else { b.normal("lm_head.weight", &[vocab, hidden], std) };
    Layout {
        words,
        positions,
        types: 0..0,
        embedding_norm: None,
        layers,
        final_norm,
        transform: None,
        head,
        head_bias: None,
        parameters: 0,
    }
}

fn bert(config: &TransformerConfig, b: &mut Builder) -> Layout {
    let TransformerConfig { vocab, hidden, inner, init_std: std, .. } = *config;
    let table = |part: &str| format!("bert.embeddings.{part}_embeddings.weight");
    let init = TensorInit::Normal { std, zero_row: config.pad_token };
    let words = b.push(table("word"), &[vocab, hidden], true, init);
    let positions = b.normal(table("position"), &[config.positions, hidden], std);
    let types = b.normal(table("token_type"), &[config.types, hidden], std);
    let embedding_norm = Some(b.norm("bert.embeddings.LayerNorm", hidden));
    let layers = (0..config.layers).map(|l| {
        let name = |part: &str| format!("bert.encoder.layer.{l}.{part}");
        // The three weights side by side, then the three biases: one matrix [3 hidden, hidden] and one vector.
        let parts = ["query", "key", "value"];
        let weight =
            parts.map(|p| b.normal(name(&format!("attention.self.{p}.weight")), &[hidden, hidden], std));
        let bias = parts.map(|p| b.bias(name(&format!("attention.self.{p}.bias")), hidden));
        let qkv = Linear {
            weight: weight[0].start..weight[2].end,
            bias: bias[0].start..bias[2].end,
            inputs: hidden,
            outputs: 3 * hidden,
        };
        LayerLayout {
            qkv,
            projection: b.linear(&name("attention.output.dense"), [hidden, hidden], std),
            norm1: b.norm(&name("attention.output.LayerNorm"), hidden),
            up: b.linear(&name("intermediate.dense"), [hidden, inner], std),
            down: b.linear(&name("output.dense"), [inner, hidden], std),
            norm2: b.norm(&name("output.LayerNorm"), hidden),
        }
    });
    let layers = layers.collect();
    let head_bias = Some(b.bias("cls.predictions.bias", vocab));
    let transform = Some(b.linear("cls.predictions.transform.dense", [hidden, hidden], std));
    let final_norm = b.norm("cls.predictions.transform.LayerNorm", hidden);
    let head = if config.tied {
        words.clone()
    } else {
        b.normal("cls.predictions.decoder.weight", &[vocab, hidden], std)
    };
    Layout {
        words,
        positions,
        types,
        embedding_norm,
        layers,
        final_norm,
        transform,
        head,
        head_bias,
        parameters: 0,
    }
}
