//! The exact law of a phase-one teacher's degree-one correlations, and what it says about size and supremum
//! of its output.

use rand::Rng;
use serde::Serialize;

use super::{binomial_law, half_normal_quantile, normal};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fourier::phi;
use crate::gradient::fourier_gap;
use crate::threshold::MAX_DIMENSION;
use crate::two_phase::bias_grid;
use crate::two_phase::samples::{Stream, generator};

/// Population phase-one teachers of one size, all of them at once.
///
/// `f = (1/m) sum_{i <= m/2} h_i`, `h_i = relu(u_i + b_i) - relu(-u_i + b_i)`, `u_i = sum_j w_ij x_j`, with
/// signs `eps_ij = s(b_i) chi_S(w_i) w_ij`; `s(b) = -1` for `b < 0` when k is odd and d even (the coefficient
/// at an even level changes its sign with the side of the tie), else +1. For even k the signs are independent
/// and fair. For odd k their product over S is `s(b_i)`, so every `E h_i` is the same multiple of `chi_S` and
/// the sum keeps it at any width: [`coherent`](Self::coherent).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignSumModel {
    /// Dimension.
    pub d: usize,
    /// Support size.
    pub k: usize,
    /// Teacher width m.
    pub width: usize,
    /// Are the weights outside the support set to zero?
    pub pruned: bool,
    /// `sd(hat f({j}))` for j in the support: `(2 E[c_in(b)^2] / m)^(1/2)`.
    pub sd_inside: f64,
    /// The same outside.
    pub sd_outside: f64,
    /// `E hat f(S)`, which does not fall with the width: 0 for even k, `E_b[s(b) hat h_b(S)]/2` for odd k.
    pub coherent: f64,
    /// `E[f^2]`, averaged over teachers: `E[h^2]/(2m) + coherent^2 (1 - 2/m)`.
    pub mean_square: f64,
    /// Bound on the *expected* supremum, `|coherent| + c |w|_1 (E L_b^2/(2m))^(1/2)`, see
    /// [`sup_with`](Self::sup_with).
    pub sup: f64,
    /// Size of an outside weight over that of an inside one.
    pub weight_ratio: f64,
    /// `max_b (E h_b^2)^(1/2)`.
    largest_neuron: f64,
    #[serde(skip)]
    pub(super) steps: Vec<Step>,
}

/// Per bias of the grid.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// `s(b) E[relu(u+b) x_1]`, in and outside the support.
    pub inside: f64,
    pub outside: f64,
    /// `P(u + b > 0)`.
    pub slope: f64,
}

/// Outcomes of binomials rarer than this are left out of the sums.
const NEGLIGIBLE: f64 = 1e-24;

impl SignSumModel {
    /// Sums over the exact binomial laws of the inside and outside parts of `<w, x>`.
    /// Domain: as [`fourier_gap`], `2 <= k < d <= 100_001`, even width up to 2^20.
    pub fn new(d: usize, k: usize, width: usize) -> Result<Self> {
        Self::build(d, k, width, false)
    }

    /// The same teachers with the weights outside the support set to zero: the repair that removes the
    /// outside walks.
    pub fn pruned(d: usize, k: usize, width: usize) -> Result<Self> {
        Self::build(d, k, width, true)
    }

    fn build(d: usize, k: usize, width: usize, pruned: bool) -> Result<Self> {
        let gap = fourier_gap(d, k, 0.5)?;
        if k == d {
            return Err(TheoryError::SupportSize { k, d });
        }
        if k == 1 {
            return out_of_range(
                "k",
                k,
                "2..",
                "with one coordinate all signs agree and every teacher works alike; nothing is random",
            );
        }
        if d > MAX_DIMENSION {
            return out_of_range(
                "d",
                d,
                format!("up to {MAX_DIMENSION}"),
                "the outside weights are negligible there",
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
        let ratio = if pruned { 0.0 } else { gap.outside / gap.inside };
        let outside = if pruned { 0 } else { d - k };
        let unit = 1.0 / (2.0 * k as f64);
        let kept = |n: usize| -> Vec<(f64, f64)> {
            let at = |c: usize| n as f64 - 2.0 * c as f64;
            let law = binomial_law(n).into_iter().enumerate();
            law.filter(|(_, p)| *p > NEGLIGIBLE).map(|(c, p)| (at(c), p)).collect()
        };
        let (pin, pout) = (kept(k), kept(outside));
        let grid = bias_grid(k);
        let flips = k % 2 == 1 && d.is_multiple_of(2);
        let (mut steps, mut square, mut largest, mut coherent) = (Vec::new(), 0.0, 0.0f64, 0.0);
        for &b in &grid {
            let sign = if flips && b < 0.0 { -1.0 } else { 1.0 };
            let mut step = Step { inside: 0.0, outside: 0.0, slope: 0.0 };
            let (mut own, mut at_support) = (0.0, 0.0);
            for (a, pa) in &pin {
                // chi_S of a pattern with sum a over k coordinates: (-1)^(number of -1s).
                let minuses = ((k as f64 - a) / 2.0).round() as u64;
                let character = if minuses.is_multiple_of(2) { 1.0 } else { -1.0 };
                for (c, pc) in &pout {
                    let u = unit * (a + ratio * c);
                    let (p, plus, minus) = (pa * pc, (u + b).max(0.0), (b - u).max(0.0));
                    step.inside += p * plus * a / k as f64;
                    if outside > 0 {
                        step.outside += p * plus * c / outside as f64;
                    }
                    step.slope += if u + b > 0.0 { p } else { 0.0 };
                    own += p * (plus - minus).powi(2);
                    at_support += p * (plus - minus) * character;
                }
            }
            step.inside *= sign;
            step.outside *= sign;
            if k % 2 == 1 {
                coherent += sign * at_support / (2.0 * grid.len() as f64);
            }
            square += own;
            largest = largest.max(own);
            steps.push(step);
        }
        let (n, m) = (grid.len() as f64, width as f64);
        let sd = |of: &dyn Fn(&Step) -> f64| {
            (2.0 * steps.iter().map(|s| of(s).powi(2)).sum::<f64>() / n / m).sqrt()
        };
        let mut model = Self {
            d,
            k,
            width,
            pruned,
            sd_inside: sd(&|s| s.inside),
            sd_outside: sd(&|s| s.outside),
            coherent,
            mean_square: square / n / (2.0 * m) + coherent * coherent * (1.0 - 2.0 / m),
            sup: 0.0,
            weight_ratio: ratio,
            largest_neuron: largest.sqrt(),
            steps,
        };
        model.sup = model.expected_sup();
        Ok(model)
    }

    /// `|w_i|_1`, the largest `|u_i|`.
    fn reach(&self) -> f64 {
        let outside = if self.pruned { 0.0 } else { self.weight_ratio * (self.d - self.k) as f64 };
        (self.k as f64 + outside) / (2.0 * self.k as f64)
    }

    /// `(1/m) (m/2) max |h|`: no teacher exceeds it.
    fn certain_sup(&self) -> f64 {
        (self.reach() + 1.0) / 2.0
    }

    /// Contraction: `h_b` has slopes at most `L_b = 2` (b > 0) or 1 and `h_b(0) = 0`, so with Rademacher
    /// signs `E sup_x |sum_i sigma_i h_i(x)| <= E sup_x sum_i sigma_i L_i u_i(x) = E |sum_i sigma_i L_i
    /// w_i|_1 <= |w|_1 (sum L_i^2)^(1/2)`. For even k the signs are there already; for odd k symmetrising the
    /// centred sum costs a factor 2.
    fn expected_sup(&self) -> f64 {
        let factor = if self.k.is_multiple_of(2) { 1.0 } else { 2.0 };
        let walk = factor * self.reach() * (2.5 / (2.0 * self.width as f64)).sqrt();
        (self.coherent.abs() + walk).min(self.certain_sup())
    }

    /// `sup_x |f(x)|` is at most this with probability `1 - delta` over teachers. McDiarmid: redrawing one
    /// neuron changes the supremum by at most `2 (|w|_1 + 1)/m`.
    pub fn sup_with(&self, delta: f64) -> Result<f64> {
        check_unit("delta", delta)?;
        let deviation = (self.reach() + 1.0) * ((1.0 / delta).ln() / self.width as f64).sqrt();
        Ok((self.expected_sup() + deviation).min(self.certain_sup()))
    }

    /// `E_x[f^2]` is at most this with probability `1 - delta` over teachers: McDiarmid for the norm,
    /// `|f|_2 <= (E|f|_2^2)^(1/2) + max_b |h_b|_2 (ln(1/delta)/m)^(1/2)`.
    pub fn mean_square_with(&self, delta: f64) -> Result<f64> {
        check_unit("delta", delta)?;
        let deviation = self.largest_neuron * ((1.0 / delta).ln() / self.width as f64).sqrt();
        let certain = self.largest_neuron / 2.0;
        Ok((self.mean_square.sqrt() + deviation).min(certain).powi(2))
    }

    /// `max_{j not in S} |hat f({j})|` is at most this with probability `1 - delta` over teachers: given the
    /// biases each is a sum of independent fair signs (Hoeffding and a union over `d - k`).
    pub fn outside_with(&self, delta: f64) -> Result<f64> {
        check_unit("delta", delta)?;
        if self.pruned {
            return Ok(0.0);
        }
        let largest = self.steps.iter().fold(0.0f64, |m, s| m.max(s.outside.abs()));
        // sum over m/2 neurons of (2 c/m)^2 is at most 2 c^2/m.
        let variance = 2.0 * largest * largest / self.width as f64;
        Ok((2.0 * variance * (2.0 * (self.d - self.k) as f64 / delta).ln()).sqrt())
    }

    /// `P(min_{j in S} |hat f({j})| < threshold)` by the central limit theorem, `1 - (2(1 - Phi(t/s)))^k`,
    /// and a bound on its error (Berry-Esseen, `k * 2 * 0.4748 rho/(s_1^3 sqrt(m/2))`, at most 1). Near 0 it
    /// is `k t sqrt(2/pi)/s`: linear, hence the heavy tail.
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

    /// `P(min inside > max outside)` in the normal approximation, by quadrature: the share of teachers that
    /// work at *some* batch.
    pub fn normal_limit(&self) -> f64 {
        let r = self.sd_outside / self.sd_inside;
        if r == 0.0 {
            return 1.0;
        }
        let (k, rest) = (self.k as i32, (self.d - self.k) as f64);
        const STEPS: usize = 2000;
        let top = 8.0;
        let mut previous = 1.0;
        let mut total = 0.0;
        for i in 1..=STEPS {
            let t = top * i as f64 / STEPS as f64;
            let survive = (2.0 * (1.0 - phi(t))).powi(k);
            let middle = t - 0.5 * top / STEPS as f64;
            total += (previous - survive) * (2.0 * phi(middle / r) - 1.0).powf(rest);
            previous = survive;
        }
        total.clamp(0.0, 1.0)
    }

    /// One teacher's correlations: its signs and biases are drawn as in the algorithm; a finite teacher batch
    /// adds, to every weight, noise that is half common to all neurons (the activity is 1/2 plus an odd
    /// part), so it enters every correlation *coherently*.
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
            // Weight noise per unit of in-support weight 1/(2k); a fraction p of the samples is active, p =
            // 1/2 = common 1/4 + own 1/4.
            let inside = fourier_gap(d, k, 0.5).map_or(f64::INFINITY, |g| g.inside);
            let noise = 1.0 / (2.0 * (batch as f64).sqrt() * inside * 2.0 * k as f64);
            let spread = (slopes.0 * slopes.0 + slopes.1).sqrt() * noise;
            sums.iter_mut().for_each(|s| *s += spread * normal(&mut rng));
        }
        sums.iter_mut().for_each(|s| *s /= pairs as f64);
        sums
    }

    /// `min_{j in S} |hat f({j})|` of one population teacher, without drawing its other coordinates.
    pub(super) fn draw_minimum(&self, rng: &mut impl Rng) -> f64 {
        let (k, pairs) = (self.k, self.width / 2);
        let mut sums = vec![0.0f64; k];
        for _ in 0..pairs {
            let step = &self.steps[(rng.next_u64() % self.steps.len() as u64) as usize];
            let mut word = 0;
            let mut product = 0;
            for (j, sum) in sums.iter_mut().enumerate() {
                if j % 64 == 0 {
                    word = rng.next_u64();
                }
                // Odd k: the last sign is fixed by the others (their product is +1 before s(b)).
                let bit = if k % 2 == 1 && j == k - 1 { product } else { word >> (j % 64) & 1 };
                product ^= bit;
                *sum += if bit == 0 { step.inside } else { -step.inside };
            }
        }
        sums.iter().fold(f64::INFINITY, |m, s| m.min(s.abs())) / pairs as f64
    }
}
