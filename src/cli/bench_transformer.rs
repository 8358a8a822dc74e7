//! `curricle bench transformer`: training steps of the CPU engine, their floor, and PyTorch's beside them.

use anyhow::Context;
use curricle_core::math::order::median;
use curricle_core::model::transformer::{Dropout, Family, TokenBatch, TransformerConfig, TransformerParams};
use curricle_core::optim::AdamSettings;
use curricle_core::rng::{self, Purpose, Stream};
use curricle_cpu::{Operations, Transformer, TransformerOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Options of `curricle bench transformer`.
#[derive(Debug, Clone, clap::Args)]
pub struct TransformerBench {
    /// Which model; without it all of them.
    #[arg(long, value_enum)]
    pub model: Option<Model>,
    /// Threads; all cores by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Seconds per model and side.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Dropout probability everywhere.
    #[arg(long, default_value_t = 0.0)]
    pub dropout: f32,
    /// Compute every position in every layer.
    #[arg(long)]
    pub no_savings: bool,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// A Python with PyTorch and transformers: measures them alternately with ours and prints the ratio.
    #[arg(long, value_name = "PYTHON")]
    pub pytorch: Option<PathBuf>,
    /// Count time on the processor instead of elapsed time (Linux, one thread).
    #[arg(long, hide = true)]
    pub cpu_time: bool,
}

/// Models and batches of the paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Parity teacher: GPT-2, 2 layers, hidden 256, 32 heads, 32 x 100 tokens, the last position read.
    Teacher,
    /// Parity student: the same with hidden 32 and 4 heads.
    Student,
    /// PCFG teacher: BERT, 4 layers, hidden 256, 32 heads, 8 x 400 tokens, 30% read and hidden as keys.
    Bert,
}

/// The one object `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Output {
    version: &'static str,
    threads: usize,
    dropout: f32,
    savings: bool,
    /// Multiply-adds per second of a matrix product on all threads.
    peak_multiply_adds: f64,
    cases: Vec<Case>,
}

#[derive(Debug, serde::Serialize)]
struct Case {
    model: Model,
    /// The median of the rounds.
    steps_per_second: f64,
    operations: Operations,
    /// What the operations allow at the peak.
    floor_steps_per_second: f64,
    of_floor: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pytorch_steps_per_second: Option<f64>,
    /// Median over the rounds of ours / PyTorch's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pytorch: Option<String>,
}

/// Rounds of each side.
const ROUNDS: usize = 5;

/// Runs the benchmark.
///
/// # Errors
/// If PyTorch was asked for and does not run, or dropout is not a probability.
pub fn run(options: &TransformerBench) -> anyhow::Result<()> {
    super::timing::check_seconds(options.seconds)?;
    anyhow::ensure!(
        (0.0..1.0).contains(&options.dropout),
        super::Usage(format!("--dropout {}: a probability below 1 is needed", options.dropout))
    );
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or(cores, |t| t as usize);
    let peak = Operations::peak(threads, Duration::from_millis(300));
    eprintln!("{threads} thread(s): matrix products reach {:.1} G multiply-adds/s", peak / 1e9);
    let models = match options.model {
        Some(model) => vec![model],
        None => vec![Model::Teacher, Model::Student, Model::Bert],
    };
    let mut cases = Vec::new();
    for model in models {
        cases.push(model.measure(options, threads, peak)?);
    }
    let output = Output {
        version: env!("CARGO_PKG_VERSION"),
        threads,
        dropout: options.dropout,
        savings: !options.no_savings,
        peak_multiply_adds: peak,
        cases,
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&output)?);
    }
    Ok(())
}

/// A batch to train on again and again; speed does not depend on what is learned.
struct Inputs {
    sequences: usize,
    length: usize,
    tokens: Vec<u32>,
    keys: Option<Vec<u8>>,
    reads: Vec<u32>,
    targets: Vec<f32>,
}

impl Inputs {
    fn new(config: &TransformerConfig, sequences: usize, length: usize) -> Self {
        let draw = |sub, bound| {
            let stream = Stream::new(Purpose::Data, sub);
            (0..(sequences * length) as u64).map(move |i| rng::below(1, stream, i, bound))
        };
        let (tokens, keys, reads): (Vec<u32>, _, Vec<u32>) = match config.family {
            Family::Gpt2 => {
                let last = (1..=sequences).map(|b| (b * length - 1) as u32);
                (draw(0, config.vocab as u32).collect(), None, last.collect())
            }
            Family::Bert => {
                let chosen: Vec<bool> = draw(1, 10).map(|x| x < 3).collect();
                let mask = 6.min(config.vocab as u32 - 1);
                let tokens = draw(0, 4).zip(&chosen).map(|(t, chosen)| if *chosen { mask } else { t });
                let reads = (0..chosen.len() as u32).filter(|i| chosen[*i as usize]);
                (tokens.collect(), Some(chosen.iter().map(|c| u8::from(!c)).collect()), reads.collect())
            }
        };
        let labels = draw(2, config.vocab.min(4) as u32).take(reads.len());
        let mut targets = vec![0.0; reads.len() * config.vocab];
        for (row, label) in targets.chunks_exact_mut(config.vocab).zip(labels) {
            row[label as usize] = 1.0;
        }
        Self { sequences, length, tokens, keys, reads, targets }
    }

    fn batch(&self) -> TokenBatch<'_> {
        TokenBatch {
            keys: self.keys.as_deref(),
            ..TokenBatch::new(self.sequences, self.length, &self.tokens)
        }
    }
}

impl Model {
    /// Configuration, sequences and length.
    fn setting(self, dropout: f32) -> (TransformerConfig, usize, usize) {
        let (config, sequences, length) = match self {
            Self::Teacher => (TransformerConfig::gpt2(2, 100, 256, 2, 32), 32, 100),
            Self::Student => (TransformerConfig::gpt2(2, 100, 32, 2, 4), 32, 100),
            Self::Bert => (TransformerConfig::bert(8, 1024, 256, 4, 32), 8, 400),
        };
        let tied = self == Self::Bert;
        (TransformerConfig { dropout: Dropout::all(dropout), tied, ..config }, sequences, length)
    }

    fn measure(self, options: &TransformerBench, threads: usize, peak: f64) -> anyhow::Result<Case> {
        let (config, sequences, length) = self.setting(options.dropout);
        let engine = TransformerOptions { threads, savings: !options.no_savings };
        let inputs = Inputs::new(&config, sequences, length);
        let mut model = Transformer::new(&TransformerParams::new(config.clone(), 1)?, engine)?;
        let operations = Operations::count(&config, engine, &inputs.batch(), &inputs.reads)?;
        let bytes = Transformer::activation_bytes(&config, engine, sequences, length, inputs.reads.len())?;
        eprintln!("{config}; {sequences} x {length} tokens, {:.0} MB of activations", bytes as f64 / 1e6);
        let mut python = match &options.pytorch {
            Some(python) => Some(PyTorch::start(python, &config, &inputs, threads, options)?),
            None => None,
        };
        let adam = AdamSettings::default();
        let mut train = |seconds: f64| -> anyhow::Result<f64> {
            let start = Instant::now();
            let (on_cpu, mut done) = (super::timing::processor_seconds(start), 0);
            loop {
                let dropout = (options.dropout > 0.0).then_some(1);
                let micro = (inputs.batch(), &inputs.reads[..], &inputs.targets[..]);
                model.train_step(&[micro], 1e-4, &adam, dropout)?;
                done += 1;
                let elapsed = if options.cpu_time {
                    super::timing::processor_seconds(start) - on_cpu
                } else {
                    start.elapsed().as_secs_f64()
                };
                if elapsed >= seconds {
                    return Ok(f64::from(done) / elapsed);
                }
            }
        };
        train(0.1)?;
        let round = options.seconds / ROUNDS as f64;
        let (mut rates, mut torch, mut version) = (Vec::new(), Vec::new(), None);
        for _ in 0..ROUNDS {
            rates.push(train(round)?);
            if let Some(python) = &mut python {
                let (rate, name) = python.run(round)?;
                torch.push(rate);
                version = Some(name);
            }
        }
        let ratios: Vec<f64> = rates.iter().zip(&torch).map(|(a, b)| a / b).collect();
        let some = |values: Vec<f64>| (!values.is_empty()).then(|| median(values.into_iter()));
        let rate = median(rates.into_iter());
        let floor = peak / operations.total();
        let case = Case {
            model: self,
            steps_per_second: rate,
            operations,
            floor_steps_per_second: floor,
            of_floor: rate / floor,
            pytorch_steps_per_second: some(torch),
            ratio: some(ratios),
            pytorch: version,
        };
        eprint!(
            "  {rate:.2} steps/s, floor {floor:.2} ({:.2} G multiply-adds): {:.0}% of it",
            operations.total() / 1e9,
            100.0 * case.of_floor
        );
        if let (Some(torch), Some(ratio)) = (case.pytorch_steps_per_second, case.ratio) {
            eprint!("; PyTorch {torch:.2}, ratio {ratio:.2}");
        }
        eprintln!();
        Ok(case)
    }
}

/// A running PyTorch that trains on request.
struct PyTorch {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
    _script: tempfile::NamedTempFile,
}

impl PyTorch {
    fn start(
        python: &Path,
        config: &TransformerConfig,
        inputs: &Inputs,
        threads: usize,
        options: &TransformerBench,
    ) -> anyhow::Result<Self> {
        let mut script = tempfile::Builder::new().suffix(".py").tempfile()?;
        script.write_all(include_bytes!("../../benches/pytorch_transformer.py"))?;
        script.flush()?;
        let mut command = Command::new(python);
        command.arg(script.path());
        command.args(["--family", if config.family == Family::Gpt2 { "gpt2" } else { "bert" }]);
        for (name, value) in [
            ("--vocab", config.vocab),
            ("--positions", config.positions),
            ("--hidden", config.hidden),
            ("--layers", config.layers),
            ("--heads", config.heads),
            ("--sequences", inputs.sequences),
            ("--length", inputs.length),
            ("--threads", threads),
        ] {
            command.arg(name).arg(value.to_string());
        }
        command.arg("--dropout").arg(options.dropout.to_string());
        if options.cpu_time {
            command.arg("--cpu-time");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let answers = BufReader::new(child.stdout.take().context("no output of PyTorch's side")?);
        Ok(Self { child, answers, _script: script })
    }

    /// Steps per second over so many seconds, and PyTorch's version.
    fn run(&mut self, seconds: f64) -> anyhow::Result<(f64, String)> {
        let request = self.child.stdin.as_mut().context("no input of PyTorch's side")?;
        writeln!(request, "{seconds}").context("PyTorch's side has ended: see its messages above")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: serde_json::Value =
            serde_json::from_str(&line).context("PyTorch's side failed: see its messages above")?;
        let rate = answer["steps_per_second"].as_f64().context("PyTorch's side gave no rate")?;
        Ok((rate, answer["torch"].as_str().unwrap_or_default().into()))
    }
}

impl Drop for PyTorch {
    fn drop(&mut self) {
        // End of input ends it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
