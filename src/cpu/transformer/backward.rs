//! A group back through the model, after [`Pass::run`].

use super::activation::gelu_backward;
use super::attention::{self, Backward};
use super::embedding::{TableGradients, embed_backward, embedding_norm_backward};
use super::forward::Pass;
use super::net::norm_gradient;
use super::norm::{add, column_sums, layer_norm_backward};
use super::residual::{drop_rows, scatter_add};
use super::workspace::{Buffer, Workspace, copied, sized, zeroed};
use curricle_core::model::loss::Loss;
use curricle_core::model::transformer::DropoutSite;

impl Pass<'_> {
    /// Cross-entropy of the group's reads against their targets; writes dL/dlogits of `scale` times the sum.
    pub fn loss(&self, targets: &[f32], scale: f32, w: &mut Workspace) -> f64 {
        let vocab = self.net.config.vocab;
        let logits = &w.head.logits;
        let d = sized(&mut w.gradients.d_logits, logits.len());
        let mut total = 0.0;
        let rows = logits.chunks_exact(vocab).zip(targets.chunks_exact(vocab)).zip(d.chunks_exact_mut(vocab));
        for ((logits, target), d) in rows {
            total += f64::from(Loss::CrossEntropy.gradient(logits, target, d));
            d.iter_mut().for_each(|d| *d *= scale);
        }
        total
    }

    /// Adds the gradient of every parameter to `gradient`, starting from `w.gradients.d_logits`. Where the first layer uses
    /// tables, its projections' and the embeddings' gradients go to `tables` instead.
    pub fn backward(&self, w: &mut Workspace, gradient: &mut [f32], tables: &mut TableGradients) {
        self.head_backward(w, gradient);
        for l in (0..self.net.config.layers).rev() {
            self.layer_backward(l, w, gradient, tables);
        }
        self.embeddings_backward(w, gradient, tables);
    }

    /// From dL/dlogits to the gradient of the last block's output, in `w.gradients.out`.
    fn head_backward(&self, w: &mut Workspace, gradient: &mut [f32]) {
        let Self { net, values, group, .. } = *self;
        let (layers, hidden) = (net.config.layers, net.config.hidden);
        let (h, g) = (&w.head, &mut w.gradients);
        let count = group.reads.len();
        net.head.weight_gradient(&h.normed, &g.d_logits, gradient);
        if let Some(bias) = &net.layout.head_bias {
            column_sums(net.isa, &g.d_logits, &mut gradient[bias.clone()]);
        }
        let d_normed = sized(&mut g.head, count * hidden);
        net.head.input_gradient(values, &g.d_logits, d_normed, false);
        let only = self.reads_only(layers - 1);
        let input: &[f32] = if only { &w.x[layers] } else { &h.gathered };
        let d_input = sized(&mut g.middle, count * hidden);
        let weight = &values[net.layout.final_norm.weight.clone()];
        let into = norm_gradient(gradient, &net.layout.final_norm);
        match (&net.transform, &net.layout.transform) {
            (Some(map), Some(layout)) => {
                let d = sized(&mut g.attended, count * hidden);
                layer_norm_backward(net.isa, &h.activated, &h.statistics, weight, d_normed, d, false, into);
                let sums = &mut gradient[layout.bias.clone()];
                gelu_backward(net.isa, net.config.activation, &h.transformed, d, sums);
                map.weight_gradient(input, d, gradient);
                map.input_gradient(values, d, d_input, false);
            }
            _ => layer_norm_backward(net.isa, input, &h.statistics, weight, d_normed, d_input, false, into),
        }
        let out = sized(&mut g.out, self.queries(layers - 1) * hidden);
        if only {
            out.copy_from_slice(d_input);
        } else {
            out.fill(0.0);
            scatter_add(d_input, &group.reads, hidden, out);
        }
    }

    /// From the gradient of block l's output in `w.gradients.out` to that of its input, in the same place.
    fn layer_backward(&self, l: usize, w: &mut Workspace, gradient: &mut [f32], tables: &mut TableGradients) {
        let Self { net, values, group, .. } = *self;
        let (layout, maps, hidden) = (&net.layout.layers[l], &net.layers[l], net.config.hidden);
        let (rows, queries) = (group.rows(), self.queries(l));
        let only = self.query_rows(l);
        let pre = net.pre_norm();
        let weight = |range: &std::ops::Range<usize>| &values[range.clone()];
        let (b, g) = (&w.layers[l], &mut w.gradients);

        // BERT's last layer norm; `middle` then holds the gradient of the sum before it.
        let d_middle = sized(&mut g.middle, queries * hidden);
        if pre {
            d_middle.copy_from_slice(&g.out);
        } else {
            let into = norm_gradient(gradient, &layout.norm2);
            let scale = weight(&layout.norm2.weight);
            layer_norm_backward(net.isa, &b.sums, &b.sums_statistics, scale, &g.out, d_middle, false, into);
        }
        // The MLP.
        let site = DropoutSite::MlpOutput(l);
        let d = self.dropped(site, only, d_middle, &mut g.dropped, &mut w.factors);
        maps.down.weight_gradient(&b.activated, d, gradient);
        column_sums(net.isa, d, &mut gradient[layout.down.bias.clone()]);
        let d_inner = sized(&mut g.inner, queries * net.config.inner);
        maps.down.input_gradient(values, d, d_inner, false);
        let sums = &mut gradient[layout.up.bias.clone()];
        gelu_backward(net.isa, net.config.activation, &b.up, d_inner, sums);
        maps.up.weight_gradient(&b.mlp_input, d_inner, gradient);
        let d_mlp = sized(&mut g.mlp_input, queries * hidden);
        maps.up.input_gradient(values, d_inner, d_mlp, false);
        // The layer norm before the MLP; the residual passes by it in GPT-2 and through it in BERT.
        let norm = if pre { &layout.norm2 } else { &layout.norm1 };
        if !pre {
            add(net.isa, d_middle, d_mlp);
        }
        let into = norm_gradient(gradient, norm);
        layer_norm_backward(
            net.isa,
            &b.middle,
            &b.mlp_statistics,
            weight(&norm.weight),
            d_mlp,
            d_middle,
            pre,
            into,
        );

        // Attention.
        let site = DropoutSite::AttentionOutput(l);
        let d = self.dropped(site, only, d_middle, &mut g.dropped, &mut w.factors);
        maps.projection.weight_gradient(&b.attended, d, gradient);
        column_sums(net.isa, d, &mut gradient[layout.projection.bias.clone()]);
        let d_attended = sized(&mut g.attended, queries * hidden);
        maps.projection.input_gradient(values, d, d_attended, false);
        // The residual: the gradient of the block's input.
        let d_x = match only {
            Some(only) => {
                let d_x = zeroed(&mut g.x, rows * hidden);
                scatter_add(d_middle, only, hidden, d_x);
                d_x
            }
            None => copied(&mut g.x, d_middle),
        };
        let table = self.tables.filter(|_| l == 0);
        let (q, kv) = table.map_or((&b.q[..], &b.kv[..]), |t| (&t.q[..], &t.kv[..]));
        let (d_q, d_kv) = match table {
            Some(_) => (&mut tables.q[..], &mut tables.kv[..]),
            None => (zeroed(&mut g.q, queries * hidden), zeroed(&mut g.kv, rows * 2 * hidden)),
        };
        for s in 0..group.sequences.len() {
            let (sequence, own) = self.sequence(l, s, q, kv);
            let part = own.start * hidden..own.end * hidden;
            let backward = Backward {
                out: &b.attended[part.clone()],
                statistics: &b.softmax[own.start * net.config.heads..own.end * net.config.heads],
                d_out: &d_attended[part],
                d_q: &mut *d_q,
                d_kv: &mut *d_kv,
            };
            attention::backward(net.isa, sequence, &mut w.attention, backward);
        }
        if table.is_none() {
            let input: &[f32] = if pre { &b.normed } else { &w.x[l] };
            let q_input = if only.is_some() { &b.q_input[..] } else { input };
            maps.q.weight_gradient(q_input, d_q, gradient);
            maps.kv.weight_gradient(input, d_kv, gradient);
            let bias = &mut gradient[layout.qkv.bias.clone()];
            column_sums(net.isa, d_q, &mut bias[..hidden]);
            column_sums(net.isa, d_kv, &mut bias[hidden..]);
            let d_input = sized(&mut w.spare, rows * hidden);
            maps.kv.input_gradient(values, d_kv, d_input, false);
            match only {
                Some(only) => {
                    let d_rows = sized(&mut g.dropped, queries * hidden);
                    maps.q.input_gradient(values, d_q, d_rows, false);
                    scatter_add(d_rows, only, hidden, d_input);
                }
                None => maps.q.input_gradient(values, d_q, d_input, true),
            }
            if pre {
                let into = norm_gradient(gradient, &layout.norm1);
                let scale = weight(&layout.norm1.weight);
                let statistics = &b.normed_statistics;
                layer_norm_backward(net.isa, &w.x[l], statistics, scale, d_input, d_x, true, into);
            } else {
                add(net.isa, d_input, d_x);
            }
        }
        std::mem::swap(&mut g.x, &mut g.out);
    }

    /// `d` with the rows' dropout of a site, in `into` if there is any.
    fn dropped<'b>(
        &self,
        site: DropoutSite,
        rows: Option<&[u32]>,
        d: &'b [f32],
        into: &'b mut Buffer,
        factors: &mut Vec<f32>,
    ) -> &'b [f32] {
        let Some(mask) = self.row_mask(site) else { return d };
        let into = copied(into, d);
        drop_rows(self.net.isa, rows, mask, self.net.config.hidden, factors, into);
        into
    }

    /// From the gradient of the first block's input to the tables, or to the embedding matrices.
    fn embeddings_backward(&self, w: &mut Workspace, gradient: &mut [f32], tables: &mut TableGradients) {
        let Self { net, values, group, .. } = *self;
        let width = net.config.hidden;
        let d = &mut w.gradients.out;
        if let (Some(_), Some(index)) = (self.tables, group.table) {
            scatter_add(d, index, width, &mut tables.x);
            return;
        }
        if let Some(mask) = self.row_mask(DropoutSite::Embedding) {
            drop_rows(net.isa, None, mask, width, &mut w.factors, d);
        }
        embedding_norm_backward(net, values, &w.sums, &w.sums_statistics, d, &mut w.spare, gradient);
        embed_backward(net, group.tokens(), d, gradient);
    }
}
