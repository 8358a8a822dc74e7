//! Embeddings, and the table of distinct ones with the first layer's projections.

use super::net::{Net, norm_gradient};
use super::norm::{NormWeights, column_sums, layer_norm, layer_norm_backward};
use super::workspace::{Buffer, copied, sized, zeroed};
use curricle_core::model::transformer::TokenBatch;

/// Sum of word, position and type embedding of each (token, position).
pub fn embed(net: &Net, values: &[f32], rows: impl Iterator<Item = (u32, usize)>, out: &mut [f32]) {
    let width = net.config.hidden;
    let table = |start: usize, row: usize| &values[start + row * width..][..width];
    for ((token, position), out) in rows.zip(out.chunks_exact_mut(width)) {
        let word = table(net.layout.words.start, token as usize);
        let place = table(net.layout.positions.start, position);
        for ((o, w), p) in out.iter_mut().zip(word).zip(place) {
            *o = w + p;
        }
        if !net.layout.types.is_empty() {
            // Every token has type 0.
            for (o, t) in out.iter_mut().zip(table(net.layout.types.start, 0)) {
                *o += t;
            }
        }
    }
}

/// Adds the gradients of embedding sums to the tables. The padding token's word embedding gets none.
pub fn embed_backward(net: &Net, rows: impl Iterator<Item = (u32, usize)>, d: &[f32], gradient: &mut [f32]) {
    let width = net.config.hidden;
    for ((token, position), d) in rows.zip(d.chunks_exact(width)) {
        let mut add = |at: usize| {
            for (g, d) in gradient[at..][..width].iter_mut().zip(d) {
                *g += d;
            }
        };
        if net.config.pad_token != Some(token) {
            add(net.layout.words.start + token as usize * width);
        }
        add(net.layout.positions.start + position * width);
        if !net.layout.types.is_empty() {
            add(net.layout.types.start);
        }
    }
}

/// The distinct (token, position) pairs of a batch.
#[derive(Debug, Default)]
pub struct Distinct {
    /// The pairs in the order of their first appearance.
    pub rows: Vec<(u32, usize)>,
    /// For every flat position of the batch its entry of `rows`.
    pub index: Vec<u32>,
    /// position * vocab + token -> entry + 1; all zero between calls.
    seen: Vec<u32>,
}

/// Vocabularies beyond this are not tabulated: long texts repeat few pairs, and the table would be large.
const MAX_PAIRS: usize = 1 << 22;
/// The table is worth its bookkeeping if at most this fraction of the rows is distinct.
const WORTHWHILE: f64 = 0.8;

impl Distinct {
    /// Lists the pairs; false if the table would not pay.
    pub fn find(&mut self, batch: &TokenBatch<'_>, vocab: usize) -> bool {
        self.rows.clear();
        self.index.clear();
        if batch.length.saturating_mul(vocab) > MAX_PAIRS {
            return false;
        }
        self.seen.resize(batch.length * vocab, 0);
        let limit = (batch.positions() as f64 * WORTHWHILE) as usize;
        for (flat, token) in batch.tokens.iter().enumerate() {
            let position = flat % batch.length;
            let seen = &mut self.seen[position * vocab + *token as usize];
            if *seen == 0 {
                self.rows.push((*token, position));
                *seen = self.rows.len() as u32;
            }
            self.index.push(*seen - 1);
        }
        for (token, position) in &self.rows {
            self.seen[position * vocab + *token as usize] = 0;
        }
        self.rows.len() <= limit
    }
}

/// A part of the distinct rows with what the first layer computes from them.
#[derive(Debug, Default)]
pub struct Tables {
    /// BERT: sums before the layer norm, and its statistics.
    sums: Vec<f32>,
    sum_statistics: Vec<[f32; 2]>,
    /// Embeddings, `[rows, hidden]`.
    pub x: Vec<f32>,
    /// GPT-2: after the first layer norm.
    normed: Vec<f32>,
    statistics: Vec<[f32; 2]>,
    /// Queries without bias, `[rows, hidden]`.
    pub q: Vec<f32>,
    /// Keys and values without bias, `[rows, 2 hidden]`.
    pub kv: Vec<f32>,
}

/// Gradients with respect to the tables.
#[derive(Debug, Default)]
pub struct TableGradients {
    pub x: Buffer,
    pub q: Buffer,
    pub kv: Buffer,
    /// For intermediate results.
    pub spare: Buffer,
}

impl TableGradients {
    /// Zero for so many rows.
    pub fn clear(&mut self, rows: usize, hidden: usize) {
        for (buffer, width) in [(&mut self.x, hidden), (&mut self.q, hidden), (&mut self.kv, 2 * hidden)] {
            zeroed(buffer, rows * width);
        }
    }
}

/// One range of rows of [`Tables`], by mutable slices, so that several threads can fill it.
pub struct TablePart<'a> {
    sums: &'a mut [f32],
    sum_statistics: &'a mut [[f32; 2]],
    x: &'a mut [f32],
    normed: &'a mut [f32],
    statistics: &'a mut [[f32; 2]],
    q: &'a mut [f32],
    kv: &'a mut [f32],
}

impl Tables {
    /// Room for all rows, cut into parts of `part` rows.
    pub fn parts(&mut self, net: &Net, rows: usize, part: usize) -> Vec<TablePart<'_>> {
        let hidden = net.config.hidden;
        let pre = net.pre_norm();
        self.sums.resize(if pre { 0 } else { rows * hidden }, 0.0);
        self.sum_statistics.resize(if pre { 0 } else { rows }, [0.0; 2]);
        self.normed.resize(if pre { rows * hidden } else { 0 }, 0.0);
        self.statistics.resize(if pre { rows } else { 0 }, [0.0; 2]);
        self.x.resize(rows * hidden, 0.0);
        self.q.resize(rows * hidden, 0.0);
        self.kv.resize(rows * 2 * hidden, 0.0);
        let mut sums = self.sums.chunks_mut(part * hidden);
        let mut sum_statistics = self.sum_statistics.chunks_mut(part);
        let mut normed = self.normed.chunks_mut(part * hidden);
        let mut statistics = self.statistics.chunks_mut(part);
        let mut q = self.q.chunks_mut(part * hidden);
        let mut kv = self.kv.chunks_mut(part * 2 * hidden);
        let cut = self.x.chunks_mut(part * hidden).map(|x| TablePart {
            sums: sums.next().unwrap_or_default(),
            sum_statistics: sum_statistics.next().unwrap_or_default(),
            x,
            normed: normed.next().unwrap_or_default(),
            statistics: statistics.next().unwrap_or_default(),
            q: q.next().unwrap_or_default(),
            kv: kv.next().unwrap_or_default(),
        });
        cut.collect()
    }

    /// Adds the parameter gradients of rows `range`, whose table gradients are summed in `d`.
    pub fn backward(
        &self,
        net: &Net,
        values: &[f32],
        range: std::ops::Range<usize>,
        pairs: &[(u32, usize)],
        d: &mut TableGradients,
        gradient: &mut [f32],
    ) {
        let hidden = net.config.hidden;
        let (layer, maps) = (&net.layout.layers[0], &net.layers[0]);
        let rows = range.start * hidden..range.end * hidden;
        let input = if net.pre_norm() { &self.normed[rows.clone()] } else { &self.x[rows.clone()] };
        qkv_backward(net, gradient, &d.q, &d.kv, (input, input));
        let scratch = &mut d.spare;
        sized(scratch, rows.len());
        maps.kv.input_gradient(values, &d.kv, scratch, false);
        maps.q.input_gradient(values, &d.q, scratch, true);
        if net.pre_norm() {
            let weight = &values[layer.norm1.weight.clone()];
            let statistics = &self.statistics[range.clone()];
            let into = norm_gradient(gradient, &layer.norm1);
            layer_norm_backward(
                net.isa,
                &self.x[rows.clone()],
                statistics,
                weight,
                scratch,
                &mut d.x,
                true,
                into,
            );
        } else {
            super::norm::add(net.isa, scratch, &mut d.x);
        }
        let statistics = if net.pre_norm() { &[] } else { &self.sum_statistics[range] };
        let sums = if net.pre_norm() { &[] } else { &self.sums[rows] };
        embedding_norm_backward(net, values, sums, statistics, &mut d.x, scratch, gradient);
        embed_backward(net, pairs.iter().copied(), &d.x, gradient);
    }
}

/// Adds the gradients of the first layer's query, key and value weights and biases; `inputs` are those of the queries and
/// of keys and values.
fn qkv_backward(net: &Net, gradient: &mut [f32], d_q: &[f32], d_kv: &[f32], inputs: (&[f32], &[f32])) {
    let (layer, maps, hidden) = (&net.layout.layers[0], &net.layers[0], net.config.hidden);
    maps.q.weight_gradient(inputs.0, d_q, gradient);
    maps.kv.weight_gradient(inputs.1, d_kv, gradient);
    let bias = &mut gradient[layer.qkv.bias.clone()];
    column_sums(net.isa, d_q, &mut bias[..hidden]);
    column_sums(net.isa, d_kv, &mut bias[hidden..]);
}

/// BERT: turns the gradient of normalised embeddings into that of their sums, in place.
pub fn embedding_norm_backward(
    net: &Net,
    values: &[f32],
    sums: &[f32],
    statistics: &[[f32; 2]],
    d: &mut [f32],
    scratch: &mut Buffer,
    gradient: &mut [f32],
) {
    if let Some(norm) = &net.layout.embedding_norm {
        let scratch = copied(scratch, d);
        let weight = &values[norm.weight.clone()];
        layer_norm_backward(
            net.isa,
            sums,
            statistics,
            weight,
            scratch,
            d,
            false,
            norm_gradient(gradient, norm),
        );
    }
}

impl TablePart<'_> {
    /// Computes this part for its (token, position) pairs.
    pub fn fill(&mut self, net: &Net, values: &[f32], pairs: &[(u32, usize)]) {
        let (layer, maps) = (&net.layout.layers[0], &net.layers[0]);
        let norm = |norm| -> NormWeights<'_> { net.norm(values, norm) };
        let pairs = pairs.iter().copied();
        match &net.layout.embedding_norm {
            Some(own) => {
                embed(net, values, pairs, self.sums);
                layer_norm(net.isa, self.sums, norm(own), self.x, self.sum_statistics);
            }
            None => embed(net, values, pairs, self.x),
        }
        let input: &[f32] = if net.pre_norm() {
            layer_norm(net.isa, self.x, norm(&layer.norm1), self.normed, self.statistics);
            self.normed
        } else {
            self.x
        };
        maps.q.forward(values, input, self.q, false);
        maps.kv.forward(values, input, self.kv, false);
    }
}
