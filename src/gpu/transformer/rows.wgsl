// Rows of the residual stream: taken out where logits are read, put back, cleared, and masked by dropout. A thread has 4 columns.
struct Rows {
    rows: u32,
    hidden: u32,
    length: u32,
    rows_at: u32, // positions of the rows in `ints`, or NONE
    stream: u32,
    threshold: u32,
    keep: f32,
}
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(2) var<storage, read> ints: array<u32>;
@group(0) @binding(3) var<storage, read> source: array<f32>;
@group(0) @binding(4) var<storage, read_write> sink: array<f32>;

const NONE: u32 = 0xffffffffu;

// (row, first column, columns); no columns beyond the end.
fn mine(group: vec3<u32>, lane: u32) -> vec3<u32> {
    let quads = (rows.hidden + 3u) / 4u;
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    let c = 4u * (i % quads);
    return vec3<u32>(i / quads, c, select(0u, min(4u, rows.hidden - c), i / quads < count_of(rows.rows)));
}

fn position_of(row: u32) -> u32 {
    var position = row;
    if (rows.rows_at != NONE) {
        position = ints[rows.rows_at + row];
    }
    return position;
}

@compute @workgroup_size(64)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = mine(group, lane);
    for (var i = 0u; i < m.z; i++) {
        sink[m.x * rows.hidden + m.y + i] = source[position_of(m.x) * rows.hidden + m.y + i];
    }
}

// Positions are distinct, so no two threads add to the same number.
@compute @workgroup_size(64)
fn scatter(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = mine(group, lane);
    for (var i = 0u; i < m.z; i++) {
        sink[position_of(m.x) * rows.hidden + m.y + i] += source[m.x * rows.hidden + m.y + i];
    }
}

@compute @workgroup_size(64)
fn clear(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = mine(group, lane);
    for (var i = 0u; i < m.z; i++) {
        sink[m.x * rows.hidden + m.y + i] = 0.0;
    }
}

@compute @workgroup_size(64)
fn drop(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = mine(group, lane);
    if (m.z == 0u) {
        return;
    }
    let position = position_of(m.x);
    let e = position % rows.length * rows.hidden + m.y;
    let kept = dropout4(rows.stream, rows.threshold, rows.keep, position / rows.length, e);
    for (var i = 0u; i < m.z; i++) {
        sink[m.x * rows.hidden + m.y + i] = kept[i] * source[m.x * rows.hidden + m.y + i];
    }
}
