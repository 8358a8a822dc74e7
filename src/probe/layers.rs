//! What each layer of a transformer has made linearly readable: a regression from its hidden states to the label.
//!
//! f depends on x only through the layer's state at the position where the label is read, so a monomial that f correlates with
//! ([`crate::correlations`]) has been computed there. It is in f because the state entangles it with the label, or by chance of
//! the samples that f was fitted on ([`ReadoutFit::samples`]).

use super::least_squares::NormalEquations;
use super::parity::ParityTransformer;
use curricle_core::model::{LogitModel, ModelError};
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::{BooleanTask, Samples};
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// The samples that readouts are fitted on; 0 are those of the correlations.
const STREAM: Stream = Stream::new(Purpose::Probe, 0xFF_0010);

/// Rows per product; what the fit holds in f64 is proportional to this.
const ROWS: usize = 1 << 12;

/// Least variance of the states, relative to their squared mean, that is not rounding of equal f32 states.
const CONSTANT: f64 = 1e-20;

/// How a readout is fitted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadoutFit {
    /// Samples, at least 2. A layer that knows nothing still gets correlations of about 1/sqrt(samples) with what its states
    /// do contain: these are the same for all inputs, so no standard error shows them.
    pub samples: usize,
    /// Seed of the samples, which have a sub-stream of the probe stream to themselves.
    pub seed: u64,
    /// L2 penalty of w per sample, relative to the variance of a state (the mean over its components). The result does not change
    /// when a layer's states are scaled.
    pub penalty: f64,
}

impl Default for ReadoutFit {
    fn default() -> Self {
        Self { samples: 4000, seed: 0, penalty: 1e-4 }
    }
}

/// Why a layer has no readout.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A layer that does not exist.
    #[error("layer {layer} does not exist: 0 are the embeddings, 1 to {layers} the blocks")]
    Layer {
        /// Asked layer.
        layer: usize,
        /// Blocks of the model.
        layers: usize,
    },
    /// The task has another input dimension.
    #[error("the model takes d = {model} inputs, but the task has d = {task}")]
    Dimension {
        /// The model's.
        model: usize,
        /// The task's.
        task: usize,
    },
    /// Not a parity.
    #[error("a layer's readout tells two labels apart, but the task has {0}")]
    Classes(usize),
    /// Fewer than two samples.
    #[error("{0} samples are too few to fit a readout: at least 2 are needed")]
    TooFewSamples(usize),
    /// The states say nothing.
    #[error("the states of layer {layer} are the same for all {samples} samples: there is nothing to read")]
    Constant {
        /// The layer.
        layer: usize,
        /// Samples of the fit.
        samples: usize,
    },
    /// A state that is not a number.
    #[error("layer {layer} is not finite at sample {sample}: the checkpoint does not compute finite states")]
    NonFinite {
        /// The layer.
        layer: usize,
        /// Index of the sample.
        sample: usize,
    },
    /// The regression has no solution.
    #[error("the readout of layer {layer} cannot be fitted: {reason}")]
    Singular {
        /// The layer.
        layer: usize,
        /// What the solver says.
        reason: String,
    },
    /// The model failed.
    #[error("the model could not compute its hidden states")]
    Model(#[source] ModelError),
}

/// f(x) = w . h(x) + b, where h(x) is a layer's hidden state at the last of the d positions.
///
/// w and b minimise the mean over the samples of (f(x) - y)^2 plus penalty |w|^2, where y is +1 for label 1 and -1 for label 0. As
/// a model it has the two logits 0 and f(x), so that f is the margin and its sign the prediction.
pub struct LayerReadout<'a> {
    transformer: &'a ParityTransformer,
    layer: usize,
    weights: Vec<f64>,
    bias: f64,
}

impl<'a> LayerReadout<'a> {
    /// Fits the readout of a layer: 0 are the embeddings, l the output of block l (before the final layer norm).
    ///
    /// # Errors
    /// If the layer does not exist, the task has not two labels or not the model's inputs, there are fewer than 2 samples, the states are
    /// constant or not finite, or the model fails.
    pub fn fit(
        transformer: &'a ParityTransformer,
        layer: usize,
        task: &dyn BooleanTask,
        fit: &ReadoutFit,
    ) -> Result<Self, LayerError> {
        let (d, layers, width) = (transformer.d(), transformer.layers(), transformer.width());
        if layer > layers {
            return Err(LayerError::Layer { layer, layers });
        }
        if task.d() != d {
            return Err(LayerError::Dimension { model: d, task: task.d() });
        }
        if task.classes() != 2 {
            return Err(LayerError::Classes(task.classes()));
        }
        let n = fit.samples;
        if n < 2 {
            return Err(LayerError::TooFewSamples(n));
        }
        let samples = task.samples(fit.seed, STREAM, 0, n);
        let states = transformer.last_states(&samples, layer).map_err(LayerError::Model)?;
        if let Some(at) = states.iter().position(|h| !h.is_finite()) {
            return Err(LayerError::NonFinite { layer, sample: at / width });
        }
        let states = ArrayView2::from_shape((n, width), &states).expect("one state per sample");
        let labels = samples.labels.iter().map(|&label| if label == 1 { 1.0 } else { -1.0 });
        let labels = Array2::from_shape_vec((n, 1), labels.collect()).expect("one label per sample");
        let (mean, variance) = moments(states);
        if variance <= CONSTANT * mean.dot(&mean) / width as f64 {
            return Err(LayerError::Constant { layer, samples: n });
        }
        // Centred, or else a mean far from 0 would cost digits.
        let mut equations = NormalEquations::new(width, 1);
        let rows = states.axis_chunks_iter(Axis(0), ROWS).zip(labels.axis_chunks_iter(Axis(0), ROWS));
        rows.for_each(|(h, y)| equations.add((h.mapv(f64::from) - &mean).view(), y));
        let map = equations.solve(fit.penalty * variance);
        let map = map.map_err(|reason| LayerError::Singular { layer, reason })?;
        let mut weights = map.into_raw_vec_and_offset().0;
        let at_mean = weights.pop().expect("the constant comes last");
        let bias = at_mean - weights.iter().zip(&mean).map(|(w, m)| w * m).sum::<f64>();
        Ok(Self { transformer, layer, weights, bias })
    }

    /// The layer.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// w, as long as a hidden state.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// b.
    pub fn bias(&self) -> f64 {
        self.bias
    }
}

impl LogitModel for LayerReadout<'_> {
    fn d(&self) -> usize {
        self.transformer.d()
    }

    fn classes(&self) -> usize {
        2
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        let states = self.transformer.last_states(samples, self.layer)?;
        for (state, out) in states.chunks_exact(self.weights.len()).zip(logits.chunks_exact_mut(2)) {
            let products = state.iter().zip(&self.weights).map(|(&h, w)| f64::from(h) * w);
            out.copy_from_slice(&[0.0, (self.bias + products.sum::<f64>()) as f32]);
        }
        Ok(())
    }
}

/// Mean of the states \[n, width\], and their variance averaged over the components.
fn moments(states: ArrayView2<'_, f32>) -> (Array1<f64>, f64) {
    let mut mean = Array1::<f64>::zeros(states.ncols());
    states.outer_iter().for_each(|h| mean.zip_mut_with(&h, |m, &h| *m += f64::from(h)));
    mean /= states.nrows() as f64;
    let square = |h: ndarray::ArrayView1<'_, f32>| {
        h.iter().zip(&mean).map(|(&h, m)| (f64::from(h) - m).powi(2)).sum::<f64>()
    };
    let total: f64 = states.outer_iter().map(square).sum();
    (mean, total / states.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Correlations, Monomials, Request, Sampling, Statistic, correlations};
    use curricle_core::model::transformer::{TokenBatch, TransformerConfig, TransformerParams};
    use curricle_core::task::{HierarchicalParity, Support};
    use curricle_cpu::{Transformer, TransformerOptions};

    const D: usize = 6;

    /// Two blocks of width 8, far enough from zero that attention mixes the positions.
    fn params() -> TransformerParams {
        let config = TransformerConfig { init_std: 0.5, ..TransformerConfig::gpt2(2, D, 8, 2, 2) };
        TransformerParams::new(config, 3).unwrap()
    }

    fn transformer() -> Transformer {
        let options = TransformerOptions { threads: 1, ..TransformerOptions::default() };
        Transformer::new(&params(), options).unwrap()
    }

    fn reader() -> ParityTransformer {
        ParityTransformer::new(Box::new(transformer()), D).unwrap()
    }

    fn parity(support: &[usize]) -> HierarchicalParity {
        HierarchicalParity::parity(D, support.len(), &Support::Given(support.to_vec())).unwrap()
    }

    /// Last states of the layer, one sequence at a time, straight from the engine.
    fn states(layer: usize, samples: &Samples) -> Vec<Vec<f64>> {
        let model = transformer();
        let state = |signs: &[f32]| {
            let tokens: Vec<u32> = signs.iter().map(|&x| u32::from(x < 0.0)).collect();
            let hidden = model.hidden(&TokenBatch::new(1, D, &tokens), layer).unwrap();
            assert_eq!(hidden.len(), D * 8);
            hidden[(D - 1) * 8..].iter().map(|&h| f64::from(h)).collect()
        };
        samples.to_signs().chunks_exact(D).map(state).collect()
    }

    fn value(readout: &LayerReadout<'_>, state: &[f64]) -> f64 {
        readout.bias() + state.iter().zip(readout.weights()).map(|(h, w)| h * w).sum::<f64>()
    }

    fn all_inputs() -> Samples {
        Samples::from_bits(D, (0..1 << D).collect())
    }

    fn exact(readout: &LayerReadout<'_>, task: &dyn BooleanTask) -> Correlations {
        let monomials = Monomials::select(D, None, &[1, 2, 3], 0, 0).unwrap();
        let request = Request { statistic: Statistic::Margin, class: 1, sampling: Sampling::Exact };
        correlations(readout, &monomials, Some(task), &request, &mut |_| {}).unwrap()
    }

    #[test]
    fn a_readout_minimises_the_penalised_squared_error() {
        let (reader, task) = (reader(), parity(&[1, 4]));
        let fit = ReadoutFit { samples: 300, seed: 9, penalty: 0.03 };
        let samples = task.samples(9, STREAM, 0, 300);
        let n = 300.0;
        for layer in 0..=2 {
            let readout = LayerReadout::fit(&reader, layer, &task, &fit).unwrap();
            let states = states(layer, &samples);
            let mean: Vec<f64> = (0..8).map(|j| states.iter().map(|h| h[j]).sum::<f64>() / n).collect();
            let square = |h: &Vec<f64>| h.iter().zip(&mean).map(|(h, m)| (h - m).powi(2)).sum::<f64>();
            let variance = states.iter().map(square).sum::<f64>() / (8.0 * n);
            // The objective is strictly convex: where its gradient is 0 it has its only minimum.
            let mut gradient = [0.0; 9];
            for (state, &label) in states.iter().zip(&samples.labels) {
                let residual = value(&readout, state) - (2.0 * f64::from(label) - 1.0);
                (0..8).for_each(|j| gradient[j] += residual * (state[j] - mean[j]) / n);
                gradient[8] += residual / n;
            }
            (0..8).for_each(|j| gradient[j] += fit.penalty * variance * readout.weights()[j]);
            // Sequences that share a batch may round differently from lone ones.
            let scale = 1e-5 * (1.0 + variance.sqrt());
            assert!(gradient.iter().all(|g| g.abs() < scale), "layer {layer}: {gradient:?}");
            assert!(readout.weights().iter().any(|w| w.abs() > 1e-4), "layer {layer}");
        }
    }

    #[test]
    fn correlations_of_a_readout_are_those_of_its_function() {
        let (reader, task) = (reader(), parity(&[1, 4]));
        let inputs = all_inputs();
        let signs = inputs.to_signs();
        for layer in 0..=2 {
            let fit = ReadoutFit { samples: 300, ..ReadoutFit::default() };
            let readout = LayerReadout::fit(&reader, layer, &task, &fit).unwrap();
            let values: Vec<f64> = states(layer, &inputs).iter().map(|h| value(&readout, h)).collect();
            let found = exact(&readout, &task);
            let right = (0..64).filter(|&i| u8::from(values[i] > 0.0) == task.label(inputs.row(i))).count();
            assert_eq!(found.accuracy, Some(right as f64 / 64.0), "layer {layer}");
            let mut elsewhere = 0.0f64;
            for c in &found.coefficients {
                let set = &c.monomial.coordinates;
                let chi = |i: usize| set.iter().map(|j| f64::from(signs[i * D + j])).product::<f64>();
                let direct = (0..64).map(|i| values[i] * chi(i)).sum::<f64>() / 64.0;
                assert!((c.value - direct).abs() < 1e-4, "layer {layer}, {set:?}: {} {direct}", c.value);
                if *set != [D - 1] {
                    elsewhere = elsewhere.max(c.value.abs());
                }
            }
            // The last position's embedding knows its own token only; blocks bring in the others.
            assert_eq!(elsewhere > 1e-3, layer > 0, "layer {layer}: {elsewhere}");
        }
    }

    #[test]
    fn the_embedding_tells_the_last_coordinate() {
        let (reader, task) = (reader(), parity(&[D - 1]));
        let readout = LayerReadout::fit(&reader, 0, &task, &ReadoutFit::default()).unwrap();
        let found = exact(&readout, &task);
        assert_eq!(found.accuracy, Some(1.0));
        // Label 1 stands for x = -1.
        let own = found.coefficients.iter().find(|c| c.monomial.coordinates == [D - 1]).unwrap();
        assert!((own.value + 1.0).abs() < 1e-3, "{own:?}");
    }

    #[test]
    fn unsuitable_requests_are_refused() {
        let reader = reader();
        let refusal = |layer, task: &dyn BooleanTask, samples| {
            let fit = ReadoutFit { samples, ..ReadoutFit::default() };
            LayerReadout::fit(&reader, layer, task, &fit).err().unwrap().to_string()
        };
        assert!(refusal(3, &parity(&[0]), 10).contains("layer 3 does not exist"));
        assert!(refusal(1, &parity(&[0]), 1).contains("too few"));
        let wide = HierarchicalParity::parity(7, 1, &Support::Given(vec![0])).unwrap();
        assert!(refusal(1, &wide, 10).contains("d = 7"));
        let tree = HierarchicalParity::hierarchy(D, 2, 4, &Support::Given((0..D).collect())).unwrap();
        assert!(refusal(1, &tree, 10).contains("has 4"));
    }
}
