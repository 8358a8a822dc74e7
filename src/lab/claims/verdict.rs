//! From what a claim finds in each seed to its verdict.
//!
//! **Medians.** The interval is the order-statistic confidence interval of the median ([`curricle_core::math::order`]).
//! A run that never reached a level enters as a bound, not as a number. The p-value is that of the two-sided sign test,
//! for which the interval is the inversion: PASS or FAIL is p <= 1 - confidence.
//!
//! **Shares.** The interval is the exact binomial one (Clopper and Pearson), the p-value twice the smaller exact tail.
//!
//! **Verdict.** PASS or FAIL where an interval that covers at least `confidence` lies on one side of the bound, and
//! every seed has a result; otherwise INCONCLUSIVE, with the number of seeds that would be needed. Several claims are
//! several chances to be wrong: Holm's step-down adjustment of the p-values gives the verdict that holds for all claims
//! of the spec together (S. Holm, *Scand. J. Statist.* 6, 1979).

use super::{Bound, ClaimKind, Evidence, Finding, condition};
use curricle_core::math::binomial::{at_least, at_most};
use curricle_core::math::clopper_pearson;
use curricle_core::math::order::{Known, Ranked};
pub use curricle_core::verdict::Verdict;
use serde::{Deserialize, Serialize};

/// More seeds than this are not worth counting.
const MOST_SEEDS: u64 = 10_000;

/// A judged claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Name in the spec.
    pub name: String,
    /// The claim in words.
    pub statement: String,
    /// Verdict on this claim alone.
    pub verdict: Verdict,
    /// Median over seeds, or share of them; null when it is not finite.
    pub value: Option<f64>,
    /// Its interval; an end that is not finite is null.
    pub interval: [Option<f64>; 2],
    /// Every seed, the coverage of the interval, and what is to be said about the verdict.
    pub detail: String,
    /// Seeds it was judged on.
    pub seeds: usize,
    /// The coverage that a verdict needs.
    pub confidence: f64,
    /// Coverage of the interval; null without results.
    pub coverage: Option<f64>,
    /// How likely seeds at least as one-sided as these are if the truth lies on the bound.
    pub p_value: f64,
    /// The same among all claims of the spec, by Holm.
    pub p_holm: f64,
    /// Verdict if all claims of the spec are to be right together with this confidence.
    pub family_verdict: Verdict,
    /// Where the verdict is open: seeds that would be needed in all, if any number would do.
    pub seeds_needed: Option<u64>,
    /// What that number, or its absence, rests on.
    pub seeds_needed_because: Option<String>,
    /// The condition under which seeds counted.
    pub given: Option<Given>,
}

/// A condition and the seeds in which it did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// As in the spec.
    pub condition: String,
    /// Seeds that were counted apart.
    pub apart: Vec<u64>,
}

/// How a claim stands before it is put into words.
struct Standing {
    verdict: Verdict,
    value: Option<f64>,
    interval: [Option<f64>; 2],
    coverage: Option<f64>,
    p_value: f64,
    /// About the interval.
    note: String,
    needed: Option<(Option<u64>, String)>,
}

/// One seed's part in words.
fn text(known: Known) -> String {
    match (known.low == known.high, known.high.is_finite(), known.low > 0.0) {
        (true, ..) => format!("{:.3}", known.low),
        (_, true, _) => format!("<{:.3}", known.high),
        (_, false, true) => format!(">{:.3}", known.low),
        _ => "?".to_owned(),
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Judges one claim by itself; [`adjust`] then fills in what all claims together say.
pub(super) fn judge(name: &str, claim: &dyn ClaimKind, evidence: &Evidence<'_>) -> Claim {
    let finding = claim.finding(evidence);
    let condition = claim.given().map(|c| (c, condition::holds(c, claim.at(), evidence)));
    let counts = |seed: u64| condition.as_ref().map_or(Some(true), |(_, holds)| holds.get(&seed).copied());
    let apart: Vec<u64> = evidence.seeds.iter().copied().filter(|s| counts(*s) == Some(false)).collect();
    let wanted = evidence.seeds.len() - apart.len();
    let (each, aside, standing) = match finding {
        Finding::Median { seeds, bound } => {
            let (own, others): (Vec<_>, Vec<_>) = seeds
                .into_iter()
                .filter(|(s, _)| counts(*s).is_some())
                .partition(|(s, _)| counts(*s) == Some(true));
            let words = |list: &[(u64, Known)]| -> Vec<String> {
                list.iter().map(|(seed, k)| format!("seed {seed}: {}", text(*k))).collect()
            };
            let values: Vec<Known> = own.iter().map(|(_, k)| *k).collect();
            (words(&own), words(&others), median(&values, bound, wanted, evidence.confidence))
        }
        Finding::Share { seeds, at_least } => {
            let (own, others): (Vec<_>, Vec<_>) = seeds
                .into_iter()
                .filter(|(s, _)| counts(*s).is_some())
                .partition(|(s, _)| counts(*s) == Some(true));
            let found: Vec<u64> = own.iter().filter(|(_, yes)| *yes).map(|(s, _)| *s).collect();
            let others =
                others.iter().map(|(s, yes)| format!("seed {s}: {}", if *yes { "yes" } else { "no" }));
            let each = vec![format!("in {} of {wanted} seeds: {found:?}", found.len())];
            (each, others.collect(), share(found.len(), own.len(), at_least, wanted, evidence.confidence))
        }
    };
    let mut detail = each.join(", ");
    if !standing.note.is_empty() {
        detail += if detail.is_empty() { "" } else { "; " };
        detail += &standing.note;
    }
    if let Some((condition, _)) = &condition
        && !apart.is_empty()
    {
        let shown = match aside.is_empty() {
            true => apart.iter().map(|s| format!("seed {s}")).collect::<Vec<_>>().join(", "),
            false => aside.join(", "),
        };
        detail += &format!("; counted apart, since {condition} does not hold there: {shown}");
    }
    if let Some((needed, because)) = &standing.needed {
        detail += &match needed {
            Some(needed) => format!("; {needed} seeds are needed: {because}"),
            None => format!("; {because}"),
        };
    }
    let (seeds_needed, seeds_needed_because) =
        standing.needed.map_or((None, None), |(needed, because)| (needed, Some(because)));
    Claim {
        name: name.to_owned(),
        statement: claim.statement()
            + &condition.as_ref().map_or(String::new(), |(c, _)| format!(", given {c}")),
        verdict: standing.verdict,
        value: standing.value,
        interval: standing.interval,
        detail,
        seeds: wanted,
        confidence: evidence.confidence,
        coverage: standing.coverage,
        p_value: standing.p_value,
        p_holm: standing.p_value,
        family_verdict: standing.verdict,
        seeds_needed,
        seeds_needed_because,
        given: condition.map(|(condition, _)| Given { condition: condition.to_owned(), apart }),
    }
}

/// What missing results leave of a verdict.
fn incomplete(missing: usize) -> Option<(Option<u64>, String)> {
    let seeds = if missing == 1 { "1 seed has" } else { &format!("{missing} seeds have") };
    (missing > 0).then(|| (None, format!("{seeds} no result, which leaves the verdict open")))
}

fn percent(confidence: f64) -> String {
    super::words::percent(confidence)
}

/// A claim about a median, of `wanted` seeds.
fn median(values: &[Known], bound: Bound, wanted: usize, confidence: f64) -> Standing {
    let ranked = Ranked::new(values.iter().copied());
    let (Some(middle), Some(interval)) = (ranked.median(), ranked.interval(confidence)) else {
        return Standing {
            verdict: Verdict::Inconclusive,
            value: None,
            interval: [None, None],
            coverage: None,
            p_value: 1.0,
            note: "no seed has a result".to_owned(),
            needed: None,
        };
    };
    let n = values.len() as u64;
    let count = |holds: &dyn Fn(Known) -> bool| values.iter().filter(|k| holds(**k)).count() as u64;
    let (for_it, against) = (count(&|k| bound.supports(k)), count(&|k| bound.contradicts(k)));
    let sign_test = |agree: u64| (2.0 * at_most(n - agree, n, 0.5)).min(1.0);
    let missing = wanted - values.len().min(wanted);
    let decides = missing == 0 && interval.coverage >= confidence - 1e-12;
    let ends = Known { low: interval.low.low, high: interval.high.high };
    let verdict = match decides {
        true if bound.supports(ends) => Verdict::Pass,
        true if bound.contradicts(ends) => Verdict::Fail,
        _ => Verdict::Inconclusive,
    };
    // Where seeds are censored the median itself is only known to lie between two numbers: show the finite one.
    let censored = match middle.low == middle.high {
        true => "",
        false if middle.high.is_finite() => "; the median is at most the value shown (censored runs)",
        false => "; the median is at least the value shown (censored runs)",
    };
    let open = verdict == Verdict::Inconclusive;
    Standing {
        verdict,
        value: finite(middle.shown()),
        interval: [finite(ends.low), finite(ends.high)],
        coverage: Some(interval.coverage),
        p_value: if missing == 0 { sign_test(for_it.max(against)) } else { 1.0 },
        note: format!("interval covers {:.1}%{censored}", 100.0 * interval.coverage),
        needed: open.then(|| {
            incomplete(missing).unwrap_or_else(|| seeds_for_median(n, for_it.max(against), confidence))
        }),
    }
}

/// How many seeds would decide about a median, when `agree` of `n` lie on one side of the bound.
fn seeds_for_median(n: u64, agree: u64, confidence: f64) -> (Option<u64>, String) {
    let alpha = 1.0 - confidence + 1e-12;
    let decides = |wrong: u64, m: u64| 2.0 * at_most(wrong, m, 0.5) <= alpha;
    let fewest = (1..=MOST_SEEDS).find(|m| decides(0, *m));
    if let Some(fewest) = fewest.filter(|f| n < *f) {
        return (Some(fewest), format!("the fewest whose interval can cover {}", percent(confidence)));
    }
    if 2 * agree <= n {
        return (
            None,
            format!(
                "no side of the bound has most of the seeds (at most {agree} of {n}): more seeds alone would not decide"
            ),
        );
    }
    let wrong = |m: u64| ((n - agree) * m).div_ceil(n);
    match (n + 1..=MOST_SEEDS).find(|m| decides(wrong(*m), *m)) {
        Some(m) => (Some(m), format!("an estimate, if {agree} of {n} on one side of the bound persists")),
        None => (None, format!("more than {MOST_SEEDS} seeds would be needed if {agree} of {n} persists")),
    }
}

/// A claim about the share of `wanted` seeds in which something was found: in `found` of `judged`.
fn share(found: usize, judged: usize, claimed: f64, wanted: usize, confidence: f64) -> Standing {
    let (k, n) = (found as u64, wanted as u64);
    let interval = clopper_pearson(k, n, confidence);
    let missing = wanted - judged.min(wanted);
    let verdict = match interval {
        Some([low, _]) if missing == 0 && low >= claimed => Verdict::Pass,
        Some([_, high]) if missing == 0 && high < claimed => Verdict::Fail,
        _ => Verdict::Inconclusive,
    };
    let (above, below) = match claimed <= 0.0 {
        true => (0.0, 1.0),
        false => (at_least(k, n, claimed), at_most(k, n, claimed)),
    };
    let open = verdict == Verdict::Inconclusive;
    Standing {
        verdict,
        value: finite(found as f64 / wanted as f64),
        interval: interval.map_or([None, None], |ends| ends.map(Some)),
        coverage: interval.map(|_| confidence),
        p_value: if missing == 0 && n > 0 { (2.0 * above.min(below)).min(1.0) } else { 1.0 },
        note: match n {
            0 => "no seed has a result".to_owned(),
            _ => format!("exact binomial interval at {}", percent(confidence)),
        },
        needed: (open && n > 0)
            .then(|| incomplete(missing).unwrap_or_else(|| seeds_for_share(k, n, claimed, confidence))),
    }
}

/// How many seeds would decide about a share, when something was found in `k` of `n`.
fn seeds_for_share(k: u64, n: u64, claimed: f64, confidence: f64) -> (Option<u64>, String) {
    let alpha = 1.0 - confidence;
    if claimed >= 1.0 {
        return (None, "no number of seeds shows that it is so in all: claim a share below 100%".to_owned());
    }
    let observed = k as f64 / n as f64;
    let decides = |m: &u64| match observed >= claimed {
        true => 2.0 * at_least(k * m / n, *m, claimed) <= alpha,
        false => 2.0 * at_most((k * m).div_ceil(n), *m, claimed) <= alpha,
    };
    match (n + 1..=MOST_SEEDS).find(decides) {
        Some(m) => (Some(m), format!("an estimate, if {k} of {n} persists")),
        None => (None, format!("more than {MOST_SEEDS} seeds would be needed if {k} of {n} persists")),
    }
}

/// Fills in p-values and verdicts for all claims together, by Holm.
pub(super) fn adjust(claims: &mut [Claim]) {
    let mut order: Vec<usize> = (0..claims.len()).collect();
    order.sort_by(|&a, &b| claims[a].p_value.total_cmp(&claims[b].p_value));
    let mut adjusted: f64 = 0.0;
    for (rank, &index) in order.iter().enumerate() {
        let claim = &mut claims[index];
        adjusted = adjusted.max(claim.p_value * (order.len() - rank) as f64).min(1.0);
        claim.p_holm = adjusted;
        if claim.p_holm > 1.0 - claim.confidence + 1e-12 {
            claim.family_verdict = Verdict::Inconclusive;
        }
        claim.detail += &match order.len() {
            1 => format!("; p {}", p_text(claim.p_value)),
            all => format!(
                "; p {}, by Holm over the {all} claims {} ({})",
                p_text(claim.p_value),
                p_text(claim.p_holm),
                claim.family_verdict.as_str()
            ),
        };
    }
}

fn p_text(p: f64) -> String {
    if p < 0.0005 { format!("{p:.0e}") } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(values: &[f64], bound: Bound) -> Standing {
        let values: Vec<Known> = values.iter().map(|v| Known::exactly(*v)).collect();
        median(&values, bound, values.len(), 0.9)
    }

    #[test]
    fn a_verdict_needs_an_interval_that_covers() {
        let below = |n: usize| standing(&vec![0.5; n], Bound::AtMost(0.7));
        // One to four seeds cover 0, 50, 75 and 87.5 percent, whatever they say.
        for n in 1..=4 {
            let found = below(n);
            assert_eq!(found.verdict, Verdict::Inconclusive, "{n}");
            assert_eq!(found.needed.unwrap().0, Some(5));
        }
        assert_eq!(below(5).verdict, Verdict::Pass);
        assert_eq!(below(5).coverage, Some(0.9375));
        assert_eq!(standing(&[0.8; 5], Bound::AtMost(0.7)).verdict, Verdict::Fail);
        assert_eq!(standing(&[0.8; 5], Bound::AtLeast(0.7)).verdict, Verdict::Pass);
        // One of five on the other side: the interval reaches across.
        let mixed = standing(&[0.5, 0.5, 0.5, 0.5, 0.8], Bound::AtMost(0.7));
        assert_eq!(mixed.verdict, Verdict::Inconclusive);
        let (needed, because) = mixed.needed.unwrap();
        // Two of 9 wrong gives p = .18, 2 of 10 p = .11, 3 of 13 .09 (direct sums).
        assert_eq!(needed, Some(13));
        assert!(because.contains("4 of 5"), "{because}");
        assert_eq!(standing(&[0.5, 0.5, 0.5, 0.8, 0.8, 0.8], Bound::AtMost(0.7)).needed.unwrap().0, None);
    }

    #[test]
    fn p_values_are_those_of_the_sign_test() {
        // 8 of 8: 2 / 256; 7 of 8: 2 (1 + 8) / 256.
        assert!((standing(&[0.5; 8], Bound::AtMost(0.7)).p_value - 2.0 / 256.0).abs() < 1e-12);
        let mut seven = vec![0.5; 7];
        seven.push(0.9);
        assert!((standing(&seven, Bound::AtMost(0.7)).p_value - 18.0 / 256.0).abs() < 1e-12);
        assert_eq!(standing(&seven, Bound::AtMost(0.7)).verdict, Verdict::Pass);
        assert_eq!(standing(&[0.5], Bound::AtMost(0.7)).p_value, 1.0);
    }

    #[test]
    fn shares_are_judged_by_their_exact_interval() {
        // 8 of 8 at 90%: from 0.05^(1/8) = 0.688 up.
        let all = |claimed| share(8, 8, claimed, 8, 0.9);
        assert_eq!(all(0.68).verdict, Verdict::Pass);
        assert!((all(0.68).interval[0].unwrap() - 0.05f64.powf(0.125)).abs() < 1e-9);
        // The audit's case: value in, interval across.
        let open = share(8, 8, 0.9, 8, 0.9);
        assert_eq!((open.verdict, open.value), (Verdict::Inconclusive, Some(1.0)));
        // 0.9^29 < 0.05 < 0.9^28.
        assert_eq!(open.needed.unwrap().0, Some(29));
        assert_eq!(share(3, 8, 0.9, 8, 0.9).verdict, Verdict::Fail);
        // One seed without it disproves "all"; none with it proves it.
        assert_eq!(share(7, 8, 1.0, 8, 0.9).verdict, Verdict::Fail);
        let (needed, because) = share(8, 8, 1.0, 8, 0.9).needed.unwrap();
        assert!(needed.is_none() && because.contains("below 100%"), "{because}");
        assert_eq!(share(7, 7, 0.1, 8, 0.9).verdict, Verdict::Inconclusive);
    }

    #[test]
    fn p_values_and_intervals_of_shares_agree() {
        for n in 1..=12 {
            for k in 0..=n {
                for claimed in [0.04, 0.3, 0.5, 0.77, 0.95, 1.0] {
                    let found = share(k, n, claimed, n, 0.9);
                    assert_eq!(
                        found.verdict != Verdict::Inconclusive,
                        found.p_value <= 0.1,
                        "{k} {n} {claimed}"
                    );
                }
            }
        }
    }

    #[test]
    fn holm_counts_the_claims() {
        let claim = |p_value| Claim {
            name: String::new(),
            statement: String::new(),
            verdict: Verdict::Pass,
            value: None,
            interval: [None, None],
            detail: String::new(),
            seeds: 8,
            confidence: 0.9,
            coverage: None,
            p_value,
            p_holm: p_value,
            family_verdict: Verdict::Pass,
            seeds_needed: None,
            seeds_needed_because: None,
            given: None,
        };
        let mut claims: Vec<Claim> = [0.06, 0.01, 0.04, 0.03].map(claim).into();
        adjust(&mut claims);
        let holm: Vec<f64> = claims.iter().map(|c| (c.p_holm * 1e6).round() / 1e6).collect();
        // Sorted: .01 x 4, .03 x 3, .04 x 2 (not below the one before), .06 x 1.
        assert_eq!(holm, [0.09, 0.04, 0.09, 0.09]);
        assert!(claims.iter().all(|c| c.family_verdict == Verdict::Pass));
        let mut claims: Vec<Claim> = [0.06, 0.06].map(claim).into();
        adjust(&mut claims);
        assert!(claims.iter().all(|c| c.p_holm == 0.12 && c.family_verdict == Verdict::Inconclusive));
        assert!(
            claims[0].detail.contains("Holm over the 2 claims 0.120 (INCONCLUSIVE)"),
            "{}",
            claims[0].detail
        );
    }
}
