//! What can be wrong with a transformer's configuration or its input.

use thiserror::Error;

/// A configuration no model can have, or a `config.json` that is not understood.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number that must be positive is zero.
    #[error("{field} is 0: it must be at least {least}")]
    TooSmall {
        /// The field.
        field: &'static str,
        /// The least allowed value.
        least: usize,
    },
    /// Heads do not divide the hidden size.
    #[error("{heads} heads do not divide hidden size {hidden}: hidden = heads x head dimension")]
    Heads {
        /// Number of heads.
        heads: usize,
        /// Hidden size.
        hidden: usize,
    },
    /// A probability outside [0, 1), or a number that is negative or not finite.
    #[error("{field} = {value}: expected {expected}")]
    Number {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        expected: &'static str,
    },
    /// The padding token is not in the vocabulary.
    #[error("pad token {token} is not below the vocabulary size {vocab}")]
    PadToken {
        /// The token.
        token: u32,
        /// Vocabulary size.
        vocab: usize,
    },
    /// A field the family does not have.
    #[error("{field} is not part of {family}: expected {expected}")]
    Family {
        /// The field.
        field: &'static str,
        /// "GPT-2" or "BERT".
        family: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
    /// More parameters than this machine can address.
    #[error("the model would have too many parameters to address: make it smaller")]
    TooLarge,
    /// A `config.json` entry that is missing, of the wrong type, or of an unsupported value.
    #[error("config.json: \"{key}\" is {found}, expected {expected}")]
    Json {
        /// The key.
        key: String,
        /// What the file has.
        found: String,
        /// What is needed.
        expected: String,
    },
}

/// A batch that does not fit the model.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A slice whose length disagrees with the sizes.
    #[error("{what} has {found} entries, expected {expected}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What the sizes ask for.
        expected: usize,
    },
    /// A batch, or the list of read positions, is empty.
    #[error("{what}: at least one is needed")]
    Empty {
        /// What is missing.
        what: &'static str,
    },
    /// Longer than the table of position embeddings.
    #[error("sequences of {length} tokens, but the model has {positions} positions")]
    TooLong {
        /// Tokens per sequence.
        length: usize,
        /// Rows of the position table.
        positions: usize,
    },
    /// A token outside the vocabulary.
    #[error("token {token} at sequence {sequence}, position {position}: the vocabulary has {vocab} tokens")]
    Token {
        /// The token.
        token: u32,
        /// Row of the batch.
        sequence: usize,
        /// Position in it.
        position: usize,
        /// Vocabulary size.
        vocab: usize,
    },
    /// Read positions must ascend strictly and lie in the batch.
    #[error(
        "read position {value} (entry {entry}): positions are b * length + t, strictly ascending and below {limit}"
    )]
    Read {
        /// Entry of the list.
        entry: usize,
        /// Its value.
        value: u32,
        /// sequences * length.
        limit: usize,
    },
    /// A target row that is not a distribution.
    #[error("target row {row} sums to {sum}: each row is a distribution over the vocabulary")]
    Target {
        /// The row.
        row: usize,
        /// Its sum.
        sum: f32,
    },
    /// A layer beyond the last.
    #[error("hidden states of layer {layer}: the model has {layers} layers (0 is the embeddings)")]
    Layer {
        /// The layer asked for.
        layer: usize,
        /// Number of layers.
        layers: usize,
    },
    /// The batch needs sizes beyond 2^32 elements, which the dropout counters and read positions cannot number.
    #[error("{sequences} sequences of {length} tokens are too many for one batch: split it")]
    TooLarge {
        /// Sequences.
        sequences: usize,
        /// Tokens per sequence.
        length: usize,
    },
}
