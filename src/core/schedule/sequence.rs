//! Checkpoints in order, each for a duration of its own ((C_T, D)-progressive distillation, PAPER 2.1).

use super::{Duration, Schedule, Selector, Stages, TeacherHistory, TeacherSchedule, Unresolved};
use crate::keys::{KeyError, require};
use serde::{Deserialize, Serialize};

/// (C_T, D): each checkpoint for its own duration; the last one until the end.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Checkpoints in order.
    pub checkpoints: Vec<Selector>,
    /// One duration for each.
    pub durations: Vec<Duration>,
}

impl TeacherSchedule for Sequence {
    fn check(&self, key: &str) -> Result<(), KeyError> {
        let Self { checkpoints, durations } = self;
        let at = format!("{key}.durations");
        Selector::check_all(checkpoints, key)?;
        require(
            durations.len() == checkpoints.len(),
            &at,
            format!("{} checkpoints need as many durations, not {}", checkpoints.len(), durations.len()),
        )?;
        durations.iter().try_for_each(|d| d.check(&at))
    }

    fn resolve(&self, teacher: &TeacherHistory, batch: usize) -> Result<Schedule, Unresolved> {
        let chosen = Selector::select_all(&self.checkpoints, teacher)?;
        let steps = self.durations.iter().map(|d| d.steps(teacher, batch)).collect::<Result<Vec<_>, _>>()?;
        Ok(Stages::of(chosen.into_iter().zip(steps)))
    }

    fn label(&self) -> String {
        format!("{} checkpoints in sequence", self.checkpoints.len())
    }
}
