// gelu(x) = x P(x) and its derivative. ERF: P is the normal distribution function (HF "gelu"); otherwise its tanh form
// ("gelu_new"), written as a logistic function because 1 + tanh cancels for negative x.
const GELU_C: f32 = 0.7978845608028654; // sqrt(2 / pi)

// (P, P')
fn gelu_parts(x: f32) -> vec2<f32> {
    if (ERF == 1u) {
        // erfc by Abramowitz and Stegun 7.1.26: absolute error of P below 0.75e-7.
        let z = min(abs(x), 20.0) * 0.7071067811865476;
        let t = 1.0 / (1.0 + 0.3275911 * z);
        let bell = exp(-z * z);
        let poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
        let tail = 0.5 * poly * bell;
        return vec2<f32>(select(1.0 - tail, tail, x < 0.0), 0.3989422804014327 * bell);
    }
    // 0.5 (1 + tanh y) = 1 / (1 + exp(-2y)), y clamped to +-15: beyond, f32 does not tell P from 0 or 1.
    let y = clamp(GELU_C * (x + 0.044715 * x * x * x), -15.0, 15.0);
    let p = 1.0 / (1.0 + exp(-2.0 * y));
    let slope = 2.0 * p * (1.0 - p) * GELU_C * (1.0 + 0.134145 * x * x);
    return vec2<f32>(p, select(slope, 0.0, abs(y) >= 15.0));
}

fn gelu(x: f32) -> f32 {
    return x * gelu_parts(x).x;
}

fn gelu_slope(x: f32) -> f32 {
    let p = gelu_parts(x);
    return p.x + x * p.y;
}
