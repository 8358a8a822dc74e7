//! What a measurement is given: a finished run's folder, the machine, and a place to keep what it finds.

use crate::device::Device;
use crate::family::Families;
use crate::run::folder::{RunFolderError, open_read_only, write_json};
use crate::train::member::Metric;
use curricle_core::model::LogitModel;
use curricle_core::task::Task;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A run folder.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// A checkpoint or its model.
    #[error("{}: {cause}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else; it names what it is about.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl MeasureError {
    /// For `map_err`: which checkpoint it was.
    pub fn at<E: Into<Box<dyn std::error::Error + Send + Sync>>>(path: &Path) -> impl Fn(E) -> Self {
        move |cause| Self::Checkpoint { path: path.to_path_buf(), cause: cause.into() }
    }
}

/// One finished run to measure.
pub struct MeasureContext<'a> {
    /// The key of the measurement: what it keeps is in `<folder>/<key>.json`.
    pub key: &'a str,
    /// The run's folder.
    pub folder: &'a Path,
    /// Name of the run.
    pub run: &'a str,
    /// Seed.
    pub seed: u64,
    /// What the run learned.
    pub task: &'a dyn Task,
    /// The families whose checkpoints it may be.
    pub families: &'a Families,
    /// Who computes.
    pub device: &'a Device,
    /// Threads it may use.
    pub threads: usize,
    /// Set to end early; look at it between checkpoints and at least every few seconds.
    pub cancel: &'a AtomicBool,
    /// Told what is worth telling a person who waits.
    pub note: &'a dyn Fn(&str),
}

/// What was found at one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AtCheckpoint<T> {
    /// Step of the checkpoint.
    pub step: u64,
    /// What was found.
    pub value: T,
}

/// The file of a measurement made checkpoint by checkpoint.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    keys: Value,
    checkpoints: Vec<AtCheckpoint<T>>,
}

impl MeasureContext<'_> {
    /// Whether the run was asked to end.
    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Steps and files of the run's checkpoints, in order; there is at least one.
    ///
    /// # Errors
    /// If there are none, or the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>, MeasureError> {
        Ok(open_read_only(self.folder)?.require_checkpoints(self.run)?)
    }

    /// The run's evaluations, in order.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn metrics(&self) -> Result<Vec<Metric>, MeasureError> {
        Ok(open_read_only(self.folder)?.read_metrics()?)
    }

    /// A checkpoint as a model that reads sign vectors, `d` of them.
    ///
    /// # Errors
    /// If it cannot be read, or does not fit on the device.
    pub fn open(&self, path: &Path, d: usize) -> Result<Box<dyn LogitModel>, MeasureError> {
        let opened = self.families.open(path, Some(d), self.device, self.threads);
        Ok(opened.map_err(|e| MeasureError::Other(e.into()))?.0)
    }

    fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.key))
    }

    /// What was kept of an earlier measurement; `None` if nothing was, or something of another form.
    pub fn kept<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&std::fs::read(self.file()).ok()?).ok()
    }

    /// Keeps a result, or the part of it that is done.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, value: &impl Serialize) -> Result<(), MeasureError> {
        Ok(write_json(&self.file(), value)?)
    }

    /// Measures each checkpoint by itself, in order. Each result is kept as soon as it is there, and not measured
    /// again unless
    /// `keys` (the measurement's settings) have changed. `None` if the run was asked to end before the last.
    ///
    /// # Errors
    /// As [`Self::checkpoints`], the first error of `measure`, or if a result cannot be kept.
    pub fn each_checkpoint<T: Serialize + DeserializeOwned>(
        &self,
        keys: &toml::Table,
        mut measure: impl FnMut(u64, &Path) -> Result<T, MeasureError>,
    ) -> Result<Option<Vec<AtCheckpoint<T>>>, MeasureError> {
        let checkpoints = self.checkpoints()?;
        let keys = serde_json::to_value(keys).map_err(|e| MeasureError::Other(e.into()))?;
        let mut kept = self.kept().filter(|k: &Kept<T>| k.keys == keys);
        let done = kept.get_or_insert_with(|| Kept { keys, checkpoints: vec![] });
        done.checkpoints.retain(|c| checkpoints.iter().any(|(step, _)| *step == c.step));
        for (step, path) in checkpoints {
            if done.checkpoints.iter().any(|c| c.step == step) {
                continue;
            }
            if self.cancelled() {
                return Ok(None);
            }
            let value = measure(step, &path)?;
            done.checkpoints.push(AtCheckpoint { step, value });
            done.checkpoints.sort_by_key(|c| c.step);
            self.keep(done)?;
        }
        Ok(kept.map(|k| k.checkpoints))
    }
}
