//! The CPU engine. (interim)
use crate::engine::{Steps, StepsResult};
use crate::model::MlpParams;
use crate::task::Samples;
use ndarray::{Array1, Array2, Axis};
use ndarray_linalg as _;

/// Options.
#[derive(Debug, Clone, Copy)]
pub struct CpuOptions {
    /// Threads.
    pub threads: usize,
}
impl Default for CpuOptions {
    fn default() -> Self {
        Self { threads: 1 }
    }
}
/// A model.
pub struct Mlp {
    params: MlpParams,
}
impl Mlp {
    /// New.
    pub fn new(params: &MlpParams, _options: CpuOptions) -> Self {
        Self { params: params.clone() }
    }
    fn forward(&self, samples: &Samples) -> Vec<Array2<f32>> {
        let x = Array2::from_shape_vec([samples.len(), samples.d()], samples.to_signs()).unwrap();
        let mut acts = vec![x];
        for (l, layer) in self.params.layers.iter().enumerate() {
            let mut z = acts[l].dot(&layer.weight.t()) + &layer.bias;
            if l + 1 < self.params.layers.len() {
                z.mapv_inplace(|v| if v < 0.0 { 0.0 } else { v });
            }
            acts.push(z);
        }
        acts
    }
    /// Train.
    pub fn train(&mut self, steps: &Steps) -> StepsResult {
        let mut loss_sum = 0.0;
        let c = self.params.shape().classes;
        let w = steps.loss.target_width(c);
        for (t, rate) in steps.rates.iter().enumerate() {
            let part = steps.samples.slice(t * steps.batch..(t + 1) * steps.batch);
            let acts = self.forward(&part);
            let logits = acts.last().unwrap();
            let mut delta = Array2::zeros(logits.raw_dim());
            for i in 0..steps.batch {
                let row = t * steps.batch + i;
                let mut g = vec![0.0; c];
                loss_sum += f64::from(steps.loss.gradient(
                    logits.row(i).as_slice().unwrap(),
                    &steps.targets[row * w..(row + 1) * w],
                    &mut g,
                ));
                delta.row_mut(i).assign(&(Array1::from_vec(g) / steps.batch as f32));
            }
            for l in (0..self.params.layers.len()).rev() {
                let gw = delta.t().dot(&acts[l]);
                let gb = delta.sum_axis(Axis(0));
                let next = delta.dot(&self.params.layers[l].weight);
                let layer = &mut self.params.layers[l];
                layer.weight.scaled_add(-rate, &gw);
                layer.bias.scaled_add(-rate, &gb);
                if l > 0 {
                    delta = next;
                    delta.zip_mut_with(&acts[l], |d, a| if *a <= 0.0 { *d = 0.0 });
                }
            }
        }
        StepsResult { loss_sum }
    }
    /// Logits.
    pub fn logits(&self, samples: &Samples, out: &mut [f32]) {
        out.copy_from_slice(self.forward(samples).last().unwrap().as_slice().unwrap());
    }
    /// Accuracy.
    pub fn accuracy(&self, samples: &Samples) -> f64 {
        let c = self.params.shape().classes;
        let mut out = vec![0.0; samples.len() * c];
        self.logits(samples, &mut out);
        let right = out.chunks(c).zip(&samples.labels).filter(|(z, l)| crate::probe::statistic::argmax(z) == usize::from(**l));
        right.count() as f64 / samples.len() as f64
    }
    /// Params.
    pub fn to_params(&self) -> MlpParams {
        self.params.clone()
    }
    /// Shape.
    pub fn shape(&self) -> crate::model::MlpShape {
        self.params.shape()
    }
    /// Path.
    pub fn path(&self) -> &'static str {
        "interim"
    }
}
