//! `curricle bench --all-devices`: the GPU engine's speed and agreement on every adapter, as a file one can send.

use super::common::Json;
use super::timing::run_pytorch;
use anyhow::Context;
use curricle_core::math::order::median;
use curricle_core::model::{Loss, MlpInit, MlpParams, MlpShape};
use curricle_core::optim::Steps;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::target;
use curricle_core::task::{BooleanTask, HierarchicalParity, Samples, Support};
use curricle_cpu::{CpuOptions, Mlp};
use curricle_gpu::blocking::{floor, peak, speed};
use curricle_gpu::floor::Floor;
use curricle_gpu::oracle::distance;
use curricle_gpu::sample::SharedContext;
use curricle_gpu::self_test::flat;
use curricle_gpu::transformer::speed::{Peak, SpeedCase, StepSpeed};
use curricle_gpu::{
    GpuContext, GpuError, GpuGroup, GpuMlp, GpuOptions, GpuSamples, GpuTargets, MemberSteps, Output,
    adapters, correlations,
};
use curricle_lab::device::{DeviceChoice, ResolvedDevice};
use curricle_lab::run::folder::write_json;
use curricle_report::plot::{Axis, Color, Figure, Mark, Panel, Series, Shape};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Measures the GPU engine on the adapters of this machine and compares it with the CPU engine.
///
/// `curricle bench --all-devices` writes bench-devices.json: send it to us if your GPU is not in the table yet.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchDevicesArgs {
    /// Every adapter, software ones included
    #[arg(long)]
    pub all_devices: bool,
    /// One adapter (auto, gpu, gpu:NUMBER, gpu:BACKEND:NUMBER, gpu:PART-OF-NAME)
    #[arg(
        long,
        value_name = "DEVICE",
        conflicts_with = "all_devices",
        required_unless_present = "all_devices"
    )]
    pub device: Option<DeviceChoice>,
    /// Seconds per measurement
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,
    /// A Python with PyTorch for CUDA: measures it alternately with ours, eager and with CUDA graphs, on teachers
    #[arg(long, value_name = "PYTHON")]
    pub pytorch: Option<PathBuf>,
    /// The file to write; the plot goes beside it, as .svg and .png
    #[arg(long, value_name = "FILE", default_value = "bench-devices.json")]
    pub output: PathBuf,
    /// `--json`.
    #[command(flatten)]
    pub json: Json,
}

#[derive(Debug, serde::Serialize)]
struct Bench {
    version: &'static str,
    d: usize,
    adapters: Vec<AdapterBench>,
}

#[derive(Debug, serde::Serialize)]
struct AdapterBench {
    device: String,
    name: String,
    backend: &'static str,
    driver: String,
    hardware: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<Floor>,
    /// What the adapter does at most, measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<Peak>,
    rates: Vec<Rate>,
    /// Training steps of transformers, with each kernel.
    transformers: Vec<StepSpeed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<Agreement>,
}

#[derive(Debug, serde::Serialize)]
struct Rate {
    what: String,
    per_second: f64,
    unit: &'static str,
    kernels: String,
    /// What bounds these kernels on this adapter, as a rate in the same unit, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pytorch: Option<PyTorchRates>,
}

/// PyTorch on its CUDA device, measured alternately with ours; medians of three rounds.
#[derive(Debug, serde::Serialize)]
struct PyTorchRates {
    version: String,
    eager_per_second: f64,
    graphed_per_second: f64,
    ratio_to_eager: f64,
    ratio_to_graphed: f64,
}

/// The same training on both engines.
#[derive(Debug, serde::Serialize)]
struct Agreement {
    steps: usize,
    /// Of the parameters after the first 500 steps.
    nmse_500: f64,
    /// After all steps; by then rounding has grown (docs/gpu.md).
    nmse: f64,
    max_error: f64,
    /// First evaluated step at which the accuracies differ by more than a point; null if never.
    first_step_apart: Option<usize>,
}

const D: usize = 100;
const STREAM: Stream = Stream::new(Purpose::Data, 0);

/// Runs the command.
///
/// # Errors
/// If there is no such device, or the file cannot be written. A device that fails is recorded in the file.
pub fn run(args: &BenchDevicesArgs) -> anyhow::Result<()> {
    if !(args.seconds > 0.0 && args.seconds <= 600.0) {
        return Err(
            super::Usage(format!("--seconds {}: between 0 and 600 are possible", args.seconds)).into()
        );
    }
    let chosen = if args.all_devices {
        adapters()
    } else {
        match args.device.clone().unwrap_or_default().resolve()? {
            ResolvedDevice::Gpu(entry) => vec![*entry],
            ResolvedDevice::Cpu => {
                return Err(super::Usage(
                    "there is no hardware GPU here: name a software adapter (see `curricle devices`) or use --all-devices"
                        .into(),
                )
                .into());
            }
        }
    };
    anyhow::ensure!(!chosen.is_empty(), "this machine has no GPU adapter (see `curricle devices`)");
    let time = Duration::from_secs_f64(args.seconds);
    let mut bench = Bench { version: env!("CARGO_PKG_VERSION"), d: D, adapters: Vec::new() };
    for entry in &chosen {
        eprintln!("{entry}");
        let mut adapter = AdapterBench {
            device: format!("gpu:{}", entry.index),
            name: entry.info.name.clone(),
            backend: entry.backend(),
            driver: format!("{} {}", entry.info.driver, entry.info.driver_info).trim().to_owned(),
            hardware: entry.is_hardware(),
            error: None,
            floor: None,
            peak: None,
            rates: Vec::new(),
            transformers: Vec::new(),
            agreement: None,
        };
        let measured = GpuContext::open(entry, GpuOptions::default())
            .map_err(anyhow::Error::new)
            .and_then(|context| measure(&Arc::new(context), time, args.pytorch.as_deref(), &mut adapter));
        adapter.error = measured.err().map(|e| format!("{e:#}"));
        bench.adapters.push(adapter);
    }
    write_json(&args.output, &bench)?;
    if let Some(figure) = figure(&bench) {
        for (extension, bytes) in [("svg", figure.to_svg()?.into_bytes()), ("png", figure.to_png(2.0)?)] {
            let path = args.output.with_extension(extension);
            std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if args.json.asked() {
        return super::print_json(&bench);
    }
    Ok(super::print(&(table(&bench) + &format!("written to {}\n", args.output.display())))?)
}

fn measure(
    context: &SharedContext,
    time: Duration,
    python: Option<&Path>,
    out: &mut AdapterBench,
) -> anyhow::Result<()> {
    let floor = out.floor.insert(floor(context)?);
    // One dispatch per step at least, for kernels that cross neurons through memory.
    let dispatches = 1e6 / floor.dispatch_microseconds;
    for (label, width) in [("teacher 1k", 1000), ("teacher 10k", 10_000), ("teacher 50k", 50_000)] {
        let mut rate = students(context, width, 1, time)?;
        let mut pytorch = None;
        if let Some(python) = python {
            let mut rounds = Vec::new();
            let mut ours = Vec::new();
            for _ in 0..3 {
                rounds.push(on_cuda(python, width, time)?);
                rate = students(context, width, 1, time)?;
                ours.push(rate.0);
            }
            rate.0 = median(ours.iter().copied());
            let eager = median(rounds.iter().map(|r| r.0));
            let graphed = median(rounds.iter().map(|r| r.1));
            pytorch = Some(PyTorchRates {
                version: rounds.swap_remove(0).2,
                eager_per_second: eager,
                graphed_per_second: graphed,
                ratio_to_eager: rate.0 / eager,
                ratio_to_graphed: rate.0 / graphed,
            });
        }
        let bound = rate.1.starts_with("wide").then_some(dispatches);
        push(
            out,
            Rate {
                what: label.into(),
                per_second: rate.0,
                unit: "steps/s",
                kernels: rate.1,
                floor_per_second: bound,
                pytorch,
            },
        );
    }
    for count in [1, 64, 1024] {
        let what = format!("{count} students of width 100");
        let (per_second, kernels) = students(context, 100, count, time)?;
        push(
            out,
            Rate {
                what,
                per_second,
                unit: "student-steps/s",
                kernels,
                floor_per_second: None,
                pytorch: None,
            },
        );
    }
    let shape = MlpShape { d: D, hidden: vec![1000], classes: 2 };
    let group = GpuGroup::pytorch(context, &shape, &[1])?;
    let per_second = repeated(time, 1 << 12, 1 << 22, |count| {
        correlations(&group, 0, 1, STREAM, 0, count as u64, &[Output::Probability(1)]).map(|_| ())
    })?;
    let what = "correlations, width 1k".into();
    push(
        out,
        Rate {
            what,
            per_second,
            unit: "samples/s",
            kernels: "correlate".into(),
            floor_per_second: None,
            pytorch: None,
        },
    );
    out.agreement = Some(agreement(context)?);
    // A software adapter would take minutes for the paper's models.
    out.peak = Some(peak(context, time / 10)?);
    let cases = if out.hardware { SpeedCase::paper() } else { SpeedCase::small() };
    for case in cases {
        let floor = out.floor.as_ref().expect("it was measured above");
        let step = speed(context, floor, &case, time / 10)?;
        eprintln!("  {}: {:.0} us/step, {:.1} GFLOP/s", step.model, step.step_microseconds, step.gflops);
        out.transformers.push(step);
    }
    Ok(())
}

fn push(out: &mut AdapterBench, rate: Rate) {
    eprintln!("  {}: {:.0} {}", rate.what, rate.per_second, rate.unit);
    out.rates.push(rate);
}

/// PyTorch's steps per second on its CUDA device: eager, with CUDA graphs, and its version.
fn on_cuda(python: &Path, width: usize, time: Duration) -> anyhow::Result<(f64, f64, String)> {
    let arguments = |more: &[&str]| -> Vec<String> {
        let (width, d, seconds) = (width.to_string(), D.to_string(), time.as_secs_f64().to_string());
        let fixed = ["--width", &width, "--d", &d, "--batch", "1", "--seconds", &seconds, "--cuda"];
        fixed.iter().chain(more).map(ToString::to_string).collect()
    };
    let (eager, version) = run_pytorch(python, 1, &arguments(&[]))?;
    let (graphed, _) = run_pytorch(python, 1, &arguments(&["--graph"]))?;
    Ok((eager, graphed, version))
}

/// Units per second: doubles the work until a run takes a third of `time`.
fn repeated(
    time: Duration,
    first: usize,
    most: usize,
    mut work: impl FnMut(usize) -> Result<(), GpuError>,
) -> Result<f64, GpuError> {
    let mut count = first;
    work(count)?; // compiles
    loop {
        let started = Instant::now();
        work(count)?;
        let took = started.elapsed();
        if took * 3 >= time || count >= most {
            return Ok(count as f64 / took.as_secs_f64().max(1e-9));
        }
        count *= 2;
    }
}

/// Steps per second, summed over `count` models of one width that train on labels at two learning rates.
fn students(
    context: &SharedContext,
    width: usize,
    count: usize,
    time: Duration,
) -> Result<(f64, String), GpuError> {
    let shape = MlpShape { d: D, hidden: vec![width], classes: 2 };
    let seeds: Vec<u64> = (0..count as u64).collect();
    let mut group = GpuGroup::pytorch(context, &shape, &seeds)?;
    let task = task()?;
    let per_model = repeated(time, 64, 1 << 17, |steps| {
        let drawn = task.samples(1, STREAM, 0, steps);
        let samples = GpuSamples::upload(context, &drawn)?;
        let targets = target::from_labels(Loss::CrossEntropy, 2, &drawn.labels);
        let targets = GpuTargets::upload(context, Loss::CrossEntropy, 2, &targets)?;
        let rates = [vec![0.01f32; steps], vec![0.005; steps]];
        let members: Vec<MemberSteps> = (0..count)
            .map(|member| MemberSteps {
                member,
                samples: &samples,
                first: 0,
                targets: &targets,
                targets_first: 0,
                rates: &rates[member % 2],
                weight_decay: 0.0,
            })
            .collect();
        group.train(1, &members).map(|_| ())
    })?;
    Ok((per_model * count as f64, group.path(1).to_string()))
}

fn task() -> Result<HierarchicalParity, GpuError> {
    HierarchicalParity::parity(D, 3, &Support::First).map_err(|e| GpuError::Refused(e.to_string()))
}

/// A student of width 100 on both engines.
fn agreement(context: &SharedContext) -> Result<Agreement, GpuError> {
    const STEPS: usize = 4000;
    const EVERY: usize = 500;
    let task = task()?;
    let shape = MlpShape { d: D, hidden: vec![100], classes: 2 };
    let params = MlpParams::new(&shape, MlpInit::Pytorch, 1);
    let mut cpu = Mlp::new(&params, CpuOptions::default());
    let mut gpu = GpuMlp::new(context, &params)?;
    let held_out = task.samples(1, Stream::new(Purpose::Evaluation, 0), 0, 2000);
    let mut first_step_apart = None;
    let mut nmse_500 = f64::NAN;
    for step in (0..STEPS).step_by(EVERY) {
        let samples: Samples = task.samples(1, STREAM, step as u64, EVERY);
        let targets = target::from_labels(Loss::CrossEntropy, 2, &samples.labels);
        let steps = Steps {
            samples: &samples,
            batch: 1,
            loss: Loss::CrossEntropy,
            targets: &targets,
            rates: &[0.05; EVERY],
            weight_decay: 0.0,
        };
        cpu.train(&steps);
        gpu.train(&steps)?;
        if step == 0 {
            nmse_500 = distance(&flat(&gpu.to_params()?), &flat(&cpu.to_params())).0;
        }
        if (gpu.accuracy(&held_out)? - cpu.accuracy(&held_out)).abs() > 0.01 {
            first_step_apart.get_or_insert(step + EVERY);
        }
    }
    let (nmse, max_error) = distance(&flat(&gpu.to_params()?), &flat(&cpu.to_params()));
    Ok(Agreement { steps: STEPS, nmse_500, nmse, max_error, first_step_apart })
}

fn table(bench: &Bench) -> String {
    let mut out = String::new();
    for a in &bench.adapters {
        out.push_str(&format!("\n{} ({}, {})\n", a.name, a.backend, a.driver));
        if let Some(error) = &a.error {
            out.push_str(&format!("  failed: {error}\n"));
        }
        if let Some(floor) = &a.floor {
            out.push_str(&format!(
                "  floor: {:.2} us per dispatch, {:.3} us per barrier\n",
                floor.dispatch_microseconds, floor.barrier_microseconds
            ));
        }
        for r in &a.rates {
            let each = 1e6 / r.per_second;
            out.push_str(&format!(
                "  {:<28} {:>14.0} {:<16} {each:>10.2} us each  {}\n",
                r.what, r.per_second, r.unit, r.kernels
            ));
            if let Some(floor) = r.floor_per_second {
                out.push_str(&format!(
                    "  {:<28} {:>13.0}% of one dispatch per step\n",
                    "",
                    100.0 * r.per_second / floor
                ));
            }
            if let Some(torch) = &r.pytorch {
                out.push_str(&format!(
                    "  {:<28} PyTorch {} eager {:.0} (ratio {:.1}), CUDA graph {:.0} (ratio {:.1})\n",
                    "",
                    torch.version,
                    torch.eager_per_second,
                    torch.ratio_to_eager,
                    torch.graphed_per_second,
                    torch.ratio_to_graphed
                ));
            }
        }
        for step in &a.transformers {
            let peak = a.peak.as_ref().map_or(f64::NAN, |p| p.gflops);
            out.push_str(&format!(
                "  {}: {:.0} us per step of {} tokens, {:.1} GFLOP/s ({:.1}% of the measured peak), {} dispatches, {:.1} MiB of activations\n",
                step.model,
                step.step_microseconds,
                step.tokens,
                step.gflops,
                100.0 * step.gflops / peak,
                step.dispatches,
                step.activation_bytes as f64 / f64::from(1 << 20)
            ));
            for k in step.kernels.iter().take(5) {
                out.push_str(&format!(
                    "    {:<36} {:>4} times {:>10.1} us {:>9.1} GFLOP/s ({:.1}% of peak)\n",
                    k.kernel,
                    k.dispatches,
                    k.microseconds,
                    k.gflops,
                    100.0 * k.gflops / peak
                ));
            }
        }
        if let Some(agreement) = &a.agreement {
            let apart = agreement.first_step_apart.map_or("never".to_owned(), |s| format!("at step {s}"));
            out.push_str(&format!(
                "  against the CPU engine: NMSE {:.1e} after 500 steps, {:.1e} after {} (max error {:.1e}); accuracies apart by over a point: {apart}\n",
                agreement.nmse_500, agreement.nmse, agreement.steps, agreement.max_error
            ));
        }
    }
    out
}

/// One panel per measurement, adapters one below the other; `None` if nothing was measured.
fn figure(bench: &Bench) -> Option<Figure> {
    let first = bench.adapters.iter().find(|a| !a.rates.is_empty())?;
    let names = || bench.adapters.iter().map(|a| format!("{} ({})", a.name, a.backend)).collect::<Vec<_>>();
    let title = format!("curricle {} on every adapter, d = {}", bench.version, bench.d);
    let mut figure = Figure::new(title);
    for rate in &first.rates {
        let points: Vec<[f64; 2]> = bench
            .adapters
            .iter()
            .enumerate()
            .filter_map(|(row, a)| {
                Some([a.rates.iter().find(|r| r.what == rate.what)?.per_second, row as f64])
            })
            .collect();
        let x = Axis::log(format!("{} (logarithmic)", rate.unit));
        let panel = Panel::new(x, Axis::categories("", names()))
            .title(rate.what.clone())
            .height(70.0 + 30.0 * bench.adapters.len() as f64)
            .with(Series::unnamed(Color::BLUE, Mark::dots(points, Shape::Circle, 5.0)));
        figure = figure.panel(panel);
    }
    let apart = |a: &AdapterBench| {
        let agreement = a.agreement.as_ref()?;
        Some(format!(
            "{} ({}): NMSE {:.1e} against the CPU engine after 500 steps",
            a.name, a.backend, agreement.nmse_500
        ))
    };
    let notes: Vec<String> = bench.adapters.iter().filter_map(apart).collect();
    Some(figure.note(notes.join("; ") + "."))
}
