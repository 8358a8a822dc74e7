//! The most a predictor can reach: not asked for by a key, since it belongs to every experiment whose task knows it.

use super::MeasureError;
use crate::run::folder::{OPTIMUM, write_json};
use curricle_core::task::Task;
use curricle_core::task::pcfg::bayes::Tally;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The most a predictor can reach on the held-out samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// Seed.
    pub seed: u64,
    /// Accuracy of exact Bayes.
    pub accuracy: f64,
    /// Its cross-entropy in nats.
    pub loss: f64,
}

/// The most a predictor can reach on the first `samples` held-out samples, where the task knows it.
///
/// # Errors
/// If the result cannot be kept.
pub fn optimum(
    folder: &Path,
    task: &dyn Task,
    seed: u64,
    samples: usize,
) -> Result<Option<Optimum>, MeasureError> {
    let file = folder.join(OPTIMUM);
    let kept = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if kept.is_some() {
        return Ok(kept);
    }
    let Some(limit) = task.limit(seed) else { return Ok(None) };
    // Joined in order: the sum must not depend on how the work was divided.
    let each: Vec<Option<Tally>> = (0..samples as u64).into_par_iter().map(|n| limit.score(n)).collect();
    let found = each.into_iter().flatten().fold(Tally::default(), Tally::join).quality();
    let optimum = Optimum { seed, accuracy: found.accuracy, loss: found.cross_entropy };
    write_json(&file, &optimum)?;
    Ok(Some(optimum))
}
