//! Layer norm and sums over rows.

use crate::simd::{LANES, Lanes, Simd, dispatch, fma};

/// Sum over a slice of f(x_i), sixteen lanes at a time.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut total = Lanes::ZERO;
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (total, x) in total.0.iter_mut().zip(chunk) {
            *total += f(*x);
        }
    }
    let tail: f32 = rest.iter().map(|x| f(*x)).sum();
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
fn forward_body<S: Simd>(x: &[f32], norm: NormWeights<'_>, out: &mut [f32], statistics: &mut [[f32; 2]]) {
    let width = norm.weight.len();
    for ((x, out), statistics) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(statistics) {
        let mean = sum_of(x, |x| x) / width as f32;
        let variance = sum_of(x, |x| (x - mean) * (x - mean)) / width as f32;
        let scale = 1.0 / (variance + norm.eps).sqrt();
        *statistics = [mean, scale];
        for (((o, x), w), b) in out.iter_mut().zip(x).zip(norm.weight).zip(norm.bias) {
            *o = fma::<S>((x - mean) * scale, *w, *b);
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

/// Means over a row of g = dy * weight and of g * normed x.
#[inline(always)]
fn means<S: Simd>(x: &[f32], dy: &[f32], weight: &[f32], mean: f32, scale: f32) -> [f32; 2] {
    let (mut g_sum, mut gx_sum) = (Lanes::ZERO, Lanes::ZERO);
    let ((xs, x_rest), (dys, dy_rest)) = (x.as_chunks::<LANES>(), dy.as_chunks::<LANES>());
    let (weights, weight_rest) = weight.as_chunks::<LANES>();
    for ((x, dy), weight) in xs.iter().zip(dys).zip(weights) {
        for i in 0..LANES {
            let g = dy[i] * weight[i];
            g_sum.0[i] += g;
            gx_sum.0[i] = fma::<S>(g, (x[i] - mean) * scale, gx_sum.0[i]);
        }
    }
    let (mut g_total, mut gx_total) = (g_sum.sum(), gx_sum.sum());
    for ((x, dy), weight) in x_rest.iter().zip(dy_rest).zip(weight_rest) {
        g_total += dy * weight;
        gx_total += dy * weight * ((x - mean) * scale);
    }
    [g_total / x.len() as f32, gx_total / x.len() as f32]
}

#[inline(always)]
fn backward_body<S: Simd>(
    x: &[f32],
    statistics: &[[f32; 2]],
    weight: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    add: bool,
    gradient: NormGradient<'_>,
) {
    let width = weight.len();
    let rows =
        x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width)).zip(statistics);
    for (((x, dy), dx), &[mean, scale]) in rows {
        let [mean_g, mean_gx] = means::<S>(x, dy, weight, mean, scale);
        let sums = gradient.weight.iter_mut().zip(gradient.bias.iter_mut());
        let inputs = x.iter().zip(dy).zip(weight);
        for ((((x, dy), weight), dx), (d_weight, d_bias)) in inputs.zip(dx).zip(sums) {
            let normed = (x - mean) * scale;
            *d_weight = fma::<S>(*dy, normed, *d_weight);
            *d_bias += dy;
            let g = (fma::<S>(*dy, *weight, -mean_g) - normed * mean_gx) * scale;
            *dx = if add { *dx + g } else { g };
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
fn column_sums_body<S: Simd>(x: &[f32], out: &mut [f32]) {
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
fn add_body<S: Simd>(x: &[f32], out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o += x;
    }
}

dispatch! {
    /// out += x.
    pub fn add = add_body(x: &[f32], out: &mut [f32])
}
