//! The inner loops, written once over [`Simd`] and compiled once per instruction set.
//!
//! Cost per tile of 16 neurons and sample, in vector operations: product d/4 look-ups (load + add), update d/4 look-ups,
//! correction K/2 multiply-adds, second layer about 6; per block of K samples also 24 d/4 + 24 K/4 operations and
//! 16 d/4 + 16 K/4 stores to build tables.

// One index runs over several arrays of registers at once; iterators would hide that.
#![allow(clippy::needless_range_loop)]

use super::block::{Block, CHUNK, ENTRIES, GROUP};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, on_avx2, on_avx512};
use crate::simd::{Isa, LANES, Lanes, Simd, on_any};
use curricle_core::task::Samples;

/// Preactivations of a block for one thread's tiles: `[sub-block][tile][sample of the sub-block][16]`. The slot of a sample
/// holds z until its step is done and (learning rate x delta) from then on.
#[derive(Clone, Copy)]
pub struct Slots {
    /// First f32; 64-byte aligned.
    pub base: *mut f32,
    /// Samples per sub-block.
    pub sub: usize,
    /// For every sample of a block, the distance of its slot in tile 0 from `base`, in f32 (a table, because divisions by the
    /// sub-block's length would cost as much as the look-ups).
    pub offsets: *const usize,
}

impl Slots {
    /// The table behind `offsets` for a thread with `tiles` tiles.
    pub fn offsets(block: usize, sub: usize, tiles: usize) -> Vec<usize> {
        (0..block).map(|s| (s / sub * tiles * sub + s % sub) * LANES).collect()
    }

    /// The slot of sample s in tile t.
    ///
    /// # Safety
    /// Both must lie inside the storage behind `base`.
    #[inline(always)]
    unsafe fn slot(self, t: usize, s: usize) -> *mut f32 {
        // SAFETY: the caller stays inside.
        unsafe { self.base.add(*self.offsets.add(s) + t * self.sub * LANES) }
    }
}

/// One pass over the weights: apply the last block's update, then compute the next block's preactivations.
pub struct BlockPass<'a> {
    /// First layer of the thread's tiles, `[tile][d + 1][16]`.
    pub weights: *mut f32,
    pub d: usize,
    pub slots: Slots,
    /// Tiles to do.
    pub tiles: std::ops::Range<usize>,
    /// Block whose deltas lie in the slots.
    pub previous: Option<&'a Block>,
    /// What the decayed weights are multiplied by after the update; 1 without weight decay.
    pub scale: f32,
    /// Block whose preactivations are wanted in the slots.
    pub next: Option<&'a Block>,
    /// Room for [`table_lanes`] vectors.
    pub tables: *mut f32,
}

/// One pass over the neurons for one SGD step: finish the previous step, correct preactivations for the deltas that came
/// after the block's product, and sum the second layer.
pub struct StepPass<'a> {
    pub slots: Slots,
    /// Second layer, `[tile][R][16]`: R = 1 holds the difference of two classes' weights.
    pub rows: *mut f32,
    pub tiles: std::ops::Range<usize>,
    /// The previous step's samples; empty at the start of a block.
    pub previous: std::ops::Range<usize>,
    /// Their factors `[sample][R]`: delta = sum_r `delta_factors[r]` x row r where z > 0.
    pub delta_factors: &'a [f32],
    /// Row r loses sum over samples of `row_factors[r]` x relu(z).
    pub row_factors: &'a [f32],
    /// Samples whose preactivations are to be corrected; all in one sub-block.
    pub targets: std::ops::Range<usize>,
    /// Samples whose deltas correct them; they end where `targets` begins.
    pub history: std::ops::Range<usize>,
    pub gram: &'a [f32],
    pub stride: usize,
    /// Samples of this step: the first ones of `targets`.
    pub batch: usize,
    /// `[sample][R]`: sum over the tiles of row x relu(z).
    pub sums: &'a mut [f32],
    /// Room for batch x R vectors.
    pub scratch: *mut f32,
}

/// Second-layer sums of many samples at once, without training.
pub struct ForwardPass<'a> {
    pub weights: *const f32,
    pub d: usize,
    /// `[tile][R][16]`.
    pub rows: *const f32,
    pub row_count: usize,
    pub tiles: std::ops::Range<usize>,
    pub block: &'a Block,
    /// `[sample][R]`, overwritten.
    pub sums: &'a mut [f32],
    /// Room for [`table_lanes`] vectors.
    pub tables: *mut f32,
    /// Room for (samples rounded up to 16) x R vectors.
    pub scratch: *mut f32,
}

/// One pass for a step whose batch exceeds a block: preactivations are recomputed chunk by chunk while the gradients of all
/// samples are known, and the weights updated in place (their old values live on in the tables).
pub struct LargeBatchPass<'a> {
    pub weights: *mut f32,
    pub d: usize,
    pub rows: *mut f32,
    pub tiles: std::ops::Range<usize>,
    /// The step's samples, cut into blocks of `block_samples`; the last may be shorter.
    pub blocks: &'a [Block],
    pub block_samples: usize,
    pub delta_factors: &'a [f32],
    pub row_factors: &'a [f32],
    /// Multiplies weights and rows first; 1 without weight decay.
    pub scale: f32,
    /// Room for `block_samples` vectors.
    pub scratch: *mut f32,
    pub tables: *mut f32,
}

/// Vectors of table space for inputs of d coordinates and blocks of `samples`; for two tiles at a time.
pub fn table_lanes(d: usize, samples: usize) -> usize {
    2 * (Block::groups(d) + samples.div_ceil(GROUP)) * ENTRIES
}

/// Writes the 16 signed sums of four vectors: entry e has a minus before vector b where bit b of e is set.
#[inline(always)]
unsafe fn build_table<S: Simd>(v: [S; GROUP], to: *mut f32) {
    // SAFETY: `to` has room for 16 vectors.
    unsafe {
        let zero = S::splat(0.0);
        let low = {
            let (sum, difference) = (v[0].add(v[1]), v[0].sub(v[1]));
            [sum, zero.sub(difference), difference, zero.sub(sum)]
        };
        let high = {
            let (sum, difference) = (v[2].add(v[3]), v[2].sub(v[3]));
            [sum, zero.sub(difference), difference, zero.sub(sum)]
        };
        for (h, high) in high.into_iter().enumerate() {
            for (l, low) in low.into_iter().enumerate() {
                low.add(high).store(to.add((h * 4 + l) * LANES));
            }
        }
    }
}

/// Tables of the groups of four rows among `count` rows.
#[inline(always)]
unsafe fn build_tables<S: Simd>(rows: *const f32, count: usize, tables: *mut f32) {
    // SAFETY: `rows` has `count` vectors, `tables` room for ceil(count / 4) tables.
    unsafe {
        let full = count / GROUP;
        for g in 0..full {
            let row = |b: usize| S::load(rows.add((g * GROUP + b) * LANES));
            build_table([row(0), row(1), row(2), row(3)], tables.add(g * ENTRIES * LANES));
        }
        if !count.is_multiple_of(GROUP) {
            let mut last = [S::splat(0.0); GROUP];
            for (b, last) in last.iter_mut().enumerate().take(count % GROUP) {
                *last = S::load(rows.add((full * GROUP + b) * LANES));
            }
            build_table(last, tables.add(full * ENTRIES * LANES));
        }
    }
}

/// acc[j][i] += or -= the entries that index i names in the tables of tile j: N x T sums over `groups` tables. Tiles share
/// the indices, because the load ports are what limits this loop. The tables of tile j begin at `tables` + j x `apart`.
#[inline(always)]
unsafe fn look_up<S: Simd, const T: usize, const N: usize, const MINUS: bool>(
    mut acc: [[S; N]; T],
    indices: *const u8,
    groups: usize,
    tables: *const f32,
    apart: usize,
) -> [[S; N]; T] {
    // SAFETY: `indices` has `groups` rows of CHUNK bytes from which N are read; every index is 8 x (entry below 16).
    unsafe {
        let mut table = tables;
        let mut index = indices;
        for _ in 0..groups {
            for i in 0..N {
                // Eight bytes per index step: 8 x (8 x entry) is the entry's offset in bytes.
                let entry = usize::from(*index.add(i)) * 2;
                for (j, acc) in acc.iter_mut().enumerate() {
                    let value = S::load(table.add(j * apart + entry));
                    acc[i] = if MINUS { acc[i].sub(value) } else { acc[i].add(value) };
                }
            }
            table = table.add(ENTRIES * LANES);
            index = index.add(CHUNK);
        }
        acc
    }
}

/// Preactivations of chunk `chunk` of the block from the tables of T tiles: calls `take(tile, sample, z)`.
#[inline(always)]
unsafe fn product_chunk<S: Simd, const T: usize, const N: usize>(
    block: &Block,
    chunk: usize,
    groups: usize,
    bias: [S; T],
    tables: *const f32,
    mut take: impl FnMut(usize, usize, S),
) {
    for part in (0..CHUNK).step_by(N) {
        let first = chunk * CHUNK + part;
        if first >= block.samples {
            break;
        }
        // SAFETY: the block has a full chunk of indices for every chunk that has a sample.
        let z = unsafe {
            let indices = block.product.as_ptr().add(chunk * groups * CHUNK + part);
            let apart = groups * ENTRIES * LANES;
            look_up::<S, T, N, false>(bias.map(|b| [b; N]), indices, groups, tables, apart)
        };
        let count = block.samples - first;
        for (j, z) in z.into_iter().enumerate() {
            if count >= N {
                for (i, z) in z.into_iter().enumerate() {
                    take(j, first + i, z);
                }
            } else {
                for (i, z) in z.into_iter().enumerate() {
                    if i < count {
                        take(j, first + i, z);
                    }
                }
            }
        }
    }
}

/// W -= sum_s delta_s x_s^T for T tiles, then x scale, from update tables; `far` prefetches the next tiles.
#[inline(always)]
unsafe fn update_tiles<S: Simd, const T: usize, const N: usize>(
    w: *mut f32,
    d: usize,
    block: &Block,
    tables: *const f32,
    scale: f32,
    far: bool,
) {
    // SAFETY: `w` has T x (d + 1) vectors; the block has indices for every chunk of coordinates.
    unsafe {
        let groups = block.samples.div_ceil(GROUP);
        let apart = groups * ENTRIES * LANES;
        // Wrapping, because the rows to prefetch may lie past the end.
        let row = |j: usize, r: usize| w.wrapping_add((j * (d + 1) + r) * LANES);
        let scaled = scale != 1.0;
        let factor = S::splat(scale);
        for chunk in 0..d.div_ceil(CHUNK) {
            for part in (0..CHUNK).step_by(N) {
                let first = chunk * CHUNK + part;
                if first >= d {
                    break;
                }
                let indices = block.update.as_ptr().add(chunk * groups * CHUNK + part);
                let mut acc = [[S::splat(0.0); N]; T];
                if first + N <= d {
                    for (j, acc) in acc.iter_mut().enumerate() {
                        let rows = row(j, first);
                        for (i, acc) in acc.iter_mut().enumerate() {
                            *acc = S::load(rows.add(i * LANES));
                        }
                        if far {
                            let ahead = row(T + j, first);
                            for i in 0..N {
                                S::prefetch(ahead.wrapping_add(i * LANES));
                            }
                        }
                    }
                    acc = look_up::<S, T, N, true>(acc, indices, groups, tables, apart);
                    for (j, acc) in acc.into_iter().enumerate() {
                        let rows = row(j, first);
                        for (i, acc) in acc.into_iter().enumerate() {
                            let acc = if scaled { acc.mul(factor) } else { acc };
                            acc.store(rows.add(i * LANES));
                        }
                    }
                    continue;
                }
                let count = d - first;
                for (j, acc) in acc.iter_mut().enumerate() {
                    for (i, acc) in acc.iter_mut().enumerate() {
                        if i < count {
                            *acc = S::load(row(j, first + i));
                        }
                    }
                }
                acc = look_up::<S, T, N, true>(acc, indices, groups, tables, apart);
                for (j, acc) in acc.into_iter().enumerate() {
                    for (i, acc) in acc.into_iter().enumerate() {
                        if i < count {
                            let acc = if scaled { acc.mul(factor) } else { acc };
                            acc.store(row(j, first + i));
                        }
                    }
                }
            }
        }
        for j in 0..T {
            let mut bias = S::load(row(j, d));
            for g in 0..groups {
                // Entry 0: all signs plus, as for an input that is always +1.
                bias = bias.sub(S::load(tables.add(j * apart + g * ENTRIES * LANES)));
            }
            if scaled {
                bias = bias.mul(factor);
            }
            bias.store(row(j, d));
        }
    }
}

/// The biases of T tiles.
#[inline(always)]
unsafe fn biases<S: Simd, const T: usize>(w: *const f32, d: usize) -> [S; T] {
    // SAFETY: `w` has T x (d + 1) vectors.
    unsafe {
        let mut bias = [S::splat(0.0); T];
        for (j, bias) in bias.iter_mut().enumerate() {
            *bias = S::load(w.add((j * (d + 1) + d) * LANES));
        }
        bias
    }
}

/// Weights of more bytes than this are prefetched.
const FAR: usize = 1 << 20;

/// See [`BlockPass`]; tiles t .. t + T.
#[inline(always)]
unsafe fn block_tiles<S: Simd, const T: usize, const N: usize, const M: usize>(pass: &BlockPass, t: usize) {
    let BlockPass { d, slots, .. } = *pass;
    let groups = Block::groups(d);
    // What the first-level cache misses is fetched one pair of tiles ahead; what it holds would only cost instructions.
    let far = pass.tiles.len() * (d + 1) * LANES * 4 > FAR;
    // SAFETY: the caller passes storage of the sizes documented on the fields.
    unsafe {
        let w = pass.weights.add(t * (d + 1) * LANES);
        if let Some(block) = pass.previous {
            let update_groups = block.samples.div_ceil(GROUP);
            for j in 0..T {
                for g in 0..update_groups {
                    let mut deltas = [S::splat(0.0); GROUP];
                    for (b, delta) in deltas.iter_mut().enumerate().take(block.samples - g * GROUP) {
                        let slot = slots.slot(t + j, g * GROUP + b);
                        *delta = S::load(slot);
                        if far {
                            S::prefetch(slot.wrapping_add(T * slots.sub * LANES));
                        }
                    }
                    build_table(deltas, pass.tables.add((j * update_groups + g) * ENTRIES * LANES));
                }
            }
            update_tiles::<S, T, N>(w, d, block, pass.tables, pass.scale, far);
        }
        if let Some(block) = pass.next {
            // One tile at a time: the tables of two would not fit the first-level cache.
            for j in 0..T {
                let w = w.add(j * (d + 1) * LANES);
                build_tables::<S>(w, d, pass.tables);
                let bias = biases::<S, 1>(w, d);
                for chunk in 0..block.samples.div_ceil(CHUNK) {
                    product_chunk::<S, 1, M>(block, chunk, groups, bias, pass.tables, |_, s, z| {
                        z.store(slots.slot(t + j, s));
                    });
                }
            }
        }
    }
}

/// See [`BlockPass`].
#[inline(always)]
unsafe fn block_pass<S: Simd, const T: usize, const N: usize, const M: usize>(pass: &BlockPass) {
    let mut t = pass.tiles.start;
    // SAFETY: as for `block_tiles`.
    unsafe {
        while t + T <= pass.tiles.end {
            block_tiles::<S, T, N, M>(pass, t);
            t += T;
        }
        while t < pass.tiles.end {
            block_tiles::<S, 1, N, M>(pass, t);
            t += 1;
        }
    }
}

/// Finishes a step in one tile: turns the preactivations of its samples into (rate x delta) and updates the rows.
#[inline(always)]
unsafe fn finish_tile<S: Simd, const R: usize>(
    z: impl Fn(usize) -> *mut f32,
    count: usize,
    old: [S; R],
    mut rows: [S; R],
    delta_factors: *const f32,
    row_factors: *const f32,
) -> [S; R] {
    // SAFETY: both factor arrays have count x R entries; z gives the slots of the step's samples.
    unsafe {
        for b in 0..count {
            let slot = z(b);
            let z = S::load(slot);
            let active = z.relu();
            let mut delta = old[0].mul(S::splat(*delta_factors.add(b * R)));
            for r in 0..R {
                if r > 0 {
                    delta = old[r].fma(S::splat(*delta_factors.add(b * R + r)), delta);
                }
                rows[r] = rows[r].minus_product(active, S::splat(*row_factors.add(b * R + r)));
            }
            delta.where_positive(z).store(slot);
        }
        rows
    }
}

/// z of samples `first .. first + N` in tiles t .. t + T loses the history's deltas x Gram.
#[inline(always)]
unsafe fn correct<S: Simd, const N: usize, const T: usize>(pass: &StepPass, t: usize, first: usize) {
    // SAFETY: samples and tiles lie inside the slots, and the Gram matrix has a row for every sample.
    unsafe {
        let slots = pass.slots;
        let mut acc = [[S::splat(0.0); N]; T];
        for (j, acc) in acc.iter_mut().enumerate() {
            for (i, acc) in acc.iter_mut().enumerate() {
                *acc = S::load(slots.slot(t + j, first + i));
            }
        }
        let mut s = pass.history.start;
        while s < pass.history.end {
            let end = ((s / slots.sub + 1) * slots.sub).min(pass.history.end);
            let mut gram = pass.gram.as_ptr().add(s * pass.stride + first);
            let mut delta = slots.slot(t, s).cast_const();
            for _ in s..end {
                let mut deltas = [S::splat(0.0); T];
                for (j, value) in deltas.iter_mut().enumerate() {
                    *value = S::load(delta.add(j * slots.sub * LANES));
                }
                for i in 0..N {
                    let weight = S::splat(*gram.add(i));
                    for j in 0..T {
                        acc[j][i] = acc[j][i].minus_product(deltas[j], weight);
                    }
                }
                gram = gram.add(pass.stride);
                delta = delta.add(LANES);
            }
            s = end;
        }
        for (j, acc) in acc.into_iter().enumerate() {
            for (i, acc) in acc.into_iter().enumerate() {
                acc.store(slots.slot(t + j, first + i));
            }
        }
    }
}

/// [`correct`] for any number of samples.
#[inline(always)]
unsafe fn correct_all<S: Simd, const N: usize, const T: usize>(pass: &StepPass, t: usize) {
    if pass.history.is_empty() {
        return;
    }
    let mut first = pass.targets.start;
    // SAFETY: as for `correct`.
    unsafe {
        while first + N <= pass.targets.end {
            correct::<S, N, T>(pass, t, first);
            first += N;
        }
        while first + 2 <= pass.targets.end {
            correct::<S, 2, T>(pass, t, first);
            first += 2;
        }
        while first < pass.targets.end {
            correct::<S, 1, T>(pass, t, first);
            first += 1;
        }
    }
}

/// See [`StepPass`]. `ONE` promises a batch of one, whose sums then stay in registers.
#[inline(always)]
unsafe fn step_pass<S: Simd, const R: usize, const N: usize, const T: usize, const ONE: bool>(
    pass: &mut StepPass,
) {
    let batch = if ONE { pass.batch.min(1) } else { pass.batch };
    // SAFETY: the caller passes storage of the sizes documented on the fields.
    unsafe {
        let mut kept = [S::splat(0.0); R];
        if !ONE {
            for i in 0..batch * R {
                S::splat(0.0).store(pass.scratch.add(i * LANES));
            }
        }
        let mut t = pass.tiles.start;
        while t < pass.tiles.end {
            let pair = if t + T <= pass.tiles.end { T } else { 1 };
            for t in t..t + pair {
                if !pass.previous.is_empty() {
                    let rows = pass.rows.add(t * R * LANES);
                    let mut old = [S::splat(0.0); R];
                    for (r, old) in old.iter_mut().enumerate() {
                        *old = S::load(rows.add(r * LANES));
                    }
                    let new = finish_tile::<S, R>(
                        |b| pass.slots.slot(t, pass.previous.start + b),
                        if ONE { 1 } else { pass.previous.len() },
                        old,
                        old,
                        pass.delta_factors.as_ptr(),
                        pass.row_factors.as_ptr(),
                    );
                    for (r, new) in new.into_iter().enumerate() {
                        new.store(rows.add(r * LANES));
                    }
                }
            }
            if pair == T {
                correct_all::<S, N, T>(pass, t);
            } else {
                correct_all::<S, N, 1>(pass, t);
            }
            for t in t..t + pair {
                let rows = pass.rows.add(t * R * LANES);
                for b in 0..batch {
                    let active = S::load(pass.slots.slot(t, pass.targets.start + b)).relu();
                    for r in 0..R {
                        let row = S::load(rows.add(r * LANES));
                        if ONE {
                            kept[r] = row.fma(active, kept[r]);
                        } else {
                            let sum = pass.scratch.add((b * R + r) * LANES);
                            row.fma(active, S::load(sum)).store(sum);
                        }
                    }
                }
            }
            t += pair;
        }
        for i in 0..batch * R {
            let sum = if ONE { kept[i] } else { S::load(pass.scratch.add(i * LANES)) };
            pass.sums[i] = sum.sum();
        }
    }
}

/// The step pass that matters most: batch 1, two classes, P samples of the sub-block already done. One sweep with
/// everything in registers.
#[inline(always)]
unsafe fn inner_pass<S: Simd, const P: usize>(pass: &mut StepPass) {
    // SAFETY: as for `step_pass`; the history and the target lie in one sub-block, side by side.
    unsafe {
        let slots = pass.slots;
        let first = pass.history.start;
        let delta_factor = S::splat(pass.delta_factors[0]);
        let row_factor = S::splat(pass.row_factors[0]);
        let mut gram = [S::splat(0.0); P];
        for (p, gram) in gram.iter_mut().enumerate() {
            *gram = S::splat(pass.gram[(first + p) * pass.stride + first + P]);
        }
        let mut sum = S::splat(0.0);
        for t in pass.tiles.clone() {
            let tile = slots.slot(t, first);
            let row = pass.rows.add(t * LANES);
            let old = S::load(row);
            let z = S::load(tile.add((P - 1) * LANES));
            let delta = old.mul(delta_factor).where_positive(z);
            let new = old.minus_product(z.relu(), row_factor);
            delta.store(tile.add((P - 1) * LANES));
            new.store(row);
            let mut z = S::load(tile.add(P * LANES));
            // Two chains, for their latency.
            let mut other = delta.mul(gram[P - 1]);
            for p in 0..P - 1 {
                let delta = S::load(tile.add(p * LANES));
                if p % 2 == 0 {
                    z = z.minus_product(delta, gram[p]);
                } else {
                    other = delta.fma(gram[p], other);
                }
            }
            let z = z.sub(other);
            z.store(tile.add(P * LANES));
            sum = new.fma(z.relu(), sum);
        }
        pass.sums[0] = sum.sum();
    }
}

/// Largest P for which [`inner_pass`] exists; sub-blocks of single samples may have one sample more.
pub const INNER: usize = 15;

#[inline(always)]
unsafe fn any_inner_pass<S: Simd>(pass: &mut StepPass) {
    // SAFETY: as for `inner_pass`.
    unsafe {
        match pass.history.len() {
            1 => inner_pass::<S, 1>(pass),
            2 => inner_pass::<S, 2>(pass),
            3 => inner_pass::<S, 3>(pass),
            4 => inner_pass::<S, 4>(pass),
            5 => inner_pass::<S, 5>(pass),
            6 => inner_pass::<S, 6>(pass),
            7 => inner_pass::<S, 7>(pass),
            8 => inner_pass::<S, 8>(pass),
            9 => inner_pass::<S, 9>(pass),
            10 => inner_pass::<S, 10>(pass),
            11 => inner_pass::<S, 11>(pass),
            12 => inner_pass::<S, 12>(pass),
            13 => inner_pass::<S, 13>(pass),
            14 => inner_pass::<S, 14>(pass),
            15 => inner_pass::<S, 15>(pass),
            length => unreachable!("a sub-block with {length} steps done"),
        }
    }
}

/// Below this many samples a forward pass adds up signed weights directly instead of building tables.
const FEW: usize = 6;

/// See [`ForwardPass`]; tiles t .. t + T.
#[inline(always)]
unsafe fn forward_tiles<S: Simd, const T: usize, const N: usize>(pass: &ForwardPass, t: usize) {
    let (d, rows, block) = (pass.d, pass.row_count, pass.block);
    let groups = Block::groups(d);
    // SAFETY: the caller passes storage of the sizes documented on the fields.
    unsafe {
        let w = pass.weights.add(t * (d + 1) * LANES);
        let bias = biases::<S, T>(w, d);
        let row = pass.rows.add(t * rows * LANES);
        let scratch = pass.scratch;
        let take = |j: usize, s: usize, z: S| {
            let active = z.relu();
            for r in 0..rows {
                let sum = scratch.add((s * rows + r) * LANES);
                S::load(row.add((j * rows + r) * LANES)).fma(active, S::load(sum)).store(sum);
            }
        };
        if block.samples < FEW {
            for (j, bias) in bias.into_iter().enumerate() {
                for s in 0..block.samples {
                    take(j, s, signed_sum::<S>(w.add(j * (d + 1) * LANES), d, block, s, bias));
                }
            }
        } else {
            for j in 0..T {
                let tables = pass.tables.add(j * groups * ENTRIES * LANES);
                build_tables::<S>(w.add(j * (d + 1) * LANES), d, tables);
            }
            for chunk in 0..block.samples.div_ceil(CHUNK) {
                product_chunk::<S, T, N>(block, chunk, groups, bias, pass.tables, take);
            }
        }
    }
}

/// See [`ForwardPass`].
#[inline(always)]
unsafe fn forward_pass<S: Simd, const T: usize, const N: usize>(pass: &mut ForwardPass) {
    let count = pass.block.samples * pass.row_count;
    // SAFETY: as for `forward_tiles`; scratch has a vector for every sum.
    unsafe {
        for i in 0..count {
            S::splat(0.0).store(pass.scratch.add(i * LANES));
        }
        let mut t = pass.tiles.start;
        while t + T <= pass.tiles.end {
            forward_tiles::<S, T, N>(pass, t);
            t += T;
        }
        while t < pass.tiles.end {
            forward_tiles::<S, 1, N>(pass, t);
            t += 1;
        }
        for (i, sum) in pass.sums[..count].iter_mut().enumerate() {
            *sum = S::load(pass.scratch.add(i * LANES)).sum();
        }
    }
}

/// One sample's preactivations without tables, with the bits the tables give: the signed sums of four are taken in the
/// same order.
#[inline(always)]
unsafe fn signed_sum<S: Simd>(w: *const f32, d: usize, block: &Block, sample: usize, bias: S) -> S {
    const SIGNS: [f32; 2] = [1.0, -1.0];
    let groups = Block::groups(d);
    let mut z = bias;
    for g in 0..groups {
        let at = (sample / CHUNK * groups + g) * CHUNK + sample % CHUNK;
        let entry = usize::from(block.product[at]) / 8;
        // SAFETY: rows below d exist; a row past the end counts as zero, as in the tables.
        unsafe {
            let signed = |b: usize| {
                let j = g * GROUP + b;
                if j < d {
                    S::load(w.add(j * LANES)).mul(S::splat(SIGNS[(entry >> b) & 1]))
                } else {
                    S::splat(0.0)
                }
            };
            z = z.add(signed(0).add(signed(1)).add(signed(2).add(signed(3))));
        }
    }
    z
}

/// See [`LargeBatchPass`].
#[inline(always)]
unsafe fn large_batch_pass<S: Simd, const R: usize, const N: usize>(pass: &LargeBatchPass) {
    let d = pass.d;
    let groups = Block::groups(d);
    // SAFETY: the caller passes storage of the sizes documented on the fields.
    unsafe {
        let update_tables = pass.tables.add(groups * ENTRIES * LANES);
        let factor = S::splat(pass.scale);
        for t in pass.tiles.clone() {
            let w = pass.weights.add(t * (d + 1) * LANES);
            build_tables::<S>(w, d, pass.tables);
            let bias = S::load(w.add(d * LANES));
            if pass.scale != 1.0 {
                for j in 0..=d {
                    S::load(w.add(j * LANES)).mul(factor).store(w.add(j * LANES));
                }
            }
            let rows = pass.rows.add(t * R * LANES);
            let mut old = [S::splat(0.0); R];
            for (r, old) in old.iter_mut().enumerate() {
                *old = S::load(rows.add(r * LANES));
            }
            let mut new = old.map(|row| row.mul(factor));
            for (index, block) in pass.blocks.iter().enumerate() {
                for chunk in 0..block.samples.div_ceil(CHUNK) {
                    let scratch = pass.scratch;
                    product_chunk::<S, 1, N>(block, chunk, groups, [bias], pass.tables, |_, s, z| {
                        z.store(scratch.add(s * LANES));
                    });
                }
                let factors = index * pass.block_samples * R;
                new = finish_tile::<S, R>(
                    |b| pass.scratch.add(b * LANES),
                    block.samples,
                    old,
                    new,
                    pass.delta_factors.as_ptr().add(factors),
                    pass.row_factors.as_ptr().add(factors),
                );
                build_tables::<S>(pass.scratch, block.samples, update_tables);
                update_tiles::<S, 1, N>(w, d, block, update_tables, 1.0, false);
            }
            for (r, new) in new.into_iter().enumerate() {
                new.store(rows.add(r * LANES));
            }
        }
    }
}

/// Many independent multiply-adds in registers; returns their number.
#[inline(always)]
unsafe fn peak_multiply_adds<S: Simd>() -> usize {
    const CHAINS: usize = 12;
    const ROUNDS: usize = 4096;
    // SAFETY: the caller has the instruction set.
    unsafe {
        let factor = S::splat(std::hint::black_box(0.5));
        let mut acc = [factor; CHAINS];
        for _ in 0..ROUNDS {
            for acc in &mut acc {
                *acc = acc.fma(factor, factor);
            }
        }
        let total = acc.into_iter().reduce(|a, b| a.add(b)).map(|v| v.sum());
        std::hint::black_box(total);
    }
    CHAINS * ROUNDS
}

/// Look-ups as in the product, in tables that fit the first-level cache; returns their number. `tables` has 256 vectors.
#[inline(always)]
unsafe fn peak_look_ups<S: Simd, const T: usize, const N: usize>(tables: *mut f32) -> usize {
    const ROUNDS: usize = 64;
    let indices: [u8; 8 * CHUNK] = std::array::from_fn(|i| (i * 7 % ENTRIES * 8) as u8);
    // SAFETY: 16 tables of 16 vectors, indices for each.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; T];
        for _ in 0..ROUNDS {
            acc = look_up::<S, T, N, false>(
                acc,
                std::hint::black_box(&indices).as_ptr(),
                8,
                tables,
                128 * LANES,
            );
        }
        let total = acc.into_iter().flatten().reduce(|a, b| a.add(b)).map(|v| v.sum());
        std::hint::black_box(total);
    }
    ROUNDS * 8 * N * T
}

/// Reads and writes `count` vectors.
#[inline(always)]
unsafe fn peak_stream<S: Simd>(data: *mut f32, count: usize) {
    // SAFETY: the caller passes `count` vectors.
    unsafe {
        let one = S::splat(std::hint::black_box(1.0));
        for i in 0..count {
            let at = data.add(i * LANES);
            S::load(at).mul(one).store(at);
        }
    }
}

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub prepare: unsafe fn(&mut Block, &Samples, usize, usize, bool),
    pub block_pass: unsafe fn(&BlockPass),
    /// By number of rows; see [`Kernels::rows`].
    pub step_pass: [unsafe fn(&mut StepPass); ROWS.len()],
    /// Batch 1, one row, history inside the sub-block.
    pub inner_pass: unsafe fn(&mut StepPass),
    pub forward_pass: unsafe fn(&mut ForwardPass),
    pub large_batch_pass: [unsafe fn(&LargeBatchPass); ROWS.len()],
    pub peak_multiply_adds: unsafe fn() -> usize,
    pub peak_look_ups: unsafe fn(*mut f32) -> usize,
    pub peak_stream: unsafe fn(*mut f32, usize),
    /// Samples per sub-block to aim at.
    pub sub_block: usize,
}

/// Numbers of second-layer rows that are compiled: 1 for the difference of two classes, else C rounded up.
pub const ROWS: [usize; 5] = [1, 2, 4, 8, 16];

macro_rules! kernels {
    ($module:ident, $simd:ty, $look_up:literal, $correct:literal, $pair:literal, $sub:literal, $on:ident) => {
        mod $module {
            use super::*;

            $on! {
                unsafe fn prepare(block: &mut Block, samples: &Samples, first: usize, count: usize, with_gram: bool) {
                    block.prepare(samples, first, count, with_gram);
                    if with_gram {
                        fill_gram(block, samples.d());
                    }
                }

                unsafe fn block_pass(pass: &BlockPass) {
                    // SAFETY: the caller keeps the contract of `BlockPass`.
                    unsafe { super::block_pass::<$simd, $pair, $look_up, { $pair * $look_up }>(pass) }
                }

                unsafe fn step_pass<const R: usize>(pass: &mut StepPass) {
                    // SAFETY: the caller keeps the contract of `StepPass`.
                    unsafe {
                        if pass.batch <= 1 && pass.previous.len() <= 1 {
                            super::step_pass::<$simd, R, $correct, $pair, true>(pass);
                        } else {
                            super::step_pass::<$simd, R, $correct, $pair, false>(pass);
                        }
                    }
                }

                unsafe fn inner_pass(pass: &mut StepPass) {
                    // SAFETY: the caller keeps the contract of `StepPass`.
                    unsafe { any_inner_pass::<$simd>(pass) }
                }

                unsafe fn forward_pass(pass: &mut ForwardPass) {
                    // SAFETY: the caller keeps the contract of `ForwardPass`.
                    unsafe { super::forward_pass::<$simd, 1, { $pair * $look_up }>(pass) }
                }

                unsafe fn large_batch_pass<const R: usize>(pass: &LargeBatchPass) {
                    // SAFETY: the caller keeps the contract of `LargeBatchPass`.
                    unsafe { super::large_batch_pass::<$simd, R, $look_up>(pass) }
                }

                unsafe fn peak_multiply_adds() -> usize {
                    // SAFETY: the caller has the instruction set.
                    unsafe { super::peak_multiply_adds::<$simd>() }
                }

                unsafe fn peak_look_ups(tables: *mut f32) -> usize {
                    // SAFETY: the caller passes 256 vectors.
                    unsafe { super::peak_look_ups::<$simd, $pair, $look_up>(tables) }
                }

                unsafe fn peak_stream(data: *mut f32, count: usize) {
                    // SAFETY: the caller passes `count` vectors.
                    unsafe { super::peak_stream::<$simd>(data, count) }
                }
            }

            pub const KERNELS: Kernels = Kernels {
                prepare,
                block_pass,
                step_pass: [step_pass::<1>, step_pass::<2>, step_pass::<4>, step_pass::<8>, step_pass::<16>],
                inner_pass,
                forward_pass,
                large_batch_pass: [
                    large_batch_pass::<1>,
                    large_batch_pass::<2>,
                    large_batch_pass::<4>,
                    large_batch_pass::<8>,
                    large_batch_pass::<16>,
                ],
                peak_multiply_adds,
                peak_look_ups,
                peak_stream,
                sub_block: $sub,
            };
        }
    };
}

kernels!(portable, Lanes, 4, 4, 1, 8, on_any);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, Avx2, 4, 4, 1, 8, on_avx2);
#[cfg(target_arch = "x86_64")]
kernels!(avx512, Avx512, 8, 8, 2, 8, on_avx512);

/// The Gram matrix, with the vector population count where the processor has one.
#[inline(always)]
fn fill_gram(block: &mut Block, d: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,popcnt")]
        unsafe fn wide(block: &mut Block, d: usize) {
            block.fill_gram(d);
        }
        if is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the feature is there, and processors that have it have the others.
            unsafe { wide(block, d) };
            return;
        }
    }
    block.fill_gram(d);
}

impl Kernels {
    /// The kernels for `isa`, which the processor must have.
    pub fn of(isa: Isa) -> Self {
        match isa {
            Isa::Portable => portable::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::KERNELS,
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::KERNELS,
        }
    }

    /// Index into the per-rows kernels: the smallest compiled number of rows that holds `rows`.
    pub fn rows(rows: usize) -> Option<usize> {
        ROWS.iter().position(|&compiled| compiled >= rows)
    }
}
