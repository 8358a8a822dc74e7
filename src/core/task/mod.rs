//! What is learned. A sample is a pure function of (seed, stream, index).

pub mod boolean;
pub mod pcfg;
pub mod sequence;

pub use boolean::{BooleanTask, Samples, TaskError};
