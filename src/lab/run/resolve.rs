//! From a schedule as written to the checkpoints of an actual teacher.

use super::folder::{RunFolderError, open_read_only};
use super::spec::{DistillSpec, Duration, ScheduleSpec, Selector, SelectorName, TeacherSpec};
use crate::distill::teacher::TeacherCheckpoint;
use crate::family::Architecture;
use crate::measure::correlations::kept_recommendation;
use crate::train::member::Metric;
use curricle_core::distill::schedule::{Saturation, Schedule, Stage};
use curricle_files as files;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Accuracy at which a teacher counts as trained.
const SOLVED: f64 = 0.99;

/// Progressive distillation may have so many intervals.
const MOST_INTERVALS: f64 = 1e6;

/// A selected checkpoint may be this far from the accuracy asked for.
const ACCURACY_TOLERANCE: f64 = 0.15;

/// A teacher that has been trained.
#[derive(Debug, Clone)]
pub struct TeacherRun {
    /// Where it is, for messages.
    place: String,
    /// Checkpoints in order.
    checkpoints: Vec<Candidate>,
    /// Training samples when it first reached 99%.
    samples_99: Option<u64>,
    /// Step of the recommended checkpoint.
    recommended: Option<u64>,
}

#[derive(Debug, Clone)]
struct Candidate {
    path: PathBuf,
    step: Option<u64>,
    samples: Option<u64>,
    accuracy: Option<f64>,
}

impl TeacherRun {
    /// Reads a teacher's run folder; `batch` turns its steps into samples.
    ///
    /// # Errors
    /// If it is no run folder, has no checkpoints or cannot be read.
    pub fn of_folder(path: &Path, batch: usize, recommended: Option<u64>) -> Result<Self, RunFolderError> {
        let view = open_read_only(path)?;
        let metrics: Vec<Metric> = view.read_metrics()?;
        let checkpoints = view.require_checkpoints("teacher")?;
        let candidate = |(step, path): (u64, PathBuf)| Candidate {
            path,
            step: Some(step),
            samples: Some(step.saturating_mul(batch as u64)),
            accuracy: metrics.iter().find(|m| m.step == step).map(|m| m.accuracy),
        };
        Ok(Self {
            place: path.display().to_string(),
            checkpoints: checkpoints.into_iter().map(candidate).collect(),
            samples_99: metrics.iter().find(|m| m.accuracy >= SOLVED).map(|m| m.samples),
            recommended,
        })
    }

    /// A teacher named by the spec; of a folder with `seed-<n>` folders the one of `seed`.
    fn external(spec: &TeacherSpec, seed: u64) -> Result<Self, RunFolderError> {
        match spec {
            TeacherSpec::Folder(path) => {
                let of_seed = path.join(format!("seed-{seed}"));
                let folder = if of_seed.is_dir() { of_seed } else { path.clone() };
                let batch = batch_of(&folder)?;
                Self::of_folder(&folder, batch, kept_recommendation(&folder))
            }
            TeacherSpec::Files(files) => {
                let mut checkpoints = Vec::new();
                for path in files {
                    let step = files::step_of(path)?;
                    checkpoints.push(Candidate { path: path.clone(), step, samples: None, accuracy: None });
                }
                let place = "the list of checkpoint files".to_owned();
                Ok(Self { place, checkpoints, samples_99: None, recommended: None })
            }
        }
    }

    /// Index of the checkpoint a selector means, or why there is none.
    fn select(&self, selector: &Selector) -> Result<usize, String> {
        let all = &self.checkpoints;
        let closest = |distance: &dyn Fn(&Candidate) -> Option<f64>| {
            let known = all.iter().enumerate().filter_map(|(i, c)| Some((i, distance(c)?)));
            known.min_by(|a, b| a.1.total_cmp(&b.1))
        };
        let place = &self.place;
        match selector {
            Selector::Named(SelectorName::Final) => Ok(all.len() - 1),
            Selector::Named(SelectorName::Recommended) => {
                let step = self.recommended.ok_or_else(|| {
                    format!("no checkpoint of {place} is recommended: the spec needs [correlations], and the teacher a transition")
                })?;
                all.iter()
                    .position(|c| c.step == Some(step))
                    .ok_or_else(|| format!("{place}: the recommended checkpoint of step {step} is gone"))
            }
            Selector::Step(wanted) => all
                .iter()
                .position(|c| c.step.is_some_and(|s| s >= wanted.step))
                .ok_or_else(|| format!("{place} has no checkpoint at or after step {}", wanted.step)),
            Selector::Accuracy(wanted) => {
                // After the transition accuracies near 1 come again and again; before it is what is meant.
                let end = self.samples_99.unwrap_or(u64::MAX);
                let found = closest(&|c| {
                    c.samples.filter(|s| *s <= end)?;
                    Some((c.accuracy? - wanted.accuracy).abs())
                });
                match found {
                    Some((index, off)) if off <= ACCURACY_TOLERANCE => Ok(index),
                    Some((index, _)) => Err(format!(
                        "no checkpoint of {place} has an accuracy within {ACCURACY_TOLERANCE} of {}: the closest has {:.3}; keep more of them (checkpoints.transition_every_steps)",
                        wanted.accuracy,
                        all[index].accuracy.unwrap_or(f64::NAN)
                    )),
                    None => Err(format!("the accuracies of the checkpoints of {place} are not known")),
                }
            }
            Selector::Teacher99(wanted) => {
                let target = wanted.teacher_99 * self.samples_99()? as f64;
                let found = closest(&|c| Some((c.samples? as f64 - target).abs()));
                found
                    .map(|(i, _)| i)
                    .ok_or_else(|| format!("the steps of the checkpoints of {place} are not known"))
            }
        }
    }

    fn samples_99(&self) -> Result<u64, String> {
        self.samples_99.ok_or_else(|| format!("the teacher {} never reached 99%", self.place))
    }

    /// Samples a duration stands for.
    fn samples(&self, duration: &Duration, batch: usize) -> Result<u64, String> {
        Ok(match duration {
            Duration::Steps(d) => d.steps.saturating_mul(batch as u64),
            Duration::Samples(d) => d.samples,
            Duration::Teacher99(d) => (d.teacher_99 * self.samples_99()? as f64).round() as u64,
        })
    }

    /// Student steps a duration stands for, at least 1.
    fn steps(&self, duration: &Duration, batch: usize) -> Result<u64, String> {
        Ok((self.samples(duration, batch)? as f64 / batch as f64).round().max(1.0) as u64)
    }

    /// The schedule over this teacher's checkpoints, by their index here.
    fn schedule(&self, spec: &ScheduleSpec, batch: usize) -> Result<Schedule, String> {
        let select = |list: &[Selector]| list.iter().map(|s| self.select(s)).collect::<Result<Vec<_>, _>>();
        let stages = match spec {
            ScheduleSpec::OneShot => vec![Stage { checkpoint: self.checkpoints.len() - 1, steps: 1 }],
            ScheduleSpec::Sequence { checkpoints, durations } => {
                let chosen = select(checkpoints)?.into_iter().zip(durations);
                let stage = |(checkpoint, d)| Ok(Stage { checkpoint, steps: self.steps(d, batch)? });
                chosen.map(stage).collect::<Result<_, String>>()?
            }
            ScheduleSpec::NT { checkpoints, duration } => {
                let steps = self.steps(duration, batch)?;
                select(checkpoints)?.into_iter().map(|checkpoint| Stage { checkpoint, steps }).collect()
            }
            ScheduleSpec::Progressive { interval, speed } => {
                let steps = self.steps(interval, batch)?;
                self.progressive(steps, steps as f64 * batch as f64 * speed)?
            }
            ScheduleSpec::TillSaturation { checkpoints, window, min_gain, max_steps } => {
                let rule = Saturation { window: *window, min_gain: *min_gain, max_steps: *max_steps };
                let checkpoints = match checkpoints {
                    Some(list) => select(list)?,
                    None => (0..self.checkpoints.len()).collect(),
                };
                return Ok(Schedule::TillSaturation { checkpoints, rule });
            }
        };
        Ok(Schedule::Stages { stages })
    }

    /// Stage i follows the checkpoint closest to (i+1) x `stride` teacher samples, up to the final one.
    fn progressive(&self, steps: u64, stride: f64) -> Result<Vec<Stage>, String> {
        let known = || self.checkpoints.iter().map(|c| c.samples);
        let samples: Vec<u64> = known().collect::<Option<_>>().ok_or_else(|| {
            format!("{}: progressive distillation needs a teacher's run folder", self.place)
        })?;
        let last = *samples.last().expect("a teacher has checkpoints") as f64;
        let intervals = last / stride;
        if intervals > MOST_INTERVALS {
            return Err(format!(
                "{} would be followed for {intervals:.3e} intervals of {steps} steps; at most {MOST_INTERVALS:.0e} are supported: \
                 take a longer interval or a higher speed",
                self.place
            ));
        }
        let mut stages: Vec<Stage> = Vec::new();
        for i in 1.. {
            let target = stride * i as f64;
            let closest = (0..samples.len())
                .min_by(|&a, &b| {
                    (samples[a] as f64 - target).abs().total_cmp(&(samples[b] as f64 - target).abs())
                })
                .expect("a teacher has checkpoints");
            match stages.last_mut() {
                Some(stage) if stage.checkpoint == closest => {
                    stage.steps = stage.steps.saturating_add(steps);
                }
                _ => stages.push(Stage { checkpoint: closest, steps }),
            }
            if target >= last {
                return Ok(stages);
            }
        }
        unreachable!("the loop returns")
    }
}

/// Batch size in the spec of a run folder.
fn batch_of(folder: &Path) -> Result<usize, RunFolderError> {
    #[derive(Deserialize)]
    struct Spec {
        training: SpecTraining,
    }
    #[derive(Deserialize)]
    struct SpecTraining {
        batch: usize,
    }
    let text = open_read_only(folder)?.read_spec()?.unwrap_or_default();
    let spec: Spec = toml::from_str(&text).map_err(|e| RunFolderError::Content {
        path: folder.join("spec.toml"),
        line: None,
        detail: format!("a teacher's spec with training.batch is needed: {}", e.message()),
    })?;
    Ok(spec.training.batch)
}

/// All teacher checkpoints that the students of one seed use, each once.
#[derive(Debug, Default)]
pub struct Catalogue {
    checkpoints: Vec<TeacherCheckpoint>,
}

impl Catalogue {
    /// The checkpoints; schedules name them by their place.
    pub fn checkpoints(&self) -> &[TeacherCheckpoint] {
        &self.checkpoints
    }

    /// Resolves a schedule. The inner error says why this student cannot run (its teacher never got where the schedule
    /// points); the outer one stops the experiment.
    ///
    /// # Errors
    /// If the teacher's folder or files cannot be read or have another shape.
    pub fn resolve(
        &mut self,
        distill: &DistillSpec,
        own: Option<&TeacherRun>,
        seed: u64,
        batch: usize,
        model: &dyn Architecture,
    ) -> Result<Result<Schedule, String>, RunFolderError> {
        let external;
        let teacher = match (&distill.teacher, own) {
            (Some(spec), _) => {
                external = TeacherRun::external(spec, seed)?;
                &external
            }
            (None, Some(own)) => own,
            (None, None) => unreachable!("the plan was checked: there is a teacher"),
        };
        let schedule = match teacher.schedule(&distill.schedule, batch) {
            Ok(schedule) => schedule,
            Err(reason) => return Ok(Err(reason)),
        };
        let used = schedule.checkpoints();
        // One look at a foreign teacher before hours of training; the pool checks the others as it loads them.
        if distill.teacher.is_some() {
            let path = &teacher.checkpoints[used[0]].path;
            model.check_teacher(path)?;
        }
        let mut places = vec![0; teacher.checkpoints.len()];
        for index in used {
            let Candidate { path, step, .. } = &teacher.checkpoints[index];
            places[index] = match self.checkpoints.iter().position(|c| c.path == *path) {
                Some(place) => place,
                None => {
                    self.checkpoints.push(TeacherCheckpoint { step: *step, path: path.clone() });
                    self.checkpoints.len() - 1
                }
            };
        }
        Ok(Ok(schedule.renamed(|c| places[c])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::spec::{AccuracySelector, DurationSteps, StepSelector, Teacher99};

    /// Checkpoints every 100 steps of batch 4; transition at 300 to 600; 99% at step 600.
    fn teacher() -> TeacherRun {
        let accuracies = [0.5, 0.51, 0.6, 0.8, 0.93, 0.99, 1.0, 0.995];
        let candidate = |(i, accuracy): (usize, &f64)| {
            let step = 100 * (i as u64 + 1);
            let path = PathBuf::from(format!("{step}"));
            Candidate { path, step: Some(step), samples: Some(4 * step), accuracy: Some(*accuracy) }
        };
        TeacherRun {
            place: "t".into(),
            checkpoints: accuracies.iter().enumerate().map(candidate).collect(),
            samples_99: Some(2400),
            recommended: Some(400),
        }
    }

    #[test]
    fn selectors_choose_what_they_say() {
        let teacher = teacher();
        let select = |s: Selector| teacher.select(&s);
        assert_eq!(select(Selector::Named(SelectorName::Final)), Ok(7));
        assert_eq!(select(Selector::Named(SelectorName::Recommended)), Ok(3));
        assert_eq!(select(Selector::Step(StepSelector { step: 250 })), Ok(2));
        assert!(select(Selector::Step(StepSelector { step: 801 })).is_err());
        assert_eq!(select(Selector::Accuracy(AccuracySelector { accuracy: 0.85 })), Ok(3));
        // 0.995 after the transition is not meant.
        assert_eq!(select(Selector::Accuracy(AccuracySelector { accuracy: 0.996 })), Ok(5));
        assert_eq!(select(Selector::Teacher99(Teacher99 { teacher_99: 0.5 })), Ok(2));
    }

    #[test]
    fn progressive_follows_the_teacher_in_time() {
        let teacher = teacher();
        let stages = |interval, speed, batch| {
            let spec = ScheduleSpec::Progressive {
                interval: Duration::Steps(DurationSteps { steps: interval }),
                speed,
            };
            match teacher.schedule(&spec, batch).unwrap() {
                Schedule::Stages { stages } => {
                    stages.iter().map(|s| (s.checkpoint, s.steps)).collect::<Vec<_>>()
                }
                Schedule::TillSaturation { .. } => unreachable!(),
            }
        };
        let each: Vec<_> = (0..8).map(|i| (i, 100)).collect();
        assert_eq!(stages(100, 1.0, 4), each);
        assert_eq!(stages(200, 1.0, 4), [(1, 200), (3, 200), (5, 200), (7, 200)]);
        assert_eq!(stages(100, 4.0, 4), [(3, 100), (7, 100)]);
        // Half the batch: twice the steps for the same samples.
        assert_eq!(stages(200, 1.0, 2), (0..8).map(|i| (i, 200)).collect::<Vec<_>>());
        // Intervals shorter than the checkpoints are apart: the closest, the earlier one of two.
        assert_eq!(stages(50, 1.0, 4)[..2], [(0, 150), (1, 100)]);
    }

    #[test]
    fn intervals_without_end_and_durations_beyond_numbers_are_harmless() {
        let teacher = teacher();
        let progressive = |steps, speed| {
            let interval = Duration::Steps(DurationSteps { steps });
            teacher.schedule(&ScheduleSpec::Progressive { interval, speed }, 4)
        };
        // 3200 samples of the teacher in strides of 4e-4 and of 4e-3.
        let error = progressive(1, 1e-4).unwrap_err();
        assert!(error.contains("8.000e6 intervals"), "{error}");
        assert!(progressive(1, 1e-3).is_ok());
        assert!(progressive(1, 1e-320).is_err());
        assert!(progressive(u64::MAX, 1.0).is_ok());
    }

    #[test]
    fn a_teacher_that_never_learned_is_a_reason() {
        let teacher = TeacherRun { samples_99: None, ..teacher() };
        let spec = ScheduleSpec::NT {
            checkpoints: vec![Selector::Named(SelectorName::Final)],
            duration: Duration::Teacher99(Teacher99 { teacher_99: 0.5 }),
        };
        assert!(teacher.schedule(&spec, 4).unwrap_err().contains("never reached 99%"));
    }
}
