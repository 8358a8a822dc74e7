//! Run folders: locks, metrics, resuming, and being killed at any moment.

use curricle::files::{self, Metadata};
use curricle::lab::run::folder::{self, RunFolder, RunFolderError};
use curricle::model::TransformerState;
use curricle::model::mlp::{MlpInit, MlpParams, MlpShape};
use curricle::model::transformer::{TransformerConfig, TransformerParams};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Record {
    step: u64,
    accuracy: f64,
}

fn record(step: u64) -> Record {
    // A number whose shortest text is long.
    Record { step, accuracy: (step as f64).sqrt() / 3.0 }
}

/// Parameters that all equal one number.
fn params(value: f32) -> MlpParams {
    let mut params = MlpParams::new(&MlpShape { d: 20, hidden: vec![100], classes: 2 }, MlpInit::Pytorch, 1);
    for layer in &mut params.layers {
        layer.weight.fill(value);
        layer.bias.fill(value);
    }
    params
}

fn open(root: &Path) -> Result<RunFolder, RunFolderError> {
    RunFolder::create_or_open(root, "parity-mlp", "ce", 3)
}

fn steps(run: &RunFolder) -> Vec<u64> {
    run.read_metrics::<Record>().unwrap().iter().map(|r| r.step).collect()
}

#[test]
fn a_transformer_resumes_with_the_bits_of_its_optimiser() {
    let root = tempfile::tempdir().unwrap();
    let run = open(root.path()).unwrap();
    let params = TransformerParams::new(TransformerConfig::gpt2(2, 4, 8, 1, 2), 1).unwrap();
    let mut model = TransformerState::new(params);
    model.updates = 1 << 40;
    // Moments may hold anything.
    model.first_moment[..3].copy_from_slice(&[f32::NAN, -0.0, 1e-40]);
    model.second_moment[1] = f32::INFINITY;
    let state = json!({"step": 20});
    run.save_resume(&model, &state).unwrap();
    let resume = run.load_resume::<TransformerState>().unwrap().unwrap();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!((&resume.model.params, resume.model.updates, &resume.state), (&model.params, 1 << 40, &state));
    assert_eq!(bits(&resume.model.first_moment), bits(&model.first_moment));
    assert_eq!(bits(&resume.model.second_moment), bits(&model.second_moment));
    assert_eq!(run.resume_step(), Some(20));
    // Another kind of model is refused.
    assert!(run.load_resume::<MlpParams>().is_err());
    model.params.values[5] = f32::NAN;
    assert!(run.save_resume(&model, &state).unwrap_err().to_string().contains("diverged"));
}

#[test]
fn a_folder_holds_what_the_contract_says() {
    let root = tempfile::tempdir().unwrap();
    let mut run = open(root.path()).unwrap();
    assert_eq!(run.path(), root.path().join("parity-mlp/ce/seed-3"));
    assert!(!run.has_results().unwrap());
    assert_eq!(run.read_spec().unwrap(), None);
    assert_eq!(run.read_run_json::<Value>().unwrap(), None);
    assert_eq!(run.load_resume::<MlpParams>().unwrap(), None);
    assert_eq!(run.checkpoints().unwrap(), []);
    run.write_spec("a = 1\n").unwrap();
    run.write_run_json(&json!({"status": "running"})).unwrap();
    for step in [10, 20, 30] {
        run.append_metric(&record(step)).unwrap();
        let path = run.save_checkpoint(step, &params(step as f32), &Metadata::default()).unwrap();
        assert_eq!(path.file_name().unwrap().to_str().unwrap(), format!("step-{step:012}.safetensors"));
    }
    fs::write(run.path().join("checkpoints/notes.txt"), "mine").unwrap();
    let state = json!({"step": 20, "loss": 0.1 + 0.2, "window": [1.0 / 3.0, 2e-308], "text": "é\"\n"});
    run.save_resume(&params(20.0), &state).unwrap();
    drop(run);

    let mut run = open(root.path()).unwrap();
    assert!(run.has_results().unwrap());
    assert_eq!(run.read_spec().unwrap().unwrap(), "a = 1\n");
    assert_eq!(run.read_run_json::<Value>().unwrap().unwrap()["status"], "running");
    assert_eq!(run.read_metrics::<Record>().unwrap(), [record(10), record(20), record(30)]);
    let resume = run.load_resume::<MlpParams>().unwrap().unwrap();
    assert_eq!((&resume.model, &resume.state), (&params(20.0), &state));
    let listed: Vec<u64> = run.checkpoints().unwrap().iter().map(|(step, _)| *step).collect();
    assert_eq!(listed, [10, 20, 30]);
    let metadata = run.load_checkpoint(20).unwrap().metadata;
    assert_eq!((metadata.step, metadata.seed), (Some(20), Some(3)));
    assert_eq!((metadata.experiment.unwrap(), metadata.arm.unwrap()), ("parity-mlp".into(), "ce".into()));

    run.rewind_to(20).unwrap();
    assert_eq!(steps(&run), [10, 20]);
    assert_eq!(run.checkpoints().unwrap().len(), 2);
    run.append_metric(&record(30)).unwrap();
    assert_eq!(steps(&run), [10, 20, 30]);
    run.clear().unwrap();
    assert!(!run.has_results().unwrap());
    run.append_metric(&record(1)).unwrap();
    assert_eq!(steps(&run), [1]);
    assert!(run.path().join("checkpoints/notes.txt").exists(), "a user's file was removed");
}

#[test]
fn one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let first = open(root.path()).unwrap();
    let message = open(root.path()).unwrap_err().to_string();
    assert!(message.contains("seed-3 is in use by process"), "{message}");
    assert!(message.contains(&std::process::id().to_string()) && message.contains("--out"), "{message}");
    // Readers are not locked out.
    folder::open_read_only(first.path()).unwrap();
    drop(first);
    open(root.path()).unwrap();
}

#[test]
fn a_torn_line_is_cut_and_a_bad_one_named() {
    let root = tempfile::tempdir().unwrap();
    let mut run = open(root.path()).unwrap();
    run.append_metric(&record(1)).unwrap();
    run.append_metric(&record(2)).unwrap();
    let path = run.path().join("metrics.jsonl");
    drop(run);
    let append = |text: &[u8]| {
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(text).unwrap();
    };
    // Longer than the block the end is searched in.
    for torn in [b"{\"step\":3,\"accur".to_vec(), vec![0; 10_000], vec![b'x'; 4096]] {
        append(&torn);
        let view = folder::open_read_only(path.parent().unwrap()).unwrap();
        assert_eq!(view.read_metrics::<Record>().unwrap().len(), 2);
        let run = open(root.path()).unwrap();
        assert_eq!(steps(&run), [1, 2]);
    }
    let mut run = open(root.path()).unwrap();
    run.append_metric(&record(3)).unwrap();
    assert_eq!(steps(&run), [1, 2, 3]);
    // Not objects with a step: nothing is written.
    for bad in [json!({"accuracy": 1}), json!([1]), json!({"step": -1}), json!({"step": null})] {
        assert!(run.append_metric(&bad).unwrap_err().to_string().contains("\"step\""));
    }
    assert_eq!(steps(&run), [1, 2, 3]);
    append(b"{\"step\": 4}\n");
    let message = run.read_metrics::<Record>().unwrap_err().to_string();
    assert!(message.contains("metrics.jsonl, line 4") && message.contains("accuracy"), "{message}");
    append(b"\xff\n");
    let message = run.read_metrics::<Record>().unwrap_err().to_string();
    assert!(message.contains("line 5"), "{message}");
    // A file that cannot be understood is not thrown away.
    let before = fs::read(&path).unwrap();
    run.truncate_metrics_after(0).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn folders_that_are_not_runs_are_explained() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()).unwrap());
    let message = |path: &str| folder::open_read_only(&root.path().join(path)).unwrap_err().to_string();
    assert!(message("parity-mlp/ce").contains("did you mean one of the folders in it: seed-3"));
    assert!(message("elsewhere").contains("elsewhere"));
    fs::write(root.path().join("file"), "").unwrap();
    assert!(message("file").contains("it is a file"));
    let run = folder::open_read_only(&root.path().join("parity-mlp/ce/seed-3")).unwrap();
    let error = run.require_checkpoints("teacher").unwrap_err().to_string();
    assert!(error.contains("teacher folder") && error.contains("has no checkpoints"), "{error}");
    assert!(run.load_checkpoint(5).unwrap_err().to_string().contains("step-000000000005"));
    for name in ["", "..", "a/b", "a\\b", "(2,T)", ".hidden", "é", "a.", &"x".repeat(101)] {
        let error = RunFolder::create_or_open(root.path(), "e", name, 0).unwrap_err().to_string();
        assert!(error.contains("arm name"), "{error}");
    }
    RunFolder::create_or_open(root.path(), "e", "2,T=0.5_early+x", 0).unwrap();
}

/// Places where nobody can write, root included.
#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let message = open(&file).unwrap_err().to_string();
    assert!(message.contains("cannot create the run folder") && message.contains("--out"), "{message}");
    #[cfg(target_os = "linux")]
    assert!(open(Path::new("/proc/self")).unwrap_err().to_string().contains("/proc/self/parity-mlp"));
    // A folder where a file belongs.
    let run = open(root.path()).unwrap();
    fs::create_dir(run.path().join("resume.safetensors")).unwrap();
    fs::create_dir(run.path().join("run.json")).unwrap();
    assert!(
        run.save_resume(&params(1.0), &json!({})).unwrap_err().to_string().contains("resume.safetensors")
    );
    assert!(run.write_run_json(&json!({})).unwrap_err().to_string().contains("run.json"));
    assert!(run.load_resume::<MlpParams>().is_err());
    let leftovers = |path: &Path| {
        let names = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.ends_with(".unfinished")).count()
    };
    assert_eq!(leftovers(run.path()), 0);
    // A checkpoints folder that is a file.
    fs::remove_dir(run.path().join("checkpoints")).unwrap();
    fs::write(run.path().join("checkpoints"), "").unwrap();
    assert!(run.save_checkpoint(1, &params(1.0), &Metadata::default()).is_err());
    drop(run);
    assert!(open(root.path()).is_err());
}

const CHILD: &str = "CURRICLE_TEST_CHILD";

/// This test binary again, running only the named test as a child's job on `root`.
fn child(job: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", job, "--nocapture", "--test-threads=1"]).env(CHILD, root);
    command
}

/// Not a test by itself: the writer that gets killed. Step n appends metric n; every 3rd step saves a checkpoint, every
/// 2nd a resume state, and both hold n in every parameter.
#[test]
fn job_write_until_killed() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let mut run = open(Path::new(&root)).unwrap();
    let resume = run.load_resume::<MlpParams>().unwrap();
    let mut step = resume.map_or(0, |r| r.state["step"].as_u64().unwrap());
    run.rewind_to(step).unwrap();
    println!("\nwriting from {step}");
    loop {
        step += 1;
        run.append_metric(&record(step)).unwrap();
        if step.is_multiple_of(3) {
            run.save_checkpoint(step, &params(step as f32), &Metadata::default()).unwrap();
        }
        if step.is_multiple_of(2) {
            run.save_resume(&params(step as f32), &json!({"step": step})).unwrap();
        }
    }
}

/// Starts the writer and waits until it writes.
fn writer(root: &Path) -> Child {
    let mut child = child("job_write_until_killed", root).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while !lines.next().expect("the writer ended before it wrote").unwrap().starts_with("writing") {}
    // Keeps the pipe open for as long as it may print.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn killed_at_any_moment_it_opens_to_a_consistent_state() {
    let root = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..12 {
        let mut child = writer(root.path());
        assert!(matches!(open(root.path()), Err(RunFolderError::InUse { .. })), "two writers");
        std::thread::sleep(Duration::from_micros(1000 + 7919 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let mut run = open(root.path()).unwrap();
        let resumed = run.load_resume::<MlpParams>().unwrap().map_or(0, |resume| {
            let step = resume.state["step"].as_u64().unwrap();
            assert_eq!(resume.model, params(step as f32));
            step
        });
        let metrics = run.read_metrics::<Record>().unwrap();
        assert_eq!(metrics, (1..=metrics.len() as u64).map(record).collect::<Vec<_>>());
        assert!(resumed <= metrics.len() as u64, "resume knows of a lost metric");
        assert!(resumed >= last, "a resume state was lost");
        let checkpoints = run.checkpoints().unwrap();
        for (i, (step, path)) in checkpoints.iter().enumerate() {
            assert_eq!(*step, 3 * (i as u64 + 1));
            assert_eq!(files::load(path).unwrap().params, params(*step as f32));
        }
        assert!(checkpoints.len() as u64 >= resumed / 3, "a checkpoint was lost");
        for folder in [run.path().to_path_buf(), run.path().join("checkpoints")] {
            for entry in fs::read_dir(folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(!name.starts_with('.'), "{name} was left behind");
            }
        }
        run.rewind_to(resumed).unwrap();
        assert_eq!(steps(&run).len() as u64, resumed);
        last = resumed;
    }
    assert!(last > 0, "the writer never got to a resume state: nothing was tested");
}

/// Not a test by itself: writes until no file may grow any more, as on a full disk.
#[test]
fn job_fill_the_disk() {
    let Some(root) = std::env::var_os(CHILD) else { return };
    let mut run = open(Path::new(&root)).unwrap();
    run.save_checkpoint(1, &params(1.0), &Metadata::default()).unwrap();
    run.save_resume(&params(1.0), &json!({"step": 1})).unwrap();
    // 40 kB of text do not fit beside the parameters.
    let large = json!({"step": 2, "text": "x".repeat(40_000)});
    let error = run.save_resume(&params(2.0), &large).unwrap_err().to_string();
    println!("\nresume: {error}");
    let wide = MlpParams::new(&MlpShape { d: 20, hidden: vec![1000], classes: 2 }, MlpInit::Pytorch, 1);
    let error = run.save_checkpoint(1, &wide, &Metadata::default()).unwrap_err().to_string();
    println!("checkpoint: {error}");
    let error = folder::write_text(&run.path().join("summary.json"), &"x".repeat(50_000)).unwrap_err();
    println!("text: {error}");
    let mut appended = 0;
    while run.append_metric(&json!({"step": appended, "text": "x".repeat(1000)})).is_ok() {
        appended += 1;
    }
    // A shorter record still fits: the failed one left nothing behind.
    run.append_metric(&json!({"step": appended})).unwrap();
    println!("appended: {appended}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let job = child("job_fill_the_disk", root.path());
    // No file may grow beyond 64 blocks of 512 bytes (or 1 kB, as some shells count); with the signal ignored, writing
    // fails as on a full disk.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64 || exit 9; exec \"$@\"", "sh"]);
    limited.arg(job.get_program()).args(job.get_args()).env(CHILD, root.path());
    let output = limited.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let line = |start: &str| {
        text.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("no {start} in {text}"))
    };
    assert!(line("resume:").contains("resume.safetensors") && line("resume:").contains("unchanged"));
    assert!(line("checkpoint:").contains("step-000000000001.safetensors"));
    assert!(line("text:").contains("summary.json") && line("text:").contains("make room"));
    let appended: u64 = line("appended:").split(' ').nth(1).unwrap().parse().unwrap();
    assert!(appended > 10, "{appended}");

    let run = open(root.path()).unwrap();
    assert_eq!(run.load_resume::<MlpParams>().unwrap().unwrap().model, params(1.0));
    assert_eq!(run.load_checkpoint(1).unwrap().params, params(1.0));
    assert!(!run.path().join("summary.json").exists());
    let metrics = run.read_metrics::<Value>().unwrap();
    assert_eq!(metrics.len() as u64, appended + 1);
    let hidden = fs::read_dir(run.path()).unwrap().map(|e| e.unwrap().file_name());
    assert!(hidden.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));
}
