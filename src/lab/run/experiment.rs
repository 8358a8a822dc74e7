//! Runs an experiment: for each seed the teacher, the correlations of its checkpoints, then all students.

use super::failure::RunError;
use super::gather::{RunRecord, Status, UsedCheckpoints};
use super::options::{Existing, Options};
use super::plan::Plan;
use super::seeds::{SeedResults, SeedsRun};
use crate::device::Device;
use crate::measure::{Measured, Optimum};
use indexmap::IndexMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Results of an experiment.
#[derive(Debug, Default)]
pub struct Results {
    /// Every run, seeds in the order of the plan, teachers before students.
    pub runs: Vec<RunRecord>,
    /// What was measured, by key, seeds in the order of the plan.
    pub measured: IndexMap<String, Vec<Measured>>,
    /// Checkpoints students followed, by run name.
    pub used: Vec<UsedCheckpoints>,
    /// The most any model can reach, by seed.
    pub optima: Vec<Optimum>,
    /// True when the run was asked to stop before it was done.
    pub interrupted: bool,
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
    if plan.cells.is_empty() {
        return run_one(plan, options);
    }
    let mut results = Results::default();
    for cell in &plan.cells {
        if options.cancel.load(Ordering::Relaxed) {
            results.interrupted = true;
            break;
        }
        let found = run_one(cell, options)?;
        results.interrupted |= found.interrupted;
        results.runs.extend(found.runs);
        for (key, found) in found.measured {
            results.measured.entry(key).or_default().extend(found);
        }
        results.used.extend(found.used);
        results.optima.extend(found.optima);
    }
    Ok(results)
}

/// Runs every seed of an experiment, or of one cell of a sweep over all of it.
fn run_one(plan: &Plan, options: &Options) -> Result<Results, RunError> {
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
        for (key, found) in seed.measured {
            results.measured.entry(key).or_default().extend(found);
        }
        results.used.extend(seed.used);
        results.optima.extend(seed.optimum);
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
    let one = |plan: &'_ Plan| plan.teacher.iter().map(|_| plan.teacher_run.clone()).collect::<Vec<_>>();
    let teachers = if plan.cells.is_empty() { one(plan) } else { plan.cells.iter().flat_map(one).collect() };
    let names: Vec<String> =
        teachers.into_iter().chain(plan.students.iter().map(|s| s.name.clone())).collect();
    let mut found = Vec::new();
    for name in names {
        for seed in &plan.seeds {
            let path = root.join(&name).join(format!("seed-{seed}"));
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
