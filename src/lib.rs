//! curricle: a laboratory for implicit curricula in knowledge distillation.
//!
//! It trains teachers, distils students from their intermediate checkpoints, measures what the checkpoints teach, and
//! holds measured sample counts against theory. Arrows point one way:
//! `cli` -> `run` -> `train`, `distill`, `probe` -> `engine` -> `model`, `task`.

pub mod checkpoint;
pub mod cli;
pub mod engine;
pub mod model;
pub mod probe;
pub mod report;
pub mod rng;
pub mod run;
pub mod task;
