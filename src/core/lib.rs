//! What curricle computes with, as pure functions: no files, no threads, no BLAS, no GPU.
//!
//! ```text
//! keys      sections of a spec as a door reads them
//! rng       random bits as a function of (seed, stream, index)
//! math      small statistics and the Walsh-Hadamard transform
//! model     shapes, parameters, losses, and what a model can be asked
//! optim     SGD steps, Adam's settings, learning rates
//! task      what is learned: Boolean functions and grammars
//! schedule  which checkpoint of a teacher a student follows when
//! target    what a student learns from: labels and teacher logits
//! verdict   what the data say of a claim
//! ```
#![deny(missing_docs)]

pub mod keys;
pub mod math;
pub mod model;
pub mod optim;
pub mod rng;
pub mod schedule;
pub mod target;
pub mod task;
pub mod verdict;
