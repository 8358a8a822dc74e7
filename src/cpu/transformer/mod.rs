//! Transformers on the CPU: GPT-2 and BERT forward and, written by hand, backward, with Adam.
//!
//! Products go through OpenBLAS; everything between them is compiled for the processor's instruction set. See
//! `attention` for how scores are never stored, `embedding` and `forward` for the exact savings, and `accumulate` for
//! why results are the same bits whatever the number of threads.

mod accumulate;
mod activation;
mod adam;
mod attention;
mod backward;
mod dropout;
mod embedding;
mod floor;
mod forward;
mod group;
mod linear;
mod memory;
mod net;
mod norm;
mod plain;
mod residual;
mod workspace;

pub use floor::Operations;
pub use linear::SingleThreaded;
pub use plain::PlainTransformer;

use super::Isa;
use accumulate::{Machinery, PIECE, Pool, for_each};
use adam::{Update, clip_factor};
use curricle_core::model::transformer::{
    BatchError, ConfigError, MicroBatch, ParamsError, TokenBatch, TransformerConfig, TransformerParams,
    check_micro_batch, check_reads,
};
use curricle_core::model::{ModelError, SequenceModel};
use curricle_core::optim::{AdamSettings, StepOutcome};
use net::Net;
use std::sync::{Mutex, PoisonError};

/// How the engine may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerOptions {
    /// Most threads the model uses.
    pub threads: usize,
    /// Exact savings, which change nothing but rounding: the last layer is computed only where logits are read, and the
    /// first layer's projections once per distinct (token, position).
    pub savings: bool,
}

impl Default for TransformerOptions {
    /// All cores, with savings.
    fn default() -> Self {
        Self { threads: std::thread::available_parallelism().map_or(1, usize::from), savings: true }
    }
}

/// A transformer in training or in use.
#[derive(Debug)]
pub struct Transformer {
    net: Net,
    values: Vec<f32>,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
    updates: u64,
    /// Ranges of the flat vector and whether weight decay applies there; together everything, in order.
    decays: Vec<(std::ops::Range<usize>, bool)>,
    options: TransformerOptions,
    pool: Pool,
    machinery: Mutex<Machinery>,
}

impl Transformer {
    /// Takes over `params`; the optimiser starts at zero.
    ///
    /// # Errors
    /// If no model can have the configuration, or it does not fit the number of values.
    pub fn new(params: &TransformerParams, options: TransformerOptions) -> Result<Self, ParamsError> {
        Self::with_isa(params, options, Isa::detect())
    }

    fn with_isa(
        params: &TransformerParams,
        options: TransformerOptions,
        isa: Isa,
    ) -> Result<Self, ParamsError> {
        let params = TransformerParams::from_values(params.config.clone(), params.values.clone())?;
        let net = Net::new(&params.config, isa, options.savings);
        let count = params.values.len();
        let mut decays: Vec<(std::ops::Range<usize>, bool)> = Vec::new();
        for slot in params.config.tensors() {
            match decays.last_mut() {
                Some((range, decay)) if *decay == slot.decay => range.end = slot.range().end,
                _ => decays.push((slot.range(), slot.decay)),
            }
        }
        let pool = match options.threads {
            0 | 1 => None,
            // Without threads of its own, the engine computes the same on the caller's.
            threads => rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok(),
        };
        Ok(Self {
            net,
            values: params.values,
            first_moment: vec![0.0; count],
            second_moment: vec![0.0; count],
            updates: 0,
            decays,
            options,
            pool,
            machinery: Mutex::default(),
        })
    }

    /// Sizes and choices.
    pub fn config(&self) -> &TransformerConfig {
        &self.net.config
    }

    /// How the engine works.
    pub fn options(&self) -> TransformerOptions {
        self.options
    }

    /// One optimiser step on the mean cross-entropy over all reads of all micro-batches. Dropout, if a seed is given, is keyed
    /// by the running numbers of the sequences. Equal calls on equal states give equal bits, whatever the number of
    /// threads.
    ///
    /// # Errors
    /// If a micro-batch does not fit the model; then nothing has changed. A loss that is not finite is not an error
    /// here: look at the outcome.
    pub fn train_step(
        &mut self,
        micro: &[MicroBatch<'_>],
        rate: f32,
        adam: &AdamSettings,
        dropout_seed: Option<u64>,
    ) -> Result<StepOutcome, BatchError> {
        self.check(micro)?;
        let machinery = self.machinery.get_mut().unwrap_or_else(PoisonError::into_inner);
        let loss_sum = machinery.accumulate(&self.net, &self.values, micro, dropout_seed, &self.pool);
        let gradient = machinery.gradient();
        let norm = norm(gradient, &self.pool);
        let scale = clip_factor(norm, adam.clip);
        self.updates += 1;
        let (isa, pool) = (self.net.isa, &self.pool);
        let mut pieces = Vec::new();
        let (mut p, mut m, mut v) =
            (&mut self.values[..], &mut self.first_moment[..], &mut self.second_moment[..]);
        for (range, decay) in &self.decays {
            let update = Update::new(adam, rate, self.updates, scale, *decay);
            for start in range.clone().step_by(PIECE) {
                let len = PIECE.min(range.end - start);
                pieces.push((
                    update,
                    &gradient[start..start + len],
                    p.split_off_mut(..len).unwrap_or_default(),
                    m.split_off_mut(..len).unwrap_or_default(),
                    v.split_off_mut(..len).unwrap_or_default(),
                ));
            }
        }
        for_each(pool, &mut pieces, |_, (update, gradient, p, m, v)| {
            adam::apply(isa, *update, gradient, p, m, v)
        });
        let reads = micro.iter().map(|(_, reads, _)| reads.len()).sum();
        Ok(StepOutcome { loss_sum, reads, gradient_norm: norm })
    }

    fn check(&self, micro: &[MicroBatch<'_>]) -> Result<(), BatchError> {
        if micro.is_empty() {
            return Err(BatchError::Empty { what: "micro-batches of a step" });
        }
        micro.iter().try_for_each(|m| check_micro_batch(m, &self.net.config))
    }

    /// Sum of the cross-entropies at the reads, and the gradient of their mean as a flat vector.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    pub fn gradient(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        targets: &[f32],
        dropout_seed: Option<u64>,
    ) -> Result<(f64, Vec<f32>), BatchError> {
        let micro = [(*batch, reads, targets)];
        self.check(&micro)?;
        let mut machinery = self.machinery.lock().unwrap_or_else(PoisonError::into_inner);
        let loss = machinery.accumulate(&self.net, &self.values, &micro, dropout_seed, &self.pool);
        Ok((loss, machinery.gradient().to_vec()))
    }

    /// Logits at the reads, `[reads, vocab]`, without dropout.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    pub fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, BatchError> {
        batch.check(&self.net.config)?;
        check_reads(batch, reads)?;
        let mut machinery = self.machinery.lock().unwrap_or_else(PoisonError::into_inner);
        let logits =
            machinery.evaluate(&self.net, &self.values, (batch, reads), None, &self.pool, |workspace| {
                workspace.head.logits.to_vec()
            });
        Ok(logits.concat())
    }

    /// Hidden states of all positions without dropout, `[sequences * length, hidden]`: layer 0 is the embeddings (BERT: after
    /// their layer norm), layer l the output of block l. GPT-2's final layer norm is not applied.
    ///
    /// # Errors
    /// If the batch does not fit the model or there is no such layer.
    pub fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, BatchError> {
        batch.check(&self.net.config)?;
        if layer > self.net.config.layers {
            return Err(BatchError::Layer { layer, layers: self.net.config.layers });
        }
        // All rows of the last layer are wanted too.
        let reads: Vec<u32> = (0..batch.positions() as u32).collect();
        let mut machinery = self.machinery.lock().unwrap_or_else(PoisonError::into_inner);
        let states = machinery.evaluate(
            &self.net,
            &self.values,
            (batch, &reads),
            Some(layer),
            &self.pool,
            |workspace| workspace.x[layer].to_vec(),
        );
        Ok(states.concat())
    }

    /// The parameters.
    pub fn to_params(&self) -> TransformerParams {
        TransformerParams { config: self.net.config.clone(), values: self.values.clone() }
    }

    /// First and second moments, and the number of updates made.
    pub fn optimizer(&self) -> (Vec<f32>, Vec<f32>, u64) {
        (self.first_moment.clone(), self.second_moment.clone(), self.updates)
    }

    /// Continues an optimiser: with the parameters and what [`Self::optimizer`] gave, training goes on with the same bits.
    ///
    /// # Errors
    /// If the moments have another length than the parameters.
    pub fn set_optimizer(
        &mut self,
        first: Vec<f32>,
        second: Vec<f32>,
        updates: u64,
    ) -> Result<(), ParamsError> {
        let expected = self.values.len();
        if let Some(found) = [first.len(), second.len()].into_iter().find(|n| *n != expected) {
            return Err(ParamsError::Count { found, expected });
        }
        (self.first_moment, self.second_moment, self.updates) = (first, second, updates);
        Ok(())
    }

    /// Bytes of activations, gradients on their way and per-lane gradient sums that training on such micro-batches holds at
    /// most, besides parameters and moments.
    ///
    /// # Errors
    /// If no model can have the configuration.
    pub fn activation_bytes(
        config: &TransformerConfig,
        options: TransformerOptions,
        sequences: usize,
        length: usize,
        reads: usize,
    ) -> Result<u64, ConfigError> {
        config.check()?;
        Ok(memory::activation_bytes(config, options, sequences, length, reads))
    }
}

/// Euclidean norm, summed in pieces whose order does not depend on the threads.
fn norm(values: &[f32], pool: &Pool) -> f64 {
    let mut pieces: Vec<(&[f32], f64)> = values.chunks(PIECE).map(|piece| (piece, 0.0)).collect();
    for_each(pool, &mut pieces, |_, (piece, sum)| {
        let mut lanes = [0.0f64; 8];
        let (chunks, rest) = piece.as_chunks::<8>();
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        }
        let rest: f64 = rest.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        *sum = lanes.iter().sum::<f64>() + rest;
    });
    pieces.iter().map(|(_, sum)| sum).sum::<f64>().sqrt()
}

impl SequenceModel for Transformer {
    fn config(&self) -> &TransformerConfig {
        Self::config(self)
    }

    fn logits(&self, batch: &TokenBatch<'_>, reads: &[u32]) -> Result<Vec<f32>, ModelError> {
        Ok(Self::logits(self, batch, reads)?)
    }

    fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f32>, ModelError> {
        Ok(Self::hidden(self, batch, layer)?)
    }
}
