//! Whole transformers against another engine: entries of `curricle devices --self-test`.

use super::{GpuTransformer, GpuTransformerOptions};
use crate::GpuError;
use crate::oracle::Oracle;
use crate::sample::SharedContext;
use crate::self_test::Reading;
use curricle_core::model::transformer::{
    Dropout, MicroBatch, TokenBatch, TransformerConfig, TransformerParams,
};
use curricle_core::optim::AdamSettings;
use curricle_core::optim::TrainStep;
use web_time::Instant;

/// A small model of each family, with dropout.
pub(crate) fn gpt2() -> TransformerConfig {
    let config = TransformerConfig { tied: false, ..TransformerConfig::gpt2(2, 100, 32, 2, 4) };
    TransformerConfig { dropout: Dropout::all(0.1), init_std: 0.1, ..config }
}

/// See [`gpt2`].
pub(crate) fn bert() -> TransformerConfig {
    let config = TransformerConfig::bert(8, 100, 32, 2, 4);
    TransformerConfig { dropout: Dropout::all(0.1), init_std: 0.1, ..config }
}

const SEQUENCES: usize = 4;
const LENGTH: usize = 65;

/// Tokens, hidden keys, positions read, targets.
fn material(vocab: usize) -> (Vec<u32>, Vec<u8>, Vec<u32>, Vec<f32>) {
    let n = (SEQUENCES * LENGTH) as u32;
    let tokens = (0..n).map(|i| (i * i + i / 7) % vocab as u32).collect();
    let keys = (0..n).map(|i| u8::from(i % 3 != 1)).collect();
    let reads: Vec<u32> = (0..n).filter(|i| i % 3 == 1).collect();
    let mut targets = vec![0.0; reads.len() * vocab];
    targets.chunks_exact_mut(vocab).enumerate().for_each(|(r, t)| t[r % vocab] = 1.0);
    (tokens, keys, reads, targets)
}

fn refused(error: impl std::fmt::Display) -> GpuError {
    GpuError::Refused(error.to_string())
}

fn params(config: &TransformerConfig) -> Result<TransformerParams, GpuError> {
    TransformerParams::new(config.clone(), 1).map_err(refused)
}

/// What [`logits`] should find.
pub(crate) fn logits_expected(oracle: &dyn Oracle, config: &TransformerConfig) -> Result<Vec<f32>, GpuError> {
    let (tokens, keys, reads, _) = material(config.vocab);
    let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(SEQUENCES, LENGTH, &tokens) };
    oracle.transformer_logits(&params(config)?, &batch, &reads).map_err(refused)
}

/// Logits; speed in tokens per second.
pub(crate) async fn logits(context: &SharedContext, config: &TransformerConfig) -> Reading {
    let gpu = GpuTransformer::new(context, &params(config)?, GpuTransformerOptions::default())?;
    let (tokens, keys, reads, _) = material(config.vocab);
    let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(SEQUENCES, LENGTH, &tokens) };
    gpu.logits_async(&batch, &reads).await?;
    let started = Instant::now();
    let got = gpu.logits_async(&batch, &reads).await?;
    let seconds = started.elapsed().as_secs_f64().max(1e-9);
    Ok((got, tokens.len() as f64 / seconds))
}

/// AdamW with clipping. A large eps: where a gradient is only rounding, Adam must not make a step of it.
fn adam() -> AdamSettings {
    AdamSettings {
        eps: 1e-3,
        weight_decay: 0.01,
        decoupled: true,
        clip: Some(1.0),
        ..AdamSettings::default()
    }
}

/// What [`training`] should find.
pub(crate) fn training_expected(
    oracle: &dyn Oracle,
    config: &TransformerConfig,
) -> Result<Vec<f32>, GpuError> {
    let (tokens, keys, reads, targets) = material(config.vocab);
    let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(SEQUENCES, LENGTH, &tokens) };
    let micro: [MicroBatch<'_>; 1] = [(batch, &reads, &targets)];
    let step = TrainStep { micro: &micro, rate: 1e-2, dropout_seed: Some(3) };
    Ok(oracle.transformer_trained(&params(config)?, &[step; 4], &adam()).map_err(refused)?.values)
}

/// Parameters after four steps with dropout; speed in steps per second.
pub(crate) async fn training(context: &SharedContext, config: &TransformerConfig) -> Reading {
    let mut gpu = GpuTransformer::new(context, &params(config)?, GpuTransformerOptions::default())?;
    let (tokens, keys, reads, targets) = material(config.vocab);
    let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(SEQUENCES, LENGTH, &tokens) };
    let micro: [MicroBatch<'_>; 1] = [(batch, &reads, &targets)];
    let (adam, step) = (adam(), TrainStep { micro: &micro, rate: 1e-2, dropout_seed: Some(3) });
    gpu.train_steps_async(&[step], &adam).await?;
    let started = Instant::now();
    gpu.train_steps_async(&[step; 3], &adam).await?;
    let seconds = started.elapsed().as_secs_f64().max(1e-9);
    Ok((gpu.to_params_async().await?.values, 3.0 / seconds))
}
