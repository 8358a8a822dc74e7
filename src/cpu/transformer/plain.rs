//! The transformer as a textbook writes it, in f64 and in loops: what the fast path is held against.

use curricle_core::model::transformer::{
    Activation, BatchError, Dropout, DropoutSite, Family, Layout, Linear, MicroBatch, Norm, TokenBatch,
    TransformerConfig, TransformerParams, check_micro_batch, check_reads, dropout_threshold,
};
use curricle_core::rng;
use std::ops::Range;

/// A forward pass in double precision, dropout included. Slow, and without any of the savings.
#[derive(Debug, Clone)]
pub struct PlainTransformer {
    /// Sizes and choices.
    pub config: TransformerConfig,
    /// Parameters in the layout of the configuration.
    pub values: Vec<f64>,
}

/// erf by its Taylor series, or 1 where it is 1 to within f64's precision.
fn erf(z: f64) -> f64 {
    if z.abs() > 6.0 {
        return z.signum();
    }
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

impl PlainTransformer {
    /// The same parameters in f64.
    pub fn new(params: &TransformerParams) -> Self {
        Self { config: params.config.clone(), values: params.values.iter().map(|v| f64::from(*v)).collect() }
    }

    fn activate(&self, x: f64) -> f64 {
        match self.config.activation {
            Activation::Gelu => x / 2.0 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Activation::GeluNew => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                x / 2.0 * (1.0 + u.tanh())
            }
        }
    }

    fn at(&self, range: &Range<usize>, row: usize, width: usize) -> &[f64] {
        &self.values[range.start + row * width..][..width]
    }

    fn linear(&self, map: &Linear, x: &[f64]) -> Vec<f64> {
        let weight = &self.values[map.weight.clone()];
        let entry = |i: usize, o: usize| match self.config.family {
            Family::Gpt2 => weight[i * map.outputs + o],
            Family::Bert => weight[o * map.inputs + i],
        };
        (0..map.outputs)
            .map(|o| {
                self.values[map.bias.start + o] + (0..map.inputs).map(|i| x[i] * entry(i, o)).sum::<f64>()
            })
            .collect()
    }

    fn norm(&self, norm: &Norm, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let scale = 1.0 / (variance + self.config.layer_norm_eps).sqrt();
        let (weight, bias) = (&self.values[norm.weight.clone()], &self.values[norm.bias.clone()]);
        (0..x.len()).map(|c| (x[c] - mean) * scale * weight[c] + bias[c]).collect()
    }

    /// What element e of sequence number `sequence` is multiplied by at a site.
    fn factor(&self, seed: Option<u64>, site: DropoutSite, sequence: u64, e: usize) -> f64 {
        let Dropout { embedding, attention, residual } = self.config.dropout;
        let p = match site {
            DropoutSite::Embedding => embedding,
            DropoutSite::Attention(_) => attention,
            DropoutSite::AttentionOutput(_) | DropoutSite::MlpOutput(_) => residual,
        };
        let Some(seed) = seed.filter(|_| p > 0.0) else { return 1.0 };
        let word = rng::bits(seed, site.stream(), sequence, (e / 4) as u32)[e % 4];
        if word < dropout_threshold(p) { 0.0 } else { 1.0 / (1.0 - f64::from(p)) }
    }

    /// Hidden states of sequence b before the first block and after each, `[layers + 1][length][hidden]`.
    fn states(&self, batch: &TokenBatch<'_>, b: usize, seed: Option<u64>) -> Vec<Vec<Vec<f64>>> {
        let (layout, width) = (Layout::new(&self.config), self.config.hidden);
        let number = batch.first + b as u64;
        let drop = |site, t: usize, x: Vec<f64>| -> Vec<f64> {
            x.into_iter()
                .enumerate()
                .map(|(c, x)| x * self.factor(seed, site, number, t * width + c))
                .collect()
        };
        let sum = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let embed = |t: usize| {
            let token = batch.tokens[b * batch.length + t] as usize;
            let mut x = sum(self.at(&layout.words, token, width), self.at(&layout.positions, t, width));
            if !layout.types.is_empty() {
                x = sum(&x, self.at(&layout.types, 0, width));
            }
            if let Some(norm) = &layout.embedding_norm {
                x = self.norm(norm, &x);
            }
            drop(DropoutSite::Embedding, t, x)
        };
        let mut states = vec![(0..batch.length).map(embed).collect::<Vec<_>>()];
        for (l, layer) in layout.layers.iter().enumerate() {
            let x = &states[l];
            let pre = self.config.family == Family::Gpt2;
            let qkv: Vec<Vec<f64>> = x
                .iter()
                .map(|x| {
                    if pre {
                        self.linear(&layer.qkv, &self.norm(&layer.norm1, x))
                    } else {
                        self.linear(&layer.qkv, x)
                    }
                })
                .collect();
            let mut next = Vec::new();
            for t in 0..batch.length {
                let attended = self.attend(batch, b, l, t, &qkv, seed);
                let projected = self.linear(&layer.projection, &attended);
                let middle = sum(&x[t], &drop(DropoutSite::AttentionOutput(l), t, projected));
                let input = self.norm(if pre { &layer.norm2 } else { &layer.norm1 }, &middle);
                let inner: Vec<f64> =
                    self.linear(&layer.up, &input).into_iter().map(|x| self.activate(x)).collect();
                let out = drop(DropoutSite::MlpOutput(l), t, self.linear(&layer.down, &inner));
                next.push(if pre { sum(&middle, &out) } else { self.norm(&layer.norm2, &sum(&input, &out)) });
            }
            states.push(next);
        }
        states
    }

    /// The heads' outputs at query t.
    fn attend(
        &self,
        batch: &TokenBatch<'_>,
        b: usize,
        l: usize,
        t: usize,
        qkv: &[Vec<f64>],
        seed: Option<u64>,
    ) -> Vec<f64> {
        let (hidden, heads, length) = (self.config.hidden, self.config.heads, batch.length);
        let width = hidden / heads;
        let allowed = if self.config.family == Family::Gpt2 { 0..t + 1 } else { 0..length };
        let visible = |k: &usize| batch.keys.is_none_or(|keys| keys[b * length + k] != 0);
        let seen: Vec<usize> = allowed.clone().filter(visible).collect();
        let mut out = vec![0.0; hidden];
        for head in 0..heads {
            let columns = head * width..(head + 1) * width;
            let mut add = |k: usize, p: f64| {
                for c in columns.clone() {
                    out[c] += p * qkv[k][2 * hidden + c];
                }
            };
            if seen.is_empty() {
                allowed.clone().for_each(|k| add(k, 1.0 / allowed.len() as f64));
                continue;
            }
            let score = |k: &usize| {
                columns.clone().map(|c| qkv[t][c] * qkv[*k][hidden + c]).sum::<f64>() / (width as f64).sqrt()
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - peak).exp()).sum();
            for (k, s) in seen.iter().zip(&scores) {
                let element = (head * length + t) * length + k;
                let factor = self.factor(seed, DropoutSite::Attention(l), batch.first + b as u64, element);
                add(*k, (s - peak).exp() / total * factor);
            }
        }
        out
    }

    /// Hidden states of a layer, `[sequences * length, hidden]`, as [`super::Transformer::hidden`].
    ///
    /// # Errors
    /// If the batch does not fit the model or there is no such layer.
    pub fn hidden(&self, batch: &TokenBatch<'_>, layer: usize) -> Result<Vec<f64>, BatchError> {
        batch.check(&self.config)?;
        if layer > self.config.layers {
            return Err(BatchError::Layer { layer, layers: self.config.layers });
        }
        Ok((0..batch.sequences).flat_map(|b| self.states(batch, b, None)[layer].concat()).collect())
    }

    /// Logits at the reads, `[reads, vocab]`; with dropout if a seed is given.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    pub fn logits(
        &self,
        batch: &TokenBatch<'_>,
        reads: &[u32],
        dropout_seed: Option<u64>,
    ) -> Result<Vec<f64>, BatchError> {
        batch.check(&self.config)?;
        check_reads(batch, reads)?;
        let (layout, width) = (Layout::new(&self.config), self.config.hidden);
        let mut out = Vec::new();
        for b in 0..batch.sequences {
            let last = self.states(batch, b, dropout_seed).swap_remove(self.config.layers);
            let own = reads.iter().filter(|r| **r as usize / batch.length == b);
            for t in own.map(|r| *r as usize % batch.length) {
                let mut x = last[t].clone();
                if let Some(transform) = &layout.transform {
                    x = self.linear(transform, &x).into_iter().map(|x| self.activate(x)).collect();
                }
                x = self.norm(&layout.final_norm, &x);
                for token in 0..self.config.vocab {
                    let row = self.at(&layout.head, token, width);
                    let bias = layout.head_bias.as_ref().map_or(0.0, |bias| self.values[bias.start + token]);
                    out.push(bias + row.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>());
                }
            }
        }
        Ok(out)
    }

    /// Mean cross-entropy over the reads.
    ///
    /// # Errors
    /// If the batch does not fit the model.
    pub fn loss(&self, micro: &MicroBatch<'_>, dropout_seed: Option<u64>) -> Result<f64, BatchError> {
        check_micro_batch(micro, &self.config)?;
        let (batch, reads, targets) = micro;
        let logits = self.logits(batch, reads, dropout_seed)?;
        let vocab = self.config.vocab;
        let total: f64 = logits
            .chunks_exact(vocab)
            .zip(targets.chunks_exact(vocab))
            .map(|(logits, target)| {
                let peak = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_total = logits.iter().map(|z| (z - peak).exp()).sum::<f64>().ln() + peak;
                logits.iter().zip(target).map(|(z, q)| f64::from(*q) * (log_total - z)).sum::<f64>()
            })
            .sum();
        Ok(total / reads.len() as f64)
    }
}
