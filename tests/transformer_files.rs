//! Transformer checkpoints: single files, Hugging Face folders, and everything that can be wrong with them.

use curricle::files::tensors::{TensorFile, TensorRef, write_safetensors};
use curricle::files::{Metadata, transformer};
use curricle::model::transformer::{Dropout, TransformerConfig, TransformerParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn configs() -> Vec<TransformerConfig> {
    let gpt2 = TransformerConfig::gpt2(5, 9, 8, 2, 2);
    let bert = TransformerConfig { dropout: Dropout::NONE, ..TransformerConfig::bert(6, 7, 12, 1, 3) };
    let untied = |c: &TransformerConfig| TransformerConfig { tied: false, ..c.clone() };
    vec![untied(&gpt2), untied(&bert), gpt2, bert]
}

fn params(config: &TransformerConfig) -> TransformerParams {
    TransformerParams::new(config.clone(), 3).unwrap()
}

fn metadata() -> Metadata {
    Metadata { step: Some(40), seed: Some(2), arm: Some("teacher".into()), ..Metadata::default() }
}

/// All tensors of a file, to be changed and written again.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut file = TensorFile::open(path).unwrap();
    let read = (0..file.entries.len()).map(|i| file.read(i).unwrap()).collect::<Vec<_>>();
    read.into_iter().map(|t| (t.name, (t.shape, t.data))).collect()
}

fn write(path: &Path, tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) {
    let refs: Vec<TensorRef<'_>> = tensors
        .iter()
        .map(|(name, (shape, data))| TensorRef { name: name.clone(), shape: shape.clone(), data })
        .collect();
    write_safetensors(path, &refs, &BTreeMap::from([("format".into(), "pt".into())]), false).unwrap();
}

#[test]
fn files_and_folders_give_the_same_bits_back() {
    let home = tempfile::tempdir().unwrap();
    for config in configs() {
        let params = params(&config);
        let file = home.path().join("step-000000000040.safetensors");
        transformer::save(&file, &params, &metadata()).unwrap();
        let first = std::fs::read(&file).unwrap();
        let read = transformer::load(&file).unwrap();
        assert_eq!((&read.params, &read.metadata.step), (&params, &Some(40)));
        transformer::save(&file, &read.params, &read.metadata).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), first, "written again, the file is the same");
        assert!(transformer::is_transformer(&file));

        let folder = home.path().join(format!("{:?}-{}", config.family, config.tied));
        transformer::save_folder(&folder, &params, &metadata()).unwrap();
        assert!(transformer::is_transformer(&folder));
        let read = transformer::load(&folder).unwrap();
        assert_eq!((&read.params, read.metadata.arm.as_deref()), (&params, Some("teacher")));
        // The weights alone are enough if config.json is beside them.
        assert_eq!(transformer::load(&folder.join("model.safetensors")).unwrap().params, params);
        let names = tensors(&folder.join("model.safetensors"));
        assert_eq!(names.contains_key("cls.predictions.decoder.bias"), config.types > 0 && !config.tied);
    }
    assert!(!transformer::is_transformer(home.path()));
    let mlp = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/python.safetensors");
    assert!(!transformer::is_transformer(&mlp));
    assert!(transformer::load(&mlp).unwrap_err().to_string().contains("config.json"));
}

#[test]
fn names_of_other_versions_are_taken() {
    let home = tempfile::tempdir().unwrap();
    for config in configs() {
        let params = params(&config);
        transformer::save_folder(home.path(), &params, &Metadata::default()).unwrap();
        let path = home.path().join("model.safetensors");
        let original = tensors(&path);
        let change = |rename: &dyn Fn(&str) -> String, extra: &[(&str, Vec<usize>)]| {
            let mut changed: BTreeMap<_, _> =
                original.iter().map(|(name, t)| (rename(name), t.clone())).collect();
            for (name, shape) in extra {
                changed.insert((*name).into(), (shape.clone(), vec![1.0; shape.iter().product()]));
            }
            write(&path, &changed);
            transformer::load(home.path()).map(|read| read.params)
        };
        let short = |name: &str| name.replacen("transformer.", "", 1).replacen("bert.", "", 1);
        let long = |name: &str| format!("module._orig_mod.{name}");
        assert_eq!(change(&short, &[]).unwrap(), params);
        assert_eq!(change(&long, &[]).unwrap(), params);
        let buffers: &[(&str, Vec<usize>)] = if config.types == 0 {
            &[("transformer.h.0.attn.bias", vec![1, 1, 9, 9]), ("transformer.h.1.attn.masked_bias", vec![])]
        } else {
            &[
                ("bert.embeddings.position_ids", vec![1, 7]),
                ("bert.pooler.dense.weight", vec![12, 12]),
                ("cls.seq_relationship.bias", vec![2]),
            ]
        };
        assert_eq!(change(&str::to_string, buffers).unwrap(), params);
        // Old names of layer norms.
        let old = |name: &str| match name.strip_suffix(".weight") {
            Some(norm) if norm.contains("LayerNorm") => format!("{norm}.gamma"),
            _ => name.to_string(),
        };
        assert_eq!(change(&old, &[]).unwrap(), params);
        // The tied head, equal or not.
        if config.tied {
            let words = config.tensors()[0].name.clone();
            let head = if config.types == 0 { "lm_head.weight" } else { "cls.predictions.decoder.weight" };
            let mut with = original.clone();
            with.insert(head.into(), original[&words].clone());
            write(&path, &with);
            assert_eq!(transformer::load(home.path()).unwrap().params, params);
            with.get_mut(head).unwrap().1[3] += 1.0;
            write(&path, &with);
            let error = transformer::load(home.path()).unwrap_err().to_string();
            assert!(error.contains(head) && error.contains("tie_word_embeddings"), "{error}");
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let home = tempfile::tempdir().unwrap();
    let config = TransformerConfig::gpt2(5, 9, 8, 2, 2);
    transformer::save_folder(home.path(), &params(&config), &Metadata::default()).unwrap();
    let (path, json_path) = (home.path().join("model.safetensors"), home.path().join("config.json"));
    let original = tensors(&path);
    let error = || transformer::load(home.path()).unwrap_err().to_string();

    let mut changed = original.clone();
    changed.remove("transformer.ln_f.bias");
    changed.insert("transformer.h.0.adapter.weight".into(), (vec![1], vec![0.0]));
    write(&path, &changed);
    let text = error();
    for part in [
        "missing: \"transformer.ln_f.bias\" [8]",
        "unexpected: \"transformer.h.0.adapter.weight\" [1]",
        "config.json",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let mut changed = original.clone();
    changed.insert("wte.weight".into(), original["transformer.wte.weight"].clone());
    write(&path, &changed);
    assert!(error().contains("the same parameter as"), "{}", error());
    let mut changed = original.clone();
    changed.get_mut("transformer.wpe.weight").unwrap().1[2] = f32::NAN;
    write(&path, &changed);
    assert!(error().contains("transformer.wpe.weight"), "{}", error());
    write(&path, &original);

    let json: Value = serde_json::from_str(&std::fs::read_to_string(&json_path).unwrap()).unwrap();
    for (key, value, part) in [
        ("n_positions", json!(10), "shape [9, 8], expected [10, 8] by"),
        ("n_layer", json!(3), "missing"),
        ("n_layer", json!(1), "unexpected"),
        ("n_layer", json!(60000), "missing"),
        ("vocab_size", json!(1_000_000), "shape [5, 8]"),
        ("vocab_size", json!(u64::MAX), "too many parameters"),
        ("tie_word_embeddings", json!(false), "missing: \"lm_head.weight\""),
        ("n_head", json!(3), "3 heads do not divide hidden size 8"),
        ("model_type", json!("llama"), "\"gpt2\" or \"bert\""),
    ] {
        let mut changed = json.clone();
        changed[key] = value;
        std::fs::write(&json_path, changed.to_string()).unwrap();
        assert!(error().contains(part), "{key}: {}", error());
    }
    std::fs::write(&json_path, "{").unwrap();
    assert!(error().contains("not JSON"), "{}", error());
    std::fs::remove_file(&json_path).unwrap();
    assert!(error().contains("keep config.json beside"), "{}", error());
    std::fs::write(&json_path, json.to_string()).unwrap();
    std::fs::rename(&path, home.path().join("model.safetensors.index.json")).unwrap();
    assert!(error().contains("split over several files"), "{}", error());
    std::fs::remove_file(home.path().join("model.safetensors.index.json")).unwrap();
    assert!(error().contains("neither model.safetensors nor pytorch_model.bin"), "{}", error());
}

#[test]
fn a_state_comes_back_whole() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("resume.safetensors");
    let mut params = params(&TransformerConfig::bert(6, 7, 12, 1, 3));
    let moments = vec![f32::INFINITY; params.values.len()];
    let extra = [TensorRef { name: "optimizer.first".into(), shape: vec![moments.len()], data: &moments }];
    let state = json!({"step": 7, "samples": 224});
    transformer::save_state(&path, &params, &extra, &state).unwrap();
    let (read, tensors, back) = transformer::load_state(&path).unwrap();
    assert_eq!((&read, &back), (&params, &state));
    assert_eq!((&tensors[0].name[..], &tensors[0].data), ("optimizer.first", &moments));
    let before = std::fs::read(&path).unwrap();
    params.values[5] = f32::NAN;
    assert!(transformer::save_state(&path, &params, &[], &state).is_err());
    params.values.pop();
    assert!(transformer::save(&path, &params, &Metadata::default()).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before, "a refused state leaves the old one");
    let file = home.path().join("model.safetensors");
    params.values.push(0.0);
    params.values[5] = 0.0;
    transformer::save(&file, &params, &Metadata::default()).unwrap();
    assert!(transformer::load_state(&file).unwrap_err().to_string().contains("no resumable state"));
}
