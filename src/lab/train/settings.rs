//! Settings of one model's training.

use super::checkpointing::CheckpointPolicy;
use curricle_core::model::transformer::TransformerConfig;
use curricle_core::model::{Loss, MlpInit, MlpShape};
use curricle_core::optim::AdamSettings;
use curricle_core::optim::rate::RateSchedule;
use serde::{Deserialize, Serialize};

/// Resolved settings of one model's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Label in the report.
    pub label: String,
    /// What is trained, and how it is updated.
    pub model: Model,
    /// Accuracy of guessing.
    pub chance: f64,
    /// Samples per step.
    pub batch: usize,
    /// Steps.
    pub steps: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its schedule.
    pub schedule: RateSchedule,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Checkpoint policy.
    pub checkpoints: CheckpointPolicy,
    /// Early stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopRule>,
}

/// A model and its optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// An MLP, trained by SGD.
    Mlp(MlpTraining),
    /// A transformer, trained by Adam on the cross-entropy.
    Transformer(TransformerTraining),
}

/// An MLP and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MlpTraining {
    /// Layer sizes.
    pub shape: MlpShape,
    /// First weights.
    pub init: MlpInit,
    /// Weight decay, as in `torch.optim.SGD`.
    pub weight_decay: f64,
    /// What is minimised.
    pub loss: Loss,
}

/// A transformer and how it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerTraining {
    /// Sizes and choices.
    pub config: TransformerConfig,
    /// The optimiser.
    pub adam: AdamSettings,
    /// Micro-batches whose gradients make one step.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: usize,
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

impl Training {
    /// The settings of an MLP.
    ///
    /// # Panics
    /// If it is another model: groups are of one kind.
    pub fn mlp(&self) -> &MlpTraining {
        match &self.model {
            Model::Mlp(mlp) => mlp,
            Model::Transformer(_) => unreachable!("a group of MLPs has no transformer"),
        }
    }

    /// The settings of a transformer.
    ///
    /// # Panics
    /// If it is another model: groups are of one kind.
    pub fn transformer(&self) -> &TransformerTraining {
        match &self.model {
            Model::Transformer(transformer) => transformer,
            Model::Mlp(_) => unreachable!("a group of transformers has no MLP"),
        }
    }
}

/// Stop once the accuracy has held a level over a number of evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StopRule {
    /// Level.
    pub accuracy: f64,
    /// Consecutive evaluations at or above it.
    #[serde(default = "default_stop_evaluations")]
    pub evaluations: u32,
}

fn default_stop_evaluations() -> u32 {
    3
}
