//! From measurements to lines, constants and verdicts.

use super::{Cell, CompareSpec, Comparison, Fitted, Line, Point, RecoveryPoint, Role, Verdict};
use crate::bounds::{
    Bound, Constants, GradientStatistics, crossover, headline_one_shot, headline_progressive,
    information_labels, information_teacher, labels_first_phase, phase_one_typical, predicted_batch,
    statistical_query,
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
        Role::Prediction,
        &|c| plain(predicted_batch(&GradientStatistics::labels(d_of(c), k, 0.5)?, spec.fraction)),
        vec![],
    )?;
    line("predicted_phase_one", Role::Prediction, &|c| Ok((median_own(c, |o| o.1), None)), vec![])?;
    let typical = |c: &Cell| match phase_one_typical(d_of(c), k, spec.teacher.width, spec.neurons, spec.delta)
    {
        Ok(b) => Ok((Some(b.samples), None)),
        Err(e @ (TheoryError::NoGap { .. } | TheoryError::TeachersFail { .. })) => Ok((None, Some(e.to_string()))),
        Err(e) => Err(e),
    };
    if spec.teacher.width.is_multiple_of(2) {
        line("bound_phase_one_typical", Role::Upper, &typical, vec![])?;
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
    Ok(())
}

fn verdicts(spec: &CompareSpec, c: &Cell, out: &mut Comparison) -> Result<()> {
    let (d, k) = (c.problem.dimension(), c.problem.k());
    let upper = labels_first_phase(d, k, 0.5, spec.neurons, spec.delta)?.samples;
    let lower = information_labels(d, k, spec.delta)?
        .samples
        .max(statistical_query(d, k, spec.neurons, spec.delta)?.samples);
    let above = c.labels.batches.iter().filter(|b| b.is_none_or(|b| b as f64 > upper)).count() as u64;
    let settled = |measured: Option<f64>, lower: f64, upper: Option<f64>, above: u64| {
        measured.map(|m| m >= lower && upper.is_none_or(|u| m <= u) && above == 0)
    };
    let holds = settled(c.labels.median, lower, Some(upper), above);
    let compared = c.labels.batches.len() as u64;
    out.verdicts.push(Verdict {
        line: "measured_labels".into(),
        k,
        d,
        measured: c.labels.median,
        lower,
        upper: Some(upper),
        compared,
        above_own_bound: above,
        holds,
    });

    let lower = information_teacher(d, k, spec.delta.min(0.49))?.samples;
    let upper = median_own(c, |o| o.0);
    let pairs: Vec<(f64, f64)> =
        c.teachers.batches.iter().zip(&c.own).filter_map(|(b, o)| Some(((*b)? as f64, o.0?))).collect();
    let above = pairs.iter().filter(|(b, bound)| b > bound).count() as u64;
    let measured = c.teachers.median_of_successes;
    let holds = settled(measured, lower, upper, above);
    out.verdicts.push(Verdict {
        line: "measured_phase_one".into(),
        k,
        d,
        measured,
        lower,
        upper,
        compared: pairs.len() as u64,
        above_own_bound: above,
        holds,
    });
    out.recovery.push(RecoveryPoint {
        k,
        d,
        recovered: c.teachers.batches.len() as u64 - c.teachers.failures,
        teachers: c.teachers.batches.len() as u64,
        failure_interval: c.teachers.failure_interval,
        predicted: c.predicted.clone(),
    });
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
fn median_own(c: &Cell, of: impl Fn(&(Option<f64>, Option<f64>)) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> =
        c.teachers.batches.iter().zip(&c.own).filter_map(|(b, o)| b.and(of(o))).collect();
    (!values.is_empty()).then(|| median(&mut values))
}
