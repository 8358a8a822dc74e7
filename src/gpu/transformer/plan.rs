//! Everything computed for a batch of one size: buffers, and launches in order. What blocks are made of is here, their order in
//! `forward.rs` and `backward.rs`.

use super::attention::{Attention, Heads};
use super::batch::Ints;
use super::buffers::{Block, Buffers, Kind, Sizes, bytes};
use super::embed::Embedding;
use super::linear::{End, Linear, Operands};
use super::norm::LayerNorm;
use super::recorder::{Costed, NONE, READS, Recorder, Site};
use super::rows::{Rows, RowsOp};
use crate::{GpuContext, GpuError};
use curricle_core::model::transformer::{
    DropoutSite, Family, Layout, Linear as Map, Norm, TransformerConfig, dropout_threshold,
};
use std::cell::RefCell;

/// Buffers every batch shares.
pub(super) struct Shared<'a> {
    pub context: &'a GpuContext,
    pub config: &'a TransformerConfig,
    pub layout: &'a Layout,
    pub params: &'a wgpu::Buffer,
    pub grads: &'a wgpu::Buffer,
    pub step: &'a wgpu::Buffer,
    pub spare: &'a wgpu::Buffer,
    pub results: &'a wgpu::Buffer,
}

/// A batch's buffers and launches.
pub(super) struct Plan {
    pub sizes: Sizes,
    pub ints: Ints,
    /// Bytes of its buffers.
    pub bytes: u64,
    pub launches: Vec<Costed>,
    pub list: wgpu::Buffer,
    pub targets: wgpu::Buffer,
    /// Logits [capacity, vocab], or hidden states [positions, hidden].
    pub output: wgpu::Buffer,
}

/// The rows a part of a model is computed for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowSet {
    /// Number, or [`READS`].
    pub rows: u32,
    pub capacity: usize,
    /// Their positions in the list, or [`NONE`].
    pub rows_at: u32,
}

/// Records launches of one plan.
pub(super) struct Builder<'a> {
    pub shared: &'a Shared<'a>,
    pub sizes: Sizes,
    pub ints: Ints,
    pub buffers: Buffers<wgpu::Buffer>,
    pub recorder: RefCell<Recorder<'a>>,
}

impl Plan {
    pub fn new(shared: &Shared<'_>, sizes: Sizes) -> Result<Self, GpuError> {
        let buffers = Buffers::new(shared.config, &sizes, |what, n| shared.context.storage(what, n as u64))?;
        let recorder = RefCell::new(Recorder::new(shared.context, shared.step, shared.spare));
        let ints = sizes.ints(shared.config);
        let builder = Builder { shared, sizes, ints, buffers, recorder };
        builder.forward()?;
        let output = match sizes.kind {
            Kind::Hidden(layer) => builder.buffers.stream(&sizes, layer).clone(),
            _ => builder.buffers.head.logits.clone(),
        };
        if sizes.train() {
            builder.backward()?;
        }
        let Builder { buffers, recorder, .. } = builder;
        Ok(Self {
            sizes,
            ints,
            bytes: bytes(shared.config, &sizes).0,
            launches: recorder.into_inner().launches,
            list: buffers.list,
            targets: buffers.head.targets,
            output,
        })
    }
}

impl<'a> Builder<'a> {
    pub fn bert(&self) -> bool {
        self.shared.config.family == Family::Bert
    }

    /// A weight [inputs, outputs] as the right factor: (first, step along inputs, step along outputs).
    pub fn strides(&self, map: &Map) -> (u32, u32, u32) {
        let at = map.weight.start as u32;
        if self.bert() { (at, 1, map.inputs as u32) } else { (at, map.outputs as u32, 1) }
    }

    pub fn everywhere(&self) -> RowSet {
        let n = self.sizes.positions();
        RowSet { rows: n as u32, capacity: n, rows_at: NONE }
    }

    pub fn read(&self) -> RowSet {
        RowSet { rows: READS, capacity: self.sizes.capacity, rows_at: self.ints.rows_at }
    }

    pub fn compact(&self, l: usize) -> bool {
        self.sizes.compact && l + 1 == self.shared.config.layers
    }

    /// Rows of block l behind its keys and values.
    pub fn rows_of(&self, l: usize) -> RowSet {
        if self.compact(l) { self.read() } else { self.everywhere() }
    }

    pub fn site(&self, site: DropoutSite) -> Site {
        let dropout = &self.shared.config.dropout;
        let p = match site {
            DropoutSite::Embedding => dropout.embedding,
            DropoutSite::Attention(_) => dropout.attention,
            DropoutSite::AttentionOutput(_) | DropoutSite::MlpOutput(_) => dropout.residual,
        };
        if self.sizes.kind != (Kind::Train { dropout: true }) || p == 0.0 {
            return Site::default();
        }
        Site { stream: site.stream().word(), threshold: dropout_threshold(p), keep: 1.0 / (1.0 - p) }
    }

    pub fn norm<'b>(
        &self,
        norm: &'b Norm,
        rows: RowSet,
        x: &'b wgpu::Buffer,
        stats: &'b wgpu::Buffer,
    ) -> LayerNorm<'b> {
        let config = self.shared.config;
        let RowSet { rows, capacity, .. } = rows;
        LayerNorm { norm, eps: config.layer_norm_eps, rows, capacity, hidden: config.hidden, x, stats }
    }

    pub fn embedding(&self, site: Site) -> Embedding<'_> {
        Embedding {
            layout: self.shared.layout,
            ints: &self.ints,
            list: &self.buffers.list,
            sequences: self.sizes.sequences,
            length: self.sizes.length,
            hidden: self.shared.config.hidden,
            site,
        }
    }

    pub fn attention(&self, l: usize) -> Attention {
        let config = self.shared.config;
        let (d, compact) = (config.hidden as u32, self.compact(l));
        let RowSet { rows, capacity, rows_at } = self.rows_of(l);
        Attention {
            sequences: self.sizes.sequences,
            length: self.sizes.length,
            heads: config.heads,
            head_dim: config.head_dim(),
            causal: config.family == Family::Gpt2,
            rows,
            capacity,
            rows_at,
            starts_at: self.ints.starts_at,
            q: if compact { [0, d] } else { [0, 3 * d] },
            kv: if compact { [0, d, 2 * d] } else { [d, 2 * d, 3 * d] },
            keys_at: self.ints.keys_at,
            seen_at: self.ints.seen_at,
            site: self.site(DropoutSite::Attention(l)),
        }
    }

    pub fn heads<'b>(&'b self, l: usize, block: &'b Block<wgpu::Buffer>) -> Heads<'b> {
        Heads {
            ints: &self.buffers.list,
            q: if self.compact(l) { &block.q } else { &block.qkv },
            kv: &block.qkv,
            bits: &block.bits,
            out: &block.heads,
            stats: &block.attention_stats,
        }
    }

    /// Gathers, scatters and so on, of `rows`.
    pub fn move_rows(
        &self,
        op: RowsOp,
        rows: RowSet,
        from: &wgpu::Buffer,
        to: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let RowSet { rows, capacity, rows_at } = rows;
        let (hidden, length) = (self.shared.config.hidden, self.sizes.length);
        let rows = Rows { rows, capacity, hidden, length, rows_at };
        self.recorder.borrow_mut().rows(op, rows, &self.buffers.list, from, to)
    }

    #[expect(clippy::too_many_arguments, reason = "the operands of a linear map")]
    /// out = end(a W[.., columns] + bias), for outputs `columns` of `map`.
    pub fn map(
        &self,
        end: End,
        map: &Map,
        columns: std::ops::Range<usize>,
        rows: RowSet,
        site: Site,
        [a, out]: [&wgpu::Buffer; 2],
        extra: Option<&wgpu::Buffer>,
        active: Option<&wgpu::Buffer>,
    ) -> Result<(), GpuError> {
        let (at, b_inner, b_col) = self.strides(map);
        let shape = Linear {
            b_at: at + columns.start as u32 * b_col,
            b_inner,
            b_col,
            bias: (map.bias.start + columns.start) as u32,
            ..Linear::dense(rows.rows, map.inputs, columns.len()).dropped(
                site,
                self.sizes.length,
                rows.rows_at,
            )
        };
        self.product(end, &shape, rows.capacity, a, self.shared.params, extra, out, active)
    }

    /// A product with `b`; see [`Recorder::linear`].
    #[expect(clippy::too_many_arguments, reason = "the operands of a product")]
    pub fn product(
        &self,
        end: End,
        shape: &Linear,
        capacity: usize,
        a: &wgpu::Buffer,
        b: &wgpu::Buffer,
        extra: Option<&wgpu::Buffer>,
        out: &wgpu::Buffer,
        active: Option<&wgpu::Buffer>,
    ) -> Result<(), GpuError> {
        let operands =
            Operands { a, b, params: self.shared.params, extra, ints: &self.buffers.list, out, active };
        self.recorder.borrow_mut().linear(end, self.shared.config.activation, shape, capacity, operands)
    }
}
