//! The way forward: embeddings, blocks, head.

use super::buffers::Kind;
use super::linear::{End, Linear};
use super::plan::{Builder, RowSet};
use super::recorder::Site;
use super::rows::RowsOp;
use crate::GpuError;
use curricle_core::model::transformer::DropoutSite;

impl Builder<'_> {
    pub fn forward(&self) -> Result<(), GpuError> {
        self.embed()?;
        for l in 0..self.sizes.blocks(self.shared.config) {
            self.forward_block(l)?;
        }
        if matches!(self.sizes.kind, Kind::Hidden(_)) { Ok(()) } else { self.head() }
    }

    fn embed(&self) -> Result<(), GpuError> {
        let site = self.site(DropoutSite::Embedding);
        let (buffers, params) = (&self.buffers, self.shared.params);
        let stream = &buffers.streams[0];
        let Some(norm) = &self.shared.layout.embedding_norm else {
            return self.recorder.borrow_mut().embed(self.embedding(site), params, stream);
        };
        let none = self.embedding(Site::default());
        self.recorder.borrow_mut().embed(none, params, &buffers.embedded)?;
        let norm = self.norm(norm, self.everywhere(), &buffers.embedded, &buffers.embedded_stats);
        if site.threshold == 0 {
            return self.recorder.borrow_mut().norm(norm, params, stream);
        }
        self.recorder.borrow_mut().norm(norm, params, &buffers.embedded_norm)?;
        self.move_rows(RowsOp::Drop(site), self.everywhere(), &buffers.embedded_norm, stream)
    }

    fn forward_block(&self, l: usize) -> Result<(), GpuError> {
        let (block, layer) = (self.buffers.block(l), &self.shared.layout.layers[l]);
        let [x, out] = [l, l + 1].map(|l| self.buffers.stream(&self.sizes, l));
        let (all, rows, params) = (self.everywhere(), self.rows_of(l), self.shared.params);
        let d = self.shared.config.hidden;
        let none = Site::default();
        // What attention reads, and what its output is added to.
        let (mut source, mut base) = (x, x);
        if !self.bert() {
            let norm = self.norm(&layer.norm1, all, x, &block.stats1);
            self.recorder.borrow_mut().norm(norm, params, &block.normed)?;
            source = &block.normed;
        }
        if self.compact(l) {
            self.move_rows(RowsOp::Gather, rows, source, &block.source_rows)?;
            self.map(End::Plain, &layer.qkv, d..3 * d, all, none, [source, &block.qkv], None, None)?;
            let q = [&block.source_rows, &block.q];
            self.map(End::Plain, &layer.qkv, 0..d, rows, none, q, None, None)?;
            base = &block.source_rows;
            if !self.bert() {
                self.move_rows(RowsOp::Gather, rows, x, &block.stream_rows)?;
                base = &block.stream_rows;
            }
        } else {
            self.map(End::Plain, &layer.qkv, 0..3 * d, all, none, [source, &block.qkv], None, None)?;
        }
        self.recorder.borrow_mut().attention(&self.attention(l), self.heads(l, block))?;
        let site = self.site(DropoutSite::AttentionOutput(l));
        let through = [&block.heads, &block.middle];
        self.map(End::Residual, &layer.projection, 0..d, rows, site, through, Some(base), None)?;

        // The MLP reads the normalised stream; GPT-2 adds its output to the stream, BERT to what it read.
        let (norm, stats, read) = if self.bert() {
            (&layer.norm1, &block.stats1, &block.normed)
        } else {
            (&layer.norm2, &block.stats2, &block.second)
        };
        let norm = self.norm(norm, rows, &block.middle, stats);
        self.recorder.borrow_mut().norm(norm, params, read)?;
        let inner = layer.up.outputs;
        let up = [read, &block.wide];
        self.map(End::Gelu, &layer.up, 0..inner, rows, none, up, None, Some(&block.active))?;
        let (base, sum) = if self.bert() { (read, &block.second) } else { (&block.middle, out) };
        let site = self.site(DropoutSite::MlpOutput(l));
        let down = [&block.active, sum];
        self.map(End::Residual, &layer.down, 0..d, rows, site, down, Some(base), None)?;
        if self.bert() {
            let norm = self.norm(&layer.norm2, rows, &block.second, &block.stats2);
            self.recorder.borrow_mut().norm(norm, params, out)?;
        }
        Ok(())
    }

    /// The stream at the positions read.
    pub fn top(&self) -> &wgpu::Buffer {
        if self.sizes.compact {
            self.buffers.stream(&self.sizes, self.shared.config.layers)
        } else {
            &self.buffers.head.top
        }
    }

    /// Logits = a head^T (+ bias).
    fn head(&self) -> Result<(), GpuError> {
        let (head, layout, rows) = (&self.buffers.head, self.shared.layout, self.read());
        let (d, vocab) = (self.shared.config.hidden, self.shared.config.vocab);
        if !self.sizes.compact {
            let stream = self.buffers.stream(&self.sizes, self.shared.config.layers);
            self.move_rows(RowsOp::Gather, rows, stream, &head.top)?;
        }
        if let Some(dense) = &layout.transform {
            let through = [self.top(), &head.dense];
            let none = Site::default();
            self.map(End::Gelu, dense, 0..d, rows, none, through, None, Some(&head.active))?;
        }
        let norm = self.norm(&layout.final_norm, rows, self.before_norm(), &head.stats);
        self.recorder.borrow_mut().norm(norm, self.shared.params, &head.normed)?;
        let RowSet { rows, capacity, .. } = rows;
        let shape = Linear {
            b_at: layout.head.start as u32,
            b_inner: 1,
            b_col: d as u32,
            bias: self.head_bias(),
            ..Linear::dense(rows, d, vocab)
        };
        let [a, out] = [&head.normed, &head.logits];
        self.product(End::Plain, &shape, capacity, a, self.shared.params, None, out, None)
    }

    /// What the last layer norm reads.
    pub fn before_norm(&self) -> &wgpu::Buffer {
        if self.bert() { &self.buffers.head.active } else { self.top() }
    }

    /// First parameter of the logits' bias.
    pub fn head_bias(&self) -> u32 {
        self.shared.layout.head_bias.as_ref().map_or(super::recorder::NONE, |r| r.start as u32)
    }
}
