//! Correlations of a model's output with every monomial of degree 0, 1 and 2, over millions of samples (`correlate.wgsl`).

use super::GpuError;
use super::context::{Bind, GpuContext, grid};
use super::group::GpuGroup;
use super::sample::{Blocks, GpuSamples};
use super::shader::assemble;
use curricle_core::rng::Stream;

/// Which function of the logits is correlated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// Softmax probability of a class (the paper's plots: class 1).
    Probability(usize),
    /// Logit 1 minus logit 0.
    Margin,
    /// One logit.
    Logit(usize),
}

/// E\[f(x) x_j x_k\] for every pair, the constant included as coordinate d.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlations {
    /// Input dimension.
    pub d: usize,
    /// Samples averaged over.
    pub samples: u64,
    /// [d + 1, d + 1], upper triangle.
    sums: Vec<f64>,
}

impl Correlations {
    /// E\[f\].
    pub fn mean(&self) -> f64 {
        self.entry(self.d, self.d)
    }

    /// E\[f x_j\].
    pub fn degree_1(&self, j: usize) -> f64 {
        self.entry(j, self.d)
    }

    /// E\[f x_j x_k\]; E\[f\] for j = k.
    pub fn degree_2(&self, j: usize, k: usize) -> f64 {
        self.entry(j.min(k), j.max(k))
    }

    fn entry(&self, j: usize, k: usize) -> f64 {
        self.sums[j * (self.d + 1) + k] / self.samples as f64
    }
}

/// Words of 32 samples in one f32 sum; the host adds those in f64.
const CHUNK: usize = 64;
/// Samples per pass.
const PASS: usize = 1 << 16;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Sums {
    samples: u32,
    words: u32,
    classes: u32,
    kind: u32,
    class_index: u32,
    chunk: u32,
    pad: [u32; 2],
}

/// Correlations of member `member` over items `first .. first + count` of a stream, drawn on the device; one result per output.
///
/// # Errors
/// If an output does not exist or the device fails.
pub async fn correlations_async(
    group: &GpuGroup,
    member: usize,
    seed: u64,
    stream: Stream,
    first: u64,
    count: u64,
    outputs: &[Output],
) -> Result<Vec<Correlations>, GpuError> {
    let context: &GpuContext = group.context();
    let (d, classes) = (group.shape().d, group.shape().classes);
    let known = |o: &Output| match o {
        Output::Probability(c) | Output::Logit(c) => *c < classes,
        Output::Margin => classes == 2,
    };
    if member >= group.members() || !outputs.iter().all(known) {
        return Err(GpuError::Refused("no such member or output".into()));
    }
    let side = d + 1;
    let source = assemble(&[("D1", side)], &[include_str!("correlate.wgsl")]);
    let binds = [Bind::Uniform, Bind::Read, Bind::Write];
    let values = context.kernel("correlate", "values", &source, &binds)?;
    let pair_binds = [Bind::Uniform, Bind::Read, Bind::Read, Bind::Write];
    let pairs = context.kernel("correlate", "pairs", &source, &pair_binds)?;
    let blocks = Blocks::new(d);
    let mut results = vec![Correlations { d, samples: count, sums: vec![0.0; side * side] }; outputs.len()];
    let mut at = 0;
    while at < count {
        let part = (PASS as u64).min(count - at) as usize;
        let samples = GpuSamples::draw(context, d, seed, stream, first + at, part)?;
        let logits = group.logits(member..member + 1, &samples)?;
        let words = part.div_ceil(32);
        let bits = context.storage("coordinates", (side * words) as u64)?;
        context.submit(&[blocks.transpose(context, &samples, 0, part, &bits)?]);
        let chunks = words.div_ceil(CHUNK);
        let value = context.storage("outputs", 32 * words as u64)?;
        let partial = context.storage("partial sums", (chunks * side * side) as u64)?;
        for (output, result) in outputs.iter().zip(&mut results) {
            let (kind, class) = match *output {
                Output::Probability(c) => (0, c),
                Output::Margin => (1, 1),
                Output::Logit(c) => (2, c),
            };
            let uniform = context.uniform(&Sums {
                samples: part as u32,
                words: words as u32,
                classes: classes as u32,
                kind,
                class_index: class as u32,
                chunk: CHUNK as u32,
                pad: [0; 2],
            })?;
            let groups = grid((32 * words).div_ceil(64) as u32);
            context.submit(&[
                context.launch(&values, &binds, &[&uniform, &logits.values, &value], groups),
                context.launch(
                    &pairs,
                    &pair_binds,
                    &[&uniform, &bits, &value, &partial],
                    [side.div_ceil(64) as u32, side as u32, chunks as u32],
                ),
            ]);
            let sums: Vec<f32> = context.read(&partial, 0, chunks * side * side).await?;
            for chunk in sums.chunks_exact(side * side) {
                result.sums.iter_mut().zip(chunk).for_each(|(total, part)| *total += f64::from(*part));
            }
        }
        at += part as u64;
    }
    Ok(results)
}
