//! Labelled sign vectors: uniform inputs x in {-1,+1}^d, bit-packed, with a label that is a function of them.

use crate::rng::{self, Stream};
use std::fmt::Debug;

/// A labelling of sign vectors x in {-1,+1}^d, which are drawn uniformly.
pub trait BooleanTask: Debug + Send + Sync {
    /// Input dimension.
    fn d(&self) -> usize;

    /// Number of labels.
    fn classes(&self) -> usize;

    /// The label of one sample given its packed bits, `words(d)` words.
    fn label(&self, bits: &[u32]) -> u8;

    /// What the label depends on: groups of coordinates whose subsets are "in support" for monomials. They may overlap.
    fn nodes(&self) -> Vec<Vec<usize>>;

    /// Accuracy of guessing: the frequency of the commonest label.
    fn chance(&self) -> f64 {
        1.0 / self.classes() as f64
    }

    /// All coordinates the label depends on, ascending.
    fn relevant(&self) -> Vec<usize> {
        let mut all = self.nodes().concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// `count` samples of `stream`, the first with index `first`, with their labels.
    fn samples(&self, seed: u64, stream: Stream, first: u64, count: usize) -> Samples {
        let mut samples = Samples::random(self.d(), seed, stream, first, count);
        samples.labels = (0..count).map(|i| self.label(samples.row(i))).collect();
        samples
    }
}

/// Bit mask of a set of coordinates over ceil(d/32) words.
pub fn mask(set: &[usize], d: usize) -> Vec<u32> {
    let mut mask = vec![0u32; words(d)];
    set.iter().for_each(|&j| mask[j / 32] |= 1 << (j % 32));
    mask
}

/// True when an odd number of the masked bits is set, that is when the product of those x_j is -1.
#[inline]
pub fn parity_of(bits: &[u32], mask: &[u32]) -> bool {
    let folded = bits.iter().zip(mask).fold(0u32, |acc, (b, m)| acc ^ (b & m));
    folded.count_ones() & 1 == 1
}

/// Words of 32 bits that hold d bits.
#[inline]
pub const fn words(d: usize) -> usize {
    d.div_ceil(32)
}

/// A block of samples, bit-packed: bit j%32 of word j/32 of a row is 1 where x_j = -1; bits from d on are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    d: usize,
    words: usize,
    bits: Vec<u32>,
    /// Label of each sample; empty where the task is not known.
    pub labels: Vec<u8>,
}

impl Samples {
    /// `count` uniform unlabelled samples: item `first + i` of the stream is sample i, 128 coordinates per Philox block.
    pub fn random(d: usize, seed: u64, stream: Stream, first: u64, count: usize) -> Self {
        let words = words(d);
        let last = if d.is_multiple_of(32) { u32::MAX } else { (1u32 << (d % 32)) - 1 };
        let mut packed = vec![0u32; words * count];
        for (i, row) in packed.chunks_exact_mut(words).enumerate() {
            for (block, chunk) in row.chunks_mut(4).enumerate() {
                let drawn = rng::bits(seed, stream, first + i as u64, block as u32);
                chunk.copy_from_slice(&drawn[..chunk.len()]);
            }
            row[words - 1] &= last;
        }
        Self { d, words, bits: packed, labels: Vec::new() }
    }

    /// Samples from packed bits, `words(d)` words each.
    ///
    /// # Panics
    /// If the length is not a multiple of the row length or a bit from d on is set.
    pub fn from_bits(d: usize, bits: Vec<u32>) -> Self {
        let words = words(d);
        assert!(bits.len().is_multiple_of(words));
        if !d.is_multiple_of(32) {
            assert!(bits.chunks_exact(words).all(|row| row[words - 1] >> (d % 32) == 0));
        }
        Self { d, words, bits, labels: Vec::new() }
    }

    /// Number of samples.
    #[inline]
    pub fn len(&self) -> usize {
        self.bits.len() / self.words
    }

    /// True without samples.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// Input dimension.
    #[inline]
    pub fn d(&self) -> usize {
        self.d
    }

    /// 32-bit words per sample.
    #[inline]
    pub fn words(&self) -> usize {
        self.words
    }

    /// All packed bits, row after row.
    #[inline]
    pub fn bits(&self) -> &[u32] {
        &self.bits
    }

    /// Packed bits of sample i.
    #[inline]
    pub fn row(&self, i: usize) -> &[u32] {
        &self.bits[i * self.words..(i + 1) * self.words]
    }

    /// Samples `range` as an own block.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            d: self.d,
            words: self.words,
            bits: self.bits[range.start * self.words..range.end * self.words].to_vec(),
            labels: if self.labels.is_empty() { Vec::new() } else { self.labels[range].to_vec() },
        }
    }

    /// x as +-1 numbers, [n, d] row-major.
    pub fn to_signs(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.len() * self.d);
        for i in 0..self.len() {
            let row = self.row(i);
            out.extend((0..self.d).map(|j| if row[j / 32] >> (j % 32) & 1 == 1 { -1.0 } else { 1.0 }));
        }
        out
    }
}
