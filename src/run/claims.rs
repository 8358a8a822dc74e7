//! Claims of a spec judged on recorded metrics.
//!
//! Every claim is about the median over seeds of some number. The interval is the order-statistic confidence interval of
//! that median. A run that never reached a level enters as a bound, not as a number: if the slower run is censored
//! the ratio is only known to lie below a value, and both ends of the interval carry that knowledge. PASS and
//! FAIL need the whole interval on one side of the bound; anything else is INCONCLUSIVE.

use super::gather::{RunRecord, TeacherTimeline, runs_of};
use super::spec::ClaimSpec;
use crate::report::stats::median_interval;
use serde::{Deserialize, Serialize};

/// What the metrics say of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// The whole interval supports it.
    Pass,
    /// The whole interval contradicts it.
    Fail,
    /// Neither.
    Inconclusive,
}

/// A judged claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Name in the spec.
    pub name: String,
    /// The claim in words.
    pub statement: String,
    /// Verdict.
    pub verdict: Verdict,
    /// Median over seeds; null when it is not finite.
    pub value: Option<f64>,
    /// Interval of the median; an end that is not finite is null.
    pub interval: [Option<f64>; 2],
    /// Every seed, and the coverage of the interval.
    pub detail: String,
}

/// What is known of one seed's number: it lies between these.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Known {
    low: f64,
    high: f64,
}

impl Known {
    fn exactly(value: f64) -> Self {
        Self { low: value, high: value }
    }

    fn text(self) -> String {
        match (self.low == self.high, self.high.is_finite(), self.low > 0.0) {
            (true, ..) => format!("{:.3}", self.low),
            (_, true, _) => format!("<{:.3}", self.high),
            (_, false, true) => format!(">{:.3}", self.low),
            _ => "?".to_owned(),
        }
    }
}

/// Judges one claim.
pub fn judge(
    name: &str,
    claim: &ClaimSpec,
    runs: &[RunRecord],
    timelines: &[TeacherTimeline],
    seeds: &[u64],
) -> Claim {
    // Positive: larger is better for the claim.
    let (statement, per_seed, bound, at_most): (String, Vec<(u64, Known)>, f64, bool) = match claim {
        ClaimSpec::SamplesRatio { arm, than, at, level, at_most } => (
            format!(
                "median over seeds of samples to {} of {arm} / {than}{} is at most {at_most}",
                percent(*level),
                with(*at)
            ),
            pairs(runs, seeds, (arm, than), *at, *level, |a, b| {
                let (a, b) = (samples_to(a, *level), samples_to(b, *level));
                Known { low: a.low / b.high, high: a.high / b.low }
            }),
            *at_most,
            true,
        ),
        ClaimSpec::FinalAccuracyGain { arm, than, at, at_least } => (
            format!(
                "median over seeds of final accuracy of {arm} minus {than}{} is at least {at_least}",
                with(*at)
            ),
            pairs(runs, seeds, (arm, than), *at, 0.99, |a, b| match (a.final_accuracy, b.final_accuracy) {
                (Some(a), Some(b)) => Known::exactly(a - b),
                _ => Known { low: -1.0, high: 1.0 },
            }),
            *at_least,
            false,
        ),
        ClaimSpec::Reaches { arm, at, level, at_least } => {
            return reaches(name, runs_of(runs, arm, *at, *level), (arm, *at, *level), *at_least, seeds);
        }
        ClaimSpec::StaysBelow { arm, at, level } => (
            format!(
                "median over seeds of the best accuracy of {arm}{} is below {}",
                with(*at),
                percent(*level)
            ),
            runs_of(runs, arm, *at, *level)
                .iter()
                .filter(|r| seeds.contains(&r.seed))
                .map(|r| (r.seed, r.best_accuracy().map_or(Known { low: 0.0, high: 1.0 }, Known::exactly)))
                .collect(),
            *level,
            true,
        ),
        ClaimSpec::CorrelationContrast { degree, at_least } => (
            format!(
                "median over seeds of the largest in-/off-support ratio of mean |correlation| of degree {degree} inside the transition is at least {at_least}"
            ),
            correlation(timelines, |t| t.contrast(*degree)),
            *at_least,
            false,
        ),
        ClaimSpec::CorrelationVanishes { degree, at_most } => (
            format!(
                "median over seeds of the final in-support mean |correlation| of degree {degree} over its peak is at most {at_most}"
            ),
            correlation(timelines, |t| t.final_over_peak(*degree)),
            *at_most,
            true,
        ),
    };
    let lows: Vec<f64> = per_seed.iter().map(|(_, k)| k.low).collect();
    let highs: Vec<f64> = per_seed.iter().map(|(_, k)| k.high).collect();
    let mut each: Vec<String> = per_seed.iter().map(|(seed, k)| format!("seed {seed}: {}", k.text())).collect();
    let missing = seeds.len() - per_seed.len().min(seeds.len());
    if missing > 0 {
        each.push(format!("{missing} seeds without a result"));
    }
    let (Some(low), Some(high)) = (median_interval(&lows), median_interval(&highs)) else {
        return Claim {
            name: name.to_owned(),
            statement,
            verdict: Verdict::Inconclusive,
            value: None,
            interval: [None, None],
            detail: "no seed has a result".to_owned(),
        };
    };
    let verdict = match at_most {
        // A seed without a result supports nothing.
        _ if missing > 0 => Verdict::Inconclusive,
        true if high.high <= bound => Verdict::Pass,
        true if low.low > bound => Verdict::Fail,
        false if low.low >= bound => Verdict::Pass,
        false if high.high < bound => Verdict::Fail,
        _ => Verdict::Inconclusive,
    };
    // Where seeds are censored the median itself is only known to lie between two numbers: show the finite one.
    let value = if high.median.is_finite() { high.median } else { low.median };
    let value_note = match low.median == high.median {
        true => String::new(),
        false if high.median.is_finite() => "; the median is at most the value shown (censored runs)".to_owned(),
        false => "; the median is at least the value shown (censored runs)".to_owned(),
    };
    Claim {
        name: name.to_owned(),
        statement,
        verdict,
        value: finite(value),
        interval: [finite(low.low), finite(high.high)],
        detail: format!("{}; interval covers {:.1}%{value_note}", each.join(", "), 100.0 * low.coverage),
    }
}

fn reaches(
    name: &str,
    runs: Vec<&RunRecord>,
    (arm, at, level): (&str, Option<f64>, f64),
    at_least: f64,
    seeds: &[u64],
) -> Claim {
    let reached: Vec<u64> = runs.iter().filter(|r| r.first_reaching(level).is_some()).map(|r| r.seed).collect();
    let value = reached.len() as f64 / seeds.len() as f64;
    // A count over the seeds that were run: stated as such, with the exact binomial interval beside it.
    let interval = curricle_theory::fit::clopper_pearson(reached.len() as u64, seeds.len() as u64, 0.95).ok();
    Claim {
        name: name.to_owned(),
        statement: format!(
            "{arm}{} reaches {} in at least {} of the seeds",
            with(at),
            percent(level),
            percent(at_least)
        ),
        verdict: match runs.len() == seeds.len() {
            false => Verdict::Inconclusive,
            true if value >= at_least => Verdict::Pass,
            true => Verdict::Fail,
        },
        value: Some(value),
        interval: interval.map_or([None, None], |i| [Some(i.0), Some(i.1)]),
        detail: format!("{} of {} seeds reached it", reached.len(), seeds.len()),
    }
}

/// Samples to a level; a run that did not reach it is known to need more than it was given.
fn samples_to(run: &RunRecord, level: f64) -> Known {
    match run.first_reaching(level) {
        Some(samples) => Known::exactly(samples.max(1) as f64),
        None => Known { low: run.samples_seen().max(1) as f64, high: f64::INFINITY },
    }
}

fn pairs(
    runs: &[RunRecord],
    seeds: &[u64],
    (arm, than): (&str, &str),
    at: Option<f64>,
    level: f64,
    known: impl Fn(&RunRecord, &RunRecord) -> Known,
) -> Vec<(u64, Known)> {
    let (a, b) = (runs_of(runs, arm, at, level), runs_of(runs, than, at, level));
    let find = |list: &[&RunRecord], seed| list.iter().position(|r| r.seed == seed);
    seeds
        .iter()
        .filter_map(|&seed| Some((seed, known(a[find(&a, seed)?], b[find(&b, seed)?]))))
        .collect()
}

fn correlation(
    timelines: &[TeacherTimeline],
    value: impl Fn(&TeacherTimeline) -> Option<f64>,
) -> Vec<(u64, Known)> {
    timelines.iter().filter_map(|t| Some((t.seed, Known::exactly(value(t)?)))).collect()
}

fn percent(level: f64) -> String {
    format!("{}%", (level * 1e6).round() / 1e4)
}

fn with(at: Option<f64>) -> String {
    at.map_or_else(String::new, |v| format!(" at {v}"))
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
