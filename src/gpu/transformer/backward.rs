//! The way back: the gradient of every parameter is added to the flat gradient.

use super::head::Loss;
use super::linear::{End, Linear, Operands};
use super::plan::{Builder, RowSet};
use super::recorder::{READS, Site};
use super::rows::RowsOp;
use crate::GpuError;
use curricle_core::model::transformer::{DropoutSite, Linear as Map, Norm};
use std::ops::Range;

impl Builder<'_> {
    pub fn backward(&self) -> Result<(), GpuError> {
        self.head_back()?;
        for l in (0..self.shared.config.layers).rev() {
            self.block_back(l)?;
        }
        self.embed_back()
    }

    /// The gradient at the stream before block l.
    fn slope(&self, l: usize) -> &wgpu::Buffer {
        &self.buffers.back.stream[l % 2]
    }

    /// The gradient before dropout; a copy only where something was dropped.
    fn masked<'b>(
        &'b self,
        site: DropoutSite,
        rows: RowSet,
        dy: &'b wgpu::Buffer,
    ) -> Result<&'b wgpu::Buffer, GpuError> {
        let site = self.site(site);
        if site.threshold == 0 {
            return Ok(dy);
        }
        self.move_rows(RowsOp::Drop(site), rows, dy, &self.buffers.back.masked)?;
        Ok(&self.buffers.back.masked)
    }

    /// Adds x^T dy to the gradient of outputs `columns` of `map`, and the sums of dy to that of its bias.
    fn gradient(
        &self,
        map: &Map,
        columns: Range<usize>,
        rows: RowSet,
        x: &wgpu::Buffer,
        dy: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let (at, step_in, step_out) = self.strides(map);
        let shape = Linear {
            out_at: at + columns.start as u32 * step_out,
            out_row: step_in,
            out_col: step_out,
            bias: (map.bias.start + columns.start) as u32,
            ..transposed(map.inputs, columns.len(), rows)
        };
        self.weight(&shape, rows.capacity, x, dy)
    }

    fn weight(
        &self,
        shape: &Linear,
        capacity: usize,
        a: &wgpu::Buffer,
        b: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let Self { shared, buffers, .. } = self;
        let (params, out) = (shared.params, shared.grads);
        let operands = Operands { a, b, params, extra: None, ints: &buffers.list, out, active: None };
        self.recorder.borrow_mut().gradient(shape, capacity, operands, &buffers.back.linear)
    }

    /// dx = end(dy W[.., columns]^T).
    fn map_back(
        &self,
        end: End,
        map: &Map,
        columns: Range<usize>,
        rows: RowSet,
        [dy, dx]: [&wgpu::Buffer; 2],
        extra: Option<&wgpu::Buffer>,
    ) -> Result<(), GpuError> {
        let (at, step_in, step_out) = self.strides(map);
        let shape = Linear {
            b_at: at + columns.start as u32 * step_out,
            b_inner: step_out,
            b_col: step_in,
            ..Linear::dense(rows.rows, columns.len(), map.inputs)
        };
        self.product(end, &shape, rows.capacity, dy, self.shared.params, extra, dx, None)
    }

    fn norm_back(
        &self,
        norm: &Norm,
        rows: RowSet,
        [x, stats]: [&wgpu::Buffer; 2],
        dy: &wgpu::Buffer,
        add: Option<&wgpu::Buffer>,
        dx: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let shared = [self.shared.params, self.shared.grads, &self.buffers.back.norm];
        let norm = self.norm(norm, rows, x, stats);
        self.recorder.borrow_mut().norm_back(norm, shared, dy, add, dx)
    }

    fn head_back(&self) -> Result<(), GpuError> {
        let (head, back, layout) = (&self.buffers.head, &self.buffers.back, self.shared.layout);
        let (rows, config) = (self.read(), self.shared.config);
        let (d, vocab, blocks) = (config.hidden, config.vocab, config.layers);
        let loss = Loss {
            logits: &head.logits,
            targets: &head.targets,
            losses: &head.losses,
            results: self.shared.results,
        };
        self.recorder.borrow_mut().cross_entropy(vocab, rows.capacity, loss)?;
        let shape = Linear {
            out_at: layout.head.start as u32,
            out_row: 1,
            out_col: d as u32,
            bias: self.head_bias(),
            ..transposed(d, vocab, rows)
        };
        self.weight(&shape, rows.capacity, &head.normed, &head.logits)?;
        let shape = Linear {
            b_at: layout.head.start as u32,
            b_inner: d as u32,
            b_col: 1,
            ..Linear::dense(rows.rows, vocab, d)
        };
        let [a, out] = [&head.logits, &back.normed];
        self.product(End::Plain, &shape, rows.capacity, a, self.shared.params, None, out, None)?;
        // Straight into the stream's gradient where the last block has rows for the positions read only.
        let top = if self.sizes.compact { self.slope(blocks) } else { &back.masked };
        let through = if layout.transform.is_some() { &back.middle } else { top };
        let x = [self.before_norm(), &head.stats];
        self.norm_back(&layout.final_norm, rows, x, &back.normed, None, through)?;
        if let Some(dense) = &layout.transform {
            let shape = Linear::dense(rows.rows, d, d);
            let activation = config.activation;
            let [dy, x, dx] = [&back.middle, &head.dense, &back.normed];
            self.recorder.borrow_mut().gelu_back(activation, &shape, rows.capacity, [dy, x, dx])?;
            self.gradient(dense, 0..d, rows, self.top(), &back.normed)?;
            self.map_back(End::Plain, dense, 0..d, rows, [&back.normed, top], None)?;
        }
        if !self.sizes.compact {
            let stream = self.slope(blocks);
            self.move_rows(RowsOp::Clear, self.everywhere(), &back.masked, stream)?;
            self.move_rows(RowsOp::Scatter, rows, &back.masked, stream)?;
        }
        Ok(())
    }

    fn block_back(&self, l: usize) -> Result<(), GpuError> {
        let (block, layer, back) = (self.buffers.block(l), &self.shared.layout.layers[l], &self.buffers.back);
        let (x, dout, dx) = (self.buffers.stream(&self.sizes, l), self.slope(l + 1), self.slope(l));
        let (all, rows, compact) = (self.everywhere(), self.rows_of(l), self.compact(l));
        let (d, inner, bert) = (self.shared.config.hidden, layer.up.outputs, self.bert());

        // The MLP. `dsum`: gradient at the sum of its output and the stream.
        let dsum = if bert {
            let sum = [&block.second, &block.stats2];
            self.norm_back(&layer.norm2, rows, sum, dout, None, &back.middle)?;
            &back.middle
        } else {
            dout
        };
        let read = if bert { &block.normed } else { &block.second };
        let dy = self.masked(DropoutSite::MlpOutput(l), rows, dsum)?;
        self.gradient(&layer.down, 0..d, rows, &block.active, dy)?;
        self.map_back(End::GeluBack, &layer.down, 0..d, rows, [dy, &back.wide], Some(&block.wide))?;
        self.gradient(&layer.up, 0..inner, rows, read, &back.wide)?;
        // Into `middle`: the gradient at the sum of the attention's output and the stream.
        let through = [&back.wide, &back.normed];
        if bert {
            self.map_back(End::Residual, &layer.up, 0..inner, rows, through, Some(dsum))?;
            let sum = [&block.middle, &block.stats1];
            self.norm_back(&layer.norm1, rows, sum, &back.normed, None, &back.middle)?;
        } else {
            self.map_back(End::Plain, &layer.up, 0..inner, rows, through, None)?;
            let sum = [&block.middle, &block.stats2];
            self.norm_back(&layer.norm2, rows, sum, &back.normed, Some(dsum), &back.middle)?;
        }

        // Attention.
        let dy = self.masked(DropoutSite::AttentionOutput(l), rows, &back.middle)?;
        self.gradient(&layer.projection, 0..d, rows, &block.heads, dy)?;
        self.map_back(End::Plain, &layer.projection, 0..d, rows, [dy, &back.normed], None)?;
        let dq = if compact { &back.q } else { &back.qkv };
        let (attention, heads) = (self.attention(l), self.heads(l, block));
        self.recorder.borrow_mut().attention_back(&attention, heads, &back.normed, dq, &back.qkv)?;
        let source = if bert { x } else { &block.normed };
        // The gradient at attention's input: BERT's is the stream's, GPT-2's still goes through the norm.
        let dsource = if bert { dx } else { &back.normed };
        if compact {
            self.gradient(&layer.qkv, 0..d, rows, &block.source_rows, dq)?;
            self.gradient(&layer.qkv, d..3 * d, all, source, &back.qkv)?;
            self.map_back(End::Plain, &layer.qkv, d..3 * d, all, [&back.qkv, dsource], None)?;
            let end = if bert { End::Residual } else { End::Plain };
            let add = bert.then_some(&back.middle);
            self.map_back(end, &layer.qkv, 0..d, rows, [dq, &back.masked], add)?;
            self.move_rows(RowsOp::Scatter, rows, &back.masked, dsource)?;
        } else {
            self.gradient(&layer.qkv, 0..3 * d, all, source, &back.qkv)?;
            let end = if bert { End::Residual } else { End::Plain };
            let add = bert.then_some(&back.middle);
            self.map_back(end, &layer.qkv, 0..3 * d, all, [&back.qkv, dsource], add)?;
        }
        if bert {
            return Ok(());
        }
        let add = (!compact).then_some(&back.middle);
        self.norm_back(&layer.norm1, all, [x, &block.stats1], &back.normed, add, dx)?;
        if compact { self.move_rows(RowsOp::Scatter, rows, &back.middle, dx) } else { Ok(()) }
    }

    fn embed_back(&self) -> Result<(), GpuError> {
        let (buffers, back) = (&self.buffers, &self.buffers.back);
        let all = self.everywhere();
        let mut dx = self.masked(DropoutSite::Embedding, all, self.slope(0))?;
        if let Some(norm) = &self.shared.layout.embedding_norm {
            let x = [&buffers.embedded, &buffers.embedded_stats];
            self.norm_back(norm, all, x, dx, None, &back.middle)?;
            dx = &back.middle;
        }
        let [segments, sums] = &back.embedding;
        let embedding = self.embedding(Site::default());
        self.recorder.borrow_mut().embed_back(embedding, dx, self.shared.grads, [segments, sums])
    }
}

/// x^T dy [inputs, outputs], summed over `rows`.
fn transposed(inputs: usize, outputs: usize, rows: RowSet) -> Linear {
    let inner = if rows.rows == READS { READS } else { rows.rows };
    Linear { a_row: 1, a_inner: inputs as u32, inner, ..Linear::dense(inputs as u32, 0, outputs) }
}
