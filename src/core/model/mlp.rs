//! Multi-layer perceptrons with ReLU hidden layers: `nn.Sequential(Linear, ReLU, .., Linear)`.

use crate::rng::{self, Purpose, Stream};
use ndarray::{Array1, Array2};

/// Layer sizes: d inputs, one or more hidden layers, C >= 2 logits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlpShape {
    /// Input dimension.
    pub d: usize,
    /// Width of each hidden layer.
    pub hidden: Vec<usize>,
    /// Number of logits.
    pub classes: usize,
}

impl MlpShape {
    /// [fan_in, fan_out] of each linear layer in order.
    pub fn linears(&self) -> Vec<[usize; 2]> {
        let sizes: Vec<usize> =
            [self.d].into_iter().chain(self.hidden.iter().copied()).chain([self.classes]).collect();
        sizes.windows(2).map(|w| [w[0], w[1]]).collect()
    }

    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.linears().iter().map(|[i, o]| i * o + o).sum()
    }
}

impl std::fmt::Display for MlpShape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths: Vec<String> = self.hidden.iter().map(ToString::to_string).collect();
        write!(f, "{}-{}-{}", self.d, widths.join("-"), self.classes)
    }
}

/// How the first parameters are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MlpInit {
    /// PyTorch's `nn.Linear` default: weight and bias uniform in +-1/sqrt(fan_in).
    #[default]
    Pytorch,
    /// The theorem's: first layer +-1 with biases in (-1, 1), neurons in mirrored pairs, output +-1/m, so that the
    /// margin starts at 0. One hidden layer of even width and two classes.
    Symmetric,
}

/// One linear layer: y = weight x + bias.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// [fan_out, fan_in].
    pub weight: Array2<f32>,
    /// [fan_out].
    pub bias: Array1<f32>,
}

/// All parameters of an MLP; layer l has the names `{2l}.weight` and `{2l}.bias` in files.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpParams {
    /// Linear layers from input to output; at least two.
    pub layers: Vec<Layer>,
}

impl MlpParams {
    /// Draws the first parameters. Element e of tensor t (layer 0's weight, its bias, layer 1's
    /// weight, ..) is word e%4 of item e/4 of init stream t, so any engine can draw any part.
    ///
    /// # Panics
    /// If `init` is symmetric and the shape is not one hidden layer of even width with two classes
    /// (the spec reader refuses such shapes).
    pub fn new(shape: &MlpShape, init: MlpInit, seed: u64) -> Self {
        match init {
            MlpInit::Pytorch => Self::pytorch(shape, seed),
            MlpInit::Symmetric => Self::symmetric(shape, seed),
        }
    }

    fn pytorch(shape: &MlpShape, seed: u64) -> Self {
        let layers = shape.linears().into_iter().enumerate().map(|(l, [fan_in, fan_out])| {
            let bound = 1.0 / (fan_in as f32).sqrt();
            let draw = |tensor: usize, len: usize| -> Vec<f32> {
                let stream = Stream::new(Purpose::Init, tensor as u32);
                let words = (0..len.div_ceil(4) as u64).flat_map(|i| rng::bits(seed, stream, i, 0));
                words.take(len).map(|w| (2.0 * rng::unit_f32(w) - 1.0) * bound).collect()
            };
            Layer {
                weight: Array2::from_shape_vec([fan_out, fan_in], draw(2 * l, fan_in * fan_out)).unwrap(),
                bias: Array1::from_vec(draw(2 * l + 1, fan_out)),
            }
        });
        Self { layers: layers.collect() }
    }

    fn symmetric(shape: &MlpShape, seed: u64) -> Self {
        let m = shape.hidden[0];
        assert!(shape.hidden.len() == 1 && m.is_multiple_of(2) && shape.classes == 2);
        let half = m / 2;
        let stream = |t| Stream::new(Purpose::Init, t);
        let mut weight = Array2::zeros([m, shape.d]);
        let mut bias = Array1::zeros(m);
        let mut output = Array2::zeros([2, m]);
        for i in 0..half {
            for j in 0..shape.d {
                let word = rng::bits(seed, stream(0), i as u64, (j / 128) as u32)[j / 32 % 4];
                let sign = if word >> (j % 32) & 1 == 1 { -1.0 } else { 1.0 };
                weight[[i, j]] = sign;
                weight[[i + half, j]] = sign;
            }
            let drawn = rng::bits(seed, stream(1), i as u64, 0);
            // The middle points of 64 equal cells of (-1, 1): a grid that avoids the ends and zero.
            let b = ((drawn[0] >> 26) as f32 + 0.5) / 32.0 - 1.0;
            bias[i] = b;
            bias[i + half] = b;
            let a = if drawn[1] & 1 == 1 { -1.0 } else { 1.0 } / m as f32;
            // The margin is logit 1 minus logit 0: half of a_i each.
            for (neuron, a) in [(i, a), (i + half, -a)] {
                output[[1, neuron]] = a / 2.0;
                output[[0, neuron]] = -a / 2.0;
            }
        }
        Self { layers: vec![Layer { weight, bias }, Layer { weight: output, bias: Array1::zeros(2) }] }
    }

    /// Layer sizes.
    pub fn shape(&self) -> MlpShape {
        let sizes: Vec<usize> = self.layers.iter().map(|l| l.weight.nrows()).collect();
        MlpShape {
            d: self.layers[0].weight.ncols(),
            hidden: sizes[..sizes.len() - 1].to_vec(),
            classes: sizes[sizes.len() - 1],
        }
    }

    /// Name and index of the first parameter that is not finite.
    pub fn first_non_finite(&self) -> Option<(String, usize)> {
        self.layers.iter().enumerate().find_map(|(l, layer)| {
            let at = |mut values: ndarray::iter::Iter<'_, f32, ndarray::IxDyn>| {
                values.position(|v| !v.is_finite())
            };
            let weight = at(layer.weight.view().into_dyn().iter()).map(|i| (format!("{}.weight", 2 * l), i));
            weight.or_else(|| at(layer.bias.view().into_dyn().iter()).map(|i| (format!("{}.bias", 2 * l), i)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pytorch_init_has_the_right_range_and_moments() {
        let shape = MlpShape { d: 100, hidden: vec![400, 30], classes: 2 };
        let params = MlpParams::new(&shape, MlpInit::Pytorch, 5);
        assert_eq!(params.shape(), shape);
        let w = &params.layers[0].weight;
        assert!(w.iter().all(|v| v.abs() <= 0.1));
        let variance = w.iter().map(|v| v * v).sum::<f32>() / w.len() as f32;
        // Uniform on +-0.1: variance 1/300; the standard error over 40,000 draws is 1.5e-5.
        assert!((variance - 1.0 / 300.0).abs() < 7.5e-5, "{variance}");
        assert!(params.layers[0].bias.iter().all(|v| v.abs() <= 0.1));
        assert!(params.layers[1].weight.iter().all(|v| v.abs() <= 0.05));
        assert_ne!(params, MlpParams::new(&shape, MlpInit::Pytorch, 6));
    }

    #[test]
    fn symmetric_init_starts_with_margin_zero() {
        let shape = MlpShape { d: 9, hidden: vec![8], classes: 2 };
        let params = MlpParams::new(&shape, MlpInit::Symmetric, 5);
        let (first, second) = (&params.layers[0], &params.layers[1]);
        for i in 0..4 {
            assert_eq!(first.weight.row(i), first.weight.row(i + 4));
            assert_eq!(second.weight[[1, i]], -second.weight[[1, i + 4]]);
            assert_eq!(second.weight[[1, i]].abs(), 1.0 / 16.0);
        }
        assert!(first.weight.iter().all(|w| w.abs() == 1.0));
        assert!(first.bias.iter().all(|b| b.abs() < 1.0));
    }
}
