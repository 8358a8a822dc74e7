//! The sample-complexity side of curricle: bounds with explicit constants for learning sparse parities by
//! progressive distillation, the two-phase algorithm run for real, and the one held against the other.
//!
//! Analysis only: no GPU, no files. Statements and proofs are in the README below; every public function
//! names its formula, its domain and its errors, and returns [`TheoryError`] rather than a NaN, an infinity
//! or a panic.
#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub mod bounds;
pub mod compare;
pub mod error;
pub mod expansion;
pub mod fit;
pub mod fourier;
pub mod gradient;
pub mod measure;
pub mod net;
pub mod obstruction;
mod product;
pub mod recovery;
pub mod threshold;
pub mod total;
pub mod two_phase;

pub use error::{Result, TheoryError};
