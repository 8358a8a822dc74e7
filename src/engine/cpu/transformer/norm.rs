//! Layer norm and sums over rows.

use super::simd::{LANES, V, dispatch, fma};

/// Sum over a slice of f(i, x_i), sixteen lanes at a time.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(usize, f32) -> f32) -> f32 {
    let mut total = V::ZERO;
    let (chunks, rest) = x.as_chunks::<LANES>();
    for (j, chunk) in chunks.iter().enumerate() {
        for i in 0..LANES {
            total.0[i] += f(j * LANES + i, chunk[i]);
        }
    }
    let done = x.len() - rest.len();
    let tail: f32 = rest.iter().enumerate().map(|(i, x)| f(done + i, *x)).sum();
    total.sum() + tail
}

/// Scale and shift of a layer norm.
#[derive(Debug, Clone, Copy)]
pub struct NormWeights<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub eps: f32,
}

#[inline(always)]
fn forward_body<const F: bool>(x: &[f32], norm: NormWeights<'_>, out: &mut [f32], statistics: &mut [[f32; 2]]) {
    let width = norm.weight.len();
    for ((x, out), statistics) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(statistics) {
        let mean = sum_of(x, |_, x| x) / width as f32;
        let variance = sum_of(x, |_, x| (x - mean) * (x - mean)) / width as f32;
        let scale = 1.0 / (variance + norm.eps).sqrt();
        *statistics = [mean, scale];
        for (((o, x), w), b) in out.iter_mut().zip(x).zip(norm.weight).zip(norm.bias) {
            *o = fma::<F>((x - mean) * scale, *w, *b);
        }
    }
}

dispatch! {
    /// Rows of `out` = (x - mean) / sqrt(variance + eps) * weight + bias; `statistics` gets mean and 1 / sqrt(..) per row.
    pub fn layer_norm = forward_body(x: &[f32], norm: NormWeights<'_>, out: &mut [f32], statistics: &mut [[f32; 2]])
}

/// Where the gradients of a layer norm's scale and shift are added.
#[derive(Debug)]
pub struct NormGradient<'a> {
    pub weight: &'a mut [f32],
    pub bias: &'a mut [f32],
}

#[inline(always)]
fn backward_body<const F: bool>(
    x: &[f32],
    statistics: &[[f32; 2]],
    weight: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    add: bool,
    gradient: NormGradient<'_>,
) {
    let width = weight.len();
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(statistics);
    for (((x, dy), dx), &[mean, scale]) in rows {
        let (dy, weight) = (&dy[..width], &weight[..width]);
        let mean_g = sum_of(x, |i, _| dy[i] * weight[i]) / width as f32;
        let mean_gx = sum_of(x, |i, x| dy[i] * weight[i] * ((x - mean) * scale)) / width as f32;
        for i in 0..width {
            let normed = (x[i] - mean) * scale;
            gradient.weight[i] = fma::<F>(dy[i], normed, gradient.weight[i]);
            gradient.bias[i] += dy[i];
            let g = (fma::<F>(dy[i], weight[i], -mean_g) - normed * mean_gx) * scale;
            dx[i] = if add { dx[i] + g } else { g };
        }
    }
}

dispatch! {
    /// Gradient of [`layer_norm`]: from dL/dy to dL/dx (added to `dx` or written there) and the sums over rows.
    pub fn layer_norm_backward = backward_body(
        x: &[f32],
        statistics: &[[f32; 2]],
        weight: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
        gradient: NormGradient<'_>,
    )
}

#[inline(always)]
fn column_sums_body<const F: bool>(x: &[f32], out: &mut [f32]) {
    for row in x.chunks_exact(out.len()) {
        for (o, x) in out.iter_mut().zip(row) {
            *o += x;
        }
    }
}

dispatch! {
    /// Adds the sum of all rows of `x` to `out`: a bias's gradient.
    pub fn column_sums = column_sums_body(x: &[f32], out: &mut [f32])
}

#[inline(always)]
fn add_body<const F: bool>(x: &[f32], out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o += x;
    }
}

dispatch! {
    /// out += x.
    pub fn add = add_body(x: &[f32], out: &mut [f32])
}
