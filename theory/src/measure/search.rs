//! Smallest batch with success probability at least `1 - delta`.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Bench, Callback, Experiment, Progress, claim};
use crate::error::{Result, TheoryError, check_unit, out_of_range};
use crate::fit::{Interval, clopper_pearson};

/// Settings of the search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SearchSpec {
    /// Allowed failure probability.
    pub delta: f64,
    /// Trials per batch (fewer when the outcome is settled earlier).
    pub trials: u64,
    /// First batch tried.
    pub start: u64,
    /// Give up above this batch.
    pub max_batch: u64,
    /// Stop when upper and lower batch are within this factor (> 1).
    pub resolution: f64,
    /// Confidence of the intervals.
    pub confidence: f64,
}

impl Default for SearchSpec {
    fn default() -> Self {
        Self { delta: 0.1, trials: 20, start: 1024, max_batch: 1 << 28, resolution: 1.1, confidence: 0.95 }
    }
}

/// Trials at one batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtBatch {
    /// The batch B.
    pub batch: u64,
    /// Trials used for the decision.
    pub trials: u64,
    /// Successes among them.
    pub successes: u64,
    /// Clopper-Pearson interval of the success probability. With curtailed sampling (trials stop once the
    /// verdict of the full set is certain) its coverage is approximate.
    pub interval: Interval,
    /// Would at least `ceil((1-delta) trials)` of all trials succeed? The point estimate that the search goes
    /// by.
    pub meets: bool,
    /// Does the interval say so too (its lower end is at least `1 - delta`)? Only then is the batch called
    /// enough.
    pub enough: bool,
}

/// Result of [`smallest_batch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SmallestBatch {
    /// Smallest batch whose trials meet `1 - delta`, by the point estimate; `None` when `max_batch` does not.
    pub batch: Option<u64>,
    /// Smallest batch tried that is enough at the confidence asked for; `None`: too few trials to say so of
    /// any.
    pub enough: Option<u64>,
    /// Largest batch found not to meet it (0 when a single sample did).
    pub not_enough: u64,
    /// Every batch tried, ascending.
    pub tried: Vec<AtBatch>,
    /// Settings.
    pub spec: SearchSpec,
}

/// Finished trials, resumable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchLog {
    fingerprint: String,
    /// (batch, outcomes of trials 0, 1, ..).
    batches: Vec<(u64, Vec<bool>)>,
}

/// Trials run at a time; the verdict only looks at them in order.
const WAVE: u64 = 8;

/// Geometric bracketing by factors of 4, then bisection in `log B`, with `trials` independent trials at each
/// B.
///
/// Trial `t` at batch B is a pure function of (seed, t, B), so results do not depend on threads, on
/// cancellation or on resuming. Errors: [`TheoryError::Cancelled`] (the log keeps what was finished),
/// out-of-range settings, anything a trial reports.
///
/// ```
/// use curricle_theory::measure::*;
/// use curricle_theory::two_phase::Problem;
/// let experiment = Experiment { problem: Problem::first(11, 2)?, source: Source::Labels, neurons: 16, criterion: Criterion::Vote, seed: 1, cancel: None };
/// let spec = SearchSpec { delta: 0.2, trials: 10, resolution: 1.5, ..SearchSpec::default() };
/// let found = smallest_batch(&experiment, spec, &mut BatchLog::default(), &quiet)?;
/// assert!((20..2000).contains(&found.batch.unwrap()));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn smallest_batch(
    experiment: &Experiment,
    spec: SearchSpec,
    log: &mut BatchLog,
    progress: Callback<'_>,
) -> Result<SmallestBatch> {
    check_unit("delta", spec.delta)?;
    check_unit("confidence", spec.confidence)?;
    if spec.trials == 0 || spec.trials > 100_000 {
        return out_of_range(
            "trials",
            spec.trials,
            "1..=100000",
            "20 trials resolve success probabilities of 0.9",
        );
    }
    if (spec.trials as f64) * spec.delta < 1.0 - 1e-9 {
        return out_of_range(
            "trials",
            spec.trials,
            format!("at least 1/delta = {:.0}", (1.0 / spec.delta).ceil()),
            "fewer cannot tell 1 - delta from certainty; give more trials or a larger delta",
        );
    }
    if !(spec.resolution > 1.0 && spec.resolution.is_finite()) {
        return out_of_range("resolution", spec.resolution, "(1, inf)", "1.1 is usual");
    }
    if spec.start == 0 || spec.start > spec.max_batch || spec.max_batch > 1 << 40 {
        return out_of_range(
            "start..max_batch",
            format!("{}..{}", spec.start, spec.max_batch),
            "1 <= start <= max_batch <= 2^40",
            "raise max_batch",
        );
    }
    let bench = Bench::new(experiment)?;
    claim(&mut log.fingerprint, experiment)?;
    let mut tried = Vec::new();
    let mut enough = |batch: u64, log: &mut BatchLog| -> Result<bool> {
        let at = at_batch(&bench, &spec, batch, log, progress)?;
        tried.push(at);
        Ok(at.meets)
    };

    let (mut low, mut high) = (0, None);
    let mut batch = spec.start;
    if enough(batch, log)? {
        high = Some(batch);
        while batch > 1 {
            batch = (batch / 4).max(1);
            if !enough(batch, log)? {
                low = batch;
                break;
            }
            high = Some(batch);
        }
    } else {
        while batch < spec.max_batch {
            low = batch;
            batch = batch.saturating_mul(4).min(spec.max_batch);
            if enough(batch, log)? {
                high = Some(batch);
                break;
            }
        }
        if high.is_none() {
            low = batch;
        }
    }
    if let Some(top) = &mut high {
        while low > 0 && *top as f64 / low as f64 > spec.resolution {
            let middle = ((*top as f64 * low as f64).sqrt().round() as u64).clamp(low + 1, *top);
            if middle == *top {
                break;
            }
            if enough(middle, log)? { *top = middle } else { low = middle }
        }
    }
    tried.sort_by_key(|t| t.batch);
    let enough = tried.iter().find(|t| t.enough).map(|t| t.batch);
    Ok(SmallestBatch { batch: high, enough, not_enough: low, tried, spec })
}

fn at_batch(
    bench: &Bench<'_>,
    spec: &SearchSpec,
    batch: u64,
    log: &mut BatchLog,
    progress: Callback<'_>,
) -> Result<AtBatch> {
    let needed = (((1.0 - spec.delta) * spec.trials as f64 - 1e-9).ceil() as u64).max(1);
    let slot = log.batches.iter().position(|b| b.0 == batch).unwrap_or_else(|| {
        log.batches.push((batch, Vec::new()));
        log.batches.len() - 1
    });
    loop {
        let outcomes = &mut log.batches[slot].1;
        let (mut trials, mut successes) = (0, 0);
        for &success in outcomes.iter().take(spec.trials as usize) {
            trials += 1;
            successes += u64::from(success);
            if successes >= needed || trials - successes > spec.trials - needed {
                let interval = clopper_pearson(successes, trials, spec.confidence)?;
                let meets = successes >= needed;
                let enough = meets && interval.low >= 1.0 - spec.delta;
                return Ok(AtBatch { batch, trials, successes, interval, meets, enough });
            }
        }
        if progress(&Progress { done: trials, total: spec.trials, batch, successes }).is_break() {
            return Err(TheoryError::Cancelled);
        }
        let start = outcomes.len() as u64;
        let wave: Vec<Result<bool>> = (start..(start + WAVE).min(spec.trials))
            .into_par_iter()
            .map(|trial| {
                // Fixed-B trials must be independent across batches too: the batch enters the trial's key.
                let key = trial ^ batch.rotate_left(24);
                let nets = bench.networks(trial)?;
                let mut phase = bench.phase(&nets, key)?;
                phase.extend(batch)?;
                bench.success(&phase, key)
            })
            .collect();
        for outcome in wave {
            outcomes.push(outcome?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::two_phase::Problem;

    #[test]
    fn a_few_successes_are_not_called_enough() {
        let e = Experiment {
            problem: Problem::first(9, 2).unwrap(),
            source: Source::Labels,
            neurons: 8,
            criterion: Criterion::Vote,
            seed: 1,
            cancel: None,
        };
        let run = |trials, delta| {
            let spec = SearchSpec { trials, delta, start: 1 << 12, resolution: 4.0, ..SearchSpec::default() };
            smallest_batch(&e, spec, &mut BatchLog::default(), &quiet)
        };
        // 5 of 5 successes have the interval (.478, 1): no word about 0.99.
        assert!(run(5, 0.01).unwrap_err().to_string().contains("at least 1/delta = 100"));
        let found = run(5, 0.3).unwrap();
        assert!(found.batch.is_some() && found.enough.is_none(), "{found:?}");
        assert!(run(40, 0.3).unwrap().enough.is_some());
    }

    #[test]
    fn labels_and_teachers_with_odd_k_and_odd_d_are_refused_but_checkpoints_are_not() {
        let problem = Problem::first(9, 3).unwrap();
        let net = crate::bounds::pruned_layer(9, 8, 1, 0).unwrap();
        let experiment = |source| Experiment {
            problem: problem.clone(),
            source,
            neurons: 4,
            criterion: Criterion::Vote,
            seed: 1,
            cancel: None,
        };
        let spec = SearchSpec { trials: 3, delta: 0.4, start: 64, max_batch: 64, ..SearchSpec::default() };
        let run = |source| smallest_batch(&experiment(source), spec, &mut BatchLog::default(), &quiet);
        assert!(matches!(run(Source::Labels), Err(TheoryError::NoFirstOrderSignal { .. })));
        assert!(run(Source::Checkpoints(vec![net])).is_ok());
        let one = Experiment { problem: Problem::first(9, 1).unwrap(), ..experiment(Source::Labels) };
        let spec = SearchSpec { max_batch: 1 << 12, ..spec };
        assert!(smallest_batch(&one, spec, &mut BatchLog::default(), &quiet).unwrap().batch.is_some());
    }
}
