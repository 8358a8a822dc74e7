//! Sixteen f32 at a time in plain arrays, and the functions the model needs of them.
//!
//! Kernels are written once as `#[inline(always)]` bodies over [`V`] and compiled once per instruction set by
//! [`dispatch!`], inside functions with the matching `#[target_feature]`, where the compiler turns the arrays into
//! vector registers. The constant `F` says whether the instruction set has a fused multiply-add: without one, Rust's
//! `mul_add` is a slow library call.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Sixteen f32.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct V(pub [f32; LANES]);

/// a * b + c, with one rounding where `F`.
#[inline(always)]
pub fn fma<const F: bool>(a: f32, b: f32, c: f32) -> f32 {
    if F { a.mul_add(b, c) } else { a * b + c }
}

impl V {
    /// All zero.
    pub const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    /// The first sixteen numbers of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub fn load(from: &[f32]) -> Self {
        let mut out = [0.0; LANES];
        out.copy_from_slice(&from[..LANES]);
        Self(out)
    }

    /// To the first sixteen places of a slice.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub fn store(self, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&self.0);
    }

    #[inline(always)]
    pub fn map(self, f: impl Fn(f32) -> f32) -> Self {
        let mut out = self.0;
        for a in &mut out {
            *a = f(*a);
        }
        Self(out)
    }

    #[inline(always)]
    pub fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(out)
    }

    #[inline(always)]
    pub fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    pub fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    pub fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    /// self * a + b.
    #[inline(always)]
    pub fn fma<const F: bool>(self, a: Self, b: Self) -> Self {
        let mut out = b.0;
        for ((c, x), y) in out.iter_mut().zip(self.0).zip(a.0) {
            *c = fma::<F>(x, y, *c);
        }
        Self(out)
    }

    /// The larger of each pair; `self` where one is NaN.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if b > a { b } else { a })
    }

    /// Sum of the lanes by halving.
    #[inline(always)]
    pub fn sum(self) -> f32 {
        let mut lanes = self.0;
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// exp of every lane: see [`exp`].
    #[inline(always)]
    pub fn exp<const F: bool>(self) -> Self {
        self.map(exp::<F>)
    }
}

/// e^x in f32 with a relative error below 2e-7 (Cephes' `expf`: argument reduction by ln 2 in two parts and a polynomial
/// of degree 6). 0 below -87.3, where f32 would become subnormal; 1.7e38 above 88; NaN stays NaN.
#[inline(always)]
pub fn exp<const F: bool>(x: f32) -> f32 {
    const LOW: f32 = -87.3;
    const HIGH: f32 = 88.0;
    // 1.5 * 2^23: adding it rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons rather than min and max, which would replace a NaN.
    let t = if x < LOW { LOW } else { x };
    let t = if t > HIGH { HIGH } else { t };
    let shifted = fma::<F>(t, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<F>(n, -LN2_LOW, fma::<F>(n, -LN2_HIGH, t));
    let p = fma::<F>(1.987_569_2e-4, r, 1.398_2e-3);
    let p = fma::<F>(p, r, 8.333_452e-3);
    let p = fma::<F>(p, r, 4.166_579_6e-2);
    let p = fma::<F>(p, r, 1.666_666_5e-1);
    let p = fma::<F>(p, r, 0.5);
    let y = fma::<F>(p, r * r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let result = y * f32::from_bits(exponent);
    if x < LOW { 0.0 } else { result }
}

/// Compiles `body::<F>(..)` once per instruction set; the made function takes the set first. The set has to be one of
/// `Isa::available()`.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident = $body:ident ( $($arg:ident : $ty:ty),* $(,)? )) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: crate::engine::cpu::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use crate::engine::cpu::Isa;
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt")]
                fn avx512($($arg: $ty),*) {
                    $body::<true>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")]
                fn avx2($($arg: $ty),*) {
                    $body::<true>($($arg),*);
                }
                match isa {
                    // SAFETY: the engine asks `Isa::detect`, which names only sets this processor has.
                    Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    Isa::Portable => {}
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = isa;
            $body::<false>($($arg),*);
        }
    };
}
pub(super) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        let mut worst = 0.0f64;
        for i in 0..2_000_000 {
            let x = -87.2 + i as f32 * (175.0 / 2e6);
            let truth = f64::from(x).exp();
            worst = worst.max((f64::from(exp::<false>(x)) / truth - 1.0).abs());
            worst = worst.max((f64::from(exp::<true>(x)) / truth - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!((exp::<true>(-90.0), exp::<true>(f32::NEG_INFINITY), exp::<true>(0.0)), (0.0, 0.0, 1.0));
        assert!(exp::<false>(f32::NAN).is_nan() && exp::<false>(f32::INFINITY) > 1e38);
    }
}
