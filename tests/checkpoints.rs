//! Checkpoint files: round trips, PyTorch's files, damage of every kind.

use curricle::files::tensors::{TensorRef, write_safetensors};
use curricle::files::{self, CheckpointError, Format, Metadata};
use curricle::model::mlp::{MlpInit, MlpParams, MlpShape};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

fn params(d: usize, hidden: &[usize], classes: usize) -> MlpParams {
    MlpParams::new(&MlpShape { d, hidden: hidden.to_vec(), classes }, MlpInit::Pytorch, 3)
}

/// Every parameter's bits.
fn bits(params: &MlpParams) -> Vec<u32> {
    params.layers.iter().flat_map(|l| l.weight.iter().chain(&l.bias)).map(|v| v.to_bits()).collect()
}

/// Names and shapes.
type Named<'a> = &'a [(&'a str, &'a [usize])];

/// Writes named tensors of zeros.
fn zeros(path: &Path, tensors: Named<'_>) {
    let data = vec![0.0; 10_000];
    let tensors: Vec<TensorRef<'_>> = tensors
        .iter()
        .map(|(name, shape)| TensorRef {
            name: name.to_string(),
            shape: shape.to_vec(),
            data: &data[..shape.iter().product()],
        })
        .collect();
    write_safetensors(path, &tensors, &BTreeMap::new(), true).unwrap();
}

/// A raw safetensors file.
fn raw(path: &Path, length: u64, header: &str, data: usize) {
    let bytes = [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat();
    fs::write(path, bytes).unwrap();
}

/// The error's message, which must name the file and hold every part.
fn refused(path: &Path, parts: &[&str]) -> CheckpointError {
    let error = files::load(path).expect_err(&format!("{} was accepted", path.display()));
    let message = error.to_string();
    for part in parts.iter().chain([&path.to_str().unwrap()]) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    error
}

#[test]
fn saved_and_loaded_is_the_same_and_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut model = params(9, &[7, 5], 3);
    model.layers[0].weight[[0, 0]] = -0.0;
    model.layers[1].bias[2] = f32::from_bits(1);
    model.layers[2].weight[[1, 1]] = f32::MAX;
    let metadata = Metadata {
        step: Some(123),
        experiment: Some("parity \"mlp\"".into()),
        arm: Some("ce".into()),
        seed: Some(u64::MAX),
        other: [("curricle.task".to_string(), "k=4\nd=9 é".to_string())].into(),
    };
    files::save(&path, &model, &metadata).unwrap();
    let first = fs::read(&path).unwrap();
    let loaded = files::load(&path).unwrap();
    assert_eq!(bits(&loaded.params), bits(&model));
    assert_eq!(loaded.format, Format::Safetensors);
    assert_eq!(loaded.metadata.other["curricle.version"], env!("CARGO_PKG_VERSION"));
    files::save(&path, &loaded.params, &loaded.metadata).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first, "saving again changed the file");
    let mut loaded = loaded.metadata;
    loaded.other.remove("curricle.version");
    assert_eq!(loaded, metadata);
    // The contract with other programs.
    let file = safetensors::SafeTensors::deserialize(&first).unwrap();
    assert_eq!(file.tensor("0.weight").unwrap().shape(), [7, 9]);
    assert_eq!(file.tensor("4.bias").unwrap().shape(), [3]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&first).unwrap();
    let header = header.metadata().clone().unwrap();
    assert_eq!((header["format"].as_str(), header["curricle.step"].as_str()), ("pt", "123"));
    assert_eq!((header["curricle.hidden"].as_str(), header["curricle.d"].as_str()), ("7,5", "9"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_transposed_array_is_saved_in_the_right_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let mut model = params(4, &[3], 2);
    let values = model.layers[0].weight.clone();
    let column_major = values.t().as_standard_layout().into_owned().reversed_axes();
    assert!(!column_major.is_standard_layout());
    model.layers[0].weight = column_major;
    files::save(&path, &model, &Metadata::default()).unwrap();
    assert_eq!(files::load(&path).unwrap().params.layers[0].weight, values);
}

fn matrix(value: &Value) -> Vec<Vec<f32>> {
    let rows = value.as_array().unwrap();
    let number = |v: &Value| v.as_f64().unwrap() as f32;
    rows.iter()
        .map(|row| row.as_array().map_or_else(|| vec![number(row)], |r| r.iter().map(number).collect()))
        .collect()
}

#[test]
fn pytorch_files_give_pytorchs_numbers() {
    let text = fs::read_to_string(golden("checkpoints.json")).unwrap();
    let goldens: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(goldens["version"], 1, "rebuild: {}", goldens["rebuild"]);
    let files = goldens["files"].as_object().unwrap();
    assert!(files.len() >= 12);
    for (name, variant) in files {
        let loaded = files::load(&golden(name)).unwrap_or_else(|e| panic!("{e}"));
        let expected = &goldens["variants"][variant.as_str().unwrap()];
        for (l, layer) in loaded.params.layers.iter().enumerate() {
            let weight = matrix(&expected["parameters"][format!("{}.weight", 2 * l)]).concat();
            let bias = matrix(&expected["parameters"][format!("{}.bias", 2 * l)]).concat();
            assert_eq!(layer.weight.iter().copied().collect::<Vec<_>>(), weight, "{name}");
            assert_eq!(layer.bias.to_vec(), bias, "{name}");
        }
        let inputs = matrix(&goldens["inputs"]);
        for (x, logits) in inputs.iter().zip(matrix(&expected["logits"])) {
            let mut h = x.clone();
            for (l, layer) in loaded.params.layers.iter().enumerate() {
                let mut next = Vec::new();
                for (row, bias) in layer.weight.rows().into_iter().zip(&layer.bias) {
                    let z = row.iter().zip(&h).map(|(w, x)| w * x).sum::<f32>() + bias;
                    next.push(if l + 1 < loaded.params.layers.len() { z.max(0.0) } else { z });
                }
                h = next;
            }
            for (ours, theirs) in h.iter().zip(logits) {
                assert!((ours - theirs).abs() < 1e-6, "{name}: {ours} {theirs}");
            }
        }
        let notes = loaded.metadata.other.get("curricle.notes");
        assert_eq!(notes.is_some_and(|n| n.contains("no bias")), name == "no_bias.pt");
        assert_eq!(loaded.metadata.step, (name == "nested.pt").then_some(1200));
        assert_eq!(loaded.format == Format::Safetensors, name.ends_with(".safetensors"), "{name}");
    }
    // Foreign metadata is kept.
    let python = files::load(&golden("python.safetensors")).unwrap();
    assert_eq!(python.metadata.other["note"], "from Python");
}

#[test]
fn the_content_decides_not_the_extension() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [("plain.pt", "a.safetensors"), ("python.safetensors", "b.pt"), ("legacy.pth", "c")] {
        fs::copy(golden(from), folder.path().join(to)).unwrap();
        let renamed = files::load(&folder.path().join(to)).unwrap();
        assert_eq!(renamed.params, files::load(&golden(from)).unwrap().params);
    }
}

#[test]
fn names_are_understood_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let accepted: &[(Named<'_>, &str)] = &[
        (&[("net.fc1.weight", &[4, 3]), ("net.fc1.bias", &[4]), ("net.fc2.weight", &[2, 4])], "3-4-2"),
        // Numbers are numbers: 10 comes after 2.
        (&[("l.10.weight", &[2, 8]), ("l.2.weight", &[8, 8]), ("l.1.weight", &[8, 5])], "5-8-8-2"),
        (&[("W1", &[4, 3]), ("b1", &[4]), ("W2", &[2, 4]), ("b2", &[2])], "3-4-2"),
        // Only one order chains, whatever the alphabet says.
        (&[("input.weight", &[4, 3]), ("head.weight", &[2, 4])], "3-4-2"),
        (&[("fc1.weight", &[6, 3]), ("fc2.weight", &[6, 6]), ("out.weight", &[2, 6])], "3-6-6-2"),
        (&[("model.0.weight", &[4, 3]), ("model.2.weight", &[2, 4]), ("optimizer.m", &[9, 9])], "3-4-2"),
    ];
    for (tensors, shape) in accepted {
        zeros(&path, tensors);
        let loaded = files::load(&path).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded.params.shape().to_string(), *shape);
    }
    let refusals: &[(Named<'_>, &[&str])] = &[
        (
            &[("a.weight", &[6, 3]), ("b.weight", &[6, 6]), ("c.weight", &[6, 6]), ("d.weight", &[2, 6])],
            &["more than one order", "\"b.weight\" [6, 6]"],
        ),
        (&[("enc.weight", &[4, 3]), ("dec.weight", &[3, 4])], &["more than one order"]),
        (&[("0.weight", &[4, 3]), ("2.weight", &[2, 5])], &["do not chain", "\"2.weight\" [2, 5]"]),
        // Numbers say the order; that it chains the other way round is no licence.
        (&[("0.weight", &[2, 4]), ("2.weight", &[4, 3])], &["do not chain"]),
        (
            &[("0.weight", &[4, 3]), ("0.bias", &[3]), ("2.weight", &[2, 4])],
            &["\"0.bias\"", "[4]", "transposed"],
        ),
        (&[("0.weight", &[4, 3]), ("2.weight", &[1, 4])], &["two or more logits"]),
        (&[("0.weight", &[4, 3])], &["hidden layer"]),
        (
            &[("0.weight", &[4, 3]), ("1.weight", &[4]), ("1.bias", &[4]), ("2.weight", &[2, 4])],
            &["\"1.weight\"", "normalisation"],
        ),
        (
            &[("0.weight", &[4, 3]), ("1.running_mean", &[4]), ("2.weight", &[2, 4])],
            &["1.running_mean", "plain ReLU MLP"],
        ),
        (&[("0.weight", &[4, 3]), ("0.W", &[4, 3]), ("2.weight", &[2, 4])], &["same part"]),
        (&[("0.weight", &[4, 3]), ("00.weight", &[4, 3]), ("2.weight", &[2, 4])], &["same number"]),
        (&[("0.weight", &[4, 3]), ("2.weight", &[2, 4]), ("4.bias", &[2])], &["4.bias", "no weight"]),
        (&[("0.weight", &[0, 3]), ("2.weight", &[2, 0])], &["\"0.weight\"", "at least one"]),
        (
            &[("model.0.weight", &[4, 3]), ("model.2.weight", &[2, 4]), ("ema.0.weight", &[4, 3])],
            &["ema.0.weight", "by itself"],
        ),
        (&[("model.0.weight", &[4, 3]), ("state_dict.2.weight", &[2, 4])], &["state_dict and model"]),
        (&[("transformer.h.0.attn.c_attn.weight", &[4, 12])], &["transformer", "MLP"]),
        (&[("bert.encoder.layer.0.output.dense.weight", &[4, 4])], &["transformer"]),
        (&[], &["no tensors"]),
    ];
    for (tensors, parts) in refusals {
        zeros(&path, tensors);
        refused(&path, parts);
    }
    refused(&golden("transformer.pt"), &["transformer", "c_attn"]);
    refused(&golden("one_layer.pt"), &["hidden layer"]);
    refused(&golden("integers.pt"), &["I64", "F32", "0.weight"]);
}

/// Equal square layers with unrelated names have factorially many orders; finding that out must not take that long.
#[test]
fn an_ambiguous_file_is_refused_quickly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let name = |i: u32| {
        let letter = |n: u32| char::from(b'a' + n as u8);
        format!("{}{}.weight", letter(i / 26), letter(i % 26))
    };
    let names: Vec<String> = (0..60).map(name).collect();
    let mut tensors: Vec<(&str, &[usize])> = names.iter().map(|n| (n.as_str(), &[3, 3][..])).collect();
    tensors.push(("zz.weight", &[2, 4]));
    zeros(&path, &tensors);
    refused(&path, &["more than one order", "more"]);
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let entry = |shape: &str, from: u32, to: u32, dtype: &str| {
        format!("{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    let header = |tensors: &[(&str, String)]| {
        let body: Vec<String> = tensors.iter().map(|(name, e)| format!("\"{name}\":{e}")).collect();
        format!("{{{}}}", body.join(","))
    };
    // An absurd header length, which must not be allocated.
    for length in [u64::MAX, u64::MAX - 7, 1 << 40, 3] {
        raw(&path, length, "{\"a\"", 0);
        refused(&path, &["header"]);
    }
    let cases: Vec<(String, usize, &[&str])> = vec![
        ("{\"a\":".into(), 0, &["header"]),
        ("{}".into(), 5, &["its tensors need 0 bytes"]),
        (header(&[("0.weight", entry("[2,2]", 0, 16, "F32"))]), 12, &["its tensors need 16 bytes"]),
        (
            header(&[("0.weight", entry("[2,2]", 0, 16, "F32")), ("2.weight", entry("[2,2]", 8, 24, "F32"))]),
            24,
            &["2.weight"],
        ),
        (header(&[("0.weight", entry("[2,2]", 16, 0, "F32"))]), 16, &["0.weight"]),
        (header(&[("0.weight", entry("[2,3]", 0, 16, "F32"))]), 16, &["0.weight"]),
        (header(&[("0.weight", entry("[4294967296,4294967296,4]", 0, 16, "F32"))]), 16, &["0.weight"]),
        (header(&[("0.weight", entry("[2,2]", 0, 16, "F33"))]), 16, &["0.weight", "F33"]),
        (header(&[("0.weight", entry("[-2,2]", 0, 16, "F32"))]), 16, &["0.weight"]),
        (header(&[("__metadata__", "{\"format\":3}".into())]), 0, &["header"]),
        ("[".repeat(5000).replacen('[', "{\"a\":[", 1), 0, &["header"]),
    ];
    for (header, data, parts) in cases {
        raw(&path, header.len() as u64, &header, data);
        refused(&path, parts);
    }
    let integers =
        header(&[("0.weight", entry("[2,2]", 0, 16, "I32")), ("2.weight", entry("[2,2]", 16, 32, "F32"))]);
    raw(&path, integers.len() as u64, &integers, 32);
    refused(&path, &["0.weight", "I32", "F32"]);

    for (content, parts) in [
        (&b""[..], &["an empty file"][..]),
        (b"12", &["2 bytes"]),
        (b"hello, this is no checkpoint", &["no safetensors header"]),
    ] {
        fs::write(&path, content).unwrap();
        refused(&path, parts);
    }
    let other = folder.path().join("a.pt");
    fs::write(&other, "hello").unwrap();
    refused(&other, &["neither a safetensors nor a PyTorch"]);
    fs::write(&other, b"PK\x03\x04 but no more").unwrap();
    refused(&other, &["not readable as PyTorch"]);
    refused(folder.path(), &["a directory"]);
    refused(Path::new("/dev/zero"), &["a device"]);
    refused(&folder.path().join("missing.pt"), &["cannot read", "No such file"]);
}

/// Permission bits do not bind root, so an unreadable file is made where they do, and /proc has one for root too.
#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_file_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.pt");
    fs::copy(golden("plain.pt"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_err() {
        refused(&path, &["cannot read", "ermission"]);
    } else {
        files::load(&path).unwrap();
    }
    // A regular file whose reading fails for everybody (an address that is never mapped).
    let error = files::load(Path::new("/proc/self/mem")).unwrap_err();
    assert!(matches!(error, CheckpointError::NotAFile { .. } | CheckpointError::Read { .. }), "{error}");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let model = params(3, &[4], 2);
    files::save(&path, &model, &Metadata::default()).unwrap();
    let good = fs::read(&path).unwrap();
    let mut bad = model.clone();
    bad.layers[0].weight[[2, 1]] = f32::NAN;
    let error = files::save(&path, &bad, &Metadata::default()).unwrap_err().to_string();
    assert!(error.contains("0.weight") && error.contains("[2, 1]"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), good, "a refused save changed the file");
    // The last value of the file is the last of 2.bias.
    let mut bytes = good;
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    refused(&path, &["\"2.bias\"", "[1]", "inf"]);
}

#[test]
fn another_shape_is_explained() {
    let model = params(10, &[7], 2);
    let path = Path::new("teacher.safetensors");
    files::expect_shape(&model, path, 10, 2, Some(&[7])).unwrap();
    let message = |d, classes, hidden: Option<&[usize]>| {
        files::expect_shape(&model, path, d, classes, hidden).unwrap_err().to_string()
    };
    assert!(message(12, 2, None).contains("teacher.safetensors has 10 inputs, but the task has d = 12"));
    assert!(message(10, 4, None).contains("2 logits, but the task has 4 labels"));
    assert!(message(10, 2, Some(&[8])).contains("hidden widths [7]"));
}

#[test]
fn metadata_that_contradicts_the_tensors_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let tensors = [("0.weight", [4, 3]), ("2.weight", [2, 4])];
    let data = [0.0; 12];
    for (key, value) in [("curricle.d", "4"), ("curricle.step", "many")] {
        let tensors = tensors.map(|(name, shape)| TensorRef {
            name: name.into(),
            shape: shape.to_vec(),
            data: &data[..shape.iter().product()],
        });
        let metadata = [(key.to_string(), value.to_string())].into();
        write_safetensors(&path, &tensors, &metadata, true).unwrap();
        refused(&path, &[key, value]);
    }
}

/// What cannot be written leaves the old file and nothing else. None of this depends on permissions: root has all.
#[test]
fn a_failed_save_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let model = params(3, &[4], 2);
    let save = |path: &Path| files::save(path, &model, &Metadata::default()).unwrap_err().to_string();
    let file = folder.path().join("file");
    fs::write(&file, "old").unwrap();
    assert!(save(&file.join("a.safetensors")).contains("file/a.safetensors"));
    assert_eq!(fs::read(&file).unwrap(), b"old");
    let directory = folder.path().join("directory.safetensors");
    fs::create_dir(&directory).unwrap();
    assert!(save(&directory).contains("directory"));
    save(&folder.path().join("missing/a.safetensors"));
    save(Path::new("/"));
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_finite_bits_survive(words in prop::collection::vec(any::<u32>(), 26), step in any::<u64>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut model = params(3, &[4], 2);
        let mut words = words.into_iter();
        for layer in &mut model.layers {
            for value in layer.weight.iter_mut().chain(&mut layer.bias) {
                let drawn = f32::from_bits(words.next().unwrap());
                *value = if drawn.is_finite() { drawn } else { 0.0 };
            }
        }
        files::save(&path, &model, &Metadata { step: Some(step), ..Metadata::default() }).unwrap();
        let loaded = files::load(&path).unwrap();
        prop_assert_eq!(bits(&loaded.params), bits(&model));
        prop_assert_eq!(loaded.metadata.step, Some(step));
    }
}

/// Bytes that begin like something known, so that the parsers behind are reached.
fn beginnings() -> impl Strategy<Value = Vec<u8>> {
    let starts: Vec<Vec<u8>> = vec![
        vec![],
        b"PK\x03\x04".to_vec(),
        b"\x80\x02".to_vec(),
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(),
        b"\x10\0\0\0\0\0\0\0{".to_vec(),
    ];
    (prop::sample::select(starts), prop::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(start, rest)| [start, rest].concat())
}

/// Loads the bytes under both extensions; anything but a panic is right. If accepted, the parameters are usable.
fn load_any(bytes: &[u8]) -> Option<MlpParams> {
    let mut accepted = None;
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.pt", "a.safetensors"] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        match files::load(&path) {
            Ok(loaded) => {
                assert_eq!(loaded.params.first_non_finite(), None);
                accepted = Some(loaded.params);
            }
            Err(error) => assert!(error.to_string().contains(name)),
        }
    }
    accepted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in beginnings()) {
        load_any(&bytes);
    }

    #[test]
    fn mutated_files_never_panic(
        name in prop::sample::select(vec![
            "plain.pt", "legacy.pth", "nested.pt", "layers.pt", "layers_legacy.pth", "strided.pt", "python.safetensors",
        ]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = fs::read(golden(name)).unwrap();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let accepted = load_any(&bytes);
        // A zip has checksums: what is accepted must be the right numbers.
        if name.ends_with(".pt") && let Some(params) = accepted {
            prop_assert_eq!(params, files::load(&golden(name)).unwrap().params);
        }
    }
}

/// Every truncation of our own file and of the smallest PyTorch ones is refused.
#[test]
fn every_truncation_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours.safetensors");
    files::save(&ours, &params(3, &[4], 2), &Metadata::default()).unwrap();
    let path = folder.path().join("cut");
    for file in [ours, golden("legacy.pth"), golden("layers_legacy.pth")] {
        let bytes = fs::read(&file).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(files::load(&path).is_err(), "{}: {length} of {}", file.display(), bytes.len());
        }
    }
}
