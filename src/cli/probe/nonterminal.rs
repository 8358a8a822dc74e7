//! `curricle probe nonterminal`.

use super::{blame, models};
use crate::common::Common;
use crate::lists::{Span, sizes};
use crate::pcfg::GrammarArgs;
use crate::{Usage, print, print_json};
use anyhow::Result;
use curricle_cpu::SingleThreaded;
use curricle_lab::device::Device;
use curricle_probe::SequenceProbeError;
use curricle_probe::nonterminal::attention::AttentionProbe;
use curricle_probe::nonterminal::ridge::ridge;
use curricle_probe::nonterminal::{Examples, LevelAccuracy, SENTENCES};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// 16 linear maps mixed over positions by learned weights, trained with Adam
    Attention,
    /// One linear map of each token's own state, in closed form: quick
    Ridge,
}

/// Which ancestors of each token can be read off the hidden states, level by level.
///
/// A probe is trained on some sentences and tested on others. Level 1 is right above the terminals. "majority" is the
/// accuracy of always naming the most frequent non-terminal.
///
/// With --json it prints {"grammar","start","seed","probe","train","test","checkpoints":[{"path","step","layer","levels":[{
/// "level","classes","accuracy","majority"}]}]}.
#[derive(Debug, Clone, clap::Args)]
pub struct NonterminalArgs {
    /// Checkpoint files, model folders (config.json and model.safetensors) and run folders
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    grammar: models::ProbedGrammar,
    /// The probe
    #[arg(long, value_enum, default_value_t = Probe::Attention)]
    pub probe: Probe,
    /// Layers whose states are probed, such as 0,2 or 0-2 (both ends): 0 are the embeddings [default: the last]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub layers: Vec<Span>,
    /// Sentences to train the probe on
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub train: u64,
    /// Sentences to test it on
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    pub test: u64,
    /// Passes over the training sentences (attention)
    #[arg(long, value_name = "N", default_value_t = AttentionProbe::default().epochs, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub epochs: usize,
    /// Sentences per step (attention)
    #[arg(long, value_name = "N", default_value_t = AttentionProbe::default().batch, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub batch: usize,
    /// Peak learning rate (attention)
    #[arg(long, value_name = "RATE", default_value_t = AttentionProbe::default().rate)]
    pub learning_rate: f64,
    /// Width of the position matrices (attention)
    #[arg(long, value_name = "K", default_value_t = AttentionProbe::default().width, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    pub width: usize,
    /// Penalty (ridge), per token
    #[arg(long, value_name = "P", default_value_t = 1e-4)]
    pub penalty: f64,
    /// Seed of the sentences and of the probe
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Output, threads, device.
    #[command(flatten)]
    pub common: Common,
}

/// Time between two progress lines.
const QUIET: Duration = Duration::from_secs(3);

/// `curricle probe nonterminal`.
///
/// # Errors
/// [`Usage`] for arguments that cannot be satisfied; checkpoints that cannot be read or do not compute.
pub fn run(args: &NonterminalArgs) -> Result<()> {
    let device = args.common.open()?;
    for (name, value) in [("--penalty", args.penalty), ("--learning-rate", args.learning_rate)] {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Usage(format!("{name} {value}: it must be a number from 0 up")).into());
        }
    }
    let threads = args.common.threads;
    threads.install(|| run_here(args, &device, threads.count()?))
}

fn run_here(args: &NonterminalArgs, device: &Device, threads: usize) -> Result<()> {
    let sources = models::resolve(&args.paths)?;
    let (named, grammar) = args.grammar.of(&sources)?;
    let stream = (args.seed, SENTENCES);
    let mut rows: Vec<(String, Option<u64>, usize, Vec<LevelAccuracy>)> = Vec::new();
    // The same bits whatever the number of threads.
    let _single = SingleThreaded::new();
    for source in &sources {
        let path = source.path.display().to_string();
        let model = source.load(device, threads)?;
        let layers = if args.layers.is_empty() { vec![model.config().layers] } else { sizes(&args.layers) };
        for layer in layers {
            let name = format!("{path}, layer {layer}");
            let collect = |first, count| Examples::collect(&model, &grammar, layer, stream, first, count);
            let probed = collect(0, args.train)
                .and_then(|train| Ok((train, collect(args.train, args.test)?)))
                .and_then(|(train, test)| probe(args, &train, &test, &name));
            rows.push((path.clone(), source.step, layer, probed.map_err(|e| blame(e, &name))?));
        }
    }
    if args.common.json.asked() {
        let checkpoints: Vec<Value> = rows
            .iter()
            .map(|(path, step, layer, levels)| json!({"path": path, "step": step, "layer": layer, "levels": levels}))
            .collect();
        return print_json(&json!({
            "grammar": named.grammar, "start": GrammarArgs::start_of(&grammar), "seed": args.seed,
            "probe": args.probe, "train": args.train, "test": args.test, "checkpoints": checkpoints,
        }));
    }
    let mut text = format!("{:<44} {:>10} layer level  accuracy  majority\n", "checkpoint", "step");
    for (path, step, layer, levels) in &rows {
        for l in levels {
            let step = step.map_or("-".to_owned(), |s| s.to_string());
            let (accuracy, majority) = (100.0 * l.accuracy, 100.0 * l.majority);
            writeln!(
                text,
                "{path:<44} {step:>10} {layer:>5} {:>5} {accuracy:>8.2}% {majority:>8.2}%",
                l.level
            )?;
        }
    }
    Ok(print(&text)?)
}

fn probe(
    args: &NonterminalArgs,
    train: &Examples,
    test: &Examples,
    name: &str,
) -> Result<Vec<LevelAccuracy>, SequenceProbeError> {
    if args.probe == Probe::Ridge {
        return ridge(train, test, args.penalty);
    }
    let probe = AttentionProbe {
        width: args.width,
        rate: args.learning_rate,
        batch: args.batch,
        epochs: args.epochs,
        seed: args.seed,
        ..AttentionProbe::default()
    };
    let mut spoken = Instant::now();
    probe.run(train, test, &mut |step, total, loss| {
        if spoken.elapsed() > QUIET {
            eprintln!("{name}: step {step} of {total}, loss {loss:.4}");
            spoken = Instant::now();
        }
    })
}
