//! Tasks whose samples are token sequences.

use super::boolean::{BooleanTask, Samples};
use super::pcfg::{Autoregressive, MaskedPrediction, PredictionBatch, PredictionError};
use crate::rng::Stream;
use std::sync::Arc;

/// A task whose samples are token sequences with positions where something is predicted.
pub trait SequenceTask: Send + Sync {
    /// Sequences number `first .. first + sequences`, for a model with `positions` positions. A pure function of these.
    ///
    /// # Errors
    /// If there are no sequences, or one exceeds the positions.
    fn batch(
        &self,
        first: u64,
        sequences: usize,
        positions: usize,
    ) -> Result<PredictionBatch, PredictionError>;
}

impl SequenceTask for MaskedPrediction {
    fn batch(
        &self,
        first: u64,
        sequences: usize,
        positions: usize,
    ) -> Result<PredictionBatch, PredictionError> {
        Self::batch(self, first, sequences, positions)
    }
}

impl SequenceTask for Autoregressive {
    fn batch(
        &self,
        first: u64,
        sequences: usize,
        positions: usize,
    ) -> Result<PredictionBatch, PredictionError> {
        Self::batch(self, first, sequences, positions)
    }
}

/// A task of two labels as a sequence: coordinate x_t is token (1 - x_t) / 2 at position t, and the label is predicted at
/// the last position.
#[derive(Debug, Clone)]
pub struct SignTokens {
    /// The task.
    pub task: Arc<dyn BooleanTask>,
    /// Seed of the samples.
    pub seed: u64,
    /// Their stream: the same samples as an MLP gets.
    pub stream: Stream,
}

impl SequenceTask for SignTokens {
    fn batch(
        &self,
        first: u64,
        sequences: usize,
        positions: usize,
    ) -> Result<PredictionBatch, PredictionError> {
        let length = self.task.d();
        if sequences == 0 {
            return Err(PredictionError::EmptyBatch);
        }
        if length > positions {
            return Err(PredictionError::TooManyInputs { inputs: length, positions });
        }
        let samples = self.task.samples(self.seed, self.stream, first, sequences);
        Ok(PredictionBatch {
            sequences,
            length,
            tokens: tokens(&samples),
            keys: None,
            reads: (1..=sequences).map(|b| (b * length - 1) as u32).collect(),
            labels: samples.labels.iter().map(|&l| u32::from(l)).collect(),
            first,
        })
    }
}

/// Samples as tokens (1 - x) / 2, `[n, d]` row-major.
pub fn tokens(samples: &Samples) -> Vec<u32> {
    let d = samples.d();
    let mut tokens = Vec::with_capacity(samples.len() * d);
    for i in 0..samples.len() {
        let row = samples.row(i);
        // A set bit stands for -1.
        tokens.extend((0..d).map(|j| row[j / 32] >> (j % 32) & 1));
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;
    use crate::task::{HierarchicalParity, Support};

    #[test]
    fn a_parity_reads_the_number_of_minus_ones_in_its_support() {
        let task = Arc::new(HierarchicalParity::parity(37, 3, &Support::Given(vec![0, 31, 36])).unwrap());
        let tokens = SignTokens { task, seed: 5, stream: Stream::new(Purpose::Data, 1) };
        let batch = tokens.batch(3, 20, 37).unwrap();
        for b in 0..20 {
            let row = &batch.tokens[b * 37..][..37];
            // The product is +1 (label 0) when an even number of factors is -1 (token 1).
            assert_eq!((row[0] + row[31] + row[36]) % 2, batch.labels[b], "{b}");
            assert_eq!(batch.reads[b] as usize, 37 * b + 36);
        }
        assert!(batch.labels.contains(&0) && batch.labels.contains(&1));
        let few = tokens.batch(0, 1, 36).unwrap_err();
        assert_eq!(few, PredictionError::TooManyInputs { inputs: 37, positions: 36 });
        assert_eq!(tokens.batch(0, 0, 37).unwrap_err(), PredictionError::EmptyBatch);
    }
}
