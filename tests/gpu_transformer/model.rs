//! Whole models: both engines along the same steps.

use crate::adapters::everywhere;
use crate::harness::{KERNEL, Tolerance, cases, close, close_at, distributions, numbers};
use curricle::cpu::{Transformer, TransformerOptions};
use curricle::gpu::GpuError;
use curricle::gpu::transformer::{GpuTransformer, GpuTransformerOptions};
use curricle::model::transformer::{Dropout, TokenBatch, TransformerConfig, TransformerParams};
use curricle::optim::AdamSettings;
use curricle::optim::TrainStep;

/// Several layers, forward and back: rounding of both engines.
const MODEL: Tolerance = Tolerance(1e-10, 5e-5);
/// Ten steps of Adam, which divides small gradients by their size.
const STEPS: Tolerance = Tolerance(1e-8, 1e-3);

struct Case {
    name: &'static str,
    config: TransformerConfig,
    sequences: usize,
    length: usize,
    /// Every how manieth position is read; 0: the last one of each sequence.
    every: usize,
    hide: bool,
}

fn all() -> Vec<Case> {
    let dropout = Dropout::all(0.1);
    vec![
        Case {
            name: "BERT, masked",
            config: TransformerConfig { dropout, ..TransformerConfig::bert(8, 100, 24, 2, 3) },
            sequences: 3,
            length: 70,
            every: 3,
            hide: true,
        },
        Case {
            name: "GPT-2, parity",
            config: TransformerConfig { tied: false, dropout, ..TransformerConfig::gpt2(2, 100, 32, 2, 4) },
            sequences: 5,
            length: 100,
            every: 0,
            hide: false,
        },
        Case {
            name: "GPT-2, large vocabulary",
            config: TransformerConfig { dropout, ..TransformerConfig::gpt2(1000, 9, 48, 3, 3) },
            sequences: 4,
            length: 7,
            every: 1,
            hide: true,
        },
        Case {
            name: "BERT, one token",
            config: TransformerConfig { tied: false, dropout, ..TransformerConfig::bert(8, 1, 64, 1, 1) },
            sequences: 9,
            length: 1,
            every: 2,
            hide: false,
        },
    ]
}

struct Material {
    params: TransformerParams,
    tokens: Vec<u32>,
    keys: Vec<u8>,
    reads: Vec<u32>,
    targets: Vec<f32>,
}

impl Case {
    fn material(&self, seed: u64) -> Material {
        let n = self.sequences * self.length;
        let config = TransformerConfig { init_std: 0.1, ..self.config.clone() };
        let mut params = TransformerParams::new(config, 5).unwrap();
        // Biases and norms away from where they start.
        let noise = numbers(3, params.values.len());
        params.values.iter_mut().zip(noise).for_each(|(p, x)| *p += 0.1 * x);
        let vocab = self.config.vocab as u32;
        let tokens =
            numbers(seed, n).iter().map(|x| ((x + 1.0) / 2.0 * vocab as f32) as u32 % vocab).collect();
        // The second sequence sees nothing, others two keys of three.
        let keys = (0..n).map(|p| u8::from(!self.hide || (p / self.length != 1 && p % 3 != 0))).collect();
        let reads: Vec<u32> = match self.every {
            0 => (1..=self.sequences).map(|b| (b * self.length - 1) as u32).collect(),
            every => (0..n as u32).step_by(every).collect(),
        };
        let targets = distributions(seed + 1, reads.len(), self.config.vocab);
        Material { params, tokens, keys, reads, targets }
    }

    fn batch<'a>(&self, m: &'a Material, first: u64) -> TokenBatch<'a> {
        let keys = self.hide.then_some(&m.keys[..]);
        TokenBatch { keys, first, ..TokenBatch::new(self.sequences, self.length, &m.tokens) }
    }
}

/// Sums over the positions read that are long enough to be split.
fn split_sums() -> Case {
    Case {
        name: "GPT-2, many positions read",
        config: TransformerConfig { dropout: Dropout::all(0.1), ..TransformerConfig::gpt2(8, 100, 64, 2, 8) },
        sequences: 6,
        length: 100,
        every: 2,
        hide: false,
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn cpu(params: &TransformerParams) -> Transformer {
    Transformer::new(params, TransformerOptions { threads: 1, savings: false }).unwrap()
}

fn options(exact_savings: bool) -> GpuTransformerOptions {
    GpuTransformerOptions { exact_savings, memory: None }
}

/// Tensor by tensor: a wrong small tensor must not hide behind a large one.
fn tensors(what: &str, config: &TransformerConfig, got: &[f32], want: &[f32], tolerance: Tolerance) {
    let largest = want.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs())));
    for slot in config.tensors() {
        let range = slot.range();
        let name = format!("{what}: {}", slot.name);
        // Keys' biases have no gradient but rounding; with a single position, neither have queries and keys.
        let scale = if config.positions == 1 { 0.5 } else { 1e-2 } * largest;
        close_at(&name, &got[range.clone()], &wide(&want[range]), tolerance, scale);
    }
}

#[test]
fn logits_hidden_states_and_gradients_agree() {
    everywhere("transformers", |device| {
        let mut all = all();
        all.push(split_sums());
        for case in cases(device, &all, 2) {
            let m = case.material(1);
            let batch = case.batch(&m, (1 << 32) - 2);
            let cpu = cpu(&m.params);
            let logits = wide(&cpu.logits(&batch, &m.reads).unwrap());
            for exact in [true, false] {
                let what = format!("{}, savings {exact}", case.name);
                let gpu = GpuTransformer::new(device, &m.params, options(exact)).unwrap();
                close(&what, &gpu.logits(&batch, &m.reads).unwrap(), &logits, KERNEL);
                for seed in [None, Some(0x1_0000_0007)] {
                    let (loss, gradient) = gpu.gradient(&batch, &m.reads, &m.targets, seed).unwrap();
                    let (want, want_gradient) = cpu.gradient(&batch, &m.reads, &m.targets, seed).unwrap();
                    assert!((loss - want).abs() < 1e-5 * want, "{what}: loss {loss} instead of {want}");
                    tensors(&format!("{what}, {seed:?}"), &case.config, &gradient, &want_gradient, MODEL);
                    // Nothing of it stays behind.
                    let again = gpu.gradient(&batch, &m.reads, &m.targets, seed).unwrap();
                    assert!(again == (loss, gradient), "{what}: not the same bits twice");
                }
                for layer in 0..=case.config.layers {
                    let want = wide(&cpu.hidden(&batch, layer).unwrap());
                    close(
                        &format!("{what}: layer {layer}"),
                        &gpu.hidden(&batch, layer).unwrap(),
                        &want,
                        KERNEL,
                    );
                }
            }
        }
    });
}

#[test]
fn ten_steps_agree_and_resume() {
    everywhere("training", |device| {
        for (i, case) in cases(device, &all()[..3], 1).iter().enumerate() {
            let what = case.name;
            let materials: Vec<Material> = (0..3).map(|s| case.material(2 * s)).collect();
            let params = &materials[0].params;
            let adam = AdamSettings {
                betas: (0.9, 0.95),
                // Gradients that are zero but for rounding must not become steps of full size.
                eps: 1e-3,
                weight_decay: 0.1,
                decoupled: i % 2 == 0,
                clip: if i == 1 { None } else { Some(0.5) },
            };
            // Two micro-batches per step.
            let micro: Vec<Vec<_>> = (0..10u64)
                .map(|t| {
                    [t % 3, (t + 1) % 3]
                        .map(|s| {
                            let m = &materials[s as usize];
                            (case.batch(m, 2 * t * case.sequences as u64), &m.reads[..], &m.targets[..])
                        })
                        .to_vec()
                })
                .collect();
            let steps: Vec<TrainStep> = (0..10)
                .map(|t| TrainStep { micro: &micro[t], rate: 0.002 * (t + 1) as f32, dropout_seed: Some(77) })
                .collect();
            let mut cpu = cpu(params);
            let mut gpu = GpuTransformer::new(device, params, options(true)).unwrap();
            let outcomes = gpu.train_steps(&steps, &adam).unwrap();
            for (step, got) in steps.iter().zip(&outcomes) {
                let want = cpu.train_step(step.micro, step.rate, &adam, step.dropout_seed).unwrap();
                assert_eq!(got.reads, want.reads);
                let apart = (got.loss_sum - want.loss_sum).abs() / want.loss_sum;
                assert!(apart < 1e-4, "{what}: loss {} instead of {}", got.loss_sum, want.loss_sum);
                let apart = (got.gradient_norm - want.gradient_norm).abs() / want.gradient_norm;
                assert!(apart < 1e-3, "{what}: norm {} instead of {}", got.gradient_norm, want.gradient_norm);
            }
            let (after, want) = (gpu.to_params().unwrap(), cpu.to_params());
            tensors(what, &case.config, &after.values, &want.values, STEPS);
            let (first, second, updates) = gpu.optimizer().unwrap();
            let (want_first, want_second, want_updates) = cpu.optimizer();
            assert_eq!(updates, want_updates);
            tensors(&format!("{what}: first moment"), &case.config, &first, &want_first, STEPS);
            tensors(&format!("{what}: second moment"), &case.config, &second, &want_second, STEPS);

            // Stopped after four steps and resumed, one step per call: the same bits.
            let mut begun = GpuTransformer::new(device, params, options(true)).unwrap();
            let mut again = begun.train_steps(&steps[..4], &adam).unwrap();
            let (first, second, updates) = begun.optimizer().unwrap();
            let mut resumed =
                GpuTransformer::new(device, &begun.to_params().unwrap(), options(true)).unwrap();
            resumed.set_optimizer(&first, &second, updates).unwrap();
            for s in &steps[4..] {
                again.push(resumed.train_step(s.micro, s.rate, &adam, s.dropout_seed).unwrap());
            }
            assert!(
                resumed.to_params().unwrap() == after && again == outcomes,
                "{what}: resumed differently"
            );
        }
    });
}

#[test]
fn batches_that_do_not_fit_are_cut() {
    everywhere("cut batches", |device| {
        let case = &all()[0];
        let m = case.material(1);
        let batch = case.batch(&m, 40);
        let whole = GpuTransformer::new(device, &m.params, options(true)).unwrap();
        let need = whole.activation_bytes(case.sequences, case.length, m.reads.len());
        // Too little for three sequences at once.
        let memory = Some(need * 2 / 3);
        let parts = GpuTransformer::new(device, &m.params, GpuTransformerOptions { memory, ..options(true) })
            .unwrap();
        assert!(parts.activation_bytes(case.sequences, case.length, m.reads.len()) < need);
        let want = wide(&whole.logits(&batch, &m.reads).unwrap());
        close("logits", &parts.logits(&batch, &m.reads).unwrap(), &want, KERNEL);
        let want = wide(&whole.hidden(&batch, 1).unwrap());
        close("hidden states", &parts.hidden(&batch, 1).unwrap(), &want, KERNEL);
        let (loss, gradient) = parts.gradient(&batch, &m.reads, &m.targets, Some(3)).unwrap();
        let (want, want_gradient) = whole.gradient(&batch, &m.reads, &m.targets, Some(3)).unwrap();
        assert!((loss - want).abs() < 1e-5 * want, "loss {loss} instead of {want}");
        tensors("gradient", &case.config, &gradient, &want_gradient, MODEL);
        let none = GpuTransformerOptions { memory: Some(1000), ..options(true) };
        let tiny = GpuTransformer::new(device, &m.params, none).unwrap();
        let error = tiny.logits(&batch, &m.reads).unwrap_err();
        assert!(matches!(error, GpuError::TooLarge { .. }), "{error}");
        assert!(error.to_string().contains("one sequence of 70 tokens"), "{error}");
    });
}

#[test]
fn wrong_requests_are_refused() {
    everywhere("refusals", |device| {
        let case = &all()[0];
        let m = case.material(1);
        let mut gpu = GpuTransformer::new(device, &m.params, options(true)).unwrap();
        let batch = case.batch(&m, 0);
        let adam = AdamSettings::default();
        let before = gpu.to_params().unwrap();
        let reads = [3u32, 3];
        let targets = [0.125f32; 16];
        let short = TokenBatch { tokens: &m.tokens[1..], ..batch };
        let strange = vec![8u32; m.tokens.len()];
        let unknown = TokenBatch { tokens: &strange, ..batch };
        for (micro, part) in [
            ((batch, &reads[..], &targets[..]), "read position 3"),
            ((batch, &reads[..1], &targets[..]), "targets has 16"),
            ((short, &reads[..1], &targets[..8]), "tokens has 209"),
            ((unknown, &reads[..1], &targets[..8]), "token 8"),
            ((batch, &[210], &targets[..8]), "read position 210"),
            ((batch, &[], &[]), "at least one"),
        ] {
            let error = gpu.train_step(&[micro], 0.1, &adam, None).unwrap_err();
            assert!(matches!(&error, GpuError::Refused(text) if text.contains(part)), "{error}");
        }
        assert!(gpu.train_step(&[], 0.1, &adam, None).is_err());
        assert!(gpu.train_steps(&[], &adam).unwrap().is_empty());
        assert!(gpu.hidden(&batch, 3).is_err());
        assert!(gpu.set_optimizer(&[0.0], &[0.0], 1).is_err());
        assert!(gpu.to_params().unwrap() == before, "a refused request trained");
        let config = TransformerConfig::gpt2(2, 4, 130, 1, 1);
        let params = TransformerParams::new(config, 0).unwrap();
        let error = GpuTransformer::new(device, &params, options(true)).unwrap_err();
        assert!(error.to_string().contains("width 130"), "{error}");
        let mut params = m.params.clone();
        params.values.pop();
        assert!(GpuTransformer::new(device, &params, options(true)).is_err());
        // A model that has diverged gives what it gives, not a hang: a loss that is not finite.
        let mut params = m.params.clone();
        params.values.iter_mut().for_each(|p| *p = f32::NAN);
        let mut lost = GpuTransformer::new(device, &params, options(true)).unwrap();
        let outcome = lost.train_step(&[(batch, &m.reads, &m.targets)], 0.1, &adam, Some(1)).unwrap();
        assert!(!outcome.loss_sum.is_finite(), "{outcome:?}");
    });
}
