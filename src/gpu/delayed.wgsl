// Delayed rank-1 updates, for one neuron per thread (or several in turn). The slab V holds, for sample s of the current block and
// neuron i, first z0 = W x_s with W as of the start of the block, then the preactivation z, then the scaled delta D.
// With weight decay W_t = c_t (W_0 - sum_{s<t} D_s x_s^T), where c_t is the product of the (1 - lr wd) so far in the block and
// D_s = lr_s delta_s / c_{s+1}; without, every c is 1. A step's rates are (lr / B, 1 - lr wd, c_t, lr / (B c_{t+1})).
// First layer: [D1, M], row D is the bias. Output layer: [C, M1], column M is the bias, treated as a neuron that is always 1.
struct Rates {
    rate: f32,
    keep: f32,
    scale: f32,
    delta: f32,
}

fn flip(v: vec4<f32>, bits: u32, q: u32) -> vec4<f32> {
    let place = vec4<u32>(31u, 30u, 29u, 28u) - vec4<u32>(4u * q);
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) ^ ((vec4<u32>(bits) << place) & vec4<u32>(0x80000000u)));
}

fn slab_or_zero(at: u32, s: u32, count: u32) -> f32 {
    if (s < count) {
        return slab[at + s * M];
    }
    return 0.0;
}

// Applies block `previous` (count samples of it) to row i of W and computes z0 for block `next`, touching W once.
fn sweep(i: u32, model: u32, slab_at: u32, previous: u32, count: u32, scale: f32, next: u32, store: bool) {
    let at = slab_at + i;
    var d: array<vec4<f32>, 8>;
    var z: array<vec4<f32>, 8>;
    for (var q = 0u; q < 8u; q++) {
        let s = 4u * q;
        d[q] = vec4<f32>(slab_or_zero(at, s, count), slab_or_zero(at, s + 1u, count),
            slab_or_zero(at, s + 2u, count), slab_or_zero(at, s + 3u, count));
        z[q] = vec4<f32>(0.0);
    }
    for (var j = 0u; j < D1; j++) {
        let before = blocks[previous + j];
        let after = blocks[next + j];
        var change = vec4<f32>(0.0);
        for (var q = 0u; q < 8u; q++) {
            change += flip(d[q], before, q);
        }
        let place = model + j * M + i;
        let w = scale * (params[place] - (change.x + change.y + change.z + change.w));
        params[place] = w;
        for (var q = 0u; q < 8u; q++) {
            z[q] += flip(vec4<f32>(w), after, q);
        }
    }
    if (store) {
        for (var q = 0u; q < 8u; q++) {
            let s = 4u * q;
            let v = z[q];
            slab[at + s * M] = v.x;
            slab[at + (s + 1u) * M] = v.y;
            slab[at + (s + 2u) * M] = v.z;
            slab[at + (s + 3u) * M] = v.w;
        }
    }
}

// relu without hiding a NaN.
fn relu(z: f32) -> f32 {
    return select(z, 0.0, z <= 0.0);
}

// Activation of neuron i on sample s; leaves the preactivation in the slab.
fn activation(i: u32, slab_at: u32, block: u32, s: u32, scale: f32) -> f32 {
    if (i == M) {
        return 1.0;
    }
    let at = slab_at + i;
    // Samples of the same batch see the same weights.
    let before = s - s % BATCH;
    let gram = block + D1 + 32u * s;
    var sum = 0.0;
    for (var r = 0u; r < before; r++) {
        sum += slab[at + r * M] * bitcast<f32>(blocks[gram + r]);
    }
    let z = scale * (slab[at + s * M] - sum);
    slab[at + s * M] = z;
    return relu(z);
}

// Turns the preactivation of neuron i on sample s into its delta and updates the output weights (at the end of a batch).
fn learn(i: u32, model: u32, slab_at: u32, s: u32, step: Rates, g: ptr<function, array<f32, C>>) {
    let at = slab_at + s * M + i;
    var z = 1.0;
    if (i < M) {
        z = slab[at];
    }
    let h = relu(z);
    var delta = 0.0;
    let end = (s + 1u) % BATCH == 0u;
    for (var c = 0u; c < C; c++) {
        let place = model + OUT + c * M1 + i;
        let w = params[place];
        delta += (*g)[c] * w;
        if (BATCH == 1u) {
            params[place] = step.keep * w - step.rate * ((*g)[c] * h);
        } else {
            let sum_at = model + GRAD + c * M1 + i;
            let sum = params[sum_at] + (*g)[c] * h;
            params[sum_at] = select(sum, 0.0, end);
            if (end) {
                params[place] = step.keep * w - step.rate * sum;
            }
        }
    }
    if (i < M) {
        slab[at] = select(step.delta * delta, 0.0, z <= 0.0);
    }
}
