//! Keeps a run's records in its folder and tells the observer.

use super::folder::{RunFolder, RunFolderError};
use super::gather::Status;
use super::options::Observer;
use crate::train::member::{AnyError, Metric, Outcome, Recorder, State};
use curricle_files::{Kept, Metadata};
use serde::{Deserialize, Serialize};

/// `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunInfo {
    /// How the run stands.
    pub status: Status,
    /// Why, where there is something to say.
    pub reason: Option<String>,
    /// curricle's version.
    pub version: String,
    /// Device and code path.
    pub device: String,
    /// Earlier devices, when the run was resumed on another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_devices: Vec<EarlierDevice>,
    /// Threads that train this model.
    pub threads: usize,
    /// Seconds of training, sessions added up.
    pub wall_seconds: f64,
}

/// A device that a run left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EarlierDevice {
    /// Device and code path.
    pub device: String,
    /// It did the steps up to this one.
    pub until_step: u64,
}

/// The recorder of one run; holds the folder's lock.
pub struct FolderRecorder<'a> {
    folder: RunFolder,
    run: String,
    seed: u64,
    info: RunInfo,
    observer: &'a dyn Observer,
}

impl<'a> FolderRecorder<'a> {
    /// Begins or takes up the records of a run. A run that goes on on another engine says so to the observer and in
    /// `run.json`: its bits are then neither engine's alone.
    ///
    /// # Errors
    /// If `run.json` cannot be read or written.
    pub fn new(
        folder: RunFolder,
        run: &str,
        seed: u64,
        device: String,
        threads: usize,
        state: &State,
        observer: &'a dyn Observer,
    ) -> Result<Self, RunFolderError> {
        let mut earlier_devices = Vec::new();
        if state.step > 0
            && !state.finished
            && let Some(before) = folder.read_run_json::<RunInfo>()?
        {
            earlier_devices = before.earlier_devices;
            if engine(&before.device) != engine(&device) {
                observer.note(&format!(
                    "{run} seed {seed}: steps up to {} were done by {}, the rest by {device}",
                    state.step, before.device
                ));
                earlier_devices.push(EarlierDevice { device: before.device, until_step: state.step });
            }
        }
        let info = RunInfo {
            status: if state.finished { Status::Finished } else { Status::Running },
            reason: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device,
            earlier_devices,
            threads,
            wall_seconds: state.wall_seconds,
        };
        if !state.finished {
            folder.write_run_json(&info)?;
        }
        Ok(Self { folder, run: run.to_owned(), seed, info, observer })
    }
}

/// The device of "device: code path".
fn engine(device: &str) -> &str {
    device.split(": ").next().unwrap_or(device)
}

impl<K: Kept> Recorder<K> for FolderRecorder<'_> {
    fn metric(&mut self, metric: &Metric) -> Result<(), AnyError> {
        self.folder.append_metric(metric)?;
        self.observer.evaluated(&self.run, self.seed, metric);
        Ok(())
    }

    fn checkpoint(&mut self, step: u64, model: &K) -> Result<(), AnyError> {
        self.folder.save_checkpoint(step, model, &Metadata::default())?;
        Ok(())
    }

    fn save(&mut self, model: &K, state: &State) -> Result<(), AnyError> {
        self.folder.save_resume(model, &serde_json::to_value(state)?)?;
        Ok(())
    }

    fn progress(&mut self, step: u64) {
        self.observer.progress(&self.run, self.seed, step);
    }

    fn ended(&mut self, outcome: &Outcome, state: &State) -> Result<(), AnyError> {
        let status = Status::of(outcome);
        if let Outcome::Diverged { after, by } = outcome {
            let last = self.folder.checkpoints()?.pop();
            self.info.reason = Some(format!(
                "the training loss became NaN or infinite between steps {after} and {by}; {}",
                match last {
                    Some((_, path)) => format!("the last good checkpoint is {}", path.display()),
                    None => "no checkpoint had been kept".to_owned(),
                }
            ));
        }
        // A finished run that is only looked at again keeps its file.
        if status != Status::Finished || self.info.status != Status::Finished {
            self.info.status = status;
            self.info.wall_seconds = state.wall_seconds;
            self.folder.write_run_json(&self.info)?;
        }
        self.observer.ended(&self.run, self.seed, status, self.info.reason.as_deref());
        Ok(())
    }
}
