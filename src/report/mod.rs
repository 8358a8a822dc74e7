//! report
pub mod stats;
