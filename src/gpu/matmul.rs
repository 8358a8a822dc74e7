//! One tiled product, the same for every layer and direction.

use super::GpuError;
use super::context::{Bind, GpuContext, Launch};
use super::shader::assemble;

/// Shape of a product; see `matmul.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Product {
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
    pub mask_row: u32,
    pub rates: u32,
    pub first: u32,
    pub pad: u32,
}

/// What becomes of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Plain = 0,
    Relu = 1,
    Backward = 2,
    Update = 3,
}

const PRODUCT: [Bind; 7] =
    [Bind::Uniform, Bind::Moving(16), Bind::Read, Bind::Read, Bind::Write, Bind::Read, Bind::Read];

/// out = a b, with an optional mask and rates, ready to be recorded.
pub(super) fn product(
    context: &GpuContext,
    mode: Mode,
    shape: &Product,
    [a, b, out]: [&wgpu::Buffer; 3],
    mask: Option<&wgpu::Buffer>,
    rates: Option<&wgpu::Buffer>,
) -> Result<Launch, GpuError> {
    let source = assemble(
        &[("MODE", mode as usize), ("TILE", 64)],
        &[include_str!("tile.wgsl"), include_str!("matmul.wgsl")],
    );
    let kernel = context.kernel("matmul", "multiply", &source, &PRODUCT)?;
    let uniform = context.uniform(shape)?;
    let table = context.step_table()?;
    // Buffers a mode does not look at are filled with one it reads anyway.
    let buffers = [&uniform, &table, a, b, out, mask.unwrap_or(a), rates.unwrap_or(a)];
    let groups = [shape.cols.div_ceil(64), shape.rows.div_ceil(64), 1];
    Ok(Launch { offset: Some(0), ..context.launch(&kernel, &PRODUCT, &buffers, groups) })
}
