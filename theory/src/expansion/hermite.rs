//! The information exponent of a single-index Gaussian model.

use serde::Serialize;

use crate::error::{Result, TheoryError, out_of_range};

/// Result of [`information_exponent`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InformationExponent {
    /// Smallest `p >= 1` with a non-zero Hermite coefficient; `None`: none up to the order asked for.
    pub exponent: Option<usize>,
    /// Coefficients `E[f(z) He_p(z)]/sqrt(p!)`, `p = 0, 1, ..`.
    pub coefficients: Vec<f64>,
    /// Order in d of the samples of online SGD from a random start: `1` for p = 1, `d log d` as 1 for p = 2,
    /// else `p - 1` (Ben Arous et al. 2021).
    pub sample_power: Option<f64>,
}

/// Panels of the quadrature over [-12, 12].
const STEPS: usize = 24_000;

/// Information exponent of `y = f(<u, x>)`, `x` standard Gaussian, `|u| = 1`: with exponent p, online SGD
/// needs about d (p = 1), `d log d` (p = 2) or `d^(p-1)` samples, the continuous cousin of the k-parity's
/// `d^(k-1)`.
///
/// Coefficients by Simpson's rule over [-12, 12] (`f` should grow at most polynomially); those below
/// `threshold` times the root of their summed squares count as zero.
///
/// ```
/// use curricle_theory::expansion::information_exponent;
/// let cubic = information_exponent(|z| z * z * z - 3.0 * z, 6, 1e-6)?;
/// assert_eq!((cubic.exponent, cubic.sample_power), (Some(3), Some(2.0)));
/// assert_eq!(information_exponent(|z: f64| z.max(0.0), 6, 1e-6)?.exponent, Some(1));
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn information_exponent(
    f: impl Fn(f64) -> f64,
    max_order: usize,
    threshold: f64,
) -> Result<InformationExponent> {
    if max_order == 0 || max_order > 60 {
        return out_of_range("max_order", max_order, "1..=60", "8 is usual");
    }
    if !(threshold > 0.0 && threshold < 1.0) {
        return out_of_range("threshold", threshold, "(0, 1)", "1e-6 is usual");
    }
    let mut coefficients = vec![0.0; max_order + 1];
    let h = 24.0 / STEPS as f64;
    for i in 0..=STEPS {
        let z = -12.0 + h * i as f64;
        let weight = match i {
            0 | STEPS => 1.0,
            i if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let mass = weight * h / 3.0 * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt() * f(z);
        // Normalised Hermite polynomials: sqrt(p+1) h_{p+1} = z h_p - sqrt(p) h_{p-1}.
        let (mut before, mut now) = (0.0, 1.0);
        for (p, c) in coefficients.iter_mut().enumerate() {
            *c += mass * now;
            let next = (z * now - (p as f64).sqrt() * before) / (p as f64 + 1.0).sqrt();
            (before, now) = (now, next);
        }
    }
    if coefficients.iter().any(|c| !c.is_finite()) {
        return Err(TheoryError::NotFinite {
            what: "a Hermite coefficient",
            instead: "the link function should be finite and grow at most polynomially",
        });
    }
    let size = coefficients.iter().map(|c| c * c).sum::<f64>().sqrt();
    let exponent = (1..=max_order).find(|&p| coefficients[p].abs() > threshold * size);
    let sample_power = exponent.map(|p| (p as f64 - 1.0).max(1.0));
    Ok(InformationExponent { exponent, coefficients, sample_power })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::normal;
    use crate::two_phase::samples::{Stream, generator};

    #[test]
    fn exponents_of_known_links() {
        let of = |f: fn(f64) -> f64| information_exponent(f, 8, 1e-6).unwrap().exponent;
        assert_eq!(of(|z| z.tanh()), Some(1));
        assert_eq!(of(|z| z * z), Some(2));
        assert_eq!(of(|z| z.powi(4) - 6.0 * z * z + 3.0), Some(4));
        assert_eq!(of(|_| 1.0), None);
        let relu = information_exponent(|z| z.max(0.0), 4, 1e-6).unwrap();
        assert!((relu.coefficients[1] - 0.5).abs() < 1e-6);
    }

    /// A measured point: the signal of online SGD along the hidden direction, `E[y f'(z) <u,x>]` for
    /// `y = f(<u,x>)` and overlap m, falls like `m^(p-1)`; at a random start m is about `d^(-1/2)`, hence the
    /// orders above.
    #[test]
    fn the_signal_at_the_start_falls_with_the_exponent() {
        let mut rng = generator(4, 0, Stream::SignSums, 11);
        let draws: Vec<(f64, f64)> = (0..200_000).map(|_| (normal(&mut rng), normal(&mut rng))).collect();
        let he = |p: usize, z: f64| if p == 2 { z * z - 1.0 } else { z * z * z - 3.0 * z };
        let slope = |p: usize, z: f64| if p == 2 { 2.0 * z } else { 3.0 * z * z - 3.0 };
        let signal = |p: usize, m: f64| {
            let rest = (1.0 - m * m).sqrt();
            draws.iter().map(|(u, v)| he(p, *u) * slope(p, m * u + rest * v) * u).sum::<f64>()
                / draws.len() as f64
        };
        for (p, factor) in [(2, 2.0), (3, 4.0)] {
            let ratio = signal(p, 0.5) / signal(p, 0.25);
            assert!((ratio / factor - 1.0).abs() < 0.25, "exponent {p}: {ratio} against {factor}");
        }
    }
}
