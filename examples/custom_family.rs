//! A family of models from outside the library: a one-dimensional convolution with ReLU and average pooling, its gradients
//! written by hand. The ordinary loop trains it as teacher and student, keeps checkpoints, resumes, and correlates.
use curricle::files::{Tensors, tensors::Tensor};
use curricle::lab::family::{OnCpu, SignFamily, on_cpu::describe};
use curricle::lab::{Finished, Laboratory, LaboratoryError};
use curricle::model::{LogitModel, ModelError, SignModel};
use curricle::optim::{Steps, StepsResult};
use curricle::rng::{Purpose, Stream, bits, unit_f32};
use curricle::task::Samples;
use serde::{Deserialize, Serialize};

/// `model = { kind = "conv1d", channels = 8, window = 3, pool = 2 }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    channels: usize,
    window: usize,
    pool: usize,
}

/// Logits = head of the averages of relu(filter * x + bias) over `pool` positions each.
pub struct Conv {
    keys: Keys,
    d: usize,
    classes: usize,
    /// Filters [channels, window + 1] and head [classes, channels x blocks + 1], biases last in each row.
    params: [Vec<f32>; 2],
}

impl Keys {
    /// Rows and columns of filters and head for d inputs.
    fn shapes(&self, d: usize, classes: usize) -> [[usize; 2]; 2] {
        let blocks = (d + 1 - self.window) / self.pool;
        [[self.channels, self.window + 1], [classes, self.channels * blocks + 1]]
    }
}

impl Conv {
    /// Preactivations [channels, positions], pooled activations [channels, blocks] and logits of sample i.
    fn forward(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let Keys { window: w, pool, .. } = self.keys;
        let positions = (self.d + 1 - w) / pool * pool;
        let at = |f: &[f32], p: usize| f[w] + f.iter().zip(&x[p..p + w]).map(|(f, x)| f * x).sum::<f32>();
        let rows = self.params[0].chunks_exact(w + 1);
        let z: Vec<f32> = rows.flat_map(|f| (0..positions).map(move |p| at(f, p))).collect();
        let mean = |block: &[f32]| block.iter().map(|z| z.max(0.0)).sum::<f32>() / pool as f32;
        let pooled: Vec<f32> = z.chunks_exact(pool).map(mean).collect();
        let row = |r: &[f32]| r[pooled.len()] + r.iter().zip(&pooled).map(|(a, b)| a * b).sum::<f32>();
        let logits = self.params[1].chunks_exact(pooled.len() + 1).map(row).collect();
        (z, pooled, logits)
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
        let signs = samples.to_signs();
        for (x, out) in signs.chunks_exact(self.d).zip(logits.chunks_exact_mut(self.classes)) {
            out.copy_from_slice(&self.forward(x).2);
        }
        Ok(())
    }
}

impl SignModel for Conv {
    type Params = Tensors;

    fn train(&mut self, steps: &Steps) -> StepsResult {
        let Keys { window: w, pool, .. } = self.keys;
        let (signs, width) = (steps.samples.to_signs(), steps.loss.target_width(self.classes));
        let mut loss_sum = 0.0;
        for (step, rate) in steps.rates.iter().enumerate() {
            let mut gradient = self.params.clone().map(|p| vec![0.0; p.len()]);
            for i in step * steps.batch..(step + 1) * steps.batch {
                let x = &signs[i * self.d..][..self.d];
                let (z, pooled, logits) = self.forward(x);
                let (target, mut out) = (&steps.targets[i * width..][..width], vec![0.0; self.classes]);
                loss_sum += f64::from(steps.loss.gradient(&logits, target, &mut out));
                let columns = pooled.len() + 1;
                for (row, g) in gradient[1].chunks_exact_mut(columns).zip(&out) {
                    row.iter_mut().zip(pooled.iter().chain(&[1.0])).for_each(|(r, p)| *r += g * p);
                }
                for (at, _) in z.iter().enumerate().filter(|(_, z)| **z > 0.0) {
                    let head = |c: usize| self.params[1][c * columns + at / pool];
                    let back = out.iter().enumerate().map(|(c, g)| g * head(c)).sum::<f32>() / pool as f32;
                    let (channel, p) =
                        (at / (z.len() / self.keys.channels), at % (z.len() / self.keys.channels));
                    let row = &mut gradient[0][channel * (w + 1)..][..w + 1];
                    row.iter_mut().zip(x[p..p + w].iter().chain(&[1.0])).for_each(|(r, x)| *r += back * x);
                }
            }
            for (p, g) in self.params.iter_mut().flatten().zip(gradient.iter().flatten()) {
                *p -= rate * (g / steps.batch as f32 + steps.weight_decay * *p);
            }
        }
        StepsResult { loss_sum }
    }

    fn to_params(&self) -> Tensors {
        let [filters, head] = self.keys.shapes(self.d, self.classes);
        let list = [("filters", filters, 0), ("head", head, 1)].map(|(name, shape, i)| Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: self.params[i].clone(),
        });
        Tensors { about: describe::<Conv1d>(&self.keys, self.d, self.classes), list: list.to_vec() }
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
        let Keys { channels, window, pool } = *keys;
        let fits = channels > 0 && (1..=d).contains(&window) && (1..=d + 1 - window.min(d)).contains(&pool);
        if fits { Ok(()) } else { Err(("window", format!("window and pool must fit d = {d} inputs"))) }
    }

    fn first(&self, keys: &Keys, d: usize, classes: usize, seed: u64) -> Conv {
        let params = [0, 1].map(|t| {
            let [rows, columns] = keys.shapes(d, classes)[t];
            let word = |i| bits(seed, Stream::new(Purpose::Init, t as u32), i as u64, 0)[0];
            (0..rows * columns).map(|i| (2.0 * unit_f32(word(i)) - 1.0) / (columns as f32).sqrt()).collect()
        });
        Conv { keys: keys.clone(), d, classes, params }
    }

    fn load(&self, keys: &Keys, d: usize, classes: usize, tensors: &Tensors) -> Result<Conv, String> {
        let [filters, head] = keys.shapes(d, classes);
        let params = [tensors.get("filters", &filters)?.to_vec(), tensors.get("head", &head)?.to_vec()];
        Ok(Conv { keys: keys.clone(), d, classes, params })
    }

    fn label(&self, keys: &Keys) -> String {
        format!("{} channels of {}", keys.channels, keys.window)
    }
}

const SPEC: &str = include_str!("custom_family.toml");

/// Trains a teacher and a student below `out`.
pub fn run(out: &std::path::Path) -> Result<Finished, LaboratoryError> {
    Laboratory::new().family(OnCpu(Conv1d)).run(SPEC, out)
}

#[allow(dead_code)]
fn main() -> Result<(), LaboratoryError> {
    let finished = run(std::path::Path::new("runs"))?;
    let show =
        |r: &curricle::lab::run::gather::RunRecord| println!("{}: accuracy {:?}", r.name, r.final_accuracy);
    finished.results.runs.iter().for_each(show);
    Ok(())
}
