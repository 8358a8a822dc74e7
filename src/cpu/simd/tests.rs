//! Vectors against scalars, on every instruction set of this processor.

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
            Isa::Portable => check::<Lanes>("portable"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => check::<Avx2>("avx2"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => check::<Avx512>("avx512"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!(),
        }
    }
}
