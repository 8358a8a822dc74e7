//! Optimisers, as far as every engine has to agree on them: steps, settings and learning rates.

mod adam;
pub mod rate;
mod steps;

pub use adam::{AdamSettings, StepOutcome, TrainStep, written};
pub use steps::{Steps, StepsResult};
