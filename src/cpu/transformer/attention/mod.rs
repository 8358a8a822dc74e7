//! Softmax attention of one sequence, forward and backward, sixteen queries or sixteen keys at a time.
//!
//! No matrix of all scores exists: the forward pass holds the scores of sixteen queries, keeps each query's maximum and
//! sum, and the backward pass computes probabilities again from them, once with queries in the lanes (for dL/dq) and
//! once with keys in the lanes (for dL/dk and dL/dv), so that no sum ever crosses lanes. Keys that nobody may see are
//! left out beforehand. Head dimensions are cut into chunks of eight, the last one padded with zeros.

mod backward;
mod kernels;

pub use backward::{Backward, backward};

use super::dropout::{self, Mask};
use crate::simd::{LANES, Lanes, Simd, dispatch};
use kernels::{combine, exponentials, hide, pack, products, rows, seen_lanes, turn};

/// Head dimensions handled at once: eight operands and eight sums fit the registers.
const CHUNK: usize = 8;

/// Where one sequence's queries, keys and values lie. Rows are given by index, so that several positions can share one.
#[derive(Debug, Clone, Copy)]
pub struct Sequence<'a> {
    pub heads: usize,
    pub hidden: usize,
    /// Tokens of the sequence; numbers the dropout elements.
    pub length: usize,
    /// Queries without bias, rows of `hidden`.
    pub q: &'a [f32],
    /// Keys and values without bias, rows of 2 x `hidden`.
    pub kv: &'a [f32],
    /// Biases of queries, keys and values, 3 x `hidden`.
    pub bias: &'a [f32],
    /// Row of each query in `q`.
    pub q_rows: &'a [u32],
    /// Position of each query, ascending.
    pub q_positions: &'a [u32],
    /// Row in `kv` of each key that somebody may see.
    pub k_rows: &'a [u32],
    /// Position of each such key, ascending.
    pub k_positions: &'a [u32],
    /// Row in `kv` of every position, hidden ones included.
    pub all_rows: &'a [u32],
    /// Whether a query sees only keys up to its own position.
    pub causal: bool,
    /// Attention dropout and the sequence's running number.
    pub dropout: Option<(Mask, u64)>,
}

impl Sequence<'_> {
    fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// How many of the leading visible keys query i sees.
    fn seen(&self, i: usize) -> usize {
        if self.causal {
            self.k_positions.partition_point(|k| *k <= self.q_positions[i])
        } else {
            self.k_positions.len()
        }
    }

    /// Positions over which query i averages if it sees no key.
    fn allowed(&self, i: usize) -> usize {
        if self.causal { self.q_positions[i] as usize + 1 } else { self.length }
    }
}

/// Memory the kernels work in; grows to what is needed and is kept.
#[derive(Debug, Default)]
pub struct Scratch {
    seen: Vec<u32>,
    /// `[chunk][row][8]`.
    q: Vec<[f32; CHUNK]>,
    k: Vec<[f32; CHUNK]>,
    v: Vec<[f32; CHUNK]>,
    d: Vec<[f32; CHUNK]>,
    /// `[block of 16 rows][chunk][8]`.
    q_lanes: Vec<Lanes>,
    k_lanes: Vec<Lanes>,
    v_lanes: Vec<Lanes>,
    d_lanes: Vec<Lanes>,
    scores: Vec<Lanes>,
    slopes: Vec<Lanes>,
    factors: Vec<Lanes>,
    row: Vec<f32>,
    /// Kept attention elements of one head, `[query][key]`, keys padded to a multiple of 16.
    kept: Vec<u8>,
    /// Per query: maximum, 1 / sum, and sum over heads of dO . O.
    statistics: Vec<[f32; 3]>,
}

impl Scratch {
    fn resize(&mut self, queries: usize, keys: usize, length: usize, chunks: usize) {
        let blocks = |n: usize| n.div_ceil(LANES) * chunks * CHUNK;
        self.seen.resize(queries, 0);
        for (buffer, n) in
            [(&mut self.q, queries), (&mut self.d, queries), (&mut self.k, keys), (&mut self.v, keys)]
        {
            buffer.resize(n * chunks, [0.0; CHUNK]);
        }
        for (buffer, n) in [
            (&mut self.q_lanes, queries),
            (&mut self.d_lanes, queries),
            (&mut self.k_lanes, keys),
            (&mut self.v_lanes, keys),
        ] {
            buffer.resize(blocks(n), Lanes::ZERO);
        }
        for buffer in [&mut self.scores, &mut self.slopes, &mut self.factors] {
            buffer.resize(queries.max(keys), Lanes::ZERO);
        }
        self.row.resize(length, 0.0);
        self.statistics.resize(queries, [0.0; 3]);
    }
}

#[cfg(test)]
impl Scratch {
    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        let chunks: usize = [&self.q, &self.k, &self.v, &self.d].iter().map(|v| v.len()).sum();
        let lanes = [
            &self.q_lanes,
            &self.k_lanes,
            &self.v_lanes,
            &self.d_lanes,
            &self.scores,
            &self.slopes,
            &self.factors,
        ];
        let lanes: usize = lanes.iter().map(|v| v.len()).sum();
        32 * chunks
            + 64 * lanes
            + 4 * (self.row.len() + self.seen.len())
            + self.kept.len()
            + 12 * self.statistics.len()
    }
}

/// Dropout factors of sixteen queries, `[key]` with queries in the lanes; also noted in `kept` if it is not empty.
#[inline(always)]
fn drop_block<S: Simd>(
    sequence: &Sequence<'_>,
    (mask, number): (Mask, u64),
    head: usize,
    queries: std::ops::Range<usize>,
    seen: &[u32; LANES],
    (factors, row, kept): (&mut [Lanes], &mut [f32], &mut [u8]),
) {
    let stride = sequence.k_positions.len().next_multiple_of(LANES);
    for (lane, i) in queries.enumerate() {
        let seen = seen[lane] as usize;
        let Some(last) = seen.checked_sub(1).map(|k| sequence.k_positions[k] as usize) else { continue };
        let first = (head * sequence.length + sequence.q_positions[i] as usize) * sequence.length;
        dropout::fill_body::<S>(mask, number, first, &mut row[..=last]);
        for (factor, position) in factors.iter_mut().zip(&sequence.k_positions[..seen]) {
            factor.0[lane] = row[*position as usize];
        }
        if !kept.is_empty() {
            for (kept, position) in kept[i * stride..].iter_mut().zip(&sequence.k_positions[..seen]) {
                *kept = u8::from(row[*position as usize] != 0.0);
            }
        }
    }
}

#[inline(always)]
fn forward_body<S: Simd>(
    s: Sequence<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
    statistics: &mut [[f32; 2]],
) {
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
    for head in 0..s.heads {
        let at = head * width;
        let bias = |part: usize| &s.bias[part * hidden + at..][..width];
        pack(&s.q[at..], hidden, rows(s.q_rows), bias(0), scale, &mut scratch.q);
        pack(&s.kv[at..], 2 * hidden, rows(s.k_rows), bias(1), 1.0, &mut scratch.k);
        pack(&s.kv[hidden + at..], 2 * hidden, rows(s.k_rows), bias(2), 1.0, &mut scratch.v);
        turn(&scratch.q, queries, &mut scratch.q_lanes);
        for block in 0..queries.div_ceil(LANES) {
            let range = block * LANES..queries.min((block + 1) * LANES);
            let seen = seen_lanes(&scratch.seen[range.clone()]);
            let most = seen[LANES - 1] as usize;
            let scores = &mut scratch.scores[..most];
            for chunk in 0..chunks {
                let lanes = &scratch.q_lanes[(block * chunks + chunk) * CHUNK..];
                // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
                unsafe { products::<S>(scores, &scratch.k[chunk * keys..], lanes, chunk == 0) };
            }
            hide(scores, seen[0] as usize, &seen);
            let mut peak = Lanes::splat(f32::NEG_INFINITY);
            for score in &*scores {
                peak = score.max(peak);
            }
            // A query that sees nothing: any finite number will do.
            let peak = peak.map(|m| if m == f32::NEG_INFINITY { 0.0 } else { m });
            // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
            let total = unsafe { exponentials::<S>(scores, &peak) };
            if let Some(dropout) = s.dropout {
                let buffers = (&mut scratch.factors[..most], &mut scratch.row[..], &mut [][..]);
                drop_block::<S>(&s, dropout, head, range.clone(), &seen, buffers);
                for (score, factor) in scores.iter_mut().zip(&scratch.factors) {
                    *score = score.mul(*factor);
                }
            }
            let inverse = total.map(|t| if t == 0.0 { 0.0 } else { 1.0 / t });
            for chunk in 0..chunks {
                // SAFETY: `dispatch!` compiles this body for `S`, where `S` is available.
                let sums = unsafe { combine::<S>(scores, &scratch.v[chunk * keys..], &inverse) };
                let columns = CHUNK.min(width - chunk * CHUNK);
                for (lane, i) in range.clone().enumerate() {
                    let out = &mut out[i * hidden + at + chunk * CHUNK..][..columns];
                    for (o, sum) in out.iter_mut().zip(&sums) {
                        *o = sum.0[lane];
                    }
                }
            }
            for (lane, i) in range.enumerate() {
                statistics[head * queries + i] = [peak.0[lane], inverse.0[lane]];
            }
        }
        for i in (0..queries).take_while(|i| scratch.seen[*i] == 0) {
            let seen = &s.all_rows[..s.allowed(i)];
            let out = &mut out[i * hidden + at..][..width];
            out.copy_from_slice(bias(2));
            for row in rows(seen) {
                for (o, v) in out.iter_mut().zip(&s.kv[row * 2 * hidden + hidden + at..]) {
                    *o += v / seen.len() as f32;
                }
            }
        }
    }
}

dispatch! {
    /// Attention of all heads: `out` gets a row of `hidden` per query, `statistics` maximum and 1 / sum, `[head][query]`.
    ///
    /// A query that sees no key averages the values of all positions it could see if none were hidden (without dropout,
    /// and without a gradient to its scores).
    pub fn forward = forward_body(
        s: Sequence<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
        statistics: &mut [[f32; 2]],
    )
}
