//! Closed forms for a ReLU layer.

use serde::Serialize;
use statrs::function::erf::erfc;

use super::{spectrum, values_on};
use crate::error::{Result, out_of_range};
use crate::net::ReluNet;

/// Degree-one coefficients with bounds on their errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DegreeOne {
    /// Approximate `hat f({j})`.
    pub coefficients: Vec<f64>,
    /// `|approximation - hat f({j})|` is at most this.
    pub errors: Vec<f64>,
}

/// Shevtsova's constant for sums of independent, not identically distributed terms (2010).
const BERRY_ESSEEN: f64 = 0.56;

pub(crate) fn phi(x: f64) -> f64 {
    0.5 * erfc(-x / std::f64::consts::SQRT_2)
}

/// `hat f({j}) ~ sum_i a_i w_ij Phi(b_i/|w_i|)`, with a proved error bound (README, section 7).
///
/// Exactly, `E[relu(<w,x>+b) x_j] = w_j` times an average of `P(u + b + t > 0)` over `|t| <= |w_j|`, where
/// `u` is the sum of the other terms. Berry-Esseen bounds each probability's distance from normal by
/// `0.56 sum |w_l|^3 / s^3`, `s^2 = sum_{l != j} w_l^2`, and moving from `Phi((b+t)/s)` to `Phi(b/|w|)` costs
/// at most its largest value at `t = +-w_j`. A probability error never exceeds 1, so the bound is at most
/// `sum_i |a_i w_ij|`.
pub fn degree_one_clt(net: &ReluNet) -> DegreeOne {
    let d = net.dimension();
    let mut out = DegreeOne { coefficients: vec![0.0; d], errors: vec![0.0; d] };
    for ((w, &b), &a) in net.hidden().rows().into_iter().zip(net.biases()).zip(net.output()) {
        let squares: f64 = w.iter().map(|v| v * v).sum();
        let cubes: f64 = w.iter().map(|v| v.abs().powi(3)).sum();
        if squares == 0.0 {
            continue;
        }
        let centre = phi(b / squares.sqrt());
        for (j, &wj) in w.iter().enumerate() {
            let s = (squares - wj * wj).max(0.0).sqrt();
            let error = if s > 0.0 {
                let smooth =
                    [-wj, wj].into_iter().map(|t| (phi((b + t) / s) - centre).abs()).fold(0.0, f64::max);
                (BERRY_ESSEEN * (cubes - wj.abs().powi(3)) / s.powi(3) + smooth).min(1.0)
            } else {
                1.0
            };
            out.coefficients[j] += a * wj * centre;
            // The factor absorbs rounding.
            out.errors[j] += (a * wj).abs() * (error + 1e-12);
        }
    }
    out
}

/// Spectrum over the coordinates that matter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SmallSupport {
    /// The non-negligible coordinates, ascending.
    pub coordinates: Vec<usize>,
    /// `2^r` coefficients; bit `i` of the index stands for `coordinates[i]`.
    pub coefficients: Vec<f64>,
    /// Every coefficient of the whole network differs from these by at most this much.
    pub error: f64,
}

/// Exact spectrum of the network with all hidden weights of size at most `negligible` set to zero, and what
/// that may have changed: `E|relu(u+v) - relu(u)| <= |v|_2`, hence
/// `error = sum_i |a_i| (sum of neglected w_ij^2)^(1/2)`.
///
/// Domain: at most 20 coordinates are left. For a first-phase teacher take half the in-support size,
/// `1/(4k)`.
pub fn small_support_spectrum(net: &ReluNet, negligible: f64) -> Result<SmallSupport> {
    let keep = |v: f64| v.abs() > negligible;
    let coordinates: Vec<usize> =
        (0..net.dimension()).filter(|&j| net.hidden().column(j).iter().any(|&v| keep(v))).collect();
    if coordinates.len() > 20 {
        return out_of_range(
            "non-negligible coordinates",
            coordinates.len(),
            "0..=20",
            "call larger weights negligible, or sample the correlations",
        );
    }
    let rest =
        |i: usize| net.hidden().row(i).iter().filter(|v| !keep(**v)).map(|v| v * v).sum::<f64>().sqrt();
    let error = (0..net.width()).map(|i| net.output()[i].abs() * rest(i)).sum();
    let restricted = net.thresholded(negligible);
    let coefficients = spectrum(&values_on(&restricted, &coordinates))?;
    Ok(SmallSupport { coordinates, coefficients, error })
}
