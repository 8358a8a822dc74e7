//! A schedule while it is followed.

use super::till_saturation::Saturating;
use serde::{Deserialize, Serialize};

/// A resolved schedule over the checkpoints of one teacher, which are named by numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Schedule {
    /// Checkpoints in order, each for a fixed number of steps. One-shot distillation (one stage), (C_T, D)- and
    /// (N, T)-progressive distillation (PAPER 2.1, 2.2) and every-interval progressive distillation all resolve to this.
    Stages(Stages),
    /// Advance when the student stops improving.
    TillSaturation(Saturating),
}

/// How a kind of resolved schedule is followed. `position` is the student's own, and all that is remembered.
pub trait Follow {
    /// The checkpoint to follow at `step`.
    fn checkpoint(&self, position: &Position, step: u64) -> usize;

    /// The next step after `step` at which the checkpoint can change without an evaluation, if any.
    fn next_switch(&self, position: &Position, step: u64) -> Option<u64>;

    /// Training has reached `step` (called wherever [`Self::next_switch`] said).
    fn reached(&self, _position: &mut Position, _step: u64) {}

    /// The accuracy evaluated at `step`.
    fn evaluated(&self, _position: &mut Position, _step: u64, _accuracy: f64) {}

    /// Every checkpoint it can use, in order of use; a checkpoint may occur again.
    fn checkpoints(&self) -> Vec<usize>;

    /// Gives every checkpoint another number.
    fn rename(&mut self, name: &dyn Fn(usize) -> usize);
}

/// Where a student stands in its schedule. Part of its resume state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Index of the current stage.
    pub(super) stage: usize,
    /// Step of the last switch.
    pub(super) switched_at: u64,
    /// Accuracies evaluated since the last switch, the first one at it.
    pub(super) since_switch: Vec<f64>,
}

impl Position {
    /// To the next stage.
    pub(super) fn advance(&mut self, step: u64) {
        self.stage += 1;
        self.switched_at = step;
        self.since_switch.clear();
    }
}

impl Schedule {
    /// The kind with its values.
    fn kind(&self) -> &dyn Follow {
        match self {
            Self::Stages(stages) => stages,
            Self::TillSaturation(saturating) => saturating,
        }
    }

    fn kind_mut(&mut self) -> &mut dyn Follow {
        match self {
            Self::Stages(stages) => stages,
            Self::TillSaturation(saturating) => saturating,
        }
    }

    /// The checkpoint to follow at `step`.
    pub fn checkpoint(&self, position: &Position, step: u64) -> usize {
        self.kind().checkpoint(position, step)
    }

    /// The next step after `step` at which the checkpoint can change without an evaluation, if any.
    pub fn next_switch(&self, position: &Position, step: u64) -> Option<u64> {
        self.kind().next_switch(position, step)
    }

    /// Tells the schedule that training has reached `step` (called wherever [`Self::next_switch`] said).
    pub fn reached(&self, position: &mut Position, step: u64) {
        self.kind().reached(position, step);
    }

    /// Tells the schedule the accuracy evaluated at `step`.
    pub fn evaluated(&self, position: &mut Position, step: u64, accuracy: f64) {
        self.kind().evaluated(position, step, accuracy);
    }

    /// Every checkpoint the schedule can use, each once, in order of first use.
    pub fn checkpoints(&self) -> Vec<usize> {
        let mut seen = std::collections::HashSet::new();
        self.kind().checkpoints().into_iter().filter(|c| seen.insert(*c)).collect()
    }

    /// The same schedule with every checkpoint renamed.
    #[must_use]
    pub fn renamed(&self, name: impl Fn(usize) -> usize) -> Self {
        let mut renamed = self.clone();
        renamed.kind_mut().rename(&name);
        renamed
    }
}

/// Checkpoints in order, each for a fixed number of steps, the last one until training ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// At least one; the duration of the last one is ignored.
    pub stages: Vec<Stage>,
}

/// One stage of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Number of the teacher checkpoint.
    pub checkpoint: usize,
    /// Student steps spent on it.
    pub steps: u64,
}

impl Stages {
    /// The schedule that follows each checkpoint for so many steps.
    pub fn of(stages: impl IntoIterator<Item = (usize, u64)>) -> Schedule {
        let stage = |(checkpoint, steps)| Stage { checkpoint, steps };
        Schedule::Stages(Self { stages: stages.into_iter().map(stage).collect() })
    }

    /// The step after the last one of each stage.
    fn ends(&self) -> impl Iterator<Item = u64> {
        self.stages.iter().scan(0u64, |end, stage| {
            *end = end.saturating_add(stage.steps);
            Some(*end)
        })
    }
}

impl Follow for Stages {
    fn checkpoint(&self, _position: &Position, step: u64) -> usize {
        let stage = self.ends().position(|end| step < end).unwrap_or(self.stages.len() - 1);
        self.stages[stage].checkpoint
    }

    fn next_switch(&self, _position: &Position, step: u64) -> Option<u64> {
        self.ends().take(self.stages.len() - 1).find(|end| *end > step)
    }

    fn checkpoints(&self) -> Vec<usize> {
        self.stages.iter().map(|s| s.checkpoint).collect()
    }

    fn rename(&mut self, name: &dyn Fn(usize) -> usize) {
        self.stages.iter_mut().for_each(|s| s.checkpoint = name(s.checkpoint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Saturation;

    #[test]
    fn stages_last_as_long_as_they_say() {
        let schedule = Stages::of([(4, 10), (7, 5), (9, 1)]);
        let position = Position::default();
        let followed: Vec<usize> =
            [0, 9, 10, 14, 15, 1000].iter().map(|&s| schedule.checkpoint(&position, s)).collect();
        assert_eq!(followed, [4, 4, 7, 7, 9, 9]);
        let switches: Vec<_> = [0, 9, 10, 15].iter().map(|&s| schedule.next_switch(&position, s)).collect();
        assert_eq!(switches, [Some(10), Some(10), Some(15), None]);
        assert_eq!(Stages::of([(4, 1), (7, 1), (4, 1)]).checkpoints(), [4, 7]);
    }

    /// `spec.toml` and resume states as version 0.1 wrote them.
    #[test]
    fn written_forms_are_those_of_0_1() {
        let rule = Saturation { window: 5, min_gain: 0.01, max_steps: 90 };
        let saturating = Schedule::TillSaturation(Saturating { checkpoints: vec![0, 1], rule });
        for (schedule, text) in [
            (
                Stages::of([(0, 130), (1, 130)]),
                "kind = \"stages\"\n\n[[stages]]\ncheckpoint = 0\nsteps = 130\n\n[[stages]]\ncheckpoint = 1\nsteps = 130\n",
            ),
            (
                saturating,
                "kind = \"till-saturation\"\ncheckpoints = [0, 1]\n\n[rule]\nwindow = 5\nmin_gain = 0.01\nmax_steps = 90\n",
            ),
        ] {
            assert_eq!(toml::to_string(&schedule).unwrap(), text);
            assert_eq!(toml::from_str::<Schedule>(text).unwrap(), schedule);
        }
        let text = r#"{"stage":1,"switched_at":90,"since_switch":[0.5,0.75]}"#;
        let position = Position { stage: 1, switched_at: 90, since_switch: vec![0.5, 0.75] };
        assert_eq!(serde_json::to_string(&position).unwrap(), text);
        assert_eq!(serde_json::from_str::<Position>(text).unwrap(), position);
    }
}
