//! `curricle bench`: how fast the engine is, how fast it could be, and how fast PyTorch is beside it.

use super::timing::{check_seconds, processor_seconds, run_pytorch};
use curricle_core::math::order::median;
use curricle_core::model::loss::Loss;
use curricle_core::model::mlp::{MlpInit, MlpParams, MlpShape};
use curricle_core::optim::Steps;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::pcfg::sample::throughput;
use curricle_core::task::pcfg::{Grammar, NAMES};
use curricle_core::task::{BooleanTask, HierarchicalParity, Samples, Support};
use curricle_cpu::{BlockedMlp, CpuOptions, Isa, Mlp, Peaks};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measure speed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BenchArgs {
    /// What to measure; without it GPUs.
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// Which GPUs to measure.
    #[command(flatten)]
    pub devices: super::bench_devices::BenchDevicesArgs,
}

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// SGD steps and logits of MLPs with one hidden layer on the CPU.
    Mlp(MlpBench),
    /// Training steps of the paper's transformers on the CPU.
    Transformer(super::bench_transformer::TransformerBench),
    /// Tokens per second of the sentence generator, on one core.
    Pcfg(PcfgBench),
}

/// Options of `curricle bench pcfg`.
#[derive(Debug, Clone, clap::Args)]
pub struct PcfgBench {
    /// Sentences per round
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub sentences: u64,
    /// One JSON object on stdout; everything else goes to stderr
    #[arg(long)]
    pub json: bool,
}

/// Options of `curricle bench mlp`. Without --width, the standard set: widths 50,000, 1000 and 100.
#[derive(Debug, Clone, clap::Args)]
pub struct MlpBench {
    /// Hidden width; without it the standard set is measured.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub width: Option<u32>,
    /// Input dimension.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub d: u32,
    /// Samples per step.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Independent students trained side by side; one student gets all threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub students: u32,
    /// Threads; all cores by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Seconds per case and side.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// A Python with PyTorch: measures eager PyTorch alternately with ours and prints the ratio.
    #[arg(long, value_name = "PYTHON")]
    pub pytorch: Option<PathBuf>,
    /// Also measure the plain minibatch loop.
    #[arg(long)]
    pub plain: bool,
    /// Instruction set: portable, avx2 or avx512; the widest by default.
    #[arg(long, value_parser = parse_isa)]
    pub isa: Option<Isa>,
    /// Count time on the processor instead of elapsed time (Linux; meaningful where every student has one thread).
    #[arg(long, hide = true)]
    pub cpu_time: bool,
    /// Samples per block, for tuning.
    #[arg(long, hide = true)]
    pub block: Option<usize>,
    /// Samples per sub-block, for tuning.
    #[arg(long, hide = true)]
    pub sub_block: Option<usize>,
}

fn parse_isa(name: &str) -> Result<Isa, String> {
    let available = Isa::available();
    available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
        let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
        format!("this processor has {}", names.join(", "))
    })
}

/// The one object `--json` prints.
#[derive(Debug, serde::Serialize)]
struct Output {
    version: &'static str,
    device: String,
    isa: &'static str,
    cases: Vec<Case>,
}

#[derive(Debug, serde::Serialize)]
struct Case {
    name: String,
    width: usize,
    d: usize,
    batch: usize,
    students: usize,
    threads: usize,
    /// Steps (for logits, samples) per second, summed over the students; the median of the rounds.
    steps_per_second: f64,
    /// What the operation counts of the method allow at this machine's measured peaks.
    floor_steps_per_second: f64,
    /// steps_per_second / floor_steps_per_second.
    of_floor: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<FloorParts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pytorch_steps_per_second: Option<f64>,
    /// Median over the rounds of ours / PyTorch's.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    /// The same against one single-threaded PyTorch process per student, side by side.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_pytorch_processes: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pytorch: Option<String>,
}

#[derive(Debug, serde::Serialize)]
struct FloorParts {
    compute_microseconds: f64,
    memory_microseconds: f64,
    peaks: Peaks,
}

/// Runs `curricle bench ..`.
///
/// # Errors
/// If PyTorch was asked for and does not run.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let Some(command) = &args.command else {
        return super::bench_devices::run(&args.devices);
    };
    match command {
        BenchCommand::Mlp(options) => mlp(options),
        BenchCommand::Transformer(options) => super::bench_transformer::run(options),
        BenchCommand::Pcfg(options) => pcfg(options),
    }
}

/// Each built-in grammar: the median of five rounds.
fn pcfg(options: &PcfgBench) -> anyhow::Result<()> {
    let mut rates = serde_json::Map::new();
    let mut text = String::new();
    for name in NAMES {
        let grammar = Grammar::builtin(name)?;
        let rounds = (0..5).map(|_| throughput(&grammar, options.sentences));
        let rate = median(rounds);
        text += &format!("{name}: {:.1} million tokens/s on one core\n", rate / 1e6);
        rates.insert(name.to_owned(), rate.into());
    }
    if options.json {
        return super::print_json(&serde_json::json!({ "tokens_per_second": rates }));
    }
    Ok(super::print(&text)?)
}

fn mlp(options: &MlpBench) -> anyhow::Result<()> {
    check_seconds(options.seconds)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or(cores, |t| t as usize);
    let one = |width: u32, students: u32, threads: usize| Setting {
        width: width as usize,
        d: options.d as usize,
        batch: options.batch as usize,
        students: students as usize,
        threads,
    };
    let settings = match options.width {
        Some(width) => vec![one(width, options.students, threads)],
        None => {
            vec![one(50_000, 1, threads), one(1000, 1, 1), one(100, 1, 1), one(100, threads as u32, threads)]
        }
    };
    let isa = options.isa.unwrap_or_else(Isa::detect);
    let mut cases = Vec::new();
    for setting in settings {
        cases.extend(setting.measure(options, isa)?);
    }
    let output = Output { version: env!("CARGO_PKG_VERSION"), device: device(), isa: isa.name(), cases };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&output)?);
    }
    Ok(())
}

/// Name of the processor, where the system tells.
fn device() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} threads", model.unwrap_or(std::env::consts::ARCH))
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    width: usize,
    d: usize,
    batch: usize,
    students: usize,
    threads: usize,
}

/// Rounds of each side; the medians are reported.
const ROUNDS: usize = 5;

impl Setting {
    /// Students at a time, and threads each of them has.
    fn split(self) -> (usize, usize) {
        let side_by_side = self.students.min(self.threads);
        (side_by_side, self.threads / side_by_side)
    }

    fn measure(self, options: &MlpBench, isa: Isa) -> anyhow::Result<Vec<Case>> {
        let shape = MlpShape { d: self.d, hidden: vec![self.width], classes: 2 };
        let params = MlpParams::new(&shape, MlpInit::Pytorch, 1);
        let (side_by_side, each) = self.split();
        let build = |plain: bool| -> Vec<Student> {
            (0..self.students)
                .map(|_| match (plain, options.block.zip(options.sub_block)) {
                    (false, Some((block, sub))) => {
                        Student::Tuned(BlockedMlp::new(&params, each, isa).with_blocks(block, sub))
                    }
                    _ => Student::Mlp(Mlp::new(&params, CpuOptions { threads: each, isa: Some(isa), plain })),
                })
                .collect()
        };
        let model = BlockedMlp::new(&params, 1, isa);
        let model = match options.block.zip(options.sub_block) {
            Some((block, sub)) => model.with_blocks(block, sub),
            None => model,
        };
        let bytes = model.bytes_per_thread(self.batch, each);
        eprintln!(
            "width {}, d {}, batch {}, {} student(s), {} thread(s): {}",
            self.width,
            self.d,
            self.batch,
            self.students,
            self.threads,
            Mlp::new(&params, CpuOptions { threads: each, isa: Some(isa), plain: false }).path()
        );
        let peaks = Peaks::measure(isa, side_by_side * each, bytes, Duration::from_millis(300));
        eprintln!(
            "  peaks of a thread: {:.2} G multiply-adds/s, {:.2} G look-ups/s (16 f32 each), {:.1} GB/s through {:.1} MB",
            peaks.multiply_adds / 1e9,
            peaks.look_ups / 1e9,
            peaks.bytes / 1e9,
            bytes as f64 / 1e6
        );
        let inputs = Inputs::new(self);
        let round = Duration::from_secs_f64((options.seconds / ROUNDS as f64).max(0.01));

        let mut cases = Vec::new();
        for kind in [Kind::Train, Kind::Logits, Kind::Plain] {
            if matches!(kind, Kind::Plain) && !options.plain {
                continue;
            }
            let mut students = build(matches!(kind, Kind::Plain));
            let mut rates = Vec::new();
            let mut torch: Vec<(f64, f64)> = Vec::new();
            let mut torch_version = None;
            inputs.run(&mut students, kind, self, Duration::from_millis(100), options.cpu_time);
            for _ in 0..ROUNDS {
                rates.push(inputs.run(&mut students, kind, self, round, options.cpu_time));
                if let Some(python) = &options.pytorch {
                    let run = |processes: usize| {
                        self.pytorch(
                            python,
                            kind,
                            processes,
                            options.seconds / ROUNDS as f64,
                            options.cpu_time,
                        )
                    };
                    let (rate, version) = run(1)?;
                    let side = if self.students > 1 { run(self.students)?.0 } else { rate };
                    torch.push((rate, side));
                    torch_version = Some(version);
                }
            }
            let floor = match kind {
                Kind::Train => Some(model.train_floor(self.batch, each, &peaks)),
                Kind::Logits => Some(model.forward_floor(each, &peaks)),
                Kind::Plain => None,
            };
            let rate = median(rates.iter().copied());
            let bound = floor.map_or(f64::NAN, |floor| floor.steps_per_second() * side_by_side as f64);
            let ratio = |side: fn(&(f64, f64)) -> f64| {
                (!torch.is_empty()).then(|| median(rates.iter().zip(&torch).map(|(a, b)| a / side(b))))
            };
            let case = Case {
                name: kind.name().into(),
                width: self.width,
                d: self.d,
                batch: self.batch,
                students: self.students,
                threads: self.threads,
                steps_per_second: rate,
                floor_steps_per_second: bound,
                of_floor: rate / bound,
                floor: floor.map(|f| FloorParts {
                    compute_microseconds: f.compute_seconds * 1e6,
                    memory_microseconds: f.memory_seconds * 1e6,
                    peaks,
                }),
                pytorch_steps_per_second: (!torch.is_empty()).then(|| median(torch.iter().map(|t| t.0))),
                ratio: ratio(|t| t.0),
                ratio_to_pytorch_processes: if self.students > 1 { ratio(|t| t.1) } else { None },
                pytorch: torch_version,
            };
            case.print(kind.unit());
            cases.push(case);
        }
        Ok(cases)
    }

    /// PyTorch's steps per second, summed over `processes` processes that share the students, and its version.
    fn pytorch(
        self,
        python: &Path,
        kind: Kind,
        processes: usize,
        seconds: f64,
        cpu_time: bool,
    ) -> anyhow::Result<(f64, String)> {
        let mut arguments: Vec<String> = Vec::new();
        for (name, value) in [
            ("--width", self.width),
            ("--d", self.d),
            // Logits are compared at a batch that suits them.
            ("--batch", if matches!(kind, Kind::Logits) { 256 } else { self.batch }),
            ("--students", self.students / processes),
            ("--threads", (self.threads / processes).max(1)),
        ] {
            arguments.extend([name.to_owned(), value.to_string()]);
        }
        arguments.extend(["--seconds".to_owned(), seconds.to_string()]);
        if matches!(kind, Kind::Logits) {
            arguments.push("--forward".into());
        }
        if cpu_time {
            arguments.push("--cpu-time".into());
        }
        let (total, version) = run_pytorch(python, processes, &arguments)?;
        let samples = if matches!(kind, Kind::Logits) { 256.0 } else { 1.0 };
        Ok((total * samples, version))
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Train,
    Logits,
    Plain,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Logits => "logits",
            Self::Plain => "plain",
        }
    }

    fn unit(self) -> &'static str {
        if matches!(self, Self::Logits) { "samples/s" } else { "steps/s" }
    }
}

impl Case {
    fn print(&self, unit: &str) {
        eprint!("  {:<7} {:>12.0} {unit}", self.name, self.steps_per_second);
        if let Some(floor) = &self.floor {
            eprint!(
                ", floor {:.0} (compute {:.2} us, memory {:.2} us): {:.0}% of it",
                self.floor_steps_per_second,
                floor.compute_microseconds,
                floor.memory_microseconds,
                100.0 * self.of_floor
            );
        }
        if let (Some(torch), Some(ratio)) = (self.pytorch_steps_per_second, self.ratio) {
            eprint!("; PyTorch {torch:.0}, ratio {ratio:.1}");
        }
        if let Some(ratio) = self.ratio_to_pytorch_processes {
            eprint!(" ({ratio:.1} against one PyTorch process per student)");
        }
        eprintln!();
    }
}

/// A student; `Tuned` has block sizes from the command line.
enum Student {
    Mlp(Mlp),
    Tuned(BlockedMlp),
}

impl Student {
    fn train(&mut self, steps: &Steps) -> f64 {
        match self {
            Self::Mlp(model) => model.train(steps).loss_sum,
            Self::Tuned(model) => model.train(steps).loss_sum,
        }
    }

    fn logits(&self, samples: &Samples, out: &mut [f32]) {
        match self {
            Self::Mlp(model) => model.logits(samples, out),
            Self::Tuned(model) => model.logits(samples, out),
        }
    }
}

/// Samples and targets drawn beforehand, on both sides.
struct Inputs {
    samples: Samples,
    targets: Vec<f32>,
    rates: Vec<f32>,
}

impl Inputs {
    fn new(setting: Setting) -> Self {
        // Calls of at least some milliseconds.
        let samples_per_call = 20_000_000 / setting.width.max(20) / setting.d.max(10) * 100;
        let steps = (samples_per_call / setting.batch).clamp(4, 16_384);
        let task =
            HierarchicalParity::parity(setting.d, setting.d.min(6), &Support::First).expect("k is at most d");
        let samples = task.samples(1, Stream::new(Purpose::Data, 0), 0, steps * setting.batch);
        let targets =
            samples.labels.iter().flat_map(|&l| if l == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        Self { samples, targets, rates: vec![0.005; steps] }
    }

    /// Steps (samples, for logits) per second, summed over the students, in about `duration`.
    fn run(
        &self,
        students: &mut [Student],
        kind: Kind,
        setting: Setting,
        duration: Duration,
        cpu_time: bool,
    ) -> f64 {
        let (side_by_side, _) = setting.split();
        let steps = Steps {
            samples: &self.samples,
            batch: setting.batch,
            loss: Loss::CrossEntropy,
            targets: &self.targets,
            rates: &self.rates,
            weight_decay: 0.0,
        };
        let per_thread = students.len().div_ceil(side_by_side);
        let rates = std::thread::scope(|scope| {
            let threads: Vec<_> = students
                .chunks_mut(per_thread)
                .map(|students| {
                    scope.spawn(|| {
                        let start = Instant::now();
                        let on_cpu = processor_seconds(start);
                        let mut done = 0;
                        let mut logits = vec![0.0; self.samples.len() * 2];
                        while start.elapsed() < duration {
                            for student in students.iter_mut() {
                                if matches!(kind, Kind::Logits) {
                                    student.logits(&self.samples, &mut logits);
                                    done += self.samples.len();
                                } else {
                                    std::hint::black_box(student.train(&steps));
                                    done += self.rates.len();
                                }
                            }
                        }
                        let seconds = if cpu_time {
                            processor_seconds(start) - on_cpu
                        } else {
                            start.elapsed().as_secs_f64()
                        };
                        done as f64 / seconds
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().expect("no student panics")).collect::<Vec<f64>>()
        });
        rates.iter().sum()
    }
}
