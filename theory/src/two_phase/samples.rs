//! Bit-packed uniform samples: block `i` of stream `(seed, trial, stream)` is a pure function of its key.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Words per column of a block.
pub(crate) const WORDS: usize = 64;
/// Samples per block.
pub(crate) const BLOCK: usize = WORDS * 64;

/// What a generator is for; keeps streams apart.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Neurons = 1,
    Batch = 2,
    TeacherNeurons = 3,
    TeacherBatch = 4,
    SecondPhase = 5,
    Test = 6,
    Statistics = 7,
    SignSums = 8,
}

/// A generator keyed by (seed, trial, stream, index): SplitMix-style mixing of the key, then `seed_from_u64`.
pub(crate) fn generator(seed: u64, trial: u64, stream: Stream, index: u64) -> Xoshiro256PlusPlus {
    let mut key = seed;
    for part in [trial, stream as u64, index] {
        key = mix(key.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ mix(part.wrapping_add(0xd1b5_4a32_d192_ed03)));
    }
    Xoshiro256PlusPlus::seed_from_u64(key)
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Up to [`BLOCK`] samples; bit `s % 64` of word `s / 64` of column `j` is set when `x_j = -1` in sample `s`.
#[derive(Clone)]
pub(crate) struct Block {
    pub d: usize,
    pub samples: usize,
    pub columns: Vec<[u64; WORDS]>,
}

impl Block {
    pub fn new(d: usize) -> Self {
        Self { d, samples: 0, columns: vec![[0; WORDS]; d] }
    }

    /// Draws the block; only the first `samples` are meant to be used.
    pub fn fill(&mut self, rng: &mut impl Rng, samples: usize) {
        self.samples = samples.min(BLOCK);
        for column in &mut self.columns {
            column.iter_mut().for_each(|w| *w = rng.next_u64());
        }
    }

    /// Set bits where a sample is in use.
    pub fn valid(&self) -> [u64; WORDS] {
        std::array::from_fn(|w| {
            let left = self.samples.saturating_sub(64 * w);
            if left >= 64 { !0 } else { (1u64 << left) - 1 }
        })
    }

    /// Bits of `prod_{j in set} x_j`.
    pub fn parity(&self, set: &[usize]) -> [u64; WORDS] {
        let mut y = [0; WORDS];
        for &j in set {
            y.iter_mut().zip(&self.columns[j]).for_each(|(y, x)| *y ^= x);
        }
        y
    }

    /// The samples in use as a `[samples, columns.len()]` matrix of `+-1`, for the chosen coordinates.
    pub fn unpack(&self, coordinates: &[usize]) -> ndarray::Array2<f32> {
        let mut x = ndarray::Array2::<f32>::zeros((self.samples, coordinates.len()));
        for (c, &j) in coordinates.iter().enumerate() {
            for (s, v) in x.column_mut(c).iter_mut().enumerate() {
                *v = sign_of(self.columns[j][s / 64], s % 64);
            }
        }
        x
    }
}

/// +1 for a clear bit, -1 for a set one, without a branch.
#[inline]
pub(crate) fn sign_of(word: u64, bit: usize) -> f32 {
    f32::from_bits(0x3f80_0000 | (((word >> bit) & 1) as u32) << 31)
}

/// How the blocks cut a batch.
pub(crate) fn block_count(batch: u64) -> u64 {
    batch.div_ceil(BLOCK as u64)
}

/// Samples in block `index` of a batch.
pub(crate) fn block_samples(batch: u64, index: u64) -> usize {
    (batch - index * BLOCK as u64).min(BLOCK as u64) as usize
}
