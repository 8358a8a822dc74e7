// Prepares samples for the kernels. A block holds up to 32 samples as the delayed-update kernels want them: D1 words, bit s of
// word j set where sample s has x_j = -1 (coordinate d is the bias's constant +1), then the Gram matrix, f32 bits:
// entry 32 s + r is x_s . x_r + 1.
struct Source {
    count: u32,
    per_block: u32,
    blocks: u32,
    first: u32, // sample
    out: u32, // word of the first block
}
@group(0) @binding(0) var<uniform> source: Source;
@group(0) @binding(1) var<storage, read> packed: array<u32>; // [count, WORDS]
@group(0) @binding(2) var<storage, read_write> prepared: array<u32>;

@compute @workgroup_size(64)
fn blocks(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= source.blocks * BLOCK_WORDS) {
        return;
    }
    let block = i / BLOCK_WORDS;
    let j = i % BLOCK_WORDS;
    let first = source.first + block * source.per_block;
    let size = min(source.per_block, source.count - block * source.per_block);
    var word = 0u;
    if (j < D) {
        for (var s = 0u; s < size; s++) {
            let bit = (packed[(first + s) * WORDS + (j >> 5u)] >> (j & 31u)) & 1u;
            word |= bit << s;
        }
    } else if (j > D) {
        let s = (j - D1) >> 5u;
        let r = (j - D1) & 31u;
        if (s < size && r < size) {
            var differ = 0u;
            for (var w = 0u; w < WORDS; w++) {
                differ += countOneBits(packed[(first + s) * WORDS + w] ^ packed[(first + r) * WORDS + w]);
            }
            word = bitcast<u32>(f32(D1) - 2.0 * f32(differ));
        }
    }
    prepared[source.out + i] = word;
}

// Samples first .. first + count as +-1 numbers with a trailing 1: [count, D1].
struct Part {
    first: u32,
    count: u32,
}
@group(0) @binding(0) var<uniform> part: Part;
@group(0) @binding(2) var<storage, read_write> signs: array<f32>;

@compute @workgroup_size(64)
fn expand(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= part.count * D1) {
        return;
    }
    let j = i % D1;
    var value = 1.0;
    if (j < D && ((packed[(part.first + i / D1) * WORDS + (j >> 5u)] >> (j & 31u)) & 1u) == 1u) {
        value = -1.0;
    }
    signs[i] = value;
}

// Coordinate-major bits, [D1, count/32 rounded up]: bit s of word (j, w) is set where sample 32 w + s has x_j = -1.
@compute @workgroup_size(64)
fn transpose(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = (part.count + 31u) / 32u;
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= D1 * rows) {
        return;
    }
    let j = i / rows;
    let first = (i % rows) * 32u;
    var word = 0u;
    if (j < D) {
        for (var s = 0u; s < min(32u, part.count - first); s++) {
            word |= ((packed[(part.first + first + s) * WORDS + (j >> 5u)] >> (j & 31u)) & 1u) << s;
        }
    }
    prepared[i] = word;
}
