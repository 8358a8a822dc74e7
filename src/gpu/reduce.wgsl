// Sums `v` over the workgroup: every lane gets the totals. Two barriers per round of classes; the order of additions is fixed, so
// the same inputs give the same bits. May be called again at once: `lanes` is last read before the second barrier, `sums` is
// written after the first.
const ROUND: u32 = min(C, 8u);
var<workgroup> lanes: array<f32, ROUND * WG>;
var<workgroup> sums: array<f32, ROUND * 16u>;

fn block_sum(lane: u32, v: ptr<function, array<f32, C>>) {
    for (var c0 = 0u; c0 < C; c0 += ROUND) {
        let round = min(ROUND, C - c0);
        for (var c = 0u; c < round; c++) {
            lanes[c * WG + lane] = (*v)[c0 + c];
        }
        workgroupBarrier();
        for (var q = lane; q < round * 16u; q += WG) {
            let base = (q / 16u) * WG;
            var sum = 0.0;
            for (var l = q % 16u; l < WG; l += 16u) {
                sum += lanes[base + l];
            }
            sums[q] = sum;
        }
        workgroupBarrier();
        for (var c = 0u; c < round; c++) {
            var sum = 0.0;
            for (var l = 0u; l < 16u; l++) {
                sum += sums[c * 16u + l];
            }
            (*v)[c0 + c] = sum;
        }
    }
}
