//! Gradients of attention: first with queries in the lanes, then with keys in the lanes.

use super::kernels::{
    combine, hide, key_slopes, pack, products, rows, scatter, score_slopes, seen_lanes, turn,
};
use super::{CHUNK, Scratch, Sequence, drop_block};
use crate::simd::{LANES, Lanes, Simd, dispatch};

/// What the backward pass starts from and adds to.
#[derive(Debug)]
pub struct Backward<'a> {
    /// The forward pass's output.
    pub out: &'a [f32],
    /// The forward pass's statistics.
    pub statistics: &'a [[f32; 2]],
    /// dL/dout.
    pub d_out: &'a [f32],
    /// dL/dq is added here, by the rows of `q`.
    pub d_q: &'a mut [f32],
    /// dL/dkv is added here, by the rows of `kv`.
    pub d_kv: &'a mut [f32],
}

#[inline(always)]
fn backward_body<S: Simd>(s: Sequence<'_>, scratch: &mut Scratch, b: Backward<'_>) {
    let (width, hidden) = (s.head_dim(), s.hidden);
    let chunks = width.div_ceil(CHUNK);
    let (queries, keys) = (s.q_rows.len(), s.k_rows.len());
    if queries == 0 {
        return;
    }
    scratch.resize(queries, keys, s.length, chunks);
    for i in 0..queries {
        scratch.seen[i] = s.seen(i) as u32;
    }
    let scale = 1.0 / (width as f32).sqrt();
    let zero = vec![0.0; width];
    let stride = keys.next_multiple_of(LANES);
    for head in 0..s.heads {
        let at = head * width;
        let bias = |part: usize| &s.bias[part * hidden + at..][..width];
        pack(&s.q[at..], hidden, rows(s.q_rows), bias(0), scale, &mut scratch.q);
        pack(&s.kv[at..], 2 * hidden, rows(s.k_rows), bias(1), 1.0, &mut scratch.k);
        pack(&s.kv[hidden + at..], 2 * hidden, rows(s.k_rows), bias(2), 1.0, &mut scratch.v);
        pack(&b.d_out[at..], hidden, 0..queries, &zero, 1.0, &mut scratch.d);
        turn(&scratch.q, queries, &mut scratch.q_lanes);
        turn(&scratch.d, queries, &mut scratch.d_lanes);
        if keys > 0 {
            turn(&scratch.k, keys, &mut scratch.k_lanes);
            turn(&scratch.v, keys, &mut scratch.v_lanes);
        }
        for i in 0..queries {
            let [peak, inverse] = b.statistics[head * queries + i];
            let (o, d) = (&b.out[i * hidden + at..][..width], &b.d_out[i * hidden + at..][..width]);
            let dot: f32 = o.iter().zip(d).map(|(o, d)| o * d).sum();
            scratch.statistics[i] = [peak, inverse, dot];
        }
        if s.dropout.is_some() {
            scratch.kept.clear();
            scratch.kept.resize(queries * stride, 0);
        }
        queries_backward::<S>(&s, scratch, head, b.d_q);
        keys_backward::<S>(&s, scratch, head, b.d_kv);
        // Queries that see nothing: their probabilities are constants.
        for i in (0..queries).take_while(|i| scratch.seen[*i] == 0) {
            let seen = &s.all_rows[..s.allowed(i)];
            for row in rows(seen) {
                let to = &mut b.d_kv[row * 2 * hidden + hidden + at..][..width];
                for (t, d) in to.iter_mut().zip(&b.d_out[i * hidden + at..]) {
                    *t += d / seen.len() as f32;
                }
            }
        }
    }
}

/// dL/dq of one head: queries in the lanes.
#[inline(always)]
fn queries_backward<S: Simd>(s: &Sequence<'_>, scratch: &mut Scratch, head: usize, d_q: &mut [f32]) {
    let width = s.head_dim();
    let chunks = width.div_ceil(CHUNK);
    let (queries, keys) = (s.q_rows.len(), s.k_rows.len());
    let scale = 1.0 / (width as f32).sqrt();
    for block in 0..queries.div_ceil(LANES) {
        let range = block * LANES..queries.min((block + 1) * LANES);
        let seen = seen_lanes(&scratch.seen[range.clone()]);
        let most = seen[LANES - 1] as usize;
        let scores = &mut scratch.scores[..most];
        let slopes = &mut scratch.slopes[..most];
        for chunk in 0..chunks {
            let lanes = (block * chunks + chunk) * CHUNK;
            // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
            unsafe {
                products::<S>(scores, &scratch.k[chunk * keys..], &scratch.q_lanes[lanes..], chunk == 0);
                products::<S>(slopes, &scratch.v[chunk * keys..], &scratch.d_lanes[lanes..], chunk == 0);
            }
        }
        hide(scores, seen[0] as usize, &seen);
        if let Some(dropout) = s.dropout {
            let buffers = (&mut scratch.factors[..most], &mut scratch.row[..], &mut scratch.kept[..]);
            drop_block::<S>(s, dropout, head, range.clone(), &seen, buffers);
            for (slope, factor) in slopes.iter_mut().zip(&scratch.factors) {
                *slope = slope.mul(*factor);
            }
        }
        let own = &scratch.statistics[range.clone()];
        let mut statistics = [Lanes::ZERO; 3];
        for (lane, own) in own.iter().enumerate() {
            for part in 0..3 {
                statistics[part].0[lane] = own[part];
            }
        }
        // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
        unsafe { score_slopes::<S>(scores, slopes, &statistics) };
        for chunk in 0..chunks {
            // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
            let sums = unsafe { combine::<S>(scores, &scratch.k[chunk * keys..], &Lanes::splat(scale)) };
            let columns = CHUNK.min(width - chunk * CHUNK);
            let at = head * width + chunk * CHUNK;
            scatter(&sums, d_q, s.hidden, at, &s.q_rows[range.clone()], columns);
        }
    }
}

/// dL/dk and dL/dv of one head: keys in the lanes.
#[inline(always)]
fn keys_backward<S: Simd>(s: &Sequence<'_>, scratch: &mut Scratch, head: usize, d_kv: &mut [f32]) {
    let (width, hidden) = (s.head_dim(), s.hidden);
    let chunks = width.div_ceil(CHUNK);
    let (queries, keys) = (s.q_rows.len(), s.k_rows.len());
    let stride = keys.next_multiple_of(LANES);
    for block in 0..keys.div_ceil(LANES) {
        let first = block * LANES;
        let range = first..keys.min(first + LANES);
        // Queries ascend, so those that see the first key of the block are the last ones.
        let from = scratch.seen.partition_point(|seen| *seen as usize <= first);
        let count = queries - from;
        let scores = &mut scratch.scores[..count];
        let slopes = &mut scratch.slopes[..count];
        for chunk in 0..chunks {
            let lanes = (block * chunks + chunk) * CHUNK;
            let start = chunk * queries + from;
            // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
            unsafe {
                products::<S>(scores, &scratch.q[start..], &scratch.k_lanes[lanes..], chunk == 0);
                products::<S>(slopes, &scratch.d[start..], &scratch.v_lanes[lanes..], chunk == 0);
            }
        }
        for (score, seen) in scores.iter_mut().zip(&scratch.seen[from..]) {
            if *seen as usize >= first + LANES {
                break;
            }
            for (lane, s) in score.0.iter_mut().enumerate() {
                *s = if ((first + lane) as u32) < *seen { *s } else { f32::NEG_INFINITY };
            }
        }
        let statistics = &scratch.statistics[from..];
        match s.dropout {
            // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
            None => unsafe { key_slopes::<S>(scores, slopes, statistics) },
            Some((mask, _)) => {
                let factors = &mut scratch.factors[..count];
                for (j, factor) in factors.iter_mut().enumerate() {
                    let kept = &scratch.kept[(from + j) * stride + first..][..LANES];
                    for (f, kept) in factor.0.iter_mut().zip(kept) {
                        *f = f32::from(*kept) * mask.scale;
                    }
                    slopes[j] = slopes[j].mul(*factor);
                }
                // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
                unsafe { key_slopes::<S>(scores, slopes, statistics) };
                for (score, factor) in scores.iter_mut().zip(factors) {
                    *score = score.mul(*factor);
                }
            }
        }
        for chunk in 0..chunks {
            let start = chunk * queries + from;
            let columns = CHUNK.min(width - chunk * CHUNK);
            let at = head * width + chunk * CHUNK;
            // The packed queries carry the scale.
            // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
            let d_k = unsafe { combine::<S>(slopes, &scratch.q[start..], &Lanes::splat(1.0)) };
            scatter(&d_k, d_kv, 2 * hidden, at, &s.k_rows[range.clone()], columns);
            // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
            let d_v = unsafe { combine::<S>(scores, &scratch.d[start..], &Lanes::splat(1.0)) };
            scatter(&d_v, d_kv, 2 * hidden, hidden + at, &s.k_rows[range.clone()], columns);
        }
    }
}

dispatch! {
    /// Gradient of [`super::forward`].
    pub fn backward = backward_body(s: Sequence<'_>, scratch: &mut Scratch, b: Backward<'_>)
}
