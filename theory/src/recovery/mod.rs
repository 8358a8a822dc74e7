//! The heavy tail: how often a phase-one teacher lets a student recover the support at all.
//!
//! A mirrored phase-one teacher of width `m` has `hat f({j}) = (2/m) sum_{i <= m/2} c(b_i) eps_ij` with signs
//! `eps_ij = chi_S(w_i) w_ij`, fair and (for even k) independent: a random walk. Its smallest value over the
//! support has positive density at 0 ("anti-concentration"), so the batch a student needs, which goes like
//! `1/min^2`, has a tail of index 1/2: no finite mean. On top, coordinates outside the support carry the same
//! walk scaled by `|c_out/c_in|`, about `(k-1)/(d-k)`, and when their largest exceeds the smallest inside, no
//! batch helps. Both scale with `m^(-1/2)`, so neither depends on the width. Proofs: README, section 4.

mod model;
mod predict;

use rand::Rng;

use crate::fourier::phi;

pub use model::SignSumModel;
pub use predict::RecoveryPrediction;

/// `C(n, c) / 2^n` for `c = 0..=n`, through logarithms; deep tails become 0.
pub(crate) fn binomial_law(n: usize) -> Vec<f64> {
    let mut ln = -(n as f64) * std::f64::consts::LN_2;
    (0..=n)
        .map(|c| {
            if c > 0 {
                ln += ((n - c + 1) as f64 / c as f64).ln();
            }
            ln.exp()
        })
        .collect()
}

/// `t` with `P(|N(0,1)| <= t) = p`.
pub(crate) fn half_normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if 1.0 - 2.0 * phi(-middle) < p { low = middle } else { high = middle }
    }
    low
}

/// Box-Muller.
pub(crate) fn normal(rng: &mut impl Rng) -> f64 {
    let unit = |v: u64| ((v >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (u, v) = (unit(rng.next_u64()), unit(rng.next_u64()));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fourier::network_spectrum;
    use crate::measure::{Criterion, Experiment, GrowthSpec, RecoveryLog, Source, quiet, recovery_batches};
    use crate::two_phase::{Problem, TeacherSpec, phase_one_teacher};

    #[test]
    fn moments_match_teachers_whose_spectra_are_exact() {
        let (d, k, m) = (11, 4, 32);
        let model = SignSumModel::new(d, k, m).unwrap();
        let problem = Problem::first(d, k).unwrap();
        let spec = TeacherSpec { width: m, ..TeacherSpec::default() };
        let (mut inside, mut outside, mut square) = (0.0, 0.0, 0.0);
        let teachers = 300;
        for index in 0..teachers {
            let net = phase_one_teacher(&problem, &spec, 8, index).unwrap();
            let f = network_spectrum(&net).unwrap();
            inside += (0..k).map(|j| f[1 << j].powi(2)).sum::<f64>() / k as f64;
            outside += (k..d).map(|j| f[1 << j].powi(2)).sum::<f64>() / (d - k) as f64;
            square += f.iter().map(|v| v * v).sum::<f64>();
            assert!(
                f.iter().enumerate().filter(|(t, _)| t.count_ones() % 2 == 0).all(|(_, v)| v.abs() < 1e-15),
                "odd"
            );
        }
        let n = teachers as f64;
        for (measured, predicted) in [
            (inside / n, model.sd_inside.powi(2)),
            (outside / n, model.sd_outside.powi(2)),
            (square / n, model.mean_square),
        ] {
            assert!((measured / predicted - 1.0).abs() < 0.1, "{measured} against {predicted}");
        }
    }

    #[test]
    fn anti_concentration_formula_matches_draws() {
        let model = SignSumModel::new(41, 4, 128).unwrap();
        for t in [0.1, 0.4, 1.0] {
            let (p, error) = model.min_below(t * model.sd_inside).unwrap();
            let draws = 2000;
            let hits = (0..draws)
                .filter(|&i| model.draw(None, 2, i)[..4].iter().any(|c| c.abs() < t * model.sd_inside))
                .count();
            let noise = 4.0 * (p * (1.0 - p) / draws as f64).sqrt();
            assert!(
                (hits as f64 / draws as f64 - p).abs() < noise + 0.1 * error,
                "t {t}: {hits} of {draws}, predicted {p}"
            );
        }
    }

    #[test]
    fn predicted_recovery_matches_measured() {
        for (d, batch) in [(15, None), (41, None), (29, Some(100 * 29u64.pow(3)))] {
            let spec = TeacherSpec { batch, ..TeacherSpec::default() };
            let predicted =
                SignSumModel::new(d, 4, spec.width).unwrap().predict(20_000, 0.9, batch, 400, 1).unwrap();
            let source = Source::PhaseOne { teacher: spec, fixed: None };
            let e = Experiment {
                problem: Problem::first(d, 4).unwrap(),
                source,
                neurons: 16,
                criterion: Criterion::Neurons(0.9),
                seed: 4,
                cancel: None,
            };
            let growth = GrowthSpec {
                trials: 50,
                max_batch: 20_000,
                factor: 1.5,
                start: 256,
                ..GrowthSpec::default()
            };
            let found = recovery_batches(&e, growth, &mut RecoveryLog::default(), &quiet).unwrap();
            let measured = 1.0 - found.failures as f64 / 50.0;
            let sd = (predicted.success * (1.0 - predicted.success) / 50.0).sqrt();
            assert!(
                (measured - predicted.success).abs() < 3.5 * sd + 0.03,
                "d {d}: measured {measured}, predicted {predicted:?}"
            );
        }
    }

    /// `sup |f|` by enumeration.
    fn exact_sup(net: &crate::net::ReluNet) -> f64 {
        let d = net.dimension();
        let point = |x: u32| (0..d).map(|j| if x >> j & 1 == 1 { -1.0 } else { 1.0 }).collect::<Vec<f64>>();
        (0u32..1 << (d - 1)).map(|x| net.evaluate(&point(x)).unwrap().abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_supremum_falls_with_the_width_and_stays_below_its_bounds() {
        let problem = Problem::first(9, 4).unwrap();
        for m in [16, 256] {
            let model = SignSumModel::new(9, 4, m).unwrap();
            let spec = TeacherSpec { width: m, ..TeacherSpec::default() };
            let sups: Vec<f64> =
                (0..60).map(|i| exact_sup(&phase_one_teacher(&problem, &spec, 3, i).unwrap())).collect();
            let mean = sups.iter().sum::<f64>() / 60.0;
            assert!(mean < model.sup && model.sup < 4.0 * mean, "m {m}: {mean} against {}", model.sup);
            let high = model.sup_with(0.1).unwrap();
            assert!(sups.iter().filter(|s| **s > high).count() <= 6);
        }
        // The sum of |a| (|w|_1 + |b|), which the bound used before, is about 1.4 at every width.
        assert!(SignSumModel::new(9, 4, 4096).unwrap().sup < 0.03);
    }

    #[test]
    fn odd_k_keeps_a_coherent_term_at_any_width() {
        // THEORY.md, section 8: hat f(S) about .010 at d = 60, k = 3.
        let model = SignSumModel::new(60, 3, 32_768).unwrap();
        assert!((model.coherent.abs() - 0.010).abs() < 0.001, "{}", model.coherent);
        // Without it E f^2 is E h^2/(2m), which falls to nothing; 45 times too small here.
        let without = model.mean_square - model.coherent.powi(2);
        assert!(model.mean_square > 40.0 * without, "{} {without}", model.mean_square);
        let (d, k, m) = (10, 3, 256);
        let model = SignSumModel::new(d, k, m).unwrap();
        let problem = Problem::first(d, k).unwrap();
        let spec = TeacherSpec { width: m, ..TeacherSpec::default() };
        let (mut square, mut at_support) = (0.0, 0.0);
        for index in 0..100 {
            let f = network_spectrum(&phase_one_teacher(&problem, &spec, 8, index).unwrap()).unwrap();
            square += f.iter().map(|v| v * v).sum::<f64>() / 100.0;
            at_support += f[7] / 100.0;
        }
        assert!((square / model.mean_square - 1.0).abs() < 0.05, "{square} {}", model.mean_square);
        assert!(
            (at_support.abs() / model.coherent.abs() - 1.0).abs() < 0.1,
            "{at_support} {}",
            model.coherent
        );
        assert_eq!(SignSumModel::new(41, 4, 64).unwrap().coherent, 0.0);
    }
}
