//! Fits in log-log coordinates and binomial intervals.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::error::{Result, TheoryError, check_unit, out_of_range};

/// A two-sided confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// `y = constant * x^slope`, fitted by least squares on logarithms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PowerLaw {
    /// Exponent.
    pub slope: f64,
    /// t-interval of the exponent (needs three points; `None` with two).
    pub slope_interval: Option<Interval>,
    /// Factor in front.
    pub constant: f64,
    /// t-interval of the factor.
    pub constant_interval: Option<Interval>,
    /// Residual standard deviation of `ln y`.
    pub residual: f64,
    /// Number of points.
    pub points: usize,
    /// Confidence of the intervals.
    pub confidence: f64,
}

/// Log-log least squares with t-intervals, `n - 2` degrees of freedom.
///
/// Domain: at least two points with two different positive `x` and positive `y`.
///
/// ```
/// let fit = curricle_theory::fit::power_law(&[(10.0, 1e3), (20.0, 8.1e3), (40.0, 6.3e4)], 0.95)?;
/// assert!((fit.slope - 3.0).abs() < 0.05);
/// assert!(fit.slope_interval.unwrap().high > fit.slope);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn power_law(points: &[(f64, f64)], confidence: f64) -> Result<PowerLaw> {
    check_unit("confidence", confidence)?;
    let (slope, intercept) = ordinary(points)?;
    let n = points.len() as f64;
    let mean = points.iter().map(|p| p.0.ln()).sum::<f64>() / n;
    let sxx: f64 = points.iter().map(|p| (p.0.ln() - mean).powi(2)).sum();
    let rss: f64 = points.iter().map(|p| (p.1.ln() - intercept - slope * p.0.ln()).powi(2)).sum();
    let freedom = n - 2.0;
    let (mut slope_interval, mut constant_interval, mut residual) = (None, None, 0.0);
    if points.len() > 2 {
        residual = (rss / freedom).sqrt();
        let t = StudentsT::new(0.0, 1.0, freedom)
            .map_err(|e| TheoryError::Linalg(e.to_string()))?
            .inverse_cdf(0.5 + confidence / 2.0);
        let half = t * residual / sxx.sqrt();
        slope_interval = Some(Interval { low: slope - half, high: slope + half });
        let half = t * residual * (1.0 / n + mean * mean / sxx).sqrt();
        let ends = Interval { low: (intercept - half).exp(), high: (intercept + half).exp() };
        constant_interval = ends.high.is_finite().then_some(ends);
    }
    Ok(PowerLaw {
        slope,
        slope_interval,
        constant: crate::error::finite("the fitted constant", intercept.exp())?,
        constant_interval,
        residual,
        points: points.len(),
        confidence,
    })
}

/// The factor `c` in `measured = c * order`, with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FittedConstant {
    /// Geometric mean of `measured / order`.
    pub constant: f64,
    /// t-interval on the logarithms; `None` with a single point.
    pub interval: Option<Interval>,
}

/// Fits the constant of a known order of growth to pairs `(order, measured)`.
pub fn fitted_constant(points: &[(f64, f64)], confidence: f64) -> Result<FittedConstant> {
    check_unit("confidence", confidence)?;
    let positive = |v: f64| v > 0.0 && v.is_finite();
    if points.is_empty() || points.iter().any(|p| !positive(p.0) || !positive(p.1)) {
        return out_of_range(
            "points",
            format!("{points:?}"),
            "at least one pair of positive finite numbers",
            "drop the points that were not reached",
        );
    }
    let logs: Vec<f64> = points.iter().map(|p| p.1.ln() - p.0.ln()).collect();
    let n = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / n;
    let mut interval = None;
    if logs.len() > 1 {
        let sd = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let t = StudentsT::new(0.0, 1.0, n - 1.0)
            .map_err(|e| TheoryError::Linalg(e.to_string()))?
            .inverse_cdf(0.5 + confidence / 2.0);
        let half = t * sd / n.sqrt();
        let ends = Interval { low: (mean - half).exp(), high: (mean + half).exp() };
        interval = ends.high.is_finite().then_some(ends);
    }
    Ok(FittedConstant { constant: crate::error::finite("the fitted constant", mean.exp())?, interval })
}

/// Percentile bootstrap of the slope: per `x`, resample the seeds' values with replacement, take the median,
/// fit; `resamples` times.
///
/// Use it when each `x` has several seeds: it sees the spread between seeds, which the t-interval over few
/// points does not.
pub fn bootstrap_slope(
    groups: &[(f64, Vec<f64>)],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Result<Interval> {
    check_unit("confidence", confidence)?;
    if resamples < 20 || groups.iter().any(|g| g.1.is_empty()) {
        return out_of_range(
            "resamples",
            resamples,
            "20.. with a value for every x",
            "raise it, or drop the empty groups",
        );
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut slopes = Vec::with_capacity(resamples);
    let mut draw = Vec::new();
    for _ in 0..resamples {
        let mut points = Vec::with_capacity(groups.len());
        for (x, values) in groups {
            draw.clear();
            draw.extend((0..values.len()).map(|_| values[(rng.next_u64() % values.len() as u64) as usize]));
            points.push((*x, median(&mut draw)));
        }
        slopes.push(ordinary(&points)?.0);
    }
    slopes.sort_by(f64::total_cmp);
    let at = |q: f64| slopes[((q * (resamples - 1) as f64).round() as usize).min(resamples - 1)];
    Ok(Interval { low: at((1.0 - confidence) / 2.0), high: at((1.0 + confidence) / 2.0) })
}

/// Clopper-Pearson interval for a binomial proportion: ends solve
/// `P(Bin(n, low) >= s) = (1-c)/2 = P(Bin(n, high) <= s)`.
///
/// [`curricle_core::math::clopper_pearson`], with errors that say what to do.
///
/// ```
/// let i = curricle_theory::fit::clopper_pearson(8, 10, 0.95)?;
/// assert!((i.low - 0.4439).abs() < 1e-4 && (i.high - 0.9748).abs() < 1e-4);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn clopper_pearson(successes: u64, trials: u64, confidence: f64) -> Result<Interval> {
    check_unit("confidence", confidence)?;
    if trials == 0 || trials > 1_000_000 || successes > trials {
        return out_of_range(
            "successes/trials",
            format!("{successes}/{trials}"),
            "0 <= successes <= trials, 1 <= trials <= 1e6",
            "split the trials",
        );
    }
    let [low, high] = curricle_core::math::clopper_pearson(successes, trials, confidence).ok_or(
        TheoryError::NotFinite { what: "the incomplete beta function", instead: "use fewer trials" },
    )?;
    Ok(Interval { low, high })
}

/// Median of a non-empty slice (mean of the middle two for even lengths); sorts in place.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n % 2 == 1 { values[n / 2] } else { 0.5 * (values[n / 2 - 1] + values[n / 2]) }
}

fn ordinary(points: &[(f64, f64)]) -> Result<(f64, f64)> {
    if points.iter().any(|p| !(p.0 > 0.0 && p.1 > 0.0 && p.0.is_finite() && p.1.is_finite())) {
        return out_of_range(
            "points",
            format!("{points:?}"),
            "positive finite numbers",
            "a log-log fit has no logarithm of zero; drop such points",
        );
    }
    let n = points.len() as f64;
    let (mx, my) =
        (points.iter().map(|p| p.0.ln()).sum::<f64>() / n, points.iter().map(|p| p.1.ln()).sum::<f64>() / n);
    let sxx: f64 = points.iter().map(|p| (p.0.ln() - mx).powi(2)).sum();
    if points.len() < 2 || sxx <= 0.0 {
        return out_of_range(
            "points",
            points.len(),
            "at least two different x",
            "measure at more values of d",
        );
    }
    let sxy: f64 = points.iter().map(|p| (p.0.ln() - mx) * (p.1.ln() - my)).sum();
    let slope = sxy / sxx;
    Ok((slope, my - slope * mx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_cannot_be_are_refused() {
        assert!(clopper_pearson(6, 5, 0.9).is_err() && clopper_pearson(0, 0, 0.9).is_err());
        assert!(clopper_pearson(1, 5, 1.5).is_err());
    }

    #[test]
    fn slope_interval_covers_at_its_confidence() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut covered = 0;
        for _ in 0..400 {
            // Sum of 12 uniforms minus 6: close to normal noise.
            let mut noise = || (0..12).map(|_| rng.next_u64() as f64 / u64::MAX as f64).sum::<f64>() - 6.0;
            let points: Vec<_> = [15.0f64, 21.0, 29.0, 41.0, 57.0]
                .iter()
                .map(|&d| (d, 7.0 * d.powi(3) * (0.1 * noise()).exp()))
                .collect();
            let i = power_law(&points, 0.9).unwrap().slope_interval.unwrap();
            covered += usize::from(i.low <= 3.0 && 3.0 <= i.high);
        }
        assert!((340..=380).contains(&covered), "{covered} of 400 at 90%");
    }

    #[test]
    fn bootstrap_brackets_the_truth_and_bad_points_are_refused() {
        let groups: Vec<(f64, Vec<f64>)> = [10.0f64, 20.0, 40.0]
            .iter()
            .map(|&x| (x, (0..15).map(|i| x * x * (0.9 + 0.0133 * i as f64)).collect()))
            .collect();
        let i = bootstrap_slope(&groups, 200, 0.95, 1).unwrap();
        assert!(i.low < 2.0 && 2.0 < i.high && i.high - i.low < 0.3, "{i:?}");
        assert!(power_law(&[(1.0, 0.0), (2.0, 1.0)], 0.95).is_err());
        assert!(power_law(&[(2.0, 3.0), (2.0, 1.0)], 0.95).is_err());
    }
}
