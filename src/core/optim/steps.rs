//! SGD steps of an MLP.

use crate::model::loss::Loss;
use crate::task::Samples;

/// Consecutive SGD steps over one block of samples: step t trains on samples t*batch .. (t+1)*batch.
#[derive(Debug, Clone, Copy)]
pub struct Steps<'a> {
    /// Inputs; `rates.len() * batch` samples.
    pub samples: &'a Samples,
    /// Samples per step; gradients are averaged over them.
    pub batch: usize,
    /// What is minimised.
    pub loss: Loss,
    /// [`Loss::target_width`] numbers per sample, row-major.
    pub targets: &'a [f32],
    /// Learning rate of each step.
    pub rates: &'a [f32],
    /// Coefficient of the L2 penalty as in `torch.optim.SGD(weight_decay=..)`: added to the gradient of every
    /// parameter, biases included, as weight_decay * parameter.
    pub weight_decay: f32,
}

/// What came out of [`Steps`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepsResult {
    /// Sum over all samples of the loss before their update. Not finite once training has diverged.
    pub loss_sum: f64,
}
