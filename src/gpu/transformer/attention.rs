//! Multi-head attention both ways (`attention.wgsl`, `attention_*.wgsl`).

use super::recorder::{NONE, READS, Recorder, Site, read, source, write};
use crate::GpuError;
use crate::context::grid;

/// The widest head the kernels hold in registers.
pub(super) const WIDEST: usize = 128;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Uniform {
    length: u32,
    heads: u32,
    q_at: u32,
    q_row: u32,
    k_at: u32,
    v_at: u32,
    kv_row: u32,
    rows_at: u32,
    starts_at: u32,
    keys_at: u32,
    seen_at: u32,
    causal: u32,
    words: u32,
    stream: u32,
    threshold: u32,
    keep: f32,
    scale: f32,
    rows: u32,
    pad: [u32; 2],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Draw {
    length: u32,
    heads: u32,
    words: u32,
    rows: u32,
    rows_at: u32,
    stream: u32,
    threshold: u32,
    pad: u32,
}

/// One attention: its sizes, and where its queries, keys and values are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub sequences: usize,
    pub length: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub causal: bool,
    /// Query rows, or [`READS`] of at most `capacity`; then `rows_at` and `starts_at` say which positions they are.
    pub rows: u32,
    pub capacity: usize,
    pub rows_at: u32,
    pub starts_at: u32,
    /// First query, and distance from row to row.
    pub q: [u32; 2],
    /// First key, first value, and distance from row to row.
    pub kv: [u32; 3],
    /// Offsets in `ints`.
    pub keys_at: u32,
    pub seen_at: u32,
    pub site: Site,
}

/// Buffers of an attention.
#[derive(Clone, Copy)]
pub(super) struct Heads<'b> {
    pub ints: &'b wgpu::Buffer,
    pub q: &'b wgpu::Buffer,
    pub kv: &'b wgpu::Buffer,
    /// Dropped probabilities, [`bit_words`] words; any buffer without dropout.
    pub bits: &'b wgpu::Buffer,
    /// Output [rows, heads * head_dim].
    pub out: &'b wgpu::Buffer,
    /// Two numbers per row and head.
    pub stats: &'b wgpu::Buffer,
}

/// Words of dropped bits of `rows` queries.
pub(super) fn bit_words(rows: usize, heads: usize, length: usize) -> usize {
    rows * heads * length.div_ceil(32)
}

impl Attention {
    fn count(&self) -> usize {
        if self.rows == READS { self.capacity } else { self.rows as usize }
    }

    fn uniform(&self) -> Uniform {
        Uniform {
            length: self.length as u32,
            heads: self.heads as u32,
            q_at: self.q[0],
            q_row: self.q[1],
            k_at: self.kv[0],
            v_at: self.kv[1],
            kv_row: self.kv[2],
            rows_at: self.rows_at,
            starts_at: self.starts_at,
            keys_at: self.keys_at,
            seen_at: self.seen_at,
            causal: u32::from(self.causal),
            words: self.length.div_ceil(32) as u32,
            stream: self.site.stream,
            threshold: self.site.threshold,
            keep: if self.site.threshold == 0 { 1.0 } else { self.site.keep },
            scale: (1.0 / (self.head_dim as f64).sqrt()) as f32,
            rows: self.rows,
            pad: [0; 2],
        }
    }

    fn kernel(&self, part: &str) -> String {
        let quads = self.head_dim.div_ceil(4);
        // Two tiles of at most 8 KiB in all; a multiple of 8 rows.
        let tile = (512 / (2 * quads)).clamp(8, 64) / 8 * 8;
        // Wide heads are long loops already, which compilers unroll.
        let at_once = if quads <= 4 { 8 } else { 2 };
        let constants = [("HD", self.head_dim), ("HV", quads), ("KT", tile), ("AT_ONCE", at_once)];
        source(&constants, &[include_str!("attention.wgsl"), part])
    }

    /// Workgroups: the longest part of a sequence is `longest` queries or keys.
    fn groups(&self, longest: usize) -> [u32; 3] {
        [longest.div_ceil(64) as u32, self.heads as u32, self.sequences as u32]
    }

    /// Queries a sequence may have.
    fn queries(&self) -> usize {
        if self.rows_at == NONE { self.length } else { self.length.min(self.capacity) }
    }

    /// Multiplications and additions of one product of all queries and all keys.
    fn flops(&self) -> f64 {
        let all = 2.0 * self.count() as f64 * (self.length * self.heads * self.head_dim) as f64;
        if self.causal && self.rows_at == NONE { all / 2.0 } else { all }
    }
}

impl Recorder<'_> {
    pub fn attention(&mut self, attention: &Attention, heads: Heads<'_>) -> Result<(), GpuError> {
        let Heads { ints, q, kv, bits, out, stats } = heads;
        let count = attention.count();
        if attention.site.threshold != 0 {
            let uniform = attention.uniform();
            let draw = Draw {
                length: uniform.length,
                heads: uniform.heads,
                words: uniform.words,
                rows: attention.rows,
                rows_at: attention.rows_at,
                stream: uniform.stream,
                threshold: uniform.threshold,
                pad: 0,
            };
            let words = bit_words(count, attention.heads, attention.length);
            let source = source(&[], &[include_str!("../philox.wgsl"), include_str!("attention_draw.wgsl")]);
            let groups = grid(words.div_ceil(64) as u32);
            // About 100 operations per word of the generator, 8 blocks per word of bits.
            let flops = 1000.0 * words as f64;
            self.push("attention dropout", "run", &source, &draw, &[read(ints), write(bits)], groups, flops)?;
        }
        let source = attention.kernel(include_str!("attention_forward.wgsl"));
        let buffers = [read(ints), read(q), read(kv), read(bits), write(out), write(stats)];
        let groups = attention.groups(attention.queries());
        let flops = 2.0 * attention.flops();
        self.push("attention", "forward", &source, &attention.uniform(), &buffers, groups, flops)
    }

    /// Gradients of queries into `dq` and of keys and values into `dkv`, laid out as `q` and `kv`; the two may be the same.
    pub fn attention_back(
        &mut self,
        attention: &Attention,
        heads: Heads<'_>,
        dout: &wgpu::Buffer,
        dq: &wgpu::Buffer,
        dkv: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let Heads { ints, q, kv, bits, out, stats } = heads;
        let items = attention.count() * attention.heads;
        let uniform = [attention.rows, attention.heads as u32, 0, 0];
        let delta = source(&[("HD", attention.head_dim)], &[include_str!("attention_delta.wgsl")]);
        let buffers = [read(out), read(dout), write(stats)];
        let groups = grid(items.div_ceil(64) as u32);
        let flops = 2.0 * (items * attention.head_dim) as f64;
        self.push("attention delta", "run", &delta, &uniform, &buffers, groups, flops)?;
        let source = attention.kernel(include_str!("attention_backward.wgsl"));
        let uniform = attention.uniform();
        let buffers =
            |grad| [read(ints), read(q), read(kv), read(bits), read(stats), read(dout), write(grad)];
        let groups = attention.groups(attention.queries());
        let flops = 3.0 * attention.flops();
        self.push("attention, dq", "queries", &source, &uniform, &buffers(dq), groups, flops)?;
        let groups = attention.groups(attention.length);
        let flops = 4.0 * attention.flops();
        self.push("attention, dk dv", "keys", &source, &uniform, &buffers(dkv), groups, flops)
    }
}
