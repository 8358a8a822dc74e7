//! Tasks on uniform inputs x in {-1,+1}^d: sparse parity and its hierarchical generalisation.

use crate::rng::{self, Purpose, Stream};

/// Why a Boolean task cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TaskError {
    /// d is 0 or above the limit.
    #[error("d = {0} is out of range: the input dimension must be between 1 and 65536")]
    Dimension(usize),
    /// k is 0 or does not fit.
    #[error("k = {k} is out of range: with d = {d} and {nodes} parities of k coordinates each, k must be between 1 and {max}", max = d / nodes)]
    Sparsity {
        /// Asked sparsity.
        k: usize,
        /// Input dimension.
        d: usize,
        /// Number of disjoint parities.
        nodes: usize,
    },
    /// A support coordinate is not below d.
    #[error("support coordinate {coordinate} is out of range: coordinates count from 0 and d = {d}")]
    Coordinate {
        /// The offending coordinate.
        coordinate: usize,
        /// Input dimension.
        d: usize,
    },
    /// A coordinate occurs twice.
    #[error("support coordinate {0} occurs twice")]
    Repeated(usize),
    /// Number of classes is not a power of two.
    #[error("classes = {0} is not possible for a hierarchy: use a power of two from 2 to 256")]
    Classes(usize),
    /// The list of coordinates has the wrong length.
    #[error("the support lists {found} coordinates, but {expected} are needed")]
    SupportLength {
        /// Listed.
        found: usize,
        /// Needed: k for a parity, k x (classes - 1) for a hierarchy.
        expected: usize,
    },
}

/// Parities over disjoint supports on the internal nodes of a binary tree of depth L; 2^L labels.
///
/// Node n (heap order, root 0) has the support `supports[n]`. A leaf scores the sum over its path of +(node parity)
/// where the path goes left and -(node parity) where it goes right; the label is the leaf with the largest score,
/// which is the leaf reached by going left exactly where the node's product is +1. With L = 1 this is sparse parity with
/// label 0 when the product is +1 (PAPER: hierarchical parity, appendix).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BooleanTask {
    d: usize,
    supports: Vec<Vec<usize>>,
    /// `masks[n]` has the bits of `supports[n]` set, `words()` words each.
    masks: Vec<Vec<u32>>,
}

/// Where the coordinates of the support come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Support {
    /// Coordinates 0, 1, .., k-1 (node n of a hierarchy: nk .. (n+1)k-1).
    First,
    /// Drawn without replacement from the seed.
    Random {
        /// Seed of the draw.
        seed: u64,
    },
    /// Given: k coordinates for each node in turn.
    Given(Vec<usize>),
}

impl BooleanTask {
    /// The (d, k)-sparse parity (PAPER 3.1).
    ///
    /// # Errors
    /// If d or k is out of range or the given support does not fit.
    pub fn parity(d: usize, k: usize, support: &Support) -> Result<Self, TaskError> {
        Self::hierarchy(d, k, 2, support)
    }

    /// The hierarchical parity with `classes` = 2^L labels, one k-sparse parity per internal node.
    ///
    /// # Errors
    /// If d, k or `classes` is out of range or the given support does not fit.
    pub fn hierarchy(d: usize, k: usize, classes: usize, support: &Support) -> Result<Self, TaskError> {
        if d == 0 || d > 65_536 {
            return Err(TaskError::Dimension(d));
        }
        if !(2..=256).contains(&classes) || !classes.is_power_of_two() {
            return Err(TaskError::Classes(classes));
        }
        let nodes = classes - 1;
        if k == 0 || k.checked_mul(nodes).is_none_or(|need| need > d) {
            return Err(TaskError::Sparsity { k, d, nodes });
        }
        let coordinates = match support {
            Support::First => (0..k * nodes).collect(),
            Support::Random { seed } => {
                let mut drawn = rng::distinct(*seed, Stream::new(Purpose::Support, 0), 0, k * nodes, d);
                drawn.chunks_mut(k).for_each(<[usize]>::sort_unstable);
                drawn
            }
            Support::Given(list) => {
                if list.len() != k * nodes {
                    return Err(TaskError::SupportLength { found: list.len(), expected: k * nodes });
                }
                list.clone()
            }
        };
        let mut seen = vec![false; d];
        for &coordinate in &coordinates {
            if coordinate >= d {
                return Err(TaskError::Coordinate { coordinate, d });
            }
            if std::mem::replace(&mut seen[coordinate], true) {
                return Err(TaskError::Repeated(coordinate));
            }
        }
        let supports: Vec<Vec<usize>> = coordinates.chunks(k).map(<[usize]>::to_vec).collect();
        let masks = supports.iter().map(|s| mask(s, d)).collect();
        Ok(Self { d, supports, masks })
    }

    /// Input dimension.
    #[inline]
    pub fn d(&self) -> usize {
        self.d
    }

    /// Coordinates per parity.
    #[inline]
    pub fn k(&self) -> usize {
        self.supports[0].len()
    }

    /// Number of labels.
    #[inline]
    pub fn classes(&self) -> usize {
        self.supports.len() + 1
    }

    /// Supports of the internal nodes in heap order; one entry for a parity.
    #[inline]
    pub fn supports(&self) -> &[Vec<usize>] {
        &self.supports
    }

    /// All coordinates the label depends on, ascending.
    pub fn support_union(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.supports.concat();
        all.sort_unstable();
        all
    }

    /// The label of one sample given its packed bits.
    #[inline]
    pub fn label(&self, bits: &[u32]) -> u8 {
        let nodes = self.masks.len();
        let mut node = 0;
        while node < nodes {
            let odd = parity_of(bits, &self.masks[node]);
            node = 2 * node + 1 + usize::from(odd);
        }
        (node - nodes) as u8
    }

    /// `count` samples of `stream`, the first with index `first`, with their labels.
    pub fn samples(&self, seed: u64, stream: Stream, first: u64, count: usize) -> Samples {
        let mut samples = Samples::random(self.d, seed, stream, first, count);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: argmax over leaves of the sum of signed node parities along the path.
    fn label_by_scores(task: &BooleanTask, x: &[f32]) -> u8 {
        let classes = task.classes();
        let depth = classes.trailing_zeros();
        let product = |node: usize| task.supports()[node].iter().map(|&j| x[j]).product::<f32>();
        let scores: Vec<f32> = (0..classes)
            .map(|leaf| {
                let mut node = 0;
                let mut score = 0.0;
                for level in (0..depth).rev() {
                    let right = leaf >> level & 1;
                    score += if right == 0 { product(node) } else { -product(node) };
                    node = 2 * node + 1 + right;
                }
                score
            })
            .collect();
        let best = scores.iter().copied().fold(f32::MIN, f32::max);
        scores.iter().position(|&s| s == best).unwrap() as u8
    }

    #[test]
    fn labels_follow_the_definition() {
        for (d, k, classes) in [(7, 3, 2), (33, 5, 2), (40, 3, 8), (100, 5, 8), (130, 2, 16)] {
            let task = BooleanTask::hierarchy(d, k, classes, &Support::Random { seed: 9 }).unwrap();
            let samples = task.samples(3, Stream::new(Purpose::Data, 0), 1000, 200);
            let signs = samples.to_signs();
            for i in 0..200 {
                let expected = label_by_scores(&task, &signs[i * d..(i + 1) * d]);
                assert_eq!(samples.labels[i], expected, "d {d} k {k} classes {classes} sample {i}");
            }
        }
    }

    #[test]
    fn parity_label_is_zero_when_the_product_is_plus_one() {
        let task = BooleanTask::parity(5, 2, &Support::Given(vec![1, 4])).unwrap();
        assert_eq!(task.label(&[0b00000]), 0);
        assert_eq!(task.label(&[0b10010]), 0);
        assert_eq!(task.label(&[0b00010]), 1);
        assert_eq!(task.label(&[0b01101]), 0);
    }

    #[test]
    fn samples_do_not_depend_on_how_they_are_cut() {
        let task = BooleanTask::parity(100, 6, &Support::First).unwrap();
        let stream = Stream::new(Purpose::Data, 4);
        let whole = task.samples(7, stream, (1 << 32) - 20, 50);
        let part = task.samples(7, stream, (1 << 32) - 20 + 13, 30);
        assert_eq!(whole.slice(13..43), part);
        assert!(whole.bits().iter().skip(3).step_by(4).all(|w| *w < 16));
    }

    #[test]
    fn impossible_tasks_are_refused() {
        let first = Support::First;
        assert_eq!(BooleanTask::parity(0, 1, &first), Err(TaskError::Dimension(0)));
        assert!(matches!(BooleanTask::parity(5, 6, &first), Err(TaskError::Sparsity { .. })));
        assert!(matches!(BooleanTask::hierarchy(20, 3, 8, &first), Err(TaskError::Sparsity { .. })));
        assert_eq!(BooleanTask::hierarchy(20, 3, 6, &first), Err(TaskError::Classes(6)));
        let given = |list: &[usize]| BooleanTask::parity(5, 2, &Support::Given(list.to_vec()));
        assert_eq!(given(&[1, 5]), Err(TaskError::Coordinate { coordinate: 5, d: 5 }));
        assert_eq!(given(&[1, 1]), Err(TaskError::Repeated(1)));
        assert_eq!(given(&[1]), Err(TaskError::SupportLength { found: 1, expected: 2 }));
    }
}
