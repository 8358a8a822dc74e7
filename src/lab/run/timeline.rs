//! Correlations of a teacher run's checkpoints, measured once and kept in its folder.

use super::folder::{CORRELATIONS, RunFolderError, open_read_only, write_json};
use super::spec::CorrelationSpec;
use crate::device::Device;
use crate::model::{self, OpenError};
use crate::train::member::Metric;
use curricle_core::task::BooleanTask;
use curricle_probe::transition::Timeline;
use curricle_probe::{
    Evaluation, KnownSupport, Monomials, ProbeError, Request, Sampling, Statistic, timeline_of,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Why correlations could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum TimelineError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// The probe.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A checkpoint.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// The file: what was asked and what was found.
#[derive(Serialize, Deserialize)]
struct Kept {
    samples: usize,
    degrees: Vec<usize>,
    random: usize,
    steps: Vec<u64>,
    timeline: Timeline,
}

/// The timeline in the bytes of a `correlations.json`.
pub fn parse(bytes: &[u8]) -> Option<Timeline> {
    serde_json::from_slice::<Kept>(bytes).ok().map(|kept| kept.timeline)
}

/// Measures the checkpoints of a run folder, or takes the kept result of an equal measurement.
///
/// # Errors
/// If the folder or a checkpoint cannot be read, or the result cannot be kept.
pub fn measure(
    folder: &Path,
    spec: &CorrelationSpec,
    task: &dyn BooleanTask,
    seed: u64,
    device: &Device,
    threads: usize,
) -> Result<Timeline, TimelineError> {
    let view = open_read_only(folder)?;
    let metrics: Vec<Metric> = view.read_metrics()?;
    let accuracy = |step: u64| metrics.iter().find(|m| m.step == step).map(|m| m.accuracy);
    let checkpoints = thin(view.require_checkpoints("teacher")?, spec.most_checkpoints, accuracy);
    let steps: Vec<u64> = checkpoints.iter().map(|(step, _)| *step).collect();
    let file = folder.join(CORRELATIONS);
    if let Ok(bytes) = std::fs::read(&file)
        && let Ok(kept) = serde_json::from_slice::<Kept>(&bytes)
        && (kept.samples, &kept.degrees, kept.random, &kept.steps)
            == (spec.samples, &spec.degrees, spec.random, &steps)
    {
        return Ok(kept.timeline);
    }
    let support = KnownSupport::of_task(task)?;
    let monomials = Monomials::select(task.d(), Some(&support), &spec.degrees, spec.random, seed)?;
    let request = Request {
        statistic: Statistic::Probability,
        class: 1,
        sampling: Sampling::Random { samples: spec.samples as u64, seed },
    };
    let evaluations: Vec<Evaluation> = metrics
        .iter()
        .map(|m| Evaluation { step: m.step, samples: Some(m.samples), accuracy: m.accuracy })
        .collect();
    let mut failed = None;
    let load = |path: &Path| -> Result<_, TimelineError> {
        Ok(model::open(path, Some(task.d()), device, threads)?.0)
    };
    let loaded = checkpoints.into_iter().map_while(|(step, path)| match load(&path) {
        Ok(model) => Some((step, path.display().to_string(), model)),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let timeline = timeline_of(loaded, &monomials, Some(task), &request, &evaluations)?;
    if let Some(error) = failed {
        return Err(error);
    }
    let kept = Kept {
        samples: spec.samples,
        degrees: spec.degrees.clone(),
        random: spec.random,
        steps,
        timeline: timeline.clone(),
    };
    write_json(&file, &kept)?;
    Ok(timeline)
}

/// At most `most` checkpoints: all inside the transition first, the others evenly thinned.
fn thin(all: Vec<(u64, PathBuf)>, most: usize, accuracy: impl Fn(u64) -> Option<f64>) -> Vec<(u64, PathBuf)> {
    if all.len() <= most {
        return all;
    }
    let inside = |step: u64| accuracy(step).is_some_and(|a| (0.52..0.995).contains(&a));
    let (inner, outer): (Vec<_>, Vec<_>) = all.into_iter().partition(|(step, _)| inside(*step));
    let evenly = |list: Vec<(u64, PathBuf)>, most: usize| -> Vec<(u64, PathBuf)> {
        let n = list.len();
        let keep: std::collections::BTreeSet<usize> = (0..most.min(n))
            .map(|i| if most == 1 { n - 1 } else { i * (n - 1) / (most.min(n) - 1).max(1) })
            .collect();
        list.into_iter().enumerate().filter(|(i, _)| keep.contains(i)).map(|(_, c)| c).collect()
    };
    let inner = evenly(inner, most.saturating_sub(2).max(1));
    let outer = evenly(outer, most.saturating_sub(inner.len()));
    let mut chosen = [inner, outer].concat();
    chosen.sort();
    chosen
}
