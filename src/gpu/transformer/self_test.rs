//! Whole transformers against another engine: entries of `curricle devices --self-test`.

use super::{GpuTransformer, GpuTransformerOptions};
use crate::GpuError;
use crate::oracle::{Oracle, distance};
use crate::sample::SharedContext;
use curricle_core::model::transformer::{
    Dropout, MicroBatch, TokenBatch, TransformerConfig, TransformerParams,
};
use curricle_core::optim::AdamSettings;
use curricle_core::optim::TrainStep;
use std::time::Instant;

/// (error, largest error, units per second), as the entries of [`crate::self_test`].
type Outcome = Result<(f64, f64, f64), GpuError>;

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

fn model(
    context: &SharedContext,
    config: &TransformerConfig,
) -> Result<(TransformerParams, GpuTransformer), GpuError> {
    let params = TransformerParams::new(config.clone(), 1).map_err(refused)?;
    let gpu = GpuTransformer::new(context, &params, GpuTransformerOptions::default())?;
    Ok((params, gpu))
}

/// Logits; speed in tokens per second.
pub(crate) fn logits(context: &SharedContext, oracle: &dyn Oracle, config: &TransformerConfig) -> Outcome {
    let (params, gpu) = model(context, config)?;
    let (tokens, keys, reads, _) = material(config.vocab);
    let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(SEQUENCES, LENGTH, &tokens) };
    gpu.logits(&batch, &reads)?;
    let started = Instant::now();
    let got = gpu.logits(&batch, &reads)?;
    let seconds = started.elapsed().as_secs_f64().max(1e-9);
    let want = oracle.transformer_logits(&params, &batch, &reads).map_err(refused)?;
    let (nmse, most) = distance(&got, &want);
    Ok((nmse, most, tokens.len() as f64 / seconds))
}

/// Parameters after four steps of AdamW with dropout and clipping; speed in steps per second.
pub(crate) fn training(context: &SharedContext, oracle: &dyn Oracle, config: &TransformerConfig) -> Outcome {
    let (params, mut gpu) = model(context, config)?;
    let (tokens, keys, reads, targets) = material(config.vocab);
    let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(SEQUENCES, LENGTH, &tokens) };
    let micro: [MicroBatch<'_>; 1] = [(batch, &reads, &targets)];
    // A large eps: where a gradient is only rounding, Adam must not make a step of it.
    let adam = AdamSettings {
        eps: 1e-3,
        weight_decay: 0.01,
        decoupled: true,
        clip: Some(1.0),
        ..AdamSettings::default()
    };
    let step = TrainStep { micro: &micro, rate: 1e-2, dropout_seed: Some(3) };
    gpu.train_step(&micro, step.rate, &adam, step.dropout_seed)?;
    let started = Instant::now();
    gpu.train_steps(&[step; 3], &adam)?;
    let seconds = started.elapsed().as_secs_f64().max(1e-9);
    let want = oracle.transformer_trained(&params, &[step; 4], &adam).map_err(refused)?;
    let (nmse, most) = distance(&gpu.to_params()?.values, &want.values);
    Ok((nmse, most, 3.0 / seconds))
}
