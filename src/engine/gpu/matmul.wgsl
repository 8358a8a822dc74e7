// out[r, c] = sum_k a[r, k] b[k, c] with any strides, 64 x 64 tiles, 4 x 4 numbers per thread; MODE says what becomes of the product.
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

var<workgroup> tile_a: array<vec4<f32>, 256>; // [16 k, 64 rows]
var<workgroup> tile_b: array<vec4<f32>, 256>; // [16 k, 64 columns]

fn a_at(r: u32, k: u32) -> f32 {
    if (r < product.rows && k < product.inner) {
        return a[product.a_at + r * product.a_row + k * product.a_inner];
    }
    return 0.0;
}

fn b_at(k: u32, c: u32) -> f32 {
    if (k < product.inner && c < product.cols) {
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
    let tx = lane % 16u;
    let ty = lane / 16u;
    var acc: array<vec4<f32>, 4>;
    for (var r = 0u; r < 4u; r++) {
        acc[r] = vec4<f32>(0.0);
    }
    for (var k0 = 0u; k0 < product.inner; k0 += 16u) {
        let k = k0 + ty;
        let r = r0 + 4u * tx;
        tile_a[lane] = vec4<f32>(a_at(r, k), a_at(r + 1u, k), a_at(r + 2u, k), a_at(r + 3u, k));
        let c = c0 + 4u * tx;
        tile_b[lane] = vec4<f32>(b_at(k, c), b_at(k, c + 1u), b_at(k, c + 2u), b_at(k, c + 3u));
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let left = tile_a[k * 16u + ty];
            let right = tile_b[k * 16u + tx];
            acc[0] += left.x * right;
            acc[1] += left.y * right;
            acc[2] += left.z * right;
            acc[3] += left.w * right;
        }
        workgroupBarrier();
    }
    for (var r = 0u; r < 4u; r++) {
        let v = acc[r];
        let row = r0 + 4u * ty + r;
        let col = c0 + 4u * tx;
        store(row, col, v.x);
        store(row, col + 1u, v.y);
        store(row, col + 2u, v.z);
        store(row, col + 3u, v.w);
    }
}
