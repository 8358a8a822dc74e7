// Adds up the slices of the logits, and counts right answers.
struct Score {
    samples: u32,
    slices: u32,
    models: u32,
    classes: u32,
    first: u32, // row of the first sample in `logits` and `labels`
    rows: u32, // rows per model in `logits`
}
@group(0) @binding(0) var<uniform> score: Score;
@group(0) @binding(1) var<storage, read> partial: array<f32>; // [models, slices, samples, C]
@group(0) @binding(2) var<storage, read_write> logits: array<f32>; // [models, rows, C]

@compute @workgroup_size(64)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    let part = score.samples * score.classes;
    if (i >= score.models * part) {
        return;
    }
    let model = i / part;
    let at = i % part;
    var sum = 0.0;
    for (var s = 0u; s < score.slices; s++) {
        sum += partial[(model * score.slices + s) * part + at];
    }
    logits[(model * score.rows + score.first) * score.classes + at] = sum;
}

@group(0) @binding(1) var<storage, read> answers: array<f32>; // the logits
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> right: array<atomic<u32>>; // [models]

// The answer is the first of equal largest logits; a row with a NaN (told by its bits: x != x may be optimised away) is wrong.
@compute @workgroup_size(64)
fn count(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * GRID_ROW) * 64u + lane;
    if (i >= score.models * score.samples) {
        return;
    }
    let model = i / score.samples;
    let n = score.first + i % score.samples;
    let at = (model * score.rows + n) * score.classes;
    var best = 0u;
    var sane = true;
    for (var c = 0u; c < score.classes; c++) {
        sane = sane && (bitcast<u32>(answers[at + c]) & 0x7fffffffu) <= 0x7f800000u;
    }
    for (var c = 1u; c < score.classes; c++) {
        if (answers[at + c] > answers[at + best]) {
            best = c;
        }
    }
    // Integer additions: the order does not matter.
    if (sane && best == labels[n]) {
        atomicAdd(&right[model], 1u);
    }
}
