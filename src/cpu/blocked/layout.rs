//! Where the numbers lie: tiles of 16 neurons, neuron ranges, aligned storage on huge pages.

use crate::simd::{LANES, Lanes};
use curricle_core::model::mlp::{Layer, MlpParams};
use ndarray::{Array1, Array2};
use std::ops::Range;

/// Storage of cache-line rows. Large ones ask the system for huge pages, because a pass over W at width 50,000 would
/// otherwise miss the address-translation cache all the time.
pub fn lanes(count: usize) -> Vec<Lanes> {
    let mut storage: Vec<Lanes> = Vec::with_capacity(count);
    #[cfg(target_os = "linux")]
    if count * size_of::<Lanes>() >= 4 << 20 {
        unsafe extern "C" {
            fn madvise(address: *mut std::ffi::c_void, length: usize, advice: i32) -> i32;
        }
        const MADV_HUGEPAGE: i32 = 14;
        const PAGE: usize = 4096;
        let start = (storage.as_mut_ptr() as usize).next_multiple_of(PAGE);
        let end = (storage.as_mut_ptr() as usize + count * size_of::<Lanes>()) / PAGE * PAGE;
        // SAFETY: whole pages inside an allocation of ours; the advice changes no contents, and failure is harmless.
        unsafe { madvise(start as *mut std::ffi::c_void, end - start, MADV_HUGEPAGE) };
    }
    storage.resize(count, Lanes::ZERO);
    storage
}

/// Number of neuron ranges: a power of two that depends on the width alone. Sums over neurons are taken within a range
/// and then over the ranges in order, so they do not depend on how many threads share the ranges.
pub fn ranges(tiles: usize) -> usize {
    let fit = (tiles / 24).clamp(1, 16);
    1 << fit.ilog2()
}

/// Tiles of range r of `count`.
pub fn range(tiles: usize, count: usize, r: usize) -> Range<usize> {
    tiles * r / count..tiles * (r + 1) / count
}

/// First-layer weights and biases in tiles: `[tile][d + 1][16]`, row d holding the biases; and second-layer weights
/// `[tile][C][16]`. Lanes past the last neuron are zero and stay zero: their preactivation is never positive.
#[derive(Debug, Clone)]
pub struct Tiled {
    pub d: usize,
    pub width: usize,
    pub classes: usize,
    pub tiles: usize,
    pub first: Vec<Lanes>,
    pub second: Vec<Lanes>,
    /// Second-layer biases, [C].
    pub bias: Vec<f32>,
}

impl Tiled {
    pub fn new(params: &MlpParams) -> Self {
        let [hidden, output] = params.layers.as_slice() else { panic!("one hidden layer is needed") };
        let (width, d) = hidden.weight.dim();
        let classes = output.weight.nrows();
        let tiles = width.div_ceil(LANES);
        let mut first = lanes(tiles * (d + 1));
        let mut second = lanes(tiles * classes);
        for i in 0..width {
            let (tile, lane) = (i / LANES, i % LANES);
            let rows = &mut first[tile * (d + 1)..(tile + 1) * (d + 1)];
            for (row, w) in rows.iter_mut().zip(hidden.weight.row(i)) {
                row.0[lane] = *w;
            }
            rows[d].0[lane] = hidden.bias[i];
            for c in 0..classes {
                second[tile * classes + c].0[lane] = output.weight[[c, i]];
            }
        }
        Self { d, width, classes, tiles, first, second, bias: output.bias.to_vec() }
    }

    pub fn to_params(&self) -> MlpParams {
        let row = |i: usize, j: usize| self.first[i / LANES * (self.d + 1) + j].0[i % LANES];
        let hidden = Layer {
            weight: Array2::from_shape_fn([self.width, self.d], |(i, j)| row(i, j)),
            bias: Array1::from_shape_fn(self.width, |i| row(i, self.d)),
        };
        let output = Layer {
            weight: Array2::from_shape_fn([self.classes, self.width], |(c, i)| {
                self.second[i / LANES * self.classes + c].0[i % LANES]
            }),
            bias: Array1::from_vec(self.bias.clone()),
        };
        MlpParams { layers: vec![hidden, output] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::model::mlp::{MlpInit, MlpShape};

    #[test]
    fn tiling_is_lossless() {
        for (d, width, classes) in [(1, 1, 2), (5, 16, 3), (33, 50, 8)] {
            let shape = MlpShape { d, hidden: vec![width], classes };
            let params = MlpParams::new(&shape, MlpInit::Pytorch, 3);
            assert_eq!(Tiled::new(&params).to_params(), params);
        }
    }

    #[test]
    fn ranges_cover_all_tiles_in_order() {
        for tiles in [1, 2, 7, 63, 125, 3125, 40_000] {
            let count = ranges(tiles);
            let mut next = 0;
            for r in 0..count {
                let tiles = range(tiles, count, r);
                assert_eq!(tiles.start, next);
                assert!(!tiles.is_empty());
                next = tiles.end;
            }
            assert_eq!(next, tiles);
        }
    }
}
