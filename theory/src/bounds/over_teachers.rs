//! First phase from phase-one teachers: the typical one, and all but a share delta of them.

use serde::{Deserialize, Serialize};

use super::{Bound, GradientStatistics, Kind, first_phase_bound};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::recovery::SignSumModel;

/// Which phase-one teachers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Teachers {
    /// As the algorithm builds them.
    Raw,
    /// With the weights outside the support set to zero.
    Pruned,
}

impl Teachers {
    fn model(self, d: usize, k: usize, width: usize) -> Result<SignSumModel> {
        match self {
            Self::Raw => SignSumModel::new(d, k, width),
            Self::Pruned => SignSumModel::pruned(d, k, width),
        }
    }
}

/// The first-phase bound for a *typical* phase-one teacher of width `teacher_width` (population batch), by
/// the random-sign model: in-support correlations are `N(0, s_in^2)`, the others `N(0, s_out^2)`; `gamma` is
/// half the difference of the medians of their smallest and largest absolute values, `M` the bound on the
/// expected supremum, which falls like `m^(-1/2)` as `sigma` and `gamma` do, so the line is flat in m. Order
/// `k * k^2` times logarithms once `d` is large enough; [`TheoryError::TeachersFail`] below. Heuristic: no
/// probability over teachers.
///
/// ```
/// use curricle_theory::bounds::phase_one_typical;
/// let narrow = phase_one_typical(101, 4, 16, 64, 0.1)?.samples;
/// let wide = phase_one_typical(101, 4, 4096, 64, 0.1)?.samples;
/// assert!((0.8..1.25).contains(&(wide / narrow)));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn phase_one_typical(
    d: usize,
    k: usize,
    teacher_width: usize,
    student_width: usize,
    delta: f64,
) -> Result<Bound> {
    let model = SignSumModel::new(d, k, teacher_width)?;
    let (inside, outside) = model.typical_extremes();
    if inside <= outside {
        check_unit("delta", delta)?;
        return Err(TheoryError::TeachersFail {
            which: "phase-one",
            share: 1.0 - model.normal_limit(),
            allowed: 0.5,
        });
    }
    let mut bound = from_gap(&model, inside, outside, model.mean_square, model.sup, student_width, delta)?;
    bound.kind = Kind::Heuristic;
    bound.name = "phase_one_typical".into();
    bound.statement = "phase-one teacher, typical random signs: the checkpoint bound with gamma from the medians of min |hat f(j)| inside and max outside".into();
    bound.ingredients.insert("teachers_that_work".into(), model.normal_limit());
    Ok(bound)
}

/// Enough samples for all but a share of the teachers: with probability at least `1 - delta` over the teacher
/// *and* the student's batch every neuron ranks the support on top.
///
/// `0.6 delta` goes to the smallest correlation inside (a quantile of exact draws at 99% confidence),
/// `0.1 delta` each to the largest outside (Hoeffding), to `E f^2` and to `sup |f|` (McDiarmid), the last
/// `0.1 delta` to the student's Bernstein bound. As the quantile of the minimum is linear in delta, the order
/// is `k^3/delta^2`. Domain: odd d (with even d ties add even levels to the student's gradient). Errors:
/// [`TheoryError::TeachersFail`] when too many teachers fail at any batch.
///
/// ```
/// use curricle_theory::bounds::{Teachers, phase_one_teachers};
/// // 48% of the raw teachers fail at any batch at d = 41: no batch is enough. Pruned ones have no outside correlation.
/// assert!(phase_one_teachers(41, 4, 64, 64, 0.1, Teachers::Raw).is_err());
/// assert!(phase_one_teachers(41, 4, 64, 64, 0.1, Teachers::Pruned)?.samples > 1e6);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn phase_one_teachers(
    d: usize,
    k: usize,
    teacher_width: usize,
    student_width: usize,
    delta: f64,
    teachers: Teachers,
) -> Result<Bound> {
    check_unit("delta", delta)?;
    if d.is_multiple_of(2) {
        return out_of_range(
            "d",
            d,
            "the odd numbers",
            "with even d ties add even levels to the student's gradient; measure it",
        );
    }
    let model = teachers.model(d, k, teacher_width)?;
    let which = match teachers {
        Teachers::Raw => "phase-one",
        Teachers::Pruned => "pruned phase-one",
    };
    let inside = model.inside_with(0.6 * delta, 1)?;
    let outside = model.outside_with(0.1 * delta)?;
    if inside <= outside {
        let share = 1.0 - model.normal_limit();
        return Err(match share > 0.6 * delta {
            true => TheoryError::TeachersFail { which, share, allowed: 0.6 * delta },
            false => TheoryError::NoGap {
                of: "all but a share delta of the phase-one teachers, by these inequalities,",
                gap: inside - outside,
                instead: "raise d or delta, or prune the teachers",
            },
        });
    }
    let square = model.mean_square_with(0.1 * delta)?;
    let sup = model.sup_with(0.1 * delta)?;
    let mut bound = from_gap(&model, inside, outside, square, sup, student_width, 0.1 * delta)?;
    bound.name = match teachers {
        Teachers::Raw => "phase_one_teachers".into(),
        Teachers::Pruned => "phase_one_teachers_pruned".into(),
    };
    bound.statement = format!(
        "{which} teachers, probability 1 - delta over teacher and batch: the checkpoint bound with gamma, sigma^2 and M that all but 0.9 delta of the \
         teachers keep; order k^3/delta^2"
    );
    bound.ingredients.insert("delta".into(), delta);
    bound.ingredients.insert("order".into(), (k as f64).powi(3) / (delta * delta));
    Ok(bound)
}

fn from_gap(
    model: &SignSumModel,
    inside: f64,
    outside: f64,
    mean_square: f64,
    sup: f64,
    student_width: usize,
    delta: f64,
) -> Result<Bound> {
    // All that enters is the smallest mean inside and the largest outside.
    let mut correlations = vec![inside; model.k];
    correlations.push(outside);
    let support: Vec<usize> = (0..model.k).collect();
    let mut statistics = GradientStatistics::shared(&correlations, &support, mean_square, sup);
    statistics.d = model.d;
    let mut bound = first_phase_bound(&statistics, student_width, delta, 1.0)?;
    for (name, value) in [
        ("teacher_width", model.width as f64),
        ("sd_inside", model.sd_inside),
        ("sd_outside", model.sd_outside),
        ("coherent", model.coherent),
    ] {
        bound.ingredients.insert(name.into(), value);
    }
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_in_the_width_as_measured() {
        // Measured medians at m = 16, 64, 1024: 2944, 4240, 2045. With M = sum |a| (|w| + |b|) the line grew
        // like sqrt(m).
        let at = |m| phase_one_typical(401, 4, m, 64, 0.1).unwrap().samples;
        assert!((0.8..1.25).contains(&(at(1024) / at(16))), "{} {}", at(16), at(1024));
    }

    #[test]
    fn odd_k_pays_for_the_coherent_term() {
        // sigma^2 stays at coherent^2/2 while gamma^2 falls like 1/m: measured need grows with m too.
        let at = |m| phase_one_typical(60, 3, m, 64, 0.1).unwrap().samples;
        assert!(at(32_768) > 20.0 * at(64), "{} {}", at(64), at(32_768));
    }

    #[test]
    fn over_teachers_it_is_k_cubed_over_delta_squared() {
        let at = |delta| phase_one_teachers(401, 4, 64, 64, delta, Teachers::Pruned).unwrap().samples;
        let slope = (at(0.05) / at(0.2)).ln() / (0.2f64 / 0.05).ln();
        assert!((1.6..2.8).contains(&slope), "{slope}");
        assert!(matches!(
            phase_one_teachers(41, 4, 64, 64, 0.1, Teachers::Raw),
            Err(TheoryError::TeachersFail { .. })
        ));
    }
}
