//! `spec.toml` of one run: everything that determines its numbers.

use super::plan::Plan;
use super::spec::DistillSpec;
use crate::distill::teacher::TeacherCheckpoint;
use crate::train::settings::Training;
use curricle_core::distill::schedule::Schedule;
use curricle_core::distill::target::LabelMix;
use serde::Serialize;
use std::path::Path;

/// The resolved settings of one run.
#[derive(Debug, Serialize)]
pub struct RunSpec<'a> {
    /// Experiment.
    pub experiment: &'a str,
    /// Scale.
    pub scale: &'a str,
    /// Name of the run.
    pub run: &'a str,
    /// Its arm in the spec.
    pub arm: &'a str,
    /// Seed.
    pub seed: u64,
    /// Held-out samples.
    pub evaluation_samples: usize,
    /// The task with its support.
    pub task: toml::Table,
    /// Settings.
    pub training: &'a Training,
    /// The teacher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distill: Option<ResolvedDistill>,
}

/// The teacher of one run.
#[derive(Debug, Serialize)]
pub struct ResolvedDistill {
    temperature: f64,
    label_mix: LabelMix,
    /// Files in order of first use; relative to the experiment's folder where they lie in it.
    checkpoints: Vec<String>,
    /// Names checkpoints by their place in that list.
    schedule: Schedule,
}

impl<'a> RunSpec<'a> {
    /// The spec of a run that learns from labels.
    pub fn new(plan: &'a Plan, run: &'a str, arm: &'a str, seed: u64, training: &'a Training) -> Self {
        Self {
            experiment: &plan.experiment,
            scale: &plan.scale,
            run,
            arm,
            seed,
            evaluation_samples: plan.evaluation.samples,
            task: plan.task.resolved(seed),
            training,
            distill: None,
        }
    }

    /// As a TOML file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a run spec is plain data")
    }
}

impl ResolvedDistill {
    /// Describes `schedule` over `checkpoints`; files below `root` are written relative to it.
    pub fn new(
        distill: &DistillSpec,
        schedule: &Schedule,
        checkpoints: &[TeacherCheckpoint],
        root: &Path,
    ) -> Self {
        let used = schedule.checkpoints();
        let path = |index: &usize| {
            let path = &checkpoints[*index].path;
            path.strip_prefix(root).unwrap_or(path).display().to_string()
        };
        Self {
            temperature: distill.temperature,
            label_mix: distill.label_mix,
            checkpoints: used.iter().map(path).collect(),
            schedule: schedule.renamed(|c| used.iter().position(|u| *u == c).expect("used lists them all")),
        }
    }
}
