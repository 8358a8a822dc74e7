// Sums of f(x) x_j x_k over samples for every pair of coordinates, the constant (coordinate d) included: degrees 0, 1 and 2 at once.
// With j = k the product is 1: the host keeps the pair (d, d) as degree 0.
struct Sums {
    samples: u32,
    words: u32, // of 32 samples
    classes: u32,
    kind: u32, // 0: probability of class `class`, 1: margin z_1 - z_0, 2: logit of `class`
    class_index: u32,
    chunk: u32, // words per partial sum
}
@group(0) @binding(0) var<uniform> wanted: Sums;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> value: array<f32>; // [32 words], 0 after the last sample

@compute @workgroup_size(64)
fn values(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= 32u * wanted.words) {
        return;
    }
    var v = 0.0;
    if (i < wanted.samples) {
        let at = i * wanted.classes;
        if (wanted.kind == 1u) {
            v = logits[at + 1u] - logits[at];
        } else if (wanted.kind == 2u) {
            v = logits[at + wanted.class_index];
        } else {
            // 1 / sum_c exp(z_c - z_class); an exponent beyond 80 makes the probability 0 in f32 anyway.
            var total = 0.0;
            for (var c = 0u; c < wanted.classes; c++) {
                total += exp(clamp(logits[at + c] - logits[at + wanted.class_index], -80.0, 80.0));
            }
            v = 1.0 / total;
        }
    }
    value[i] = v;
}

@group(0) @binding(1) var<storage, read> bits: array<u32>; // [D1, words]
@group(0) @binding(2) var<storage, read> f: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>; // [chunks, D1, D1], only k >= j

@compute @workgroup_size(64)
fn pairs(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let j = group.y;
    let k = group.x * 64u + lane;
    if (k < j || k >= D1) {
        return;
    }
    let first = group.z * wanted.chunk;
    let last = min(first + wanted.chunk, wanted.words);
    // Two levels of f32 sums: 32 samples, then at most `chunk` of those. The host adds the chunks in f64.
    var sum = 0.0;
    for (var w = first; w < last; w++) {
        let odd = bits[j * wanted.words + w] ^ bits[k * wanted.words + w];
        var part = vec4<f32>(0.0);
        for (var q = 0u; q < 8u; q++) {
            let place = vec4<u32>(31u, 30u, 29u, 28u) - vec4<u32>(4u * q);
            let sign = (vec4<u32>(odd) << place) & vec4<u32>(0x80000000u);
            part += bitcast<vec4<f32>>(bitcast<vec4<u32>>(f[8u * w + q]) ^ sign);
        }
        sum += part.x + part.y + part.z + part.w;
    }
    partial[(group.z * D1 + j) * D1 + k] = sum;
}
