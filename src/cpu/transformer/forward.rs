//! A group through the model.

use super::activation::bias_gelu;
use super::attention::{self, Sequence};
use super::dropout::Mask;
use super::embedding::{Tables, embed};
use super::group::Group;
use super::net::Net;
use super::norm::layer_norm;
use super::residual::{RowMask, add_residual, drop_rows, gather};
use super::workspace::{Workspace, sized};
use curricle_core::model::transformer::DropoutSite;

/// One pass: the model, its values, the group, the first layer's tables if the group uses them, and dropout's seed.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    pub net: &'a Net,
    pub values: &'a [f32],
    pub group: &'a Group<'a>,
    pub tables: Option<&'a Tables>,
    pub dropout_seed: Option<u64>,
}

impl<'a> Pass<'a> {
    /// Dropout of rows at a site.
    pub fn row_mask(&self, site: DropoutSite) -> Option<RowMask> {
        let dropout = self.net.config.dropout;
        let p = if site == DropoutSite::Embedding { dropout.embedding } else { dropout.residual };
        let mask = Mask::new(self.dropout_seed, site, p)?;
        Some(RowMask { mask, first: self.group.first(), length: self.group.batch.length })
    }

    /// Whether layer l computes only the rows that are read.
    pub fn reads_only(&self, layer: usize) -> bool {
        self.net.savings && layer + 1 == self.net.config.layers
    }

    /// Local rows of layer l's queries, if not all.
    pub fn query_rows(&self, layer: usize) -> Option<&'a [u32]> {
        self.reads_only(layer).then_some(&self.group.reads[..])
    }

    /// Number of rows layer l puts out.
    pub fn queries(&self, layer: usize) -> usize {
        self.query_rows(layer).map_or(self.group.rows(), <[u32]>::len)
    }

    /// The tables, in the first layer.
    fn layer_tables(&self, layer: usize) -> Option<&'a Tables> {
        self.tables.filter(|_| layer == 0)
    }

    /// Attention of sequence s in layer l, and its queries among the layer's.
    pub fn sequence(
        &self,
        layer: usize,
        s: usize,
        q: &'a [f32],
        kv: &'a [f32],
    ) -> (Sequence<'a>, std::ops::Range<usize>) {
        let Self { net, group, .. } = *self;
        let length = group.batch.length;
        let rows = s * length..(s + 1) * length;
        let keys = group.k_starts[s]..group.k_starts[s + 1];
        let reads = group.read_starts[s]..group.read_starts[s + 1];
        let only = self.reads_only(layer);
        let queries = if only { reads.clone() } else { rows.clone() };
        let positions = if only { &group.read_positions[reads.clone()] } else { &group.counting[..length] };
        let (q_rows, k_rows, all_rows) = match group.table.filter(|_| self.layer_tables(layer).is_some()) {
            Some(table) => {
                let q_rows = if only { &group.read_table[reads] } else { &table[rows.clone()] };
                (q_rows, &group.k_table[keys.clone()], &table[rows])
            }
            None => (&group.counting[queries.clone()], &group.k_rows[keys.clone()], &group.counting[rows]),
        };
        let dropout = net.config.dropout.attention;
        let mask = Mask::new(self.dropout_seed, DropoutSite::Attention(layer), dropout);
        let sequence = Sequence {
            heads: net.config.heads,
            hidden: net.config.hidden,
            length,
            q,
            kv,
            bias: &self.values[net.layout.layers[layer].qkv.bias.clone()],
            q_rows,
            q_positions: positions,
            k_rows,
            k_positions: &group.k_positions[keys],
            all_rows,
            causal: net.pre_norm(),
            dropout: mask.map(|mask| (mask, group.first() + s as u64)),
        };
        (sequence, queries)
    }

    /// Embeddings into `w.x[0]`.
    pub fn embeddings(&self, w: &mut Workspace) {
        let Self { net, values, group, .. } = *self;
        let width = net.config.hidden;
        w.x.resize_with(net.config.layers + 1, Default::default);
        w.layers.resize_with(net.config.layers, Default::default);
        let x = sized(&mut w.x[0], group.rows() * width);
        if let (Some(tables), Some(index)) = (self.tables, group.table) {
            gather(&tables.x, index, width, x);
            return;
        }
        match &net.layout.embedding_norm {
            Some(norm) => {
                let sums = sized(&mut w.sums, x.len());
                embed(net, values, group.tokens(), sums);
                let statistics = sized(&mut w.sums_statistics, group.rows());
                layer_norm(net.isa, sums, net.norm(values, norm), x, statistics);
            }
            None => embed(net, values, group.tokens(), x),
        }
        if let Some(mask) = self.row_mask(DropoutSite::Embedding) {
            drop_rows(net.isa, None, mask, width, &mut w.factors, x);
        }
    }

    /// Layer l: from `w.x[l]` to `w.x[l + 1]`.
    pub fn layer(&self, l: usize, w: &mut Workspace) {
        let Self { net, values, group, .. } = *self;
        let (layout, maps, hidden) = (&net.layout.layers[l], &net.layers[l], net.config.hidden);
        let (rows, queries) = (group.rows(), self.queries(l));
        let (before, after) = w.x.split_at_mut(l + 1);
        let (x, next) = (&before[l][..], sized(&mut after[0], queries * hidden));
        let b = &mut w.layers[l];

        if self.layer_tables(l).is_none() {
            let input: &[f32] = if net.pre_norm() {
                let normed = sized(&mut b.normed, rows * hidden);
                let statistics = sized(&mut b.normed_statistics, rows);
                layer_norm(net.isa, x, net.norm(values, &layout.norm1), normed, statistics);
                normed
            } else {
                x
            };
            let q_input = match self.query_rows(l) {
                Some(only) => {
                    gather(input, only, hidden, sized(&mut b.q_input, queries * hidden));
                    &b.q_input[..]
                }
                None => input,
            };
            maps.q.forward(values, q_input, sized(&mut b.q, queries * hidden), false);
            maps.kv.forward(values, input, sized(&mut b.kv, rows * 2 * hidden), false);
        }
        let (q, kv) = self.layer_tables(l).map_or((&b.q[..], &b.kv[..]), |t| (&t.q[..], &t.kv[..]));
        let attended = sized(&mut b.attended, queries * hidden);
        let softmax = sized(&mut b.softmax, queries * net.config.heads);
        for s in 0..group.sequences.len() {
            let (sequence, own) = self.sequence(l, s, q, kv);
            let out = &mut attended[own.start * hidden..own.end * hidden];
            let statistics = &mut softmax[own.start * net.config.heads..own.end * net.config.heads];
            attention::forward(net.isa, sequence, &mut w.attention, out, statistics);
        }

        let middle = sized(&mut b.middle, queries * hidden);
        maps.projection.forward(values, attended, middle, false);
        let bias = |range: &std::ops::Range<usize>| &values[range.clone()];
        let (only, mask) = (self.query_rows(l), self.row_mask(DropoutSite::AttentionOutput(l)));
        add_residual(net.isa, x, only, only, bias(&layout.projection.bias), mask, &mut w.factors, middle);

        let mlp_norm = if net.pre_norm() { &layout.norm2 } else { &layout.norm1 };
        let mlp_input = sized(&mut b.mlp_input, queries * hidden);
        let statistics = sized(&mut b.mlp_statistics, queries);
        layer_norm(net.isa, middle, net.norm(values, mlp_norm), mlp_input, statistics);
        let up = sized(&mut b.up, queries * net.config.inner);
        let activated = sized(&mut b.activated, queries * net.config.inner);
        maps.up.forward(values, mlp_input, up, false);
        bias_gelu(net.isa, net.config.activation, up, bias(&layout.up.bias), activated);

        let mask = self.row_mask(DropoutSite::MlpOutput(l));
        if net.pre_norm() {
            maps.down.forward(values, activated, next, false);
            add_residual(net.isa, middle, None, only, bias(&layout.down.bias), mask, &mut w.factors, next);
        } else {
            let sums = sized(&mut b.sums, queries * hidden);
            maps.down.forward(values, activated, sums, false);
            add_residual(net.isa, mlp_input, None, only, bias(&layout.down.bias), mask, &mut w.factors, sums);
            let statistics = sized(&mut b.sums_statistics, queries);
            layer_norm(net.isa, sums, net.norm(values, &layout.norm2), next, statistics);
        }
    }

    /// Logits of the rows that are read, into `w.head.logits`.
    pub fn head(&self, w: &mut Workspace) {
        let Self { net, values, group, .. } = *self;
        let (layers, hidden) = (net.config.layers, net.config.hidden);
        let count = group.reads.len();
        let (h, x) = (&mut w.head, &w.x[layers][..]);
        let input: &[f32] = if self.reads_only(layers - 1) {
            x
        } else {
            gather(x, &group.reads, hidden, sized(&mut h.gathered, count * hidden));
            &h.gathered
        };
        let normed = sized(&mut h.normed, count * hidden);
        let statistics = sized(&mut h.statistics, count);
        let before_norm: &[f32] = match (&net.transform, &net.layout.transform) {
            (Some(map), Some(layout)) => {
                let transformed = sized(&mut h.transformed, count * hidden);
                let activated = sized(&mut h.activated, count * hidden);
                map.forward(values, input, transformed, false);
                bias_gelu(
                    net.isa,
                    net.config.activation,
                    transformed,
                    &values[layout.bias.clone()],
                    activated,
                );
                activated
            }
            _ => input,
        };
        layer_norm(net.isa, before_norm, net.norm(values, &net.layout.final_norm), normed, statistics);
        let logits = sized(&mut h.logits, count * net.config.vocab);
        net.head.forward(values, normed, logits, false);
        if let Some(bias) = &net.layout.head_bias {
            for row in logits.chunks_exact_mut(net.config.vocab) {
                super::norm::add(net.isa, &values[bias.clone()], row);
            }
        }
    }

    /// From tokens to the logits of the rows that are read.
    pub fn run(&self, w: &mut Workspace) {
        self.embeddings(w);
        for l in 0..self.net.config.layers {
            self.layer(l, w);
        }
        self.head(w);
    }
}
