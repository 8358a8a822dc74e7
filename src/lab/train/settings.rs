//! Settings of one model's training.

use super::checkpointing::CheckpointPolicy;
use crate::family::architecture::Architecture;
use curricle_core::optim::rate::RateSchedule;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Resolved settings of one model's training.
#[derive(Debug, Clone)]
pub struct Training {
    /// Label in the report.
    pub label: String,
    /// What is trained, and how it is updated.
    pub model: Arc<dyn Architecture>,
    /// Place of the model's family among those of the plan.
    pub family: usize,
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
    pub stop: Option<StopRule>,
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
