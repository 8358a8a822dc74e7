// Token, position and type embeddings, and their gradients. Nothing is added atomically: the host sorts the rows by token and cuts
// them into segments of at most 64; segment sums come first, then each token's sum over its segments.
struct Embed {
    rows: u32,
    hidden: u32,
    length: u32,
    words: u32, // first parameter of the tables
    positions: u32,
    types: u32, // NONE without
    tokens_at: u32, // the rest: offsets in `ints`
    order_at: u32,
    segments_at: u32, // number of segments, then where each begins in `order`
    tokens_used_at: u32, // number of distinct tokens, then (token, first segment) of each
    stream: u32,
    threshold: u32,
    keep: f32,
}
@group(0) @binding(0) var<uniform> embed: Embed;
@group(0) @binding(2) var<storage, read> ints: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<f32>; // parameters, the gradient [rows, hidden], or partial sums
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>; // [length, hidden]

const NONE: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = (embed.hidden + 3u) / 4u;
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= embed.rows * quads) {
        return;
    }
    let row = i / quads;
    let c = 4u * (i % quads);
    let t = row % embed.length;
    var kept = vec4<f32>(1.0);
    if (embed.threshold != 0u) {
        kept = dropout4(embed.stream, embed.threshold, embed.keep, row / embed.length, t * embed.hidden + c);
    }
    let word = embed.words + ints[embed.tokens_at + row] * embed.hidden + c;
    for (var j = 0u; j < min(4u, embed.hidden - c); j++) {
        var v = values[word + j];
        if (embed.types != NONE) {
            v += values[embed.types + c + j];
        }
        v += values[embed.positions + t * embed.hidden + c + j];
        out[row * embed.hidden + c + j] = v * kept[j];
    }
}

// Sum of the gradient over the rows of one segment: out [segments, hidden].
@compute @workgroup_size(64)
fn segments(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let c = group.x * 64u + lane;
    let s = group.y + group.z * GRID_ROW;
    if (c >= embed.hidden || s >= ints[embed.segments_at]) {
        return;
    }
    let begin = ints[embed.segments_at + 1u + s];
    let end = ints[embed.segments_at + 2u + s];
    var sum = 0.0;
    for (var i = begin; i < end; i++) {
        sum += values[ints[embed.order_at + i] * embed.hidden + c];
    }
    out[s * embed.hidden + c] = sum;
}

// Adds the segments of each token to its row of the table's gradient.
@compute @workgroup_size(64)
fn tokens(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let c = group.x * 64u + lane;
    let d = group.y + group.z * GRID_ROW;
    if (c >= embed.hidden || d >= ints[embed.tokens_used_at]) {
        return;
    }
    let entry = embed.tokens_used_at + 1u + 2u * d;
    var sum = 0.0;
    for (var s = ints[entry + 1u]; s < ints[entry + 3u]; s++) {
        sum += values[s * embed.hidden + c];
    }
    out[embed.words + ints[entry] * embed.hidden + c] += sum;
}

// Sums over the sequences: the position table's gradient, and kept in `sums` for the type's.
@compute @workgroup_size(64)
fn positions(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    let size = embed.length * embed.hidden;
    if (i >= size) {
        return;
    }
    var sum = 0.0;
    for (var at = i; at < embed.rows * embed.hidden; at += size) {
        sum += values[at];
    }
    out[embed.positions + i] += sum;
    sums[i] = sum;
}

@compute @workgroup_size(64)
fn types(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let c = group.x * 64u + lane;
    if (c >= embed.hidden) {
        return;
    }
    var sum = 0.0;
    for (var t = 0u; t < embed.length; t++) {
        sum += sums[t * embed.hidden + c];
    }
    out[embed.types + c] += sum;
}
