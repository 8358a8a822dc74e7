//! Wide models, one dispatch per sample (`wide.wgsl`).

use super::GpuError;
use super::context::{Bind, GpuContext, Launch, STEP_ENTRIES};
use super::layout::Layout;
use super::narrow::constants;
use super::pool::{Job, Pool, per_block};
use super::queue::{Pacer, Pipeline};
use super::shader::assemble;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Chunk {
    model: u32,
    samples: u32,
    first: u32,
    loss: u32,
    targets: u32,
    rates: u32,
    blocks: u32,
    out: u32,
}

const THREADS: usize = 256;

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
    let m = layout.shape.hidden[0];
    let groups = (m + 1).div_ceil(THREADS);
    let mut constants = constants(layout, batch, THREADS);
    constants.push(("GROUPS", groups));
    let source = assemble(
        &constants,
        &[
            include_str!("delayed.wgsl"),
            include_str!("reduce.wgsl"),
            include_str!("loss.wgsl"),
            include_str!("wide.wgsl"),
        ],
    );
    let binds = [
        Bind::Uniform,
        Bind::Moving(16),
        Bind::Write,
        Bind::Write,
        Bind::Read,
        Bind::Read,
        Bind::Read,
        Bind::Write,
        Bind::Write,
    ];
    let apply = context.kernel("wide", "apply", &source, &binds)?;
    let advance = context.kernel("wide", "advance", &source, &binds)?;
    let slab = context.storage("slab", 32 * m as u64)?;
    let partial = context.storage("partial sums", (2 * layout.shape.classes * groups) as u64)?;
    let table = context.step_table()?;
    let stride = context.step_stride();
    let size = per_block(batch);
    // The last, empty block only applies the one before it.
    let blocks = job.samples.div_ceil(size) + 1;
    let at_once = (STEP_ENTRIES as usize / (size + 1)).max(1);
    let mut pipeline = Pipeline::default();
    let mut first = 0;
    while first < blocks {
        let now = (pacer.next() / (size + 1)).clamp(1, at_once).min(blocks - first);
        let chunk = context.uniform(&Chunk {
            model: job.model * layout.stride,
            samples: job.samples as u32,
            first: first as u32,
            loss: job.loss,
            targets: job.targets_at,
            rates: job.rates_at,
            blocks: job.blocks_at,
            out: job.out_at,
        })?;
        let buffers =
            [&chunk, &table, params, &slab, &pool.blocks, &pool.targets, &pool.rates, &partial, &pool.out];
        let sweep = context.launch(&apply, &binds, &buffers, [m.div_ceil(64) as u32, 1, 1]);
        let step = Launch { kernel: advance.clone(), groups: [groups as u32, 1, 1], ..sweep.clone() };
        // Both kernels have the same bindings; the group was made for the first one's layout.
        let step = Launch { bind: context.bind(&advance, &binds, &buffers), ..step };
        let mut launches = Vec::with_capacity(now * (size + 2));
        for b in 0..now {
            let entry = (b * (size + 1)) as u32;
            launches.push(Launch { offset: Some(entry * stride), ..sweep.clone() });
            let start = (first + b) * size;
            if start < job.samples {
                let count = size.min(job.samples - start) as u32;
                launches.extend(
                    (0..=count).map(|s| Launch { offset: Some((entry + s) * stride), ..step.clone() }),
                );
            }
        }
        pipeline.push(context, pacer, context.submit(&launches), launches.len()).await?;
        first += now;
    }
    pipeline.finish(context, pacer).await
}
