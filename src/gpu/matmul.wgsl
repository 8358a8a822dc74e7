// out[r, c] = sum_k a[r, k] b[k, c] with any strides; MODE says what becomes of the product.
struct Product {
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
    mask_row: u32,
    rates: u32, // entry of the first step
    first: u32, // step of entry 0 of the step table
}
struct Moving {
    entry: u32,
}
@group(0) @binding(0) var<uniform> product: Product;
@group(0) @binding(1) var<uniform> moving: Moving;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> mask: array<f32>;
@group(0) @binding(6) var<storage, read> rates: array<vec4<f32>>;

fn a_at(r: u32, k: u32) -> f32 {
    if (r < product.rows) {
        return a[product.a_at + r * product.a_row + k * product.a_inner];
    }
    return 0.0;
}

fn b_at(k: u32, c: u32) -> f32 {
    if (c < product.cols) {
        return b[product.b_at + k * product.b_inner + c * product.b_col];
    }
    return 0.0;
}

fn store(r: u32, c: u32, value: f32) {
    if (r >= product.rows || c >= product.cols) {
        return;
    }
    let at = product.out_at + r * product.out_row + c * product.out_col;
    if (MODE == 0u) { // the product
        out[at] = value;
    } else if (MODE == 1u) { // relu, letting a NaN through
        out[at] = select(value, 0.0, value <= 0.0);
    } else if (MODE == 2u) { // backwards through the relu whose output is `mask`
        out[at] = select(0.0, value, mask[r * product.mask_row + c] > 0.0);
    } else { // SGD: the product is the gradient, summed over the batch
        let step = rates[product.rates + product.first + moving.entry];
        out[at] = step.y * out[at] - step.x * value;
    }
}

@compute @workgroup_size(256)
fn multiply(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let r0 = group.y * 64u;
    let c0 = group.x * 64u;
    var acc: array<vec4<f32>, 4>;
    tile_product(lane, r0, c0, 0u, product.inner, product.a_inner == 1u, product.b_inner == 1u, &acc);
    for (var r = 0u; r < 4u; r++) {
        let v = acc[r];
        let row = r0 + 4u * (lane / 16u) + r;
        let col = c0 + 4u * (lane % 16u);
        store(row, col, v.x);
        store(row, col + 1u, v.y);
        store(row, col + 2u, v.z);
        store(row, col + 3u, v.w);
    }
}
