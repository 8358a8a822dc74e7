//! Bias, dropout and residual connection in one pass over rows.

use super::dropout::{self, Mask};
use crate::simd::{Simd, dispatch};

/// Dropout of rows: element t * width + c of sequence `first + s` for column c of local row s * length + t.
#[derive(Debug, Clone, Copy)]
pub struct RowMask {
    pub mask: Mask,
    pub first: u64,
    pub length: usize,
}

impl RowMask {
    #[inline(always)]
    fn fill<S: Simd>(&self, row: usize, out: &mut [f32]) {
        let (sequence, t) = (row / self.length, row % self.length);
        dropout::fill_body::<S>(self.mask, self.first + sequence as u64, t * out.len(), out);
    }
}

/// Local row of the i-th row of a buffer.
#[inline(always)]
fn local(rows: Option<&[u32]>, i: usize) -> usize {
    rows.map_or(i, |rows| rows[i] as usize)
}

#[inline(always)]
fn add_residual_body<S: Simd>(
    base: &[f32],
    base_rows: Option<&[u32]>,
    rows: Option<&[u32]>,
    bias: &[f32],
    mask: Option<RowMask>,
    factors: &mut Vec<f32>,
    y: &mut [f32],
) {
    let width = bias.len();
    factors.resize(width, 1.0);
    for (i, y) in y.chunks_exact_mut(width).enumerate() {
        let base = &base[local(base_rows, i) * width..][..width];
        match &mask {
            None => {
                for ((y, x), b) in y.iter_mut().zip(base).zip(bias) {
                    *y += x + b;
                }
            }
            Some(mask) => {
                mask.fill::<S>(local(rows, i), factors);
                for (((y, x), b), f) in y.iter_mut().zip(base).zip(bias).zip(&*factors) {
                    *y = (*y + b) * f + x;
                }
            }
        }
    }
}

dispatch! {
    /// Row i of y becomes base + dropout(y + bias), with row `base_rows[i]` of the base and the dropout of local row
    /// `rows[i]`; without indices, row i.
    pub fn add_residual = add_residual_body(
        base: &[f32],
        base_rows: Option<&[u32]>,
        rows: Option<&[u32]>,
        bias: &[f32],
        mask: Option<RowMask>,
        factors: &mut Vec<f32>,
        y: &mut [f32],
    )
}

#[inline(always)]
fn drop_rows_body<S: Simd>(
    rows: Option<&[u32]>,
    mask: RowMask,
    width: usize,
    factors: &mut Vec<f32>,
    y: &mut [f32],
) {
    factors.resize(width, 1.0);
    for (i, y) in y.chunks_exact_mut(width).enumerate() {
        mask.fill::<S>(local(rows, i), factors);
        for (y, f) in y.iter_mut().zip(&*factors) {
            *y *= f;
        }
    }
}

dispatch! {
    /// Dropout of rows in place, forward and backward alike.
    pub fn drop_rows = drop_rows_body(
        rows: Option<&[u32]>,
        mask: RowMask,
        width: usize,
        factors: &mut Vec<f32>,
        y: &mut [f32],
    )
}

/// Copies the given rows of `from`.
pub fn gather(from: &[f32], rows: &[u32], width: usize, to: &mut [f32]) {
    for (to, row) in to.chunks_exact_mut(width).zip(rows) {
        to.copy_from_slice(&from[*row as usize * width..][..width]);
    }
}

/// Adds row i of `from` to row `rows[i]` of `to`.
pub fn scatter_add(from: &[f32], rows: &[u32], width: usize, to: &mut [f32]) {
    for (from, row) in from.chunks_exact(width).zip(rows) {
        for (t, f) in to[*row as usize * width..][..width].iter_mut().zip(from) {
            *t += f;
        }
    }
}
