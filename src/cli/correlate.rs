//! `curricle correlate`: correlations of checkpoints with monomials.

pub(super) mod arguments;
mod layers;
mod output;
mod progress;
pub(super) mod sources;

use super::Usage;
use super::common::Common;
use anyhow::Result;
use arguments::{Degrees, LayerList, SupportList};
use curricle_core::model::LogitModel;
use curricle_core::task::BooleanTask;
use curricle_lab::device::Device;
use curricle_probe::ParityTransformer;
use curricle_probe::transition::chance;
use curricle_probe::{
    CheckpointCorrelations, KnownSupport, MAX_DEGREE, MAX_MONOMIALS, Monomials, ProbeError, ReadoutFit,
    Request, Sampling, Statistic, Timeline, correlations, monomials, timeline,
};
use progress::Progress;
use sources::{Run, Source, SpecTask};
use std::path::PathBuf;
use std::sync::Arc;

/// Correlations of checkpoints' outputs with monomials: what a checkpoint can teach.
///
/// For each checkpoint the mean of statistic(x) times a product of coordinates x_j, over random inputs or all of them. With a
/// known support (from --support, or the spec of the run the checkpoint belongs to): all its subsets and random others of
/// equal size. Without: all coordinates and all pairs. For a run folder also the phase transition and
/// the checkpoint to distil from.
///
/// With --layers the same for each layer of a transformer: what is correlated is then a linear readout of the layer's hidden state at
/// the last position, fitted by ridge regression to the label (+1 for label 1, -1 for label 0) on random inputs of its own;
/// accuracy is the readout's, on the inputs of the correlations. Correlations below about 1/sqrt(--readout-samples) can be noise of
/// that fit, which the noise columns do not contain. No timelines.
#[derive(Debug, Clone, clap::Args)]
pub struct CorrelateArgs {
    /// Checkpoint files (safetensors, .pt, .pth), Hugging Face folders of a transformer, and run folders, any number
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Coordinates of the support, from 0, such as 2,5,7,11; nodes of a hierarchy separated by ';'
    #[arg(long, value_name = "LIST")]
    pub support: Option<SupportList>,
    /// Sizes of the subsets, 1 to 5, such as 1-3, 1..3 (both ends) or 1,3 [default: 1-3; 1-2 where the support is not known]
    #[arg(long, value_name = "RANGE")]
    pub degrees: Option<Degrees>,
    /// Random inputs to average over
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub samples: u64,
    /// Random subsets outside the support per degree
    #[arg(long, value_name = "R", default_value_t = 100)]
    pub random: usize,
    /// What is correlated: the probability of a class, its log-odds (for two classes the logit margin), or whether it is
    /// the prediction [default: probability; margin, and nothing else, with --layers]
    #[arg(long, value_parser = arguments::statistic())]
    pub statistic: Option<Statistic>,
    /// The class
    #[arg(long, value_name = "C", default_value_t = 1)]
    pub class: usize,
    /// Average over all 2^d inputs instead (d <= 24)
    #[arg(long)]
    pub exact: bool,
    /// Probe a readout of each of these layers instead of the output: all, or such as 0-2, 0..2 (both ends) or 0,2; 0 are the embeddings, l the
    /// output of block l. For transformers and a parity whose support is known
    #[arg(long, value_name = "LIST")]
    pub layers: Option<LayerList>,
    /// Random inputs to fit each readout on
    #[arg(long, value_name = "N", default_value_t = ReadoutFit::default().samples, requires = "layers")]
    pub readout_samples: usize,
    /// Seed of the random inputs and subsets
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Also write every monomial of every checkpoint to this file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Output, threads, device.
    #[command(flatten)]
    pub common: Common,
}

impl CorrelateArgs {
    /// What is correlated.
    fn statistic(&self) -> Statistic {
        let default = if self.layers.is_some() { Statistic::Margin } else { Statistic::default() };
        self.statistic.unwrap_or(default)
    }
}

/// Runs the command.
///
/// # Errors
/// [`Usage`] for arguments that cannot be satisfied; other errors for files that cannot be read or do not compute.
pub fn run(args: &CorrelateArgs) -> Result<()> {
    if !args.exact && args.samples < 2 {
        return Err(usage(format!("--samples: {}", ProbeError::TooFewSamples(args.samples))));
    }
    layers::check(args)?;
    args.common.threads.count()?;
    let device = args.common.open()?;
    args.common.threads.install(|| run_here(args, &device))
}

/// A run folder's timeline.
struct RunTimeline {
    run: String,
    timeline: Timeline,
}

/// What was measured of a checkpoint, or of one of its layers.
struct Probed {
    /// Index of the run folder among the arguments that the checkpoint came from.
    run: Option<usize>,
    /// The layer, with --layers.
    layer: Option<usize>,
    of: CheckpointCorrelations,
}

/// A checkpoint that was opened.
enum Opened {
    Whole(Box<dyn LogitModel>),
    Layered(ParityTransformer, LayerList),
}

impl Opened {
    fn new(args: &CorrelateArgs, source: &Source, device: &Device) -> Result<(Self, Option<u64>)> {
        let d = source.task.as_ref().map(|t| t.task.d());
        Ok(match &args.layers {
            None => {
                let (model, step) = sources::open(&source.path, d, device)?;
                (Self::Whole(model), step)
            }
            Some(list) => {
                let (model, step) = sources::open_transformer(&source.path, d, device)?;
                (Self::Layered(model, list.clone()), step)
            }
        })
    }

    fn d(&self) -> usize {
        match self {
            Self::Whole(model) => model.d(),
            Self::Layered(model, _) => model.d(),
        }
    }
}

fn run_here(args: &CorrelateArgs, device: &Device) -> Result<()> {
    let (sources, runs) = sources::resolve(&args.paths)?;
    let mut notes = Notes::default();
    let mut probed: Vec<Probed> = Vec::with_capacity(sources.len());
    let mut chosen: Option<(Option<KnownSupport>, Monomials)> = None;
    let mut first: Option<(usize, PathBuf)> = None;
    let mut progress = Progress::new(sources.len());
    for source in &sources {
        let shown = source.path.display();
        let (opened, step) = Opened::new(args, source, device)?;
        let d = opened.d();
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
        let path = shown.to_string();
        progress.next_checkpoint();
        let mut push = |layer, of| probed.push(Probed { run: source.run, layer, of });
        match &opened {
            Opened::Whole(model) => {
                let task = task_of(args, source, known.as_ref(), model.classes(), &mut notes);
                let of =
                    measure(args, model.as_ref(), monomials, task.as_deref(), (path, step), &mut progress)?;
                note_reversed(&of, &mut notes);
                push(None, of);
            }
            Opened::Layered(model, list) => {
                let task = layers::task(args, source, known.as_ref())?;
                for layer in layers::wanted(list, model, &path)? {
                    let readout = layers::readout(args, model, layer, &*task, &path)?;
                    let named = (path.clone(), step);
                    push(
                        Some(layer),
                        measure(args, &readout, monomials, Some(&*task), named, &mut progress)?,
                    );
                }
            }
        }
    }
    progress.finish();
    notes.print();
    // A timeline is about the outputs of a run's checkpoints.
    let timelines = if args.layers.is_none() { timelines(&runs, &probed) } else { Vec::new() };
    if let Some(path) = &args.csv {
        output::csv(path, args, &probed)?;
    }
    let table = output::table(args, &probed, &timelines);
    if args.common.json.asked() {
        eprint!("{table}");
        output::json(args, &probed, &timelines)
    } else {
        output::text(&table)
    }
}

/// Correlations of a model that belongs to a checkpoint of this path and step.
fn measure(
    args: &CorrelateArgs,
    model: &dyn LogitModel,
    monomials: &Monomials,
    task: Option<&dyn BooleanTask>,
    (path, step): (String, Option<u64>),
    progress: &mut Progress,
) -> Result<CheckpointCorrelations> {
    let request = Request { statistic: args.statistic(), class: args.class, sampling: sampling(args) };
    let inputs =
        if args.exact { 1u64.checked_shl(model.d() as u32).unwrap_or(u64::MAX) } else { args.samples };
    progress.next(&path, inputs);
    let result = correlations(model, monomials, task, &request, &mut |done| progress.at(done));
    let correlations = result.map_err(|e| blame(e, &path))?;
    let (classes, chance) = (model.classes(), chance(model, task));
    Ok(CheckpointCorrelations { path, step, classes, chance, correlations })
}

/// The task of a checkpoint with `classes` labels: that of its run, or with --support the parity or hierarchy there.
fn task_for(
    args: &CorrelateArgs,
    source: &Source,
    known: &KnownSupport,
    classes: usize,
) -> Option<Arc<dyn BooleanTask>> {
    match &source.task {
        Some(spec) if args.support.is_none() => Some(spec.task.clone()).filter(|t| t.classes() == classes),
        _ => known.task(classes).map(|task| -> Arc<dyn BooleanTask> { Arc::new(task) }),
    }
}

/// [`task_for`] a model with so many logits, with a note where there is none.
fn task_of(
    args: &CorrelateArgs,
    source: &Source,
    known: Option<&KnownSupport>,
    classes: usize,
    notes: &mut Notes,
) -> Option<Arc<dyn BooleanTask>> {
    let task = task_for(args, source, known?, classes);
    if task.is_none() {
        notes.add(format!(
            "{}: accuracy unknown: {classes} logits need {} disjoint nodes of equal size in the support (separate nodes by ';')",
            source.path.display(),
            classes - 1
        ));
    }
    task
}

fn note_reversed(of: &CheckpointCorrelations, notes: &mut Notes) {
    if let Some(accuracy) = of.correlations.accuracy
        && of.classes == 2
        && accuracy < 0.3
    {
        notes.add(format!(
            "{}: accuracy {:.1}% is far below chance: its labels seem reversed (here label 0 means that the product is +1)",
            of.path,
            100.0 * accuracy
        ));
    }
}

/// Timelines of the run folders among the arguments.
fn timelines(runs: &[Run], probed: &[Probed]) -> Vec<RunTimeline> {
    runs.iter()
        .enumerate()
        .map(|(index, run)| {
            let own: Vec<CheckpointCorrelations> =
                probed.iter().filter(|p| p.run == Some(index)).map(|p| p.of.clone()).collect();
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
    let known = KnownSupport::of_task(&**task);
    Ok(Some(known.map_err(|e| usage(format!("[task] of {}: {e}", path.display())))?))
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
