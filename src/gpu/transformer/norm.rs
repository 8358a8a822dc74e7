//! Layer norm both ways (`norm.wgsl`).

use super::recorder::{READS, Recorder, read, source, write};
use crate::GpuError;
use crate::context::grid;
use curricle_core::model::transformer::Norm;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Uniform {
    rows: u32,
    hidden: u32,
    weight: u32,
    bias: u32,
    eps: f32,
    add: u32,
    chunk: u32,
    chunks: u32,
}

/// Rows per partial sum of the gradients of weight and bias.
const CHUNK: usize = 32;

/// One layer norm: where its parameters are, and what it normalises.
#[derive(Clone, Copy)]
pub(super) struct LayerNorm<'b> {
    pub norm: &'b Norm,
    pub eps: f64,
    /// Rows, or [`READS`] of at most `capacity`.
    pub rows: u32,
    pub capacity: usize,
    pub hidden: usize,
    /// Input [rows, hidden].
    pub x: &'b wgpu::Buffer,
    /// Mean and 1 / deviation of each row.
    pub stats: &'b wgpu::Buffer,
}

impl LayerNorm<'_> {
    fn count(&self) -> usize {
        if self.rows == READS { self.capacity } else { self.rows as usize }
    }

    fn uniform(&self, add: bool) -> Uniform {
        Uniform {
            rows: self.rows,
            hidden: self.hidden as u32,
            weight: self.norm.weight.start as u32,
            bias: self.norm.bias.start as u32,
            eps: self.eps as f32,
            add: u32::from(add),
            chunk: CHUNK as u32,
            chunks: self.count().div_ceil(CHUNK) as u32,
        }
    }
}

/// Numbers of scratch space the gradient needs.
pub(super) fn scratch(rows: usize, hidden: usize) -> usize {
    rows.div_ceil(CHUNK) * 2 * hidden
}

fn kernel() -> String {
    source(&[("C", 2), ("WG", 64)], &[include_str!("../reduce.wgsl"), include_str!("norm.wgsl")])
}

impl Recorder<'_> {
    /// y = norm(x).
    pub fn norm(
        &mut self,
        norm: LayerNorm<'_>,
        params: &wgpu::Buffer,
        y: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let x = read(norm.x);
        let buffers = [x, read(params), write(norm.stats), x, x, write(y)];
        let groups = grid(norm.count() as u32);
        let flops = 8.0 * norm.count() as f64 * norm.hidden as f64;
        self.push("layer norm", "forward", &kernel(), &norm.uniform(false), &buffers, groups, flops)
    }

    /// dx = the gradient through the norm (+ add); its parameters' gradients are added to `grads`.
    pub fn norm_back(
        &mut self,
        norm: LayerNorm<'_>,
        [params, grads, scratch]: [&wgpu::Buffer; 3],
        dy: &wgpu::Buffer,
        add: Option<&wgpu::Buffer>,
        dx: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let (count, hidden) = (norm.count(), norm.hidden);
        let uniform = norm.uniform(add.is_some());
        let [x, params] = [read(norm.x), read(params)];
        let stats = write(norm.stats);
        let flops = (count * hidden) as f64;
        let buffers = [x, params, stats, read(dy), read(add.unwrap_or(norm.x)), write(dx)];
        let groups = grid(count as u32);
        self.push("layer norm, backward", "backward", &kernel(), &uniform, &buffers, groups, 16.0 * flops)?;
        let buffers = [x, params, stats, read(dy), x, write(scratch)];
        let groups = [hidden.div_ceil(64) as u32, uniform.chunks, 1];
        self.push("layer norm, gradient", "columns", &kernel(), &uniform, &buffers, groups, 5.0 * flops)?;
        let part = read(scratch);
        let buffers = [part, params, stats, part, part, write(grads)];
        let groups = [(2 * hidden).div_ceil(64) as u32, 1, 1];
        let sums = 2.0 * hidden as f64 * f64::from(uniform.chunks);
        self.push("layer norm, merge", "merge", &kernel(), &uniform, &buffers, groups, sums)
    }
}
