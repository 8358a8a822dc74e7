//! Rows of the residual stream: gathered, scattered, cleared, masked (`rows.wgsl`).

use super::recorder::{READS, Recorder, Site, read, source, write};
use crate::GpuError;
use crate::context::grid;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Uniform {
    rows: u32,
    hidden: u32,
    length: u32,
    rows_at: u32,
    stream: u32,
    threshold: u32,
    keep: f32,
    pad: u32,
}

/// Which rows; [`READS`] of at most `capacity`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    pub rows: u32,
    pub capacity: usize,
    pub hidden: usize,
    pub length: usize,
    pub rows_at: u32,
}

/// What is done with them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RowsOp {
    /// sink[r] = source[position of r].
    Gather,
    /// sink[position of r] += source[r].
    Scatter,
    /// sink[r] = 0.
    Clear,
    /// sink[r] = dropout(source[r]).
    Drop(Site),
}

impl Recorder<'_> {
    pub fn rows(
        &mut self,
        op: RowsOp,
        rows: Rows,
        list: &wgpu::Buffer,
        from: &wgpu::Buffer,
        to: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let (entry, name, site) = match op {
            RowsOp::Gather => ("gather", "gather rows", Site::default()),
            RowsOp::Scatter => ("scatter", "scatter rows", Site::default()),
            RowsOp::Clear => ("clear", "clear rows", Site::default()),
            RowsOp::Drop(site) => ("drop", "dropout", site),
        };
        let count = if rows.rows == READS { rows.capacity } else { rows.rows as usize };
        let uniform = Uniform {
            rows: rows.rows,
            hidden: rows.hidden as u32,
            length: rows.length as u32,
            rows_at: rows.rows_at,
            stream: site.stream,
            threshold: site.threshold,
            keep: site.keep,
            pad: 0,
        };
        let parts = [include_str!("../philox.wgsl"), include_str!("dropout.wgsl"), include_str!("rows.wgsl")];
        let quads = count * rows.hidden.div_ceil(4);
        let buffers = [read(list), read(from), write(to)];
        let groups = grid(quads.div_ceil(64) as u32);
        self.push(name, entry, &source(&[], &parts), &uniform, &buffers, groups, 30.0 * quads as f64)
    }
}
