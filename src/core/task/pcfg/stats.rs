//! What a grammar's sentences are like, exactly, and tests of samples against it.

use super::grammar::{Grammar, Symbol};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// The distribution of the length of a sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct LengthDistribution {
    /// `probabilities[n]` is the probability of a sentence of n tokens.
    pub probabilities: Vec<f64>,
    /// Probability of longer sentences; 0 (up to rounding) where the table is complete.
    pub beyond: f64,
}

impl LengthDistribution {
    /// Shortest length with positive probability.
    pub fn shortest(&self) -> usize {
        self.probabilities.iter().position(|&p| p > 0.0).unwrap_or(0)
    }

    /// Longest length in the table with positive probability.
    pub fn longest(&self) -> usize {
        self.probabilities.iter().rposition(|&p| p > 0.0).unwrap_or(0)
    }

    /// The smallest n with P(length <= n) >= q; `None` if the table ends before.
    pub fn quantile(&self, q: f64) -> Option<usize> {
        let mut sum = 0.0;
        // Rounding of the sum must not hide the last length.
        self.probabilities.iter().position(|p| {
            sum += p;
            sum >= q - 1e-12
        })
    }
}

/// The exact distribution of lengths up to `most` tokens (all of them if the grammar's longest sentence is not longer).
///
/// Lengths are built up from short to long; a span's length is that of its first symbol plus the rest's, so for each rule
/// the distributions of its symbols are convolved, also where the grammar is recursive.
pub fn length_distribution(grammar: &Grammar, most: usize) -> LengthDistribution {
    let most = longest(grammar).map_or(most, |l| l.min(most));
    let count = grammar.nonterminals().len();
    let mut of = vec![vec![0.0; most + 1]; count];
    // prefix[r][j][n]: probability that the first j + 1 symbols of rule r have n tokens together.
    let mut prefix: Vec<Vec<Vec<f64>>> =
        grammar.rules().iter().map(|r| vec![vec![0.0; most + 1]; r.rhs.len() - 1]).collect();
    let one = |of: &[Vec<f64>], symbol: Symbol, n: usize| match symbol {
        Symbol::Terminal(_) => f64::from(u8::from(n == 1)),
        Symbol::Nonterminal(a) => of[usize::from(a)][n],
    };
    for n in 1..=most {
        for &a in grammar.unit_order() {
            let mut total = 0.0;
            for r in grammar.rules_of(a) {
                let rule = &grammar.rules()[r];
                let last = rule.rhs.len() - 1;
                total += rule.probability
                    * if last == 0 {
                        one(&of, rule.rhs[0], n)
                    } else {
                        convolution(&prefix[r][last - 1], n, |m| one(&of, rule.rhs[last], m))
                    };
            }
            of[usize::from(a)][n] = total;
        }
        for (r, rule) in grammar.rules().iter().enumerate() {
            for j in 0..rule.rhs.len() - 1 {
                prefix[r][j][n] = if j == 0 {
                    one(&of, rule.rhs[0], n)
                } else {
                    convolution(&prefix[r][j - 1], n, |m| one(&of, rule.rhs[j], m))
                };
            }
        }
    }
    let probabilities = std::mem::take(&mut of[usize::from(grammar.start())]);
    let beyond = if longest(grammar).is_some_and(|l| l <= most) {
        0.0
    } else {
        (1.0 - probabilities.iter().sum::<f64>()).max(0.0)
    };
    LengthDistribution { probabilities, beyond }
}

/// Sum over m of first\[n - m\] x second(m), with at least one token on both sides.
fn convolution(first: &[f64], n: usize, second: impl Fn(usize) -> f64) -> f64 {
    (1..n).filter(|&m| first[n - m] != 0.0).map(|m| first[n - m] * second(m)).sum()
}

/// Length of the longest sentence; `None` if the grammar is recursive.
pub fn longest(grammar: &Grammar) -> Option<usize> {
    if grammar.is_recursive() {
        return None;
    }
    let reachable = grammar.reachable();
    let mut longest = vec![0usize; reachable.len()];
    // Every pass settles at least one more layer of the acyclic grammar.
    for _ in 0..reachable.len() {
        for rule in grammar.rules().iter().filter(|r| reachable[usize::from(r.lhs)]) {
            let length: usize = rule
                .rhs
                .iter()
                .map(|s| match s {
                    Symbol::Terminal(_) => 1,
                    Symbol::Nonterminal(b) => longest[usize::from(*b)],
                })
                .fold(0, usize::saturating_add);
            let own = &mut longest[usize::from(rule.lhs)];
            *own = (*own).max(length);
        }
    }
    Some(longest[usize::from(grammar.start())])
}

/// Sentences up to this length are covered where a grammar has longer ones.
pub const USUAL_LIMIT: usize = 3000;

/// The longest sentence exact computations should cover: all of them, or those up to [`USUAL_LIMIT`] tokens.
pub fn covered(grammar: &Grammar) -> usize {
    longest(grammar).map_or(USUAL_LIMIT, |l| l.min(USUAL_LIMIT))
}

/// Exact moments of derivations from the start symbol.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Expected number of tokens.
    pub mean_length: f64,
    /// Variance of the number of tokens.
    pub length_variance: f64,
    /// Entropy of the derivation in bits; that of the sentence if no sentence has two derivations.
    pub entropy_bits: f64,
    /// Expected number of uses of each rule.
    pub rule_use: Vec<f64>,
}

/// Computes [`Moments`].
pub fn moments(grammar: &Grammar) -> Moments {
    let count = grammar.nonterminals().len();
    let rule_use = grammar.expected_rule_use();
    let start = usize::from(grammar.start());
    let mean = grammar.mean_lengths();
    // Var = E[variance given the rule] + variance of the mean given the rule; the first is M applied to the variances.
    let mut between = vec![0.0; count];
    for rule in grammar.rules() {
        let given: f64 = rule
            .rhs
            .iter()
            .map(|s| match s {
                Symbol::Terminal(_) => 1.0,
                Symbol::Nonterminal(b) => mean[usize::from(*b)],
            })
            .sum();
        let a = usize::from(rule.lhs);
        between[a] += rule.probability * (given - mean[a]).powi(2);
    }
    let variance = grammar.expectation(&between);
    let entropy =
        rule_use.iter().zip(grammar.rules()).map(|(uses, rule)| -uses * rule.probability.log2()).sum();
    Moments { mean_length: mean[start], length_variance: variance[start], entropy_bits: entropy, rule_use }
}

/// The factor per token that keeps the weight of a typical sentence near 1: exp(entropy / mean length).
pub(super) fn token_scale(grammar: &Grammar) -> f64 {
    let m = moments(grammar);
    (m.entropy_bits * std::f64::consts::LN_2 / m.mean_length).exp()
}

/// A test of observed rule use against the grammar.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTest {
    /// Pearson's statistic, summed over non-terminals with two rules or more: given how often a non-terminal is
    /// rewritten, its rules are multinomial.
    pub chi_square: f64,
    /// Sum of (rules - 1) over those non-terminals that were rewritten at all.
    pub degrees: usize,
    /// Probability of a larger statistic if the samples follow the grammar.
    pub p_value: f64,
}

/// Pearson's chi-square test of `uses` (one count per rule) against the rule probabilities.
///
/// # Panics
/// If there is not one count per rule.
pub fn test_rules(grammar: &Grammar, uses: &[u64]) -> RuleTest {
    assert_eq!(uses.len(), grammar.rules().len());
    let (mut chi_square, mut degrees) = (0.0, 0);
    for a in 0..grammar.nonterminals().len() as u16 {
        let range = grammar.rules_of(a);
        let total: u64 = uses[range.clone()].iter().sum();
        if total == 0 || range.len() < 2 {
            continue;
        }
        degrees += range.len() - 1;
        for r in range {
            let expected = total as f64 * grammar.rules()[r].probability;
            chi_square += (uses[r] as f64 - expected).powi(2) / expected;
        }
    }
    let p_value = match degrees {
        0 => 1.0,
        _ => ChiSquared::new(degrees as f64).map_or(f64::NAN, |law| law.sf(chi_square)),
    };
    RuleTest { chi_square, degrees, p_value }
}

/// Standard errors between the mean of observed lengths and the exact mean; 0 where lengths do not vary and agree.
pub fn length_z(moments: &Moments, lengths: &[u64]) -> f64 {
    let n = lengths.len() as f64;
    let mean = lengths.iter().sum::<u64>() as f64 / n;
    let difference = mean - moments.mean_length;
    if difference.abs() < 1e-9 { 0.0 } else { difference / (moments.length_variance / n).sqrt() }
}

/// Which numbers of tokens can occur: in a non-terminal, and left and right of it in a sentence.
#[derive(Debug, Clone)]
pub(super) struct LengthSets {
    /// `lengths[a][n]`: non-terminal a can derive n tokens.
    pub lengths: Vec<Vec<bool>>,
    /// `left[a][n]`: n tokens can stand left of a in a sentence.
    pub left: Vec<Vec<bool>>,
    /// `right[a][n]`: n tokens can stand right of a in a sentence.
    pub right: Vec<Vec<bool>>,
}

impl LengthSets {
    /// The sets up to `most` tokens.
    pub fn new(grammar: &Grammar, most: usize) -> Self {
        let count = grammar.nonterminals().len();
        let none = vec![vec![false; most + 1]; count];
        let mut sets = Self { lengths: none.clone(), left: none.clone(), right: none };
        let start = usize::from(grammar.start());
        sets.left[start][0] = true;
        sets.right[start][0] = true;
        sets.settle(grammar, |sets, rule, lhs| {
            let mut set = sets.of(rule[0]);
            for &symbol in &rule[1..] {
                set = sum_set(&set, &sets.of(symbol), most);
            }
            unite(&mut sets.lengths[lhs], &set)
        });
        sets.settle(grammar, |sets, rule, lhs| {
            let mut grown = false;
            let mut outside = sets.left[lhs].clone();
            for &symbol in rule {
                if let Symbol::Nonterminal(a) = symbol {
                    grown |= unite(&mut sets.left[usize::from(a)], &outside);
                }
                outside = sum_set(&outside, &sets.of(symbol), most);
            }
            let mut outside = sets.right[lhs].clone();
            for &symbol in rule.iter().rev() {
                if let Symbol::Nonterminal(a) = symbol {
                    grown |= unite(&mut sets.right[usize::from(a)], &outside);
                }
                outside = sum_set(&outside, &sets.of(symbol), most);
            }
            grown
        });
        sets
    }

    /// Lengths a symbol can have.
    pub fn of(&self, symbol: Symbol) -> Vec<bool> {
        match symbol {
            Symbol::Nonterminal(a) => self.lengths[usize::from(a)].clone(),
            Symbol::Terminal(_) => (0..self.lengths[0].len()).map(|n| n == 1).collect(),
        }
    }

    /// Applies `grow` to every rule until nothing changes.
    fn settle(&mut self, grammar: &Grammar, grow: impl Fn(&mut Self, &[Symbol], usize) -> bool) {
        loop {
            let mut grown = false;
            for rule in grammar.rules() {
                grown |= grow(self, &rule.rhs, usize::from(rule.lhs));
            }
            if !grown {
                return;
            }
        }
    }
}

/// All sums of a member of each set, up to `most`.
pub(super) fn sum_set(a: &[bool], b: &[bool], most: usize) -> Vec<bool> {
    let mut sums = vec![false; most + 1];
    for (i, _) in a.iter().enumerate().filter(|(_, x)| **x) {
        for (sum, &y) in sums[i..].iter_mut().zip(b) {
            *sum |= y;
        }
    }
    sums
}

fn unite(into: &mut [bool], other: &[bool]) -> bool {
    let mut grown = false;
    for (x, &y) in into.iter_mut().zip(other) {
        grown |= y && !*x;
        *x |= y;
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};
    use crate::task::pcfg::Sampler;

    fn mean_and_variance(d: &LengthDistribution) -> (f64, f64) {
        let sum = |f: &dyn Fn(f64) -> f64| {
            d.probabilities.iter().enumerate().map(|(n, p)| p * f(n as f64)).sum::<f64>()
        };
        let mean = sum(&|n| n);
        (mean, sum(&|n| (n - mean).powi(2)))
    }

    #[test]
    fn distribution_and_moments_agree() {
        for (name, start) in [("cfg3b", "22"), ("cfg3f", "16"), ("cfg3g", "18")] {
            let grammar = Grammar::builtin(name).unwrap().with_start(start).unwrap();
            let lengths = length_distribution(&grammar, 10_000);
            assert_eq!(lengths.beyond, 0.0);
            assert!((lengths.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert_eq!(Some(lengths.longest()), longest(&grammar));
            let (mean, variance) = mean_and_variance(&lengths);
            let exact = moments(&grammar);
            assert!((mean - exact.mean_length).abs() < 1e-8, "{name}: {mean} {exact:?}");
            assert!((variance - exact.length_variance).abs() < 1e-6, "{name}: {variance} {exact:?}");
        }
    }

    #[test]
    fn cfg3b_from_15_has_the_known_lengths() {
        let grammar = Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap();
        let lengths = length_distribution(&grammar, 1000);
        assert_eq!((lengths.shortest(), lengths.longest()), (21, 27));
        // 15 has one of each of 10, 11, 12; each of those one 7, 8 and 9: six binary choices of one token more.
        let binomial = [1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0].map(|c| c / 64.0);
        binomial.iter().zip(&lengths.probabilities[21..]).for_each(|(a, b)| assert!((a - b).abs() < 1e-12));
        assert_eq!(lengths.quantile(0.5), Some(24));
        assert_eq!(lengths.quantile(1.0), Some(27));
        // Two orders on level 3, and on level 2 three times; six expansions on level 1.
        assert!((moments(&grammar).entropy_bits - 10.0).abs() < 1e-12);
    }

    #[test]
    fn lengths_of_a_recursive_grammar_are_geometric() {
        let grammar = Grammar::parse("S -> S b [1/4] | a [3/4]").unwrap();
        let lengths = length_distribution(&grammar, 20);
        for n in 1..=20 {
            let exact = 0.75 * 0.25f64.powi(n as i32 - 1);
            assert!((lengths.probabilities[n] - exact).abs() < 1e-14);
        }
        assert!((lengths.beyond - 0.25f64.powi(20)).abs() < 1e-14);
        let exact = moments(&grammar);
        assert!((exact.mean_length - 4.0 / 3.0).abs() < 1e-12);
        assert!((exact.length_variance - 4.0 / 9.0).abs() < 1e-12);
        assert_eq!(longest(&grammar), None);
    }

    #[test]
    fn samples_follow_the_grammar_and_wrong_ones_are_noticed() {
        let grammar =
            Grammar::parse("S -> A S [0.3] | A [0.7]\nA -> a [0.05] | b [0.35] | a b [0.6]").unwrap();
        let sampler = Sampler::new(&grammar);
        let (uses, lengths) =
            sampler.count(3, Stream::new(Purpose::Data, 0), 0, 50_000, grammar.rules().len());
        let test = test_rules(&grammar, &uses);
        assert_eq!(test.degrees, 3);
        assert!(test.p_value > 1e-3, "{test:?}");
        assert!(length_z(&moments(&grammar), &lengths).abs() < 4.0);
        let other =
            Grammar::parse("S -> A S [0.33] | A [0.67]\nA -> a [0.05] | b [0.35] | a b [0.6]").unwrap();
        assert!(test_rules(&other, &uses).p_value < 1e-6);
        assert!(length_z(&moments(&other), &lengths).abs() > 6.0);
    }
}
