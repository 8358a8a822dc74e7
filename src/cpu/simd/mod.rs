//! One vector of 16 f32, three ways: AVX-512, AVX2 with FMA, and plain arrays.
//!
//! Every kernel is written once, generic over [`Simd`], and compiled once per instruction set inside functions with the
//! matching `#[target_feature]` (`dispatch!`, or `on_avx2!` and `on_avx512!` around a table of kernels); everything here
//! and in the kernels is `inline(always)`, so that it is expanded inside those functions. A kernel may name its registers
//! through the methods of [`Simd`], or leave loops over f32 with [`fma`] and [`exp`] to the compiler. The instruction set
//! is chosen at run time by [`Isa::detect`].

mod dispatch;
mod isa;
mod lanes;
mod math;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use dispatch::{dispatch, on_any};
#[cfg(target_arch = "x86_64")]
pub(super) use dispatch::{on_avx2, on_avx512};
pub use isa::Isa;
pub use lanes::{LANES, Lanes};
pub use math::{exp, fma};
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// Sixteen f32 in registers.
///
/// # Safety
/// Every method may be called only where the instruction set of the implementation is available; `load` and `store`
/// need a pointer, aligned to 64 bytes, to 16 f32.
pub unsafe trait Simd: Copy {
    /// Whether [`fma`] is one instruction: without one, Rust's `mul_add` is a slow library call.
    const FUSED: bool;

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
    /// As [`exp`], but infinite above 88.7 with AVX-512.
    unsafe fn exp(self) -> Self;
    /// Hints that the cache line at `from` is wanted soon; any address will do.
    unsafe fn prefetch(from: *const f32);

    /// Loads a vector.
    #[inline(always)]
    unsafe fn of(lanes: &Lanes) -> Self {
        // SAFETY: `Lanes` are aligned; the rest is the caller's.
        unsafe { Self::load(lanes.0.as_ptr()) }
    }

    /// Stores a vector.
    #[inline(always)]
    unsafe fn put(self, lanes: &mut Lanes) {
        // SAFETY: as above.
        unsafe { self.store(lanes.0.as_mut_ptr()) }
    }
}
