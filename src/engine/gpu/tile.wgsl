// The core of every product: a 64 x 64 tile of A B, 4 x 4 numbers per thread of a workgroup of 256. The kernel around it
// defines a_at(r, k) and b_at(k, c), which give 0 outside of the matrices.
const TILE_ROW: u32 = 17u; // one more than the 16 groups of 4, so that neighbouring threads store to different banks
var<workgroup> tile_a: array<vec4<f32>, 272>; // [16 k, 64 rows]
var<workgroup> tile_b: array<vec4<f32>, 272>; // [16 k, 64 columns]
// Sums over k of the numbers this thread loaded from B: columns 4q .. 4q+3, q as below. Bias gradients come from it.
var<private> loaded_b: vec4<f32>;

// acc[i] = rows r0 + 4 (lane / 16) + i, columns c0 + 4 (lane % 16) .. + 3, summed over k_from .. k_to. A thread loads 4 rows
// (or columns) at one k; neighbours take neighbouring k where memory runs along k, and neighbouring rows where it does not.
fn tile_product(
    lane: u32, r0: u32, c0: u32, k_from: u32, k_to: u32, a_along_k: bool, b_along_k: bool,
    acc: ptr<function, array<vec4<f32>, 4>>,
) {
    let tx = lane % 16u;
    let ty = lane / 16u;
    let ak = select(ty, tx, a_along_k);
    let aq = select(tx, ty, a_along_k);
    let bk = select(ty, tx, b_along_k);
    let bq = select(tx, ty, b_along_k);
    let r = r0 + 4u * aq;
    let c = c0 + 4u * bq;
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    loaded_b = vec4<f32>(0.0);
    for (var k0 = k_from; k0 < k_to; k0 += 16u) {
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
        for (var i = 0u; i < 16u; i++) {
            let x = tile_a[i * TILE_ROW + ty];
            let y = tile_b[i * TILE_ROW + tx];
            sum0 += x.x * y;
            sum1 += x.y * y;
            sum2 += x.z * y;
            sum3 += x.w * y;
        }
        workgroupBarrier();
    }
    (*acc)[0] = sum0;
    (*acc)[1] = sum1;
    (*acc)[2] = sum2;
    (*acc)[3] = sum3;
}
