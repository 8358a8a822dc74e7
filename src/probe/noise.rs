//! What correlations look like when there is nothing to find.

use statrs::function::erf::erfc;

/// E max |Z_i| over `count` independent standard normals: the largest correlation, in units of the noise floor, that
/// `count` monomials without any true correlation show.
///
/// Computed as the integral over t >= 0 of 1 - (2 Phi(t) - 1)^count by Simpson's rule; absolute error below 1e-6 for
/// counts up to 10^9. 0 for no monomial; sqrt(2/pi) for one.
pub fn expected_max(count: usize) -> f64 {
    if count == 0 {
        return 0.0;
    }
    const STEPS: usize = 4000;
    const END: f64 = 12.0;
    let h = END / STEPS as f64;
    let tail = |i: usize| {
        let within = -erfc(i as f64 * h / std::f64::consts::SQRT_2);
        -(count as f64 * within.ln_1p()).exp_m1()
    };
    let inner: f64 = (1..STEPS).map(|i| tail(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    (tail(0) + inner + tail(STEPS)) * h / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_maxima_match_known_values() {
        let pi = std::f64::consts::PI;
        assert_eq!(expected_max(0), 0.0);
        assert!((expected_max(1) - (2.0 / pi).sqrt()).abs() < 1e-6);
        // E max(|Z1|, |Z2|) = 2 / sqrt(pi).
        assert!((expected_max(2) - 2.0 / pi.sqrt()).abs() < 1e-6, "{}", expected_max(2));
        // The median of the maximum solves (2 Phi(t) - 1)^n = 1/2; the mean lies a little above it.
        assert!((2.6..2.9).contains(&expected_max(100)), "{}", expected_max(100));
        assert!((4.7..5.2).contains(&expected_max(1_000_000)));
    }
}
