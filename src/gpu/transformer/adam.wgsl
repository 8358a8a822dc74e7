// Adam and AdamW as in torch.optim, and torch.nn.utils.clip_grad_norm_.
struct Adam {
    size: u32,
    decoupled: u32,
    rest1: f32, // 1 - beta1
    beta2: f32,
    rest2: f32, // 1 - beta2
    eps: f32,
    decay: f32,
    clip: f32, // negative: never
}
@group(0) @binding(0) var<uniform> adam: Adam;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>; // [256]; the norm of the gradient after them
@group(0) @binding(4) var<storage, read_write> params: array<f32>;
@group(0) @binding(5) var<storage, read_write> moments: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read> decays: array<u32>; // a bit per parameter: decay it
@group(0) @binding(7) var<storage, read_write> results: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn squares(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var v = array<f32, C>(0.0);
    for (var i = group.x * WG + lane; i < adam.size; i += 256u * WG) {
        v[0] += gradient[i] * gradient[i];
    }
    block_sum(lane, &v);
    if (lane == 0u) {
        partial[group.x] = v[0];
    }
}

@compute @workgroup_size(WG)
fn norm(@builtin(local_invocation_index) lane: u32) {
    var v = array<f32, C>(partial[lane]);
    block_sum(lane, &v);
    if (lane == 0u) {
        partial[256] = sqrt(v[0]);
        results[step.slot].y = sqrt(v[0]);
        results[step.slot].z = f32(step.slot + 1u);
    }
}

// Leaves the gradient zero for the next step.
@compute @workgroup_size(64)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= adam.size) {
        return;
    }
    var g = gradient[i];
    gradient[i] = 0.0;
    if (adam.clip >= 0.0) {
        g *= min(1.0, adam.clip / (partial[256] + 1e-6));
    }
    var p = params[i];
    if (adam.decay != 0.0 && ((decays[i / 32u] >> (i % 32u)) & 1u) == 1u) {
        if (adam.decoupled == 1u) {
            p -= step.rate * adam.decay * p;
        } else {
            g += adam.decay * p;
        }
    }
    var m = moments[i];
    m.x += adam.rest1 * (g - m.x);
    m.y = adam.beta2 * m.y + adam.rest2 * g * g;
    moments[i] = m;
    params[i] = p - step.rate / step.correction1 * m.x / (sqrt(m.y) / step.correction2 + adam.eps);
}
