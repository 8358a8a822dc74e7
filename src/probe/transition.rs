//! Correlations over a run: when the phase transition happens, where the in-support contrast is, and which checkpoint to
//! distil from.

mod recommend;

pub use recommend::Recommendation;

use super::noise::expected_max;
use super::{Correlations, Monomials, ProbeError, Request, correlations};
use curricle_core::model::LogitModel;
use curricle_core::task::BooleanTask;
use serde::{Deserialize, Serialize};

/// How far above chance an accuracy counts as having left it: two points.
const DEPARTURE: f64 = 0.02;

/// Accuracy at which a transition is over.
const SOLVED: f64 = 0.99;

/// One evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Training steps taken.
    pub step: u64,
    /// Training samples seen, where recorded.
    pub samples: Option<u64>,
    /// Accuracy in [0, 1].
    pub accuracy: f64,
}

/// One checkpoint with its correlations.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointCorrelations {
    /// Where the checkpoint came from.
    pub path: String,
    /// Training step, where known.
    pub step: Option<u64>,
    /// Logits of the model.
    pub classes: usize,
    /// Accuracy of guessing: of the task where it is known, else 1 / logits.
    pub chance: f64,
    /// What was measured.
    pub correlations: Correlations,
}

/// Absolute correlations of one degree at one checkpoint. A field is `None` where there is no such monomial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DegreeSummary {
    /// Size of the subsets.
    pub degree: usize,
    /// Number of subsets inside the support.
    pub in_support_count: usize,
    /// Mean |correlation| inside the support.
    pub in_support_mean_abs: Option<f64>,
    /// Largest |correlation| inside the support.
    pub in_support_max_abs: Option<f64>,
    /// Number of subsets outside the support.
    pub off_support_count: usize,
    /// Mean |correlation| outside the support.
    pub off_support_mean_abs: Option<f64>,
    /// Largest |correlation| outside the support.
    pub off_support_max_abs: Option<f64>,
    /// Mean inside minus mean outside.
    pub contrast: Option<f64>,
    /// The contrast in units of the noise floor; `None` also where the noise floor is 0 (exact correlations).
    pub contrast_z: Option<f64>,
    /// Standard error of a correlation that is truly 0.
    pub noise_floor: f64,
    /// The largest |correlation| to expect of as many truly uncorrelated monomials as were measured at this degree.
    pub expected_max_noise: f64,
}

/// One checkpoint on the timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Training step.
    pub step: u64,
    /// The checkpoint.
    pub path: String,
    /// Accuracy on the probe's inputs; without a task that of the evaluation at the same step.
    pub accuracy: Option<f64>,
    /// Training samples seen, where an evaluation at the same step recorded them.
    pub samples: Option<u64>,
    /// One entry per measured degree, ascending.
    pub degrees: Vec<DegreeSummary>,
}

/// The rise of the accuracy from chance to 99%.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// Accuracy of guessing.
    pub chance: f64,
    /// The last evaluation still at chance (within two points, or within the noise of the evaluation); `None` if the first
    /// evaluation was already above.
    pub start: Option<Evaluation>,
    /// The first evaluation at least halfway between chance and 1; `None` if never reached.
    pub middle: Option<Evaluation>,
    /// The first evaluation of at least 99%; `None` if never reached.
    pub end: Option<Evaluation>,
}

/// What a run folder's checkpoints show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Checkpoints by step.
    pub points: Vec<Point>,
    /// The phase transition; `None` if the accuracy never left chance, was above 99% from the beginning, or is unknown.
    pub transition: Option<Transition>,
    /// The checkpoint to use as the intermediate teacher of (2,T)-distillation.
    pub recommended: Option<Recommendation>,
    /// Why nothing is recommended; `None` where something is.
    pub no_recommendation: Option<String>,
}

/// Detects the phase transition in evaluations sorted by step.
///
/// "At chance" is an accuracy below that of guessing plus two points, or plus four standard errors of an evaluation at chance on
/// `evaluated` inputs where that is more. The start is the last such evaluation before the middle (or before the end of the
/// record), so a dip after the transition does not move it.
pub fn detect(evaluations: &[Evaluation], chance: f64, evaluated: Option<u64>) -> Option<Transition> {
    let noise = evaluated.map_or(0.0, |n| 4.0 * (chance * (1.0 - chance) / n.max(1) as f64).sqrt());
    let departed = chance + DEPARTURE.max(noise);
    let first_at = |accuracy: f64| evaluations.iter().position(|e| e.accuracy >= accuracy);
    let middle = first_at(chance + (1.0 - chance) / 2.0);
    let before = &evaluations[..middle.unwrap_or(evaluations.len())];
    let start = before.iter().rposition(|e| e.accuracy < departed);
    match (start, middle) {
        // Still at chance at the end of the record.
        (Some(last), None) if last + 1 == evaluations.len() => return None,
        // Nothing but solved evaluations: the transition was over before the first.
        (None, Some(0)) if evaluations.iter().all(|e| e.accuracy >= SOLVED) => return None,
        (None, None) if evaluations.is_empty() => return None,
        _ => {}
    }
    let at = |index: Option<usize>| index.map(|i| evaluations[i]);
    Some(Transition { chance, start: at(start), middle: at(middle), end: at(first_at(SOLVED)) })
}

/// Summaries of the measured degrees, ascending.
pub fn summarise(correlations: &Correlations) -> Vec<DegreeSummary> {
    let mut degrees: Vec<usize> =
        correlations.coefficients.iter().map(|c| c.monomial.coordinates.len()).collect();
    degrees.sort_unstable();
    degrees.dedup();
    degrees.into_iter().map(|degree| summarise_degree(correlations, degree)).collect()
}

fn summarise_degree(correlations: &Correlations, degree: usize) -> DegreeSummary {
    let of_degree = || correlations.coefficients.iter().filter(|c| c.monomial.coordinates.len() == degree);
    let absolute = |inside: bool| {
        let wanted = move |c: &&super::Coefficient| c.monomial.in_support == Some(inside);
        let (count, sum, max) = of_degree()
            .filter(wanted)
            .fold((0, 0.0, 0.0f64), |(n, sum, max), c| (n + 1, sum + c.value.abs(), max.max(c.value.abs())));
        (count, (count > 0).then(|| sum / count as f64), (count > 0).then_some(max))
    };
    let (in_support_count, in_support_mean_abs, in_support_max_abs) = absolute(true);
    let (off_support_count, off_support_mean_abs, off_support_max_abs) = absolute(false);
    let noise_floor = correlations.noise_floor;
    let contrast = in_support_mean_abs.zip(off_support_mean_abs).map(|(inside, outside)| inside - outside);
    DegreeSummary {
        degree,
        in_support_count,
        in_support_mean_abs,
        in_support_max_abs,
        off_support_count,
        off_support_mean_abs,
        off_support_max_abs,
        contrast,
        contrast_z: contrast.filter(|_| noise_floor > 0.0).map(|c| c / noise_floor),
        noise_floor,
        expected_max_noise: noise_floor * expected_max(of_degree().count()),
    }
}

/// The timeline of probed checkpoints of one run. Checkpoints without a step are left out; `evaluations` are the run's
/// metrics, in any order, and may be empty: then the checkpoints' own accuracies stand in.
pub fn timeline(checkpoints: &[CheckpointCorrelations], evaluations: &[Evaluation]) -> Timeline {
    let recorded = |step: u64| evaluations.iter().rfind(|e| e.step == step);
    let mut points: Vec<Point> = checkpoints
        .iter()
        .filter_map(|c| {
            let step = c.step?;
            let evaluation = recorded(step);
            Some(Point {
                step,
                path: c.path.clone(),
                accuracy: c.correlations.accuracy.or(evaluation.map(|e| e.accuracy)),
                samples: evaluation.and_then(|e| e.samples),
                degrees: summarise(&c.correlations),
            })
        })
        .collect();
    points.sort_by_key(|p| p.step);
    let mut series = evaluations.to_vec();
    // A checkpoint between evaluations is an evaluation too.
    series.extend(points.iter().filter(|p| recorded(p.step).is_none()).filter_map(|p| {
        let accuracy = p.accuracy?;
        Some(Evaluation { step: p.step, samples: p.samples, accuracy })
    }));
    series.sort_by_key(|e| e.step);
    let chance = checkpoints.first().map_or(0.5, |c| c.chance);
    let transition = detect(&series, chance, None);
    let (recommended, no_recommendation) = match recommend::recommend(&points, transition.as_ref(), chance) {
        Ok(found) => (Some(found), None),
        Err(why) => (None, Some(why)),
    };
    Timeline { points, transition, recommended, no_recommendation }
}

/// Accuracy of guessing: of the task where it is known, else 1 / logits of the model.
pub fn chance(model: &dyn LogitModel, task: Option<&dyn BooleanTask>) -> f64 {
    task.map_or_else(|| 1.0 / model.classes() as f64, BooleanTask::chance)
}

/// Probes `(step, path, model)` one after the other, holding one model at a time, and puts them on a timeline.
///
/// # Errors
/// As [`correlations`], for the first checkpoint that fails.
pub fn timeline_of<M: LogitModel>(
    checkpoints: impl IntoIterator<Item = (u64, String, M)>,
    monomials: &Monomials,
    task: Option<&dyn BooleanTask>,
    request: &Request,
    evaluations: &[Evaluation],
) -> Result<Timeline, ProbeError> {
    let mut probed = Vec::new();
    for (step, path, model) in checkpoints {
        let correlations = correlations(&model, monomials, task, request, &mut |_| {})?;
        probed.push(CheckpointCorrelations {
            path,
            step: Some(step),
            classes: model.classes(),
            chance: chance(&model, task),
            correlations,
        });
    }
    Ok(timeline(&probed, evaluations))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(accuracies: &[f64]) -> Vec<Evaluation> {
        let at = |(i, &accuracy)| Evaluation { step: 100 * i as u64, samples: None, accuracy };
        accuracies.iter().enumerate().map(at).collect()
    }

    fn steps(transition: Transition) -> [Option<u64>; 3] {
        [transition.start, transition.middle, transition.end].map(|e| e.map(|e| e.step))
    }

    #[test]
    fn transitions_are_found() {
        let found = |accuracies: &[f64]| detect(&series(accuracies), 0.5, None).map(steps);
        assert_eq!(found(&[0.5, 0.51, 0.6, 0.8, 0.995, 1.0]), Some([Some(100), Some(300), Some(400)]));
        // A noisy evaluation early on and a dip afterwards change nothing.
        assert_eq!(found(&[0.53, 0.5, 0.7, 0.9, 0.99, 0.51]), Some([Some(100), Some(300), Some(400)]));
        assert_eq!(found(&[0.5, 0.6, 0.7]), Some([Some(0), None, None]));
        assert_eq!(found(&[0.6, 0.8, 1.0]), Some([None, Some(100), Some(200)]));
        assert_eq!(found(&[0.5, 0.53, 0.505]), None);
        assert_eq!(found(&[1.0, 0.995]), None);
        assert_eq!(found(&[]), None);
        // Chance is 1/8 for eight labels, the middle 9/16.
        let eight = detect(&series(&[0.13, 0.2, 0.55, 0.57, 1.0]), 0.125, None).map(steps);
        assert_eq!(eight, Some([Some(0), Some(300), Some(400)]));
        // An evaluation on 100 inputs at 60% is still chance.
        let noisy = detect(&series(&[0.5, 0.6, 0.9, 1.0]), 0.5, Some(100)).map(steps);
        assert_eq!(noisy, Some([Some(100), Some(200), Some(300)]));
    }
}
