// The last hidden layer and the output layer in one go, for many samples and many models: tiles of 64 samples x 64 neurons, whose
// relu is multiplied by the output weights at once, so that the hidden layer is never stored.
struct Forward {
    samples: u32,
    inner: u32, // inputs of the last hidden layer, with the constant
    m: u32,
    slices: u32, // neuron tiles are dealt to this many workgroups
    model: u32, // first parameter of the first model's last hidden layer
    stride: u32, // parameters per model
    output: u32, // output layer, relative to the last hidden one
    rounds: u32, // rounds of 4 classes
    classes: u32,
}
@group(0) @binding(0) var<uniform> forward: Forward;
@group(0) @binding(1) var<storage, read> inputs: array<f32>; // [samples, inner]
@group(0) @binding(2) var<storage, read> params: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>; // [models, slices, samples, C]

var<workgroup> tile_a: array<vec4<f32>, 256>; // [16 k, 64 samples]; afterwards the sums of 16 x 64
var<workgroup> tile_b: array<vec4<f32>, 256>; // [16 k, 64 neurons]

fn input_at(n: u32, k: u32) -> f32 {
    if (n < forward.samples && k < forward.inner) {
        return inputs[n * forward.inner + k];
    }
    return 0.0;
}

fn weight_at(model: u32, k: u32, i: u32) -> f32 {
    if (k < forward.inner && i < forward.m) {
        return params[model + k * forward.m + i];
    }
    return 0.0;
}

fn output_at(model: u32, c: u32, i: u32) -> f32 {
    if (c < forward.classes && i < forward.m) {
        return params[model + forward.output + c * (forward.m + 1u) + i];
    }
    return 0.0;
}

@compute @workgroup_size(256)
fn run(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let n0 = group.x * 64u;
    let number = group.z / forward.rounds;
    let class0 = (group.z % forward.rounds) * 4u;
    let model = forward.model + number * forward.stride;
    let tx = lane % 16u;
    let ty = lane / 16u;
    var sums: array<vec4<f32>, 4>; // class, then one of 4 samples
    for (var c = 0u; c < 4u; c++) {
        sums[c] = vec4<f32>(0.0);
    }
    for (var i0 = group.y * 64u; i0 < forward.m; i0 += 64u * forward.slices) {
        var acc: array<vec4<f32>, 4>; // neuron of this thread, then one of 4 samples
        for (var r = 0u; r < 4u; r++) {
            acc[r] = vec4<f32>(0.0);
        }
        for (var k0 = 0u; k0 < forward.inner; k0 += 16u) {
            let k = k0 + ty;
            let n = n0 + 4u * tx;
            tile_a[lane] = vec4<f32>(input_at(n, k), input_at(n + 1u, k), input_at(n + 2u, k), input_at(n + 3u, k));
            let i = i0 + 4u * tx;
            tile_b[lane] = vec4<f32>(weight_at(model, k, i), weight_at(model, k, i + 1u),
                weight_at(model, k, i + 2u), weight_at(model, k, i + 3u));
            workgroupBarrier();
            for (var k = 0u; k < 16u; k++) {
                let x = tile_a[k * 16u + ty];
                let w = tile_b[k * 16u + tx];
                acc[0] += w.x * x;
                acc[1] += w.y * x;
                acc[2] += w.z * x;
                acc[3] += w.w * x;
            }
            workgroupBarrier();
        }
        for (var r = 0u; r < 4u; r++) {
            let z = acc[r];
            let h = select(z, vec4<f32>(0.0), z <= vec4<f32>(0.0));
            let i = i0 + 4u * tx + r;
            for (var c = 0u; c < 4u; c++) {
                sums[c] += output_at(model, class0 + c, i) * h;
            }
        }
    }
    for (var c = 0u; c < 4u; c++) {
        tile_a[tx * 16u + ty] = sums[c];
        workgroupBarrier();
        if (lane < 16u && class0 + c < forward.classes) {
            var total = vec4<f32>(0.0);
            if (group.y == 0u) { // the bias
                total += params[model + forward.output + (class0 + c) * (forward.m + 1u) + forward.m];
            }
            for (var t = 0u; t < 16u; t++) {
                total += tile_a[t * 16u + lane];
            }
            for (var r = 0u; r < 4u; r++) {
                let n = n0 + 4u * lane + r;
                if (n < forward.samples) {
                    let row = (number * forward.slices + group.y) * forward.samples + n;
                    partial[row * forward.classes + class0 + c] = total[r];
                }
            }
        }
        workgroupBarrier();
    }
}
