//! Measurements of runs: each owns a key of the spec, its checks, how it measures, what it keeps in the run folder,
//! its part of the report, and the numbers that claims can be about.
//!
//! A spec names a measurement by a section of its key. [`Measurement::resolve`] reads and checks the section, and the
//! [`Measure`] it gives is asked once for every teacher (before the students start) or for every finished run (after
//! all of them). What it finds is a JSON value; everything else (claims, figures, tables) is made of these values.
//!
//! To add one: a file here and a line in [`Measurements::builtin`]. One of another crate goes to
//! [`crate::registry::Registry::measurement`] and works the same way.

mod context;
pub mod correlations;
mod curve;
mod ngrams;
mod nonterminals;
mod optimum;

pub use context::{AtCheckpoint, MeasureContext, MeasureError};
pub use curve::{Curve, curve_section};
pub use optimum::{Optimum, optimum};

use crate::run::gather::{RunRecord, UsedCheckpoints};
use curricle_core::keys::{KeyError, Section};
use curricle_core::task::Task;
use curricle_report::data::ReportData;
use serde_json::Value;
use std::fmt::Debug;
use std::sync::Arc;

/// A kind of measurement.
pub trait Measurement: Debug + Send + Sync {
    /// The top-level key of the spec whose section asks for it; also the name of the file in run folders, `<key>.json`.
    fn key(&self) -> &'static str;

    /// Reads and checks the section.
    ///
    /// # Errors
    /// Names the key, what is wrong and what is allowed.
    fn resolve(&self, section: Section<'_>, setting: &Setting<'_>) -> Result<Arc<dyn Measure>, KeyError>;
}

/// The measurements there are.
#[derive(Debug, Clone)]
pub struct Measurements(Vec<Arc<dyn Measurement>>);

impl Default for Measurements {
    fn default() -> Self {
        Self::builtin()
    }
}

impl Measurements {
    /// Those that curricle brings, in the order in which they are made and shown.
    pub fn builtin() -> Self {
        Self(vec![
            Arc::new(correlations::CorrelationMeasurement),
            Arc::new(ngrams::NgramMeasurement),
            Arc::new(nonterminals::NonterminalMeasurement),
        ])
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, measurement: impl Measurement + 'static) -> Self {
        self.0.push(Arc::new(measurement));
        self
    }

    /// The keys of all of them.
    pub fn keys(&self) -> Vec<&'static str> {
        self.iter().map(Measurement::key).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Measurement> {
        self.0.iter().map(|m| &**m)
    }
}

/// The experiment a measurement is asked for in.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// What is learned.
    pub task: &'a dyn Task,
    /// A seed to look at the task with, where it depends on one.
    pub seed: u64,
    /// Whether the spec trains a teacher.
    pub teacher: bool,
}

/// What is measured, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The checkpoints of each seed's teacher, as soon as it is trained.
    TeacherCheckpoints,
    /// Every finished run, after the students.
    FinalModels,
}

/// A measurement with its settings.
pub trait Measure: Debug + Send + Sync {
    /// What is measured, and when.
    fn subject(&self) -> Subject;

    /// The section with every default written out.
    fn keys(&self) -> toml::Table;

    /// Measures one run; what is found is kept in its folder and not measured again. `None` if it was ended early.
    ///
    /// # Errors
    /// If the folder or a checkpoint cannot be read, a model cannot be measured, or the result cannot be kept.
    fn measure(&self, context: &MeasureContext<'_>) -> Result<Option<Value>, MeasureError>;

    /// The step of the checkpoint that `"recommended"` means, if this measurement recommends one.
    fn recommended(&self, _value: &Value) -> Option<u64> {
        None
    }

    /// Names of the numbers that claims can be about.
    fn quantities(&self) -> Vec<String> {
        vec![]
    }

    /// One of these numbers of one run; `None` where it does not exist (no peak in a flat curve, say).
    fn evidence(&self, _value: &Value, _quantity: &str) -> Option<f64> {
        None
    }

    /// Adds what was found to a report: sections with figures and tables.
    fn report(&self, _found: &[Measured], _shown: &Shown<'_>, _report: &mut ReportData) {}
}

/// What was found in one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Seed.
    pub seed: u64,
    /// Name of the run.
    pub run: String,
    /// What [`Measure::measure`] gave.
    pub value: Value,
}

/// What a report shows besides measurements.
#[derive(Debug, Clone)]
pub struct Shown<'a> {
    /// The first seed of the plan, whose curves are shown where one seed has to do.
    pub seed: Option<u64>,
    /// Samples per step of the teacher.
    pub teacher_batch: u64,
    /// Names of runs with their labels: students in the order of the plan.
    pub students: Vec<(String, String)>,
    /// Every run.
    pub runs: &'a [RunRecord],
    /// Teacher checkpoints that students followed.
    pub used: &'a [UsedCheckpoints],
    /// The first of the two checkpoints of (2, T) students of the first seed.
    pub first_checkpoints: Vec<u64>,
}

impl Shown<'_> {
    /// The teacher's run of a seed.
    pub fn teacher(&self, seed: u64) -> Option<&RunRecord> {
        self.runs.iter().find(|r| r.is_teacher() && r.seed == seed)
    }
}

#[cfg(test)]
mod tests;
