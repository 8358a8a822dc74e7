//! Logits and hidden states of a [`GpuTransformer`].

use super::buffers::Kind;
use super::model::GpuTransformer;
use super::pieces::{Piece, refused};
use super::recorder::Step;
use crate::GpuError;
use curricle_core::model::transformer::{BatchError, TokenBatch, check_reads};

impl GpuTransformer {
    /// Logits at `reads`, [reads, vocab], in evaluation mode.
    ///
    /// # Errors
    /// If the batch does not fit the model, or the device fails.
    pub async fn logits_async(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, GpuError> {
        batch.check(&self.config).and_then(|()| check_reads(batch, reads)).map_err(refused)?;
        let mut out = Vec::with_capacity(reads.len() * self.config.vocab);
        self.evaluate(batch, reads, Kind::Logits, |_, reads| reads.len() * self.config.vocab, &mut out)
            .await?;
        Ok(out)
    }

    /// The residual stream in evaluation mode, [sequences * length, hidden]: layer 0 is the embeddings (BERT: after their norm),
    /// l the output of block l. GPT-2's last norm is not applied.
    ///
    /// # Errors
    /// If the batch does not fit the model, there is no such layer, or the device fails.
    pub async fn hidden_async(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, GpuError> {
        batch.check(&self.config).map_err(refused)?;
        if layer > self.config.layers {
            return Err(refused(BatchError::Layer { layer, layers: self.config.layers }));
        }
        // A read position per sequence, so that no piece is left out.
        let reads: Vec<u32> = (0..batch.sequences).map(|b| (b * batch.length) as u32).collect();
        let mut out = Vec::with_capacity(batch.positions() * self.config.hidden);
        let numbers = |piece: &TokenBatch<'_>, _: &[u32]| piece.positions() * self.config.hidden;
        self.evaluate(batch, &reads, Kind::Hidden(layer), numbers, &mut out).await?;
        Ok(out)
    }

    async fn evaluate(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        kind: Kind,
        numbers: impl Fn(&TokenBatch<'_>, &[u32]) -> usize,
        out: &mut Vec<f32>,
    ) -> Result<(), GpuError> {
        let mut state = self.state.lock().await;
        for Piece { batch, reads, .. } in self.pieces(batch, reads, kind)? {
            let output = self.prepare(&mut state, &batch, &reads, kind, Step::default())?.output.clone();
            self.submit_last(&mut state).await?;
            state.finish(&self.context).await?;
            out.extend(self.context.read::<f32>(&output, 0, numbers(&batch, &reads)).await?);
        }
        Ok(())
    }
}
