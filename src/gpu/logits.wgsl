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

var<private> model: u32; // first parameter of this workgroup's model

// Rows of the product are neurons, columns are samples.
fn a_at(i: u32, k: u32) -> f32 {
    if (i < forward.m) {
        return params[model + k * forward.m + i];
    }
    return 0.0;
}

fn b_at(k: u32, n: u32) -> f32 {
    if (n < forward.samples) {
        return inputs[n * forward.inner + k];
    }
    return 0.0;
}

fn output_at(c: u32, i: u32) -> f32 {
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
    model = forward.model + number * forward.stride;
    let tx = lane % 16u;
    let ty = lane / 16u;
    var sums: array<vec4<f32>, 4>; // class, then one of 4 samples
    for (var c = 0u; c < 4u; c++) {
        sums[c] = vec4<f32>(0.0);
    }
    for (var i0 = group.y * 64u; i0 < forward.m; i0 += 64u * forward.slices) {
        var acc: array<vec4<f32>, 4>; // neuron of this thread, then one of 4 samples
        tile_product(lane, i0, n0, 0u, forward.inner, false, true, &acc);
        for (var r = 0u; r < 4u; r++) {
            let z = acc[r];
            let h = select(z, vec4<f32>(0.0), z <= vec4<f32>(0.0));
            let i = i0 + 4u * ty + r;
            for (var c = 0u; c < 4u; c++) {
                sums[c] += output_at(class0 + c, i) * h;
            }
        }
    }
    for (var c = 0u; c < 4u; c++) {
        tile_a[ty * 16u + tx] = sums[c];
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
