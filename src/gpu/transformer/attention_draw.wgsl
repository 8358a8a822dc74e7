struct Draw {
    length: u32,
    heads: u32,
    words: u32,
    rows: u32,
    rows_at: u32,
    stream: u32,
    threshold: u32,
}
@group(0) @binding(0) var<uniform> draw: Draw;
@group(0) @binding(2) var<storage, read> ints: array<u32>;
@group(0) @binding(3) var<storage, read_write> bits: array<u32>; // [rows, heads, words]

const NONE: u32 = 0xffffffffu;

// Which of 32 probabilities are dropped: elements (h * length + t) * length + 32 word + 0..32 of the sequence.
@compute @workgroup_size(64)
fn run(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= count_of(draw.rows) * draw.heads * draw.words) {
        return;
    }
    let row = i / (draw.heads * draw.words);
    let h = i / draw.words % draw.heads;
    var position = row;
    if (draw.rows_at != NONE) {
        position = ints[draw.rows_at + row];
    }
    let index = index_plus(step.first, position / draw.length);
    let e = (h * draw.length + position % draw.length) * draw.length + 32u * (i % draw.words);
    var word = 0u;
    let shift = e & 3u;
    for (var block = 0u; block < 9u; block++) {
        if (block == 8u && shift == 0u) {
            break;
        }
        let r = philox(step.seed, vec4<u32>(index.x, index.y, (e >> 2u) + block, draw.stream));
        // One bit at a time: GLSL before 4.50 and ES 3.10 has no selection between vectors of integers.
        let four = select(0u, 1u, r.x < draw.threshold) | select(0u, 2u, r.y < draw.threshold)
            | select(0u, 4u, r.z < draw.threshold) | select(0u, 8u, r.w < draw.threshold);
        // Bits 4 block - shift .. + 3 of the word; what falls out on either side belongs to a neighbour.
        if (4u * block >= shift) {
            word |= four << (4u * block - shift);
        } else {
            word |= four >> shift;
        }
    }
    bits[i] = word;
}
