//! Token ids, batches, and which sentences they hold.
//!
//! A batch is a pure function of the seed and the running numbers of its sequences, so a resumed run sees the same bits. It is
//! as long as its longest sequence; shorter ones are padded on the right.

use super::grammar::Grammar;
use crate::model::transformer::TokenBatch;
use crate::rng::{Purpose, Stream};
use std::ops::Range;

/// Token ids: the terminals from 0, then four special tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// Number of terminals T; their ids are 0..T.
    pub terminals: usize,
    /// Begins every sequence: T.
    pub bos: u32,
    /// Reserved for the end of a sentence: T + 1. Not used by the tasks here.
    pub eos: u32,
    /// Fills up short sequences: T + 2.
    pub pad: u32,
    /// Stands in for a hidden token: T + 3.
    pub mask: u32,
    /// Size of the vocabulary: T + 4, rounded up to a multiple of 8 (8 for three terminals).
    pub vocab: usize,
}

impl Tokens {
    /// The ids for a grammar.
    pub fn of(grammar: &Grammar) -> Self {
        let terminals = grammar.terminals().len();
        let t = terminals as u32;
        let vocab = (terminals + 4).next_multiple_of(8);
        Self { terminals, bos: t, eos: t + 1, pad: t + 2, mask: t + 3, vocab }
    }
}

/// Which sentences the running numbers stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Examples {
    /// Every number its own sentence.
    Stream,
    /// This many sentences over and over (number modulo count), hidden elsewhere each time.
    Fixed(u64),
}

impl Examples {
    pub(super) fn sentence(self, number: u64) -> u64 {
        match self {
            Self::Stream => number,
            Self::Fixed(count) => number % count,
        }
    }
}

/// What the batches are for: each purpose has its own sentences and masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Training.
    Training,
    /// Training of a student, on other sentences than its teacher's.
    Student,
    /// Held-out sentences.
    Evaluation,
}

impl Role {
    /// Stream of the sentences.
    pub fn sentences(self) -> Stream {
        match self {
            Self::Training => Stream::new(Purpose::Data, 0),
            Self::Student => Stream::new(Purpose::Data, 1),
            Self::Evaluation => Stream::new(Purpose::Evaluation, 0),
        }
    }

    /// Stream of the hidden positions.
    pub fn masks(self) -> Stream {
        Stream::new(
            Purpose::Mask,
            match self {
                Self::Training => 0,
                Self::Evaluation => 1,
                Self::Student => 2,
            },
        )
    }
}

/// Why a prediction task or batch cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PredictionError {
    /// The fraction is not a probability.
    #[error("the masked fraction {0} must be above 0 and up to 1")]
    Fraction(f64),
    /// No examples.
    #[error("the number of fixed examples must be at least 1")]
    NoExamples,
    /// A batch needs sequences.
    #[error("a batch needs at least one sequence")]
    EmptyBatch,
    /// A level that derivations do not have.
    #[error(
        "level {level} is out of range: the levels of this grammar go from 0 (every token) to {most} (whole sentences)"
    )]
    Level {
        /// Asked level.
        level: usize,
        /// Highest level.
        most: usize,
    },
    /// Sign vectors of more inputs than the model has positions.
    #[error("the task has {inputs} inputs, but the model has {positions} positions: one per input is needed")]
    TooManyInputs {
        /// Inputs of the task.
        inputs: usize,
        /// Positions there are.
        positions: usize,
    },
    /// A sentence that the model has no positions for.
    #[error(
        "sentence {number} has {length} positions with the BOS token, but the model has {positions}: give the model more \
         positions or take a start symbol with shorter sentences"
    )]
    TooLong {
        /// Running number.
        number: u64,
        /// Needed positions.
        length: usize,
        /// Positions there are.
        positions: usize,
    },
}

impl PredictionError {
    /// The key of `[task]` that is to blame, where it is one.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Self::NoExamples => "examples",
            Self::Level { .. } => "level",
            _ => "grammar",
        }
    }
}

/// A batch of equally long token sequences and where to predict what. Shapes \[sequences, length\] row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictionBatch {
    /// Number of sequences.
    pub sequences: usize,
    /// Positions of each.
    pub length: usize,
    /// Input tokens.
    pub tokens: Vec<u32>,
    /// Hugging Face's attention mask: 0 hides a position as a key from everybody. `None`: nothing is hidden.
    pub keys: Option<Vec<u8>>,
    /// Where logits are read: b * length + t, strictly ascending. Empty if chance selected no position at all.
    pub reads: Vec<u32>,
    /// The right token for each read.
    pub labels: Vec<u32>,
    /// Running number of the first sequence; sequence b has number first + b.
    pub first: u64,
}

impl PredictionBatch {
    /// The batch as the engines take it.
    pub fn token_batch(&self) -> TokenBatch<'_> {
        let Self { sequences, length, first, .. } = *self;
        TokenBatch { sequences, length, tokens: &self.tokens, keys: self.keys.as_deref(), first }
    }

    /// The batch in at most `parts` runs of whole sequences, as gradient accumulation wants them: each with its range of reads,
    /// and those counted from its own first position.
    pub fn parts(&self, parts: usize) -> Vec<(TokenBatch<'_>, Range<usize>, Vec<u32>)> {
        let each = self.sequences.div_ceil(parts.max(1)).max(1);
        let mut at = 0;
        (0..self.sequences)
            .step_by(each)
            .map(|from| {
                let sequences = each.min(self.sequences - from);
                let tokens = from * self.length..(from + sequences) * self.length;
                let own = self.reads[at..].partition_point(|&r| (r as usize) < tokens.end);
                let reads = self.reads[at..at + own].iter().map(|r| r - tokens.start as u32).collect();
                at += own;
                let batch = TokenBatch {
                    sequences,
                    length: self.length,
                    tokens: &self.tokens[tokens.clone()],
                    keys: self.keys.as_ref().map(|k| &k[tokens]),
                    first: self.first + from as u64,
                };
                (batch, at - own..at, reads)
            })
            .collect()
    }

    /// Targets \[reads, vocab\]: 1 at the label.
    pub fn one_hot(&self, vocab: usize) -> Vec<f32> {
        let mut targets = vec![0.0; self.labels.len() * vocab];
        self.labels.iter().enumerate().for_each(|(i, &label)| targets[i * vocab + label as usize] = 1.0);
        targets
    }
}

/// The longest of the lengths, if the model has positions for it.
pub(super) fn checked_length(
    lengths: impl Iterator<Item = usize>,
    first: u64,
    positions: usize,
) -> Result<usize, PredictionError> {
    let mut longest = 0;
    for (b, length) in lengths.enumerate() {
        if length > positions {
            let number = first.wrapping_add(b as u64);
            return Err(PredictionError::TooLong { number, length, positions });
        }
        longest = longest.max(length);
    }
    if longest == 0 { Err(PredictionError::EmptyBatch) } else { Ok(longest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_batch_in_order() {
        let batch = PredictionBatch {
            sequences: 5,
            length: 3,
            tokens: (0..15).collect(),
            keys: Some((0..15).map(|i| i % 2).collect()),
            reads: vec![1, 2, 7, 9, 10, 14],
            labels: vec![0; 6],
            first: 100,
        };
        let parts = batch.parts(3);
        let sizes: Vec<(usize, u64)> = parts.iter().map(|(b, ..)| (b.sequences, b.first)).collect();
        assert_eq!(sizes, [(2, 100), (2, 102), (1, 104)]);
        let reads: Vec<&[u32]> = parts.iter().map(|(.., r)| &r[..]).collect();
        assert_eq!(reads, [&[1, 2][..], &[1, 3, 4], &[2]]);
        let ranges: Vec<Range<usize>> = parts.iter().map(|(_, r, _)| r.clone()).collect();
        assert_eq!(ranges, [0..2, 2..5, 5..6]);
        assert_eq!(parts[1].0.tokens, [6, 7, 8, 9, 10, 11]);
        assert_eq!(parts[2].0.keys.unwrap(), [0, 1, 0]);
        assert_eq!(batch.parts(1).len(), 1);
        assert_eq!(batch.parts(99).len(), 5);
    }
}
