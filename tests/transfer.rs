//! `curricle import` and `curricle export`, as library calls.

use clap::{Parser, Subcommand};
use curricle::cli::transfer::{self, ExportArgs, ImportArgs};
use curricle::files::{self, Metadata, transformer};
use curricle::lab::run::folder::RunFolder;
use curricle::model::mlp::{MlpInit, MlpParams, MlpShape};
use curricle::model::transformer::{TransformerConfig, TransformerParams};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Job,
}

#[derive(Subcommand)]
enum Job {
    Import(ImportArgs),
    Export(ExportArgs),
}

fn curricle(arguments: &[&str]) -> anyhow::Result<()> {
    match Cli::try_parse_from([&["curricle"], arguments].concat())?.command {
        Job::Import(args) => transfer::import(&args),
        Job::Export(args) => transfer::export(&args),
    }
}

fn failure(arguments: &[&str]) -> String {
    format!("{:#}", curricle(arguments).unwrap_err())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A run folder with two evaluations and two checkpoints.
fn run(root: &Path) -> (RunFolder, PathBuf) {
    let mut run = RunFolder::create_or_open(root, "e", "a", 0).unwrap();
    let shape = MlpShape { d: 4, hidden: vec![3], classes: 2 };
    for step in [10, 20] {
        let params = MlpParams::new(&shape, MlpInit::Pytorch, step);
        run.save_checkpoint(step, &params, &Metadata::default()).unwrap();
    }
    run.append_metric(&json!({"step": 10, "accuracy": 0.5, "note": "a \"b\", c", "wall_seconds": 1.5}))
        .unwrap();
    run.append_metric(
        &json!({"step": 20, "accuracy": 0.1 + 0.2, "in": {"loss": 1e-30, "per_class": [1, 2]}, "nan": null}),
    )
    .unwrap();
    let path = run.path().to_path_buf();
    (run, path)
}

#[test]
fn import_writes_our_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let nested = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/nested.pt");
    let out = folder.path().join("out.safetensors");
    curricle(&["import", text(&nested), "-o", text(&out), "--json"]).unwrap();
    let (ours, theirs) = (files::load(&out).unwrap(), files::load(&nested).unwrap());
    assert_eq!(ours.params, theirs.params);
    assert_eq!(ours.metadata.step, Some(1200));
    assert_eq!(ours.metadata.other["curricle.imported_from"], "nested.pt");
    let no = folder.path().join("out.pt");
    assert!(failure(&["import", text(&nested), "-o", text(&no)]).contains("must end in .safetensors"));
    assert!(!no.exists());
    assert!(failure(&["import", text(&no), "-o", text(&out)]).contains("out.pt"));
}

#[test]
fn export_picks_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (_run, path) = run(folder.path());
    let out = folder.path().join("out.safetensors");
    let export = |more: &[&str]| {
        curricle(&[&["export", text(&path), "--format", "safetensors", "-o", text(&out)], more].concat())
    };
    export(&["--json"]).unwrap();
    assert_eq!(files::load(&out).unwrap().metadata.step, Some(20));
    export(&["--step", "10"]).unwrap();
    assert_eq!(files::load(&out).unwrap().metadata.step, Some(10));
    assert!(format!("{:#}", export(&["--step", "11"]).unwrap_err()).contains("the last is 20"));
    let arm = path.parent().unwrap();
    assert!(failure(&["export", text(arm), "--format", "csv", "-o", "x"]).contains("seed-0"));
    assert!(failure(&["export", text(&out), "--format", "csv", "-o", "x"]).contains("run folder"));
}

#[test]
fn csv_has_every_value_as_it_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (_run, path) = run(folder.path());
    let out = folder.path().join("metrics.csv");
    curricle(&["export", text(&path), "--format", "csv", "-o", text(&out)]).unwrap();
    let expected = "step,accuracy,note,wall_seconds,in.loss,in.per_class.0,in.per_class.1,nan\n\
                    10,0.5,\"a \"\"b\"\", c\",1.5,,,,\n\
                    20,0.30000000000000004,,,1e-30,1,2,\n";
    assert_eq!(fs::read_to_string(&out).unwrap(), expected);
}

#[test]
fn event_files_are_whole_records() {
    let folder = tempfile::tempdir().unwrap();
    let (_run, path) = run(folder.path());
    let out = folder.path().join("board");
    curricle(&["export", text(&path), "--format", "tensorboard", "-o", text(&out)]).unwrap();
    curricle(&["export", text(&path), "--format", "tensorboard", "-o", text(&out)]).unwrap();
    let files: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "exporting twice doubles the curves");
    let bytes = fs::read(&files[0]).unwrap();
    let mut records = 0;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        rest = &rest[8 + 4 + length + 4..];
        records += 1;
    }
    // The version; accuracy and wall_seconds; accuracy, loss and two classes.
    assert_eq!(records, 1 + 2 + 4);
}

#[test]
fn transformers_go_to_hugging_face_folders_and_back() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("step-000000000030.safetensors");
    let params = TransformerParams::new(TransformerConfig::bert(6, 7, 12, 1, 3), 1).unwrap();
    transformer::save(&file, &params, &Metadata { step: Some(30), ..Metadata::default() }).unwrap();
    let folder = home.path().join("teacher");
    curricle(&["export", text(&file), "--format", "hugging-face", "-o", text(&folder)]).unwrap();
    assert!(folder.join("config.json").is_file() && folder.join("model.safetensors").is_file());
    let back = home.path().join("back.safetensors");
    curricle(&["import", text(&folder), "-o", text(&back)]).unwrap();
    let read = transformer::load(&back).unwrap();
    assert_eq!((&read.params, read.metadata.step), (&params, Some(30)));
    let again = home.path().join("again.safetensors");
    curricle(&["export", text(&folder), "--format", "safetensors", "-o", text(&again)]).unwrap_err();
    curricle(&["export", text(&back), "--format", "safetensors", "-o", text(&again)]).unwrap();
    assert_eq!(transformer::load(&again).unwrap().params, params);

    // A checkpoint of a run folder.
    let run = RunFolder::create_or_open(home.path(), "e", "t", 0).unwrap();
    let path = run.path().to_path_buf();
    fs::copy(&file, path.join("checkpoints/step-000000000030.safetensors")).unwrap();
    drop(run);
    let out = home.path().join("from-run");
    curricle(&["export", text(&path), "--format", "hugging-face", "-o", text(&out)]).unwrap();
    assert_eq!(transformer::load(&out).unwrap().params, params);
    let missing =
        failure(&["export", text(&path), "--format", "hugging-face", "--step", "7", "-o", text(&out)]);
    assert!(missing.contains("no checkpoint of step 7"), "{missing}");

    let mlp = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/plain.pt");
    let message = failure(&["export", text(&mlp), "--format", "hugging-face", "-o", text(&out)]);
    assert!(message.contains("not a transformer"), "{message}");
    fs::write(folder.join("config.json"), "{}").unwrap();
    assert!(failure(&["import", text(&folder), "-o", text(&back)]).contains("model_type"));
}
