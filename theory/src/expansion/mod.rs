//! Beyond parity: targets given by their Fourier expansion (juntas, staircases), and the continuous cousin.
//!
//! * gradients of a sign neuron at initialisation under four losses ([`Loss`]), and the gap between relevant
//!   and irrelevant coordinates;
//! * [`leap`]: the largest number of new coordinates that the best order of monomials ever has to add at once
//!   (Abbe, Boix-Adsera, Misiakiewicz 2022, 2023); merged-staircase functions are those of leap 1, the
//!   k-parity has leap k, and a generic SGD needs about `d^max(leap-1, 1)` samples;
//! * [`Target::statistical_query`]: the query line of the target's orbit under permuting coordinates;
//! * [`information_exponent`]: of a single-index model `f(<u,x>)` with Gaussian x (Ben Arous, Gheissari,
//!   Jagannath 2021).

mod hermite;

pub use hermite::{InformationExponent, information_exponent};

use serde::{Deserialize, Serialize};

use crate::bounds::{Bound, GradientStatistics, Kind, NeuronStatistics};
use crate::error::{Result, TheoryError, check_support, out_of_range};
use crate::gradient::{Gradient, Monomial, teacher_gradient};
use crate::threshold::threshold_levels;

/// A real-valued target on `{-1,+1}^d`.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    d: usize,
    terms: Vec<Monomial>,
}

/// A loss at `f = 0`; its descent direction is `-dL/df = c y` there, so that all four see the same gradient
/// up to the factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// `-y f`: c = 1.
    Correlation,
    /// `max(0, 1 - y f)`: c = 1 (for labels `y = +-1`, and any y with `y f < 1`).
    Hinge,
    /// `(y - f)^2 / 2`: c = 1.
    Square,
    /// `log(1 + exp(-y f))`: c = 1/2.
    Logistic,
}

impl Loss {
    /// `(-dL/df)/y` at `f = 0`.
    pub fn factor(self) -> f64 {
        match self {
            Self::Correlation | Self::Hinge | Self::Square => 1.0,
            Self::Logistic => 0.5,
        }
    }
}

impl Target {
    /// From its terms. Errors: no term but a constant, sets that repeat a coordinate or another set,
    /// coordinates not below d, coefficients that are 0 or not finite.
    ///
    /// ```
    /// use curricle_theory::{gradient::Monomial, expansion::Target};
    /// let term = |set: &[usize]| Monomial { set: set.to_vec(), coefficient: 1.0 };
    /// let staircase = Target::new(9, vec![term(&[0]), term(&[0, 1]), term(&[0, 1, 2])])?;
    /// assert_eq!(staircase.support(), [0, 1, 2]);
    /// # Ok::<(), curricle_theory::TheoryError>(())
    /// ```
    pub fn new(d: usize, terms: Vec<Monomial>) -> Result<Self> {
        let mut sets: Vec<Vec<usize>> = Vec::new();
        for term in &terms {
            if !term.set.is_empty() {
                check_support(&term.set, d)?;
            }
            if !(term.coefficient.is_finite() && term.coefficient != 0.0) {
                return Err(TheoryError::NotFinite {
                    what: "a coefficient (or 0)",
                    instead: "leave terms with coefficient 0 out",
                });
            }
            let mut set = term.set.clone();
            set.sort_unstable();
            if sets.contains(&set) {
                return out_of_range(
                    "terms",
                    format!("{set:?} twice"),
                    "each set once",
                    "add the coefficients",
                );
            }
            sets.push(set);
        }
        if sets.iter().all(Vec::is_empty) {
            return out_of_range(
                "terms",
                sets.len(),
                "at least one non-empty set",
                "a constant has no support",
            );
        }
        Ok(Self { d, terms })
    }

    /// The parity `chi_S`.
    pub fn parity(d: usize, support: Vec<usize>) -> Result<Self> {
        Self::new(d, vec![Monomial { set: support, coefficient: 1.0 }])
    }

    /// Dimension.
    pub fn dimension(&self) -> usize {
        self.d
    }

    /// The expansion.
    pub fn terms(&self) -> &[Monomial] {
        &self.terms
    }

    /// Coordinates that some term has, ascending.
    pub fn support(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.terms.iter().flat_map(|t| t.set.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Value at `x` (entries +-1).
    pub fn evaluate(&self, x: &[f64]) -> f64 {
        self.terms.iter().map(|t| t.coefficient * t.set.iter().map(|&j| x[j]).product::<f64>()).sum()
    }

    /// `E f^2`.
    pub fn mean_square(&self) -> f64 {
        self.terms.iter().map(|t| t.coefficient * t.coefficient).sum()
    }

    /// `sum |coefficient|`, an upper bound of `sup |f|`.
    pub fn sup_bound(&self) -> f64 {
        self.terms.iter().map(|t| t.coefficient.abs()).sum()
    }

    /// Descent direction of one sign neuron at `f = 0`: [`teacher_gradient`] times the loss's factor.
    pub fn gradient(&self, signs: &[i8], bias: f64, output: f64, loss: Loss) -> Result<Gradient> {
        if signs.len() != self.d {
            return Err(TheoryError::Shape { what: "signs", expected: self.d, found: signs.len() });
        }
        let mut g = teacher_gradient(signs, bias, output, &self.terms)?;
        g.weights.iter_mut().for_each(|w| *w *= loss.factor());
        g.bias *= loss.factor();
        Ok(g)
    }

    /// Statistics of the first gradient for given neurons `(signs, bias)`: `first_phase_bound` and
    /// `predicted_batch` take them, with the union of the terms as the support. `E[y^2 1[active]]` is bounded
    /// by `E y^2` (equal to half of it for odd d and even `y^2`).
    pub fn statistics(&self, neurons: &[(Vec<i8>, f64)]) -> Result<GradientStatistics> {
        let support = self.support();
        let found = neurons
            .iter()
            .map(|(signs, bias)| {
                let g = self.gradient(signs, *bias, 1.0, Loss::Correlation)?;
                let second = self.masked_square(signs, *bias)?;
                Ok(NeuronStatistics::new(g.weights, second, &support))
            })
            .collect::<Result<Vec<_>>>()?;
        if found.is_empty() {
            return Err(TheoryError::Shape { what: "neurons", expected: 1, found: 0 });
        }
        Ok(GradientStatistics {
            d: self.d,
            support,
            neurons: found,
            sup: self.sup_bound(),
            eighth: None,
            standard_error: 0.0,
        })
    }

    /// `E[f^2 1[active]]`, exact: `sum_{T,U} c_T c_U hat g(|T xor U|) chi_{T xor U}(w)`.
    fn masked_square(&self, signs: &[i8], bias: f64) -> Result<f64> {
        let largest = 2 * self.terms.iter().map(|t| t.set.len()).max().unwrap_or(0);
        let levels = threshold_levels(self.d, bias, 0..=largest.min(self.d))?.levels;
        let mut total = 0.0;
        for t in &self.terms {
            for u in &self.terms {
                let difference: Vec<usize> = t
                    .set
                    .iter()
                    .filter(|j| !u.set.contains(j))
                    .chain(u.set.iter().filter(|j| !t.set.contains(j)))
                    .copied()
                    .collect();
                let character: f64 = difference.iter().map(|&j| f64::from(signs[j])).product();
                let level = levels[difference.len()].coefficient.unwrap_or(0.0);
                total += t.coefficient * u.coefficient * level * character;
            }
        }
        Ok(total.max(0.0))
    }

    /// The leap of the target's terms, see [`leap`].
    pub fn leap(&self) -> Result<usize> {
        leap(&self.terms.iter().map(|t| t.set.clone()).collect::<Vec<_>>())
    }

    /// Statistical-query line: `q` queries of tolerance `B^(-1/2)` cannot find the support unless
    /// `B >= (1-delta) C(d, D)/(q |f|^2)` with D the size of the smallest non-constant term and `|f|` its
    /// coefficient: all terms of size D move to `C(d, D)` orthogonal places (Parseval, as for parity). For
    /// targets with terms of several sizes it bounds the *first* step only; later ones are the business of
    /// [`leap`].
    ///
    /// ```
    /// use curricle_theory::expansion::Target;
    /// let line = Target::parity(41, vec![0, 1, 2, 3])?.statistical_query(41 * 64, 0.1)?;
    /// assert!((line.samples / (0.9 * 101_270.0 / 2624.0) - 1.0).abs() < 1e-6);
    /// # Ok::<(), curricle_theory::TheoryError>(())
    /// ```
    pub fn statistical_query(&self, queries: usize, delta: f64) -> Result<Bound> {
        crate::error::check_unit("delta", delta)?;
        if queries == 0 {
            return out_of_range("queries", queries, "1..", "one gradient step asks d * width queries");
        }
        let sizes = self.terms.iter().map(|t| t.set.len()).filter(|s| *s > 0);
        let degree = sizes.min().unwrap_or(1);
        let weight: f64 =
            self.terms.iter().filter(|t| t.set.len() == degree).map(|t| t.coefficient * t.coefficient).sum();
        let log2: f64 = (0..degree).map(|i| ((self.d - i) as f64 / (i + 1) as f64).log2()).sum();
        let samples = (log2 + (1.0 - delta).log2() - (queries as f64).log2() - weight.log2()).exp2();
        Bound::new(
            "statistical_query_target",
            Kind::Lower,
            "statistical queries with tolerance B^(-1/2), first step: B >= (1-delta) C(d, D) / (q |f_D|^2)",
            samples,
            &[("degree", degree as f64), ("queries", queries as f64), ("delta", delta)],
        )
    }

    /// Order of the samples of ordinary SGD by the leap: `d^max(leap-1, 1)` (Abbe et al. 2023, up to
    /// logarithms; unit constant).
    pub fn leap_order(&self) -> Result<Bound> {
        let leap = self.leap()?;
        let power = (leap as f64 - 1.0).max(1.0);
        Bound::new(
            "leap_order",
            Kind::Order,
            "SGD on a target of leap L: d^max(L-1, 1)",
            (self.d as f64).powf(power),
            &[("leap", leap as f64), ("d", self.d as f64)],
        )
    }
}

/// The leap of a family of sets: over all orders, the smallest possible largest number of coordinates that a
/// set adds to the union of those before. Greedy is optimal: adding the set with the fewest new coordinates
/// never hurts, as it only enlarges the union.
///
/// ```
/// use curricle_theory::expansion::leap;
/// assert_eq!(leap(&[vec![0], vec![0, 1], vec![0, 1, 2]])?, 1);
/// assert_eq!(leap(&[vec![0, 1, 2, 3]])?, 4);
/// assert_eq!(leap(&[vec![0], vec![0, 1, 2], vec![2, 3]])?, 2);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn leap(sets: &[Vec<usize>]) -> Result<usize> {
    let mut left: Vec<&Vec<usize>> = sets.iter().filter(|s| !s.is_empty()).collect();
    if left.is_empty() {
        return out_of_range("sets", sets.len(), "at least one non-empty set", "a constant has no leap");
    }
    let mut seen: Vec<usize> = Vec::new();
    let mut largest = 0;
    while !left.is_empty() {
        let new = |set: &Vec<usize>| set.iter().filter(|j| !seen.contains(j)).count();
        let best = (0..left.len()).min_by_key(|&i| new(left[i])).unwrap_or(0);
        largest = largest.max(new(left[best]));
        let set = left.swap_remove(best);
        seen.extend(set.iter().filter(|j| !seen.contains(j)).copied().collect::<Vec<_>>());
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::predicted_batch;
    use crate::gradient::enumerated_gradient;
    use crate::two_phase::{FirstPhase, Problem, Supervision};

    fn term(set: &[usize], coefficient: f64) -> Monomial {
        Monomial { set: set.to_vec(), coefficient }
    }

    #[test]
    fn all_losses_by_finite_differences() {
        let target =
            Target::new(7, vec![term(&[1], 0.5), term(&[1, 4], -0.25), term(&[0, 2, 5], 0.25)]).unwrap();
        let signs = [1, -1, 1, 1, -1, -1, 1];
        let real: Vec<f64> = signs.iter().map(|&s| f64::from(s)).collect();
        let loss = |which: Loss, f: f64, y: f64| match which {
            Loss::Correlation => -y * f,
            Loss::Hinge => (1.0 - y * f).max(0.0),
            Loss::Square => 0.5 * (y - f).powi(2),
            Loss::Logistic => (1.0 + (-y * f).exp()).ln(),
        };
        for which in [Loss::Correlation, Loss::Hinge, Loss::Square, Loss::Logistic] {
            let g = target.gradient(&signs, 0.5, 1.0, which).unwrap();
            // A mirrored pair of neurons: f = 0, and moving one weight moves f by h x_j 1[active].
            let h = 1e-5;
            let slow = enumerated_gradient(&real, 0.5, 1.0, |x| {
                let y = target.evaluate(x);
                -(loss(which, h, y) - loss(which, -h, y)) / (2.0 * h)
            })
            .unwrap();
            for (a, b) in g.weights.iter().zip(&slow.weights) {
                assert!((a - b).abs() < 1e-8, "{which:?}: {a} {b}");
            }
        }
    }

    #[test]
    fn second_moments_are_exact() {
        let target = Target::new(8, vec![term(&[], 0.3), term(&[1], 0.5), term(&[1, 4], -0.25)]).unwrap();
        let signs = vec![1, -1, 1, 1, -1, -1, 1, -1];
        let real: Vec<f64> = signs.iter().map(|&s| f64::from(s)).collect();
        let exact = enumerated_gradient(&real, -0.5, 1.0, |x| target.evaluate(x).powi(2)).unwrap().bias;
        let found = target.statistics(&[(signs, -0.5)]).unwrap().neurons[0].second_moment;
        assert!((found - exact).abs() < 1e-12);
    }

    /// A measured point: a student of one step on a junta finds its coordinates when the prediction says so.
    #[test]
    fn a_junta_is_found_at_the_predicted_batch() {
        let d = 21;
        let target =
            Target::new(d, vec![term(&[0], 0.5), term(&[1], 0.5), term(&[0, 1, 2, 3], 0.5)]).unwrap();
        let linear = Target::new(d, vec![term(&[0], 0.5), term(&[1], 0.4)]).unwrap();
        assert_eq!((target.leap().unwrap(), linear.leap().unwrap()), (2, 1));
        let problem = Problem::new(d, linear.support()).unwrap();
        let value = |x: &[f64]| linear.evaluate(x);
        let mut phase = FirstPhase::new(&problem, Supervision::Function(&value), 24, 1, 0).unwrap();
        let neurons: Vec<(Vec<i8>, f64)> =
            (0..24).map(|i| (phase.neurons().signs.row(i).to_vec(), phase.neurons().biases[i])).collect();
        let predicted = predicted_batch(&linear.statistics(&neurons).unwrap(), 0.9).unwrap().samples;
        assert!((10.0..1000.0).contains(&predicted), "{predicted}");
        phase.extend((predicted / 4.0) as u64).unwrap();
        let early = phase.ranking().neurons;
        phase.extend((predicted * 3.0) as u64).unwrap();
        let late = phase.ranking().neurons;
        assert!(early < 0.85 && late > 0.9, "{early} at a quarter, {late} at three times the prediction");
    }

    #[test]
    fn bad_targets_are_refused() {
        assert!(Target::new(5, vec![term(&[], 1.0)]).is_err());
        assert!(Target::new(5, vec![term(&[0, 1], 1.0), term(&[1, 0], 1.0)]).is_err());
        assert!(Target::new(5, vec![term(&[7], 1.0)]).is_err());
        assert!(leap(&[vec![]]).is_err());
    }
}
