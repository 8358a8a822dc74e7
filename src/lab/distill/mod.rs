//! Teachers that students learn from.

pub mod teacher;
