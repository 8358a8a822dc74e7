//! Medians and their intervals, of numbers of which some are only known to lie between bounds.
//!
//! **Censoring.** A run that ended after b samples without reaching a level has a sample count above b: of it only
//! `[b, inf)` is known. The r-th smallest true number is at least the r-th smallest lower bound and at most the r-th smallest upper
//! bound, whatever the true numbers are, so lower and upper bounds are ranked apart ([`Ranked`]), and an interval is
//! never narrower than the true numbers would make it. Where an order statistic's upper bound is infinite only its
//! lower bound is shown.
//!
//! **Interval for the median.** For n independent runs and any continuous distribution, the number of values below the
//! true median is Binomial(n, 1/2), so the r-th smallest and the r-th largest enclose the median with probability
//! 1 - 2 P(Binomial(n, 1/2) <= r - 1). We take the largest r for which that is at least the level; nothing is assumed
//! about the shape of the distribution (David and Nagaraja, *Order Statistics*, 3rd ed., section 7.1). With too few runs
//! even the extremes cover less than the level; they are given with the coverage they have.

use super::binomial::at_most;

/// A number that is known to lie between two ends, which may be equal or infinite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// It is at least this.
    pub low: f64,
    /// It is at most this.
    pub high: f64,
}

impl Known {
    /// A number that is known.
    pub fn exactly(value: f64) -> Self {
        Self { low: value, high: value }
    }

    /// A number of which only a lower bound is known.
    pub fn beyond(bound: f64) -> Self {
        Self { low: bound, high: f64::INFINITY }
    }

    /// The end to show where one number stands for it: the upper one, or the lower one where that is infinite.
    pub fn shown(self) -> f64 {
        if self.high.is_finite() { self.high } else { self.low }
    }
}

/// Numbers in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    lows: Vec<f64>,
    highs: Vec<f64>,
}

/// From one order statistic to another, around the median.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Low end.
    pub low: Known,
    /// High end.
    pub high: Known,
    /// Probability with which it covers the median.
    pub coverage: f64,
}

impl Ranked {
    /// Ranks numbers.
    pub fn new(values: impl IntoIterator<Item = Known>) -> Self {
        let (mut lows, mut highs): (Vec<f64>, Vec<f64>) = values.into_iter().map(|k| (k.low, k.high)).unzip();
        lows.sort_unstable_by(f64::total_cmp);
        highs.sort_unstable_by(f64::total_cmp);
        Self { lows, highs }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lows.len()
    }

    /// The i-th smallest, from 0.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn statistic(&self, i: usize) -> Known {
        Known { low: self.lows[i], high: self.highs[i] }
    }

    /// The sample median; of an even number the mean of the middle two. `None` without numbers.
    pub fn median(&self) -> Option<Known> {
        let n = self.count();
        (n > 0).then(|| {
            let (a, b) = (self.statistic((n - 1) / 2), self.statistic(n / 2));
            // Equal ends as they are: half the sum of two infinities of one sign is fine, of two signs it is not a
            // number.
            let middle = |a: f64, b: f64| if a == b { a } else { (a + b) / 2.0 };
            Known { low: middle(a.low, b.low), high: middle(a.high, b.high) }
        })
    }

    /// The narrowest interval of order statistics that covers the median with probability `level`, or the widest
    /// there is.
    /// `None` without numbers.
    pub fn interval(&self, level: f64) -> Option<Interval> {
        let n = self.count();
        let (rank, coverage) = median_interval(n, level)?;
        Some(Interval { low: self.statistic(rank - 1), high: self.statistic(n - rank), coverage })
    }
}

/// Rank r (from 1) of the interval from the r-th smallest to the r-th largest of n, and its exact coverage of the
/// median (see the module's text). `None` for n = 0.
pub fn median_interval(n: usize, level: f64) -> Option<(usize, f64)> {
    if n == 0 {
        return None;
    }
    let coverage = |r: usize| 1.0 - 2.0 * at_most(r as u64 - 1, n as u64, 0.5);
    // One run: the "interval" is that run and covers nothing.
    let best = (2..=n / 2).take_while(|&r| coverage(r) >= level).last().unwrap_or(1);
    Some((best, coverage(best).max(0.0)))
}

/// Median: of an even number of values the mean of the middle two, infinite where the upper one is. NaN without values.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    Ranked::new(values.map(Known::exactly)).median().map_or(f64::NAN, |m| m.low)
}

/// Median of the finite values, of an even number the lower middle one; `None` when there are none. For accuracies:
/// the mean of the middle two would invent a plateau at 75% wherever half of the runs have jumped and half have not.
pub fn lower_median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let finite = values.into_iter().filter(|v| v.is_finite()).map(Known::exactly);
    let ranked = Ranked::new(finite);
    let n = ranked.count();
    (n > 0).then(|| ranked.statistic((n - 1) / 2).low)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let (r, c) = median_interval(n, 0.95).unwrap();
            assert_eq!(r, rank, "n = {n}");
            assert!((c - coverage).abs() < 1e-12, "n = {n}: {c}");
        }
        assert_eq!(median_interval(0, 0.95), None);
    }

    #[test]
    fn the_interval_covers_the_median_as_often_as_it_says() {
        // Values 1..=n of a fixed permutation stand for any continuous distribution: enumerate which side of the median
        // each of 9 runs falls on.
        let n = 9;
        let (rank, coverage) = median_interval(n, 0.95).unwrap();
        let covered = (0u32..1 << n).filter(|sides| {
            let below = sides.count_ones() as usize;
            below >= rank && n - below >= rank
        });
        assert!((covered.count() as f64 / f64::from(1 << n) - coverage).abs() < 1e-12);
    }

    #[test]
    fn bounds_are_ranked_apart() {
        let ranked = Ranked::new([Known::beyond(5.0), Known::exactly(20.0), Known::beyond(30.0)]);
        // Of the true numbers one may be 5.1 or a million: the median is at least 20 and may be anything above.
        assert_eq!(ranked.median(), Some(Known::beyond(20.0)));
        assert_eq!(ranked.statistic(0), Known { low: 5.0, high: 20.0 });
        let interval = ranked.interval(0.9).unwrap();
        assert_eq!((interval.low.low, interval.high.high, interval.coverage), (5.0, f64::INFINITY, 0.75));
        assert_eq!(Ranked::new([]).median(), None);
    }

    #[test]
    fn medians_of_plain_values() {
        assert_eq!(median([30.0, 10.0, 20.0, 50.0].into_iter()), 25.0);
        assert_eq!(median([1.0, f64::INFINITY].into_iter()), f64::INFINITY);
        assert_eq!(median([f64::INFINITY; 2].into_iter()), f64::INFINITY);
        assert!(median(std::iter::empty()).is_nan());
        assert_eq!(lower_median([1.0, f64::NAN, 0.5, 1.0, 0.5]), Some(0.5));
        assert_eq!(lower_median([f64::NAN]), None);
    }
}
