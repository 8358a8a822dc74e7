//! Sample-complexity bounds with explicit constants, orders of growth, lower lines and predictions.
//!
//! Every result is a [`Bound`]: the number of samples, what kind of statement it is, and each ingredient by
//! name. Proofs are in the README, sections 3 to 6.

mod first_phase;
mod latex;
mod lines;
mod one_step;
mod over_teachers;
mod second_phase;
mod statistics;
mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use first_phase::ranking_probability;
pub use first_phase::{
    CheckpointRank, first_phase_bound, labels_first_phase, predicted_batch, rank_checkpoint,
};
pub use latex::latex;
pub use lines::{
    Constants, crossover, explicit_crossover, headline_one_shot, headline_progressive, information_labels,
    information_teacher, statistical_query,
};
pub use one_step::one_step_labels;
pub use over_teachers::{Teachers, phase_one_teachers, phase_one_typical};
pub use second_phase::{SecondPhaseBound, pruned_layer, second_phase, second_phase_draws};
pub use statistics::{GradientStatistics, NeuronStatistics};
pub use table::{
    BoundTable, Crossover, LARGEST_CROSSOVER, TableSpec, TeacherShare, Unavailable, bound_table,
    bound_tables, is_absence,
};

use crate::error::{Result, finite};

/// What a number of samples claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// This many samples are enough, with the stated probability.
    Upper,
    /// Fewer are not enough.
    Lower,
    /// Growth only, with unit or fitted constants.
    Order,
    /// A central estimate or a typical case: neither upper nor lower, no probability attached.
    Heuristic,
    /// Enough for one randomly drawn network; another draw gives another number (quantiles over draws are
    /// among the ingredients).
    OneDraw,
}

impl Kind {
    /// The word of tables and plots.
    pub fn word(self) -> &'static str {
        match self {
            Self::Upper => "enough",
            Self::Lower => "not less",
            Self::Order => "order",
            Self::Heuristic => "heuristic",
            Self::OneDraw => "one draw",
        }
    }
}

/// A number of samples with its provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Short name, usable as a key.
    pub name: String,
    /// The statement it instantiates, with its formula.
    pub statement: String,
    /// Kind of claim.
    pub kind: Kind,
    /// Number of samples (not rounded).
    pub samples: f64,
    /// Every number that entered.
    pub ingredients: BTreeMap<String, f64>,
}

impl Bound {
    pub(crate) fn new(
        name: &str,
        kind: Kind,
        statement: &str,
        samples: f64,
        ingredients: &[(&str, f64)],
    ) -> Result<Self> {
        let ingredients: BTreeMap<String, f64> =
            ingredients.iter().map(|(n, v)| (n.to_string(), *v)).collect();
        ingredients.values().try_for_each(|&v| finite("an ingredient of the bound", v).map(drop))?;
        Ok(Self {
            name: name.into(),
            statement: statement.into(),
            kind,
            samples: finite("the number of samples", samples)?,
            ingredients,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TheoryError;
    use crate::fourier::network_spectrum;
    use crate::measure::{Criterion, Experiment, GrowthSpec, RecoveryLog, Source, quiet, recovery_batches};
    use crate::two_phase::{
        FirstLayer, FirstPhase, Problem, Supervision, TeacherSpec, hinge_loss, phase_one_teacher,
        train_second_layer,
    };

    #[test]
    fn labels_measured_between_prediction_and_bound() {
        let problem = Problem::first(21, 4).unwrap();
        let e = Experiment {
            problem,
            source: Source::Labels,
            neurons: 32,
            criterion: Criterion::Neurons(0.9),
            seed: 1,
            cancel: None,
        };
        let growth = GrowthSpec { trials: 15, start: 4096, max_batch: 1 << 24, ..GrowthSpec::default() };
        let measured =
            recovery_batches(&e, growth, &mut RecoveryLog::default(), &quiet).unwrap().median.unwrap();
        let predicted =
            predicted_batch(&GradientStatistics::labels(21, 4, 0.5).unwrap(), 0.9).unwrap().samples;
        let bound = labels_first_phase(21, 4, 0.5, 32, 0.1).unwrap().samples;
        assert!((0.6..1.7).contains(&(measured / predicted)), "measured {measured}, predicted {predicted}");
        assert!(measured < bound && bound < 30.0 * measured, "measured {measured}, bound {bound}");
    }

    #[test]
    fn sampled_statistics_equal_the_odd_identity_and_predict_a_student() {
        let problem = Problem::first(15, 2).unwrap();
        let net = phase_one_teacher(&problem, &TeacherSpec::default(), 2, 0).unwrap();
        let f = network_spectrum(&net).unwrap();
        let correlations: Vec<f64> = (0..15).map(|j| f[1 << j]).collect();
        let square = f.iter().map(|v| v * v).sum();
        let exact = GradientStatistics::odd_teacher(&correlations, &[0, 1], square, net.sup_bound()).unwrap();
        let sampled = GradientStatistics::sampled(&net, &problem, 6, 1 << 18, 3).unwrap();
        for neuron in &sampled.neurons {
            assert!((neuron.second_moment / exact.neurons[0].second_moment - 1.0).abs() < 0.03);
            assert!(
                neuron
                    .means
                    .iter()
                    .zip(&exact.neurons[0].means)
                    .all(|(a, b)| (a - b).abs() < 5.0 * sampled.standard_error)
            );
        }
        let predicted = predicted_batch(&exact, 0.9).unwrap().samples;
        let bound = first_phase_bound(&exact, 32, 0.1, 0.9).unwrap().samples;
        let e = Experiment {
            problem,
            source: Source::Checkpoints(vec![net]),
            neurons: 32,
            criterion: Criterion::Neurons(0.9),
            seed: 1,
            cancel: None,
        };
        let growth = GrowthSpec { trials: 15, start: 16, ..GrowthSpec::default() };
        let measured =
            recovery_batches(&e, growth, &mut RecoveryLog::default(), &quiet).unwrap().median.unwrap();
        assert!((0.5..2.0).contains(&(measured / predicted)), "measured {measured}, predicted {predicted}");
        assert!(measured < bound);
    }

    #[test]
    fn second_phase_reaches_epsilon_within_its_bound() {
        let problem = Problem::first(11, 2).unwrap();
        let mut phase = FirstPhase::new(&problem, Supervision::Labels, 24, 3, 0).unwrap();
        phase.extend(50_000).unwrap();
        let (w, b) = phase.first_layer(FirstLayer::PrunedInit);
        let m = w.nrows();
        let net = crate::net::ReluNet::new(w, b, ndarray::Array1::zeros(m), 0.0).unwrap();
        let bound = second_phase(&net, &problem, 0.2, 1).unwrap();
        assert!(bound.exact && bound.hinge <= 0.1);
        let trained = train_second_layer(&net, &problem, bound.settings, 1, 0).unwrap();
        let (loss, error) = hinge_loss(&trained, &problem, 4096, 1, 0).unwrap();
        assert!(loss <= 0.2 && error == 0.0, "{loss} {error} after {}", bound.settings.samples);
        let dead = net.thresholded(1.0);
        assert!(matches!(second_phase(&dead, &problem, 0.2, 1), Err(TheoryError::NoComparator { .. })));
    }

    #[test]
    fn bad_input_is_explained() {
        assert!(matches!(
            labels_first_phase(41, 3, 0.5, 64, 0.1),
            Err(TheoryError::NoFirstOrderSignal { .. })
        ));
        assert!(labels_first_phase(4, 4, 0.5, 64, 0.1).is_err());
        assert!(labels_first_phase(41, 4, 1.0, 64, 0.1).unwrap_err().to_string().contains("(-1, 1)"));
        assert!(labels_first_phase(41, 4, 0.5, 64, 1.0).is_err());
        assert!(headline_progressive(10, 4, 0.0, Constants::default()).is_err());
        assert!(information_teacher(10, 11, 0.1).is_err());
        assert!(matches!(phase_one_typical(7, 4, 64, 64, 0.1), Err(TheoryError::TeachersFail { .. })));
    }

    #[test]
    fn corrected_constants() {
        // Even d: a tie activates b >= 0 only. The old bound believed the bias it was given: 4.7e5 at -0.5,
        // 7.7e5 needed.
        let side = |bias| labels_first_phase(10, 4, bias, 64, 0.1).unwrap().samples;
        assert_eq!(side(-0.5), side(0.5));
        // A positive gap below the old search limit of 1e18 is no missing gap.
        let tiny = GradientStatistics::labels(1001, 8, 0.5).unwrap();
        assert!(predicted_batch(&tiny, 0.9).unwrap().samples > 1e18);
        // d = (2^k/eps^2)^(1/(k-3)) = 1.6e13, not "never".
        let d = crossover(4, 1e-6, Constants::default()).unwrap().unwrap() as f64;
        assert!((d / 1.6e13 - 1.0).abs() < 1e-3, "{d}");
        assert_eq!(crossover(3, 1e-6, Constants::default()), Ok(None));
    }

    #[test]
    fn truncation_pays_for_wide_teachers_only_as_much_as_their_size() {
        let problem = Problem::first(41, 4).unwrap();
        let bound = |width| {
            // Pruned teachers nearly always have a gap; the first draw with a clear one is taken.
            let spec = TeacherSpec { width, ..TeacherSpec::default() };
            let clear = |index| {
                let net = phase_one_teacher(&problem, &spec, 2, index).unwrap().pruned(0.5);
                let s = GradientStatistics::sampled(&net, &problem, 2, 1 << 13, 1).unwrap();
                (s.neurons[0].gap() > 0.2 * s.neurons[0].second_moment.sqrt()).then_some(s)
            };
            let s = (0..50).find_map(clear).unwrap();
            let need = |s: &GradientStatistics| first_phase_bound(s, 32, 0.1, 0.9).unwrap().samples;
            (need(&GradientStatistics { eighth: None, ..s.clone() }), need(&s))
        };
        let (plain, truncated) = bound(2048);
        assert!(truncated < 0.6 * plain, "{plain} {truncated}");
        let (plain, truncated) = bound(16);
        assert!(truncated <= plain);
    }

    #[test]
    fn explicit_bounds_cross() {
        let d = explicit_crossover(4, 64, 64, 0.1, 121).unwrap().unwrap();
        let (teacher, labels) = (
            phase_one_typical(101, 4, 64, 64, 0.1).unwrap().samples,
            labels_first_phase(101, 4, 0.5, 64, 0.1).unwrap().samples,
        );
        assert!(d < 101 && teacher < labels / 100.0, "crossover {d}; at 101: {teacher} against {labels}");
    }
}
