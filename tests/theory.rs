//! `curricle theory` as a user runs it: JSON shapes, exit codes, resuming.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn theory(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_curricle")).arg("theory").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(arguments: &[&str]) -> Value {
    let output = theory(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// (level, zeta), as THEORY.md prints them for d = 101, to six digits.
const PRINTED: [(usize, f64); 4] = [(1, 0.0795892), (3, -8.03932e-4), (5, 2.48639e-5), (7, -1.30862e-6)];

#[test]
fn threshold_prints_the_documented_object() {
    let table = json(&["threshold", "--d", "101", "--bias", "0", "--levels", "0..7", "--json"]);
    assert_eq!(table.as_object().unwrap().keys().collect::<Vec<_>>(), ["d", "bias", "levels"]);
    assert_eq!((&table["d"], &table["bias"]), (&101.into(), &0.0.into()));
    let levels = table["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 8);
    for (s, level) in levels.iter().enumerate() {
        assert_eq!(
            level.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["level", "coefficient", "majority"]
        );
        assert_eq!(level["level"], s);
    }
    assert_eq!(levels[0]["coefficient"], 0.5);
    for (s, printed) in PRINTED {
        let zeta = levels[s]["majority"].as_f64().unwrap();
        assert!((zeta / printed - 1.0).abs() < 1e-5, "level {s}: {zeta}");
        assert_eq!(levels[s]["coefficient"].as_f64().unwrap(), zeta / 2.0);
    }
    for s in [2, 4, 6] {
        assert_eq!((&levels[s]["coefficient"], &levels[s]["majority"]), (&0.0.into(), &0.0.into()));
    }
    // Independently, to 1e-12: zeta_1 is a product of 50 factors, the others follow by exact ratios.
    let mut expected = (1..=50).map(|i| f64::from(2 * i - 1) / f64::from(2 * i)).product::<f64>();
    for s in [1usize, 3, 5, 7] {
        let zeta = levels[s]["majority"].as_f64().unwrap();
        assert!((zeta / expected - 1.0).abs() < 1e-12, "level {s}: {zeta} against {expected}");
        expected *= -(s as f64) / (101 - s - 1) as f64;
    }
    let even = json(&["threshold", "--d", "100", "--levels", "1,3", "--bias", "-0.5", "--json"]);
    let levels: Vec<&Value> = even["levels"].as_array().unwrap().iter().collect();
    assert_eq!((levels.len(), &levels[1]["level"], &levels[0]["majority"]), (2, &3.into(), &Value::Null));
    let exact = json(&["threshold", "--d", "5", "--levels", "1,3", "--exact", "--json"]);
    assert_eq!(
        (&exact["levels"][0]["exact"], &exact["levels"][1]["exact"]),
        (&"3/2^4".into(), &"-1/2^4".into())
    );
    let people = theory(&["threshold", "--d", "5"]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("majority"));
}

#[test]
fn bounds_give_their_ingredients() {
    let answer = json(&[
        "bounds",
        "--d",
        "41",
        "--k",
        "4",
        "--width",
        "64",
        "--delta",
        "0.1",
        "--epsilon",
        "0.2",
        "--json",
    ]);
    let bound = |name: &str| {
        let found = answer["bounds"].as_array().unwrap().iter().find(|b| b["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}: {answer}")).clone()
    };
    let labels = bound("labels_first_phase");
    assert_eq!(labels["kind"], "upper");
    // The formula of THEORY.md, section 3, from its own ingredients.
    let of = |name: &str| labels["ingredients"][name].as_f64().unwrap();
    let (p, gap) = (of("p"), of("Delta"));
    let expected = 2.0 * (p + gap / 6.0) * (2.0 * 41.0 * 64.0 / 0.1f64).ln() / (gap / 2.0).powi(2);
    assert!((labels["samples"].as_f64().unwrap() / expected - 1.0).abs() < 1e-9);
    for name in [
        "phase_one_typical",
        "second_phase_pruned",
        "headline_progressive",
        "headline_one_shot",
        "information_labels",
        "information_teacher",
        "statistical_query",
        "predicted_labels_first_phase",
    ] {
        let found = bound(name);
        assert!(found["samples"].as_f64().unwrap() >= 0.0 && found["ingredients"].is_object(), "{found}");
    }
    assert_eq!(bound("phase_one_teachers_pruned")["kind"], "upper");
    assert_eq!(bound("phase_one_typical")["kind"], "heuristic");
    assert_eq!(bound("second_phase_pruned")["kind"], "one_draw");
    assert_eq!(bound("one_step_labels")["kind"], "lower");
    // 48% of the raw teachers fail at any batch, more than delta.
    assert_eq!(answer["teachers"]["enough"], false);
    assert!(answer["unavailable"].as_array().unwrap().iter().any(|u| u["name"] == "phase_one_teachers"));
    // k odd: the explicit crossover runs over odd d only.
    let odd = json(&["bounds", "--d", "40", "--k", "3", "--json"]);
    assert_eq!((&odd["crossover"]["headline"], &odd["crossover"]["explicit"]), (&Value::Null, &Value::Null));
}

#[test]
fn bad_input_is_refused_with_the_limit_and_the_alternative() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = text(&folder.path().join("none.safetensors"));
    let golden = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/python.safetensors"));
    let cases: &[(&[&str], &[&str])] = &[
        (&["threshold", "--d", "0"], &["1..=100001"]),
        (&["threshold", "--d", "200000", "--levels", "1"], &["1..=100001", "closed form"]),
        (&["threshold", "--d", "5", "--levels", "0..7"], &["level 7", "d = 5"]),
        (&["threshold", "--d", "5", "--bias", "nan"], &["bias", "finite"]),
        (&["threshold", "--d", "5", "--levels", "7..1"], &["counts down"]),
        (&["bounds", "--d", "10", "--k", "11"], &["k = 11", "1 <= k < d"]),
        (&["bounds", "--d", "41", "--support", "1,1"], &["coordinate 1", "repeated"]),
        (&["bounds", "--d", "41", "--support", "99,100,101,102"], &["coordinate 99", "41"]),
        (&["bounds", "--ds", "15..9", "--k", "4"], &["counts down"]),
        (
            &["measure", "--d", "41", "--k", "4", "--support", "0,1", "--source", "labels"],
            &["--k 4", "2 coordinates"],
        ),
        (&["measure", "--d", "21", "--k", "4", "--source", "phase-one"], &["% of these teachers", "--grow"]),
        (
            &["measure", "--d", "11", "--k", "2", "--source", "labels", "--trials", "5", "--delta", "0.01"],
            &["at least 1/delta = 100"],
        ),
        (&["total", "--repair", "cut"], &["prune, centred, biased:P, pool:N"]),
        (&["total", "--epsilons", "2"], &["(0, 1)"]),
        (&["bounds", "--d", "11", "--k", "4", "--bias", "1"], &["(-1, 1)"]),
        (&["bounds", "--d", "11", "--k", "4", "--delta", "1"], &["--delta 1", "(0, 1)"]),
        (&["bounds", "--d", "11", "--k", "4", "--epsilon", "0"], &["--epsilon 0", "(0, 1)"]),
        (&["bounds", "--d", "11", "--k", "4", "--delta", "NaN"], &["(0, 1)"]),
        (&["bounds", "--d", "11", "--k", "4", "--width", "0"], &["width"]),
        (&["bounds", "--d", "11", "--k", "4", "--teacher-width", "5"], &["even number"]),
        (&["bounds", "--d", "1000000", "--k", "4"], &["1..=100001"]),
        (&["bounds", "--k", "4"], &["--d and --k"]),
        (&["bounds", "--checkpoint", &nothing, "--k", "2"], &["no such file"]),
        (&["bounds", "--checkpoint", &golden, "--d", "7777", "--support", "0,1"], &["d = ", "--d 7777"]),
        (&["bounds", "--checkpoint", &golden], &["--support"]),
        (&["measure", "--d", "11", "--k", "3", "--source", "labels"], &["even k or an even d"]),
        (&["measure", "--d", "11", "--k", "12", "--source", "labels"], &["1 <= k <= d"]),
        (&["measure", "--d", "5000", "--k", "2", "--source", "labels"], &["4096", "bounds"]),
        (&["measure", "--d", "11", "--k", "2", "--source", "label"], &["labels, phase-one, final"]),
        (&["measure", "--d", "11", "--k", "2", "--source", "labels", "--delta", "0"], &["--delta 0"]),
        (&["measure", "--d", "11", "--k", "2", "--source", "labels", "--trials", "0"], &["trials"]),
        (&["measure", "--d", "11", "--k", "2", "--source", "labels", "--resume"], &["--out"]),
        (
            &["measure", "--d", "11", "--k", "2", "--source", "labels", "--criterion", "neurons:2"],
            &["(0, 1]"],
        ),
        (&["rank", &nothing], &["not a folder"]),
        (&["compare", "--ks", "3", "--ds", "15,21", "--no-sgd"], &["even"]),
        (&["compare", "--delta", "2"], &["--delta 2"]),
        (&["compare", "--sgd-ds", "2"], &["k = 3"]),
        (&["threshold", "--d", "5", "--device", "gpu"], &["cpu"]),
        (&["bounds", "--d", "11", "--k", "4", "--threads", "0"], &["at least one thread"]),
    ];
    for (arguments, said) in cases {
        let output = theory(arguments);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty() && !error.contains("panicked"), "{arguments:?}: {error}");
        for word in *said {
            assert!(error.contains(word), "{arguments:?}: '{word}' is missing in: {error}");
        }
    }
}

fn without_time(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("wall_seconds").unwrap();
    answer
}

#[test]
fn a_killed_measurement_resumes_to_the_same_answer() {
    let folder = tempfile::tempdir().unwrap();
    let fixed = |out: &Path| {
        let words = "measure --d 31 --k 4 --source labels --trials 12 --delta 0.2 --seeds 1,2 --resolution 1.3 --threads 2 --json --out";
        let mut words: Vec<String> =
            ["theory".to_owned()].into_iter().chain(words.split(' ').map(str::to_owned)).collect();
        words.push(text(out));
        words
    };
    let whole = folder.path().join("whole.json");
    let run =
        |arguments: &[String]| Command::new(env!("CARGO_BIN_EXE_curricle")).args(arguments).output().unwrap();
    let output = run(&fixed(&whole));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer, serde_json::from_str::<Value>(&std::fs::read_to_string(&whole).unwrap()).unwrap());
    let found = &answer["seeds"][1]["smallest"];
    let (batch, not) = (found["batch"].as_u64().unwrap(), found["not_enough"].as_u64().unwrap());
    assert!(
        batch > not && (batch as f64) < 1.31 * not as f64 && (1e5..1e8).contains(&(batch as f64)),
        "{found}"
    );
    // Interrupted (which saves) and killed (which does not ask), then to the end.
    let cut = folder.path().join("cut.json");
    let mut saved = false;
    for (delay, signal) in [(250, "-INT"), (300, "-KILL"), (400, "-INT")] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
            .args(fixed(&cut))
            .arg("--resume")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        saved |= signal == "-INT" && status.code() == Some(1);
    }
    assert!(saved, "no measurement was interrupted in the middle");
    assert!(PathBuf::from(text(&cut) + ".state").exists());
    let refused = run(&fixed(&cut));
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("--resume"));
    let mut resume = fixed(&cut);
    resume.push("--resume".into());
    let output = run(&resume);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let resumed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(without_time(resumed), without_time(answer));
    // Trials of other settings are not mixed in.
    let mut other = resume.clone();
    other.extend(["--neurons".into(), "8".into()]);
    let output = run(&other);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("other settings"), "{}", stderr(&output));
}

#[test]
fn sources_and_criteria_of_measure() {
    let sizes = [
        "--d",
        "15",
        "--k",
        "2",
        "--trials",
        "4",
        "--delta",
        "0.4",
        "--start",
        "256",
        "--resolution",
        "4",
        "--json",
    ];
    let measure = |more: &[&str]| json(&[&["measure"], &sizes[..], more].concat());
    for more in [
        &["--source", "phase-one", "--criterion", "vote", "--max-batch", "4096"][..],
        &["--source", "pool:2", "--criterion", "pooled", "--max-batch", "4096"],
        &["--source", "final", "--second-samples", "4000", "--max-batch", "4096"],
        &["--source", "labels", "--criterion", "loss", "--second-samples", "20000", "--epsilon", "0.4"],
    ] {
        let answer = measure(more);
        assert!(answer["seeds"][0]["smallest"]["tried"].is_array(), "{more:?}: {answer}");
    }
    let grown = measure(&["--source", "phase-one", "--grow", "--max-batch", "5000"]);
    let grown = &grown["seeds"][0]["grown"];
    assert_eq!(grown["batches"].as_array().unwrap().len(), 4);
    assert!(grown["failure_interval"]["low"].is_number());
}

#[test]
fn bounds_sweep_lists_and_no_missing_line_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let (csv, plot) = (text(&folder.path().join("b.csv")), text(&folder.path().join("b")));
    let answer = json(&[
        "bounds", "--ds", "11..15:2", "--ks", "3,4", "--widths", "64,5000", "--draws", "1", "--csv", &csv,
        "--plot", &plot, "--latex", "--json",
    ]);
    let tables = answer["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 12);
    for t in tables {
        let lines = t["bounds"].as_array().unwrap().len() + t["unavailable"].as_array().unwrap().len();
        assert_eq!(lines, 13, "{t}");
        assert!(t["bounds"].as_array().unwrap().iter().all(|b| b["latex"].is_string()));
    }
    // Odd k with odd d: the labels' lines say why; the others are there.
    let odd = tables.iter().find(|t| t["k"] == 3).unwrap();
    let missing = odd["unavailable"].as_array().unwrap().iter().find(|u| u["name"] == "labels_first_phase");
    assert!(missing.unwrap()["reason"].as_str().unwrap().contains("even k or an even d"));
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 1 + 12 * 13);
    assert!(folder.path().join("b.svg").is_file() && folder.path().join("b.png").is_file());
    let underflow = json(&["bounds", "--d", "10001", "--k", "402", "--draws", "1", "--json"]);
    let reasons = underflow["unavailable"].to_string();
    assert!(reasons.contains("below the smallest") && !reasons.contains("even levels"), "{reasons}");
}

#[test]
fn totals_are_measured_end_to_end_and_resume() {
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("total"));
    let arguments = [
        "total",
        "--quick",
        "--ds",
        "15,11,21",
        "--ks",
        "2",
        "--epsilons",
        "0.3",
        "--width-factors",
        "16",
        "--trials",
        "3",
        "--max-teacher-batch",
        "4096",
        "--confirm",
        "3",
        "--out",
        &out,
        "--json",
    ];
    let answer = json(&arguments);
    let points = answer["points"].as_array().unwrap();
    assert_eq!(points.len(), 9);
    let labels = points.iter().find(|p| p["point"]["arm"] == "labels").unwrap();
    assert!(labels["student"]["median"].as_f64().unwrap() > 100.0, "{labels}");
    assert!(
        answer["exponents"].as_array().unwrap().iter().any(|e| e["variable"] == "d" && e["arm"] == "labels")
    );
    for file in ["total.json", "total.csv", "total-d.svg"] {
        assert!(folder.path().join("total").join(file).is_file(), "{file}");
    }
    assert_eq!(theory(&arguments).status.code(), Some(2), "finished trials are not overwritten");
    let resumed = json(&[&arguments[..], &["--resume"]].concat());
    assert_eq!(resumed["points"], answer["points"]);
}

/// A teacher of a fraction of a second.
const SPEC: &str = r#"
experiment = "tiny"
scale = "test"
seeds = [3]
task = { kind = "parity", d = 12, k = 2 }
evaluation = { samples = 500, every_samples = 320, levels = [0.99] }

[teacher]
hidden = [64]
batch = 16
learning_rate = 0.3
steps = 1000
checkpoints = { every_steps = 100 }
"#;

#[test]
fn checkpoints_of_a_run_are_ranked_measured_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("tiny.toml");
    std::fs::write(&spec, SPEC).unwrap();
    let runs = text(&folder.path().join("runs"));
    let trained = Command::new(env!("CARGO_BIN_EXE_curricle"))
        .args(["run", &text(&spec), "--out", &runs])
        .output()
        .unwrap();
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    let run = text(&folder.path().join("runs/tiny/teacher/seed-3"));
    let out = text(&folder.path().join("rank"));
    let quick = ["--samples", "20000", "--neurons", "16", "--trials", "3", "--max-batch", "20000"];
    let answer =
        json(&[&["rank", &run, "--measure", "--union", "2", "--out", &out, "--json"], &quick[..]].concat());
    let ranking = answer["ranking"].as_array().unwrap();
    assert_eq!((ranking.len(), &answer["d"], &answer["k"]), (10, &12.into(), &2.into()));
    let predicted: Vec<f64> =
        ranking.iter().map(|r| r["predicted"].as_f64().unwrap_or(f64::INFINITY)).collect();
    assert!(predicted[0].is_finite() && predicted.windows(2).all(|w| w[0] <= w[1]), "{predicted:?}");
    assert_eq!(ranking[0]["rank"], 1);
    for r in ranking.iter().filter(|r| r["predicted"].is_number()) {
        assert!(r["bound"].as_f64().unwrap() > r["predicted"].as_f64().unwrap(), "{r}");
        assert!(
            r["accuracy"].is_number() && r["samples"].is_number() && r["measured"]["verdict"].is_string(),
            "{r}"
        );
    }
    assert!(answer["factor"]["within"].as_u64().unwrap() > 0, "{}", answer["factor"]);
    assert_eq!(answer["unions"].as_array().unwrap().len(), 5);
    for file in ["rank.json", "rank.svg", "rank.png", "rank-scatter.svg"] {
        assert!(folder.path().join("rank").join(file).is_file(), "{file}");
    }
    let missing = theory(&["rank", &run, "--steps", "150"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("it has 100, 200"), "{}", stderr(&missing));
    // The same checkpoint alone, its support known from the run.
    let file = format!("{run}/checkpoints/step-000000000300.safetensors");
    let bounds = json(&["bounds", "--checkpoint", &file, "--samples", "20000", "--json"]);
    assert_eq!((&bounds["d"], &bounds["checkpoints"][0]["step"]), (&12.into(), &300.into()));
    let centred =
        json(&[&["rank", &run, "--steps", "300,500", "--margin", "odd", "--json"], &quick[..4]].concat());
    assert_eq!(centred["ranking"].as_array().unwrap().len(), 2);
    let wrong = theory(&["measure", "--source", &file, "--d", "13"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
    let measured = json(&[
        "measure",
        "--source",
        &file,
        "--trials",
        "3",
        "--delta",
        "0.4",
        "--resolution",
        "4",
        "--max-batch",
        "65536",
        "--json",
    ]);
    assert_eq!(measured["support"].as_array().unwrap().len(), 2);
}

#[test]
fn compare_writes_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = text(&folder.path().join("compare"));
    let arguments = [
        "compare",
        "--quick",
        "--ks",
        "2",
        "--ds",
        "9,13,21",
        "--sgd-ks",
        "2",
        "--sgd-ds",
        "8,10",
        "--sgd-steps",
        "1500",
        "--out",
        &out,
        "--json",
    ];
    let answer = json(&arguments);
    let comparison = &answer["comparison"];
    let lines = comparison["lines"].as_array().unwrap();
    for name in [
        "measured_labels",
        "measured_phase_one",
        "bound_labels",
        "information_labels",
        "statistical_query",
        "headline_one_shot",
    ] {
        assert!(lines.iter().any(|l| l["name"] == name), "{name}");
    }
    assert_eq!(comparison["verdicts"].as_array().unwrap().len(), 9);
    let sgd = answer["sgd"]["lines"].as_array().unwrap();
    assert_eq!(
        sgd.iter().map(|l| l["arm"].as_str().unwrap()).collect::<Vec<_>>(),
        ["teacher", "ce", "one-shot", "progressive", "two"]
    );
    assert!(sgd[0]["points"][1]["median"].is_number(), "{}", sgd[0]);
    assert_eq!(answer["claims"].as_array().unwrap().len(), 3);
    let folder = folder.path().join("compare");
    for file in [
        "compare.json",
        "report.html",
        "data.json",
        "figures/samples-against-d-k-2.svg",
        "figures/ordinary-sgd-k-2.png",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let again = theory(&arguments);
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
    let resumed = json(&[&arguments[..], &["--resume"]].concat());
    assert_eq!(resumed["comparison"], answer["comparison"]);
    assert_eq!(resumed["sgd"], answer["sgd"]);
}
