//! Training: learning-rate schedules, checkpoint policy and the loop that trains a group of models side by side.

pub mod checkpointing;
pub mod group;
pub mod rate;
pub mod settings;
