//! Autoregressive prediction.

use super::batch::{Examples, PredictionBatch, PredictionError, Role, Tokens, checked_length};
use super::grammar::Grammar;
use super::sample::Sampler;

/// Next-token prediction, with the loss only on tokens that end a span of one level (level 0: on all).
///
/// The input is BOS and all tokens but the last; position t predicts token t of the sentence, so a sentence of n
/// tokens takes n positions. Padding stands right of everything that is read, out of sight of a causal model.
#[derive(Debug, Clone)]
pub struct Autoregressive {
    sampler: Sampler,
    ids: Tokens,
    seed: u64,
    role: Role,
    examples: Examples,
    level: usize,
}

impl Autoregressive {
    /// The task on sentences of a grammar with the loss at the ends of spans of `level` ([`super::tree`] counts levels).
    ///
    /// # Errors
    /// If a grammar of uniform depth has no such level, or no examples are asked for.
    pub fn new(
        grammar: &Grammar,
        seed: u64,
        role: Role,
        level: usize,
        examples: Examples,
    ) -> Result<Self, PredictionError> {
        if let Some(most) = grammar.uniform_depth().filter(|&most| level > most) {
            return Err(PredictionError::Level { level, most });
        }
        if examples == Examples::Fixed(0) {
            return Err(PredictionError::NoExamples);
        }
        Ok(Self { sampler: Sampler::new(grammar), ids: Tokens::of(grammar), seed, role, examples, level })
    }

    /// Token ids.
    pub fn ids(&self) -> Tokens {
        self.ids
    }

    /// Sequences number `first .. first + sequences` for a model with `positions` positions.
    ///
    /// # Errors
    /// If there are no sequences or a sentence exceeds the positions.
    pub fn batch(
        &self,
        first: u64,
        sequences: usize,
        positions: usize,
    ) -> Result<PredictionBatch, PredictionError> {
        let trees: Vec<_> = (0..sequences as u64)
            .map(|b| {
                let sentence = self.examples.sentence(first.wrapping_add(b));
                self.sampler.tree(self.seed, self.role.sentences(), sentence)
            })
            .collect();
        let length = checked_length(trees.iter().map(|t| t.tokens().len()), first, positions)?;
        let mut tokens = vec![self.ids.pad; sequences * length];
        let (mut reads, mut labels) = (Vec::new(), Vec::new());
        for (b, tree) in trees.iter().enumerate() {
            let (row, sentence) = (b * length, tree.tokens());
            tokens[row] = self.ids.bos;
            let end = row + sentence.len();
            tokens[row + 1..end].iter_mut().zip(sentence).for_each(|(x, &t)| *x = u32::from(t));
            for t in tree.ends(self.level) {
                reads.push((row + t) as u32);
                labels.push(u32::from(sentence[t]));
            }
        }
        Ok(PredictionBatch { sequences, length, tokens, keys: None, reads, labels, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn autoregressive_reads_precede_the_tokens_that_end_spans() {
        let grammar = Grammar::builtin("cfg3b").unwrap().with_start("15").unwrap();
        let sampler = Sampler::new(&grammar);
        for level in 0..=3 {
            let task = Autoregressive::new(&grammar, 4, Role::Training, level, Examples::Stream).unwrap();
            let batch = task.batch(3, 4, 27).unwrap();
            let mut read = 0;
            for b in 0..4 {
                let tree = sampler.tree(4, Role::Training.sentences(), 3 + b as u64);
                for end in tree.ends(level) {
                    let at = batch.reads[read] as usize;
                    assert_eq!(at, b * batch.length + end);
                    assert_eq!(batch.labels[read], u32::from(tree.tokens()[end]));
                    // What the model has seen up to there are the tokens before.
                    let seen: Vec<u32> = tree.tokens()[..end].iter().map(|&t| u32::from(t)).collect();
                    assert_eq!(batch.tokens[at - end], 3);
                    assert_eq!(batch.tokens[at - end + 1..=at], seen);
                    read += 1;
                }
            }
            assert_eq!(read, batch.reads.len());
        }
        let error = Autoregressive::new(&grammar, 4, Role::Training, 4, Examples::Stream).unwrap_err();
        assert!(error.to_string().contains("to 3"), "{error}");
    }
}
