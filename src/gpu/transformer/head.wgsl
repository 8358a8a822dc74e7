// Soft cross-entropy where logits are read, one workgroup per row: loss = sum_v target (log sum exp z - z_v), and z becomes the
// gradient (softmax(z) - target) / (reads of the training step).
struct Head {
    vocab: u32,
    rows: u32,
}
@group(0) @binding(0) var<uniform> head: Head;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>; // [rows, vocab]
@group(0) @binding(3) var<storage, read> targets: array<f32>; // [rows, vocab]
@group(0) @binding(4) var<storage, read_write> losses: array<f32>; // [rows]
@group(0) @binding(5) var<storage, read_write> results: array<vec4<f32>>; // per training step: loss sum, gradient norm, steps done, -

var<workgroup> highest: array<f32, WG>;

@compute @workgroup_size(WG)
fn cross_entropy(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x + group.y * GRID_ROW;
    if (row >= count_of(head.rows)) {
        return;
    }
    let at = row * head.vocab;
    var top = -3e38;
    for (var v = lane; v < head.vocab; v += WG) {
        top = max(top, logits[at + v]);
    }
    highest[lane] = top;
    workgroupBarrier();
    for (var l = 0u; l < WG; l++) {
        top = max(top, highest[l]);
    }
    var sums = array<f32, C>(0.0, 0.0);
    for (var v = lane; v < head.vocab; v += WG) {
        let z = logits[at + v] - top;
        sums[0] += exp(z);
        let target_v = targets[at + v];
        if (target_v != 0.0) { // 0 times a distant logit is no loss, whatever the logit is
            sums[1] += target_v * z;
        }
    }
    block_sum(lane, &sums);
    for (var v = lane; v < head.vocab; v += WG) {
        logits[at + v] = (exp(logits[at + v] - top) / sums[0] - targets[at + v]) * step.scale;
    }
    if (lane == 0u) {
        losses[row] = log(sums[0]) - sums[1];
    }
}

// Adds the losses of this micro-batch to the step's.
@compute @workgroup_size(WG)
fn loss(@builtin(local_invocation_index) lane: u32) {
    var sums = array<f32, C>(0.0, 0.0);
    for (var row = lane; row < step.reads; row += WG) {
        sums[0] += losses[row];
    }
    block_sum(lane, &sums);
    if (lane == 0u) {
        results[step.slot].x += sums[0];
    }
}
