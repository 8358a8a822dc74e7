//! Ordinary SGD beside the theorem's algorithm: samples to 99% against d.

use crate::device::Device;
use crate::run::experiment::run as run_experiment;
use crate::run::failure::RunError;
use crate::run::gather::{RunRecord, Status};
use crate::run::options::{Existing, Observer, Options};
use crate::run::plan::{Plan, TEACHER};
use crate::run::spec::SpecFile;
use curricle_core::math::order::median;
use curricle_theory::TheoryError;
use curricle_theory::fit::{Interval, PowerLaw, bootstrap_slope, power_law};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// One (d, k); overrides fill in the sizes.
const SPEC: &str = r#"
experiment = "sgd"
scale = "theory"
description = "Ordinary SGD on sparse parity: samples to 99% of students that learn from labels, from the final teacher and from intermediate checkpoints."
seeds = [1]
task = { kind = "parity", d = 16, k = 4, support = "random" }
evaluation = { samples = 2000, every_samples = 1600, levels = [0.99] }

[teacher]
hidden = [500]
batch = 32
learning_rate = 0.5
steps = 20_000
checkpoints = { every_steps = 50 }
stop = { accuracy = 0.995, evaluations = 20 }

[student]
hidden = [50]
batch = 32
learning_rate = 0.1
steps = 60_000
stop = { accuracy = 0.995, evaluations = 3 }

[arms.ce]
label = "CE (labels)"

[arms.one-shot]
label = "one-shot"
distill = { schedule = { kind = "one-shot" }, temperature = 0 }

[arms.progressive]
label = "progressive, every 50 steps"
distill = { schedule = { kind = "progressive", interval = { steps = 50 } }, temperature = 0 }

[arms.two]
label = "(2,T) from 85%"
distill = { schedule = { kind = "n-t", checkpoints = [{ accuracy = 0.85 }, "final"], duration = { teacher_99 = 0.5 } }, temperature = 0 }
"#;

/// Accuracy to reach.
pub const LEVEL: f64 = 0.99;

/// The grid.
#[derive(Debug, Clone, Serialize)]
pub struct SgdGrid {
    /// Coordinates of the parities.
    pub ks: Vec<usize>,
    /// Input dimensions.
    pub ds: Vec<usize>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Budget of students.
    pub steps: u64,
    /// Budget of teachers.
    pub teacher_steps: u64,
}

/// Samples to 99% of one arm against d.
#[derive(Debug, Clone, Serialize)]
pub struct SgdLine {
    /// Coordinates of the parity.
    pub k: usize,
    /// Name of the arm.
    pub arm: String,
    /// Its name in the report.
    pub label: String,
    /// One per d.
    pub points: Vec<SgdPoint>,
    /// Log-log fit of the medians that exist.
    pub fit: Option<PowerLaw>,
    /// Bootstrap interval of the slope over seeds, where every run reached the level.
    pub bootstrap: Option<Interval>,
    /// With every run that did not reach the level at its budget: where large d are censored the slope is at
    /// least about this.
    pub fit_with_budgets: Option<PowerLaw>,
    /// Runs that did not reach the level.
    pub censored: usize,
}

/// One d.
#[derive(Debug, Clone, Serialize)]
pub struct SgdPoint {
    /// Input dimension.
    pub d: usize,
    /// Per seed; null where the level was not reached.
    pub samples: Vec<Option<u64>>,
    /// Samples a run had at most.
    pub budget: u64,
    /// Null where half of the seeds or more did not reach the level.
    pub median: Option<f64>,
    /// Runs that could not start (their teacher has no such checkpoint); they are not among `samples`.
    pub skipped: usize,
    /// Runs that diverged; they count as not having reached the level.
    pub diverged: usize,
}

/// Why the grid could not be run.
#[derive(Debug, thiserror::Error)]
pub enum SgdError {
    /// The sizes make no experiment; the text names the key and what is allowed.
    #[error("{0}")]
    Sizes(String),
    /// A run failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A fit failed.
    #[error(transparent)]
    Fit(#[from] TheoryError),
}

/// Where and how the grid is run.
pub struct Job<'a> {
    /// Run folders lie below.
    pub out: &'a Path,
    /// Existing results.
    pub existing: Existing,
    /// Threads in all.
    pub threads: usize,
    /// Set to end the grid; it can be resumed.
    pub cancel: &'a AtomicBool,
}

/// Where one (d, k) is run.
///
/// # Errors
/// [`SgdError::Sizes`].
pub fn plan(grid: &SgdGrid, d: usize, k: usize) -> Result<Plan, SgdError> {
    let seeds: Vec<String> = grid.seeds.iter().map(u64::to_string).collect();
    let overrides = [
        format!("experiment=sgd-k{k}-d{d}"),
        format!("seeds=[{}]", seeds.join(", ")),
        format!("task.d={d}"),
        format!("task.k={k}"),
        format!("student.steps={}", grid.steps),
        format!("teacher.steps={}", grid.teacher_steps),
    ];
    let path = Path::new("the built-in SGD experiment");
    let spec = SpecFile::parse(path, SPEC, &overrides).map_err(|e| SgdError::Sizes(e.to_string()))?;
    Plan::resolve(spec, path).map_err(|e| SgdError::Sizes(e.to_string()))
}

/// Runs the grid; ends early, without lines, if the job is cancelled. `watch` gives the observer of one (d,
/// k) with this many runs, `done` takes it back.
///
/// # Errors
/// Sizes that make no experiment; runs that fail; existing results that were not asked for.
pub fn run<W: Observer>(
    grid: &SgdGrid,
    job: &Job<'_>,
    watch: impl Fn(usize, usize, usize) -> W,
    done: impl Fn(W),
) -> Result<Option<Vec<SgdLine>>, SgdError> {
    let plans: Vec<(usize, usize, Plan)> = grid
        .ks
        .iter()
        .flat_map(|&k| grid.ds.iter().map(move |&d| (d, k)))
        .map(|(d, k)| Ok((d, k, plan(grid, d, k)?)))
        .collect::<Result<_, SgdError>>()?;
    let mut lines: Vec<SgdLine> = Vec::new();
    for (d, k, plan) in &plans {
        let observer = watch(*d, *k, (plan.students.len() + 1) * plan.seeds.len());
        let options = Options {
            device: Device::Cpu,
            out: PathBuf::from(job.out),
            existing: job.existing,
            threads: job.threads,
            cancel: job.cancel,
            observer: &observer,
            save_every: Duration::from_secs(30),
        };
        let outcome = run_experiment(plan, &options);
        done(observer);
        let results = outcome?;
        if results.interrupted {
            return Ok(None);
        }
        let arms = [(TEACHER, "teacher".to_owned())]
            .into_iter()
            .chain(plan.students.iter().map(|s| (s.arm.as_str(), s.training.label.clone())));
        for (arm, label) in arms {
            let (skipped, runs): (Vec<&RunRecord>, Vec<&RunRecord>) =
                results.runs.iter().filter(|r| r.arm == arm).partition(|r| r.status == Status::Skipped);
            let samples: Vec<Option<u64>> = runs.iter().map(|r| r.first_reaching(LEVEL)).collect();
            let middle = median(samples.iter().map(|s| s.map_or(f64::INFINITY, |s| s as f64)));
            let point = SgdPoint {
                d: *d,
                budget: runs.iter().map(|r| r.budget).max().unwrap_or(0),
                median: middle.is_finite().then_some(middle),
                skipped: skipped.len(),
                diverged: runs.iter().filter(|r| r.status == Status::Diverged).count(),
                samples,
            };
            match lines.iter_mut().find(|l| l.k == *k && l.arm == arm) {
                Some(line) => line.points.push(point),
                None => lines.push(SgdLine {
                    k: *k,
                    arm: arm.to_owned(),
                    label,
                    points: vec![point],
                    fit: None,
                    bootstrap: None,
                    fit_with_budgets: None,
                    censored: 0,
                }),
            }
        }
    }
    for line in &mut lines {
        fit(line)?;
    }
    Ok(Some(lines))
}

fn fit(line: &mut SgdLine) -> Result<(), TheoryError> {
    const CONFIDENCE: f64 = 0.95;
    let law = |points: Vec<(f64, f64)>| match points.len() {
        0 | 1 => Ok(None),
        _ => power_law(&points, CONFIDENCE).map(Some),
    };
    let points = &line.points;
    line.censored = points.iter().flat_map(|p| &p.samples).filter(|s| s.is_none()).count();
    line.fit = law(points.iter().filter_map(|p| Some((p.d as f64, p.median?))).collect())?;
    let filled = |p: &SgdPoint| median(p.samples.iter().map(|s| s.unwrap_or(p.budget) as f64));
    line.fit_with_budgets = match line.censored {
        0 => None,
        _ => law(points.iter().filter(|p| !p.samples.is_empty()).map(|p| (p.d as f64, filled(p))).collect())?,
    };
    let groups: Vec<(f64, Vec<f64>)> = points
        .iter()
        .filter(|p| !p.samples.is_empty())
        .map(|p| (p.d as f64, p.samples.iter().flatten().map(|s| *s as f64).collect()))
        .collect();
    if line.censored == 0 && groups.len() > 1 && groups.iter().all(|g| g.1.len() > 1) {
        line.bootstrap = Some(bootstrap_slope(&groups, 1000, CONFIDENCE, 1)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(samples: Vec<Vec<Option<u64>>>) -> SgdLine {
        let points = samples.into_iter().zip([10, 20, 40]).map(|(samples, d)| {
            let middle = median(samples.iter().map(|s| s.map_or(f64::INFINITY, |s| s as f64)));
            SgdPoint {
                d,
                samples,
                budget: 100_000,
                median: middle.is_finite().then_some(middle),
                skipped: 0,
                diverged: 0,
            }
        });
        SgdLine {
            k: 3,
            arm: "ce".into(),
            label: "CE".into(),
            points: points.collect(),
            fit: None,
            bootstrap: None,
            fit_with_budgets: None,
            censored: 0,
        }
    }

    #[test]
    fn the_built_in_spec_resolves() {
        let grid = SgdGrid { ks: vec![3], ds: vec![16], seeds: vec![1, 2], steps: 100, teacher_steps: 200 };
        let plan = plan(&grid, 16, 3).unwrap();
        let task = plan.task.boolean(1).unwrap();
        assert_eq!((task.d(), task.relevant().len(), plan.seeds.len(), plan.students.len()), (16, 3, 2, 4));
        assert!(super::plan(&grid, 2, 3).unwrap_err().to_string().contains("k = 3"));
    }

    #[test]
    fn censored_runs_are_counted_and_never_dropped() {
        let mut clean =
            line(vec![vec![Some(100), Some(110)], vec![Some(400), Some(410)], vec![Some(1600), Some(1610)]]);
        fit(&mut clean).unwrap();
        assert!((clean.fit.unwrap().slope - 2.0).abs() < 0.1 && clean.bootstrap.is_some());
        let mut cut = line(vec![vec![Some(100), Some(110)], vec![Some(400), None], vec![None, None]]);
        fit(&mut cut).unwrap();
        assert_eq!((cut.censored, cut.fit.is_none(), cut.bootstrap.is_none()), (3, true, true));
        assert!(cut.fit_with_budgets.unwrap().slope > 3.0);
    }
}
