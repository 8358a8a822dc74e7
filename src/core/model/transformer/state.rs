//! A transformer in training.

use super::params::TransformerParams;

/// A transformer with its optimiser.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerState {
    /// The parameters.
    pub params: TransformerParams,
    /// Adam's first moments, as long as the parameters.
    pub first_moment: Vec<f32>,
    /// Adam's second moments.
    pub second_moment: Vec<f32>,
    /// Updates made.
    pub updates: u64,
}

impl TransformerState {
    /// A model whose training has not begun.
    pub fn new(params: TransformerParams) -> Self {
        let zeros = vec![0.0; params.values.len()];
        Self { params, first_moment: zeros.clone(), second_moment: zeros, updates: 0 }
    }
}
