// A wide model over many workgroups, one dispatch per sample. Workgroups exchange partial sums of the logits through memory, and the
// next dispatch adds them up: the end of a dispatch is the only grid-wide barrier there is. Dispatch s of a block finishes sample
// s - 1 (every workgroup adds up all partial sums, so nobody waits for anybody) and starts sample s.
struct Chunk {
    model: u32,
    samples: u32,
    first: u32, // block of entry 0 of the step table
    loss: u32, // kind | target width << 8
    targets: u32,
    rates: u32,
    blocks: u32,
    out: u32,
}
struct Moving {
    entry: u32,
}
@group(0) @binding(0) var<uniform> chunk: Chunk;
@group(0) @binding(1) var<uniform> moving: Moving;
@group(0) @binding(2) var<storage, read_write> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> slab: array<f32>;
@group(0) @binding(4) var<storage, read> blocks: array<u32>;
@group(0) @binding(5) var<storage, read> targets: array<f32>;
@group(0) @binding(6) var<storage, read> rates: array<Rates>;
@group(0) @binding(7) var<storage, read_write> partial: array<f32>; // [2, C, GROUPS]
// Samples done, then the loss of every sample as f32 bits.
@group(0) @binding(8) var<storage, read_write> out: array<u32>;

fn block_size(b: u32) -> u32 {
    return min(PER_BLOCK, chunk.samples - b * PER_BLOCK);
}

// Entry b * (PER_BLOCK + 1): applies block b - 1, prepares block b; the block after the last one only applies.
@compute @workgroup_size(64)
fn apply(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * 64u + lane;
    if (i >= M) {
        return;
    }
    let b = chunk.first + moving.entry / (PER_BLOCK + 1u);
    let more = b * PER_BLOCK < chunk.samples;
    let here = chunk.blocks + b * BLOCK_WORDS;
    if (b == 0u) {
        sweep(i, chunk.model, 0u, here, 0u, 1.0, here, more);
        return;
    }
    let before = here - BLOCK_WORDS;
    let count = block_size(b - 1u);
    let end = rates[chunk.rates + ((b - 1u) * PER_BLOCK + count - 1u) / BATCH];
    sweep(i, chunk.model, 0u, before, count, end.scale * end.keep, select(before, here, more), more);
}

@compute @workgroup_size(WG)
fn advance(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = group.x * WG + lane;
    let b = chunk.first + moving.entry / (PER_BLOCK + 1u);
    let s = moving.entry % (PER_BLOCK + 1u);
    let block = chunk.blocks + b * BLOCK_WORDS;
    let size = block_size(b);
    var z: array<f32, C>;
    if (s > 0u) {
        let n = b * PER_BLOCK + s - 1u;
        for (var c = 0u; c < C; c++) {
            var sum = 0.0;
            for (var p = lane; p < GROUPS; p += WG) {
                sum += partial[((n & 1u) * C + c) * GROUPS + p];
            }
            z[c] = sum;
        }
        block_sum(lane, &z);
        var g: array<f32, C>;
        let loss = loss_gradient(chunk.loss & 255u, &z, chunk.targets + n * (chunk.loss >> 8u), &g);
        if (i < M1) {
            learn(i, chunk.model, 0u, s - 1u, rates[chunk.rates + n / BATCH], &g);
        }
        if (i == 0u) {
            out[chunk.out] = n + 1u;
            out[chunk.out + 1u + n] = bitcast<u32>(loss);
        }
    }
    if (s < size) {
        let n = b * PER_BLOCK + s;
        for (var c = 0u; c < C; c++) {
            z[c] = 0.0;
        }
        if (i < M1) {
            let h = activation(i, 0u, block, s, rates[chunk.rates + n / BATCH].scale);
            for (var c = 0u; c < C; c++) {
                z[c] = params[chunk.model + OUT + c * M1 + i] * h;
            }
        }
        block_sum(lane, &z);
        if (lane == 0u) {
            for (var c = 0u; c < C; c++) {
                partial[((n & 1u) * C + c) * GROUPS + group.x] = z[c];
            }
        }
    }
}
