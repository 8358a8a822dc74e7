// Dropout from the counter-based generator: what elements e .. e + 3 of sequence b are multiplied by, 0 or `keep`. The same bits as
// rng::bits(seed, stream, first + b, e / 4).
fn dropout4(stream: u32, threshold: u32, keep: f32, b: u32, e: u32) -> vec4<f32> {
    let index = index_plus(step.first, b);
    var words = philox(step.seed, vec4<u32>(index.x, index.y, e >> 2u, stream));
    let shift = e & 3u;
    if (shift != 0u) {
        let next = philox(step.seed, vec4<u32>(index.x, index.y, (e >> 2u) + 1u, stream));
        if (shift == 1u) {
            words = vec4<u32>(words.yzw, next.x);
        } else if (shift == 2u) {
            words = vec4<u32>(words.zw, next.xy);
        } else {
            words = vec4<u32>(words.w, next.xyz);
        }
    }
    return select(vec4<f32>(keep), vec4<f32>(0.0), words < vec4<u32>(threshold));
}
