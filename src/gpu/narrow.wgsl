// One workgroup per student: whole blocks of steps, no traffic between workgroups. Threads own neurons, so only the logits cross
// threads and the slab needs no barrier.
struct Member {
    model: u32, // first parameter
    blocks: u32, // first word of its prepared blocks
    targets: u32,
    rates: u32, // first step's entry
    samples: u32,
    out: u32,
    slab: u32,
    loss: u32, // kind | target width << 8
}
struct Span {
    first: u32, // block
    blocks: u32,
    members: u32,
}
@group(0) @binding(0) var<uniform> span: Span;
@group(0) @binding(1) var<storage, read> members: array<Member>;
@group(0) @binding(2) var<storage, read_write> params: array<f32>;
@group(0) @binding(3) var<storage, read> blocks: array<u32>;
@group(0) @binding(4) var<storage, read> targets: array<f32>;
@group(0) @binding(5) var<storage, read> rates: array<Rates>;
// Per member: samples done, then the loss of every block as f32 bits.
@group(0) @binding(6) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(WG)
fn train(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let number = group.x + group.y * GRID_ROW;
    if (number >= span.members) {
        return;
    }
    let me = members[number];
    let slab_at = select(me.slab, 0u, SHARED);
    let kind = me.loss & 255u;
    let width = me.loss >> 8u;
    let last = min(span.first + span.blocks, (me.samples + PER_BLOCK - 1u) / PER_BLOCK);
    var previous = me.blocks + span.first * BLOCK_WORDS;
    var done = 0u;
    var scale = 1.0;
    for (var b = span.first; b < last; b++) {
        let block = me.blocks + b * BLOCK_WORDS;
        for (var i = lane; i < M; i += WG) {
            sweep(i, me.model, slab_at, previous, done, scale, block, true);
        }
        let first = b * PER_BLOCK;
        done = min(PER_BLOCK, me.samples - first);
        var loss = 0.0;
        for (var s = 0u; s < done; s++) {
            let n = first + s;
            let step = rates[me.rates + n / BATCH];
            var z: array<f32, C>;
            var g: array<f32, C>;
            for (var c = 0u; c < C; c++) {
                z[c] = 0.0;
            }
            for (var i = lane; i < M1; i += WG) {
                let h = activation(i, slab_at, block, s, step.scale);
                for (var c = 0u; c < C; c++) {
                    z[c] += params[me.model + OUT + c * M1 + i] * h;
                }
            }
            block_sum(lane, &z);
            loss += loss_gradient(kind, &z, me.targets + n * width, &g);
            for (var i = lane; i < M1; i += WG) {
                learn(i, me.model, slab_at, s, step, &g);
            }
            scale = step.scale * step.keep;
        }
        previous = block;
        if (lane == 0u) {
            out[me.out] = first + done;
            out[me.out + 1u + b] = bitcast<u32>(loss);
        }
    }
    if (span.first < last) {
        for (var i = lane; i < M; i += WG) {
            sweep(i, me.model, slab_at, previous, done, scale, previous, false);
        }
    }
}
