//! Softmax attention of one sequence, forward and backward, sixteen queries or sixteen keys at a time.
//!
//! No matrix of all scores exists: the forward pass holds the scores of sixteen queries, keeps each query's maximum and
//! sum, and the backward pass computes probabilities again from them, once with queries in the lanes (for dL/dq) and
//! once with keys in the lanes (for dL/dk and dL/dv), so that no sum ever crosses lanes. Keys that nobody may see are
//! left out beforehand. Head dimensions are cut into chunks of eight, the last one padded with zeros.

use super::dropout::{self, Mask};
#[cfg(target_arch = "x86_64")]
use super::simd::{AVX2, AVX512, x86};
use super::simd::{LANES, Register, V, dispatch};

/// Head dimensions handled at once: eight operands and eight sums fit the registers.
const CHUNK: usize = 8;

/// Calls a function over [`Register`] with the registers of the instruction set `F`.
macro_rules! registers {
    ($F:ident, $function:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: `F` says for which instruction set this code is compiled, and so where it runs.
        unsafe {
            match $F {
                #[cfg(target_arch = "x86_64")]
                AVX512 => $function::<x86::Avx512>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                AVX2 => $function::<x86::Avx2>($($argument),*),
                _ => $function::<V>($($argument),*),
            }
        }
    };
}

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
    q_lanes: Vec<V>,
    k_lanes: Vec<V>,
    v_lanes: Vec<V>,
    d_lanes: Vec<V>,
    scores: Vec<V>,
    slopes: Vec<V>,
    factors: Vec<V>,
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
            buffer.resize(blocks(n), V::ZERO);
        }
        for buffer in [&mut self.scores, &mut self.slopes, &mut self.factors] {
            buffer.resize(queries.max(keys), V::ZERO);
        }
        self.row.resize(length, 0.0);
        self.statistics.resize(queries, [0.0; 3]);
    }
}

/// Copies one head's columns of some rows, (x + bias) * scale, to `[chunk][row][8]`.
#[inline(always)]
fn pack(
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
fn turn(out: &[[f32; CHUNK]], count: usize, lanes: &mut [V]) {
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
                *lane = V(values);
            }
        }
    }
}

/// target[j] (+)= sum_c lanes[c] * rows[j][c].
///
/// # Safety
/// As for [`Register`], here and below.
#[inline(always)]
unsafe fn products<R: Register>(target: &mut [V], rows: &[[f32; CHUNK]], lanes: &[V], first: bool) {
    let from: &[V; CHUNK] = lanes.first_chunk().expect("a chunk of lanes");
    // SAFETY: the caller's.
    unsafe {
        let mut lanes = [R::splat(0.0); CHUNK];
        for c in 0..CHUNK {
            lanes[c] = R::load(&from[c]);
        }
        for (target, row) in target.iter_mut().zip(rows) {
            // Two chains, so that one's latency hides behind the other.
            let mut sum = R::load(if first { &V::ZERO } else { target });
            let mut other = R::splat(0.0);
            for c in 0..CHUNK / 2 {
                sum = sum.add_scaled(lanes[c], row[c]);
                other = other.add_scaled(lanes[CHUNK / 2 + c], row[CHUNK / 2 + c]);
            }
            sum.add(other).store(target);
        }
    }
}

/// sum_j weights[j] * rows[j][c] for c of one chunk, times `scale`.
#[inline(always)]
unsafe fn combine<R: Register>(weights: &[V], rows: &[[f32; CHUNK]], scale: &V) -> [V; CHUNK] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [R::splat(0.0); CHUNK];
        for (weight, row) in weights.iter().zip(rows) {
            let weight = R::load(weight);
            for c in 0..CHUNK {
                sums[c] = sums[c].add_scaled(weight, row[c]);
            }
        }
        let mut out = [V::ZERO; CHUNK];
        let scale = R::load(scale);
        for c in 0..CHUNK {
            sums[c].mul(scale).store(&mut out[c]);
        }
        out
    }
}

/// Scores become exp(score - peak); returns their sums.
#[inline(always)]
unsafe fn exponentials<R: Register>(scores: &mut [V], peak: &V) -> V {
    // SAFETY: the caller's.
    unsafe {
        let peak = R::load(peak);
        let mut total = R::splat(0.0);
        for score in scores {
            let p = R::load(score).sub(peak).exp();
            total = total.add(p);
            p.store(score);
        }
        let mut out = V::ZERO;
        total.store(&mut out);
        out
    }
}

/// Scores become dL/dscore = p (dL/dp - dot) with p = exp(score - peak) * inverse and dL/dp in `slopes`.
#[inline(always)]
unsafe fn score_slopes<R: Register>(scores: &mut [V], slopes: &[V], [peak, inverse, dot]: &[V; 3]) {
    // SAFETY: the caller's.
    unsafe {
        let (peak, inverse, dot) = (R::load(peak), R::load(inverse), R::load(dot));
        for (score, slope) in scores.iter_mut().zip(slopes) {
            let p = R::load(score).sub(peak).exp().mul(inverse);
            p.mul(R::load(slope).sub(dot)).store(score);
        }
    }
}

/// The same with one query's [peak, inverse, dot] per row: dL/dscore goes to `slopes`, p to `scores`.
#[inline(always)]
unsafe fn key_slopes<R: Register>(scores: &mut [V], slopes: &mut [V], statistics: &[[f32; 3]]) {
    // SAFETY: the caller's.
    unsafe {
        for ((score, slope), [peak, inverse, dot]) in scores.iter_mut().zip(slopes).zip(statistics) {
            let p = R::load(score).sub(R::splat(*peak)).exp().mul(R::splat(*inverse));
            p.mul(R::load(slope).sub(R::splat(*dot))).store(slope);
            p.store(score);
        }
    }
}

/// Minus infinity in the lanes whose query does not see the key.
#[inline(always)]
fn hide(scores: &mut [V], from: usize, seen: &[u32; LANES]) {
    for (k, score) in scores.iter_mut().enumerate().skip(from) {
        for (s, seen) in score.0.iter_mut().zip(seen) {
            *s = if (k as u32) < *seen { *s } else { f32::NEG_INFINITY };
        }
    }
}

/// Dropout factors of sixteen queries, `[key]` with queries in the lanes; also noted in `kept` if it is not empty.
#[inline(always)]
fn drop_block<const F: u8>(
    sequence: &Sequence<'_>,
    (mask, number): (Mask, u64),
    head: usize,
    queries: std::ops::Range<usize>,
    seen: &[u32; LANES],
    (factors, row, kept): (&mut [V], &mut [f32], &mut [u8]),
) {
    let stride = sequence.k_positions.len().next_multiple_of(LANES);
    for (lane, i) in queries.enumerate() {
        let seen = seen[lane] as usize;
        let Some(last) = seen.checked_sub(1).map(|k| sequence.k_positions[k] as usize) else { continue };
        let first = (head * sequence.length + sequence.q_positions[i] as usize) * sequence.length;
        dropout::fill_body::<F>(mask, number, first, &mut row[..=last]);
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

/// How many keys the sixteen queries of a block see; padding lanes see what the last query sees.
#[inline(always)]
fn seen_lanes(seen: &[u32]) -> [u32; LANES] {
    std::array::from_fn(|lane| seen[lane.min(seen.len() - 1)])
}

#[inline(always)]
fn rows(rows: &[u32]) -> impl ExactSizeIterator<Item = usize> {
    rows.iter().map(|r| *r as usize)
}

#[inline(always)]
fn forward_body<const F: u8>(
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
                registers!(F, products(scores, &scratch.k[chunk * keys..], lanes, chunk == 0));
            }
            hide(scores, seen[0] as usize, &seen);
            let mut peak = V::splat(f32::NEG_INFINITY);
            for score in &*scores {
                peak = score.max(peak);
            }
            // A query that sees nothing: any finite number will do.
            let peak = peak.map(|m| if m == f32::NEG_INFINITY { 0.0 } else { m });
            let total = registers!(F, exponentials(scores, &peak));
            if let Some(dropout) = s.dropout {
                let buffers = (&mut scratch.factors[..most], &mut scratch.row[..], &mut [][..]);
                drop_block::<F>(&s, dropout, head, range.clone(), &seen, buffers);
                for (score, factor) in scores.iter_mut().zip(&scratch.factors) {
                    *score = score.mul(*factor);
                }
            }
            let inverse = total.map(|t| if t == 0.0 { 0.0 } else { 1.0 / t });
            for chunk in 0..chunks {
                let sums = registers!(F, combine(scores, &scratch.v[chunk * keys..], &inverse));
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

/// Adds lanes (rows `range` of the packed order) of one chunk to columns of the rows they came from.
#[inline(always)]
fn scatter(sums: &[V; CHUNK], to: &mut [f32], stride: usize, at: usize, rows: &[u32], columns: usize) {
    for (lane, row) in rows.iter().enumerate() {
        let to = &mut to[*row as usize * stride + at..][..columns];
        for (t, sum) in to.iter_mut().zip(sums) {
            *t += sum.0[lane];
        }
    }
}

#[inline(always)]
fn backward_body<const F: u8>(s: Sequence<'_>, scratch: &mut Scratch, b: Backward<'_>) {
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
        queries_backward::<F>(&s, scratch, head, b.d_q);
        keys_backward::<F>(&s, scratch, head, b.d_kv);
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
fn queries_backward<const F: u8>(
    s: &Sequence<'_>,
    scratch: &mut Scratch,
    head: usize,
    d_q: &mut [f32],
) {
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
            registers!(F, products(scores, &scratch.k[chunk * keys..], &scratch.q_lanes[lanes..], chunk == 0));
            registers!(F, products(slopes, &scratch.v[chunk * keys..], &scratch.d_lanes[lanes..], chunk == 0));
        }
        hide(scores, seen[0] as usize, &seen);
        if let Some(dropout) = s.dropout {
            let buffers = (&mut scratch.factors[..most], &mut scratch.row[..], &mut scratch.kept[..]);
            drop_block::<F>(s, dropout, head, range.clone(), &seen, buffers);
            for (slope, factor) in slopes.iter_mut().zip(&scratch.factors) {
                *slope = slope.mul(*factor);
            }
        }
        let own = &scratch.statistics[range.clone()];
        let mut statistics = [V::ZERO; 3];
        for (lane, own) in own.iter().enumerate() {
            for part in 0..3 {
                statistics[part].0[lane] = own[part];
            }
        }
        registers!(F, score_slopes(scores, slopes, &statistics));
        for chunk in 0..chunks {
            let sums = registers!(F, combine(scores, &scratch.k[chunk * keys..], &V::splat(scale)));
            let columns = CHUNK.min(width - chunk * CHUNK);
            let at = head * width + chunk * CHUNK;
            scatter(&sums, d_q, s.hidden, at, &s.q_rows[range.clone()], columns);
        }
    }
}

/// dL/dk and dL/dv of one head: keys in the lanes.
#[inline(always)]
fn keys_backward<const F: u8>(s: &Sequence<'_>, scratch: &mut Scratch, head: usize, d_kv: &mut [f32]) {
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
            registers!(F, products(scores, &scratch.q[start..], &scratch.k_lanes[lanes..], chunk == 0));
            registers!(F, products(slopes, &scratch.d[start..], &scratch.v_lanes[lanes..], chunk == 0));
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
            None => registers!(F, key_slopes(scores, slopes, statistics)),
            Some((mask, _)) => {
                let factors = &mut scratch.factors[..count];
                for (j, factor) in factors.iter_mut().enumerate() {
                    let kept = &scratch.kept[(from + j) * stride + first..][..LANES];
                    for (f, kept) in factor.0.iter_mut().zip(kept) {
                        *f = f32::from(*kept) * mask.scale;
                    }
                    slopes[j] = slopes[j].mul(*factor);
                }
                registers!(F, key_slopes(scores, slopes, statistics));
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
            let d_k = registers!(F, combine(slopes, &scratch.q[start..], &V::splat(1.0)));
            scatter(&d_k, d_kv, 2 * hidden, at, &s.k_rows[range.clone()], columns);
            let d_v = registers!(F, combine(scores, &scratch.d[start..], &V::splat(1.0)));
            scatter(&d_v, d_kv, 2 * hidden, hidden + at, &s.k_rows[range.clone()], columns);
        }
    }
}

dispatch! {
    /// Gradient of [`forward`].
    pub fn backward = backward_body(s: Sequence<'_>, scratch: &mut Scratch, b: Backward<'_>)
}
