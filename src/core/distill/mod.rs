//! What a student learns from: targets, and which teacher when.

pub mod schedule;
pub mod target;
