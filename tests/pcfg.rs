//! `curricle pcfg`, run as a person would.

use serde_json::Value;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

fn curricle(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_curricle")).arg("pcfg").args(arguments).output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = curricle(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&[arguments, &["--json"]].concat())).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = curricle(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn texts(sample: &Value) -> Vec<String> {
    let sentences = sample["sentences"].as_array().unwrap();
    sentences.iter().map(|s| s["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn samples_are_reproducible_and_parse() {
    let arguments = ["sample", "--grammar", "cfg3b", "--start", "19", "--count", "30", "--seed", "8"];
    let sentences = texts(&json(&arguments));
    assert_eq!(sentences.len(), 30);
    assert!(sentences.iter().all(|s| s.bytes().all(|c| b"abc".contains(&c))));
    let lines = stdout(&arguments);
    assert_eq!(lines.lines().collect::<Vec<_>>(), sentences);
    // Any part of the stream is the same part.
    let part = ["sample", "--start", "19", "--count", "5", "--first", "25", "--seed", "8"];
    assert_eq!(texts(&json(&part)), sentences[25..]);
    assert_ne!(texts(&json(&[&part[..], &["--held-out"]].concat())), sentences[25..]);
    let mut parse = vec!["parse", "--grammar", "cfg3b", "--start", "19"];
    parse.extend(sentences.iter().map(String::as_str));
    let parsed = json(&parse);
    for (record, sentence) in parsed["sentences"].as_array().unwrap().iter().zip(&sentences) {
        assert_eq!(record["text"], *sentence);
        assert_eq!(record["derived"], true);
        assert_eq!(record["nodes"][0]["symbol"], "19");
        assert_eq!(record["nodes"][0]["end"].as_u64(), Some(sentence.len() as u64));
    }
}

#[test]
fn parse_reads_stdin_and_tells_what_is_not_derived() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
        .args(["pcfg", "parse", "--start", "9", "--brief"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"cba\n\nc b a\nabc\ncbaa\n").unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(
        lines[0].starts_with("derived      cba  ln p = 0.0000") || lines[0].contains("ln p = -0.0000"),
        "{text}"
    );
    assert_eq!(lines[1], lines[0]);
    assert_eq!(lines[2..], ["not derived  abc", "not derived  cbaa"]);
    assert!(refusal(&["parse", "abx"]).contains("'x' is not a terminal; they are a b c"));
}

#[test]
fn the_tree_belongs_to_the_sentence() {
    let arguments = ["--grammar", "cfg3f", "--start", "16", "--seed", "3"];
    let tree = json(&[&["tree", "--first", "4"], &arguments[..]].concat());
    let sample = json(&[&["sample", "--count", "5"], &arguments[..]].concat());
    assert_eq!(tree["text"], sample["sentences"][4]["text"]);
    assert_eq!(tree["height"], 4);
    let nodes = tree["nodes"].as_array().unwrap();
    assert_eq!(nodes[0]["parent"], Value::Null);
    assert!(nodes[1..].iter().all(|n| n["level"].as_u64() < Some(4) && n["parent"].is_u64()));
    let drawn = stdout(&[&["tree", "--first", "4"], &arguments[..]].concat());
    assert!(drawn.contains(tree["text"].as_str().unwrap()) && drawn.contains("└─ "), "{drawn}");
}

#[test]
fn statistics_agree_with_samples() {
    let stats = json(&["stats", "--grammar", "cfg3g", "--count", "4000", "--seed", "2"]);
    assert_eq!(stats["depth"], 6);
    assert!(stats["samples"]["length_z"].as_f64().unwrap().abs() < 4.0);
    assert!(stats["samples"]["p_value"].as_f64().unwrap() > 1e-4);
    let mean: f64 = stats["length"]["probabilities"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(n, p)| n as f64 * p.as_f64().unwrap())
        .sum();
    assert!((mean - stats["length"]["mean"].as_f64().unwrap()).abs() < 1e-6);
    assert!(
        stdout(&["stats", "--start", "15", "--count", "10"]).contains("entropy of a derivation: 10.00 bits")
    );
}

#[test]
fn the_optimum_is_ordered_as_theory_says() {
    let bayes = json(&["bayes", "--start", "15", "--count", "300", "--windows", "2", "--threads", "1"]);
    let value = |path: &str| bayes.pointer(path).and_then(Value::as_f64).unwrap();
    let all = value("/optimum/without_own/cross_entropy");
    assert!(value("/optimum/with_own/cross_entropy") < all);
    assert!(all < value("/windows/1/cross_entropy"));
    assert!(value("/windows/1/cross_entropy") < value("/windows/0/cross_entropy"));
    assert_eq!(bayes["windows"][0]["source"], "exact");
    // The same bits with other threads.
    let again = json(&["bayes", "--start", "15", "--count", "300", "--windows", "2", "--threads", "3"]);
    assert_eq!(bayes, again);
}

#[test]
fn grammar_files_are_read_and_mistakes_shown_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.grammar");
    let file = path.to_str().unwrap();
    std::fs::write(&path, "S -> N sees N\nN -> cat [0.25] | dog [0.75]\n").unwrap();
    let sentences = texts(&json(&["sample", "--grammar", file, "--count", "3"]));
    assert!(sentences.iter().all(|s| s.split(' ').count() == 3 && s.contains(" sees ")), "{sentences:?}");
    std::fs::write(&path, "S -> N sees N\nN -> cat [0.25] | dog [0.7]\n").unwrap();
    let error = refusal(&["sample", "--grammar", file]);
    assert!(
        error.contains("pets.grammar: line 2: the probabilities of the rules of 'N' sum to 0.95"),
        "{error}"
    );
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(refusal(&["stats", "--grammar", file]).contains("cannot read"));
    assert!(refusal(&["stats", "--grammar", "cfg9"]).contains("there are cfg3b"));
    assert!(refusal(&["tree", "--start", "x"]).contains("--start: the start symbol 'x' has no rules"));
    assert!(refusal(&["bayes", "--fraction", "0"]).contains("--fraction"));
    assert!(refusal(&["stats", "--count", "0"]).contains("--count 0"));
    for command in ["stats", "sample", "bayes"] {
        assert!(refusal(&[command, "--count", "18446744073709551615"]).contains("100000000"));
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_curricle"))
        .args(["pcfg", "sample", "--count", "100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = [0; 100];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
