//! The optimum for predictors that see only the tokens up to w places away.
//!
//! Such a predictor knows which of those tokens are hidden, and where the sentence begins and ends if that is within its
//! sight; it does not know where in the sentence it looks. Its posterior comes from the distribution of windows of
//! 2w + 1 tokens around a position: exact where all sentences can be listed, else counted in sampled sentences.

use super::bayes::{Quality, Tally};
use super::grammar::{Grammar, Symbol};
use super::masked::MaskedPrediction;
use super::sample::Sampler;
use crate::rng::{Purpose, Stream};

/// Windows are kept in a table with one entry each.
const MOST_WINDOWS: usize = 1 << 24;

/// Why a table of windows cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Too many possible windows.
    #[error(
        "a window of {width} positions over {terminals} terminals has too many possibilities; use a smaller radius"
    )]
    TooLarge {
        /// Positions.
        width: usize,
        /// Terminals.
        terminals: usize,
    },
}

/// Where a table comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// All sentences with their probabilities.
    Exact,
    /// This many sampled sentences.
    Sampled(u64),
}

/// The distribution of windows of radius w around the positions of a sentence.
#[derive(Debug, Clone)]
pub struct WindowTable {
    radius: usize,
    terminals: usize,
    weights: Vec<f64>,
    source: Source,
}

/// Sentences with weights.
pub type Weighted = Vec<(Vec<u8>, f64)>;

/// All sentences of the start symbol with the probabilities of their derivations (a sentence with two derivations comes
/// twice), or `None` if there are more than `most` or infinitely many.
pub fn sentences(grammar: &Grammar, most: f64) -> Option<Weighted> {
    if grammar.is_recursive() {
        return None;
    }
    let mut lists: Vec<Option<Weighted>> = vec![None; grammar.nonterminals().len()];
    list(grammar, grammar.start(), most, &mut lists)?;
    lists[usize::from(grammar.start())].take()
}

fn list(grammar: &Grammar, a: u16, most: f64, lists: &mut [Option<Weighted>]) -> Option<()> {
    if lists[usize::from(a)].is_some() {
        return Some(());
    }
    let mut all = Vec::new();
    for rule in &grammar.rules()[grammar.rules_of(a)] {
        let mut partial = vec![(Vec::new(), rule.probability)];
        for &symbol in &rule.rhs {
            match symbol {
                Symbol::Terminal(t) => partial.iter_mut().for_each(|(s, _)| s.push(t)),
                Symbol::Nonterminal(b) => {
                    list(grammar, b, most, lists)?;
                    let below = lists[usize::from(b)].as_ref()?;
                    if partial.len() as f64 * below.len() as f64 > most {
                        return None;
                    }
                    let join =
                        |(s, p): &(Vec<u8>, f64), (t, q): &(Vec<u8>, f64)| ([&s[..], t].concat(), p * q);
                    partial = partial.iter().flat_map(|x| below.iter().map(move |y| join(x, y))).collect();
                }
            }
        }
        all.append(&mut partial);
        if all.len() as f64 > most {
            return None;
        }
    }
    lists[usize::from(a)] = Some(all);
    Some(())
}

impl WindowTable {
    /// The table of radius `radius`, from all sentences if there are at most 2^17, else from `samples` sampled ones.
    ///
    /// # Errors
    /// If there are too many windows.
    pub fn new(grammar: &Grammar, radius: usize, samples: u64, seed: u64) -> Result<Self, WindowError> {
        let terminals = grammar.terminals().len();
        let width = 2 * radius + 1;
        let size = u32::try_from(width).ok().and_then(|w| (terminals + 1).checked_pow(w));
        let size = size.filter(|&s| s <= MOST_WINDOWS).ok_or(WindowError::TooLarge { width, terminals })?;
        let mut table = Self { radius, terminals, weights: vec![0.0; size], source: Source::Exact };
        match sentences(grammar, f64::from(1 << 17)) {
            Some(list) => list.iter().for_each(|(sentence, p)| table.add(sentence, *p)),
            None => {
                table.source = Source::Sampled(samples);
                let sampler = Sampler::new(grammar);
                let mut sentence = Vec::new();
                for index in 0..samples {
                    sentence.clear();
                    sampler.append(seed, Stream::new(Purpose::Probe, 1), index, &mut sentence);
                    table.add(&sentence, 1.0);
                }
            }
        }
        Ok(table)
    }

    /// Where the table comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    fn add(&mut self, sentence: &[u8], weight: f64) {
        let base = self.terminals + 1;
        let modulus = self.weights.len() / base;
        let outside = self.terminals;
        let at = |i: usize| sentence.get(i).map_or(outside, |&t| usize::from(t));
        // The window left of the first position; each step moves one token in and one out.
        let mut window = (0..self.radius + 1).fold(0, |w, _| w * base + outside);
        window = (0..self.radius).fold(window, |w, i| w * base + at(i));
        for i in 0..sentence.len() {
            window = window % modulus * base + at(i + self.radius);
            self.weights[window] += weight;
        }
    }

    /// Weights of the terminals at position i given the tokens near it that are not hidden.
    pub fn posterior(&self, tokens: &[u8], hidden: impl Fn(usize) -> bool, i: usize) -> Vec<f64> {
        let base = self.terminals + 1;
        let mut posterior = vec![0.0; self.terminals];
        for (own, weight) in posterior.iter_mut().enumerate() {
            let mut windows = vec![0usize];
            for offset in 0..2 * self.radius + 1 {
                let place = (i + offset).checked_sub(self.radius).filter(|&p| p < tokens.len());
                let fixed = match place {
                    None => Some(self.terminals),
                    Some(p) if p == i => Some(own),
                    Some(p) if !hidden(p) => Some(usize::from(tokens[p])),
                    Some(_) => None,
                };
                windows = match fixed {
                    Some(t) => windows.into_iter().map(|w| w * base + t).collect(),
                    None => windows
                        .into_iter()
                        .flat_map(|w| (0..self.terminals).map(move |t| w * base + t))
                        .collect(),
                };
            }
            *weight = windows.into_iter().map(|w| self.weights[w]).sum();
        }
        posterior
    }

    /// Quality on the selected positions of sentences `first .. first + count` of a task. Windows that a sampled table
    /// has never seen are predicted as uniform.
    pub fn quality(&self, task: &MaskedPrediction, first: u64, count: u64) -> Quality {
        let mut tally = Tally::default();
        for number in first..first + count {
            let s = task.sentence(number);
            for &i in &s.selected {
                let mut posterior = self.posterior(&s.truth, |p| s.selected.binary_search(&p).is_ok(), i);
                let right = usize::from(s.truth[i]);
                if posterior[right] == 0.0 {
                    // One imaginary observation of every token: only sampled tables need it.
                    posterior.iter_mut().for_each(|w| *w += 1.0);
                }
                tally.add(&posterior, right);
            }
        }
        tally.quality()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sentences_are_listed() {
        let grammar = Grammar::builtin("cfg3b").unwrap();
        let list = sentences(&grammar.with_start("15").unwrap(), 1e4).unwrap();
        assert_eq!(list.len(), 1024);
        assert!((list.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!(sentences(&grammar, 1e6).is_none());
        assert!(sentences(&Grammar::parse("S -> a S [0.1] | a [0.9]").unwrap(), 1e6).is_none());
    }

    #[test]
    fn posteriors_are_those_of_the_listed_windows() {
        let grammar = Grammar::parse("S -> a b a | b b a a").unwrap();
        let table = WindowTable::new(&grammar, 1, 0, 0).unwrap();
        assert_eq!(table.source(), Source::Exact);
        // Position 1 of a ? a: only "a b a".
        assert_eq!(table.posterior(&[0, 0, 0], |p| p == 1, 1), [0.0, 0.5]);
        // Position 0 with b right of it: a b.. or b b..
        assert_eq!(table.posterior(&[0, 1, 0], |p| p == 0, 0), [0.5, 0.5]);
        // Neighbours unknown, inside: a|b|a, b|b|a and b|a|a.
        assert_eq!(table.posterior(&[0, 1, 0], |_| true, 1), [0.5, 1.0]);
        assert!(WindowTable::new(&grammar, 20, 0, 0).is_err());
    }

    #[test]
    fn wider_windows_know_more() {
        let grammar = Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap();
        let task = MaskedPrediction::new(&grammar, 1, crate::task::pcfg::Role::Evaluation);
        let accuracy: Vec<f64> = (1..=3)
            .map(|w| WindowTable::new(&grammar, w, 0, 0).unwrap().quality(&task, 0, 500).accuracy)
            .collect();
        assert!(accuracy[0] + 0.05 < accuracy[1] && accuracy[1] + 0.03 < accuracy[2], "{accuracy:?}");
    }
}
