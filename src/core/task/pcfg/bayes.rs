//! The exact optimum of masked prediction: what no model can pass.
//!
//! Nobody attends to a selected position, so what a model can know about position i are the tokens at positions that
//! are not selected, the length of the sentence, and what position i itself shows. The posterior of the token at i sums over
//! all derivations with the selected positions unknown (inside-outside). Two optima follow: one that does not look at what
//! the position itself shows (the question of the experiments), and one that does: a terminal shown there is the
//! token itself with probability 1/2 and else random, so it is evidence.

use super::chart::{Chart, Plan, Sum};
use super::grammar::Grammar;
use super::masked::MaskedPrediction;
use super::stats;

/// The exact posterior of hidden tokens.
#[derive(Debug, Clone)]
pub struct Bayes {
    plan: Plan,
}

/// Quality of a predictor on selected positions.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Quality {
    /// Fraction of positions whose most probable token is the right one.
    pub accuracy: f64,
    /// Mean negative natural logarithm of the probability of the right token.
    pub cross_entropy: f64,
}

/// The optimum on an evaluation set.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Optimum {
    /// Sentences.
    pub sentences: u64,
    /// Selected positions in them.
    pub positions: u64,
    /// Without looking at what the position itself shows.
    pub without_own: Quality,
    /// With it: the ceiling of any model.
    pub with_own: Quality,
}

/// Running sums of [`Quality`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    positions: u64,
    right: u64,
    loss: f64,
}

impl Tally {
    /// Counts one prediction: probabilities up to a factor, and the right token.
    pub fn add(&mut self, weights: &[f64], right: usize) {
        let sum: f64 = weights.iter().sum();
        // Of equally probable ones the first.
        let best = (1..weights.len()).fold(0, |best, t| if weights[t] > weights[best] { t } else { best });
        self.positions += 1;
        self.right += u64::from(best == right);
        self.loss -= (weights[right] / sum).ln();
    }

    /// Joins two tallies.
    pub fn join(self, other: Self) -> Self {
        Self {
            positions: self.positions + other.positions,
            right: self.right + other.right,
            loss: self.loss + other.loss,
        }
    }

    /// Positions counted.
    pub fn positions(&self) -> u64 {
        self.positions
    }

    /// The means; NaN without positions.
    pub fn quality(&self) -> Quality {
        let n = self.positions as f64;
        Quality { accuracy: self.right as f64 / n, cross_entropy: self.loss / n }
    }
}

/// [`Bayes::score`]: how the optima predict one sentence.
#[derive(Debug, Clone, Copy)]
pub struct SentenceScore {
    /// Without looking at what the position itself shows.
    pub without_own: Tally,
    /// With it.
    pub with_own: Tally,
}

impl FromIterator<SentenceScore> for Optimum {
    /// Joins in the given order: the last bits depend on it.
    fn from_iter<I: IntoIterator<Item = SentenceScore>>(scores: I) -> Self {
        let mut sentences = 0;
        let [mut without_own, mut with_own] = [Tally::default(); 2];
        for score in scores {
            sentences += 1;
            without_own = without_own.join(score.without_own);
            with_own = with_own.join(score.with_own);
        }
        Self {
            sentences,
            positions: without_own.positions(),
            without_own: without_own.quality(),
            with_own: with_own.quality(),
        }
    }
}

impl Bayes {
    /// Prepares for sentences of up to `most` tokens; shorter if the grammar's longest sentence is.
    pub fn new(grammar: &Grammar, most: usize) -> Self {
        let most = stats::longest(grammar).map_or(most, |l| l.min(most));
        Self { plan: Plan::new(grammar, most) }
    }

    /// Prepares for every sentence of a grammar, or those of up to [`stats::USUAL_LIMIT`] tokens; of a recursive grammar for
    /// all but a share of 1e-6 of the sentences.
    pub fn complete(grammar: &Grammar) -> Self {
        let most = stats::covered(grammar);
        if !grammar.is_recursive() {
            return Self::new(grammar, most);
        }
        Self::new(grammar, stats::length_distribution(grammar, most).quantile(1.0 - 1e-6).unwrap_or(most))
    }

    /// Longest sentence this is for.
    pub fn most(&self) -> usize {
        self.plan.most()
    }

    /// For each position of `hidden` the probabilities of the terminals, \[hidden, T\], given the length of the sentence
    /// and its tokens outside `hidden`. `None` if no sentence of the grammar has those.
    ///
    /// # Panics
    /// If the sentence is longer than [`most`](Self::most) or a hidden position is outside it.
    pub fn posterior(&self, tokens: &[u8], hidden: &[usize]) -> Option<Vec<f64>> {
        let t = self.plan.grammar().terminals().len();
        let mut emissions = self.plan.emissions(tokens);
        hidden.iter().for_each(|&i| emissions[i * t..(i + 1) * t].fill(self.plan.scale()));
        let chart = Chart::fill::<Sum>(&self.plan, tokens.len(), &emissions);
        let derivatives = chart.derivatives();
        let mut posterior = Vec::with_capacity(hidden.len() * t);
        for &i in hidden {
            let own = &derivatives[i * t..(i + 1) * t];
            let sum: f64 = own.iter().sum();
            if sum.partial_cmp(&0.0) != Some(std::cmp::Ordering::Greater) {
                return None;
            }
            posterior.extend(own.iter().map(|d| d / sum));
        }
        Some(posterior)
    }

    /// Natural logarithm of the probability of the tokens outside `hidden` (and of the length).
    pub fn log_probability(&self, tokens: &[u8], hidden: &[usize]) -> f64 {
        let t = self.plan.grammar().terminals().len();
        let mut emissions = self.plan.emissions(tokens);
        hidden.iter().for_each(|&i| emissions[i * t..(i + 1) * t].fill(self.plan.scale()));
        let chart = Chart::fill::<Sum>(&self.plan, tokens.len(), &emissions);
        chart.total().ln() - tokens.len() as f64 * self.plan.scale().ln()
    }

    /// How both optima predict one sentence of a task; `None` if it is longer than [`most`](Self::most).
    pub fn score(&self, task: &MaskedPrediction, number: u64) -> Option<SentenceScore> {
        let s = task.sentence(number);
        if s.truth.len() > self.most() {
            return None;
        }
        let mask = task.ids().mask;
        let t = task.ids().terminals;
        let mut tallies = [Tally::default(); 2];
        let posterior = self.posterior(&s.truth, &s.selected).unwrap_or_default();
        for ((own, &i), &shown) in posterior.chunks_exact(t).zip(&s.selected).zip(&s.shown) {
            let right = usize::from(s.truth[i]);
            tallies[0].add(own, right);
            let mut seen = own.to_vec();
            if shown != mask {
                // Kept (1/10) or random (1/10, each of T terminals); the tenths cancel.
                let random = 1.0 / t as f64;
                let kept = |x: usize| if x == shown as usize { 1.0 } else { 0.0 };
                seen.iter_mut().enumerate().for_each(|(x, w)| *w *= kept(x) + random);
            }
            tallies[1].add(&seen, right);
        }
        Some(SentenceScore { without_own: tallies[0], with_own: tallies[1] })
    }

    /// The optimum on sentences `first .. first + count` of a task. Sentences longer than [`most`](Self::most) are left out.
    pub fn optimum(&self, task: &MaskedPrediction, first: u64, count: u64) -> Optimum {
        (first..first + count).filter_map(|number| self.score(task, number)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{self, Purpose, Stream};
    use crate::task::pcfg::Role;
    use crate::task::pcfg::window::sentences;

    /// Posterior by going through all sentences.
    fn slow(grammar: &Grammar, tokens: &[u8], hidden: &[usize]) -> Vec<f64> {
        let t = grammar.terminals().len();
        let mut weights = vec![0.0; hidden.len() * t];
        for (sentence, p) in sentences(grammar, 1e6).unwrap() {
            let agrees = sentence.len() == tokens.len()
                && (0..tokens.len()).all(|i| hidden.contains(&i) || sentence[i] == tokens[i]);
            if agrees {
                hidden.iter().enumerate().for_each(|(h, &i)| weights[h * t + usize::from(sentence[i])] += p);
            }
        }
        for row in weights.chunks_exact_mut(t) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|w| *w /= sum);
        }
        weights
    }

    #[test]
    fn posterior_is_that_of_enumeration() {
        let uneven = "S -> A B | B a A [0.0]".replace(" [0.0]", "");
        let grammars = [
            Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap(),
            Grammar::builtin("cfg3f").unwrap().with_start("10").unwrap(),
            Grammar::parse(&format!(
                "{uneven}\nA -> B B [0.2] | a [0.5] | C c [0.3]\nB -> b a | C\nC -> a c | a b"
            ))
            .unwrap(),
        ];
        for grammar in grammars {
            let bayes = Bayes::complete(&grammar);
            let task = MaskedPrediction::new(&grammar, 3, Role::Evaluation);
            for number in 0..20 {
                let s = task.sentence(number);
                let fast = bayes.posterior(&s.truth, &s.selected).unwrap();
                let slow = slow(&grammar, &s.truth, &s.selected);
                fast.iter().zip(&slow).for_each(|(a, b)| assert!((a - b).abs() < 1e-10, "{a} {b}"));
            }
        }
    }

    /// Three layers of two or three non-terminals with random rules, of one to four symbols from the layer below or terminals.
    fn random_grammar(seed: u64) -> Option<Grammar> {
        let draw = |i: u64, bound| rng::below(seed, Stream::new(Purpose::Probe, 9), i, bound);
        let mut text = String::new();
        let mut at = 0;
        let mut next = |bound| {
            at += 1;
            draw(at, bound)
        };
        for (layer, names) in [&["S"][..], &["A", "B"], &["C", "D"]].into_iter().enumerate() {
            for name in names {
                for _ in 0..1 + next(3) {
                    let below = [["A", "B"], ["C", "D"], ["x", "y"]][layer];
                    let rhs: Vec<&str> = (0..1 + next(4))
                        .map(|_| {
                            if next(5) == 0 { ["x", "y"][next(2) as usize] } else { below[next(2) as usize] }
                        })
                        .collect();
                    text.push_str(&format!("{name} -> {}\n", rhs.join(" ")));
                }
            }
        }
        // Some have unused symbols or repeated rules: not what is tested here.
        Grammar::parse(&text).ok()
    }

    #[test]
    fn random_grammars_agree_with_enumeration() {
        let mut tested = 0;
        for grammar in (0..200).filter_map(random_grammar) {
            let Some(list) = sentences(&grammar, 2e4) else { continue };
            let bayes = Bayes::complete(&grammar);
            let total: f64 = list.iter().map(|(_, p)| p).sum();
            assert!((total - 1.0).abs() < 1e-9);
            let task = MaskedPrediction::new(&grammar, 3, Role::Evaluation).fraction(0.4).unwrap();
            for number in 0..4 {
                let s = task.sentence(number);
                let exact: f64 = list.iter().filter(|(t, _)| *t == s.truth).map(|(_, p)| p).sum();
                assert!((bayes.log_probability(&s.truth, &[]) - exact.ln()).abs() < 1e-9);
                let fast = bayes.posterior(&s.truth, &s.selected).unwrap();
                let slow = slow(&grammar, &s.truth, &s.selected);
                fast.iter().zip(&slow).for_each(|(a, b)| assert!((a - b).abs() < 1e-9, "{a} {b}"));
                tested += 1;
            }
        }
        assert!(tested > 100, "{tested}");
    }

    #[test]
    fn recursive_grammars_have_posteriors_too() {
        // Well-nested brackets: x at 1 and 2 unknown in ( ? ? ): either () or )( between, the latter giving ()().
        let grammar = Grammar::parse("S -> o c [0.4] | o S c [0.3] | S S [0.3]").unwrap();
        let bayes = Bayes::new(&grammar, 8);
        let posterior = bayes.posterior(&[0, 0, 1, 1], &[1, 2]).unwrap();
        let nested = 0.3 * 0.4;
        let chained = 0.3 * 0.4 * 0.4;
        let open = nested / (nested + chained);
        let expected = [open, 1.0 - open, 1.0 - open, open];
        posterior.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-12, "{posterior:?}"));
        assert_eq!(bayes.posterior(&[1, 0, 0, 1], &[1]), None);
        let log = bayes.log_probability(&[0, 0, 1, 1], &[]);
        assert!((log - f64::ln(nested)).abs() < 1e-12);
    }

    #[test]
    fn looking_at_what_the_position_shows_helps() {
        let grammar = Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap();
        let task = MaskedPrediction::new(&grammar, 3, Role::Evaluation);
        let optimum = Bayes::complete(&grammar).optimum(&task, 0, 600);
        assert_eq!(optimum.sentences, 600);
        assert!(optimum.with_own.cross_entropy < optimum.without_own.cross_entropy, "{optimum:?}");
        assert!(
            optimum.without_own.accuracy > 0.98 && optimum.without_own.cross_entropy < 0.02,
            "{optimum:?}"
        );
    }
}
