//! Minibatch SGD for any number of hidden layers: one tiled product per layer and direction (`matmul.wgsl`), the batch's samples
//! and the gradient at the logits (`minibatch.wgsl`). Several launches per step, so this is for batches, not for batch 1.

use super::GpuError;
use super::context::{Bind, GpuContext, Launch, STEP_ENTRIES, grid};
use super::layout::Layout;
use super::matmul::{Mode, Product, product};
use super::pool::{Job, Pool};
use super::queue::{Pacer, Pipeline};
use super::shader::assemble;
use curricle_core::task::boolean::words;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Step {
    batch: u32,
    first: u32,
    blocks: u32,
    targets: u32,
    loss: u32,
    out: u32,
    pad: [u32; 2],
}

/// Trains one member.
pub(super) async fn train(
    context: &GpuContext,
    layout: &Layout,
    params: &wgpu::Buffer,
    pool: &Pool,
    job: &Job,
    batch: usize,
    pacer: &mut Pacer,
) -> Result<(), GpuError> {
    let shape = &layout.shape;
    let linears = shape.linears();
    let base = job.model * layout.stride;
    let last = layout.last();
    // inputs[l] feeds layer l; deltas[l] is the gradient at layer l's output.
    let mut inputs = vec![context.storage("inputs", (batch * (shape.d + 1)) as u64)?];
    for width in &shape.hidden {
        inputs.push(context.upload("activations", &vec![1.0f32; batch * (width + 1)])?);
    }
    let deltas: Vec<wgpu::Buffer> = linears
        .iter()
        .map(|[_, fan_out]| context.storage("deltas", (batch * fan_out) as u64))
        .collect::<Result<_, _>>()?;
    let logits = context.storage("logits", (batch * shape.classes) as u64)?;
    let ends =
        [Bind::Uniform, Bind::Moving(16), Bind::Read, Bind::Write, Bind::Read, Bind::Read, Bind::Write];
    let constants = [("D", shape.d), ("D1", shape.d + 1), ("WORDS", words(shape.d)), ("C", shape.classes)];
    let source = assemble(&constants, &[include_str!("minibatch.wgsl"), include_str!("loss.wgsl")]);
    let table = context.step_table()?;
    let steps = job.samples / batch;
    let mut pipeline = Pipeline::default();
    let mut first = 0;
    while first < steps {
        let now = pacer.next().min(steps - first).min(STEP_ENTRIES as usize);
        let step = context.uniform(&Step {
            batch: batch as u32,
            first: first as u32,
            blocks: job.source_first * words(shape.d) as u32,
            targets: job.targets_at,
            loss: job.loss,
            out: job.out_at,
            pad: [0; 2],
        })?;
        let end = |entry: &str, numbers: &wgpu::Buffer, logits: &wgpu::Buffer, items: usize| {
            let kernel = context.kernel("minibatch", entry, &source, &ends)?;
            let buffers = [&step, &table, &job.source.bits, numbers, &pool.targets, logits, &pool.out];
            Ok::<_, GpuError>(context.launch(&kernel, &ends, &buffers, grid(items.div_ceil(64) as u32)))
        };
        let mut sequence = vec![end("load", &inputs[0], &pool.targets, batch * (shape.d + 1))?];
        for (l, &[fan_in, fan_out]) in linears.iter().enumerate() {
            let (b_inner, b_col) = layout.steps(l);
            let (mode, out, out_row) = if l == last {
                (Mode::Plain, &logits, fan_out as u32)
            } else {
                (Mode::Relu, &inputs[l + 1], fan_out as u32 + 1)
            };
            let forward = Product {
                rows: batch as u32,
                cols: fan_out as u32,
                inner: fan_in as u32 + 1,
                a_row: fan_in as u32 + 1,
                a_inner: 1,
                b_at: base + layout.offsets[l],
                b_inner,
                b_col,
                out_row,
                out_col: 1,
                ..Product::default()
            };
            sequence.push(product(context, mode, &forward, [&inputs[l], params, out], None, None)?);
        }
        sequence.push(end("slope", &deltas[last], &logits, batch)?);
        for l in (1..linears.len()).rev() {
            let [fan_in, fan_out] = linears[l];
            let (b_col, b_inner) = layout.steps(l);
            let backward = Product {
                rows: batch as u32,
                cols: fan_in as u32,
                inner: fan_out as u32,
                a_row: fan_out as u32,
                a_inner: 1,
                b_at: base + layout.offsets[l],
                b_inner,
                b_col,
                out_row: fan_in as u32,
                out_col: 1,
                mask_row: fan_in as u32 + 1,
                ..Product::default()
            };
            let buffers = [&deltas[l], params, &deltas[l - 1]];
            sequence.push(product(context, Mode::Backward, &backward, buffers, Some(&inputs[l]), None)?);
        }
        for (l, &[fan_in, fan_out]) in linears.iter().enumerate() {
            let (out_row, out_col) = layout.steps(l);
            let update = Product {
                rows: fan_in as u32 + 1,
                cols: fan_out as u32,
                inner: batch as u32,
                a_row: 1,
                a_inner: fan_in as u32 + 1,
                b_inner: fan_out as u32,
                b_col: 1,
                out_at: base + layout.offsets[l],
                out_row,
                out_col,
                rates: job.rates_at,
                first: first as u32,
                ..Product::default()
            };
            let buffers = [&inputs[l], &deltas[l], params];
            sequence.push(product(context, Mode::Update, &update, buffers, None, Some(&pool.rates))?);
        }
        let stride = context.step_stride();
        let launches: Vec<Launch> = (0..now as u32)
            .flat_map(|i| sequence.iter().map(move |l| Launch { offset: Some(i * stride), ..l.clone() }))
            .collect();
        pipeline.push(context, pacer, context.submit(&launches), now).await?;
        first += now;
    }
    pipeline.finish(context, pacer).await
}
