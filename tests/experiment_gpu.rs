//! `curricle run --device gpu:..` on every adapter of this machine: the same spec and run folders as on the CPU.
//!
//! `CURRICLE_EXPECT_ADAPTERS` as in tests/gpu.rs.

mod harness;

use harness::{Bench, STAIRCASE, adapters, assert_code, assert_same, curricle, error, fingerprint};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static TURN: Mutex<()> = Mutex::new(());

/// Runs a test on every adapter, one at a time.
fn everywhere(test: fn(&str)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    adapters().iter().for_each(|device| test(device));
}

fn run_info(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path.join("run.json")).unwrap()).unwrap()
}

#[test]
fn the_same_spec_runs_and_resumes_to_the_same_bits() {
    everywhere(|device| {
        let bench = Bench::new();
        assert_code(&bench.run("whole", &["--device", device]), 0);
        for (run, last) in [("teacher/seed-3", 1500), ("saturation/seed-5", 800)] {
            let folder = bench.out("whole/tiny").join(run);
            assert!(folder.join(format!("checkpoints/step-{last:012}.safetensors")).exists());
            assert!(run_info(&folder)["device"].as_str().unwrap().starts_with("gpu"));
        }
        // One seed alone follows the same trajectory as beside another one.
        assert_code(&bench.run("alone", &["--device", device, "--seeds", "3"]), 0);
        let alone = fingerprint(&bench.out("alone/tiny"));
        let both = fingerprint(&bench.out("whole/tiny"));
        assert!(alone.len() > 20 && alone.iter().all(|file| both.contains(file)), "{device}");
        // Killed at any moment.
        bench.cut("cut", &["--device", device], &[300, 700, 1100, 1500]);
        assert_same(&bench.out("whole/tiny"), &bench.out("cut/tiny"));
    });
}

#[test]
fn both_engines_agree_and_a_run_may_change_engines() {
    everywhere(|device| {
        let bench = Bench::new();
        // Long enough to be interrupted on the CPU, and taken up on the GPU.
        let long = ["--seeds", "3", "--set", "arms={}", "--set", "teacher.steps=40000", "--save-every", "0"];
        let on = |device| [&long[..], &["--device", device]].concat();
        let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
            .args(bench.command("mixed", &on("cpu")))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let folder = bench.out("mixed/tiny/teacher/seed-3");
        for _ in 0..600 {
            if folder.join("resume.safetensors").exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(run_info(&folder)["status"], "finished", "the run ended before it was killed");
        let output = bench.run("mixed", &[&on(device)[..], &["--resume"]].concat());
        assert_code(&output, 0);
        assert!(error(&output).contains("were done by cpu"), "{}", error(&output));
        let info = run_info(&folder);
        assert!(info["earlier_devices"][0]["device"].as_str().unwrap().starts_with("cpu"), "{info}");
        assert!(info["device"].as_str().unwrap().starts_with("gpu"), "{info}");
        // The first steps on either engine, students under teachers included, are the same up to rounding.
        for (out, device) in [("cpu", "cpu"), ("gpu", device)] {
            let short = ["--seeds", "3", "--set", "teacher.steps=200", "--set", "student.steps=100"];
            assert_code(&bench.run(out, &[&short[..], &["--device", device]].concat()), 0);
        }
        for run in ["teacher", "ce", "progressive", "two", "saturation"] {
            let file = format!("tiny/{run}/seed-3/checkpoints/step-000000000100.safetensors");
            let load = |out: &str| curricle::files::load(&bench.out(out).join(&file)).unwrap().params;
            let (cpu, gpu) = (load("cpu"), load("gpu"));
            for (a, b) in cpu.layers.iter().zip(&gpu.layers) {
                let off = (&a.weight - &b.weight).iter().fold(0.0f32, |m, v| m.max(v.abs()));
                assert!(off < 2e-3, "{device} {run}: weights differ by {off}");
            }
        }
    });
}

#[test]
fn labels_are_the_same_on_every_device() {
    everywhere(|device| {
        let bench = Bench::of(STAIRCASE);
        for device in ["cpu", device] {
            assert_code(&bench.run(&device.replace(':', "-"), &["--device", device]), 0);
        }
        let (cpu, gpu) = (bench.out("cpu/tiny"), bench.out(&device.replace(':', "-")).join("tiny"));
        for (run, step, most) in
            [("teacher", 100, 2e-3), ("ce", 100, 2e-3), ("two", 100, 2e-3), ("tokens", 20, 5e-3)]
        {
            let file = format!("{run}/seed-3/checkpoints/step-{step:012}.safetensors");
            let load = |out: &Path| -> Vec<f32> {
                let path = out.join(&file);
                if run == "tokens" {
                    return curricle::files::transformer::load(&path).unwrap().params.values;
                }
                let layers = curricle::files::load(&path).unwrap().params.layers;
                layers
                    .iter()
                    .flat_map(|l| l.weight.iter().chain(&l.bias).copied().collect::<Vec<_>>())
                    .collect()
            };
            let off = load(&cpu).iter().zip(load(&gpu)).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off < most, "{device} {run}: parameters differ by {off}");
        }
    });
}

#[test]
fn what_does_not_fit_is_said() {
    everywhere(|device| {
        let bench = Bench::new();
        // 640 MB of parameters: more than a software adapter binds, and one step where it does fit.
        let wide = ["--set", "teacher.hidden=[10000000]", "--set", "teacher.steps=1", "--set", "arms={}"];
        let output = bench.run("runs", &[&wide[..], &["--seeds", "3", "--device", device]].concat());
        let said = error(&output);
        assert!(output.status.success() || said.contains("bytes in one buffer"), "{device}: {said}");
        assert!(output.status.success() || output.status.code() == Some(1), "{device}: {said}");
    });
    let bench = Bench::new();
    let output = bench.run("runs", &["--device", "gpu:no-such-adapter"]);
    assert_code(&output, 2);
    assert!(error(&output).contains("no-such-adapter"), "{}", error(&output));
    assert!(!bench.out("runs").exists());
}

#[test]
fn one_seed_of_the_quick_experiment_supports_every_claim() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !String::from_utf8_lossy(&curricle(&["devices"]).stdout).contains("llvmpipe") {
        let expected = std::env::var("CURRICLE_EXPECT_ADAPTERS").unwrap_or_default();
        assert!(expected.is_empty(), "CURRICLE_EXPECT_ADAPTERS={expected}, but there is no llvmpipe");
        eprintln!("not run: this machine has no llvmpipe, and CURRICLE_EXPECT_ADAPTERS asks for none");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/parity-mlp/quick.toml");
    let (spec, out) = (spec.display().to_string(), folder.path().display().to_string());
    let output =
        curricle(&["run", &spec, "--device", "gpu:llvmpipe", "--seeds", "1", "--out", &out, "--json"]);
    assert_code(&output, 0);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let claims = summary["claims"].as_array().unwrap();
    assert!(claims.len() >= 5);
    for claim in claims {
        assert!(harness::supports(claim), "{claim}");
        // One seed decides nothing: at 90% it takes five.
        assert_eq!((&claim["verdict"], &claim["coverage"]), (&"INCONCLUSIVE".into(), &0.0.into()), "{claim}");
        assert_eq!(claim["seeds_needed"], 5, "{claim}");
    }
}
