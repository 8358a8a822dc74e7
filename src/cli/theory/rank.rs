//! `curricle theory rank`: a teacher's checkpoints by the samples a student is predicted to need.

use super::checkpoints::{self, Loaded};
use super::rank_report;
use super::session::{Session, make_parent};
use super::{Common, blame, fraction, unit, usage};
use crate::correlate::arguments::SupportList;
use crate::correlate::sources::{self, Source};
use anyhow::Result;
use curricle_lab::run::folder::write_json;
use curricle_probe::Evaluation;
use curricle_theory::bounds::{
    GradientStatistics, NeuronStatistics, labels_first_phase, one_step_labels, predicted_batch,
    rank_checkpoint,
};
use curricle_theory::measure::{
    Criterion, Experiment, GrowthSpec, RecoveryLog, Source as Supervision, recovery_batches,
};
use curricle_theory::net::ReluNet;
use curricle_theory::two_phase::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Rank a teacher's checkpoints by the samples a student's first phase needs from them, before any student is
/// trained
///
/// For each checkpoint of the run the gradient that random student neurons would see is measured; from it
/// come an explicit bound and a prediction (normal law). With --measure the first phase is also run from
/// each, and the predictions are judged: within a factor of 30 or not.
///
/// JSON:
/// {"run","d","k","support","settings","ranking":[{"rank","step","samples","accuracy","predicted","bound","relative_gap","resolved",
/// "inside","outside","second_moment","measured"}],"labels":{"predicted","bound","lower","reason"},"unions":[{"steps","measured"}],"factor":{..},"device","version","wall_seconds"}.
/// The ranking is ascending in predicted; checkpoints without a gap (no batch suffices) come last, with null.
/// measured is null or {"median", "successes","trials","max_batch","ratio","verdict"}; ratio is measured over
/// predicted.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct RankArgs {
    /// A teacher's run folder (.../teacher/seed-N)
    #[arg(value_name = "RUN_FOLDER")]
    run: PathBuf,
    /// Coordinates of the support, from 0 [default: that of the run]
    #[arg(long, value_name = "LIST")]
    support: Option<SupportList>,
    /// Width of the student, in the bound
    #[arg(long, value_name = "M", default_value_t = 64)]
    width: usize,
    /// Failure probability, in the bound
    #[arg(long, default_value_t = 0.1)]
    delta: f64,
    /// Fraction of the student's neurons that has to rank the support on top
    #[arg(long, default_value_t = 0.9)]
    fraction: f64,
    /// Student neurons the gradient is measured for
    #[arg(long, value_name = "N", default_value_t = 64)]
    neurons: usize,
    /// Samples the gradient is measured on
    #[arg(long, value_name = "N", default_value_t = 1 << 17)]
    samples: u64,
    /// At most this many checkpoints, thinned outside the transition first
    #[arg(long, value_name = "N", default_value_t = 40)]
    most: usize,
    /// Only the checkpoints of these steps
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    steps: Option<Vec<u64>>,
    /// What of the teacher's margin the student learns from: raw, centred (minus its mean) or odd, (f(x) -
    /// f(-x))/2, without the even levels that put signal on coordinates outside the support
    #[arg(long, value_enum, default_value_t = Margin::Raw)]
    margin: Margin,
    /// Also run the first phase from each checkpoint and judge the predictions
    #[arg(long)]
    measure: bool,
    /// Also measure unions of N neighbouring checkpoints (squared gradients pooled)
    #[arg(long, value_name = "N", requires = "measure")]
    union: Option<usize>,
    /// Trials per checkpoint
    #[arg(long, value_name = "N", default_value_t = 11)]
    trials: u64,
    /// Largest batch tried
    #[arg(long, value_name = "B", default_value_t = 1 << 20)]
    max_batch: u64,
    /// Distinct neurons of the measured students
    #[arg(long, value_name = "N", default_value_t = 32)]
    student_neurons: usize,
    /// Seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder for rank.json and the figures; finished trials are kept there too
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with the finished trials
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Forget the finished trials
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    pub common: Common,
}

/// Parts of a margin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Margin {
    Raw,
    Centred,
    Odd,
}

/// The command's answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The run folder.
    pub run: String,
    /// Input dimension.
    pub d: usize,
    /// Coordinates of the parity.
    pub k: usize,
    /// They themselves, from 0.
    pub support: Vec<usize>,
    /// How it was measured.
    pub settings: Settings,
    /// The checkpoints.
    pub ranking: Vec<Ranked>,
    /// What the same first phase needs from labels, for comparison.
    pub labels: Labels,
    /// Several checkpoints pooled.
    pub unions: Vec<Union>,
    /// How far predictions were off; none without measurements.
    pub factor: Option<Factor>,
    device: String,
    version: &'static str,
    wall_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Settings {
    width: usize,
    delta: f64,
    /// Quantile of neurons that the gap is taken at.
    pub fraction: f64,
    neurons: usize,
    samples: u64,
    /// The part of the margin that was ranked by.
    pub margin: Margin,
    trials: u64,
    max_batch: u64,
    student_neurons: usize,
    seed: u64,
}

/// One checkpoint.
#[derive(Debug, Serialize)]
pub(super) struct Ranked {
    /// 1 is the best; null without a prediction.
    pub rank: Option<usize>,
    /// Step of the teacher.
    pub step: u64,
    /// Training samples of the teacher.
    pub samples: Option<u64>,
    /// Evaluated accuracy of the teacher at or before the step.
    pub accuracy: Option<f64>,
    /// Predicted samples; none if no batch suffices.
    pub predicted: Option<f64>,
    /// Samples that the bound asks for.
    pub bound: Option<f64>,
    /// Gap (at the asked quantile of neurons) over the size of the masked output.
    pub relative_gap: f64,
    /// Whether the gap is at least four standard errors.
    pub resolved: bool,
    /// Median over neurons of the smallest |gradient| inside the support, per unit output weight.
    inside: f64,
    /// Of the largest outside.
    outside: f64,
    /// Of E[f^2 1[active]].
    second_moment: f64,
    /// Measured samples, where asked for.
    pub measured: Option<Measured>,
}

/// The labels' row: no checkpoint, the same student.
#[derive(Debug, Serialize)]
pub(super) struct Labels {
    /// Predicted samples (normal model).
    pub predicted: Option<f64>,
    /// Samples that the bound asks for.
    pub bound: Option<f64>,
    /// Lower line of the one-step learner.
    pub lower: Option<f64>,
    /// Why there is none.
    pub reason: Option<String>,
}

fn labels_row(args: &RankArgs, problem: &Problem) -> Labels {
    let (d, k) = (problem.dimension(), problem.k());
    let predicted = GradientStatistics::labels(d, k, 0.5).and_then(|s| predicted_batch(&s, args.fraction));
    Labels {
        reason: predicted.as_ref().err().map(ToString::to_string),
        predicted: predicted.ok().map(|b| b.samples),
        bound: labels_first_phase(d, k, 0.5, args.width, args.delta).ok().map(|b| b.samples),
        lower: one_step_labels(d, k, args.fraction, args.delta).ok().map(|b| b.samples),
    }
}

/// Growing batches from one source.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    /// Null when half of the trials or more fail.
    pub median: Option<f64>,
    /// Trials that recovered the support.
    pub successes: u64,
    /// Trials.
    pub trials: u64,
    /// Largest batch tried.
    pub max_batch: u64,
    /// Measured over predicted, where both exist.
    pub ratio: Option<f64>,
    /// What that says about the prediction, if there is one.
    pub verdict: Option<Verdict>,
}

/// What a measurement says about its prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Within the factor.
    Within,
    /// Predicted more than the factor too many samples.
    Overshoot,
    /// Predicted more than the factor too few samples.
    Undershoot,
    /// No batch suffices, it said, and none up to the largest did.
    NoneAsPredicted,
    /// No batch suffices, it said, but one did.
    UnexpectedSuccess,
    /// Not recovered, and the prediction is too close to the largest batch to tell.
    Undecided,
}

/// Several checkpoints pooled.
#[derive(Debug, Serialize)]
pub(super) struct Union {
    /// Their steps.
    pub steps: Vec<u64>,
    /// Measured samples.
    pub measured: Measured,
}

/// The judgement over all checkpoints.
#[derive(Debug, Serialize)]
pub(super) struct Factor {
    /// The factor.
    pub limit: f64,
    /// Checkpoints with both numbers, or with a decided lack of one.
    pub compared: usize,
    /// How many are [`Verdict::Within`],
    pub within: usize,
    /// [`Verdict::Overshoot`],
    pub overshoots: usize,
    /// [`Verdict::Undershoot`],
    pub undershoots: usize,
    /// [`Verdict::NoneAsPredicted`],
    pub none_as_predicted: usize,
    /// [`Verdict::UnexpectedSuccess`],
    pub unexpected_successes: usize,
    /// [`Verdict::Undecided`].
    pub undecided: usize,
    /// Smallest and largest measured / predicted.
    pub ratios: Option<[f64; 2]>,
}

/// The factor within which predictions are to be.
pub(super) const LIMIT: f64 = 30.0;

#[derive(Default, Serialize, Deserialize)]
struct State {
    logs: BTreeMap<String, RecoveryLog>,
}

/// `curricle theory rank`.
///
/// # Errors
/// Arguments that cannot be satisfied; a folder that is no run of a parity; an interruption; files that
/// cannot be read or written.
pub(super) fn run(args: &RankArgs) -> Result<()> {
    unit("delta", args.delta)?;
    fraction(args.fraction)?;
    if args.most == 0 || args.union.is_some_and(|n| !(2..=16).contains(&n)) {
        return Err(usage("--most must be at least 1 and --union between 2 and 16"));
    }
    if !args.run.is_dir() {
        return Err(usage(format!(
            "{}: not a folder; give a teacher's run folder, or checkpoint files to `theory bounds --checkpoint`",
            args.run.display()
        )));
    }
    let (found, runs) = sources::resolve(std::slice::from_ref(&args.run))?;
    let problem = checkpoints::problem(&found, args.support.as_ref(), None)?;
    let evaluations: &[Evaluation] = runs.first().map_or(&[], |r| &r.evaluations);
    let chosen = choose(args, &found, evaluations)?;
    let state = args.out.as_ref().map(|out| out.join("rank.state"));
    let session = Session::new(state, Duration::from_secs(10))?;
    let mut log: State = match args.measure {
        true => session.open(args.resume, args.fresh)?,
        false => State::default(),
    };
    let (mut ranking, mut nets) = (Vec::new(), Vec::new());
    for (i, (source, step)) in chosen.iter().enumerate() {
        session.check()?;
        eprintln!("[{}/{}] step {step}", i + 1, chosen.len());
        let Loaded { net, .. } = checkpoints::load(&source.path)?;
        let net = match args.margin {
            Margin::Raw => net,
            Margin::Centred => net.centred(args.seed).map_err(blame)?,
            Margin::Odd => net.odd_part(),
        };
        let mut ranked = predict(args, &problem, &net, *step, evaluations)?;
        if args.measure {
            session.next(format!("step {step}"));
            let measured = measure(args, &session, &mut log, &problem, &[*step], vec![net.clone()])?;
            ranked.measured = Some(judge(measured, ranked.predicted));
        }
        ranking.push(ranked);
        if args.union.is_some() {
            nets.push((*step, net));
        }
    }
    let mut unions = Vec::new();
    for group in args.union.map_or_else(Vec::new, |n| nets.chunks_exact(n).collect()) {
        let steps: Vec<u64> = group.iter().map(|(step, _)| *step).collect();
        session.next(format!("steps {steps:?}"));
        let nets = group.iter().map(|(_, net)| net.clone()).collect();
        let measured = measure(args, &session, &mut log, &problem, &steps, nets)?;
        unions.push(Union { steps, measured });
    }
    session.finish();
    let factor = args.measure.then(|| summarise(&ranking));
    order(&mut ranking);
    let answer = Answer {
        run: args.run.display().to_string(),
        d: problem.dimension(),
        k: problem.k(),
        support: problem.support().to_vec(),
        settings: Settings {
            width: args.width,
            delta: args.delta,
            fraction: args.fraction,
            neurons: args.neurons,
            samples: args.samples,
            margin: args.margin,
            trials: args.trials,
            max_batch: args.max_batch,
            student_neurons: args.student_neurons,
            seed: args.seed,
        },
        ranking,
        labels: labels_row(args, &problem),
        unions,
        factor,
        device: super::device(),
        version: env!("CARGO_PKG_VERSION"),
        wall_seconds: session.seconds(),
    };
    if let Some(out) = &args.out {
        make_parent(&out.join("rank.json"))?;
        write_json(&out.join("rank.json"), &answer)?;
        rank_report::draw(&answer, out)?;
    }
    args.common.answer(&answer, &rank_report::text(&answer))
}

/// The checkpoints to look at, by step.
fn choose<'a>(
    args: &RankArgs,
    found: &'a [Source],
    evaluations: &[Evaluation],
) -> Result<Vec<(&'a Source, u64)>> {
    let step = |s: &Source| -> Result<u64> {
        sources::load(&s.path)?.1.ok_or_else(|| usage(format!("{}: its step is not known", s.path.display())))
    };
    let all: Vec<(&Source, u64)> = found.iter().map(|s| Ok((s, step(s)?))).collect::<Result<_>>()?;
    if let Some(wanted) = &args.steps {
        let has = |w: &u64| all.iter().any(|(_, step)| step == w);
        if let Some(missing) = wanted.iter().find(|w| !has(w)) {
            let steps: Vec<String> = all.iter().map(|(_, s)| s.to_string()).collect();
            return Err(usage(format!(
                "--steps {missing}: the run has no such checkpoint; it has {}",
                steps.join(", ")
            )));
        }
        return Ok(all.into_iter().filter(|(_, step)| wanted.contains(step)).collect());
    }
    let inside = |step: u64| at(evaluations, step).is_some_and(|e| (0.52..0.995).contains(&e.accuracy));
    let (inner, outer): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, step)| inside(*step));
    let mut chosen = thin(inner, args.most.saturating_sub(outer.len().min(args.most / 3)).max(1));
    let rest = args.most - chosen.len().min(args.most);
    chosen.extend(thin(outer, rest));
    chosen.sort_by_key(|(_, step)| *step);
    Ok(chosen)
}

/// At most `most` of them, evenly.
fn thin<T>(items: Vec<T>, most: usize) -> Vec<T> {
    let n = items.len();
    if n <= most {
        return items;
    }
    let keep: Vec<usize> =
        (0..most).map(|i| if most > 1 { i * (n - 1) / (most - 1) } else { n - 1 }).collect();
    items.into_iter().enumerate().filter(|(i, _)| keep.contains(i)).map(|(_, item)| item).collect()
}

/// The last evaluation at or before a step.
fn at(evaluations: &[Evaluation], step: u64) -> Option<&Evaluation> {
    evaluations.iter().rev().find(|e| e.step <= step)
}

fn predict(
    args: &RankArgs,
    problem: &Problem,
    net: &ReluNet,
    step: u64,
    evaluations: &[Evaluation],
) -> Result<Ranked> {
    let rank = rank_checkpoint(
        net,
        problem,
        args.neurons,
        args.samples,
        args.width,
        args.delta,
        args.fraction,
        args.seed,
    )
    .map_err(blame)?;
    let evaluation = at(evaluations, step);
    let samples = evaluation.and_then(|e| match (e.samples, e.step) {
        (Some(samples), seen) if seen > 0 => Some(samples / seen * step),
        _ => None,
    });
    Ok(Ranked {
        rank: None,
        step,
        samples,
        accuracy: evaluation.map(|e| e.accuracy),
        predicted: rank.prediction.as_ref().map(|b| b.samples),
        bound: rank.bound.as_ref().map(|b| b.samples),
        relative_gap: rank.relative_gap,
        resolved: rank.resolved,
        inside: median_of(&rank.statistics, |n| n.inside),
        outside: median_of(&rank.statistics, |n| n.outside),
        second_moment: median_of(&rank.statistics, |n| n.second_moment),
        measured: None,
    })
}

fn median_of(statistics: &GradientStatistics, of: impl Fn(&NeuronStatistics) -> f64) -> f64 {
    curricle_core::math::order::median(statistics.neurons.iter().map(of))
}

/// Growing batches from these checkpoints.
fn measure(
    args: &RankArgs,
    session: &Session,
    log: &mut State,
    problem: &Problem,
    steps: &[u64],
    nets: Vec<ReluNet>,
) -> Result<Measured> {
    let spec = GrowthSpec {
        trials: args.trials,
        start: 16.min(args.max_batch),
        factor: 1.25,
        max_batch: args.max_batch,
        ..GrowthSpec::default()
    };
    let experiment = Experiment {
        problem: problem.clone(),
        source: Supervision::Checkpoints(nets),
        neurons: args.student_neurons,
        criterion: Criterion::Neurons(args.fraction),
        seed: args.seed,
        cancel: Some(session.cancel().clone()),
    };
    let key = steps.iter().map(u64::to_string).collect::<Vec<_>>().join("+");
    let found = session.run(
        log,
        |log| log.logs.entry(key.clone()).or_default(),
        |part, callback| recovery_batches(&experiment, spec, part, callback),
    )?;
    Ok(Measured {
        median: found.median,
        successes: found.batches.len() as u64 - found.failures,
        trials: found.batches.len() as u64,
        max_batch: args.max_batch,
        ratio: None,
        verdict: None,
    })
}

fn judge(measured: Measured, predicted: Option<f64>) -> Measured {
    let ratio = measured.median.zip(predicted).map(|(m, p)| m / p);
    let verdict = match (measured.median, predicted) {
        (Some(m), Some(p)) if m > LIMIT * p => Verdict::Undershoot,
        (Some(m), Some(p)) if p > LIMIT * m => Verdict::Overshoot,
        (Some(_), Some(_)) => Verdict::Within,
        (None, None) => Verdict::NoneAsPredicted,
        (Some(_), None) => Verdict::UnexpectedSuccess,
        (None, Some(p)) if LIMIT * p < measured.max_batch as f64 => Verdict::Undershoot,
        (None, Some(_)) => Verdict::Undecided,
    };
    Measured { ratio, verdict: Some(verdict), ..measured }
}

fn summarise(ranking: &[Ranked]) -> Factor {
    let verdicts: Vec<Verdict> =
        ranking.iter().filter_map(|r| r.measured.as_ref()).filter_map(|m| m.verdict).collect();
    let of = |wanted: Verdict| verdicts.iter().filter(|v| **v == wanted).count();
    let ratios: Vec<f64> = ranking.iter().filter_map(|r| r.measured.as_ref()?.ratio).collect();
    let ends = (!ratios.is_empty()).then(|| {
        [ratios.iter().copied().fold(f64::INFINITY, f64::min), ratios.iter().copied().fold(0.0, f64::max)]
    });
    Factor {
        limit: LIMIT,
        compared: verdicts.len() - of(Verdict::Undecided),
        within: of(Verdict::Within),
        overshoots: of(Verdict::Overshoot),
        undershoots: of(Verdict::Undershoot),
        none_as_predicted: of(Verdict::NoneAsPredicted),
        unexpected_successes: of(Verdict::UnexpectedSuccess),
        undecided: of(Verdict::Undecided),
        ratios: ends,
    }
}

/// Fewest predicted samples first; without a prediction by the gap.
fn order(ranking: &mut [Ranked]) {
    ranking.sort_by(|a, b| {
        let key = |r: &Ranked| r.predicted.unwrap_or(f64::INFINITY);
        key(a).total_cmp(&key(b)).then(b.relative_gap.total_cmp(&a.relative_gap))
    });
    for (i, ranked) in ranking.iter_mut().enumerate() {
        ranked.rank = ranked.predicted.map(|_| i + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_ends() {
        assert_eq!(thin((0..10).collect(), 4), [0, 3, 6, 9]);
        assert_eq!(thin((0..3).collect(), 4), [0, 1, 2]);
        assert_eq!(thin((0..3).collect(), 1), [2]);
        assert!(thin((0..3).collect::<Vec<i32>>(), 0).is_empty());
    }

    #[test]
    fn predictions_are_judged_against_the_factor() {
        let measured = |median| Measured {
            median,
            successes: 1,
            trials: 1,
            max_batch: 1000,
            ratio: None,
            verdict: None,
        };
        let verdict = |m, p| judge(measured(m), p).verdict.unwrap();
        assert_eq!(verdict(Some(100.0), Some(90.0)), Verdict::Within);
        assert_eq!(verdict(Some(100.0), Some(3.0)), Verdict::Undershoot);
        assert_eq!(verdict(Some(100.0), Some(3100.0)), Verdict::Overshoot);
        assert_eq!(verdict(None, Some(20.0)), Verdict::Undershoot);
        assert_eq!(verdict(None, Some(500.0)), Verdict::Undecided);
        assert_eq!(verdict(None, None), Verdict::NoneAsPredicted);
        assert_eq!(verdict(Some(5.0), None), Verdict::UnexpectedSuccess);
    }
}
