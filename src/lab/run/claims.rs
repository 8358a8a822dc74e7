//! Claims of a spec judged on recorded metrics.
//!
//! Every claim is about the median over seeds of some number. The interval is the order-statistic confidence interval of
//! that median. A run that never reached a level enters as a bound, not as a number: if the slower run is censored
//! the ratio is only known to lie below a value, and both ends of the interval carry that knowledge. PASS and
//! FAIL need the whole interval on one side of the bound; anything else is INCONCLUSIVE.

use super::gather::{RunRecord, TeacherTimeline, median, runs_of};
use super::grammar::{NgramCheckpoint, NgramTimeline, loss_phases};
use super::spec::ClaimSpec;
use curricle_core::math::clopper_pearson;
use curricle_report::stats;
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

/// Median and order-statistic interval of numbers that may be infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
struct MedianInterval {
    median: f64,
    low: f64,
    high: f64,
    coverage: f64,
}

fn median_interval(values: &[f64]) -> Option<MedianInterval> {
    let n = values.len();
    let (rank, coverage) = stats::median_interval(n, 0.95)?;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(MedianInterval {
        median: median(sorted.iter().copied()),
        low: sorted[rank - 1],
        high: sorted[n - rank],
        coverage,
    })
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
    ngrams: &[NgramTimeline],
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
        ClaimSpec::ThreePhases { at_least } => {
            let teachers: Vec<&RunRecord> = runs.iter().filter(|r| r.is_teacher()).collect();
            let shows = |r: &&&RunRecord| loss_phases(&r.metrics).is_some_and(|p| p.three_phases);
            let found = teachers.iter().filter(shows).map(|r| r.seed).collect();
            let statement = format!(
                "the teacher's loss shows a plateau, a drop and slow improvement in at least {} of the seeds",
                percent(*at_least)
            );
            return counted(name, statement, found, teachers.len(), *at_least, seeds);
        }
        ClaimSpec::NgramPeakInDrop { n, at_least } => {
            let inside = |timeline: &&NgramTimeline| {
                let teacher = runs.iter().find(|r| r.is_teacher() && r.seed == timeline.seed);
                let phases = teacher.and_then(|t| loss_phases(&t.metrics));
                let median =
                    |c: &NgramCheckpoint| c.ngrams.iter().find(|s| s.n == *n).map(|s| s.robust.median);
                let measured = timeline.checkpoints.iter().filter_map(|c| Some((c.step, median(c)?)));
                let peak = measured.max_by(|a, b| a.1.total_cmp(&b.1));
                phases.zip(peak).is_some_and(|(phases, (step, _))| phases.in_drop(step as f64))
            };
            let found = ngrams.iter().filter(inside).map(|t| t.seed).collect();
            let statement = format!(
                "the median M_robust of {n}-grams peaks inside the drop of the teacher's loss in at least {} of the seeds",
                percent(*at_least)
            );
            return counted(name, statement, found, ngrams.len(), *at_least, seeds);
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
                "median over seeds of the final in-support mean |correlation| of degree {degree} over its peak inside the transition is at most {at_most}"
            ),
            correlation(timelines, |t| t.final_over_peak(*degree)),
            *at_most,
            true,
        ),
    };
    let lows: Vec<f64> = per_seed.iter().map(|(_, k)| k.low).collect();
    let highs: Vec<f64> = per_seed.iter().map(|(_, k)| k.high).collect();
    let mut each: Vec<String> =
        per_seed.iter().map(|(seed, k)| format!("seed {seed}: {}", k.text())).collect();
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
        false if high.median.is_finite() => {
            "; the median is at most the value shown (censored runs)".to_owned()
        }
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
    let reached: Vec<u64> =
        runs.iter().filter(|r| r.first_reaching(level).is_some()).map(|r| r.seed).collect();
    let statement = format!(
        "{arm}{} reaches {} in at least {} of the seeds",
        with(at),
        percent(level),
        percent(at_least)
    );
    counted(name, statement, reached, runs.len(), at_least, seeds)
}

/// A claim about the fraction of seeds in which something was found; `results` seeds could be judged.
fn counted(
    name: &str,
    statement: String,
    found: Vec<u64>,
    results: usize,
    at_least: f64,
    seeds: &[u64],
) -> Claim {
    let value = found.len() as f64 / seeds.len() as f64;
    // A count over the seeds that were run: stated as such, with the exact binomial interval beside it.
    let interval = clopper_pearson(found.len() as u64, seeds.len() as u64, 0.95);
    Claim {
        name: name.to_owned(),
        statement,
        verdict: match results == seeds.len() {
            false => Verdict::Inconclusive,
            true if value >= at_least => Verdict::Pass,
            true => Verdict::Fail,
        },
        value: Some(value),
        interval: interval.map_or([None, None], |ends| ends.map(Some)),
        detail: format!("in {} of {} seeds: {found:?}", found.len(), seeds.len()),
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
    seeds.iter().filter_map(|&seed| Some((seed, known(a[find(&a, seed)?], b[find(&b, seed)?])))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::gather::Status;
    use crate::train::member::Metric;

    /// A run that reaches 99% at `reached` samples, or never within 1000.
    fn run(arm: &str, seed: u64, reached: Option<u64>) -> RunRecord {
        let metric = |samples, accuracy| Metric {
            step: samples,
            samples,
            accuracy,
            evaluation_loss: None,
            loss: None,
            learning_rate: None,
            teacher_step: None,
            wall_seconds: 0.0,
        };
        let mut metrics = vec![metric(0, 0.5)];
        metrics.extend(reached.map(|s| metric(s, 0.995)));
        metrics.push(metric(1000, if reached.is_some() { 1.0 } else { 0.55 }));
        RunRecord {
            name: arm.into(),
            arm: arm.into(),
            at: None,
            learning_rate: 0.1,
            seed,
            status: Status::Finished,
            final_accuracy: metrics.last().map(|m| m.accuracy),
            metrics,
            budget: 1000,
        }
    }

    fn ratio(a: &[Option<u64>], b: &[Option<u64>], at_most: f64) -> Claim {
        let seeds: Vec<u64> = (0..a.len() as u64).collect();
        let mut runs: Vec<RunRecord> = seeds.iter().map(|&s| run("a", s, a[s as usize])).collect();
        runs.extend(seeds.iter().map(|&s| run("b", s, b[s as usize])));
        let claim =
            ClaimSpec::SamplesRatio { arm: "a".into(), than: "b".into(), at: None, level: 0.99, at_most };
        judge("c", &claim, &runs, &[], &[], &seeds)
    }

    #[test]
    fn ratios_of_finished_runs() {
        let claim = ratio(&[Some(100), Some(200), Some(300)], &[Some(500), Some(500), Some(500)], 0.7);
        assert_eq!((claim.verdict, claim.value), (Verdict::Pass, Some(0.4)));
        assert_eq!(claim.interval, [Some(0.2), Some(0.6)]);
        assert_eq!(
            ratio(&[Some(100), Some(300)], &[Some(200), Some(400)], 0.6).verdict,
            Verdict::Inconclusive
        );
        assert_eq!(ratio(&[Some(100), Some(300)], &[Some(200), Some(400)], 0.4).verdict, Verdict::Fail);
    }

    #[test]
    fn censored_runs_are_bounds() {
        // The slower arm never arrives: the ratio is below 0.1 to 0.3, and that is enough.
        let claim = ratio(&[Some(100), Some(200), Some(300)], &[None, None, None], 0.5);
        assert_eq!((claim.verdict, claim.value), (Verdict::Pass, Some(0.2)));
        assert_eq!(claim.interval, [Some(0.0), Some(0.3)]);
        // The faster arm never arrives: above 2, 2, 2.
        let claim = ratio(&[None; 3], &[Some(500); 3], 0.5);
        assert_eq!(
            (claim.verdict, claim.value, claim.interval),
            (Verdict::Fail, Some(2.0), [Some(2.0), None])
        );
        // Neither arrives: nothing is known.
        assert_eq!(ratio(&[None; 3], &[None; 3], 0.5).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn counts_and_levels() {
        let runs: Vec<RunRecord> = (0..4).map(|s| run("a", s, (s > 0).then_some(100))).collect();
        let reaches = |at_least| ClaimSpec::Reaches { arm: "a".into(), at: None, level: 0.99, at_least };
        let seeds = [0, 1, 2, 3];
        assert_eq!(judge("c", &reaches(0.75), &runs, &[], &[], &seeds).verdict, Verdict::Pass);
        assert_eq!(judge("c", &reaches(0.8), &runs, &[], &[], &seeds).verdict, Verdict::Fail);
        // A seed that is missing decides nothing.
        assert_eq!(
            judge("c", &reaches(0.5), &runs, &[], &[], &[0, 1, 2, 3, 4]).verdict,
            Verdict::Inconclusive
        );
        let below = ClaimSpec::StaysBelow { arm: "a".into(), at: None, level: 0.6 };
        assert_eq!(judge("c", &below, &runs[..1], &[], &[], &[0]).verdict, Verdict::Pass);
        assert_eq!(judge("c", &below, &runs[1..], &[], &[], &[1, 2, 3]).verdict, Verdict::Fail);
    }

    #[test]
    fn a_tuned_arm_stands_for_its_best_rate() {
        let mut runs = vec![run("a", 0, None), run("a", 1, Some(10))];
        for (seed, samples) in [(0, 500), (1, 400)] {
            runs.push(RunRecord { learning_rate: 0.3, ..run("a", seed, Some(samples)) });
        }
        let best = runs_of(&runs, "a", None, 0.99);
        assert!(best.iter().all(|r| r.learning_rate == 0.3) && best.len() == 2);
    }
}
