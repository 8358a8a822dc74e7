//! The correlation probe against slow computations and known functions, and the `correlate` command.

use curricle::cpu::{CpuOptions, Mlp};
use curricle::files::{self, Metadata};
use curricle::model::transformer::{TransformerConfig, TransformerParams};
use curricle::model::{FromFn, LogitModel};
use curricle::model::{Layer, MlpInit, MlpParams, MlpShape};
use curricle::probe::{
    CheckpointCorrelations, Correlations, Evaluation, KnownSupport, Monomials, ProbeError, Request, Sampling,
    Statistic, correlations, timeline, timeline_of,
};
use curricle::rng::{Purpose, Stream};
use curricle::task::{BooleanTask, HierarchicalParity, Samples, Support};
use ndarray::{Array1, Array2};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn on_cpu(params: &MlpParams) -> Mlp {
    Mlp::new(params, CpuOptions::default())
}

fn mlp(d: usize, hidden: &[usize], classes: usize, scale: f32) -> MlpParams {
    let mut params = MlpParams::new(&MlpShape { d, hidden: hidden.to_vec(), classes }, MlpInit::Pytorch, 4);
    params.layers.iter_mut().for_each(|l| l.weight *= scale);
    params
}

/// margin(x) = `slope` x_j + `offset`, from two ReLU neurons.
fn coordinate_net(d: usize, j: usize, slope: f32, offset: f32) -> MlpParams {
    let mut weight = Array2::zeros([2, d]);
    (weight[[0, j]], weight[[1, j]]) = (1.0, -1.0);
    let mut output = Array2::zeros([2, 2]);
    (output[[1, 0]], output[[1, 1]]) = (slope, -slope);
    MlpParams {
        layers: vec![
            Layer { weight, bias: Array1::zeros(2) },
            Layer { weight: output, bias: Array1::from_vec(vec![0.0, offset]) },
        ],
    }
}

/// A net whose margin is chi_support exactly: a function of s = sum x_j that is piecewise linear with knots where s
/// takes its values -k, -k+2, .., k.
fn parity_net(d: usize, support: &[usize]) -> MlpParams {
    let k = support.len() as i32;
    let value = |minus: i32| if minus % 2 == 0 { 1.0f32 } else { -1.0 };
    let neurons = k as usize + 1;
    let mut weight = Array2::zeros([neurons, d]);
    let mut bias = Array1::zeros(neurons);
    let mut output = Array2::zeros([2, neurons]);
    // Neuron i switches on at s = -k + 2i; at s = -k all k coordinates are -1.
    let mut slope = 0.0;
    for i in 0..neurons {
        if i < k as usize {
            support.iter().for_each(|&j| weight[[i, j]] = 1.0);
            bias[i] = (k - 2 * i as i32) as f32;
            let next = (value(k - i as i32 - 1) - value(k - i as i32)) / 2.0;
            output[[1, i]] = next - slope;
            slope = next;
        }
    }
    MlpParams {
        layers: vec![
            Layer { weight, bias },
            Layer { weight: output, bias: Array1::from_vec(vec![0.0, value(k)]) },
        ],
    }
}

fn request(statistic: Statistic, sampling: Sampling) -> Request {
    Request { statistic, class: 1, sampling }
}

fn random(samples: u64) -> Sampling {
    Sampling::Random { samples, seed: 11 }
}

fn measure(model: &dyn LogitModel, monomials: &Monomials, request: &Request) -> Correlations {
    correlations(model, monomials, None, request, &mut |_| {}).unwrap()
}

#[test]
fn sampled_correlations_match_a_slow_computation() {
    // 20,000 samples: one full chunk, a partial one, and a partial word.
    let (d, n, classes) = (70, 20_001usize, 3);
    let model = on_cpu(&mlp(d, &[12, 9], classes, 4.0));
    let support = KnownSupport::new(d, &[vec![1, 33, 64], vec![69, 2, 5]]).unwrap();
    let mut sets: Vec<Vec<usize>> = Monomials::select(d, Some(&support), &[1, 2, 3], 7, 1)
        .unwrap()
        .list()
        .iter()
        .map(|m| m.coordinates.clone())
        .collect();
    sets.push(vec![69, 31, 32, 0]);
    sets.push(vec![9, 8, 7, 6, 63]);
    let monomials = Monomials::given(d, &sets, None).unwrap();
    let samples = Samples::random(d, 11, Stream::new(Purpose::Probe, 0), 0, n);
    let signs = samples.to_signs();
    let mut logits = vec![0.0; n * classes];
    model.logits(&samples, &mut logits);
    for statistic in [Statistic::Probability, Statistic::Margin, Statistic::Argmax] {
        let found = measure(&model, &monomials, &request(statistic, random(n as u64)));
        let p: Vec<f64> = logits.chunks(classes).map(|z| statistic.of(z, 1)).collect();
        let mean = p.iter().sum::<f64>() / n as f64;
        let centre = p[..16_384].iter().sum::<f64>() / 16_384.0;
        let variance = p.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        assert!((found.mean - mean).abs() < 1e-12);
        assert!((found.noise_floor - (variance / n as f64).sqrt()).abs() < 1e-12);
        for c in &found.coefficients {
            let chi = |i: usize| {
                c.monomial.coordinates.iter().map(|j| f64::from(signs[i * d + j])).product::<f64>()
            };
            let terms: Vec<f64> = (0..n).map(|i| (p[i] - centre) * chi(i)).collect();
            let value = terms.iter().sum::<f64>() / n as f64;
            let spread = terms.iter().map(|t| (t - value).powi(2)).sum::<f64>() / (n - 1) as f64;
            assert!((c.value - value).abs() < 1e-12, "{statistic:?} {:?}", c.monomial);
            assert!((c.standard_error - (spread / n as f64).sqrt()).abs() < 1e-12);
            // The plain mean of p chi estimates the same number, with more noise.
            let plain = (0..n).map(|i| p[i] * chi(i)).sum::<f64>() / n as f64;
            let rms = (p.iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt();
            assert!((c.value - plain).abs() < 5.0 * rms / (n as f64).sqrt());
        }
    }
}

#[test]
fn exact_and_sampled_agree_within_the_standard_error() {
    let d = 13;
    let model = on_cpu(&mlp(d, &[20], 2, 3.0));
    let monomials = Monomials::select(d, None, &[1, 2, 3], 0, 0).unwrap();
    let task = HierarchicalParity::parity(d, 3, &Support::First).unwrap();
    for statistic in [Statistic::Probability, Statistic::Margin, Statistic::Argmax] {
        let run = |sampling| {
            correlations(&model, &monomials, Some(&task), &request(statistic, sampling), &mut |_| {}).unwrap()
        };
        let (exact, sampled) = (run(Sampling::Exact), run(random(50_000)));
        assert_eq!((exact.samples, exact.noise_floor), (8192, 0.0));
        let mut squares = 0.0;
        for (e, s) in exact.coefficients.iter().zip(&sampled.coefficients) {
            assert_eq!((&e.monomial, e.standard_error), (&s.monomial, 0.0));
            assert!(s.standard_error > 0.0);
            let z = (s.value - e.value) / s.standard_error;
            assert!(z.abs() < 5.0, "{statistic:?} {:?}: {z}", e.monomial);
            squares += z * z;
        }
        // 377 squares of nearly standard normals: mean 1, deviation 0.073 if independent.
        let mean = squares / exact.coefficients.len() as f64;
        assert!((0.6..1.5).contains(&mean), "standard errors are off: mean z^2 = {mean}");
        let (a, b) = (exact.accuracy.unwrap(), sampled.accuracy.unwrap());
        assert!((a - b).abs() < 5.0 * (0.25f64 / 50_000.0).sqrt(), "{a} {b}");
    }
}

#[test]
fn exact_correlations_match_the_definition() {
    let d = 6;
    let model = on_cpu(&mlp(d, &[5], 2, 5.0));
    let monomials = Monomials::select(d, None, &[1, 2, 3, 4, 5], 0, 0).unwrap();
    let found = measure(&model, &monomials, &request(Statistic::Probability, Sampling::Exact));
    let samples = Samples::from_bits(d, (0..64).collect());
    let mut logits = vec![0.0; 128];
    model.logits(&samples, &mut logits);
    let signs = samples.to_signs();
    for c in &found.coefficients {
        let slow: f64 = (0..64)
            .map(|i| {
                let chi: f32 = c.monomial.coordinates.iter().map(|j| signs[i * d + j]).product();
                Statistic::Probability.of(&logits[2 * i..2 * i + 2], 1) * f64::from(chi)
            })
            .sum();
        assert!((c.value - slow / 64.0).abs() < 1e-15, "{:?}", c.monomial);
    }
}

#[test]
fn known_functions_have_their_known_coefficients() {
    let d = 20;
    // margin = 0.75 x_7 + 0.5: coefficient 0.75 at {7}, 0 elsewhere; probability: (s(1.25) - s(-0.25)) / 2.
    let model = on_cpu(&coordinate_net(d, 7, 0.75, 0.5));
    let monomials = Monomials::select(d, None, &[1, 2], 0, 0).unwrap();
    let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
    let argmax = 0.5; // predicts 1 where x_7 = +1
    let probability = (sigmoid(1.25) - sigmoid(-0.25)) / 2.0;
    for (statistic, expected) in
        [(Statistic::Margin, 0.75), (Statistic::Probability, probability), (Statistic::Argmax, argmax)]
    {
        for sampling in [Sampling::Exact, random(30_000)] {
            let found = measure(&model, &monomials, &request(statistic, sampling));
            for c in &found.coefficients {
                let truth = if c.monomial.coordinates == [7] { expected } else { 0.0 };
                let error = (c.value - truth).abs();
                assert!(error <= 5.0 * c.standard_error + 1e-12, "{statistic:?} {sampling:?} {c:?}");
                // A function of x_7 alone is known nearly without error at {7}, whatever its mean.
                assert!(truth == 0.0 || error < 1e-3);
            }
        }
    }
    // margin = chi_S: 1 at S, exactly 0 elsewhere, and the accuracy of the opposite label convention.
    let set = [3usize, 4, 9, 19];
    let model = on_cpu(&parity_net(d, &set));
    let monomials = Monomials::select(d, None, &[3, 4], 0, 0).unwrap();
    let task = HierarchicalParity::parity(d, 4, &Support::Given(set.to_vec())).unwrap();
    let exact = request(Statistic::Margin, Sampling::Exact);
    let found = correlations(&model, &monomials, Some(&task), &exact, &mut |_| {}).unwrap();
    for c in &found.coefficients {
        assert_eq!(c.value, if c.monomial.coordinates == set { 1.0 } else { 0.0 }, "{:?}", c.monomial);
    }
    assert_eq!(found.accuracy, Some(0.0));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let d = 40;
    let monomials = Monomials::select(d, None, &[1, 2], 0, 0).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let model = on_cpu(&mlp(d, &[30], 2, 2.0));
            measure(&model, &monomials, &request(Statistic::Probability, random(40_000)))
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn closures_are_models_and_their_faults_are_reported() {
    let monomials = Monomials::select(4, None, &[1], 0, 0).unwrap();
    let attempt = |value: f32, class: usize, sampling| {
        let function = move |samples: &Samples, logits: &mut [f32]| {
            logits.fill(0.0);
            if samples.len() > 7 {
                logits[2 * 7 + 1] = value;
            }
        };
        let model = FromFn { d: 4, classes: 2, function };
        let request = Request { statistic: Statistic::Probability, class, sampling };
        correlations(&model, &monomials, None, &request, &mut |_| {})
    };
    assert!(attempt(0.0, 1, random(100)).is_ok());
    assert!(matches!(
        attempt(f32::NAN, 1, random(100)),
        Err(ProbeError::NonFinite { sample: 7, logit: 1, .. })
    ));
    assert!(matches!(
        attempt(f32::INFINITY, 1, Sampling::Exact),
        Err(ProbeError::NonFinite { sample: 7, .. })
    ));
    assert!(matches!(attempt(0.0, 2, random(100)), Err(ProbeError::Class { class: 2, classes: 2 })));
    assert!(matches!(attempt(0.0, 1, random(1)), Err(ProbeError::TooFewSamples(1))));
    let wide = FromFn { d: 25, classes: 2, function: |_: &Samples, logits: &mut [f32]| logits.fill(0.0) };
    let monomials = Monomials::select(25, None, &[1], 0, 0).unwrap();
    let exact = request(Statistic::Margin, Sampling::Exact);
    let error = correlations(&wide, &monomials, None, &exact, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("24") && error.to_string().contains("--samples"), "{error}");
}

#[test]
fn a_timeline_finds_the_transition_and_the_checkpoint() {
    let d = 12;
    let task = HierarchicalParity::parity(d, 3, &Support::Given(vec![1, 5, 8])).unwrap();
    let support = KnownSupport::of_task(&task).unwrap();
    let monomials = Monomials::select(d, Some(&support), &[1, 2], 100, 0).unwrap();
    // A model that errs on a fraction of the inputs, and there reveals x_1 + x_5 + x_8: its degree-1 correlation is
    // largest where it errs most.
    let model = |accuracy: f64| {
        let task = task.clone();
        let function = move |samples: &Samples, logits: &mut [f32]| {
            for (i, z) in logits.chunks_exact_mut(2).enumerate() {
                let bits = samples.row(i)[0];
                let sum: i32 = [1, 5, 8].iter().map(|j| 1 - 2 * (bits >> j & 1) as i32).sum();
                let label = f32::from(task.label(samples.row(i)));
                // Bits outside the support decide which inputs are errors.
                let share = f64::from((bits >> 9 & 7) * 2 + (bits & 1)) / 16.0;
                let wrong = share < 1.0 - accuracy;
                z[0] = 0.0;
                z[1] = if wrong { sum as f32 } else { 4.0 * label - 2.0 };
            }
        };
        FromFn { d, classes: 2, function }
    };
    let steps = [(0u64, 0.0), (10, 0.5), (20, 0.9), (30, 1.0)];
    let checkpoints = steps.iter().map(|&(step, accuracy)| (step, format!("step-{step}"), model(accuracy)));
    let at = |(step, accuracy)| Evaluation { step, samples: Some(32 * step), accuracy };
    let evaluations: Vec<Evaluation> =
        [(0, 0.5), (10, 0.51), (15, 0.76), (20, 0.9), (30, 1.0)].map(at).to_vec();
    let request = request(Statistic::Probability, random(20_000));
    let found = timeline_of(checkpoints, &monomials, Some(&task), &request, &evaluations).unwrap();
    let transition = found.transition.unwrap();
    assert_eq!(transition.start.unwrap().step, 10);
    assert_eq!(transition.middle.unwrap().step, 15);
    assert_eq!(transition.end.unwrap().step, 30);
    assert_eq!(found.points.iter().map(|p| p.samples).collect::<Vec<_>>(), [0, 320, 640, 960].map(Some));
    let recommended = found.recommended.clone().unwrap();
    assert!(
        recommended.reason.contains("stand out") && recommended.degree == Some(1),
        "{}",
        recommended.reason
    );
    assert!(found.points.iter().all(|p| p.accuracy.is_some() && p.degrees.len() == 2));
    // It survives its file format.
    let text = serde_json::to_string(&found).unwrap();
    let back: curricle::probe::Timeline = serde_json::from_str(&text).unwrap();
    assert_eq!(back.recommended, found.recommended);
    assert_eq!(back.points.len(), 4);
    // Nothing to go on.
    let nothing: Vec<CheckpointCorrelations> = Vec::new();
    assert!(timeline(&nothing, &[]).no_recommendation.is_some());
}

// The command.

fn save(path: &Path, params: &MlpParams, step: Option<u64>) {
    let bytes = |values: Vec<f32>| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = Vec::new();
    for (l, layer) in params.layers.iter().enumerate() {
        let weight = bytes(layer.weight.iter().copied().collect());
        tensors.push((format!("{}.weight", 2 * l), layer.weight.shape().to_vec(), weight));
        tensors.push((format!("{}.bias", 2 * l), layer.bias.shape().to_vec(), bytes(layer.bias.to_vec())));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    let mut metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    if let Some(step) = step {
        metadata.insert("curricle.step".into(), step.to_string());
    }
    safetensors::serialize_to_file(views, Some(metadata), path).unwrap();
}

fn correlate<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_curricle")).arg("correlate").args(args).output().unwrap()
}

fn run_folder(root: &Path) -> PathBuf {
    let run = root.join("seed-1");
    std::fs::create_dir_all(run.join("checkpoints")).unwrap();
    std::fs::write(
        run.join("spec.toml"),
        "name = \"x\"\n[task]\nkind = \"parity\"\nd = 16\nk = 2\nsupport = [9, 4]\n",
    )
    .unwrap();
    let mut inverted = parity_net(16, &[4, 9]);
    inverted.layers[1].weight.mapv_inplace(|v| -v);
    inverted.layers[1].bias.mapv_inplace(|v| -v);
    for (step, params) in
        [(0, mlp(16, &[8], 2, 1.0)), (500, coordinate_net(16, 4, 1.0, 0.0)), (1000, inverted)]
    {
        save(&run.join(format!("checkpoints/step-{step:012}.safetensors")), &params, Some(step));
    }
    // The last line was cut off by a crash.
    let metrics = "{\"step\":0,\"samples\":0,\"accuracy\":0.5,\"loss\":0.7}\n\
                   {\"step\":500,\"samples\":16000,\"accuracy\":0.5,\"loss\":0.7}\n{\"note\":1,\"step\":700}\n\
                   {\"step\":1000,\"samples\":32000,\"accuracy\":1.0,\"loss\":0.01}\n{\"step\":15";
    std::fs::write(run.join("metrics.jsonl"), metrics).unwrap();
    run
}

#[test]
fn json_of_a_run_folder() {
    let root = tempfile::tempdir().unwrap();
    let run = run_folder(root.path());
    let csv = root.path().join("out.csv");
    let csv_text = csv.to_str().unwrap();
    let output = correlate(&[
        run.to_str().unwrap(),
        "--samples",
        "20000",
        "--json",
        "--csv",
        csv_text,
        "--threads",
        "2",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checkpoints = value["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints.iter().map(|c| c["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 500, 1000]);
    let keys: Vec<&String> = checkpoints[0].as_object().unwrap().keys().take(5).collect();
    assert_eq!(keys, ["path", "step", "accuracy", "samples", "monomials"]);
    assert!((checkpoints[1]["accuracy"].as_f64().unwrap() - 0.5).abs() < 0.02);
    assert_eq!(checkpoints[2]["accuracy"], 1.0);
    assert_eq!(checkpoints[2]["samples"], 20000);
    let monomials = checkpoints[1]["monomials"].as_array().unwrap();
    // Degree 1: 2 + 14; degree 2: 1 + 100; the support has no subset of size 3.
    assert_eq!(monomials.len(), 117);
    let first = monomials[0].as_object().unwrap();
    assert_eq!(
        first.keys().collect::<Vec<_>>(),
        ["coordinates", "degree", "in_support", "value", "standard_error"]
    );
    assert_eq!((&first["coordinates"], &first["in_support"]), (&serde_json::json!([4]), &Value::Bool(true)));
    // Probability of a margin x_4: tanh(1/2) / 2.
    assert!((first["value"].as_f64().unwrap() - 0.5f64.tanh() / 2.0).abs() < 1e-3);
    let timeline = &value["timelines"][0];
    assert_eq!(timeline["transition"]["start"]["step"], 500);
    assert_eq!(timeline["transition"]["end"]["step"], 1000);
    assert!(timeline["recommended"]["reason"].as_str().unwrap().contains("sparse"));
    assert_eq!(timeline["points"][2]["samples"], 32000);
    let rows = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(rows.lines().count(), 1 + 3 * 117);
    assert!(rows.lines().nth(1).unwrap().contains(",0,"), "{rows}");

    // The same numbers from the table's run and any number of threads; the table is for people.
    let again = correlate(&[run.to_str().unwrap(), "--samples", "20000", "--json", "--threads", "1"]);
    assert_eq!(again.stdout, output.stdout);
    let table = correlate(&[run.to_str().unwrap(), "--samples", "20000"]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("phase transition: last at chance: step 500"), "{text}");

    // A checkpoint inside the folder knows its task; --support overrides it.
    let file = run.join("checkpoints/step-000000001000.safetensors");
    let one =
        correlate(&[file.to_str().unwrap(), "--exact", "--json", "--degrees", "2", "--statistic", "margin"]);
    let value: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(value["checkpoints"][0]["samples"], 65536);
    assert_eq!(
        value["checkpoints"][0]["monomials"][0],
        serde_json::json!({
            "coordinates": [4, 9], "degree": 2, "in_support": true, "value": -1.0, "standard_error": 0.0
        })
    );
    assert!(value.get("timelines").is_none());
    let other = correlate(&[file.to_str().unwrap(), "--support", "1,2", "--json", "--samples", "1000"]);
    let value: Value = serde_json::from_slice(&other.stdout).unwrap();
    assert_eq!(value["checkpoints"][0]["monomials"][0]["coordinates"], serde_json::json!([1]));
}

#[test]
fn a_checkpoint_without_a_known_support() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model.safetensors");
    save(&path, &mlp(10, &[6], 2, 1.0), None);
    let output = correlate(&[path.to_str().unwrap(), "--samples", "1000", "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checkpoint = &value["checkpoints"][0];
    assert!(checkpoint["step"].is_null() && checkpoint["accuracy"].is_null());
    assert_eq!(checkpoint["monomials"].as_array().unwrap().len(), 10 + 45);
    assert!(checkpoint["monomials"][0]["in_support"].is_null());
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("model.safetensors");
    save(&path, &mlp(60, &[6], 2, 1.0), None);
    let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
        .args(["correlate", path.to_str().unwrap(), "--samples", "1000", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn bad_requests_are_usage_errors_that_name_the_place() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| root.path().join(name).to_str().unwrap().to_string();
    let good = file("good.safetensors");
    save(Path::new(&good), &mlp(30, &[6], 2, 1.0), None);
    let other = file("other.safetensors");
    save(Path::new(&other), &mlp(31, &[6], 2, 1.0), None);
    let wide = file("wide.safetensors");
    save(Path::new(&wide), &mlp(100, &[6], 2, 1.0), None);
    let (empty, missing) = (file("empty"), file("missing.safetensors"));
    std::fs::create_dir(&empty).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&[&good, "--support", "2,30"], "coordinate 30 is out of range"),
        (&[&good, "--support", "2,5,2"], "coordinate 2 occurs twice"),
        (&[&good, "--support", "2,x"], "'x' is not a coordinate"),
        (&[&good, "--degrees", "1-6"], "degree 6 is out of range"),
        (&[&good, "--degrees", "0"], "degree 0 is out of range"),
        (&[&good, "--samples", "0"], "samples = 0"),
        (&[&good, "--samples", "-5"], "-5"),
        (&[&good, "--class", "2"], "class 2 does not exist"),
        (&[&good, "--exact"], "d = 24"),
        (&[&good, "--threads", "0"], "at least one thread"),
        (&[&good, "--device", "gpu:no-such-adapter"], "no-such-adapter"),
        (&[&wide, "--degrees", "4"], "3921225 monomials of degree 4"),
        (&[&wide, "--support", "1", "--random", "100000000", "--degrees", "5"], "--random"),
        (&[&good, &other, "--samples", "100"], "takes d = 31 inputs"),
        (&[&missing], "no such file"),
        (&[&empty], "not a run folder"),
        (&[], "PATH"),
    ];
    for (args, expected) in cases {
        let output = correlate(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
    // A degree above the support's size has no in-support subsets, but still others.
    let output = correlate(&[&good, "--support", "1,2", "--degrees", "3", "--samples", "1000", "--json"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("no subsets of the support"));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["checkpoints"][0]["monomials"].as_array().unwrap().len(), 100);
}

#[test]
fn broken_files_are_failures_that_name_the_place() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bad.safetensors");
    let fails = |args: &[&str], expected: &str, code: i32| {
        let output = correlate(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains(root.path().to_str().unwrap()), "{stderr}");
    };
    std::fs::write(&path, b"not a checkpoint").unwrap();
    fails(&[path.to_str().unwrap()], "bad.safetensors", 1);
    let mut params = mlp(8, &[4], 2, 1.0);
    params.layers[0].weight[[1, 2]] = f32::NAN;
    save(&path, &params, None);
    fails(&[path.to_str().unwrap()], "0.weight", 1);
    // Finite parameters, infinite logits.
    let params = mlp(8, &[4], 2, 1e30);
    save(&path, &params, None);
    fails(&[path.to_str().unwrap()], "logit", 1);

    let run = run_folder(root.path());
    let run = run.to_str().unwrap();
    let spec = format!("{run}/spec.toml");
    for (text, expected) in [
        ("[task]\nkind = \"parity\"\nd = 16\nk = 2\nsupport = [9, 16]\n", "16 is out of range"),
        ("[task]\nkind = \"parity\"\nd = 17\nk = 2\nsupport = [9, 1]\n", "task.d = 17"),
        ("[task]\nkind = \"pcfg\"\nd = 17\nk = 2\nsupport = [9, 1]\n", "line 3"),
        ("[task]\nkind = \"pcfg\"\ngrammar = \"cfg3b\"\nobjective = \"masked\"\n", "pcfg"),
        ("[task]\nkind = \"parity\"\nd = 16\nk = 2\n", "no key seed"),
        ("[task]\nkind = \"parity\"\nd = 16\n", "missing field"),
    ] {
        std::fs::write(&spec, text).unwrap();
        fails(&[run, "--samples", "100"], expected, 2);
    }
    std::fs::remove_file(&spec).unwrap();
    std::fs::write(format!("{run}/metrics.jsonl"), "{\"step\":0,\"accuracy\":1.5}\n").unwrap();
    fails(&[run, "--samples", "100"], "line 1", 1);
}

#[test]
fn layers_of_a_transformer_are_probed_one_by_one() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_string();
    let (gpt2, csv, net) = (path("gpt2.safetensors"), path("out.csv"), path("net.safetensors"));
    let config = TransformerConfig { init_std: 0.5, ..TransformerConfig::gpt2(2, 6, 8, 2, 2) };
    let metadata = Metadata { step: Some(7), ..Metadata::default() };
    files::transformer::save(Path::new(&gpt2), &TransformerParams::new(config, 3).unwrap(), &metadata)
        .unwrap();
    save(Path::new(&net), &mlp(6, &[4], 2, 1.0), None);

    let common = ["--support", "1,5", "--degrees", "1-2", "--exact", "--device", "cpu", "--json"];
    let ask = |own: &[&str]| {
        let output = correlate(&[&[gpt2.as_str()], &common[..], own].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let all = ask(&["--layers", "all", "--csv", &csv]);
    let rows = all["checkpoints"].as_array().unwrap();
    assert_eq!(rows.iter().map(|r| r["layer"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    for row in rows {
        assert_eq!((&row["statistic"], &row["step"]), (&Value::from("margin"), &Value::from(7)));
        assert_eq!((&row["samples"], &row["readout_samples"]), (&Value::from(64), &Value::from(4000)));
        // 2 + 4 coordinates and all 15 pairs.
        assert_eq!(row["monomials"].as_array().unwrap().len(), 21);
    }
    // The last position's embedding has x_5 and nothing else.
    for m in rows[0]["monomials"].as_array().unwrap() {
        let alone = m["coordinates"] == serde_json::json!([5]);
        assert_eq!(m["value"].as_f64().unwrap().abs() > 1e-5, alone, "{m}");
    }
    let text = std::fs::read_to_string(&csv).unwrap();
    assert!(text.starts_with("path,step,layer,accuracy,"), "{text}");
    assert_eq!(text.lines().count(), 1 + 3 * 21);
    // One layer alone is what it is among others; without the flag nothing speaks of layers.
    assert_eq!(ask(&["--layers", "2"])["checkpoints"][0], rows[2]);
    let plain = ask(&[]);
    assert_eq!(plain["checkpoints"][0]["statistic"], "probability");
    assert!(plain["checkpoints"][0].get("layer").is_none());

    let cases: &[(&[&str], &str)] = &[
        (&[&gpt2, "--layers", "all"], "--support"),
        (&[&gpt2, "--layers", "3", "--support", "1,5"], "layer 3 does not exist"),
        (&[&gpt2, "--layers", "x", "--support", "1,5"], "not a layer"),
        (&[&gpt2, "--layers", "1", "--support", "0,1;2,3;4,5"], "3 nodes"),
        (&[&gpt2, "--layers", "1", "--support", "1,5", "--statistic", "argmax"], "margin"),
        (&[&gpt2, "--layers", "1", "--support", "1,5", "--readout-samples", "1"], "--readout-samples"),
        (&[&gpt2, "--support", "1,5", "--readout-samples", "10"], "--layers"),
        (&[&net, "--layers", "1", "--support", "1,5"], "this is an MLP"),
    ];
    for (args, expected) in cases {
        let output = correlate(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(output.stdout.is_empty());
    }
}
