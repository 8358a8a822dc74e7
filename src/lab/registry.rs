//! The kinds of things a spec can name: those curricle brings, and a user's own.

use crate::family::{Families, Family};
use crate::measure::{Measurement, Measurements};
use curricle_core::task::{self, TaskKind};
use std::sync::Arc;

/// What specs are resolved against.
///
/// ```
/// # use curricle_lab::registry::Registry;
/// let registry = Registry::builtin();
/// assert!(registry.families.kinds().contains(&"gpt2"));
/// assert!(registry.tasks.iter().any(|task| task.kind() == "parity"));
/// ```
#[derive(Debug, Clone)]
pub struct Registry {
    /// Kinds of task.
    pub tasks: Vec<Arc<dyn TaskKind>>,
    /// Families of models.
    pub families: Families,
    /// Measurements of runs.
    pub measurements: Measurements,
}

impl Registry {
    /// What curricle brings.
    pub fn builtin() -> Self {
        Self { tasks: task::builtin(), families: Families::builtin(), measurements: Measurements::builtin() }
    }

    /// With one more kind of task.
    #[must_use]
    pub fn task(mut self, kind: impl TaskKind + 'static) -> Self {
        self.tasks.push(Arc::new(kind));
        self
    }

    /// With one more family of models.
    #[must_use]
    pub fn family(mut self, family: impl Family + 'static) -> Self {
        self.families = self.families.with(family);
        self
    }

    /// With one more measurement.
    #[must_use]
    pub fn measurement(mut self, measurement: impl Measurement + 'static) -> Self {
        self.measurements = self.measurements.with(measurement);
        self
    }
}
