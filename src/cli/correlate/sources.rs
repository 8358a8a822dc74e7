//! From paths on the command line to checkpoints, their tasks and their runs' metrics.

use super::Usage;
use anyhow::{Context, Result, bail};
use curricle_core::keys::Section;
use curricle_core::model::LogitModel;
use curricle_core::model::MlpParams;
use curricle_core::task::{BooleanTask, builtin};
use curricle_files as files;
use curricle_lab::device::Device;
use curricle_lab::model::{self, OpenError};
use curricle_lab::run::folder::{RunFolderError, RunView, open_read_only};
use curricle_lab::run::task;
use curricle_probe::Evaluation;
use curricle_probe::ParityTransformer;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checkpoint file.
pub(crate) struct Source {
    /// The file.
    pub path: PathBuf,
    /// Index of the run folder among the arguments that it came from.
    pub run: Option<usize>,
    /// The task of its run, where known.
    pub task: Option<SpecTask>,
}

/// The task of a run and the file that says so.
#[derive(Clone)]
pub(crate) struct SpecTask {
    /// The task.
    pub task: Arc<dyn BooleanTask>,
    /// The file.
    pub path: PathBuf,
}

/// A run folder.
pub(crate) struct Run {
    /// The folder.
    pub path: PathBuf,
    /// Its metrics.
    pub evaluations: Vec<Evaluation>,
}

/// The checkpoints that `paths` name: files, and run folders with all their checkpoints by step.
pub(crate) fn resolve(paths: &[PathBuf]) -> Result<(Vec<Source>, Vec<Run>)> {
    let (mut sources, mut runs) = (Vec::new(), Vec::new());
    for path in paths {
        // A folder of Hugging Face is one model; other folders are runs.
        if path.is_dir() && !files::transformer::is_transformer(path) {
            let task = task_of(path)?;
            let view = open_read_only(path).map_err(|e| match e {
                RunFolderError::NotARun { .. } => Usage(e.to_string()).into(),
                other => anyhow::Error::new(other),
            })?;
            for (_, checkpoint) in view.require_checkpoints("run")? {
                sources.push(Source { path: checkpoint, run: Some(runs.len()), task: task.clone() });
            }
            runs.push(Run { path: path.clone(), evaluations: evaluations_in(&view)? });
        } else if path.exists() {
            // A file inside a run folder belongs to that run's task.
            let folder = path.parent().filter(|p| p.file_name().is_some_and(|n| n == "checkpoints"));
            let task = folder.and_then(Path::parent).map_or(Ok(None), task_of)?;
            sources.push(Source { path: path.clone(), run: None, task });
        } else {
            return Err(Usage(format!("{}: no such file or folder", path.display())).into());
        }
    }
    Ok((sources, runs))
}

/// The step of `step-000000001000.safetensors`.
fn step_in_name(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

/// The task in a run folder's `spec.toml`; `None` without that file.
fn task_of(folder: &Path) -> Result<Option<SpecTask>> {
    let path = folder.join("spec.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let bad = |why: String| Usage(format!("{}: {why}", path.display()));
    let seed = Section::document(&text).and_then(|mut d| d.take("seed").map(|s| s.read()).transpose());
    let seed: Option<u64> = seed.map_err(|e| bad(e.to_string()))?;
    let of = task::of_spec(&text, &builtin(), seed.unwrap_or(0)).map_err(|e| bad(e.to_string()))?;
    let Some(task) = of.boolean(seed.unwrap_or(0)) else {
        let kind = of.kind();
        return Err(
            bad(format!("task.kind = \"{kind}\": monomials exist where sign vectors are labelled")).into()
        );
    };
    if seed.is_none() && of.resolved(0) != of.resolved(1) {
        let why =
            "[task] draws something from the seed, and there is no key seed: name the support as a list";
        return Err(bad(why.to_owned()).into());
    }
    Ok(Some(SpecTask { task, path }))
}

/// The evaluations in a run folder's `metrics.jsonl`; none without that file. Records without an accuracy are other
/// records.
fn evaluations_in(run: &RunView) -> Result<Vec<Evaluation>> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
        samples: Option<u64>,
        accuracy: Option<f64>,
    }
    let lines: Vec<Line> = run.read_metrics()?;
    let mut evaluations: Vec<Evaluation> = Vec::new();
    for (number, line) in lines.into_iter().enumerate() {
        let Some(accuracy) = line.accuracy else { continue };
        if !(0.0..=1.0).contains(&accuracy) {
            bail!(
                "{}/metrics.jsonl, line {}: accuracy = {accuracy} is not between 0 and 1",
                run.path().display(),
                number + 1
            );
        }
        evaluations.push(Evaluation { step: line.step, samples: line.samples, accuracy });
    }
    Ok(evaluations)
}

/// Parameters and step of a checkpoint.
pub(crate) fn load(path: &Path) -> Result<(MlpParams, Option<u64>)> {
    let read = files::load(path)?;
    Ok((read.params, read.metadata.step.or_else(|| step_in_name(path))))
}

/// A checkpoint of any kind that reads d signs, and its step.
pub(crate) fn open(
    path: &Path,
    d: Option<usize>,
    device: &Device,
) -> Result<(Box<dyn LogitModel>, Option<u64>)> {
    let (model, step) = model::open(path, d, device, rayon::current_num_threads())?;
    Ok((model, step.or_else(|| step_in_name(path))))
}

/// As [`open`] for a transformer whose layers are wanted.
pub(crate) fn open_transformer(
    path: &Path,
    d: Option<usize>,
    device: &Device,
) -> Result<(ParityTransformer, Option<u64>)> {
    let opened = model::open_transformer(path, d, device, rayon::current_num_threads());
    let (model, step) = opened.map_err(|e| match e {
        OpenError::NotATransformer(_) => Usage(format!("--layers: {e}")).into(),
        other => anyhow::Error::new(other),
    })?;
    Ok((model, step.or_else(|| step_in_name(path))))
}
