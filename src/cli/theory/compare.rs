//! `curricle theory compare`: bounds and measurements over a grid of d and k, and ordinary SGD beside them.

use super::session::{Session, make_parent};
use super::{Common, compare_report, unit, usage};
use crate::ClaimFailed;
use crate::progress::Progress;
use anyhow::{Context, Result};
use curricle_lab::run::failure::RunError;
use curricle_lab::run::folder::write_json;
use curricle_lab::run::options::Existing;
use curricle_lab::theory::sgd::{self, Job, SgdError, SgdGrid, SgdLine};
use curricle_report as report;
use curricle_report::data::{Claim, Verdict};
use curricle_theory::compare::{
    CompareLog, CompareSpec, Comparison, FEWEST_SURVIVORS, SlopeVerdict, compare, usable,
};
use curricle_theory::two_phase::{MAX_DIMENSION, TeacherSpec};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Hold bounds against measurements over a grid of d and k, with ordinary SGD beside them
///
/// Draws samples against d (information-theoretic, statistical-query, measured labels and phase-one teachers,
/// explicit bounds, headline), fits log-log slopes with confidence intervals and says for each measured point
/// whether it lies between its lower and upper line. OUT gets compare.json, report.html, data.json and
/// figures as SVG and PNG; run folders of SGD lie in OUT/runs. Exit code 3 when a claim fails.
///
/// JSON:
/// {"comparison":{"spec","lines","verdicts","slopes","recovery","fitted","skipped"},"sgd":{"grid","lines"},"added":[{"file",
/// "source","d","k","samples"}],"claims":[{"name","statement",
/// "verdict","value","interval","detail"}],"report","device","version","command","wall_seconds"}.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct CompareArgs {
    /// Support sizes
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "4")]
    ks: Vec<usize>,
    /// Dimensions [default: 15,21,29,41,57; with --quick 15,21,29]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    ds: Option<Vec<usize>>,
    /// A small grid in seconds
    #[arg(long)]
    quick: bool,
    /// Distinct student neurons, and the width in the bounds
    #[arg(long, value_name = "N", default_value_t = 32)]
    neurons: usize,
    /// Width of phase-one teachers, even
    #[arg(long, value_name = "M", default_value_t = 64)]
    teacher_width: usize,
    /// Phase-one teachers per point [default: 61; with --quick 15]
    #[arg(long, value_name = "N")]
    teachers: Option<u64>,
    /// Trials from labels per point [default: 21; with --quick 5]
    #[arg(long, value_name = "N")]
    label_trials: Option<u64>,
    /// Final teachers per point that one-shot learns from; 0 leaves it out [default: 5; with --quick 2]
    #[arg(long, value_name = "N")]
    final_teachers: Option<u64>,
    /// Failure probability in the bounds
    #[arg(long, default_value_t = 0.1)]
    delta: f64,
    /// Loss in the headline
    #[arg(long, default_value_t = 0.1)]
    epsilon: f64,
    /// Confidence of all intervals
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Seed of the two-phase measurements
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Leave ordinary SGD out
    #[arg(long)]
    no_sgd: bool,
    /// Support sizes of ordinary SGD [default: 3,4; with --quick 3]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    sgd_ks: Option<Vec<usize>>,
    /// Dimensions of ordinary SGD [default: 16,24,32,44,60; with --quick 12,16]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    sgd_ds: Option<Vec<usize>>,
    /// Seeds of ordinary SGD [default: 1,2,3; with --quick 1]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    sgd_seeds: Option<Vec<u64>>,
    /// Most steps (of 32 samples) of an SGD student [default: 60000; with --quick 10000]
    #[arg(long, value_name = "N")]
    sgd_steps: Option<u64>,
    /// Results of `theory measure --out` to show beside, as points
    #[arg(long, value_name = "FILE", num_args = 1..)]
    add: Vec<PathBuf>,
    /// Where everything goes
    #[arg(long, value_name = "FOLDER", default_value = "runs/theory-compare")]
    out: PathBuf,
    /// Go on with finished trials and runs
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Forget finished trials and runs
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    pub common: Common,
}

/// The command's answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// Bounds and measurements.
    pub comparison: Comparison,
    /// Ordinary SGD, where it was run.
    pub sgd: Option<Sgd>,
    /// Points from other measurements.
    pub added: Vec<Added>,
    /// The claims and their verdicts.
    pub claims: Vec<Claim>,
    /// The report, as text.
    pub report: String,
    /// What it ran on.
    pub device: String,
    /// Of curricle.
    pub version: &'static str,
    /// The command line.
    pub command: String,
    /// Seconds it took.
    pub wall_seconds: f64,
}

/// A measured point of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Added {
    /// The file.
    pub file: String,
    /// Its source of supervision.
    pub source: String,
    /// Dimension.
    pub d: usize,
    /// Support size.
    pub k: usize,
    /// Smallest batch, or the median of growing ones.
    pub samples: f64,
}

/// The points of files that `theory measure` wrote; seeds without an answer are left out.
fn added(paths: &[PathBuf]) -> Result<Vec<Added>> {
    let mut out = Vec::new();
    for path in paths {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let no = |what: &str| {
            usage(format!("--add {}: {what}; give a file that `theory measure --out` wrote", path.display()))
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| no(&e.to_string()))?;
        let size = |key: &str| {
            value[key].as_u64().map(|v| v as usize).ok_or_else(|| no(&format!("it has no \"{key}\"")))
        };
        let (d, k) = (size("d")?, size("k")?);
        let seeds = value["seeds"].as_array().ok_or_else(|| no("it has no \"seeds\""))?;
        let source = value["source"].as_str().unwrap_or("?").to_owned();
        for seed in seeds {
            let samples =
                seed["smallest"]["batch"].as_f64().or_else(|| seed["grown"]["median_of_successes"].as_f64());
            let Some(samples) = samples else { continue };
            out.push(Added { file: path.display().to_string(), source: source.clone(), d, k, samples });
        }
    }
    Ok(out)
}

/// Ordinary SGD.
#[derive(Debug, Serialize)]
pub(super) struct Sgd {
    /// What was run.
    pub grid: SgdGrid,
    /// One per k and arm.
    pub lines: Vec<SgdLine>,
}

/// `curricle theory compare`.
///
/// # Errors
/// Arguments that cannot be satisfied; an interruption; files that cannot be read or written.
pub(super) fn run(args: &CompareArgs) -> Result<()> {
    let (spec, grid) = resolve(args)?;
    let added = added(&args.add)?;
    let session = Session::new(Some(args.out.join("compare.state")), Duration::from_secs(30))?;
    let mut log: CompareLog = session.open(args.resume, args.fresh)?;
    session.next("two-phase algorithm");
    let comparison = session.run(
        &mut log,
        |log| log,
        |log, callback| compare(&spec, log, callback, Some(session.cancel())),
    )?;
    session.finish();
    let existing = match (args.resume, args.fresh) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Fresh,
        _ => Existing::Refuse,
    };
    let mut sgd = None;
    if let Some(grid) = grid {
        let runs = args.out.join("runs");
        let threads = rayon::current_num_threads();
        let job = Job { out: &runs, existing, threads, cancel: session.cancel() };
        let watch = |d, k, runs| {
            eprintln!("ordinary SGD, d = {d}, k = {k}");
            Progress::new(runs)
        };
        match sgd::run(&grid, &job, watch, |p: Progress| p.finish()).map_err(blame_sgd)? {
            Some(lines) => sgd = Some(Sgd { grid, lines }),
            None => session.check()?,
        }
    }
    let claims = claims(&comparison);
    let mut answer = Answer {
        comparison,
        sgd,
        added,
        claims,
        report: args.out.join("report.html").display().to_string(),
        device: super::device(),
        version: env!("CARGO_PKG_VERSION"),
        command: crate::command_line().join(" "),
        wall_seconds: session.seconds(),
    };
    let data = compare_report::data(&answer);
    let paths = report::write(&data, &args.out)
        .with_context(|| format!("cannot write the report to {}", args.out.display()))?;
    answer.report = paths.html.display().to_string();
    make_parent(&args.out.join("compare.json"))?;
    write_json(&args.out.join("compare.json"), &answer)?;
    args.common.answer(&answer, &compare_report::text(&answer))?;
    let failed: Vec<&str> =
        answer.claims.iter().filter(|c| c.verdict == Verdict::Fail).map(|c| c.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(ClaimFailed(format!("claims failed: {}", failed.join(", "))).into())
}

/// Sizes and existing results are the user's to change; the rest is a failure.
fn blame_sgd(error: SgdError) -> anyhow::Error {
    match error {
        SgdError::Sizes(_) | SgdError::Run(RunError::Exists { .. } | RunError::OtherSpec { .. }) => {
            usage(error.to_string())
        }
        other => anyhow::Error::new(other),
    }
}

/// Checked settings.
fn resolve(args: &CompareArgs) -> Result<(CompareSpec, Option<SgdGrid>)> {
    for (name, value) in [("delta", args.delta), ("epsilon", args.epsilon), ("confidence", args.confidence)] {
        unit(name, value)?;
    }
    let default = |quick: &[usize], full: &[usize]| if args.quick { quick.to_vec() } else { full.to_vec() };
    let ds = args.ds.clone().unwrap_or_else(|| default(&[15, 21, 29], &[15, 21, 29, 41, 57]));
    if args.ks.is_empty() || ds.is_empty() {
        return Err(usage("the grid is empty: give --ks and --ds"));
    }
    if let Some(k) = args.ks.iter().find(|k| **k < 2 || **k > 64) {
        return Err(usage(format!("--ks {k}: support sizes from 2 to 64; label batches grow like d^(k-1)")));
    }
    if let Some(d) = ds.iter().find(|d| **d > MAX_DIMENSION) {
        return Err(usage(format!(
            "--ds {d} is above {MAX_DIMENSION}, the limit of the simulation; `theory bounds` takes any d"
        )));
    }
    if let Some(k) = args.ks.iter().find(|&&k| !ds.iter().any(|&d| usable(d, k).is_ok())) {
        let why =
            ds.first().and_then(|&d| usable(d, *k).err()).map_or_else(String::new, |e| format!(" ({e})"));
        return Err(usage(format!(
            "--ks {k}: labels have no gap at any d of the grid{why}; give --ds above 2k, with even values for an odd k"
        )));
    }
    if args.teacher_width == 0 || !args.teacher_width.is_multiple_of(2) {
        return Err(usage(format!(
            "--teacher-width {}: mirrored neurons come in pairs, give an even number",
            args.teacher_width
        )));
    }
    let pick =
        |given: Option<u64>, quick: u64, full: u64| given.unwrap_or(if args.quick { quick } else { full });
    let usual = CompareSpec::default();
    let spec = CompareSpec {
        k: args.ks.clone(),
        d: ds,
        neurons: args.neurons,
        delta: args.delta,
        epsilon: args.epsilon,
        confidence: args.confidence,
        teacher: TeacherSpec { width: args.teacher_width, ..TeacherSpec::default() },
        label_trials: pick(args.label_trials, 5, usual.label_trials),
        teachers: pick(args.teachers, 15, usual.teachers),
        final_teachers: pick(args.final_teachers, 2, usual.final_teachers),
        final_max_batch: if args.quick { 1 << 16 } else { usual.final_max_batch },
        statistics_samples: if args.quick { 1 << 15 } else { usual.statistics_samples },
        seed: args.seed,
        ..usual
    };
    if args.no_sgd {
        return Ok((spec, None));
    }
    let grid = SgdGrid {
        ks: args.sgd_ks.clone().unwrap_or_else(|| default(&[3], &[3, 4])),
        ds: args.sgd_ds.clone().unwrap_or_else(|| default(&[12, 16], &[16, 24, 32, 44, 60])),
        seeds: args.sgd_seeds.clone().unwrap_or_else(|| if args.quick { vec![1] } else { vec![1, 2, 3] }),
        steps: pick(args.sgd_steps, 10_000, 60_000),
        teacher_steps: if args.quick { 5_000 } else { 20_000 },
    };
    // Mistakes in the grid before anything is measured.
    for &k in &grid.ks {
        for &d in &grid.ds {
            sgd::plan(&grid, d, k).map_err(blame_sgd)?;
        }
    }
    Ok((spec, Some(grid)))
}

/// What the theorem says about the measured lines.
fn claims(comparison: &Comparison) -> Vec<Claim> {
    let mut claims: Vec<Claim> = comparison.slopes.iter().map(slope).collect();
    for fitted in &comparison.fitted {
        let k = fitted.k;
        // One-shot from real final teachers mostly recovers nothing: shown, but there is no line to hold it
        // against.
        let mine = || comparison.verdicts.iter().filter(|v| v.k == k && v.line != "measured_one_shot");
        let (held, all) = (mine().filter(|v| v.holds == Some(true)).count(), mine().count());
        let broken = mine().any(|v| v.holds == Some(false));
        claims.push(Claim {
            name: format!("between-the-lines-k{k}"),
            statement: format!(
                "k = {k}: every measured point lies between its lower line and its explicit upper bound, and no trial needs more than its own bound"
            ),
            verdict: verdict(if broken { Some(false) } else { (held == all).then_some(true) }),
            value: Some(held as f64 / all.max(1) as f64),
            interval: None,
            detail: format!("{held} of {all} points hold; the others have too few successes to say"),
        });
    }
    claims
}

fn verdict(holds: Option<bool>) -> Verdict {
    match holds {
        Some(true) => Verdict::Pass,
        Some(false) => Verdict::Fail,
        None => Verdict::Inconclusive,
    }
}

fn slope(s: &SlopeVerdict) -> Claim {
    let name = match s.line.as_str() {
        "measured_labels" => "labels",
        _ => "phase-one",
    };
    Claim {
        name: format!("{name}-slope-k{}", s.k),
        statement: format!(
            "k = {}: the log-log slope in d of {} is that of its finite-d prediction{} (large d: {})",
            s.k,
            s.line.replace('_', " "),
            s.expected.map_or_else(String::new, |e| format!(", {e:.2}")),
            s.limit
        ),
        verdict: verdict(s.holds),
        value: s.slope,
        interval: s.interval.map(|i| [i.low, i.high]),
        detail: format!(
            "over {} dimensions with at least {FEWEST_SURVIVORS} successes (four decide, if the interval is no wider than 2)",
            s.dimensions
        ),
    }
}
