//! `curricle theory bounds`: every bound with its ingredients.

use super::checkpoints::{self, Loaded};
use super::{Common, blame, count, count_or_dash, fraction, unit, usage};
use crate::correlate::arguments::SupportList;
use crate::correlate::sources;
use anyhow::Result;
use curricle_theory::TheoryError;
use curricle_theory::bounds::{self as theory, Bound, Constants, GradientStatistics, Kind, rank_checkpoint};
use curricle_theory::net::ReluNet;
use curricle_theory::two_phase::{Problem, TeacherSpec, phase_one_teacher};
use serde::Serialize;
use std::path::PathBuf;

/// Samples that are enough, not enough or predicted, each with its ingredients
///
/// First phase (labels; a typical phase-one teacher; any checkpoint through its measured gradient), second phase (a comparator computed on
/// the features), headline orders with unit constants, information-theoretic and statistical-query lines, and the crossover in d.
///
/// JSON: {"d","k","width","teacher_width","delta","epsilon","bias","bounds":[{"name","statement","kind","samples","ingredients"}],
/// "unavailable":[{"name","reason"}],"crossover":{"headline","explicit"},"checkpoints":[{"path","step","bound","prediction",
/// "relative_gap","resolved"}]}. kind is upper, lower, order or prediction.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct BoundsArgs {
    /// Dimension [default: that of the checkpoint]
    #[arg(long)]
    d: Option<usize>,
    /// Size of the support [default: that of --support]
    #[arg(long)]
    k: Option<usize>,
    /// Width of the student
    #[arg(long, value_name = "M", default_value_t = 64)]
    width: usize,
    /// Width of the phase-one teacher, even
    #[arg(long, value_name = "M", default_value_t = 64)]
    teacher_width: usize,
    /// Failure probability
    #[arg(long, default_value_t = 0.1)]
    delta: f64,
    /// Loss to reach
    #[arg(long, default_value_t = 0.1)]
    epsilon: f64,
    /// Bias at initialisation at which the labels' bound is taken
    #[arg(long, default_value_t = 0.5, allow_negative_numbers = true)]
    bias: f64,
    /// Checkpoint files to bound from their measured gradients
    #[arg(long, value_name = "FILE", num_args = 1..)]
    checkpoint: Vec<PathBuf>,
    /// Coordinates of the support, from 0, such as 2,5,7,11 [default: that of the checkpoint's run]
    #[arg(long, value_name = "LIST")]
    support: Option<SupportList>,
    /// Fraction of the student's neurons that has to rank the support on top, for checkpoints
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
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Serialize)]
struct Answer {
    d: usize,
    k: usize,
    width: usize,
    teacher_width: usize,
    delta: f64,
    epsilon: f64,
    bias: f64,
    bounds: Vec<Bound>,
    unavailable: Vec<Unavailable>,
    crossover: Crossover,
    checkpoints: Vec<CheckpointBound>,
}

/// A bound that does not exist here.
#[derive(Debug, Serialize)]
struct Unavailable {
    name: &'static str,
    reason: String,
}

/// Dimensions from which progressive is cheaper; null where it never is.
#[derive(Debug, Serialize)]
struct Crossover {
    /// Orders of growth with unit constants.
    headline: Option<usize>,
    /// Explicit first-phase bounds, odd d up to 501.
    explicit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct CheckpointBound {
    path: String,
    step: Option<u64>,
    bound: Option<Bound>,
    prediction: Option<Bound>,
    relative_gap: f64,
    resolved: bool,
}

/// Largest odd d tried for the explicit crossover.
const LARGEST_CROSSOVER: usize = 501;

/// `curricle theory bounds`.
///
/// # Errors
/// Arguments that cannot be satisfied; output that cannot be written.
pub(super) fn run(args: &BoundsArgs) -> Result<()> {
    unit("delta", args.delta)?;
    unit("epsilon", args.epsilon)?;
    fraction(args.fraction)?;
    if !args.teacher_width.is_multiple_of(2) || args.teacher_width == 0 {
        return Err(usage(format!(
            "--teacher-width {}: mirrored neurons come in pairs, give an even number",
            args.teacher_width
        )));
    }
    let (found, _) = sources::resolve(&args.checkpoint)?;
    let known = match found.is_empty() {
        true => None,
        false => Some(checkpoints::problem(&found, args.support.as_ref(), args.d)?),
    };
    let (d, k) = sizes(args, known.as_ref())?;
    let mut answer = Answer {
        d,
        k,
        width: args.width,
        teacher_width: args.teacher_width,
        delta: args.delta,
        epsilon: args.epsilon,
        bias: args.bias,
        bounds: vec![],
        unavailable: vec![],
        crossover: Crossover { headline: None, explicit: None },
        checkpoints: vec![],
    };
    formulas(args, &mut answer)?;
    if let Some(problem) = &known {
        for source in &found {
            let Loaded { net, step } = checkpoints::load(&source.path)?;
            let rank = rank_checkpoint(
                &net,
                problem,
                args.neurons,
                args.samples,
                args.width,
                args.delta,
                args.fraction,
                args.seed,
            )
            .map_err(blame)?;
            answer.checkpoints.push(CheckpointBound {
                path: source.path.display().to_string(),
                step,
                bound: rank.bound,
                prediction: rank.prediction,
                relative_gap: rank.relative_gap,
                resolved: rank.resolved,
            });
        }
    }
    args.common.answer(&answer, &text(&answer))
}

fn sizes(args: &BoundsArgs, known: Option<&Problem>) -> Result<(usize, usize)> {
    let listed = args.support.as_ref().map(|s| s.0.iter().map(Vec::len).sum::<usize>());
    let d = known.map(Problem::dimension).or(args.d);
    let k = known.map(Problem::k).or(listed).or(args.k);
    let (Some(d), Some(k)) = (d, k) else {
        return Err(usage("give --d and --k, or --checkpoint FILE with --support LIST"));
    };
    if let Some(asked) = args.k
        && asked != k
    {
        return Err(usage(format!("--k {asked}, but the support has {k} coordinates: leave --k out")));
    }
    if k < 2 || k >= d {
        return Err(usage(format!(
            "k = {k} with d = {d}: the bounds need 2 <= k < d; a single coordinate is linear, and with k = d there is nothing to find"
        )));
    }
    if k > 512 {
        return Err(usage(format!(
            "k = {k} is above 512: its counts leave the range of 64-bit floats; give a smaller k"
        )));
    }
    Ok((d, k))
}

/// Everything that needs only the sizes.
fn formulas(args: &BoundsArgs, answer: &mut Answer) -> Result<()> {
    let (d, k, width, delta, epsilon) = (answer.d, answer.k, args.width, args.delta, args.epsilon);
    let mut put = |name: &'static str, bound: curricle_theory::Result<Bound>| match bound {
        Ok(bound) => {
            answer.bounds.push(Bound { name: name.to_owned(), ..bound });
            Ok(())
        }
        // A bound that does not exist for these sizes is an answer; anything else is a wrong argument.
        Err(e @ (TheoryError::NoGap { .. } | TheoryError::NoComparator { .. } | TheoryError::Linalg(_))) => {
            answer.unavailable.push(Unavailable { name, reason: e.to_string() });
            Ok(())
        }
        Err(e) => Err(blame(e)),
    };
    let labels = GradientStatistics::labels(d, k, args.bias).map_err(blame)?;
    put("labels_first_phase", theory::labels_first_phase(d, k, args.bias, width, delta))?;
    put("predicted_labels_first_phase", theory::predicted_batch(&labels, args.fraction))?;
    put("headline_one_shot", theory::headline_one_shot(d, k, epsilon, Constants::default()))?;
    put("headline_progressive", theory::headline_progressive(d, k, epsilon, Constants::default()))?;
    put("information_labels", theory::information_labels(d, k, delta))?;
    put("statistical_query", theory::statistical_query(d, k, width, delta))?;
    let small = delta < 0.5;
    if small {
        put("information_teacher", theory::information_teacher(d, k, delta))?;
    }
    let simulated = d <= curricle_theory::two_phase::MAX_DIMENSION;
    if simulated {
        let typical = theory::phase_one_typical(d, k, args.teacher_width, width, delta);
        put("phase_one_typical", typical)?;
        // The student's first layer after a population step: as it is, and with only the support kept.
        let problem = Problem::first(d, k).map_err(blame)?;
        let student = TeacherSpec { width: width + width % 2, ..TeacherSpec::default() };
        let layer = phase_one_teacher(&problem, &student, args.seed, 0).map_err(blame)?;
        let second = |net: &ReluNet| theory::second_phase(net, &problem, epsilon, args.seed).map(|b| b.bound);
        put("second_phase_pruned", second(&layer.pruned(0.5)))?;
        // 8192 sampled points: above this the features say more about the sample than about the function.
        if width <= 2048 && d <= 1024 {
            put("second_phase", second(&layer))?;
        }
    }
    if !small {
        let reason =
            format!("delta = {delta}: the argument needs a success probability above 1/2, delta < 0.5");
        answer.unavailable.push(Unavailable { name: "information_teacher", reason });
    }
    if !simulated {
        for name in ["phase_one_typical", "second_phase"] {
            let reason = format!(
                "d = {d} is above {}, the limit of the simulated first phase; its order does not depend on d",
                curricle_theory::two_phase::MAX_DIMENSION
            );
            answer.unavailable.push(Unavailable { name, reason });
        }
    }
    answer.crossover.headline = theory::crossover(k, epsilon, Constants::default()).map_err(blame)?;
    let explicit = theory::explicit_crossover(k, args.teacher_width, width, delta, LARGEST_CROSSOVER);
    answer.crossover.explicit = match explicit {
        Ok(found) => found,
        // It runs over odd d, where an odd k has no signal.
        Err(TheoryError::NoFirstOrderSignal { .. } | TheoryError::NoGap { .. }) => None,
        Err(e) => return Err(blame(e)),
    };
    let order = |kind: Kind| match kind {
        Kind::Upper => 0,
        Kind::Prediction => 1,
        Kind::Order => 2,
        Kind::Lower => 3,
    };
    answer.bounds.sort_by_key(|b| order(b.kind));
    Ok(())
}

fn text(answer: &Answer) -> String {
    let mut out = format!(
        "d = {}, k = {}, student width {}, teacher width {}, delta = {}, epsilon = {}\n\n",
        answer.d, answer.k, answer.width, answer.teacher_width, answer.delta, answer.epsilon
    );
    for bound in &answer.bounds {
        let kind = match bound.kind {
            Kind::Upper => "enough",
            Kind::Lower => "not less",
            Kind::Order => "order",
            Kind::Prediction => "predicted",
        };
        out += &format!("{:30} {kind:10} {:>11}\n", bound.name, count(bound.samples));
        out += &format!("    {}\n    {}\n", bound.statement, ingredients(bound));
    }
    for missing in &answer.unavailable {
        out += &format!("{:30} {:10} {:>11}\n    {}\n", missing.name, "", "-", missing.reason);
    }
    let from = |d: Option<usize>| d.map_or_else(|| "never".to_owned(), |d| format!("d = {d}"));
    out += &format!(
        "\nProgressive is cheaper from {} on (headline orders, unit constants); its first phase from {} on (explicit bounds, odd d up to {LARGEST_CROSSOVER})\n",
        from(answer.crossover.headline),
        from(answer.crossover.explicit)
    );
    for c in &answer.checkpoints {
        let samples = |b: &Option<Bound>| count_or_dash(b.as_ref().map(|b| b.samples));
        out += &format!(
            "\n{} (step {}): enough {}, predicted {}, gap {:+.4} of the output's size{}\n",
            c.path,
            c.step.map_or_else(|| "?".to_owned(), |s| s.to_string()),
            samples(&c.bound),
            samples(&c.prediction),
            c.relative_gap,
            if c.resolved { "" } else { " (below four standard errors: raise --samples)" }
        );
        if let Some(bound) = &c.bound {
            out += &format!("    {}\n", ingredients(bound));
        }
    }
    out
}

fn ingredients(bound: &Bound) -> String {
    let number = |v: f64| match v {
        v if v == v.trunc() && v.abs() < 1e9 => format!("{v}"),
        v if (1e-3..1e6).contains(&v.abs()) => format!("{v:.4}"),
        v => format!("{v:.4e}"),
    };
    bound.ingredients.iter().map(|(n, v)| format!("{n} = {}", number(*v))).collect::<Vec<_>>().join(", ")
}
