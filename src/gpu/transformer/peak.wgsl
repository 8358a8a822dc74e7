// What the device can do at most: multiplications and additions on registers, and a copy through memory.
struct Peak {
    rounds: u32,
    size: u32, // of the copy, in vec4s
}
@group(0) @binding(0) var<uniform> peak: Peak;
@group(0) @binding(2) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> sink: array<vec4<f32>>;

// 8 independent chains of 4 numbers, 64 operations per round.
@compute @workgroup_size(256)
fn arithmetic(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let x = vec4<f32>(0.999 + 1e-6 * f32(lane));
    let y = vec4<f32>(1e-3 * f32(group.x + 1u));
    var a = x;
    var b = y;
    var c = x + y;
    var d = x - y;
    var e = x + 2.0 * y;
    var f = x - 2.0 * y;
    var g = x + 3.0 * y;
    var h = x - 3.0 * y;
    for (var i = 0u; i < peak.rounds; i++) {
        a = a * x + y;
        b = b * x + y;
        c = c * x + y;
        d = d * x + y;
        e = e * x + y;
        f = f * x + y;
        g = g * x + y;
        h = h * x + y;
    }
    sink[group.x * 256u + lane] = ((a + b) + (c + d)) + ((e + f) + (g + h));
}

@compute @workgroup_size(256)
fn copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 256u + lane;
    if (i < peak.size) {
        sink[i] = source[i];
    }
}
