//! The heavy tail: how often a phase-one teacher lets a student recover the support at all.
//!
//! A mirrored phase-one teacher of width `m` has `hat f({j}) = (2/m) sum_{i <= m/2} c(b_i) eps_ij` with signs `eps_ij = chi_S(w_i) w_ij`, fair and (for even
//! k) independent: a random walk. Its smallest value over the support has positive density at 0 ("anti-concentration"), so the batch a
//! student needs, which goes like `1/min^2`, has a tail of index 1/2: no finite mean. On top, coordinates outside the support carry the same walk
//! scaled by `|c_out/c_in|`, about `(k-1)/(d-k)`, and when their largest exceeds the smallest inside, no batch helps. Both scale with
//! `m^(-1/2)`, so neither depends on the width. Proofs: README, section 4.

use rand::Rng;
use serde::Serialize;

use crate::bounds::GradientStatistics;
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fourier::phi;
use crate::gradient::fourier_gap;
use crate::two_phase::bias_grid;
use crate::two_phase::samples::{Stream, generator};

/// The exact law of a phase-one teacher's degree-one correlations (d odd; for even d ties make the student's gradient differ slightly).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignSumModel {
    /// Dimension.
    pub d: usize,
    /// Support size.
    pub k: usize,
    /// Teacher width m.
    pub width: usize,
    /// `sd(hat f({j}))` for j in the support: `(2 E[c_in(b)^2] / m)^(1/2)`.
    pub sd_inside: f64,
    /// The same outside.
    pub sd_outside: f64,
    /// `E[f^2]`, averaged over teachers: `E[h_b(u)^2] / (2m)`.
    pub mean_square: f64,
    /// `sup |f|` is at most this: `sum_i |a_i| (|w_i|_1 + |b_i|)`, averaged over the bias grid.
    pub sup: f64,
    /// Size of an outside weight over that of an inside one.
    pub weight_ratio: f64,
    #[serde(skip)]
    steps: Vec<Step>,
}

/// Per bias of the grid.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    inside: f64,
    outside: f64,
    slope: f64,
}

/// How often recovery succeeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoveryPrediction {
    /// `P(success)` at `max_batch`, by drawing sign sums and the normal model of the student's noise.
    pub success: f64,
    /// Its Monte Carlo standard error.
    pub standard_error: f64,
    /// `P(gap > 0)`: success with infinitely many student samples (same draws).
    pub limit: f64,
    /// The same by the normal approximation, `P(min_k |N(0,1)| > max_{d-k} |N(0, r^2)|)`, `r = sd_outside/sd_inside` (population teachers only).
    pub normal_limit: Option<f64>,
    /// Student batch.
    pub max_batch: u64,
    /// Fraction of neurons asked for.
    pub fraction: f64,
    /// Teachers drawn.
    pub draws: u64,
}

impl SignSumModel {
    /// Sums over the exact binomial laws of the inside and outside parts of `<w, x>`. Domain: as [`fourier_gap`], `k < d <= 4096`, width even.
    pub fn new(d: usize, k: usize, width: usize) -> Result<Self> {
        let gap = fourier_gap(d, k, 0.5)?;
        if k == d {
            return Err(TheoryError::SupportSize { k, d });
        }
        if d > 4096 {
            return out_of_range(
                "d",
                d,
                "up to 4096",
                "the outside weights are then negligible: r is (k-1)/(d-k)",
            );
        }
        if width == 0 || width % 2 == 1 || width > 1 << 20 {
            return out_of_range(
                "width",
                width,
                "the even numbers from 2 to 2^20",
                "mirrored neurons come in pairs",
            );
        }
        let ratio = gap.outside / gap.inside;
        let unit = 1.0 / (2.0 * k as f64);
        let (pin, pout) = (binomial_law(k), binomial_law(d - k));
        let at = |n: usize, c: usize| n as f64 - 2.0 * c as f64;
        let grid = bias_grid(k);
        let (mut steps, mut square, mut bias) = (Vec::new(), 0.0, 0.0);
        for &b in &grid {
            let mut step = Step { inside: 0.0, outside: 0.0, slope: 0.0 };
            for (a, pa) in pin.iter().enumerate() {
                for (c, pc) in pout.iter().enumerate() {
                    let u = unit * (at(k, a) + ratio * at(d - k, c));
                    let (p, plus, minus) = (pa * pc, (u + b).max(0.0), (b - u).max(0.0));
                    step.inside += p * plus * at(k, a) / k as f64;
                    step.outside += p * plus * at(d - k, c) / (d - k) as f64;
                    step.slope += if u + b > 0.0 { p } else { 0.0 };
                    square += p * (plus - minus).powi(2);
                }
            }
            bias += b.abs();
            steps.push(step);
        }
        let n = grid.len() as f64;
        let sd = |of: &dyn Fn(&Step) -> f64| {
            (2.0 * steps.iter().map(|s| of(s).powi(2)).sum::<f64>() / n / width as f64).sqrt()
        };
        Ok(Self {
            d,
            k,
            width,
            sd_inside: sd(&|s| s.inside),
            sd_outside: sd(&|s| s.outside),
            mean_square: square / n / (2.0 * width as f64),
            sup: unit * (k as f64 + ratio * (d - k) as f64) + bias / n,
            weight_ratio: ratio,
            steps,
        })
    }

    /// `P(min_{j in S} |hat f({j})| < threshold)` by the central limit theorem, `1 - (2(1 - Phi(t/s)))^k`, and a bound on its error
    /// (Berry-Esseen, `k * 2 * 0.4748 rho/(s_1^3 sqrt(m/2))`, at most 1). Near 0 it is `k t sqrt(2/pi)/s`: linear, hence the heavy tail.
    pub fn min_below(&self, threshold: f64) -> Result<(f64, f64)> {
        if !(threshold >= 0.0 && threshold.is_finite()) {
            return out_of_range("threshold", threshold, "[0, inf)", "give a correlation");
        }
        let one = 2.0 * (1.0 - phi(threshold / self.sd_inside));
        let n = self.steps.len() as f64;
        let second = self.steps.iter().map(|s| s.inside.powi(2)).sum::<f64>() / n;
        let third = self.steps.iter().map(|s| s.inside.abs().powi(3)).sum::<f64>() / n;
        let error =
            self.k as f64 * 2.0 * 0.4748 * third / (second.powf(1.5) * (self.width as f64 / 2.0).sqrt());
        Ok((1.0 - one.powi(self.k as i32), error.min(1.0)))
    }

    /// Medians of the smallest `|hat f({j})|` inside and the largest outside, in the normal approximation.
    pub fn typical_extremes(&self) -> (f64, f64) {
        let (k, rest) = (self.k as f64, (self.d - self.k) as f64);
        (
            self.sd_inside * half_normal_quantile(1.0 - 0.5f64.powf(1.0 / k)),
            self.sd_outside * half_normal_quantile(0.5f64.powf(1.0 / rest)),
        )
    }

    /// `P(min inside > max outside)` in the normal approximation, by quadrature.
    pub fn normal_limit(&self) -> f64 {
        let r = self.sd_outside / self.sd_inside;
        if r == 0.0 {
            return 1.0;
        }
        let (k, rest) = (self.k as i32, (self.d - self.k) as i32);
        const STEPS: usize = 2000;
        let top = 8.0;
        let mut previous = 1.0;
        let mut total = 0.0;
        for i in 1..=STEPS {
            let t = top * i as f64 / STEPS as f64;
            let survive = (2.0 * (1.0 - phi(t))).powi(k);
            let middle = t - 0.5 * top / STEPS as f64;
            total += (previous - survive) * (2.0 * phi(middle / r) - 1.0).powi(rest);
            previous = survive;
        }
        total
    }

    /// One teacher's correlations: its signs and biases are drawn as in the algorithm; a finite teacher batch adds, to every weight, noise that is
    /// half common to all neurons (the activity is 1/2 plus an odd part), so it enters every correlation *coherently*.
    pub fn draw(&self, teacher_batch: Option<u64>, seed: u64, index: u64) -> Vec<f64> {
        let (d, k, pairs) = (self.d, self.k, self.width / 2);
        let mut rng = generator(seed, index, Stream::SignSums, 0);
        let mut sums = vec![0.0; d];
        let mut slopes = (0.0, 0.0);
        let mut signs = vec![0u64; d.div_ceil(64)];
        for _ in 0..pairs {
            signs.iter_mut().for_each(|w| *w = rng.next_u64());
            let bit = |j: usize| signs[j / 64] >> (j % 64) & 1;
            let character = (0..k).map(bit).sum::<u64>() & 1;
            let step = &self.steps[(rng.next_u64() % self.steps.len() as u64) as usize];
            for (j, sum) in sums.iter_mut().enumerate() {
                let size = if j < k { step.inside } else { step.outside };
                *sum += if bit(j) ^ character == 0 { size } else { -size };
            }
            slopes.0 += step.slope;
            slopes.1 += step.slope * step.slope;
        }
        if let Some(batch) = teacher_batch {
            // Weight noise per unit of in-support weight 1/(2k); a fraction p of the samples is active, p = 1/2 = common 1/4 + own 1/4.
            let inside = fourier_gap(d, k, 0.5).map_or(f64::INFINITY, |g| g.inside);
            let noise = 1.0 / (2.0 * (batch as f64).sqrt() * inside * 2.0 * k as f64);
            let spread = (slopes.0 * slopes.0 + slopes.1).sqrt() * noise;
            sums.iter_mut().for_each(|s| *s += spread * normal(&mut rng));
        }
        sums.iter_mut().for_each(|s| *s /= pairs as f64);
        sums
    }

    /// Predicted fraction of teachers from which `fraction` of the student's neurons recovers the support with `max_batch` samples.
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
        if self.d.is_multiple_of(2) {
            return out_of_range(
                "d",
                self.d,
                "the odd numbers",
                "with even d ties add even levels to the student's gradient; measure it",
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
            let statistics = GradientStatistics::odd_teacher(&correlations, &support, square, self.sup)?;
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
}

/// `C(n, c) / 2^n` for `c = 0..=n`, through logarithms; deep tails become 0.
fn binomial_law(n: usize) -> Vec<f64> {
    let mut ln = -(n as f64) * std::f64::consts::LN_2;
    (0..=n)
        .map(|c| {
            if c > 0 {
                ln += ((n - c + 1) as f64 / c as f64).ln();
            }
            ln.exp()
        })
        .collect()
}

/// `t` with `P(|N(0,1)| <= t) = p`.
fn half_normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if 1.0 - 2.0 * phi(-middle) < p { low = middle } else { high = middle }
    }
    low
}

/// Box-Muller.
fn normal(rng: &mut impl Rng) -> f64 {
    let unit = |v: u64| ((v >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (u, v) = (unit(rng.next_u64()), unit(rng.next_u64()));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fourier::network_spectrum;
    use crate::measure::{Criterion, Experiment, GrowthSpec, RecoveryLog, Source, quiet, recovery_batches};
    use crate::two_phase::{Problem, TeacherSpec, phase_one_teacher};

    #[test]
    fn moments_match_teachers_whose_spectra_are_exact() {
        let (d, k, m) = (11, 4, 32);
        let model = SignSumModel::new(d, k, m).unwrap();
        let problem = Problem::first(d, k).unwrap();
        let spec = TeacherSpec { width: m, ..TeacherSpec::default() };
        let (mut inside, mut outside, mut square) = (0.0, 0.0, 0.0);
        let teachers = 300;
        for index in 0..teachers {
            let net = phase_one_teacher(&problem, &spec, 8, index).unwrap();
            let f = network_spectrum(&net).unwrap();
            inside += (0..k).map(|j| f[1 << j].powi(2)).sum::<f64>() / k as f64;
            outside += (k..d).map(|j| f[1 << j].powi(2)).sum::<f64>() / (d - k) as f64;
            square += f.iter().map(|v| v * v).sum::<f64>();
            assert!(
                f.iter().enumerate().filter(|(t, _)| t.count_ones() % 2 == 0).all(|(_, v)| v.abs() < 1e-15),
                "odd"
            );
            assert!(net.sup_bound() < 1.5 * model.sup);
        }
        let n = teachers as f64;
        for (measured, predicted) in [
            (inside / n, model.sd_inside.powi(2)),
            (outside / n, model.sd_outside.powi(2)),
            (square / n, model.mean_square),
        ] {
            assert!((measured / predicted - 1.0).abs() < 0.1, "{measured} against {predicted}");
        }
    }

    #[test]
    fn anti_concentration_formula_matches_draws() {
        let model = SignSumModel::new(41, 4, 128).unwrap();
        for t in [0.1, 0.4, 1.0] {
            let (p, error) = model.min_below(t * model.sd_inside).unwrap();
            let draws = 2000;
            let hits = (0..draws)
                .filter(|&i| model.draw(None, 2, i)[..4].iter().any(|c| c.abs() < t * model.sd_inside))
                .count();
            let noise = 4.0 * (p * (1.0 - p) / draws as f64).sqrt();
            assert!(
                (hits as f64 / draws as f64 - p).abs() < noise + 0.1 * error,
                "t {t}: {hits} of {draws}, predicted {p}"
            );
        }
    }

    #[test]
    fn predicted_recovery_matches_measured() {
        for (d, batch) in [(15, None), (41, None), (29, Some(100 * 29u64.pow(3)))] {
            let spec = TeacherSpec { batch, ..TeacherSpec::default() };
            let predicted =
                SignSumModel::new(d, 4, spec.width).unwrap().predict(20_000, 0.9, batch, 400, 1).unwrap();
            let source = Source::PhaseOne { teacher: spec, fixed: None };
            let e = Experiment {
                problem: Problem::first(d, 4).unwrap(),
                source,
                neurons: 16,
                criterion: Criterion::Neurons(0.9),
                seed: 4,
            };
            let growth = GrowthSpec {
                trials: 50,
                max_batch: 20_000,
                factor: 1.5,
                start: 256,
                ..GrowthSpec::default()
            };
            let found = recovery_batches(&e, growth, &mut RecoveryLog::default(), &quiet).unwrap();
            let measured = 1.0 - found.failures as f64 / 50.0;
            let sd = (predicted.success * (1.0 - predicted.success) / 50.0).sqrt();
            assert!(
                (measured - predicted.success).abs() < 3.5 * sd + 0.03,
                "d {d}: measured {measured}, predicted {predicted:?}"
            );
        }
    }
}
