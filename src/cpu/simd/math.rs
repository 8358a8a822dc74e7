//! Functions of one f32, for the compiler to make vectors of.

use super::Simd;

/// a * b + c, with one rounding where there is a fused multiply-add.
#[inline(always)]
pub fn fma<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Below this, e^x is taken to be 0.
pub const LOW: f32 = -87.3;
/// ln 2 in two parts; the first has few bits, so that its small multiples are exact.
pub const LN2_HIGH: f32 = 0.693_359_4;
pub const LN2_LOW: f32 = -2.121_944_4e-4;
/// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, highest power first (Cephes).
pub const POLYNOMIAL: [f32; 6] =
    [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// e^x in f32 with a relative error below 2e-7 (Cephes' `expf`: argument reduction by ln 2 in two parts and a polynomial
/// of degree 6). 0 below -87.3, where f32 would become subnormal; 1.7e38 above 88; NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(x: f32) -> f32 {
    const HIGH: f32 = 88.0;
    // 1.5 * 2^23: adding it rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons rather than min and max, which would replace a NaN.
    let t = if x < LOW { LOW } else { x };
    let t = if t > HIGH { HIGH } else { t };
    let shifted = fma::<S>(t, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<S>(n, -LN2_LOW, fma::<S>(n, -LN2_HIGH, t));
    let mut p = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        p = fma::<S>(p, r, *coefficient);
    }
    let y = fma::<S>(p, r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let result = y * f32::from_bits(exponent);
    if x < LOW { 0.0 } else { result }
}

#[cfg(test)]
mod tests {
    use super::super::Lanes;
    use super::*;

    fn check<S: Simd>() {
        let mut worst = 0.0f64;
        for i in 0..2_000_000 {
            let x = -87.2 + i as f32 * (175.0 / 2e6);
            worst = worst.max((f64::from(exp::<S>(x)) / f64::from(x).exp() - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!((exp::<S>(-90.0), exp::<S>(f32::NEG_INFINITY), exp::<S>(0.0)), (0.0, 0.0, 1.0));
        assert!(exp::<S>(f32::NAN).is_nan() && exp::<S>(f32::INFINITY) > 1e38);
    }

    #[test]
    fn exp_is_accurate() {
        check::<Lanes>();
        #[cfg(target_arch = "x86_64")]
        check::<super::super::Avx512>();
    }
}
