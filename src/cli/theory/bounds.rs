//! `curricle theory bounds`: every bound with its ingredients, for one set of sizes or a sweep.

use super::bounds_report;
use super::checkpoints::{self, Loaded};
use super::lists::Sizes;
use super::{Common, blame, fraction, unit, usage};
use crate::correlate::arguments::SupportList;
use crate::correlate::sources;
use anyhow::Result;
use curricle_theory::bounds::{Bound, BoundTable, TableSpec, bound_tables, latex, rank_checkpoint};
use curricle_theory::two_phase::Problem;
use serde::Serialize;
use std::path::PathBuf;

/// Samples that are enough, not enough or predicted, each with its ingredients
///
/// Words. Phase-one teacher: a teacher after its first phase (one large-batch gradient step on the first
/// layer). To rank the support on top: the k coordinates with the largest |gradient| of a neuron are the
/// support. Epsilon: hinge loss E max(0, 1 - y f). First phase: finding the support; total: first and second
/// phase. Kinds of lines: enough (with probability 1 - delta; over teachers too where the name says
/// teachers), not less (fewer fail), one draw (enough for one random first layer, in expectation over the
/// samples; quantiles over draws beside it), heuristic (a typical case, no probability), order (growth only).
///
/// Lists of sizes sweep every combination. JSON for one combination:
/// {"d","k","width","teacher_width","delta","epsilon","bias","bounds":[{"name","statement",
/// "kind","samples","ingredients","latex"?}],"unavailable":[{"name","reason"}],"teachers":{"works","enough"},"crossover":{"headline","explicit"},
/// "checkpoints":[{"path","step","bound","prediction","relative_gap","resolved"}]}; for several:
/// {"tables":[..the same..]}. kind is upper, lower, one_draw, heuristic or order.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct BoundsArgs {
    /// Dimensions: a list such as 15,21 or a range such as 15..101 or 15..101:2 [default: that of the
    /// checkpoint]
    #[arg(long, visible_alias = "ds", value_name = "LIST")]
    d: Option<Sizes>,
    /// Sizes of the support [default: that of --support]
    #[arg(long, visible_alias = "ks", value_name = "LIST")]
    k: Option<Sizes>,
    /// Widths of the student
    #[arg(long, visible_alias = "widths", value_name = "LIST", default_value = "64")]
    width: Sizes,
    /// Widths of the phase-one teacher, even
    #[arg(long, visible_alias = "teacher-widths", value_name = "LIST", default_value = "64")]
    teacher_width: Sizes,
    /// Failure probabilities
    #[arg(long, visible_alias = "deltas", value_name = "LIST", value_delimiter = ',', default_value = "0.1")]
    delta: Vec<f64>,
    /// Hinge losses to reach
    #[arg(
        long,
        visible_alias = "epsilons",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "0.1"
    )]
    epsilon: Vec<f64>,
    /// Bias at initialisation, in (-1, 1); its value does not matter there
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    bias: f64,
    /// Random first layers that the second-phase lines are computed for
    #[arg(long, value_name = "N", default_value_t = 9)]
    draws: u64,
    /// Checkpoint files to bound from their measured gradients
    #[arg(long, value_name = "FILE", num_args = 1..)]
    checkpoint: Vec<PathBuf>,
    /// Coordinates of the support, from 0, such as 2,5,7,11 [default: that of the checkpoint's run]
    #[arg(long, value_name = "LIST")]
    support: Option<SupportList>,
    /// Fraction of the student's neurons that has to rank the support on top, in predictions and for
    /// checkpoints
    #[arg(long, default_value_t = 0.9)]
    fraction: f64,
    /// Student neurons a checkpoint's gradient is measured for
    #[arg(long, value_name = "N", default_value_t = 64)]
    neurons: usize,
    /// Samples a checkpoint's gradient is measured on
    #[arg(long, value_name = "N", default_value_t = 1 << 18)]
    samples: u64,
    /// Seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print each line's formula with its constants in LaTeX instead of the table
    #[arg(long)]
    latex: bool,
    /// Write one row per line and size as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw the lines against d as FILE.svg and FILE.png (needs at least two dimensions)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

/// One combination of sizes.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub d: usize,
    pub k: usize,
    pub width: usize,
    pub teacher_width: usize,
    pub delta: f64,
    pub epsilon: f64,
    pub bias: f64,
    pub bounds: Vec<Printed>,
    pub unavailable: Vec<curricle_theory::bounds::Unavailable>,
    pub teachers: Option<curricle_theory::bounds::TeacherShare>,
    pub crossover: curricle_theory::bounds::Crossover,
    pub checkpoints: Vec<CheckpointBound>,
}

/// A line, with its formula where asked for.
#[derive(Debug, Serialize)]
pub(super) struct Printed {
    #[serde(flatten)]
    pub bound: Bound,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latex: Option<String>,
}

#[derive(Debug, Serialize)]
struct Sweep {
    tables: Vec<Answer>,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckpointBound {
    pub path: String,
    pub step: Option<u64>,
    pub bound: Option<Bound>,
    pub prediction: Option<Bound>,
    pub relative_gap: f64,
    pub resolved: bool,
}

/// `curricle theory bounds`.
///
/// # Errors
/// Arguments that cannot be satisfied; output that cannot be written.
pub(super) fn run(args: &BoundsArgs) -> Result<()> {
    args.delta.iter().try_for_each(|d| unit("delta", *d))?;
    args.epsilon.iter().try_for_each(|e| unit("epsilon", *e))?;
    fraction(args.fraction)?;
    if let Some(odd) = args.teacher_width.0.iter().find(|w| **w == 0 || !w.is_multiple_of(2)) {
        return Err(usage(format!(
            "--teacher-width {odd}: mirrored neurons come in pairs, give an even number"
        )));
    }
    let (found, _) = sources::resolve(&args.checkpoint)?;
    let known = match found.is_empty() {
        true => None,
        false => Some(checkpoints::problem(&found, args.support.as_ref(), one(args.d.as_ref(), "d")?)?),
    };
    let specs = specs(args, known.as_ref())?;
    let tables = bound_tables(&specs).map_err(blame)?;
    let mut answers: Vec<Answer> = tables.into_iter().map(|t| answer(t, args.latex)).collect();
    if let Some(problem) = &known {
        answers[0].checkpoints = measured(args, problem, &found)?;
    }
    if let Some(path) = &args.csv {
        bounds_report::write_csv(&answers, path)?;
    }
    if let Some(path) = &args.plot {
        bounds_report::draw(&answers, path)?;
    }
    let text = match args.latex {
        true => bounds_report::latex_text(&answers),
        false => bounds_report::text(&answers),
    };
    match <[Answer; 1]>::try_from(answers) {
        Ok([one]) => args.common.answer(&one, &text),
        Err(tables) => args.common.answer(&Sweep { tables }, &text),
    }
}

fn answer(table: BoundTable, formulas: bool) -> Answer {
    let s = table.spec;
    let printed = |bound: Bound| Printed { latex: formulas.then(|| latex(&bound)), bound };
    Answer {
        d: s.d,
        k: s.k,
        width: s.width,
        teacher_width: s.teacher_width,
        delta: s.delta,
        epsilon: s.epsilon,
        bias: s.bias,
        bounds: table.bounds.into_iter().map(printed).collect(),
        unavailable: table.unavailable,
        teachers: table.teachers,
        crossover: table.crossover,
        checkpoints: vec![],
    }
}

/// Bounds from the measured gradients of checkpoint files.
fn measured(args: &BoundsArgs, problem: &Problem, found: &[sources::Source]) -> Result<Vec<CheckpointBound>> {
    let (neurons, samples) = (args.neurons, args.samples);
    found
        .iter()
        .map(|source| {
            let Loaded { net, step } = checkpoints::load(&source.path)?;
            let (width, delta) = (args.width.0[0], args.delta[0]);
            let rank =
                rank_checkpoint(&net, problem, neurons, samples, width, delta, args.fraction, args.seed)
                    .map_err(blame)?;
            Ok(CheckpointBound {
                path: source.path.display().to_string(),
                step,
                bound: rank.bound,
                prediction: rank.prediction,
                relative_gap: rank.relative_gap,
                resolved: rank.resolved,
            })
        })
        .collect()
}

/// The only element of an optional list.
fn one(list: Option<&Sizes>, name: &str) -> Result<Option<usize>> {
    match list.map(|l| l.0.as_slice()) {
        None => Ok(None),
        Some([only]) => Ok(Some(*only)),
        Some(_) => Err(usage(format!("--{name}: with --checkpoint or --support give one value"))),
    }
}

/// Every combination.
fn specs(args: &BoundsArgs, known: Option<&Problem>) -> Result<Vec<TableSpec>> {
    let support = match &args.support {
        None => None,
        Some(list) => match list.0.as_slice() {
            [only] => Some(only.clone()),
            _ => return Err(usage("--support: a parity has one list of coordinates")),
        },
    };
    let ds = match known {
        Some(problem) => vec![problem.dimension()],
        None => args.d.as_ref().map(|d| d.0.clone()).unwrap_or_default(),
    };
    let ks = match (known, &support) {
        (Some(problem), _) => vec![problem.k()],
        (None, Some(support)) => {
            // The coordinates themselves have to make sense, not only their number.
            ds.iter().try_for_each(|d| Problem::new(*d, support.clone()).map(drop)).map_err(blame)?;
            vec![support.len()]
        }
        _ => args.k.as_ref().map(|k| k.0.clone()).unwrap_or_default(),
    };
    if ds.is_empty() || ks.is_empty() {
        return Err(usage("give --d and --k, or --checkpoint FILE with --support LIST"));
    }
    if let Some(asked) = one(args.k.as_ref().filter(|_| known.is_some() || support.is_some()), "k")?
        && asked != ks[0]
    {
        return Err(usage(format!("--k {asked}, but the support has {} coordinates: leave --k out", ks[0])));
    }
    for (&d, &k) in ds.iter().flat_map(|d| ks.iter().map(move |k| (d, k))) {
        if k == 0 || k >= d {
            return Err(usage(format!(
                "k = {k} with d = {d}: the bounds need 1 <= k < d; with k = d there is nothing to find"
            )));
        }
        if d > curricle_theory::threshold::MAX_DIMENSION {
            return Err(usage(format!(
                "d = {d} is outside 1..={}, the range of the exact integers",
                curricle_theory::threshold::MAX_DIMENSION
            )));
        }
    }
    let mut specs = Vec::new();
    for &k in &ks {
        for &d in &ds {
            for &width in &args.width.0 {
                for &teacher_width in &args.teacher_width.0 {
                    for &delta in &args.delta {
                        for &epsilon in &args.epsilon {
                            specs.push(TableSpec {
                                d,
                                k,
                                width,
                                teacher_width,
                                delta,
                                epsilon,
                                bias: args.bias,
                                fraction: args.fraction,
                                draws: args.draws,
                                seed: args.seed,
                            });
                        }
                    }
                }
            }
        }
    }
    Ok(specs)
}
