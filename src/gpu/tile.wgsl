// The core of every product: a TILE x TILE tile of A B by a workgroup of 256, where TILE is 64 (4 x 4 numbers per thread) or 128
// (8 x 8, for products large enough to keep a device busy with fewer workgroups: half the reads of workgroup memory per product).
// The kernel around it defines a_at(r, k) and b_at(k, c), which give 0 for rows and columns outside of the matrices.
const HALVES: u32 = TILE / 64u;
const TILE_K: u32 = 16u / HALVES;
const TILE_QUADS: u32 = TILE / 4u;
const TILE_ROW: u32 = TILE_QUADS + 1u; // one more, so that neighbouring threads store to different banks
const ACCUMULATORS: u32 = 4u * HALVES * HALVES;
var<workgroup> tile_a: array<vec4<f32>, TILE_K * TILE_ROW>; // [k, groups of 4 rows]
var<workgroup> tile_b: array<vec4<f32>, TILE_K * TILE_ROW>; // [k, groups of 4 columns]
// Sums over k of the numbers this thread loaded from B: columns 4 loading_quad .. + 3. Bias gradients come from it.
var<private> loaded_b: vec4<f32>;

// Which k of a tile a thread loads, and which 4 rows (or columns): neighbours take neighbouring k where memory runs along k, and
// neighbouring rows where it does not.
fn loading_k(lane: u32, along_k: bool) -> u32 {
    return select(lane / TILE_QUADS, lane % TILE_K, along_k);
}
fn loading_quad(lane: u32, along_k: bool) -> u32 {
    return select(lane % TILE_QUADS, lane / TILE_K, along_k);
}

// acc[(4 a + i) HALVES + b] = row r0 + 64 a + 4 (lane / 16) + i, columns c0 + 64 b + 4 (lane % 16) .. + 3 of the product, summed
// over k_from .. k_to.
fn tile_product(
    lane: u32, r0: u32, c0: u32, k_from: u32, k_to: u32, a_along_k: bool, b_along_k: bool,
    acc: ptr<function, array<vec4<f32>, ACCUMULATORS>>,
) {
    let tx = lane % 16u;
    let ty = lane / 16u;
    let ak = loading_k(lane, a_along_k);
    let aq = loading_quad(lane, a_along_k);
    let bk = loading_k(lane, b_along_k);
    let bq = loading_quad(lane, b_along_k);
    let r = r0 + 4u * aq;
    let c = c0 + 4u * bq;
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    var s4 = vec4<f32>(0.0);
    var s5 = vec4<f32>(0.0);
    var s6 = vec4<f32>(0.0);
    var s7 = vec4<f32>(0.0);
    var s8 = vec4<f32>(0.0);
    var s9 = vec4<f32>(0.0);
    var s10 = vec4<f32>(0.0);
    var s11 = vec4<f32>(0.0);
    var s12 = vec4<f32>(0.0);
    var s13 = vec4<f32>(0.0);
    var s14 = vec4<f32>(0.0);
    var s15 = vec4<f32>(0.0);
    loaded_b = vec4<f32>(0.0);
    for (var k0 = k_from; k0 < k_to; k0 += TILE_K) {
        var k = k0 + ak;
        var left = vec4<f32>(0.0);
        if (k < k_to) {
            left = vec4<f32>(a_at(r, k), a_at(r + 1u, k), a_at(r + 2u, k), a_at(r + 3u, k));
        }
        tile_a[ak * TILE_ROW + aq] = left;
        k = k0 + bk;
        var right = vec4<f32>(0.0);
        if (k < k_to) {
            right = vec4<f32>(b_at(k, c), b_at(k, c + 1u), b_at(k, c + 2u), b_at(k, c + 3u));
        }
        tile_b[bk * TILE_ROW + bq] = right;
        loaded_b += right;
        workgroupBarrier();
        if (HALVES == 1u) {
            for (var i = 0u; i < TILE_K; i++) {
                let x = tile_a[i * TILE_ROW + ty];
                let y = tile_b[i * TILE_ROW + tx];
                s0 += x.x * y;
                s1 += x.y * y;
                s2 += x.z * y;
                s3 += x.w * y;
            }
        } else {
            for (var i = 0u; i < TILE_K; i++) {
                let x0 = tile_a[i * TILE_ROW + ty];
                let x1 = tile_a[i * TILE_ROW + ty + 16u];
                let y0 = tile_b[i * TILE_ROW + tx];
                let y1 = tile_b[i * TILE_ROW + tx + 16u];
                s0 += x0.x * y0;
                s1 += x0.x * y1;
                s2 += x0.y * y0;
                s3 += x0.y * y1;
                s4 += x0.z * y0;
                s5 += x0.z * y1;
                s6 += x0.w * y0;
                s7 += x0.w * y1;
                s8 += x1.x * y0;
                s9 += x1.x * y1;
                s10 += x1.y * y0;
                s11 += x1.y * y1;
                s12 += x1.z * y0;
                s13 += x1.z * y1;
                s14 += x1.w * y0;
                s15 += x1.w * y1;
            }
        }
        workgroupBarrier();
    }
    if (HALVES == 1u) {
        (*acc)[0u] = s0;
        (*acc)[1u] = s1;
        (*acc)[2u] = s2;
        (*acc)[3u] = s3;
    } else { // min: indices must be in range for the smaller tile, too
        (*acc)[0u] = s0;
        (*acc)[1u] = s1;
        (*acc)[2u] = s2;
        (*acc)[3u] = s3;
        (*acc)[min(4u, ACCUMULATORS - 1u)] = s4;
        (*acc)[min(5u, ACCUMULATORS - 1u)] = s5;
        (*acc)[min(6u, ACCUMULATORS - 1u)] = s6;
        (*acc)[min(7u, ACCUMULATORS - 1u)] = s7;
        (*acc)[min(8u, ACCUMULATORS - 1u)] = s8;
        (*acc)[min(9u, ACCUMULATORS - 1u)] = s9;
        (*acc)[min(10u, ACCUMULATORS - 1u)] = s10;
        (*acc)[min(11u, ACCUMULATORS - 1u)] = s11;
        (*acc)[min(12u, ACCUMULATORS - 1u)] = s12;
        (*acc)[min(13u, ACCUMULATORS - 1u)] = s13;
        (*acc)[min(14u, ACCUMULATORS - 1u)] = s14;
        (*acc)[min(15u, ACCUMULATORS - 1u)] = s15;
    }
}
