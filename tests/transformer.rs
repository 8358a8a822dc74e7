//! The transformer of the CPU engine: against PyTorch (logits, loss, every gradient, ten optimiser steps), against
//! the plain reference by finite differences, and against itself (savings, threads, accumulation, resuming).
//!
//! The golden files are made by tests/goldens/make_transformer.py; their "rebuild" field says how.

use curricle::cpu::{PlainTransformer, Transformer, TransformerOptions};
use curricle::files::tensors::TensorFile;
use curricle::model::transformer::{
    Dropout, MicroBatch, TokenBatch, TransformerConfig, TransformerParams, check_micro_batch,
};
use curricle::optim::AdamSettings;
use curricle::rng::{self, Purpose, Stream};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

fn options(threads: usize, savings: bool) -> TransformerOptions {
    TransformerOptions { threads, savings }
}

/// max |found - expected| must be at most tolerance * max |expected|, tensor by tensor; names the worst element.
fn assert_tensor(what: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
    let error = |i: usize| (f64::from(found[i]) - f64::from(expected[i])).abs();
    let worst = (0..found.len()).max_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap();
    let finite = found.iter().all(|v| v.is_finite());
    assert!(
        finite && error(worst) <= tolerance * scale.max(1e-3),
        "{what}[{worst}]: found {}, expected {} (largest {scale}, tolerance {tolerance} of it)",
        found[worst],
        expected[worst]
    );
}

/// f32 rounding through two layers with weights of order 0.4: relative to a tensor's largest element.
const ONE_STEP: f64 = 2e-5;
/// Ten Adam steps: where a gradient is near zero, Adam divides rounding by rounding.
const TEN_STEPS: f64 = 5e-4;

/// Every tensor but the keys' biases, by name: those move all scores of a query alike, so their gradient is zero but for
/// rounding, which has no relative accuracy and which Adam would blow up.
fn compared(config: &TransformerConfig) -> Vec<(String, Range<usize>)> {
    let hidden = config.hidden;
    let parts = config.tensors().into_iter().flat_map(|slot| {
        let Range { start, end } = slot.range();
        let name = slot.name;
        if name.ends_with("key.bias") {
            vec![]
        } else if name.ends_with("c_attn.bias") {
            vec![
                (format!("{name} (q)"), start..start + hidden),
                (format!("{name} (v)"), start + 2 * hidden..end),
            ]
        } else {
            vec![(name, start..end)]
        }
    });
    parts.collect()
}

struct Golden {
    file: TensorFile,
    json: Value,
    config: TransformerConfig,
    tokens: Vec<Vec<u32>>,
    mask: Option<Vec<u8>>,
    reads: Vec<u32>,
    targets: Vec<Vec<f32>>,
    sequences: usize,
    length: usize,
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

impl Golden {
    fn load(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(format!("{name}.safetensors"));
        let file = TensorFile::open(&path).unwrap();
        let json: Value = serde_json::from_str(&file.metadata["golden"]).unwrap();
        assert_eq!(json["version"], 1, "rebuild: {}", json["rebuild"]);
        let steps = json["tokens"].as_array().unwrap();
        Self {
            config: TransformerConfig::from_hugging_face(&json["config"]).unwrap(),
            tokens: steps.iter().map(|s| flat(s).into_iter().map(|t| t as u32).collect()).collect(),
            mask: json["mask"].is_array().then(|| flat(&json["mask"]).into_iter().map(|m| m as u8).collect()),
            reads: flat(&json["reads"]).into_iter().map(|r| r as u32).collect(),
            targets: json["targets"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| flat(s).into_iter().map(|t| t as f32).collect())
                .collect(),
            sequences: steps[0].as_array().unwrap().len(),
            length: steps[0][0].as_array().unwrap().len(),
            file,
            json,
        }
    }

    fn tensor(&mut self, name: &str) -> Vec<f32> {
        let at = self.file.position(name).unwrap_or_else(|| panic!("no tensor {name}"));
        self.file.read(at).unwrap().data
    }

    /// The flat vector of all parameters under a prefix.
    fn flat(&mut self, prefix: &str) -> Vec<f32> {
        let slots = self.config.tensors();
        slots.iter().flat_map(|slot| self.tensor(&format!("{prefix}/{}", slot.name))).collect()
    }

    fn params(&mut self) -> TransformerParams {
        let values = self.flat("initial");
        TransformerParams::from_values(self.config.clone(), values).unwrap()
    }

    fn batch(&self, step: usize) -> TokenBatch<'_> {
        TokenBatch {
            keys: self.mask.as_deref(),
            ..TokenBatch::new(self.sequences, self.length, &self.tokens[step])
        }
    }

    fn adam(&self, key: &str) -> AdamSettings {
        let s = &self.json[key];
        let number = |v: &Value| v.as_f64().unwrap() as f32;
        AdamSettings {
            betas: (number(&s["betas"][0]), number(&s["betas"][1])),
            eps: number(&s["eps"]),
            weight_decay: number(&s["weight_decay"]),
            decoupled: key == "adamw",
            clip: s["clip"].as_f64().map(|c| c as f32),
        }
    }
}

const GOLDENS: [&str; 3] = ["gpt2_tied", "gpt2_untied", "bert"];

#[test]
fn logits_loss_and_every_gradient_agree_with_pytorch() {
    for name in GOLDENS {
        let mut golden = Golden::load(name);
        let params = golden.params();
        let (logits, gradient) = (golden.tensor("logits"), golden.flat("gradient"));
        let loss = f64::from(golden.tensor("losses_adam")[0]);
        for savings in [true, false] {
            let model = Transformer::new(&params, options(2, savings)).unwrap();
            let batch = golden.batch(0);
            let found = model.logits(&batch, &golden.reads).unwrap();
            assert_tensor(&format!("{name}: logits"), &found, &logits, ONE_STEP);
            let (sum, found) = model.gradient(&batch, &golden.reads, &golden.targets[0], None).unwrap();
            let mean = sum / golden.reads.len() as f64;
            assert!((mean - loss).abs() < 1e-5, "{name}: loss {mean}, PyTorch has {loss}");
            for (name_of, range) in compared(&golden.config) {
                let what = format!("{name}, savings {savings}: gradient of {name_of}");
                assert_tensor(&what, &found[range.clone()], &gradient[range], ONE_STEP);
            }
        }
    }
}

#[test]
fn ten_optimiser_steps_agree_with_pytorch() {
    for name in GOLDENS {
        for key in ["adam", "adamw"] {
            // Whole batches, and the same split into two micro-batches.
            for split in [false, true] {
                let mut golden = Golden::load(name);
                let (expected, losses) = (golden.flat(key), golden.tensor(&format!("losses_{key}")));
                let norms = golden.tensor(&format!("norms_{key}"));
                let adam = golden.adam(key);
                let rates = flat(&golden.json["rates"]);
                let mut model = Transformer::new(&golden.params(), options(2, true)).unwrap();
                for (step, rate) in rates.iter().enumerate() {
                    let batch = golden.batch(step);
                    let micro = [(batch, &golden.reads[..], &golden.targets[step][..])];
                    let halves = halves(&golden, step);
                    let halves: Vec<MicroBatch<'_>> = halves
                        .iter()
                        .map(|(sequences, reads, targets)| (sequences.batch(), &reads[..], &targets[..]))
                        .collect();
                    let micro = if split { &halves[..] } else { &micro[..] };
                    let outcome = model.train_step(micro, *rate as f32, &adam, None).unwrap();
                    let loss = outcome.loss_sum / outcome.reads as f64;
                    let what = format!("{name} {key} step {step}");
                    assert!((loss - f64::from(losses[step])).abs() < 1e-4, "{what}: {loss} {}", losses[step]);
                    let norm = f64::from(norms[step]);
                    assert!(
                        (outcome.gradient_norm / norm - 1.0).abs() < 1e-3,
                        "{what}: norm {outcome:?} {norm}"
                    );
                }
                let found = model.to_params().values;
                for (name_of, range) in compared(&golden.config) {
                    let what = format!("{name} {key}, split {split}: {name_of}");
                    assert_tensor(&what, &found[range.clone()], &expected[range], TEN_STEPS);
                }
            }
        }
    }
}

/// Part of a golden batch.
struct Part {
    tokens: Vec<u32>,
    mask: Option<Vec<u8>>,
    sequences: usize,
    length: usize,
    first: u64,
}

impl Part {
    fn batch(&self) -> TokenBatch<'_> {
        TokenBatch {
            keys: self.mask.as_deref(),
            first: self.first,
            ..TokenBatch::new(self.sequences, self.length, &self.tokens)
        }
    }
}

/// The first sequence by itself and the rest, with their reads and targets.
fn halves(golden: &Golden, step: usize) -> Vec<(Part, Vec<u32>, Vec<f32>)> {
    let cut = golden.length;
    let vocab = golden.config.vocab;
    let part = |from: usize, to: usize| {
        let own: Vec<usize> =
            (0..golden.reads.len()).filter(|i| (from..to).contains(&(golden.reads[*i] as usize))).collect();
        let part = Part {
            tokens: golden.tokens[step][from..to].to_vec(),
            mask: golden.mask.as_ref().map(|m| m[from..to].to_vec()),
            sequences: (to - from) / golden.length,
            length: golden.length,
            first: (from / golden.length) as u64,
        };
        let reads = own.iter().map(|i| golden.reads[*i] - from as u32).collect();
        let targets =
            own.iter().flat_map(|i| golden.targets[step][i * vocab..(i + 1) * vocab].to_vec()).collect();
        (part, reads, targets)
    };
    vec![part(0, cut), part(cut, golden.tokens[step].len())]
}

/// Numbers below `bound` from the generator.
fn draw(seed: u64, n: usize, bound: u32) -> Vec<u32> {
    (0..n).map(|i| rng::below(seed, Stream::new(Purpose::Probe, 9), i as u64, bound)).collect()
}

/// A model of some shape with all parameters away from their special values, and data for it.
struct Case {
    params: TransformerParams,
    tokens: Vec<u32>,
    keys: Option<Vec<u8>>,
    sequences: usize,
    length: usize,
    reads: Vec<u32>,
    targets: Vec<f32>,
}

impl Case {
    fn new(config: TransformerConfig, sequences: usize, length: usize, masked: bool, seed: u64) -> Self {
        let mut params = TransformerParams::new(TransformerConfig { init_std: 0.3, ..config }, seed).unwrap();
        let noise = TransformerParams::new(params.config.clone(), seed + 1).unwrap();
        for slot in params.config.tensors().iter().filter(|s| s.shape.len() == 1) {
            for e in slot.range() {
                params.values[e] += 0.5 * noise.values[e % slot.len()];
            }
        }
        let vocab = params.config.vocab;
        let n = sequences * length;
        let reads: Vec<u32> = draw(seed + 2, n, 3)
            .iter()
            .enumerate()
            .filter(|(_, r)| **r == 0)
            .map(|(i, _)| i as u32)
            .collect();
        let mut targets: Vec<f32> =
            draw(seed + 3, reads.len() * vocab, 100).iter().map(|t| *t as f32 + 1.0).collect();
        for row in targets.chunks_mut(vocab) {
            let total: f32 = row.iter().sum();
            row.iter_mut().for_each(|t| *t /= total);
        }
        Self {
            tokens: draw(seed + 4, n, vocab as u32),
            keys: masked.then(|| draw(seed + 5, n, 4).iter().map(|k| u8::from(*k > 0)).collect()),
            params,
            sequences,
            length,
            reads,
            targets,
        }
    }

    fn batch(&self) -> TokenBatch<'_> {
        TokenBatch {
            keys: self.keys.as_deref(),
            first: 1 << 33,
            ..TokenBatch::new(self.sequences, self.length, &self.tokens)
        }
    }

    fn micro(&self) -> MicroBatch<'_> {
        (self.batch(), &self.reads, &self.targets)
    }

    fn gradient(&self, options: TransformerOptions, seed: Option<u64>) -> (f64, Vec<f32>) {
        let model = Transformer::new(&self.params, options).unwrap();
        model.gradient(&self.batch(), &self.reads, &self.targets, seed).unwrap()
    }
}

/// Small cases of both families: head dimensions 4, 8 and 12, tied and untied, masks, dropout, one token.
fn small_cases() -> Vec<(Case, Option<u64>)> {
    let gpt2 = TransformerConfig { inner: 12, ..TransformerConfig::gpt2(3, 8, 8, 2, 2) };
    let bert = TransformerConfig { inner: 10, ..TransformerConfig::bert(5, 8, 12, 2, 1) };
    let no = Dropout::NONE;
    let wide = TransformerConfig { hidden: 16, ..gpt2.clone() };
    let untied = |c: &TransformerConfig| TransformerConfig { tied: false, ..c.clone() };
    let with = |c: &TransformerConfig, dropout| TransformerConfig { dropout, ..c.clone() };
    let attention = Dropout { embedding: 0.0, attention: 0.4, residual: 0.0 };
    vec![
        (Case::new(with(&gpt2, no), 5, 7, false, 1), None),
        (Case::new(untied(&with(&wide, no)), 3, 8, true, 2), None),
        (Case::new(with(&gpt2, Dropout::all(0.3)), 3, 6, true, 3), Some(5)),
        (Case::new(with(&gpt2, attention), 6, 5, false, 4), Some(6)),
        (Case::new(with(&bert, no), 4, 8, true, 5), None),
        (Case::new(untied(&with(&bert, Dropout::all(0.2))), 3, 7, true, 6), Some(7)),
        (Case::new(TransformerConfig { layers: 1, ..with(&bert, attention) }, 5, 6, false, 7), Some(8)),
        (Case::new(TransformerConfig { layers: 1, ..with(&gpt2, no) }, 9, 4, false, 8), None),
        (Case::new(with(&gpt2, no), 7, 1, false, 9), None),
    ]
}

#[test]
fn gradients_match_finite_differences_of_the_plain_reference() {
    for (number, (case, seed)) in small_cases().into_iter().enumerate() {
        let plain = PlainTransformer::new(&case.params);
        let pad = case.params.config.pad_token;
        for savings in [true, false] {
            let (sum, gradient) = case.gradient(options(1, savings), seed);
            let loss = plain.loss(&case.micro(), seed).unwrap();
            let found = sum / case.reads.len() as f64;
            assert!(
                (found - loss).abs() < 1e-5 * (1.0 + loss),
                "case {number}: loss {found}, reference {loss}"
            );
            for slot in case.params.config.tensors() {
                // A few elements of every tensor.
                for e in slot.range().step_by((slot.len() / 5).max(1)) {
                    let hidden = case.params.config.hidden;
                    let padding = pad.is_some_and(|p| {
                        slot.name.contains("word_emb") && (e - slot.offset) / hidden == p as usize
                    });
                    // The padding row's gradient is only the head's, which is no derivative.
                    if padding {
                        continue;
                    }
                    let at = |h: f64| {
                        let mut moved = plain.clone();
                        moved.values[e] += h;
                        moved.loss(&case.micro(), seed).unwrap()
                    };
                    let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                    let found = f64::from(gradient[e]);
                    assert!(
                        (numeric - found).abs() < 2e-5 * (1.0 + numeric.abs()),
                        "case {number}, savings {savings}, {} element {}: {found}, numeric {numeric}",
                        slot.name,
                        e - slot.offset
                    );
                }
            }
        }
    }
}

#[test]
fn the_padding_row_learns_only_through_a_tied_head() {
    let config = TransformerConfig { dropout: Dropout::NONE, ..TransformerConfig::bert(4, 6, 8, 1, 2) };
    for tied in [true, false] {
        let mut case = Case::new(TransformerConfig { tied, ..config.clone() }, 3, 6, false, 11);
        case.tokens.fill(0);
        let words = case.params.config.tensors()[0].range();
        let row: f32 = case.gradient(options(1, true), None).1[words][..8].iter().map(|g| g.abs()).sum();
        assert_eq!(row > 0.0, tied);
        // Without a padding token the input side counts as well.
        case.params.config.pad_token = None;
        let row: f32 = case.gradient(options(1, true), None).1[..8].iter().map(|g| g.abs()).sum();
        assert!(row > 0.0);
    }
}

#[test]
fn hidden_states_are_those_of_the_plain_reference() {
    for (number, (case, _)) in small_cases().into_iter().enumerate() {
        let plain = PlainTransformer::new(&case.params);
        let model = Transformer::new(&case.params, options(2, true)).unwrap();
        for layer in 0..=case.params.config.layers {
            let expected: Vec<f32> =
                plain.hidden(&case.batch(), layer).unwrap().iter().map(|v| *v as f32).collect();
            let found = model.hidden(&case.batch(), layer).unwrap();
            assert_tensor(&format!("case {number}, layer {layer}"), &found, &expected, ONE_STEP);
        }
        assert!(model.hidden(&case.batch(), case.params.config.layers + 1).is_err());
        let expected: Vec<f32> =
            plain.logits(&case.batch(), &case.reads, None).unwrap().iter().map(|v| *v as f32).collect();
        assert_tensor("logits", &model.logits(&case.batch(), &case.reads).unwrap(), &expected, ONE_STEP);
    }
}

/// Larger cases: several groups, several key blocks, head dimensions 8, 16 and 64, all reads and one per sequence.
fn large_cases() -> Vec<(Case, Option<u64>)> {
    let mut parity = Case::new(
        TransformerConfig {
            dropout: Dropout::NONE,
            tied: false,
            ..TransformerConfig::gpt2(2, 100, 32, 2, 4)
        },
        16,
        100,
        false,
        21,
    );
    parity.reads = (1..=16).map(|b| 100 * b - 1).collect();
    parity.targets.truncate(32);
    let bert = TransformerConfig { dropout: Dropout::NONE, ..TransformerConfig::bert(8, 450, 64, 2, 4) };
    let long = TransformerConfig::gpt2(1000, 70, 64, 1, 1);
    vec![
        (parity, None),
        (Case::new(bert.clone(), 3, 450, true, 22), None),
        (Case::new(TransformerConfig { dropout: Dropout::all(0.1), ..bert }, 4, 130, true, 23), Some(3)),
        (Case::new(long, 20, 61, false, 24), Some(4)),
    ]
}

#[test]
fn savings_change_only_rounding_and_threads_nothing() {
    for (number, (case, seed)) in large_cases().into_iter().enumerate() {
        let (loss, gradient) = case.gradient(options(1, true), seed);
        for threads in [2, 3] {
            assert_eq!(
                case.gradient(options(threads, true), seed),
                (loss, gradient.clone()),
                "case {number}"
            );
        }
        let (other_loss, other) = case.gradient(options(2, false), seed);
        assert!((loss - other_loss).abs() < 1e-4 * loss, "case {number}: {loss} {other_loss}");
        for (name, range) in compared(&case.params.config) {
            assert_tensor(&format!("case {number}: {name}"), &other[range.clone()], &gradient[range], 1e-4);
        }
    }
}

#[test]
fn every_key_hidden_means_uniform_attention() {
    for causal in [true, false] {
        let base = if causal {
            TransformerConfig::gpt2(4, 6, 8, 1, 2)
        } else {
            TransformerConfig::bert(4, 6, 8, 1, 2)
        };
        let mut case = Case::new(TransformerConfig { dropout: Dropout::NONE, ..base }, 2, 6, true, 31);
        // Sequence 0 hides everything; in sequence 1 only the last two keys are visible.
        case.keys = Some(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        let expected: Vec<f32> = PlainTransformer::new(&case.params)
            .logits(&case.batch(), &case.reads, None)
            .unwrap()
            .iter()
            .map(|v| *v as f32)
            .collect();
        let model = Transformer::new(&case.params, options(1, true)).unwrap();
        assert_tensor("logits", &model.logits(&case.batch(), &case.reads).unwrap(), &expected, ONE_STEP);
        let plain = PlainTransformer::new(&case.params);
        let (_, gradient) = case.gradient(options(1, true), None);
        for e in (0..gradient.len()).step_by(17).filter(|e| causal || *e >= 8) {
            let at = |h: f64| {
                let mut moved = plain.clone();
                moved.values[e] += h;
                moved.loss(&case.micro(), None).unwrap()
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((numeric - f64::from(gradient[e])).abs() < 2e-5, "{e}: {numeric} {}", gradient[e]);
        }
    }
}

#[test]
fn a_resumed_run_has_the_same_bits() {
    let case = &small_cases()[2].0;
    let adam =
        AdamSettings { weight_decay: 0.1, decoupled: true, clip: Some(1.0), ..AdamSettings::default() };
    let step = |model: &mut Transformer, n: u64| {
        let batch = TokenBatch { first: n * 3, ..case.batch() };
        model.train_step(&[(batch, &case.reads, &case.targets)], 0.01, &adam, Some(9)).unwrap()
    };
    let mut whole = Transformer::new(&case.params, options(2, true)).unwrap();
    let outcomes: Vec<_> = (0..6).map(|n| step(&mut whole, n)).collect();
    let mut first = Transformer::new(&case.params, options(1, true)).unwrap();
    (0..3).for_each(|n| assert_eq!(step(&mut first, n), outcomes[n as usize]));
    let mut resumed = Transformer::new(&first.to_params(), options(2, true)).unwrap();
    let (m, v, updates) = first.optimizer();
    assert_eq!(updates, 3);
    assert!(resumed.set_optimizer(m[1..].to_vec(), v.clone(), updates).is_err());
    resumed.set_optimizer(m, v, updates).unwrap();
    (3..6).for_each(|n| assert_eq!(step(&mut resumed, n), outcomes[n as usize]));
    assert_eq!(resumed.to_params(), whole.to_params());
    assert_eq!(resumed.optimizer(), whole.optimizer());
}

#[test]
fn bad_batches_are_refused_and_change_nothing() {
    let case = &small_cases()[0].0;
    let mut model = Transformer::new(&case.params, options(1, true)).unwrap();
    let good = case.micro();
    let adam = AdamSettings::default();
    let too_large = vec![3; 35];
    for micro in [
        vec![],
        vec![(TokenBatch { tokens: &too_large, ..good.0 }, good.1, good.2)],
        vec![(TokenBatch::new(1, 9, &[0; 9]), good.1, good.2)],
        vec![good, (good.0, &[35], &[1.0, 0.0, 0.0])],
        vec![(good.0, &[2, 1], &[1.0, 0.0, 0.0, 1.0, 0.0, 0.0])],
        vec![(good.0, good.1, &good.2[1..])],
    ] {
        assert!(model.train_step(&micro, 0.1, &adam, None).is_err());
    }
    assert_eq!((model.to_params(), model.optimizer().2), (case.params.clone(), 0));
    assert!(model.logits(&TokenBatch { keys: Some(&[1]), ..good.0 }, good.1).is_err());
    assert!(model.logits(&good.0, &[]).is_err());
    let mut params = case.params.clone();
    params.values.pop();
    assert!(Transformer::new(&params, options(1, true)).unwrap_err().to_string().contains("parameters"));
    check_micro_batch(&good, &params.config).unwrap();
}

#[test]
fn a_nan_shows_in_the_loss() {
    let case = &small_cases()[0].0;
    for slot in case.params.config.tensors() {
        let mut params = case.params.clone();
        params.values[slot.offset] = f32::NAN;
        let model = Transformer::new(&params, options(1, true)).unwrap();
        // A row of an embedding table that the batch does not use cannot show.
        if !slot.name.contains("wte") && !slot.name.contains("wpe") {
            let (loss, _) = model.gradient(&case.batch(), &case.reads, &case.targets, None).unwrap();
            assert!(!loss.is_finite(), "{}", slot.name);
        }
    }
}
