// Layer norm, one workgroup per row: y = (x - mean) / sqrt(variance + eps) * weight + bias.
struct Norm {
    rows: u32,
    hidden: u32,
    weight: u32,
    bias: u32,
    eps: f32,
    add: u32, // backward: whether `add` is added to dx
    chunk: u32, // columns: rows per workgroup
    chunks: u32,
}
@group(0) @binding(0) var<uniform> norm: Norm;
@group(0) @binding(2) var<storage, read> x: array<f32>; // [rows, hidden]
@group(0) @binding(3) var<storage, read> params: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>; // [rows]: mean, 1 / deviation
@group(0) @binding(5) var<storage, read> dy: array<f32>; // [rows, hidden]
@group(0) @binding(6) var<storage, read> add: array<f32>; // [rows, hidden]
@group(0) @binding(7) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x + group.y * GRID_ROW;
    if (row >= count_of(norm.rows)) {
        return;
    }
    let at = row * norm.hidden;
    let n = f32(norm.hidden);
    var v = array<f32, C>(0.0, 0.0);
    for (var c = lane; c < norm.hidden; c += WG) {
        v[0] += x[at + c];
    }
    block_sum(lane, &v);
    let mean = v[0] / n;
    v = array<f32, C>(0.0, 0.0);
    for (var c = lane; c < norm.hidden; c += WG) {
        let d = x[at + c] - mean;
        v[0] += d * d;
    }
    block_sum(lane, &v);
    // Not inverseSqrt, whose accuracy drivers choose.
    let scale = 1.0 / sqrt(v[0] / n + norm.eps);
    for (var c = lane; c < norm.hidden; c += WG) {
        out[at + c] = (x[at + c] - mean) * scale * params[norm.weight + c] + params[norm.bias + c];
    }
    if (lane == 0u) {
        stats[row] = vec2<f32>(mean, scale);
    }
}

// dx = (g - mean(g) - xhat mean(g xhat)) / deviation (+ add), g = dy * weight.
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x + group.y * GRID_ROW;
    if (row >= count_of(norm.rows)) {
        return;
    }
    let at = row * norm.hidden;
    let n = f32(norm.hidden);
    let s = stats[row];
    var v = array<f32, C>(0.0, 0.0);
    for (var c = lane; c < norm.hidden; c += WG) {
        let g = dy[at + c] * params[norm.weight + c];
        v[0] += g;
        v[1] += g * (x[at + c] - s.x) * s.y;
    }
    block_sum(lane, &v);
    for (var c = lane; c < norm.hidden; c += WG) {
        let g = dy[at + c] * params[norm.weight + c];
        var dx = (g - v[0] / n - (x[at + c] - s.x) * s.y * (v[1] / n)) * s.y;
        if (norm.add == 1u) {
            dx += add[at + c];
        }
        out[at + c] = dx;
    }
}

// Gradients of weight and bias from `chunk` rows: out[chunk number, 0 | 1, hidden].
@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let c = group.x * 64u + lane;
    if (c >= norm.hidden) {
        return;
    }
    let begin = group.y * norm.chunk;
    let end = min(begin + norm.chunk, count_of(norm.rows));
    var weight = 0.0;
    var bias = 0.0;
    for (var row = begin; row < end; row++) {
        let s = stats[row];
        let g = dy[row * norm.hidden + c];
        weight += g * (x[row * norm.hidden + c] - s.x) * s.y;
        bias += g;
    }
    let at = group.y * 2u * norm.hidden + c;
    out[at] = weight;
    out[at + norm.hidden] = bias;
}

// Adds the chunks in x to the gradients in `out`.
@compute @workgroup_size(64)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let c = group.x * 64u + lane;
    if (c >= 2u * norm.hidden) {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < norm.chunks; i++) {
        sum += x[i * 2u * norm.hidden + c];
    }
    out[select(norm.bias + c - norm.hidden, norm.weight + c, c < norm.hidden)] += sum;
}
