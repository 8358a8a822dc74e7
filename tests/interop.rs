//! The Rust half of tests/interop.py, which runs it and says what for.

use curricle::cpu::{Transformer, TransformerOptions};
use curricle::files::{Metadata, transformer};
use curricle::model::transformer::{TokenBatch, TransformerConfig, TransformerParams};
use serde_json::{Value, json};
use std::path::Path;

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

/// Logits of every position for the case's tokens.
fn logits(params: &TransformerParams, case: &Value) -> Vec<f32> {
    let (tokens, mask) = (numbers(&case["tokens"]), numbers(&case["mask"]));
    let keys: Vec<u8> = mask.into_iter().map(|m| m as u8).collect();
    let length = case["length"].as_u64().unwrap() as usize;
    let batch = TokenBatch { keys: Some(&keys), ..TokenBatch::new(tokens.len() / length, length, &tokens) };
    let reads: Vec<u32> = (0..tokens.len() as u32).collect();
    Transformer::new(params, TransformerOptions::default()).unwrap().logits(&batch, &reads).unwrap()
}

#[test]
#[ignore = "run by tests/interop.py"]
fn folders_go_both_ways() {
    let home = std::env::var("CURRICLE_INTEROP").expect("the folder that tests/interop.py made");
    let home = Path::new(&home);
    let case: Value =
        serde_json::from_str(&std::fs::read_to_string(home.join("case.json")).unwrap()).unwrap();
    for folder in std::fs::read_dir(home.join("theirs")).unwrap() {
        let folder = folder.unwrap().path();
        let read = transformer::load(&folder).unwrap_or_else(|e| panic!("{e}"));
        std::fs::write(folder.join("logits.json"), json!(logits(&read.params, &case)).to_string()).unwrap();
        // Theirs, through our single file, written as ours.
        let file = home.join("step.safetensors");
        transformer::save(&file, &read.params, &Metadata::default()).unwrap();
        let name = format!("from-{}", folder.file_name().unwrap().to_string_lossy());
        transformer::save_folder(
            &home.join("ours").join(&name),
            &transformer::load(&file).unwrap().params,
            &Metadata::default(),
        )
        .unwrap();
    }
    let vocab = case["vocab"].as_u64().unwrap() as usize;
    let wide = |config| TransformerConfig { init_std: 0.2, ..config };
    let gpt2 = wide(TransformerConfig::gpt2(vocab, 20, 16, 2, 2));
    let bert = wide(TransformerConfig::bert(vocab, 20, 24, 2, 3));
    let untied = |c: &TransformerConfig| TransformerConfig { tied: false, ..c.clone() };
    let none = TransformerConfig { pad_token: None, ..bert.clone() };
    for (name, config) in [
        ("gpt2", gpt2.clone()),
        ("gpt2-untied", untied(&gpt2)),
        ("bert", bert.clone()),
        ("bert-untied", untied(&bert)),
        ("bert-no-pad", none),
    ] {
        let mut params = TransformerParams::new(config, 5).unwrap();
        // Away from zero and one.
        for slot in params.config.tensors().iter().filter(|s| s.shape.len() == 1) {
            for e in slot.range() {
                params.values[e] += 0.1 * (e as f32).sin();
            }
        }
        let folder = home.join("ours").join(name);
        transformer::save_folder(&folder, &params, &Metadata { step: Some(7), ..Metadata::default() })
            .unwrap();
        std::fs::write(folder.join("logits.json"), json!(logits(&params, &case)).to_string()).unwrap();
    }
}
