//! What is learned. A sample is a pure function of (seed, stream, index).
//!
//! A kind of task is one file here and one line in [`builtin`]: its keys in the spec, its checks, its samples, what its
//! runs record, what is known about it. `docs/CONTRIBUTING.md` shows how to add one.

pub mod boolean;
pub mod hierarchy;
pub mod junta;
pub mod kind;
pub mod parity;
pub mod pcfg;
pub mod sequence;
pub mod support;

pub use boolean::{BooleanTask, Samples};
pub use hierarchy::HierarchicalParity;
pub use kind::{Limit, ReadText, Task, TaskKind, TokenNeeds, resolve};
pub use support::{Support, TaskError};

use std::sync::Arc;

/// The kinds of task that specs can name.
pub fn builtin() -> Vec<Arc<dyn TaskKind>> {
    vec![
        Arc::new(parity::Parity),       // the sign of one monomial
        Arc::new(hierarchy::Hierarchy), // a tree of parities
        Arc::new(pcfg::kind::Pcfg),     // sentences
        Arc::new(junta::Junta),         // the sign of a sum of monomials
    ]
}
