//! Settings of one model's training.

use super::checkpointing::CheckpointPolicy;
use super::rate::RateSchedule;
use crate::model::{Loss, MlpInit, MlpShape};
use serde::{Deserialize, Serialize};

/// Resolved settings of one model's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Label in the report.
    pub label: String,
    /// Layer sizes.
    pub shape: MlpShape,
    /// First weights.
    pub init: MlpInit,
    /// Samples per step.
    pub batch: usize,
    /// Steps.
    pub steps: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its schedule.
    pub schedule: RateSchedule,
    /// Weight decay.
    pub weight_decay: f64,
    /// Loss.
    pub loss: Loss,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Checkpoint policy.
    pub checkpoints: CheckpointPolicy,
    /// Early stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopRule>,
}

impl Training {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.shape.classes
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
