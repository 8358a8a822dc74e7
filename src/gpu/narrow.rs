//! Narrow students: one workgroup each, whole blocks of steps inside a dispatch (`narrow.wgsl`).
//!
//! Dispatches are cut by measured time, and where one ends does not change a bit: it applies its last block, and the next one
//! starts from the same stored weights.

use super::GpuError;
use super::context::{Bind, GpuContext, Launch, grid};
use super::layout::Layout;
use super::pool::{Pool, per_block};
use super::queue::{Pacer, Pipeline};
use super::sample::block_words;
use super::shader::assemble;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Member {
    model: u32,
    blocks: u32,
    targets: u32,
    rates: u32,
    samples: u32,
    out: u32,
    slab: u32,
    loss: u32,
}

/// Threads of a workgroup: one per neuron up to what the adapter and occupancy allow.
pub(super) fn threads(context: &GpuContext, m: usize) -> usize {
    let most = (context.limits().max_compute_invocations_per_workgroup as usize).min(512);
    (m + 1).next_multiple_of(32).clamp(32, most)
}

/// Whether the slab (32 numbers per neuron) fits into workgroup memory beside the sums of `reduce.wgsl`.
pub(super) fn slab_fits(context: &GpuContext, m: usize, classes: usize) -> bool {
    let sums = classes.min(8) * (threads(context, m) + 16);
    4 * (32 * m + sums) <= context.limits().max_compute_workgroup_storage_size as usize
}

/// Constants of the delayed-update kernels.
pub(super) fn constants(layout: &Layout, batch: usize, threads: usize) -> Vec<(&'static str, usize)> {
    let m = layout.shape.hidden[0];
    vec![
        ("D1", layout.shape.d + 1),
        ("M", m),
        ("M1", m + 1),
        ("C", layout.shape.classes),
        ("WG", threads),
        ("BATCH", batch),
        ("PER_BLOCK", per_block(batch)),
        ("BLOCK_WORDS", block_words(layout.shape.d) as usize),
        ("OUT", layout.offsets[1] as usize),
        ("GRAD", layout.sums as usize),
    ]
}

/// Most blocks per dispatch on a software adapter. Mesa's llvmpipe ends every loop once an invocation has gone around 65,535
/// times in all; a block of a model of 2048 neurons takes about 5,000.
const SOFTWARE_BLOCKS: usize = 8;

/// Trains all members of the pool side by side.
pub(super) async fn train(
    context: &GpuContext,
    layout: &Layout,
    params: &wgpu::Buffer,
    pool: &Pool,
    batch: usize,
    shared: bool,
    pacer: &mut Pacer,
) -> Result<(), GpuError> {
    let m = layout.shape.hidden[0];
    let mut source = assemble(
        &constants(layout, batch, threads(context, m)),
        &[
            include_str!("delayed.wgsl"),
            include_str!("reduce.wgsl"),
            include_str!("loss.wgsl"),
            include_str!("narrow.wgsl"),
        ],
    );
    source.push_str(&format!("const SHARED: bool = {shared};\n"));
    let slab_words = 32 * m;
    let mut binds =
        vec![Bind::Uniform, Bind::Read, Bind::Write, Bind::Read, Bind::Read, Bind::Read, Bind::Write];
    // Members at a time: without workgroup memory their slabs must fit into one buffer.
    let (together, slab) = if shared {
        source.push_str(&format!("var<workgroup> slab: array<f32, {slab_words}>;\n"));
        (pool.jobs.len(), None)
    } else {
        source.push_str("@group(0) @binding(7) var<storage, read_write> slab: array<f32>;\n");
        binds.push(Bind::Write);
        let room = context.limits().max_storage_buffer_binding_size.min(1 << 30) as usize / 4;
        let together = (room / slab_words).clamp(1, pool.jobs.len());
        (together, Some(context.storage("slabs", (together * slab_words) as u64)?))
    };
    let kernel = context.kernel("narrow", "train", &source, &binds)?;
    let most = if context.adapter().is_hardware() { usize::MAX } else { SOFTWARE_BLOCKS };
    let mut pipeline = Pipeline::default();
    for jobs in pool.jobs.chunks(together) {
        let members: Vec<Member> = jobs
            .iter()
            .enumerate()
            .map(|(i, job)| Member {
                model: job.model * layout.stride,
                blocks: job.blocks_at,
                targets: job.targets_at,
                rates: job.rates_at,
                samples: job.samples as u32,
                out: job.out_at,
                slab: (i * slab_words) as u32,
                loss: job.loss,
            })
            .collect();
        let table = context.upload("members", &members)?;
        let blocks = jobs.iter().map(|j| j.samples).max().unwrap_or(0).div_ceil(per_block(batch));
        let mut first = 0;
        while first < blocks {
            let now = pacer.next().min(blocks - first).min(most);
            let span = context.uniform(&[first as u32, now as u32, jobs.len() as u32, 0])?;
            let mut buffers =
                vec![&span, &table, params, &pool.blocks, &pool.targets, &pool.rates, &pool.out];
            buffers.extend(slab.as_ref());
            let launch: Launch = context.launch(&kernel, &binds, &buffers, grid(jobs.len() as u32));
            pipeline.push(context, pacer, context.submit(&[launch]), now).await?;
            first += now;
        }
    }
    pipeline.finish(context, pacer).await
}
