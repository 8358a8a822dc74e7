//! The kinds of things a spec can name: those curricle brings, and a user's own.

use crate::family::{Families, Family};

/// What specs are resolved against.
///
/// ```
/// # use curricle_lab::registry::Registry;
/// let registry = Registry::builtin();
/// assert!(registry.families.kinds().contains(&"gpt2"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry {
    /// Families of models.
    pub families: Families,
}

impl Registry {
    /// What curricle brings.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// With one more family of models.
    #[must_use]
    pub fn family(mut self, family: impl Family + 'static) -> Self {
        self.families = self.families.with(family);
        self
    }
}
