//! Sixteen f32 in memory, and in plain Rust what the registers do.

use super::{Simd, exp};

/// Lanes of a vector; for MLPs the neurons of a tile.
pub const LANES: usize = 16;

/// Sixteen f32 on a cache line. As [`Simd`] it is the portable implementation: whatever the compiler makes of loops.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Lanes(pub [f32; LANES]);

impl Lanes {
    /// All zero.
    pub const ZERO: Self = Self([0.0; LANES]);

    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    /// f of every lane.
    #[inline(always)]
    pub fn map(self, f: impl Fn(f32) -> f32) -> Self {
        let mut out = self.0;
        for a in &mut out {
            *a = f(*a);
        }
        Self(out)
    }

    /// f of every pair of lanes.
    #[inline(always)]
    pub fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let mut out = self.0;
        for (a, b) in out.iter_mut().zip(other.0) {
            *a = f(*a, b);
        }
        Self(out)
    }

    /// Products of the lanes.
    #[inline(always)]
    pub fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    /// The larger of each pair; `self` where one is NaN.
    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if b > a { b } else { a })
    }

    /// Sum of the lanes by halving, the order all implementations share.
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
}

// SAFETY: plain Rust on valid pointers; no instruction set is assumed.
unsafe impl Simd for Lanes {
    const FUSED: bool = false;

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
        self.map(|z| if z <= 0.0 { 0.0 } else { z })
    }
    #[inline(always)]
    unsafe fn where_positive(self, z: Self) -> Self {
        self.zip(z, |a, z| if z > 0.0 { a } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        Self::sum(self)
    }
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        self.map(exp::<Self>)
    }
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
}
