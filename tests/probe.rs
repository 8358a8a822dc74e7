//! `curricle probe` on a model that Python made (goldens/make_ngram.py).

use curricle::files::{Metadata, transformer};
use curricle::lab::run::folder::RunFolder;
use curricle::model::TransformerState;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/bert_cfg3b")
}

fn curricle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_curricle")).arg("probe").args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = curricle(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = curricle(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn ngram_measures_equal_those_of_python() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.csv");
    let model = golden();
    let arguments = ["ngram", model.to_str().unwrap(), "--start", "15", "--sentences", "6", "--seed", "8"];
    let more = ["--positions", "1,6,12,18,21", "--csv", file.to_str().unwrap()];
    let found = json(&[&arguments[..], &more[..]].concat());
    let expected: Value =
        serde_json::from_slice(&std::fs::read(model.join("expected.json")).unwrap()).unwrap();
    let expected = expected["rows"].as_array().unwrap();
    let table = std::fs::read_to_string(&file).unwrap();
    let mut rows = table.lines().skip(1).map(|line| {
        let cells: Vec<f64> = line.rsplit(',').take(5).map(|c| c.parse().unwrap()).collect();
        ([cells[4], cells[3], cells[2]].map(|c| c as u64), [cells[1], cells[0]])
    });
    let mut sums: BTreeMap<u64, [f64; 2]> = BTreeMap::new();
    for want in expected {
        let (place, values) = rows.next().unwrap();
        assert_eq!(place, ["sentence", "position", "n"].map(|k| want[k].as_u64().unwrap()));
        for (key, value, sum) in [("robust", values[0], 0), ("close", values[1], 1)] {
            let exact = want[key].as_f64().unwrap();
            assert!((exact - value).abs() < 1e-4, "{want} {value}");
            sums.entry(place[2]).or_default()[sum] += exact;
        }
    }
    assert!(rows.next().is_none());
    // The summaries are those of the rows.
    let ngrams = found["checkpoints"][0]["ngrams"].as_array().unwrap();
    assert_eq!(ngrams.len(), sums.len());
    for (ngram, (n, sums)) in ngrams.iter().zip(sums) {
        assert_eq!(ngram["n"], n);
        for (key, sum) in [("robust", sums[0]), ("close", sums[1])] {
            let mean = sum / (expected.len() / 4) as f64;
            let l1 = ngram[key]["l1"]["mean"].as_f64().unwrap();
            assert!((l1 - mean).abs() < 1e-4);
            assert!((ngram[key]["total_variation"]["mean"].as_f64().unwrap() - l1 / 2.0).abs() < 1e-12);
        }
    }
    assert_eq!(found["reference"]["ngrams"].as_array().unwrap().len(), 4);
}

#[test]
fn a_run_folder_brings_its_grammar_and_steps() {
    let root = tempfile::tempdir().unwrap();
    let state = TransformerState::new(transformer::load(&golden()).unwrap().params);
    let run = RunFolder::create_or_open(root.path(), "e", "teacher", 0).unwrap();
    run.write_spec("[task]\nkind = \"pcfg\"\ngrammar = \"cfg3b\"\nstart = \"15\"\n").unwrap();
    for step in [100, 200] {
        run.save_checkpoint(step, &state, &Metadata::default()).unwrap();
    }
    let folder = run.path().to_path_buf();
    drop(run);
    let few = ["--sentences", "2", "--every", "10", "--sizes", "3"];
    let found = json(&[&["ngram", folder.to_str().unwrap()], &few[..]].concat());
    assert_eq!((&found["grammar"], &found["start"]), (&Value::from("cfg3b"), &Value::from("15")));
    let checkpoints = found["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints.iter().map(|c| c["step"].as_u64().unwrap()).collect::<Vec<_>>(), [100, 200]);
    assert_eq!(checkpoints[0]["ngrams"], checkpoints[1]["ngrams"]);
    let file = folder.join("checkpoints/step-000000000200.safetensors");
    let single = json(&[&["ngram", file.to_str().unwrap(), "--no-reference"], &few[..]].concat());
    assert_eq!(single["start"], "15");
    assert_eq!(single["reference"], Value::Null);
    assert_eq!(single["checkpoints"][0]["ngrams"], checkpoints[0]["ngrams"]);
}

#[test]
fn nonterminals_are_probed_layer_by_layer() {
    let model = golden();
    let arguments =
        ["nonterminal", model.to_str().unwrap(), "--start", "15", "--train", "200", "--test", "50"];
    let ridge = json(&[&arguments[..], &["--probe", "ridge", "--layers", "0,2"]].concat());
    let layers: Vec<u64> =
        ridge["checkpoints"].as_array().unwrap().iter().map(|c| c["layer"].as_u64().unwrap()).collect();
    assert_eq!(layers, [0, 2]);
    let attention = json(&[&arguments[..], &["--batch", "16", "--epochs", "2", "--width", "8"]].concat());
    let levels = attention["checkpoints"][0]["levels"].as_array().unwrap();
    assert_eq!(levels.iter().map(|l| l["level"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    for level in levels.iter().chain(ridge["checkpoints"][1]["levels"].as_array().unwrap()) {
        // Tokens and places tell something about level 1 in any network; probabilities are not below chance.
        let (accuracy, majority) = (level["accuracy"].as_f64().unwrap(), level["majority"].as_f64().unwrap());
        assert!(accuracy > majority - 0.05 && accuracy <= 1.0, "{level}");
    }
}

#[test]
fn unsuitable_requests_are_refused() {
    let model = golden();
    let model = model.to_str().unwrap();
    assert!(refusal(&["ngram", model, "--sentences", "3"]).contains("but the model has 28"));
    assert!(refusal(&["ngram", model, "--start", "15", "--sizes", "1"]).contains("n = 1 is out of range"));
    assert!(refusal(&["ngram", model, "--start", "15", "--positions", "90"]).contains("longest sentence"));
    assert!(refusal(&["ngram", "--no-reference"]).contains("at least one checkpoint"));
    assert!(refusal(&["ngram", "/nonexistent", "--start", "15"]).contains("no such file"));
    assert!(
        refusal(&["nonterminal", model, "--start", "15", "--layers", "3"]).contains("layer 3 does not exist")
    );
    assert!(
        refusal(&["nonterminal", model, "--start", "15", "--train", "0"]).contains("sentences to train on")
    );
    for (option, value) in [
        ("--train", "18446744073709551615"),
        ("--test", "18446744073709551615"),
        ("--width", "10000000000000"),
        ("--epochs", "0"),
        ("--batch", "0"),
    ] {
        let refused = refusal(&["nonterminal", model, "--start", "15", option, value]);
        assert!(refused.contains(value) && refused.contains(option), "{refused}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(
        refusal(&["ngram", empty.path().to_str().unwrap(), "--start", "15"]).contains("model.safetensors")
    );
}
