// What a dispatch and a barrier cost when they do nothing: the floor no kernel gets below.
struct Floor {
    rounds: u32,
}
@group(0) @binding(0) var<uniform> wanted: Floor;
@group(0) @binding(1) var<storage, read_write> word: array<u32>;

// Dispatches that depend on each other through one word.
@compute @workgroup_size(64)
fn dispatch(@builtin(local_invocation_index) lane: u32) {
    if (lane == 0u) {
        word[0] = word[0] + 1u;
    }
}

var<workgroup> value: u32;

@compute @workgroup_size(256)
fn barrier(@builtin(local_invocation_index) lane: u32) {
    for (var i = 0u; i < wanted.rounds; i++) {
        if (lane == (i & 255u)) {
            value = i;
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        word[0] = value;
    }
}
