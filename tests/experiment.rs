//! `curricle run` as a user runs it: folders, JSON, resume, exit codes.

mod harness;

use harness::{Bench, STAIRCASE, assert_code, assert_same, curricle, error, fingerprint};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn a_run_leaves_folders_json_and_a_report() {
    let bench = Bench::new();
    let output = bench.run("runs", &["--json"]);
    assert_code(&output, 0);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["experiment"], &summary["scale"]), (&"tiny".into(), &"test".into()));
    let arms = summary["arms"].as_array().unwrap();
    assert_eq!(arms.len(), 10);
    let teacher = &arms[0];
    assert_eq!((&teacher["name"], &teacher["seed"]), (&"teacher".into(), &3.into()));
    assert!(teacher["samples_to"]["0.99"].as_u64().unwrap() <= 24_000);
    assert_eq!(teacher["final_accuracy"], 1.0);
    assert_eq!(teacher["steps"], 1500);
    assert!(Path::new(summary["report"].as_str().unwrap()).is_file());
    let root = bench.out("runs/tiny");
    for file in ["summary.json", "data.json", "teacher/seed-3/correlations.json"] {
        assert!(root.join(file).is_file(), "{file}");
    }
    let run = root.join("two/seed-5");
    for file in [
        "spec.toml",
        "metrics.jsonl",
        "run.json",
        "resume.safetensors",
        "checkpoints/step-000000000800.safetensors",
    ] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let spec: toml::Table = std::fs::read_to_string(run.join("spec.toml")).unwrap().parse().unwrap();
    assert_eq!(spec["task"]["support"].as_array().unwrap().len(), 2);
    let checkpoints = spec["distill"]["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints[0].as_str(), Some("teacher/seed-5/checkpoints/step-000000000200.safetensors"));
    // Checkpoint steps: every 100 and about 1, 4, 19, 80, 347, 1500.
    let kept = std::fs::read_dir(root.join("teacher/seed-3/checkpoints")).unwrap().count();
    assert_eq!(kept, 15 + 5);
}

#[test]
fn killed_and_resumed_gives_the_same_bits_as_uninterrupted_on_any_number_of_threads() {
    let bench = Bench::new();
    assert_code(&bench.run("whole", &["--threads", "1"]), 0);
    // Longer than the tests' patience if it never got anywhere: each start has at least the time to save something.
    bench.cut("cut", &["--threads", "2"], &[30, 60, 90, 120, 200, 300, 500]);
    assert_same(&bench.out("whole/tiny"), &bench.out("cut/tiny"));
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let bench = Bench::new();
    let long = ["--set", "student.steps=100000000"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
        .args(bench.command("runs", &long))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = bench.out("runs/tiny/two/seed-3/metrics.jsonl");
    for _ in 0..600 {
        if begun.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let status = child.wait().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("--resume"), "{said}");
    assert!(bench.out("runs/tiny/two/seed-3/resume.safetensors").exists());
}

#[test]
fn existing_runs_are_not_overwritten() {
    let bench = Bench::new();
    let first = ["--seeds", "3"];
    assert_code(&bench.run("runs", &first), 0);
    let before = fingerprint(&bench.out("runs/tiny"));
    let refused = bench.run("runs", &first);
    assert_code(&refused, 2);
    assert!(error(&refused).contains("--resume") && error(&refused).contains("seed-3"));
    // Other settings are not taken for the same run.
    let other = bench.run("runs", &["--seeds", "3", "--resume", "--set", "arms.ce.learning_rate=0.2"]);
    assert_code(&other, 2);
    assert!(error(&other).contains("learning_rate = 0.1"), "{}", error(&other));
    // More seeds are added to what is there.
    assert_code(&bench.run("runs", &["--resume"]), 0);
    let after = fingerprint(&bench.out("runs/tiny"));
    assert!(before.iter().all(|kept| after.contains(kept)));
    assert_code(&bench.run("runs", &["--seeds", "3", "--fresh", "--set", "arms.ce.learning_rate=0.2"]), 0);
}

#[test]
fn students_can_follow_another_runs_folder_or_files() {
    let bench = Bench::new();
    assert_code(&bench.run("runs", &["--seeds", "3"]), 0);
    let teacher = bench.out("runs/tiny/teacher");
    let file = |step: u32| teacher.join(format!("seed-3/checkpoints/step-{step:012}.safetensors"));
    let spec = |distill: &str| {
        format!(
            "experiment = \"follow\"\nscale = \"test\"\nseeds = [3]\ntask = {{ kind = \"parity\", d = 12, k = 2 }}\n\
             evaluation = {{ samples = 500, every_samples = 320 }}\n\
             [student]\nhidden = [16]\nbatch = 16\nlearning_rate = 0.1\nsteps = 800\n\
             [arms.two]\ndistill = {{ {distill}, temperature = 1e-20, label_mix = {{ from = 0.5, to = 0.0, steps = 200 }} }}\n"
        )
    };
    let schedule = "schedule = { kind = \"n-t\", checkpoints = [{ step = 200 }, \"final\"], duration = { steps = 130 } }";
    let folder = spec(&format!("teacher = {:?}, {schedule}", teacher.display().to_string()));
    let files = spec(&format!(
        "teacher = [{:?}, {:?}], schedule = {{ kind = \"sequence\", checkpoints = [{{ step = 200 }}, \"final\"], durations = [{{ steps = 130 }}, {{ steps = 1 }}] }}",
        file(200).display().to_string(),
        file(1500).display().to_string()
    ));
    for (name, text) in [("folder", folder), ("files", files)] {
        std::fs::write(bench.spec(), text).unwrap();
        assert_code(&bench.run(name, &[]), 0);
        // The same student as in the experiment that trained the teacher.
        let end = "two/seed-3/checkpoints/step-000000000800.safetensors";
        let read = |root: &str| curricle::files::load(&bench.out(root).join(end)).unwrap().params;
        assert!(read("runs/tiny") == read(&format!("{name}/follow")), "{name}");
    }
    let empty = bench.out("runs/tiny/empty/seed-3");
    std::fs::create_dir_all(empty.join("checkpoints")).unwrap();
    std::fs::write(empty.join("spec.toml"), "training = { batch = 16 }").unwrap();
    for (distill, expected) in [
        (
            format!("teacher = {:?}, {schedule}", bench.out("runs/tiny/empty").display().to_string()),
            "no checkpoints",
        ),
        (format!("teacher = \"nowhere\", {schedule}"), "nowhere"),
        (
            format!(
                "teacher = [{:?}], schedule = {{ kind = \"one-shot\" }}",
                bench.spec().display().to_string()
            ),
            "tiny.toml",
        ),
    ] {
        std::fs::write(bench.spec(), spec(&distill)).unwrap();
        let output = bench.run("bad", &[]);
        assert_code(&output, 1);
        assert!(error(&output).contains(expected), "{}", error(&output));
    }
}

#[test]
fn exit_codes_say_what_happened() {
    let bench = Bench::new();
    let one = |more: &[&str]| bench.run("runs", &[&["--seeds", "3", "--fresh"], more].concat());
    // Bad usage and bad specs: 2, naming the place.
    for (more, expected) in [
        (["--set", "task.k=13"], "task"),
        (["--set", "teacher.hiden=[3]"], "hiden"),
        (["--set", "student.learning_rate=-1"], "learning_rate"),
        (["--set", "correlation.samples=100"], "correlations"),
        (["--set", "correlations.degrees=[3]"], "correlations.degrees"),
        (["--set", "confidence=1"], "confidence"),
        (["--device", "tpu"], "tpu"),
        (["--threads", "0"], "--threads"),
    ] {
        let output = one(&more);
        assert_code(&output, 2);
        assert!(error(&output).contains(expected), "{}", error(&output));
    }
    assert_code(&curricle(&["run", "nowhere.toml"]), 2);
    assert_code(&curricle(&["run"]), 2);
    assert!(!bench.out("runs").exists(), "a refused spec leaves nothing behind");
    // A claim that fails: 3. Two seeds cover 50% and decide at that confidence; one seed covers nothing, whatever its value.
    let claim =
        "claims.x={ kind = \"samples-ratio\", arm = \"ce\", than = \"teacher\", level = 0.6, at_most = 0.0 }";
    let half = ["--set", claim, "--set", "confidence=0.5", "--json"];
    assert_code(&bench.run("runs", &[&half[..], &["--fresh"]].concat()), 3);
    let open = one(&half);
    assert_code(&open, 0);
    let summary: Value = serde_json::from_slice(&open.stdout).unwrap();
    let claim = &summary["claims"][0];
    assert!(
        claim["value"].as_f64().unwrap() > 0.0 && claim["interval"][0].as_f64().unwrap() > 0.0,
        "{claim}"
    );
    assert_eq!((&claim["verdict"], &claim["seeds_needed"]), (&"INCONCLUSIVE".into(), &2.into()), "{claim}");
    // A run that diverges: 1, with the step and the last good checkpoint.
    let diverged =
        one(&["--set", "arms.two.learning_rate=1e20", "--set", "arms.two.checkpoints={ every_steps = 1 }"]);
    assert_code(&diverged, 1);
    assert!(
        error(&diverged).contains("two seed 3 diverged") && error(&diverged).contains("steps"),
        "{}",
        error(&diverged)
    );
    let info: Value =
        serde_json::from_slice(&std::fs::read(bench.out("runs/tiny/two/seed-3/run.json")).unwrap()).unwrap();
    assert_eq!(info["status"], "diverged");
    // The others went on.
    assert!(bench.out("runs/tiny/progressive/seed-3/checkpoints/step-000000000800.safetensors").exists());
}

#[test]
fn two_runs_into_one_folder_do_not_mix() {
    let bench = Bench::new();
    let long = ["--set", "teacher.steps=100000000", "--resume"];
    let mut first = Command::new(env!("CARGO_BIN_EXE_curricle"))
        .args(bench.command("runs", &long))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..600 {
        if bench.out("runs/tiny/teacher/seed-3/metrics.jsonl").exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let second = bench.run("runs", &long);
    first.kill().unwrap();
    first.wait().unwrap();
    assert_code(&second, 1);
    assert!(error(&second).contains("in use"), "{}", error(&second));
    // A folder that cannot be made.
    std::fs::write(bench.out("file"), "").unwrap();
    let blocked = bench.run("file", &[]);
    assert_code(&blocked, 1);
    assert!(error(&blocked).contains("file/tiny"), "{}", error(&blocked));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let bench = Bench::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
        .args(["run", &bench.spec().display().to_string(), "--dry-run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 0);
    assert_eq!(error(&output), "");
}

#[test]
fn a_junta_is_learned_measured_and_described() {
    let bench = Bench::of(STAIRCASE);
    let spec = bench.spec().display().to_string();
    let dry = curricle(&["run", &spec, "--dry-run", "--seeds", "3,4"]);
    assert_code(&dry, 0);
    let text = String::from_utf8(dry.stdout).unwrap();
    for note in ["# leap 1\n", "# chance 0.5\n", "# spectrum, 4 monomials: +0.5 [0], ", "# seed 4: support ["]
    {
        assert!(text.contains(note), "{text}");
    }
    assert!(text.parse::<toml::Table>().unwrap().contains_key("task"), "{text}");
    assert_code(&bench.run("runs", &["--device", "cpu", "--set", "teacher.steps=1500"]), 0);
    let folder = bench.out("runs/tiny/teacher/seed-3");
    let own: toml::Table = std::fs::read_to_string(folder.join("spec.toml")).unwrap().parse().unwrap();
    let support = own["task"]["support"].as_array().unwrap();
    let support: Vec<i64> = support.iter().map(|c| c.as_integer().unwrap()).collect();
    // `curricle correlate` knows the task from the run: its terms, and the labels for the accuracy.
    let folder = folder.display().to_string();
    let output = curricle(&["correlate", &folder, "--degrees", "1-3", "--samples", "4000", "--json"]);
    assert_code(&output, 0);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let last = found["checkpoints"].as_array().unwrap().last().unwrap();
    assert!(last["accuracy"].as_f64().unwrap() > 0.9, "{}", last["accuracy"]);
    let inside = |m: &&Value| m["in_support"] == true;
    let monomials = last["monomials"].as_array().unwrap();
    let mut sets: Vec<Value> = monomials.iter().filter(inside).map(|m| m["coordinates"].clone()).collect();
    sets.dedup();
    assert_eq!(sets.len(), 7, "{sets:?}");
    let all = |m: &Value| {
        m["coordinates"].as_array().unwrap().iter().all(|c| support.contains(&c.as_i64().unwrap()))
    };
    assert!(monomials.iter().filter(inside).all(all), "{support:?}: {sets:?}");
}
