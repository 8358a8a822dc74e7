//! Population statistics of the student's first gradient.

use serde::Serialize;

use crate::error::{Result, TheoryError, check_support, out_of_range};
use crate::gradient::fourier_gap;
use crate::net::ReluNet;
use crate::two_phase::samples::{Stream, generator};
use crate::two_phase::{FirstPhase, Neurons, Problem, Supervision};

/// One student neuron at initialisation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeuronStatistics {
    /// `E[y x_j 1[active]]` for every coordinate: the gradient per unit output weight.
    #[serde(skip)]
    pub means: Vec<f64>,
    /// Smallest `|mean|` in the support.
    pub inside: f64,
    /// Largest `|mean|` outside.
    pub outside: f64,
    /// `E[y^2 1[active]]`, which bounds the variance of every coordinate.
    pub second_moment: f64,
}

/// What the first-phase bounds need to know about a source of supervision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GradientStatistics {
    /// Dimension.
    pub d: usize,
    /// Support.
    pub support: Vec<usize>,
    /// One entry per neuron, or a single one when all are alike.
    pub neurons: Vec<NeuronStatistics>,
    /// `sup |y|`, or an upper bound of it.
    pub sup: f64,
    /// `E[y^8]`, where measured: lets the bound truncate instead of paying for a supremum that hardly any
    /// sample comes near.
    pub eighth: Option<f64>,
    /// Standard error of the means; 0 when exact. Noise pushes the largest outside mean up and the smallest
    /// inside mean down, so the estimated gap errs on the small side and the bounds on the large one.
    pub standard_error: f64,
}

impl NeuronStatistics {
    pub(crate) fn new(means: Vec<f64>, second_moment: f64, support: &[usize]) -> Self {
        let mut inside = f64::INFINITY;
        let mut outside = 0.0f64;
        for (j, mean) in means.iter().enumerate() {
            if support.contains(&j) {
                inside = inside.min(mean.abs())
            } else {
                outside = outside.max(mean.abs())
            }
        }
        Self { means, inside, outside, second_moment }
    }

    /// `inside - outside`: positive when infinitely many samples rank the support on top.
    pub fn gap(&self) -> f64 {
        self.inside - self.outside
    }
}

impl GradientStatistics {
    /// Labels: `|hat g(k-1)|` inside, `|hat g(k+1)|` outside, second moment `P(active)`, `sup = 1`. Exact,
    /// for a neuron with this bias.
    pub fn labels(d: usize, k: usize, bias: f64) -> Result<Self> {
        let gap = fourier_gap(d, k, bias)?;
        let means = (0..d).map(|j| if j < k { gap.inside } else { gap.outside }).collect();
        let support: Vec<usize> = (0..k).collect();
        let neuron = NeuronStatistics::new(means, gap.activity, &support);
        Ok(Self { d, support, neurons: vec![neuron], sup: 1.0, eighth: None, standard_error: 0.0 })
    }

    /// An odd teacher with odd d: the gradient of *every* neuron is `hat f({j})/2`, the second moment
    /// `E[f^2]/2`. Exact.
    pub fn odd_teacher(correlations: &[f64], support: &[usize], mean_square: f64, sup: f64) -> Result<Self> {
        let d = correlations.len();
        check_support(support, d)?;
        if d.is_multiple_of(2) {
            return out_of_range(
                "d",
                d,
                "the odd numbers",
                "with even d ties break the identity; measure the gradient on samples",
            );
        }
        if !(correlations.iter().all(|c| c.is_finite())
            && mean_square >= 0.0
            && mean_square.is_finite()
            && sup >= 0.0
            && sup.is_finite())
        {
            return Err(TheoryError::NotFinite {
                what: "a correlation or moment",
                instead: "give finite correlations and non-negative moments",
            });
        }
        Ok(Self::shared(correlations, support, mean_square, sup))
    }

    /// As [`odd_teacher`](Self::odd_teacher) without its checks.
    pub(crate) fn shared(correlations: &[f64], support: &[usize], mean_square: f64, sup: f64) -> Self {
        let neuron =
            NeuronStatistics::new(correlations.iter().map(|c| c / 2.0).collect(), mean_square / 2.0, support);
        Self {
            d: correlations.len(),
            support: support.to_vec(),
            neurons: vec![neuron],
            sup,
            eighth: None,
            standard_error: 0.0,
        }
    }

    /// Any network: measured on `samples` fresh samples for `neurons` random student neurons.
    ///
    /// ```
    /// use curricle_theory::{bounds::{GradientStatistics, predicted_batch}, two_phase::*};
    /// let problem = Problem::first(21, 4)?;
    /// let net = phase_one_teacher(&problem, &TeacherSpec::default(), 1, 3)?;
    /// let statistics = GradientStatistics::sampled(&net, &problem, 8, 1 << 16, 1)?;
    /// assert_eq!(statistics.neurons.len(), 8);
    /// # Ok::<(), curricle_theory::TheoryError>(())
    /// ```
    pub fn sampled(
        net: &ReluNet,
        problem: &Problem,
        neurons: usize,
        samples: u64,
        seed: u64,
    ) -> Result<Self> {
        if neurons == 0 || neurons > 4096 {
            return out_of_range("neurons", neurons, "1..=4096", "16 random neurons show the spread");
        }
        if samples < 1000 {
            return out_of_range(
                "samples",
                samples,
                "1000..",
                "2^18 samples resolve gaps of a few thousandths of sd(f)",
            );
        }
        let drawn = Neurons::draw(
            neurons,
            problem.dimension(),
            problem.k(),
            0.5,
            &mut generator(seed, 0, Stream::Neurons, 1),
        );
        let mut phase =
            FirstPhase::with_neurons(problem, Supervision::Net(net), drawn, seed, 0, Stream::Statistics)?;
        phase.extend(samples)?;
        let gradient = phase.gradient();
        let moments = phase.second_moments().map(|m| m.to_vec()).unwrap_or_default();
        let largest = moments.iter().fold(0.0f64, |m, v| m.max(*v));
        let neurons = gradient
            .rows()
            .into_iter()
            .zip(moments)
            .map(|(row, second)| NeuronStatistics::new(row.to_vec(), second, problem.support()));
        Ok(Self {
            d: problem.dimension(),
            support: problem.support().to_vec(),
            neurons: neurons.collect(),
            sup: net.sup_bound(),
            eighth: phase.eighth_moment(),
            standard_error: (largest / samples as f64).sqrt(),
        })
    }
}
