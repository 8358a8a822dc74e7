//! `curricle correlate`: correlations of checkpoints with monomials.

pub(super) mod arguments;
mod output;
pub(super) mod sources;

use super::Usage;
use crate::engine::device::{Device, DeviceChoice};
use crate::probe::{
    CheckpointCorrelations, KnownSupport, MAX_DEGREE, MAX_MONOMIALS, Monomials, ProbeError, Request,
    Sampling, Statistic, Timeline, correlations, monomials, timeline,
};
use anyhow::Result;
use arguments::{Degrees, SupportList};
use sources::{Run, Source, SpecTask};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Correlations of checkpoints' outputs with monomials: what a checkpoint can teach.
///
/// For each checkpoint the mean of statistic(x) times a product of coordinates x_j, over random inputs or all of them. With a
/// known support (from --support, or the spec of the run the checkpoint belongs to): all its subsets and random others of
/// equal size. Without: all coordinates and all pairs. For a run folder also the phase transition and
/// the checkpoint to distil from.
#[derive(Debug, Clone, clap::Args)]
pub struct CorrelateArgs {
    /// Checkpoint files (safetensors, .pt, .pth), Hugging Face folders of a transformer, and run folders, any number
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Coordinates of the support, from 0, such as 2,5,7,11; nodes of a hierarchy separated by ';'
    #[arg(long, value_name = "LIST")]
    pub support: Option<SupportList>,
    /// Sizes of the subsets, 1 to 5, such as 1-3 or 1,3 [default: 1-3; 1-2 where the support is not known]
    #[arg(long, value_name = "RANGE")]
    pub degrees: Option<Degrees>,
    /// Random inputs to average over
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub samples: u64,
    /// Random subsets outside the support per degree
    #[arg(long, value_name = "R", default_value_t = 100)]
    pub random: usize,
    /// What is correlated: the probability of a class, its log-odds (for two classes the logit margin), or whether it is
    /// the prediction
    #[arg(long, value_enum, default_value_t = Statistic::Probability)]
    pub statistic: Statistic,
    /// The class
    #[arg(long, value_name = "C", default_value_t = 1)]
    pub class: usize,
    /// Average over all 2^d inputs instead (d <= 24)
    #[arg(long)]
    pub exact: bool,
    /// Seed of the random inputs and subsets
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Also write every monomial of every checkpoint to this file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// One JSON object on stdout; everything else goes to stderr
    #[arg(long)]
    pub json: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Who computes the models' outputs: auto (a hardware GPU if there is one), cpu, gpu, gpu:NUMBER, gpu:BACKEND:NUMBER or
    /// gpu:PART-OF-NAME
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
}

/// Runs the command.
///
/// # Errors
/// [`Usage`] for arguments that cannot be satisfied; other errors for files that cannot be read or do not compute.
pub fn run(args: &CorrelateArgs) -> Result<()> {
    if !args.exact && args.samples < 2 {
        return Err(usage(format!("--samples: {}", ProbeError::TooFewSamples(args.samples))));
    }
    let threads = super::threads(args.threads)?;
    let device = super::open_device(&args.device)?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| run_here(args, &device))
}

/// A run folder's timeline.
struct RunTimeline {
    run: String,
    timeline: Timeline,
}

fn run_here(args: &CorrelateArgs, device: &Device) -> Result<()> {
    let (sources, runs) = sources::resolve(&args.paths)?;
    let mut notes = Notes::default();
    let mut probed: Vec<(Option<usize>, CheckpointCorrelations)> = Vec::with_capacity(sources.len());
    let mut chosen: Option<(Option<KnownSupport>, Monomials)> = None;
    let mut first: Option<(usize, PathBuf)> = None;
    let mut progress = Progress::new(sources.len());
    for source in &sources {
        let shown = source.path.display();
        let d = source.task.as_ref().map(|t| t.task.d());
        let (model, step) = sources::open(&source.path, d, device)?;
        let (d, classes) = (model.d(), model.classes());
        match &first {
            None => first = Some((d, source.path.clone())),
            Some((other, path)) if *other != d => {
                return Err(usage(format!(
                    "{shown} takes d = {d} inputs, but {} takes {other}: probe them in separate commands",
                    path.display()
                )));
            }
            Some(_) => {}
        }
        let known = support_of(args, source, d)?;
        if chosen.as_ref().is_none_or(|(support, _)| *support != known) {
            let degrees = degrees_of(args, known.as_ref(), d, &mut notes);
            let monomials = Monomials::select(d, known.as_ref(), &degrees, args.random, args.seed);
            chosen = Some((known.clone(), monomials.map_err(|e| blame(e, &shown.to_string()))?));
        }
        let (_, monomials) = chosen.as_ref().expect("monomials were just chosen");
        let task = known.as_ref().and_then(|known| known.task(classes));
        if known.is_some() && task.is_none() {
            notes.add(format!(
                "{shown}: accuracy unknown: {classes} logits need {} disjoint nodes of equal size in the support (separate nodes by ';')",
                classes - 1
            ));
        }
        let request = Request { statistic: args.statistic, class: args.class, sampling: sampling(args) };
        let inputs = if args.exact { 1u64.checked_shl(d as u32).unwrap_or(u64::MAX) } else { args.samples };
        progress.next(&shown.to_string(), inputs);
        let result =
            correlations(model.as_ref(), monomials, task.as_ref(), &request, &mut |done| progress.at(done))
                .map_err(|e| blame(e, &shown.to_string()))?;
        if let Some(accuracy) = result.accuracy
            && classes == 2
            && accuracy < 0.3
        {
            notes.add(format!(
                "{shown}: accuracy {:.1}% is far below chance: its labels seem reversed (here label 0 means that the product is +1)",
                100.0 * accuracy
            ));
        }
        let path = shown.to_string();
        probed.push((source.run, CheckpointCorrelations { path, step, classes, correlations: result }));
    }
    progress.finish();
    notes.print();
    let timelines = timelines(&runs, &probed);
    let checkpoints: Vec<CheckpointCorrelations> = probed.into_iter().map(|(_, c)| c).collect();
    if let Some(path) = &args.csv {
        output::csv(path, args, &checkpoints)?;
    }
    let table = output::table(args, &checkpoints, &timelines);
    if args.json {
        eprint!("{table}");
        output::json(args, &checkpoints, &timelines)
    } else {
        output::text(&table)
    }
}

/// Timelines of the run folders among the arguments.
fn timelines(runs: &[Run], probed: &[(Option<usize>, CheckpointCorrelations)]) -> Vec<RunTimeline> {
    runs.iter()
        .enumerate()
        .map(|(index, run)| {
            let own: Vec<CheckpointCorrelations> =
                probed.iter().filter(|(r, _)| *r == Some(index)).map(|(_, c)| c.clone()).collect();
            RunTimeline { run: run.path.display().to_string(), timeline: timeline(&own, &run.evaluations) }
        })
        .collect()
}

fn sampling(args: &CorrelateArgs) -> Sampling {
    if args.exact { Sampling::Exact } else { Sampling::Random { samples: args.samples, seed: args.seed } }
}

/// --support, else the support of the checkpoint's run.
fn support_of(args: &CorrelateArgs, source: &Source, d: usize) -> Result<Option<KnownSupport>> {
    if let Some(SupportList(nodes)) = &args.support {
        let known = KnownSupport::new(d, nodes);
        return Ok(Some(known.map_err(|e| usage(format!("--support, for {}: {e}", source.path.display())))?));
    }
    let Some(SpecTask { task, path }) = &source.task else { return Ok(None) };
    if task.d() != d {
        return Err(usage(format!(
            "{} takes d = {d} inputs, but task.d = {} in {}",
            source.path.display(),
            task.d(),
            path.display()
        )));
    }
    Ok(Some(KnownSupport::of_task(task)))
}

/// --degrees, else 1-3 as far as there are subsets of the support (1-2 without a support, 1 if d is very large).
fn degrees_of(args: &CorrelateArgs, known: Option<&KnownSupport>, d: usize, notes: &mut Notes) -> Vec<usize> {
    if let Some(Degrees(degrees)) = &args.degrees {
        if let Some(known) = known {
            for degree in degrees.iter().filter(|&&g| g > known.largest() && g <= MAX_DEGREE && g <= d) {
                notes.add(format!(
                    "degree {degree}: no subsets of the support ({} coordinates); only others are measured",
                    known.largest()
                ));
            }
        }
        return degrees.clone();
    }
    match known {
        Some(known) => (1..=3.min(known.largest())).collect(),
        None if d >= 2 && monomials::binomial(d, 2) + d as u128 <= MAX_MONOMIALS => vec![1, 2],
        None => {
            if d > 1 {
                notes.add(format!("d = {d} has too many pairs: only single coordinates are measured"));
            }
            vec![1]
        }
    }
}

fn usage(message: String) -> anyhow::Error {
    Usage(message).into()
}

/// What a probe refuses because of the request is bad usage; what fails in the checkpoint is a failure.
fn blame(error: ProbeError, path: &str) -> anyhow::Error {
    match error {
        ProbeError::NonFinite { .. } | ProbeError::Model(_) => {
            anyhow::Error::new(error).context(path.to_string())
        }
        ProbeError::TooFewSamples(_)
        | ProbeError::Class { .. }
        | ProbeError::Degree(_)
        | ProbeError::DegreeAboveDimension { .. }
        | ProbeError::NoDegrees
        | ProbeError::TooManyMonomials { .. }
        | ProbeError::Coordinate { .. }
        | ProbeError::Repeated(_)
        | ProbeError::EmptyNode(_)
        | ProbeError::Dimension { .. }
        | ProbeError::Classes { .. }
        | ProbeError::ExactTooLarge { .. } => usage(format!("{path}: {error}")),
    }
}

/// Remarks for people, each said once.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn add(&mut self, note: String) {
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }

    fn print(&self) {
        self.0.iter().for_each(|note| eprintln!("note: {note}"));
    }
}

/// Progress on stderr: a bar on a terminal, else a line every few seconds.
struct Progress {
    bar: indicatif::ProgressBar,
    terminal: bool,
    total: usize,
    index: usize,
    path: String,
    inputs: u64,
    spoken: Instant,
}

/// Time between two plain progress lines.
const QUIET: Duration = Duration::from_secs(3);

impl Progress {
    fn new(total: usize) -> Self {
        use std::io::IsTerminal;
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { indicatif::ProgressBar::new(0) } else { indicatif::ProgressBar::hidden() };
        let style = "{prefix} {wide_bar} {pos}/{len} inputs, {per_sec}, ETA {eta}";
        bar.set_style(indicatif::ProgressStyle::with_template(style).expect("the template is valid"));
        Self { bar, terminal, total, index: 0, path: String::new(), inputs: 0, spoken: Instant::now() }
    }

    fn next(&mut self, path: &str, inputs: u64) {
        self.index += 1;
        self.path = path.to_string();
        self.inputs = inputs;
        self.bar.reset();
        self.bar.set_length(inputs);
        self.bar.set_prefix(format!("[{}/{}]", self.index, self.total));
    }

    fn at(&mut self, done: u64) {
        self.bar.set_position(done);
        if !self.terminal && self.spoken.elapsed() > QUIET {
            eprintln!("[{}/{}] {}: {done}/{} inputs", self.index, self.total, self.path, self.inputs);
            self.spoken = Instant::now();
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
