//! From paths on the command line to checkpoints, their tasks and their runs' metrics.

use super::Usage;
use crate::model::{Layer, MlpParams};
use crate::probe::Evaluation;
use crate::task::BooleanTask;
use crate::task::boolean::Support;
use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A checkpoint file.
pub(super) struct Source {
    pub path: PathBuf,
    /// Index of the run folder among the arguments that it came from.
    pub run: Option<usize>,
    /// The task of its run, where known.
    pub task: Option<SpecTask>,
}

/// The task of a run and the file that says so.
#[derive(Clone)]
pub(super) struct SpecTask {
    pub task: BooleanTask,
    pub path: PathBuf,
}

/// A run folder.
pub(super) struct Run {
    pub path: PathBuf,
    pub evaluations: Vec<Evaluation>,
}

/// The checkpoints that `paths` name: files, and run folders with all their checkpoints by step.
pub(super) fn resolve(paths: &[PathBuf]) -> Result<(Vec<Source>, Vec<Run>)> {
    let (mut sources, mut runs) = (Vec::new(), Vec::new());
    for path in paths {
        if path.is_dir() {
            let task = task_of(path)?;
            for checkpoint in checkpoints_in(path)? {
                sources.push(Source { path: checkpoint, run: Some(runs.len()), task: task.clone() });
            }
            runs.push(Run { path: path.clone(), evaluations: evaluations_in(path)? });
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

fn checkpoints_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let within = folder.join("checkpoints");
    let entries = match std::fs::read_dir(&within) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Usage(format!(
                "{}: not a run folder (it has no folder 'checkpoints'); name one run such as runs/EXPERIMENT/ARM/seed-1, or checkpoint files",
                folder.display()
            ))
            .into());
        }
        Err(e) => return Err(e).with_context(|| format!("cannot list {}", within.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", within.display()))?.path();
        if let Some(step) = step_in_name(&path) {
            found.push((step, path));
        }
    }
    if found.is_empty() {
        bail!("{}: no checkpoints (step-*.safetensors) in it", within.display());
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The step of `step-000000001000.safetensors`.
fn step_in_name(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
}

#[derive(Deserialize)]
struct SpecFile {
    task: TaskSection,
}

#[derive(Deserialize)]
struct TaskSection {
    kind: String,
    d: usize,
    k: usize,
    classes: Option<usize>,
    support: Vec<usize>,
}

/// The task in a run folder's `spec.toml`; `None` without that file.
// replaced at merge by the reader of run folders
fn task_of(folder: &Path) -> Result<Option<SpecTask>> {
    let path = folder.join("spec.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let bad = |why: String| Usage(format!("{}: {why}", path.display()));
    let spec: SpecFile = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
    let TaskSection { kind, d, k, classes, support } = spec.task;
    let classes = match kind.as_str() {
        "parity" => 2,
        "hierarchy" => classes.ok_or_else(|| bad("task.classes is missing; a hierarchy needs it".into()))?,
        other => {
            return Err(
                bad(format!("task.kind = \"{other}\": monomials exist for parity and hierarchy")).into()
            );
        }
    };
    let task = BooleanTask::hierarchy(d, k, classes, &Support::Given(support))
        .map_err(|e| bad(format!("[task]: {e}")))?;
    Ok(Some(SpecTask { task, path }))
}

/// The evaluations in a run folder's `metrics.jsonl`; none without that file. Lines without an accuracy are other
/// records; a last line without its line feed was cut off by a crash and is not counted.
// replaced at merge by the reader of run folders
fn evaluations_in(folder: &Path) -> Result<Vec<Evaluation>> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
        samples: Option<u64>,
        accuracy: Option<f64>,
    }
    let path = folder.join("metrics.jsonl");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut evaluations: Vec<Evaluation> = Vec::new();
    for (number, line) in complete.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("{}, line {}", path.display(), number + 1);
        let line: Line = serde_json::from_str(line).with_context(at)?;
        let Some(accuracy) = line.accuracy else { continue };
        if !(0.0..=1.0).contains(&accuracy) {
            bail!("{}: accuracy = {accuracy} is not between 0 and 1", at());
        }
        evaluations.push(Evaluation { step: line.step, samples: line.samples, accuracy });
    }
    Ok(evaluations)
}

/// Parameters and step of a checkpoint.
// replaced at merge by `checkpoint::load`
pub(super) fn load(path: &Path) -> Result<(MlpParams, Option<u64>)> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|e| anyhow!("{shown}: not a readable safetensors file: {e}"))?;
    let tensors = safetensors::SafeTensors::deserialize(&bytes)
        .map_err(|e| anyhow!("{shown}: not a readable safetensors file: {e}"))?;
    let tensor = |name: &str| -> Result<(Vec<usize>, Vec<f32>)> {
        let view = tensors.tensor(name).map_err(|e| anyhow!("{shown}: {e}"))?;
        if view.dtype() != safetensors::Dtype::F32 {
            bail!("{shown}: {name} has type {:?}, expected F32", view.dtype());
        }
        let words = view.data().as_chunks::<4>().0.iter();
        let values: Vec<f32> = words.map(|b| f32::from_le_bytes(*b)).collect();
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            bail!("{shown}: {name}[{at}] is {}", values[at]);
        }
        Ok((view.shape().to_vec(), values))
    };
    let count = tensors.len() / 2;
    let mut layers: Vec<Layer> = Vec::new();
    for l in 0..count {
        let (shape, weight) = tensor(&format!("{}.weight", 2 * l))?;
        let (_, bias) = tensor(&format!("{}.bias", 2 * l))?;
        let [fan_out, fan_in] = shape[..] else { bail!("{shown}: {}.weight is not a matrix", 2 * l) };
        if bias.len() != fan_out || layers.last().is_some_and(|before| before.bias.len() != fan_in) {
            bail!("{shown}: the shapes of layer {} do not fit", 2 * l);
        }
        layers.push(Layer {
            weight: ndarray::Array2::from_shape_vec([fan_out, fan_in], weight)?,
            bias: ndarray::Array1::from_vec(bias),
        });
    }
    if layers.len() < 2 {
        bail!("{shown}: no MLP in it (0.weight, 0.bias, 2.weight, 2.bias are needed)");
    }
    let recorded = header.metadata().as_ref().and_then(|m| m.get("curricle.step")?.parse().ok());
    Ok((MlpParams { layers }, recorded.or_else(|| step_in_name(path))))
}
