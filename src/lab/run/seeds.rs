//! The runs of one or several seeds: teachers, their correlations, then all students, grouped as the device likes it.

use super::failure::RunError;
use super::gather::{RunRecord, Status, UsedCheckpoints};
use super::group::{Group, Part, Ready, SeedLane, folder_path};
use super::options::Options;
use super::plan::{Plan, Student, TEACHER};
use super::resolve::{Catalogue, TeacherRun};
use super::run_spec::{RunDistill, RunSpec};
use crate::distill::teacher::TeacherCheckpoint;
use crate::measure::{self, Measure, MeasureContext, MeasureError, Measured, Optimum, Subject};
use crate::train::member::Supervision;
use crate::train::settings::Training;
use curricle_core::schedule::Schedule;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// What came of one seed.
#[derive(Default)]
pub(super) struct SeedResults {
    pub runs: Vec<RunRecord>,
    pub measured: IndexMap<String, Vec<Measured>>,
    pub used: Vec<UsedCheckpoints>,
    pub optimum: Option<Optimum>,
    /// It was ended before all was done.
    pub interrupted: bool,
}

/// Seeds that run together. The CPU takes them one by one, each with its own threads; a GPU trains those of one shape
/// in the same dispatches.
pub(super) struct SeedsRun<'a> {
    pub plan: &'a Plan,
    pub options: &'a Options<'a>,
    pub seeds: &'a [u64],
    pub threads: usize,
}

/// One seed on its way.
struct Seed {
    seed: u64,
    results: SeedResults,
    teacher: Option<TeacherRun>,
    /// Checkpoints its students follow.
    checkpoints: Vec<TeacherCheckpoint>,
    /// Its students are to run.
    goes_on: bool,
}

/// Held-out samples the optimum is computed on.
const OPTIMUM_SAMPLES: usize = 500;

impl SeedsRun<'_> {
    /// Results in the order of the seeds.
    pub fn run(&self) -> Result<Vec<SeedResults>, RunError> {
        let mut seeds: Vec<Seed> = self.seeds.iter().map(|&seed| self.seed(seed)).collect();
        if let Some(training) = &self.plan.teacher {
            self.teachers(training, &mut seeds)?;
        }
        if seeds.iter().any(|s| s.goes_on) {
            match self.cancelled() {
                true => seeds.iter_mut().for_each(|s| s.results.interrupted = true),
                false => self.students(&mut seeds)?,
            }
        }
        // In the order of the plan, whichever group they were in.
        let order = |r: &RunRecord| self.plan.students.iter().position(|s| s.name == r.name);
        Ok(seeds
            .into_iter()
            .map(|mut seed| {
                seed.results.runs.sort_by_key(order);
                seed.results
            })
            .collect())
    }

    fn cancelled(&self) -> bool {
        self.options.cancel.load(Ordering::Relaxed)
    }

    fn seed(&self, seed: u64) -> Seed {
        let results = SeedResults::default();
        Seed { seed, results, teacher: None, checkpoints: vec![], goes_on: true }
    }

    fn folder_path(&self, name: &str, seed: u64) -> PathBuf {
        folder_path(&self.options.out, &self.plan.experiment, name, seed)
    }

    /// Trains the teachers, measures them, and decides whose students can run.
    fn teachers(&self, training: &Training, seeds: &mut [Seed]) -> Result<(), RunError> {
        let ready = seeds
            .iter()
            .enumerate()
            .map(|(lane, seed)| Ready {
                lane,
                name: &self.plan.teacher_run,
                arm: TEACHER,
                at: self.plan.teacher_at,
                training,
                supervision: Supervision::Labels,
                spec: RunSpec::new(self.plan, &self.plan.teacher_run, TEACHER, seed.seed, training).to_toml(),
            })
            .collect();
        let records = self.group(training.family, Part::Teacher, ready, seeds)?;
        for (seed, record) in seeds.iter_mut().zip(records) {
            let status = record.status;
            seed.results.runs.push(record);
            if status == Status::Finished {
                let folder = self.folder_path(&self.plan.teacher_run, seed.seed);
                self.optimum(&folder, &mut seed.results, seed.seed)?;
                let recommended = self.measure(Subject::TeacherCheckpoints, &self.plan.teacher_run, seed)?;
                seed.teacher = Some(TeacherRun::of_folder(&folder, training.batch, recommended)?);
                continue;
            }
            seed.goes_on = false;
            if self.cancelled() {
                continue;
            }
            let reason = match status {
                Status::Diverged => "its teacher diverged",
                _ => "its teacher was interrupted",
            };
            for student in &self.plan.students {
                let skipped = self.skip(student, seed.seed, reason);
                seed.results.runs.push(skipped);
            }
        }
        Ok(())
    }

    fn students(&self, seeds: &mut [Seed]) -> Result<(), RunError> {
        let root = self.plan.root(&self.options.out);
        // By family, then by batch size.
        let mut groups: BTreeMap<(usize, usize), Vec<Ready>> = BTreeMap::new();
        for (lane, seed) in seeds.iter_mut().enumerate().filter(|(_, s)| s.goes_on) {
            let mut catalogue = Catalogue::default();
            let mut resolved: Vec<(&Student, Option<Schedule>)> = Vec::new();
            for student in &self.plan.students {
                let training = &student.training;
                let Some(distill) = &student.distill else {
                    resolved.push((student, None));
                    continue;
                };
                let found = catalogue.resolve(
                    distill,
                    seed.teacher.as_ref(),
                    seed.seed,
                    training.batch,
                    &*training.model,
                )?;
                match found {
                    Ok(schedule) => resolved.push((student, Some(schedule))),
                    Err(reason) => {
                        let skipped = self.skip(student, seed.seed, &reason.to_string());
                        seed.results.runs.push(skipped);
                    }
                }
            }
            seed.checkpoints = catalogue.checkpoints().to_vec();
            for (student, schedule) in resolved {
                let training = &student.training;
                let mut run = RunSpec::new(self.plan, &student.name, &student.arm, seed.seed, training);
                let mut supervision = Supervision::Labels;
                if let (Some(schedule), Some(distill)) = (schedule, &student.distill) {
                    run.distill = Some(RunDistill::new(distill.target, &schedule, &seed.checkpoints, &root));
                    let steps: Vec<Option<u64>> = seed.checkpoints.iter().map(|c| c.step).collect();
                    let used = schedule.checkpoints().iter().filter_map(|&c| steps[c]).collect();
                    let run = student.name.clone();
                    seed.results.used.push(UsedCheckpoints { run, seed: seed.seed, steps: used });
                    supervision = Supervision::Teacher { schedule, target: distill.target, steps };
                }
                groups.entry((training.family, training.batch)).or_default().push(Ready {
                    lane,
                    name: &student.name,
                    arm: &student.arm,
                    at: student.at,
                    training,
                    supervision,
                    spec: run.to_toml(),
                });
            }
        }
        for ((family, _), group) in groups {
            let lanes: Vec<usize> = group.iter().map(|r| r.lane).collect();
            let records = self.group(family, Part::Student, group, seeds)?;
            for (lane, record) in lanes.into_iter().zip(records) {
                seeds[lane].results.runs.push(record);
            }
        }
        self.finals(seeds)
    }

    /// The most any model can reach.
    fn optimum(&self, folder: &Path, results: &mut SeedResults, seed: u64) -> Result<(), RunError> {
        let samples = self.plan.evaluation.samples.min(OPTIMUM_SAMPLES);
        let found = measure::optimum(folder, &*self.plan.task, seed, samples);
        results.optimum = found.map_err(|cause| measure_failed("optimum", seed, cause))?;
        Ok(())
    }

    /// Makes the measurements of one run; gives the step they recommend, if any does. Those that were ended early are
    /// left out.
    fn measure(&self, subject: Subject, run: &str, seed: &mut Seed) -> Result<Option<u64>, RunError> {
        let mut recommended = None;
        for (key, measure) in self.measures(subject) {
            let context = MeasureContext {
                key,
                folder: &self.folder_path(run, seed.seed),
                run,
                seed: seed.seed,
                task: &*self.plan.task,
                families: &self.plan.registry.families,
                device: &self.options.device,
                threads: self.threads,
                cancel: self.options.cancel,
                note: &|text| self.options.observer.note(&format!("seed {}: {text}", seed.seed)),
            };
            let found = measure.measure(&context).map_err(|cause| measure_failed(key, seed.seed, cause))?;
            let Some(value) = found else {
                seed.results.interrupted = true;
                continue;
            };
            recommended = recommended.or(measure.recommended(&value));
            let measured = Measured { seed: seed.seed, run: run.to_owned(), value };
            seed.results.measured.entry(key.to_owned()).or_default().push(measured);
        }
        Ok(recommended)
    }

    fn measures(&self, subject: Subject) -> impl Iterator<Item = (&str, &dyn Measure)> {
        let all = self.plan.measures.iter().map(|(key, measure)| (key.as_str(), &**measure));
        all.filter(move |(_, measure)| measure.subject() == subject)
    }

    /// Measures every finished run.
    fn finals(&self, seeds: &mut [Seed]) -> Result<(), RunError> {
        if self.measures(Subject::FinalModels).next().is_none() {
            return Ok(());
        }
        for seed in seeds.iter_mut().filter(|s| s.goes_on) {
            let finished = |r: &&RunRecord| r.status == Status::Finished;
            let names: Vec<String> =
                seed.results.runs.iter().filter(finished).map(|r| r.name.clone()).collect();
            for name in names {
                if self.cancelled() {
                    seed.results.interrupted = true;
                    return Ok(());
                }
                self.measure(Subject::FinalModels, &name, seed)?;
            }
        }
        Ok(())
    }

    /// Trains runs of one family, part and batch size side by side and reads back what they recorded.
    fn group(
        &self,
        family: usize,
        part: Part,
        ready: Vec<Ready<'_>>,
        seeds: &[Seed],
    ) -> Result<Vec<RunRecord>, RunError> {
        let lane = |seed: &Seed| SeedLane { seed: seed.seed, teacher: seed.checkpoints.clone() };
        self.plan.registry.families.at(family).train(&Group {
            experiment: &self.plan.experiment,
            options: self.options,
            task: &*self.plan.task,
            evaluation_samples: self.plan.evaluation.samples,
            threads: self.threads,
            part,
            lanes: seeds.iter().map(lane).collect(),
            ready,
        })
    }

    fn skip(&self, student: &Student, seed: u64, reason: &str) -> RunRecord {
        self.options.observer.ended(&student.name, seed, Status::Skipped, Some(reason));
        RunRecord {
            name: student.name.clone(),
            arm: student.arm.clone(),
            at: student.at,
            learning_rate: student.training.learning_rate,
            seed,
            status: Status::Skipped,
            metrics: vec![],
            final_accuracy: None,
            budget: student.training.steps * student.training.batch as u64,
        }
    }
}

fn measure_failed(key: &str, seed: u64, cause: MeasureError) -> RunError {
    RunError::Measure { seed, key: key.to_owned(), cause: Box::new(cause) }
}
