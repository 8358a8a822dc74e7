//! The laboratory: teachers and students in training, distillation, experiments with their run folders and claims.
//!
//! ```text
//! device       which device computes
//! transformer  a transformer on either engine
//! model        checkpoints as models that a probe can ask
//! oracle       the CPU engine as what the GPU's self-test compares with
//! train        the training loop
//! distill      teachers
//! family       families of models
//! memory       training without specs and folders
//! registry     the kinds of things a spec can name
//! laboratory   all of it in a program
//! measure      what is measured of runs
//! claims       what a spec claims, and verdicts
//! run          experiments: specs, run folders, metrics
//! theory       the theory's measurements that need trained models or run folders
//! ```
#![deny(missing_docs)]

pub mod claims;
pub mod device;
pub mod distill;
pub mod family;
pub mod laboratory;
pub mod measure;
pub mod memory;
pub mod model;
pub mod oracle;
pub mod registry;
pub mod run;
pub mod theory;
pub mod train;
pub mod transformer;

pub use laboratory::{Finished, Laboratory, LaboratoryError};
