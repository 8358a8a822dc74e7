//! Runs on disk: folders, locks, metrics, event files.

pub mod error;
pub mod folder;
pub mod lock;
pub mod metrics;
pub mod tensorboard;
