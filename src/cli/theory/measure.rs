//! `curricle theory measure`: the smallest batch that works, or its distribution.

use super::checkpoints;
use super::session::{Session, make_parent};
use super::{Common, blame, count, count_or_dash, unit, usage};
use crate::correlate::arguments::SupportList;
use crate::correlate::sources;
use anyhow::Result;
use curricle_lab::run::folder::write_json;
use curricle_theory::TheoryError;
use curricle_theory::bounds::second_phase;
use curricle_theory::measure::{
    BatchLog, Criterion, Experiment, GrowthSpec, RecoveryBatches, RecoveryLog, SearchSpec, SmallestBatch,
    Source, recovery_batches, smallest_batch,
};
use curricle_theory::recovery::SignSumModel;
use curricle_theory::two_phase::{FirstLayer, Problem, SecondPhase, TeacherSpec, phase_one_teacher};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Run the two-phase algorithm for real and find the smallest batch that is enough
///
/// The first phase alone (curricle theory total measures both). The smallest batch at which it meets the
/// criterion with probability at least 1 - delta: geometric bracketing, independent trials at each batch,
/// Clopper-Pearson intervals; a batch is called enough when its interval says so. Phase-one teacher: a
/// teacher after its first phase; to rank the support on top: a neuron's k largest |gradients| are the
/// support. With --grow every trial's batch grows until the criterion holds, which gives the distribution
/// over trials (and teachers), failures included.
///
/// JSON:
/// {"d","k","support","source","criterion","neurons","second_phase","seeds":[{"seed","smallest"|"grown"}],"device","version",
/// "wall_seconds"}; smallest is
/// {"batch","enough","not_enough","tried":[{"batch","trials","successes","interval","meets","enough"}],"spec"},
/// grown is {"batches","median","median_of_successes","failures","failure_interval","spec"}.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct MeasureArgs {
    /// Dimension [default: that of the checkpoint]
    #[arg(long)]
    d: Option<usize>,
    /// Size of the support {0, .., k-1} [default: that of --support]
    #[arg(long)]
    k: Option<usize>,
    /// Coordinates of the support, from 0 [default: that of the checkpoint's run]
    #[arg(long, value_name = "LIST")]
    support: Option<SupportList>,
    /// Supervision of the first phase: labels, phase-one (a teacher per trial), final (the same after both
    /// phases), pool:N (N phase-one teachers), or checkpoint files (several are pooled)
    #[arg(long, value_name = "SOURCE", num_args = 1.., required = true)]
    source: Vec<String>,
    /// When a trial succeeds: neurons or neurons:F (a fraction F ranks the support on top), vote (of the
    /// neurons), pooled (squared gradients), loss (hinge loss epsilon after a second phase)
    #[arg(long, default_value = "neurons")]
    criterion: CriterionName,
    /// Allowed failure probability
    #[arg(long, default_value_t = 0.1)]
    delta: f64,
    /// Hinge loss to reach, for the criterion loss and final teachers
    #[arg(long, default_value_t = 0.3)]
    epsilon: f64,
    /// Distinct student neurons
    #[arg(long, value_name = "N", default_value_t = 32)]
    neurons: usize,
    /// Width of phase-one teachers, even
    #[arg(long, value_name = "M", default_value_t = 64)]
    teacher_width: usize,
    /// First-phase batch of the teachers [default: the population gradient]
    #[arg(long, value_name = "B")]
    teacher_batch: Option<u64>,
    /// Samples of second phases [default: what the bound asks for, at most 200000]
    #[arg(long, value_name = "N")]
    second_samples: Option<u64>,
    /// Trials at each batch (with --grow: in all)
    #[arg(long, value_name = "N", default_value_t = 20)]
    trials: u64,
    /// Seeds, each a measurement of its own
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// First batch tried [default: 1024; with --grow 64]
    #[arg(long, value_name = "B")]
    start: Option<u64>,
    /// Give up above this batch
    #[arg(long, value_name = "B", default_value_t = 1 << 28)]
    max_batch: u64,
    /// Stop when the answer is known within this factor (with --grow: factor between looks)
    #[arg(long, value_name = "FACTOR")]
    resolution: Option<f64>,
    /// Confidence of the intervals
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// The distribution over trials instead of the smallest batch
    #[arg(long)]
    grow: bool,
    /// Where the result goes; finished trials are kept in FILE.state beside it
    #[arg(long, value_name = "FILE")]
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

/// Criteria by name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum CriterionName {
    Neurons(f64),
    Vote,
    Pooled,
    Loss,
}

impl FromStr for CriterionName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fraction = |f: &str| match f.parse::<f64>() {
            Ok(f) if f > 0.0 && f <= 1.0 => Ok(Self::Neurons(f)),
            _ => Err(format!("neurons:{f}: the fraction of neurons is in (0, 1], such as neurons:0.9")),
        };
        match text {
            "neurons" => Ok(Self::Neurons(0.9)),
            "vote" => Ok(Self::Vote),
            "pooled" => Ok(Self::Pooled),
            "loss" => Ok(Self::Loss),
            other => match other.strip_prefix("neurons:") {
                Some(f) => fraction(f),
                None => Err(format!("'{other}' is none of neurons, neurons:F, vote, pooled, loss")),
            },
        }
    }
}

impl std::fmt::Display for CriterionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Neurons(fraction) => write!(f, "neurons:{fraction}"),
            Self::Vote => f.write_str("vote"),
            Self::Pooled => f.write_str("pooled"),
            Self::Loss => f.write_str("loss"),
        }
    }
}

/// What is kept between sessions: finished trials by seed.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    smallest: BTreeMap<u64, BatchLog>,
    grown: BTreeMap<u64, RecoveryLog>,
}

#[derive(Debug, Serialize)]
struct Answer {
    d: usize,
    k: usize,
    support: Vec<usize>,
    source: String,
    criterion: String,
    neurons: usize,
    /// Settings of the second phase, where there is one.
    second_phase: Option<SecondPhase>,
    seeds: Vec<SeedAnswer>,
    device: String,
    version: &'static str,
    wall_seconds: f64,
}

#[derive(Debug, Serialize)]
struct SeedAnswer {
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    smallest: Option<SmallestBatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grown: Option<RecoveryBatches>,
}

/// Samples of a second phase when the bound asks for more.
const SECOND_SAMPLES: u64 = 200_000;

/// `curricle theory measure`.
///
/// # Errors
/// Arguments that cannot be satisfied; an interruption; files that cannot be read or written.
pub(super) fn run(args: &MeasureArgs) -> Result<()> {
    unit("delta", args.delta)?;
    unit("epsilon", args.epsilon)?;
    unit("confidence", args.confidence)?;
    if let Some(r) = args.resolution
        && !(r > 1.0 && r.is_finite())
    {
        return Err(usage(format!("--resolution {r}: a factor above 1, such as 1.1")));
    }
    if args.seeds.is_empty() {
        return Err(usage("--seeds is empty: give at least one, such as 1,2,3"));
    }
    let (problem, source, second) = resolve(args)?;
    refuse_hopeless(args, &problem, &source)?;
    let criterion = match args.criterion {
        CriterionName::Neurons(f) => Criterion::Neurons(f),
        CriterionName::Vote => Criterion::Vote,
        CriterionName::Pooled => Criterion::Pooled,
        CriterionName::Loss => {
            let second = second_settings(args, &problem, 2 * args.neurons)?;
            Criterion::Loss { epsilon: args.epsilon, second, layer: FirstLayer::PrunedInit }
        }
    };
    let second = match criterion {
        Criterion::Loss { second, .. } => Some(second),
        _ => second,
    };
    let state = args.out.as_ref().map(|out| with_suffix(out, ".state"));
    let session = Session::new(state, Duration::from_secs(5))?;
    let mut log: State = session.open(args.resume, args.fresh)?;
    let mut seeds = Vec::new();
    for &seed in &args.seeds {
        let experiment = Experiment {
            problem: problem.clone(),
            source: source.clone(),
            neurons: args.neurons,
            criterion,
            seed,
            cancel: Some(session.cancel().clone()),
        };
        session.next(format!("seed {seed}"));
        seeds.push(measure_seed(args, &session, &mut log, &experiment)?);
    }
    session.finish();
    let answer = Answer {
        d: problem.dimension(),
        k: problem.k(),
        support: problem.support().to_vec(),
        source: args.source.join(" "),
        criterion: args.criterion.to_string(),
        neurons: args.neurons,
        second_phase: second,
        seeds,
        device: super::device(),
        version: env!("CARGO_PKG_VERSION"),
        wall_seconds: session.seconds(),
    };
    if let Some(out) = &args.out {
        make_parent(out)?;
        write_json(out, &answer)?;
    }
    args.common.answer(&answer, &text(&answer))
}

fn measure_seed(
    args: &MeasureArgs,
    session: &Session,
    log: &mut State,
    experiment: &Experiment,
) -> Result<SeedAnswer> {
    let seed = experiment.seed;
    let mut answer = SeedAnswer { seed, smallest: None, grown: None };
    if args.grow {
        let spec = GrowthSpec {
            trials: args.trials,
            start: args.start.unwrap_or(64).min(args.max_batch),
            factor: args.resolution.unwrap_or(1.2),
            max_batch: args.max_batch,
            confidence: args.confidence,
        };
        answer.grown = Some(session.run(
            log,
            |log| log.grown.entry(seed).or_default(),
            |part, callback| recovery_batches(experiment, spec, part, callback),
        )?);
    } else {
        let spec = SearchSpec {
            delta: args.delta,
            trials: args.trials,
            start: args.start.unwrap_or(1024).min(args.max_batch),
            max_batch: args.max_batch,
            resolution: args.resolution.unwrap_or(1.1),
            confidence: args.confidence,
        };
        answer.smallest = Some(session.run(
            log,
            |log| log.smallest.entry(seed).or_default(),
            |part, callback| smallest_batch(experiment, spec, part, callback),
        )?);
    }
    Ok(answer)
}

/// A share of phase-one teachers fails at any batch; when it is more than delta the search would only climb
/// to its limit.
fn refuse_hopeless(args: &MeasureArgs, problem: &Problem, source: &Source) -> Result<()> {
    let teachers = matches!(source, Source::PhaseOne { .. });
    if args.grow || !teachers || !matches!(args.criterion, CriterionName::Neurons(_)) {
        return Ok(());
    }
    let (d, k) = (problem.dimension(), problem.k());
    // Sizes without a model (k = 1) are measured.
    let Ok(model) = SignSumModel::new(d, k, args.teacher_width) else { return Ok(()) };
    let works = match args.teacher_batch {
        None => model.normal_limit(),
        batch => model.predict(1 << 40, 0.9, batch, 300, 1).map_err(blame)?.limit,
    };
    if works >= 1.0 - args.delta {
        return Ok(());
    }
    Err(usage(format!(
        "--source phase-one: about {:.0}% of these teachers work at any batch (sign-sum model, d = {d}, k = {k}), below 1 - delta = {}: no batch is \
         enough with this probability. Use --grow for the distribution over teachers, --source pool:4, a larger d, or --delta above {:.2}",
        100.0 * works,
        1.0 - args.delta,
        1.0 - works
    )))
}

/// Problem, supervision and the teachers' second phase.
fn resolve(args: &MeasureArgs) -> Result<(Problem, Source, Option<SecondPhase>)> {
    let teacher =
        TeacherSpec { width: args.teacher_width, batch: args.teacher_batch, ..TeacherSpec::default() };
    let [only] = args.source.as_slice() else {
        return from_files(args);
    };
    let pool = only.strip_prefix("pool:").map(|n| {
        n.parse::<usize>()
            .map_err(|_| usage(format!("--source pool:{n}: a number of teachers, such as pool:4")))
    });
    let named = ["labels", "phase-one", "final"].contains(&only.as_str()) || pool.is_some();
    if !named {
        if !Path::new(only).exists() {
            return Err(usage(format!(
                "--source {only}: neither labels, phase-one, final or pool:N nor an existing checkpoint file"
            )));
        }
        return from_files(args);
    }
    if let (Some(SupportList(nodes)), Some(k)) = (&args.support, args.k)
        && nodes.iter().any(|n| n.len() != k)
    {
        return Err(usage(format!(
            "--k {k}, but the support has {} coordinates: leave --k out",
            nodes[0].len()
        )));
    }
    let problem = match (&args.support, args.d, args.k) {
        (Some(SupportList(nodes)), Some(d), _) if nodes.len() == 1 => Problem::new(d, nodes[0].clone()),
        (Some(SupportList(nodes)), _, _) if nodes.len() != 1 => {
            return Err(usage("--support: a parity has one list of coordinates"));
        }
        (None, Some(d), Some(k)) => Problem::first(d, k),
        _ => return Err(usage("give --d and --k (or --d and --support)")),
    }
    .map_err(blame)?;
    Ok(match (only.as_str(), pool) {
        (_, Some(count)) => (problem, Source::Pool { teacher, count: count?, prune: 0.0 }, None),
        ("labels", _) => (problem, Source::Labels, None),
        ("phase-one", _) => (problem, Source::PhaseOne { teacher, fixed: None }, None),
        _ => {
            let second = second_settings(args, &problem, args.teacher_width)?;
            (problem, Source::Final { teacher, second, fixed: None }, Some(second))
        }
    })
}

fn from_files(args: &MeasureArgs) -> Result<(Problem, Source, Option<SecondPhase>)> {
    let paths: Vec<PathBuf> = args.source.iter().map(PathBuf::from).collect();
    if let Some(folder) = paths.iter().find(|p| p.is_dir()) {
        return Err(usage(format!(
            "--source {}: a folder; give checkpoint files, or use `curricle theory rank` for a run folder",
            folder.display()
        )));
    }
    let (found, _) = sources::resolve(&paths)?;
    let problem = checkpoints::problem(&found, args.support.as_ref(), args.d)?;
    if let Some(k) = args.k
        && k != problem.k()
    {
        return Err(usage(format!(
            "--k {k}, but the support has {} coordinates: leave --k out",
            problem.k()
        )));
    }
    let nets = found.iter().map(|s| Ok(checkpoints::load(&s.path)?.net)).collect::<Result<_>>()?;
    Ok((problem, Source::Checkpoints(nets), None))
}

/// Radius, feature norm and samples of a second phase on a first layer of this width that kept only the
/// support.
fn second_settings(args: &MeasureArgs, problem: &Problem, width: usize) -> Result<SecondPhase> {
    let spec = TeacherSpec { width: width + width % 2, ..TeacherSpec::default() };
    let layer = phase_one_teacher(problem, &spec, args.seeds[0], 0).map_err(blame)?.pruned(0.5);
    let found = second_phase(&layer, problem, args.epsilon, args.seeds[0]).map_err(|e| match e {
        TheoryError::NoComparator { .. } => {
            usage(format!("{e}; here: raise --neurons or --teacher-width, or --epsilon"))
        }
        e => blame(e),
    })?;
    let mut settings = found.settings;
    match args.second_samples {
        Some(0) => return Err(usage("--second-samples 0: at least one is needed")),
        Some(n) => settings.samples = n,
        None if settings.samples > SECOND_SAMPLES => {
            eprintln!(
                "note: the bound asks for {} samples in the second phase; {SECOND_SAMPLES} are used (see --second-samples)",
                count(found.bound.samples)
            );
            settings.samples = SECOND_SAMPLES;
        }
        None => {}
    }
    Ok(settings)
}

/// `a/b.json` with something after its name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn text(answer: &Answer) -> String {
    let mut out = format!(
        "d = {}, k = {}, from {}, criterion {}, {} neurons\n",
        answer.d, answer.k, answer.source, answer.criterion, answer.neurons
    );
    for s in &answer.seeds {
        if let Some(found) = &s.smallest {
            let batch = found.batch.map(|b| b as f64);
            out += &format!(
                "seed {}: smallest batch {} (not enough: {}; delta = {})\n",
                s.seed,
                count_or_dash(batch),
                count(found.not_enough as f64),
                found.spec.delta
            );
            for t in &found.tried {
                out += &format!(
                    "    batch {:>10}: {:>3}/{:<3} succeed, probability in ({:.3}, {:.3}){}\n",
                    count(t.batch as f64),
                    t.successes,
                    t.trials,
                    t.interval.low,
                    t.interval.high,
                    match (t.enough, t.meets) {
                        (true, _) => ", enough",
                        (false, true) => ", meets 1 - delta (more trials to call it enough)",
                        _ => "",
                    }
                );
            }
        }
        if let Some(found) = &s.grown {
            out += &format!(
                "seed {}: median batch {} (of those that succeed: {}); {} of {} fail by {}, probability in ({:.3}, {:.3})\n",
                s.seed,
                count_or_dash(found.median),
                count_or_dash(found.median_of_successes),
                found.failures,
                found.batches.len(),
                count(found.spec.max_batch as f64),
                found.failure_interval.low,
                found.failure_interval.high
            );
        }
    }
    out
}
