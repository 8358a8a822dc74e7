//! One vector of 16 f32, three ways: AVX-512, AVX2 with FMA, and plain arrays.
//!
//! Every kernel is written once over [`Simd`] and compiled once per instruction set inside a wrapper with the matching
//! `#[target_feature]`; everything here and in the kernels is `inline(always)`, so that the intrinsics are expanded
//! inside that wrapper. The instruction set is chosen at run time by [`Isa::detect`].

/// Neurons per tile: the lanes of one vector.
pub const LANES: usize = 16;

/// Sixteen f32 on a cache line: one row of a tile.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; LANES]);

impl Lanes {
    /// All zero.
    pub const ZERO: Self = Self([0.0; LANES]);
}

/// An instruction set the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// Arrays of 16 f32, whatever the compiler makes of them; any processor.
    Portable,
    /// Two 256-bit vectors with FMA (x86-64-v3).
    Avx2,
    /// One 512-bit vector (AVX-512 F, BW, DQ, VL: x86-64-v4).
    Avx512,
}

impl Isa {
    /// The widest instruction set this processor has. The environment variable `CURRICLE_ISA` (portable, avx2, avx512)
    /// lowers the choice, never raises it.
    pub fn detect() -> Self {
        let best = *Self::available().last().expect("the portable kernels always exist");
        let wanted = match std::env::var("CURRICLE_ISA").as_deref() {
            Ok("portable") => Self::Portable,
            Ok("avx2") => Self::Avx2,
            _ => best,
        };
        if Self::available().contains(&wanted) { wanted } else { best }
    }

    /// All instruction sets this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt")
            {
                found.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    found.push(Self::Avx512);
                }
            }
        }
        found
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

/// Sixteen f32 in registers.
///
/// # Safety
/// Every method may be called only where the instruction set of the implementation is available; `load` and `store`
/// need a pointer, aligned to 64 bytes, to 16 f32.
pub unsafe trait Simd: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// self * a + b.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// self - a * b.
    unsafe fn minus_product(self, a: Self, b: Self) -> Self;
    /// max(self, 0), but NaN stays NaN.
    unsafe fn relu(self) -> Self;
    /// self where z > 0, else 0 (also where self is NaN or infinite).
    unsafe fn where_positive(self, z: Self) -> Self;
    /// Sum of the lanes in a fixed order.
    unsafe fn sum(self) -> f32;
    /// Hints that the cache line at `from` is wanted soon; any address will do.
    unsafe fn prefetch(from: *const f32);
}

/// Sum of 16 lanes by halving, the order all implementations share.
#[inline(always)]
fn sum_by_halving(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Array of 16 f32.
#[derive(Clone, Copy)]
pub struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(out)
    }
}

// SAFETY: plain Rust on valid pointers; no instruction set is assumed.
unsafe impl Simd for Portable {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller passes a pointer to 16 f32.
        Self(unsafe { from.cast::<[f32; LANES]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller passes a pointer to 16 f32.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // Two roundings: a fused multiply-add without hardware is a slow library call.
        self.zip(a, |x, y| x * y).zip(b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn minus_product(self, a: Self, b: Self) -> Self {
        self.zip(a.zip(b, |x, y| x * y), |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        Self(self.0.map(|z| if z <= 0.0 { 0.0 } else { z }))
    }
    #[inline(always)]
    unsafe fn where_positive(self, z: Self) -> Self {
        self.zip(z, |a, z| if z > 0.0 { a } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        sum_by_halving(self.0)
    }
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Two 256-bit vectors.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    // SAFETY: the methods need AVX2 and FMA, which their callers guarantee (see the trait).
    unsafe impl Simd for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_load_ps(from), _mm256_load_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_store_ps(to, self.0);
                _mm256_store_ps(to.add(8), self.1);
            }
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
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn minus_product(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fnmadd_ps(a.0, b.0, self.0), _mm256_fnmadd_ps(a.1, b.1, self.1)) }
        }
        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // maxps returns its second operand when one is NaN.
            unsafe {
                let zero = _mm256_setzero_ps();
                Self(_mm256_max_ps(zero, self.0), _mm256_max_ps(zero, self.1))
            }
        }
        #[inline(always)]
        unsafe fn where_positive(self, z: Self) -> Self {
            unsafe {
                let zero = _mm256_setzero_ps();
                Self(
                    _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(z.0, zero), self.0),
                    _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(z.1, zero), self.1),
                )
            }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { halving(_mm256_add_ps(self.0, self.1)) }
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }

    /// One 512-bit vector.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    // SAFETY: the methods need AVX-512 F and DQ, which their callers guarantee (see the trait).
    unsafe impl Simd for Avx512 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm512_load_ps(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_store_ps(to, self.0) }
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
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm512_fmadd_ps(self.0, a.0, b.0)) }
        }
        #[inline(always)]
        unsafe fn minus_product(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm512_fnmadd_ps(a.0, b.0, self.0)) }
        }
        #[inline(always)]
        unsafe fn relu(self) -> Self {
            // maxps returns its second operand when one is NaN.
            unsafe { Self(_mm512_max_ps(_mm512_setzero_ps(), self.0)) }
        }
        #[inline(always)]
        unsafe fn where_positive(self, z: Self) -> Self {
            unsafe {
                let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(z.0, _mm512_setzero_ps());
                Self(_mm512_maskz_mov_ps(positive, self.0))
            }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe {
                let high = _mm512_extractf32x8_ps::<1>(self.0);
                halving(_mm256_add_ps(_mm512_castps512_ps256(self.0), high))
            }
        }
        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }

    /// Sum of 8 lanes in the order of `sum_by_halving`.
    #[inline(always)]
    unsafe fn halving(v: __m256) -> f32 {
        // SAFETY: called only from the implementations above.
        unsafe {
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Simd>(name: &str) {
        let a = Lanes(std::array::from_fn(|i| (i as f32 - 7.3) * 1.7));
        let b = Lanes(std::array::from_fn(|i| (i as f32 * 0.37).sin()));
        let mut special = a;
        special.0[3] = f32::NAN;
        special.0[4] = f32::INFINITY;
        // SAFETY: only called for available instruction sets, on aligned vectors.
        let (fma, minus, relu, positive, sum) = unsafe {
            let get = |v: S| {
                let mut out = Lanes::ZERO;
                v.store(out.0.as_mut_ptr());
                out.0
            };
            let (va, vb, vs) = (S::load(a.0.as_ptr()), S::load(b.0.as_ptr()), S::load(special.0.as_ptr()));
            (
                get(va.fma(vb, S::splat(2.0))),
                get(va.minus_product(vb, S::splat(3.0))),
                get(vs.relu()),
                get(vs.where_positive(vb)),
                va.mul(vb).sum(),
            )
        };
        let mut expected_sum = 0.0;
        for i in 0..LANES {
            let (x, y) = (a.0[i], b.0[i]);
            assert!((fma[i] - (x * y + 2.0)).abs() < 1e-5, "{name} fma lane {i}");
            assert!((minus[i] - (x - y * 3.0)).abs() < 1e-5, "{name} minus_product lane {i}");
            if i != 3 {
                assert_eq!(relu[i], special.0[i].max(0.0), "{name} relu lane {i}");
                assert_eq!(positive[i], if y > 0.0 { special.0[i] } else { 0.0 }, "{name} lane {i}");
            }
            expected_sum += x * y;
        }
        assert!(relu[3].is_nan(), "{name}: relu must not hide NaN");
        assert!((sum - expected_sum).abs() < 1e-4, "{name} sum");
    }

    #[test]
    fn vectors_agree_with_scalars() {
        for isa in Isa::available() {
            match isa {
                Isa::Portable => check::<Portable>("portable"),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => check::<Avx2>("avx2"),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => check::<Avx512>("avx512"),
                #[cfg(not(target_arch = "x86_64"))]
                _ => unreachable!(),
            }
        }
    }
}
