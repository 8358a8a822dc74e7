//! All 2^d Fourier coefficients of a statistic at once.

use rayon::prelude::*;

/// Largest d of an exact spectrum: 2^24 numbers, 128 MiB.
pub const MAX_EXACT_D: usize = 24;

/// In-place Walsh-Hadamard transform: `values[t]` becomes the sum over x of `values[x]` (-1)^popcount(x & t).
///
/// With bit j of x set where x_j = -1, entry t over 2^d is hat f(T) of the set T with the bits of t. Parallel; each
/// butterfly is computed once, so the result does not depend on the number of threads.
///
/// // replaced at merge by `curricle_theory::fourier::walsh_hadamard_in_place`
///
/// # Panics
/// If the length is not a power of two.
pub fn walsh_hadamard_in_place(values: &mut [f64]) {
    /// Values transformed while in cache.
    const NEAR: usize = 1 << 13;
    assert!(values.len().is_power_of_two());
    let near = values.len().min(NEAR);
    values.par_chunks_mut(near).for_each(|part| {
        let mut half = 1;
        while half < part.len() {
            for pair in part.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                butterfly(low, high);
            }
            half *= 2;
        }
    });
    let mut half = near;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            low.par_chunks_mut(NEAR).zip(high.par_chunks_mut(NEAR)).for_each(|(l, h)| butterfly(l, h));
        }
        half *= 2;
    }
}

fn butterfly(low: &mut [f64], high: &mut [f64]) {
    for (l, h) in low.iter_mut().zip(high) {
        (*l, *h) = (*l + *h, *l - *h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transform_matches_the_definition() {
        for log in [0, 1, 5] {
            let n = 1usize << log;
            let values: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 17) as f64 - 8.0).collect();
            let mut fast = values.clone();
            walsh_hadamard_in_place(&mut fast);
            for (t, found) in fast.iter().enumerate() {
                let slow: f64 =
                    (0..n).map(|x| if (x & t).count_ones() % 2 == 1 { -values[x] } else { values[x] }).sum();
                assert_eq!(*found, slow);
            }
        }
    }

    #[test]
    fn twice_is_the_identity_times_the_length() {
        let values: Vec<f64> = (0..1 << 15).map(|i| f64::from(i * 7919 % 1009)).collect();
        let mut twice = values.clone();
        walsh_hadamard_in_place(&mut twice);
        walsh_hadamard_in_place(&mut twice);
        assert!(values.iter().zip(&twice).all(|(v, t)| v * 32768.0 == *t));
    }
}
