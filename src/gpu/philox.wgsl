// Philox 4x32-10, the same bits as src/rng.rs. WGSL has no 64-bit product: the high word is put together from 16-bit halves.
fn mul_high(a: u32, b: u32) -> u32 {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let low = al * bl;
    let middle = ah * bl + (low >> 16u); // at most (2^16-1)^2 + 2^16-1 < 2^32
    let cross = al * bh + (middle & 0xffffu); // likewise
    return ah * bh + (middle >> 16u) + (cross >> 16u);
}

fn philox(seed: vec2<u32>, item: vec4<u32>) -> vec4<u32> {
    var key = seed;
    var counter = item;
    for (var round = 0u; round < 10u; round++) {
        let high0 = mul_high(0xD2511F53u, counter.x);
        let low0 = 0xD2511F53u * counter.x;
        let high1 = mul_high(0xCD9E8D57u, counter.z);
        let low1 = 0xCD9E8D57u * counter.z;
        counter = vec4<u32>(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}

// Index `first + i` of a stream as (low, high).
fn index_plus(first: vec2<u32>, i: u32) -> vec2<u32> {
    let low = first.x + i;
    return vec2<u32>(low, first.y + select(0u, 1u, low < first.x));
}
