//! From measurements to lines, constants and verdicts.

use super::verdicts::{slopes, verdicts};
use super::{Cell, CompareSpec, Comparison, Fitted, Line, Point, Role};
use crate::bounds::{
    Bound, Constants, GradientStatistics, crossover, headline_one_shot, headline_progressive,
    information_labels, information_teacher, labels_first_phase, one_step_labels, phase_one_typical,
    predicted_batch, statistical_query,
};
use crate::error::{Result, TheoryError};
use crate::fit::{bootstrap_slope, fitted_constant, median, power_law};
use crate::measure::RecoveryBatches;

/// Samples and a note.
type Value = (Option<f64>, Option<String>);

/// Adds the lines, verdicts and constants of one k.
pub(super) fn assemble(spec: &CompareSpec, k: usize, cells: &[Cell], out: &mut Comparison) -> Result<()> {
    let d_of = |c: &Cell| c.problem.dimension();
    let mut line = |name: &str,
                    role: Role,
                    value: &dyn Fn(&Cell) -> Result<Value>,
                    groups: Vec<(f64, Vec<f64>)>|
     -> Result<()> {
        let mut points = Vec::new();
        for c in cells {
            let (samples, note) = value(c)?;
            points.push(Point { d: d_of(c), samples, note });
        }
        let known: Vec<(f64, f64)> =
            points.iter().filter_map(|p| Some((p.d as f64, p.samples.filter(|s| *s > 0.0)?))).collect();
        let fit = if known.len() > 1 { Some(power_law(&known, spec.confidence)?) } else { None };
        let bootstrap = if groups.len() > 1 {
            Some(bootstrap_slope(&groups, 1000, spec.confidence, spec.seed)?)
        } else {
            None
        };
        out.lines.push(Line { name: name.into(), k, role, points, fit, bootstrap });
        Ok(())
    };
    let plain = |b: Result<Bound>| b.map(|b| (Some(b.samples), None));
    let groups = |of: &dyn Fn(&Cell) -> &RecoveryBatches| -> Vec<(f64, Vec<f64>)> {
        let found = |c: &Cell| of(c).batches.iter().flatten().map(|&b| b as f64).collect::<Vec<_>>();
        cells.iter().map(|c| (d_of(c) as f64, found(c))).filter(|g| !g.1.is_empty()).collect()
    };
    line(
        "measured_labels",
        Role::Measured,
        &|c| Ok((c.labels.median, failure_note(&c.labels))),
        groups(&|c| &c.labels),
    )?;
    line(
        "measured_phase_one",
        Role::Measured,
        &|c| Ok((c.teachers.median_of_successes, failure_note(&c.teachers))),
        groups(&|c| &c.teachers),
    )?;
    if cells.iter().any(|c| c.one_shot.is_some()) {
        line(
            "measured_one_shot",
            Role::Measured,
            &|c| {
                Ok(c.one_shot.as_ref().map_or((None, Some("no final teacher of this width".into())), |o| {
                    (o.median, failure_note(o))
                }))
            },
            vec![],
        )?;
    }
    line(
        "one_step_labels",
        Role::Lower,
        &|c| plain(one_step_labels(d_of(c), k, spec.fraction, spec.delta)),
        vec![],
    )?;
    line("information_labels", Role::Lower, &|c| plain(information_labels(d_of(c), k, spec.delta)), vec![])?;
    line(
        "information_teacher",
        Role::Lower,
        &|c| plain(information_teacher(d_of(c), k, spec.delta.min(0.49))),
        vec![],
    )?;
    line(
        "statistical_query",
        Role::Lower,
        &|c| plain(statistical_query(d_of(c), k, spec.neurons, spec.delta)),
        vec![],
    )?;
    line(
        "statistical_query_order",
        Role::Order,
        &|c| Ok((Some((d_of(c) as f64).powi(k as i32 - 1)), None)),
        vec![],
    )?;
    line(
        "bound_labels",
        Role::Upper,
        &|c| plain(labels_first_phase(d_of(c), k, 0.5, spec.neurons, spec.delta)),
        vec![],
    )?;
    line(
        "bound_phase_one",
        Role::Upper,
        &|c| {
            Ok((
                median_own(c, |o| o.0),
                Some("median over the recovered teachers of each one's bound".into()),
            ))
        },
        vec![],
    )?;
    line(
        "predicted_labels",
        Role::Heuristic,
        &|c| plain(predicted_batch(&GradientStatistics::labels(d_of(c), k, 0.5)?, spec.fraction)),
        vec![],
    )?;
    line("predicted_phase_one", Role::Heuristic, &|c| Ok((median_own(c, |o| o.1), None)), vec![])?;
    let typical = |c: &Cell| match phase_one_typical(d_of(c), k, spec.teacher.width, spec.neurons, spec.delta)
    {
        Ok(b) => Ok((Some(b.samples), None)),
        Err(e @ (TheoryError::NoGap { .. } | TheoryError::TeachersFail { .. })) => {
            Ok((None, Some(e.to_string())))
        }
        Err(e) => Err(e),
    };
    if spec.teacher.width.is_multiple_of(2) {
        line("bound_phase_one_typical", Role::Heuristic, &typical, vec![])?;
    }
    line(
        "headline_one_shot",
        Role::Order,
        &|c| plain(headline_one_shot(d_of(c), k, spec.epsilon, Constants::default())),
        vec![],
    )?;
    line(
        "headline_progressive",
        Role::Order,
        &|c| plain(headline_progressive(d_of(c), k, spec.epsilon, Constants::default())),
        vec![],
    )?;

    let constant = |pairs: Vec<(f64, f64)>| {
        if pairs.is_empty() { Ok(None) } else { fitted_constant(&pairs, spec.confidence).map(Some) }
    };
    let labels = constant(
        cells.iter().filter_map(|c| Some(((d_of(c) as f64).powi(k as i32 - 1), c.labels.median?))).collect(),
    )?;
    let phase_one = constant(
        cells.iter().filter_map(|c| Some(((k as f64).powi(3), c.teachers.median_of_successes?))).collect(),
    )?;
    let mut constants = Constants::default();
    if let Some(c) = &labels {
        constants.labels = c.constant;
        line(
            "fitted_labels",
            Role::Fitted,
            &|x| Ok((Some(c.constant * (d_of(x) as f64).powi(k as i32 - 1)), None)),
            vec![],
        )?;
    }
    if let Some(c) = &phase_one {
        constants.first_phase = c.constant;
        line(
            "fitted_phase_one",
            Role::Fitted,
            &|_| Ok((Some(c.constant * (k as f64).powi(3)), None)),
            vec![],
        )?;
    }
    if labels.is_some() && phase_one.is_some() {
        line(
            "headline_progressive_fitted",
            Role::Fitted,
            &|c| plain(headline_progressive(d_of(c), k, spec.epsilon, constants)),
            vec![],
        )?;
    }
    out.fitted.push(Fitted {
        k,
        labels,
        phase_one,
        crossover_unit: crossover(k, spec.epsilon, Constants::default())?,
        crossover_fitted: crossover(k, spec.epsilon, constants)?,
    });
    for c in cells {
        verdicts(spec, c, out)?;
    }
    slopes(spec, k, cells, out);
    Ok(())
}

fn failure_note(r: &RecoveryBatches) -> Option<String> {
    (r.failures > 0).then(|| {
        format!(
            "{} of {} trials not recovered with {} samples",
            r.failures,
            r.batches.len(),
            r.spec.max_batch
        )
    })
}

/// Median of a teacher's own number over the teachers that recovered and have one.
pub(super) fn median_own(c: &Cell, of: impl Fn(&(Option<f64>, Option<f64>)) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> =
        c.teachers.batches.iter().zip(&c.own).filter_map(|(b, o)| b.and(of(o))).collect();
    (!values.is_empty()).then(|| median(&mut values))
}
