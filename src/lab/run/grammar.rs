//! What is measured on sentences of a grammar: phases of the teacher's loss, n-gram robustness along its checkpoints, and what
//! probes find in the final students. Everything is kept in the run folders and not measured again.

use super::folder::{NGRAMS, NONTERMINALS, OPTIMUM, RunFolderError, open_read_only, write_json};
use super::spec::{NgramSpec, NonterminalSpec};
use crate::device::Device;
use crate::train::member::Metric;
use crate::transformer::{EngineError, Transformer};
use curricle_core::model::TransformerState;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::Task;
use curricle_core::task::pcfg::bayes::Bayes;
use curricle_core::task::pcfg::bayes::Tally;
use curricle_core::task::pcfg::{PcfgTask, Sampler};
use curricle_cpu::SingleThreaded;
use curricle_files as files;
use curricle_probe::SequenceProbeError;
use curricle_probe::ngram::{self, MaskedModel, NgramSummary, Positions};
use curricle_probe::nonterminal::ridge::ridge;
use curricle_probe::nonterminal::{Examples, LevelAccuracy, SENTENCES};
use curricle_probe::phases::{LossPoint, Phases, phases};
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum GrammarError {
    /// A run folder.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// The probe.
    #[error("{path}: {cause}", path = path.display())]
    Probe {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        cause: SequenceProbeError,
    },
    /// The model.
    #[error("{path}: {cause}", path = path.display())]
    Model {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        cause: EngineError,
    },
}

/// n-gram robustness of a teacher's checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NgramTimeline {
    /// Seed.
    pub seed: u64,
    /// What was asked.
    spec: NgramSpec,
    /// The optimum's own values.
    pub reference: Vec<NgramSummary>,
    /// Of each checkpoint.
    pub checkpoints: Vec<NgramCheckpoint>,
}

impl NgramTimeline {
    fn steps(&self) -> impl Iterator<Item = u64> + '_ {
        self.checkpoints.iter().map(|c| c.step)
    }
}

/// n-gram robustness of one checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NgramCheckpoint {
    /// Step.
    pub step: u64,
    /// One per n.
    pub ngrams: Vec<NgramSummary>,
}

/// The most a predictor can reach on the held-out samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// Seed.
    pub seed: u64,
    /// Accuracy of exact Bayes.
    pub accuracy: f64,
    /// Its cross-entropy in nats.
    pub loss: f64,
}

/// What the probe finds in a final model, level by level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbedRun {
    /// Name of the run.
    pub run: String,
    /// Seed.
    pub seed: u64,
    /// What was asked.
    spec: NonterminalSpec,
    /// Accuracy per level.
    pub levels: Vec<LevelAccuracy>,
}

fn kept<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The phases of a run's loss: on held-out sentences where that was measured, else in training.
pub fn loss_phases(metrics: &[Metric]) -> Option<Phases> {
    let points: Vec<LossPoint> = metrics
        .iter()
        .filter_map(|m| Some(LossPoint { step: m.step as f64, loss: m.evaluation_loss.or(m.loss)? }))
        .collect();
    phases(&points)
}

fn open(path: &Path, device: &Device, threads: usize) -> Result<Transformer, GrammarError> {
    let read = files::transformer::load(path).map_err(RunFolderError::Checkpoint)?;
    Transformer::new(&TransformerState::new(read.params), device, threads)
        .map_err(|cause| GrammarError::Model { path: path.to_path_buf(), cause })
}

/// n-gram robustness of every checkpoint of a run; `None` if it was ended before the last. What is done is kept.
///
/// # Errors
/// If the folder or a checkpoint cannot be read, or the model cannot be probed.
pub fn ngrams(
    folder: &Path,
    spec: &NgramSpec,
    task: &PcfgTask,
    seed: u64,
    (device, threads): (&Device, usize),
    cancel: &AtomicBool,
) -> Result<Option<NgramTimeline>, GrammarError> {
    let checkpoints = open_read_only(folder)?.require_checkpoints("teacher")?;
    let file = folder.join(NGRAMS);
    let mut found = kept::<NgramTimeline>(&file).filter(|found| found.spec == *spec);
    if let Some(found) = found.take_if(|f| checkpoints.iter().map(|(step, _)| *step).eq(f.steps())) {
        return Ok(Some(found));
    }
    let sampler = Sampler::new(&task.grammar);
    // Not the sentences the accuracy is measured on.
    let stream = Stream::new(Purpose::Probe, 0);
    let sentences: Vec<Vec<u8>> = (0..spec.sentences).map(|i| sampler.sentence(seed, stream, i)).collect();
    let positions = spec.every.map_or_else(|| Positions::usual(&sentences), Positions::Every);
    let measure = |predictor: &dyn ngram::MaskedPredictor, path: &Path| {
        ngram::measure(predictor, &sentences, &positions, &spec.sizes)
            .map(|found| ngram::summarize(&found))
            .map_err(|cause| GrammarError::Probe { path: path.to_path_buf(), cause })
    };
    let mut timeline = match found {
        Some(begun) => begun,
        None => {
            let reference = measure(&Bayes::complete(&task.grammar), Path::new("the optimum"))?;
            NgramTimeline { seed, spec: spec.clone(), reference, checkpoints: vec![] }
        }
    };
    timeline.checkpoints.retain(|c| checkpoints.iter().any(|(step, _)| *step == c.step));
    for (step, path) in checkpoints {
        if timeline.checkpoints.iter().any(|c| c.step == step) {
            continue;
        }
        if cancel.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let model = open(&path, device, threads)?;
        let predictor = MaskedModel::new(&model, &task.grammar)
            .map_err(|cause| GrammarError::Probe { path: path.clone(), cause })?;
        timeline.checkpoints.push(NgramCheckpoint { step, ngrams: measure(&predictor, &path)? });
        timeline.checkpoints.sort_by_key(|c| c.step);
        write_json(&file, &timeline)?;
    }
    Ok(Some(timeline))
}

/// The most a predictor can reach on the first `samples` held-out samples, where the task knows it.
///
/// # Errors
/// If the result cannot be kept.
pub fn optimum(
    folder: &Path,
    task: &dyn Task,
    seed: u64,
    samples: usize,
) -> Result<Option<Optimum>, GrammarError> {
    let file = folder.join(OPTIMUM);
    if let Some(found) = kept::<Optimum>(&file) {
        return Ok(Some(found));
    }
    let Some(limit) = task.limit(seed) else { return Ok(None) };
    // Joined in order: the sum must not depend on how the work was divided.
    let each: Vec<Option<Tally>> = (0..samples as u64).into_par_iter().map(|n| limit.score(n)).collect();
    let found = each.into_iter().flatten().fold(Tally::default(), Tally::join).quality();
    let optimum = Optimum { seed, accuracy: found.accuracy, loss: found.cross_entropy };
    write_json(&file, &optimum)?;
    Ok(Some(optimum))
}

/// What a ridge probe finds in the last layer of a run's last checkpoint.
///
/// # Errors
/// If the folder or the checkpoint cannot be read, or the model cannot be probed.
pub fn nonterminals(
    folder: &Path,
    (run, seed): (&str, u64),
    spec: &NonterminalSpec,
    task: &PcfgTask,
    device: &Device,
    threads: usize,
) -> Result<ProbedRun, GrammarError> {
    let file = folder.join(NONTERMINALS);
    if let Some(found) = kept::<ProbedRun>(&file)
        && found.spec == *spec
    {
        return Ok(found);
    }
    let (_, path) = open_read_only(folder)?.require_checkpoints("run")?.pop().expect("there is one");
    let model = open(&path, device, threads)?;
    let layer = model.config().layers;
    let stream = (seed, SENTENCES);
    let collect = |first, count| Examples::collect(&model, &task.grammar, layer, stream, first, count);
    // The same bits whatever the number of threads.
    let _single = SingleThreaded::new();
    let levels = collect(0, spec.train)
        .and_then(|train| ridge(&train, &collect(spec.train, spec.test)?, spec.penalty))
        .map_err(|cause| GrammarError::Probe { path: path.clone(), cause })?;
    let probed = ProbedRun { run: run.to_owned(), seed, spec: spec.clone(), levels };
    write_json(&file, &probed)?;
    Ok(probed)
}
