//! Shapes, initialisation and parameter names of the models. Who computes with them is `engine`'s business.

pub mod loss;
pub mod mlp;
pub mod transformer;

pub use loss::Loss;
pub use mlp::{Layer, MlpInit, MlpParams, MlpShape};
pub use transformer::{TransformerConfig, TransformerParams};
