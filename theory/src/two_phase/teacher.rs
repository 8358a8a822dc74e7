//! Two-phase teachers.

use ndarray::{Array1, Array2, Axis};
use serde::{Deserialize, Serialize};

use super::samples::{Stream, generator};
use super::{FirstPhase, Neurons, Problem, SecondPhase, Supervision, check_neurons, train_second_layer};
use crate::error::{Result, out_of_range};
use crate::gradient::fourier_gap;
use crate::net::ReluNet;
use crate::threshold::threshold_levels;

/// Output weights of a phase-one teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputSigns {
    /// Neuron `i + m/2` copies neuron `i` and negates its output weight: `f = 0` at initialisation and `f`
    /// odd afterwards.
    Mirrored,
    /// All output weights `+1/m`: `f` is not odd, so even levels leak into the student's gradient.
    AllPlus,
}

/// How a teacher is built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherSpec {
    /// Width `m` (even when mirrored).
    pub width: usize,
    /// First-phase batch; `None` is the population gradient.
    pub batch: Option<u64>,
    /// Probability of a +1 weight at initialisation; 0.5 is the algorithm's. Anything else makes the sign
    /// sums coherent (module `recovery`).
    pub plus_probability: f64,
    /// Output weights.
    pub output: OutputSigns,
    /// Subtract from every gradient coordinate its mean over the neurons. Half of a finite batch's noise is
    /// common to all neurons and adds up coherently in the mirrored sum, while the signal adds up as a random
    /// walk; this removes it (module `recovery`).
    pub centred: bool,
}

impl Default for TeacherSpec {
    fn default() -> Self {
        Self { width: 64, batch: None, plus_probability: 0.5, output: OutputSigns::Mirrored, centred: false }
    }
}

/// The teacher after its first phase: `w_ij = sign(a_i) (gradient per unit a_i) / (2k |hat g(k-1)|)`, so in
/// the population limit `+-1/(2k)` on the support and `|hat g(k+1)/hat g(k-1)|/(2k)` in size elsewhere;
/// biases and output weights as drawn.
///
/// Pure function of `(seed, index)`.
///
/// ```
/// use curricle_theory::two_phase::{phase_one_teacher, Problem, TeacherSpec};
/// let net = phase_one_teacher(&Problem::first(15, 4)?, &TeacherSpec::default(), 7, 0)?;
/// assert!((net.hidden()[[0, 0]].abs() - 0.125).abs() < 1e-12);
/// assert!((net.hidden()[[0, 9]].abs() - 0.125 * 3.0 / 11.0).abs() < 1e-12);
/// # Ok::<(), curricle_theory::TheoryError>(())
/// ```
pub fn phase_one_teacher(problem: &Problem, spec: &TeacherSpec, seed: u64, index: u64) -> Result<ReluNet> {
    check_neurons(spec.width)?;
    let mirrored = spec.output == OutputSigns::Mirrored;
    if mirrored && spec.width % 2 == 1 {
        return out_of_range("width", spec.width, "the even numbers", "mirrored neurons come in pairs");
    }
    if !(0.0..=1.0).contains(&spec.plus_probability) {
        return out_of_range("plus_probability", spec.plus_probability, "[0, 1]", "0.5 is the algorithm's");
    }
    let (d, k) = (problem.dimension(), problem.k());
    let distinct = if mirrored { spec.width / 2 } else { spec.width };
    let inside = fourier_gap(d, k, 0.0)?.inside;
    let mut rng = generator(seed, index, Stream::TeacherNeurons, 0);
    let neurons = Neurons::draw(distinct, d, k, spec.plus_probability, &mut rng);
    let mut gradient = match spec.batch {
        None => population(problem, &neurons)?,
        Some(batch) => {
            let mut phase = FirstPhase::with_neurons(
                problem,
                Supervision::Labels,
                neurons.clone(),
                seed,
                index,
                Stream::TeacherBatch,
            )?;
            phase.extend(batch.max(1))?;
            phase.gradient()
        }
    };
    if spec.centred
        && let Some(mean) = gradient.mean_axis(Axis(0))
    {
        gradient -= &mean;
    }
    let scale = 1.0 / (2.0 * k as f64 * inside);
    let m = spec.width;
    let sign = |i: usize| if i < distinct { 1.0 } else { -1.0 };
    let w = Array2::from_shape_fn((m, d), |(i, j)| sign(i) * scale * gradient[[i % distinct, j]]);
    let b = Array1::from_shape_fn(m, |i| neurons.biases[i % distinct]);
    let a = Array1::from_shape_fn(m, |i| sign(i) / m as f64);
    ReluNet::new(w, b, a, 0.0)
}

/// The teacher after both phases.
pub fn final_teacher(
    problem: &Problem,
    spec: &TeacherSpec,
    second: SecondPhase,
    seed: u64,
    index: u64,
) -> Result<ReluNet> {
    let net = phase_one_teacher(problem, spec, seed, index)?;
    train_second_layer(&net, problem, second, seed, index)
}

/// Population gradient per unit output weight, `[m, d]`. The level only depends on the sign of the bias.
fn population(problem: &Problem, neurons: &Neurons) -> Result<Array2<f64>> {
    let (d, k) = (problem.dimension(), problem.k());
    let levels = |bias: f64| -> Result<(f64, f64)> {
        let table = threshold_levels(d, bias, k - 1..=(k + 1).min(d))?.levels;
        let at = |s: usize| table.iter().find(|l| l.level == s).and_then(|l| l.coefficient).unwrap_or(0.0);
        Ok((at(k - 1), at(k + 1)))
    };
    let (negative, other) = (levels(-0.5)?, levels(0.5)?);
    let mut inside = vec![false; d];
    problem.support().iter().for_each(|&j| inside[j] = true);
    let mut gradient = Array2::zeros(neurons.signs.dim());
    for ((signs, bias), mut row) in
        neurons.signs.rows().into_iter().zip(&neurons.biases).zip(gradient.rows_mut())
    {
        let (below, above) = if *bias < 0.0 { negative } else { other };
        let character: f64 = problem.support().iter().map(|&j| f64::from(signs[j])).product();
        for j in 0..d {
            row[j] = character * f64::from(signs[j]) * if inside[j] { below } else { above };
        }
    }
    Ok(gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::label_gradient;

    #[test]
    fn a_finite_batch_approaches_the_population_teacher() {
        for d in [9, 10] {
            let problem = Problem::new(d, vec![1, 3]).unwrap();
            let spec = TeacherSpec { width: 12, ..TeacherSpec::default() };
            let exact = phase_one_teacher(&problem, &spec, 5, 2).unwrap();
            let noisy =
                phase_one_teacher(&problem, &TeacherSpec { batch: Some(1 << 20), ..spec }, 5, 2).unwrap();
            // Standard error of an entry: 1/sqrt(2 B) / (2k hat g(1)), with hat g(1) about 0.13.
            let error = (exact.hidden() - noisy.hidden()).iter().fold(0.0f64, |m, v| m.max(v.abs()));
            assert!(error < 5.5 / (2.0 * 2f64.powi(20)).sqrt() / (4.0 * 0.12), "d {d}: {error}");
        }
    }

    #[test]
    fn population_agrees_with_the_gradient_formula() {
        let problem = Problem::new(12, vec![2, 5, 7]).unwrap();
        let neurons = Neurons::draw(6, 12, 3, 0.5, &mut generator(1, 1, Stream::Neurons, 0));
        let fast = population(&problem, &neurons).unwrap();
        for i in 0..6 {
            let exact =
                label_gradient(&neurons.signs.row(i).to_vec(), neurons.biases[i], 1.0, problem.support())
                    .unwrap();
            assert!(fast.row(i).iter().zip(&exact.weights).all(|(a, b)| (a - b).abs() < 1e-15));
        }
    }
}
