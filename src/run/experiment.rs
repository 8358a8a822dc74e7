//! Runs an experiment: for each seed the teacher, the correlations of its checkpoints, then all students.

use super::folder::{RunFolder, RunFolderError, open_read_only};
use super::gather::{RunRecord, Status, TeacherTimeline};
use super::plan::{Plan, Student, TEACHER};
use super::recorder::FolderRecorder;
use super::resolve::{Catalogue, TeacherRun};
use super::run_spec::{ResolvedDistill, RunSpec};
use super::spec::CorrelationSpec;
use super::timeline;
use crate::distill::schedule::Schedule;
use crate::distill::teacher::TeacherPool;
use crate::engine::cpu::{CpuOptions, Mlp};
use crate::model::MlpParams;
use crate::rng::{self, Purpose, Stream};
use crate::task::{BooleanTask, Samples};
use crate::train::group::{Member, Metric, Shared, State, Supervision, TrainError, train};
use crate::train::settings::Training;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What to do where a run folder already holds results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse.
    Refuse,
    /// Go on from the last saved state; finished runs are kept.
    Resume,
    /// Remove them and begin anew.
    Fresh,
}

/// How to run.
pub struct Options<'a> {
    /// Run folders lie at `out/<experiment>/<arm>/seed-<n>`.
    pub out: PathBuf,
    /// Existing results.
    pub existing: Existing,
    /// Threads in all.
    pub threads: usize,
    /// Set to end the run; it can be resumed.
    pub cancel: &'a AtomicBool,
    /// Told what happens.
    pub observer: &'a dyn Observer,
    /// How often resume states are written.
    pub save_every: Duration,
}

/// Told what happens, from any thread.
pub trait Observer: Sync {
    /// A run begins or is taken up at `step` of `steps`.
    fn started(&self, run: &str, seed: u64, step: u64, steps: u64);
    /// A run has reached a step.
    fn progress(&self, run: &str, seed: u64, step: u64);
    /// An evaluation.
    fn evaluated(&self, run: &str, seed: u64, metric: &Metric);
    /// A run has ended.
    fn ended(&self, run: &str, seed: u64, status: Status, reason: Option<&str>);
    /// Something else worth telling.
    fn note(&self, text: &str);
}

/// Why an experiment stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A folder already holds results.
    #[error(
        "{} already holds a run{}; pass --resume to go on with it, --fresh to remove it and begin anew, or another --out",
        path.display(),
        others(*more)
    )]
    Exists {
        /// The first such folder.
        path: PathBuf,
        /// How many more.
        more: usize,
    },
    /// A folder holds a run with other settings.
    #[error(
        "{} holds a run with other settings (line {line}: it has {theirs:?}, this run has {ours:?}); pass --fresh to remove it, or another --out",
        path.display()
    )]
    OtherSpec {
        /// Its spec file.
        path: PathBuf,
        /// First line that differs, from 1.
        line: usize,
        /// That line in the file.
        theirs: String,
        /// That line of this run.
        ours: String,
    },
    /// A run folder cannot be used.
    #[error(transparent)]
    Folder(#[from] RunFolderError),
    /// Training stopped.
    #[error("seed {seed}: {source}")]
    Train {
        /// Seed.
        seed: u64,
        /// Why.
        source: TrainError,
    },
    /// Correlations could not be measured.
    #[error("seed {seed}: correlations of the teacher's checkpoints: {source}")]
    Correlations {
        /// Seed.
        seed: u64,
        /// Why.
        source: timeline::TimelineError,
    },
    /// A saved state cannot be understood.
    #[error("{}: the resume state is damaged ({detail}); pass --fresh to begin this run anew", path.display())]
    State {
        /// The run folder.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The operating system refused a thread.
    #[error("cannot start worker threads: {0}")]
    Threads(String),
}

fn others(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" (and {more} other folders do)") }
}

/// Results of an experiment.
pub struct Results {
    /// Every run, seeds in the order of the plan, teachers before students.
    pub runs: Vec<RunRecord>,
    /// Correlation timelines of the teachers.
    pub timelines: Vec<TeacherTimeline>,
    /// Checkpoints students followed, by run name.
    pub used: Vec<UsedCheckpoints>,
    /// True when the run was asked to stop before it was done.
    pub interrupted: bool,
}

/// Teacher checkpoints a student followed.
#[derive(Debug, Clone)]
pub struct UsedCheckpoints {
    /// Name of the student run.
    pub run: String,
    /// Seed.
    pub seed: u64,
    /// Teacher steps in order of use, where known.
    pub steps: Vec<u64>,
}

/// Runs every seed of the plan. Seeds run side by side when there are several and threads for them; results do not
/// depend on the number of threads.
///
/// # Errors
/// The first error of any seed; the others are asked to stop and save their state.
pub fn run(plan: &Plan, options: &Options) -> Result<Results, RunError> {
    if options.existing == Existing::Refuse {
        refuse_existing(plan, options)?;
    }
    let jobs = options.threads.min(plan.seeds.len()).max(1);
    let threads = (options.threads / jobs).max(1);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<SeedResults, RunError>)>> = Mutex::default();
    // One seed's failure ends the others at their next chunk, with their states saved.
    let failed = AtomicBool::new(false);
    let worker = || -> Result<(), RunError> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| RunError::Threads(e.to_string()))?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let stopping = failed.load(Ordering::Relaxed) || options.cancel.load(Ordering::Relaxed);
            let (Some(&seed), false) = (plan.seeds.get(index), stopping) else { return Ok(()) };
            let result = pool.install(|| SeedRun { plan, options, seed, threads }.run());
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
                options.cancel.store(true, Ordering::Relaxed);
            }
            done.lock().expect("workers do not panic here").push((index, result));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let mut done = done.into_inner().expect("workers do not panic here");
    done.sort_by_key(|(index, _)| *index);
    let all_seeds = done.len() == plan.seeds.len();
    let mut results = Results { runs: vec![], timelines: vec![], used: vec![], interrupted: !all_seeds };
    for (_, seed) in done {
        let seed = seed?;
        results.interrupted |= seed.runs.iter().any(|r| r.status == Status::Interrupted);
        results.runs.extend(seed.runs);
        results.timelines.extend(seed.timeline);
        results.used.extend(seed.used);
    }
    Ok(results)
}

/// Refuses before anything is trained, not after the first teacher.
fn refuse_existing(plan: &Plan, options: &Options) -> Result<(), RunError> {
    let root = plan.root(&options.out);
    let teacher = plan.teacher.iter().map(|_| TEACHER);
    let names: Vec<&str> = teacher.chain(plan.students.iter().map(|s| s.name.as_str())).collect();
    let mut found = Vec::new();
    for name in names {
        for seed in &plan.seeds {
            let path = root.join(name).join(format!("seed-{seed}"));
            if path.join("spec.toml").exists() || path.join("metrics.jsonl").exists() {
                found.push(path);
            }
        }
    }
    match found.len() {
        0 => Ok(()),
        n => Err(RunError::Exists { path: found.swap_remove(0), more: n - 1 }),
    }
}

struct SeedResults {
    runs: Vec<RunRecord>,
    timeline: Option<TeacherTimeline>,
    used: Vec<UsedCheckpoints>,
}

struct SeedRun<'a> {
    plan: &'a Plan,
    options: &'a Options<'a>,
    seed: u64,
    threads: usize,
}

/// A student ready to run.
struct Ready<'a> {
    student: &'a Student,
    resolved: Option<Schedule>,
}

/// Which arm a run belongs to.
struct Identity<'a> {
    name: &'a str,
    arm: &'a str,
    at: Option<f64>,
}

/// Teacher and students draw different samples and different first weights.
const TEACHER_ROLE: u32 = 0;
const STUDENT_ROLE: u32 = 1;

impl SeedRun<'_> {
    fn run(&self) -> Result<SeedResults, RunError> {
        let task = self.plan.task.build(self.seed).expect("the plan was checked");
        let evaluation =
            task.samples(self.seed, Stream::new(Purpose::Evaluation, 0), 0, self.plan.evaluation.samples);
        let mut results = SeedResults { runs: vec![], timeline: None, used: vec![] };
        let mut own_teacher = None;
        if let Some(training) = &self.plan.teacher {
            let record = self.train_teacher(training, &task, &evaluation)?;
            let finished = record.status == Status::Finished;
            if finished {
                let folder = self.folder_path(TEACHER);
                if let Some(spec) = &self.plan.correlations {
                    results.timeline = Some(self.measure(&folder, spec, &task)?);
                }
                let recommended = results.timeline.as_ref().and_then(|t| t.timeline.recommended.as_ref());
                let recommended = recommended.map(|r| r.step);
                own_teacher = Some(TeacherRun::of_folder(&folder, training.batch, recommended)?);
            }
            let reason = match record.status {
                Status::Diverged => "its teacher diverged",
                _ => "its teacher was interrupted",
            };
            results.runs.push(record);
            if !finished && self.options.cancel.load(Ordering::Relaxed) {
                return Ok(results);
            }
            if !finished {
                for student in &self.plan.students {
                    results.runs.push(self.skip(student, reason));
                }
                return Ok(results);
            }
        }
        let mut catalogue = Catalogue::default();
        let mut groups: BTreeMap<usize, Vec<Ready>> = BTreeMap::new();
        for student in &self.plan.students {
            let batch = student.training.batch;
            let resolved = match &student.distill {
                None => None,
                Some(distill) => {
                    match catalogue.resolve(
                        distill,
                        own_teacher.as_ref(),
                        self.seed,
                        batch,
                        &student.training.shape,
                    )? {
                        Ok(resolved) => Some(resolved),
                        Err(reason) => {
                            results.runs.push(self.skip(student, &reason));
                            continue;
                        }
                    }
                }
            };
            if let Some(resolved) = &resolved {
                let steps =
                    resolved.checkpoints().iter().filter_map(|&c| catalogue.checkpoints()[c].step).collect();
                results.used.push(UsedCheckpoints { run: student.name.clone(), seed: self.seed, steps });
            }
            groups.entry(batch).or_default().push(Ready { student, resolved });
        }
        let pool = TeacherPool::new(
            catalogue.checkpoints().to_vec(),
            task.d(),
            task.classes(),
            CpuOptions { threads: self.threads, ..CpuOptions::default() },
        );
        for group in groups.values() {
            let records = self.train_students(group, &pool, &task, &evaluation)?;
            results.runs.extend(records);
        }
        // In the order of the plan, whichever group they were in.
        let order = |r: &RunRecord| self.plan.students.iter().position(|s| s.name == r.name);
        results.runs.sort_by_key(order);
        Ok(results)
    }

    fn folder_path(&self, name: &str) -> PathBuf {
        self.plan.root(&self.options.out).join(name).join(format!("seed-{}", self.seed))
    }

    fn train_teacher(
        &self,
        training: &Training,
        task: &BooleanTask,
        evaluation: &Samples,
    ) -> Result<RunRecord, RunError> {
        let run = RunSpec::new(self.plan, TEACHER, TEACHER, self.seed, training, task);
        let member = self.member(&run, Supervision::Labels, TEACHER_ROLE, self.threads)?;
        let identity = Identity { name: TEACHER, arm: TEACHER, at: None };
        let stream = Stream::new(Purpose::Data, TEACHER_ROLE);
        let mut records = self.train_group(vec![identity], vec![member], None, stream, task, evaluation)?;
        Ok(records.remove(0))
    }

    fn train_students(
        &self,
        group: &[Ready],
        pool: &TeacherPool,
        task: &BooleanTask,
        evaluation: &Samples,
    ) -> Result<Vec<RunRecord>, RunError> {
        let root = self.plan.root(&self.options.out);
        // A single student gets all threads; several share them, one each.
        let threads = if group.len() == 1 { self.threads } else { 1 };
        let (mut identities, mut members) = (Vec::new(), Vec::new());
        for Ready { student, resolved } in group {
            let training = &student.training;
            let mut run = RunSpec::new(self.plan, &student.name, &student.arm, self.seed, training, task);
            let supervision = match (resolved, &student.distill) {
                (Some(schedule), Some(distill)) => {
                    run.distill = Some(ResolvedDistill::new(distill, schedule, pool.checkpoints(), &root));
                    Supervision::Teacher {
                        schedule: schedule.clone(),
                        temperature: distill.temperature,
                        label_mix: distill.label_mix,
                    }
                }
                _ => Supervision::Labels,
            };
            members.push(self.member(&run, supervision, STUDENT_ROLE, threads)?);
            identities.push(Identity { name: &student.name, arm: &student.arm, at: student.at });
        }
        let stream = Stream::new(Purpose::Data, STUDENT_ROLE);
        self.train_group(identities, members, Some(pool), stream, task, evaluation)
    }

    /// Trains members side by side and reads back what they recorded.
    fn train_group(
        &self,
        identities: Vec<Identity>,
        mut members: Vec<Member>,
        teacher: Option<&TeacherPool>,
        stream: Stream,
        task: &BooleanTask,
        evaluation: &Samples,
    ) -> Result<Vec<RunRecord>, RunError> {
        let shared = Shared {
            task,
            seed: self.seed,
            stream,
            evaluation,
            teacher,
            cancel: self.options.cancel,
            save_every: self.options.save_every,
        };
        train(&mut members, &shared).map_err(|source| RunError::Train { seed: self.seed, source })?;
        let mut records = Vec::new();
        for (identity, member) in identities.into_iter().zip(members) {
            let metrics: Vec<Metric> = open_read_only(&self.folder_path(identity.name))?.read_metrics()?;
            let training = &member.training;
            records.push(RunRecord {
                name: identity.name.to_owned(),
                arm: identity.arm.to_owned(),
                at: identity.at,
                learning_rate: training.learning_rate,
                seed: self.seed,
                status: member.outcome.as_ref().map_or(Status::Running, Status::of),
                final_accuracy: metrics.last().map(|m| m.accuracy),
                metrics,
                budget: training.steps * training.batch as u64,
            });
        }
        Ok(records)
    }

    fn skip(&self, student: &Student, reason: &str) -> RunRecord {
        self.options.observer.ended(&student.name, self.seed, Status::Skipped, Some(reason));
        RunRecord {
            name: student.name.clone(),
            arm: student.arm.clone(),
            at: student.at,
            learning_rate: student.training.learning_rate,
            seed: self.seed,
            status: Status::Skipped,
            metrics: vec![],
            final_accuracy: None,
            budget: student.training.steps * student.training.batch as u64,
        }
    }

    /// Correlations of the teacher's checkpoints; kept in its run folder, so that a resumed run does not measure again.
    fn measure(
        &self,
        folder: &Path,
        spec: &CorrelationSpec,
        task: &BooleanTask,
    ) -> Result<TeacherTimeline, RunError> {
        let options = CpuOptions { threads: self.threads, ..CpuOptions::default() };
        let timeline = timeline::measure(folder, spec, task, self.seed, options)
            .map_err(|source| RunError::Correlations { seed: self.seed, source })?;
        Ok(TeacherTimeline { seed: self.seed, timeline })
    }

    /// Opens the run's folder and puts the model where it left off.
    fn member(
        &self,
        run: &RunSpec,
        supervision: Supervision,
        role: u32,
        threads: usize,
    ) -> Result<Member<'_>, RunError> {
        let training = run.training;
        let mut folder =
            RunFolder::create_or_open(&self.options.out, &self.plan.experiment, run.run, self.seed)?;
        if self.options.existing == Existing::Fresh {
            folder.clear()?;
        }
        let spec = run.to_toml();
        if let Some(theirs) = folder.read_spec()?
            && theirs != spec
        {
            let (line, theirs, ours) = first_difference(&theirs, &spec);
            return Err(RunError::OtherSpec { path: folder.path().join("spec.toml"), line, theirs, ours });
        }
        let (params, state) = match folder.load_resume()? {
            Some(resume) => {
                let state: State = serde_json::from_value(resume.state)
                    .map_err(|e| RunError::State { path: folder.path().to_owned(), detail: e.to_string() })?;
                folder.rewind_to(state.step)?;
                (resume.params, state)
            }
            None => {
                folder.clear()?;
                let seed = rng::role_seed(self.seed, role);
                (MlpParams::new(&training.shape, training.init, seed), State::default())
            }
        };
        folder.write_spec(&spec)?;
        let model = Mlp::new(&params, CpuOptions { threads, ..CpuOptions::default() });
        self.options.observer.started(run.run, self.seed, state.step, training.steps);
        let recorder = FolderRecorder::new(folder, run, &model, threads, &state, self.options.observer)?;
        Ok(Member {
            training: training.clone(),
            supervision,
            model,
            state,
            recorder: Box::new(recorder),
            outcome: None,
        })
    }
}

fn first_difference(theirs: &str, ours: &str) -> (usize, String, String) {
    let (mut a, mut b) = (theirs.lines(), ours.lines());
    for line in 1.. {
        match (a.next(), b.next()) {
            (None, None) => break,
            (x, y) if x != y => {
                return (line, x.unwrap_or("").to_owned(), y.unwrap_or("").to_owned());
            }
            _ => {}
        }
    }
    (0, String::new(), String::new())
}
