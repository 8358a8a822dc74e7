//! curricle: a laboratory for implicit curricula in knowledge distillation.
//!
//! It trains teachers, distils students from their intermediate checkpoints, measures what the checkpoints teach, and
//! holds measured sample counts against theory.
//!
//! A student that learns a parity through a checkpoint from inside its teacher's transition:
//!
//! ```
//! use curricle::lab::memory::{MlpRun, distil, train};
//! use curricle::task::{HierarchicalParity, Support};
//!
//! let task = HierarchicalParity::parity(30, 3, &Support::Random { seed: 1 })?;
//! let teacher = MlpRun { hidden: vec![300], learning_rate: 0.5, steps: 3000, ..MlpRun::default() };
//! let teacher = train(&task, 1, &teacher)?;
//!
//! let student = MlpRun { hidden: vec![20], steps: 20_000, ..MlpRun::default() };
//! let (middle, last) = (teacher.closest_to(0.85), teacher.last());
//! let curriculum = distil(&task, 1, &student, &teacher, &[(middle, 1000), (last, 0)])?;
//! let one_shot = distil(&task, 1, &student, &teacher, &[(last, 0)])?;
//! assert!(curriculum.samples_to(0.99) < one_shot.samples_to(0.99));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`lab::Laboratory`] runs whole specs, with a user's own tasks, families of models and measurements; the programs under
//! `examples/` show each. This crate is the facade; each part is a package of its own, and arrows point one way:
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

pub use curricle_core::{math, model, optim, rng, schedule, target, task};
