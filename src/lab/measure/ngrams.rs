//! `[ngrams]`: n-gram robustness of a BERT teacher's checkpoints on sentences of a grammar.

use super::{Measure, MeasureContext, MeasureError, Measured, Measurement, Setting, Shown, Subject};
use crate::transformer::Transformer;
use curricle_core::keys::{KeyError, Section};
use curricle_core::model::TransformerState;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::pcfg::bayes::Bayes;
use curricle_core::task::pcfg::{Objective, PcfgTask, Sampler};
use curricle_files as files;
use curricle_probe::ngram::{
    MOST_TOKENS, MaskedModel, MaskedPredictor, NgramSummary, Positions, measure, summarize,
};
use curricle_report::data::ReportData;
use curricle_report::pcfg::{self, CheckpointMark, NgramPoint, section};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Sentences a measurement is made on at most.
pub(super) const MOST_SENTENCES: u64 = 1_000_000;

/// The section's keys.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Lengths of the n-grams.
    #[serde(default = "default_sizes")]
    sizes: Vec<usize>,
    /// Sentences averaged over.
    sentences: u64,
    /// Every k-th position; default: every 30th, or every 3rd in short sentences.
    every: Option<usize>,
}

fn default_sizes() -> Vec<usize> {
    vec![2, 3, 4, 5]
}

/// The file, and what is found: of each checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Timeline {
    seed: u64,
    /// What was asked.
    spec: Keys,
    /// The optimum's own values.
    reference: Vec<NgramSummary>,
    checkpoints: Vec<AtStep>,
}

/// n-gram robustness of one checkpoint, one summary per n.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct AtStep {
    step: u64,
    ngrams: Vec<NgramSummary>,
}

/// The kind.
#[derive(Debug)]
pub struct NgramMeasurement;

impl Measurement for NgramMeasurement {
    fn key(&self) -> &'static str {
        "ngrams"
    }

    fn resolve(&self, section: Section<'_>, setting: &Setting<'_>) -> Result<Arc<dyn Measure>, KeyError> {
        let keys: Keys = section.read()?;
        section.require_here(setting.teacher, "there is no [teacher] to measure")?;
        section.require_here(
            PcfgTask::of(setting.task).is_some_and(|p| p.objective == Objective::Masked),
            "n-gram robustness is measured where tokens are masked: a pcfg with objective = \"masked\"",
        )?;
        section.require(
            !keys.sizes.is_empty() && keys.sizes.iter().all(|n| (2..=MOST_TOKENS).contains(n)),
            "sizes",
            format!("lengths from 2 to {MOST_TOKENS} are needed"),
        )?;
        section.require(
            (1..=MOST_SENTENCES).contains(&keys.sentences),
            "sentences",
            format!("must be from 1 to {MOST_SENTENCES}"),
        )?;
        section.require(
            keys.every.is_none_or(|k| (1..=1_000_000).contains(&k)),
            "every",
            "every k-th position with k from 1 to 1000000",
        )?;
        Ok(Arc::new(Ngrams { keys }))
    }
}

/// The measurement with its settings.
#[derive(Debug)]
struct Ngrams {
    keys: Keys,
}

impl Measure for Ngrams {
    fn subject(&self) -> Subject {
        Subject::TeacherCheckpoints
    }

    fn keys(&self) -> toml::Table {
        toml::Table::try_from(&self.keys).expect("plain data")
    }

    fn measure(&self, context: &MeasureContext<'_>) -> Result<Option<Value>, MeasureError> {
        let timeline = self.timeline(context)?;
        Ok(timeline.map(|t| serde_json::to_value(t).expect("a timeline is plain data")))
    }

    fn quantities(&self) -> Vec<String> {
        let of_size = |n: &usize| [format!("peak-{n}"), format!("peak-step-{n}"), format!("final-{n}")];
        self.keys.sizes.iter().flat_map(of_size).collect()
    }

    fn evidence(&self, value: &Value, quantity: &str) -> Option<f64> {
        let (name, n) = quantity.rsplit_once('-')?;
        let (timeline, n): (_, usize) = (read(value)?, n.parse().ok()?);
        let robust = |c: &AtStep| c.ngrams.iter().find(|s| s.n == n).map(|s| s.robust.median);
        let mut measured = timeline.checkpoints.iter().filter_map(|c| Some((c.step, robust(c)?)));
        match name {
            "final" => measured.next_back().map(|(_, value)| value),
            "peak" => measured.map(|(_, value)| value).reduce(f64::max),
            "peak-step" => measured.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(step, _)| step as f64),
            _ => None,
        }
    }

    fn report(&self, found: &[Measured], shown: &Shown<'_>, report: &mut ReportData) {
        let mark = |step: &u64| CheckpointMark { step: *step as f64, label: format!("{step}") };
        let marks: Vec<CheckpointMark> = shown.first_checkpoints.iter().map(mark).collect();
        let figures: Vec<_> = found
            .iter()
            .filter_map(|m| read(&m.value))
            .map(|timeline| {
                let seed = timeline.seed;
                pcfg::ngrams(&pcfg::NgramTimeline {
                    title: format!("n-gram robustness of the teacher's checkpoints, seed {seed}"),
                    points: timeline
                        .checkpoints
                        .into_iter()
                        .map(|c| NgramPoint { step: c.step as f64, summaries: c.ngrams })
                        .collect(),
                    reference: timeline.reference,
                    phases: shown.teacher(seed).and_then(|t| t.loss_phases()),
                    checkpoints: if Some(seed) == shown.seed { marks.clone() } else { vec![] },
                })
            })
            .collect();
        if !figures.is_empty() {
            report.sections.push(section("n-gram robustness", vec![], figures));
        }
    }
}

fn read(value: &Value) -> Option<Timeline> {
    Timeline::deserialize(value).ok()
}

impl Ngrams {
    fn timeline(&self, context: &MeasureContext<'_>) -> Result<Option<Timeline>, MeasureError> {
        let (spec, seed) = (&self.keys, context.seed);
        let grammar =
            &PcfgTask::of(context.task).expect("the section was checked: this is a grammar").grammar;
        (context.note)("n-gram robustness of the teacher's checkpoints");
        let checkpoints = context.checkpoints()?;
        let mut found = context.kept().filter(|found: &Timeline| found.spec == *spec);
        let steps = |f: &Timeline| f.checkpoints.iter().map(|c| c.step).collect::<Vec<_>>();
        if let Some(found) = found.take_if(|f| checkpoints.iter().map(|(step, _)| *step).eq(steps(f))) {
            return Ok(Some(found));
        }
        let sampler = Sampler::new(grammar);
        // Not the sentences the accuracy is measured on.
        let stream = Stream::new(Purpose::Probe, 0);
        let sentences: Vec<Vec<u8>> =
            (0..spec.sentences).map(|i| sampler.sentence(seed, stream, i)).collect();
        let positions = spec.every.map_or_else(|| Positions::usual(&sentences), Positions::Every);
        let measure = |predictor: &dyn MaskedPredictor, path: &Path| {
            measure(predictor, &sentences, &positions, &spec.sizes)
                .map(|found| summarize(&found))
                .map_err(MeasureError::at(path))
        };
        let mut timeline = match found {
            Some(begun) => begun,
            None => {
                let reference = measure(&Bayes::complete(grammar), Path::new("the optimum"))?;
                Timeline { seed, spec: spec.clone(), reference, checkpoints: vec![] }
            }
        };
        timeline.checkpoints.retain(|c| checkpoints.iter().any(|(step, _)| *step == c.step));
        for (step, path) in checkpoints {
            if timeline.checkpoints.iter().any(|c| c.step == step) {
                continue;
            }
            if context.cancelled() {
                return Ok(None);
            }
            let model = open(&path, context)?;
            let predictor = MaskedModel::new(&model, grammar).map_err(MeasureError::at(&path))?;
            timeline.checkpoints.push(AtStep { step, ngrams: measure(&predictor, &path)? });
            timeline.checkpoints.sort_by_key(|c| c.step);
            context.keep(&timeline)?;
        }
        Ok(Some(timeline))
    }
}

/// A checkpoint's transformer on whatever computes.
pub(super) fn open(path: &Path, context: &MeasureContext<'_>) -> Result<Transformer, MeasureError> {
    let read = files::transformer::load(path).map_err(|e| MeasureError::Folder(e.into()))?;
    Transformer::new(&TransformerState::new(read.params), context.device, context.threads)
        .map_err(MeasureError::at(path))
}
