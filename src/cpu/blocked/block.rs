//! What a block of samples knows before any neuron is looked at: table indices and the Gram matrix.

// One index runs over several arrays of registers at once; iterators would hide that.
#![allow(clippy::needless_range_loop)]

use curricle_core::task::Samples;

/// Samples (and coordinates) whose indices lie together: kernels take them 16 at a time, or in halves or quarters.
pub const CHUNK: usize = 16;
/// Coordinates, or samples, that one table covers.
pub const GROUP: usize = 4;
/// Entries of one table: the signed sums of [`GROUP`] vectors.
pub const ENTRIES: usize = 1 << GROUP;

/// A block of consecutive samples, prepared. An index is 8 x the entry number, so that the address of an entry (64 bytes
/// each) is base + 8 x index, which x86 computes inside the load.
#[derive(Debug, Default, Clone)]
pub struct Block {
    /// Number of samples K.
    pub samples: usize,
    /// `[chunk of 16 samples][group of 4 coordinates][sample]`: which sum of the group the sample needs.
    pub product: Vec<u8>,
    /// `[chunk of 16 coordinates][group of 4 samples][coordinate]`: the same for the update.
    pub update: Vec<u8>,
    /// x_s . x_t + 1 at `[s][t]`; only t > s is used.
    pub gram: Vec<f32>,
    /// Row length of `gram`.
    pub stride: usize,
    /// Packed bits, `[word][sample]`.
    words: Vec<u32>,
}

impl Block {
    /// Groups of 4 coordinates.
    pub fn groups(d: usize) -> usize {
        d.div_ceil(GROUP)
    }

    /// Prepares samples `first .. first + count`. Runs inside a kernel wrapper, where these plain loops become vector code.
    #[inline(always)]
    pub fn prepare(&mut self, samples: &Samples, first: usize, count: usize, with_gram: bool) {
        let d = samples.d();
        let words = samples.words();
        self.samples = count;
        self.stride = count.next_multiple_of(CHUNK);
        self.words.clear();
        self.words.resize(words * self.stride, 0);
        for s in 0..count {
            for (w, bits) in samples.row(first + s).iter().enumerate() {
                self.words[w * self.stride + s] = *bits;
            }
        }
        self.index_samples(d);
        self.index_coordinates(d);
        if with_gram {
            self.gram.resize(count * self.stride, 0.0);
        }
    }

    #[inline(always)]
    fn index_samples(&mut self, d: usize) {
        let groups = Self::groups(d);
        self.product.resize(self.stride * groups, 0);
        for (chunk, out) in self.product.chunks_exact_mut(groups * CHUNK).enumerate() {
            for (g, out) in out.chunks_exact_mut(CHUNK).enumerate() {
                let at = g / 8 * self.stride + chunk * CHUNK;
                let words = &self.words[at..at + CHUNK];
                let shift = g % 8 * 4;
                for i in 0..CHUNK {
                    out[i] = (((words[i] >> shift) & 15) << 3) as u8;
                }
            }
        }
    }

    #[inline(always)]
    fn index_coordinates(&mut self, d: usize) {
        let groups = self.samples.div_ceil(GROUP);
        self.update.resize(d.div_ceil(CHUNK) * groups * CHUNK, 0);
        for (chunk, out) in self.update.chunks_exact_mut(groups * CHUNK).enumerate() {
            let base = chunk % 2 * CHUNK;
            let words = &self.words[chunk / 2 * self.stride..(chunk / 2 + 1) * self.stride];
            for (out, words) in out.chunks_exact_mut(CHUNK).zip(words.chunks_exact(GROUP)) {
                for i in 0..CHUNK {
                    let bit = |b: usize| ((words[b] >> (base + i)) & 1) << (b + 3);
                    out[i] = (bit(0) | bit(1) | bit(2) | bit(3)) as u8;
                }
            }
        }
    }

    /// Fills the Gram matrix: d - 2 (number of differing bits) + 1.
    #[inline(always)]
    pub fn fill_gram(&mut self, d: usize) {
        let stride = self.stride;
        let words = self.words.len() / stride;
        for s in 0..self.samples {
            // The first chunk that holds a later sample.
            let from = (s + 1) / CHUNK * CHUNK;
            for chunk in (from..stride).step_by(CHUNK) {
                let mut differing = [0u32; CHUNK];
                for w in 0..words {
                    let own = self.words[w * stride + s];
                    let others = &self.words[w * stride + chunk..w * stride + chunk + CHUNK];
                    for i in 0..CHUNK {
                        differing[i] += (own ^ others[i]).count_ones();
                    }
                }
                let out = &mut self.gram[s * stride + chunk..s * stride + chunk + CHUNK];
                for i in 0..CHUNK {
                    out[i] = (d as i32 + 1 - 2 * differing[i] as i32) as f32;
                }
            }
        }
    }
}
