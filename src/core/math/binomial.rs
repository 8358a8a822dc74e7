//! Intervals of binomial proportions.

use statrs::function::beta::checked_beta_reg;

/// Clopper-Pearson interval `[low, high]` of a binomial proportion: the ends solve
/// `P(Bin(n, low) >= s) = (1-c)/2 = P(Bin(n, high) <= s)`.
///
/// The tail is the regularised incomplete beta function, inverted by bisection (tested against direct binomial sums;
/// statrs' `Beta::cdf` was wrong at parameters above about `1e6`, hence the limit of `1e6` trials).
///
/// `None` unless `successes <= trials`, `1 <= trials <= 1e6` and `0 < confidence < 1`.
///
/// ```
/// let [low, high] = curricle_core::math::clopper_pearson(8, 10, 0.95).unwrap();
/// assert!((low - 0.4439).abs() < 1e-4 && (high - 0.9748).abs() < 1e-4);
/// ```
pub fn clopper_pearson(successes: u64, trials: u64, confidence: f64) -> Option<[f64; 2]> {
    if trials == 0 || trials > 1_000_000 || successes > trials || !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0;
    let (s, n) = (successes as f64, trials as f64);
    // P(Bin(n,p) >= s) = I_p(s, n-s+1), increasing in p.
    let low = if successes == 0 {
        0.0
    } else {
        invert(|p| checked_beta_reg(s, n - s + 1.0, p).unwrap_or(f64::NAN) - tail)?
    };
    let high = if successes == trials {
        1.0
    } else {
        invert(|p| checked_beta_reg(s + 1.0, n - s, p).unwrap_or(f64::NAN) - (1.0 - tail))?
    };
    Some([low, high])
}

/// Up to so many trials sums are as cheap as the incomplete beta function, and at p = 1/2 exact.
const SUMMED: u64 = 50;

/// P(Binomial(n, p) <= k), for n up to a million; NaN unless 0 <= p <= 1.
pub fn at_most(k: u64, n: u64, p: f64) -> f64 {
    match k {
        _ if k >= n => 1.0,
        _ if n <= SUMMED => terms(n, p).take(k as usize + 1).sum(),
        _ => checked_beta_reg((n - k) as f64, (k + 1) as f64, 1.0 - p).unwrap_or(f64::NAN),
    }
}

/// P(Binomial(n, p) >= k), for n up to a million; NaN unless 0 <= p <= 1.
pub fn at_least(k: u64, n: u64, p: f64) -> f64 {
    match k {
        0 => 1.0,
        _ if k > n => 0.0,
        _ if n <= SUMMED => terms(n, p).skip(k as usize).sum(),
        _ => checked_beta_reg(k as f64, (n - k + 1) as f64, p).unwrap_or(f64::NAN),
    }
}

/// P(Binomial(n, p) = i) for i from 0 to n.
fn terms(n: u64, p: f64) -> impl Iterator<Item = f64> {
    let mut choose = 1.0;
    (0..=n).map(move |i| {
        if i > 0 {
            choose = choose * (n - i + 1) as f64 / i as f64;
        }
        choose * p.powi(i as i32) * (1.0 - p).powi((n - i) as i32)
    })
}

fn invert(increasing: impl Fn(f64) -> f64) -> Option<f64> {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        let value = increasing(middle);
        if value.is_nan() {
            return None;
        }
        if value < 0.0 { low = middle } else { high = middle }
    }
    Some(0.5 * (low + high))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P(Bin(n,p) >= s), summed in logarithms: independent of the incomplete beta function.
    fn upper_tail(n: u64, p: f64, s: u64) -> f64 {
        let mut ln_c = 0.0;
        let mut total = 0.0;
        for t in 0..=n {
            if t > 0 {
                ln_c += ((n - t + 1) as f64).ln() - (t as f64).ln();
            }
            if t >= s {
                total += (ln_c + t as f64 * p.ln() + (n - t) as f64 * (-p).ln_1p()).exp();
            }
        }
        total
    }

    #[test]
    fn clopper_pearson_solves_its_equations() {
        for (s, n) in [(1, 7), (57, 61), (400, 1000), (99_900, 100_000)] {
            let [low, high] = clopper_pearson(s, n, 0.9).unwrap();
            assert!((upper_tail(n, low, s) - 0.05).abs() < 1e-7, "{s}/{n} low {low}");
            assert!((upper_tail(n, high, s + 1) - 0.95).abs() < 1e-7, "{s}/{n} high {high}");
        }
        assert_eq!(clopper_pearson(0, 5, 0.9).unwrap()[0], 0.0);
        assert_eq!(clopper_pearson(5, 5, 0.9).unwrap()[1], 1.0);
        assert!(clopper_pearson(6, 5, 0.9).is_none() && clopper_pearson(0, 0, 0.9).is_none());
    }

    #[test]
    fn tails_are_the_sums_they_stand_for() {
        for (k, n, p) in [(0, 5, 0.5), (2, 9, 0.5), (57, 61, 0.9), (400, 1000, 0.37)] {
            assert!((at_least(k, n, p) - upper_tail(n, p, k)).abs() < 1e-9, "{k} of {n}");
            assert!((at_most(k, n, p) - (1.0 - upper_tail(n, p, k + 1))).abs() < 1e-9, "{k} of {n}");
        }
        assert_eq!((at_most(5, 5, 0.3), at_least(0, 5, 0.3), at_least(6, 5, 0.3)), (1.0, 1.0, 0.0));
        // All of 8 at a bound of 1: certain if the proportion is 1.
        assert_eq!((at_least(8, 8, 1.0), at_most(7, 8, 1.0)), (1.0, 0.0));
        // Sums of powers of two are exact.
        assert_eq!(
            (at_most(0, 1, 0.5), at_most(1, 8, 0.5), at_least(7, 8, 0.5)),
            (0.5, 9.0 / 256.0, 9.0 / 256.0)
        );
    }
}
