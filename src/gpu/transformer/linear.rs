//! Linear maps both ways (`linear.wgsl`).

use super::recorder::{NONE, READS, Recorder, Site, read, source, write};
use crate::GpuError;
use crate::context::grid;
use curricle_core::model::transformer::Activation;

/// See `linear.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Linear {
    pub rows: u32,
    pub cols: u32,
    pub inner: u32,
    pub a_at: u32,
    pub a_row: u32,
    pub a_inner: u32,
    pub b_at: u32,
    pub b_inner: u32,
    pub b_col: u32,
    pub out_at: u32,
    pub out_row: u32,
    pub out_col: u32,
    pub bias: u32,
    pub splits: u32,
    pub length: u32,
    pub rows_at: u32,
    pub stream: u32,
    pub threshold: u32,
    pub keep: f32,
    pub pad: u32,
}

impl Linear {
    /// Dense row-major `a` [rows, inner] and `out` [rows, cols]; `b` is set by the caller.
    pub fn dense(rows: u32, inner: usize, cols: usize) -> Self {
        Self {
            rows,
            cols: cols as u32,
            inner: inner as u32,
            a_at: 0,
            a_row: inner as u32,
            a_inner: 1,
            b_at: 0,
            b_inner: cols as u32,
            b_col: 1,
            out_at: 0,
            out_row: cols as u32,
            out_col: 1,
            bias: NONE,
            splits: 1,
            length: 1,
            rows_at: NONE,
            stream: 0,
            threshold: 0,
            keep: 1.0,
            pad: 0,
        }
    }

    pub fn dropped(self, site: Site, length: usize, rows_at: u32) -> Self {
        let Site { stream, threshold, keep } = site;
        Self { stream, threshold, keep, length: length as u32, rows_at, ..self }
    }
}

/// What becomes of a product; see `linear.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Plain = 0,
    Gelu = 1,
    Residual = 2,
    GeluBack = 3,
    Gradient = 4,
    Partial = 5,
}

/// Buffers of a product; those its end does not look at may be left out.
#[derive(Clone, Copy)]
pub(super) struct Operands<'b> {
    pub a: &'b wgpu::Buffer,
    pub b: &'b wgpu::Buffer,
    pub params: &'b wgpu::Buffer,
    pub extra: Option<&'b wgpu::Buffer>,
    pub ints: &'b wgpu::Buffer,
    pub out: &'b wgpu::Buffer,
    pub active: Option<&'b wgpu::Buffer>,
}

/// Workgroups that keep a large device busy; products with fewer tiles split their sum, if they may.
const ENOUGH: usize = 192;
/// Shortest part of a split sum.
const SHORTEST: usize = 128;

/// Side of a tile, and into how many parts the sum is cut: a function of the sizes alone, so that the same batches give the same bits.
fn tiling(rows: usize, cols: usize, inner: usize, split: bool) -> (usize, usize) {
    let parts = |side: usize| {
        let tiles = rows.div_ceil(side) * cols.div_ceil(side);
        let parts = if split { (ENOUGH / tiles.max(1)).min(inner / SHORTEST).clamp(1, 64) } else { 1 };
        (tiles, parts)
    };
    let (tiles, large) = parts(128);
    // A large tile halves the traffic, but not if it leaves half the device idle or is mostly beyond the edge.
    if rows >= 128 && cols >= 128 && 2 * tiles * large >= ENOUGH { (128, large) } else { (64, parts(64).1) }
}

/// Numbers of scratch space [`Recorder::gradient`] needs.
pub(super) fn scratch(rows: usize, cols: usize, inner: usize) -> usize {
    match tiling(rows, cols, inner, true).1 {
        1 => 0,
        n => n * (rows + 1) * cols,
    }
}

impl Recorder<'_> {
    /// `capacity` is the number of rows buffers hold, where `shape.rows` is [`READS`].
    pub fn linear(
        &mut self,
        end: End,
        activation: Activation,
        shape: &Linear,
        capacity: usize,
        operands: Operands<'_>,
    ) -> Result<(), GpuError> {
        let rows = if shape.rows == READS { capacity } else { shape.rows as usize };
        let inner = if shape.inner == READS { capacity } else { shape.inner as usize };
        let gradient = matches!(end, End::Gradient | End::Partial);
        let (tile, _) = tiling(rows, shape.cols as usize, inner, gradient);
        let source = kernel(end, activation, tile);
        let Operands { a, b, params, extra, ints, out, active } = operands;
        let buffers = [
            read(a),
            read(b),
            read(params),
            read(extra.unwrap_or(a)),
            read(ints),
            write(out),
            write(active.unwrap_or(self.spare)),
        ];
        let groups = [shape.cols.div_ceil(tile as u32), rows.div_ceil(tile) as u32, shape.splits];
        let name = match end {
            End::Plain => "linear",
            End::Gelu => "linear + gelu",
            End::Residual => "linear + dropout + residual",
            End::GeluBack => "linear * gelu'",
            End::Gradient | End::Partial => "weight gradient",
        };
        let flops = 2.0 * rows as f64 * f64::from(shape.cols) * inner as f64;
        self.push(name, "multiply", &source, shape, &buffers, groups, flops)
    }

    /// Adds a^T b and the column sums of b to a weight's and a bias's gradient, through `scratch` where the sum is split.
    pub fn gradient(
        &mut self,
        shape: &Linear,
        capacity: usize,
        operands: Operands<'_>,
        scratch: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let inner = if shape.inner == READS { capacity } else { shape.inner as usize };
        let (tile, splits) = tiling(shape.rows as usize, shape.cols as usize, inner, true);
        if splits == 1 {
            return self.linear(End::Gradient, Activation::Gelu, shape, capacity, operands);
        }
        let shape = Linear { splits: splits as u32, ..*shape };
        let parts = Operands { out: scratch, ..operands };
        self.linear(End::Partial, Activation::Gelu, &shape, capacity, parts)?;
        let Operands { params, ints, out, .. } = operands;
        let buffers = [
            read(scratch),
            read(params),
            read(params),
            read(params),
            read(ints),
            write(out),
            write(self.spare),
        ];
        let size = (shape.rows as usize + 1) * shape.cols as usize;
        let groups = grid(size.div_ceil(64) as u32);
        let source = kernel(End::Partial, Activation::Gelu, tile);
        self.push("merge", "merge", &source, &shape, &buffers, groups, (size * splits) as f64)
    }

    /// dx = dy * gelu'(x), where no product follows.
    pub fn gelu_back(
        &mut self,
        activation: Activation,
        shape: &Linear,
        capacity: usize,
        [dy, x, dx]: [&wgpu::Buffer; 3],
    ) -> Result<(), GpuError> {
        let count = capacity * shape.cols as usize;
        let buffers = [read(dy), read(dy), read(dy), read(x), read(dy), write(dx), write(self.spare)];
        let source = kernel(End::GeluBack, activation, 64);
        let groups = grid(count.div_ceil(64) as u32);
        self.push("gelu'", "slope", &source, shape, &buffers, groups, 30.0 * count as f64)
    }
}

fn kernel(end: End, activation: Activation, tile: usize) -> String {
    // Only the ends with a gelu differ by it: one shader fewer to compile for the others.
    let erf = matches!(end, End::Gelu | End::GeluBack) && activation == Activation::Gelu;
    source(
        &[("MODE", end as usize), ("ERF", usize::from(erf)), ("TILE", tile)],
        &[
            include_str!("../philox.wgsl"),
            include_str!("dropout.wgsl"),
            include_str!("gelu.wgsl"),
            include_str!("../tile.wgsl"),
            include_str!("linear.wgsl"),
        ],
    )
}
