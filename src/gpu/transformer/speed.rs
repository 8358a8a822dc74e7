//! How fast each kernel is within a training step of a given model, and what the step's dispatches would cost if they did nothing.

use super::model::{GpuTransformer, GpuTransformerOptions};
use super::recorder::{Costed, Recorder, Step, read, source, write};
use crate::context::{Launch, grid};
use crate::floor::Floor;
use crate::sample::SharedContext;
use crate::{GpuContext, GpuError};
use curricle_core::model::transformer::{MicroBatch, TokenBatch, TransformerConfig, TransformerParams};
use curricle_core::optim::{AdamSettings, TrainStep};
use web_time::{Duration, Instant};

/// What a device can do at most, measured.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Peak {
    /// f32 additions and multiplications on registers per second, in 10^9.
    pub gflops: f64,
    /// Bytes read and written by a copy per second, in 10^9.
    pub gigabytes: f64,
}

/// Measures [`Peak`]; each measurement takes about `time`.
///
/// # Errors
/// If the device fails.
pub async fn peak_async(context: &GpuContext, time: Duration) -> Result<Peak, GpuError> {
    /// Workgroups of 256, and vec4s copied: 32 MiB each way.
    const GROUPS: u32 = 2048;
    const SIZE: u32 = 1 << 21;
    const ROUNDS: u32 = 128;
    let kernel = source(&[], &[include_str!("peak.wgsl")]);
    let (step, spare) = (context.uniform(&Step::default())?, context.storage("nothing", 4)?);
    let [from, to] =
        [context.storage("source", 4 * u64::from(SIZE))?, context.storage("sink", 4 * u64::from(SIZE))?];
    let buffers = [read(&from), write(&to)];
    let rate = async |entry: &str, groups: [u32; 3], units: f64| {
        let mut recorder = Recorder::new(context, &step, &spare);
        recorder.push("peak", entry, &kernel, &[ROUNDS, SIZE, 0, 0], &buffers, groups, units)?;
        let launches: Vec<Launch> = recorder.launches.iter().map(|l| l.launch.clone()).collect();
        let seconds = repeated(time, async |count| submitted(context, &launches, count).await).await?;
        Ok::<f64, GpuError>(units / seconds / 1e9)
    };
    let operations = 64.0 * f64::from(ROUNDS) * 256.0 * f64::from(GROUPS);
    Ok(Peak {
        gflops: rate("arithmetic", [GROUPS, 1, 1], operations).await?,
        gigabytes: rate("copy", grid(SIZE / 256), 32.0 * f64::from(SIZE)).await?,
    })
}

async fn submitted(context: &GpuContext, launches: &[Launch], times: usize) -> Result<(), GpuError> {
    for _ in 0..times {
        context.submit(launches);
    }
    context.synchronize_async().await
}

/// One kernel's part in a training step.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct KernelSpeed {
    /// The kernel.
    pub kernel: &'static str,
    /// Dispatches per step.
    pub dispatches: usize,
    /// Time of these dispatches.
    pub microseconds: f64,
    /// Additions and multiplications per second, in 10^9; those of its formula, so that recomputed ones do not count.
    pub gflops: f64,
}

/// A training step of one model.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct StepSpeed {
    /// The model.
    pub model: String,
    /// Tokens per step.
    pub tokens: usize,
    /// One step, forward, backward and update, when several are queued.
    pub step_microseconds: f64,
    /// Additions and multiplications per second over the whole step, in 10^9.
    pub gflops: f64,
    /// Dispatches per step.
    pub dispatches: usize,
    /// What they would cost if they did nothing.
    pub floor_microseconds: f64,
    /// Bytes of activations.
    pub activation_bytes: u64,
    /// Kernels, the slowest first.
    pub kernels: Vec<KernelSpeed>,
}

/// What is measured: a model and its batch.
#[derive(Debug, Clone)]
pub struct SpeedCase {
    /// The model.
    pub config: TransformerConfig,
    /// Batch size.
    pub sequences: usize,
    /// Tokens per sequence.
    pub length: usize,
    /// Every how manieth position is read; 0: the last of each sequence.
    pub every: usize,
    /// Whether activations are dropped.
    pub dropout: bool,
}

impl SpeedCase {
    /// The paper's models: parity teacher and student (2 layers, 100 tokens, batch 32), and BERT on the PCFG (4 layers, 8 x 400
    /// tokens, 30% of them read).
    pub fn paper() -> Vec<Self> {
        let parity = |heads: usize| Self {
            config: TransformerConfig { tied: false, ..TransformerConfig::gpt2(2, 100, 8 * heads, 2, heads) },
            sequences: 32,
            length: 100,
            every: 0,
            dropout: true,
        };
        let pcfg = Self {
            config: TransformerConfig::bert(8, 1024, 256, 4, 32),
            sequences: 8,
            length: 400,
            every: 3,
            dropout: true,
        };
        vec![parity(32), parity(4), pcfg]
    }

    /// What one has patience for on a software adapter: the parity student with an eighth of the batch.
    pub fn small() -> Vec<Self> {
        Self::paper().drain(1..2).map(|case| Self { sequences: 4, ..case }).collect()
    }
}

/// Measures one case, each kernel for about `time`. `floor` is what a dispatch costs that does nothing
/// ([`crate::floor::floor_async`]).
///
/// # Errors
/// If the model does not fit or the device fails.
pub async fn speed_async(
    context: &SharedContext,
    floor: &Floor,
    case: &SpeedCase,
    time: Duration,
) -> Result<StepSpeed, GpuError> {
    let SpeedCase { config, sequences, length, every, dropout } = case;
    let (sequences, length) = (*sequences, *length);
    let refused = |e: String| GpuError::Refused(e);
    let params = TransformerParams::new(config.clone(), 1).map_err(|e| refused(e.to_string()))?;
    let options = GpuTransformerOptions::default();
    let mut model = GpuTransformer::new(context, &params, options)?;
    let positions = (sequences * length) as u32;
    let tokens: Vec<u32> =
        (0..positions).map(|i| i.wrapping_mul(2_654_435_761) % config.vocab as u32).collect();
    let reads: Vec<u32> = match every {
        0 => (1..=sequences).map(|b| (b * length - 1) as u32).collect(),
        every => (0..positions).step_by(*every).collect(),
    };
    let targets = vec![1.0 / config.vocab as f32; reads.len() * config.vocab];
    let micro: MicroBatch<'_> = (TokenBatch::new(sequences, length, &tokens), &reads, &targets);
    let seed = dropout.then_some(1);
    let adam = AdamSettings::default();
    let launches = model.recorded(&micro, seed, &adam).await?;
    let mut kernels: Vec<KernelSpeed> = Vec::new();
    let mut names: Vec<&'static str> = launches.iter().map(|l| l.name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let mine: Vec<&Costed> = launches.iter().filter(|l| l.name == name).collect();
        let group: Vec<Launch> = mine.iter().map(|l| l.launch.clone()).collect();
        let flops: f64 = mine.iter().map(|l| l.flops).sum();
        let seconds = repeated(time, async |count| submitted(context, &group, count).await).await?;
        kernels.push(KernelSpeed {
            kernel: name,
            dispatches: group.len(),
            microseconds: 1e6 * seconds,
            gflops: flops / seconds / 1e9,
        });
    }
    kernels.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
    let seconds = repeated(time, async |count| {
        let step = TrainStep { micro: &[micro], rate: 1e-4, dropout_seed: seed };
        model.train_steps_async(&vec![step; count], &adam).await.map(|_| ())
    })
    .await?;
    Ok(StepSpeed {
        model: config.to_string(),
        tokens: sequences * length,
        step_microseconds: 1e6 * seconds,
        gflops: launches.iter().map(|l| l.flops).sum::<f64>() / seconds / 1e9,
        dispatches: launches.len(),
        floor_microseconds: floor.dispatch_microseconds * launches.len() as f64,
        activation_bytes: super::activation_bytes(config, options, sequences, length, reads.len()),
        kernels,
    })
}

/// Seconds per unit of work: doubles the number of units until a run takes half of `time`; the first run compiles.
async fn repeated(
    time: Duration,
    mut work: impl AsyncFnMut(usize) -> Result<(), GpuError>,
) -> Result<f64, GpuError> {
    work(1).await?;
    let mut count = 1;
    loop {
        let started = Instant::now();
        work(count).await?;
        let took = started.elapsed();
        if took * 2 >= time || count >= 1 << 16 {
            return Ok(took.as_secs_f64().max(1e-9) / count as f64);
        }
        count *= 2;
    }
}
