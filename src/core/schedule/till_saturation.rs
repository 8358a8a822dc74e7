//! To the next checkpoint when the student stops improving (the paper's code).

use super::runtime::{Follow, Position};
use super::{STEPS, Schedule, Selector, TeacherHistory, TeacherSchedule, Unresolved};
use crate::keys::{KeyError, require};
use serde::{Deserialize, Serialize};

/// Advance when the student stops improving, as written.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TillSaturation {
    /// Checkpoints in order; default: all that the teacher kept.
    pub checkpoints: Option<Vec<Selector>>,
    /// Evaluations looked back.
    #[serde(default = "default_window")]
    pub window: usize,
    /// Accuracy gain.
    #[serde(default = "default_gain")]
    pub min_gain: f64,
    /// Steps after which to advance anyway.
    #[serde(default = "default_max_steps")]
    pub max_steps: u64,
}

fn default_window() -> usize {
    5
}
fn default_gain() -> f64 {
    0.01
}
fn default_max_steps() -> u64 {
    2_000_000
}

impl TeacherSchedule for TillSaturation {
    fn check(&self, key: &str) -> Result<(), KeyError> {
        self.checkpoints.as_deref().map_or(Ok(()), |list| Selector::check_all(list, key))?;
        require(
            self.window > 0 && (1..STEPS).contains(&self.max_steps) && self.min_gain.is_finite(),
            key,
            "window must be at least 1 and max_steps from 1 to below 2^50",
        )
    }

    fn resolve(&self, teacher: &TeacherHistory, _batch: usize) -> Result<Schedule, Unresolved> {
        let Self { window, min_gain, max_steps, .. } = *self;
        let checkpoints = match &self.checkpoints {
            Some(list) => Selector::select_all(list, teacher)?,
            None => (0..teacher.checkpoints.len()).collect(),
        };
        let rule = Saturation { window, min_gain, max_steps };
        Ok(Schedule::TillSaturation(Saturating { checkpoints, rule }))
    }

    fn label(&self) -> String {
        "till saturation".to_owned()
    }
}

/// Checkpoints in order, the next one when the student stops improving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saturating {
    /// Checkpoints in order.
    pub checkpoints: Vec<usize>,
    /// When to advance.
    pub rule: Saturation,
}

/// The "till saturation" rule of the paper's code: over a window of evaluations the accuracy gained less than
/// `min_gain` although it is more than `min_gain` better than at the last switch; or `max_steps` have passed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saturation {
    /// Evaluations looked back.
    pub window: usize,
    /// Accuracy gain, as a fraction.
    pub min_gain: f64,
    /// Steps after which the schedule advances anyway.
    pub max_steps: u64,
}

impl Saturating {
    fn is_last(&self, position: &Position) -> bool {
        position.stage + 1 >= self.checkpoints.len()
    }

    fn limit(&self, position: &Position) -> u64 {
        position.switched_at.saturating_add(self.rule.max_steps)
    }
}

impl Follow for Saturating {
    fn checkpoint(&self, position: &Position, _step: u64) -> usize {
        self.checkpoints[position.stage]
    }

    fn next_switch(&self, position: &Position, _step: u64) -> Option<u64> {
        (!self.is_last(position)).then(|| self.limit(position))
    }

    fn reached(&self, position: &mut Position, step: u64) {
        if !self.is_last(position) && step >= self.limit(position) {
            position.advance(step);
        }
    }

    fn evaluated(&self, position: &mut Position, step: u64, accuracy: f64) {
        position.since_switch.push(accuracy);
        if self.is_last(position) {
            return;
        }
        let Saturation { window, min_gain, .. } = self.rule;
        let seen = &position.since_switch;
        if seen.len() > window
            && accuracy - seen[seen.len() - 1 - window] < min_gain
            && accuracy - seen[0] > min_gain
        {
            position.advance(step);
            position.since_switch.push(accuracy);
        }
    }

    fn checkpoints(&self) -> Vec<usize> {
        self.checkpoints.clone()
    }

    fn rename(&mut self, name: &dyn Fn(usize) -> usize) {
        self.checkpoints.iter_mut().for_each(|c| *c = name(*c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturation_needs_a_gain_and_then_a_plateau() {
        let rule = Saturation { window: 2, min_gain: 0.01, max_steps: 1000 };
        let schedule = Schedule::TillSaturation(Saturating { checkpoints: vec![3, 5, 8], rule });
        let mut position = Position::default();
        let mut step = 0;
        let mut feed = |position: &mut Position, accuracy: f64| {
            step += 10;
            schedule.reached(position, step);
            schedule.evaluated(position, step, accuracy);
            schedule.checkpoint(position, step)
        };
        // Flat at chance: no gain since the switch, so it stays.
        assert_eq!([0.5, 0.5, 0.5, 0.5].map(|a| feed(&mut position, a)), [3; 4]);
        // Rises, then flattens over two evaluations: switches.
        assert_eq!([0.6, 0.7, 0.7, 0.7].map(|a| feed(&mut position, a)), [3, 3, 3, 5]);
        // The step limit switches as well, and the last checkpoint is kept for ever.
        assert_eq!(schedule.next_switch(&position, position.switched_at), Some(1080));
        schedule.reached(&mut position, 1080);
        assert_eq!(schedule.checkpoint(&position, 1080), 8);
        assert_eq!(schedule.next_switch(&position, 1080), None);
        schedule.reached(&mut position, 100_000);
        assert_eq!(schedule.checkpoint(&position, 100_000), 8);
    }
}
