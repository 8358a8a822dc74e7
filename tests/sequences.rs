//! `curricle run` with transformers: parities and grammars, on the CPU and on every adapter.
//!
//! `CURRICLE_EXPECT_ADAPTERS` as in tests/gpu.rs.

mod harness;

use harness::{Bench, adapters, assert_code, assert_same, curricle, error};
use serde_json::Value;
use std::path::{Path, PathBuf};

const PARITY: &str = r#"
experiment = "tiny"
scale = "test"
seeds = [1, 2]
task = { kind = "parity", d = 6, k = 2 }
evaluation = { samples = 100, every_samples = 80 }
correlations = { samples = 200, degrees = [1, 2], random = 5 }
[teacher]
model = { kind = "gpt2", layers = 2, heads = 2, dropout = 0.1, init_std = 0.1 }
batch = 8
learning_rate = 1e-3
steps = 60
checkpoints = { every_steps = 10 }
[student]
model = { kind = "gpt2", layers = 1, heads = 1, dropout = 0.1, init_std = 0.1 }
optimizer = { kind = "adamw", clip = 1.0 }
weight_decay = 0.01
batch = 8
learning_rate = 1e-3
steps = 40
[arms.ce]
[arms.progressive]
distill = { schedule = { kind = "progressive", interval = { steps = 15 } }, temperature = 1 }
[arms.two]
distill = { schedule = { kind = "n-t", checkpoints = [{ step = 20 }, "final"], duration = { steps = 13 } }, temperature = 1e-4, label_mix = 0.1 }
"#;

const GRAMMAR: &str = r#"
experiment = "tiny"
scale = "test"
seeds = [1]
task = { kind = "pcfg", grammar = "cfg3b", start = "11", objective = "masked" }
evaluation = { samples = 20, every_samples = 40, levels = [0.5] }
ngrams = { sizes = [2, 3], sentences = 5 }
nonterminals = { train = 20, test = 10 }
[teacher]
model = { kind = "bert", layers = 1, heads = 2, positions = 16 }
optimizer = { kind = "adamw", betas = [0.9, 0.95], clip = 1.0 }
batch = 8
learning_rate = 1e-3
steps = 40
checkpoints = { every_steps = 10 }
[student]
model = { kind = "bert", layers = 1, heads = 1, positions = 16 }
batch = 8
learning_rate = 1e-3
steps = 30
[arms.ce]
[arms.first-10]
distill = { schedule = { kind = "n-t", checkpoints = [{ step = 10 }, "final"], duration = { steps = 10 } } }
[arms.first-20]
distill = { schedule = { kind = "n-t", checkpoints = [{ step = 20 }, "final"], duration = { steps = 10 } } }
[claims.phases]
kind = "three-phases"
at_least = 0.0
[claims.peak]
kind = "ngram-peak-in-drop"
n = 3
at_least = 0.0
"#;

/// When runs are killed.
const CUTS: [u64; 5] = [60, 120, 200, 400, 800];

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn parity_transformers_resume_to_the_same_bits_on_any_number_of_threads() {
    let trial = Bench::of(PARITY);
    assert_code(&trial.run("whole", &["--device", "cpu", "--threads", "1"]), 0);
    trial.cut("cut", &["--device", "cpu", "--threads", "2"], &CUTS);
    assert_same(&trial.out("whole/tiny"), &trial.out("cut/tiny"));
    let teacher = trial.out("whole/tiny/teacher/seed-1");
    assert_eq!(json(&teacher.join("correlations.json"))["steps"].as_array().unwrap().len(), 6);
    // Correlations by hand, of a checkpoint and of what transformers would load.
    let checkpoint = teacher.join("checkpoints/step-000000000060.safetensors").display().to_string();
    let folder = trial.out("hf").display().to_string();
    assert_code(&curricle(&["export", &checkpoint, "--format", "hugging-face", "-o", &folder]), 0);
    let measured = |path: &str| {
        let output = curricle(&[
            "correlate",
            path,
            "--support",
            "0,1",
            "--samples",
            "300",
            "--json",
            "--device",
            "cpu",
        ]);
        assert_code(&output, 0);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["checkpoints"][0]["monomials"].clone()
    };
    assert!(measured(&checkpoint).is_array());
    assert_eq!(measured(&checkpoint), measured(&folder));
}

#[test]
fn grammars_are_learned_measured_and_reported() {
    let trial = Bench::of(GRAMMAR);
    let output = trial.run("whole", &["--device", "cpu", "--json"]);
    assert_code(&output, 0);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(summary["claims"].as_array().unwrap().iter().all(|c| c["verdict"] == "PASS"), "{summary}");
    let root = trial.out("whole/tiny");
    let teacher = root.join("teacher/seed-1");
    let ngrams = json(&teacher.join("ngrams.json"));
    assert_eq!(ngrams["checkpoints"].as_array().unwrap().len(), 4);
    assert_eq!(ngrams["checkpoints"][3]["ngrams"][1]["n"], 3);
    let optimum = json(&teacher.join("optimum.json"));
    assert!(optimum["accuracy"].as_f64().unwrap() > 0.5, "{optimum}");
    let levels = json(&root.join("first-10/seed-1/nonterminals.json"));
    assert_eq!(levels["levels"].as_array().unwrap().len(), 1);
    let report = std::fs::read_to_string(root.join("report.html")).unwrap();
    for heading in ["Loss and its phases", "n-gram robustness", "Which first checkpoint", "Non-terminals"] {
        assert!(report.contains(heading), "{heading}");
    }
    // Killed and resumed: the same bits.
    trial.cut("cut", &["--device", "cpu"], &CUTS);
    assert_same(&root, &trial.out("cut/tiny"));
    // Accumulation: the same steps up to rounding.
    let parts =
        ["--device", "cpu", "--set", "teacher.accumulate=3", "--set", "arms={}", "--set", "claims={}"];
    assert_code(&trial.run("parts", &parts), 0);
    let last = "teacher/seed-1/checkpoints/step-000000000040.safetensors";
    let load = |path: PathBuf| curricle::files::transformer::load(&path).unwrap().params.values;
    let (whole, parts) = (load(root.join(last)), load(trial.out("parts/tiny").join(last)));
    let off = whole.iter().zip(&parts).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off < 5e-3, "accumulation changes parameters by {off}");
    // The same measurement by hand, the grammar taken from the run.
    let probed = curricle(&[
        "probe",
        "ngram",
        &teacher.display().to_string(),
        "--sentences",
        "2",
        "--json",
        "--device",
        "cpu",
    ]);
    assert_code(&probed, 0);
    let probed: Value = serde_json::from_slice(&probed.stdout).unwrap();
    assert_eq!((&probed["start"], probed["checkpoints"].as_array().unwrap().len()), (&"11".into(), 4));
}

#[test]
fn gpus_train_the_same_transformers() {
    let devices = adapters();
    for spec in [PARITY, GRAMMAR] {
        let trial = Bench::of(spec);
        let few = ["--seeds", "1", "--set", "teacher.steps=20", "--set", "student.steps=20"];
        assert_code(&trial.run("cpu", &[&few[..], &["--device", "cpu"]].concat()), 0);
        for device in &devices {
            let out = device.replace(':', "-");
            assert_code(&trial.run(&out, &[&few[..], &["--device", device]].concat()), 0);
            for run in ["teacher", "ce"] {
                let file = format!("tiny/{run}/seed-1/checkpoints/step-000000000020.safetensors");
                let load = |out: &str| {
                    curricle::files::transformer::load(&trial.out(out).join(&file)).unwrap().params.values
                };
                let (cpu, gpu) = (load("cpu"), load(&out));
                let off = cpu.iter().zip(&gpu).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
                // Adam divides by the root of the second moment: where a gradient is rounding noise, so is its step.
                assert!(off < 5e-3, "{device} {run}: parameters differ by {off}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let parity = Bench::of(PARITY);
    for (set, expected) in [
        ("teacher.model.heads=0", "heads"),
        ("student.hidden=[3]", "not both"),
        ("student.loss=\"hinge\"", "cross-entropy"),
        ("task.grammar=\"cfg3b\"", "unknown field `grammar`"),
        ("student.model.kind=\"gpt3\"", "gpt3"),
        ("student.optimizer.clip=-1", "clip"),
        ("student.accumulate=0", "accumulate"),
        ("ngrams={ sentences = 3 }", "masked"),
    ] {
        let output = parity.run("runs", &["--set", set]);
        assert_code(&output, 2);
        assert!(error(&output).contains(expected), "{set}: {}", error(&output));
    }
    let grammar = Bench::of(GRAMMAR);
    for (set, code, expected) in [
        ("teacher.model.kind=\"gpt2\"", 2, "bert"),
        ("task.start=\"99\"", 2, "99"),
        ("task.d=3", 2, "unknown field `d`"),
        ("teacher.hidden=[10]", 2, "hidden"),
        ("claims.peak.n=5", 2, "n = 5"),
        ("teacher.model.positions=8", 2, "positions"),
    ] {
        let output = grammar.run("runs", &["--set", set, "--device", "cpu"]);
        assert_code(&output, code);
        assert!(error(&output).contains(expected), "{set}: {}", error(&output));
    }
    // A loss that is not finite ends the run with its last good checkpoint.
    let output = grammar.run(
        "nan",
        &["--device", "cpu", "--set", "teacher.learning_rate=1e30", "--set", "arms={}", "--set", "claims={}"],
    );
    assert_code(&output, 1);
    assert!(error(&output).contains("NaN or infinite"), "{}", error(&output));
}
