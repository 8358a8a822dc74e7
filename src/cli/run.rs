//! `curricle run`: an experiment from its spec to its report.

use super::common::Common;
use super::lists::{Span, numbers};
use super::progress::Progress;
use super::{ClaimFailed, Usage};
use anyhow::{Context as _, Result};
use curricle_core::math::order::median;
use curricle_core::verdict::Verdict;
use curricle_lab::claims::Claim;
use curricle_lab::run::experiment::{Results, run as run_experiment};
use curricle_lab::run::failure::RunError;
use curricle_lab::run::folder::write_json;
use curricle_lab::run::gather::Status;
use curricle_lab::run::judge::judge;
use curricle_lab::run::options::{Existing, Options};
use curricle_lab::run::plan::Plan;
use curricle_lab::run::report_data::{Context, report_data};
use curricle_lab::run::spec::SpecFile;
use curricle_report as report;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Run an experiment: train the teacher, distil the students, judge the claims, write the report.
///
/// Run folders are OUT/EXPERIMENT/ARM/seed-N with spec.toml, metrics.jsonl, checkpoints/, resume.safetensors and run.json. A run that was
/// killed or interrupted goes on with --resume and gives the same bits.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The spec, a TOML file such as experiments/parity-mlp/quick.toml
    pub spec: PathBuf,
    /// Seeds, such as 3,5,8 or 1-5 (both ends) [default: those of the spec]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub seeds: Option<Vec<Span>>,
    /// Override a key of the spec, such as student.steps=1000; repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Where the run folders go
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub out: PathBuf,
    /// Go on with what is already in the run folders
    #[arg(long, conflicts_with = "fresh")]
    pub resume: bool,
    /// Remove what is already in the run folders of this experiment's arms and seeds
    #[arg(long)]
    pub fresh: bool,
    /// Print the resolved spec and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Output, threads, device.
    #[command(flatten)]
    pub common: Common,
    /// Seconds between saved resume states
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub save_every: u64,
}

/// What `--json` prints and `summary.json` holds.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    experiment: &'a str,
    scale: &'a str,
    device: &'a str,
    version: &'a str,
    command: &'a str,
    wall_seconds: f64,
    arms: Vec<ArmSummary<'a>>,
    claims: &'a [Claim],
    report: &'a str,
}

/// One run.
#[derive(Debug, Serialize)]
struct ArmSummary<'a> {
    name: &'a str,
    seed: u64,
    status: Status,
    samples_to: BTreeMap<String, Option<u64>>,
    final_accuracy: Option<f64>,
    steps: u64,
    wall_seconds: f64,
}

/// Runs the command.
///
/// # Errors
/// [`Usage`] for a bad spec or argument, [`ClaimFailed`] when a claim failed, others when the run failed.
pub fn run(args: &RunArgs) -> Result<()> {
    let threads = args.common.threads.count()?;
    let mut spec = SpecFile::read(&args.spec, &args.set).map_err(|e| Usage(e.to_string()))?;
    if let Some(seeds) = &args.seeds {
        spec.seeds = numbers(seeds);
    }
    let plan = Plan::resolve(spec, &args.spec).map_err(|e| Usage(e.to_string()))?;
    if args.dry_run {
        super::print(&plan.spec_toml)?;
        super::print(&notes(&plan))?;
        return Ok(());
    }
    let began = Instant::now();
    let device = args.common.open()?;
    let described = device.describe(threads);
    let cancel = Arc::new(AtomicBool::new(false));
    handle_interrupts(&cancel)?;
    let per_seed = plan.students.len() + usize::from(plan.teacher.is_some());
    let progress = Progress::new(per_seed * plan.seeds.len());
    let options = Options {
        out: args.out.clone(),
        existing: match (args.resume, args.fresh) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Fresh,
            _ => Existing::Refuse,
        },
        device,
        threads,
        cancel: &cancel,
        observer: &progress,
        save_every: Duration::from_secs(args.save_every),
    };
    let outcome = run_experiment(&plan, &options);
    progress.finish();
    let results = outcome.map_err(|error| match error {
        RunError::Exists { .. } | RunError::OtherSpec { .. } => Usage(error.to_string()).into(),
        other => anyhow::Error::new(other),
    })?;
    if results.interrupted {
        let mut command = super::command_line();
        command.retain(|a| a != "--fresh" && a != "--resume");
        anyhow::bail!("interrupted; every run's state is saved. To go on: {} --resume", command.join(" "));
    }
    finish(args, &plan, &results, &described, began.elapsed())
}

/// What is worth knowing about the task, as TOML comments; of each cell where a sweep changes the whole experiment.
fn notes(plan: &Plan) -> String {
    let cells = plan.cells.iter().map(|cell| {
        let what = plan.axis.as_deref().unwrap_or("sweep");
        let at = cell.teacher_at.map_or_else(String::new, |at| at.to_string());
        format!("\n# {what} {at}:{}", notes_of(cell))
    });
    if plan.cells.is_empty() { notes_of(plan) } else { cells.collect() }
}

/// What holds for all seeds, then the rest seed by seed.
fn notes_of(plan: &Plan) -> String {
    let all: Vec<(u64, Vec<String>)> = plan.seeds.iter().map(|&s| (s, plan.task.notes(s))).collect();
    let shared = |note: &&String| all.iter().all(|(_, notes)| notes.contains(note));
    let first = all.iter().take(1).flat_map(|(_, notes)| notes);
    let mut lines: Vec<String> = first.filter(shared).map(|note| format!("# {note}\n")).collect();
    for (seed, notes) in &all {
        let own = notes.iter().filter(|note| !shared(note));
        lines.extend(own.map(|note| format!("# seed {seed}: {note}\n")));
    }
    if lines.is_empty() { String::new() } else { format!("\n{}", lines.concat()) }
}

/// The first Ctrl-C asks for a polite end; the second ends at once (run folders survive that too).
pub(super) fn handle_interrupts(cancel: &Arc<AtomicBool>) -> Result<()> {
    let cancel = cancel.clone();
    ctrlc::set_handler(move || {
        if cancel.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("interrupted: saving (press Ctrl-C again to stop at once)");
    })
    .context("cannot listen for Ctrl-C")
}

/// Judges the claims, writes the report and prints the summary.
fn finish(args: &RunArgs, plan: &Plan, results: &Results, device: &str, wall: Duration) -> Result<()> {
    let claims = judge(plan, results);
    let command = super::command_line().join(" ");
    let root = plan.root(&args.out);
    let context = Context { device, command: &command, wall_seconds: wall.as_secs_f64() };
    let data = report_data(plan, results, &claims, context);
    let paths = report::write(&data, &root)
        .with_context(|| format!("cannot write the report to {}", root.display()))?;
    let report = paths.html.display().to_string();
    let summary = Summary {
        experiment: &plan.experiment,
        scale: &plan.scale,
        device,
        version: env!("CARGO_PKG_VERSION"),
        command: &command,
        wall_seconds: wall.as_secs_f64(),
        arms: arms(plan, results),
        claims: &claims,
        report: &report,
    };
    write_json(&root.join("summary.json"), &summary)?;
    if args.common.json.asked() {
        super::print_json(&summary)?;
    } else {
        super::print(&table(plan, results, &claims))?;
        super::print(&format!("\n{:.1} s on {device}. Report: {report}\n", wall.as_secs_f64()))?;
    }
    let diverged = results.runs.iter().filter(|r| r.status == Status::Diverged).count();
    // On a tuning grid a rate that diverges is an answer, not a failure.
    if diverged > 0 && !plan.tuned {
        anyhow::bail!("{diverged} runs diverged: see above, and run.json in their folders");
    }
    let failed: Vec<&str> =
        claims.iter().filter(|c| c.verdict == Verdict::Fail).map(|c| c.name.as_str()).collect();
    if !failed.is_empty() {
        return Err(ClaimFailed(format!("claims failed: {}", failed.join(", "))).into());
    }
    Ok(())
}

fn arms<'a>(plan: &Plan, results: &'a Results) -> Vec<ArmSummary<'a>> {
    let summary = |run: &'a curricle_lab::run::gather::RunRecord| ArmSummary {
        name: &run.name,
        seed: run.seed,
        status: run.status,
        samples_to: run.samples_to(&plan.evaluation.levels),
        final_accuracy: run.final_accuracy,
        steps: run.steps(),
        wall_seconds: run.wall_seconds(),
    };
    results.runs.iter().map(summary).collect()
}

/// A table of runs by arm, and the claims, for people.
fn table(plan: &Plan, results: &Results, claims: &[Claim]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for run in &results.runs {
        if !names.contains(&run.name.as_str()) {
            names.push(&run.name);
        }
    }
    let width = names.iter().map(|n| n.len()).max().unwrap_or(0).max(4);
    let mut out = format!("{:width$}  seeds  final accuracy (median)", "arm");
    for level in &plan.evaluation.levels {
        out += &format!("  {:>22}", format!("samples to {}%", (level * 1e4).round() / 1e2));
    }
    out += "\n";
    for name in names {
        let runs: Vec<_> = results.runs.iter().filter(|r| r.name == name).collect();
        let accuracy = median(runs.iter().filter_map(|r| r.final_accuracy));
        out += &format!("{name:width$}  {:5}  {:>22.1}%", runs.len(), 100.0 * accuracy);
        for level in &plan.evaluation.levels {
            let reached = runs.iter().filter(|r| r.first_reaching(*level).is_some()).count();
            let median =
                median(runs.iter().map(|r| r.first_reaching(*level).map_or(f64::INFINITY, |s| s as f64)));
            let text = if median.is_finite() { format!("{median:.0}") } else { "not reached".to_owned() };
            out += &format!("  {:>22}", format!("{text} ({reached}/{})", runs.len()));
        }
        out += "\n";
    }
    for claim in claims {
        let show = |v: Option<f64>| v.map_or_else(|| "?".to_owned(), |v| format!("{v:.3}"));
        out += &format!(
            "\n{:12} {}: {}\n             {} [{}, {}]; {}\n",
            claim.verdict.as_str(),
            claim.name,
            claim.statement,
            show(claim.value),
            show(claim.interval[0]),
            show(claim.interval[1]),
            claim.detail
        );
    }
    out
}
