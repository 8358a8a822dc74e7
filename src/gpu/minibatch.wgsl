// The two ends of a minibatch step: the batch's samples as numbers, and the gradient at the logits.
struct Step {
    batch: u32,
    first: u32, // step of entry 0 of the step table
    blocks: u32,
    targets: u32,
    loss: u32, // kind | target width << 8
    out: u32,
}
struct Moving {
    entry: u32,
}
@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> moving: Moving;
@group(0) @binding(2) var<storage, read> packed: array<u32>;
@group(0) @binding(3) var<storage, read_write> numbers: array<f32>; // samples [B, D1], or delta [B, C]
@group(0) @binding(4) var<storage, read> targets: array<f32>;
@group(0) @binding(5) var<storage, read> logits: array<f32>; // [B, C]
// Samples done, then the loss of every sample as f32 bits.
@group(0) @binding(6) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(64)
fn load(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= step.batch * D1) {
        return;
    }
    let j = i % D1;
    let n = (step.first + moving.entry) * step.batch + i / D1;
    var value = 1.0;
    if (j < D && ((packed[step.blocks + n * WORDS + (j >> 5u)] >> (j & 31u)) & 1u) == 1u) {
        value = -1.0;
    }
    numbers[i] = value;
}

@compute @workgroup_size(64)
fn slope(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * 64u + lane;
    if (i >= step.batch) {
        return;
    }
    let n = (step.first + moving.entry) * step.batch + i;
    var z: array<f32, C>;
    var g: array<f32, C>;
    for (var c = 0u; c < C; c++) {
        z[c] = logits[i * C + c];
    }
    let loss = loss_gradient(step.loss & 255u, &z, step.targets + n * (step.loss >> 8u), &g);
    for (var c = 0u; c < C; c++) {
        numbers[i * C + c] = g[c];
    }
    out[step.out + 1u + n] = bitcast<u32>(loss);
    if (i == 0u) {
        out[step.out] = (step.first + moving.entry + 1u) * step.batch;
    }
}
