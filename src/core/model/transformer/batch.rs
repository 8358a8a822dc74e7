//! Token batches, and where their logits are read.

use super::config::TransformerConfig;
use super::error::BatchError;

/// A batch of equally long token sequences, `[sequences, length]` row-major.
#[derive(Debug, Clone, Copy)]
pub struct TokenBatch<'a> {
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens per sequence.
    pub length: usize,
    /// Token ids.
    pub tokens: &'a [u32],
    /// `attention_mask` of Hugging Face: 0 hides a position as a key from every query; it still acts as a query.
    /// If every key a query may see is hidden, its attention is uniform over them, as eager attention has it.
    pub keys: Option<&'a [u8]>,
    /// Running number of the first sequence in training; sequence b has number `first + b`, which keys dropout.
    pub first: u64,
}

/// One forward and backward pass of a training step: the batch, the read positions (flat indices b*length + t,
/// strictly ascending) and their targets (`[reads, vocab]`, rows that sum to 1).
pub type MicroBatch<'a> = (TokenBatch<'a>, &'a [u32], &'a [f32]);

impl<'a> TokenBatch<'a> {
    /// A batch without hidden keys.
    #[inline]
    pub fn new(sequences: usize, length: usize, tokens: &'a [u32]) -> Self {
        Self { sequences, length, tokens, keys: None, first: 0 }
    }

    /// Number of positions, sequences * length.
    #[inline]
    pub fn positions(&self) -> usize {
        self.sequences * self.length
    }

    /// Whether the batch fits a model.
    ///
    /// # Errors
    /// If slices have other lengths than the sizes say, the batch is empty, a sequence is longer than the position
    /// table, or a token is not in the vocabulary.
    pub fn check(&self, config: &TransformerConfig) -> Result<(), BatchError> {
        let Self { sequences, length, .. } = *self;
        if sequences == 0 || length == 0 {
            return Err(BatchError::Empty { what: "sequences and tokens of a batch" });
        }
        if length > config.positions {
            return Err(BatchError::TooLong { length, positions: config.positions });
        }
        let fits = |a: usize, b: usize| a.checked_mul(b).filter(|n| u32::try_from(*n).is_ok());
        // Flat positions, and the dropout elements of one sequence, are numbered by u32 (the latter in blocks of 4).
        let squares = fits(length, length).and_then(|n| n.checked_mul(config.heads));
        let blocks = squares.and_then(|n| fits(n.div_ceil(4), 1));
        let (Some(positions), Some(_)) = (fits(sequences, length), blocks) else {
            return Err(BatchError::TooLarge { sequences, length });
        };
        let lengths = [("tokens", Some(self.tokens.len())), ("keys", self.keys.map(<[u8]>::len))];
        for (what, found) in lengths {
            if let Some(found) = found.filter(|n| *n != positions) {
                return Err(BatchError::Length { what, found, expected: positions });
            }
        }
        match self.tokens.iter().position(|t| *t as usize >= config.vocab) {
            Some(at) => Err(BatchError::Token {
                token: self.tokens[at],
                sequence: at / length,
                position: at % length,
                vocab: config.vocab,
            }),
            None => Ok(()),
        }
    }
}

/// Whether `reads` are positions of `batch`, strictly ascending, at least one.
///
/// # Errors
/// Naming the first that is not.
pub fn check_reads(batch: &TokenBatch<'_>, reads: &[u32]) -> Result<(), BatchError> {
    if reads.is_empty() {
        return Err(BatchError::Empty { what: "positions at which logits are read" });
    }
    let limit = batch.positions();
    let wrong = |entry: usize| BatchError::Read { entry, value: reads[entry], limit };
    if let Some(entry) = reads.iter().position(|r| *r as usize >= limit) {
        return Err(wrong(entry));
    }
    match reads.windows(2).position(|w| w[0] >= w[1]) {
        Some(entry) => Err(wrong(entry + 1)),
        None => Ok(()),
    }
}

/// The largest distance of a target row's sum from 1: rounding of a softmax over a large vocabulary stays far below.
const TARGET_TOLERANCE: f32 = 1e-3;

/// Whether a micro-batch fits a model: [`TokenBatch::check`], [`check_reads`], and one distribution per read.
///
/// # Errors
/// Naming what does not fit.
pub fn check_micro_batch(
    (batch, reads, targets): &MicroBatch<'_>,
    config: &TransformerConfig,
) -> Result<(), BatchError> {
    batch.check(config)?;
    check_reads(batch, reads)?;
    let expected = reads.len() * config.vocab;
    if targets.len() != expected {
        return Err(BatchError::Length { what: "targets", found: targets.len(), expected });
    }
    for (row, target) in targets.chunks_exact(config.vocab).enumerate() {
        let sum: f32 = target.iter().sum();
        // A NaN is not close to anything.
        let close = (sum - 1.0).abs() <= TARGET_TOLERANCE;
        if !close {
            return Err(BatchError::Target { row, sum });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_do_not_fit_are_refused() {
        let config = TransformerConfig::gpt2(3, 4, 8, 1, 2);
        let tokens = [0, 1, 2, 0, 1, 2, 1, 1];
        let good = TokenBatch::new(2, 4, &tokens);
        assert_eq!(good.check(&config), Ok(()));
        let bad = |batch: TokenBatch<'_>| batch.check(&config).unwrap_err().to_string();
        assert!(bad(TokenBatch { length: 0, ..good }).contains("at least one"));
        assert!(
            bad(TokenBatch { sequences: 1, length: 8, ..good }).contains("8 tokens, but the model has 4")
        );
        assert!(bad(TokenBatch { sequences: 3, ..good }).contains("tokens has 8 entries, expected 12"));
        assert!(bad(TokenBatch { keys: Some(&[1; 7]), ..good }).contains("keys has 7 entries"));
        assert!(
            bad(TokenBatch::new(2, 4, &[0, 1, 2, 0, 1, 3, 1, 1]))
                .contains("token 3 at sequence 1, position 1")
        );
    }

    #[test]
    fn reads_and_targets_that_do_not_fit_are_refused() {
        let config = TransformerConfig::gpt2(2, 4, 8, 1, 2);
        let tokens = [0; 8];
        let batch = TokenBatch::new(2, 4, &tokens);
        let check = |reads: &[u32], targets: &[f32]| {
            check_micro_batch(&(batch, reads, targets), &config).map_err(|e| e.to_string())
        };
        assert_eq!(check(&[3, 7], &[0.5, 0.5, 1.0, 0.0]), Ok(()));
        assert!(check(&[], &[]).unwrap_err().contains("at least one"));
        assert!(check(&[3, 8], &[1.0; 4]).unwrap_err().contains("read position 8"));
        assert!(check(&[3, 3], &[1.0; 4]).unwrap_err().contains("entry 1"));
        assert!(check(&[3], &[1.0; 3]).unwrap_err().contains("targets has 3 entries, expected 2"));
        assert!(check(&[3], &[0.5, 0.6]).unwrap_err().contains("target row 0 sums to 1.1"));
        assert!(check(&[3], &[f32::NAN, 0.6]).is_err());
    }
}
