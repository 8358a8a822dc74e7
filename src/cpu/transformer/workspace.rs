//! Buffers of one group of sequences; they grow to what is needed and are kept from step to step.

use super::attention::Scratch;
use std::ops::{Deref, DerefMut};

/// What a block keeps for the backward pass. R rows in the group, of which Q are queries.
#[derive(Debug, Default)]
pub struct LayerBuffers {
    /// Input of attention's projections if it is not the block's input (GPT-2: its layer norm), `[R, hidden]`.
    pub normed: Buffer,
    pub normed_statistics: Buffer<[f32; 2]>,
    /// Rows of the attention input that are queries, where not all are, `[Q, hidden]`.
    pub q_input: Buffer,
    /// Queries without bias, `[Q, hidden]`.
    pub q: Buffer,
    /// Keys and values without bias, `[R, 2 hidden]`.
    pub kv: Buffer,
    /// The heads' outputs, `[Q, hidden]`.
    pub attended: Buffer,
    /// Maximum and 1 / sum of each softmax; per sequence `[head][query]`.
    pub softmax: Buffer<[f32; 2]>,
    /// After attention and residual, `[Q, hidden]`.
    pub middle: Buffer,
    /// Input of the MLP: the layer norm of `middle`, `[Q, hidden]`.
    pub mlp_input: Buffer,
    pub mlp_statistics: Buffer<[f32; 2]>,
    /// Before and after the activation, `[Q, inner]`.
    pub up: Buffer,
    pub activated: Buffer,
    /// BERT: after MLP and residual, before the last layer norm, `[Q, hidden]`.
    pub sums: Buffer,
    pub sums_statistics: Buffer<[f32; 2]>,
}

/// The head's buffers, N rows read.
#[derive(Debug, Default)]
pub struct HeadBuffers {
    /// Last hidden states where read, if the last layer computed others too, `[N, hidden]`.
    pub gathered: Buffer,
    /// BERT: before and after the activation, `[N, hidden]`.
    pub transformed: Buffer,
    pub activated: Buffer,
    pub statistics: Buffer<[f32; 2]>,
    /// After the final layer norm, `[N, hidden]`.
    pub normed: Buffer,
    pub logits: Buffer,
}

/// Gradients on their way back.
#[derive(Debug, Default)]
pub struct Gradients {
    pub d_logits: Buffer,
    pub head: Buffer,
    /// Of a block's output, later of its input, `[R, hidden]`.
    pub x: Buffer,
    /// Of a block's output, `[Q, hidden]`.
    pub out: Buffer,
    pub middle: Buffer,
    pub dropped: Buffer,
    pub mlp_input: Buffer,
    pub inner: Buffer,
    pub attended: Buffer,
    pub q: Buffer,
    pub kv: Buffer,
}

/// All buffers of a thread.
#[derive(Debug, Default)]
pub struct Workspace {
    pub attention: Scratch,
    pub factors: Vec<f32>,
    pub layers: Vec<LayerBuffers>,
    /// Input of each block and output of the last, `[R or Q, hidden]`.
    pub x: Vec<Buffer>,
    /// BERT: embeddings before their layer norm.
    pub sums: Buffer,
    pub sums_statistics: Buffer<[f32; 2]>,
    pub head: HeadBuffers,
    pub gradients: Gradients,
    /// A spare buffer.
    pub spare: Buffer,
}

/// A slice of changing length whose memory only grows: making it short and long again costs nothing.
#[derive(Debug, Default)]
pub struct Buffer<T = f32> {
    data: Vec<T>,
    len: usize,
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.data[..self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.len]
    }
}

/// The buffer with `len` elements, whatever was in them.
pub fn sized<T: Clone + Default>(buffer: &mut Buffer<T>, len: usize) -> &mut [T] {
    if buffer.data.len() < len {
        buffer.data.resize(len, T::default());
    }
    buffer.len = len;
    buffer
}

/// The buffer with `len` zeros.
pub fn zeroed(buffer: &mut Buffer, len: usize) -> &mut [f32] {
    let all = sized(buffer, len);
    all.fill(0.0);
    all
}

/// The buffer as a copy of `from`.
pub fn copied<'a>(buffer: &'a mut Buffer, from: &[f32]) -> &'a mut [f32] {
    let all = sized(buffer, from.len());
    all.copy_from_slice(from);
    all
}

#[cfg(test)]
impl<T> Buffer<T> {
    /// Elements it holds memory for.
    pub fn room(&self) -> usize {
        self.data.len()
    }
}

#[cfg(test)]
impl Workspace {
    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        let pairs = |v: &Buffer<[f32; 2]>| 2 * v.room();
        let layer = |b: &LayerBuffers| {
            [
                &b.normed,
                &b.q_input,
                &b.q,
                &b.kv,
                &b.attended,
                &b.middle,
                &b.mlp_input,
                &b.up,
                &b.activated,
                &b.sums,
            ]
            .iter()
            .map(|v| v.room())
            .sum::<usize>()
                + pairs(&b.normed_statistics)
                + pairs(&b.softmax)
                + pairs(&b.mlp_statistics)
                + pairs(&b.sums_statistics)
        };
        let (h, g) = (&self.head, &self.gradients);
        let flat = [
            &h.gathered,
            &h.transformed,
            &h.activated,
            &h.normed,
            &h.logits,
            &g.d_logits,
            &g.head,
            &g.x,
            &g.out,
            &g.middle,
            &g.dropped,
            &g.mlp_input,
            &g.inner,
            &g.attended,
            &g.q,
            &g.kv,
            &self.sums,
            &self.spare,
        ];
        let floats = self.layers.iter().map(layer).sum::<usize>()
            + self.x.iter().map(Buffer::room).sum::<usize>()
            + flat.iter().map(|v| v.room()).sum::<usize>()
            + self.factors.len()
            + pairs(&h.statistics)
            + pairs(&self.sums_statistics);
        4 * floats + self.attention.bytes()
    }
}
