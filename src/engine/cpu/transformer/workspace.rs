//! Buffers of one group of sequences; they grow to what is needed and are kept from step to step.

use super::attention::Scratch;

/// What a block keeps for the backward pass. R rows in the group, of which Q are queries.
#[derive(Debug, Default)]
pub struct LayerBuffers {
    /// Input of attention's projections if it is not the block's input (GPT-2: its layer norm), `[R, hidden]`.
    pub normed: Vec<f32>,
    pub normed_statistics: Vec<[f32; 2]>,
    /// Rows of the attention input that are queries, where not all are, `[Q, hidden]`.
    pub q_input: Vec<f32>,
    /// Queries without bias, `[Q, hidden]`.
    pub q: Vec<f32>,
    /// Keys and values without bias, `[R, 2 hidden]`.
    pub kv: Vec<f32>,
    /// The heads' outputs, `[Q, hidden]`.
    pub attended: Vec<f32>,
    /// Maximum and 1 / sum of each softmax; per sequence `[head][query]`.
    pub softmax: Vec<[f32; 2]>,
    /// After attention and residual, `[Q, hidden]`.
    pub middle: Vec<f32>,
    /// Input of the MLP: the layer norm of `middle`, `[Q, hidden]`.
    pub mlp_input: Vec<f32>,
    pub mlp_statistics: Vec<[f32; 2]>,
    /// Before and after the activation, `[Q, inner]`.
    pub up: Vec<f32>,
    pub activated: Vec<f32>,
    /// BERT: after MLP and residual, before the last layer norm, `[Q, hidden]`.
    pub sums: Vec<f32>,
    pub sums_statistics: Vec<[f32; 2]>,
}

/// The head's buffers, N rows read.
#[derive(Debug, Default)]
pub struct HeadBuffers {
    /// Last hidden states where read, if the last layer computed others too, `[N, hidden]`.
    pub gathered: Vec<f32>,
    /// BERT: before and after the activation, `[N, hidden]`.
    pub transformed: Vec<f32>,
    pub activated: Vec<f32>,
    pub statistics: Vec<[f32; 2]>,
    /// After the final layer norm, `[N, hidden]`.
    pub normed: Vec<f32>,
    pub logits: Vec<f32>,
}

/// Gradients on their way back.
#[derive(Debug, Default)]
pub struct Gradients {
    pub d_logits: Vec<f32>,
    pub head: Vec<f32>,
    /// Of a block's output, later of its input, `[R, hidden]`.
    pub x: Vec<f32>,
    /// Of a block's output, `[Q, hidden]`.
    pub out: Vec<f32>,
    pub middle: Vec<f32>,
    pub dropped: Vec<f32>,
    pub mlp_input: Vec<f32>,
    pub inner: Vec<f32>,
    pub attended: Vec<f32>,
    pub q: Vec<f32>,
    pub kv: Vec<f32>,
}

/// All buffers of a thread.
#[derive(Debug, Default)]
pub struct Workspace {
    pub attention: Scratch,
    pub factors: Vec<f32>,
    pub layers: Vec<LayerBuffers>,
    /// Input of each block and output of the last, `[R or Q, hidden]`.
    pub x: Vec<Vec<f32>>,
    /// BERT: embeddings before their layer norm.
    pub sums: Vec<f32>,
    pub sums_statistics: Vec<[f32; 2]>,
    pub head: HeadBuffers,
    pub gradients: Gradients,
    /// A spare buffer.
    pub spare: Vec<f32>,
}

/// The first `len` elements of a buffer that is made long enough; what was in it stays.
pub fn sized<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) -> &mut [T] {
    buffer.resize(len, T::default());
    buffer
}

/// A buffer of `len` zeros.
pub fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.clear();
    buffer.resize(len, 0.0);
    buffer
}

#[cfg(test)]
impl Workspace {
    /// Bytes of all buffers that grow with the number of rows.
    pub fn bytes(&self) -> usize {
        let pairs = |v: &Vec<[f32; 2]>| 2 * v.len();
        let layer = |b: &LayerBuffers| {
            [&b.normed, &b.q_input, &b.q, &b.kv, &b.attended, &b.middle, &b.mlp_input, &b.up, &b.activated, &b.sums]
                .iter()
                .map(|v| v.len())
                .sum::<usize>()
                + pairs(&b.normed_statistics)
                + pairs(&b.softmax)
                + pairs(&b.mlp_statistics)
                + pairs(&b.sums_statistics)
        };
        let h = &self.head;
        let g = &self.gradients;
        let flat = [
            &h.gathered, &h.transformed, &h.activated, &h.normed, &h.logits, &g.d_logits, &g.head, &g.x, &g.out,
            &g.middle, &g.dropped, &g.mlp_input, &g.inner, &g.attended, &g.q, &g.kv, &self.sums, &self.spare,
        ];
        let floats = self.layers.iter().map(layer).sum::<usize>()
            + self.x.iter().map(Vec::len).sum::<usize>()
            + flat.iter().map(|v| v.len()).sum::<usize>()
            + pairs(&h.statistics)
            + pairs(&self.sums_statistics);
        4 * floats
    }
}
