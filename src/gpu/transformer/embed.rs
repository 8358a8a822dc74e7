//! Embeddings and their gradients (`embed.wgsl`).

use super::batch::Ints;
use super::recorder::{NONE, Recorder, Site, read, source, write};
use crate::GpuError;
use crate::context::{GRID_ROW, grid};
use curricle_core::model::transformer::Layout;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Uniform {
    rows: u32,
    hidden: u32,
    length: u32,
    words: u32,
    positions: u32,
    types: u32,
    tokens_at: u32,
    order_at: u32,
    segments_at: u32,
    tokens_used_at: u32,
    stream: u32,
    threshold: u32,
    keep: f32,
    pad: [u32; 3],
}

/// The embeddings of a batch.
#[derive(Clone, Copy)]
pub(super) struct Embedding<'b> {
    pub layout: &'b Layout,
    pub ints: &'b Ints,
    pub list: &'b wgpu::Buffer,
    pub sequences: usize,
    pub length: usize,
    pub hidden: usize,
    pub site: Site,
}

impl Embedding<'_> {
    fn rows(&self) -> usize {
        self.sequences * self.length
    }

    fn uniform(&self) -> Uniform {
        let Ints { tokens_at, order_at, segments_at, tokens_used_at, .. } = *self.ints;
        let types = &self.layout.types;
        Uniform {
            rows: self.rows() as u32,
            hidden: self.hidden as u32,
            length: self.length as u32,
            words: self.layout.words.start as u32,
            positions: self.layout.positions.start as u32,
            types: if types.is_empty() { NONE } else { types.start as u32 },
            tokens_at,
            order_at,
            segments_at,
            tokens_used_at,
            stream: self.site.stream,
            threshold: self.site.threshold,
            keep: self.site.keep,
            pad: [0; 3],
        }
    }

    /// Numbers of scratch space the two buffers of [`Recorder::embed_back`] need.
    pub fn scratch(ints: &Ints, length: usize, hidden: usize) -> [usize; 2] {
        [ints.segments * hidden, length * hidden]
    }
}

impl Recorder<'_> {
    /// out = the sum of the tables' rows, with dropout.
    pub fn embed(
        &mut self,
        embedding: Embedding<'_>,
        params: &wgpu::Buffer,
        out: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let quads = embedding.rows() * embedding.hidden.div_ceil(4);
        let buffers = [read(embedding.list), read(params), write(out), write(self.spare)];
        let groups = grid(quads.div_ceil(64) as u32);
        let uniform = embedding.uniform();
        self.push("embeddings", "forward", &kernel(), &uniform, &buffers, groups, 8.0 * quads as f64)
    }

    /// Adds the tables' gradients to `grads`; `dx` is the gradient at their sum.
    pub fn embed_back(
        &mut self,
        embedding: Embedding<'_>,
        dx: &wgpu::Buffer,
        grads: &wgpu::Buffer,
        [segments, sums]: [&wgpu::Buffer; 2],
    ) -> Result<(), GpuError> {
        let (uniform, source) = (embedding.uniform(), kernel());
        let [list, spare] = [read(embedding.list), write(self.spare)];
        let hidden = embedding.hidden.div_ceil(64) as u32;
        let rows = |n: usize| {
            let n = n as u32;
            [hidden, n.clamp(1, GRID_ROW), n.div_ceil(GRID_ROW).max(1)]
        };
        let flops = (embedding.rows() * embedding.hidden) as f64;
        let Ints { segments: count, distinct, .. } = *embedding.ints;
        let buffers = [list, read(dx), write(segments), spare];
        self.push("embeddings, segments", "segments", &source, &uniform, &buffers, rows(count), flops)?;
        let buffers = [list, read(segments), write(grads), spare];
        let few = (count * embedding.hidden) as f64;
        self.push("embeddings, tokens", "tokens", &source, &uniform, &buffers, rows(distinct), few)?;
        let buffers = [list, read(dx), write(grads), write(sums)];
        let groups = grid((embedding.length * embedding.hidden).div_ceil(64) as u32);
        self.push("embeddings, positions", "positions", &source, &uniform, &buffers, groups, flops)?;
        if uniform.types != NONE {
            let few = (embedding.length * embedding.hidden) as f64;
            let groups = [hidden, 1, 1];
            self.push("embeddings, types", "types", &source, &uniform, &buffers, groups, few)?;
        }
        Ok(())
    }
}

fn kernel() -> String {
    source(&[], &[include_str!("../philox.wgsl"), include_str!("dropout.wgsl"), include_str!("embed.wgsl")])
}
