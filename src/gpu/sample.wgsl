// Draws samples, raw words of any stream, and initial weights: the bits of src/core/rng.rs.
struct Draw {
    seed: vec2<u32>,
    first: vec2<u32>,
    stream: u32,
    count: u32,
    d: u32,
    words: u32,
    bound: f32, // of initial weights
    // An initial weight e of tensor [rows, cols] goes to offset + row * row_step + col * col_step.
    cols: u32,
    offset: u32,
    row_step: u32,
    col_step: u32,
}
@group(0) @binding(0) var<uniform> draw: Draw;
@group(0) @binding(1) var<storage, read_write> bits: array<u32>; // [count, words], or what the entry point says

fn global_index(group: vec3<u32>, lane: u32) -> u32 {
    return (group.x + group.y * GRID_ROW) * 64u + lane;
}

@compute @workgroup_size(64)
fn samples(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = global_index(group, lane);
    if (i >= draw.count) {
        return;
    }
    let at = index_plus(draw.first, i);
    let row = i * draw.words;
    for (var block = 0u; block * 4u < draw.words; block++) {
        let drawn = philox(draw.seed, vec4<u32>(at, block, draw.stream));
        for (var w = 0u; w < 4u; w++) {
            if (block * 4u + w < draw.words) {
                bits[row + block * 4u + w] = drawn[w];
            }
        }
    }
    if ((draw.d & 31u) != 0u) {
        let last = row + draw.words - 1u;
        bits[last] = bits[last] & ((1u << (draw.d & 31u)) - 1u);
    }
}

// Block 0 of `count` items: 4 words each, for masks, dropout and tests.
@compute @workgroup_size(64)
fn raw(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = global_index(group, lane);
    if (i >= draw.count) {
        return;
    }
    let drawn = philox(draw.seed, vec4<u32>(index_plus(draw.first, i), 0u, draw.stream));
    for (var w = 0u; w < 4u; w++) {
        bits[4u * i + w] = drawn[w];
    }
}

// `count` initial weights of one tensor, uniform in +-bound: element e is word e%4 of item e/4. 2u - 1 is exact in f32, so
// the one rounding is that of the product and the weights equal the host's bit for bit.
@compute @workgroup_size(64)
fn weights(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = global_index(group, lane);
    if (4u * i >= draw.count) {
        return;
    }
    let drawn = philox(draw.seed, vec4<u32>(index_plus(draw.first, i), 0u, draw.stream));
    for (var w = 0u; w < 4u; w++) {
        let e = 4u * i + w;
        if (e < draw.count) {
            let unit = f32(drawn[w] >> 8u) * (1.0 / 16777216.0);
            let at = draw.offset + (e / draw.cols) * draw.row_step + (e % draw.cols) * draw.col_step;
            bits[at] = bitcast<u32>((2.0 * unit - 1.0) * draw.bound);
        }
    }
}
