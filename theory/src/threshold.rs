//! Fourier coefficients of threshold functions and of majority.
//!
//! For `g_b(x) = 1[x_1 + .. + x_d + b >= 0]` on `{-1,+1}^d` and `T = floor((d+b)/2)` (the largest number of
//! `-1`s allowed), the coefficient at any set of size `s >= 1` is `2^-d K_T(s-1; d-1)` with the Krawtchouk
//! number `K_T(s; n) = [z^T] (1-z)^s (1+z)^(n-s)`, and the mean is `2^-d sum_{t <= T} C(d,t)`. Source:
//! O'Donnell, *Analysis of Boolean Functions*, ch. 5; proof in this crate's README, section 1.
//!
//! Everything is computed in exact big integers with the three-term recurrence in `s`
//! `(n-s) K_T(s+1) = (n-2T) K_T(s) - s K_T(s-1)` and rounded once, so cancellation cannot happen.

use std::ops::RangeInclusive;

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};
use serde::Serialize;

use crate::error::{Result, TheoryError, out_of_range};

/// Largest dimension of the exact method.
pub const MAX_DIMENSION: usize = 100_001;

/// A number too small for `f64`, as sign and natural logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScaledValue {
    /// -1 or +1.
    pub sign: i8,
    /// `ln |value|`.
    pub ln_abs: f64,
}

/// The coefficient of a threshold function at one level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThresholdLevel {
    /// Size `s` of the set.
    pub level: usize,
    /// `hat g_b(s)`, correctly rounded; `None` when it is below the smallest normal `f64` (then see
    /// `scaled`).
    pub coefficient: Option<f64>,
    /// `zeta_s = hat Maj(s)` where defined: d odd and |b| < 1 (and representable).
    pub majority: Option<f64>,
    /// The coefficient as a fraction in lowest terms, such as `-3/2^9`; present when asked for
    /// ([`exact_levels`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<String>,
    /// Sign and logarithm of the coefficient, present only when it does not fit in `f64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaled: Option<ScaledValue>,
}

/// Coefficients of one threshold function at a range of levels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThresholdTable {
    /// Dimension.
    pub d: usize,
    /// Bias.
    pub bias: f64,
    /// One entry per level, ascending.
    pub levels: Vec<ThresholdLevel>,
}

/// `hat g_b(s)` for every `s` in `levels`, exact up to one rounding.
///
/// Domain: `1 <= d <= 100_001`, any finite bias, levels within `0..=d`.
/// Errors: [`TheoryError::OutOfRange`], [`TheoryError::NotFinite`].
///
/// ```
/// let table = curricle_theory::threshold::threshold_levels(101, 0.0, 0..=3)?;
/// assert_eq!(table.levels[0].coefficient, Some(0.5));
/// let zeta_3 = table.levels[3].majority.unwrap();
/// assert!((zeta_3 + 8.03932e-4).abs() < 1e-9);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn threshold_levels(d: usize, bias: f64, levels: RangeInclusive<usize>) -> Result<ThresholdTable> {
    table(d, bias, levels, false)
}

/// As [`threshold_levels`], with every coefficient as an exact fraction (of up to d binary digits).
///
/// ```
/// let table = curricle_theory::threshold::exact_levels(5, 0.0, 0..=3)?;
/// let exact: Vec<&str> = table.levels.iter().map(|l| l.exact.as_deref().unwrap()).collect();
/// assert_eq!(exact, ["1/2^1", "3/2^4", "0", "-1/2^4"]);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn exact_levels(d: usize, bias: f64, levels: RangeInclusive<usize>) -> Result<ThresholdTable> {
    table(d, bias, levels, true)
}

fn table(d: usize, bias: f64, levels: RangeInclusive<usize>, exact: bool) -> Result<ThresholdTable> {
    if d == 0 || d > MAX_DIMENSION {
        return out_of_range(
            "d",
            d,
            format!("1..={MAX_DIMENSION}"),
            "exact integers get slow beyond; majority's closed form (d odd, |b| < 1) in the library has no such limit",
        );
    }
    if !bias.is_finite() {
        return Err(TheoryError::NotFinite { what: "bias", instead: "give a finite number" });
    }
    if levels.is_empty() || *levels.end() > d {
        return out_of_range(
            "levels",
            format!("{}..={}", levels.start(), levels.end()),
            format!("0..={d}"),
            "a set has between 0 and d elements",
        );
    }
    let allowed = largest_count(d, bias);
    let majority_defined = d % 2 == 1 && bias.abs() < 1.0;
    let mut out = Vec::new();
    let mut push = |level: usize, numerator: &BigInt| {
        let (coefficient, scaled) = round_scaled(numerator, d);
        let majority = match (majority_defined, level) {
            (false, _) => None,
            (true, 0) => Some(0.0),
            (true, _) => coefficient.map(|c| 2.0 * c),
        };
        let exact = exact.then(|| fraction(numerator, d));
        out.push(ThresholdLevel { level, coefficient, majority, exact, scaled });
    };
    if levels.contains(&0) {
        push(0, &mean_numerator(d, allowed));
    }
    if *levels.end() >= 1 {
        let n = d - 1;
        let mut previous = BigInt::zero();
        let mut current = allowed.filter(|&t| t <= n).map_or_else(BigInt::zero, |t| binomial(n, t));
        let slope = BigInt::from(n as i64 - 2 * allowed.unwrap_or(0) as i64);
        for s in 0..*levels.end() {
            if levels.contains(&(s + 1)) {
                push(s + 1, &current);
            }
            if s < n {
                let next = (&current * &slope - &previous * BigInt::from(s)) / BigInt::from(n - s);
                previous = std::mem::replace(&mut current, next);
            }
        }
    }
    Ok(ThresholdTable { d, bias, levels: out })
}

/// `hat g_b(level)` alone; an error when it underflows `f64`.
///
/// ```
/// use curricle_theory::threshold::threshold_coefficient;
/// assert_eq!(threshold_coefficient(3, 0.0, 1)?, 0.25);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn threshold_coefficient(d: usize, bias: f64, level: usize) -> Result<f64> {
    let table = threshold_levels(d, bias, level..=level)?;
    table.levels[0].coefficient.ok_or(TheoryError::OutOfRange {
        what: "level",
        value: level.to_string(),
        allowed: "the levels whose coefficient is at least 2.3e-308".into(),
        instead: "`theory threshold` prints its sign and logarithm",
    })
}

/// `zeta_s`, the coefficient of majority of `d` (odd) bits at level `s`: 0 for even `s`, else
/// `(-1)^((s-1)/2) C((d-1)/2,(s-1)/2) / C(d-1,s-1) 2^(1-d) C(d-1,(d-1)/2)`.
///
/// Computed as `zeta_1 = prod_{i <= (d-1)/2} (2i-1)/(2i)` and `zeta_{s+2} = -zeta_s s/(d-s-1)`, in products
/// of ratios (relative error about `sqrt(d)` roundings, at most `1e-13` for `d <= 10^5`); no limit on `d` but
/// time.
///
/// ```
/// assert_eq!(curricle_theory::threshold::majority_coefficient(5, 3)?, -0.125);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn majority_coefficient(d: usize, level: usize) -> Result<f64> {
    if d.is_multiple_of(2) {
        return out_of_range(
            "d",
            d,
            "the odd numbers",
            "majority of an even number of bits has ties; use the threshold coefficients",
        );
    }
    if level > d {
        return out_of_range("level", level, format!("0..={d}"), "a set has between 0 and d elements");
    }
    if level.is_multiple_of(2) {
        return Ok(0.0);
    }
    let mut zeta: f64 = (1..=(d - 1) / 2).map(|i| (2 * i - 1) as f64 / (2 * i) as f64).product();
    for s in (1..level).step_by(2) {
        zeta *= -(s as f64) / (d - s - 1) as f64;
    }
    if zeta.abs() < f64::MIN_POSITIVE {
        return out_of_range(
            "level",
            level,
            "the levels whose coefficient is at least 2.3e-308",
            "`theory threshold` prints sign and logarithm",
        );
    }
    Ok(zeta)
}

/// Largest number of `-1`s for which the neuron is active, or `None` when it never is.
/// `floor((d+b)/2) = floor((d + floor(b))/2)`, which stays exact for biases far below `d`'s rounding unit.
pub(crate) fn largest_count(d: usize, bias: f64) -> Option<usize> {
    let floor = bias.floor().clamp(-1e15, 1e15) as i64;
    let t = (d as i64 + floor).div_euclid(2);
    usize::try_from(t).ok().map(|t| t.min(d))
}

fn binomial(n: usize, t: usize) -> BigInt {
    let mut c = BigInt::one();
    for i in 0..t.min(n - t) {
        c *= n - i;
        c /= i + 1;
    }
    c
}

fn mean_numerator(d: usize, allowed: Option<usize>) -> BigInt {
    let mut total = BigInt::zero();
    let mut term = BigInt::one();
    for t in 0..=allowed.map_or(-1, |t| t as i64) {
        total += &term;
        term *= d - t as usize;
        term /= t + 1;
    }
    total
}

/// `numerator / 2^d` in lowest terms.
fn fraction(numerator: &BigInt, d: usize) -> String {
    let Some(twos) = numerator.trailing_zeros() else { return "0".to_owned() };
    let common = twos.min(d as u64);
    match d as u64 - common {
        0 => (numerator >> common).to_string(),
        power => format!("{}/2^{power}", numerator >> common),
    }
}

/// `numerator / 2^d`, rounded once.
fn round_scaled(numerator: &BigInt, d: usize) -> (Option<f64>, Option<ScaledValue>) {
    if numerator.is_zero() {
        return (Some(0.0), None);
    }
    let magnitude = numerator.abs();
    let bits = magnitude.bits();
    let shift = bits.saturating_sub(64);
    // At most 64 bits are left, so the conversion cannot fail; the truncation is below 2^-63 relative.
    let top = (&magnitude >> shift).to_u64().unwrap_or(u64::MAX) as f64;
    let exponent = shift as i64 - d as i64;
    let sign = if numerator.is_negative() { -1 } else { 1 };
    // |value| = top * 2^exponent lies in [2^(bits-1-d), 2^(bits-d)).
    if bits as i64 - 1 - (d as i64) < -1022 {
        let ln_abs = top.ln() + exponent as f64 * std::f64::consts::LN_2;
        return (None, Some(ScaledValue { sign, ln_abs }));
    }
    let half = (exponent / 2) as i32;
    let value = top * 2f64.powi(half) * 2f64.powi(exponent as i32 - half);
    (Some(f64::from(sign) * value), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enumerated(d: usize, bias: f64, set: u32) -> f64 {
        let total: i64 = (0u32..1 << d)
            .filter(|x| d as f64 - 2.0 * f64::from(x.count_ones()) + bias >= 0.0)
            .map(|x| 1 - 2 * i64::from((x & set).count_ones() % 2))
            .sum();
        total as f64 / f64::from(1u32 << d)
    }

    #[test]
    fn every_level_matches_enumeration() {
        for d in 1..=9 {
            for bias in [-3.2, -1.0, -1e-17, 0.0, 0.4, 2.0, 40.0, -40.0] {
                let table = threshold_levels(d, bias, 0..=d).unwrap();
                for level in table.levels {
                    let want = if bias == -1e-17 {
                        enumerated(d, -0.5, (1 << level.level) - 1)
                    } else {
                        enumerated(d, bias, (1 << level.level) - 1)
                    };
                    assert_eq!(level.coefficient, Some(want), "d {d} bias {bias} level {}", level.level);
                }
            }
        }
    }

    /// Independent of the recurrence: the alternating sum itself, in exact integers.
    fn alternating_sum(d: usize, t: usize, level: usize) -> BigInt {
        let (s, n) = (level - 1, d - 1);
        (0..=s.min(t))
            .filter(|&j| t - j <= n - s)
            .map(|j| {
                let term = binomial(s, j) * binomial(n - s, t - j);
                if j % 2 == 0 { term } else { -term }
            })
            .sum()
    }

    #[test]
    fn d_10001_matches_exact_integers_and_the_product_form() {
        let d = 10_001;
        for bias in [0.0, 0.9, -37.5] {
            let t = largest_count(d, bias).unwrap();
            let table = threshold_levels(d, bias, 0..=40).unwrap();
            for level in [1, 2, 3, 4, 7, 12, 39] {
                let exact = round_scaled(&alternating_sum(d, t, level), d).0.unwrap();
                let got = table.levels[level].coefficient.unwrap();
                assert!((got - exact).abs() <= 1e-15 * exact.abs(), "level {level}: {got} against {exact}");
                if bias.abs() < 1.0 {
                    let zeta = majority_coefficient(d, level).unwrap();
                    assert!(
                        (2.0 * got - zeta).abs() <= 1e-12 * zeta.abs(),
                        "zeta {level}: {zeta} against {}",
                        2.0 * got
                    );
                }
            }
        }
        let deep = &threshold_levels(d, 0.0, 401..=401).unwrap().levels[0];
        assert_eq!(deep.coefficient, None);
        let exact = round_scaled(&alternating_sum(d, 5000, 401), d).1.unwrap();
        assert_eq!(deep.scaled.unwrap(), exact);
    }

    #[test]
    fn published_values_at_101() {
        for (level, value, digit) in
            [(1, 0.0795892, 1e-7), (3, -8.03932e-4, 1e-9), (5, 2.48639e-5, 1e-10), (7, -1.30862e-6, 1e-11)]
        {
            let zeta = threshold_levels(101, 0.0, level..=level).unwrap().levels[0].majority.unwrap();
            assert!((zeta - value).abs() < digit, "zeta_{level} = {zeta}");
        }
    }

    #[test]
    fn bad_input_is_named() {
        assert!(threshold_levels(0, 0.0, 0..=0).is_err());
        assert!(threshold_levels(5, f64::NAN, 0..=1).is_err());
        let message = threshold_levels(5, 0.0, 0..=6).unwrap_err().to_string();
        assert!(message.contains("0..=5"), "{message}");
        assert!(threshold_levels(200_000, 0.0, 0..=1).unwrap_err().to_string().contains("closed form"));
        assert!(majority_coefficient(100, 1).is_err());
    }
}
