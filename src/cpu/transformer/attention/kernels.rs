//! The loops of attention over one head: sixteen lanes against eight columns at a time.

use super::CHUNK;
use crate::simd::{LANES, Lanes, Simd};

/// Copies one head's columns of some rows, (x + bias) * scale, to `[chunk][row][8]`.
#[inline(always)]
pub fn pack(
    from: &[f32],
    stride: usize,
    rows: impl ExactSizeIterator<Item = usize>,
    bias: &[f32],
    scale: f32,
    out: &mut [[f32; CHUNK]],
) {
    let (count, width) = (rows.len(), bias.len());
    let chunks = width.div_ceil(CHUNK);
    if width == CHUNK {
        // The common case, without counting columns.
        let bias: &[f32; CHUNK] = bias.first_chunk().expect("eight columns");
        for (out, row) in out.iter_mut().zip(rows) {
            let from: &[f32; CHUNK] = from[row * stride..].first_chunk().expect("eight columns");
            for c in 0..CHUNK {
                out[c] = (from[c] + bias[c]) * scale;
            }
        }
        return;
    }
    for (i, row) in rows.enumerate() {
        let from = &from[row * stride..row * stride + width];
        for chunk in 0..chunks {
            let mut values = [0.0; CHUNK];
            let columns = chunk * CHUNK..width.min((chunk + 1) * CHUNK);
            for ((value, x), b) in values.iter_mut().zip(&from[columns.clone()]).zip(&bias[columns]) {
                *value = (x + b) * scale;
            }
            out[chunk * count + i] = values;
        }
    }
}

/// `[chunk][row][8]` to `[block of 16 rows][chunk][8]` with rows in the lanes.
#[inline(always)]
pub fn turn(out: &[[f32; CHUNK]], count: usize, lanes: &mut [Lanes]) {
    let chunks = out.len() / count;
    for block in 0..count.div_ceil(LANES) {
        for chunk in 0..chunks {
            let rows = &out[chunk * count + block * LANES..chunk * count + count.min((block + 1) * LANES)];
            let lanes = &mut lanes[(block * chunks + chunk) * CHUNK..][..CHUNK];
            for (c, lane) in lanes.iter_mut().enumerate() {
                let mut values = [0.0; LANES];
                for (value, row) in values.iter_mut().zip(rows) {
                    *value = row[c];
                }
                *lane = Lanes(values);
            }
        }
    }
}

/// target[j] (+)= sum_c lanes[c] * rows[j][c].
///
/// # Safety
/// As for [`Simd`], here and below.
#[inline(always)]
pub unsafe fn products<S: Simd>(target: &mut [Lanes], rows: &[[f32; CHUNK]], lanes: &[Lanes], first: bool) {
    let from: &[Lanes; CHUNK] = lanes.first_chunk().expect("a chunk of lanes");
    // SAFETY: the caller's.
    unsafe {
        let mut lanes = [S::splat(0.0); CHUNK];
        for c in 0..CHUNK {
            lanes[c] = S::of(&from[c]);
        }
        for (target, row) in target.iter_mut().zip(rows) {
            // Two chains, so that one's latency hides behind the other.
            let mut sum = S::of(if first { &Lanes::ZERO } else { target });
            let mut other = S::splat(0.0);
            for c in 0..CHUNK / 2 {
                sum = lanes[c].fma(S::splat(row[c]), sum);
                other = lanes[CHUNK / 2 + c].fma(S::splat(row[CHUNK / 2 + c]), other);
            }
            sum.add(other).put(target);
        }
    }
}

/// sum_j weights[j] * rows[j][c] for c of one chunk, times `scale`.
#[inline(always)]
pub unsafe fn combine<S: Simd>(weights: &[Lanes], rows: &[[f32; CHUNK]], scale: &Lanes) -> [Lanes; CHUNK] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [S::splat(0.0); CHUNK];
        for (weight, row) in weights.iter().zip(rows) {
            let weight = S::of(weight);
            for c in 0..CHUNK {
                sums[c] = weight.fma(S::splat(row[c]), sums[c]);
            }
        }
        let mut out = [Lanes::ZERO; CHUNK];
        let scale = S::of(scale);
        for c in 0..CHUNK {
            sums[c].mul(scale).put(&mut out[c]);
        }
        out
    }
}

/// Scores become exp(score - peak); returns their sums.
#[inline(always)]
pub unsafe fn exponentials<S: Simd>(scores: &mut [Lanes], peak: &Lanes) -> Lanes {
    // SAFETY: the caller's.
    unsafe {
        let peak = S::of(peak);
        let mut total = S::splat(0.0);
        for score in scores {
            let p = S::of(score).sub(peak).exp();
            total = total.add(p);
            p.put(score);
        }
        let mut out = Lanes::ZERO;
        total.put(&mut out);
        out
    }
}

/// Scores become dL/dscore = p (dL/dp - dot) with p = exp(score - peak) * inverse and dL/dp in `slopes`.
#[inline(always)]
pub unsafe fn score_slopes<S: Simd>(
    scores: &mut [Lanes],
    slopes: &[Lanes],
    [peak, inverse, dot]: &[Lanes; 3],
) {
    // SAFETY: the caller's.
    unsafe {
        let (peak, inverse, dot) = (S::of(peak), S::of(inverse), S::of(dot));
        for (score, slope) in scores.iter_mut().zip(slopes) {
            let p = S::of(score).sub(peak).exp().mul(inverse);
            p.mul(S::of(slope).sub(dot)).put(score);
        }
    }
}

/// The same with one query's [peak, inverse, dot] per row: dL/dscore goes to `slopes`, p to `scores`.
#[inline(always)]
pub unsafe fn key_slopes<S: Simd>(scores: &mut [Lanes], slopes: &mut [Lanes], statistics: &[[f32; 3]]) {
    // SAFETY: the caller's.
    unsafe {
        for ((score, slope), [peak, inverse, dot]) in scores.iter_mut().zip(slopes).zip(statistics) {
            let p = S::of(score).sub(S::splat(*peak)).exp().mul(S::splat(*inverse));
            p.mul(S::of(slope).sub(S::splat(*dot))).put(slope);
            p.put(score);
        }
    }
}

/// Minus infinity in the lanes whose query does not see the key.
#[inline(always)]
pub fn hide(scores: &mut [Lanes], from: usize, seen: &[u32; LANES]) {
    for (k, score) in scores.iter_mut().enumerate().skip(from) {
        for (s, seen) in score.0.iter_mut().zip(seen) {
            *s = if (k as u32) < *seen { *s } else { f32::NEG_INFINITY };
        }
    }
}

/// How many keys the sixteen queries of a block see; padding lanes see what the last query sees.
#[inline(always)]
pub fn seen_lanes(seen: &[u32]) -> [u32; LANES] {
    std::array::from_fn(|lane| seen[lane.min(seen.len() - 1)])
}

#[inline(always)]
pub fn rows(rows: &[u32]) -> impl ExactSizeIterator<Item = usize> {
    rows.iter().map(|r| *r as usize)
}

/// Adds lanes (rows `range` of the packed order) of one chunk to columns of the rows they came from.
#[inline(always)]
pub fn scatter(
    sums: &[Lanes; CHUNK],
    to: &mut [f32],
    stride: usize,
    at: usize,
    rows: &[u32],
    columns: usize,
) {
    for (lane, row) in rows.iter().enumerate() {
        let to = &mut to[*row as usize * stride + at..][..columns];
        for (t, sum) in to.iter_mut().zip(sums) {
            *t += sum.0[lane];
        }
    }
}
