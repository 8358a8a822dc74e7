//! The final checkpoint only (one-shot distillation).

use super::{Schedule, Stages, TeacherHistory, TeacherSchedule, Unresolved};
use crate::keys::KeyError;
use serde::{Deserialize, Serialize};

/// The final checkpoint from the first step to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OneShot {}

impl TeacherSchedule for OneShot {
    fn check(&self, _key: &str) -> Result<(), KeyError> {
        Ok(())
    }

    fn resolve(&self, teacher: &TeacherHistory, _batch: usize) -> Result<Schedule, Unresolved> {
        Ok(Stages::of([(teacher.checkpoints.len() - 1, 1)]))
    }

    fn label(&self) -> String {
        "one-shot".to_owned()
    }
}
