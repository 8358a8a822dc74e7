//! curricle: a laboratory for implicit curricula in knowledge distillation.
//!
//! It trains teachers, distils students from their intermediate checkpoints, measures what the checkpoints teach, and
//! holds measured sample counts against theory. This is the facade; each part is a package of its own, and arrows point one way:
//! [`cli`] -> [`lab`] -> [`probe`], [`report`], [`files`], [`cpu`], [`gpu`] -> [`core`]. [`theory`] stands beside.
#![deny(missing_docs)]

pub use curricle_cli as cli;
pub use curricle_core as core;
pub use curricle_cpu as cpu;
pub use curricle_files as files;
pub use curricle_gpu as gpu;
pub use curricle_lab as lab;
pub use curricle_probe as probe;
pub use curricle_report as report;
pub use curricle_theory as theory;

pub use curricle_core::{distill, math, model, optim, rng, task};
