//! Minibatch SGD as the textbook writes it: the reference for every fast path, and the path for two or more hidden layers.

use super::check;
use curricle_core::model::mlp::MlpParams;
use curricle_core::optim::{Steps, StepsResult};
use curricle_core::task::Samples;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, Zip};
// Links OpenBLAS, through which ndarray multiplies.
use ndarray_linalg as _;

/// An MLP with one or more hidden layers; products by OpenBLAS.
#[derive(Debug, Clone)]
pub struct PlainMlp {
    params: MlpParams,
}

impl PlainMlp {
    /// Takes over `params`.
    pub fn new(params: MlpParams) -> Self {
        Self { params }
    }

    /// The parameters.
    pub fn params(&self) -> &MlpParams {
        &self.params
    }

    /// Takes all steps.
    ///
    /// # Panics
    /// If sizes disagree.
    pub fn train(&mut self, steps: &Steps) -> StepsResult {
        let shape = self.params.shape();
        check(steps, shape.d, shape.classes);
        let Steps { batch, loss, weight_decay, .. } = *steps;
        let width = loss.target_width(shape.classes);
        let mut loss_sum = 0.0;
        for (step, &rate) in steps.rates.iter().enumerate() {
            let range = step * batch..(step + 1) * batch;
            let x = signs(steps.samples, range.clone());
            let targets = &steps.targets[range.start * width..range.end * width];

            let activations = self.forward(x);
            let logits = &activations[activations.len() - 1];
            let mut gradient = Array2::zeros(logits.raw_dim());
            for (b, target) in targets.chunks_exact(width).enumerate() {
                let (z, mut g) = (logits.row(b), gradient.row_mut(b));
                let value = loss.gradient(z.as_slice().unwrap(), target, g.as_slice_mut().unwrap());
                loss_sum += f64::from(value);
            }
            gradient /= batch as f32;
            self.descend(&activations, gradient, rate, weight_decay);
        }
        StepsResult { loss_sum }
    }

    /// Inputs, then every layer's output (hidden ones after the ReLU), each [B, fan_out].
    fn forward(&self, x: Array2<f32>) -> Vec<Array2<f32>> {
        let mut activations = vec![x];
        for (l, layer) in self.params.layers.iter().enumerate() {
            let input = &activations[l];
            let mut z = Array2::zeros([input.nrows(), layer.bias.len()]);
            z += &layer.bias;
            general_mat_mul(1.0, input, &layer.weight.t(), 1.0, &mut z);
            if l + 1 < self.params.layers.len() {
                // A NaN must stay visible, so no max().
                z.mapv_inplace(|z| if z <= 0.0 { 0.0 } else { z });
            }
            activations.push(z);
        }
        activations
    }

    /// Back-propagates dL/dlogits and takes one SGD step.
    fn descend(&mut self, activations: &[Array2<f32>], gradient: Array2<f32>, rate: f32, weight_decay: f32) {
        // `torch.optim.SGD`: the gradient of every parameter p grows by weight_decay x p.
        let keep = 1.0 - rate * weight_decay;
        let mut delta = gradient;
        for (l, layer) in self.params.layers.iter_mut().enumerate().rev() {
            let input = &activations[l];
            let below = (l > 0).then(|| {
                let mut below = Array2::zeros(input.raw_dim());
                general_mat_mul(1.0, &delta, &layer.weight, 0.0, &mut below);
                Zip::from(&mut below).and(input).for_each(|d, h| {
                    if *h <= 0.0 {
                        *d = 0.0;
                    }
                });
                below
            });
            general_mat_mul(-rate, &delta.t(), input, keep, &mut layer.weight);
            let bias_gradient = delta.sum_axis(Axis(0));
            Zip::from(&mut layer.bias).and(&bias_gradient).for_each(|b, g| *b = keep * *b - rate * g);
            if let Some(below) = below {
                delta = below;
            }
        }
    }

    /// Logits of all samples, `[n, C]` row-major.
    ///
    /// # Panics
    /// If sizes disagree.
    pub fn logits(&self, samples: &Samples, out: &mut [f32]) {
        const CHUNK: usize = 256;
        let shape = self.params.shape();
        assert_eq!(samples.d(), shape.d, "samples of another dimension");
        assert_eq!(out.len(), samples.len() * shape.classes, "n x C logits");
        for (chunk, out) in out.chunks_mut(CHUNK * shape.classes).enumerate() {
            let first = chunk * CHUNK;
            let x = signs(samples, first..samples.len().min(first + CHUNK));
            let activations = self.forward(x);
            out.copy_from_slice(activations[activations.len() - 1].as_slice().unwrap());
        }
    }
}

/// Samples `range` as +-1 numbers, [n, d].
fn signs(samples: &Samples, range: std::ops::Range<usize>) -> Array2<f32> {
    let part = samples.slice(range);
    let signs = part.to_signs();
    ArrayView2::from_shape([part.len(), part.d()], &signs).unwrap().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::model::loss::Loss;
    use curricle_core::model::mlp::{MlpInit, MlpShape};
    use curricle_core::rng::{Purpose, Stream};

    /// Loss of a batch in double precision, the textbook formulas spelt out.
    fn loss_f64(
        params: &[Vec<f64>],
        shape: &MlpShape,
        samples: &Samples,
        loss: Loss,
        targets: &[f32],
    ) -> f64 {
        let signs = samples.to_signs();
        let mut total = 0.0;
        for (i, x) in signs.chunks_exact(shape.d).enumerate() {
            let mut h: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            let linears = shape.linears();
            for (l, [fan_in, fan_out]) in linears.iter().enumerate() {
                let (w, b) = (&params[2 * l], &params[2 * l + 1]);
                h = (0..*fan_out)
                    .map(|o| b[o] + (0..*fan_in).map(|j| w[o * fan_in + j] * h[j]).sum::<f64>())
                    .map(|z| if l + 1 < linears.len() { z.max(0.0) } else { z })
                    .collect();
            }
            let width = loss.target_width(shape.classes);
            let q: Vec<f64> = targets[i * width..(i + 1) * width].iter().map(|&q| f64::from(q)).collect();
            total += match loss {
                Loss::CrossEntropy => {
                    let log_total = h.iter().map(|z| z.exp()).sum::<f64>().ln();
                    q.iter().zip(&h).map(|(q, z)| q * (log_total - z)).sum()
                }
                Loss::Hinge => (1.0 - q[0] * (h[1] - h[0])).max(0.0),
                Loss::Correlation => -q[0] * (h[1] - h[0]),
            };
        }
        total / samples.len() as f64
    }

    fn flat(params: &MlpParams) -> Vec<Vec<f64>> {
        let wide = |v: &f32| f64::from(*v);
        params
            .layers
            .iter()
            .flat_map(|l| [l.weight.iter().map(wide).collect(), l.bias.iter().map(wide).collect()])
            .collect()
    }

    /// One step's displacement divided by the rate is minus the numeric gradient of loss + decay / 2 |p|^2.
    #[test]
    fn gradients_match_finite_differences() {
        let cases = [
            (vec![6], 2, 1, Loss::CrossEntropy, 0.0),
            (vec![6], 2, 5, Loss::Hinge, 0.0),
            (vec![5, 4], 3, 7, Loss::CrossEntropy, 0.1),
            (vec![4, 3, 5], 2, 2, Loss::Correlation, 0.0),
        ];
        for (hidden, classes, batch, loss, weight_decay) in cases {
            let shape = MlpShape { d: 9, hidden, classes };
            let params = MlpParams::new(&shape, MlpInit::Pytorch, 11);
            let samples = Samples::random(9, 5, Stream::new(Purpose::Data, 0), 0, batch);
            let width = loss.target_width(classes);
            let targets: Vec<f32> = (0..batch * width)
                .map(|i| match width {
                    1 => [1.0, -1.0][i % 2],
                    2 => [0.6, 0.4][i % 2],
                    _ => [0.5, 0.3, 0.2][i % 3],
                })
                .collect();
            // Large enough that f32 rounding of the parameters does not show.
            let rate = 1.0 / 64.0;
            let steps =
                Steps { samples: &samples, batch, loss, targets: &targets, rates: &[rate], weight_decay };
            let mut model = PlainMlp::new(params.clone());
            let result = model.train(&steps);
            let (before, after) = (flat(&params), flat(model.params()));
            let value = loss_f64(&before, &shape, &samples, loss, &targets);
            assert!((result.loss_sum / batch as f64 - value).abs() < 1e-6, "{shape} {loss:?}");
            for tensor in 0..before.len() {
                for e in 0..before[tensor].len() {
                    let at = |h: f64| {
                        let mut moved = before.clone();
                        moved[tensor][e] += h;
                        loss_f64(&moved, &shape, &samples, loss, &targets)
                    };
                    let numeric = (at(1e-6) - at(-1e-6)) / 2e-6 + f64::from(weight_decay) * before[tensor][e];
                    let taken = (before[tensor][e] - after[tensor][e]) / f64::from(rate);
                    assert!(
                        (numeric - taken).abs() < 1e-5,
                        "{shape} {loss:?} tensor {tensor} element {e}: {numeric} against {taken}"
                    );
                }
            }
        }
    }

    #[test]
    fn logits_do_not_depend_on_the_chunk() {
        let shape = MlpShape { d: 33, hidden: vec![20, 10], classes: 4 };
        let model = PlainMlp::new(MlpParams::new(&shape, MlpInit::Pytorch, 2));
        let samples = Samples::random(33, 5, Stream::new(Purpose::Data, 0), 0, 300);
        let mut all = vec![0.0; 1200];
        model.logits(&samples, &mut all);
        let mut tail = vec![0.0; 4 * 30];
        model.logits(&samples.slice(270..300), &mut tail);
        let difference = all[1080..].iter().zip(&tail).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-6, "{difference}");
    }
}
