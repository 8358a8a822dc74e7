//! Masked prediction.

use super::batch::{Examples, PredictionBatch, PredictionError, Role, Tokens, checked_length};
use super::grammar::Grammar;
use super::sample::Sampler;
use crate::rng;

/// One sentence of masked prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedSentence {
    /// The sentence: terminal indices.
    pub truth: Vec<u8>,
    /// Selected positions of the sentence, ascending.
    pub selected: Vec<usize>,
    /// What stands at each selected position: MASK, the token itself or a random terminal.
    pub shown: Vec<u32>,
}

/// Masked prediction (Devlin et al. 2019, with the attention mask of the progressive-distillation experiments).
///
/// Every position of the sentence (not BOS) is selected independently with probability `fraction`. A selected position shows
/// MASK with probability 0.8, its own token with 0.1 and a uniformly random terminal with 0.1. Selected positions and
/// padding have attention mask 0: nobody attends to them as a key, but they act as queries. The loss is that of
/// selected positions. Words 2t and 2t+1 of item `number` of the mask stream decide about position t.
#[derive(Debug, Clone)]
pub struct MaskedPrediction {
    sampler: Sampler,
    ids: Tokens,
    seed: u64,
    role: Role,
    examples: Examples,
    fraction: f64,
}

/// The default of [`MaskedPrediction::fraction`].
pub const FRACTION: f64 = 0.3;

impl MaskedPrediction {
    /// The task on sentences of a grammar with the usual fraction of 0.3.
    pub fn new(grammar: &Grammar, seed: u64, role: Role) -> Self {
        let sampler = Sampler::new(grammar);
        Self { sampler, ids: Tokens::of(grammar), seed, role, examples: Examples::Stream, fraction: FRACTION }
    }

    /// Takes a fixed number of examples.
    ///
    /// # Errors
    /// If the number is 0.
    pub fn examples(self, examples: Examples) -> Result<Self, PredictionError> {
        if examples == Examples::Fixed(0) {
            return Err(PredictionError::NoExamples);
        }
        Ok(Self { examples, ..self })
    }

    /// Sets the fraction of selected positions.
    ///
    /// # Errors
    /// Unless it is above 0 and at most 1.
    pub fn fraction(self, fraction: f64) -> Result<Self, PredictionError> {
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err(PredictionError::Fraction(fraction));
        }
        Ok(Self { fraction, ..self })
    }

    /// Token ids.
    pub fn ids(&self) -> Tokens {
        self.ids
    }

    /// The sentence with this running number and its selected positions.
    pub fn sentence(&self, number: u64) -> MaskedSentence {
        let truth = self.sampler.sentence(self.seed, self.role.sentences(), self.examples.sentence(number));
        let (mut selected, mut shown) = (Vec::new(), Vec::new());
        let limit = (self.fraction * 4_294_967_296.0) as u64;
        for (block, pair) in truth.chunks(2).enumerate() {
            let words = rng::bits(self.seed, self.role.masks(), number, block as u32);
            for (i, &token) in pair.iter().enumerate() {
                if u64::from(words[2 * i]) < limit {
                    selected.push(2 * block + i);
                    shown.push(self.show(token, words[2 * i + 1]));
                }
            }
        }
        MaskedSentence { truth, selected, shown }
    }

    /// What a selected position with this token shows: tenths of the range of a word, the last one split evenly over terminals.
    fn show(&self, token: u8, word: u32) -> u32 {
        let tenths = u64::from(word) * 10;
        match tenths >> 32 {
            0..8 => self.ids.mask,
            8 => u32::from(token),
            _ => (((tenths & 0xFFFF_FFFF) * self.ids.terminals as u64) >> 32) as u32,
        }
    }

    /// Sequences number `first .. first + sequences` for a model with `positions` positions.
    ///
    /// # Errors
    /// If there are no sequences or a sentence with its BOS exceeds the positions.
    pub fn batch(
        &self,
        first: u64,
        sequences: usize,
        positions: usize,
    ) -> Result<PredictionBatch, PredictionError> {
        let sentences: Vec<MaskedSentence> =
            (0..sequences as u64).map(|b| self.sentence(first.wrapping_add(b))).collect();
        let lengths = sentences.iter().map(|s| s.truth.len() + 1);
        let length = checked_length(lengths, first, positions)?;
        let mut tokens = vec![self.ids.pad; sequences * length];
        let mut keys = vec![0u8; sequences * length];
        let (mut reads, mut labels) = (Vec::new(), Vec::new());
        for (b, sentence) in sentences.iter().enumerate() {
            let row = b * length;
            let end = row + 1 + sentence.truth.len();
            tokens[row] = self.ids.bos;
            tokens[row + 1..end].iter_mut().zip(&sentence.truth).for_each(|(x, &t)| *x = u32::from(t));
            keys[row..end].fill(1);
            for (&t, &shown) in sentence.selected.iter().zip(&sentence.shown) {
                let at = row + 1 + t;
                tokens[at] = shown;
                keys[at] = 0;
                reads.push(at as u32);
                labels.push(u32::from(sentence.truth[t]));
            }
        }
        Ok(PredictionBatch { sequences, length, tokens, keys: Some(keys), reads, labels, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short() -> Grammar {
        Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap()
    }

    #[test]
    fn ids_are_those_of_the_experiments() {
        let ids = Tokens::of(&short());
        assert_eq!((ids.bos, ids.eos, ids.pad, ids.mask, ids.vocab), (3, 4, 5, 6, 8));
    }

    #[test]
    fn proportions_are_those_asked_for() {
        let task = MaskedPrediction::new(&short(), 4, Role::Training);
        let (mut tokens, mut selected, mut masked, mut own) = (0.0, 0.0, 0.0, 0.0);
        let mut others = [0.0f64; 3];
        for number in 0..20_000 {
            let s = task.sentence(number);
            tokens += s.truth.len() as f64;
            selected += s.selected.len() as f64;
            for (&t, &shown) in s.selected.iter().zip(&s.shown) {
                if shown == 6 {
                    masked += 1.0;
                } else {
                    own += f64::from(u8::from(shown == u32::from(s.truth[t])));
                    others[(shown as usize + 3 - usize::from(s.truth[t])) % 3] += 1.0;
                }
            }
        }
        // About 144,000 selected positions: 4.5 standard errors.
        let near = |count: f64, of: f64, p: f64| (count / of - p).abs() < 4.5 * (p * (1.0 - p) / of).sqrt();
        assert!(near(selected, tokens, 0.3), "{}", selected / tokens);
        assert!(near(masked, selected, 0.8), "{}", masked / selected);
        // The token itself: kept, or drawn by chance.
        assert!(near(own, selected, 0.1 + 0.1 / 3.0), "{}", own / selected);
        assert!(near(others[1], selected, 0.1 / 3.0) && near(others[2], selected, 0.1 / 3.0), "{others:?}");
    }

    #[test]
    fn batches_hide_selected_positions_and_padding() {
        let task = MaskedPrediction::new(&short(), 4, Role::Evaluation);
        let batch = task.batch(10, 8, 28).unwrap();
        assert_eq!(batch, task.batch(10, 8, 28).unwrap());
        assert!(batch.reads.is_sorted_by(|a, b| a < b));
        let keys = batch.keys.as_ref().unwrap();
        let mut read = 0;
        let longest = (0..8).map(|b| task.sentence(10 + b).truth.len()).max().unwrap();
        assert_eq!(batch.length, longest + 1);
        for b in 0..8 {
            let s = task.sentence(10 + b as u64);
            let row = b * batch.length;
            assert_eq!((batch.tokens[row], keys[row]), (3, 1));
            for t in 0..batch.length - 1 {
                let at = row + 1 + t;
                if s.selected.contains(&t) {
                    assert_eq!((batch.reads[read], keys[at]), (at as u32, 0));
                    assert_eq!(batch.labels[read], u32::from(s.truth[t]));
                    read += 1;
                } else if let Some(&token) = s.truth.get(t) {
                    assert_eq!((batch.tokens[at], keys[at]), (u32::from(token), 1));
                } else {
                    assert_eq!((batch.tokens[at], keys[at]), (5, 0));
                }
            }
        }
        assert_eq!(read, batch.reads.len());
        assert_eq!(batch.one_hot(8).iter().sum::<f32>(), read as f32);
        let error = task.batch(0, 8, 24).unwrap_err().to_string();
        assert!(error.contains("but the model has 24"), "{error}");
        assert_eq!(task.batch(0, 0, 24), Err(PredictionError::EmptyBatch));
    }

    #[test]
    fn a_resumed_run_sees_the_same_bits() {
        // One batch of 6 is two of 3, apart from padding.
        let task = MaskedPrediction::new(&short(), 4, Role::Training);
        let (all, tail) = (task.batch(100, 6, 64).unwrap(), task.batch(103, 3, 64).unwrap());
        for b in 0..3 {
            let whole = &all.tokens[(b + 3) * all.length..][..tail.length];
            assert_eq!(whole, &tail.tokens[b * tail.length..][..tail.length]);
        }
    }

    #[test]
    fn fixed_examples_repeat_with_new_masks() {
        let task = MaskedPrediction::new(&short(), 4, Role::Training).examples(Examples::Fixed(5)).unwrap();
        let (first, again) = (task.sentence(2), task.sentence(7));
        assert_eq!(first.truth, again.truth);
        assert_ne!(first.selected, again.selected);
        assert!(MaskedPrediction::new(&short(), 4, Role::Training).examples(Examples::Fixed(0)).is_err());
        assert!(MaskedPrediction::new(&short(), 4, Role::Training).fraction(f64::NAN).is_err());
    }
}
