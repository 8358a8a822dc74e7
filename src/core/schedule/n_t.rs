//! N checkpoints, all but the last for the same time ((N, T)-progressive distillation, PAPER 2.2).

use super::{Duration, Schedule, Selector, Stages, TeacherHistory, TeacherSchedule, Unresolved};
use crate::keys::KeyError;
use serde::{Deserialize, Serialize};

/// (N, T): all but the last checkpoint for T each, the last one until the end.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NT {
    /// Checkpoints in order.
    pub checkpoints: Vec<Selector>,
    /// T.
    pub duration: Duration,
}

impl TeacherSchedule for NT {
    fn check(&self, key: &str) -> Result<(), KeyError> {
        Selector::check_all(&self.checkpoints, key)?;
        self.duration.check(&format!("{key}.duration"))
    }

    fn resolve(&self, teacher: &TeacherHistory, batch: usize) -> Result<Schedule, Unresolved> {
        let steps = self.duration.steps(teacher, batch)?;
        let chosen = Selector::select_all(&self.checkpoints, teacher)?;
        Ok(Stages::of(chosen.into_iter().map(|checkpoint| (checkpoint, steps))))
    }

    fn label(&self) -> String {
        format!("({}, T)", self.checkpoints.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::history::tests::teacher;
    use crate::schedule::{SelectorName, Teacher99};

    #[test]
    fn a_teacher_that_never_learned_is_a_reason() {
        let teacher = TeacherHistory { samples_99: None, ..teacher() };
        let schedule = NT {
            checkpoints: vec![Selector::Named(SelectorName::Final)],
            duration: Duration::Teacher99(Teacher99 { teacher_99: 0.5 }),
        };
        assert!(schedule.resolve(&teacher, 4).unwrap_err().to_string().contains("never reached 99%"));
    }
}
