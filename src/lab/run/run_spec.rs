//! `spec.toml` of one run: everything that determines its numbers. One type writes it and reads it back.

use super::folder::{RunFolderError, open_read_only};
use super::plan::Plan;
use crate::distill::teacher::TeacherCheckpoint;
use crate::train::checkpointing::CheckpointPolicy;
use crate::train::settings::{StopRule, Training};
use curricle_core::optim::rate::RateSchedule;
use curricle_core::schedule::Schedule;
use curricle_core::target::Target;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The resolved settings of one run.
///
/// Written, it is complete. Read, it has what the file has, so that a folder put together by hand need only say what is asked of
/// it: `[task]` for correlations, `training.batch` for a teacher.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSpec {
    /// Experiment.
    pub experiment: String,
    /// Scale.
    pub scale: String,
    /// Name of the run.
    pub run: String,
    /// Its arm in the spec.
    pub arm: String,
    /// Seed.
    pub seed: u64,
    /// Held-out samples.
    pub evaluation_samples: usize,
    /// The task with its support, as its kind writes it.
    pub task: toml::Table,
    /// Settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training: Option<RunTraining>,
    /// The teacher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<RunDistill>,
}

/// `[training]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunTraining {
    /// Label in the report.
    #[serde(default)]
    pub label: String,
    /// What is trained, and how it is updated, as its family writes it.
    #[serde(default)]
    pub model: toml::Table,
    /// Accuracy of guessing.
    #[serde(default)]
    pub chance: f64,
    /// Samples per step.
    pub batch: usize,
    /// Steps.
    #[serde(default)]
    pub steps: u64,
    /// Peak learning rate.
    #[serde(default)]
    pub learning_rate: f64,
    /// Its schedule.
    #[serde(default)]
    pub schedule: RateSchedule,
    /// Steps between evaluations.
    #[serde(default)]
    pub evaluate_every: u64,
    /// Checkpoint policy.
    #[serde(default)]
    pub checkpoints: CheckpointPolicy,
    /// Early stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopRule>,
}

/// `[distill]`: the teacher of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunDistill {
    /// What is learned from it.
    #[serde(flatten)]
    pub target: Target,
    /// Files in order of first use; relative to the experiment's folder where they lie in it.
    pub checkpoints: Vec<String>,
    /// Names checkpoints by their place in that list.
    pub schedule: Schedule,
}

impl RunSpec {
    /// The spec of a run that learns from labels.
    pub fn new(plan: &Plan, run: &str, arm: &str, seed: u64, training: &Training) -> Self {
        Self {
            experiment: plan.experiment.clone(),
            scale: plan.scale.clone(),
            run: run.to_owned(),
            arm: arm.to_owned(),
            seed,
            evaluation_samples: plan.evaluation.samples,
            task: plan.task.resolved(seed),
            training: Some(RunTraining::of(training)),
            distill: None,
        }
    }

    /// As a TOML file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a run spec is plain data")
    }

    /// From the text of such a file.
    ///
    /// # Errors
    /// The line if there is one, and what is wrong.
    pub fn parse(text: &str) -> Result<Self, (Option<usize>, String)> {
        toml::from_str(text).map_err(|e| {
            let line =
                e.span().and_then(|s| text.get(..s.start)).map(|before| 1 + before.matches('\n').count());
            (line, e.message().to_owned())
        })
    }

    /// `spec.toml` of a run folder; `None` without that file.
    ///
    /// # Errors
    /// If there is no such folder, or the file cannot be read or is no spec of a run.
    pub fn read(folder: &Path) -> Result<Option<Self>, RunFolderError> {
        let Some(text) = open_read_only(folder)?.read_spec()? else { return Ok(None) };
        let bad = |(line, detail)| RunFolderError::Content { path: folder.join("spec.toml"), line, detail };
        Self::parse(&text).map(Some).map_err(bad)
    }
}

impl RunTraining {
    fn of(training: &Training) -> Self {
        let Training { label, model, chance, batch, steps, learning_rate, .. } = training;
        Self {
            label: label.clone(),
            model: model.table(),
            chance: *chance,
            batch: *batch,
            steps: *steps,
            learning_rate: *learning_rate,
            schedule: training.schedule,
            evaluate_every: training.evaluate_every,
            checkpoints: training.checkpoints.clone(),
            stop: training.stop,
        }
    }
}

impl RunDistill {
    /// Describes `schedule` over `checkpoints`; files below `root` are written relative to it.
    pub fn new(target: Target, schedule: &Schedule, checkpoints: &[TeacherCheckpoint], root: &Path) -> Self {
        let used = schedule.checkpoints();
        let path = |index: &usize| {
            let path = &checkpoints[*index].path;
            path.strip_prefix(root).unwrap_or(path).display().to_string()
        };
        Self {
            target,
            checkpoints: used.iter().map(path).collect(),
            schedule: schedule.renamed(|c| used.iter().position(|u| *u == c).expect("used lists them all")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 0.1 wrote them.
    const TWO: &str = include_str!("testdata/two-0.1.spec.toml");
    const SATURATION: &str = include_str!("testdata/saturation-0.1.spec.toml");
    const PCFG: &str = include_str!("testdata/pcfg-0.1.spec.toml");

    #[test]
    fn what_0_1_wrote_is_read_and_written_again_byte_for_byte() {
        for text in [TWO, SATURATION, PCFG] {
            assert_eq!(RunSpec::parse(text).unwrap().to_toml(), text);
        }
    }

    #[test]
    fn a_spec_need_only_say_what_is_asked_of_it() {
        let spec = RunSpec::parse("name = \"x\"\ntraining = { batch = 16 }").unwrap();
        assert_eq!(spec.training.unwrap().batch, 16);
        assert!(spec.task.is_empty() && spec.distill.is_none());
        let (line, detail) = RunSpec::parse("seed = 1\ntraining = { steps = 5 }").unwrap_err();
        assert!(line == Some(2) && detail.contains("batch"), "{line:?}: {detail}");
    }
}
