//! How the parameters of one MLP lie in a buffer.

use curricle_core::model::{Layer, MlpParams, MlpShape};
use ndarray::{Array1, Array2};

/// Hidden layer l is [in + 1, out] (neuron-contiguous, so that neighbouring threads read neighbouring words), its last row the
/// bias; the output layer is [C, in + 1], its last column the bias. Then come C (m + 1) words in which the delayed-update
/// kernels sum the output layer's gradient over a batch.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Layer sizes.
    pub shape: MlpShape,
    /// First word of each layer.
    pub offsets: Vec<u32>,
    /// First word of the gradient sums.
    pub sums: u32,
    /// Words per model.
    pub stride: u32,
}

impl Layout {
    pub fn new(shape: &MlpShape) -> Self {
        let mut offsets = Vec::new();
        let mut at = 0;
        for [fan_in, fan_out] in shape.linears() {
            offsets.push(at as u32);
            at += (fan_in + 1) * fan_out;
        }
        let sums = at;
        at += (shape.hidden[shape.hidden.len() - 1] + 1) * shape.classes;
        Self { shape: shape.clone(), offsets, sums: sums as u32, stride: at.next_multiple_of(4) as u32 }
    }

    /// The last layer's index.
    pub fn last(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Words between (input, output) neighbours of layer l: an index is offset + input * .0 + output * .1.
    pub fn steps(&self, l: usize) -> (u32, u32) {
        let [fan_in, fan_out] = self.shape.linears()[l];
        if l == self.last() { (1, fan_in as u32 + 1) } else { (fan_out as u32, 1) }
    }

    pub fn pack(&self, params: &MlpParams) -> Vec<f32> {
        let mut words = vec![0.0; self.stride as usize];
        for (l, layer) in params.layers.iter().enumerate() {
            let (input, output) = self.steps(l);
            let at =
                |i: usize, o: usize| (self.offsets[l] as usize) + i * input as usize + o * output as usize;
            for ((o, i), w) in layer.weight.indexed_iter() {
                words[at(i, o)] = *w;
            }
            for (o, b) in layer.bias.iter().enumerate() {
                words[at(layer.weight.ncols(), o)] = *b;
            }
        }
        words
    }

    pub fn unpack(&self, words: &[f32]) -> MlpParams {
        let layers = self.shape.linears().into_iter().enumerate().map(|(l, [fan_in, fan_out])| {
            let (input, output) = self.steps(l);
            let at = |i: usize, o: usize| {
                words[(self.offsets[l] as usize) + i * input as usize + o * output as usize]
            };
            Layer {
                weight: Array2::from_shape_fn([fan_out, fan_in], |(o, i)| at(i, o)),
                bias: Array1::from_shape_fn(fan_out, |o| at(fan_in, o)),
            }
        });
        MlpParams { layers: layers.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curricle_core::model::MlpInit;

    #[test]
    fn packing_is_reversible() {
        for hidden in [vec![5], vec![4, 3]] {
            let shape = MlpShape { d: 7, hidden, classes: 3 };
            let params = MlpParams::new(&shape, MlpInit::Pytorch, 1);
            let layout = Layout::new(&shape);
            assert_eq!(layout.unpack(&layout.pack(&params)), params);
        }
    }
}
