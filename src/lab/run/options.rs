//! How an experiment is run, and who is told.

use super::gather::Status;
use crate::device::Device;
use crate::train::member::Metric;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What to do where a run folder already holds results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Go on from the last saved state; finished runs are kept.
    Resume,
    /// Remove them and begin anew.
    Fresh,
}

/// How to run.
pub struct Options<'a> {
    /// Run folders lie at `out/<experiment>/<arm>/seed-<n>`.
    pub out: PathBuf,
    /// Existing results.
    pub existing: Existing,
    /// Who computes.
    pub device: Device,
    /// Threads in all.
    pub threads: usize,
    /// Set to end the run; it can be resumed.
    pub cancel: &'a AtomicBool,
    /// Told what happens.
    pub observer: &'a dyn Observer,
    /// How often resume states are written.
    pub save_every: Duration,
}

/// Told what happens, from any thread.
pub trait Observer: Sync {
    /// A run begins or is taken up at `step` of `steps`.
    fn started(&self, run: &str, seed: u64, step: u64, steps: u64);
    /// A run has reached a step.
    fn progress(&self, run: &str, seed: u64, step: u64);
    /// An evaluation.
    fn evaluated(&self, run: &str, seed: u64, metric: &Metric);
    /// A run has ended.
    fn ended(&self, run: &str, seed: u64, status: Status, reason: Option<&str>);
    /// Something else worth telling.
    fn note(&self, text: &str);
}
