//! Compiling one kernel for every instruction set. The lists of features stand here and in [`super::Isa::available`].

/// The functions inside, for any processor.
macro_rules! on_any {
    ($($function:item)*) => { $($function)* };
}

/// The functions inside, compiled for AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
macro_rules! on_avx2 {
    ($($function:item)*) => { $(#[target_feature(enable = "avx2,fma,bmi1,bmi2,popcnt")] $function)* };
}

/// The functions inside, compiled for AVX-512.
#[cfg(target_arch = "x86_64")]
macro_rules! on_avx512 {
    ($($function:item)*) => {
        $(#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2,popcnt")] $function)*
    };
}

/// Compiles `body::<S>(..)` once per instruction set; the made function takes the set first. The set has to be one of
/// `Isa::available()`.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident = $body:ident ( $($arg:ident : $ty:ty),* $(,)? )) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::simd::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::simd::{Avx2, Avx512, Isa, on_avx2, on_avx512};
                on_avx512! {
                    fn avx512($($arg: $ty),*) {
                        $body::<Avx512>($($arg),*);
                    }
                }
                on_avx2! {
                    fn avx2($($arg: $ty),*) {
                        $body::<Avx2>($($arg),*);
                    }
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
            $body::<$crate::simd::Lanes>($($arg),*);
        }
    };
}

pub(crate) use {dispatch, on_any};
#[cfg(target_arch = "x86_64")]
pub(crate) use {on_avx2, on_avx512};
