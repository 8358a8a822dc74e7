// out = a b with any strides and one of several ends (MODE): what every linear map of a transformer needs, both ways.
struct Linear {
    rows: u32,
    cols: u32,
    inner: u32,
    a_at: u32,
    a_row: u32,
    a_inner: u32,
    b_at: u32,
    b_inner: u32,
    b_col: u32,
    out_at: u32,
    out_row: u32,
    out_col: u32,
    bias: u32, // first parameter of the bias, or NONE
    splits: u32, // the sum over `inner` is dealt to this many workgroups
    length: u32,
    rows_at: u32, // positions of the rows in `ints`, or NONE: row r is position r
    stream: u32, // dropout
    threshold: u32,
    keep: f32,
}
@group(0) @binding(0) var<uniform> linear: Linear;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read> params: array<f32>;
@group(0) @binding(5) var<storage, read> extra: array<f32>; // [rows, cols]
@group(0) @binding(6) var<storage, read> ints: array<u32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;
@group(0) @binding(8) var<storage, read_write> active_out: array<f32>; // [rows, cols]

const NONE: u32 = 0xffffffffu;
const PLAIN: u32 = 0u; // out = product + bias
const GELU: u32 = 1u; // the same, and its gelu in active_out
const RESIDUAL: u32 = 2u; // out = extra + dropout(product + bias)
const GELU_BACK: u32 = 3u; // out = product * gelu'(extra)
const GRADIENT: u32 = 4u; // out += product, and the column sums of b to the bias's gradient
const PARTIAL: u32 = 5u; // the same for one of several splits; `merge` adds them up

fn a_at(r: u32, k: u32) -> f32 {
    if (r < count_of(linear.rows)) {
        return a[linear.a_at + r * linear.a_row + k * linear.a_inner];
    }
    return 0.0;
}

fn b_at(k: u32, c: u32) -> f32 {
    if (c < linear.cols) {
        return b[linear.b_at + k * linear.b_inner + c * linear.b_col];
    }
    return 0.0;
}

// Rows r, columns c .. c + 3 of the product.
fn store(r: u32, c: u32, product: vec4<f32>, split: u32) {
    var value = product;
    var kept = vec4<f32>(1.0);
    if (MODE == RESIDUAL && linear.threshold != 0u) {
        var position = r;
        if (linear.rows_at != NONE) {
            position = ints[linear.rows_at + r];
        }
        let t = position % linear.length;
        kept = dropout4(linear.stream, linear.threshold, linear.keep, position / linear.length, t * linear.cols + c);
    }
    let count = min(4u, linear.cols - c);
    for (var i = 0u; i < count; i++) {
        let at = linear.out_at + r * linear.out_row + (c + i) * linear.out_col;
        let dense = r * linear.cols + c + i;
        var v = value[i];
        if (MODE <= RESIDUAL && linear.bias != NONE) {
            v += params[linear.bias + c + i];
        }
        if (MODE == PLAIN) {
            out[at] = v;
        } else if (MODE == GELU) {
            out[at] = v;
            active_out[dense] = gelu(v);
        } else if (MODE == RESIDUAL) {
            out[at] = extra[dense] + kept[i] * v;
        } else if (MODE == GELU_BACK) {
            out[at] = v * gelu_slope(extra[dense]);
        } else if (MODE == GRADIENT) {
            out[at] += v;
        } else {
            out[(split * (linear.rows + 1u) + r) * linear.cols + c + i] = v;
        }
    }
}

@compute @workgroup_size(256)
fn multiply(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = count_of(linear.rows);
    let inner = count_of(linear.inner);
    let r0 = group.y * TILE;
    let c0 = group.x * TILE;
    if (r0 >= rows) {
        return;
    }
    // Splits are multiples of 16 long, so that only the last one ends inside a tile.
    let part = ((inner + linear.splits - 1u) / linear.splits + 15u) / 16u * 16u;
    let k_from = min(group.z * part, inner);
    let k_to = min(k_from + part, inner);
    var acc: array<vec4<f32>, ACCUMULATORS>;
    tile_product(lane, r0, c0, k_from, k_to, linear.a_inner == 1u, linear.b_inner == 1u, &acc);
    for (var j = 0u; j < ACCUMULATORS; j++) {
        let r = r0 + 64u * (j / (4u * HALVES)) + 4u * (lane / 16u) + j / HALVES % 4u;
        let c = c0 + 64u * (j % HALVES) + 4u * (lane % 16u);
        if (r < rows && c < linear.cols) {
            store(r, c, acc[j], group.z);
        }
    }
    if ((MODE == GRADIENT || MODE == PARTIAL) && r0 == 0u && linear.bias != NONE) {
        // tile_product's last barrier is behind every read of tile_b.
        let along = linear.b_inner == 1u;
        tile_b[loading_k(lane, along) * TILE_ROW + loading_quad(lane, along)] = loaded_b;
        workgroupBarrier();
        let column = c0 + 4u * lane;
        if (lane < TILE_QUADS && column < linear.cols) {
            var sum = vec4<f32>(0.0);
            for (var k = 0u; k < TILE_K; k++) {
                sum += tile_b[k * TILE_ROW + lane];
            }
            for (var i = 0u; i < min(4u, linear.cols - column); i++) {
                if (MODE == GRADIENT) {
                    out[linear.bias + column + i] += sum[i];
                } else {
                    out[(group.z * (linear.rows + 1u) + linear.rows) * linear.cols + column + i] = sum[i];
                }
            }
        }
    }
}

// Adds the partial products in `a` [splits, rows + 1, cols] (the last row is the bias's) to `out`.
@compute @workgroup_size(64)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    let size = (linear.rows + 1u) * linear.cols;
    if (i >= size) {
        return;
    }
    let r = i / linear.cols;
    let c = i % linear.cols;
    var at = linear.out_at + r * linear.out_row + c * linear.out_col;
    if (r == linear.rows) {
        if (linear.bias == NONE) {
            return;
        }
        at = linear.bias + c;
    }
    var sum = 0.0;
    for (var s = 0u; s < linear.splits; s++) {
        sum += a[s * size + i];
    }
    out[at] += sum;
}

// Backwards through a gelu that no product follows: out = a * gelu'(extra).
@compute @workgroup_size(64)
fn slope(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i < count_of(linear.rows) * linear.cols) {
        out[i] = a[i] * gelu_slope(extra[i]);
    }
}
