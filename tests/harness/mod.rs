//! A tiny experiment in a folder of its own, run through the binary.

// Each test file uses its part of this.
#![allow(dead_code)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// An experiment of a fraction of a second that uses most kinds of schedule.
pub const SPEC: &str = r#"
experiment = "tiny"
scale = "test"
seeds = [3, 5]
task = { kind = "parity", d = 12, k = 2 }
evaluation = { samples = 500, every_samples = 320, levels = [0.6, 0.99] }
correlations = { samples = 1000, degrees = [1, 2], random = 10 }

[teacher]
hidden = [64]
batch = 16
learning_rate = 0.3
steps = 1500
checkpoints = { every_steps = 100, log_spaced = 5 }

[student]
hidden = [16]
batch = 16
learning_rate = 0.1
steps = 800

[arms.ce]
weight_decay = 1e-4
schedule = { kind = "cosine", warmup = 0.06 }

[arms.progressive]
distill = { schedule = { kind = "progressive", interval = { steps = 100 } }, temperature = 1 }

[arms.two]
distill = { schedule = { kind = "n-t", checkpoints = [{ step = 200 }, "final"], duration = { steps = 130 } }, temperature = 1e-20, label_mix = { from = 0.5, to = 0.0, steps = 200 } }

[arms.saturation]
distill = { schedule = { kind = "till-saturation", max_steps = 90 }, temperature = 0 }
"#;

/// A staircase for MLPs, under labels and under a teacher, and for a transformer.
pub const STAIRCASE: &str = r#"
experiment = "tiny"
scale = "test"
seeds = [3]
task = { kind = "junta", d = 12, terms = [[0], [0, 1], [0, 1, 2]] }
evaluation = { samples = 500, every_samples = 320, levels = [0.6, 0.99] }
correlations = { samples = 1000, degrees = [1, 2, 3], random = 10 }

[teacher]
hidden = [32]
batch = 16
learning_rate = 0.1
steps = 100
checkpoints = { every_steps = 50 }

[student]
hidden = [16]
batch = 16
learning_rate = 0.1
steps = 100

[arms.ce]

[arms.two]
distill = { schedule = { kind = "n-t", checkpoints = [{ step = 50 }, "final"], duration = { steps = 30 } }, temperature = 1 }

[arms.tokens]
model = { kind = "gpt2", layers = 1, heads = 2, dropout = 0.0 }
learning_rate = 1e-3
steps = 20
"#;

pub fn curricle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_curricle")).args(arguments).output().unwrap()
}

pub struct Bench {
    pub folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self::of(SPEC)
    }

    /// Another experiment, which has to be called tiny as well.
    pub fn of(spec: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.spec(), spec).unwrap();
        bench
    }

    /// Kills a run after each of these times (milliseconds), taking it up in between, then lets it finish.
    pub fn cut(&self, out: &str, more: &[&str], delays: &[u64]) {
        let more = [more, &["--resume", "--save-every", "0"]].concat();
        let mut kills = 0;
        for (i, delay) in delays.iter().enumerate() {
            let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
                .args(self.command(out, &more))
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(*delay));
            kills += i32::from(child.try_wait().unwrap().is_none());
            // In turn killed at once and asked to end.
            if i % 2 == 0 {
                child.kill().unwrap();
            } else {
                Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
            }
            child.wait().unwrap();
        }
        assert!(kills > 0, "no run was killed in the middle");
        assert_code(&self.run(out, &more), 0);
    }

    pub fn spec(&self) -> PathBuf {
        self.folder.path().join("tiny.toml")
    }

    pub fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, out: &str, more: &[&str]) -> Vec<String> {
        let fixed = ["run".into(), self.spec().display().to_string(), "--out".into()];
        let out = self.out(out).display().to_string();
        fixed.into_iter().chain([out]).chain(more.iter().map(ToString::to_string)).collect()
    }

    pub fn run(&self, out: &str, more: &[&str]) -> Output {
        let arguments = self.command(out, more);
        curricle(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Every adapter of this machine, as --device names it.
pub fn adapters() -> Vec<String> {
    let listing: Value = serde_json::from_slice(&curricle(&["devices", "--json"]).stdout).unwrap();
    let devices: Vec<String> = listing["adapters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["backend_device"].as_str().unwrap().to_owned())
        .collect();
    let expected = std::env::var("CURRICLE_EXPECT_ADAPTERS").unwrap_or_default();
    for backend in expected.split(',').map(str::trim).filter(|b| !b.is_empty()) {
        assert!(devices.iter().any(|d| d.contains(backend)), "no {backend} adapter among {devices:?}");
    }
    devices
}

pub fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", error(output));
}

/// Whether the value of a judged claim lies on the side of the bound that its statement names ("is at most 0.7").
pub fn supports(claim: &Value) -> bool {
    let statement = claim["statement"].as_str().unwrap();
    let bound: f64 = statement.rsplit(' ').next().unwrap().parse().unwrap();
    let value = claim["value"].as_f64().unwrap();
    if statement.contains(" is at most ") { value <= bound } else { value >= bound }
}

/// Everything a run folder holds that has to be the same bits, without times.
pub fn fingerprint(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if name != "figures" {
                    pending.push(path);
                }
            } else if name == "metrics.jsonl" {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().map(|line| {
                    let mut line: Value = serde_json::from_str(line).unwrap();
                    line.as_object_mut().unwrap().remove("wall_seconds").unwrap();
                    line.to_string() + "\n"
                });
                found.push((
                    path.strip_prefix(root).unwrap().to_owned(),
                    lines.collect::<String>().into_bytes(),
                ));
            } else if name.starts_with("step-")
                || ["spec.toml", "ngrams.json", "optimum.json", "nonterminals.json"].contains(&name.as_str())
            {
                found.push((path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

pub fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (fingerprint(a), fingerprint(b));
    let names = |f: &[(PathBuf, Vec<u8>)]| f.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b));
    assert!(a.len() > 12, "there is something to compare");
    for ((path, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{} differs", path.display());
    }
}
