//! How often recovery succeeds.

use rayon::prelude::*;
use serde::Serialize;

use super::SignSumModel;
use crate::bounds::GradientStatistics;
use crate::error::{Result, check_unit, out_of_range};
use crate::two_phase::samples::{Stream, generator};

/// How often recovery succeeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoveryPrediction {
    /// `P(success)` at `max_batch`, by drawing sign sums and the normal model of the student's noise.
    pub success: f64,
    /// Its Monte Carlo standard error.
    pub standard_error: f64,
    /// `P(gap > 0)`: success with infinitely many student samples (same draws).
    pub limit: f64,
    /// The same by the normal approximation, `P(min_k |N(0,1)| > max_{d-k} |N(0, r^2)|)`,
    /// `r = sd_outside/sd_inside` (population teachers only).
    pub normal_limit: Option<f64>,
    /// Student batch.
    pub max_batch: u64,
    /// Fraction of neurons asked for.
    pub fraction: f64,
    /// Teachers drawn.
    pub draws: u64,
}

impl SignSumModel {
    /// Predicted fraction of teachers from which `fraction` of the student's neurons recovers the support
    /// with `max_batch` samples.
    ///
    ///
    /// For even d the ties' share of the student's gradient is left out: to first order it scales all
    /// coordinates of a neuron alike, the rest is of relative order `d^(-3/2)`.
    ///
    /// ```
    /// let model = curricle_theory::recovery::SignSumModel::new(15, 4, 64)?;
    /// let p = model.predict(100_000, 0.9, None, 300, 1)?;
    /// assert!(p.success < 0.3); // measured: 8 of 61 teachers
    /// # Ok::<(), curricle_theory::TheoryError>(())
    /// ```
    pub fn predict(
        &self,
        max_batch: u64,
        fraction: f64,
        teacher_batch: Option<u64>,
        draws: u64,
        seed: u64,
    ) -> Result<RecoveryPrediction> {
        check_unit("fraction", fraction)?;
        if draws == 0 || draws > 1_000_000 || max_batch == 0 || teacher_batch == Some(0) {
            return out_of_range(
                "draws",
                draws,
                "1..=1000000, with positive batches",
                "1000 draws give a standard error below 0.016",
            );
        }
        let support: Vec<usize> = (0..self.k).collect();
        let linear =
            self.k as f64 * self.sd_inside.powi(2) + (self.d - self.k) as f64 * self.sd_outside.powi(2);
        let remainder = (self.mean_square - linear).max(0.0);
        let (mut good, mut gaps) = (0u64, 0u64);
        for index in 0..draws {
            let correlations = self.draw(teacher_batch, seed, index);
            let square = remainder + correlations.iter().map(|c| c * c).sum::<f64>();
            let statistics = GradientStatistics::shared(&correlations, &support, square, self.sup);
            let gap = statistics.neurons[0].gap();
            gaps += u64::from(gap > 0.0);
            good += u64::from(crate::bounds::ranking_probability(&statistics, max_batch as f64) >= fraction);
        }
        let success = good as f64 / draws as f64;
        Ok(RecoveryPrediction {
            success,
            standard_error: (success * (1.0 - success) / draws as f64).sqrt(),
            limit: gaps as f64 / draws as f64,
            normal_limit: teacher_batch.is_none().then(|| self.normal_limit()),
            max_batch,
            fraction,
            draws,
        })
    }

    /// A number that `min_{j in S} |hat f({j})|` exceeds with probability at least `1 - delta` over
    /// population teachers: an order statistic of exact draws, a confidence limit at 99% for the quantile
    /// (`P(Bin(n, delta) < rank) <= 0.01`).
    pub fn inside_with(&self, delta: f64, seed: u64) -> Result<f64> {
        check_unit("delta", delta)?;
        let cost = (self.width / 2 * self.k) as u64;
        let draws = (400_000_000 / cost).clamp(2_000, 40_000);
        let mut minima: Vec<f64> = (0..draws)
            .into_par_iter()
            .map(|index| self.draw_minimum(&mut generator(seed, index, Stream::SignSums, 1)))
            .collect();
        minima.sort_by(f64::total_cmp);
        Ok(match confident_rank(draws, delta) {
            0 => 0.0,
            rank => minima[rank - 1],
        })
    }
}

/// Largest r with `P(Bin(n, p) < r) <= 0.01`; 0 when even r = 1 fails.
fn confident_rank(n: u64, p: f64) -> usize {
    let mut ln = n as f64 * (-p).ln_1p();
    let mut total = 0.0;
    for r in 0..n {
        total += ln.exp();
        if total > 0.01 {
            return r as usize;
        }
        ln += ((n - r) as f64 / (r + 1) as f64).ln() + (p / (1.0 - p)).ln();
    }
    n as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confident_rank_covers() {
        // P(Bin(100, 0.1) < r): .0003 at 2, .0078 at 4, .0237 at 5.
        assert_eq!(confident_rank(100, 0.1), 4);
        assert_eq!(confident_rank(10, 0.1), 0);
    }

    #[test]
    fn the_quantile_of_the_minimum_is_the_anti_concentration_law() {
        let model = SignSumModel::new(41, 4, 256).unwrap();
        for delta in [0.05, 0.2] {
            let low = model.inside_with(delta, 3).unwrap();
            let (p, error) = model.min_below(low).unwrap();
            assert!(p < delta + 0.1 * error && p > 0.8 * delta, "{p} for {delta}");
        }
    }
}
