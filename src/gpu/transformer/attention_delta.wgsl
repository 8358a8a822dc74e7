struct Delta {
    rows: u32,
    heads: u32,
}
@group(0) @binding(0) var<uniform> delta: Delta;
@group(0) @binding(2) var<storage, read> out: array<f32>;
@group(0) @binding(3) var<storage, read> dout: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2<f32>>;

// The sum of out * dout, which is that of p * dp.
@compute @workgroup_size(64)
fn run(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= count_of(delta.rows) * delta.heads) {
        return;
    }
    var sum = 0.0;
    for (var c = i * HD; c < (i + 1u) * HD; c++) {
        sum += out[c] * dout[c];
    }
    stats[i].y = sum;
}
