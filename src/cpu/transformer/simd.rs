//! Sixteen f32 at a time in plain arrays, and the functions the model needs of them.
//!
//! Kernels are written once as `#[inline(always)]` bodies over [`V`] and compiled once per instruction set by
//! [`dispatch!`], inside functions with the matching `#[target_feature]`, where the compiler turns the arrays into
//! vector registers. The constant `F` says for which set: without a fused multiply-add, Rust's `mul_add` is a slow library
//! call. Where the compiler would pick the wrong loop to vectorise, [`Register`] names the registers.

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Values of `F`: no instruction set in particular, AVX2 with FMA, AVX-512.
pub const PORTABLE: u8 = 0;
pub const AVX2: u8 = 1;
pub const AVX512: u8 = 2;

/// Sixteen f32.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct V(pub [f32; LANES]);

/// a * b + c, with one rounding where there is a fused multiply-add.
#[inline(always)]
pub fn fma<const F: u8>(a: f32, b: f32, c: f32) -> f32 {
    if F == PORTABLE { a * b + c } else { a.mul_add(b, c) }
}

impl V {
    /// All zero.
    pub const ZERO: Self = Self([0.0; LANES]);

    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self([value; LANES])
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
    pub fn fma<const F: u8>(self, a: Self, b: Self) -> Self {
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
    pub fn exp<const F: u8>(self) -> Self {
        self.map(exp::<F>)
    }
}

/// Sixteen f32 in registers.
///
/// # Safety
/// The methods may be called only where the implementation's instruction set is available.
pub unsafe trait Register: Copy {
    unsafe fn load(from: &V) -> Self;
    unsafe fn store(self, to: &mut V);
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// self + weight * x.
    unsafe fn add_scaled(self, weight: Self, x: f32) -> Self;
    /// As [`exp`], but infinite above 88.7.
    unsafe fn exp(self) -> Self;
}

// SAFETY: plain Rust.
unsafe impl Register for V {
    #[inline(always)]
    unsafe fn load(from: &V) -> Self {
        *from
    }
    #[inline(always)]
    unsafe fn store(self, to: &mut V) {
        *to = self;
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        V::splat(value)
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        V::add(self, other)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        V::sub(self, other)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        V::mul(self, other)
    }
    #[inline(always)]
    unsafe fn add_scaled(self, weight: Self, x: f32) -> Self {
        weight.fma::<PORTABLE>(V::splat(x), self)
    }
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        V::exp::<PORTABLE>(self)
    }
}

#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use super::{LN2_HIGH, LN2_LOW, LOW, POLYNOMIAL, Register, V};
    use std::arch::x86_64::*;

    /// Two 256-bit registers.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    /// One 512-bit register.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    // SAFETY: the callers see to AVX2 and FMA; a `V` is 64 aligned bytes.
    unsafe impl Register for Avx2 {
        #[inline(always)]
        unsafe fn load(from: &V) -> Self {
            unsafe { Self(_mm256_load_ps(from.0.as_ptr()), _mm256_load_ps(from.0[8..].as_ptr())) }
        }
        #[inline(always)]
        unsafe fn store(self, to: &mut V) {
            unsafe {
                _mm256_store_ps(to.0.as_mut_ptr(), self.0);
                _mm256_store_ps(to.0[8..].as_mut_ptr(), self.1);
            }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn add_scaled(self, weight: Self, x: f32) -> Self {
            unsafe {
                let x = _mm256_set1_ps(x);
                Self(_mm256_fmadd_ps(weight.0, x, self.0), _mm256_fmadd_ps(weight.1, x, self.1))
            }
        }
        #[inline(always)]
        unsafe fn exp(self) -> Self {
            unsafe {
                let mut lanes = V::ZERO;
                self.store(&mut lanes);
                Self::load(&lanes.exp::<{ super::AVX2 }>())
            }
        }
    }

    // SAFETY: the callers see to AVX-512 F; a `V` is 64 aligned bytes.
    unsafe impl Register for Avx512 {
        #[inline(always)]
        unsafe fn load(from: &V) -> Self {
            unsafe { Self(_mm512_load_ps(from.0.as_ptr())) }
        }
        #[inline(always)]
        unsafe fn store(self, to: &mut V) {
            unsafe { _mm512_store_ps(to.0.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn add_scaled(self, weight: Self, x: f32) -> Self {
            unsafe { Self(_mm512_fmadd_ps(weight.0, _mm512_set1_ps(x), self.0)) }
        }
        #[inline(always)]
        unsafe fn exp(self) -> Self {
            // As `exp`, with the processor's own rounding and scaling. Scaling to a subnormal number or to zero costs some
            // hundred cycles, so the argument is kept above and zeros are put in afterwards.
            unsafe {
                let c = |value: f32| _mm512_set1_ps(value);
                // Not less than, so that NaN passes.
                let normal = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(self.0, c(LOW));
                let x = _mm512_max_ps(c(LOW), self.0);
                let n = _mm512_roundscale_ps::<8>(_mm512_mul_ps(x, c(std::f32::consts::LOG2_E)));
                let r = _mm512_fnmadd_ps(n, c(LN2_LOW), _mm512_fnmadd_ps(n, c(LN2_HIGH), x));
                let mut p = c(POLYNOMIAL[0]);
                for coefficient in &POLYNOMIAL[1..] {
                    p = _mm512_fmadd_ps(p, r, c(*coefficient));
                }
                let y = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), c(1.0));
                Self(_mm512_maskz_scalef_ps(normal, y, n))
            }
        }
    }
}

/// Below this, e^x is taken to be 0.
const LOW: f32 = -87.3;
/// ln 2 in two parts; the first has few bits, so that its small multiples are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, highest power first (Cephes).
const POLYNOMIAL: [f32; 6] = [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// e^x in f32 with a relative error below 2e-7 (Cephes' `expf`: argument reduction by ln 2 in two parts and a polynomial
/// of degree 6). 0 below -87.3, where f32 would become subnormal; 1.7e38 above 88; NaN stays NaN.
#[inline(always)]
pub fn exp<const F: u8>(x: f32) -> f32 {
    const HIGH: f32 = 88.0;
    // 1.5 * 2^23: adding it rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons rather than min and max, which would replace a NaN.
    let t = if x < LOW { LOW } else { x };
    let t = if t > HIGH { HIGH } else { t };
    let shifted = fma::<F>(t, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<F>(n, -LN2_LOW, fma::<F>(n, -LN2_HIGH, t));
    let mut p = POLYNOMIAL[0];
    for coefficient in &POLYNOMIAL[1..] {
        p = fma::<F>(p, r, *coefficient);
    }
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
        $vis fn $name(isa: crate::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use crate::Isa;
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt")]
                fn avx512($($arg: $ty),*) {
                    $body::<{ crate::transformer::simd::AVX512 }>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")]
                fn avx2($($arg: $ty),*) {
                    $body::<{ crate::transformer::simd::AVX2 }>($($arg),*);
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
            $body::<{ crate::transformer::simd::PORTABLE }>($($arg),*);
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
            worst = worst.max((f64::from(exp::<PORTABLE>(x)) / truth - 1.0).abs());
            worst = worst.max((f64::from(exp::<AVX512>(x)) / truth - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(
            (exp::<AVX512>(-90.0), exp::<AVX512>(f32::NEG_INFINITY), exp::<AVX512>(0.0)),
            (0.0, 0.0, 1.0)
        );
        assert!(exp::<PORTABLE>(f32::NAN).is_nan() && exp::<PORTABLE>(f32::INFINITY) > 1e38);
    }
}
