//! Fourier analysis on the cube: exact spectra, closed forms and sampled correlations.
//!
//! Convention: subsets are bit masks (bit `j` set: coordinate `j` belongs to `T`), inputs too (bit `j` set:
//! `x_j = -1`), so `hat f(T) = 2^-d sum_x f(x) (-1)^popcount(x & T)`.

mod layer;
mod sampled;

use std::ops::{Add, Sub};

use curricle_core::math::fourier::{butterfly, walsh_hadamard};
use rayon::prelude::*;

pub(crate) use layer::phi;
pub use layer::{DegreeOne, SmallSupport, degree_one_clt, small_support_spectrum};
pub use sampled::{Correlation, Output, sampled_correlations};

use crate::error::{Result, TheoryError, out_of_range};
use crate::net::ReluNet;

/// Largest dimension of the exact transforms.
pub const MAX_DIMENSION: usize = curricle_core::math::fourier::MAX_DIMENSION;

/// Below this length a transform is done by one thread.
const SEQUENTIAL: usize = 1 << 14;

/// Unnormalised Walsh-Hadamard transform, `out[T] = sum_x in[x] (-1)^popcount(x & T)`, in place; parallel
/// above 2^14 values.
///
/// Length a power of two up to `2^24`. Applying it twice multiplies by the length.
pub fn walsh_hadamard_in_place(values: &mut [f64]) -> Result<()> {
    check_length(values.len())?;
    transform(values);
    Ok(())
}

/// As [`walsh_hadamard_in_place`], in single precision.
pub fn walsh_hadamard_in_place_f32(values: &mut [f32]) -> Result<()> {
    check_length(values.len())?;
    transform(values);
    Ok(())
}

/// All `2^d` Fourier coefficients of a function given by its values.
///
/// ```
/// // f(x) = x_0 x_1: values at masks 0b00, 0b01, 0b10, 0b11.
/// let coefficients = curricle_theory::fourier::spectrum(&[1.0, -1.0, -1.0, 1.0])?;
/// assert_eq!(coefficients, [0.0, 0.0, 0.0, 1.0]);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn spectrum(values: &[f64]) -> Result<Vec<f64>> {
    check_length(values.len())?;
    let mut out = values.to_vec();
    transform(&mut out);
    let scale = 1.0 / values.len() as f64;
    out.par_iter_mut().with_min_len(SEQUENTIAL).for_each(|v| *v *= scale);
    if out.par_iter().any(|v| !v.is_finite()) {
        return Err(TheoryError::NotFinite {
            what: "a Fourier coefficient",
            instead: "check the function's values",
        });
    }
    Ok(out)
}

/// Exact spectrum of a network's logit margin. Domain: `d <= 24`.
pub fn network_spectrum(net: &ReluNet) -> Result<Vec<f64>> {
    let d = net.dimension();
    if d > MAX_DIMENSION {
        return out_of_range(
            "d",
            d,
            format!("1..={MAX_DIMENSION}"),
            "sample the correlations, or use the closed forms",
        );
    }
    let all: Vec<usize> = (0..d).collect();
    spectrum(&values_on(net, &all))
}

/// Values of `net` at all sign patterns of `coordinates`, the other inputs contributing nothing.
fn values_on(net: &ReluNet, coordinates: &[usize]) -> Vec<f64> {
    let low = coordinates.len().min(12);
    // <w, x> splits into a part from the low bits and one from the high bits: two small tables per neuron.
    let table = |row: usize, coordinates: &[usize]| -> Vec<f64> {
        let mut sums = vec![coordinates.iter().map(|&j| net.hidden()[[row, j]]).sum::<f64>()];
        for &j in coordinates {
            let w = net.hidden()[[row, j]];
            let flipped: Vec<f64> = sums.iter().map(|s| s - 2.0 * w).collect();
            sums.extend(flipped);
        }
        sums
    };
    let tables: Vec<(Vec<f64>, Vec<f64>)> =
        (0..net.width()).map(|i| (table(i, &coordinates[..low]), table(i, &coordinates[low..]))).collect();
    let mut values = vec![net.output_bias(); 1 << coordinates.len()];
    values.par_chunks_mut(1 << low).enumerate().for_each(|(high, chunk)| {
        for (i, (lows, highs)) in tables.iter().enumerate() {
            let (shift, a) = (highs[high] + net.biases()[i], net.output()[i]);
            chunk.iter_mut().zip(lows).for_each(|(v, z)| *v += a * (z + shift).max(0.0));
        }
    });
    values
}

fn check_length(length: usize) -> Result<()> {
    if !length.is_power_of_two() || length > 1 << MAX_DIMENSION {
        return out_of_range(
            "number of values",
            length,
            format!("powers of two up to 2^{MAX_DIMENSION}"),
            "sample the correlations instead",
        );
    }
    Ok(())
}

fn transform<T: Copy + Send + Add<Output = T> + Sub<Output = T>>(values: &mut [T]) {
    if values.len() > SEQUENTIAL {
        let (a, b) = values.split_at_mut(values.len() / 2);
        a.par_chunks_mut(SEQUENTIAL).zip(b.par_chunks_mut(SEQUENTIAL)).for_each(|(a, b)| butterfly(a, b));
        rayon::join(|| transform(a), || transform(b));
        return;
    }
    walsh_hadamard(values);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::two_phase::{Problem, TeacherSpec, phase_one_teacher};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn transform_matches_its_definition(d in 0usize..8, seed in 0u64..100) {
            let values: Vec<f64> = (0..1u64 << d).map(|x| ((x * 37 + seed * 11) % 101) as f64 - 50.0).collect();
            let fast = spectrum(&values).unwrap();
            for (t, fast) in fast.iter().enumerate() {
                let slow: f64 = values.iter().enumerate().map(|(x, v)| if (x & t).count_ones() % 2 == 0 { *v } else { -v }).sum();
                prop_assert!((fast - slow / values.len() as f64).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn twenty_bits_in_under_a_second_and_the_inverse_restores() {
        let mut values: Vec<f64> =
            (0..1u64 << 20).map(|x| ((x.wrapping_mul(0x9e37_79b9) >> 7) % 17) as f64).collect();
        let single: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        let original = values.clone();
        let start = std::time::Instant::now();
        walsh_hadamard_in_place(&mut values).unwrap();
        assert!(start.elapsed().as_secs_f64() < 1.0);
        let mut small = single.clone();
        walsh_hadamard_in_place_f32(&mut small).unwrap();
        assert!((f64::from(small[77]) - values[77]).abs() < 4.0);
        walsh_hadamard_in_place(&mut values).unwrap();
        assert!(values.iter().zip(&original).all(|(v, o)| v / 1048576.0 == *o));
        assert!(walsh_hadamard_in_place(&mut [1.0; 3]).is_err());
    }

    #[test]
    fn the_four_ways_agree_where_they_overlap() {
        let problem = Problem::new(13, vec![1, 4, 6, 11]).unwrap();
        let net =
            phase_one_teacher(&problem, &TeacherSpec { width: 20, ..TeacherSpec::default() }, 3, 1).unwrap();
        let exact = network_spectrum(&net).unwrap();
        let spot: f64 = (0u32..1 << 13)
            .map(|x| {
                let point: Vec<f64> = (0..13).map(|j| if x >> j & 1 == 1 { -1.0 } else { 1.0 }).collect();
                net.evaluate(&point).unwrap() * point[4] * point[6] * point[11]
            })
            .sum();
        assert!((spot / 8192.0 - exact[1 << 4 | 1 << 6 | 1 << 11]).abs() < 1e-14);

        let clt = degree_one_clt(&net);
        for j in 0..13 {
            assert!((clt.coefficients[j] - exact[1 << j]).abs() <= clt.errors[j], "coordinate {j}");
        }

        let sampled = sampled_correlations(&net, &[1, 4, 6, 11, 12], 3, Output::Margin, 200_000, 5).unwrap();
        assert_eq!(sampled.len(), 5 + 10 + 10);
        let z = |c: &Correlation| {
            (c.estimate - exact[c.set.iter().map(|j| 1 << j).sum::<usize>()]) / c.standard_error
        };
        let chi: f64 = sampled.iter().map(|c| z(c).powi(2)).sum();
        assert!((5.0..60.0).contains(&chi), "25 squared standard scores sum to {chi}");

        let pruned = small_support_spectrum(&net, 0.5 * 0.125).unwrap();
        assert_eq!(pruned.coordinates, [1, 4, 6, 11]);
        let exact_pruned = network_spectrum(&net.pruned(0.5)).unwrap();
        for (mask, &c) in pruned.coefficients.iter().enumerate() {
            let full: usize = pruned.coordinates.iter().enumerate().map(|(i, j)| (mask >> i & 1) << j).sum();
            assert!(
                (c - exact_pruned[full]).abs() < 1e-14,
                "the restricted spectrum is that of the pruned net"
            );
            assert!((c - exact[full]).abs() <= pruned.error, "and close to the whole net's");
        }
    }
}
