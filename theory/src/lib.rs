//! Analysis.
pub mod bounds;
pub mod compare;
pub mod error;
pub mod fit;
pub mod fourier;
pub mod gradient;
pub mod measure;
pub mod net;
mod product;
pub mod recovery;
pub mod threshold;
pub mod two_phase;
pub use error::{Result, TheoryError};
