//! What a spec resolves to: every arm with every setting, checked.

pub use super::gather::TEACHER;
use super::spec::{
    self, ArmSpec, DistillSpec, EvaluationSpec, ReferenceSpec, SpecError, SpecFile, SweepSpec, TeacherSpec,
};
use super::sweep::{cells, repeats};
use super::task;
use crate::claims::{ClaimSpec, Facts};
use crate::family::{Architecture, ArmModel};
use crate::measure::{Measure, Setting};
use crate::registry::Registry;
use crate::train::settings::Training;
use curricle_core::keys::{KeyError, Section};
use curricle_core::schedule::{SAMPLES, STEPS};
use curricle_core::task::Task;
use indexmap::IndexMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A checked experiment.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The kinds of things its spec could name.
    pub registry: Registry,
    /// Name.
    pub experiment: String,
    /// Scale.
    pub scale: String,
    /// One paragraph.
    pub description: String,
    /// Seeds, distinct.
    pub seeds: Vec<u64>,
    /// The task.
    pub task: Arc<dyn Task>,
    /// Evaluation.
    pub evaluation: EvaluationSpec,
    /// The teacher.
    pub teacher: Option<Training>,
    /// Every student run of one seed: arms, repeated over the sweep and over the tuning grid.
    pub students: Vec<Student>,
    /// What is measured, by key.
    pub measures: IndexMap<String, Arc<dyn Measure>>,
    /// Name of the teacher's runs.
    pub teacher_run: String,
    /// Value of the sweep that the teacher belongs to.
    pub teacher_at: Option<f64>,
    /// The experiment at each value, where a sweep changes all of it; then `students` are those of all cells.
    pub cells: Vec<Plan>,
    /// Name of what the sweep changes, if there is one.
    pub axis: Option<String>,
    /// True when arms are repeated over learning rates.
    pub tuned: bool,
    /// Claims by name.
    pub claims: IndexMap<String, ClaimSpec>,
    /// The coverage that an interval needs for a verdict.
    pub confidence: f64,
    /// The paper's numbers.
    pub references: Vec<ReferenceSpec>,
    /// The spec with every default of its sections written out.
    pub spec_toml: String,
}

/// One student run of each seed.
#[derive(Debug, Clone)]
pub struct Student {
    /// Name of the run: the arm, and the value of the axis and the rate where they vary.
    pub name: String,
    /// The arm in the spec.
    pub arm: String,
    /// Value of the sweep axis.
    pub at: Option<f64>,
    /// Settings.
    pub training: Training,
    /// The teacher to follow; none for labels.
    pub distill: Option<DistillSpec>,
}

#[derive(Clone, Copy)]
struct Checker<'a> {
    path: &'a Path,
    /// The spec's text.
    text: &'a str,
    registry: &'a Registry,
}

impl Checker<'_> {
    fn fail<T>(&self, key: &str, detail: impl Into<String>) -> Result<T, SpecError> {
        Err(SpecError::Value { path: self.path.to_owned(), key: key.to_owned(), detail: detail.into() })
    }

    fn require(&self, holds: bool, key: &str, detail: impl Into<String>) -> Result<(), SpecError> {
        if holds { Ok(()) } else { self.fail(key, detail) }
    }

    /// A door's error with the name of the file.
    fn of(&self, error: KeyError) -> SpecError {
        SpecError::of(self.path, error)
    }
}

impl Plan {
    /// Resolves and checks a spec; `path` is named in errors and is what relative teacher paths refer to the
    /// working directory beside.
    ///
    /// # Errors
    /// Names the key, what is wrong and what is allowed.
    pub fn resolve(spec: SpecFile, path: &Path) -> Result<Self, SpecError> {
        Self::resolve_with(spec, path, &Registry::builtin())
    }

    /// [`Self::resolve`] against a user's own kinds of things as well.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_with(mut spec: SpecFile, path: &Path, registry: &Registry) -> Result<Self, SpecError> {
        let check = Checker { path, text: &spec.text, registry };
        for (key, name) in [("experiment", &spec.experiment), ("scale", &spec.scale)] {
            check_name(&check, key, name)?;
        }
        check.require(!spec.seeds.is_empty(), "seeds", "give at least one seed")?;
        let distinct: std::collections::HashSet<_> = spec.seeds.iter().collect();
        check.require(distinct.len() == spec.seeds.len(), "seeds", "a seed occurs twice")?;
        check.require(
            spec.confidence >= 0.5 && spec.confidence < 1.0,
            "confidence",
            "a coverage from 0.5 to below 1 is needed, such as 0.9",
        )?;
        let cells = match &spec.sweep {
            Some(sweep) => cells(&spec, sweep).or_else(|(key, detail)| check.fail(key, detail))?,
            None => None,
        };
        let cells = cells.into_iter().flatten().map(|(at, mut cell)| {
            cell.seeds.clone_from(&spec.seeds);
            let name = spec.sweep.as_ref().map_or("", SweepSpec::name);
            Ok(Self::resolve_with(cell, path, registry)?.cell(name, at))
        });
        let cells: Vec<Self> = cells.collect::<Result<_, SpecError>>()?;
        let task = task::of_spec(&spec.text, &registry.tasks, spec.seeds[0]).map_err(|e| check.of(e))?;
        let evaluation = &spec.evaluation;
        check.require(
            (1..=10_000_000).contains(&evaluation.samples),
            "evaluation.samples",
            "must be from 1 to 10000000",
        )?;
        check.require(evaluation.every_samples > 0, "evaluation.every_samples", "must be at least 1")?;
        check.require(
            evaluation.levels.iter().all(|l| *l > 0.0 && *l <= 1.0) && !evaluation.levels.is_empty(),
            "evaluation.levels",
            "accuracies above 0 and up to 1 are needed",
        )?;
        let teacher = match &spec.teacher {
            Some(arm) => {
                check.require(arm.distill.is_none(), "teacher.distill", "the teacher learns from labels")?;
                Some(training(&check, TEACHER, TEACHER, arm, &ArmSpec::default(), &spec, &*task)?)
            }
            None => None,
        };
        let mut students = Vec::new();
        for name in spec.arms.keys() {
            let key = format!("arms.{name}");
            check_name(&check, &key, name)?;
            check.require(
                name != TEACHER && name != "figures",
                &key,
                "this name is taken: call the arm something else",
            )?;
            let repeats = match &spec.sweep {
                Some(sweep) => {
                    repeats(&spec, sweep, name).or_else(|(key, detail)| check.fail(key, detail))?
                }
                None => None,
            };
            let mut found = Vec::new();
            match (repeats, &spec.sweep) {
                (Some(repeats), Some(sweep)) => {
                    for (at, spec) in &repeats {
                        let check = Checker { text: &spec.text, ..check };
                        let run = format!("{name}+{}-{at}", sweep.name());
                        found.push(student(&check, (name, run, Some(*at)), spec, &*task, teacher.as_ref())?);
                    }
                }
                _ => {
                    found.push(student(&check, (name, name.clone(), None), &spec, &*task, teacher.as_ref())?)
                }
            }
            students.extend(tuned(&check, found, &spec)?);
        }
        check.require(
            teacher.is_some() || !students.is_empty(),
            "arms",
            "the spec trains nothing: give a [teacher] or [arms.NAME]",
        )?;
        if !cells.is_empty() {
            // The runs of the experiment are those of its cells.
            students = cells.iter().flat_map(|cell| cell.students.clone()).collect();
        }
        let setting = Setting { task: &*task, seed: spec.seeds[0], teacher: teacher.is_some() };
        let measures = measures(&check, &spec, &setting)?;
        check_claims(&check, &spec, (&students, &cells), &measures)?;
        for reference in &spec.references {
            check.require(
                reference.arm == TEACHER || spec.arms.contains_key(&reference.arm),
                "references.arm",
                format!("there is no arm {:?}", reference.arm),
            )?;
        }
        spec.measurements = measures.iter().map(|(k, m)| (k.clone(), m.keys().into())).collect();
        let spec_toml = toml::to_string(&spec).map_err(|e| SpecError::Parse {
            path: path.to_owned(),
            detail: format!("the spec cannot be written as TOML: {e}"),
        })?;
        Ok(Self {
            spec_toml,
            confidence: spec.confidence,
            registry: registry.clone(),
            teacher_run: TEACHER.to_owned(),
            teacher_at: None,
            cells,
            axis: spec.sweep.as_ref().map(|s| s.name().to_owned()),
            tuned: spec.tune.is_some(),
            experiment: spec.experiment,
            scale: spec.scale,
            description: spec.description,
            seeds: spec.seeds,
            task,
            evaluation: spec.evaluation,
            teacher,
            students,
            measures,
            claims: spec.claims,
            references: spec.references,
        })
    }

    /// The largest level is the one that plots and tables are about, and by which tuned rates are chosen.
    pub fn headline(&self) -> f64 {
        self.evaluation.levels.iter().copied().fold(0.0, f64::max)
    }

    /// Turns a plan into the cell of a sweep over the whole experiment: its runs are named and marked by the value.
    fn cell(mut self, name: &str, at: f64) -> Self {
        let value = format!("{name}-{at}");
        self.teacher_run = format!("{TEACHER}+{value}");
        self.teacher_at = Some(at);
        for student in &mut self.students {
            student.name = match student.name.split_once('+') {
                Some((arm, rest)) => format!("{arm}+{value},{rest}"),
                None => format!("{}+{value}", student.name),
            };
            student.at = Some(at);
        }
        self
    }

    /// Accuracy of guessing.
    pub fn chance(&self) -> f64 {
        self.task.chance()
    }

    /// Where the runs of this experiment lie below `out`.
    pub fn root(&self, out: &Path) -> PathBuf {
        out.join(&self.experiment)
    }
}

fn check_name(check: &Checker, key: &str, name: &str) -> Result<(), SpecError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    check.require(
        !name.is_empty() && name.len() <= 80 && name.chars().all(good) && !name.starts_with('.'),
        key,
        format!("{name:?} is used as a folder name: letters, digits, '-', '_' and '.' only, up to 80"),
    )
}

/// Resolves one arm over its defaults.
fn training(
    check: &Checker,
    key: &str,
    name: &str,
    arm: &ArmSpec,
    defaults: &ArmSpec,
    spec: &SpecFile,
    task: &dyn Task,
) -> Result<Training, SpecError> {
    let at = |field: &str| format!("{key}.{field}");
    let missing = |field: &str, example: &str| -> SpecError {
        let place = if key == TEACHER { "" } else { " here or in [student]" };
        SpecError::Value {
            path: check.path.to_owned(),
            key: at(field),
            detail: format!("missing; set it{place}, such as {field} = {example}"),
        }
    };
    let batch = arm.batch.or(defaults.batch).ok_or_else(|| missing("batch", "32"))?;
    check.require((1..=1_000_000).contains(&batch), &at("batch"), "must be from 1 to 1000000")?;
    let steps = match (arm.steps, arm.samples, defaults.steps, defaults.samples) {
        (Some(_), Some(_), ..) | (None, None, Some(_), Some(_)) => {
            return check.fail(&at("steps"), "give steps or samples, not both");
        }
        (Some(steps), ..) | (None, None, Some(steps), None) => steps,
        (None, Some(samples), ..) | (None, None, None, Some(samples)) => samples.div_ceil(batch as u64),
        (None, None, None, None) => return Err(missing("steps", "10000")),
    };
    check.require(steps > 0, &at("steps"), "must be at least 1")?;
    check.require(steps < STEPS, &at("steps"), "must be below 2^50")?;
    check_samples(check, &at("steps"), steps, batch)?;
    let learning_rate = match (arm.learning_rate.or(defaults.learning_rate), &spec.tune) {
        (Some(rate), _) => rate,
        (None, Some(tune)) if key != TEACHER && !tune.learning_rate.is_empty() => tune.learning_rate[0],
        (None, _) => return Err(missing("learning_rate", "0.1")),
    };
    check.require(
        learning_rate.is_finite() && learning_rate > 0.0,
        &at("learning_rate"),
        format!("{learning_rate} is not a positive number"),
    )?;
    let weight_decay = arm.weight_decay.or(defaults.weight_decay).unwrap_or(0.0);
    check.require(
        weight_decay.is_finite() && weight_decay >= 0.0,
        &at("weight_decay"),
        format!("{weight_decay} is not a number from 0 on"),
    )?;
    let schedule = arm.schedule.or(defaults.schedule).unwrap_or_default();
    check.require(
        (0.0..1.0).contains(&schedule.warmup()),
        &at("schedule.warmup"),
        "a fraction from 0 to below 1 is needed",
    )?;
    let checkpoints = arm.checkpoints.clone().or(defaults.checkpoints.clone()).unwrap_or_default();
    for (field, value) in [
        ("every_steps", checkpoints.every_steps),
        ("transition_every_steps", checkpoints.transition_every_steps),
        ("log_spaced", checkpoints.log_spaced.map(u64::from)),
    ] {
        check.require(value != Some(0), &at(&format!("checkpoints.{field}")), "must be at least 1")?;
    }
    let stop = arm.stop.or(defaults.stop);
    if let Some(stop) = stop {
        check.require(
            stop.accuracy > 0.0 && stop.accuracy <= 1.0 && stop.evaluations > 0,
            &at("stop"),
            "an accuracy above 0 and up to 1 and at least one evaluation are needed",
        )?;
    }
    let (family, model) = model(check, key, arm, defaults, weight_decay, task)?;
    let label = arm.label.clone().unwrap_or_else(|| name.to_owned());
    Ok(Training {
        label,
        model,
        family,
        chance: task.chance(),
        batch,
        steps,
        learning_rate,
        schedule,
        evaluate_every: spec.evaluation.every_samples.div_ceil(batch as u64),
        checkpoints,
        stop,
    })
}

/// Refuses runs whose samples cannot be counted.
fn check_samples(check: &Checker, key: &str, steps: u64, batch: usize) -> Result<(), SpecError> {
    check.require(
        steps.checked_mul(batch as u64).is_some_and(|samples| samples < SAMPLES),
        key,
        format!("{steps} steps of {batch} samples are too many: samples must stay below 2^63"),
    )
}

/// The model of an arm and the place of its family.
fn model(
    check: &Checker,
    key: &str,
    arm: &ArmSpec,
    defaults: &ArmSpec,
    weight_decay: f64,
    task: &dyn Task,
) -> Result<(usize, Arc<dyn Architecture>), SpecError> {
    // What an arm says itself comes before what [student] says.
    let own = arm.hidden.is_some() || arm.model.is_some();
    let source = if own { arm } else { defaults };
    let text;
    let (kind, section) = match (&source.hidden, &source.model) {
        (Some(_), Some(_)) => {
            return check.fail(
                &format!("{key}.model"),
                "give hidden (an MLP) or model (one of any family), not both",
            );
        }
        (None, None) => {
            let place = if key == TEACHER { "" } else { " here or in [student]" };
            let example = "hidden = [100] (an MLP) or model = { kind = \"gpt2\", layers = 2, heads = 4 }";
            return check
                .fail(&format!("{key}.hidden"), format!("missing; set it{place}, such as {example}"));
        }
        (Some(hidden), None) => {
            text = format!("hidden = {hidden:?}");
            ("mlp".to_owned(), Section::named(key, &text).map_err(|e| check.of(e))?)
        }
        (None, Some(_)) => {
            let place: Vec<&str> = if own { key.split('.').collect() } else { vec!["student"] };
            let document = Section::document(check.text).map_err(|e| check.of(e))?;
            let mut section = place.iter().chain(&["model"]).try_fold(document, |mut s, k| s.take(k));
            let section = section.as_mut().expect("the spec was read from this text");
            let known = check.registry.families.kinds();
            (section.take_kind(&known).map_err(|e| check.of(e))?, section.clone())
        }
    };
    let Some((place, family)) = check.registry.families.of_kind(&kind) else {
        let known = check.registry.families.kinds().join(", ");
        return check.fail(&section.at("kind"), format!("there is no kind {kind:?}: use one of {known}"));
    };
    let arm = ArmModel {
        key,
        section,
        init: arm.init.or(defaults.init),
        loss: arm.loss.or(defaults.loss),
        optimizer: arm.optimizer.or(defaults.optimizer),
        accumulate: arm.accumulate.or(defaults.accumulate),
        weight_decay,
    };
    Ok((place, family.resolve(&kind, &arm, task).map_err(|e| check.of(e))?))
}

fn check_distill(
    check: &Checker,
    key: &str,
    distill: &DistillSpec,
    teacher: Option<&Training>,
    training: &Training,
) -> Result<(), SpecError> {
    let at = |field: &str| format!("{key}.{field}");
    match (&distill.teacher, teacher) {
        (Some(TeacherSpec::Files(files)), _) => {
            check.require(!files.is_empty(), &at("teacher"), "the list of checkpoint files is empty")?;
        }
        // What it is is seen when it is loaded.
        (Some(TeacherSpec::Folder(_)), _) => {}
        (None, Some(teacher)) => {
            training.model.follows(&*teacher.model).or_else(|detail| check.fail(key, detail))?;
        }
        (None, None) => {
            let detail =
                "there is no [teacher] in this spec: name a run folder or a list of checkpoint files";
            return check.fail(&at("teacher"), detail);
        }
    }
    distill.target.check(key, training.model.loss()).map_err(|e| check.of(e))?;
    distill.schedule.check(&at("schedule")).map_err(|e| check.of(e))
}

/// One student run: an arm of a spec, under the name of the run and at a value of the sweep.
fn student(
    check: &Checker,
    (arm, name, at): (&str, String, Option<f64>),
    spec: &SpecFile,
    task: &dyn Task,
    teacher: Option<&Training>,
) -> Result<Student, SpecError> {
    let key = format!("arms.{arm}");
    let keys = &spec.arms[arm];
    let training = training(check, &key, arm, keys, &spec.student, spec, task)?;
    let distill = keys.distill.clone().or_else(|| spec.student.distill.clone());
    if let Some(distill) = &distill {
        check_distill(check, &format!("{key}.distill"), distill, teacher, &training)?;
    }
    Ok(Student { name, arm: arm.to_owned(), at, training, distill })
}

/// Repeats students over the grid of learning rates.
fn tuned(check: &Checker, students: Vec<Student>, spec: &SpecFile) -> Result<Vec<Student>, SpecError> {
    let Some(tune) = &spec.tune else { return Ok(students) };
    let rates = &tune.learning_rate;
    check.require(
        !rates.is_empty() && rates.iter().all(|r| r.is_finite() && *r > 0.0),
        "tune.learning_rate",
        "a list of positive rates is needed",
    )?;
    let with = |student: Student| {
        rates.iter().map(move |&rate| {
            let mut tried = student.clone();
            let joint = if tried.at.is_some() { "," } else { "+" };
            tried.name = format!("{}{joint}lr-{rate}", tried.name);
            tried.training.learning_rate = rate;
            tried
        })
    };
    Ok(students.into_iter().flat_map(with).collect())
}

/// What the spec wants measured, in the order of the registry.
fn measures(
    check: &Checker,
    spec: &SpecFile,
    setting: &Setting<'_>,
) -> Result<IndexMap<String, Arc<dyn Measure>>, SpecError> {
    // The lines of a text that overrides have rewritten are not those of the file.
    let fail = |e: KeyError| match &e {
        KeyError::Parse(_) if !spec.overrides.is_empty() => SpecError::overridden(&spec.overrides, &e),
        _ => check.of(e),
    };
    let mut document = Section::document(check.text).map_err(fail)?;
    let mut found = IndexMap::new();
    let known = check.registry.measurements.keys();
    for key in spec.measurements.keys().filter(|key| !known.contains(&key.as_str())) {
        if let Some(section) = document.take(key) {
            let allowed: Vec<String> = spec::KEYS.iter().chain(&known).map(|k| format!("`{k}`")).collect();
            let detail = format!("unknown field `{key}`, expected one of {}", allowed.join(", "));
            return Err(fail(section.refuse(detail)));
        }
    }
    for measurement in check.registry.measurements.iter() {
        if let Some(section) = document.take(measurement.key()) {
            found.insert(measurement.key().to_owned(), measurement.resolve(section, setting).map_err(fail)?);
        }
    }
    Ok(found)
}

fn check_claims(
    check: &Checker,
    spec: &SpecFile,
    (students, cells): (&[Student], &[Plan]),
    measures: &IndexMap<String, Arc<dyn Measure>>,
) -> Result<(), SpecError> {
    let arm = |arm: &str, at: Option<f64>| {
        if arm == TEACHER {
            return spec.teacher.is_some() && (cells.is_empty() || cells.iter().any(|c| c.teacher_at == at));
        }
        // An arm outside the sweep has no value of the axis and stands for itself.
        students.iter().any(|s| s.arm == arm && (s.at.is_none() || s.at == at))
    };
    let facts = Facts { teacher: spec.teacher.is_some(), arm: &arm, measures, claims: &spec.claims };
    for (name, claim) in &spec.claims {
        claim.check(name, &facts).or_else(|detail| check.fail(&format!("claims.{name}"), detail))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"
        experiment = "e"
        scale = "quick"
        seeds = [1, 2]
        task = { kind = "parity", d = 10, k = 2 }
        evaluation = { samples = 100, every_samples = 50 }
        [teacher]
        hidden = [20]
        batch = 4
        steps = 10
        learning_rate = 0.1
        [student]
        hidden = [5]
        batch = 3
        samples = 1000
        learning_rate = 0.1
        [arms.ce]
        [arms.one-shot]
        distill = { schedule = { kind = "one-shot" } }
    "#;

    fn resolve(extra: &str, overrides: &[&str]) -> Result<Plan, SpecError> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        let path = Path::new("a.toml");
        Plan::resolve(SpecFile::parse(path, &format!("{SPEC}{extra}"), &overrides)?, path)
    }

    #[test]
    fn arms_inherit_from_student_and_repeat_over_sweep_and_grid() {
        let plan = resolve(
            "[sweep]\nkey = \"student.distill.temperature\"\nvalues = [0, 1e-4]\n[tune]\nlearning_rate = [0.1, 0.3]",
            &[],
        )
        .unwrap();
        let names: Vec<&str> = plan.students.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "ce+lr-0.1",
                "ce+lr-0.3",
                "one-shot+temperature-0,lr-0.1",
                "one-shot+temperature-0,lr-0.3",
                "one-shot+temperature-0.0001,lr-0.1",
                "one-shot+temperature-0.0001,lr-0.3",
            ]
        );
        let student = &plan.students[5];
        assert_eq!(student.training.steps, 334);
        assert_eq!(student.training.evaluate_every, 17);
        assert_eq!(student.training.learning_rate, 0.3);
        assert_eq!(student.distill.as_ref().unwrap().target.temperature, 1e-4);
    }

    #[test]
    fn sweeps_take_any_key_of_students() {
        let names = |sweep: &str| -> Vec<String> {
            let plan = resolve(&format!("[sweep]\n{sweep}"), &[]).unwrap();
            plan.students.into_iter().map(|s| s.name).collect()
        };
        assert_eq!(
            names("key = \"student.hidden\"\nlabel = \"width\"\nvalues = [[3], [4]]\narms = [\"ce\"]"),
            ["ce+width-3", "ce+width-4", "one-shot"]
        );
        assert_eq!(
            names("key = \"arms.one-shot.weight_decay\"\nvalues = [0.1]"),
            ["ce", "one-shot+weight_decay-0.1"]
        );
        let plan = resolve("[sweep]\nkey = \"task.d\"\nvalues = [10, 12]", &[]).unwrap();
        let d = |cell: &Plan| cell.task.boolean(1).unwrap().d();
        assert_eq!(plan.cells.iter().map(d).collect::<Vec<_>>(), [10, 12]);
        assert_eq!(plan.cells[1].teacher_run, "teacher+d-12");
        let runs: Vec<&str> = plan.students.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(runs, ["ce+d-10", "one-shot+d-10", "ce+d-12", "one-shot+d-12"]);
        for (sweep, key, says) in [
            ("axis = \"temperature\"\nvalues = [1]", "sweep.axis", "student.distill.temperature"),
            ("key = \"seeds\"\nvalues = [1]", "sweep.key", "student."),
            ("key = \"student.hiden\"\nvalues = [1]", "sweep", "hiden"),
            ("key = \"student.batch\"\nvalues = [\"x\"]", "sweep.values", "number"),
            (
                "key = \"student.distill.temperature\"\nvalues = [1]\narms = [\"ce\"]",
                "sweep.arms",
                "learns from labels",
            ),
        ] {
            match resolve(&format!("[sweep]\n{sweep}"), &[]) {
                Err(SpecError::Value { key: found, detail, .. }) => {
                    assert_eq!(found, key, "{sweep}");
                    assert!(detail.contains(says), "{detail}");
                }
                other => panic!("{sweep}: {:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn models_are_named_by_kind_and_their_mistakes_by_line() {
        let width = |set: &str| resolve("", &[set]).map(|p| p.teacher.unwrap().model.label());
        assert_eq!(width("teacher.hidden=[7]").unwrap(), "width 7");
        let model = "teacher={model={kind=\"mlp\", hidden=[9]}, batch=1, steps=1, learning_rate=1.0}";
        assert_eq!(width(model).unwrap(), "width 9");
        let error = width(&model.replace("hidden", "hiden")).unwrap_err().to_string();
        assert!(error.contains("line") && error.contains("`hiden`") && error.contains("`hidden`"), "{error}");
        let error = width(&model.replace("mlp", "cnn")).unwrap_err().to_string();
        assert!(error.contains("teacher.model.kind") && error.contains("gpt2"), "{error}");
    }

    #[test]
    fn a_batch_sweep_keeps_the_number_of_samples() {
        let plan = resolve("[sweep]\nkey = \"student.batch\"\nvalues = [1, 10]", &[]).unwrap();
        let steps: Vec<u64> = plan.students.iter().map(|s| s.training.steps).collect();
        assert_eq!(steps, [1000, 100, 1000, 100]);
    }

    #[test]
    fn measurements_on_grammars_are_bounded() {
        let text = r#"
            experiment = "e"
            scale = "quick"
            seeds = [1]
            task = { kind = "pcfg", grammar = "cfg3b", start = "15", objective = "masked" }
            evaluation = { samples = 100, every_samples = 50 }
            ngrams = { sentences = 5 }
            nonterminals = { train = 5, test = 5 }
            [teacher]
            model = { kind = "bert", layers = 1, heads = 1 }
            batch = 4
            steps = 10
            learning_rate = 0.1
        "#;
        let path = Path::new("a.toml");
        let resolve = |set: &str| {
            Plan::resolve(SpecFile::parse(path, text, &[set.to_owned()]).expect("a readable spec"), path)
        };
        assert!(resolve("ngrams.every=7").is_ok());
        for (set, key) in [
            ("ngrams.sentences=1000001", "ngrams.sentences"),
            ("ngrams.every=0", "ngrams.every"),
            ("ngrams.sizes=[1]", "ngrams.sizes"),
            ("nonterminals.train=9000000000000000000", "nonterminals.train"),
            ("nonterminals.test=0", "nonterminals.test"),
            ("nonterminals.penalty=-1", "nonterminals.penalty"),
            ("teacher.model.positions=27", "teacher.model"),
        ] {
            match resolve(set) {
                Err(SpecError::Value { key: found, .. }) => assert_eq!(found, key, "{set}"),
                other => panic!("{set}: {:?}", other.map(|_| ())),
            }
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        for (set, key) in [
            ("task.k=11", "task.k"),
            ("task.support=[1, 10]", "task.support"),
            ("task.classes=4", "task.classes"),
            ("teacher.learning_rate=-0.1", "teacher.learning_rate"),
            ("teacher.learning_rate=nan", "teacher.learning_rate"),
            ("student.weight_decay=-1", "arms.ce.weight_decay"),
            ("student.batch=0", "arms.ce.batch"),
            ("student.hidden=[]", "arms.ce.hidden"),
            ("student.hidden=[0]", "arms.ce.hidden"),
            ("student.init=symmetric", "arms.ce.init"),
            ("student.steps=5", "arms.ce.steps"),
            ("arms.one-shot.distill.temperature=-1", "arms.one-shot.distill.temperature"),
            ("arms.one-shot.distill.label_mix=1.5", "arms.one-shot.distill.label_mix"),
            ("arms.one-shot.distill.teacher=[]", "arms.one-shot.distill.teacher"),
            ("seeds=[]", "seeds"),
            ("seeds=[1, 1]", "seeds"),
            ("experiment=../x", "experiment"),
            (
                "teacher={hidden=[20], batch=1000000, steps=1000000000000000, learning_rate=0.1}",
                "teacher.steps",
            ),
            (
                "arms.one-shot.distill.schedule={kind=\"progressive\", interval={steps=9000000000000000}}",
                "arms.one-shot.distill.schedule.interval",
            ),
            (
                "arms.one-shot.distill.schedule={kind=\"n-t\", checkpoints=[\"final\"], duration={teacher_99=-1.0}}",
                "arms.one-shot.distill.schedule.duration",
            ),
            (
                "arms.one-shot={model={kind=\"gpt2\", layers=1, heads=1}, distill={schedule={kind=\"one-shot\"}}}",
                "arms.one-shot.distill",
            ),
            ("evaluation.every_samples=0", "evaluation.every_samples"),
            ("claims.a={kind=\"reaches\", arm=\"x\", level=0.5, at_least=1.0}", "claims.a"),
        ] {
            match resolve("", &[set]) {
                Err(SpecError::Value { key: found, .. }) => assert_eq!(found, key, "{set}"),
                other => panic!("{set}: {:?}", other.map(|_| ())),
            }
        }
        // Keys of another kind of task are refused with their line.
        match resolve("", &["task.grammar=cfg3b"]) {
            Err(SpecError::Parse { detail, .. }) => {
                assert!(detail.contains("line") && detail.contains("`grammar`"), "{detail}");
            }
            other => panic!("{:?}", other.map(|_| ())),
        }
        assert!(matches!(resolve("", &["arms.ce.learning_rat=1"]), Err(SpecError::Override { .. })));
    }
}
