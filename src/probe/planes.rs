//! The inner loop: signed sums over blocks of samples for many monomials at once.
//!
//! Samples are transposed to bit-planes, so chi_T of 64 samples is the XOR of |T| words. The signed sums of 8 consecutive
//! values are tabulated for all 256 sign patterns, so a monomial costs 8 look-ups per 64 samples, whatever the
//! instruction set. The order of additions is fixed.

use super::monomials::Monomials;
use curricle_core::task::Samples;

/// Samples, coordinate-major: word w * d + j holds coordinate j of samples 64w .. 64w+63, one bit each.
pub(super) struct Planes {
    d: usize,
    bits: Vec<u64>,
}

impl Planes {
    /// The bits of some samples, coordinate by coordinate.
    pub(super) fn new(samples: &Samples) -> Self {
        let d = samples.d();
        let blocks = samples.len().div_ceil(64);
        let mut bits = vec![0u64; blocks * d];
        for (block, planes) in bits.chunks_exact_mut(d).enumerate() {
            let rows = 64 * block..samples.len().min(64 * block + 64);
            for (pair, out) in planes.chunks_mut(64).enumerate() {
                let mut square = [0u64; 64];
                for (line, row) in square.iter_mut().zip(rows.clone()) {
                    let words = samples.row(row);
                    let high = words.get(2 * pair + 1).copied().unwrap_or(0);
                    *line = u64::from(words[2 * pair]) | u64::from(high) << 32;
                }
                transpose(&mut square);
                out.copy_from_slice(&square[..out.len()]);
            }
        }
        Self { d, bits }
    }

    /// Adds sum_i values[i] chi_T(x_i) over samples `first .. first + values.len()` to `sums[t]` for each monomial.
    ///
    /// `first` is a multiple of 64.
    pub(super) fn accumulate(&self, first: usize, values: &[f64], monomials: &Monomials, sums: &mut [f64]) {
        debug_assert!(first.is_multiple_of(64) && sums.len() == monomials.len());
        let mut tables = Box::new([[0.0; 256]; 8]);
        for (planes, values) in self.bits[first / 64 * self.d..].chunks_exact(self.d).zip(values.chunks(64)) {
            // Missing samples of the last word count 0 whatever their bits say.
            let mut padded = [0.0; 64];
            padded[..values.len()].copy_from_slice(values);
            tabulate(&padded, &mut tables);
            let mut rest = &mut *sums;
            for (degree, coordinates) in monomials.groups() {
                let (own, later) = rest.split_at_mut(coordinates.len() / degree);
                rest = later;
                match degree {
                    1 => add::<1>(planes, coordinates, &tables, own),
                    2 => add::<2>(planes, coordinates, &tables, own),
                    3 => add::<3>(planes, coordinates, &tables, own),
                    4 => add::<4>(planes, coordinates, &tables, own),
                    5 => add::<5>(planes, coordinates, &tables, own),
                    _ => unreachable!("Monomials admits degrees 1 to 5"),
                }
            }
        }
    }
}

/// `tables[g][b]` = sum over i < 8 of values[8g + i], negated where bit i of b is set.
fn tabulate(values: &[f64; 64], tables: &mut [[f64; 256]; 8]) {
    for (table, values) in tables.iter_mut().zip(values.as_chunks::<8>().0) {
        table[0] = values[0];
        table[1] = -values[0];
        for (i, v) in values.iter().enumerate().skip(1) {
            let (low, high) = table.split_at_mut(1 << i);
            for (l, h) in low.iter_mut().zip(high) {
                (*l, *h) = (*l + v, *l - v);
            }
        }
    }
}

#[inline]
fn add<const D: usize>(planes: &[u64], coordinates: &[u32], tables: &[[f64; 256]; 8], sums: &mut [f64]) {
    for (monomial, sum) in coordinates.as_chunks::<D>().0.iter().zip(sums) {
        let mut odd = 0;
        for &j in monomial {
            odd ^= planes[j as usize];
        }
        let b = odd.to_le_bytes();
        let at = |g: usize| tables[g][usize::from(b[g])];
        *sum += ((at(0) + at(1)) + (at(2) + at(3))) + ((at(4) + at(5)) + (at(6) + at(7)));
    }
}

/// Transposes a 64 x 64 bit matrix: bit j of word i becomes bit i of word j (Warren, *Hacker's Delight*, 7-3, with
/// the bit order reversed).
fn transpose(square: &mut [u64; 64]) {
    let mut width = 32;
    let mut mask = 0x0000_0000_FFFF_FFFFu64;
    while width != 0 {
        let mut i = 0;
        while i < 64 {
            let swap = (square[i] >> width ^ square[i + width]) & mask;
            square[i] ^= swap << width;
            square[i + width] ^= swap;
            i = (i + width + 1) & !width;
        }
        width >>= 1;
        mask ^= mask << width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::rng::{Purpose, Stream};

    #[test]
    fn planes_hold_the_samples_transposed() {
        for (d, n) in [(1, 1), (31, 64), (64, 65), (100, 200), (129, 7)] {
            let samples = Samples::random(d, 3, Stream::new(Purpose::Probe, 0), 0, n);
            let planes = Planes::new(&samples);
            for i in 0..n {
                for j in 0..d {
                    let bit = u64::from(samples.row(i)[j / 32] >> (j % 32) & 1);
                    assert_eq!(
                        planes.bits[i / 64 * d + j] >> (i % 64) & 1,
                        bit,
                        "d {d} sample {i} coordinate {j}"
                    );
                }
            }
        }
    }
}
