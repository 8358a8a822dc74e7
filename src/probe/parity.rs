//! Transformers that read sign vectors.

use curricle_core::model::transformer::TokenBatch;
use curricle_core::model::{LogitModel, ModelError, SequenceModel};
use curricle_core::task::Samples;
use curricle_core::task::sequence::tokens;

/// A transformer that reads sign vectors.
pub struct ParityTransformer {
    transformer: Box<dyn SequenceModel>,
    d: usize,
}

/// Sequences per forward pass.
const BATCH: usize = 128;

impl ParityTransformer {
    /// A transformer that reads d signs as tokens.
    ///
    /// # Errors
    /// If it has fewer positions than that.
    pub fn new(transformer: Box<dyn SequenceModel>, d: usize) -> Result<Self, ModelError> {
        let positions = transformer.config().positions;
        if d > positions {
            return Err(
                format!("d = {d} inputs are more than the transformer's {positions} positions").into()
            );
        }
        Ok(Self { transformer, d })
    }

    /// Blocks of the transformer.
    pub fn layers(&self) -> usize {
        self.transformer.config().layers
    }

    /// Width of a hidden state.
    pub fn width(&self) -> usize {
        self.transformer.config().hidden
    }

    /// Hidden states at the last of the d positions, \[n, width\] row-major: layer 0 are the embeddings, l the output of block l
    /// (before the final layer norm).
    ///
    /// # Errors
    /// If there is no such layer, or the device fails.
    pub fn last_states(&self, samples: &Samples, layer: usize) -> Result<Vec<f32>, ModelError> {
        let width = self.width();
        let mut states = Vec::with_capacity(samples.len() * width);
        self.batches(samples, |batch, reads| {
            let hidden = self.transformer.hidden(batch, layer)?;
            for &read in reads {
                states.extend_from_slice(&hidden[read as usize * width..][..width]);
            }
            Ok(())
        })?;
        Ok(states)
    }

    /// Hands samples on in batches, with the last position of each sequence.
    fn batches(
        &self,
        samples: &Samples,
        mut each: impl FnMut(&TokenBatch<'_>, &[u32]) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        for tokens in tokens(samples).chunks(BATCH * self.d) {
            let sequences = tokens.len() / self.d;
            let reads: Vec<u32> = (1..=sequences).map(|b| (b * self.d - 1) as u32).collect();
            each(&TokenBatch::new(sequences, self.d, tokens), &reads)?;
        }
        Ok(())
    }
}

impl LogitModel for ParityTransformer {
    fn d(&self) -> usize {
        self.d
    }

    fn classes(&self) -> usize {
        self.transformer.config().vocab
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        let mut rest = logits;
        self.batches(samples, |batch, reads| {
            let own = self.transformer.logits(batch, reads)?;
            let (out, after) = std::mem::take(&mut rest).split_at_mut(own.len());
            out.copy_from_slice(&own);
            rest = after;
            Ok(())
        })
    }
}
