//! Every line at one set of sizes; a line that cannot be had is listed with its reason and costs no other
//! line.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Bound, Constants, GradientStatistics, Kind, Teachers, crossover, explicit_crossover, headline_one_shot,
    headline_progressive, information_labels, information_teacher, labels_first_phase, one_step_labels,
    phase_one_teachers, phase_one_typical, predicted_batch, pruned_layer, second_phase_draws,
    statistical_query,
};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::net::ReluNet;
use crate::recovery::SignSumModel;
use crate::two_phase::{Problem, TeacherSpec, phase_one_teacher};

/// Sizes and probabilities of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableSpec {
    /// Dimension.
    pub d: usize,
    /// Support size.
    pub k: usize,
    /// Width of the student.
    pub width: usize,
    /// Width of phase-one teachers, even.
    pub teacher_width: usize,
    /// Failure probability.
    pub delta: f64,
    /// Hinge loss to reach.
    pub epsilon: f64,
    /// Bias in (-1, 1) of the student's neurons; only its being inside matters.
    pub bias: f64,
    /// Fraction of neurons that ranks the support on top, in predictions and the one-step lower line.
    pub fraction: f64,
    /// First layers drawn for the second-phase lines.
    pub draws: u64,
    /// Seed of the draws.
    pub seed: u64,
}

/// A line that does not exist here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unavailable {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Share of phase-one teachers (population batch) from which *some* batch recovers the support.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherShare {
    /// Normal limit of the sign sums.
    pub works: f64,
    /// Does it reach `1 - delta`? If not, no number of samples from one raw teacher is enough with that
    /// probability.
    pub enough: bool,
}

/// Dimensions from which progressive is cheaper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Crossover {
    /// Orders of growth with unit constants; `None` where it never is (`k <= 3`).
    pub headline: Option<usize>,
    /// Explicit first-phase bounds over odd d up to [`LARGEST_CROSSOVER`]; `None` when not by then.
    pub explicit: Option<usize>,
    /// Why there is no headline crossover to print although there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Largest odd d tried for the explicit crossover.
pub const LARGEST_CROSSOVER: usize = 501;

/// All lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundTable {
    /// What was asked.
    pub spec: TableSpec,
    /// The lines, by kind.
    pub bounds: Vec<Bound>,
    /// Those that cannot be had.
    pub unavailable: Vec<Unavailable>,
    /// Teachers that work at all; `None` where the model does not apply.
    pub teachers: Option<TeacherShare>,
    /// Where progressive is cheaper.
    pub crossover: Crossover,
}

/// Points x width^2 that a literal second phase may cost per draw.
const LITERAL_WIDTH: usize = 1024;

/// Every line at these sizes.
///
/// Errors: only sizes or probabilities that no line can have (`1 <= k < d`,
/// `0 < delta, epsilon, fraction < 1`, `|bias| < 1`, widths).
///
/// ```
/// use curricle_theory::bounds::{TableSpec, bound_table};
/// let spec = TableSpec {
///     d: 41, k: 4, width: 64, teacher_width: 64, delta: 0.1, epsilon: 0.2, bias: 0.5, fraction: 0.9, draws: 3, seed: 1,
/// };
/// let table = bound_table(&spec)?;
/// assert!(table.bounds.iter().any(|b| b.name == "labels_first_phase"));
/// // 48% of the raw teachers fail at any batch: the line over teachers does not exist, and says why.
/// assert!(table.unavailable.iter().any(|u| u.name == "phase_one_teachers"));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn bound_table(spec: &TableSpec) -> Result<BoundTable> {
    Ok(bound_tables(std::slice::from_ref(spec))?.remove(0))
}

/// [`bound_table`] of every spec, in parallel; crossovers, which do not depend on d, once.
pub fn bound_tables(specs: &[TableSpec]) -> Result<Vec<BoundTable>> {
    let mut tables: Vec<BoundTable> = specs.par_iter().map(lines).collect::<Result<_>>()?;
    let mut known: Vec<(TableSpec, Crossover)> = Vec::new();
    for table in &mut tables {
        let key = TableSpec { d: 0, ..table.spec.clone() };
        let found = known.iter().find(|(k, _)| *k == key).map(|(_, c)| c.clone());
        table.crossover = found.unwrap_or_else(|| {
            let fresh = crossovers(&table.spec);
            known.push((key, fresh.clone()));
            fresh
        });
    }
    Ok(tables)
}

fn crossovers(spec: &TableSpec) -> Crossover {
    let headline = crossover(spec.k, spec.epsilon, Constants::default());
    let explicit = explicit_crossover(spec.k, spec.teacher_width, spec.width, spec.delta, LARGEST_CROSSOVER);
    Crossover {
        note: headline.as_ref().err().map(ToString::to_string),
        headline: headline.ok().flatten(),
        explicit: explicit.ok().flatten(),
    }
}

fn lines(spec: &TableSpec) -> Result<BoundTable> {
    let &TableSpec { d, k, width, teacher_width, delta, epsilon, bias, fraction, .. } = spec;
    for (what, value) in [("delta", delta), ("epsilon", epsilon), ("fraction", fraction.min(0.999_999))] {
        check_unit(what, value)?;
    }
    crate::error::check_bias(bias)?;
    if k == 0 || k >= d {
        return out_of_range("k", k, format!("1 <= k < d = {d}"), "with k = d there is nothing to find");
    }
    if width == 0 || teacher_width == 0 || !teacher_width.is_multiple_of(2) {
        return out_of_range(
            "width",
            format!("{width}, of teachers {teacher_width}"),
            "positive, and even for teachers",
            "mirrored neurons come in pairs",
        );
    }
    let mut table = BoundTable {
        spec: spec.clone(),
        bounds: vec![],
        unavailable: vec![],
        teachers: None,
        crossover: Crossover { headline: None, explicit: None, note: None },
    };
    let mut put = |name: &str, bound: Result<Bound>| match bound {
        Ok(bound) => table.bounds.push(Bound { name: name.to_owned(), ..bound }),
        Err(e) => table.unavailable.push(Unavailable { name: name.to_owned(), reason: e.to_string() }),
    };
    let unit = Constants::default();
    put("labels_first_phase", labels_first_phase(d, k, bias, width, delta));
    put(
        "predicted_labels_first_phase",
        GradientStatistics::labels(d, k, bias).and_then(|s| predicted_batch(&s, fraction)),
    );
    put("phase_one_typical", phase_one_typical(d, k, teacher_width, width, delta));
    put("phase_one_teachers", phase_one_teachers(d, k, teacher_width, width, delta, Teachers::Raw));
    put("phase_one_teachers_pruned", phase_one_teachers(d, k, teacher_width, width, delta, Teachers::Pruned));
    put("headline_one_shot", headline_one_shot(d, k, epsilon, unit));
    put("headline_progressive", headline_progressive(d, k, epsilon, unit));
    put("one_step_labels", one_step_labels(d, k, fraction, delta));
    put("information_labels", information_labels(d, k, delta));
    put("information_teacher", information_teacher(d, k, delta));
    put("statistical_query", statistical_query(d, k, width, delta));
    put("second_phase_pruned", pruned_second_phase(spec));
    put("second_phase", literal_second_phase(spec));
    table.teachers = SignSumModel::new(d, k, teacher_width).ok().map(|model| {
        let works = model.normal_limit();
        TeacherShare { works, enough: works >= 1.0 - delta }
    });
    let order = |kind: Kind| match kind {
        Kind::Upper => 0,
        Kind::OneDraw => 1,
        Kind::Heuristic => 2,
        Kind::Order => 3,
        Kind::Lower => 4,
    };
    table.bounds.sort_by_key(|b| order(b.kind));
    Ok(table)
}

/// The second phase on the support alone: 2^k patterns, so any width and any d.
fn pruned_second_phase(spec: &TableSpec) -> Result<Bound> {
    if spec.k > 12 {
        return out_of_range(
            "k",
            spec.k,
            "1..=12",
            "the comparator looks at all 2^k patterns of the support",
        );
    }
    let problem = Problem::first(spec.k, spec.k)?;
    let width = spec.width + spec.width % 2;
    let mut bound = second_phase_draws(&problem, spec.epsilon, spec.draws, spec.seed, |draw| {
        pruned_layer(spec.k, width, spec.seed, draw)
    })?;
    bound.statement += ", first layer pruned to the support (it does not know d); median over draws";
    Ok(bound)
}

/// The second phase on the literal first layer of a population label step.
fn literal_second_phase(spec: &TableSpec) -> Result<Bound> {
    let width = spec.width + spec.width % 2;
    if width > LITERAL_WIDTH {
        return out_of_range(
            "width",
            width,
            format!("up to {LITERAL_WIDTH}"),
            "8192 sampled points say more about the sample than about wider features; second_phase_pruned takes any width",
        );
    }
    if spec.d > 4096 {
        return out_of_range(
            "d",
            spec.d,
            "up to 4096",
            "the literal first layer is simulated; second_phase_pruned takes any d",
        );
    }
    let problem = Problem::first(spec.d, spec.k)?;
    let teacher = TeacherSpec { width, ..TeacherSpec::default() };
    let layer = |draw| -> Result<ReluNet> { phase_one_teacher(&problem, &teacher, spec.seed, draw) };
    // Each draw solves a dense system of the width; a few show the spread.
    let mut bound = second_phase_draws(&problem, spec.epsilon, spec.draws.min(3), spec.seed, layer)?;
    bound.statement += ", literal first layer after a population step from labels; median over draws";
    Ok(bound)
}

/// Does an error mean that the line does not exist, rather than that the arguments were wrong?
pub fn is_absence(error: &TheoryError) -> bool {
    matches!(
        error,
        TheoryError::NoGap { .. }
            | TheoryError::NoComparator { .. }
            | TheoryError::TeachersFail { .. }
            | TheoryError::Underflow { .. }
            | TheoryError::Linalg(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(d: usize, k: usize, width: usize) -> BoundTable {
        let spec = TableSpec {
            d,
            k,
            width,
            teacher_width: 64,
            delta: 0.1,
            epsilon: 0.2,
            bias: 0.5,
            fraction: 0.9,
            draws: 3,
            seed: 1,
        };
        bound_table(&spec).unwrap()
    }

    #[test]
    fn no_line_ends_the_others_and_every_absence_has_its_reason() {
        // Each of these ended everything before: wide students, large k, no first-order signal, underflow.
        for (d, k, width, missing, said) in [
            (41, 4, 5000, "second_phase", "width = 5000"),
            (2000, 100, 64, "second_phase_pruned", "1..=12"),
            (11, 3, 64, "labels_first_phase", "even k or an even d"),
            (10_001, 402, 64, "labels_first_phase", "below the smallest"),
            (4097, 4, 64, "second_phase", "up to 4096"),
        ] {
            let table = table(d, k, width);
            let found = table.unavailable.iter().find(|u| u.name == missing);
            assert!(found.is_some_and(|u| u.reason.contains(said)), "{d} {k}: {:?}", table.unavailable);
            assert!(table.bounds.iter().any(|b| b.name == "information_labels"));
            assert_eq!(table.bounds.len() + table.unavailable.len(), 13, "every line is one or the other");
        }
    }

    #[test]
    fn enough_is_never_said_of_teachers_that_delta_leaves_out() {
        let table = table(41, 4, 64);
        let teachers = table.teachers.unwrap();
        assert!((0.45..0.55).contains(&teachers.works) && !teachers.enough);
        let typical = table.bounds.iter().find(|b| b.name == "phase_one_typical").unwrap();
        assert_eq!(typical.kind, Kind::Heuristic, "the typical teacher is no promise");
        for b in table.bounds.iter().filter(|b| b.kind == Kind::Upper) {
            assert!(
                ["labels_first_phase", "phase_one_teachers_pruned"].contains(&b.name.as_str()),
                "{}",
                b.name
            );
        }
    }
}
