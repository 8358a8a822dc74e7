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
//! run          experiments: specs, run folders, metrics, claims
//! ```
#![deny(missing_docs)]

pub mod device;
pub mod distill;
pub mod family;
pub mod memory;
pub mod model;
pub mod oracle;
pub mod registry;
pub mod run;
pub mod train;
pub mod transformer;
