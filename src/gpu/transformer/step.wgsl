// What changes from one micro-batch to the next.
struct Step {
    seed: vec2<u32>, // of dropout
    first: vec2<u32>, // running number of the first sequence
    reads: u32, // positions at which logits are read
    slot: u32, // of this training step in the list of results
    scale: f32, // 1 / reads of all micro-batches of this training step
    rate: f32,
    correction1: f32, // 1 - beta1^t
    correction2: f32, // sqrt(1 - beta2^t)
}
@group(0) @binding(1) var<uniform> step: Step;

// Buffers for the positions read hold more rows than are in use; a count of READS stands for those in use.
const READS: u32 = 0xffffffffu;
fn count_of(n: u32) -> u32 {
    return select(n, step.reads, n == READS);
}
