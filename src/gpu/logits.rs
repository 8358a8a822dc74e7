//! Forward passes: logits of many models on many samples, and accuracies.

use super::GpuError;
use super::context::{Bind, GpuContext, Launch, grid};
use super::layout::Layout;
use super::matmul::{Mode, Product, product};
use super::sample::{Blocks, GpuSamples, labels_of};
use super::shader::assemble;

/// Logits [models, samples, C] on the device.
#[derive(Debug, Clone)]
pub struct GpuLogits {
    pub(super) models: usize,
    pub(super) samples: usize,
    pub(super) classes: usize,
    pub(super) values: wgpu::Buffer,
}

impl GpuLogits {
    /// Copies them back.
    ///
    /// # Errors
    /// If the device fails.
    pub async fn download_async(&self, context: &GpuContext) -> Result<Vec<f32>, GpuError> {
        context.read(&self.values, 0, self.models * self.samples * self.classes).await
    }
}

/// Samples per pass.
const PASS: usize = 8192;
/// Samples per pass of a deep model, whose inner activations are stored.
const DEEP_PASS: usize = 1024;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Forward {
    samples: u32,
    inner: u32,
    m: u32,
    slices: u32,
    model: u32,
    stride: u32,
    output: u32,
    rounds: u32,
    classes: u32,
    pad: [u32; 3],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Score {
    samples: u32,
    slices: u32,
    models: u32,
    classes: u32,
    first: u32,
    rows: u32,
    pad: [u32; 2],
}

/// Logits of models `models` of `params` on `samples`.
pub(super) fn logits(
    context: &GpuContext,
    layout: &Layout,
    params: &wgpu::Buffer,
    models: std::ops::Range<usize>,
    samples: &GpuSamples,
) -> Result<GpuLogits, GpuError> {
    let shape = &layout.shape;
    if samples.d != shape.d {
        return Err(GpuError::Refused(format!(
            "samples have d = {}, the model has d = {}",
            samples.d, shape.d
        )));
    }
    let (classes, count) = (shape.classes, samples.count);
    let values = context.storage("logits", (models.len() * count * classes) as u64)?;
    let out = GpuLogits { models: models.len(), samples: count, classes, values };
    let blocks = Blocks::new(shape.d);
    let deep = shape.hidden.len() > 1;
    let pass = if deep { DEEP_PASS } else { PASS };
    for first in (0..count).step_by(pass) {
        let part = pass.min(count - first);
        let signs = context.storage("inputs", (part * (shape.d + 1)) as u64)?;
        let mut launches = vec![blocks.expand(context, samples, first, part, &signs)?];
        if deep {
            for (row, model) in models.clone().enumerate() {
                let inner = hidden(context, layout, params, model, &signs, part, &mut launches)?;
                let place = Place { first, part, row, model, models: 1 };
                tail(context, layout, params, &inner, &place, &out, &mut launches)?;
            }
        } else {
            // As many models at once as keep the partial sums below 64 MiB and the grid within its limit.
            let rounds = classes.div_ceil(4);
            let together = ((16 << 20) / (part * classes)).min(65_535 / rounds).max(1);
            for model in models.clone().step_by(together) {
                let now = together.min(models.end - model);
                let place = Place { first, part, row: model - models.start, model, models: now };
                tail(context, layout, params, &signs, &place, &out, &mut launches)?;
            }
        }
        context.submit(&launches);
    }
    context.check()?;
    Ok(out)
}

struct Place {
    first: usize,
    part: usize,
    row: usize,
    model: usize,
    models: usize,
}

/// All hidden layers but the last: activations [part, width + 1] with a trailing 1.
fn hidden(
    context: &GpuContext,
    layout: &Layout,
    params: &wgpu::Buffer,
    model: usize,
    signs: &wgpu::Buffer,
    part: usize,
    launches: &mut Vec<Launch>,
) -> Result<wgpu::Buffer, GpuError> {
    let base = model as u32 * layout.stride;
    let mut inputs = signs.clone();
    let linears = layout.shape.linears();
    for (l, &[fan_in, fan_out]) in linears[..linears.len() - 2].iter().enumerate() {
        let out = context.upload("activations", &vec![1.0f32; part * (fan_out + 1)])?;
        let (b_inner, b_col) = layout.steps(l);
        let shape = Product {
            rows: part as u32,
            cols: fan_out as u32,
            inner: fan_in as u32 + 1,
            a_row: fan_in as u32 + 1,
            a_inner: 1,
            b_at: base + layout.offsets[l],
            b_inner,
            b_col,
            out_row: fan_out as u32 + 1,
            out_col: 1,
            ..Product::default()
        };
        launches.push(product(context, Mode::Relu, &shape, [&inputs, params, &out], None, None)?);
        inputs = out;
    }
    Ok(inputs)
}

/// The last hidden layer and the output layer.
fn tail(
    context: &GpuContext,
    layout: &Layout,
    params: &wgpu::Buffer,
    inputs: &wgpu::Buffer,
    place: &Place,
    out: &GpuLogits,
    launches: &mut Vec<Launch>,
) -> Result<(), GpuError> {
    let last = layout.last();
    let [inner, m] = layout.shape.linears()[last - 1];
    let classes = layout.shape.classes;
    let tiles = place.part.div_ceil(64);
    let rounds = classes.div_ceil(4);
    // Few samples of a wide model would leave most of the device idle: deal the neurons to several workgroups.
    let slices = (1024 / (tiles * rounds * place.models)).clamp(1, m.div_ceil(64).min(64));
    let partial = context.storage("partial logits", (place.models * slices * place.part * classes) as u64)?;
    let forward = context.uniform(&Forward {
        samples: place.part as u32,
        inner: inner as u32 + 1,
        m: m as u32,
        slices: slices as u32,
        model: place.model as u32 * layout.stride + layout.offsets[last - 1],
        stride: layout.stride,
        output: layout.offsets[last] - layout.offsets[last - 1],
        rounds: rounds as u32,
        classes: classes as u32,
        pad: [0; 3],
    })?;
    let binds = [Bind::Uniform, Bind::Read, Bind::Read, Bind::Write];
    let kernel = context.kernel(
        "logits",
        "run",
        &assemble(&[("TILE", 64)], &[include_str!("tile.wgsl"), include_str!("logits.wgsl")]),
        &binds,
    )?;
    let groups = [tiles as u32, slices as u32, (place.models * rounds) as u32];
    launches.push(context.launch(&kernel, &binds, &[&forward, inputs, params, &partial], groups));
    let score = context.uniform(&Score {
        samples: place.part as u32,
        slices: slices as u32,
        models: place.models as u32,
        classes: classes as u32,
        first: (place.row * out.samples + place.first) as u32,
        rows: out.samples as u32,
        pad: [0; 2],
    })?;
    let binds = [Bind::Uniform, Bind::Read, Bind::Write];
    let kernel = context.kernel("score", "gather", &assemble(&[], &[include_str!("score.wgsl")]), &binds)?;
    let items = place.models * place.part * classes;
    let groups = grid(items.div_ceil(64) as u32);
    launches.push(context.launch(&kernel, &binds, &[&score, &partial, &out.values], groups));
    Ok(())
}

/// Right answers of each model.
pub(super) async fn right_answers(
    context: &GpuContext,
    samples: &GpuSamples,
    logits: &GpuLogits,
) -> Result<Vec<u32>, GpuError> {
    let right = context.storage("right answers", logits.models as u64)?;
    let score = context.uniform(&Score {
        samples: samples.count as u32,
        slices: 1,
        models: logits.models as u32,
        classes: logits.classes as u32,
        first: 0,
        rows: samples.count as u32,
        pad: [0; 2],
    })?;
    let binds = [Bind::Uniform, Bind::Read, Bind::Read, Bind::Write];
    let kernel = context.kernel("score", "count", &assemble(&[], &[include_str!("score.wgsl")]), &binds)?;
    let groups = grid((logits.models * samples.count).div_ceil(64) as u32);
    let buffers = [&score, &logits.values, labels_of(samples)?, &right];
    context.submit(&[context.launch(&kernel, &binds, &buffers, groups)]);
    context.read(&right, 0, logits.models).await
}
