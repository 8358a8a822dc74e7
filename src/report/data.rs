//! What a report shows, as plain data: `data.json` is this, and everything else is drawn from it.
//!
//! Samples are training samples (steps times batch), accuracies are shares between 0 and 1. A number that is not
//! finite is written as `null` and read back as NaN.

use super::plot::Figure;
pub use curricle_core::verdict::Verdict;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Version of the layout of `data.json`; raised when a reader would misunderstand an older file.
pub const FORMAT: u32 = 1;

/// Everything a report shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the experiment, such as `parity-mlp`.
    pub experiment: String,
    /// `quick`, `medium` or `paper`.
    pub scale: String,
    /// What the experiment asks, one paragraph.
    #[serde(default)]
    pub description: String,
    /// The device it ran on, in words.
    #[serde(default)]
    pub device: String,
    /// curricle's version.
    #[serde(default)]
    pub version: String,
    /// The command that made it.
    #[serde(default)]
    pub command: String,
    /// Whether the run still goes on: the page says so and reloads itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// When it was made.
    #[serde(default)]
    pub created: String,
    /// Duration of the whole run.
    #[serde(default = "nan", deserialize_with = "null_is_nan")]
    pub wall_seconds: f64,
    /// The resolved spec.
    #[serde(default)]
    pub spec_toml: String,
    /// Accuracy of guessing: 0.5 for parity.
    #[serde(default = "nan", deserialize_with = "null_is_nan")]
    pub chance: f64,
    /// The accuracy that the samples-to plots and tables are about; a key of [`RunCurve::samples_to`].
    #[serde(default = "headline")]
    pub headline_level: String,
    /// Teachers and students, in the order in which they are listed and coloured.
    #[serde(default)]
    pub arms: Vec<Arm>,
    /// Correlation of teacher checkpoints with monomials, one per teacher seed.
    #[serde(default)]
    pub timelines: Vec<Timeline>,
    /// The experiment's claims and what came of them.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Published numbers beside ours.
    #[serde(default)]
    pub references: Vec<Reference>,
    /// Studies over one setting.
    #[serde(default)]
    pub sweeps: Vec<SweepTable>,
    /// Further parts in the experiment's own order: figures, tables, text.
    #[serde(default)]
    pub sections: Vec<Section>,
    /// Remarks shown with the results: deviations, exclusions, known limits.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl ReportData {
    /// A report with a name and nothing in it.
    pub fn new(experiment: impl Into<String>, scale: impl Into<String>) -> Self {
        Self {
            format: FORMAT,
            experiment: experiment.into(),
            scale: scale.into(),
            description: String::new(),
            device: String::new(),
            version: String::new(),
            command: String::new(),
            live: false,
            created: String::new(),
            wall_seconds: f64::NAN,
            spec_toml: String::new(),
            chance: f64::NAN,
            headline_level: headline(),
            arms: Vec::new(),
            timelines: Vec::new(),
            claims: Vec::new(),
            references: Vec::new(),
            sweeps: Vec::new(),
            sections: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// One arm of the experiment: the same settings under several seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Identifier in folders and files.
    pub name: String,
    /// Name for people.
    pub label: String,
    /// Teacher or student.
    pub kind: ArmKind,
    /// Heading under which tables list the arm (such as a student width); empty for none.
    #[serde(default)]
    pub group: String,
    /// One line: "width 20, lr 0.1, batch 32, tau 0, progressive every 100".
    #[serde(default)]
    pub settings: String,
    /// One per seed.
    pub runs: Vec<RunCurve>,
}

/// Whether an arm is the reference or a competitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArmKind {
    /// Drawn dashed, in ink.
    Teacher,
    /// Drawn in a colour of its own.
    Student,
}

/// One training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCurve {
    /// Its seed.
    pub seed: u64,
    /// Evaluations, in order of samples.
    pub points: Vec<CurvePoint>,
    /// Samples at which an accuracy was first reached ("0.6", "0.99"); `None` when it never was.
    #[serde(default)]
    pub samples_to: BTreeMap<String, Option<u64>>,
    /// Accuracy at the end.
    #[serde(deserialize_with = "null_is_nan")]
    pub final_accuracy: f64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Samples trained on: the budget of a run that did not reach a level.
    pub samples: u64,
    /// Duration.
    #[serde(default = "nan", deserialize_with = "null_is_nan")]
    pub wall_seconds: f64,
}

/// One evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Samples trained on so far.
    pub samples: u64,
    /// Steps so far.
    pub step: u64,
    /// Accuracy on held-out samples.
    #[serde(deserialize_with = "null_is_nan")]
    pub accuracy: f64,
    /// Held-out loss against the labels.
    #[serde(default = "nan", deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Step of the teacher checkpoint the student followed at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_step: Option<u64>,
}

/// Correlations along one teacher's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The teacher's seed.
    pub seed: u64,
    /// Checkpoints, in order.
    pub points: Vec<TimelinePoint>,
    /// The phase transition, when one was found.
    #[serde(default)]
    pub transition: Option<Transition>,
    /// The checkpoint recommended for (2,T)-distillation.
    #[serde(default)]
    pub recommended: Option<Recommended>,
    /// Checkpoints students learned from.
    #[serde(default)]
    pub used: Vec<UsedCheckpoint>,
}

/// One checkpoint of a [`Timeline`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimelinePoint {
    /// Steps so far.
    pub step: u64,
    /// Samples so far.
    pub samples: u64,
    /// The checkpoint's accuracy.
    #[serde(deserialize_with = "null_is_nan")]
    pub accuracy: f64,
    /// One per degree.
    pub degrees: Vec<DegreeCorrelation>,
}

/// Correlations of a checkpoint with monomials of one degree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DegreeCorrelation {
    /// Number of coordinates in the monomial.
    pub degree: u32,
    /// Mean |correlation| over subsets of the support.
    #[serde(deserialize_with = "null_is_nan")]
    pub in_support_mean_abs: f64,
    /// Largest |correlation| over subsets of the support.
    #[serde(deserialize_with = "null_is_nan")]
    pub in_support_max_abs: f64,
    /// Mean |correlation| over other subsets of equal size.
    #[serde(deserialize_with = "null_is_nan")]
    pub off_support_mean_abs: f64,
    /// Largest |correlation| over other subsets of equal size.
    #[serde(deserialize_with = "null_is_nan")]
    pub off_support_max_abs: f64,
    /// What the mean would be for no correlation at all, from sampling alone.
    #[serde(default = "nan", deserialize_with = "null_is_nan")]
    pub noise_floor: f64,
}

/// A teacher's phase transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// First sample inside.
    pub start_samples: u64,
    /// Last sample inside.
    pub end_samples: u64,
}

/// A recommended checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommended {
    /// Where it is.
    pub samples: u64,
    /// Why.
    pub reason: String,
}

/// A checkpoint that students learned from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedCheckpoint {
    /// Such as "early", "middle", "late".
    pub label: String,
    /// Where it is.
    pub samples: u64,
}

/// A claim and its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Identifier.
    pub name: String,
    /// The claim in words.
    pub statement: String,
    /// What came of it.
    pub verdict: Verdict,
    /// The measured quantity.
    #[serde(default)]
    pub value: Option<f64>,
    /// Its interval.
    #[serde(default)]
    pub interval: Option<[f64; 2]>,
    /// How it was judged, with the numbers.
    #[serde(default)]
    pub detail: String,
}

/// A published number beside ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The quantity.
    pub what: String,
    /// The paper's number.
    pub paper: String,
    /// Our number.
    pub ours: String,
}

/// A study over one setting, with the learning rate tuned for every arm and value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepTable {
    /// The setting, with its unit: "temperature tau".
    pub axis: String,
    /// The accuracy whose samples are counted: "0.99".
    #[serde(default = "headline")]
    pub level: String,
    /// Values, in order. They are drawn evenly spaced and named, so that 0 can stand beside 1e-4.
    pub values: Vec<SweepValue>,
}

/// One value of the setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepValue {
    /// The value as written in the spec.
    pub value: String,
    /// One per arm.
    pub cells: Vec<SweepCell>,
}

/// One arm at one value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepCell {
    /// The arm's label; equal labels share a line and a colour.
    pub arm: String,
    /// The learning rate that won, which `seeds` belong to.
    pub best_rate: f64,
    /// Every run at that rate.
    pub seeds: Vec<SeedReach>,
    /// Every rate tried, the best one included.
    #[serde(default)]
    pub tried: Vec<TriedRate>,
}

/// When one run reached the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedReach {
    /// Its seed.
    pub seed: u64,
    /// Samples to the level, or `None`.
    pub samples: Option<u64>,
    /// Samples trained on.
    pub budget: u64,
}

/// A learning rate that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TriedRate {
    /// The rate.
    pub rate: f64,
    /// Runs at this rate.
    pub runs: u32,
    /// Of them, how many reached the level.
    pub reached: u32,
    /// Median samples; `None` when half of the runs or fewer reached the level.
    #[serde(default)]
    pub median_samples: Option<f64>,
}

/// A further part of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// Paragraphs.
    #[serde(default)]
    pub text: Vec<String>,
    /// Figures; also written to files named after the section.
    #[serde(default)]
    pub figures: Vec<Figure>,
    /// Tables.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// Text whose spaces matter, such as a derivation tree.
    #[serde(default)]
    pub preformatted: Vec<String>,
}

/// A table of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Caption.
    #[serde(default)]
    pub caption: String,
    /// Column headings.
    pub columns: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
}

fn headline() -> String {
    "0.99".to_owned()
}

fn nan() -> f64 {
    f64::NAN
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_not_finite_survives_json() {
        let point =
            CurvePoint { samples: 1, step: 1, accuracy: 0.5, loss: f64::INFINITY, teacher_step: None };
        let json = serde_json::to_string(&point).unwrap();
        assert_eq!(json, r#"{"samples":1,"step":1,"accuracy":0.5,"loss":null}"#);
        let back: CurvePoint = serde_json::from_str(&json).unwrap();
        assert!(back.loss.is_nan() && back.accuracy == 0.5);
    }

    #[test]
    fn only_the_name_is_required() {
        let data: ReportData =
            serde_json::from_str(r#"{"format":1,"experiment":"x","scale":"quick"}"#).unwrap();
        assert_eq!(data.headline_level, "0.99");
        assert!(data.arms.is_empty());
    }
}
