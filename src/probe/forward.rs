//! Plain MLP forward pass for the probes. // replaced at merge by `engine::cpu::Mlp`

use super::{LogitModel, ModelError};
use crate::model::MlpParams;
use crate::task::Samples;
use ndarray::{Array2, ArrayView2};
// Brings OpenBLAS, which ndarray's products call, to the linker.
use ndarray_linalg as _;

/// Hidden activations held at a time, in numbers: 16 MiB of f32.
const ACTIVATIONS: usize = 1 << 22;

/// An MLP as a [`LogitModel`].
pub struct Forward {
    params: MlpParams,
}

impl Forward {
    /// The model with these parameters.
    pub fn new(params: MlpParams) -> Self {
        Self { params }
    }
}

impl LogitModel for Forward {
    fn d(&self) -> usize {
        self.params.shape().d
    }

    fn classes(&self) -> usize {
        self.params.shape().classes
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        let shape = self.params.shape();
        let widest = shape.hidden.iter().copied().max().unwrap_or(1).max(1);
        let rows = (ACTIVATIONS / widest).clamp(16, 4096);
        let last = self.params.layers.len() - 1;
        for (start, out) in (0..samples.len()).step_by(rows).zip(logits.chunks_mut(rows * shape.classes)) {
            let count = out.len() / shape.classes;
            let signs = samples.slice(start..start + count).to_signs();
            let mut values = Array2::from_shape_vec([count, shape.d], signs)?;
            for (l, layer) in self.params.layers.iter().enumerate() {
                values = values.dot(&layer.weight.t()) + &layer.bias;
                if l < last {
                    // `max` would turn a NaN into 0 and hide it.
                    values.mapv_inplace(|v| if v < 0.0 { 0.0 } else { v });
                }
            }
            let view: ArrayView2<'_, f32> = values.view();
            out.iter_mut().zip(view.iter()).for_each(|(o, v)| *o = *v);
        }
        Ok(())
    }
}
