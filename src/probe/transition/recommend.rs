//! Which checkpoint to distil from, and why.
//!
//! What a student can learn early from a checkpoint is its low-degree correlations with the support, and they stand out only
//! inside the phase transition (PAPER, Figure 2). Among the checkpoints where they do, the accuracy decides: nearest to 84%.
//! Taking the largest degree-1 contrast instead is tempting and worse. It peaks early, near 65-75%, where degree 2 is close to
//! its zero crossing. Measured with d = 52, k = 4, batch 32, teacher width 1000, student width 20, tau = 0, six teachers,
//! three students of every checkpoint: median steps to 99% relative to the best checkpoint of the same teacher were 1.00-1.08
//! (nearest to 84%) against 1.15-1.45 (largest degree-1 contrast); the rule was chosen on these runs. As a check d = 32, k = 6,
//! student width 50, teachers 1 to 4: 1.59, 1.02, 1.29, 1.35 against 2.04, 1.25, 1.23, 1.43; neighbouring checkpoints
//! differ by a factor of 2 there, so no rule is sure. For more than two labels the same fractions of the way from
//! chance to 1 are used, untested. Each fallback says that it is one.

use super::{DegreeSummary, Point, Transition};
use serde::{Deserialize, Serialize};

/// Accuracies inside the transition, as fractions of the way from chance to 1: 60% to 97% for two labels.
const WINDOW: [f64; 2] = [0.2, 0.94];

/// Where the best checkpoints were found, in the middle: 84% for two labels.
const TYPICAL: f64 = 0.68;

/// Noise floors by which a contrast has to exceed 0.
const STANDS_OUT: f64 = 3.0;

/// A checkpoint for (2,T)-distillation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Its training step.
    pub step: u64,
    /// Its path.
    pub path: String,
    /// Its accuracy.
    pub accuracy: Option<f64>,
    /// Degree whose in-support correlations stand out most; `None` for a fallback.
    pub degree: Option<usize>,
    /// Why this one.
    pub reason: String,
}

/// The recommended point, or why there is none.
pub(super) fn recommend(
    points: &[Point],
    transition: Option<&Transition>,
    chance: f64,
) -> Result<Recommendation, String> {
    let at = |fraction: f64| chance + fraction * (1.0 - chance);
    let [low, high] = WINDOW.map(at);
    let known: Vec<(&Point, f64)> = points.iter().filter_map(|p| Some((p, p.accuracy?))).collect();
    if points.is_empty() {
        return Err("no checkpoint with a known step".into());
    }
    if known.is_empty() {
        return Err("the checkpoints' accuracies are unknown: give --support".into());
    }
    let choose = |point: &Point, degree: Option<usize>, reason: String| {
        Ok(Recommendation {
            step: point.step,
            path: point.path.clone(),
            accuracy: point.accuracy,
            degree,
            reason,
        })
    };
    let inside: Vec<(&Point, f64)> =
        known.iter().copied().filter(|(_, a)| (low..=high).contains(a)).collect();
    let window = format!("{}% and {}%", percent(low), percent(high));

    if inside.is_empty() {
        let Some(transition) = transition else {
            let seen = known.iter().fold([f64::MAX, f64::MIN], |[l, h], (_, a)| [l.min(*a), h.max(*a)]);
            return Err(format!(
                "no transition seen: accuracies lie between {}% and {}% (chance is {}%); train longer, or probe earlier checkpoints",
                percent(seen[0]),
                percent(seen[1]),
                percent(chance)
            ));
        };
        let Some(middle) = transition.middle else {
            return Err(format!(
                "the transition has begun, but no checkpoint has reached {}% accuracy yet; train longer",
                percent(low)
            ));
        };
        let (point, accuracy) =
            known.iter().min_by_key(|(p, _)| p.step.abs_diff(middle.step)).expect("known is not empty");
        return choose(
            point,
            None,
            format!(
                "checkpoints are too sparse: none has an accuracy between {window}; this one ({}%) is the nearest to the middle of the transition at step {}, and is unlikely to teach much; save checkpoints inside the transition",
                percent(*accuracy),
                middle.step
            ),
        );
    }

    let typical = at(TYPICAL);
    let nearest = |candidates: &[(&Point, f64)]| {
        let best =
            candidates.iter().min_by(|(_, x), (_, y)| (x - typical).abs().total_cmp(&(y - typical).abs()));
        best.map(|(point, _)| point.step).and_then(|step| points.iter().find(|p| p.step == step))
    };
    let standing: Vec<(&Point, f64)> =
        inside.iter().copied().filter(|(p, _)| strongest(p).is_some()).collect();
    if let Some(point) = nearest(&standing)
        && let Some(found) = strongest(point)
    {
        let floors = found.contrast_z.map_or(String::new(), |z| format!(", {z:.0} noise floors apart"));
        return choose(
            point,
            Some(found.degree),
            format!(
                "{}% accuracy, the nearest to {}% (near which checkpoints were found to teach best) of the {} between {window} whose in-support correlations stand out; here most at degree {}: mean |correlation| {:.4} inside the support against {:.4} outside{floors}",
                percent(point.accuracy.unwrap_or(f64::NAN)),
                percent(typical),
                plural(standing.len()),
                found.degree,
                found.in_support_mean_abs.unwrap_or(0.0),
                found.off_support_mean_abs.unwrap_or(0.0),
            ),
        );
    }
    let point = nearest(&inside).expect("inside is not empty");
    let measured = inside.iter().any(|(p, _)| p.degrees.iter().any(|d| d.contrast.is_some()));
    let why = if measured {
        format!(
            "no contrast between in- and off-support correlations stands out by {STANDS_OUT} noise floors at any checkpoint with accuracy between {window} (more --samples or other --degrees may show one)"
        )
    } else {
        "no contrast between in- and off-support correlations was measured".into()
    };
    let accuracy = percent(point.accuracy.unwrap_or(f64::NAN));
    choose(
        point,
        None,
        format!("{why}; chosen by accuracy alone: {accuracy}% is the nearest to {}%", percent(typical)),
    )
}

/// The degree with the largest contrast among those that stand out.
fn strongest(point: &Point) -> Option<&DegreeSummary> {
    let standing = point.degrees.iter().filter(|d| stands_out(d));
    standing.max_by(|x, y| x.contrast.unwrap_or(0.0).total_cmp(&y.contrast.unwrap_or(0.0)))
}

/// In-support correlations stand out: by more than noise, and not merely as one of many large off-support ones.
fn stands_out(degree: &DegreeSummary) -> bool {
    let Some(contrast) = degree.contrast else { return false };
    contrast > STANDS_OUT * degree.noise_floor
        && degree.in_support_mean_abs.unwrap_or(0.0) > 1.5 * degree.off_support_mean_abs.unwrap_or(0.0)
}

fn plural(count: usize) -> String {
    if count == 1 { "one checkpoint".into() } else { format!("{count} checkpoints") }
}

/// Per cent with at most one decimal.
fn percent(fraction: f64) -> f64 {
    (1000.0 * fraction).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::detect;
    use super::*;
    use crate::Evaluation;

    fn point(step: u64, accuracy: f64, inside: f64, outside: f64) -> Point {
        let degree = DegreeSummary {
            degree: 1,
            in_support_count: 6,
            in_support_mean_abs: Some(inside),
            in_support_max_abs: Some(inside),
            off_support_count: 94,
            off_support_mean_abs: Some(outside),
            off_support_max_abs: Some(outside),
            contrast: Some(inside - outside),
            contrast_z: Some((inside - outside) / 0.001),
            noise_floor: 0.001,
            expected_max_noise: 0.003,
        };
        Point {
            step,
            path: format!("step-{step}"),
            accuracy: Some(accuracy),
            samples: None,
            degrees: vec![degree],
        }
    }

    fn recommended(points: &[Point]) -> Result<Recommendation, String> {
        let at = |p: &Point| Evaluation { step: p.step, samples: None, accuracy: p.accuracy.unwrap() };
        let series: Vec<Evaluation> = points.iter().map(at).collect();
        recommend(points, detect(&series, 0.5, None).as_ref(), 0.5)
    }

    #[test]
    fn a_standing_contrast_inside_the_transition_and_accuracy_decide() {
        // 84% without contrast does not count, nor a large contrast before or after the transition.
        let points = [
            point(0, 0.5, 0.202, 0.001),
            point(1, 0.65, 0.10, 0.004),
            point(2, 0.8, 0.08, 0.004),
            point(3, 0.84, 0.005, 0.004),
            point(4, 0.95, 0.05, 0.004),
            point(5, 0.995, 0.2, 0.004),
        ];
        let found = recommended(&points).unwrap();
        assert_eq!((found.step, found.degree), (2, Some(1)));
        assert!(
            found.reason.contains("0.0800") && found.reason.contains("3 checkpoints"),
            "{}",
            found.reason
        );
    }

    #[test]
    fn fallbacks_say_why() {
        let sparse = [point(0, 0.5, 0.0, 0.0), point(1, 0.51, 0.0, 0.0), point(2, 1.0, 0.0, 0.0)];
        let found = recommended(&sparse).unwrap();
        assert_eq!((found.step, found.degree), (2, None));
        assert!(found.reason.contains("too sparse"), "{}", found.reason);

        let faint = [point(0, 0.5, 0.0, 0.0), point(1, 0.66, 0.004, 0.003), point(2, 0.85, 0.0, 0.0)];
        let found = recommended(&faint).unwrap();
        assert_eq!((found.step, found.degree), (2, None));
        assert!(found.reason.contains("noise floors"), "{}", found.reason);

        // Large, but no larger than outside.
        let crowd = [point(0, 0.5, 0.0, 0.0), point(1, 0.8, 0.10, 0.09)];
        assert_eq!(recommended(&crowd).unwrap().degree, None);

        let chance = [point(0, 0.5, 0.1, 0.0), point(1, 0.505, 0.1, 0.0)];
        assert!(recommended(&chance).unwrap_err().contains("no transition seen"));
        let begun = [point(0, 0.5, 0.1, 0.0), point(1, 0.57, 0.1, 0.0)];
        assert!(recommended(&begun).unwrap_err().contains("has begun"));
        assert!(recommended(&[]).is_err());
    }
}
