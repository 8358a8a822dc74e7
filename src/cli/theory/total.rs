//! `curricle theory total`: Theorem 3.2 end to end.

use super::session::{Session, make_parent};
use super::{Common, blame, total_report, unit, usage};
use anyhow::Result;
use curricle_lab::run::folder::write_json;
use curricle_theory::fit::Interval;
use curricle_theory::total::{
    Arm, Confirmation, Design, Exponent, Point, PointResult, Repair, Settings, TotalLog, confirm, exponents,
    measure_points,
};
use curricle_theory::two_phase::FirstLayer;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Total samples until a student's hinge loss is at most epsilon with probability 1 - delta, measured end to
/// end
///
/// Progressive: first phase from a teacher after its first phase (checkpoint one), second phase from the sign
/// of the same teacher after both (checkpoint two, trained until its measured hinge loss is a quarter of
/// epsilon). One-shot: both phases from checkpoint two. Labels: both from labels. The teacher's own samples
/// are counted apart. Exponents in d, k, epsilon and width are fitted to medians, with intervals, and held
/// against 2^k d^2 eps^-2 + k^3 and max(d^(k-1), eps^-2) term by term.
///
/// The first value of each list is the base, the others vary one at a time around it (--grid: all
/// combinations). Probability: over teachers, students and samples. Expectation: the theorem's T_2 bounds the
/// expected loss; here losses are those of each trial.
///
/// JSON:
/// {"design","settings","points":[{"point","trials","reached","reached_interval","student","teacher_second","teacher_first","teacher_loss","lowest_loss",
/// "rank_one"?,"radius","feature_norm","outcomes"}],"missing":[{"point","reason"}],"exponents":[{"arm","term","variable","fixed","fit","bootstrap","theorem",
/// "agrees"}],"confirmations":[{"point","first","second","seed","trials","reached","interval"}],"device","version","command","wall_seconds"}.
/// student is {"first","second","median","quantile","median_of_successes"}.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct TotalArgs {
    /// Dimensions; an odd k takes the next even d [default: 41,15,21,29,61,101; with --quick 21,15,29]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    ds: Option<Vec<usize>>,
    /// Support sizes [default: 4,2,3,5,6,8; with --quick 4,2,3]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    ks: Option<Vec<usize>>,
    /// Hinge losses to reach [default: 0.2,0.4,0.1,0.05; with --quick 0.3,0.15]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    epsilons: Option<Vec<f64>>,
    /// Widths of student and teacher, as multiples of 2^k [default: 16,8,32,64; with --quick 16,32]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    width_factors: Option<Vec<usize>>,
    /// Supervision: progressive, one-shot, labels
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "progressive,one-shot,labels")]
    arms: Vec<ArmName>,
    /// All combinations of the lists
    #[arg(long)]
    grid: bool,
    /// A small sweep
    #[arg(long)]
    quick: bool,
    /// First layer after the first phase: pruned (the selected coordinates keep the signs of their
    /// initialisation) or literal (the gradient itself, which has rank one after a progressive first phase)
    #[arg(long, value_enum, default_value_t = Layer::Pruned)]
    first_layer: Layer,
    /// Teacher repairs, as a list: prune (zero weights below half of a neuron's largest), centred (subtract
    /// the neurons' mean gradient), biased:P (initial P(+1) = P), pool:N (N teacher seeds, squared gradients
    /// pooled), or none
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "prune")]
    repair: Vec<String>,
    /// First-phase batch of the teachers [default: the population gradient]
    #[arg(long, value_name = "B")]
    teacher_batch: Option<u64>,
    /// Trials per point, each with its own teacher [default: 20; with --quick 6]
    #[arg(long, value_name = "N")]
    trials: Option<u64>,
    /// Failure probability over teachers, students and samples
    #[arg(long, default_value_t = 0.1)]
    delta: f64,
    /// Largest first-phase batch from a teacher [default: 1048576; with --quick 65536]
    #[arg(long, value_name = "B")]
    max_teacher_batch: Option<u64>,
    /// Largest first-phase batch from labels [default: 67108864; with --quick 8388608]
    #[arg(long, value_name = "B")]
    max_label_batch: Option<u64>,
    /// Largest second phase [default: 4194304; with --quick 524288]
    #[arg(long, value_name = "N")]
    max_second: Option<u64>,
    /// Step of the second phase as a multiple of A/(R sqrt(T))
    #[arg(long, default_value_t = curricle_theory::total::TUNED_STEP)]
    step: f64,
    /// Scale the step by the norm bound (1 + m d^2)^(1/2) of weights up to 1 instead of the actual one: where
    /// the theorem's d^2 is
    #[arg(long)]
    worst_case_norm: bool,
    /// Fresh trials at the sizes found, from another seed, for every point that has a 1 - delta/2 quantile
    /// (0: none)
    #[arg(long, value_name = "N", default_value_t = 0)]
    confirm: u64,
    /// Confidence of intervals
    #[arg(long, default_value_t = 0.95)]
    confidence: f64,
    /// Seed; confirmations use seed + 1000
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder for total.json, total.csv and the figures; finished trials are kept there too
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Layer {
    Pruned,
    Literal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ArmName {
    Progressive,
    OneShot,
    Labels,
}

/// The command's answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// What was visited.
    pub design: Design,
    /// How.
    pub settings: Settings,
    /// Measured points.
    pub points: Vec<PointResult>,
    /// Points that cannot be had.
    pub missing: Vec<Missing>,
    /// Fitted exponents.
    pub exponents: Vec<Exponent>,
    /// Fresh trials.
    pub confirmations: Vec<Confirmation>,
    /// What it ran on.
    pub device: String,
    /// Of curricle.
    pub version: &'static str,
    /// The command line.
    pub command: String,
    /// Seconds of this session.
    pub wall_seconds: f64,
}

/// A point without a measurement.
#[derive(Debug, Serialize)]
pub(super) struct Missing {
    /// The point.
    pub point: Point,
    /// Why.
    pub reason: String,
}

/// An interval for people.
pub(super) fn ends(i: Interval) -> String {
    format!("({:.2}, {:.2})", i.low, i.high)
}

/// `curricle theory total`.
///
/// # Errors
/// Arguments that cannot be satisfied; an interruption; files that cannot be read or written.
pub(super) fn run(args: &TotalArgs) -> Result<()> {
    let (design, settings) = resolve(args)?;
    let points = design.points();
    let session = Session::new(args.out.as_ref().map(|o| o.join("total.state")), Duration::from_secs(15))?;
    let mut log: TotalLog = session.open(args.resume, args.fresh)?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (i, point) in points.iter().enumerate() {
        session.next(format!("[{}/{}] {}", i + 1, points.len(), point.name()));
        let one = std::slice::from_ref(point);
        let (results, reasons) = session.run(
            &mut log,
            |log| log,
            |log, callback| measure_points(one, &settings, log, callback, Some(session.cancel())),
        )?;
        found.extend(results);
        missing.extend(reasons.into_iter().map(|(point, reason)| Missing { point, reason }));
    }
    let mut confirmations = Vec::new();
    if args.confirm > 0 {
        for result in &found {
            session.check()?;
            let seed = settings.seed + 1000;
            let fresh = confirm(result, &settings, args.confirm, seed, Some(session.cancel()));
            match fresh {
                Err(curricle_theory::TheoryError::Cancelled) => session.check()?,
                other => confirmations.extend(other.map_err(blame)?),
            }
        }
    }
    session.finish();
    let exponents = exponents(&found, settings.confidence).map_err(blame)?;
    let answer = Answer {
        design,
        settings,
        points: found,
        missing,
        exponents,
        confirmations,
        device: super::device(),
        version: env!("CARGO_PKG_VERSION"),
        command: crate::command_line().join(" "),
        wall_seconds: session.seconds(),
    };
    if let Some(out) = &args.out {
        make_parent(&out.join("total.json"))?;
        write_json(&out.join("total.json"), &answer)?;
        total_report::write_csv(&answer, &out.join("total.csv"))?;
        total_report::draw(&answer, out)?;
    }
    args.common.answer(&answer, &total_report::text(&answer))
}

fn resolve(args: &TotalArgs) -> Result<(Design, Settings)> {
    unit("delta", args.delta)?;
    unit("confidence", args.confidence)?;
    let sizes = |given: &Option<Vec<usize>>, quick: &[usize], full: &[usize]| {
        given.clone().unwrap_or_else(|| if args.quick { quick.to_vec() } else { full.to_vec() })
    };
    let pick =
        |given: Option<u64>, quick: u64, full: u64| given.unwrap_or(if args.quick { quick } else { full });
    let epsilons = args
        .epsilons
        .clone()
        .unwrap_or_else(|| if args.quick { vec![0.3, 0.15] } else { vec![0.2, 0.4, 0.1, 0.05] });
    epsilons.iter().try_for_each(|e| unit("epsilons", *e))?;
    let design = Design {
        d: sizes(&args.ds, &[21, 15, 29], &[41, 15, 21, 29, 61, 101]),
        k: sizes(&args.ks, &[4, 2, 3], &[4, 2, 3, 5, 6, 8]),
        width_factors: sizes(&args.width_factors, &[16, 32], &[16, 8, 32, 64]),
        epsilon: epsilons,
        arms: args
            .arms
            .iter()
            .map(|a| match a {
                ArmName::Progressive => Arm::Progressive,
                ArmName::OneShot => Arm::OneShot,
                ArmName::Labels => Arm::Labels,
            })
            .collect(),
        grid: args.grid,
    };
    if design.points().is_empty() {
        return Err(usage(
            "the design is empty: give at least one of --ds, --ks, --epsilons, --width-factors and --arms",
        ));
    }
    let usual = Settings::default();
    let settings = Settings {
        trials: pick(args.trials, 6, usual.trials),
        delta: args.delta,
        layer: match args.first_layer {
            Layer::Pruned => FirstLayer::PrunedInit,
            Layer::Literal => FirstLayer::Gradient,
        },
        teacher_batch: args.teacher_batch,
        repair: repair(&args.repair)?,
        max_teacher_batch: pick(args.max_teacher_batch, 1 << 16, 1 << 20),
        max_label_batch: pick(args.max_label_batch, 1 << 23, 1 << 26),
        max_second: pick(args.max_second, 1 << 19, 1 << 22),
        step: args.step,
        worst_case_norm: args.worst_case_norm,
        factor: if args.quick { 2.0 } else { usual.factor },
        confidence: args.confidence,
        seed: args.seed,
        ..usual
    };
    settings.check().map_err(blame)?;
    Ok((design, settings))
}

fn repair(words: &[String]) -> Result<Repair> {
    let mut out = Repair::default();
    for word in words {
        match word.split_once(':').map_or((word.as_str(), None), |(name, value)| (name, Some(value))) {
            ("none", None) => {}
            ("prune", None) => out.prune = 0.5,
            ("centred", None) => out.centred = true,
            ("biased", Some(p)) => match p.parse::<f64>() {
                Ok(p) if (0.0..=1.0).contains(&p) => out.plus_probability = p,
                _ => return Err(usage(format!("--repair biased:{p}: a probability, such as biased:0.85"))),
            },
            ("pool", Some(n)) => match n.parse::<usize>() {
                Ok(n) if (1..=1000).contains(&n) => out.pool = n,
                _ => return Err(usage(format!("--repair pool:{n}: a number of teachers, such as pool:4"))),
            },
            _ => {
                return Err(usage(format!(
                    "--repair {word}: none of none, prune, centred, biased:P, pool:N (a list with commas)"
                )));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_a_list() {
        let words = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let found = repair(&words("prune,centred,pool:4,biased:0.85")).unwrap();
        assert_eq!(found, Repair { prune: 0.5, centred: true, plus_probability: 0.85, pool: 4 });
        assert_eq!(repair(&words("none")).unwrap(), Repair::default());
        for bad in ["pool", "pool:0", "biased:2", "cut"] {
            assert!(repair(&words(bad)).unwrap_err().to_string().contains("--repair"), "{bad}");
        }
    }
}
