//! What keeps a probe of a sequence model from answering.

use curricle_core::model::ModelError;
use curricle_core::model::transformer::Family;

/// Longest n-gram.
pub const MOST_TOKENS: usize = 64;

/// Why a probe of a sequence model cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum SequenceProbeError {
    /// The model cannot fill in hidden tokens.
    #[error("this is a {} model: n-gram robustness hides tokens, which needs a BERT model", .0.name())]
    Family(Family),
    /// The model's vocabulary is too small for the task.
    #[error("the model has {found} tokens, but this grammar needs {needed}")]
    Vocabulary {
        /// Tokens of the model.
        found: usize,
        /// Tokens of the grammar.
        needed: usize,
    },
    /// A sentence exceeds the model's positions.
    #[error("sentence {sentence} has {length} positions with the BOS token, but the model has {positions}")]
    TooLong {
        /// Index of the sentence.
        sentence: usize,
        /// Positions it needs.
        length: usize,
        /// Positions there are.
        positions: usize,
    },
    /// A layer that does not exist.
    #[error("layer {layer} does not exist: 0 are the embeddings, 1 to {layers} the blocks")]
    Layer {
        /// Asked layer.
        layer: usize,
        /// Blocks of the model.
        layers: usize,
    },
    /// A logit or hidden state that is not a number.
    #[error("the model's output for sentence {sentence} is not finite")]
    NonFinite {
        /// Index of the sentence.
        sentence: usize,
    },
    /// An n-gram of no use.
    #[error("n = {0} is out of range: n-grams have 2 to {most} tokens", most = MOST_TOKENS)]
    Size(usize),
    /// No sentence reaches any of the positions.
    #[error(
        "no sentence has a token at any of the given positions (positions count from 1; the longest sentence has {longest} tokens)"
    )]
    NoPositions {
        /// Length of the longest sentence.
        longest: usize,
    },
    /// Nothing to learn or test on.
    #[error("{0}")]
    Data(String),
    /// The linear system of the ridge probe has no solution.
    #[error("the ridge probe's linear system cannot be solved: {0}; use a larger penalty")]
    Singular(String),
    /// The model failed.
    #[error("the model could not compute: {0}")]
    Model(ModelError),
}
