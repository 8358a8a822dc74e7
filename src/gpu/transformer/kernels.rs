//! One kernel at a time, numbers in and numbers out, blocking: for tests. Nothing here is fast.

use super::attention::{Attention, Heads, bit_words};
use super::batch::Ints;
use super::embed::Embedding;
use super::head::Loss;
use super::linear::{End, Linear, Operands, scratch};
use super::norm::LayerNorm;
use super::recorder::{NONE, READS, Recorder, Site, Step, split};
use super::rows::{Rows, RowsOp};
use super::{adam, norm};
use crate::blocking::wait_for;
use crate::context::Launch;
use crate::{GpuContext, GpuError};
use curricle_core::model::transformer::{
    Activation, DropoutSite, Layout, Norm, TokenBatch, TransformerConfig, dropout_threshold,
};
use curricle_core::optim::AdamSettings;

/// Which elements are dropped.
#[derive(Debug, Clone, Copy)]
pub struct Dropped {
    /// Key of the masks.
    pub seed: u64,
    /// Running number of the first sequence.
    pub first: u64,
    /// Where.
    pub site: DropoutSite,
    /// Probability.
    pub p: f32,
}

fn site(dropped: Option<Dropped>) -> Site {
    dropped.map_or(Site::default(), |d| Site {
        stream: d.site.stream().word(),
        threshold: dropout_threshold(d.p),
        keep: 1.0 / (1.0 - d.p),
    })
}

fn step(dropped: Option<Dropped>, reads: usize) -> Step {
    let (seed, first) = dropped.map_or((0, 0), |d| (d.seed, d.first));
    Step { seed: split(seed), first: split(first), reads: reads as u32, ..Step::default() }
}

/// Records with `record` and waits.
fn run(
    context: &GpuContext,
    step: Step,
    record: impl FnOnce(&mut Recorder<'_>) -> Result<(), GpuError>,
) -> Result<(), GpuError> {
    let (step, spare) = (context.uniform(&step)?, context.storage("nothing", 4)?);
    let mut recorder = Recorder::new(context, &step, &spare);
    record(&mut recorder)?;
    let launches: Vec<Launch> = recorder.launches.iter().map(|l| l.launch.clone()).collect();
    wait_for(context, context.wait(context.submit(&launches)))
}

fn read<T: bytemuck::Pod>(
    context: &GpuContext,
    buffer: &wgpu::Buffer,
    first: u64,
    len: usize,
) -> Result<Vec<T>, GpuError> {
    wait_for(context, context.read(buffer, first, len))
}

fn positive(what: &str, sizes: &[usize]) -> Result<(), GpuError> {
    if sizes.contains(&0) { Err(GpuError::Refused(format!("{what} of size 0"))) } else { Ok(()) }
}

fn lengths(what: &str, found: &[(usize, usize)]) -> Result<(), GpuError> {
    match found.iter().find(|(found, expected)| found != expected) {
        Some((found, expected)) => {
            Err(GpuError::Refused(format!("{what}: {found} numbers, expected {expected}")))
        }
        None => Ok(()),
    }
}

/// What becomes of a product a b, [rows, inner] times [inner, cols].
#[derive(Debug, Clone, Copy)]
pub enum ProductEnd<'a> {
    /// + bias [cols].
    Bias(&'a [f32]),
    /// + bias, then gelu; both are returned, the gelu second.
    Gelu(&'a [f32], Activation),
    /// Dropout of product + bias, then + residual [rows, cols]; sequences are `length` rows long.
    Residual {
        /// [cols].
        bias: &'a [f32],
        /// [rows, cols].
        residual: &'a [f32],
        /// Rows per sequence.
        length: usize,
        /// Dropout.
        dropped: Option<Dropped>,
    },
    /// Times the derivative of gelu at these [rows, cols].
    GeluBack(&'a [f32], Activation),
    /// Added to this gradient [rows, cols], and the column sums of b to this bias gradient [cols], which is returned second.
    Gradient(&'a [f32], &'a [f32]),
}

/// One product. `transposed`: a is stored [inner, rows], b is stored [cols, inner].
///
/// # Errors
/// If lengths disagree or the device fails.
pub fn product(
    context: &GpuContext,
    [rows, inner, cols]: [usize; 3],
    [a, b]: [&[f32]; 2],
    transposed: [bool; 2],
    end: ProductEnd<'_>,
) -> Result<(Vec<f32>, Vec<f32>), GpuError> {
    positive("a matrix", &[rows, inner, cols])?;
    lengths("a product", &[(a.len(), rows * inner), (b.len(), inner * cols)])?;
    let mut shape = Linear::dense(rows as u32, inner, cols);
    if transposed[0] {
        (shape.a_row, shape.a_inner) = (1, rows as u32);
    }
    if transposed[1] {
        (shape.b_inner, shape.b_col) = (1, inner as u32);
    }
    let [a, b] = [context.upload("a", a)?, context.upload("b", b)?];
    let ints = context.storage("no list", 4)?;
    let (bias, extra) = match end {
        ProductEnd::Bias(bias) | ProductEnd::Gelu(bias, _) => (bias, &[][..]),
        ProductEnd::Residual { bias, residual, .. } => (bias, residual),
        ProductEnd::GeluBack(x, _) => (&[][..], x),
        ProductEnd::Gradient(..) => (&[][..], &[][..]),
    };
    let params = context.upload("bias", bias)?;
    shape.bias = if bias.is_empty() { NONE } else { 0 };
    let extra = context.upload("extra", extra)?;
    let active = context.storage("active", (rows * cols) as u64)?;
    if let ProductEnd::Gradient(weight, bias) = end {
        let out = context.upload("gradient", &[weight, bias].concat())?;
        shape.bias = weight.len() as u32;
        let scratch = context.storage("partial sums", scratch(rows, cols, inner) as u64)?;
        let operands =
            Operands { a: &a, b: &b, params: &params, extra: None, ints: &ints, out: &out, active: None };
        run(context, step(None, 0), |r| r.gradient(&shape, 0, operands, &scratch))?;
        let size = weight.len();
        return Ok((read(context, &out, 0, size)?, read(context, &out, size as u64, bias.len())?));
    }
    let out = context.storage("product", (rows * cols) as u64)?;
    let (kind, activation, dropped) = match end {
        ProductEnd::Gelu(_, activation) => (End::Gelu, activation, None),
        ProductEnd::GeluBack(_, activation) => (End::GeluBack, activation, None),
        ProductEnd::Residual { length, dropped, .. } => {
            shape = shape.dropped(site(dropped), length, NONE);
            (End::Residual, Activation::Gelu, dropped)
        }
        _ => (End::Plain, Activation::Gelu, None),
    };
    let operands = Operands {
        a: &a,
        b: &b,
        params: &params,
        extra: Some(&extra),
        ints: &ints,
        out: &out,
        active: Some(&active),
    };
    run(context, step(dropped, 0), |r| r.linear(kind, activation, &shape, 0, operands))?;
    Ok((read(context, &out, 0, rows * cols)?, read(context, &active, 0, rows * cols)?))
}

/// What attention is computed for.
#[derive(Debug, Clone, Copy)]
pub struct AttentionCase<'a> {
    /// Batch size.
    pub sequences: usize,
    /// Tokens per sequence.
    pub length: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether queries see earlier keys only.
    pub causal: bool,
    /// 0 hides a key, [sequences * length].
    pub keys: Option<&'a [u8]>,
    /// Compute only these queries (ascending flat positions).
    pub reads: Option<&'a [u32]>,
    /// Dropout of probabilities.
    pub dropped: Option<Dropped>,
}

/// Attention of `qkv` [positions, 3 * hidden] and its way back from `dout` [queries, hidden]: (output, gradient of qkv), both of
/// the queries asked for; queries that were not have gradient 0.
///
/// # Errors
/// If lengths disagree or the device fails.
pub fn attention(
    context: &GpuContext,
    case: &AttentionCase<'_>,
    qkv: &[f32],
    dout: &[f32],
) -> Result<(Vec<f32>, Vec<f32>), GpuError> {
    let &AttentionCase { sequences, length, heads, head_dim, causal, keys, reads, dropped } = case;
    positive("attention", &[sequences, length, heads, head_dim])?;
    let (d, n) = (heads * head_dim, sequences * length);
    let count = reads.map_or(n, <[u32]>::len);
    lengths("attention", &[(qkv.len(), 3 * n * d), (dout.len(), count * d)])?;
    let layout = Ints::new(sequences, length, count, 1);
    let tokens = vec![0; n];
    let batch = TokenBatch { keys, ..TokenBatch::new(sequences, length, &tokens) };
    let list = context.upload("list", &layout.fill(&batch, reads.unwrap_or(&[]), 1, None))?;
    let attention = Attention {
        sequences,
        length,
        heads,
        head_dim,
        causal,
        rows: if reads.is_some() { READS } else { n as u32 },
        capacity: count,
        rows_at: if reads.is_some() { layout.rows_at } else { NONE },
        starts_at: layout.starts_at,
        q: [0, 3 * d as u32],
        kv: [d as u32, 2 * d as u32, 3 * d as u32],
        keys_at: layout.keys_at,
        seen_at: layout.seen_at,
        site: site(dropped),
    };
    // Where only some queries are wanted, they lie in rows of their own.
    let (mut attention, mut q) = (attention, context.upload("qkv", qkv)?);
    let kv = q.clone();
    if let Some(reads) = reads {
        let rows: Vec<f32> = reads.iter().flat_map(|r| &qkv[*r as usize * 3 * d..][..d]).copied().collect();
        q = context.upload("queries", &rows)?;
        attention.q = [0, d as u32];
    }
    let bits = context.storage("bits", bit_words(count, heads, length) as u64)?;
    let [out, stats] =
        [context.storage("out", (count * d) as u64)?, context.storage("stats", 2 * (count * heads) as u64)?];
    let dout = context.upload("gradient", dout)?;
    let dkv = context.storage("gradient", (3 * n * d) as u64)?;
    let dq = if reads.is_some() { context.storage("gradient", (count * d) as u64)? } else { dkv.clone() };
    let buffers = Heads { ints: &list, q: &q, kv: &kv, bits: &bits, out: &out, stats: &stats };
    run(context, step(dropped, count), |r| {
        r.attention(&attention, buffers)?;
        r.attention_back(&attention, buffers, &dout, &dq, &dkv)
    })?;
    let mut gradient: Vec<f32> = read(context, &dkv, 0, 3 * n * d)?;
    if let Some(reads) = reads {
        let rows: Vec<f32> = read(context, &dq, 0, count * d)?;
        for (r, row) in reads.iter().zip(rows.chunks_exact(d)) {
            gradient[*r as usize * 3 * d..][..d].copy_from_slice(row);
        }
    }
    Ok((read(context, &out, 0, count * d)?, gradient))
}

/// Layer norm of `x` [rows, hidden] and its way back from `dy`: (y, dx, gradient of weight, gradient of bias).
///
/// # Errors
/// If lengths disagree or the device fails.
pub fn layer_norm(
    context: &GpuContext,
    [rows, hidden]: [usize; 2],
    eps: f64,
    x: &[f32],
    [weight, bias]: [&[f32]; 2],
    dy: &[f32],
) -> Result<[Vec<f32>; 4], GpuError> {
    positive("layer norm", &[rows, hidden])?;
    let size = rows * hidden;
    lengths(
        "layer norm",
        &[(x.len(), size), (dy.len(), size), (weight.len(), hidden), (bias.len(), hidden)],
    )?;
    let place = Norm { weight: 0..hidden, bias: hidden..2 * hidden };
    let params = context.upload("parameters", &[weight, bias].concat())?;
    let [x, dy] = [context.upload("x", x)?, context.upload("dy", dy)?];
    let [y, dx] = [context.storage("y", size as u64)?, context.storage("dx", size as u64)?];
    let stats = context.storage("stats", 2 * rows as u64)?;
    let grads = context.storage("gradient", 2 * hidden as u64)?;
    let scratch = context.storage("partial sums", norm::scratch(rows, hidden) as u64)?;
    let layer =
        LayerNorm { norm: &place, eps, rows: rows as u32, capacity: rows, hidden, x: &x, stats: &stats };
    run(context, step(None, 0), |r| {
        r.norm(layer, &params, &y)?;
        r.norm_back(layer, [&params, &grads, &scratch], &dy, None, &dx)
    })?;
    Ok([
        read(context, &y, 0, size)?,
        read(context, &dx, 0, size)?,
        read(context, &grads, 0, hidden)?,
        read(context, &grads, hidden as u64, hidden)?,
    ])
}

/// Embeddings of a batch [positions, hidden], and the gradient of all parameters from `dx`, the gradient at them.
///
/// # Errors
/// If lengths disagree or the device fails.
pub fn embeddings(
    context: &GpuContext,
    config: &TransformerConfig,
    params: &[f32],
    batch: &TokenBatch<'_>,
    dropped: Option<Dropped>,
    dx: &[f32],
) -> Result<(Vec<f32>, Vec<f32>), GpuError> {
    config.check().map_err(|e| GpuError::Refused(e.to_string()))?;
    batch.check(config).map_err(|e| GpuError::Refused(e.to_string()))?;
    let (size, n) = (config.parameters(), batch.positions() * config.hidden);
    lengths("embeddings", &[(params.len(), size), (dx.len(), n)])?;
    let layout = Layout::new(config);
    let ints = Ints::new(batch.sequences, batch.length, 1, config.vocab);
    let list = context.upload("list", &ints.fill(batch, &[0], config.vocab, config.pad_token))?;
    let params = context.upload("parameters", params)?;
    let grads = context.storage("gradient", size as u64)?;
    let out = context.storage("embeddings", n as u64)?;
    let dx = context.upload("gradient", dx)?;
    let [segments, sums] = Embedding::scratch(&ints, batch.length, config.hidden)
        .map(|n| context.storage("partial sums", n as u64));
    let (segments, sums) = (segments?, sums?);
    let embedding = Embedding {
        layout: &layout,
        ints: &ints,
        list: &list,
        sequences: batch.sequences,
        length: batch.length,
        hidden: config.hidden,
        site: site(dropped),
    };
    run(context, step(dropped, 1), |r| {
        r.embed(embedding, &params, &out)?;
        r.embed_back(embedding, &dx, &grads, [&segments, &sums])
    })?;
    Ok((read(context, &out, 0, n)?, read(context, &grads, 0, size)?))
}

/// `x` [reads, hidden] with dropout; row r is position `reads[r]`.
///
/// # Errors
/// If lengths disagree or the device fails.
pub fn dropout(
    context: &GpuContext,
    [length, hidden]: [usize; 2],
    reads: &[u32],
    x: &[f32],
    dropped: Dropped,
) -> Result<Vec<f32>, GpuError> {
    positive("dropout", &[length, hidden, reads.len()])?;
    lengths("dropout", &[(x.len(), reads.len() * hidden)])?;
    let list = context.upload("list", reads)?;
    let (x, y) = (context.upload("x", x)?, context.storage("y", x.len() as u64)?);
    let rows = Rows { rows: READS, capacity: reads.len(), hidden, length, rows_at: 0 };
    let op = RowsOp::Drop(site(Some(dropped)));
    run(context, step(Some(dropped), reads.len()), |r| r.rows(op, rows, &list, &x, &y))?;
    read(context, &y, 0, reads.len() * hidden)
}

/// Sum of the soft cross-entropies of `logits` [rows, vocab] and the gradient of their mean.
///
/// # Errors
/// If lengths disagree or the device fails.
pub fn cross_entropy(
    context: &GpuContext,
    vocab: usize,
    logits: &[f32],
    targets: &[f32],
) -> Result<(f32, Vec<f32>), GpuError> {
    positive("cross-entropy", &[vocab, logits.len()])?;
    let rows = logits.len() / vocab;
    lengths("cross-entropy", &[(logits.len(), rows * vocab), (targets.len(), rows * vocab)])?;
    let (z, targets) = (context.upload("logits", logits)?, context.upload("targets", targets)?);
    let losses = context.storage("losses", rows as u64)?;
    let results = context.storage("results", 4)?;
    let loss = Loss { logits: &z, targets: &targets, losses: &losses, results: &results };
    let step = Step { scale: 1.0 / rows as f32, ..step(None, rows) };
    run(context, step, |r| r.cross_entropy(vocab, rows, loss))?;
    Ok((read::<f32>(context, &results, 0, 1)?[0], read(context, &z, 0, logits.len())?))
}

/// Parameters after updates with these gradients, one after the other, at one learning rate; and the norm of the last gradient.
///
/// # Errors
/// If lengths disagree or the device fails.
pub fn adam(
    context: &GpuContext,
    settings: &AdamSettings,
    rate: f32,
    params: &[f32],
    decays: &[bool],
    gradients: &[Vec<f32>],
) -> Result<(Vec<f32>, f32), GpuError> {
    let size = params.len();
    positive("a model", &[size])?;
    lengths("Adam", &[(decays.len(), size)])?;
    let mut bits = vec![0u32; size.div_ceil(32)];
    for i in (0..size).filter(|i| decays[*i]) {
        bits[i / 32] |= 1 << (i % 32);
    }
    let params = context.upload("parameters", params)?;
    let decays = context.upload("decay", &bits)?;
    let [gradient, moments, partial, results] =
        [size, 2 * size, adam::PARTIAL, 4].map(|n| context.storage("Adam", n as u64));
    let (gradient, moments, partial, results) = (gradient?, moments?, partial?, results?);
    for (t, values) in gradients.iter().enumerate() {
        lengths("Adam", &[(values.len(), size)])?;
        context.write(&gradient, 0, values);
        let power = |beta: f32| 1.0 - f64::from(beta).powi(t as i32 + 1);
        let step = Step {
            rate,
            correction1: power(settings.betas.0) as f32,
            correction2: power(settings.betas.1).sqrt() as f32,
            ..Step::default()
        };
        let buffers = adam::Moments {
            params: &params,
            gradient: &gradient,
            moments: &moments,
            decays: &decays,
            partial: &partial,
            results: &results,
        };
        run(context, step, |r| r.adam(size, settings, buffers))?;
    }
    Ok((read(context, &params, 0, size)?, read::<f32>(context, &results, 1, 1)?[0]))
}
