//! Which buffers a batch needs, and how large: counted before anything is allocated, then allocated by the same code.

use super::attention::bit_words;
use super::batch::Ints;
use super::embed::Embedding;
use super::{linear, norm};
use crate::GpuError;
use curricle_core::model::transformer::{Family, TransformerConfig};

/// What is computed for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Loss and gradient.
    Train { dropout: bool },
    /// Logits at the positions read.
    Logits,
    /// The residual stream after this many blocks, everywhere.
    Hidden(usize),
}

/// Sizes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub sequences: usize,
    pub length: usize,
    /// Most positions read.
    pub capacity: usize,
    pub kind: Kind,
    /// Whether the last block's queries and MLP are computed at the positions read only.
    pub compact: bool,
}

impl Sizes {
    pub fn positions(&self) -> usize {
        self.sequences * self.length
    }

    pub fn train(&self) -> bool {
        matches!(self.kind, Kind::Train { .. })
    }

    /// Number of blocks computed.
    pub fn blocks(&self, config: &TransformerConfig) -> usize {
        match self.kind {
            Kind::Hidden(layer) => layer,
            _ => config.layers,
        }
    }

    pub fn ints(&self, config: &TransformerConfig) -> Ints {
        Ints::new(self.sequences, self.length, self.capacity, config.vocab)
    }
}

/// What one block keeps for its way back. N: positions; M: N, or the positions read in a compact block.
pub(super) struct Block<T> {
    /// GPT-2: normalised input [N, hidden]; BERT: normalised output of attention [M, hidden].
    pub normed: T,
    pub stats1: T,
    /// Queries, keys and values [N, 3 hidden]; in a compact block keys and values [N, 2 hidden].
    pub qkv: T,
    /// Of a compact block: queries, and the rows read of attention's input and of the residual stream, [M, hidden].
    pub q: T,
    pub source_rows: T,
    pub stream_rows: T,
    pub bits: T,
    /// Output of the heads [M, hidden].
    pub heads: T,
    pub attention_stats: T,
    /// Stream after attention, before BERT's norm [M, hidden].
    pub middle: T,
    /// GPT-2: normalised `middle`; BERT: stream after the MLP before its norm. [M, hidden].
    pub second: T,
    pub stats2: T,
    /// MLP before and after its gelu [M, inner].
    pub wide: T,
    pub active: T,
}

/// What the head keeps; R: positions read.
pub(super) struct Head<T> {
    /// Stream where it is read, if the last block was not compact [R, hidden].
    pub top: T,
    /// BERT's dense layer before and after its gelu [R, hidden].
    pub dense: T,
    pub active: T,
    pub normed: T,
    pub stats: T,
    /// [R, vocab].
    pub logits: T,
    pub targets: T,
    pub losses: T,
}

/// Gradients on their way back, shared by all blocks.
pub(super) struct Back<T> {
    pub stream: [T; 2],
    pub masked: T,
    pub middle: T,
    pub normed: T,
    pub wide: T,
    pub qkv: T,
    pub q: T,
    pub linear: T,
    pub norm: T,
    pub embedding: [T; 2],
}

/// All of them.
pub(super) struct Buffers<T> {
    pub list: T,
    /// BERT: sum of the embeddings, and their norm before dropout.
    pub embedded: T,
    pub embedded_norm: T,
    pub embedded_stats: T,
    /// Residual stream before block l and after the last; two taking turns where nothing goes back.
    pub streams: Vec<T>,
    /// One per block; a single one where nothing goes back.
    pub blocks: Vec<Block<T>>,
    pub head: Head<T>,
    pub back: Back<T>,
}

impl<T> Buffers<T> {
    /// The buffers, made by `take(name, numbers)`.
    pub fn new(
        config: &TransformerConfig,
        sizes: &Sizes,
        mut take: impl FnMut(&'static str, usize) -> Result<T, GpuError>,
    ) -> Result<Self, GpuError> {
        let &TransformerConfig { hidden: d, inner, vocab, heads, .. } = config;
        let (n, r) = (sizes.positions(), sizes.capacity);
        let (train, bert) = (sizes.train(), config.family == Family::Bert);
        let blocks = sizes.blocks(config);
        let compact = |l: usize| sizes.compact && l + 1 == config.layers;
        let when = |condition: bool, n: usize| if condition { n } else { 0 };
        let dropout = sizes.kind == Kind::Train { dropout: true };
        let ints = sizes.ints(config);
        let list = take("tokens and positions", ints.len)?;
        let embedded = take("embeddings", when(bert, n * d))?;
        let embedded_norm = take("embeddings", when(bert && dropout, n * d))?;
        let embedded_stats = take("embedding norms", when(bert, 2 * n))?;
        let mut streams = Vec::new();
        for l in 0..=if train { blocks } else { 1 } {
            let rows = if train && l > 0 && compact(l - 1) { r } else { n };
            streams.push(take("residual stream", rows * d)?);
        }
        let kept = if train { 0..blocks } else { blocks.saturating_sub(1)..blocks };
        let mut stored = Vec::new();
        for l in kept {
            let few = compact(l);
            // Blocks that share their buffers need room for a block that is not compact, if there is one.
            let full = !few || (!train && blocks > 1);
            let m = if full { n } else { r };
            stored.push(Block {
                normed: take("layer norms", n * d)?,
                stats1: take("layer norms", 2 * n)?,
                qkv: take("queries, keys and values", n * d * if full { 3 } else { 2 })?,
                q: take("queries", when(few, r * d))?,
                source_rows: take("rows read", when(few, r * d))?,
                stream_rows: take("rows read", when(few && !bert, r * d))?,
                bits: take(
                    "attention dropout",
                    when(dropout && config.dropout.attention > 0.0, bit_words(m, heads, sizes.length)),
                )?,
                heads: take("heads", m * d)?,
                attention_stats: take("attention", 2 * m * heads)?,
                middle: take("residual stream", m * d)?,
                second: take("layer norms", m * d)?,
                stats2: take("layer norms", 2 * m)?,
                wide: take("MLP", m * inner)?,
                active: take("MLP", m * inner)?,
            });
        }
        let read = !matches!(sizes.kind, Kind::Hidden(_));
        let head = Head {
            top: take("rows read", when(read && !sizes.compact, r * d))?,
            dense: take("head", when(read && bert, r * d))?,
            active: take("head", when(read && bert, r * d))?,
            normed: take("head", when(read, r * d))?,
            stats: take("head", when(read, 2 * r))?,
            logits: take("logits", when(read, r * vocab))?,
            targets: take("targets", when(train, r * vocab))?,
            losses: take("losses", when(train, r))?,
        };
        let t = |x: usize| when(train, x);
        let weights = [(d, 3 * d, n), (d, 2 * d, n), (d, d, n), (d, d, r), (d, inner, n), (inner, d, n)];
        let head_weights = [(d, inner, r), (inner, d, r), (d, vocab, r)];
        let split = weights.iter().chain(&head_weights).map(|&(a, b, c)| linear::scratch(a, b, c)).max();
        let [segments, sums] = Embedding::scratch(&ints, sizes.length, d);
        let back = Back {
            stream: [take("gradients", t(n * d))?, take("gradients", t(n * d))?],
            masked: take("gradients", t(n * d))?,
            middle: take("gradients", t(n * d))?,
            normed: take("gradients", t(n * d))?,
            wide: take("gradients", t(n * inner))?,
            qkv: take("gradients", t(n * 3 * d))?,
            q: take("gradients", t(when(sizes.compact, r * d)))?,
            linear: take("partial sums", t(split.unwrap_or(0)))?,
            norm: take("partial sums", t(norm::scratch(n.max(r), d)))?,
            embedding: [take("partial sums", t(segments))?, take("partial sums", t(sums))?],
        };
        Ok(Self { list, embedded, embedded_norm, embedded_stats, streams, blocks: stored, head, back })
    }

    /// The block's buffers.
    pub fn block(&self, l: usize) -> &Block<T> {
        &self.blocks[l.min(self.blocks.len() - 1)]
    }

    /// The stream before block l.
    pub fn stream(&self, sizes: &Sizes, l: usize) -> &T {
        &self.streams[if sizes.train() { l } else { l % 2 }]
    }
}

/// Bytes of all buffers of a batch, and of the largest.
pub(super) fn bytes(config: &TransformerConfig, sizes: &Sizes) -> (u64, u64) {
    let (mut total, mut largest) = (0u64, 0u64);
    let counted = Buffers::new(config, sizes, |_, n| {
        let bytes = 4 * n.max(4) as u64;
        total += bytes;
        largest = largest.max(bytes);
        Ok(())
    });
    // Counting cannot fail.
    debug_assert!(counted.is_ok());
    (total, largest)
}
