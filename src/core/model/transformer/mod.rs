//! One transformer for two families: GPT-2 (pre-layer-norm, causal) and BERT (post-layer-norm, bidirectional, masked
//! language modelling), with the mathematics, tensor names and tensor shapes of Hugging Face `transformers`.
//!
//! All parameters live in one flat vector, in the order of [`TransformerConfig::tensors`]; gradients and optimiser
//! moments are flat vectors of the same layout, in both engines.

mod batch;
mod config;
mod error;
mod hugging_face;
mod layout;
mod params;
mod state;

pub use batch::{MicroBatch, TokenBatch, check_micro_batch, check_reads};
pub use config::{Activation, Dropout, Family, TransformerConfig};
pub use error::{BatchError, ConfigError};
pub use layout::{LayerLayout, Layout, Linear, Norm, TensorInit, TensorSlot};
pub use params::{ParamsError, TransformerParams};
pub use state::TransformerState;

use crate::rng::{Purpose, Stream};

/// Dropout sites: which activations a mask belongs to. Site numbers are the sub-streams of the dropout stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropoutSite {
    /// Embeddings (for BERT after their layer norm), before the first block.
    Embedding,
    /// Attention probabilities of a layer.
    Attention(usize),
    /// Output of a layer's attention, before the residual is added.
    AttentionOutput(usize),
    /// Output of a layer's MLP, before the residual is added.
    MlpOutput(usize),
}

impl DropoutSite {
    /// The random stream of this site. Sequence number n and element e use word `e % 4` of
    /// `rng::bits(seed, stream, n, e / 4)`; elements are numbered t*hidden + c, and (h*length + q)*length + k in
    /// attention, with original positions even where only some are computed.
    #[inline]
    pub fn stream(self) -> Stream {
        let sub = match self {
            Self::Embedding => 0,
            Self::Attention(layer) => 4 * layer + 1,
            Self::AttentionOutput(layer) => 4 * layer + 2,
            Self::MlpOutput(layer) => 4 * layer + 3,
        };
        Stream::new(Purpose::Dropout, sub as u32)
    }
}

/// The bound below which a random word drops its element: floor(p * 2^32).
#[inline]
pub fn dropout_threshold(p: f32) -> u32 {
    (f64::from(p) * 4_294_967_296.0) as u32
}
