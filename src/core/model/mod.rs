//! Shapes, initialisation and parameter names of the models. Who computes with them is an engine's business.

pub mod loss;
pub mod mlp;
mod traits;
pub mod transformer;

pub use loss::Loss;
pub use mlp::{Layer, MlpInit, MlpParams, MlpShape};
pub use traits::{FromFn, LogitModel, ModelError, SequenceModel, SignModel};
pub use transformer::{TransformerConfig, TransformerParams, TransformerState};
