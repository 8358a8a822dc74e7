//! The CPU engine against PyTorch: logits, loss, every gradient, and ten optimiser steps.
//!
//! The golden file is made by tests/goldens/make_goldens.py; its "rebuild" field says how.

use curricle::cpu::{CpuOptions, Mlp};
use curricle::model::{Layer, Loss, MlpParams};
use curricle::optim::Steps;
use curricle::task::Samples;
use curricle::task::boolean::words;
use ndarray::{Array1, Array2};
use serde_json::Value;

fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn params(value: &Value) -> MlpParams {
    let layer = |l: usize| {
        let weight = &value[format!("{}.weight", 2 * l)];
        let rows = weight.as_array().unwrap().len();
        let flat: Vec<f32> = floats(weight).iter().map(|v| *v as f32).collect();
        let bias: Vec<f32> = floats(&value[format!("{}.bias", 2 * l)]).iter().map(|v| *v as f32).collect();
        Layer {
            weight: Array2::from_shape_vec([rows, flat.len() / rows], flat).unwrap(),
            bias: Array1::from_vec(bias),
        }
    };
    MlpParams { layers: (0..value.as_object().unwrap().len() / 2).map(layer).collect() }
}

fn flat(params: &MlpParams) -> Vec<f64> {
    let layer = |l: &Layer| l.weight.iter().chain(l.bias.iter()).map(|v| f64::from(*v)).collect::<Vec<_>>();
    params.layers.iter().flat_map(layer).collect()
}

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let error = |i: &usize| (found[*i] - expected[*i]).abs();
    let worst = (0..found.len()).max_by(|a, b| error(a).total_cmp(&error(b))).unwrap();
    assert!(
        error(&worst) <= tolerance,
        "{what}[{worst}]: found {}, PyTorch has {} (tolerance {tolerance})",
        found[worst],
        expected[worst]
    );
}

/// f32 against f64: rounding of sums of at most ten numbers of order 1.
const ONE_STEP: f64 = 1e-6;
/// Ten steps of it.
const TEN_STEPS: f64 = 1e-5;

#[test]
fn training_agrees_with_pytorch() {
    let golden: Value = serde_json::from_str(include_str!("goldens/mlp_training.json")).unwrap();
    assert_eq!(golden["version"], 1, "rebuild: {}", golden["rebuild"]);
    for case in golden["cases"].as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap();
        let (d, batch, steps) = (number("d") as usize, number("batch") as usize, number("steps") as usize);
        let signs = floats(&case["inputs"]);
        let mut bits = vec![0u32; steps * batch * words(d)];
        for (i, row) in signs.chunks(d).enumerate() {
            for (j, x) in row.iter().enumerate() {
                bits[i * words(d) + j / 32] |= u32::from(*x < 0.0) << (j % 32);
            }
        }
        let samples = Samples::from_bits(d, bits);
        let targets: Vec<f32> = floats(&case["targets"]).iter().map(|v| *v as f32).collect();
        let classes = number("classes") as usize;
        for plain in [true, false] {
            let options = CpuOptions { plain, threads: 1, isa: None };
            let run = |steps: usize, rate: f32, decay: f32| {
                let mut model = Mlp::new(&params(&case["initial"]), options);
                let result = model.train(&Steps {
                    samples: &samples.slice(0..steps * batch),
                    batch,
                    loss: Loss::CrossEntropy,
                    targets: &targets[..steps * batch * classes],
                    rates: &vec![rate; steps],
                    weight_decay: decay,
                });
                (model, result.loss_sum / (steps * batch) as f64)
            };
            let name = format!("C = {classes}, {}", run(1, 0.0, 0.0).0.path());
            let first = samples.slice(0..batch);
            let mut logits = vec![0.0f32; batch * classes];
            run(1, 0.0, 0.0).0.logits(&first, &mut logits);
            let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
            assert_close(
                &format!("{name}: logits"),
                &logits,
                &floats(&case["first_step"]["logits"]),
                ONE_STEP,
            );
            // A step of rate 1 without decay moves every parameter by minus its gradient.
            let (model, loss) = run(1, 1.0, 0.0);
            assert_close(&format!("{name}: loss"), &[loss], &floats(&case["first_step"]["loss"]), ONE_STEP);
            let before = flat(&params(&case["initial"]));
            let gradient: Vec<f64> =
                flat(&model.to_params()).iter().zip(before).map(|(after, before)| before - after).collect();
            let expected = flat(&params(&case["first_step"]["gradients"]));
            assert_close(&format!("{name}: gradient"), &gradient, &expected, ONE_STEP);
            let (model, loss) = run(steps, number("learning_rate") as f32, number("weight_decay") as f32);
            let losses = floats(&case["losses"]);
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            assert_close(&format!("{name}: mean loss of ten steps"), &[loss], &[mean], TEN_STEPS);
            let expected = flat(&params(&case["final"]));
            assert_close(&format!("{name}: ten steps"), &flat(&model.to_params()), &expected, TEN_STEPS);
        }
    }
}
