//! Population gradients of the first layer at the symmetric initialisation (`f = 0`), where both losses have
//! a clean form.
//!
//! Hinge `max(0, 1 - y f)` at `f = 0` has `-dL/df = y`; the correlation loss `-f f_T` has `-dL/df = f_T`.
//! With sign weights `w in {-1,+1}^d` and `T xor j` the symmetric difference,
//! `-dL/dw_j = a sum_T hat f_T(T) hat g_b(|T xor j|) chi_{T xor j}(w)`, and for labels the sum has the one
//! term `T = S`. Proof: README, section 2 (content of Lemma B.2 of the paper).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Result, TheoryError, check_bias, check_support, out_of_range};
use crate::threshold::{ThresholdLevel, threshold_coefficient, threshold_levels};

/// Descent direction `-dL/d(w, b)` of one neuron.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gradient {
    /// `-dL/dw_j`, one per coordinate.
    pub weights: Vec<f64>,
    /// `-dL/db`.
    pub bias: f64,
}

/// One term `hat f_T(T) chi_T` of a teacher.
#[derive(Debug, Clone, PartialEq)]
pub struct Monomial {
    /// The set `T` (distinct coordinates; empty for the constant).
    pub set: Vec<usize>,
    /// `hat f_T(T)`.
    pub coefficient: f64,
}

/// Size of the label gradient (per unit output weight) inside and outside the support.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FourierGap {
    /// `|hat g_b(k-1)|`: coordinates of the support.
    pub inside: f64,
    /// `|hat g_b(k+1)|`: all others (0 when k = d).
    pub outside: f64,
    /// `inside - outside`.
    pub gap: f64,
    /// `P(active) = hat g_b(0)`.
    pub activity: f64,
}

/// The Fourier gap `|hat g_b(k-1)| - |hat g_b(k+1)|` of Lemma B.2.
///
/// Domain: `1 <= k <= d`, `|b| < 1`. For `k = 1` the inside level is 0, `hat g(0) = P(active)`. For `|b| < 1`
/// the sizes at levels `s >= 1` do not depend on b; `P(active)` at even d depends on its sign (a tie belongs
/// to `b >= 0`). Errors: also [`TheoryError::NoFirstOrderSignal`] when both levels vanish (k >= 3 odd, d
/// odd), [`TheoryError::Underflow`].
///
/// ```
/// let gap = curricle_theory::gradient::fourier_gap(101, 4, 0.0)?;
/// assert!((gap.inside - 8.03932e-4 / 2.0).abs() < 1e-9);
/// assert!(curricle_theory::gradient::fourier_gap(101, 3, 0.0).is_err()); // even levels vanish
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn fourier_gap(d: usize, k: usize, bias: f64) -> Result<FourierGap> {
    check_bias(bias)?;
    if k > d || k == 0 {
        return Err(TheoryError::SupportSize { k, d });
    }
    if d % 2 == 1 && k % 2 == 1 && k > 1 {
        return Err(TheoryError::NoFirstOrderSignal { d, k });
    }
    let levels = threshold_levels(d, bias, 0..=(k + 1).min(d))?.levels;
    let size = |s: usize| match levels.get(s) {
        None => Ok(0.0),
        Some(ThresholdLevel { coefficient: Some(c), .. }) => Ok(c.abs()),
        Some(level) => {
            Err(TheoryError::Underflow { d, level: s, ln_abs: level.scaled.map_or(f64::MIN, |v| v.ln_abs) })
        }
    };
    // The outside level may underflow alone; it is then negligible.
    let (inside, outside) = (size(k - 1)?, if k < d { size(k + 1).unwrap_or(0.0) } else { 0.0 });
    if inside == 0.0 {
        return Err(TheoryError::NoFirstOrderSignal { d, k });
    }
    Ok(FourierGap { inside, outside, gap: inside - outside, activity: size(0)? })
}

/// Population gradient of the hinge loss on labels `chi_S` at `f = 0`: entry `j` is
/// `a hat g_b(|S xor j|) chi_{S xor j}(w)`.
///
/// `signs` are the neuron's weights (each -1 or +1), `output` its second-layer weight. Any bias. O(d) after
/// three coefficients.
///
/// ```
/// use curricle_theory::gradient::label_gradient;
/// let g = label_gradient(&[1, -1, 1, 1, 1], 0.0, 1.0, &[0, 1])?;
/// assert_eq!(g.weights[0], -0.1875); // hat g(1) chi_{1}(w) = 3/16 * (-1)
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn label_gradient(signs: &[i8], bias: f64, output: f64, support: &[usize]) -> Result<Gradient> {
    check_support(support, signs.len())?;
    teacher_gradient(signs, bias, output, &[Monomial { set: support.to_vec(), coefficient: 1.0 }])
}

/// Population gradient of the correlation loss `-f f_T` at `f = 0` for a teacher given by its Fourier
/// expansion (also of the hinge loss, with the labels' expansion). Any bias, any sets.
pub fn teacher_gradient(signs: &[i8], bias: f64, output: f64, teacher: &[Monomial]) -> Result<Gradient> {
    let d = signs.len();
    if let Some(position) = signs.iter().position(|s| s.abs() != 1) {
        return out_of_range(
            "a sign weight",
            signs[position],
            "{-1, +1}",
            "sign weights are -1 or +1; enumerate the inputs for real weights",
        );
    }
    let mut cache = BTreeMap::new();
    let mut level = |s: usize| -> Result<f64> {
        if let Some(&c) = cache.get(&s) {
            return Ok(c);
        }
        let c = threshold_coefficient(d, bias, s)?;
        cache.insert(s, c);
        Ok(c)
    };
    let mut gradient = Gradient { weights: vec![0.0; d], bias: 0.0 };
    let mut inside = vec![false; d];
    for term in teacher {
        if !term.coefficient.is_finite() {
            return Err(TheoryError::NotFinite {
                what: "a teacher coefficient",
                instead: "check the teacher's expansion",
            });
        }
        if !term.set.is_empty() {
            check_support(&term.set, d)?;
        }
        inside.fill(false);
        term.set.iter().for_each(|&j| inside[j] = true);
        let size = term.set.len();
        let character: f64 = term.set.iter().map(|&j| f64::from(signs[j])).product();
        let scale = output * term.coefficient * character;
        gradient.bias += scale * level(size)?;
        let below = if size > 0 { level(size - 1)? } else { 0.0 };
        let above = if size < d { level(size + 1)? } else { 0.0 };
        for j in 0..d {
            gradient.weights[j] += scale * f64::from(signs[j]) * if inside[j] { below } else { above };
        }
    }
    if gradient.weights.iter().any(|g| !g.is_finite()) || !gradient.bias.is_finite() {
        return Err(TheoryError::NotFinite {
            what: "the gradient",
            instead: "scale the teacher or the output weight down",
        });
    }
    Ok(gradient)
}

/// The same gradient by summing over all `2^d` inputs, for *real* weights and any target; the oracle for the
/// formulas above.
///
/// Domain: `d <= 24`. `target` sees `x` as `+-1.0`.
pub fn enumerated_gradient(
    weights: &[f64],
    bias: f64,
    output: f64,
    target: impl Fn(&[f64]) -> f64,
) -> Result<Gradient> {
    let d = weights.len();
    if d == 0 || d > 24 {
        return out_of_range("d", d, "1..=24", "use the closed form (sign weights) or sample");
    }
    let mut total = Gradient { weights: vec![0.0; d], bias: 0.0 };
    let mut x = vec![1.0; d];
    for point in 0u32..1 << d {
        for (j, v) in x.iter_mut().enumerate() {
            *v = if point >> j & 1 == 1 { -1.0 } else { 1.0 };
        }
        let z: f64 = weights.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>() + bias;
        if z >= 0.0 {
            let y = target(&x);
            total.bias += y;
            total.weights.iter_mut().zip(&x).for_each(|(g, x)| *g += y * x);
        }
    }
    let scale = output / f64::from(1u32 << d);
    total.weights.iter_mut().for_each(|g| *g *= scale);
    total.bias *= scale;
    if total.weights.iter().any(|g| !g.is_finite()) || !total.bias.is_finite() {
        return Err(TheoryError::NotFinite {
            what: "the gradient",
            instead: "check the weights and the target",
        });
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_coordinate_has_a_gap_at_odd_d_and_underflow_is_called_underflow() {
        // Level 0 is P(active) = 1/2, whatever the parity of d: the old code blamed the even levels.
        let gap = fourier_gap(9, 1, 0.5).unwrap();
        assert_eq!((gap.inside, gap.outside, gap.activity), (0.5, 0.0, 0.5));
        assert!(matches!(fourier_gap(9, 3, 0.5), Err(TheoryError::NoFirstOrderSignal { .. })));
        assert!(matches!(fourier_gap(10_001, 402, 0.5), Err(TheoryError::Underflow { level: 401, .. })));
        let message = fourier_gap(10_001, 402, 0.5).unwrap_err().to_string();
        assert!(message.contains("below the smallest") && !message.contains("even levels"), "{message}");
    }

    fn eval(teacher: &[Monomial], x: &[f64]) -> f64 {
        teacher.iter().map(|t| t.coefficient * t.set.iter().map(|&j| x[j]).product::<f64>()).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn closed_form_equals_enumeration(
            signs in prop::collection::vec(prop::bool::ANY, 3..=12),
            bias in -2.5f64..2.5,
            masks in prop::collection::vec((0u32..4096, -2.0f64..2.0), 1..4),
        ) {
            let signs: Vec<i8> = signs.into_iter().map(|s| if s { 1 } else { -1 }).collect();
            let d = signs.len();
            let teacher: Vec<Monomial> = masks.into_iter()
                .map(|(m, coefficient)| Monomial { set: (0..d).filter(|j| m >> j & 1 == 1).collect(), coefficient })
                .collect();
            let weights: Vec<f64> = signs.iter().map(|&s| f64::from(s)).collect();
            let closed = teacher_gradient(&signs, bias, 0.7, &teacher).unwrap();
            let slow = enumerated_gradient(&weights, bias, 0.7, |x| eval(&teacher, x)).unwrap();
            prop_assert!((closed.bias - slow.bias).abs() < 1e-12);
            for (c, s) in closed.weights.iter().zip(&slow.weights) {
                prop_assert!((c - s).abs() < 1e-12, "{c} {s}");
            }
        }
    }

    #[test]
    fn odd_teacher_with_odd_d_gives_half_its_degree_one_coefficients() {
        let signs = [1, -1, -1, 1, 1, -1, 1];
        let teacher = [(vec![2], 0.3), (vec![5], -0.1), (vec![0, 1, 2], 0.8), (vec![1, 2, 3, 4, 6], -0.4)]
            .map(|(set, coefficient)| Monomial { set, coefficient });
        let g = teacher_gradient(&signs, 0.6, 2.0, &teacher).unwrap();
        for (j, want) in [0.0, 0.0, 0.3, 0.0, 0.0, -0.1, 0.0].into_iter().enumerate() {
            assert!((g.weights[j] - 2.0 * want / 2.0).abs() < 1e-14);
        }
    }
}
