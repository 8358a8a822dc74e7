//! The TOML file of an experiment as a person writes it. [`super::plan`] turns it into what is run.

use crate::claims::ClaimSpec;
use crate::family::transformer::OptimizerSpec;
use crate::train::checkpointing::CheckpointPolicy;
use crate::train::settings::StopRule;
use curricle_core::keys::{KeyError, Section};
use curricle_core::model::{Loss, MlpInit};
use curricle_core::optim::rate::RateSchedule;
use curricle_core::schedule::ScheduleSpec;
use curricle_core::target::{LabelMix, Target};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Why a spec was refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the spec {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key or a value of the wrong type. `detail` names line, key and what is allowed.
    #[error("{path}: {detail}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// From the TOML reader.
        detail: String,
    },
    /// A `--set` override cannot be applied.
    #[error("--set {argument}: {detail}")]
    Override {
        /// As given.
        argument: String,
        /// What is wrong.
        detail: String,
    },
    /// A value is out of range or two keys contradict each other.
    #[error("{path}: {key}: {detail}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong and what is allowed.
        detail: String,
    },
}

impl SpecError {
    /// A mistake in a section of the file `path`.
    pub fn of(path: &Path, error: KeyError) -> Self {
        let path = path.to_owned();
        match error {
            KeyError::Parse(detail) => Self::Parse { path, detail },
            KeyError::Value { key, detail } => Self::Value { path, key, detail },
        }
    }

    /// A mistake that overrides made.
    pub fn overridden(overrides: &[String], error: &KeyError) -> Self {
        Self::Override { argument: overrides.join(" --set "), detail: error.to_string() }
    }
}

/// A whole spec file.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpecFile {
    /// The TOML it was read from, overrides applied.
    #[serde(skip)]
    pub text: String,
    /// These overrides, `KEY=VALUE` each.
    #[serde(skip)]
    pub overrides: Vec<String>,
    /// Name of the experiment; the run folders are `<out>/<experiment>/<arm>/seed-<n>`.
    pub experiment: String,
    /// quick, medium, paper or a variant of these.
    pub scale: String,
    /// One paragraph for the report.
    #[serde(default)]
    pub description: String,
    /// Seeds; each draws its own support, samples and first weights.
    pub seeds: Vec<u64>,
    /// The coverage that an interval needs for a claim to pass or fail.
    #[serde(default = "default_confidence")]
    pub confidence: f64,
    /// What is learned, read by its kind.
    pub task: toml::Table,
    /// How accuracy is measured.
    pub evaluation: EvaluationSpec,
    /// The teacher to train; absent when every student names its own.
    pub teacher: Option<ArmSpec>,
    /// What every student arm shares unless it says otherwise.
    #[serde(default)]
    pub student: ArmSpec,
    /// Student arms by name, in the order of the report.
    #[serde(default)]
    pub arms: IndexMap<String, ArmSpec>,
    /// Every other section, by key: what is measured. [`super::plan::Plan`] reads and checks them.
    #[serde(flatten, skip_deserializing)]
    pub measurements: IndexMap<String, toml::Value>,
    /// An axis along which student arms are repeated.
    pub sweep: Option<SweepSpec>,
    /// A grid over which the students' learning rates are tuned, arm by arm.
    pub tune: Option<TuneSpec>,
    /// What the experiment claims, by name, judged on the recorded metrics.
    #[serde(default)]
    pub claims: IndexMap<String, ClaimSpec>,
    /// Numbers of the paper to print beside ours.
    #[serde(default)]
    pub references: Vec<ReferenceSpec>,
}

/// The keys of [`SpecFile`]; every other one is a measurement's.
pub(super) const KEYS: [&str; 14] = [
    "experiment",
    "scale",
    "description",
    "seeds",
    "confidence",
    "task",
    "evaluation",
    "teacher",
    "student",
    "arms",
    "sweep",
    "tune",
    "claims",
    "references",
];

fn default_confidence() -> f64 {
    0.9
}

/// Held-out evaluation.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSpec {
    /// Fresh samples the accuracy is measured on, the same for every arm of a seed.
    pub samples: usize,
    /// Training samples between evaluations.
    pub every_samples: u64,
    /// Accuracies whose first reaching is reported.
    #[serde(default = "default_levels")]
    pub levels: Vec<f64>,
}

fn default_levels() -> Vec<f64> {
    vec![0.6, 0.99]
}

/// Settings of a teacher or a student; what an arm leaves out comes from `[student]`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// Name in the report.
    pub label: Option<String>,
    /// An MLP: widths of the hidden layers, short for `model = { kind = "mlp", hidden = .. }`. Or
    pub hidden: Option<Vec<usize>>,
    /// a model of any family, by its `kind`.
    pub model: Option<toml::Table>,
    /// A transformer's optimiser.
    pub optimizer: Option<OptimizerSpec>,
    /// A transformer's step as so many micro-batches, for less memory.
    pub accumulate: Option<usize>,
    /// First weights.
    pub init: Option<MlpInit>,
    /// Samples per step.
    pub batch: Option<usize>,
    /// Length of the run in steps, or
    pub steps: Option<u64>,
    /// in samples.
    pub samples: Option<u64>,
    /// Peak learning rate.
    pub learning_rate: Option<f64>,
    /// Its schedule.
    pub schedule: Option<RateSchedule>,
    /// torch.optim.SGD's weight decay.
    pub weight_decay: Option<f64>,
    /// What is minimised.
    pub loss: Option<Loss>,
    /// Which checkpoints are kept.
    pub checkpoints: Option<CheckpointPolicy>,
    /// When to stop before the last step.
    pub stop: Option<StopRule>,
    /// The teacher to learn from; without it the arm learns from labels.
    pub distill: Option<DistillSpec>,
}

/// How a student learns from a teacher.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(from = "DistillKeys", into = "DistillKeys")]
pub struct DistillSpec {
    /// A teacher run's folder (`seed-<n>` below it is taken for each seed if there is one) or checkpoint files in
    /// order; default: this spec's teacher.
    pub teacher: Option<TeacherSpec>,
    /// Which checkpoint when.
    pub schedule: ScheduleSpec,
    /// What is learned from it.
    pub target: Target,
}

/// [`DistillSpec`] as it is written: the target's keys stand beside the others.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename = "DistillSpec", deny_unknown_fields)]
struct DistillKeys {
    teacher: Option<TeacherSpec>,
    schedule: ScheduleSpec,
    #[serde(default)]
    temperature: f64,
    #[serde(default)]
    label_mix: LabelMix,
}

impl From<DistillKeys> for DistillSpec {
    fn from(keys: DistillKeys) -> Self {
        let DistillKeys { teacher, schedule, temperature, label_mix } = keys;
        Self { teacher, schedule, target: Target { temperature, label_mix } }
    }
}

impl From<DistillSpec> for DistillKeys {
    fn from(spec: DistillSpec) -> Self {
        let DistillSpec { teacher, schedule, target: Target { temperature, label_mix } } = spec;
        Self { teacher, schedule, temperature, label_mix }
    }
}

/// Where the checkpoints of a teacher are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected a run folder or a list of checkpoint files")]
pub enum TeacherSpec {
    /// A run folder.
    Folder(PathBuf),
    /// Checkpoint files.
    Files(Vec<PathBuf>),
}

/// A key along whose values arms are repeated.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SweepSpec {
    /// What changes, as `--set` names it: below `student.` in every arm, below `arms.NAME.` in one.
    #[serde(default)]
    pub key: String,
    /// Its name in the names of runs and in the report; default: the last part of the key.
    pub label: Option<String>,
    /// Its values: numbers, lists of one number, or anything else with `numbers`.
    pub values: Vec<toml::Value>,
    /// The number that stands for each value in names, claims (`at`) and figures.
    pub numbers: Option<Vec<f64>>,
    /// Which arms are repeated; default: every arm the key means something to.
    pub arms: Option<Vec<String>>,
    /// What 0.1 had in place of `key`; refused with what to write.
    #[serde(skip_serializing)]
    axis: Option<String>,
}

impl SweepSpec {
    /// The name of what changes.
    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or_else(|| self.key.rsplit('.').next().unwrap_or(&self.key))
    }

    /// What to write in place of 0.1's `axis`, if it is there.
    pub fn outdated(&self) -> Option<String> {
        let now = match self.axis.as_deref()? {
            "temperature" => "key = \"student.distill.temperature\"",
            "width" => "key = \"student.hidden\", label = \"width\", values = [[10], [20], ..]",
            "batch" => "key = \"student.batch\" (and the length as samples, not steps, to keep their number)",
            _ => "key = \"..\", any key that --set takes",
        };
        Some(format!("an axis is now the key that changes: write {now}"))
    }
}

/// Learning rates tried for every student arm.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TuneSpec {
    /// The grid.
    pub learning_rate: Vec<f64>,
}

/// A number of the paper and the quantity of ours to print beside it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceSpec {
    /// What it is.
    pub what: String,
    /// The paper's number, as text.
    pub paper: String,
    /// Ours: median over seeds of samples to this level, ..
    pub level: Option<f64>,
    /// .. or, without a level, of the final accuracy of this arm.
    pub arm: String,
}

impl SpecFile {
    /// Reads a spec and applies `KEY=VALUE` overrides (`arms.ce.steps=1000`; values are TOML, bare words are strings).
    ///
    /// # Errors
    /// Names the file, the line and key, and what is allowed.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SpecError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text, overrides)
    }

    /// [`Self::read`] on text; `path` is only named in errors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Self, SpecError> {
        // The file by itself first, so that its mistakes are shown with their lines.
        let spec = Self::of_text(text).map_err(|e| SpecError::of(path, e))?;
        if overrides.is_empty() {
            return Ok(spec);
        }
        let mut table: toml::Table = text.parse().expect("it has just been read");
        for argument in overrides {
            apply_override(&mut table, argument)
                .map_err(|detail| SpecError::Override { argument: argument.clone(), detail })?;
        }
        let text = toml::to_string(&table).expect("a parsed table can be written");
        let spec = Self::of_text(&text).map_err(|e| SpecError::overridden(overrides, &e))?;
        Ok(Self { overrides: overrides.to_vec(), ..spec })
    }

    /// The document without overrides.
    fn of_text(text: &str) -> Result<Self, KeyError> {
        let mut document = Section::document(text)?;
        let others = document.names().into_iter().filter(|name| !KEYS.contains(&name.as_str()));
        let others: Vec<Section> = others.filter_map(|name| document.take(&name)).collect();
        let mut spec: Self = document.read()?;
        for section in others {
            spec.measurements.insert(section.key().to_owned(), section.read()?);
        }
        text.clone_into(&mut spec.text);
        Ok(spec)
    }
}

fn apply_override(table: &mut toml::Table, argument: &str) -> Result<(), String> {
    let (key, value) = argument.split_once('=').ok_or("expected KEY=VALUE, such as teacher.steps=1000")?;
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    set(table, key.trim(), value)
}

/// Sets one key path of a spec, such as `arms.ce.steps`; tables on the way are made.
///
/// # Errors
/// In words, if something on the way is no table.
pub fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    let parts: Vec<&str> = key.split('.').collect();
    let (last, path) = parts.split_last().expect("split gives at least one part");
    let mut table = table;
    for part in path {
        let entry = table.entry(*part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = entry.as_table_mut().ok_or_else(|| format!("{part} is not a table"))?;
    }
    table.insert((*last).to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SPEC: &str = r#"
        experiment = "e"
        scale = "quick"
        seeds = [1, 2]
        task = { kind = "parity", d = 10, k = 2 }
        evaluation = { samples = 100, every_samples = 50 }
        [teacher]
        hidden = [20]
        [arms.ce]
        [arms.two]
        distill = { schedule = { kind = "n-t", checkpoints = [{ accuracy = 0.8 }, "final"], duration = { teacher_99 = 0.5 } } }
        [claims.faster]
        kind = "samples-ratio"
        arm = "two"
        than = "ce"
        level = 0.99
        at_most = 0.5
    "#;

    fn parse(text: &str, overrides: &[&str]) -> Result<SpecFile, SpecError> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        SpecFile::parse(Path::new("a.toml"), text, &overrides)
    }

    #[test]
    fn overrides_change_values_and_are_checked() {
        let spec = parse(SPEC, &["teacher.batch=8", "arms.ce.hidden=[3, 4]", "task.support=first"]).unwrap();
        assert_eq!(spec.teacher.unwrap().batch, Some(8));
        assert_eq!(spec.arms["ce"].hidden, Some(vec![3, 4]));
        assert_eq!(spec.task["support"].as_str(), Some("first"));
        assert_eq!(spec.arms.keys().collect::<Vec<_>>(), ["ce", "two"]);
        for bad in ["teacher.bach=8", "teacher.batch=-1", "seeds.x=1", "nonsense"] {
            let error = parse(SPEC, &[bad]).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn keys_are_the_fields() {
        // Everything optional given, so that nothing is left out of the text.
        let more = "[sweep]\nkey = \"student.batch\"\nvalues = [1]\n[tune]\nlearning_rate = [1]\n[teacher]";
        let written = toml::to_string(&parse(&SPEC.replace("[teacher]", more), &[]).unwrap()).unwrap();
        let written: toml::Table = written.parse().unwrap();
        assert_eq!(written.keys().map(String::as_str).collect::<BTreeSet<_>>(), KEYS.into_iter().collect());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let unknown = parse(&SPEC.replace("hidden = [20]", "hiden = [20]"), &[]).unwrap_err().to_string();
        assert!(
            unknown.contains("line 8") && unknown.contains("hiden") && unknown.contains("`hidden`"),
            "{unknown}"
        );
        let typed = parse(&SPEC.replace("samples = 100", "samples = \"ten\""), &[]).unwrap_err().to_string();
        assert!(typed.contains("line 6"), "{typed}");
        let selector = parse(&SPEC.replace("\"final\"]", "\"finale\"]"), &[]).unwrap_err().to_string();
        assert!(selector.contains("teacher_99 = 0.5"), "{selector}");
    }
}
