//! Samples on the device: uploaded with their labels, or drawn there without labels from the same counter-based generator.
//!
//! A label rule exists once, in the task: no kernel knows it.

use super::GpuError;
use super::context::{Bind, GpuContext, Launch, grid};
use super::shader::assemble;
use curricle_core::rng::Stream;
use curricle_core::task::Samples;
use curricle_core::task::boolean::words;
use std::sync::Arc;

/// Bit-packed samples on a device, with their labels where the task is known. Cheap to clone.
#[derive(Debug, Clone)]
pub struct GpuSamples {
    pub(super) d: usize,
    pub(super) count: usize,
    /// [count, words(d)].
    pub(super) bits: wgpu::Buffer,
    /// [count].
    pub(super) labels: Option<wgpu::Buffer>,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct Draw {
    seed: [u32; 2],
    first: [u32; 2],
    stream: u32,
    count: u32,
    d: u32,
    words: u32,
    bound: f32,
    cols: u32,
    offset: u32,
    row_step: u32,
    col_step: u32,
    pad: [u32; 3],
}

const BINDS: [Bind; 2] = [Bind::Uniform, Bind::Write];

fn split(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

fn launch(
    context: &GpuContext,
    entry: &str,
    draw: &Draw,
    bits: &wgpu::Buffer,
    items: usize,
) -> Result<Launch, GpuError> {
    let source = assemble(&[], &[include_str!("philox.wgsl"), include_str!("sample.wgsl")]);
    let kernel = context.kernel("sample", entry, &source, &BINDS)?;
    let uniform = context.uniform(draw)?;
    Ok(context.launch(&kernel, &BINDS, &[&uniform, bits], grid(items.div_ceil(64) as u32)))
}

impl GpuSamples {
    /// Copies samples (and their labels, if any) to the device.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn upload(context: &GpuContext, samples: &Samples) -> Result<Self, GpuError> {
        let labels = if samples.labels.is_empty() {
            None
        } else {
            let labels: Vec<u32> = samples.labels.iter().map(|&l| u32::from(l)).collect();
            Some(context.upload("labels", &labels)?)
        };
        let bits = context.upload("samples", samples.bits())?;
        Ok(Self { d: samples.d(), count: samples.len(), bits, labels })
    }

    /// Draws items `first .. first + count` of `stream` on the device: the bits of [`Samples::random`], without labels.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn draw(
        context: &GpuContext,
        d: usize,
        seed: u64,
        stream: Stream,
        first: u64,
        count: usize,
    ) -> Result<Self, GpuError> {
        let bits = context.storage("samples", count as u64 * words(d) as u64)?;
        let draw = Draw {
            seed: split(seed),
            first: split(first),
            stream: stream.word(),
            count: count as u32,
            d: d as u32,
            words: words(d) as u32,
            ..Draw::default()
        };
        context.submit(&[launch(context, "samples", &draw, &bits, count)?]);
        Ok(Self { d, count, bits, labels: None })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without samples.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Input dimension.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Copies the samples back.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn download_async(&self, context: &GpuContext) -> Result<Samples, GpuError> {
        let bits = context.read(&self.bits, 0, self.count * words(self.d)).await?;
        let mut samples = Samples::from_bits(self.d, bits);
        if let Some(labels) = &self.labels {
            let labels: Vec<u32> = context.read(labels, 0, self.count).await?;
            samples.labels = labels.iter().map(|&l| l as u8).collect();
        }
        Ok(samples)
    }
}

/// Block 0 of items `first .. first + count` of any stream: 4 words each, the bits of [`curricle_core::rng::bits`].
///
/// # Errors
/// If the device fails.
pub async fn raw_bits_async(
    context: &GpuContext,
    seed: u64,
    stream: Stream,
    first: u64,
    count: usize,
) -> Result<Vec<u32>, GpuError> {
    let out = context.storage("random words", 4 * count as u64)?;
    let draw = Draw {
        seed: split(seed),
        first: split(first),
        stream: stream.word(),
        count: count as u32,
        ..Draw::default()
    };
    context.submit(&[launch(context, "raw", &draw, &out, count)?]);
    context.read(&out, 0, 4 * count).await
}

/// Where the initial weights of one tensor go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor {
    pub rows: usize,
    pub cols: usize,
    pub offset: u32,
    pub row_step: u32,
    pub col_step: u32,
}

/// Draws the initial weights of one tensor, uniform in +-bound, into `params`.
pub(super) fn weights(
    context: &GpuContext,
    seed: u64,
    stream: Stream,
    bound: f32,
    tensor: Tensor,
    params: &wgpu::Buffer,
) -> Result<Launch, GpuError> {
    let draw = Draw {
        seed: split(seed),
        stream: stream.word(),
        count: (tensor.rows * tensor.cols) as u32,
        bound,
        cols: tensor.cols as u32,
        offset: tensor.offset,
        row_step: tensor.row_step,
        col_step: tensor.col_step,
        ..Draw::default()
    };
    launch(context, "weights", &draw, params, (tensor.rows * tensor.cols).div_ceil(4))
}

/// Kernels of `block.wgsl`: samples in the forms other kernels want.
pub(super) struct Blocks {
    source: String,
}

impl Blocks {
    pub fn new(d: usize) -> Self {
        let constants =
            [("D", d), ("D1", d + 1), ("WORDS", words(d)), ("BLOCK_WORDS", block_words(d) as usize)];
        Self { source: assemble(&constants, &[include_str!("block.wgsl")]) }
    }

    fn launch(
        &self,
        context: &GpuContext,
        entry: &str,
        uniform: &[u32; 8],
        samples: &GpuSamples,
        out: &wgpu::Buffer,
        items: usize,
    ) -> Result<Launch, GpuError> {
        let binds = [Bind::Uniform, Bind::Read, Bind::Write];
        let kernel = context.kernel("block", entry, &self.source, &binds)?;
        let uniform = context.uniform(uniform)?;
        Ok(context.launch(&kernel, &binds, &[&uniform, &samples.bits, out], grid(items.div_ceil(64) as u32)))
    }

    /// Prepares samples `first .. first + count` as blocks from word `at` of `out`.
    #[allow(clippy::too_many_arguments)]
    pub fn blocks(
        &self,
        context: &GpuContext,
        samples: &GpuSamples,
        first: usize,
        count: usize,
        per_block: usize,
        at: u32,
        out: &wgpu::Buffer,
    ) -> Result<Launch, GpuError> {
        let blocks = count.div_ceil(per_block);
        let uniform = [count as u32, per_block as u32, blocks as u32, first as u32, at, 0, 0, 0];
        let items = blocks * block_words(samples.d) as usize;
        self.launch(context, "blocks", &uniform, samples, out, items)
    }

    /// Samples `first .. first + count` as numbers [count, d + 1].
    pub fn expand(
        &self,
        context: &GpuContext,
        samples: &GpuSamples,
        first: usize,
        count: usize,
        out: &wgpu::Buffer,
    ) -> Result<Launch, GpuError> {
        let uniform = [first as u32, count as u32, 0, 0, 0, 0, 0, 0];
        self.launch(context, "expand", &uniform, samples, out, count * (samples.d + 1))
    }

    /// Samples `first .. first + count` coordinate by coordinate, [d + 1, count / 32 rounded up].
    pub fn transpose(
        &self,
        context: &GpuContext,
        samples: &GpuSamples,
        first: usize,
        count: usize,
        out: &wgpu::Buffer,
    ) -> Result<Launch, GpuError> {
        let uniform = [first as u32, count as u32, 0, 0, 0, 0, 0, 0];
        self.launch(context, "transpose", &uniform, samples, out, count.div_ceil(32) * (samples.d + 1))
    }
}

/// Words of one prepared block: coordinates with the bias, then the 32 x 32 Gram matrix.
pub(super) fn block_words(d: usize) -> u32 {
    (d + 1 + 32 * 32) as u32
}

/// The labels of `samples`.
pub(super) fn labels_of(samples: &GpuSamples) -> Result<&wgpu::Buffer, GpuError> {
    samples.labels.as_ref().ok_or_else(|| GpuError::Refused("these samples have no labels".into()))
}

/// A device shared by everything on it.
pub type SharedContext = Arc<GpuContext>;
