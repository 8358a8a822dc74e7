//! Experiments: specs, run folders, metrics.

pub mod error;
pub mod experiment;
pub mod failure;
pub mod folder;
pub mod gather;
pub mod group;
pub mod judge;
pub mod lock;
pub mod metrics;
pub mod options;
pub mod plan;
mod recorder;
pub mod report_data;
mod report_grammar;
mod resolve;
pub mod run_spec;
mod seeds;
pub mod spec;
mod sweep;
pub mod task;
pub mod tensorboard;
