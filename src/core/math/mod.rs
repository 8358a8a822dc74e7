//! Small mathematics that several packages need.

pub mod binomial;
pub mod fourier;
pub mod order;

pub use binomial::clopper_pearson;

/// Index of the largest number, the first of equals; `None` if there is a NaN.
#[inline]
pub fn argmax(row: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if v.is_nan() {
            return None;
        }
        if *v > row[best] {
            best = i;
        }
    }
    Some(best)
}

/// Fraction of rows of `logits` [n, C] whose largest entry is the label's; of equal logits the lowest class counts, and a row
/// with a NaN is never right. NaN without labels.
pub fn accuracy(logits: &[f32], classes: usize, labels: &[u8]) -> f64 {
    let right = logits
        .chunks_exact(classes)
        .zip(labels)
        .filter(|(row, label)| argmax(row) == Some(usize::from(**label)))
        .count();
    right as f64 / labels.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_takes_the_first_of_equals_and_refuses_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[-1.0, -1.0]), Some(0));
        assert_eq!(argmax(&[f32::NAN, 1.0]), None);
        assert_eq!(argmax(&[1.0, f32::NAN]), None);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 2]), Some(0));
    }
}
