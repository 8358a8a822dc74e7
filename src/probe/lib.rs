//! What a checkpoint teaches: correlations of its outputs with monomials, and how they change over a run.
//!
//! A probe never looks inside a model. It asks for logits through [`LogitModel`], so an MLP, a transformer, one
//! layer's linear readout or a closure are probed by the same code.
//!
//! [`LogitModel`]: curricle_core::model::LogitModel
#![deny(missing_docs)]

pub mod correlation;
mod error;
pub mod layers;
mod least_squares;
pub mod monomials;
pub mod ngram;
pub mod noise;
pub mod nonterminal;
pub mod optimum;
pub mod parity;
pub mod phases;
mod planes;
pub mod sequence;
pub mod statistic;
pub mod transition;

pub use correlation::{Coefficient, Correlations, Request, Sampling, correlations};
pub use error::ProbeError;
pub use layers::{LayerError, LayerReadout, ReadoutFit};
pub use monomials::{KnownSupport, MAX_DEGREE, MAX_MONOMIALS, Monomial, Monomials};
pub use parity::ParityTransformer;
pub use sequence::SequenceProbeError;
pub use statistic::Statistic;
pub use transition::{CheckpointCorrelations, Evaluation, Timeline, timeline, timeline_of};
