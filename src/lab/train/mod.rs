//! Training: learning-rate schedules, checkpoint policy and the loop that trains a group of models side by side, on any
//! engine.

pub mod checkpointing;
pub mod group;
pub mod member;
pub mod mlp_gpu;
mod once;
pub mod sequences;
pub mod settings;
pub mod signs;
