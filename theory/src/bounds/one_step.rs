//! A lower line for the one-step learner itself.

use super::{Bound, Kind};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fourier::phi;
use crate::gradient::fourier_gap;
use crate::threshold::threshold_coefficient;

/// Berry-Esseen for identically distributed terms (Shevtsova 2011).
const BERRY_ESSEEN: f64 = 0.4748;

/// The one-step learner from labels cannot do with this many: at `samples` (and at every batch down to the
/// ingredient `from`) the event that a fraction `fraction` of the neurons ranks the support on top has
/// probability below `1 - delta`.
///
/// Ranking S on top means `|G_j| > |G_l|` for `j` in S and `l` outside, so it fails when the mean of
/// `X = y (s_j x_j - s_l x_l) 1[active]` is not positive, where `s` are the signs of the population means.
/// `X` is 0 or +-2, with mean `Delta` and variance `4 q - Delta^2`, `q = P(X != 0) >= (p - |hat g(2)|)/2`
/// (equality for the pairs that this uses; `hat g(2) = 0` for odd d). Berry-Esseen:
/// `P(fail) >= Phi(-Delta sqrt(B)/sigma) - 0.4748 rho/(sigma^3 sqrt(B))`. A fraction f of right neurons with
/// probability above `1 - delta` needs an expected share of right neurons above `f (1 - delta)`, so it fails
/// as long as the left side exceeds `1 - f (1 - delta)`. One pair of coordinates of `k (d-k)` is looked at,
/// hence a constant (about 5) below what is measured; the order is `d^(k-1)`.
///
/// ```
/// let line = curricle_theory::bounds::one_step_labels(41, 4, 0.9, 0.1)?;
/// assert!(line.samples > 1e5 && line.samples < 4e6); // measured: 4.0e6; Fano: 14
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn one_step_labels(d: usize, k: usize, fraction: f64, delta: f64) -> Result<Bound> {
    check_unit("delta", delta)?;
    if k >= d {
        return Err(TheoryError::SupportSize { k, d });
    }
    if !(fraction > 0.0 && fraction <= 1.0) {
        return out_of_range("fraction", fraction, "(0, 1]", "0.9 is usual");
    }
    // The less active side of the bias has the smaller variance, hence the smaller (valid for every neuron)
    // line.
    let gap = fourier_gap(d, k, -0.5)?;
    let mean = gap.gap;
    if mean <= 0.0 {
        return Err(TheoryError::NoGap {
            of: "labels",
            gap: mean,
            instead: "levels k-1 and k+1 are equally large at these sizes; raise d",
        });
    }
    let second = if d > 1 { threshold_coefficient(d, -0.5, 2)?.abs() } else { 0.0 };
    let share = (gap.activity - second) / 2.0;
    let sd = (4.0 * share - mean * mean).sqrt();
    // E|X - Delta|^3 with |X| = 2 on a share q.
    let third = share * (2.0 + mean).powi(3) + (1.0 - share) * mean.powi(3);
    let allowed = 1.0 - fraction * (1.0 - delta);
    let fails = |batch: f64| {
        phi(-mean * batch.sqrt() / sd) - BERRY_ESSEEN * third / (sd.powi(3) * batch.sqrt()) > allowed
    };
    let ratio = (sd / mean).powi(2);
    // The first term alone crosses below ratio * z^2 with z <= 40; the second decides from which batch on the
    // line says anything.
    let grid = |i: i32| ratio * 2f64.powf(-f64::from(i) / 8.0) * 1600.0;
    if !grid(-1).is_finite() {
        return Err(TheoryError::NotFinite {
            what: "the lower line",
            instead: "the gap is so small that the batch leaves the range of 64-bit numbers; use a smaller k",
        });
    }
    let (mut low, mut high, mut from) = (1.0, 1.0, 1.0);
    // Where the normal approximation says nothing about so few samples the line is the trivial one.
    if let Some(top) = (0..800).find(|&i| fails(grid(i))) {
        (low, high) = (grid(top), grid(top - 1));
        from = (top..1600).take_while(|&i| fails(grid(i))).last().map_or(low, grid);
    }
    while high / low > 1.0001 {
        let middle = low.sqrt() * high.sqrt();
        if fails(middle) { low = middle } else { high = middle }
    }
    Bound::new(
        "one_step_labels",
        Kind::Lower,
        "the one-step learner from labels, one pair (inside, outside): fails while Phi(-Delta sqrt(B)/sigma) - 0.4748 rho/(sigma^3 sqrt(B)) > 1 - f (1-delta)",
        low,
        &[("Delta", mean), ("sigma", sd), ("from", from), ("fraction", fraction), ("delta", delta)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{GradientStatistics, predicted_batch, statistical_query};

    #[test]
    fn within_a_constant_of_the_prediction_with_the_order_of_labels() {
        let at = |d| one_step_labels(d, 4, 0.9, 0.1).unwrap().samples;
        for d in [15, 41, 101] {
            let predicted =
                predicted_batch(&GradientStatistics::labels(d, 4, 0.5).unwrap(), 0.9).unwrap().samples;
            let ratio = predicted / at(d);
            assert!((2.0..40.0).contains(&ratio), "d {d}: {ratio}");
            assert!(at(d) > 100.0 * statistical_query(d, 4, 32, 0.1).unwrap().samples);
        }
        let slope = (at(401) / at(101)).ln() / (401f64 / 101.0).ln();
        assert!((slope - 3.0).abs() < 0.1, "{slope}");
        assert!(one_step_labels(40, 3, 0.9, 0.1).unwrap().samples > 100.0);
        assert!(one_step_labels(7, 4, 0.9, 0.1).is_err());
        // Too few samples for a normal approximation: the trivial line, no error.
        assert_eq!(one_step_labels(9, 2, 0.9, 0.1).unwrap().samples, 1.0);
    }
}
