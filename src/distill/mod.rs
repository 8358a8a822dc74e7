//! What a student learns from: teacher schedules (PAPER 2.1, 2.2, one-shot, till saturation) and targets.

pub mod schedule;
pub mod target;
pub mod teacher;
