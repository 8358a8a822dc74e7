//! Run folders: `<root>/<experiment>/<arm>/seed-<n>/` with `spec.toml`, `metrics.jsonl`, `checkpoints/`,
//! `resume.safetensors` and `run.json`.
//!
//! Every file but the metrics is replaced whole (temporary name, sync, rename), the metrics grow by whole lines, and one
//! process at a time holds the folder: killed at any moment, it opens to the last good state. The metrics are synced
//! before each resume state, so a resume state never knows of an evaluation that the metrics lost; what lies beyond it
//! is dropped on resume ([`RunFolder::rewind_to`]).

pub use super::error::RunFolderError;
use super::lock::FolderLock;
use super::metrics::{self, Metrics};
use curricle_files as files;
use curricle_files::{Checkpoint, Kept, Metadata, atomic};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

const SPEC: &str = "spec.toml";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";
const RESUME: &str = "resume.safetensors";
const RUN: &str = "run.json";
/// The most any model can reach on the held-out samples. (Measurements keep what they find in `<key>.json`.)
pub(crate) const OPTIMUM: &str = "optimum.json";

/// A training state to go on from.
#[derive(Debug, Clone, PartialEq)]
pub struct Resume<K> {
    /// The model, bit for bit.
    pub model: K,
    /// The rest, as it was given.
    pub state: serde_json::Value,
}

/// A run folder for reading: somebody else's, or one that is being written at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    path: PathBuf,
}

/// Opens a run folder for reading, without locking it.
///
/// # Errors
/// If there is no such folder, or it is not one of a single run.
pub fn open_read_only(path: &Path) -> Result<RunView, RunFolderError> {
    let not_a_run = |detail: String| Err(RunFolderError::NotARun { path: path.to_path_buf(), detail });
    let about = fs::metadata(path).map_err(RunFolderError::io("open the run folder", path))?;
    if !about.is_dir() {
        return not_a_run("it is a file; give the folder that holds spec.toml and checkpoints/".into());
    }
    if [SPEC, METRICS, CHECKPOINTS].iter().all(|name| !path.join(name).exists()) {
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(RunFolderError::io("read", path))? {
            let entry = entry.map_err(RunFolderError::io("read", path))?;
            if entry.path().is_dir() {
                inside.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        inside.sort();
        inside.truncate(12);
        let hint = match inside.is_empty() {
            true => String::new(),
            false => format!("; did you mean one of the folders in it: {}?", inside.join(", ")),
        };
        return not_a_run(format!("it has neither {SPEC} nor {METRICS} nor {CHECKPOINTS}/{hint}"));
    }
    Ok(RunView { path: path.to_path_buf() })
}

impl RunView {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved spec's text, if it was written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_spec(&self) -> Result<Option<String>, RunFolderError> {
        self.read_optional(SPEC)
    }

    /// The records of `metrics.jsonl` in order; none if there are none yet. An unfinished last line is left out.
    ///
    /// # Errors
    /// If the file cannot be read or a line is not a `T`; the error names the line.
    pub fn read_metrics<T: DeserializeOwned>(&self) -> Result<Vec<T>, RunFolderError> {
        metrics::read(&self.path.join(METRICS))
    }

    /// `run.json`, if it was written.
    ///
    /// # Errors
    /// If it cannot be read or is not a `T`.
    pub fn read_run_json<T: DeserializeOwned>(&self) -> Result<Option<T>, RunFolderError> {
        let Some(text) = self.read_optional(RUN)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| RunFolderError::Content {
            path: self.path.join(RUN),
            line: Some(e.line()),
            detail: e.to_string(),
        })
    }

    /// Steps and files of all checkpoints by step; none if there are none yet.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>, RunFolderError> {
        let folder = self.path.join(CHECKPOINTS);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(RunFolderError::io("read", &folder)(e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(RunFolderError::io("read", &folder))?;
            if let Some(step) = step_of(&entry.file_name().to_string_lossy()) {
                found.push((step, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    /// As [`Self::checkpoints`], but there must be one; `role` is what the folder serves as, such as "teacher".
    ///
    /// # Errors
    /// If the folder has no checkpoints or cannot be read.
    pub fn require_checkpoints(&self, role: &str) -> Result<Vec<(u64, PathBuf)>, RunFolderError> {
        let found = self.checkpoints()?;
        if found.is_empty() {
            return Err(RunFolderError::NoCheckpoints { role: role.into(), path: self.path.clone() });
        }
        Ok(found)
    }

    /// The checkpoint of exactly this step.
    ///
    /// # Errors
    /// If there is none or it cannot be loaded.
    pub fn load_checkpoint(&self, step: u64) -> Result<Checkpoint, RunFolderError> {
        Ok(files::load(&self.checkpoint_path(step))?)
    }

    /// Where the checkpoint of a step is or would be.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.path.join(CHECKPOINTS).join(format!("step-{step:012}.safetensors"))
    }

    /// The state to resume from, if one was saved.
    ///
    /// # Errors
    /// If it is there but cannot be loaded.
    pub fn load_resume<K: Kept>(&self) -> Result<Option<Resume<K>>, RunFolderError> {
        let path = self.path.join(RESUME);
        match path.try_exists() {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(e) => return Err(RunFolderError::io("read", &path)(e)),
        }
        let (model, state) = K::load_resume(&path)?;
        Ok(Some(Resume { model, state }))
    }

    /// The step of the saved training state, if there is one that can be read. Only the file's header is read.
    pub fn resume_step(&self) -> Option<u64> {
        let file = files::tensors::TensorFile::open(&self.path.join(RESUME)).ok()?;
        let state: serde_json::Value = serde_json::from_str(file.metadata.get("curricle.state")?).ok()?;
        state.get("step")?.as_u64()
    }

    /// Whether a run has begun here: a resume state, a checkpoint or a metric is present.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn has_results(&self) -> Result<bool, RunFolderError> {
        let metrics = fs::metadata(self.path.join(METRICS)).is_ok_and(|m| m.len() > 0);
        Ok(metrics || self.path.join(RESUME).exists() || !self.checkpoints()?.is_empty())
    }

    fn read_optional(&self, name: &str) -> Result<Option<String>, RunFolderError> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(RunFolderError::io("read", &path)(e)),
        }
    }
}

/// The step in a checkpoint's file name.
fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step-")?.strip_suffix(".safetensors")?;
    (digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// A run folder for writing, locked until dropped. Reads as a [`RunView`].
#[derive(Debug)]
pub struct RunFolder {
    view: RunView,
    experiment: String,
    arm: String,
    seed: u64,
    metrics: Metrics,
    _lock: FolderLock,
}

impl Deref for RunFolder {
    type Target = RunView;

    fn deref(&self) -> &RunView {
        &self.view
    }
}

impl RunFolder {
    /// Creates or opens `<root>/<experiment>/<arm>/seed-<seed>` and locks it. What a killed run left unfinished (temporary
    /// files, half a line of metrics) is removed; nothing else changes.
    ///
    /// # Errors
    /// If a name cannot be a folder's, another run holds the folder, or it cannot be created or written.
    pub fn create_or_open(
        root: &Path,
        experiment: &str,
        arm: &str,
        seed: u64,
    ) -> Result<Self, RunFolderError> {
        check_name("experiment", experiment)?;
        check_name("arm", arm)?;
        let path = root.join(experiment).join(arm).join(format!("seed-{seed}"));
        let checkpoints = path.join(CHECKPOINTS);
        fs::create_dir_all(&checkpoints).map_err(RunFolderError::io("create the run folder", &path))?;
        let lock = FolderLock::acquire(&path)?;
        for folder in [&path, &checkpoints] {
            atomic::remove_leftovers(folder).map_err(RunFolderError::io("clean up", folder))?;
        }
        let metrics = Metrics::open(path.join(METRICS))?;
        for folder in path.ancestors().take(3) {
            atomic::sync_directory(folder).map_err(RunFolderError::io("sync", folder))?;
        }
        Ok(Self {
            view: RunView { path },
            experiment: experiment.into(),
            arm: arm.into(),
            seed,
            metrics,
            _lock: lock,
        })
    }

    /// Writes `spec.toml`: the fully resolved spec.
    ///
    /// # Errors
    /// If it cannot be written; an older one is then untouched.
    pub fn write_spec(&self, text: &str) -> Result<(), RunFolderError> {
        write_text(&self.path.join(SPEC), text)
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// If it cannot be written; an older one is then untouched.
    pub fn write_run_json(&self, value: &impl Serialize) -> Result<(), RunFolderError> {
        write_json(&self.path.join(RUN), value)
    }

    /// Appends one evaluation, an object with a whole number "step", to `metrics.jsonl`. It is visible to readers at
    /// once and survives a kill, and survives a power cut from the next [`Self::save_resume`] on.
    ///
    /// # Errors
    /// If the record is no such object or cannot be written whole; then the file is as before.
    pub fn append_metric(&mut self, record: &impl Serialize) -> Result<(), RunFolderError> {
        self.metrics.append(record)
    }

    /// Removes the records whose step is greater than `step`.
    ///
    /// # Errors
    /// If the file cannot be read or rewritten; then it is as before.
    pub fn truncate_metrics_after(&mut self, step: u64) -> Result<(), RunFolderError> {
        self.metrics.truncate_after(step)
    }

    /// Saves `checkpoints/step-<12 digits>.safetensors` and says where. Step, experiment, arm and seed of the metadata are
    /// filled in.
    ///
    /// # Errors
    /// If a parameter is not finite or the file cannot be written; then nothing has changed.
    pub fn save_checkpoint(
        &self,
        step: u64,
        model: &impl Kept,
        metadata: &Metadata,
    ) -> Result<PathBuf, RunFolderError> {
        let path = self.checkpoint_path(step);
        let metadata = Metadata {
            step: Some(step),
            experiment: Some(self.experiment.clone()),
            arm: Some(self.arm.clone()),
            seed: Some(self.seed),
            other: metadata.other.clone(),
        };
        model.save(&path, &metadata)?;
        Ok(path)
    }

    /// Removes the checkpoints of steps greater than `step`.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove_checkpoints_after(&self, step: u64) -> Result<(), RunFolderError> {
        for (_, path) in self.checkpoints()?.into_iter().filter(|(at, _)| *at > step) {
            fs::remove_file(&path).map_err(RunFolderError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Saves the state to resume from: the model and `state` in one file, replaced atomically.
    ///
    /// # Errors
    /// If a parameter is not finite or the file cannot be written; then the old state is untouched.
    pub fn save_resume(&self, model: &impl Kept, state: &serde_json::Value) -> Result<(), RunFolderError> {
        self.metrics.sync()?;
        Ok(model.save_resume(&self.path.join(RESUME), state)?)
    }

    /// Drops the metrics and checkpoints beyond `step`: what a killed run did after its last resume state, which the
    /// resumed run will do again.
    ///
    /// # Errors
    /// If something cannot be removed; calling it again goes on.
    pub fn rewind_to(&mut self, step: u64) -> Result<(), RunFolderError> {
        self.remove_checkpoints_after(step)?;
        self.truncate_metrics_after(step)
    }

    /// Removes spec, metrics, checkpoints, resume state, `run.json` and measurements, for a run that starts anew.
    ///
    /// # Errors
    /// If something cannot be removed; calling it again goes on.
    pub fn clear(&mut self) -> Result<(), RunFolderError> {
        // The resume state first: it must not outlive the metrics it belongs to.
        for path in [RESUME, RUN, SPEC, METRICS].map(|name| self.path.join(name)) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(RunFolderError::io("remove", &path)(e));
                }
                _ => {}
            }
        }
        // Measurements of any key, also of one that the spec no longer asks for: they are of the model that goes.
        let mut gone: Vec<PathBuf> = self.checkpoints()?.into_iter().map(|(_, path)| path).collect();
        for entry in fs::read_dir(&self.path).map_err(RunFolderError::io("read", &self.path))? {
            let path = entry.map_err(RunFolderError::io("read", &self.path))?.path();
            gone.extend((path.extension() == Some("json".as_ref()) && path.is_file()).then_some(path));
        }
        for path in gone {
            fs::remove_file(&path).map_err(RunFolderError::io("remove", &path))?;
        }
        self.metrics = Metrics::open(self.path.join(METRICS))?;
        Ok(())
    }
}

/// Names become folders on every system, and are shown in tables.
fn check_name(what: &'static str, name: &str) -> Result<(), RunFolderError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+=,".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts || name.len() > 100 || name.ends_with('.') || !name.chars().all(allowed) {
        return Err(RunFolderError::Name { what, name: name.into() });
    }
    Ok(())
}

/// Replaces a text file (a summary, a report) atomically.
///
/// # Errors
/// If it cannot be written; an older one is then untouched.
pub fn write_text(path: &Path, text: &str) -> Result<(), RunFolderError> {
    atomic::write_text(path, text).map_err(RunFolderError::io("write", path))
}

/// Replaces a JSON file atomically; indented, with a line end.
///
/// # Errors
/// As [`write_text`], or if the value cannot be JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunFolderError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| RunFolderError::Content {
        path: path.to_path_buf(),
        line: None,
        detail: format!("the value cannot be JSON: {e}"),
    })?;
    write_text(path, &(text + "\n"))
}
