//! `kind = "parity"`: the (d, k)-sparse parity.

use super::hierarchy::TreeTask;
use super::kind::{ReadText, Task, TaskKind};
use super::support::SupportKey;
use crate::keys::{KeyError, Section};
use serde::Deserialize;
use std::sync::Arc;

/// Sparse parities.
#[derive(Debug)]
pub struct Parity;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    d: usize,
    k: usize,
    /// Runs have it.
    classes: Option<usize>,
    #[serde(default)]
    support: SupportKey,
}

impl TaskKind for Parity {
    fn kind(&self) -> &'static str {
        "parity"
    }

    fn resolve(&self, section: Section<'_>, _: ReadText<'_>, seed: u64) -> Result<Arc<dyn Task>, KeyError> {
        let Keys { d, k, classes, support } = section.read()?;
        let why = "a parity has 2 classes; use kind = \"hierarchy\" for more";
        section.require(classes.is_none_or(|c| c == 2), "classes", why)?;
        TreeTask { kind: self.kind(), d, k, classes: 2, support }.checked(&section, seed)
    }
}
