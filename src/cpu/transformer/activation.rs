//! gelu, both forms, with the bias before it.

use crate::simd::{Simd, dispatch, exp, fma};
use curricle_core::model::transformer::Activation;

/// The standard normal distribution function and density at x.
///
/// Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7, about an f32 rounding of values near 1.
#[inline(always)]
fn normal<S: Simd>(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma::<S>(0.327_591_1, z, 1.0);
    let p = fma::<S>(1.061_405_4, t, -1.453_152);
    let p = fma::<S>(p, t, 1.421_413_7);
    let p = fma::<S>(p, t, -0.284_496_74);
    let p = fma::<S>(p, t, 0.254_829_6) * t;
    let e = exp::<S>(-z * z);
    let tail = 0.5 * p * e;
    // 1 / sqrt(2 pi).
    (if x >= 0.0 { 1.0 - tail } else { tail }, e * 0.398_942_3)
}

/// The logistic function s of 2 u, which is (1 + tanh u) / 2, then 1 - s without cancellation, and du/dx, for
/// u = sqrt(2/pi) (x + 0.044715 x^3).
#[inline(always)]
fn logistic<S: Simd>(x: f32) -> (f32, f32, f32) {
    const C: f32 = 0.797_884_6;
    const A: f32 = 0.044_715;
    let u = C * fma::<S>(A * x * x, x, x);
    let e = exp::<S>(-2.0 * u);
    let s = 1.0 / (1.0 + e);
    (s, s * e, C * fma::<S>(3.0 * A * x, x, 1.0))
}

#[inline(always)]
fn value<S: Simd, const ERF: bool>(x: f32) -> f32 {
    if ERF { x * normal::<S>(x).0 } else { x * logistic::<S>(x).0 }
}

#[inline(always)]
fn slope<S: Simd, const ERF: bool>(x: f32) -> f32 {
    if ERF {
        let (below, density) = normal::<S>(x);
        fma::<S>(x, density, below)
    } else {
        let (s, rest, du) = logistic::<S>(x);
        fma::<S>(2.0 * x * s, rest * du, s)
    }
}

#[inline(always)]
fn rows<S: Simd, const ERF: bool>(x: &mut [f32], bias: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks_exact_mut(bias.len()).zip(out.chunks_exact_mut(bias.len())) {
        for ((x, out), b) in x.iter_mut().zip(out).zip(bias) {
            *x += b;
            *out = value::<S, ERF>(*x);
        }
    }
}

#[inline(always)]
fn forward_body<S: Simd>(activation: Activation, x: &mut [f32], bias: &[f32], out: &mut [f32]) {
    match activation {
        Activation::Gelu => rows::<S, true>(x, bias, out),
        Activation::GeluNew => rows::<S, false>(x, bias, out),
    }
}

dispatch! {
    /// Rows of x += bias, then out = gelu(x).
    pub fn bias_gelu = forward_body(activation: Activation, x: &mut [f32], bias: &[f32], out: &mut [f32])
}

#[inline(always)]
fn slopes<S: Simd, const ERF: bool>(x: &[f32], d: &mut [f32], sums: &mut [f32]) {
    for (x, d) in x.chunks_exact(sums.len()).zip(d.chunks_exact_mut(sums.len())) {
        for ((x, d), s) in x.iter().zip(d).zip(sums.iter_mut()) {
            *d *= slope::<S, ERF>(*x);
            *s += *d;
        }
    }
}

#[inline(always)]
fn backward_body<S: Simd>(activation: Activation, x: &[f32], d: &mut [f32], sums: &mut [f32]) {
    match activation {
        Activation::Gelu => slopes::<S, true>(x, d, sums),
        Activation::GeluNew => slopes::<S, false>(x, d, sums),
    }
}

dispatch! {
    /// d *= gelu'(x), and the sum of d's rows is added to `sums`, the bias's gradient.
    pub fn gelu_backward = backward_body(activation: Activation, x: &[f32], d: &mut [f32], sums: &mut [f32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// erf by its Taylor series in f64; converges for the arguments used here.
    fn erf(z: f64) -> f64 {
        let (mut term, mut sum) = (z, z);
        for n in 1..200 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn values_and_slopes_are_those_of_the_formulas() {
        let formula = |activation: Activation, x: f64| match activation {
            Activation::Gelu => x / 2.0 * (1.0 + erf(x / 2f64.sqrt())),
            Activation::GeluNew => {
                x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
        };
        for isa in Isa::available() {
            for activation in [Activation::Gelu, Activation::GeluNew] {
                let mut x: Vec<f32> = (-500..=500).map(|i| i as f32 * 0.01).collect();
                let n = x.len();
                let (mut out, mut d, mut sums) = (vec![0.0; n], vec![1.0; n], vec![0.0; n]);
                bias_gelu(isa, activation, &mut x, &vec![0.0; n], &mut out);
                gelu_backward(isa, activation, &x, &mut d, &mut sums);
                for i in 0..n {
                    let at = f64::from(x[i]);
                    let numeric = (formula(activation, at + 1e-5) - formula(activation, at - 1e-5)) / 2e-5;
                    assert!(
                        (f64::from(out[i]) - formula(activation, at)).abs() < 1e-6,
                        "{isa:?} {at} {}",
                        out[i]
                    );
                    assert!((f64::from(d[i]) - numeric).abs() < 1e-6, "{isa:?} {at}: {} {numeric}", d[i]);
                    assert_eq!(d[i], sums[i]);
                }
            }
        }
    }

    #[test]
    fn nan_stays_and_extremes_saturate() {
        for activation in [Activation::Gelu, Activation::GeluNew] {
            let mut x = [f32::NAN, 1e4, -1e4, 0.0];
            let mut out = [0.0; 4];
            bias_gelu(Isa::detect(), activation, &mut x, &[0.0; 4], &mut out);
            assert!(out[0].is_nan());
            assert_eq!((out[1], out[3]), (1e4, 0.0));
            assert!(out[2].abs() < 1e-30, "{}", out[2]);
        }
    }
}
