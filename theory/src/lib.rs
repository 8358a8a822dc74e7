//! Analysis.
pub mod error;
pub mod fit;
pub mod fourier;
pub mod gradient;
pub mod measure;
pub mod net;
mod product;
use ndarray_linalg as _;
pub mod threshold;
pub mod two_phase;
pub use error::{Result, TheoryError};
