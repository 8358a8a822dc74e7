//! Sample counts over seeds, with runs that never reached the level kept as what they are: bounds. Ranking, medians and
//! intervals are those of [`curricle_core::math::order`].

use curricle_core::math::order::{Known, Ranked};

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

    fn known(self) -> Known {
        match self {
            Reach::At(v) => Known::exactly(v),
            Reach::Beyond(v) => Known::beyond(v),
        }
    }

    /// An order statistic: its value, or the bound below it where no value is known.
    fn of(known: Known) -> Self {
        if known.high.is_finite() { Reach::At(known.high) } else { Reach::Beyond(known.low) }
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

/// Summary of an arm's runs; `None` without runs.
pub fn summarize(runs: &[Reach]) -> Option<Summary> {
    let ranked = Ranked::new(runs.iter().map(|r| r.known()));
    let (median, interval) = (ranked.median()?, ranked.interval(LEVEL)?);
    let low = interval.low;
    Some(Summary {
        runs: runs.len(),
        reached: runs.iter().filter(|r| !r.is_open()).count(),
        median: Reach::of(median),
        // The low end is a bound itself.
        low: if low.high.is_finite() { Reach::At(low.low) } else { Reach::Beyond(low.low) },
        high: Reach::of(interval.high),
        coverage: interval.coverage,
        min: Reach::of(ranked.statistic(0)),
        max: Reach::of(ranked.statistic(runs.len() - 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reach::{At, Beyond};

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
    fn written_for_people() {
        assert_eq!(At(2400.0).to_string(), "2.4k");
        assert_eq!(Beyond(1.5e6).to_string(), "> 1.5M");
    }
}
