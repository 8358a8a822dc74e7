//! Which teacher checkpoint a student follows at which step.

use serde::{Deserialize, Serialize};

/// A resolved schedule over the checkpoints of one teacher; checkpoints are named by their index in
/// [`super::teacher::TeacherPool`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Checkpoints in order, each for a fixed number of steps, the last one until training ends. One-shot distillation
    /// (one stage), (C_T, D)- and (N, T)-progressive distillation (PAPER 2.1, 2.2) and every-interval progressive
    /// distillation all resolve to this.
    Stages {
        /// The stages; the duration of the last one is ignored.
        stages: Vec<Stage>,
    },
    /// Advance when the student stops improving (see [`Saturation`]).
    TillSaturation {
        /// Checkpoints in order.
        checkpoints: Vec<usize>,
        /// When to advance.
        rule: Saturation,
    },
}

/// One stage of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Index of the teacher checkpoint.
    pub checkpoint: usize,
    /// Student steps spent on it.
    pub steps: u64,
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

/// Where a student stands in its schedule. Part of its resume state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Index of the current stage.
    stage: usize,
    /// Step of the last switch.
    switched_at: u64,
    /// Accuracies evaluated since the last switch, the first one at it.
    since_switch: Vec<f64>,
}

impl Schedule {
    /// The checkpoint to follow at `step`.
    pub fn checkpoint(&self, position: &Position, step: u64) -> usize {
        match self {
            Self::Stages { stages } => stages[self.stage_at(step)].checkpoint,
            Self::TillSaturation { checkpoints, .. } => checkpoints[position.stage],
        }
    }

    /// The next step after `step` at which the checkpoint can change without an evaluation, if any.
    pub fn next_switch(&self, position: &Position, step: u64) -> Option<u64> {
        match self {
            Self::Stages { stages } => {
                let mut end = 0u64;
                stages[..stages.len() - 1].iter().find_map(|s| {
                    end = end.saturating_add(s.steps);
                    (end > step).then_some(end)
                })
            }
            Self::TillSaturation { checkpoints, rule } => {
                let last = position.stage + 1 == checkpoints.len();
                (!last).then(|| position.switched_at.saturating_add(rule.max_steps))
            }
        }
    }

    /// Tells the schedule that training has reached `step` (called wherever [`Self::next_switch`] said).
    pub fn reached(&self, position: &mut Position, step: u64) {
        if let Self::TillSaturation { checkpoints, rule } = self
            && position.stage + 1 < checkpoints.len()
            && step >= position.switched_at.saturating_add(rule.max_steps)
        {
            advance(position, step);
        }
    }

    /// Tells the schedule the accuracy evaluated at `step`.
    pub fn evaluated(&self, position: &mut Position, step: u64, accuracy: f64) {
        if let Self::TillSaturation { checkpoints, rule } = self {
            position.since_switch.push(accuracy);
            if position.stage + 1 == checkpoints.len() {
                return;
            }
            let seen = &position.since_switch;
            if seen.len() > rule.window
                && accuracy - seen[seen.len() - 1 - rule.window] < rule.min_gain
                && accuracy - seen[0] > rule.min_gain
            {
                advance(position, step);
                position.since_switch.push(accuracy);
            }
        }
    }

    /// Every checkpoint the schedule can use, in order of first use.
    pub fn checkpoints(&self) -> Vec<usize> {
        let all: Vec<usize> = match self {
            Self::Stages { stages } => stages.iter().map(|s| s.checkpoint).collect(),
            Self::TillSaturation { checkpoints, .. } => checkpoints.clone(),
        };
        let mut seen = std::collections::HashSet::new();
        all.into_iter().filter(|c| seen.insert(*c)).collect()
    }

    /// The same schedule with every checkpoint renamed.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Stages { stages } => Self::Stages {
                stages: stages.iter().map(|s| Stage { checkpoint: name(s.checkpoint), ..*s }).collect(),
            },
            Self::TillSaturation { checkpoints, rule } => Self::TillSaturation {
                checkpoints: checkpoints.iter().map(|&c| name(c)).collect(),
                rule: *rule,
            },
        }
    }

    fn stage_at(&self, step: u64) -> usize {
        let Self::Stages { stages } = self else { unreachable!("only staged schedules have fixed stages") };
        let mut end = 0u64;
        for (i, stage) in stages.iter().enumerate() {
            end = end.saturating_add(stage.steps);
            if step < end {
                return i;
            }
        }
        stages.len() - 1
    }
}

fn advance(position: &mut Position, step: u64) {
    position.stage += 1;
    position.switched_at = step;
    position.since_switch.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_last_as_long_as_they_say() {
        let stage = |checkpoint, steps| Stage { checkpoint, steps };
        let schedule = Schedule::Stages { stages: vec![stage(4, 10), stage(7, 5), stage(9, 1)] };
        let position = Position::default();
        let followed: Vec<usize> =
            [0, 9, 10, 14, 15, 1000].iter().map(|&s| schedule.checkpoint(&position, s)).collect();
        assert_eq!(followed, [4, 4, 7, 7, 9, 9]);
        let switches: Vec<_> = [0, 9, 10, 15].iter().map(|&s| schedule.next_switch(&position, s)).collect();
        assert_eq!(switches, [Some(10), Some(10), Some(15), None]);
    }

    #[test]
    fn saturation_needs_a_gain_and_then_a_plateau() {
        let rule = Saturation { window: 2, min_gain: 0.01, max_steps: 1000 };
        let schedule = Schedule::TillSaturation { checkpoints: vec![3, 5, 8], rule };
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
        assert_eq!(schedule.next_switch(&position, step_of(&position)), Some(1080));
        schedule.reached(&mut position, 1080);
        assert_eq!(schedule.checkpoint(&position, 1080), 8);
        assert_eq!(schedule.next_switch(&position, 1080), None);
        schedule.reached(&mut position, 100_000);
        assert_eq!(schedule.checkpoint(&position, 100_000), 8);
    }

    fn step_of(position: &Position) -> u64 {
        position.switched_at
    }
}
