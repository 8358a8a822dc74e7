@group(0) @binding(5) var<storage, read> bits: array<u32>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>; // [rows, heads]: log of the normaliser, sum of out * dout
@group(0) @binding(7) var<storage, read> dout: array<f32>; // [rows, heads * HD]
@group(0) @binding(8) var<storage, read_write> grad: array<f32>; // laid out as q, or as kv

var<workgroup> tile_x: array<vec4<f32>, KT * HV>; // keys, or queries
var<workgroup> tile_y: array<vec4<f32>, KT * HV>; // values, or gradients of the output
var<workgroup> tile_info: array<vec4<f32>, KT>;

fn dout4(at: u32, c: u32) -> vec4<f32> {
    var v = vec4<f32>(dout[at + c], 0.0, 0.0, 0.0);
    if (within(c + 1u)) {
        v.y = dout[at + c + 1u];
    }
    if (within(c + 2u)) {
        v.z = dout[at + c + 2u];
    }
    if (within(c + 3u)) {
        v.w = dout[at + c + 3u];
    }
    return v;
}

fn store4(at: u32, c: u32, v: vec4<f32>) {
    grad[at + c] = v.x;
    if (within(c + 1u)) {
        grad[at + c + 1u] = v.y;
    }
    if (within(c + 2u)) {
        grad[at + c + 2u] = v.z;
    }
    if (within(c + 3u)) {
        grad[at + c + 3u] = v.w;
    }
}

// dq = scale * sum_k ds_k k, ds_k = p_k (mask_k (dout . v_k) - sum of out * dout).
@compute @workgroup_size(64)
fn queries(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let b = group.z;
    let h = group.y;
    let rows = rows_of(b);
    let first = rows.x + group.x * 64u;
    if (first >= rows.y) {
        return;
    }
    let last = min(first + 63u, rows.y - 1u);
    let row = min(first + lane, last);
    let end = limit_of(position_of(last) - b * att.length);
    let limit = limit_of(position_of(row) - b * att.length);
    let blind = ints[att.seen_at + b] >= limit;
    let mine = stats[row * att.heads + h];
    var x: array<vec4<f32>, HV>;
    var g: array<vec4<f32>, HV>;
    var acc: array<vec4<f32>, HV>;
    for (var c = 0u; c < HV; c++) {
        x[c] = q4(row * att.q_row + att.q_at + h * HD, 4u * c) * att.scale;
        g[c] = dout4((row * att.heads + h) * HD, 4u * c);
        acc[c] = vec4<f32>(0.0);
    }
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
            tile_x[i] = k;
            tile_y[i] = v;
        }
        if (lane < KT) {
            var shown = 0.0;
            if (k0 + lane < end) {
                shown = f32(ints[att.keys_at + b * att.length + k0 + lane]);
            }
            tile_info[lane] = vec4<f32>(shown);
        }
        workgroupBarrier();
        var dropped = 0u;
        for (var j = 0u; j < min(KT, end - k0); j++) {
            if (att.threshold != 0u && j % 8u == 0u) {
                dropped = bits[(row * att.heads + h) * att.words + (k0 + j) / 32u] >> ((k0 + j) % 32u);
            }
            var dot = vec4<f32>(0.0);
            var dp4 = vec4<f32>(0.0);
            for (var c = 0u; c < HV; c++) {
                dot += x[c] * tile_x[j * HV + c];
                dp4 += g[c] * tile_y[j * HV + c];
            }
            // A uniform row's scores are constants: no gradient.
            if (k0 + j < limit && !blind && tile_info[j].x != 0.0) {
                let dp = select(total(dp4) * att.keep, 0.0, ((dropped >> (j % 8u)) & 1u) == 1u);
                let ds = exp(total(dot) - mine.x) * (dp - mine.y);
                for (var c = 0u; c < HV; c++) {
                    acc[c] += ds * tile_x[j * HV + c];
                }
            }
        }
        workgroupBarrier();
    }
    if (first + lane >= rows.y) {
        return;
    }
    for (var c = 0u; c < HV; c++) {
        store4(row * att.q_row + att.q_at + h * HD, 4u * c, acc[c] * att.scale);
    }
}

// dk = scale * sum_q ds q and dv = sum_q mask p dout, one thread per key.
@compute @workgroup_size(64)
fn keys(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let b = group.z;
    let h = group.y;
    let rows = rows_of(b);
    let j0 = group.x * 64u;
    let j = min(j0 + lane, att.length - 1u);
    let at = (b * att.length + j) * att.kv_row + h * HD;
    let shown = ints[att.keys_at + b * att.length + j] != 0u;
    let seen = ints[att.seen_at + b];
    var k: array<vec4<f32>, HV>;
    var v: array<vec4<f32>, HV>;
    var dk: array<vec4<f32>, HV>;
    var dv: array<vec4<f32>, HV>;
    for (var c = 0u; c < HV; c++) {
        k[c] = kv4(at + att.k_at, 4u * c);
        v[c] = kv4(at + att.v_at, 4u * c);
        dk[c] = vec4<f32>(0.0);
        dv[c] = vec4<f32>(0.0);
    }
    for (var r0 = rows.x; r0 < rows.y; r0 += KT) {
        let end = min(KT, rows.y - r0);
        // Queries before the first of these keys see none of them.
        if (limit_of(position_of(r0 + end - 1u) - b * att.length) <= j0) {
            continue;
        }
        for (var i = lane; i < end * HV; i += 64u) {
            let row = r0 + i / HV;
            tile_x[i] = q4(row * att.q_row + att.q_at + h * HD, 4u * (i % HV)) * att.scale;
            tile_y[i] = dout4((row * att.heads + h) * HD, 4u * (i % HV));
        }
        if (lane < end) {
            let limit = limit_of(position_of(r0 + lane) - b * att.length);
            let blind = seen >= limit;
            tile_info[lane] = vec4<f32>(stats[(r0 + lane) * att.heads + h], f32(limit), select(0.0, 1.0, blind));
        }
        workgroupBarrier();
        for (var i = 0u; i < end; i++) {
            let info = tile_info[i];
            let blind = info.w != 0.0;
            if (f32(j) < info.z && (shown || blind)) {
                var dot = vec4<f32>(0.0);
                var dp4 = vec4<f32>(0.0);
                for (var c = 0u; c < HV; c++) {
                    dot += k[c] * tile_x[i * HV + c];
                    dp4 += v[c] * tile_y[i * HV + c];
                }
                let p = exp(select(total(dot), 0.0, blind) - info.x);
                var mask = 1.0;
                if (att.threshold != 0u && !blind) {
                    let word = bits[((r0 + i) * att.heads + h) * att.words + j / 32u];
                    mask = select(att.keep, 0.0, ((word >> (j % 32u)) & 1u) == 1u);
                }
                let ds = select(p * (total(dp4) * mask - info.y), 0.0, blind);
                for (var c = 0u; c < HV; c++) {
                    dv[c] += p * mask * tile_y[i * HV + c];
                    dk[c] += ds * tile_x[i * HV + c];
                }
            }
        }
        workgroupBarrier();
    }
    if (j0 + lane >= att.length) {
        return;
    }
    for (var c = 0u; c < HV; c++) {
        store4(at + att.k_at, 4u * c, dk[c]); // tile_x holds scaled queries
        store4(at + att.v_at, 4u * c, dv[c]);
    }
}
