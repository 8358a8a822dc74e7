//! Curves for drawing: the median over seeds, and fewer points where nothing happens.

use super::data::{Arm, CurvePoint, RunCurve};
use curricle_core::math::order::lower_median;

/// Median accuracy (of an even number of runs the lower middle one) over an arm, at every sample count at which any run was evaluated.
///
/// Between evaluations a run counts with its last value; a run that stopped early (usually because it had reached its
/// goal) keeps its last value to the right end, since leaving it out would turn the median into one over the slow runs.
/// Before its first evaluation a run does not count.
pub fn median_curve(arm: &Arm) -> Vec<[f64; 2]> {
    let mut grid: Vec<u64> = arm.runs.iter().flat_map(|r| r.points.iter().map(|p| p.samples)).collect();
    grid.sort_unstable();
    grid.dedup();
    let mut next = vec![0; arm.runs.len()];
    let mut curve = Vec::with_capacity(grid.len());
    for samples in grid {
        let mut values = Vec::with_capacity(arm.runs.len());
        for (run, next) in arm.runs.iter().zip(&mut next) {
            while run.points.get(*next).is_some_and(|p| p.samples <= samples) {
                *next += 1;
            }
            values.extend(next.checked_sub(1).map(|i| run.points[i].accuracy));
        }
        curve.extend(lower_median(values).map(|m| [samples as f64, m]));
    }
    curve
}

/// At most about `limit` points of a run, chosen by [`thin_indices`].
pub fn thin(run: &RunCurve, chance: f64, limit: usize) -> Vec<CurvePoint> {
    let accuracies: Vec<f64> = run.points.iter().map(|p| p.accuracy).collect();
    thin_indices(&accuracies, chance, limit).into_iter().map(|i| run.points[i]).collect()
}

/// Which of a curve's points to keep, at most about `limit`, so that its shape stays: two thirds of the room go to the
/// transition (accuracy well above chance and below 99.5%), the rest is split into equal stretches of which the lowest
/// and the highest accuracy stay. The first and the last point always stay.
pub fn thin_indices(accuracies: &[f64], chance: f64, limit: usize) -> Vec<usize> {
    let n = accuracies.len();
    if n <= limit.max(8) {
        return (0..n).collect();
    }
    let chance = if chance.is_finite() { chance } else { 0.0 };
    let inside = |a: f64| a > chance + 0.04 * (1.0 - chance) && a < 0.995;
    let (transition, rest): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| inside(accuracies[i]));
    let room = (limit * 2 / 3).max(limit.saturating_sub(rest.len()));
    let mut keep = vec![0, n - 1];
    keep.extend(extremes(accuracies, &transition, room.min(transition.len())));
    let left = limit.saturating_sub(keep.len());
    keep.extend(extremes(accuracies, &rest, left.max(4)));
    keep.sort_unstable();
    keep.dedup();
    keep
}

/// The lowest and the highest of each of `room / 2` equal stretches of the chosen points.
fn extremes(accuracies: &[f64], chosen: &[usize], room: usize) -> Vec<usize> {
    if chosen.len() <= room {
        return chosen.to_vec();
    }
    let by_accuracy = |a: &&usize, b: &&usize| accuracies[**a].total_cmp(&accuracies[**b]);
    chosen
        .chunks(chosen.len().div_ceil((room / 2).max(1)))
        .flat_map(|part| [part.iter().min_by(by_accuracy), part.iter().max_by(by_accuracy)])
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ArmKind;

    fn run(accuracies: &[f64]) -> RunCurve {
        let points = accuracies
            .iter()
            .enumerate()
            .map(|(i, &accuracy)| {
                let samples = 10 * (i as u64 + 1);
                CurvePoint { samples, step: samples, accuracy, loss: 0.0, teacher_step: None }
            })
            .collect();
        let samples_to = Default::default();
        RunCurve { seed: 0, points, samples_to, final_accuracy: 1.0, steps: 0, samples: 0, wall_seconds: 0.0 }
    }

    #[test]
    fn runs_that_stopped_keep_their_last_value() {
        let runs = vec![run(&[0.5, 1.0]), run(&[0.5, 1.0]), run(&[0.5, 0.5, 0.6, 0.7])];
        let (kind, text) = (ArmKind::Student, String::new);
        let arm = Arm { name: text(), label: text(), kind, group: text(), settings: text(), runs };
        assert_eq!(median_curve(&arm), [[10.0, 0.5], [20.0, 1.0], [30.0, 1.0], [40.0, 1.0]]);
    }

    #[test]
    fn thinning_keeps_the_transition_and_the_ends() {
        let long: Vec<f64> = (0..20_000)
            .map(|i| match i {
                0..10_000 => 0.5,
                10_000..10_200 => 0.5 + (i - 10_000) as f64 / 400.0,
                _ => 1.0,
            })
            .collect();
        let run = run(&long);
        let thinned = thin(&run, 0.5, 600);
        assert!(thinned.len() <= 620, "{}", thinned.len());
        assert_eq!(thinned[0], run.points[0]);
        assert_eq!(thinned.last(), run.points.last());
        let inside = thinned.iter().filter(|p| p.accuracy > 0.53 && p.accuracy < 0.99).count();
        assert!(inside > 170, "the 200 evaluations of the transition are nearly all there: {inside}");
        assert!(thinned.windows(2).all(|w| w[0].samples < w[1].samples));
    }
}
