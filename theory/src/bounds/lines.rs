//! Lower lines, headline orders and crossovers.

use serde::{Deserialize, Serialize};

use super::{Bound, Kind, labels_first_phase, phase_one_typical};
use crate::error::{Result, TheoryError, check_unit, out_of_range};

fn check_sizes(d: usize, k: usize) -> Result<()> {
    if k == 0 || k >= d {
        return Err(TheoryError::SupportSize { k, d });
    }
    Ok(())
}

/// `log2 C(d,k)`, summed in logarithms.
fn log2_binomial(d: usize, k: usize) -> f64 {
    (0..k.min(d - k)).map(|i| ((d - i) as f64 / (i + 1) as f64).log2()).sum()
}

/// Any learner from labels: `B >= (1-delta) log2 C(d,k) - 1` (Fano: a label carries at most one bit about the
/// support).
///
/// The bare `log2 C(d,k)` is among the ingredients. It is no bound for real-valued supervision; see
/// [`information_teacher`].
///
/// ```
/// let b = curricle_theory::bounds::information_labels(100, 6, 0.1)?;
/// assert!((b.ingredients["log2_binomial"] - 30.15).abs() < 0.01);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn information_labels(d: usize, k: usize, delta: f64) -> Result<Bound> {
    check_sizes(d, k)?;
    check_unit("delta", delta)?;
    let bits = log2_binomial(d, k);
    Bound::new(
        "information_labels",
        Kind::Lower,
        "any learner from labels: B >= (1-delta) log2 C(d,k) - 1 (Fano)",
        ((1.0 - delta) * bits - 1.0).max(0.0),
        &[("log2_binomial", bits), ("delta", delta)],
    )
}

/// Any learner from a real-valued teacher whose distribution is symmetric under permuting coordinates:
/// `B >= log2(1 / (1 - (1 - 2 delta)^(1/(d-k))))`, about `log2((d-k)/(2 delta))`.
///
/// If some column outside the support equals a column inside on all B samples, the two supports explain the
/// data equally well and success is at most 1/2; B uniform columns all avoid a given one with probability
/// `(1 - 2^-B)^(d-k)`. Domain: `delta < 1/2`.
pub fn information_teacher(d: usize, k: usize, delta: f64) -> Result<Bound> {
    check_sizes(d, k)?;
    check_unit("delta", delta)?;
    if delta >= 0.5 {
        return out_of_range(
            "delta",
            delta,
            "(0, 0.5)",
            "the argument needs a success probability above 1/2",
        );
    }
    let root = -((-2.0 * delta).ln_1p() / (d - k) as f64).exp_m1();
    Bound::new(
        "information_teacher",
        Kind::Lower,
        "any learner from a permutation-symmetric real-valued teacher: B >= log2(1/(1-(1-2 delta)^(1/(d-k))))",
        (-root.log2()).max(1.0),
        &[("d", d as f64), ("k", k as f64), ("delta", delta)],
    )
}

/// Statistical-query line: `q = d * width` gradient queries answered within `tau = B^(-1/2)` cannot single
/// out a uniform support with probability `1 - delta` unless `1/tau^2 >= (1-delta) C(d,k) / q` (Parseval: a
/// query correlates beyond `tau` with at most `1/tau^2` parities).
///
/// The unit-constant order `d^(k-1)` is among the ingredients.
pub fn statistical_query(d: usize, k: usize, width: usize, delta: f64) -> Result<Bound> {
    check_sizes(d, k)?;
    check_unit("delta", delta)?;
    if width == 0 {
        return out_of_range("width", width, "1..", "give the student's width");
    }
    let queries = d as f64 * width as f64;
    let log2 = log2_binomial(d, k) + (1.0 - delta).log2() - queries.log2();
    Bound::new(
        "statistical_query",
        Kind::Lower,
        "statistical queries with tolerance tau = B^(-1/2): B >= (1-delta) C(d,k) / (d * width)",
        log2.exp2(),
        &[("queries", queries), ("order_d_power", (d as f64).powf(k as f64 - 1.0)), ("delta", delta)],
    )
}

/// Factors of the headline's terms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Constants {
    /// Of `2^k d^2 / eps^2`.
    pub second_phase: f64,
    /// Of `k^3`.
    pub first_phase: f64,
    /// Of `d^(k-1)`.
    pub labels: f64,
    /// Of `1/eps^2`.
    pub labels_accuracy: f64,
}

impl Default for Constants {
    fn default() -> Self {
        Self { second_phase: 1.0, first_phase: 1.0, labels: 1.0, labels_accuracy: 1.0 }
    }
}

/// Theorem 3.2, progressive: `c_1 2^k d^2 / eps^2 + c_2 k^3`.
pub fn headline_progressive(d: usize, k: usize, epsilon: f64, c: Constants) -> Result<Bound> {
    check_sizes(d, k)?;
    check_unit("epsilon", epsilon)?;
    let (second, first) = (
        c.second_phase * (k as f64).exp2() * (d as f64 / epsilon).powi(2),
        c.first_phase * (k as f64).powi(3),
    );
    Bound::new(
        "headline_progressive",
        Kind::Order,
        "Theorem 3.2, two checkpoints: 2^k d^2 eps^-2 + k^3",
        second + first,
        &[("second_phase", second), ("first_phase", first), ("epsilon", epsilon)],
    )
}

/// Theorem 3.2, one-shot: at least `max(c_3 d^(k-1), c_4 / eps^2)`.
pub fn headline_one_shot(d: usize, k: usize, epsilon: f64, c: Constants) -> Result<Bound> {
    check_sizes(d, k)?;
    check_unit("epsilon", epsilon)?;
    let (first, second) =
        (c.labels * (d as f64).powf(k as f64 - 1.0), c.labels_accuracy / (epsilon * epsilon));
    Bound::new(
        "headline_one_shot",
        Kind::Order,
        "Theorem 3.2, one-shot: at least max(d^(k-1), eps^-2)",
        first.max(second),
        &[("first_phase", first), ("second_phase", second), ("epsilon", epsilon)],
    )
}

/// Smallest d at and beyond which the one-shot headline exceeds the progressive one; `None` when it never
/// does (`k <= 3`: the progressive order `2^k d^2` is then no smaller than `d^(k-1)` for unit constants).
///
/// ```
/// use curricle_theory::bounds::{crossover, Constants};
/// let d = crossover(6, 0.5, Constants::default())?.unwrap();
/// assert_eq!(d, 7); // 7^5 = 16807 against 64 * 49 * 4 + 216 = 12760
/// assert_eq!(crossover(3, 0.5, Constants::default())?, None);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn crossover(k: usize, epsilon: f64, c: Constants) -> Result<Option<usize>> {
    check_sizes(k + 1, k)?;
    check_unit("epsilon", epsilon)?;
    // In logarithms: the powers overflow long before the comparison becomes uninteresting.
    let (kf, accuracy) = (k as f64, -2.0 * epsilon.ln());
    let ahead = |d: usize| -> Result<bool> {
        let ln_d = (d as f64).ln();
        let one_shot = (c.labels.ln() + (kf - 1.0) * ln_d).max(c.labels_accuracy.ln() + accuracy);
        let (second, first) = (
            c.second_phase.ln() + kf * std::f64::consts::LN_2 + 2.0 * ln_d + accuracy,
            c.first_phase.ln() + 3.0 * kf.ln(),
        );
        Ok(one_shot > second.max(first) + (-(second - first).abs()).exp().ln_1p())
    };
    // Above this d is no longer a number of coordinates that anything has; for k > 3 the orders cross
    // somewhere.
    const LIMIT: usize = 1 << 62;
    // Once the power d^(k-1) leads it stays ahead: for k > 3 its quotient with a quadratic grows. Small d,
    // where eps^-2 may lead, does not count.
    if !ahead(LIMIT)? {
        return match k > 3 {
            true => out_of_range("the crossover", "above 2^62", "up to 2^62", "raise epsilon"),
            false => Ok(None),
        };
    }
    let (mut low, mut high) = (k, LIMIT);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if ahead(middle)? { high = middle } else { low = middle }
    }
    Ok(Some(high))
}

/// Smallest d (of `d0, d0+2, ..` with `d0 = k+1` made odd, up to `max_d`) from which on the explicit
/// first-phase bound for a typical phase-one teacher is below the explicit bound for labels; `None` when not
/// by `max_d`.
pub fn explicit_crossover(
    k: usize,
    teacher_width: usize,
    student_width: usize,
    delta: f64,
    max_d: usize,
) -> Result<Option<usize>> {
    if max_d > 2001 {
        return out_of_range(
            "max_d",
            max_d,
            "up to 2001",
            "the bounds' orders d^(k-1) and k^3 settle the rest",
        );
    }
    let mut best = None;
    for d in ((k + 1) | 1..=max_d).step_by(2).collect::<Vec<_>>().into_iter().rev() {
        let labels = match labels_first_phase(d, k, 0.5, student_width, delta) {
            Ok(labels) => labels,
            Err(TheoryError::NoGap { .. }) => break,
            Err(e) => return Err(e),
        };
        match phase_one_typical(d, k, teacher_width, student_width, delta) {
            Ok(teacher) if teacher.samples < labels.samples => best = Some(d),
            Ok(_) | Err(TheoryError::NoGap { .. } | TheoryError::TeachersFail { .. }) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(best)
}
