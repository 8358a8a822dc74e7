//! Medians and intervals over seeds, with runs that never reached the level kept as what they are: bounds.
//!
//! **Censoring.** A run that ended after b samples without reaching the level has a sample count above b. It is ranked
//! after every run that reached the level, which can only make an arm look worse, never better. When an order statistic
//! falls on such a run, only a lower bound is known, and the bound given holds whatever the true counts are: every true
//! count is at least its own lower bound (the count itself, or b), hence the r-th smallest true count is at least the
//! r-th smallest lower bound. The low end of an interval is such a bound too, the high end comes from the ranking, so
//! an interval is never narrower than the true counts would make it.
//!
//! **Interval for the median.** For n independent runs and any continuous distribution, the number of counts below the
//! true median is Binomial(n, 1/2), so the r-th smallest and the r-th largest enclose the median with probability
//! 1 - 2 P(Binomial(n, 1/2) <= r - 1). We take the largest r for which that is at least the level; nothing is assumed
//! about the shape of the distribution (David and Nagaraja, *Order Statistics*, 3rd ed., section 7.1). Below six runs
//! even the extremes cover less than 95%; they are given with the coverage they have.

use statrs::distribution::{Binomial, DiscreteCDF};
use std::cmp::Ordering;

/// A sample count: known, or known to lie above a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reach {
    /// The level was reached after this many samples.
    At(f64),
    /// The run ended here without reaching it.
    Beyond(f64),
}

impl Reach {
    /// From a count that may be missing and the samples the run had.
    pub fn new(samples: Option<u64>, budget: u64) -> Self {
        samples.map_or(Reach::Beyond(budget as f64), |s| Reach::At(s as f64))
    }

    /// The count, or the bound below it.
    pub fn at_least(self) -> f64 {
        match self {
            Reach::At(v) | Reach::Beyond(v) => v,
        }
    }

    /// Whether only a bound is known.
    pub fn is_open(self) -> bool {
        matches!(self, Reach::Beyond(_))
    }

    fn order(&self, other: &Self) -> Ordering {
        self.is_open().cmp(&other.is_open()).then(self.at_least().total_cmp(&other.at_least()))
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = super::format::count(self.at_least());
        if self.is_open() { write!(f, "> {text}") } else { f.write_str(&text) }
    }
}

/// Median, interval and extremes of one arm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Number of runs.
    pub runs: usize,
    /// Of them, how many reached the level.
    pub reached: usize,
    /// Sample median; of an even number of runs the mean of the middle two, open when either is.
    pub median: Reach,
    /// Low end of the interval for the median.
    pub low: Reach,
    /// High end of the interval for the median.
    pub high: Reach,
    /// Probability with which the interval covers the median.
    pub coverage: f64,
    /// Smallest.
    pub min: Reach,
    /// Largest.
    pub max: Reach,
}

/// The interval's wanted coverage.
pub const LEVEL: f64 = 0.95;

/// Rank r (from 1) of the interval from the r-th smallest to the r-th largest of n, and its exact coverage of the
/// median (see the module's text). `None` for n = 0.
pub fn median_interval(n: usize, level: f64) -> Option<(usize, f64)> {
    let binomial = Binomial::new(0.5, n as u64).ok().filter(|_| n > 0)?;
    let coverage = |r: usize| 1.0 - 2.0 * binomial.cdf(r as u64 - 1);
    // One run: the "interval" is that run and covers nothing.
    let best = (2..=n / 2).take_while(|&r| coverage(r) >= level).last().unwrap_or(1);
    Some((best, coverage(best).max(0.0)))
}

/// Summary of an arm's runs; `None` without runs.
pub fn summarize(runs: &[Reach]) -> Option<Summary> {
    let n = runs.len();
    let (rank, coverage) = median_interval(n, LEVEL)?;
    let mut ranked = runs.to_vec();
    ranked.sort_by(Reach::order);
    let mut bounds: Vec<f64> = runs.iter().map(|r| r.at_least()).collect();
    bounds.sort_by(f64::total_cmp);
    let statistic = |i: usize| match ranked[i] {
        Reach::At(v) => Reach::At(v),
        Reach::Beyond(_) => Reach::Beyond(bounds[i]),
    };
    let (a, b) = (statistic((n - 1) / 2), statistic(n / 2));
    let middle = (a.at_least() + b.at_least()) / 2.0;
    let bound = (bounds[(n - 1) / 2] + bounds[n / 2]) / 2.0;
    Some(Summary {
        runs: n,
        reached: runs.iter().filter(|r| !r.is_open()).count(),
        median: if b.is_open() { Reach::Beyond(bound) } else { Reach::At(middle) },
        low: if ranked[rank - 1].is_open() {
            Reach::Beyond(bounds[rank - 1])
        } else {
            Reach::At(bounds[rank - 1])
        },
        high: statistic(n - rank),
        coverage,
        min: statistic(0),
        max: statistic(n - 1),
    })
}

/// Median of the finite values, of an even number the lower middle one; `None` when there are none. For accuracies:
/// the mean of the middle two would invent a plateau at 75% wherever half of the runs have jumped and half have not.
pub fn lower_median(values: &mut Vec<f64>) -> Option<f64> {
    values.retain(|v| v.is_finite());
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (n > 0).then(|| values[(n - 1) / 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reach::{At, Beyond};

    #[test]
    fn interval_ranks_agree_with_the_printed_tables() {
        // (n, rank, coverage): e.g. Conover, Practical Nonparametric Statistics, or direct sums of binomials.
        let cases = [
            (1, 1, 0.0),
            (2, 1, 0.5),
            (3, 1, 0.75),
            (5, 1, 0.9375),
            (6, 1, 0.96875),
            (8, 1, 0.9921875),
            (9, 2, 0.9609375),
            (10, 2, 0.978515625),
            (20, 6, 0.9586105346679688),
        ];
        for (n, rank, coverage) in cases {
            let (r, c) = median_interval(n, LEVEL).unwrap();
            assert_eq!(r, rank, "n = {n}");
            assert!((c - coverage).abs() < 1e-12, "n = {n}: {c}");
        }
        assert_eq!(median_interval(0, LEVEL), None);
    }

    #[test]
    fn the_interval_covers_the_median_as_often_as_it_says() {
        // Counts 1..=n of a fixed permutation stand for any continuous distribution: enumerate which side of the median
        // each of 9 runs falls on.
        let n = 9;
        let (rank, coverage) = median_interval(n, LEVEL).unwrap();
        let covered = (0u32..1 << n).filter(|sides| {
            let below = sides.count_ones() as usize;
            below >= rank && n - below >= rank
        });
        assert!((covered.count() as f64 / f64::from(1 << n) - coverage).abs() < 1e-12);
    }

    #[test]
    fn without_censoring_it_is_the_plain_median() {
        let s = summarize(&[At(30.0), At(10.0), At(20.0), At(50.0)]).unwrap();
        assert_eq!((s.median, s.min, s.max, s.reached), (At(25.0), At(10.0), At(50.0), 4));
    }

    #[test]
    fn censored_runs_are_never_dropped() {
        let s = summarize(&[At(10.0), Beyond(100.0), Beyond(100.0)]).unwrap();
        assert_eq!((s.median, s.max, s.reached, s.runs), (Beyond(100.0), Beyond(100.0), 1, 3));
        let most = summarize(&[At(10.0), At(20.0), Beyond(100.0)]).unwrap();
        assert_eq!((most.median, most.high), (At(20.0), Beyond(100.0)));
    }

    #[test]
    fn a_short_budget_gives_a_bound_that_holds() {
        // The first run may truly need 5 or 1000 samples; of its true count only "above 5" is known.
        let s = summarize(&[Beyond(5.0), At(20.0), Beyond(30.0)]).unwrap();
        assert_eq!(s.min, At(20.0), "ranked after the run that reached");
        assert_eq!(s.median, Beyond(20.0), "two of three true counts are at least 20");
        let even = summarize(&[At(20.0), Beyond(30.0)]).unwrap();
        assert_eq!(even.median, Beyond(25.0));
    }

    #[test]
    fn the_lower_median_is_a_value_that_occurred() {
        assert_eq!(lower_median(&mut vec![1.0, f64::NAN, 0.5, 1.0, 0.5]), Some(0.5));
        assert_eq!(lower_median(&mut vec![f64::NAN]), None);
    }

    #[test]
    fn written_for_people() {
        assert_eq!(At(2400.0).to_string(), "2.4k");
        assert_eq!(Beyond(1.5e6).to_string(), "> 1.5M");
    }
}
