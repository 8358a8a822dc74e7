//! When a run keeps a checkpoint.

use serde::{Deserialize, Serialize};

/// A checkpoint is kept where any of these says so, and always at the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointPolicy {
    /// Every n steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<u64>,
    /// This many steps spread evenly over log(step), from step 1 to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_spaced: Option<u32>,
    /// Every n steps while the last evaluated accuracy is inside the transition (52% to 99.5%).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transition_every_steps: Option<u64>,
}

/// Accuracies between which a run counts as being inside its transition, scaled from chance 1/2.
const TRANSITION: std::ops::Range<f64> = 0.52..0.995;

/// Whether an accuracy counts as inside the transition: with any number of classes the band is the same fraction of the way from
/// the chance level to 1.
pub fn in_transition(accuracy: f64, chance: f64) -> bool {
    TRANSITION.contains(&(0.5 + 0.5 * (accuracy - chance) / (1.0 - chance)))
}

impl CheckpointPolicy {
    /// The next step after `step` at which a checkpoint may be due.
    pub fn next(&self, step: u64, total: u64) -> u64 {
        let every = |n: Option<u64>| n.map(|n| (step / n + 1) * n);
        let candidates =
            [every(self.every_steps), every(self.transition_every_steps), self.next_log_spaced(step, total)];
        candidates.into_iter().flatten().min().unwrap_or(total).min(total)
    }

    /// Whether a checkpoint is due at `step`, given the accuracy evaluated there and the chance level 1/C.
    pub fn due(&self, step: u64, total: u64, accuracy: f64, chance: f64) -> bool {
        let dense = self.transition_every_steps.is_some_and(|n| step.is_multiple_of(n))
            && in_transition(accuracy, chance);
        step == total
            || dense
            || self.every_steps.is_some_and(|n| step.is_multiple_of(n))
            || (step > 0 && self.next_log_spaced(step - 1, total) == Some(step))
    }

    fn next_log_spaced(&self, step: u64, total: u64) -> Option<u64> {
        let count = self.log_spaced?;
        let log_total = (total as f64).ln();
        let at = |i: u32| (log_total * f64::from(i) / f64::from(count)).exp().round() as u64;
        (0..=count).map(at).find(|&s| s > step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(policy: &CheckpointPolicy, total: u64, accuracy: impl Fn(u64) -> f64) -> Vec<u64> {
        let (mut step, mut kept) = (0, Vec::new());
        while step < total {
            step = policy.next(step, total);
            if policy.due(step, total, accuracy(step), 0.5) {
                kept.push(step);
            }
        }
        kept
    }

    #[test]
    fn policies_keep_what_they_say() {
        let every = CheckpointPolicy { every_steps: Some(40), ..Default::default() };
        assert_eq!(kept(&every, 100, |_| 0.5), [40, 80, 100]);
        let log = CheckpointPolicy { log_spaced: Some(4), ..Default::default() };
        assert_eq!(kept(&log, 10_000, |_| 0.5), [1, 10, 100, 1000, 10_000]);
        let dense = CheckpointPolicy { transition_every_steps: Some(10), ..Default::default() };
        assert_eq!(kept(&dense, 100, |s| if (35..65).contains(&s) { 0.8 } else { 0.5 }), [40, 50, 60, 100]);
        assert_eq!(kept(&CheckpointPolicy::default(), 100, |_| 0.5), [100]);
    }
}
