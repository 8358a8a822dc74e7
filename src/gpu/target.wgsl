// Training targets from teacher logits and labels: core/target.rs.
struct Target {
    samples: u32,
    classes: u32,
    kind: u32, // of the loss
    hard: u32, // temperature 0
    temperature: f32,
    batch: u32,
    first: u32, // sample
    mixed: u32, // whether any step mixes in the labels
}
@group(0) @binding(0) var<uniform> wanted: Target;
@group(0) @binding(1) var<storage, read> logits: array<f32>; // [.., C]
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> mix: array<f32>; // weight of the labels, per step
@group(0) @binding(4) var<storage, read_write> targets: array<f32>;

fn mixed(soft: f32, label: f32, weight: f32) -> f32 {
    return select(soft, weight * label + (1.0 - weight) * soft, weight > 0.0);
}

// exp(difference / temperature) for difference <= 0. A tiny temperature (1e-20, or one that is 0 in f32) must give 0 or 1
// without passing through an infinity.
fn power(difference: f32) -> f32 {
    if (difference == 0.0) {
        return 1.0;
    }
    if (difference < -87.0 * wanted.temperature) {
        return 0.0;
    }
    return exp(difference / wanted.temperature);
}

@compute @workgroup_size(64)
fn make(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= wanted.samples) {
        return;
    }
    let n = wanted.first + i;
    var weight = 0.0;
    if (wanted.mixed == 1u) {
        weight = mix[i / wanted.batch];
    }
    let at = n * wanted.classes;
    let label = labels[n];
    if (wanted.kind != 0u) {
        let margin = logits[at + 1u] - logits[at];
        var t = margin / select(wanted.temperature, 1.0, wanted.hard == 1u);
        if (wanted.hard == 1u) {
            t = select(-1.0, 1.0, margin >= 0.0);
        }
        targets[i] = mixed(t, select(-1.0, 1.0, label == 1u), weight);
        return;
    }
    var best = 0u;
    for (var c = 1u; c < wanted.classes; c++) {
        if (logits[at + c] > logits[at + best]) {
            best = c;
        }
    }
    let peak = logits[at + best];
    var total = 0.0;
    for (var c = 0u; c < wanted.classes; c++) {
        total += power(logits[at + c] - peak);
    }
    for (var c = 0u; c < wanted.classes; c++) {
        var q = power(logits[at + c] - peak) / total;
        if (wanted.hard == 1u) {
            q = select(0.0, 1.0, c == best);
        }
        targets[i * wanted.classes + c] = mixed(q, select(0.0, 1.0, c == label), weight);
    }
}
