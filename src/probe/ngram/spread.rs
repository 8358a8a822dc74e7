//! Quantiles of measurements.

/// Quantiles of a list of values, by linear interpolation between order statistics.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// 10% quantile.
    pub q10: f64,
    /// Lower quartile.
    pub q25: f64,
    /// Median.
    pub median: f64,
    /// Upper quartile.
    pub q75: f64,
    /// 90% quantile.
    pub q90: f64,
}

impl Spread {
    /// The spread of values; `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let quantile = |q: f64| {
            let at = q * last as f64;
            let low = at.floor() as usize;
            sorted[low] + (at - low as f64) * (sorted[(low + 1).min(last)] - sorted[low])
        };
        Some(Self {
            count: sorted.len(),
            mean: sorted.iter().sum::<f64>() / sorted.len() as f64,
            q10: quantile(0.1),
            q25: quantile(0.25),
            median: quantile(0.5),
            q75: quantile(0.75),
            q90: quantile(0.9),
        })
    }

    /// The spread of the halved values: of total variation, given that of L1 distances.
    pub fn halved(&self) -> Self {
        let Self { count, mean, q10, q25, median, q75, q90 } = *self;
        Self {
            count,
            mean: mean / 2.0,
            q10: q10 / 2.0,
            q25: q25 / 2.0,
            median: median / 2.0,
            q75: q75 / 2.0,
            q90: q90 / 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        let spread = Spread::of([3.0, 1.0, 2.0, 4.0, 5.0]).unwrap();
        assert_eq!((spread.median, spread.q25, spread.q90, spread.mean), (3.0, 2.0, 4.6, 3.0));
        assert_eq!(Spread::of([]), None);
    }
}
