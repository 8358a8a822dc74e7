//! The vectors of x86-64: AVX2 with FMA, and AVX-512.

use super::math::{LN2_HIGH, LN2_LOW, LOW, POLYNOMIAL, exp};
use super::{Lanes, Simd};
use std::arch::x86_64::*;

/// Two 256-bit vectors.
#[derive(Clone, Copy)]
pub struct Avx2(__m256, __m256);

// SAFETY: the methods need AVX2 and FMA, which their callers guarantee (see the trait).
unsafe impl Simd for Avx2 {
    const FUSED: bool = true;

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
    unsafe fn exp(self) -> Self {
        unsafe {
            let mut lanes = Lanes::ZERO;
            self.store(lanes.0.as_mut_ptr());
            Self::load(lanes.map(exp::<Self>).0.as_ptr())
        }
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
    const FUSED: bool = true;

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
