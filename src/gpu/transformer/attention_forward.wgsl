@group(0) @binding(5) var<storage, read> bits: array<u32>; // [rows, heads, words], 1: dropped
@group(0) @binding(6) var<storage, read_write> out: array<f32>; // [rows, heads * HD]
@group(0) @binding(7) var<storage, read_write> stats: array<vec2<f32>>; // [rows, heads]: log of the normaliser, -

var<workgroup> tile_k: array<vec4<f32>, KT * HV>;
var<workgroup> tile_v: array<vec4<f32>, KT * HV>;
var<workgroup> tile_shown: array<u32, KT>;

fn store4(at: u32, c: u32, v: vec4<f32>) {
    out[at + c] = v.x;
    if (within(c + 1u)) {
        out[at + c + 1u] = v.y;
    }
    if (within(c + 2u)) {
        out[at + c + 2u] = v.z;
    }
    if (within(c + 3u)) {
        out[at + c + 3u] = v.w;
    }
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let b = group.z;
    let h = group.y;
    let rows = rows_of(b);
    let first = rows.x + group.x * 64u;
    if (first >= rows.y) {
        return;
    }
    let last = min(first + 63u, rows.y - 1u);
    let row = min(first + lane, last); // spare threads repeat the last row and store nothing
    let end = limit_of(position_of(last) - b * att.length);
    let limit = limit_of(position_of(row) - b * att.length);
    let blind = ints[att.seen_at + b] >= limit; // every key hidden: uniform attention, without dropout as on the CPU
    let drops = att.threshold != 0u && !blind;
    var mine: array<vec4<f32>, HV>;
    var acc: array<vec4<f32>, HV>;
    for (var c = 0u; c < HV; c++) {
        mine[c] = q4(row * att.q_row + att.q_at + h * HD, 4u * c) * att.scale;
        acc[c] = vec4<f32>(0.0);
    }
    var top = LOW;
    var sum = 0.0;
    for (var k0 = 0u; k0 < end; k0 += KT) {
        for (var i = lane; i < KT * HV; i += 64u) {
            let j = k0 + i / HV;
            var k = vec4<f32>(0.0);
            var v = vec4<f32>(0.0);
            if (j < end) {
                let at = (b * att.length + j) * att.kv_row + h * HD;
                k = kv4(at + att.k_at, 4u * (i % HV));
                v = kv4(at + att.v_at, 4u * (i % HV));
            }
            tile_k[i] = k;
            tile_v[i] = v;
        }
        if (lane < KT) {
            var shown = 0u;
            if (k0 + lane < end) {
                shown = ints[att.keys_at + b * att.length + k0 + lane];
            }
            tile_shown[lane] = shown;
        }
        workgroupBarrier();
        for (var j0 = 0u; j0 < min(KT, end - k0); j0 += AT_ONCE) {
            var s: array<f32, AT_ONCE>;
            var higher = top;
            for (var i = 0u; i < AT_ONCE; i++) {
                let j = j0 + i;
                var dot = vec4<f32>(0.0);
                for (var c = 0u; c < HV; c++) {
                    dot += mine[c] * tile_k[j * HV + c];
                }
                let visible = k0 + j < limit && (blind || tile_shown[j] != 0u);
                s[i] = select(LOW, select(total(dot), 0.0, blind), visible);
                higher = max(higher, s[i]);
            }
            let shrink = exp(top - higher);
            top = higher;
            sum *= shrink;
            for (var c = 0u; c < HV; c++) {
                acc[c] *= shrink;
            }
            var dropped = 0u;
            if (drops) {
                let k = k0 + j0;
                dropped = bits[(row * att.heads + h) * att.words + k / 32u] >> (k % 32u);
            }
            for (var i = 0u; i < AT_ONCE; i++) {
                let p = select(exp(s[i] - top), 0.0, s[i] <= LOW);
                sum += p;
                let w = select(p, 0.0, ((dropped >> i) & 1u) == 1u);
                for (var c = 0u; c < HV; c++) {
                    acc[c] += w * tile_v[(j0 + i) * HV + c];
                }
            }
        }
        workgroupBarrier();
    }
    if (first + lane >= rows.y) {
        return;
    }
    let scale = select(1.0, att.keep, drops) / sum;
    for (var c = 0u; c < HV; c++) {
        store4((row * att.heads + h) * HD, 4u * c, acc[c] * scale);
    }
    stats[row * att.heads + h] = vec2<f32>(top + log(sum), 0.0);
}
