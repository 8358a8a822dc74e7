//! Exponents of measured totals, term by term, against the theorem's.

use serde::Serialize;

use super::{Arm, Outcome, PointResult};
use crate::error::Result;
use crate::fit::{Interval, PowerLaw, bootstrap_slope, power_law};

/// One fitted exponent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exponent {
    /// Supervision.
    pub arm: Arm,
    /// `first`, `second` or `total`.
    pub term: &'static str,
    /// `d`, `k`, `2^k`, `1/epsilon` or `width`.
    pub variable: &'static str,
    /// What was held fixed.
    pub fixed: String,
    /// Log-log fit of the medians.
    pub fit: PowerLaw,
    /// Bootstrap interval of the slope over trials.
    pub bootstrap: Option<Interval>,
    /// Exponent of the theorem's term.
    pub theorem: Option<f64>,
    /// Does the theorem's exponent lie in the wider of the two intervals? `None`: fewer than three points,
    /// fewer than half of the trials succeeded somewhere, or an interval wider than 2 decides nothing.
    pub agrees: Option<bool>,
}

/// All exponents that a sweep can give.
pub type Exponents = Vec<Exponent>;

type Key = (Arm, String);

/// Fits every group of at least two points that differ in one variable only (k is varied with the width's
/// ratio to 2^k held fixed).
pub fn exponents(results: &[PointResult], confidence: f64) -> Result<Exponents> {
    let mut out = Vec::new();
    let ratio = |r: &PointResult| r.point.width as f64 / (r.point.k as f64).exp2();
    type Of = Box<dyn Fn(&PointResult) -> f64>;
    type Rest = Box<dyn Fn(&PointResult) -> String>;
    let variables: [(&'static str, Of, Rest); 5] = [
        (
            "d",
            Box::new(|r| r.point.d as f64),
            Box::new(|r| format!("k = {}, width {}, epsilon {}", r.point.k, r.point.width, r.point.epsilon)),
        ),
        (
            "k",
            Box::new(|r| r.point.k as f64),
            Box::new(move |r| {
                format!("d = {}, width {} 2^k, epsilon {}", r.point.d, ratio(r), r.point.epsilon)
            }),
        ),
        (
            "2^k",
            Box::new(|r| (r.point.k as f64).exp2()),
            Box::new(move |r| {
                format!("d = {}, width {} 2^k, epsilon {}", r.point.d, ratio(r), r.point.epsilon)
            }),
        ),
        (
            "1/epsilon",
            Box::new(|r| 1.0 / r.point.epsilon),
            Box::new(|r| format!("d = {}, k = {}, width {}", r.point.d, r.point.k, r.point.width)),
        ),
        (
            "width",
            Box::new(|r| r.point.width as f64),
            Box::new(|r| format!("d = {}, k = {}, epsilon {}", r.point.d, r.point.k, r.point.epsilon)),
        ),
    ];
    for (variable, of, rest) in &variables {
        let mut keys: Vec<Key> = Vec::new();
        for r in results {
            let key = (r.point.arm, rest(r));
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        for (arm, fixed) in keys {
            let mut group: Vec<&PointResult> =
                results.iter().filter(|r| r.point.arm == arm && rest(r) == fixed).collect();
            group.sort_by(|a, b| of(a).total_cmp(&of(b)));
            group.dedup_by(|a, b| of(a) == of(b));
            let terms = [("first", 0), ("second", 1), ("total", 2)];
            for (term, which) in terms {
                // The first phase follows powers of k, the second 2^k.
                if matches!((*variable, term), ("k", "second" | "total") | ("2^k", "first")) {
                    continue;
                }
                let k = group[0].point.k;
                out.extend(exponent(arm, term, which, variable, &fixed, &group, of, k, confidence)?);
            }
        }
    }
    Ok(out)
}

#[allow(clippy::too_many_arguments)]
fn exponent(
    arm: Arm,
    term: &'static str,
    which: usize,
    variable: &'static str,
    fixed: &str,
    group: &[&PointResult],
    of: &dyn Fn(&PointResult) -> f64,
    k: usize,
    confidence: f64,
) -> Result<Option<Exponent>> {
    let value = |o: &Outcome| match which {
        0 => o.first,
        1 => o.second,
        _ => o.total(),
    };
    let median = |r: &PointResult| match which {
        0 => r.student.first,
        1 => r.student.second,
        _ => r.student.median,
    };
    let points: Vec<(f64, f64)> = group.iter().filter_map(|r| Some((of(r), median(r)?))).collect();
    if points.len() < 2 {
        return Ok(None);
    }
    let groups: Vec<(f64, Vec<f64>)> = group
        .iter()
        .filter(|r| median(r).is_some())
        .map(|r| (of(r), r.outcomes.iter().filter_map(value).map(|v| v as f64).collect()))
        .collect();
    let fit = power_law(&points, confidence)?;
    let bootstrap = bootstrap_slope(&groups, 500, confidence, 1).ok();
    let theorem = theorem(arm, term, variable, k);
    let wide = match (fit.slope_interval, bootstrap) {
        (Some(a), Some(b)) => Some(Interval { low: a.low.min(b.low), high: a.high.max(b.high) }),
        (one, other) => one.or(other),
    };
    let enough = points.len() == group.len() && points.len() >= 3;
    let agrees = match (theorem, wide) {
        (Some(t), Some(i)) if enough && i.high - i.low <= 2.0 => Some(i.low <= t && t <= i.high),
        _ => None,
    };
    let fixed = fixed.to_owned();
    Ok(Some(Exponent { arm, term, variable, fixed, fit, bootstrap, theorem, agrees }))
}

/// `2^k d^2 eps^-2 + k^3` and `max(d^(k-1), eps^-2)`, term by term.
fn theorem(arm: Arm, term: &str, variable: &str, k: usize) -> Option<f64> {
    match (arm, term, variable) {
        (Arm::Progressive, "first", "d" | "1/epsilon" | "width") => Some(0.0),
        (Arm::Progressive, "first", "k") => Some(3.0),
        (Arm::Progressive, "second", "d" | "1/epsilon") => Some(2.0),
        (_, "second", "2^k") => Some(1.0),
        (Arm::Labels | Arm::OneShot, "first", "d") => Some(k as f64 - 1.0),
        (Arm::Labels | Arm::OneShot, "first", "1/epsilon") => Some(0.0),
        (Arm::Labels | Arm::OneShot, "second", "1/epsilon") => Some(2.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::total::{Point, Totals};

    fn result(d: usize, first: f64) -> PointResult {
        let outcome = |v: f64| Outcome { first: Some(v as u64), second: Some(100), ..Outcome::default() };
        PointResult {
            point: Point { d, k: 4, width: 64, epsilon: 0.1, arm: Arm::Labels },
            trials: 5,
            reached: 5,
            reached_interval: Interval { low: 0.4, high: 1.0 },
            student: Totals {
                first: Some(first),
                second: Some(100.0),
                median: Some(first + 100.0),
                quantile: None,
                median_of_successes: None,
            },
            teacher_second: None,
            teacher_first: None,
            teacher_loss: None,
            lowest_loss: None,
            rank_one: None,
            radius: 1.0,
            feature_norm: 1.0,
            outcomes: [0.9, 0.95, 1.0, 1.05, 1.1].map(|f| outcome(f * first)).to_vec(),
        }
    }

    #[test]
    fn a_cube_is_found_and_two_points_decide_nothing() {
        let results: Vec<PointResult> =
            [10, 20, 40].map(|d: usize| result(d, 7.0 * (d as f64).powi(3))).to_vec();
        let found = exponents(&results, 0.95).unwrap();
        let first = found.iter().find(|e| e.term == "first" && e.variable == "d").unwrap();
        assert!((first.fit.slope - 3.0).abs() < 0.01 && first.agrees == Some(true), "{first:?}");
        let second = found.iter().find(|e| e.term == "second" && e.variable == "d").unwrap();
        assert!(second.fit.slope.abs() < 1e-9 && second.theorem.is_none());
        assert!(exponents(&results[..2], 0.95).unwrap().iter().all(|e| e.agrees.is_none()));
    }
}
