//! Probabilistic context-free grammars: sentences, their derivations, and what can be computed exactly about them.
//!
//! ```text
//! builtin   five built-in grammars
//! grammar   the grammar itself, and exact expectations
//! text      the text format of grammar files
//! sample    sentences and derivations from the counter-based generator
//! tree      a derivation: spans, levels, ancestors, drawn as text
//! stats     exact distributions (length, rule use, entropy) and tests of samples against them
//! chart     one chart program for every sum or maximum over derivations
//! parse     membership and the most probable derivation
//! batch     token ids, batches and the sentences in them
//! masked    masked prediction
//! autoregressive  next-token prediction at the ends of spans
//! bayes     the exact optimum of masked prediction
//! kind      `[task]` of a spec with `kind = "pcfg"`
//! window    the optimum for predictors that see only nearby tokens
//! ```

pub mod autoregressive;
pub mod batch;
pub mod bayes;
mod builtin;
pub mod chart;
mod checks;
mod error;
pub mod grammar;
pub mod kind;
pub mod masked;
pub mod parse;
pub mod sample;
pub mod stats;
pub mod text;
pub mod tree;
pub mod window;

pub use autoregressive::Autoregressive;
pub use batch::{Examples, PredictionBatch, PredictionError, Role, Tokens};
pub use builtin::NAMES;
pub use error::GrammarError;
pub use grammar::{Grammar, Rule, Symbol};
pub use kind::{Objective, PcfgTask, load_grammar};
pub use masked::MaskedPrediction;
pub use sample::Sampler;
pub use tree::Tree;
