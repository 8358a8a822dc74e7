// Multi-head attention without an n x n matrix of numbers: one thread per query (or key), tiles of the other side in workgroup
// memory, an online softmax, and per query only the logarithm of its normaliser for the way back (Dao et al., FlashAttention,
// 2022). Dropped probabilities are a bit each, drawn once by `draw`: the generator costs more than a head of width 8.
//
// HD: head width, HV: vec4s of it, KT: rows of a tile, AT_ONCE: keys whose largest score rescales the sums at once. Rows of queries are positions b * length + t, or, with rows_at, any
// ascending list of them whose part of sequence b is starts[b] .. starts[b + 1].
struct Attention {
    length: u32,
    heads: u32,
    q_at: u32,
    q_row: u32,
    k_at: u32,
    v_at: u32,
    kv_row: u32,
    rows_at: u32, // in `ints`, or NONE
    starts_at: u32,
    keys_at: u32, // 0 where a key is hidden
    seen_at: u32, // per sequence: its first key that is not hidden
    causal: u32,
    words: u32, // of bits per query and head
    stream: u32,
    threshold: u32,
    keep: f32,
    scale: f32,
    rows: u32,
}
@group(0) @binding(0) var<uniform> att: Attention;
@group(0) @binding(2) var<storage, read> ints: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read> kv: array<f32>;

const NONE: u32 = 0xffffffffu;
const LOW: f32 = -1e30; // less than any score; infinities are not safe in WGSL

// Query rows of sequence b. Like every function whose value steers loops with barriers it returns in one place: Direct3D's FXC takes
// what an early return leaves behind for possibly uninitialised, and refuses barriers that depend on it.
fn rows_of(b: u32) -> vec2<u32> {
    var rows = vec2<u32>(b, b + 1u) * att.length;
    if (att.rows_at != NONE) {
        rows = vec2<u32>(ints[att.starts_at + b], ints[att.starts_at + b + 1u]);
    }
    return rows;
}

fn position_of(row: u32) -> u32 {
    var position = row;
    if (att.rows_at != NONE) {
        position = ints[att.rows_at + row];
    }
    return position;
}

// Keys 0 .. limit are allowed to the query at t.
fn limit_of(t: u32) -> u32 {
    return select(att.length, t + 1u, att.causal == 1u);
}

// Whether a head has column c; known when the kernel is compiled where HD is a multiple of 4.
fn within(c: u32) -> bool {
    return HD % 4u == 0u || c < HD;
}

// Columns c .. c + 3, with zeros past the last. By component: FXC unrolls everything around a store to v[i].
fn q4(at: u32, c: u32) -> vec4<f32> {
    var v = vec4<f32>(q[at + c], 0.0, 0.0, 0.0);
    if (within(c + 1u)) {
        v.y = q[at + c + 1u];
    }
    if (within(c + 2u)) {
        v.z = q[at + c + 2u];
    }
    if (within(c + 3u)) {
        v.w = q[at + c + 3u];
    }
    return v;
}

fn kv4(at: u32, c: u32) -> vec4<f32> {
    var v = vec4<f32>(kv[at + c], 0.0, 0.0, 0.0);
    if (within(c + 1u)) {
        v.y = kv[at + c + 1u];
    }
    if (within(c + 2u)) {
        v.z = kv[at + c + 2u];
    }
    if (within(c + 3u)) {
        v.w = kv[at + c + 3u];
    }
    return v;
}

fn total(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}
