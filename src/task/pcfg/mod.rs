//! Probabilistic context-free grammars: sentences, their derivations, and what can be computed exactly about them.
//!
//! ```text
//! grammar   the grammar itself, five built-in ones, and exact expectations
//! text      the text format of grammar files
//! sample    sentences and derivations from the counter-based generator
//! tree      a derivation: spans, levels, ancestors, drawn as text
//! stats     exact distributions (length, rule use, entropy) and tests of samples against them
//! chart     one chart program for every sum or maximum over derivations
//! parse     membership and the most probable derivation
//! masked    masked and autoregressive prediction batches
//! bayes     the exact optimum of masked prediction
//! window    the optimum for predictors that see only nearby tokens
//! ```

pub mod bayes;
pub mod chart;
pub mod grammar;
pub mod masked;
pub mod parse;
pub mod sample;
pub mod stats;
pub mod text;
pub mod tree;
pub mod window;

pub use grammar::{Grammar, GrammarError, NAMES, Rule, Symbol};
pub use masked::{Autoregressive, Examples, MaskedPrediction, PredictionBatch, Tokens};
pub use sample::Sampler;
pub use tree::Tree;
