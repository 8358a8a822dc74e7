//! Runs an experiment: for each seed the teacher, the correlations of its checkpoints, then all students.

use super::folder::RunFolderError;
use super::gather::{RunRecord, Status, TeacherTimeline};
use super::grammar::{GrammarError, NgramTimeline, Optimum, ProbedRun};
use super::plan::{Plan, TEACHER};
use super::seeds::{SeedResults, SeedsRun};
use super::timeline;
use crate::device::Device;
use crate::train::member::{Metric, TrainError};
use std::path::PathBuf;
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
    /// Who computes.
    pub device: Device,
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
    #[error("{}: {cause}{}", named(seeds), last_states(last))]
    Train {
        /// Seeds that trained together.
        seeds: Vec<u64>,
        /// Why.
        cause: Box<TrainError>,
        /// Where each run can be taken up.
        last: Vec<String>,
    },
    /// Correlations could not be measured.
    #[error("seed {seed}: correlations of the teacher's checkpoints: {cause}")]
    Correlations {
        /// Seed.
        seed: u64,
        /// Why.
        cause: Box<timeline::TimelineError>,
    },
    /// Something about sentences could not be measured.
    #[error("seed {seed}: {cause}")]
    Grammar {
        /// Seed.
        seed: u64,
        /// Why.
        cause: Box<GrammarError>,
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

fn named(seeds: &[u64]) -> String {
    let list: Vec<String> = seeds.iter().map(ToString::to_string).collect();
    format!("{} {}", if list.len() == 1 { "seed" } else { "seeds" }, list.join(", "))
}

fn last_states(last: &[String]) -> String {
    if last.is_empty() { String::new() } else { format!("\nwith --resume: {}", last.join("; ")) }
}

/// Results of an experiment.
#[derive(Debug, Default)]
pub struct Results {
    /// Every run, seeds in the order of the plan, teachers before students.
    pub runs: Vec<RunRecord>,
    /// Correlation timelines of the teachers.
    pub timelines: Vec<TeacherTimeline>,
    /// Checkpoints students followed, by run name.
    pub used: Vec<UsedCheckpoints>,
    /// n-gram robustness of the teachers.
    pub ngrams: Vec<NgramTimeline>,
    /// The most any model can reach, by seed.
    pub optima: Vec<Optimum>,
    /// What probes found in final models.
    pub probed: Vec<ProbedRun>,
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

/// Runs every seed of the plan. On the CPU seeds run side by side when there are several and threads for them; results do
/// not depend on the number of threads. On a GPU all seeds are trained together.
///
/// # Errors
/// The first error of any seed; the others are asked to stop and save their state.
pub fn run(plan: &Plan, options: &Options) -> Result<Results, RunError> {
    if options.existing == Existing::Refuse {
        refuse_existing(plan, options)?;
    }
    let seeds = match &options.device {
        Device::Cpu => side_by_side(plan, options)?,
        Device::Gpu(_) => {
            let pool = pool(options.threads)?;
            pool.install(|| SeedsRun { plan, options, seeds: &plan.seeds, threads: options.threads }.run())?
        }
    };
    let interrupted = seeds.len() < plan.seeds.len();
    let mut results = Results { interrupted, ..Results::default() };
    for seed in seeds {
        results.interrupted |= seed.interrupted || seed.runs.iter().any(|r| r.status == Status::Interrupted);
        results.runs.extend(seed.runs);
        results.timelines.extend(seed.timeline);
        results.used.extend(seed.used);
        results.ngrams.extend(seed.ngrams);
        results.optima.extend(seed.optimum);
        results.probed.extend(seed.probed);
    }
    Ok(results)
}

fn pool(threads: usize) -> Result<rayon::ThreadPool, RunError> {
    let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
    builder.build().map_err(|e| RunError::Threads(e.to_string()))
}

/// What came of one worker's seeds.
type Outcome = Result<Vec<SeedResults>, RunError>;

/// Seeds on the CPU, each with its share of the threads; those that were not begun when the run was ended are left out.
fn side_by_side(plan: &Plan, options: &Options) -> Result<Vec<SeedResults>, RunError> {
    let jobs = options.threads.min(plan.seeds.len()).max(1);
    let threads = (options.threads / jobs).max(1);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Outcome)>> = Mutex::default();
    // One seed's failure ends the others at their next chunk, with their states saved.
    let failed = AtomicBool::new(false);
    let worker = || -> Result<(), RunError> {
        let pool = pool(threads)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let stopping = failed.load(Ordering::Relaxed) || options.cancel.load(Ordering::Relaxed);
            if stopping || index >= plan.seeds.len() {
                return Ok(());
            }
            let seeds = &plan.seeds[index..=index];
            let result = pool.install(|| SeedsRun { plan, options, seeds, threads }.run());
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
    let mut seeds = Vec::new();
    for (_, result) in done {
        seeds.extend(result?);
    }
    Ok(seeds)
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
