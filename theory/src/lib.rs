//! Analysis.
pub mod error;
pub mod fit;
pub mod gradient;
pub mod threshold;
pub use error::{Result, TheoryError};
