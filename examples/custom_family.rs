//! A family of models from outside the library: a one-dimensional convolution with ReLU and average pooling, its gradients
//! written by hand. The ordinary loop trains it as teacher and student, keeps checkpoints, resumes, and correlates.
use curricle::files::{Tensors, tensors::Tensor};
use curricle::lab::experiment::{Experiment, Outcome};
use curricle::lab::family::{OnCpu, SignFamily, on_cpu::describe};
use curricle::lab::registry::Registry;
use curricle::model::{LogitModel, ModelError, SignModel};
use curricle::optim::{Steps, StepsResult};
use curricle::rng::{Purpose, Stream, bits, unit_f32};
use curricle::task::Samples;
use serde::{Deserialize, Serialize};

/// `model = { kind = "conv1d", channels = 8, window = 5 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    channels: usize,
    window: usize,
}

/// Logits = head . mean over positions of relu(filter * x + bias).
pub struct Conv {
    keys: Keys,
    d: usize,
    classes: usize,
    /// [channels, window + 1], the bias last; then the head, [classes, channels + 1], likewise.
    params: [Vec<f32>; 2],
}

impl Conv {
    fn signs(&self, samples: &Samples, i: usize) -> Vec<f32> {
        (0..self.d).map(|j| if samples.row(i)[j / 32] >> (j % 32) & 1 == 1 { -1.0 } else { 1.0 }).collect()
    }

    fn positions(&self) -> usize {
        self.d - self.keys.window + 1
    }

    /// Preactivations [channels, positions] and pooled activations [channels].
    fn hidden(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (w, n) = (self.keys.window, self.positions());
        let filters = self.params[0].chunks_exact(w + 1);
        let z: Vec<f32> = filters
            .flat_map(|f| (0..n).map(move |p| f[w] + (0..w).map(|i| f[i] * x[p + i]).sum::<f32>()))
            .collect();
        let pooled = z.chunks_exact(n).map(|row| row.iter().map(|z| z.max(0.0)).sum::<f32>() / n as f32);
        let pooled = pooled.collect();
        (z, pooled)
    }

    fn head(&self, pooled: &[f32]) -> Vec<f32> {
        let rows = self.params[1].chunks_exact(pooled.len() + 1);
        rows.map(|r| r[pooled.len()] + r.iter().zip(pooled).map(|(a, b)| a * b).sum::<f32>()).collect()
    }
}

impl LogitModel for Conv {
    fn d(&self) -> usize {
        self.d
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn logits(&self, samples: &Samples, logits: &mut [f32]) -> Result<(), ModelError> {
        for (i, out) in logits.chunks_exact_mut(self.classes).enumerate() {
            out.copy_from_slice(&self.head(&self.hidden(&self.signs(samples, i)).1));
        }
        Ok(())
    }
}

impl SignModel for Conv {
    type Params = Tensors;

    fn train(&mut self, steps: &Steps) -> StepsResult {
        let (w, n, channels) = (self.keys.window, self.positions(), self.keys.channels);
        let width = steps.loss.target_width(self.classes);
        let mut loss_sum = 0.0;
        for (step, rate) in steps.rates.iter().enumerate() {
            let mut gradient = self.params.clone().map(|p| vec![0.0; p.len()]);
            for i in step * steps.batch..(step + 1) * steps.batch {
                let x = self.signs(steps.samples, i);
                let (z, pooled) = self.hidden(&x);
                let (logits, mut out) = (self.head(&pooled), vec![0.0; self.classes]);
                let target = &steps.targets[i * width..][..width];
                loss_sum += f64::from(steps.loss.gradient(&logits, target, &mut out));
                for (c, g) in out.iter().enumerate() {
                    let row = &mut gradient[1][c * (channels + 1)..][..channels + 1];
                    row.iter_mut().zip(pooled.iter().chain(&[1.0])).for_each(|(r, p)| *r += g * p);
                }
                for channel in 0..channels {
                    let head = |c: usize| self.params[1][c * (channels + 1) + channel];
                    let back = out.iter().enumerate().map(|(c, g)| g * head(c)).sum::<f32>() / n as f32;
                    let row = &mut gradient[0][channel * (w + 1)..][..w + 1];
                    for p in (0..n).filter(|p| z[channel * n + p] > 0.0) {
                        row[..w].iter_mut().zip(&x[p..]).for_each(|(r, x)| *r += back * x);
                        row[w] += back;
                    }
                }
            }
            for (params, gradient) in self.params.iter_mut().zip(&gradient) {
                for (p, g) in params.iter_mut().zip(gradient) {
                    *p -= rate * (g / steps.batch as f32 + steps.weight_decay * *p);
                }
            }
        }
        StepsResult { loss_sum }
    }

    fn to_params(&self) -> Tensors {
        let shapes = [[self.keys.channels, self.keys.window + 1], [self.classes, self.keys.channels + 1]];
        let tensor = |i: usize, name: &str| Tensor {
            name: name.to_owned(),
            shape: shapes[i].to_vec(),
            data: self.params[i].clone(),
        };
        let about = describe::<Conv1d>(&self.keys, self.d, self.classes);
        Tensors { about, list: vec![tensor(0, "filters"), tensor(1, "head")] }
    }
}

/// The family.
#[derive(Debug, Clone)]
pub struct Conv1d;

impl SignFamily for Conv1d {
    type Model = Conv;
    type Keys = Keys;
    const KIND: &'static str = "conv1d";

    fn check(&self, keys: &Keys, d: usize, _: usize) -> Result<(), (&'static str, String)> {
        match (1..=d).contains(&keys.window) && keys.channels > 0 {
            true => Ok(()),
            false => Err(("window", format!("must be from 1 to {d}, with at least one channel"))),
        }
    }

    fn first(&self, keys: &Keys, d: usize, classes: usize, seed: u64) -> Conv {
        let draw = |tensor: u32, len: usize, fan_in: usize| {
            let words = (0..len as u64).map(|i| bits(seed, Stream::new(Purpose::Init, tensor), i, 0)[0]);
            words.map(|w| (2.0 * unit_f32(w) - 1.0) / (fan_in as f32).sqrt()).collect()
        };
        let (filters, head) = (keys.channels * (keys.window + 1), classes * (keys.channels + 1));
        let params = [draw(0, filters, keys.window), draw(1, head, keys.channels)];
        Conv { keys: keys.clone(), d, classes, params }
    }

    fn load(&self, keys: &Keys, d: usize, classes: usize, tensors: &Tensors) -> Result<Conv, String> {
        let filters = tensors.get("filters", &[keys.channels, keys.window + 1])?.to_vec();
        let head = tensors.get("head", &[classes, keys.channels + 1])?.to_vec();
        Ok(Conv { keys: keys.clone(), d, classes, params: [filters, head] })
    }

    fn label(&self, keys: &Keys) -> String {
        format!("{} channels of {}", keys.channels, keys.window)
    }
}
