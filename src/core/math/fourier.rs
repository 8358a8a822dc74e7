//! The Walsh-Hadamard transform.

use std::ops::{Add, Sub};

/// Largest dimension of exact transforms: 2^24 values.
pub const MAX_DIMENSION: usize = 24;

/// Unnormalised Walsh-Hadamard transform, `out[T] = sum_x in[x] (-1)^popcount(x & T)`, in place. Applying it twice multiplies
/// by the length.
///
/// To share a long transform between threads, take [`butterfly`] of its halves and transform each half: the bits are the same.
///
/// # Panics
/// If the number of values is not a power of two.
pub fn walsh_hadamard<T: Copy + Add<Output = T> + Sub<Output = T>>(values: &mut [T]) {
    assert!(values.len().is_power_of_two(), "{} values are not a power of two", values.len());
    let mut half = values.len() / 2;
    while half > 0 {
        for pair in values.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            butterfly(a, b);
        }
        half /= 2;
    }
}

/// `(a, b)` becomes `(a + b, a - b)`, value by value.
#[inline]
pub fn butterfly<T: Copy + Add<Output = T> + Sub<Output = T>>(a: &mut [T], b: &mut [T]) {
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = (*a + *b, *a - *b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_its_definition_and_its_own_inverse() {
        let values: Vec<f64> = (0..32).map(|x| f64::from(x * 37 % 11)).collect();
        let mut fast = values.clone();
        walsh_hadamard(&mut fast);
        for (t, fast) in fast.iter().enumerate() {
            let sign = |x: usize| if (x & t).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            assert_eq!(*fast, values.iter().enumerate().map(|(x, v)| sign(x) * v).sum::<f64>());
        }
        walsh_hadamard(&mut fast);
        assert!(fast.iter().zip(&values).all(|(f, v)| *f == 32.0 * v));
    }
}
